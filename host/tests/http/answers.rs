//! What is answered, and with which status.

use serde_json::{Value, json};

use super::rig::{Client, Host, guest, post};

#[test]
fn each_outcome_has_its_status_and_the_line_that_the_socket_has() {
    let options = ["--budget", "chaos=32MiB", "--retries", "chaos=0"];
    let host = Host::run(&["ledger", "chaos"], &options);
    let deposit = json!({ "account": "ann", "amount": 5 });
    let committed = host.call("/ledger/deposit", &deposit);
    assert_eq!((committed.status, &committed.body["value"]), (200, &json!(5)));
    assert_eq!(committed.header("content-type"), Some("application/json"));
    assert_eq!(committed.header("cache-control"), Some("no-store"));
    let call = json!({ "daemon": "ledger", "contract": "total", "args": {} });
    let mut same = host.ask(&json!({ "call": call }));
    let mut read = host.connect().post("/ledger/total", &[], "");
    assert_ne!(same["request"], read.body["request"]);
    (same["request"], read.body["request"]) = (Value::Null, Value::Null);
    assert_eq!((read.status, read.body), (200, same));
    let overdraft = json!({ "from": "ann", "to": "bob", "amount": 6 });
    let rejected = host.call("/ledger/transfer", &overdraft);
    assert_eq!((rejected.status, rejected.code()), (422, "overdraft"));
    for (path, args, status, code) in [
        ("/ledger/deposit", json!({ "account": "ann" }), 400, "E_ARGS"),
        ("/ledger/deposit", json!([1]), 400, "E_ARGS"),
        ("/ledger/withdraw", json!({}), 404, "E_CONTRACT_UNKNOWN"),
        ("/lodger/deposit", deposit.clone(), 404, "E_DAEMON_UNKNOWN"),
        ("/ledger", json!({}), 404, "E_REQUEST"),
        ("/health", json!({}), 405, "E_REQUEST"),
        ("/chaos/die", json!({ "how": "panic" }), 500, "E_TRAP_UNREACHABLE"),
    ] {
        let answer = host.call(path, &args);
        assert_eq!((answer.status, answer.code()), (status, code), "{path}: {answer:?}");
        assert_eq!(answer.header("allow"), (status == 405).then_some("GET, HEAD"));
        assert_eq!(answer.header("retry-after"), None);
    }
    host.does(&["disable", "ledger"]);
    let disabled = host.call("/ledger/deposit", &deposit);
    assert_eq!((disabled.status, disabled.code()), (503, "E_DISABLED"));
    assert_eq!(disabled.header("retry-after"), Some("1"));
    host.does(&["enable", "ledger"]);
    assert_eq!(host.call("/ledger/total", &json!({})).body["value"], 5);
}

#[test]
fn keys_and_correlation_ids_are_headers() {
    let host = Host::run(&["counter"], &[]);
    let mut client = host.connect();
    let mut increment = |key: &str, by: u64| {
        let headers = [("Idempotency-Key", key), ("X-Correlation-Id", "c-1")];
        client.post("/counter/increment", &headers, &json!({ "by": by }).to_string())
    };
    assert_eq!(increment("k", 5).body["value"], 5);
    // Quotes belong to the header, not to the key.
    assert_eq!(increment("\"k\"", 5).body["value"], 5);
    let conflict = increment("k", 6);
    assert_eq!((conflict.status, conflict.code()), (422, "E_KEY_CONFLICT"));
    assert_eq!(increment("", 1).status, 400);
    assert_eq!(increment("l", 1).body["value"], 6);
}

#[test]
fn a7_what_a_page_of_another_site_asks_for_is_not_done() {
    let host = Host::run(&["counter"], &[]);
    let mut client = host.connect();
    for (header, value) in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        let refused = client.post("/counter/increment", &[(header, value)], "{\"by\": 1}");
        assert_eq!((refused.status, refused.code()), (403, "E_REQUEST"));
    }
    assert_eq!(
        client.post("/counter/value", &[("Origin", "http://localhost")], "").body["value"],
        0
    );
}

const NEEDY: &str = r#"
[service]
name = "bank"
[resources.reports]
provider = "directory"
path = "."
access = "append"
up_delay = "1ms"
[daemons.ledger]
guest = "GUEST"
needs = ["reports"]
"#;

#[test]
fn s0_16_a_service_without_its_resource_is_503_and_whoever_prefers_to_wait_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = guest("ledger").canonicalize().unwrap();
    let manifest = NEEDY.replace("GUEST", ledger.to_str().unwrap());
    std::fs::write(dir.path().join("bank.toml"), manifest).unwrap();
    let mut command = std::process::Command::new(super::rig::HOST);
    command.args(["run", "bank.toml"]);
    let host = Host::spawn(dir, command, &[]);
    assert_eq!(host.get("/health").status, 200);
    host.does(&["resource", "down", "reports"]);
    host.until("waiting", |ps| ps["daemons"][0]["state"] == "waiting");
    let deposit = json!({ "account": "ann", "amount": 5 });
    let refused = host.call("/ledger/deposit", &deposit);
    assert_eq!((refused.status, refused.code()), (503, "E_UNAVAILABLE"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let health = host.get("/health");
    assert_eq!((health.status, &health.body["services"][0]["status"]), (503, &json!(503)));
    assert_eq!(host.get("/health/ready").status, 503);
    let alive = host.get("/health/live");
    assert_eq!((alive.status, &alive.body["state"]), (200, &json!("degraded")));
    let mut patient = host.connect();
    patient.send(post("/ledger/deposit", &[("Prefer", "wait=3600")], &deposit.to_string()));
    host.until("held", |ps| ps["daemons"][0]["held"] == 1);
    host.does(&["resource", "up", "reports"]);
    let answer = patient.answer().unwrap();
    assert_eq!((answer.status, &answer.body["value"]), (200, &json!(5)));
    assert_eq!(host.get("/health").status, 200);
}

#[test]
fn s0_16_a_host_with_a_parked_daemon_is_410_and_its_requests_are_503() {
    let options = ["--param", "chaos.recovery=park", "--on-crash", "chaos=ask", "--retries", "0"];
    let host = Host::run(&["chaos", "counter"], &options);
    assert_eq!(host.get("/health").body["state"], "ok");
    assert_eq!(host.call("/chaos/die", &json!({ "how": "panic" })).status, 500);
    host.until("parked", |ps| ps["daemons"][0]["state"] == "parked");
    let parked = host.call("/chaos/state", &json!({}));
    assert_eq!((parked.status, parked.code()), (503, "E_PARKED"));
    let health = host.get("/health");
    assert_eq!((health.status, &health.body["parked"]), (410, &json!(["chaos"])));
    assert_eq!((host.get("/health/ready").status, host.get("/health/live").status), (410, 200));
    assert_eq!(host.call("/counter/increment", &json!({ "by": 1 })).status, 200);
    let mut head = host.connect();
    head.send("HEAD /health HTTP/1.0\r\n\r\n");
    // A length, and nothing of it.
    let text = head.rest();
    assert!(text.starts_with("HTTP/1.0 410 Gone\r\n") && text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn n3_what_may_have_been_committed_is_502_and_asked_for_again_with_its_key() {
    let host = Host::run(&["counter"], &["--fail-at", "before-sync:2:error"]);
    let increment = |client: &mut Client| {
        let headers = [("Idempotency-Key", "k")];
        client.post("/counter/increment", &headers, "{\"by\": 1}")
    };
    let mut client = host.connect();
    let unknown = increment(&mut client);
    assert_eq!((unknown.status, &unknown.body["outcome"]), (502, &json!("unknown")));
    assert_eq!(unknown.header("retry-after"), None);
    let answer = std::iter::repeat_with(|| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        increment(&mut client)
    });
    let answer = answer.take(3000).find(|answer| answer.status != 503).unwrap();
    assert_eq!((answer.status, &answer.body["value"]), (200, &json!(1)));
}

#[test]
fn requests_in_a_row_are_answered_in_their_order() {
    let host = Host::run(&["counter"], &[]);
    let mut client = host.connect();
    let requests =
        (1..=50).map(|by| post("/counter/increment", &[], &json!({ "by": by }).to_string()));
    client.send(requests.collect::<String>());
    let mut sum = 0;
    for by in 1..=50 {
        sum += by;
        assert_eq!(client.answer().unwrap().body["value"], sum);
    }
    let chunked = "POST /counter/increment HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\n{\"by\"\r\n4\r\n: 1}\r\n0\r\n\r\n";
    client.send(chunked);
    assert_eq!(client.answer().unwrap().body["value"], sum + 1);
    let expects = "POST /counter/increment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\
        Expect: 100-continue\r\n\r\n";
    client.send(expects);
    assert_eq!(client.answer().unwrap().status, 100);
    client.send("{\"by\": 1}");
    assert_eq!(client.answer().unwrap().body["value"], sum + 2);
    client.send("POST /counter/value HTTP/1.0\r\n\r\n");
    assert_eq!(client.last(), Some(200));
}
