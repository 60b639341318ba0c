//! GlueSQL's published conformance tests, through the host.
//!
//! The suite drives an engine that it holds in its hand, so it can't see a guest's answers. Each of
//! its fixtures therefore runs twice: by the suite's own runner on the engine as a plain library,
//! which checks every expectation, and statement by statement through the host, where each answer,
//! decoded, must be the library's. Errors must be the same, too, with all that they say.

use gluesql_core::data::Value;
use gluesql_core::executor::{Payload, PayloadVariable};
use gluesql_core::parse_sql::parse_data_type;
use gluesql_core::prelude::{DataType, Glue};
use gluesql_core::translate::translate_data_type;
use gluesql_memory_storage::MemoryStorage;
use gluesql_test_suite::Tester;
use gluesql_test_suite::fixture::{run_fixture, source};
use host::base::clock::{Clock, SystemClock};
use host::pure::json::from_message_pack;
use host::pure::request::Outcome;
use serde_json::{Value as Json, json};
use tests::Rig;

use super::cases::fixtures;
use super::database;

/// Words of fixtures in which some values are those of the clock or random.
const VOLATILE: [&str; 5] = ["NOW(", "CURRENT_", "RAND(", "GENERATE_UUID(", "CREATED"];

/// The engine as a library.
struct Library(Glue<MemoryStorage>);

impl Tester<MemoryStorage> for Library {
    fn new(_namespace: &str) -> Self {
        Self(Glue::new(MemoryStorage::default()))
    }

    fn get_glue(&mut self) -> &mut Glue<MemoryStorage> {
        &mut self.0
    }
}

#[test]
fn the_engines_own_tests_pass_through_the_host() {
    let (mut cases, mut steps, mut wrong) = (0, 0, Vec::new());
    for path in fixtures() {
        let text = source(&path);
        run_fixture(Library::new(""), &path, text);
        let (mut library, mut rig) = (Library::new("").0, database());
        // From the rig's first second to now: some fixtures know what century it is.
        rig.clock.advance(SystemClock::new().unix_nanos());
        let volatile = VOLATILE.iter().any(|word| text.to_uppercase().contains(word));
        for sql in statements(text) {
            let (expected, answered) = (library.execute(&sql), answer(&mut rig, &sql));
            let same = match (&expected, &answered) {
                (Ok(expected), Ok(answered)) => same_payloads(expected, answered, volatile),
                (Err(expected), Err(details)) => json!(expected) == *details,
                _ => false,
            };
            if !same {
                wrong.push(format!("{path}: {sql}\nlibrary: {expected:?}\nhost: {answered:?}"));
            }
            steps += 1;
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{} of {steps} steps:\n{}", wrong.len(), wrong.join("\n\n"));
    assert_eq!(
        (cases, steps),
        (165, 2248),
        "cases and steps of the suite that this crate is made for"
    );
}

/// The SQL of a fixture's steps. What a step must give follows it as comments, which may stay.
fn statements(fixture: &str) -> Vec<String> {
    let mut steps = vec![String::new()];
    for line in fixture.lines() {
        if line.trim_start().starts_with("-- @expect:") {
            steps.push(String::new());
        } else if let Some(step) = steps.last_mut() {
            step.push_str(line);
            step.push('\n');
        }
    }
    // After the last expectation there are only comments.
    steps.pop();
    steps
}

/// What the guest answers; the engine's own error where it rejects.
fn answer(rig: &mut Rig, sql: &str) -> Result<Vec<Payload>, Json> {
    match rig.call("execute", json!({ "sql": sql })) {
        Outcome::Committed(value) => {
            let Json::Array(answers) = from_message_pack(&value).unwrap() else { panic!("a list") };
            Ok(answers.into_iter().map(payload).collect())
        }
        Outcome::Rejected(rejection) => {
            assert!(rejection.code.starts_with("sql_"), "{sql}: {rejection:?}");
            Err(from_message_pack(&rejection.details.unwrap()).unwrap())
        }
        outcome => panic!("{sql}: {outcome:?}"),
    }
}

/// What the library would have said.
fn payload(mut answer: Json) -> Payload {
    fn from<T: serde::de::DeserializeOwned>(answer: &mut Json, name: &str) -> T {
        serde_json::from_value(answer[name].take()).unwrap()
    }
    let did: String = from(&mut answer, "did");
    match did.as_str() {
        "create" => Payload::Create,
        "alter_table" => Payload::AlterTable,
        "drop_table" => Payload::DropTable(from(&mut answer, "tables_count")),
        "drop_function" => Payload::DropFunction,
        "insert" => Payload::Insert(from(&mut answer, "rows_count")),
        "update" => Payload::Update(from(&mut answer, "rows_count")),
        "delete" => Payload::Delete(from(&mut answer, "rows_count")),
        "select" => {
            let rows: Vec<Vec<Json>> = from(&mut answer, "rows");
            let rows = rows.into_iter().map(|row| row.into_iter().map(value).collect()).collect();
            Payload::Select { labels: from(&mut answer, "columns"), rows }
        }
        "select_maps" => {
            let rows: Vec<serde_json::Map<String, Json>> = from(&mut answer, "rows");
            let map = |row: serde_json::Map<String, Json>| {
                row.into_iter().map(|(name, field)| (name, value(field))).collect()
            };
            Payload::SelectMap(rows.into_iter().map(map).collect())
        }
        "show_columns" => {
            let columns: Vec<(String, String)> = from(&mut answer, "columns");
            let columns = columns.into_iter().map(|(name, ty)| (name, data_type(&ty)));
            Payload::ShowColumns(columns.collect())
        }
        "show_tables" => {
            Payload::ShowVariable(PayloadVariable::Tables(from(&mut answer, "tables")))
        }
        "show_functions" => {
            Payload::ShowVariable(PayloadVariable::Functions(from(&mut answer, "functions")))
        }
        "show_version" => {
            Payload::ShowVariable(PayloadVariable::Version(from(&mut answer, "version")))
        }
        did => panic!("{did}"),
    }
}

fn data_type(name: &str) -> DataType {
    translate_data_type(&parse_data_type(name).unwrap()).unwrap()
}

/// The engine's value that a cell of an answer stands for.
fn value(cell: Json) -> Value {
    match cell {
        Json::Null => Value::Null,
        Json::Bool(cell) => Value::Bool(cell),
        Json::Number(cell) if cell.is_f64() => Value::F64(cell.as_f64().unwrap()),
        Json::Number(cell) => Value::I64(cell.as_i64().unwrap()),
        Json::String(cell) => Value::Str(cell),
        Json::Array(cells) => Value::List(cells.into_iter().map(value).collect()),
        Json::Object(named) => {
            let (name, cell) = named.into_iter().next().unwrap();
            match (name.as_str(), cell) {
                ("MAP", Json::Object(fields)) => {
                    let fields = fields.into_iter().map(|(name, field)| (name, value(field)));
                    Value::Map(fields.collect())
                }
                ("UINT64", cell) => Value::U64(cell.as_u64().unwrap()),
                (name, cell) => value(cell).cast(&data_type(name)).unwrap(),
            }
        }
    }
}

fn same_payloads(expected: &[Payload], answered: &[Payload], volatile: bool) -> bool {
    let same = |(expected, answered): (&Payload, &Payload)| match (expected, answered) {
        (
            Payload::Select { labels, rows },
            Payload::Select { labels: answered_labels, rows: answered },
        ) => {
            let same_rows = |(row, answered): (&Vec<Value>, &Vec<Value>)| {
                row.len() == answered.len()
                    && row.iter().zip(answered).all(|(a, b)| same_values(a, b, volatile))
            };
            labels == answered_labels
                && rows.len() == answered.len()
                && rows.iter().zip(answered).all(same_rows)
        }
        (Payload::SelectMap(rows), Payload::SelectMap(answered)) => {
            let rows = rows.iter().cloned().map(Value::Map).collect();
            let answered = answered.iter().cloned().map(Value::Map).collect();
            same_values(&Value::List(rows), &Value::List(answered), volatile)
        }
        // The library finds the version of the program that it is part of in cargo's environment.
        (
            Payload::ShowVariable(PayloadVariable::Version(_)),
            Payload::ShowVariable(PayloadVariable::Version(_)),
        ) => true,
        _ => expected == answered,
    };
    expected.len() == answered.len() && expected.iter().zip(answered).all(same)
}

/// Equal and of one type. Floats may differ in what the sines and powers of two C libraries differ
/// in; where values are volatile, times and ids may be others.
fn same_values(expected: &Value, answered: &Value, volatile: bool) -> bool {
    let near = |a: f64, b: f64, tolerance: f64| {
        a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * a.abs().max(1.0)
    };
    let same_type = expected.get_type() == answered.get_type();
    match (expected, answered) {
        (Value::Null, Value::Null) => true,
        (Value::Date(_) | Value::Time(_) | Value::Timestamp(_) | Value::Uuid(_), _)
            if volatile && same_type =>
        {
            true
        }
        (Value::F64(a), Value::F64(b)) => near(*a, *b, 1e-12),
        (Value::F32(a), Value::F32(b)) => near(f64::from(*a), f64::from(*b), 1e-6),
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_values(a, b, volatile))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.keys().eq(b.keys())
                && a.values().zip(b.values()).all(|(a, b)| same_values(a, b, volatile))
        }
        _ => same_type && expected == answered,
    }
}
