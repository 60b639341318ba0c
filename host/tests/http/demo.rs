//! The demonstration: a daemon behind HTTP, with five requests under way when its Redis dies.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use servers::Redis;

use super::rig::{HOST, Host, guest, post};

const GATE: &str = r#"
[service]
name = "gate"
[parameters]
url = {}
[resources.cache]
provider = "redis"
url = "${url}"
init = ["SET limits:ready yes"]
up_delay = "1ms"
backoff = "1ms..20ms"
[daemons.gate]
guest = "GUEST"
needs = ["cache"]
stateless = true
instances = 5
deadline = "60s"
"#;

#[test]
fn s0_18_five_requests_under_way_get_five_errors_and_the_next_one_is_served() {
    let mut redis = Redis::start();
    let dir = tempfile::tempdir().unwrap();
    let limits = guest("limits").canonicalize().unwrap();
    let manifest = GATE.replace("GUEST", limits.to_str().unwrap());
    std::fs::write(dir.path().join("gate.toml"), manifest).unwrap();
    let mut command = std::process::Command::new(HOST);
    command.args(["run", "gate.toml", "--param", &format!("url={}", redis.url())]);
    let host = Host::spawn(dir, command, &[]);
    let take = json!({ "user": "ann", "limit": 99, "seconds": 60 });
    let first = host.call("/gate/take", &take);
    assert_eq!((first.status, &first.body["value"]), (200, &json!({ "left": 98, "shared": true })));
    // It stops in the middle of five calls, and dies.
    redis.pause();
    let mut clients: Vec<_> = (0..5).map(|_| host.connect()).collect();
    for client in &mut clients {
        client.send(post("/gate/take", &[], &take.to_string()));
    }
    // Each lease has an id of its own.
    let leases = || {
        let resources = host.ask(&json!({ "resources": {} }));
        let leases = resources["resources"][0]["leases"].as_array().cloned().unwrap_or_default();
        leases.iter().filter_map(|lease| lease["lease"].as_u64()).collect::<BTreeSet<u64>>()
    };
    let under_way = (0..5000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        leases().len() == 5
    });
    assert!(under_way, "never five leases");
    let (held, killed) = (leases(), Instant::now());
    redis.kill9();
    let mut ended = BTreeSet::new();
    for client in &mut clients {
        let answer = client.answer().unwrap();
        assert_eq!((answer.status, answer.code()), (503, "E_HANDLE_STALE"), "{answer:?}");
        assert_eq!(answer.body["error"]["resource"], "gate/cache");
        ended.extend(answer.body["error"]["lease"].as_u64());
    }
    assert_eq!(ended, held, "each is told by which of them it was ended");
    assert!(killed.elapsed() < Duration::from_secs(20), "at once, not at some deadline");
    let refused = host.call("/gate/take", &take);
    assert_eq!((refused.status, refused.code()), (503, "E_UNAVAILABLE"));
    assert_eq!(host.get("/health").status, 503);
    redis.restart();
    let mut patient = host.connect();
    let served = patient.post("/gate/take", &[("Prefer", "wait=60")], &take.to_string());
    assert_eq!((served.status, &served.body["value"]["left"]), (200, &json!(98)));
    assert!(redis.ask("GET limits:ready").contains("yes"), "the init job ran before it");
    assert_eq!(host.get("/health").status, 200);
}
