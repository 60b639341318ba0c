//! `wasi:keyvalue` over a Redis, for components that know nothing of this host.

use std::sync::Arc;

use host::mechanisms::providers::redis::{Jobs, Redis as RedisProvider};
use host::pure::resource::{Policy, Status};
use host::tree::{DaemonPlan, ResourcePlan};
use serde_json::{Value, json};
use servers::Redis;
use tests::{Tree, deployed, plan, until};

fn start(server: &Redis) -> Tree {
    let resource = |name: &str, prefix: Option<&str>| ResourcePlan {
        name: format!("bank/{name}"),
        provider: Arc::new(
            RedisProvider::new(&server.url(), prefix.map(str::to_owned), 1, Jobs::new()).unwrap(),
        ),
        jobs: Vec::new(),
        policy: Policy::default(),
    };
    let needs = |needs: &[&str]| needs.iter().map(|name| format!("bank/{name}")).collect();
    let guest = deployed("keyvalue");
    let daemon =
        |name: &str, its: &[&str]| DaemonPlan { needs: needs(its), ..plan(name, &guest, |_| {}) };
    let plans = vec![daemon("one", &["plain"]), daemon("two", &["plain", "mine*"])];
    let resources = vec![resource("plain", None), resource("mine*", Some("m*:"))];
    let tree = Tree::with_resources(plans, resources, None);
    until("up", || tree.root.resources().iter().all(|one| one.status == Status::Available));
    tree
}

#[test]
fn s0_07_a_component_finds_its_keys_in_a_redis_and_those_of_its_prefix_alone() {
    let server = Redis::start();
    let tree = start(&server);
    let run = |daemon: &str, store: &str, what: &str, key: &str| {
        let arguments = json!({"store": store, "what": what, "key": key});
        tree.committed(daemon, "run", arguments).as_str().unwrap().to_owned()
    };
    assert_eq!(run("one", "", "get", "a"), "none", "the only store has no need of a name");
    assert_eq!(run("two", "", "get", "a"), "no such store", "there are two");
    for (what, expected) in [
        ("exists", "false"),
        ("set", "set"),
        ("get", "5"),
        ("exists", "true"),
        ("increment", "8"),
        ("get", "8"),
        ("set-many", "set"),
        ("get-many", "ax none ay"),
        ("keys", "a ax ay"),
        ("delete", "deleted"),
        ("get", "none"),
        ("increment", "3"),
    ] {
        assert_eq!(run("two", "mine*", what, "a"), expected, "{what}");
        assert_eq!(run("one", "plain", what, "a"), {
            // Those of the other store, which has a prefix, are keys of this one.
            if what == "keys" { "a ax ay m*:a m*:ax m*:ay".to_owned() } else { expected.to_owned() }
        });
    }
    assert!(server.ask("GET m*:ax").contains("\r\n1\r\n"));
    assert_eq!(run("two", "mine*", "delete-many", "a"), "deleted");
    assert_eq!(run("two", "mine*", "keys", ""), "a");
    assert_eq!(run("one", "mine*", "get", "a"), "no such store");
    assert!(server.ask("SET a text").contains("OK"));
    let wrong = run("one", "plain", "increment", "a");
    assert_eq!(wrong, "other: value is not an integer or out of range");
}

#[test]
fn what_was_seen_is_swapped_and_nothing_else() {
    let server = Redis::start();
    let tree = start(&server);
    let swap = |key: &str, meddle: Option<&str>, value: &str| {
        let arguments = json!({"key": key, "meddle": meddle, "value": value});
        tree.committed("one", "swap", arguments).as_str().unwrap().to_owned()
    };
    let now = |key: &str| server.ask(&format!("GET {key}"));
    assert_eq!(swap("a", None, "1"), "none");
    assert!(now("a").contains("\r\n1\r\n"));
    assert_eq!(swap("a", None, "2"), "1");
    assert_eq!(swap("a", Some("3"), "4"), "2, then 3");
    assert!(now("a").contains("\r\n4\r\n"));
    // Nothing is not the same as an empty value.
    assert_eq!(swap("b", Some(""), "5"), "none, then ");
    assert_eq!(swap("b", Some("5"), "6"), "5", "put back is not changed");
    assert!(server.ask("RPUSH list x").contains(":1"));
    assert!(swap("list", None, "7").starts_with("Error::Other"));
    assert!(server.ask("SETRANGE large 1048576 x").contains(":1048577"));
    assert!(swap("large", None, "7").contains("more than 1048576 bytes"));
    // What it saw is gone.
    let large = "x".repeat(50_000);
    assert_eq!(swap("c", Some(&large), "8"), format!("none, then {large}"));
}

#[test]
fn s0_07_c9_d13_a_forged_handle_and_a_leaked_one_end_their_transaction() {
    let server = Redis::start();
    let tree = start(&server);
    let code = |contract: &str, arguments: Value| tree.code("one", contract, arguments);
    assert_eq!(code("leak", json!({"store": "plain"})), "E_HANDLE_LEAK");
    for handle in [0, 1, 7, u32::MAX] {
        let forged = code("forge", json!({"handle": handle}));
        assert!(forged.starts_with("E_"), "{handle}: {forged:?}");
        assert_ne!(forged, "E_HOST_BUG");
    }
    let value = tree.committed("one", "run", json!({"store": "plain", "what": "set", "key": "k"}));
    assert_eq!(value, "set");
    assert_eq!(tree.committed("one", "calls", json!({})), 1, "whatever was tried was undone");
}
