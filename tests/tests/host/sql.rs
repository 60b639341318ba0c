//! The guest `sql`: an engine that nobody wrote for this host.

mod cases;
mod conformance;

use std::collections::BTreeSet;

use host::base::error::Code;
use host::base::limits::{BUDGET_DEFAULT_BYTES, FUEL_DEFAULT};
use host::mechanisms::sandbox::Limits;
use serde_json::{Value, json};
use tests::{Rig, RigOptions, deployed};

/// An empty database with the host's defaults. Whole images are compared after each call.
fn database() -> Rig {
    let options = RigOptions {
        budget_bytes: BUDGET_DEFAULT_BYTES,
        fuel: FUEL_DEFAULT,
        ..RigOptions::default()
    };
    Rig::start(&deployed("sql"), options)
}

/// The same with two accounts.
fn bank() -> Rig {
    let mut rig = database();
    let sql = "CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT);
               INSERT INTO account VALUES (1, 'ann'), (2, 'bob')";
    rig.committed("execute", json!({ "sql": sql }));
    rig
}

fn rows(rig: &mut Rig, sql: &str) -> Value {
    rig.committed("query", json!({ "sql": sql }))[0]["rows"].take()
}

/// Changes of every kind, to what is there and to what is made on the way.
const CHANGES: &str = "INSERT INTO account VALUES (3, 'eve');
    UPDATE account SET owner = 'zoe' WHERE id = 1;
    DELETE FROM account WHERE id = 2;
    CREATE TABLE entry (account INTEGER, amount INTEGER);
    INSERT INTO entry SELECT id, id * 10 FROM account;
    ALTER TABLE account ADD COLUMN note TEXT NULL";

#[test]
fn s4_08_statements_of_one_call_happen_all_or_not_at_all() {
    let mut rig = bank();
    let before = rig.hash();
    let sql = format!("{CHANGES}; INSERT INTO account VALUES (3, 'eve again', NULL)");
    let rejection = rig.rejected("execute", json!({ "sql": sql }));
    assert_eq!(rejection.code, "sql_validate");
    assert_eq!(rig.hash(), before);
    assert_eq!(rows(&mut rig, "SELECT * FROM account"), json!([[1, "ann"], [2, "bob"]]));
    assert_eq!(rig.rejected("query", json!({"sql": "SELECT * FROM entry"})).code, "sql_fetch");
    rig.committed("execute", json!({ "sql": CHANGES }));
    let expected = json!([[1, "zoe", null], [3, "eve", null]]);
    assert_eq!(rows(&mut rig, "SELECT * FROM account"), expected);
    assert_eq!(rows(&mut rig, "SELECT amount FROM entry"), json!([[10], [30]]));
}

#[test]
fn c3_s4_08_a_database_is_whole_wherever_its_fuel_ends() {
    const STEPS: u64 = 200;
    let changes = json!({ "sql": CHANGES });
    let (mut rig, mut twin) = (bank(), bank());
    let before = rig.hash();
    let used = twin.daemon.gauges().report().fuel;
    twin.committed("execute", changes.clone());
    let needed = twin.daemon.gauges().report().fuel - used;
    let deadline = rig.daemon.options().limits.deadline;
    let mut interrupted_changes = 0;
    for step in 0..STEPS {
        let fuel = 1 + needed * step / STEPS;
        rig.daemon.set_limits(Limits { fuel, deadline });
        let crash = rig.crashes_with("execute", changes.clone(), Code::Fuel);
        interrupted_changes += u64::from(crash.cards_changed > 1);
        assert_eq!(rig.hash(), before, "{fuel} of {needed}");
    }
    assert!(interrupted_changes > STEPS / 2, "{interrupted_changes}");
    rig.daemon.set_limits(Limits { fuel: FUEL_DEFAULT, deadline });
    rig.committed("execute", changes);
    let sql = "SELECT * FROM account JOIN entry ON entry.account = account.id";
    assert_eq!(rows(&mut rig, sql), rows(&mut twin, sql));
}

#[test]
fn reads_change_nothing_whatever_they_say() {
    let mut rig = bank();
    let before = rig.hash();
    for sql in ["SELECT RAND() FROM account", "SHOW TABLES", "SHOW COLUMNS FROM account"] {
        rig.committed("query", json!({ "sql": sql }));
    }
    for sql in ["DELETE FROM account", "SELECT 1; DROP TABLE account"] {
        assert_eq!(rig.rejected("query", json!({ "sql": sql })).code, "read_only", "{sql}");
    }
    assert_eq!((rig.hash(), rig.daemon.generation().0), (before, 1));
}

#[test]
fn t4_the_clock_stands_still_and_no_random_value_comes_twice() {
    let mut rig = bank();
    let drawn = "SELECT GENERATE_UUID(), RAND() FROM account";
    let mut values = BTreeSet::new();
    let mut drawn_count = 0;
    let mut draw = |rig: &mut Rig, contract, sql: &str| {
        let answers = rig.committed(contract, json!({ "sql": sql }));
        for value in
            answers[0]["rows"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap())
        {
            values.insert(value.to_string());
            drawn_count += 1;
        }
    };
    for _ in 0..3 {
        draw(&mut rig, "execute", drawn);
        // What is undone leaves the generator as it was, and must not show.
        draw(&mut rig, "query", drawn);
        rig.rejected("execute", json!({"sql": format!("{drawn}; SELECT 1 / 0")}));
        rig.crashes_with("execute", json!({"sql": too_long()}), Code::StackTrap);
    }
    rig.committed("execute", json!({"sql": "CREATE FUNCTION hidden() RETURN RAND()"}));
    for _ in 0..3 {
        draw(&mut rig, "query", "SELECT hidden()");
    }
    assert_eq!(values.len(), drawn_count, "{values:?}");

    let sql = "SELECT NOW(); SELECT NOW(), CURRENT_TIMESTAMP";
    let answers = rig.committed("execute", json!({ "sql": sql }));
    let now = json!({"TIMESTAMP": "1970-01-01 00:00:01"});
    assert_eq!(answers[0]["rows"], json!([[now]]));
    assert_eq!(answers[1]["rows"], json!([[now, now]]));
}

/// A sum that the engine's recursion has no stack for.
fn too_long() -> String {
    format!("INSERT INTO account VALUES (9, 'x'); SELECT 1{}", " + 1".repeat(5000))
}

#[test]
fn what_the_engine_dies_of_is_undone_and_it_goes_on() {
    let mut rig = bank();
    let before = rig.hash();
    rig.crashes_with("execute", json!({"sql": too_long()}), Code::StackTrap);
    // More rows than there is memory for.
    let row = format!("('{}')", "x".repeat(100_000));
    let sql = format!("CREATE TABLE large (text TEXT); INSERT INTO large VALUES {row}");
    let many = format!("{sql}{}", format!(", {row}").repeat(60));
    rig.crashes_with("execute", json!({ "sql": many }), Code::OutOfMemory);
    assert_eq!(rig.hash(), before);
    rig.committed("execute", json!({ "sql": sql }));
    assert_eq!(rows(&mut rig, "SELECT COUNT(*) FROM account"), json!([[2]]));
}

#[test]
fn ten_thousand_rows_fit_into_the_defaults() {
    let mut rig = database();
    let sql = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price FLOAT)";
    rig.committed("execute", json!({ "sql": sql }));
    let values = |range: std::ops::Range<u32>| {
        let values: Vec<_> =
            range.map(|id| format!("({id}, 'item number {id}', {id}.5)")).collect();
        json!({"sql": format!("INSERT INTO item VALUES {}", values.join(", "))})
    };
    for thousand in 0..10 {
        rig.committed("execute", values(1000 * thousand..1000 * (thousand + 1)));
    }
    let sql = "SELECT COUNT(*), SUM(price) FROM item WHERE id % 10 = 9 GROUP BY id % 2";
    assert_eq!(rows(&mut rig, sql), json!([[1000, 5_004_500.0]]));
    let sql = "UPDATE item SET price = price * 2";
    let answers = rig.committed("execute", json!({ "sql": sql }));
    assert_eq!(answers, json!([{"did": "update", "rows_count": 10_000}]));
    assert_eq!(rows(&mut rig, "SELECT price FROM item WHERE id = 9999"), json!([[19_999.0]]));
}
