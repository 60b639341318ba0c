//! The same transactions on SQLite in memory, with prepared statements.

use rusqlite::{Connection, OpenFlags, OptionalExtension, Statement, params};
use smallbank::mix::Request;
use smallbank::{CHECKING_START_CENTS, PENALTY_CENTS, SAVINGS_START_CENTS};

/// Opens a database that only this thread uses, so without locks.
///
/// # Panics
///
/// When SQLite refuses.
#[must_use]
pub fn open() -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_in_memory_with_flags(flags).expect("a database in memory");
    create_tables(&connection);
    connection
}

/// Makes the tables of all workloads.
///
/// # Panics
///
/// When SQLite refuses.
pub fn create_tables(connection: &Connection) {
    connection
        .execute_batch(
            "CREATE TABLE counter (id INTEGER PRIMARY KEY, value INTEGER NOT NULL) STRICT;
             CREATE TABLE savings (customer INTEGER PRIMARY KEY, cents INTEGER NOT NULL) STRICT;
             CREATE TABLE checking (customer INTEGER PRIMARY KEY, cents INTEGER NOT NULL) STRICT;",
        )
        .expect("the tables");
}

/// What a request of the bank runs in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transactions {
    /// A transaction of its own.
    Own,
    /// A savepoint of a transaction that whoever drives the bank begins and commits.
    Savepoints,
}

impl Transactions {
    /// The statements that begin one, keep it and undo it.
    const fn statements(self) -> [&'static str; 3] {
        match self {
            Self::Own => ["BEGIN", "COMMIT", "ROLLBACK"],
            Self::Savepoints => ["SAVEPOINT one", "RELEASE one", "ROLLBACK TO one"],
        }
    }
}

/// A counter: one upsert, which is a transaction by itself.
#[derive(Debug)]
pub struct Counter<'a> {
    upsert: Statement<'a>,
    upsert_returning: Statement<'a>,
}

impl<'a> Counter<'a> {
    /// Prepares the statement.
    ///
    /// # Panics
    ///
    /// When SQLite refuses.
    #[must_use]
    pub fn new(connection: &'a Connection) -> Self {
        let sql = "INSERT INTO counter VALUES (1, ?1)
                   ON CONFLICT (id) DO UPDATE SET value = value + excluded.value";
        Self {
            upsert: prepare(connection, sql),
            upsert_returning: prepare(connection, &format!("{sql} RETURNING value")),
        }
    }

    /// Adds.
    ///
    /// # Panics
    ///
    /// When SQLite refuses.
    pub fn add(&mut self, by: i64) {
        self.upsert.execute([by]).expect("an upsert");
    }

    /// Adds, and answers the new value.
    ///
    /// # Panics
    ///
    /// When SQLite refuses.
    pub fn increment(&mut self, by: i64) -> i64 {
        self.upsert_returning.query_one([by], |row| row.get(0)).expect("an upsert")
    }
}

/// `SmallBank`.
#[derive(Debug)]
pub struct Bank<'a> {
    begin: Statement<'a>,
    commit: Statement<'a>,
    rollback: Statement<'a>,
    get_savings: Statement<'a>,
    get_checking: Statement<'a>,
    add_savings: Statement<'a>,
    add_checking: Statement<'a>,
    clear_savings: Statement<'a>,
    clear_checking: Statement<'a>,
    deposit: Statement<'a>,
    total: Statement<'a>,
    transactions: Transactions,
}

/// The bank's own "no".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Rejected;

impl<'a> Bank<'a> {
    /// Prepares the statements and opens the accounts.
    ///
    /// # Panics
    ///
    /// When SQLite refuses.
    #[must_use]
    pub fn load(connection: &'a Connection, customers: u64, transactions: Transactions) -> Self {
        let [begin, commit, rollback] = transactions.statements();
        let add = |table: &str| {
            prepare(
                connection,
                &format!("UPDATE {table} SET cents = cents + ?2 WHERE customer = ?1"),
            )
        };
        let get = |table: &str| {
            prepare(connection, &format!("SELECT cents FROM {table} WHERE customer = ?1"))
        };
        let clear = |table: &str| {
            prepare(connection, &format!("UPDATE {table} SET cents = 0 WHERE customer = ?1"))
        };
        let mut bank = Self {
            begin: prepare(connection, begin),
            commit: prepare(connection, commit),
            rollback: prepare(connection, rollback),
            get_savings: get("savings"),
            get_checking: get("checking"),
            add_savings: add("savings"),
            add_checking: add("checking"),
            clear_savings: clear("savings"),
            clear_checking: clear("checking"),
            deposit: prepare(
                connection,
                "UPDATE checking SET cents = cents + ?2 WHERE customer = ?1",
            ),
            total: prepare(
                connection,
                "SELECT (SELECT sum(cents) FROM savings) + (SELECT sum(cents) FROM checking)",
            ),
            transactions,
        };
        execute(&mut bank.begin);
        for (table, cents) in [("savings", SAVINGS_START_CENTS), ("checking", CHECKING_START_CENTS)]
        {
            let mut insert = prepare(connection, &format!("INSERT INTO {table} VALUES (?1, ?2)"));
            for customer in 0..customers {
                insert.execute(params![number(customer), cents]).expect("an insert");
            }
        }
        execute(&mut bank.commit);
        bank
    }

    /// Runs one transaction of the mix; a rejected one is rolled back.
    pub fn run(&mut self, request: &Request) -> Option<i64> {
        execute(&mut self.begin);
        let answer = match *request {
            Request::Load { .. } => Err(Rejected),
            Request::Balance { customer } => self.balance(customer),
            Request::DepositChecking { customer, amount } => {
                add(&mut self.get_checking, &mut self.add_checking, customer, amount)
            }
            Request::TransactSavings { customer, amount } => self.savings(customer, amount),
            Request::Amalgamate { from, to } => self.amalgamate(from, to),
            Request::WriteCheck { customer, amount } => self.write_check(customer, amount),
            Request::SendPayment { from, to, amount } => self.send_payment(from, to, amount),
        };
        match answer {
            Ok(answer) => {
                execute(&mut self.commit);
                Some(answer)
            }
            Err(Rejected) => {
                execute(&mut self.rollback);
                if self.transactions == Transactions::Savepoints {
                    // Undone, it is still open.
                    execute(&mut self.commit);
                }
                None
            }
        }
    }

    /// Pays into a checking account by one statement, which is a transaction by itself: the least
    /// that SQLite can do.
    ///
    /// # Panics
    ///
    /// When SQLite refuses.
    pub fn deposit_at_once(&mut self, customer: u64, amount: i64) {
        let changed = self.deposit.execute(params![number(customer), amount]).expect("an update");
        assert_eq!(changed, 1, "there is no customer {customer}");
    }

    /// What all customers have together.
    ///
    /// # Panics
    ///
    /// When SQLite refuses.
    #[must_use]
    pub fn total(&mut self) -> i64 {
        self.total.query_one([], |row| row.get(0)).expect("a sum")
    }

    fn balance(&mut self, customer: u64) -> Result<i64, Rejected> {
        Ok(get(&mut self.get_savings, customer)? + get(&mut self.get_checking, customer)?)
    }

    fn savings(&mut self, customer: u64, amount: i64) -> Result<i64, Rejected> {
        let savings = add(&mut self.get_savings, &mut self.add_savings, customer, amount)?;
        if savings < 0 { Err(Rejected) } else { Ok(savings) }
    }

    fn amalgamate(&mut self, from: u64, to: u64) -> Result<i64, Rejected> {
        let moved = self.balance(from)?;
        let checking = add(&mut self.get_checking, &mut self.add_checking, to, moved)?;
        for clear in [&mut self.clear_savings, &mut self.clear_checking] {
            clear.execute([number(from)]).expect("an update");
        }
        Ok(checking)
    }

    fn write_check(&mut self, customer: u64, amount: i64) -> Result<i64, Rejected> {
        let penalty = if amount > self.balance(customer)? { PENALTY_CENTS } else { 0 };
        add(&mut self.get_checking, &mut self.add_checking, customer, -amount - penalty)
    }

    fn send_payment(&mut self, from: u64, to: u64, amount: i64) -> Result<i64, Rejected> {
        if amount > get(&mut self.get_checking, from)? {
            return Err(Rejected);
        }
        add(&mut self.get_checking, &mut self.add_checking, to, amount)?;
        add(&mut self.get_checking, &mut self.add_checking, from, -amount)
    }
}

fn prepare<'a>(connection: &'a Connection, sql: &str) -> Statement<'a> {
    connection.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn execute(statement: &mut Statement<'_>) {
    statement.execute([]).expect("a statement without rows");
}

fn get(statement: &mut Statement<'_>, customer: u64) -> Result<i64, Rejected> {
    let row = statement.query_row([number(customer)], |row| row.get(0)).optional();
    row.expect("a row").ok_or(Rejected)
}

/// Reads, then writes: in SQLite faster than one update that returns the value.
fn add(
    read: &mut Statement<'_>,
    write: &mut Statement<'_>,
    customer: u64,
    amount: i64,
) -> Result<i64, Rejected> {
    let sum = get(read, customer)? + amount;
    write.execute(params![number(customer), amount]).expect("an update");
    Ok(sum)
}

/// Numbers of customers are small.
fn number(customer: u64) -> i64 {
    i64::try_from(customer).expect("a small number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_upsert_counts() {
        let connection = open();
        let mut counter = Counter::new(&connection);
        (0..10).for_each(|_| counter.add(2));
        assert_eq!(counter.increment(1), 21);
        assert!(connection.is_autocommit());
    }

    #[test]
    fn the_bank_answers_like_the_guest() {
        let connection = open();
        let mut bank = Bank::load(&connection, 2, Transactions::Own);
        let start = CHECKING_START_CENTS;
        let payment = |amount| Request::SendPayment { from: 0, to: 1, amount };
        assert_eq!(bank.run(&payment(500)), Some(start - 500));
        assert_eq!(bank.run(&payment(start)), None);
        assert_eq!(bank.run(&Request::Balance { customer: 9 }), None);
        let all = 2 * start - 500;
        assert_eq!(
            bank.run(&Request::WriteCheck { customer: 0, amount: all + 1 }),
            Some(-start - 2)
        );
        assert_eq!(bank.run(&Request::TransactSavings { customer: 0, amount: -start - 1 }), None);
        bank.deposit_at_once(1, 7);
        let amalgamate = Request::Amalgamate { from: 1, to: 0 };
        assert_eq!(bank.run(&amalgamate), Some(-start - 2 + 2 * start + 507));
        assert_eq!(bank.total(), 4 * start - all - 2 + 7);
        assert!(connection.is_autocommit());
    }
}
