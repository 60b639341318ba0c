use guest_sdk::test::{Harness, Value, json};

use super::*;

fn database() -> Harness<Database> {
    let mut database = Harness::new(json!({}));
    let sql = "CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, balance DECIMAL);
               INSERT INTO account VALUES (1, 'ann', 10.50), (2, 'bob', 3)";
    database.call("execute", json!({ "sql": sql })).committed();
    database
}

#[track_caller]
fn rows(database: &mut Harness<Database>, sql: &str) -> Value {
    let mut answers = database.call("query", json!({ "sql": sql })).committed();
    answers[0]["rows"].take()
}

#[test]
fn every_type_has_its_form_in_json() {
    let cases = [
        ("NULL", json!(null)),
        ("TRUE", json!(true)),
        ("-7", json!(-7)),
        ("CAST(7 AS FLOAT)", json!(7.0)),
        ("CAST(0.5 AS FLOAT32)", json!({"FLOAT32": 0.5})),
        ("'it''s'", json!("it's")),
        ("CAST(-8 AS INT8)", json!({"INT8": -8})),
        ("CAST(-16 AS INT16)", json!({"INT16": -16})),
        ("CAST(-32 AS INT32)", json!({"INT32": -32})),
        ("CAST(8 AS UINT8)", json!({"UINT8": 8})),
        ("CAST(16 AS UINT16)", json!({"UINT16": 16})),
        ("CAST(32 AS UINT32)", json!({"UINT32": 32})),
        ("CAST('18446744073709551615' AS UINT64)", json!({"UINT64": u64::MAX})),
        ("CAST('-170141183460469231731687303715884105728' AS INT128)", {
            json!({"INT128": "-170141183460469231731687303715884105728"})
        }),
        ("CAST(1 AS UINT128)", json!({"UINT128": "1"})),
        ("CAST('1.10' AS DECIMAL)", json!({"DECIMAL": "1.10"})),
        ("CAST('c0ffee' AS BYTEA)", json!({"BYTEA": "c0ffee"})),
        ("CAST('::1' AS INET)", json!({"INET": "::1"})),
        ("DATE '2026-02-28'", json!({"DATE": "2026-02-28"})),
        ("TIME '23:59:01.5'", json!({"TIME": "23:59:01.500"})),
        ("TIMESTAMP '2026-02-28 01:02:03'", json!({"TIMESTAMP": "2026-02-28 01:02:03"})),
        ("INTERVAL '3' DAY", json!({"INTERVAL": "'3' DAY"})),
        ("CAST('936DA01F9ABD4d9d80C702AF85C822A8' AS UUID)", {
            json!({"UUID": "936da01f-9abd-4d9d-80c7-02af85c822a8"})
        }),
        ("POINT(1.5, 2)", json!({"POINT": "POINT(1.5 2)"})),
        (r#"CAST('[1, "a", {"b": 2}]' AS LIST)"#, json!([1, "a", {"MAP": {"b": 2}}])),
        (r#"CAST('{"a": [true, null]}' AS MAP)"#, json!({"MAP": {"a": [true, null]}})),
    ];
    let mut database = database();
    for (expression, expected) in cases {
        let found = rows(&mut database, &format!("SELECT {expression}"));
        assert_eq!(found, json!([[expected]]), "{expression}");
    }
}

#[test]
fn answers_say_what_was_done() {
    let cases = [
        (
            "UPDATE account SET owner = 'eve' WHERE id > 1",
            json!({"did": "update", "rows_count": 1}),
        ),
        ("DELETE FROM account WHERE id = 2", json!({"did": "delete", "rows_count": 1})),
        ("ALTER TABLE account RENAME TO a", json!({"did": "alter_table"})),
        ("SHOW TABLES", json!({"did": "show_tables", "tables": ["a"]})),
        (
            "SHOW COLUMNS FROM a",
            json!({"did": "show_columns", "columns": [
                ["id", "INT"], ["owner", "TEXT"], ["balance", "DECIMAL"]
            ]}),
        ),
        ("SELECT id FROM a", json!({"did": "select", "columns": ["id"], "rows": [[1]]})),
        ("CREATE FUNCTION one() RETURN 1", json!({"did": "create"})),
        ("SHOW FUNCTIONS", json!({"did": "show_functions", "functions": ["one()"]})),
        ("DROP FUNCTION one", json!({"did": "drop_function"})),
        ("DROP TABLE a", json!({"did": "drop_table", "tables_count": 1})),
        ("CREATE TABLE free", json!({"did": "create"})),
        (r#"INSERT INTO free VALUES ('{"a": 1}')"#, json!({"did": "insert", "rows_count": 1})),
        ("SELECT * FROM free", json!({"did": "select_maps", "rows": [{"a": 1}]})),
    ];
    let mut database = database();
    for (sql, expected) in cases {
        let answers = database.call("execute", json!({ "sql": sql })).committed();
        assert_eq!(answers, json!([expected]), "{sql}");
    }
}

#[test]
fn what_cannot_be_done_is_rejected() {
    let cases = [
        ("execute", "SELEC 1", "sql_parser"),
        ("execute", "SELECT 1; GRANT ALL ON account TO ann", "sql_translate"),
        ("execute", "SELECT * FROM nowhere", "sql_fetch"),
        ("execute", "SELECT nothing FROM account", "sql_evaluate"),
        ("execute", "INSERT INTO account VALUES (1, 'eve', 0)", "sql_validate"),
        ("execute", "INSERT INTO account VALUES (3, NULL, 0)", "sql_value"),
        ("execute", "CREATE TABLE account (id INTEGER)", "sql_alter"),
        ("execute", "CREATE INDEX owners ON account (owner)", "sql_storage"),
        ("execute", "BEGIN", "transaction_statement"),
        ("execute", "SELECT 1; COMMIT", "transaction_statement"),
        ("query", "ROLLBACK", "transaction_statement"),
        ("query", "DELETE FROM account", "read_only"),
        ("query", "SELECT 1; CREATE TABLE t (id INTEGER)", "read_only"),
    ];
    let mut database = database();
    for (contract, sql, code) in cases {
        let rejection = database.call(contract, json!({ "sql": sql })).rejected();
        assert_eq!(rejection.code(), code, "{sql}: {rejection}");
    }
    let sql = json!({"sql": "SELECT * FROM nowhere"});
    let rejection = database.call("query", sql).rejected();
    let details = json!({"Fetch": {"TableNotFound": "nowhere"}});
    assert_eq!(rejection.details::<Value>(), Some(details));
    assert_eq!(rows(&mut database, "SELECT COUNT(*) FROM account"), json!([[2]]));
}

#[test]
fn statements_see_what_those_before_them_did() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2);
               SELECT id FROM t WHERE id = 2";
    let answers = database().call("execute", json!({ "sql": sql })).committed();
    assert_eq!(answers[2]["rows"], json!([[2]]));
}

#[test]
fn parameters_are_values_and_never_sql() {
    let mut database = database();
    let hostile = "x'); DROP TABLE account; --";
    let sql = "INSERT INTO account VALUES ($1, $2, CAST($3 AS DECIMAL))";
    let params = json!([3, hostile, "0.5"]);
    database.call("execute", json!({ "sql": sql, "params": params })).committed();
    let sql = "SELECT id, owner FROM account WHERE owner = $1";
    let answers = database.call("query", json!({ "sql": sql, "params": [hostile] })).committed();
    assert_eq!(answers[0]["rows"], json!([[3, hostile]]));
    for param in [json!([1]), json!({"DATE": "2026-02-28"}), json!(u64::MAX)] {
        let arguments = json!({"sql": "SELECT $1", "params": [param]});
        assert_eq!(database.call("query", arguments).rejected().code(), "bad_parameter");
    }
    let too_few = json!({"sql": "SELECT $2", "params": [1]});
    assert_eq!(database.call("query", too_few).rejected().code(), "sql_translate");
}

#[test]
fn a_value_nested_too_deep_is_rejected() {
    let mut database = database();
    let list = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let select = |levels| json!({"sql": format!("SELECT CAST('{}' AS LIST)", list(levels))});
    database.call("query", select(48)).committed();
    assert_eq!(database.call("query", select(49)).rejected().code(), "nested_too_deep");
}

#[test]
fn other_code_takes_all_values_over() {
    let mut database = database();
    let values = [
        ("BOOLEAN", "TRUE"),
        ("INT8", "-8"),
        ("UINT128", "340282366920938463463374607431768211455"),
        ("FLOAT", "1.5"),
        ("DECIMAL", "123456789.123456789"),
        ("TEXT", "'text'"),
        ("BYTEA", "X'00ff'"),
        ("DATE", "'2026-02-28'"),
        ("TIMESTAMP", "'2026-02-28 10:00:00.123456789'"),
        ("TIME", "'10:00:00.5'"),
        ("INTERVAL", "INTERVAL '3' DAY"),
        ("UUID", "'936DA01F9ABD4d9d80C702AF85C822A8'"),
        ("MAP", "'{\"a\": {\"b\": [1, 2]}}'"),
        ("LIST", "'[1, null, \"x\"]'"),
        ("INTEGER", "NULL"),
    ];
    for (table, (kind, value)) in values.iter().enumerate() {
        let sql = format!(
            "CREATE TABLE t{table} (key TEXT PRIMARY KEY, value {kind} NULL);
             INSERT INTO t{table} VALUES ('k', {value})"
        );
        database.call("execute", json!({"sql": sql})).committed();
    }
    let mut next: Harness<Database> = database.upgrade().unwrap();
    for (table, (kind, _)) in values.iter().enumerate() {
        let sql = format!("SELECT * FROM t{table} WHERE key = 'k'");
        let ask = |of: &mut Harness<Database>| of.call("query", json!({"sql": sql})).committed();
        assert_eq!(ask(&mut next), ask(&mut database), "{kind}");
    }
}
