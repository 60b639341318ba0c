//! Redis as a resource: what calls answer, and what becomes of connections that break.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::base::clock::{Clock, SystemClock};
use host::base::entropy::SeededEntropy;
use host::base::ids::{ConnectionId, LeaseId};
use host::base::limits::{CALL_BYTES_MAX, CHECK_TIME_MAX, LATE_CALLS_MAX, REPLY_BYTES_MAX};
use host::mechanisms::providers::redis::{Jobs, Redis};
use host::mechanisms::providers::{
    Keeping, Line, Observer, Pending, Provider, Providers, Shown, Switch, calls,
};
use host::pure::resource::operation::{CallError, CallResult, Operation, RedisValue, Reply};
use host::pure::resource::words::{Word, words};
use host::pure::resource::{Change, Machine, Policy, Status};
use servers::{Fault, Proxy};
use supervisor::Backoff;
use tests::{Holdings, in_own_process, until};
use tokio::time::{Instant, timeout};

/// Longest time that anything may take which has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A delay of a network that a call must not wait for, and a call that doesn't.
const SLOW: Duration = Duration::from_millis(400);
const HURRY: Duration = Duration::from_millis(50);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(2 * PATIENCE, test).await.unwrap() });
}

fn at(url: &str) -> Redis {
    Redis::new(url, None, 1, Jobs::new()).unwrap()
}

fn behind(proxy: &Proxy) -> Redis {
    at(&format!("redis://{}", proxy.addr()))
}

async fn open(redis: &Redis) -> Box<dyn Line> {
    redis.open().await.unwrap()
}

fn command(line: &str) -> Operation {
    Operation::Redis(line.split(' ').map(|word| word.as_bytes().to_vec()).collect())
}

fn script(script: &str, keys: &[&str], arguments: &[&str]) -> Operation {
    let bytes = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect();
    Operation::RedisScript {
        script: script.to_owned(),
        keys: bytes(keys),
        arguments: bytes(arguments),
    }
}

fn start(line: &mut Box<dyn Line>, operation: Operation) -> Pending<'static, CallResult> {
    line.call(operation, Instant::now() + PATIENCE)
}

async fn call(line: &mut Box<dyn Line>, text: &str) -> CallResult {
    start(line, command(text)).await
}

async fn hurried(line: &mut Box<dyn Line>, text: &str, time: Duration) -> CallResult {
    line.call(command(text), Instant::now() + time).await
}

#[expect(clippy::unnecessary_wraps, reason = "what calls answer")]
fn values(values: &[RedisValue]) -> CallResult {
    Ok(Reply::Redis(values.to_vec()))
}

fn bytes(text: &str) -> RedisValue {
    RedisValue::Bytes(text.as_bytes().to_vec())
}

fn status(text: &str) -> RedisValue {
    RedisValue::Status(text.to_owned())
}

async fn died(line: &mut Box<dyn Line>) -> String {
    timeout(PATIENCE, line.died()).await.unwrap()
}

#[test]
fn commands_are_answered_with_what_the_server_says() {
    let server = servers::Redis::start();
    run(async {
        let line = &mut open(&at(&server.url())).await;
        use RedisValue::{Int, Items, Nil};
        assert_eq!(call(line, "SET a 5").await, values(&[status("OK")]));
        assert_eq!(call(line, "GET a").await, values(&[bytes("5")]));
        assert_eq!(call(line, "incr a").await, values(&[Int(6)]));
        assert_eq!(call(line, "GET missing").await, values(&[Nil]));
        assert_eq!(call(line, "RPUSH l x y").await, values(&[Int(2)]));
        let list = [Items(2), bytes("x"), bytes("y")];
        assert_eq!(call(line, "LRANGE l 0 -1").await, values(&list));
        assert_eq!(call(line, "LRANGE none 0 -1").await, values(&[Items(0)]));
        let nested = "return {1, {2, 'a', {}}, false, redis.status_reply('ok'), \
            redis.error_reply('NO way')}";
        let flat = [Items(5), Int(1), Items(3), Int(2), bytes("a"), Items(0), Nil, status("ok")];
        let flat = [&flat[..], &[status("NO way")]].concat();
        assert_eq!(start(line, script(nested, &[], &[])).await, values(&flat));
        let binary = vec![b"SET".to_vec(), vec![0, 255, 13, 10], vec![7; 1 << 20]];
        let binary_get = vec![b"GET".to_vec(), vec![0, 255, 13, 10]];
        assert_eq!(start(line, Operation::Redis(binary)).await, values(&[status("OK")]));
        let answer = start(line, Operation::Redis(binary_get)).await;
        assert_eq!(answer, values(&[RedisValue::Bytes(vec![7; 1 << 20])]));
    });
}

#[test]
fn s0_09_calls_of_many_share_a_connection_and_each_gets_its_own_answer() {
    let server = servers::Redis::start();
    run(async {
        let line = &mut open(&at(&server.url())).await;
        let calls: Vec<_> = (0..500)
            .map(|number| start(line, script("return ARGV[1]", &[], &[&number.to_string()])))
            .map(tokio::spawn)
            .collect();
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), values(&[bytes(&number.to_string())]));
        }
        // That one, and the one that is asked.
        assert!(server.ask("INFO clients").contains("connected_clients:2\r\n"));
    });
}

#[test]
fn a_script_is_sent_by_its_hash_and_whole_when_the_server_does_not_know_it() {
    let server = servers::Redis::start();
    run(async {
        let line = &mut open(&at(&server.url())).await;
        let add = || script("return KEYS[1] .. ARGV[1]", &["k"], &["5"]);
        let sent = || {
            let stats = server.ask("INFO commandstats");
            ["eval", "evalsha"].map(|command| {
                let calls = stats.split_once(&format!("cmdstat_{command}:calls="));
                let calls = calls.map_or("0", |(_, rest)| rest.split(',').next().unwrap());
                calls.parse::<u32>().unwrap()
            })
        };
        for expected in [[1, 1], [1, 2], [1, 3]] {
            assert_eq!(start(line, add()).await, values(&[bytes("k5")]));
            assert_eq!(sent(), expected);
        }
        assert_eq!(server.ask("SCRIPT FLUSH"), "+OK\r\n");
        assert_eq!(start(line, add()).await, values(&[bytes("k5")]));
        assert_eq!(sent(), [2, 4]);
    });
}

#[test]
fn what_would_harm_others_is_denied_and_what_the_server_denies_is_said() {
    let server = servers::Redis::start();
    run(async {
        let line = &mut open(&at(&server.url())).await;
        for (text, expected) in [
            ("blpop a 0", "BLPOP: it waits"),
            ("XREAD BLOCK 0 STREAMS s 0", "XREAD BLOCK: it waits"),
            ("SELECT 1", "SELECT: it changes"),
            ("CLIENT KILL x", "CLIENT KILL: it changes"),
            ("SHUTDOWN", "SHUTDOWN: it is for"),
        ] {
            let Err(CallError::Denied(why)) = call(line, text).await else { panic!("{text}") };
            assert!(why.starts_with(expected), "{text}: {why}");
        }
        assert!(matches!(
            start(line, Operation::Redis(Vec::new())).await,
            Err(CallError::Denied(_))
        ));
        assert_eq!(call(line, "SET a 5").await, values(&[status("OK")]));
        for (operation, expected, message) in [
            (command("LPUSH a 5"), "WRONGTYPE", "Operation against"),
            (command("NOSUCH 5"), "ERR", "unknown command"),
            (script("return redis.error_reply('MY reason')", &[], &[]), "MY", "reason"),
            (script("syntax", &[], &[]), "ERR", "Error compiling script"),
        ] {
            let refused = start(line, operation).await;
            let Err(CallError::Refused { code, message: said }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(code, expected);
            assert!(said.contains(message), "{said}");
        }
        let append = Operation::Append { path: "a".to_owned(), bytes: Vec::new() };
        assert_eq!(start(line, append).await, Err(CallError::WrongKind));
        assert_eq!(call(line, "GET a").await, values(&[bytes("5")]));
    });
}

const TOO_LARGE: CallResult = Err(CallError::TooLarge(CALL_BYTES_MAX as u64));

#[test]
fn c5_what_is_too_large_is_refused_and_the_next_call_has_its_own_answer() {
    let server = servers::Redis::start();
    run(async {
        let line = &mut open(&at(&server.url())).await;
        let large = vec![b"SET".to_vec(), b"a".to_vec(), vec![0; CALL_BYTES_MAX]];
        assert_eq!(start(line, Operation::Redis(large)).await, TOO_LARGE);
        let many = vec![b"DEL".to_vec(); 100_001];
        assert_eq!(start(line, Operation::Redis(many)).await, TOO_LARGE);
        for command in [&format!("SETRANGE a {CALL_BYTES_MAX} x"), "SETRANGE b 8388607 x"] {
            assert!(call(line, command).await.is_ok());
        }
        assert_eq!(call(line, "GET a").await, TOO_LARGE);
        assert!(call(line, "GET b").await.is_ok());
        let list = |count: u32| {
            let fill = "local t = {} for i = 1, ARGV[1] do t[i] = i end return t";
            script(fill, &[], &[&count.to_string()])
        };
        assert!(start(line, list(99_999)).await.is_ok());
        assert_eq!(start(line, list(100_000)).await, TOO_LARGE);
        assert_eq!(call(line, "PING").await, values(&[status("PONG")]));

        // However large it is: who asked is told so, others have what they asked for.
        assert!(call(line, &format!("SETRANGE a {REPLY_BYTES_MAX} x")).await.is_ok());
        let deep = "local t = {} for i = 1, 70 do t = {t} end return t";
        let inside = "return {1, redis.call('GET', KEYS[1]), {2, redis.call('GET', KEYS[1])}, 3}";
        let huge =
            [list(200_001), command("GET a"), script(deep, &[], &[]), script(inside, &["a"], &[])];
        for huge in huge {
            let huge = tokio::spawn(start(line, huge));
            let others = ["GET b", "PING"].map(|other| tokio::spawn(start(line, command(other))));
            assert_eq!(huge.await.unwrap(), TOO_LARGE);
            let [large, pong] = others;
            assert!(large.await.unwrap().is_ok());
            assert_eq!(pong.await.unwrap(), values(&[status("PONG")]));
        }
        assert!(timeout(HURRY, line.died()).await.is_err(), "it lives");
    });
}

#[test]
fn c5_a_gigabyte_that_is_announced_or_comes_takes_no_memory() {
    let name = "host::redis::c5_a_gigabyte_that_is_announced_or_comes_takes_no_memory";
    in_own_process(name, || {
        let server = servers::Redis::start();
        let proxy = Proxy::start(server.addr());
        for (head, ends) in [
            // Others come once it is over.
            ("$1073741822\r\n", None),
            ("+", None),
            ("-", None),
            // As large as may be, and then there is more.
            ("$16777000\r\n", Some("begins with `x`")),
            ("$16777300\r\n", Some("begins with `x`")),
            ("*2\r\n$16777300\r\n", Some("begins with `x`")),
            ("*1073741824\r\n", Some("begins with `x`")),
        ] {
            run(async {
                let line = &mut open(&behind(&proxy)).await;
                assert!(call(line, "PING").await.is_ok());
                let before = Holdings::now().resident_bytes;
                let is_allowed = head == "$16777000\r\n";
                let head = head.as_bytes().to_vec();
                proxy.set(Fault::Flood { head, bytes: 1 << 30 });
                let answer = call(line, "GET a").await;
                if let Some(expected) = ends {
                    let reason = died(line).await;
                    assert!(reason.ends_with(expected), "{reason}");
                    let died = answer == Err(CallError::Died);
                    // What is allowed has no answer; what is not may have had one before its end.
                    assert!(died || answer == TOO_LARGE && !is_allowed, "{answer:?}");
                } else {
                    assert_eq!(answer, TOO_LARGE);
                    assert!(timeout(SLOW, line.died()).await.is_err(), "it lives");
                }
                let grown = Holdings::now().resident_bytes.saturating_sub(before);
                assert!(grown < 64 << 20, "{grown} bytes more");
            });
            proxy.set(Fault::Pass);
        }
    });
}

#[test]
fn c13_half_an_answer_and_garbage_end_the_connection() {
    let server = servers::Redis::start();
    let proxy = Proxy::start(server.addr());
    run(async {
        for (fault, expected) in [
            (Fault::CutAfter(8), "the server closed the connection in the middle of an answer"),
            (Fault::CutAfter(0), "the server closed the connection"),
            (Fault::Close, "the server closed the connection"),
            (Fault::Garbage, "no answer of Redis begins with `\\x81`"),
        ] {
            proxy.set(Fault::Pass);
            let line = &mut open(&behind(&proxy)).await;
            assert!(call(line, "SET a 0123456789").await.is_ok());
            proxy.set(fault.clone());
            let answer = call(line, "GET a").await;
            let expected = expected.to_owned();
            assert_eq!(answer, Err(CallError::Died), "{fault:?}");
            assert_eq!(died(line).await, expected);
            // What has died answers so for good.
            assert_eq!(call(line, "GET a").await, Err(CallError::NotSent(expected)));
        }
        proxy.set(Fault::Pass);
        let line = &mut open(&behind(&proxy)).await;
        proxy.set(Fault::Reset);
        assert!(died(line).await.contains("reset by peer"));
    });
}

#[test]
fn c13_a_call_that_is_late_or_given_up_leaves_its_answer_to_nobody() {
    let server = servers::Redis::start();
    let proxy = Proxy::start(server.addr());
    run(async {
        let line = &mut open(&behind(&proxy)).await;
        assert!(call(line, "SET a 5").await.is_ok());
        proxy.set(Fault::Delay(SLOW));
        assert_eq!(hurried(line, "GET a", HURRY).await, Err(CallError::TimedOut));
        let given_up = start(line, command("GET a"));
        assert!(timeout(HURRY, given_up).await.is_err());
        assert_eq!(call(line, "GET b").await, values(&[RedisValue::Nil]));
        proxy.set(Fault::Pass);
        assert_eq!(call(line, "INCR a").await, values(&[RedisValue::Int(6)]));
        assert!(timeout(HURRY, line.died()).await.is_err(), "it lives");
    });
}

#[test]
fn c13_a_connection_whose_calls_are_not_answered_is_given_up() {
    let server = servers::Redis::start();
    let proxy = Proxy::start(server.addr());
    run(async {
        let line = &mut open(&behind(&proxy)).await;
        assert!(call(line, "SET a 5").await.is_ok());
        proxy.set(Fault::Stall { to_server: false, to_client: true });
        for _ in 1..LATE_CALLS_MAX {
            assert_eq!(hurried(line, "GET a", SLOW).await, Err(CallError::TimedOut));
            assert!(timeout(HURRY, line.died()).await.is_err(), "it lives");
        }
        let other = tokio::spawn(start(line, command("GET a")));
        assert_eq!(hurried(line, "GET a", CHECK_TIME_MAX).await, Err(CallError::TimedOut));
        let why = "the last calls had no answer in time".to_owned();
        assert_eq!(died(line).await, why);
        assert_eq!(other.await.unwrap(), Err(CallError::Died));
    });
}

#[test]
fn c13_a_server_that_is_killed_is_noticed_by_all_and_one_that_stands_still_by_a_check() {
    let mut server = servers::Redis::start();
    run(async {
        let redis = at(&server.url());
        let (line, mut control) = (&mut open(&redis).await, redis.connect().await.unwrap());
        assert_eq!(control.check().await, Ok(()));
        server.pause();
        assert!(timeout(CHECK_TIME_MAX, control.check()).await.is_err());
        // The system takes connections for it.
        assert!(timeout(HURRY, redis.connect()).await.is_err());
        server.resume();
        assert_eq!(control.check().await, Ok(()));
        assert!(call(line, "GET a").await.is_ok());
        let busy = tokio::spawn(start(line, script("while true do end", &[], &[])));
        server.kill9();
        assert!(died(line).await.contains("closed the connection"));
        assert!(timeout(PATIENCE, control.died()).await.is_ok());
        assert!(matches!(busy.await.unwrap(), Err(CallError::Died)));
        assert!(control.check().await.is_err());
        let refused = redis.connect().await.err().unwrap().to_string();
        assert!(refused.contains("Connection refused"), "{refused}");
        server.restart();
        assert_eq!(redis.connect().await.unwrap().check().await, Ok(()));
    });
}

#[test]
fn a_dropped_connection_is_closed() {
    let server = servers::Redis::start();
    let proxy = Proxy::start(server.addr());
    run(async {
        let redis = behind(&proxy);
        let (mut line, control) = (open(&redis).await, redis.connect().await.unwrap());
        let busy = tokio::spawn(start(&mut line, command("GET a")));
        assert!(busy.await.unwrap().is_ok());
        assert_eq!(proxy.connections(), 2);
        proxy.set(Fault::Stall { to_server: true, to_client: true });
        let busy = tokio::spawn(start(&mut line, command("GET a")));
        tokio::task::yield_now().await;
        drop((line, control));
        assert!(matches!(busy.await.unwrap(), Err(CallError::Died)));
    });
    proxy.set(Fault::Pass);
    until("closed", || proxy.connections() == 0);
}

#[test]
fn passwords_and_databases_are_those_of_the_url_and_are_not_shown() {
    let server = servers::Redis::start();
    assert_eq!(server.ask("CONFIG SET requirepass hunter/2"), "+OK\r\n");
    let url = |rest: &str| format!("redis://{rest}");
    run(async {
        let addr = server.addr();
        let right = at(&url(&format!(":hunter%2F2@{addr}/3")));
        assert_eq!(right.connect().await.unwrap().check().await, Ok(()));
        assert_eq!(right.place(), format!("{addr}, database 3"));
        let line = &mut open(&right).await;
        let Ok(Reply::Redis(info)) = call(line, "CLIENT INFO").await else { panic!("no info") };
        let [RedisValue::Bytes(info)] = &info[..] else { panic!("{info:?}") };
        assert!(String::from_utf8_lossy(info).contains(" db=3 "));
        assert!(!format!("{right:?}").contains("hunter"));
        let wrong =
            at(&url(&format!(":hunter3@{addr}"))).connect().await.err().unwrap().to_string();
        assert!(wrong.contains("authentication failed") && !wrong.contains("hunter"), "{wrong}");
        let refused = at(&url(&addr.to_string())).connect().await.err().unwrap().to_string();
        assert!(refused.starts_with("NOAUTH "), "{refused}");
    });
    for (url, expected) in [
        ("redis://:hunter2@h:99999", "did not parse"),
        ("redis://:hunter2@h/x", "Invalid database number"),
        ("http://:hunter2@h", "did not parse"),
        ("redis://:hunter2@0.0.0.0", "wildcard address"),
    ] {
        let wrong = Redis::new(url, None, 1, Jobs::new()).unwrap_err();
        assert!(wrong.contains(expected) && !wrong.contains("hunter"), "{wrong}");
    }
}

#[test]
fn r3_a_connection_that_has_no_descriptor_says_so_and_others_live() {
    let name = "host::redis::r3_a_connection_that_has_no_descriptor_says_so_and_others_live";
    in_own_process(name, || {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let server = servers::Redis::start();
        run(async {
            let redis = at(&server.url());
            let line = &mut open(&redis).await;
            let limit = Rlimit { current: Some(64), maximum: Some(64) };
            setrlimit(Resource::Nofile, limit).unwrap();
            let open_null = || std::fs::File::open("/dev/null").ok();
            let files: Vec<_> = std::iter::from_fn(open_null).collect();
            let refused = redis.connect().await.err().unwrap().to_string();
            assert!(refused.contains("Too many open files"), "{refused}");
            assert!(call(line, "PING").await.is_ok());
            drop(files);
            assert_eq!(redis.connect().await.unwrap().check().await, Ok(()));
        });
    });
}

/// What was said of a kept resource.
#[derive(Debug, Default)]
struct Told {
    changes: Mutex<Vec<Change>>,
    shown: Mutex<Option<Shown>>,
}

impl Told {
    fn ups(&self) -> usize {
        let changes = self.changes.lock().unwrap();
        changes.iter().filter(|change| matches!(change, Change::Up { .. })).count()
    }

    /// Why it is down, if it is.
    fn why(&self) -> Option<String> {
        match self.shown.lock().unwrap().as_ref()?.status.clone() {
            Status::Down { why, .. } => Some(why),
            _ => None,
        }
    }
}

impl Observer for Told {
    fn changed(&self, change: &Change) {
        self.changes.lock().unwrap().push(change.clone());
    }

    fn show(&self, shown: Shown) {
        *self.shown.lock().unwrap() = Some(shown);
    }

    fn uses(&self, _lease: LeaseId, _connection: ConnectionId) -> bool {
        false
    }

    fn connection_died(&self, _connection: ConnectionId, _why: &str) {}

    fn cleared(&self) {}
}

/// A keeper ends when nobody can switch it any more.
type Kept = (Providers, Vec<Switch>);

/// Keeps the server of this URL, with these init jobs, of which `@file` is this text.
fn keep(url: &str, jobs: &[&str], file: &str) -> (Kept, Arc<Told>) {
    let words_of = |job: &str| {
        let words = words(job).unwrap().into_iter().map(|word| match word {
            Word::Text(text) => text.into_bytes(),
            Word::File(path) => {
                assert_eq!(path, "file");
                file.as_bytes().to_vec()
            }
        });
        (job.to_owned(), words.collect::<Vec<_>>())
    };
    let known: Jobs = jobs.iter().map(|job| words_of(job)).collect();
    let millisecond = Duration::from_millis(1);
    let backoff = Backoff::new(millisecond, 2, 20 * millisecond, 0).unwrap();
    let clock = Arc::new(SystemClock::new());
    let policy = Policy::new(backoff, millisecond);
    let told = Arc::new(Told::default());
    let keeping = Keeping {
        name: "cache".to_owned(),
        provider: Arc::new(Redis::new(url, None, 1, known).unwrap()),
        jobs: jobs.iter().map(|&job| job.to_owned()).collect(),
        machine: Machine::new(policy, jobs.len(), clock.monotonic_nanos()),
        observer: told.clone(),
        clock,
        entropy: Arc::new(SeededEntropy::new(5)),
    };
    (Providers::start(vec![(keeping, calls().1)], &Arc::default()).unwrap(), told)
}

#[test]
fn s0_12_init_jobs_run_in_order_at_each_recovery_with_the_files_of_the_start() {
    let mut server = servers::Redis::start();
    let jobs = ["RPUSH done one", "SCRIPT LOAD @file", "RPUSH done 'two three'"];
    let (_kept, told) = keep(&server.url(), &jobs, "return 'from a file'");
    for recovery in 1..=3 {
        until("available", || told.ups() == recovery);
        assert_eq!(server.ask("LRANGE done 0 -1"), "*2\r\n$3\r\none\r\n$9\r\ntwo three\r\n");
        assert!(server.ask("INFO memory").contains("number_of_cached_scripts:1\r\n"));
        server.kill9();
        until("down", || told.why().is_some());
        server.restart();
    }
}

#[test]
fn s0_11_a_failing_init_job_keeps_it_down_and_says_why() {
    let server = servers::Redis::start();
    assert_eq!(server.ask("SET list text"), "+OK\r\n");
    let (_kept, told) = keep(&server.url(), &["INCR runs", "RPUSH list x"], "");
    let failed = "init job 2: `RPUSH list x`: WRONGTYPE Operation against a key";
    until("a reason", || told.why().is_some_and(|why| why.starts_with(failed)));
    assert_eq!(told.ups(), 0);
    assert_eq!(server.ask("DEL list"), ":1\r\n");
    until("available", || told.ups() == 1);
    let runs = server.ask("GET runs");
    assert_eq!(server.ask("LLEN list"), ":1\r\n");
    assert_eq!(server.ask("GET runs"), runs, "jobs run once before it is available");
}

#[test]
fn c13_a_server_that_stands_still_is_down_after_a_check_and_is_back_when_it_goes_on() {
    let server = servers::Redis::start();
    let (_kept, told) = keep(&server.url(), &[], "");
    until("available", || told.ups() == 1);
    server.pause();
    until("down", || told.why().is_some());
    assert!(told.why().unwrap().starts_with("it did not"), "{:?}", told.why());
    server.resume();
    until("available", || told.ups() == 2);
    let ups: Vec<_> = told.changes.lock().unwrap().clone();
    assert!(matches!(ups[..], [Change::Up { .. }, Change::Down { .. }, Change::Up { .. }]));
}
