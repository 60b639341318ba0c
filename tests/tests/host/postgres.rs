//! The provider of `PostgreSQL`, against a real server and one that misbehaves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use host::base::limits::{CALL_BYTES_MAX, CANCEL_TIME_MAX, CHECK_TIME_MAX, CONNECT_TIME_MAX};
use host::mechanisms::providers::postgres::Postgres;
use host::mechanisms::providers::{Connection, Line, Provider};
use host::pure::resource::Policy;
use host::pure::resource::operation::{CallError, CallResult, Operation, Reply, SqlRows, SqlValue};
use host::tree::{DaemonPlan, DaemonState, ResourcePlan};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;
use servers::{Fault, Postgres as Server, Proxy};
use supervisor::Backoff;
use tests::{Holdings, Tree, deployed, in_own_process, plan, until};
use tokio::time::{Instant, sleep, timeout};

use SqlValue::{Boolean, Bytes, Float, Int, Json, Null, Text, Timestamp, Uuid};

const NEVER: Duration = Duration::from_secs(60);

const SHORT: Duration = Duration::from_millis(100);

const NO_END: &str = "a call did not end when it was cancelled";

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

fn at(addr: SocketAddr) -> Postgres {
    let url = format!("postgres://bulkhead@{addr}/bulkhead");
    let files =
        [("@schema.sql".to_owned(), "INSERT INTO t VALUES (2); SELECT * FROM t".to_owned())];
    Postgres::new(&url, 4, BTreeMap::from(files)).unwrap()
}

fn text(text: &str) -> SqlValue {
    Text(text.to_owned())
}

async fn line(server: &Server) -> Box<dyn Line> {
    at(server.addr()).open().await.unwrap()
}

async fn control(server: &Server) -> Box<dyn Connection> {
    at(server.addr()).connect().await.unwrap()
}

async fn within(
    time: Duration,
    line: &mut Box<dyn Line>,
    statement: &str,
    values: &[SqlValue],
) -> CallResult {
    let (statement, values) = (statement.to_owned(), values.to_vec());
    line.call(Operation::Sql { statement, values }, Instant::now() + time).await
}

async fn call(line: &mut Box<dyn Line>, statement: &str, values: &[SqlValue]) -> CallResult {
    within(NEVER, line, statement, values).await
}

async fn rows(line: &mut Box<dyn Line>, statement: &str, values: &[SqlValue]) -> SqlRows {
    match call(line, statement, values).await {
        Ok(Reply::Sql(rows)) => rows,
        other => panic!("{statement}: {other:?}"),
    }
}

async fn value(line: &mut Box<dyn Line>, expression: &str, values: &[SqlValue]) -> SqlValue {
    let rows = rows(line, &format!("SELECT {expression}"), values).await;
    assert_eq!((rows.values.len(), rows.affected), (1, 1), "{expression}");
    rows.values[0].clone()
}

async fn number(line: &mut Box<dyn Line>, expression: &str) -> i64 {
    match value(line, expression, &[]).await {
        Int(number) => number,
        other => panic!("{expression}: {other:?}"),
    }
}

async fn refusal(line: &mut Box<dyn Line>, statement: &str, values: &[SqlValue]) -> String {
    match call(line, statement, values).await {
        Err(CallError::Refused { code, message }) => format!("{code} {message}"),
        other => panic!("{statement}: {other:?}"),
    }
}

async fn death(line: &mut Box<dyn Line>) -> String {
    timeout(NEVER, line.died()).await.unwrap()
}

async fn lives(line: &mut Box<dyn Line>) {
    assert_eq!(number(line, "7").await, 7);
    assert!(timeout(Duration::ZERO, line.died()).await.is_err());
}

/// Whether a line lives after a call that was cancelled. On a machine that has much to do it may
/// have died of that, and is replaced.
async fn lives_on(line: &mut Box<dyn Line>, server: &Server) -> bool {
    if let Ok(why) = timeout(Duration::ZERO, line.died()).await {
        assert_eq!(why, NO_END);
        *line = at(server.addr()).open().await.unwrap();
        return false;
    }
    lives(line).await;
    true
}

fn values() -> impl Strategy<Value = SqlValue> {
    let words = "[^\0]{0,20}";
    prop_oneof![
        Just(Null),
        any::<bool>().prop_map(Boolean),
        any::<i64>().prop_map(Int),
        any::<i32>().prop_map(|number| Int(number.into())),
        proptest::num::f64::ANY.prop_filter("is itself", |it| !it.is_nan()).prop_map(Float),
        words.prop_map(Text),
        proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes),
        any::<[u8; 16]>().prop_map(Uuid),
        (-200_000_000_000_000_000_i64..9_000_000_000_000_000_000).prop_map(Timestamp),
        Just(Timestamp(i64::MAX)),
        Just(Timestamp(i64::MIN)),
        "[a-z \u{f6}]{0,20}".prop_map(|word| Json(format!("\"{word}\""))),
    ]
}

#[test]
fn values_come_back_as_they_were_sent() {
    run(async {
        let server = Server::start();
        let mut line = line(&server).await;
        let cases = proptest::collection::vec(values(), 1..12);
        let mut runner = TestRunner::default();
        for _ in 0..200 {
            let sent = cases.new_tree(&mut runner).unwrap().current();
            let places: Vec<String> = (1..=sent.len()).map(|at| format!("${at}")).collect();
            let statement = format!("SELECT {}", places.join(", "));
            assert_eq!(rows(&mut line, &statement, &sent).await.values, sent);
        }
    });
}

#[test]
fn each_type_of_the_server_has_its_form() {
    run(async {
        let server = Server::start();
        let mut line = line(&server).await;
        rows(&mut line, "CREATE TYPE mood AS ENUM ('sad', 'happy')", &[]).await;
        rows(&mut line, "CREATE DOMAIN even AS int CHECK (value % 2 = 0)", &[]).await;
        let noon = Timestamp(1_704_110_400_000_000);
        let table = [
            ("true", Boolean(true)),
            ("(-3)::smallint", Int(-3)),
            ("3::bigint", Int(3)),
            ("3::oid", Int(3)),
            ("1.5::real", Float(1.5)),
            ("'a'::varchar(3)", text("a")),
            ("'a'::char(3)", text("a  ")),
            ("'a'::name", text("a")),
            ("'a'", text("a")),
            ("'<a/>'::xml", text("<a/>")),
            ("'\\x00ff'::bytea", Bytes(vec![0, 255])),
            ("'2024-01-01 12:00'::timestamp", noon.clone()),
            ("'2024-01-01 14:00+02'::timestamptz", noon.clone()),
            ("'infinity'::timestamp", Timestamp(i64::MAX)),
            ("'{\"a\":  1}'::json", Json("{\"a\":  1}".to_owned())),
            ("'{\"a\":  1}'::jsonb", Json("{\"a\": 1}".to_owned())),
            ("pg_sleep(0)", Null),
            ("NULL::uuid", Null),
            ("'happy'::mood", text("happy")),
            ("4::even", Int(4)),
            ("12345.678900", text("12345.678900")),
            ("-0.00001", text("-0.00001")),
            ("sum(n) FROM generate_series(1::bigint, 4) n", text("10")),
            ("1e40::numeric / 3", text(&"3".repeat(40))),
            ("date '2024-02-29'", text("2024-02-29")),
            ("date '0044-03-15 BC'", text("0044-03-15 BC")),
        ];
        for (expression, expected) in table {
            assert_eq!(value(&mut line, expression, &[]).await, expected, "{expression}");
        }
        // All days and some numbers, against the server's own words.
        let wrong =
            "count(*) FROM (SELECT $1::date + n AS day, n FROM generate_series(0, 800000, 7) n) d";
        assert_eq!(value(&mut line, wrong, &[text("1000-01-01")]).await, Int(114_286));
        let pairs = "n::text, n FROM (SELECT (10 ^ e * d)::numeric(60, 30) AS n FROM \
                     generate_series(-25, 25) e, unnest(ARRAY[1, -12.34, 99.9999]) d) numbers";
        let pairs = rows(&mut line, &format!("SELECT {pairs}"), &[]).await.values;
        assert_eq!(pairs.len(), 2 * 51 * 3);
        assert!(pairs.chunks(2).all(|pair| pair[0] == pair[1]));
        let days = "SELECT d::text, d FROM (SELECT date '4000-01-01 BC' + n AS d \
                    FROM generate_series(0, 3000000, 61) n) days";
        let days = rows(&mut line, days, &[]).await.values;
        assert!(days.len() > 90_000 && days.chunks(2).all(|pair| pair[0] == pair[1]));
    });
}

#[test]
fn a_value_means_what_it_would_mean_in_the_statement() {
    run(async {
        let server = Server::start();
        let mut line = line(&server).await;
        let table: &[(&str, &[SqlValue], SqlValue)] = &[
            ("repeat('x', $1)", &[Int(3)], text("xxx")),
            ("$1 + 1", &[Int(5_000_000_000)], Int(5_000_000_001)),
            (
                "$1::uuid::text",
                &[text("00000000-0000-0000-0000-00000000000a")],
                text("00000000-0000-0000-0000-00000000000a"),
            ),
            ("$1::uuid", &[Uuid([7; 16])], Uuid([7; 16])),
            ("extract(year FROM $1::date)", &[text("2024-02-29")], text("2024")),
            ("length($1)", &[text("abc")], Int(3)),
            ("coalesce($1, 5)", &[Null], Int(5)),
            ("$1 ->> 'a'", &[Json("{\"a\": 1}".to_owned())], text("1")),
            ("$1::timestamp::text", &[Timestamp(0)], text("1970-01-01 00:00:00")),
            ("2 = ANY ($1::int[])", &[text("{1,2}")], Boolean(true)),
            ("$1::numeric / 4", &[Int(1)], text("0.25000000000000000000")),
        ];
        for (expression, values, expected) in table {
            assert_eq!(&value(&mut line, expression, values).await, expected, "{expression}");
        }
        let made =
            "CREATE TABLE t (id uuid, at date, mood varchar(5), n numeric, j json, s smallint)";
        rows(&mut line, made, &[]).await;
        let sent = [
            text("00000000-0000-0000-0000-00000000000a"),
            text("2024-02-29"),
            Null,
            Int(3),
            Json("[1]".to_owned()),
            Int(9),
        ];
        let added = rows(&mut line, "INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6)", &sent).await;
        assert_eq!(added, SqlRows { affected: 1, ..SqlRows::default() });
        let all = rows(&mut line, "SELECT * FROM t", &[]).await;
        assert_eq!(all.columns, ["id", "at", "mood", "n", "j", "s"]);
        let id = u128::from(0xa_u8).to_be_bytes();
        let expected =
            [Uuid(id), text("2024-02-29"), Null, text("3"), Json("[1]".to_owned()), Int(9)];
        assert_eq!(all.values, expected);
    });
}

#[test]
fn what_is_refused_says_why_and_the_line_lives() {
    run(async {
        let server = Server::start();
        let mut line = line(&server).await;
        rows(&mut line, "CREATE TABLE t (k int PRIMARY KEY)", &[]).await;
        rows(&mut line, "INSERT INTO t VALUES (1)", &[]).await;
        let table: &[(&str, &[SqlValue], &str)] = &[
            (
                "INSERT INTO t VALUES (1)",
                &[],
                "23505 duplicate key value violates unique constraint \
              \"t_pkey\" (Key (k)=(1) already exists.)",
            ),
            ("SELEC", &[], "42601 syntax error at or near \"SELEC\""),
            ("SELECT 1; SELECT 2", &[], "42601 cannot insert multiple commands into a prepared"),
            ("SELECT $1::uuid", &[text("no")], "22P02 invalid input syntax for type uuid"),
            ("SELECT $1", &[text("a\0")], "22021 invalid byte sequence"),
            ("SELECT '\0'", &[], "22021 a statement can't hold a zero byte"),
            ("SELECT $1::int", &[], "08P01 the statement has 1 values, and 0 were given"),
            ("SELECT 1/0", &[], "22012 division by zero"),
            // Known before it runs.
            (
                "INSERT INTO t VALUES (2) RETURNING ARRAY[k]",
                &[],
                "E_TYPE column array has type _int4; cast it to text",
            ),
        ];
        for (statement, values, expected) in table {
            let said = refusal(&mut line, statement, values).await;
            assert!(said.starts_with(expected), "{said}");
            lives(&mut line).await;
        }
        assert_eq!(number(&mut line, "count(*) FROM t").await, 1);
        let many = call(&mut line, "SELECT 1", &vec![Null; 65_536]).await;
        assert!(matches!(many, Err(CallError::Refused { code, .. }) if code == "54023"));
        let copy = call(&mut line, "/* */ COPY t FROM STDIN", &[]).await;
        assert!(matches!(copy, Err(CallError::Denied(why)) if why.starts_with("COPY, whose")));
        let large = call(&mut line, "SELECT $1", &[Bytes(vec![0; CALL_BYTES_MAX])]).await;
        assert_eq!(large, Err(CallError::TooLarge(CALL_BYTES_MAX as u64)));
        let redis = Operation::Redis(vec![b"GET".to_vec()]);
        assert_eq!(line.call(redis, Instant::now() + NEVER).await, Err(CallError::WrongKind));
        lives(&mut line).await;
    });
}

#[test]
fn a_reset_leaves_nothing_of_a_transaction() {
    run(async {
        let server = Server::start();
        let (mut one, mut other) = (line(&server).await, line(&server).await);
        rows(&mut one, "CREATE TABLE t (k int)", &[]).await;
        assert_eq!(value(&mut one, "current_setting('TimeZone')", &[]).await, text("UTC"));
        for statement in [
            "SET TimeZone = 'Asia/Tokyo'",
            "SET statement_timeout = 0",
            "CREATE TEMP TABLE mine (k int)",
            "SELECT pg_advisory_lock(1)",
            "PREPARE ask AS SELECT 1",
            "LISTEN words",
            "BEGIN",
            "INSERT INTO t VALUES (1)",
        ] {
            rows(&mut one, statement, &[]).await;
        }
        assert_eq!(value(&mut other, "pg_try_advisory_lock(1)", &[]).await, Boolean(false));
        one.reset().await.unwrap();
        assert_eq!(value(&mut other, "pg_try_advisory_lock(1)", &[]).await, Boolean(true));
        assert_eq!(value(&mut one, "current_setting('TimeZone')", &[]).await, text("UTC"));
        assert_eq!(value(&mut one, "current_setting('statement_timeout')", &[]).await, text("10s"));
        let said = refusal(&mut one, "SELECT * FROM mine", &[]).await;
        assert!(said.starts_with("42P01"), "{said}");
        let said = refusal(&mut one, "EXECUTE ask", &[]).await;
        assert!(said.starts_with("26000"), "{said}");
        assert_eq!(number(&mut one, "count(*) FROM t").await, 0);
        assert_eq!(number(&mut one, "count(*) FROM pg_listening_channels()").await, 0);
        // A transaction that has failed, too.
        rows(&mut one, "BEGIN", &[]).await;
        refusal(&mut one, "SELECT 1/0", &[]).await;
        one.reset().await.unwrap();
        lives(&mut one).await;
        // What the client learned of a type ends with a reset: such a line isn't used again.
        rows(&mut one, "CREATE TYPE mood AS ENUM ('sad')", &[]).await;
        value(&mut one, "'sad'::mood", &[]).await;
        assert!(one.reset().await.unwrap_err().contains("learned types"));
        assert!(death(&mut one).await.contains("learned types"));
    });
}

/// Waits until a backend runs nothing.
async fn is_idle_or_gone(line: &mut Box<dyn Line>, backend: i64) {
    loop {
        let state = "SELECT state FROM pg_stat_activity WHERE pid = $1";
        let state = rows(line, state, &[Int(backend)]).await.values;
        match state.first() {
            Some(Text(state)) if state == "active" => sleep(Duration::from_millis(5)).await,
            _ => return,
        }
    }
}

#[test]
fn c13_a_call_that_takes_too_long_is_ended_at_the_server_and_the_line_lives() {
    run(async {
        let server = Server::start();
        let (mut one, mut other) = (line(&server).await, line(&server).await);
        for statement in ["SELECT pg_sleep(50)", "SELECT generate_series(1, 100000000000) < 0"] {
            for attempt in 0.. {
                let backend = number(&mut one, "pg_backend_pid()").await;
                let late = within(SHORT, &mut one, statement, &[]).await;
                let much = Err(CallError::TooLarge(CALL_BYTES_MAX as u64));
                assert!(late == Err(CallError::TimedOut) || late == much, "{late:?}");
                is_idle_or_gone(&mut other, backend).await;
                if lives_on(&mut one, &server).await {
                    break;
                }
                assert!(attempt < 20, "it never lives on");
            }
        }
        // Calls that are given up, at any moment.
        for wait in 0..40 {
            let mut one = line(&server).await;
            rows(&mut one, "SET statement_timeout = 0", &[]).await;
            let backend = number(&mut one, "pg_backend_pid()").await;
            let call = call(&mut one, "SELECT pg_sleep(5000)", &[]);
            assert!(timeout(Duration::from_micros(wait * 50), call).await.is_err());
            drop(one);
            timeout(NEVER, is_idle_or_gone(&mut other, backend)).await.unwrap();
        }
    });
}

#[test]
fn a_server_that_is_killed_is_noticed_at_once_and_comes_back() {
    run(async {
        let mut server = Server::start();
        let (mut one, mut control) = (line(&server).await, control(&server).await);
        lives(&mut one).await;
        control.check().await.unwrap();
        server.kill9();
        let dead = death(&mut one).await;
        assert!(dead.contains("closed") || dead.contains("reset"), "{dead}");
        timeout(NEVER, control.died()).await.unwrap();
        control.check().await.unwrap_err();
        let late = call(&mut one, "SELECT 1", &[]).await;
        assert!(matches!(late, Err(CallError::NotSent(_))), "{late:?}");
        let refused = at(server.addr()).connect().await.err().unwrap().to_string();
        assert!(refused.contains("Connection refused"), "{refused}");
        server.restart();
        lives(&mut line(&server).await).await;

        // One backend that is told to go says so; others don't mind.
        let (mut one, mut other) = (line(&server).await, line(&server).await);
        let backend = number(&mut one, "pg_backend_pid()").await;
        value(&mut other, "pg_terminate_backend($1)", &[Int(backend)]).await;
        let dead = death(&mut one).await;
        // What it said last is lost if something was on its way to it.
        let said = ["(57P01)", "closed", "reset"];
        assert!(said.iter().any(|said| dead.contains(said)), "{dead}");
        lives(&mut other).await;
    });
}

#[test]
fn a_server_that_stands_still_fails_its_check_and_loses_its_lines() {
    run(async {
        let server = Server::start();
        let (mut one, mut control) = (line(&server).await, control(&server).await);
        server.pause();
        assert!(timeout(CHECK_TIME_MAX, control.check()).await.is_err());
        let late = timeout(SHORT + 3 * CANCEL_TIME_MAX, within(SHORT, &mut one, "SELECT 1", &[]));
        assert_eq!(late.await.unwrap(), Err(CallError::TimedOut));
        assert_eq!(death(&mut one).await, NO_END);
        assert!(timeout(CONNECT_TIME_MAX, at(server.addr()).connect()).await.is_err());
        server.resume();
        lives(&mut line(&server).await).await;
    });
}

#[test]
fn c5_c6_answers_of_any_size_are_bounded() {
    let test = "host::postgres::c5_c6_answers_of_any_size_are_bounded";
    in_own_process(test, || run(bounded()));
}

async fn bounded() {
    let server = Server::start();
    let mut line = line(&server).await;
    let fits = format!("repeat('x', {})", CALL_BYTES_MAX - 100);
    assert!(matches!(value(&mut line, &fits, &[]).await, Text(_)));
    let before = Holdings::now();
    let large = Err(CallError::TooLarge(CALL_BYTES_MAX as u64));
    let mut lived = 0;
    for statement in [
        // Rows without end, of which the first ones are small enough.
        "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)",
        "SELECT generate_series(1, 1000000000)",
        "SELECT FROM generate_series(1, 1000000)",
        // Ten bytes that are 131,072 digits.
        "SELECT 1e131071::numeric FROM generate_series(1, 10000)",
    ] {
        assert_eq!(call(&mut line, statement, &[]).await, large, "{statement}");
        lived += u32::from(lives_on(&mut line, &server).await);
    }
    assert!(lived > 0);
    // One row.
    let row = "SELECT repeat('x', 1 << 27)";
    assert_eq!(call(&mut line, row, &[]).await, large);
    let dead = death(&mut line).await;
    assert!(dead.starts_with("an answer of more than"), "{dead}");
    // One that is announced and sent by who is no server.
    let proxy = Proxy::start(server.addr());
    let mut line = at(proxy.addr()).open().await.unwrap();
    proxy.set(Fault::Flood { head: b"D\x40\0\0\0".to_vec(), bytes: 1 << 30 });
    assert_eq!(call(&mut line, "SELECT 1", &[]).await, large);
    let postgres = at(proxy.addr());
    let refused = timeout(NEVER, postgres.connect()).await.unwrap().err().unwrap().to_string();
    assert!(refused.starts_with("an answer of more than"), "{refused}");
    let after = Holdings::now();
    let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
    eprintln!("resident memory grew by {} KiB", grown >> 10);
    assert!(grown < 64 << 20, "{grown} bytes");
}

#[test]
fn half_answers_garbage_and_slow_ones_are_errors() {
    run(async {
        let server = Server::start();
        let proxy = Proxy::start(server.addr());
        for fault in [Fault::CutAfter(9), Fault::Garbage, Fault::Reset, Fault::Close] {
            proxy.set(Fault::Pass);
            let (mut one, mut control) =
                (at(proxy.addr()).open().await.unwrap(), at(proxy.addr()).connect().await.unwrap());
            lives(&mut one).await;
            proxy.set(fault.clone());
            let answer = call(&mut one, "SELECT 1", &[]).await;
            // It was not prepared yet.
            assert!(matches!(answer, Err(CallError::NotSent(_))), "{fault:?}: {answer:?}");
            death(&mut one).await;
            control.check().await.unwrap_err();
            timeout(NEVER, control.died()).await.unwrap();
        }
        proxy.set(Fault::Pass);
        let mut one = at(proxy.addr()).open().await.unwrap();
        proxy.set(Fault::Delay(SHORT));
        let late = within(SHORT / 2, &mut one, "SELECT 1", &[]).await;
        assert_eq!(late, Err(CallError::TimedOut));
        lives_on(&mut one, &server).await;
        proxy.set(Fault::Pass);
        let mut one = at(proxy.addr()).open().await.unwrap();
        proxy.set(Fault::Stall { to_server: false, to_client: true });
        let late = within(SHORT, &mut one, "SELECT 1", &[]).await;
        assert_eq!(late, Err(CallError::TimedOut));
        assert_eq!(death(&mut one).await, NO_END);
        proxy.set(Fault::Garbage);
        timeout(NEVER, at(proxy.addr()).connect()).await.unwrap().err().unwrap();
    });
}

#[test]
fn s0_11_s0_12_jobs_run_in_order_and_one_that_fails_says_why() {
    run(async {
        let server = Server::start();
        let mut control = control(&server).await;
        let jobs = [
            "CREATE TABLE t (k int); CREATE TABLE u ()",
            "INSERT INTO t VALUES (1)",
            "@schema.sql",
        ];
        for job in jobs {
            control.job(job).await.unwrap();
        }
        let mut line = line(&server).await;
        let all = rows(&mut line, "SELECT k FROM t ORDER BY ctid", &[]).await;
        assert_eq!(all.values, [Int(1), Int(2)]);
        let error = control.job("INSERT INTO nowhere VALUES (1)").await.unwrap_err();
        assert_eq!(error, "relation \"nowhere\" does not exist (42P01)");
        control.check().await.unwrap();
    });
}

#[test]
fn s0_03_s0_12_a_daemon_waits_for_its_server_and_jobs_run_at_each_recovery() {
    let mut server = Server::start();
    let jobs = [
        "SET synchronous_commit = on; CREATE TABLE IF NOT EXISTS runs (job int)",
        "INSERT INTO runs VALUES (1)",
        "INSERT INTO runs VALUES (2)",
    ];
    let books = ResourcePlan {
        name: "bank/books".to_owned(),
        provider: Arc::new(at(server.addr())),
        jobs: jobs.map(str::to_owned).to_vec(),
        policy: Policy::new(Backoff::default(), Duration::ZERO),
    };
    let bank = plan("bank", &deployed("counter"), |_| {});
    let bank = DaemonPlan { needs: vec![books.name.clone()], ..bank };
    let tree = Tree::with_resources(vec![bank], vec![books], None);
    let state = || tree.view("bank").report.state;
    assert_eq!(tree.committed("bank", "increment", json!({"by": 3})), 3);
    server.kill9();
    until("it waits", || state() == DaemonState::Waiting);
    server.restart();
    until("it is back", || state() == DaemonState::Ready);
    assert_eq!(tree.committed("bank", "increment", json!({"by": 1})), 4);
    assert_eq!(tree.view("bank").report.generation, 2);
    run(async {
        let mut line = line(&server).await;
        let ran = rows(&mut line, "SELECT job FROM runs ORDER BY ctid", &[]).await;
        assert_eq!(ran.values, [Int(1), Int(2), Int(1), Int(2)]);
    });
}
