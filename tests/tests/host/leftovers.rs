//! What one transaction leaves to the next on a connection that both use: nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use host::mechanisms::providers::postgres::Postgres;
use host::mechanisms::providers::redis::{Jobs, Redis};
use host::mechanisms::providers::{Line, Provider};
use host::pure::request::Outcome;
use host::pure::resource::Policy;
use host::pure::resource::operation::{CallError, CallResult, Operation, RedisValue, Reply};
use host::pure::resource::operation::{SqlRows, SqlValue};
use host::tree::{DaemonPlan, ResourcePlan};
use serde_json::{Value, json};
use servers::{Fault, Proxy};
use tests::{Tree, deployed, plan};
use tokio::time::{Instant, timeout};

const BOOKS: &str = "bank/books";

/// Longest time that anything may take which has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time in which a statement is on its way, and not over.
const SHORT: Duration = Duration::from_millis(3);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

/// Daemons that share one connection to a PostgreSQL, each with its deadline.
fn sharing(url: &str, daemons: &[(&str, Duration)]) -> Tree {
    let plans = daemons.iter().map(|(name, deadline)| {
        let plan = plan(name, &deployed("caller"), |options| options.limits.deadline = *deadline);
        DaemonPlan { uses: vec![BOOKS.to_owned()], ..plan }
    });
    let books = ResourcePlan {
        name: BOOKS.to_owned(),
        provider: Arc::new(Postgres::new(url, 1, BTreeMap::new()).unwrap()),
        jobs: Vec::new(),
        policy: Policy::default(),
    };
    Tree::with_resources(plans.collect(), vec![books], None)
}

fn statement(text: &str) -> Value {
    json!({"name": "books", "statement": text})
}

/// A cancel that is on its way when its statement has ended by itself, and the connection would be
/// the next transaction's.
#[test]
fn a_cancel_that_comes_late_hits_no_other_transaction() {
    let server = servers::Postgres::start();
    let proxy = Proxy::start(server.addr());
    let url = format!("postgres://bulkhead@{}/bulkhead", proxy.addr());
    let tree = sharing(&url, &[("slow", Duration::from_millis(300)), ("quick", PATIENCE)]);
    let _opens = tree.committed("quick", "query", statement("SELECT 'open'"));
    proxy.set(Fault::HoldNew);
    let ends_itself = statement("SELECT pg_sleep(0.7)::text");
    assert_eq!(tree.code("slow", "query", ends_itself), "E_DEADLINE");
    std::thread::scope(|scope| {
        let victim = statement("SELECT 'victim' FROM pg_sleep(4)");
        let victim = scope.spawn(|| tree.call("quick", "query", victim));
        // It runs by now, if it was given the connection. If it was not, it may wait for long.
        std::thread::sleep(Duration::from_millis(1_500));
        proxy.set(Fault::Pass);
        let answer = victim.join().unwrap();
        assert_eq!(answer.value(), Some(json!([2, "victim"])), "{answer:?}");
    });
}

#[test]
fn statements_that_end_at_their_deadline_end_no_statement_of_another_daemon() {
    let server = servers::Postgres::start();
    let deadline = Duration::from_millis(25);
    let tree = sharing(&server.url(), &[("slow", deadline), ("quick", PATIENCE)]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let mut ended = 0;
            while !over.load(Ordering::Relaxed) {
                let answer = tree.call("slow", "query", statement("SELECT pg_sleep(0.025)::text"));
                ended += u32::from(matches!(answer.outcome, Outcome::Crashed(_)));
            }
            ended
        });
        let quick = |_| {
            let answer = tree.call("quick", "query", statement("SELECT 'x' FROM pg_sleep(0.002)"));
            match answer.outcome {
                Outcome::Committed(_) => None,
                // On a machine that has too much to do for a server that is well.
                Outcome::Cancelled(stale) if stale.why.contains("did not check within") => None,
                Outcome::Rejected(no) if no.code == "E_UNAVAILABLE" => None,
                other => Some(other),
            }
        };
        let wrong = (1..=200).find_map(quick);
        over.store(true, Ordering::Relaxed);
        assert_eq!(wrong, None);
        let ended = slow.join().unwrap();
        assert!(ended > 10, "{ended} ended: too few to tell");
    });
}

async fn sql(line: &mut Box<dyn Line>, statement: &str) -> CallResult {
    let operation = Operation::Sql { statement: statement.to_owned(), values: Vec::new() };
    line.call(operation, Instant::now() + PATIENCE).await
}

/// What a session is asked, and answers otherwise when something is left in it.
async fn stand(line: &mut Box<dyn Line>, asked: &str) -> Vec<SqlValue> {
    match sql(line, &format!("SELECT {asked}")).await {
        Ok(Reply::Sql(SqlRows { values, .. })) => values,
        Err(CallError::Refused { code, .. }) => vec![SqlValue::Text(code)],
        other => panic!("{asked}: {other:?}"),
    }
}

/// What a transaction may do to its session, and a question that shows it.
const SESSION: [(&[&str], &str); 18] = [
    (&["SET TimeZone = 'Asia/Tokyo'"], "current_setting('TimeZone')"),
    (&["SET statement_timeout = 0"], "current_setting('statement_timeout')"),
    (&["SET search_path = pg_catalog"], "current_setting('search_path')"),
    (&["SET my.secret = 'x'"], "coalesce(current_setting('my.secret', true), '')"),
    (&["SET default_transaction_read_only = on"], "current_setting('transaction_read_only')"),
    (
        &["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
        "current_setting('transaction_isolation')",
    ),
    (&["SET ROLE other"], "current_user"),
    (&["SET SESSION AUTHORIZATION other"], "session_user"),
    (&["CREATE TEMP TABLE mine AS SELECT 1 AS k"], "k FROM mine"),
    (&["CREATE TEMP VIEW seen AS SELECT 1 AS k"], "k FROM seen"),
    (
        &["SELECT pg_advisory_lock(7)"],
        "count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    (
        &["BEGIN", "SELECT pg_advisory_xact_lock(8)"],
        "count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    (&["PREPARE ask AS SELECT 1"], "count(*) FROM pg_prepared_statements WHERE name = 'ask'"),
    (&["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT"], "count(*) FROM pg_cursors"),
    (&["LISTEN words"], "count(*) FROM pg_listening_channels()"),
    (&["SELECT nextval('numbers')"], "lastval()"),
    (&["BEGIN", "INSERT INTO t VALUES (1)"], "count(*) FROM t"),
    (&["BEGIN", "INSERT INTO t VALUES (1)", "SELECT 1/0"], "count(*) FROM t"),
];

/// With a call at its end that is over, and with one that is given up in the middle.
#[test]
fn nothing_of_a_session_of_postgresql_reaches_the_next_transaction() {
    run(async {
        let server = servers::Postgres::start();
        let postgres = Postgres::new(&server.url(), 1, BTreeMap::new()).unwrap();
        let (mut one, mut fresh) = (postgres.open().await.unwrap(), postgres.open().await.unwrap());
        for made in ["CREATE TABLE t (k int)", "CREATE ROLE other", "CREATE SEQUENCE numbers"] {
            sql(&mut fresh, made).await.unwrap();
        }
        let mut sleeping = 0;
        for given_up in [false, true] {
            for (statements, asked) in SESSION {
                // What a session is that nothing was done in.
                let expected = stand(&mut fresh, asked).await;
                for statement in statements {
                    let _refused_or_not = sql(&mut one, statement).await;
                }
                if given_up {
                    let sleep = sql(&mut one, "SELECT pg_sleep(50), 'an answer'");
                    // In a transaction that has failed, it fails at once.
                    sleeping += u32::from(timeout(SHORT, sleep).await.is_err());
                }
                if one.reset().await.is_err() {
                    // Closed instead: on a machine that has much to do.
                    one = postgres.open().await.unwrap();
                }
                assert_eq!(stand(&mut one, asked).await, expected, "{statements:?}");
                // What was answered is of this call.
                assert_eq!(stand(&mut one, "'mine'").await, [SqlValue::Text("mine".to_owned())]);
            }
        }
        assert!(sleeping > 10, "{sleeping} were given up in the middle");
    });
}

async fn ask(line: &mut Box<dyn Line>, words: &[&str]) -> CallResult {
    let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    line.call(Operation::Redis(words), Instant::now() + PATIENCE).await
}

/// How a connection of Redis is, as the server sees it, without what each command changes.
async fn client(line: &mut Box<dyn Line>) -> String {
    let Ok(Reply::Redis(info)) = ask(line, &["CLIENT", "INFO"]).await else { panic!() };
    let [RedisValue::Bytes(info)] = &info[..] else { panic!("{info:?}") };
    let info = String::from_utf8(info.clone()).unwrap();
    let kept =
        ["id", "name", "flags", "db", "sub", "psub", "ssub", "multi", "user", "redir", "resp"];
    let fields = info
        .split_whitespace()
        .filter(|field| field.split_once('=').is_some_and(|(name, _)| kept.contains(&name)));
    fields.collect::<Vec<_>>().join(" ")
}

fn texts(answer: CallResult) -> Vec<String> {
    let Ok(Reply::Redis(values)) = answer else { panic!("{answer:?}") };
    let texts = values.into_iter().filter_map(|value| match value {
        RedisValue::Bytes(text) => String::from_utf8(text).ok(),
        _ => None,
    });
    texts.collect()
}

/// All commands of the server that is there, also those that this host has never heard of: what is
/// not denied leaves the connection as it was, by itself and in a script.
#[test]
fn no_command_that_is_let_through_changes_a_connection_of_redis() {
    let server = servers::Redis::start();
    run(async {
        let redis = Redis::new(&server.url(), None, 1, Jobs::new()).unwrap();
        let line = &mut redis.open().await.unwrap();
        let mut names = texts(ask(line, &["COMMAND", "LIST"]).await);
        let all = texts(ask(line, &["COMMAND"]).await);
        names.extend(all.into_iter().filter(|text| text.contains('|')));
        // Of newer servers.
        names.extend(["client|no-touch", "client|setinfo"].map(str::to_owned));
        assert!(names.len() > 300, "{}", names.len());
        let before = client(line).await;
        let (mut sent, mut denied) = (0, 0);
        for name in &names {
            let words: Vec<&str> = name.split('|').collect();
            for arguments in
                [&[][..], &["1"], &["a", "1"], &["on"], &["off", "no"], &["0", "1", "a"]]
            {
                let words = [&words, arguments].concat();
                let call = timeout(PATIENCE, ask(line, &words)).await;
                match call.unwrap_or_else(|_| panic!("{words:?} is not answered")) {
                    Err(CallError::Denied(_)) => denied += 1,
                    Err(CallError::Died | CallError::NotSent(_)) => panic!("{words:?} ended it"),
                    _ => sent += 1,
                }
                let script = "return redis.pcall(unpack(ARGV))";
                let eval = [&["EVAL", script, "0"], &words[..]].concat();
                let answer = ask(line, &eval).await;
                let ended = matches!(answer, Err(CallError::Died | CallError::NotSent(_)));
                assert!(!ended, "{words:?} in a script");
                assert_eq!(client(line).await, before, "{words:?}");
            }
        }
        assert!(sent > 500 && denied > 100, "{sent} sent, {denied} denied");
        // A key that a script has looked at, or a transaction was about to, is not watched.
        assert!(matches!(ask(line, &["WATCH", "a"]).await, Err(CallError::Denied(_))));
    });
}
