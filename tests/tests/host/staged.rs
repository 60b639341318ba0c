//! Effects that transactions stage: when they are carried out, how often, and when not.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use host::base::error::Blame;
use host::base::failpoint;
use host::base::limits::{EFFECT_TRIES_MAX, EFFECTS_WAITING_MAX};
use host::mechanisms::providers::directory::Directory;
use host::mechanisms::providers::http::Http;
use host::mechanisms::providers::postgres::Postgres;
use host::mechanisms::providers::redis::{Jobs, Redis};
use host::mechanisms::providers::{EffectCounts, Provider};
use host::pure::ingress::{comes_back, status};
use host::pure::manifest::Access;
use host::pure::request::{Answer, Outcome, Request};
use host::pure::resource::Policy;
use host::pure::resource::allow::Rule;
use host::tree::{DaemonOptions, DaemonPlan, ResourcePlan};
use serde_json::json;
use supervisor::Backoff;
use tests::{Fake, Tree, deployed, in_own_process, plan, request, until};

use super::durable::store;
use super::http_calls::server::Server;

const CACHE: &str = "bank/cache";

fn caller(needs: &[&str], uses: &[&str]) -> DaemonPlan {
    changed(needs, uses, |_| {})
}

fn changed(needs: &[&str], uses: &[&str], change: impl FnOnce(&mut DaemonOptions)) -> DaemonPlan {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let plan = plan("a", &deployed("caller"), |options| {
        options.limits.deadline = Duration::from_secs(60);
        options.limits.fuel = u64::MAX / 2;
        change(options);
    });
    DaemonPlan { needs: names(needs), uses: names(uses), ..plan }
}

fn tree_of(fake: &Fake, plan: DaemonPlan) -> Tree {
    Tree::with_resources(vec![plan], vec![fake.plan(CACHE, &[])], None)
}

/// With a journal there.
fn durable(fake: &Fake, dir: &Path) -> Tree {
    let plans = vec![caller(&[CACHE], &[])];
    Tree::with_resources(plans, vec![fake.plan(CACHE, &[])], Some(store(dir)))
}

fn stage(tree: &Tree, words: &[&str]) -> Answer {
    tree.call("a", "stage", json!({"name": "cache", "words": words, "repeatable": false}))
}

fn echo(tree: &Tree, text: &str) {
    let staged = stage(tree, &["ECHO", text]);
    assert_eq!(staged.outcome.word(), "committed", "{staged:?}");
}

fn counts(tree: &Tree, name: &str) -> EffectCounts {
    let views = tree.root.resources();
    views.into_iter().find(|view| view.name == name).unwrap().effects
}

/// How it is when nothing waits any more.
fn settled(tree: &Tree) -> EffectCounts {
    until("settled", || counts(tree, CACHE).waiting == 0);
    counts(tree, CACHE)
}

fn done(done: u64) -> EffectCounts {
    EffectCounts { done, ..EffectCounts::default() }
}

fn code(answer: &Answer) -> String {
    let Outcome::Rejected(rejection) = &answer.outcome else { panic!("{answer:?}") };
    rejection.code.clone()
}

#[test]
fn effects_are_carried_out_after_their_commits_once_and_in_order() {
    for fake in [Fake::shared(1), Fake::exclusive(1)] {
        let tree = tree_of(&fake, caller(&[CACHE], &[]));
        let mut expected = Vec::new();
        for _ in 0..10 {
            let args = json!({"name": "cache", "words": ["ECHO"], "times": 100});
            let _value = tree.committed("a", "stage_often", args);
            expected.extend((0..100).map(|number| number.to_string()));
        }
        assert_eq!(settled(&tree), done(1000));
        assert_eq!(fake.heard(), expected);
        assert!(tree.root.resources()[0].leases.is_empty(), "they need none");
    }
}

#[test]
fn c10_what_does_not_commit_has_no_effects() {
    let fake = Fake::shared(1);
    let tree = tree_of(&fake, changed(&[CACHE], &[], |options| options.retries_max = 3));
    let fail = |text: &str, how: &str| {
        let args = json!({"name": "cache", "words": ["ECHO", text], "how": how});
        tree.call("a", "stage_and_fail", args)
    };
    assert_eq!(fail("rejected", "reject").outcome.word(), "rejected");
    assert_eq!(fail("crashed", "crash").outcome.word(), "crashed");
    let retried = fail("retried", "crash once");
    assert_eq!((retried.outcome.word(), retried.attempts), ("committed", 2));
    std::thread::scope(|scope| {
        let hangs = scope.spawn(|| fail("cancelled", "hang"));
        until("it hangs", || {
            tree.root.resources()[0].leases.iter().any(|lease| lease.connection.is_some())
        });
        fake.kill_lines();
        assert_eq!(hangs.join().unwrap().outcome.word(), "cancelled");
    });
    let read = json!({"name": "cache", "words": ["ECHO", "read"]});
    until("ready", || code(&tree.call("a", "stage_in_read", read.clone())) == "call_denied");
    echo(&tree, "last");
    assert_eq!(settled(&tree), done(2));
    assert_eq!(fake.heard(), ["retried", "last"]);
}

#[test]
fn only_what_a_resource_takes_is_staged() {
    let fake = Fake::shared(1);
    let tree = tree_of(&fake, caller(&[CACHE], &[]));
    let stage_for = |name: &str| {
        let args = json!({"name": name, "words": ["ECHO", "x"], "repeatable": false});
        code(&tree.call("a", "stage", args))
    };
    assert_eq!(stage_for("gone"), "no_such_resource");
    // The manifest has to be mended, and what it has is said.
    let args = json!({"name": "gone", "words": ["ECHO", "x"], "repeatable": false});
    let Outcome::Rejected(rejection) = tree.call("a", "stage", args).outcome else { panic!() };
    assert_eq!(rejection.blame, Blame::Operator);
    let names = "it asked for `gone`, and has `cache` (redis)";
    assert!(rejection.message.ends_with(names), "{}", rejection.message);
    let each = json!({"sql": "cache", "directory": "cache", "http": "cache", "url": "http://x/"});
    assert_eq!(code(&tree.call("a", "stage_each", each)), "wrong_kind");
    // Denied at once, though nobody is asked: it would be refused anyway.
    let redis = Redis::new("redis://127.0.0.1:1", None, 1, Jobs::new()).unwrap();
    let tree = real(vec![("bank/cache", Arc::new(redis))]);
    assert_eq!(code(&stage(&tree, &["SUBSCRIBE", "x"])), "call_denied");
    let stateless = changed(&[CACHE], &[], |options| *options = options.clone().stateless(1));
    let tree = tree_of(&fake, stateless);
    assert_eq!(code(&stage(&tree, &["ECHO", "x"])), "call_denied");
    assert_eq!(fake.asked(), 0);
}

#[test]
fn a_request_that_is_asked_again_has_its_effects_once() {
    let fake = Fake::shared(1);
    let tree = tree_of(&fake, caller(&[CACHE], &[]));
    let args = json!({"name": "cache", "words": ["ECHO", "x"], "repeatable": false});
    for _ in 0..3 {
        let request = Request { key: Some("k".to_owned()), ..request("a", "stage", args.clone()) };
        let answer = tree.root.call(request).unwrap();
        assert_eq!(answer.value(), Some(json!(1)), "{answer:?}");
    }
    assert_eq!((settled(&tree), fake.heard().len()), (done(1), 1));
}

#[test]
fn effects_wait_while_their_resource_is_down_and_are_carried_out_after_its_init_jobs() {
    let fake = Fake::shared(1);
    let plans = vec![caller(&[], &[CACHE])];
    let tree = Tree::with_resources(plans, vec![fake.plan(CACHE, &["LOAD"])], None);
    echo(&tree, "before");
    assert_eq!(settled(&tree), done(1));
    for held in [false, true] {
        if held {
            tree.root.switch_resource(CACHE, true).unwrap();
        } else {
            fake.kill();
        }
        until("down", || tree.committed("a", "look", json!({"name": "cache"}))[0] == json!(false));
        let (asked, jobs) = (fake.asked(), fake.jobs().len());
        for number in 0..3 {
            echo(&tree, &format!("{held} {number}"));
        }
        assert_eq!((counts(&tree, CACHE).waiting, fake.asked()), (3, asked));
        if held {
            tree.root.switch_resource(CACHE, false).unwrap();
        } else {
            fake.revive();
        }
        settled(&tree);
        assert_eq!(fake.jobs().len(), jobs + 1);
    }
    assert_eq!(settled(&tree), done(7));
    let while_down = |held: bool| (0..3).map(move |number| format!("{held} {number}"));
    let expected = ["before".to_owned()].into_iter().chain(while_down(false));
    let expected: Vec<String> = expected.chain(while_down(true)).collect();
    assert_eq!(fake.heard(), expected);
}

#[test]
fn an_effect_of_unknown_fate_is_sent_again_only_if_it_is_repeatable() {
    let fake = Fake::shared(1);
    let tree = tree_of(&fake, caller(&[], &[CACHE]));
    let once = |text: &str, repeatable: bool| {
        let words = ["ONCE", text];
        let args = json!({"name": "cache", "words": words, "repeatable": repeatable});
        let _value = tree.committed("a", "stage", args);
        until("it hangs", || fake.heard().last().is_some_and(|heard| heard == text));
    };
    once("maybe", false);
    fake.kill_lines();
    let unknown = EffectCounts { unknown: 1, ..EffectCounts::default() };
    assert_eq!(settled(&tree), unknown);
    once("surely", true);
    // With the whole resource: the connection's death is not the only way.
    fake.kill();
    until("down", || tree.committed("a", "look", json!({"name": "cache"}))[0] == json!(false));
    fake.revive();
    assert_eq!(settled(&tree), EffectCounts { done: 1, ..unknown });
    assert_eq!(fake.heard(), ["maybe", "surely", "surely"]);
    let refused = stage(&tree, &["NO"]);
    assert_eq!(refused.outcome.word(), "committed");
    echo(&tree, "next");
    assert_eq!(settled(&tree), EffectCounts { done: 2, failed: 1, ..unknown });
}

#[test]
fn more_than_can_wait_is_refused_while_it_is_staged() {
    let fake = Fake::shared(1);
    let tree = tree_of(&fake, caller(&[], &[CACHE]));
    fake.kill();
    until("down", || tree.committed("a", "look", json!({"name": "cache"}))[0] == json!(false));
    let often = |times: u32| {
        let args = json!({"name": "cache", "words": ["ECHO"], "times": times});
        tree.call("a", "stage_often", args)
    };
    assert_eq!(often(EFFECTS_WAITING_MAX - 10).outcome.word(), "committed");
    for _ in 0..3 {
        let busy = often(11);
        assert_eq!((code(&busy).as_str(), status(&busy).as_u16()), ("resource_busy", 503));
        assert!(comes_back(status(&busy)), "with `Retry-After`");
        assert_eq!(busy.to_json()["error"]["blame"], "environment");
    }
    // A live call of one that is down says so too, and what a guest says by itself is its own.
    let live = tree.call("a", "ask", json!({"name": "cache", "words": ["ECHO", "x"]}));
    assert_eq!((code(&live).as_str(), status(&live).as_u16()), ("resource_unavailable", 503));
    let own = json!({"name": "cache", "words": ["ECHO", "x"], "how": "reject"});
    assert_eq!(status(&tree.call("a", "stage_and_fail", own)).as_u16(), 422);
    // What was refused has given its room back.
    assert_eq!(often(10).outcome.word(), "committed");
    assert_eq!(code(&stage(&tree, &["ECHO", "x"])), "resource_busy");
    fake.revive();
    assert_eq!(settled(&tree), done(u64::from(EFFECTS_WAITING_MAX)));
    echo(&tree, "room");
    assert_eq!(settled(&tree).done, u64::from(EFFECTS_WAITING_MAX) + 1);
}

/// A stop waits for none whose resource is down, and says how many are lost.
#[test]
fn a_stop_says_how_many_effects_are_lost() {
    let fake = Fake::shared(1);
    let tree = tree_of(&fake, caller(&[], &[CACHE]));
    echo(&tree, "first");
    assert_eq!(settled(&tree), done(1));
    fake.kill();
    until("down", || tree.committed("a", "look", json!({"name": "cache"}))[0] == json!(false));
    echo(&tree, "second");
    echo(&tree, "third");
    assert_eq!(tree.root.finish_effects(|| true), [(CACHE.to_owned(), 2)]);
    assert!(tree.root.finish_effects(|| true).is_empty(), "it is said once");
}

/// What a crash may undo has no effect, and a commit that failed has none.
#[test]
fn effects_are_released_when_their_commit_is_durable() {
    in_own_process("host::staged::effects_are_released_when_their_commit_is_durable", || {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::shared(1);
        let tree = durable(&fake, dir.path());
        echo(&tree, "first");
        assert_eq!(settled(&tree), done(1));
        failpoint::arm("before-sync:1:stall".parse().unwrap());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| echo(&tree, "second"));
            until("in memory", || tree.view("a").report.sequence == 2);
            assert_eq!(counts(&tree, CACHE), done(1), "the sync stalls for two seconds");
            second.join().unwrap();
        });
        assert_eq!((settled(&tree), fake.heard().len()), (done(2), 2));
    });
}

#[test]
fn c10_a_commit_that_fails_has_no_effects() {
    in_own_process("host::staged::c10_a_commit_that_fails_has_no_effects", || {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::shared(1);
        let tree = durable(&fake, dir.path());
        failpoint::arm("before-sync:1:error".parse().unwrap());
        let failed = stage(&tree, &["ECHO", "never"]);
        assert_ne!(failed.outcome.word(), "committed");
        until("open again", || stage(&tree, &["ECHO", "later"]).outcome.word() == "committed");
        assert_eq!(settled(&tree).done, 1);
        assert_eq!(fake.heard(), ["later"]);
    });
}

#[test]
fn a_stop_carries_out_what_it_can() {
    let fake = Fake::shared(1);
    let tree = tree_of(&fake, caller(&[], &[CACHE]));
    let args = json!({"name": "cache", "words": ["SLOW"], "times": 100});
    let _value = tree.committed("a", "stage_often", args.clone());
    drop(tree);
    // With what the guest said itself at its end.
    assert_eq!(fake.heard().len(), 201);
    // Nobody waits for one that is down.
    let tree = tree_of(&fake, caller(&[], &[CACHE]));
    fake.kill();
    until("down", || tree.committed("a", "look", json!({"name": "cache"}))[0] == json!(false));
    let _value = tree.committed("a", "stage_often", args);
    assert_eq!(tree.root.effects_left(), 0);
    drop(tree);
    assert_eq!(fake.heard().len(), 201);
}

#[test]
fn an_effect_that_is_never_taken_is_given_up() {
    let server = Server::saying("HTTP/1.1 503 Service Unavailable\r\n\r\n");
    let rule = Rule::parse(&server.url("/"), true).unwrap();
    let tree = real(vec![(CACHE, Arc::new(Http::new(vec![rule], false)))]);
    for repeatable in [false, true] {
        let args = json!({"name": "cache", "url": server.url("/"), "repeatable": repeatable});
        let _value = tree.committed("a", "stage_http", args);
        settled(&tree);
    }
    let failed = EffectCounts { failed: 2, ..EffectCounts::default() };
    assert_eq!(settled(&tree), failed);
    assert_eq!(server.requests(), 1 + usize::try_from(EFFECT_TRIES_MAX).unwrap());
}

/// What a statement answers that a person types.
fn psql(server: &servers::Postgres, statement: &str) -> String {
    let url = format!("postgres://bulkhead@{}/bulkhead", server.addr());
    let ran = Command::new("psql").args([url.as_str(), "-XAtc", statement]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

fn real(resources: Vec<(&str, Arc<dyn Provider>)>) -> Tree {
    let names: Vec<String> = resources.iter().map(|(name, _)| (*name).to_owned()).collect();
    let millisecond = Duration::from_millis(1);
    let backoff = Backoff::new(millisecond, 2, Duration::from_millis(10), 0).unwrap();
    let plans = resources.into_iter().map(|(name, provider)| ResourcePlan {
        name: name.to_owned(),
        provider,
        jobs: Vec::new(),
        policy: Policy::new(backoff, millisecond),
    });
    let plan = DaemonPlan { uses: names, ..caller(&[], &[]) };
    Tree::with_resources(vec![plan], plans.collect(), None)
}

#[test]
fn each_kind_takes_its_effects() {
    let database = servers::Postgres::start();
    let url = format!("postgres://bulkhead@{}/bulkhead", database.addr());
    psql(&database, "CREATE TABLE effects (number bigint, word text)");
    let dir = tempfile::tempdir().unwrap();
    let server = Server::saying("HTTP/1.1 204 No Content\r\n\r\n");
    let rule = Rule::parse(&server.url("/"), true).unwrap();
    let tree = real(vec![
        ("bank/db", Arc::new(Postgres::new(&url, 2, [].into()).unwrap())),
        ("bank/files", Arc::new(Directory::new(dir.path().to_owned(), Access::Append))),
        ("bank/web", Arc::new(Http::new(vec![rule], false))),
    ]);
    let hook = server.url("/hook");
    let args = json!({"sql": "db", "directory": "files", "http": "web", "url": hook});
    for _ in 0..3 {
        let _value = tree.committed("a", "stage_each", args.clone());
    }
    for name in ["bank/db", "bank/files", "bank/web"] {
        until(name, || counts(&tree, name).waiting == 0);
        assert_eq!(counts(&tree, name), done(3), "{name}");
    }
    let rows = psql(&database, "SELECT count(*), min(number), max(word) FROM effects");
    assert_eq!(rows, "3|7|seven");
    let file = std::fs::read_to_string(dir.path().join("effects.log")).unwrap();
    assert_eq!(file, "seven\n".repeat(3));
    let request = server.last_request();
    assert!(request.starts_with("POST /hook ") && request.ends_with("seven"), "{request}");
    assert_eq!(server.requests(), 3);
}

/// With a server that is killed again and again: of what committed nothing is done twice, and
/// nothing is missing but what is counted.
#[test]
fn no_effect_is_carried_out_twice_whenever_its_server_dies() {
    let mut server = servers::Postgres::start();
    // What it has said is done must not be lost by it.
    psql(&server, "SET synchronous_commit = on; ALTER ROLE bulkhead SET synchronous_commit = on");
    psql(&server, "CREATE TABLE numbers (number bigint)");
    let url = format!("postgres://bulkhead@{}/bulkhead", server.addr());
    let tree = real(vec![(CACHE, Arc::new(Postgres::new(&url, 2, [].into()).unwrap()))]);
    let insert = "INSERT INTO numbers VALUES ($1)";
    let mut committed = 0_u64;
    for round in 0..4_u64 {
        let before = counts(&tree, CACHE).done;
        std::thread::scope(|scope| {
            let (tree, first) = (&tree, committed);
            let stages = scope.spawn(move || {
                for number in first..first + 300 {
                    let args = json!({"name": "cache", "statement": insert, "number": number});
                    let _value = tree.committed("a", "stage_sql", args);
                }
            });
            until("some are done", || counts(tree, CACHE).done > before + 20);
            // One that stands still has perhaps taken what it doesn't answer.
            if round % 2 == 1 {
                server.pause();
                std::thread::sleep(Duration::from_millis(5));
            }
            server.kill9();
            stages.join().unwrap();
        });
        committed += 300;
        server.restart();
        let counts = settled(&tree);
        assert_eq!(counts.done + counts.unknown, committed, "{counts:?}");
        assert!(counts.unknown <= round + 1, "one per death at the most: {counts:?}");
    }
    let counts = counts(&tree, CACHE);
    assert_eq!((counts.failed, counts.lost), (0, 0));
    let rows = psql(&server, "SELECT count(*), count(DISTINCT number), max(number) FROM numbers");
    let rows: Vec<u64> = rows.split('|').map(|number| number.parse().unwrap()).collect();
    assert_eq!(rows[0], rows[1], "none twice");
    assert!(rows[2] < committed);
    assert!((counts.done..=committed).contains(&rows[0]), "{rows:?} {counts:?}");
}
