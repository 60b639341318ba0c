-- SmallBank. Two tables, as for SQLite; each request is one call of a function. What a rejected
-- one has done is undone by its exception. Accounts are locked in the order of their numbers.

CREATE TABLE savings (customer integer PRIMARY KEY, cents bigint NOT NULL);
CREATE TABLE checking (customer integer PRIMARY KEY, cents bigint NOT NULL);
INSERT INTO savings SELECT customer, SAVINGS_CENTS FROM generate_series(0, CUSTOMERS - 1) customer;
INSERT INTO checking
    SELECT customer, CHECKING_CENTS FROM generate_series(0, CUSTOMERS - 1) customer;
ANALYZE savings;
ANALYZE checking;

CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS $$
    SELECT ((SELECT sum(cents) FROM savings) + (SELECT sum(cents) FROM checking))::bigint
$$;

CREATE FUNCTION balance(asked integer) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT s.cents + c.cents FROM savings s JOIN checking c USING (customer)
            WHERE customer = asked);
END
$$;

CREATE FUNCTION deposit_checking(asked integer, amount bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE answer bigint;
BEGIN
    UPDATE checking SET cents = cents + amount WHERE customer = asked RETURNING cents INTO answer;
    RETURN answer;
END
$$;

CREATE FUNCTION transact_savings(asked integer, amount bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE answer bigint;
BEGIN
    UPDATE savings SET cents = cents + amount WHERE customer = asked AND cents + amount >= 0
    RETURNING cents INTO answer;
    RETURN answer;
END
$$;

CREATE FUNCTION amalgamate(sender integer, receiver integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE in_savings bigint; in_checking bigint; answer bigint;
BEGIN
    SELECT cents INTO in_savings FROM savings WHERE customer = sender FOR UPDATE;
    UPDATE savings SET cents = 0 WHERE customer = sender;
    IF receiver < sender THEN
        PERFORM FROM checking WHERE customer = receiver FOR UPDATE;
    END IF;
    SELECT cents INTO in_checking FROM checking WHERE customer = sender FOR UPDATE;
    UPDATE checking SET cents = 0 WHERE customer = sender;
    UPDATE checking SET cents = cents + in_savings + in_checking WHERE customer = receiver
    RETURNING cents INTO answer;
    RETURN answer;
END
$$;

CREATE FUNCTION write_check(asked integer, amount bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE in_savings bigint; answer bigint;
BEGIN
    SELECT cents INTO in_savings FROM savings WHERE customer = asked;
    UPDATE checking
    SET cents = cents - amount - CASE WHEN amount > cents + in_savings THEN PENALTY ELSE 0 END
    WHERE customer = asked RETURNING cents INTO answer;
    RETURN answer;
END
$$;

CREATE FUNCTION send_payment(sender integer, receiver integer, amount bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE answer bigint;
BEGIN
    IF receiver < sender THEN
        UPDATE checking SET cents = cents + amount WHERE customer = receiver;
    END IF;
    UPDATE checking SET cents = cents - amount WHERE customer = sender AND cents >= amount
    RETURNING cents INTO answer;
    IF answer IS NULL THEN
        RAISE EXCEPTION 'insufficient funds';
    END IF;
    IF sender < receiver THEN
        UPDATE checking SET cents = cents + amount WHERE customer = receiver;
    END IF;
    RETURN answer;
END
$$;
