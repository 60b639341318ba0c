//! Servers that are there and can't do what they are for: at the moment, on this connection, for
//! this host. What is asked of them meanwhile is not lost, and nobody is restarted for a
//! connection.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use host::mechanisms::providers::postgres::Postgres;
use host::mechanisms::providers::redis::{Jobs, Redis};
use host::mechanisms::providers::{EffectCounts, Line, NoConnection, Provider};
use host::pure::request::Answer;
use host::pure::resource::operation::{CallError, CallResult, Operation};
use host::pure::resource::refusal::Refusal;
use host::pure::resource::{Policy, Status};
use host::tree::{DaemonPlan, DaemonState, ResourcePlan, ResourceView};
use serde_json::json;
use servers::{PgBouncer, Postgres as Database, Proxy};
use supervisor::Backoff;
use tests::{Tree, deployed, plan, until};
use tokio::time::Instant;

const STORE: &str = "bank/store";

/// Longest time that anything may take which has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time in which what must not happen would have.
const WHILE: Duration = Duration::from_millis(700);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

fn redis(url: &str) -> Redis {
    Redis::new(url, None, 1, Jobs::new()).unwrap()
}

fn postgres(url: &str, connections: u32) -> Postgres {
    Postgres::new(url, connections, BTreeMap::new()).unwrap()
}

/// Daemons that use it, and `needs`, which can't do without it.
fn tree(provider: impl Provider + 'static, daemons: &[&str]) -> Tree {
    let plans = daemons.iter().map(|&name| {
        let plan = plan(name, &deployed("caller"), |options| options.limits.deadline = PATIENCE);
        let (needs, uses) = match name {
            "needs" => (vec![STORE.to_owned()], Vec::new()),
            _ => (Vec::new(), vec![STORE.to_owned()]),
        };
        DaemonPlan { needs, uses, ..plan }
    });
    let millisecond = Duration::from_millis(1);
    let backoff = Backoff::new(millisecond, 2, 20 * millisecond, 0).unwrap();
    let store = ResourcePlan {
        name: STORE.to_owned(),
        provider: Arc::new(provider),
        jobs: Vec::new(),
        policy: Policy::new(backoff, millisecond),
    };
    Tree::with_resources(plans.collect(), vec![store], None)
}

fn store(tree: &Tree) -> ResourceView {
    tree.root.resources().into_iter().find(|view| view.name == STORE).unwrap()
}

fn why_down(tree: &Tree) -> Option<String> {
    match store(tree).status {
        Status::Down { why, .. } => Some(why),
        _ => None,
    }
}

fn code(answer: &Answer) -> String {
    answer.to_json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn done(done: u64) -> EffectCounts {
    EffectCounts { done, ..EffectCounts::default() }
}

/// Stages a command, or a statement with a number, and waits until it was committed.
fn stage(tree: &Tree, text: &str, number: u32) {
    let (contract, args) = match text.starts_with("INSERT") {
        true => ("stage_sql", json!({"name": "store", "statement": text, "number": number})),
        false => {
            let words: Vec<&str> = text.split(' ').collect();
            ("stage", json!({"name": "store", "words": words, "repeatable": false}))
        }
    };
    until("committed", || {
        let answer = tree.call("uses", contract, args.clone());
        // While nobody knows whether it was a death, it may be refused.
        assert!(["", "E_HANDLE_STALE"].contains(&code(&answer).as_str()), "{answer:?}");
        answer.outcome.word() == "committed"
    });
}

/// Breaks something, under which effects are staged and nothing becomes of them; mends it, and all
/// are carried out, once and in order.
fn effects_outlast(tree: &Tree, text: &str, break_it: impl FnOnce(), mend_it: impl FnOnce()) {
    let before = store(tree).effects;
    break_it();
    (0..3).for_each(|number| stage(tree, text, number));
    std::thread::sleep(WHILE);
    assert_eq!(store(tree).effects, EffectCounts { waiting: 3, ..before });
    mend_it();
    until("carried out", || store(tree).effects.waiting == 0);
    assert_eq!(store(tree).effects, EffectCounts { done: before.done + 3, ..before });
}

#[test]
fn a_demoted_master_is_not_available_and_another_one_behind_its_name_is() {
    let (old, new) = (servers::Redis::start(), servers::Redis::start());
    assert_eq!(new.ask(&format!("REPLICAOF 127.0.0.1 {}", old.port())), "+OK\r\n");
    until("it follows", || new.ask("INFO replication").contains("master_link_status:up"));
    let proxy = Proxy::start(old.addr());
    let tree = tree(redis(&format!("redis://{}", proxy.addr())), &["needs", "uses"]);
    let incr = || tree.call("needs", "ask", json!({"name": "store", "words": ["SET", "a", "1"]}));
    assert_eq!(incr().outcome.word(), "committed");
    let demote = || {
        assert_eq!(new.ask("REPLICAOF NO ONE"), "+OK\r\n");
        assert_eq!(old.ask(&format!("REPLICAOF 127.0.0.1 {}", new.port())), "+OK\r\n");
    };
    effects_outlast(&tree, "RPUSH list x", demote, || {
        let why = why_down(&tree).unwrap();
        assert!(why.contains("its role is `slave`") || why.contains("READONLY"), "{why}");
        assert_eq!(code(&incr()), "E_UNAVAILABLE");
        proxy.lead_to(new.addr());
    });
    until("it is ready", || tree.view("needs").report.state == DaemonState::Ready);
    assert_eq!(incr().outcome.word(), "committed");
    assert_eq!(new.ask("LLEN list"), ":3\r\n");
}

#[test]
fn a_replica_will_do_for_who_only_reads() {
    let (master, replica) = (servers::Redis::start(), servers::Redis::start());
    assert_eq!(replica.ask(&format!("REPLICAOF 127.0.0.1 {}", master.port())), "+OK\r\n");
    let database = Database::start();
    let standby = format!("{}?options=-c%20default_transaction_read_only%3Don", database.url());
    run(async {
        for writes in [true, false] {
            let redis = redis(&replica.url());
            let redis = if writes { redis } else { redis.to_read() };
            let postgres = postgres(&standby, 1);
            let postgres = if writes { postgres } else { postgres.to_read() };
            for refused in [redis.connect().await.err(), postgres.connect().await.err()] {
                assert_eq!(refused.is_some(), writes, "{refused:?}");
            }
        }
    });
}

#[test]
fn a_redis_that_has_too_few_replicas_or_cannot_save_is_not_available() {
    let server = servers::Redis::start();
    let tree = tree(redis(&server.url()), &["uses"]);
    let set = |line: &str| assert_eq!(server.ask(line), "+OK\r\n");
    stage(&tree, "RPUSH list x", 0);
    until("done", || store(&tree).effects == done(1));
    effects_outlast(
        &tree,
        "RPUSH list x",
        || set("CONFIG SET min-replicas-to-write 3"),
        || {
            assert!(why_down(&tree).unwrap().contains("NOREPLICAS"));
            set("CONFIG SET min-replicas-to-write 0");
        },
    );
    set("CONFIG SET save \"3600 1\"");
    let in_the_way = server.home().join("dump.rdb");
    let fails = || {
        std::fs::create_dir_all(in_the_way.join("x")).unwrap();
        assert!(server.ask("BGSAVE").starts_with("+Background saving started"));
        until("it failed", || server.ask("INFO").contains("rdb_last_bgsave_status:err"));
    };
    effects_outlast(&tree, "RPUSH list x", fails, || {
        assert!(why_down(&tree).unwrap().contains("MISCONF"));
        std::fs::remove_dir_all(&in_the_way).unwrap();
        let _started = server.ask("BGSAVE");
    });
    // Who has too little memory serves those that read and those that make room.
    let full = || set("CONFIG SET maxmemory 1");
    effects_outlast(&tree, "RPUSH list x", full, || {
        assert_eq!(store(&tree).status, Status::Available);
        set("CONFIG SET maxmemory 0");
    });
    assert_eq!(server.ask("LLEN list"), ":10\r\n");
}

#[test]
fn what_comes_behind_a_refusal_for_now_is_sent_as_soon_as_the_server_is_found_to_be_fit() {
    let server = servers::Redis::start();
    let tree = tree(redis(&server.url()), &["uses"]);
    let set = || tree.call("uses", "ask", json!({"name": "store", "words": ["SET", "a", "1"]}));
    assert_eq!(server.ask("CONFIG SET maxmemory 1"), "+OK\r\n");
    let codes: Vec<String> = (0..20).map(|_| code(&set())).collect();
    assert!(codes.iter().all(|code| code == "call_refused"), "{codes:?}");
    assert_eq!(server.ask("CONFIG SET maxmemory 0"), "+OK\r\n");
    assert_eq!(set().outcome.word(), "committed");
}

/// What a person's statement answers.
fn psql(database: &Database, statement: &str) -> String {
    let mut psql = std::process::Command::new("psql");
    let ran = psql.args([database.url().as_str(), "-XAtc", statement]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_postgresql_that_takes_no_changes_is_not_available() {
    let database = Database::start();
    psql(&database, "CREATE TABLE t (k bigint)");
    let tree = tree(postgres(&database.url(), 2), &["needs", "uses"]);
    let insert = "INSERT INTO t VALUES ($1)";
    let query = || {
        let args = json!({"name": "store", "statement": "INSERT INTO t VALUES (7) RETURNING 'x'"});
        tree.call("needs", "query", args)
    };
    assert_eq!(query().outcome.word(), "committed");
    let read_only = |on: &str| {
        psql(&database, &format!("ALTER SYSTEM SET default_transaction_read_only = {on}"));
        psql(&database, "SELECT pg_reload_conf()");
    };
    effects_outlast(
        &tree,
        insert,
        || read_only("on"),
        || {
            assert!(why_down(&tree).unwrap().contains("`transaction_read_only` is on"));
            assert_eq!(code(&query()), "E_UNAVAILABLE");
            read_only("off");
        },
    );
    until("it is ready", || tree.view("needs").report.state == DaemonState::Ready);
    assert_eq!(query().outcome.word(), "committed");
    assert_eq!(psql(&database, "SELECT count(*) FROM t"), "5");
}

/// A guest may let its own session say what a server that is unfit would. That is looked into, and
/// harms nobody.
#[test]
fn a_refusal_that_a_guest_makes_up_ends_nothing_but_its_connection() {
    let database = Database::start();
    let tree = tree(postgres(&database.url(), 1), &["needs", "uses"]);
    let query = |daemon: &str, statement: &str| {
        tree.call(daemon, "query", json!({"name": "store", "statement": statement}))
    };
    let made_up = "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '25006'; END $$";
    for number in 1..=5 {
        assert_eq!(code(&query("uses", made_up)), "call_refused");
        let answer = query("needs", "SELECT 'x'");
        assert_eq!(answer.value(), Some(json!([number, "x"])), "{answer:?}");
    }
    let generations = ["needs", "uses"].map(|name| tree.view(name).report.generation);
    assert_eq!((generations, store(&tree).generation.0), ([1, 1], 1));
    let backends = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bulkhead'";
    until("no more than two", || psql(&database, backends).parse::<u32>().unwrap() <= 2);
}

#[test]
fn an_effect_whose_session_is_ended_before_it_was_done_is_sent_again() {
    let database = Database::start();
    psql(&database, "CREATE TABLE t (k bigint)");
    let tree = tree(postgres(&database.url(), 2), &["uses"]);
    stage(&tree, "INSERT INTO t VALUES ($1)", 0);
    until("done", || store(&tree).effects == done(1));
    run(async {
        let holder = &mut postgres(&database.url(), 1).open().await.unwrap();
        for round in 1..=3_u64 {
            for statement in ["BEGIN", "LOCK TABLE t IN ACCESS EXCLUSIVE MODE"] {
                sql(holder, statement).await.unwrap();
            }
            stage(&tree, "INSERT INTO t VALUES ($1)", 1);
            let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                         WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'";
            until("it waits and is ended", || psql(&database, ended) == "1");
            sql(holder, "ROLLBACK").await.unwrap();
            until("sent again", || store(&tree).effects.waiting == 0);
            assert_eq!(store(&tree).effects, done(1 + round));
        }
    });
    assert_eq!(psql(&database, "SELECT count(*) FROM t"), "4");
}

#[test]
fn one_connection_too_many_waits_and_restarts_nobody() {
    let database = Database::start();
    psql(&database, "CREATE ROLE app LOGIN CONNECTION LIMIT 3; CREATE TABLE t (k bigint)");
    psql(&database, "GRANT ALL ON t TO app");
    let url = database.url().replace("bulkhead@", "app@");
    run(async {
        // A person holds one, and the keeper another.
        let person = &mut postgres(&url, 1).open().await.unwrap();
        sql(person, "SELECT 1").await.unwrap();
        let tree = tree(postgres(&url, 4), &["needs", "uses"]);
        until("available", || store(&tree).status == Status::Available);
        let query = |daemon: &str, statement: &str| {
            tree.call(daemon, "query", json!({"name": "store", "statement": statement}))
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| query("needs", "SELECT 'one' FROM pg_sleep(1.5)"));
            until("it has a connection", || {
                store(&tree).leases.iter().any(|lease| lease.connection.is_some())
            });
            // One live, and an effect.
            let second = query("uses", "SELECT 'two'");
            assert_eq!(second.value(), Some(json!([1, "two"])), "{second:?}");
            assert_eq!(first.join().unwrap().value(), Some(json!([1, "one"])));
        });
        stage(&tree, "INSERT INTO t VALUES ($1)", 5);
        std::thread::sleep(WHILE);
        let generations = ["needs", "uses"].map(|name| tree.view(name).report.generation);
        assert_eq!((generations, store(&tree).generation.0), ([1, 1], 1));
        // What waits for a connection of its own gets one when there is room.
        psql(&database, "ALTER ROLE app CONNECTION LIMIT 4");
        until("carried out", || store(&tree).effects == done(1));
        assert_eq!((store(&tree).generation.0, store(&tree).flaps), (1, 0));
    });
}

#[test]
fn who_gets_no_connection_in_time_is_told_why() {
    let database = Database::start();
    psql(&database, "CREATE ROLE app LOGIN CONNECTION LIMIT 2");
    let url = database.url().replace("bulkhead@", "app@");
    run(async {
        let tree = tree(postgres(&url, 4), &["needs", "uses"]);
        until("available", || store(&tree).status == Status::Available);
        let _person = postgres(&url, 1).open().await.unwrap();
        let answer =
            tree.call("needs", "query", json!({"name": "store", "statement": "SELECT 'x'"}));
        assert_eq!(code(&answer), "resource_unavailable");
        assert!(answer.to_json().to_string().contains("too many connections"), "{answer:?}");
        assert_eq!(tree.view("needs").report.generation, 1);
    });
}

#[test]
fn a_redis_that_takes_no_more_clients_is_there() {
    let server = servers::Redis::start();
    let tree = tree(redis(&server.url()), &["needs"]);
    until("available", || store(&tree).status == Status::Available);
    let mut person = TcpStream::connect(server.addr()).unwrap();
    let mut set = |line: &str| {
        person.write_all(format!("CONFIG SET {line}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 5];
        person.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+OK\r\n");
    };
    set("maxclients 1");
    std::thread::scope(|scope| {
        let asks = json!({"name": "store", "words": ["ECHO", "x"]});
        let asks = scope.spawn(|| tree.call("needs", "ask", asks));
        std::thread::sleep(WHILE);
        assert!(!asks.is_finished(), "it waits");
        assert_eq!((store(&tree).status, store(&tree).generation.0), (Status::Available, 1));
        set("maxclients 100");
        assert_eq!(asks.join().unwrap().value(), Some(json!([1, "x"])));
    });
    assert_eq!((store(&tree).generation.0, tree.view("needs").report.generation), (1, 1));
}

async fn sql(line: &mut Box<dyn Line>, statement: &str) -> CallResult {
    let operation = Operation::Sql { statement: statement.to_owned(), values: Vec::new() };
    line.call(operation, Instant::now() + PATIENCE).await
}

async fn ask(line: &mut Box<dyn Line>, text: &str) -> CallResult {
    let words = text.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    line.call(Operation::Redis(words), Instant::now() + PATIENCE).await
}

fn refused(answer: CallResult) -> (String, Refusal) {
    let Err(CallError::Refused { code, .. }) = answer else { panic!("{answer:?}") };
    let meaning = Refusal::of(&code);
    (code, meaning)
}

fn is(code: &str, meaning: Refusal) -> (String, Refusal) {
    (code.to_owned(), meaning)
}

#[test]
fn each_refusal_of_redis_for_a_moment_is_known_as_one() {
    let server = servers::Redis::start();
    let set = |line: &str| assert_eq!(server.ask(line), "+OK\r\n", "{line}");
    run(async {
        let line = &mut redis(&server.url()).open().await.unwrap();
        set("CONFIG SET maxmemory 1");
        assert_eq!(refused(ask(line, "SET a 1").await), is("OOM", Refusal::Unfit));
        set("CONFIG SET maxmemory 0");
        set("CONFIG SET min-replicas-to-write 3");
        assert_eq!(refused(ask(line, "SET a 1").await), is("NOREPLICAS", Refusal::Unfit));
        set("CONFIG SET min-replicas-to-write 0");
        set("CONFIG SET busy-reply-threshold 1");
        let other = &mut redis(&server.url()).open().await.unwrap();
        let spins = other.call(
            Operation::RedisScript {
                script: "while true do end".to_owned(),
                keys: Vec::new(),
                arguments: Vec::new(),
            },
            Instant::now() + PATIENCE,
        );
        let spins = tokio::spawn(spins);
        let busy = loop {
            let answer = ask(line, "SET a 1").await;
            if answer.is_err() {
                break answer;
            }
        };
        assert_eq!(refused(busy), is("BUSY", Refusal::Moment));
        set("SCRIPT KILL");
        assert!(spins.await.unwrap().is_err());
        // Nobody is there.
        set("CONFIG SET replica-serve-stale-data no");
        set("REPLICAOF 127.0.0.1 1");
        assert_eq!(refused(ask(line, "SET a 1").await), is("READONLY", Refusal::Unfit));
        assert_eq!(refused(ask(line, "GET a").await), is("MASTERDOWN", Refusal::Unfit));
    });
}

#[test]
fn each_refusal_of_a_cluster_for_a_moment_is_known_as_one() {
    let nodes = [(); 2].map(|()| servers::Redis::with(&["--cluster-enabled", "yes"]));
    let [one, other] = &nodes;
    run(async {
        let line = &mut redis(&one.url()).to_read().open().await.unwrap();
        assert_eq!(refused(ask(line, "SET a 1").await), is("CLUSTERDOWN", Refusal::Unfit));
        assert_eq!(one.ask("CLUSTER ADDSLOTSRANGE 0 16383"), "+OK\r\n");
        assert_eq!(one.ask(&format!("CLUSTER MEET 127.0.0.1 {}", other.port())), "+OK\r\n");
        let id = other.ask("CLUSTER MYID");
        let id = id.split("\r\n").nth(1).unwrap();
        until("they know each other", || one.ask("CLUSTER NODES").contains(id));
        until("it works", || one.ask("CLUSTER INFO").contains("cluster_state:ok"));
        // Of `{a}`.
        let slot = one.ask("CLUSTER KEYSLOT a");
        let slot = slot.trim().trim_start_matches(':');
        ask(line, "SET {a}here 1").await.unwrap();
        until("the handshake is over", || {
            one.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {id}")) == "+OK\r\n"
        });
        assert_eq!(refused(ask(line, "SET {a}gone 1").await), is("ASK", Refusal::Unfit));
        let both = ask(line, "MGET {a}here {a}gone").await;
        assert_eq!(refused(both), is("TRYAGAIN", Refusal::Moment));
        ask(line, "DEL {a}here").await.unwrap();
        assert_eq!(one.ask(&format!("CLUSTER SETSLOT {slot} NODE {id}")), "+OK\r\n");
        assert_eq!(refused(ask(line, "SET {a}gone 1").await), is("MOVED", Refusal::Unfit));
        // A node without this host's own key is none that can't do what it is for.
        redis(&one.url()).connect().await.unwrap();
    });
}

#[test]
fn each_refusal_of_postgresql_for_a_moment_is_known_as_one() {
    let database = Database::start();
    psql(&database, "CREATE TABLE t (k int PRIMARY KEY, n int)");
    psql(&database, "INSERT INTO t VALUES (1, 0), (2, 0)");
    run(async {
        let server = postgres(&database.url(), 1);
        let (mut one, mut other) = (server.open().await.unwrap(), server.open().await.unwrap());
        let (one, other) = (&mut one, &mut other);
        let (add, take) =
            ("UPDATE t SET n = n + 1 WHERE k = 1", "UPDATE t SET n = n + 1 WHERE k = 2");
        for statement in ["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT n FROM t"] {
            sql(one, statement).await.unwrap();
        }
        sql(other, add).await.unwrap();
        assert_eq!(refused(sql(one, add).await), is("40001", Refusal::Moment));
        sql(one, "ROLLBACK").await.unwrap();
        for (line, statement) in [(&mut *one, add), (&mut *other, take)] {
            sql(line, "BEGIN").await.unwrap();
            sql(line, statement).await.unwrap();
        }
        let now = sql(one, "SELECT k FROM t WHERE k = 2 FOR UPDATE NOWAIT").await;
        assert_eq!(refused(now), is("55P03", Refusal::Moment));
        for line in [&mut *one, &mut *other] {
            sql(line, "ROLLBACK").await.unwrap();
        }
        for (line, statement) in [(&mut *one, add), (&mut *other, take)] {
            sql(line, "BEGIN").await.unwrap();
            sql(line, statement).await.unwrap();
        }
        let (first, second) = tokio::join!(sql(one, take), sql(other, add));
        let dead = if first.is_err() { first } else { second };
        assert_eq!(refused(dead), is("40P01", Refusal::Moment));
        for line in [&mut *one, &mut *other] {
            sql(line, "ROLLBACK").await.unwrap();
        }
        let many = "SELECT count(pg_advisory_lock(n)) FROM generate_series(1, 100000) n";
        assert_eq!(refused(sql(one, many).await), is("53200", Refusal::Unfit));
        one.reset().await.unwrap();
        sql(one, "SET temp_file_limit = 64").await.unwrap();
        sql(one, "SET work_mem = 64").await.unwrap();
        let large = "SELECT count(*) FROM (SELECT n FROM generate_series(1, 200000) n \
                     ORDER BY n::text) sorted";
        assert_eq!(refused(sql(one, large).await), is("53400", Refusal::Unfit));
        sql(one, "SET default_transaction_read_only = on").await.unwrap();
        assert_eq!(refused(sql(one, add).await), is("25006", Refusal::Unfit));
        // What ends the session, and what lets nobody in.
        let sleeps = one.call(
            Operation::Sql { statement: "SELECT pg_sleep(60)".to_owned(), values: Vec::new() },
            Instant::now() + PATIENCE,
        );
        let sleeps = tokio::spawn(sleeps);
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE wait_event = 'PgSleep'";
        tokio::task::yield_now().await;
        while psql(&database, end) != "1" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ended = sleeps.await.unwrap();
        let Err(CallError::NotSent(why)) = &ended else { panic!("{ended:?}") };
        assert!(why.contains("57P01"), "{why}");
        psql(&database, "CREATE ROLE app LOGIN CONNECTION LIMIT 0");
        let full = postgres(&database.url().replace("bulkhead@", "app@"), 1).open().await;
        let Some(NoConnection::Full(why)) = full.err() else { panic!() };
        assert!(why.contains("53300"), "{why}");
    });
}

/// As people have it who read that it makes connections cheap.
#[test]
fn a_pooler_in_transaction_mode_is_refused_with_words() {
    let database = Database::start();
    let refusal = |lines: &[&str], role: &str| {
        let pooler = PgBouncer::start(&database, lines);
        let postgres = postgres(&pooler.url().replace("bulkhead@", role), 2);
        let mut said = None;
        run(async { said = postgres.connect().await.err() });
        said.map(|none| none.to_string())
    };
    let ignores = "ignore_startup_parameters = options";
    for mode in ["transaction", "statement"] {
        let mode = format!("pool_mode = {mode}");
        let said = refusal(&[&mode, ignores], "bulkhead@").unwrap();
        assert!(said.contains("was asked for: a pooler that ignores `options`"), "{said}");
    }
    // One that was told to have these settings for all.
    psql(&database, "ALTER ROLE bulkhead SET statement_timeout = '10s'");
    psql(&database, "ALTER ROLE bulkhead SET TimeZone = 'UTC'");
    for size in [1, 2, 10] {
        let size = format!("default_pool_size = {size}");
        for order in ["server_round_robin = 0", "server_round_robin = 1"] {
            let said = refusal(&["pool_mode = transaction", ignores, &size, order], "bulkhead@");
            let said = said.unwrap_or_else(|| panic!("{size}, {order}"));
            assert!(said.contains("one backend after the other"), "{said}");
        }
    }
    // A backend for each session is what was asked for.
    assert_eq!(refusal(&["pool_mode = session", ignores], "bulkhead@"), None);
    // And one that takes nobody more is there.
    let lines = ["pool_mode = session", ignores, "max_client_conn = 4"];
    let pooler = PgBouncer::start(&database, &lines);
    run(async {
        let postgres = postgres(&pooler.url(), 9);
        let (mut open, mut refused) = (Vec::new(), None);
        while refused.is_none() {
            match postgres.open().await {
                Ok(line) => open.push(line),
                Err(none) => refused = Some(none),
            }
        }
        assert!(matches!(refused, Some(NoConnection::Full(_))), "{refused:?}");
        assert!((2..=4).contains(&open.len()), "{}", open.len());
    });
}
