#!lua name=smallbank

-- SmallBank. A key per account: s:N savings, c:N checking. A rejected request answers nil, before
-- it has changed anything.

local function get(key)
    local cents = redis.call('GET', key)
    return cents and tonumber(cents)
end

local function add(key, cents)
    return redis.call('INCRBY', key, cents)
end

local function load(keys, args)
    for customer = 0, args[1] - 1 do
        redis.call('SET', 's:' .. customer, args[2])
        redis.call('SET', 'c:' .. customer, args[3])
    end
    return args[1] * (args[2] + args[3])
end

local function total(keys, args)
    local sum = 0
    for customer = 0, args[1] - 1 do
        sum = sum + get('s:' .. customer) + get('c:' .. customer)
    end
    return sum
end

local function balance(keys, args)
    local savings, checking = get(keys[1]), get(keys[2])
    return savings and checking and savings + checking
end

local function deposit_checking(keys, args)
    return get(keys[1]) and add(keys[1], args[1])
end

local function transact_savings(keys, args)
    local savings = get(keys[1])
    return savings and savings + args[1] >= 0 and add(keys[1], args[1])
end

local function amalgamate(keys, args)
    local savings, checking, receiver = get(keys[1]), get(keys[2]), get(keys[3])
    if not (savings and checking and receiver) then return false end
    redis.call('SET', keys[1], 0)
    redis.call('SET', keys[2], 0)
    return add(keys[3], savings + checking)
end

local function write_check(keys, args)
    local savings, checking, charge = get(keys[1]), get(keys[2]), tonumber(args[1])
    if not (savings and checking) then return false end
    if charge > savings + checking then charge = charge + PENALTY_CENTS end
    return add(keys[2], -charge)
end

local function send_payment(keys, args)
    local sender, receiver, amount = get(keys[1]), get(keys[2]), tonumber(args[1])
    if not (sender and receiver) or amount > sender then return false end
    add(keys[2], amount)
    return add(keys[1], -amount)
end

redis.register_function('load', load)
redis.register_function('deposit_checking', deposit_checking)
redis.register_function('transact_savings', transact_savings)
redis.register_function('amalgamate', amalgamate)
redis.register_function('write_check', write_check)
redis.register_function('send_payment', send_payment)
redis.register_function({ function_name = 'total', callback = total, flags = { 'no-writes' } })
redis.register_function({ function_name = 'balance', callback = balance, flags = { 'no-writes' } })
