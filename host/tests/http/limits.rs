//! Clients that send too much, too slowly, or nonsense; and many of them.

use std::process::Command;

use serde_json::json;

use super::rig::{Client, HOST, Host, guest, post};

const BODY_BYTES_MAX: usize = 1 << 20;

/// Others are served as if nothing had happened.
fn is_well(host: &Host) {
    assert_eq!(host.get("/health").body["state"], "ok");
}

#[test]
fn a2_heads_that_are_none_are_refused_and_the_connection_is_closed() {
    let host = Host::run(&["counter"], &[]);
    let long = |bytes: usize| {
        format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(bytes))
    };
    let many = "a: b\r\n".repeat(101);
    let lengths = "POST /counter/value HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n";
    for (bytes, status) in [
        ("\0\r\n\r\n".to_owned(), 400),
        ("hello\r\n\r\n".to_owned(), 400),
        ("GET /health\r\n\r\n".to_owned(), 400),
        ("GET /health HTTP/9.9\r\n\r\n".to_owned(), 400),
        ("GET /health HTTP/1.1\r\nHo st: h\r\n\r\n".to_owned(), 400),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n".to_owned(), 400),
        (format!("{lengths}Content-Length: 2\r\n\r\n"), 400),
        (format!("{lengths}Content-Length: x\r\n\r\n"), 400),
        (lengths.replace(" 1\r", " -1\r") + "\r\n", 400),
        (lengths.replace("Content-Length: 1", "Transfer-Encoding: gzip") + "\r\n", 400),
        (long(1 << 14), 431),
        (long(1 << 20), 431),
        (format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), 431),
    ] {
        let mut client = host.connect();
        client.send(&bytes);
        // Also to what is not read whole, or not at all.
        assert_eq!(client.last(), Some(status), "{}", &bytes[..bytes.len().min(80)]);
    }
    let mut http2 = host.connect();
    http2.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(http2.last(), None);
    let mut none = host.connect();
    none.send("POST /counter/value HTTP/1.1\r\n\r\n");
    assert_eq!(none.answer().unwrap().status, 400);
    is_well(&host);
}

#[test]
fn a2_bodies_that_are_too_large_or_cut_off_are_refused_and_nothing_is_started() {
    let host = Host::run(&["counter"], &[]);
    let head = |rest: &str| {
        format!("POST /counter/increment HTTP/1.1\r\nHost: localhost\r\n{rest}\r\n\r\n")
    };
    let mut announced = host.connect();
    announced.send(head(&format!("Content-Length: {}", BODY_BYTES_MAX + 1)));
    assert_eq!(announced.last(), Some(413));
    // One that sends all of it before it looks for an answer.
    for (bytes, rest) in [(8 << 20, ""), (BODY_BYTES_MAX + 1, "Expect: nothing\r\n")] {
        let mut sent = host.connect();
        sent.send(head(&format!("{rest}Content-Length: {bytes}")));
        sent.send_all(" ".repeat(bytes));
        assert_eq!(sent.last(), Some(413));
    }
    let mut nobody = host.connect();
    nobody.send("POST /nobody HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4194304\r\n\r\n");
    nobody.send_all(" ".repeat(4 << 20));
    assert_eq!(nobody.answer().unwrap().status, 404);
    let mut enormous = host.connect();
    enormous.send(head(&format!("Content-Length: {}", 1_u64 << 62)));
    assert_eq!(enormous.last(), Some(413));
    let mut chunked = host.connect();
    chunked.send(head("Transfer-Encoding: chunked"));
    let chunk = format!("{:x}\r\n{}\r\n", BODY_BYTES_MAX / 8, " ".repeat(BODY_BYTES_MAX / 8));
    chunked.send(chunk.repeat(8));
    chunked.send("1\r\n \r\n");
    assert_eq!(chunked.last(), Some(413));
    let mut largest = host.connect();
    let padded = format!("{{\"by\": 1{}}}", " ".repeat(BODY_BYTES_MAX - 9));
    assert_eq!(largest.post("/counter/increment", &[], &padded).status, 200);
    let mut broken = host.connect();
    broken.send(head("Transfer-Encoding: chunked") + "nonsense\r\n");
    assert_eq!(broken.last(), Some(400));
    let mut cut_off = host.connect();
    cut_off.send(head("Content-Length: 9") + "{\"by\"");
    drop(cut_off);
    let value = host.call("/counter/value", &json!({}));
    assert_eq!((value.status, &value.body["value"]), (200, &json!(1)));
    is_well(&host);
}

#[test]
fn a7_a_name_that_a_page_may_have_chosen_is_not_answered() {
    let host = Host::run(&["counter"], &["--http-host", "Bank.Example"]);
    let rebound = [("Origin", "http://evil.example:8080")];
    for (name, status) in
        [("evil.example:8080", 403), ("bank.example", 200), ("127.0.0.1", 200), ("[::1]:1", 200)]
    {
        let request = post("/counter/increment", &[], "{\"by\": 1}");
        let request = request.replace("Host: localhost", &format!("Host: {name}"));
        let mut client = host.connect();
        client.send(request);
        assert_eq!(client.answer().unwrap().status, status, "{name}");
    }
    // As a browser would send it, once the page's own name points here.
    let request = post("/counter/increment", &rebound, "{\"by\": 1}");
    let mut client = host.connect();
    client.send(request.replace("Host: localhost", "Host: evil.example:8080"));
    let refused = client.answer().unwrap();
    assert_eq!((refused.status, refused.code()), (403, "E_REQUEST"));
    let words = host.host(&["run", "x.wasm", "--http", "127.0.0.1:0", "--http-host", "a:1"]);
    assert_eq!(words.status.code(), Some(2));
    assert_eq!(host.call("/counter/value", &json!({})).body["value"], 3);
}

#[test]
fn a2_slow_heads_and_silent_clients_are_let_go_of() {
    let host = Host::run(&["counter"], &[]);
    let mut slow = host.connect();
    slow.send("POST /counter/increment HTTP/1.1\r\nHost: localhost\r\nX: ");
    let mut silent = host.connect();
    // One whose answer is under way is not late.
    host.does(&["pause", "counter"]);
    let held = host.calling("/counter/increment", &json!({ "by": 1 }));
    assert_eq!((slow.last(), silent.last()), (None, None));
    is_well(&host);
    host.does(&["resume", "counter"]);
    assert_eq!(held.join().unwrap().status, 200);
}

#[test]
fn a_thousand_connections_are_served_and_a_person_gets_through() {
    let host = Host::run(&["counter", "ledger"], &[]);
    let mut clients: Vec<Client> = (0..1000).map(|_| host.connect()).collect();
    for round in 1..=2 {
        for client in &mut clients {
            client.send(post("/counter/increment", &[], "{\"by\": 1}"));
        }
        let values = clients.iter_mut().map(|client| {
            let answer = client.answer().unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.body["value"].as_u64().unwrap()
        });
        let mut values: Vec<u64> = values.collect();
        values.sort_unstable();
        assert!(values.into_iter().eq((round - 1) * 1000 + 1..=round * 1000));
    }
    // All of them wait, as long as a person wants.
    host.does(&["pause", "counter"]);
    for client in &mut clients {
        client.send(post("/counter/increment", &[], "{\"by\": 1}"));
    }
    host.until("held", |ps| ps["daemons"][0]["held"] == 1000);
    assert_eq!(host.call("/ledger/total", &json!({})).status, 200);
    host.does(&["resume", "counter"]);
    assert!(clients.iter_mut().all(|client| client.answer().unwrap().status == 200));
}

#[test]
fn r3_clients_take_no_more_descriptors_than_leave_some_for_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    let words = "ulimit -n 200; exec \"$0\" run \"$@\"";
    command.arg("-c").arg(words).arg(HOST).arg(guest("counter"));
    let host = Host::spawn(dir, command, &[]);
    let asks = |_| {
        let mut client = host.connect();
        client.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client
    };
    let mut clients: Vec<Client> = (0..190).map(asks).collect();
    let served = &mut clients[..100];
    for client in served {
        assert_eq!(client.answer().unwrap().status, 200);
    }
    host.does(&["health"]);
    // The others wait until somebody goes. One whose request came late on a busy machine may have
    // been let go of, as if it said nothing; it is answered when it comes again.
    drop(clients.drain(..100));
    for client in &mut clients {
        let answer = client.answer().unwrap_or_else(|| asks(0).answer().unwrap());
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn calls_of_connections_that_were_broken_off_take_no_places() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    let words = "ulimit -n 200; exec \"$0\" run \"$@\"";
    command.arg("-c").arg(words).arg(HOST).args([guest("counter"), guest("ledger")]);
    let host = Host::spawn(dir, command, &[]);
    host.does(&["pause", "counter"]);
    let mut waiting: Vec<Client> = (0..100).map(|_| host.connect()).collect();
    for client in &mut waiting {
        client.send(post("/counter/increment", &[], "{\"by\": 1}"));
    }
    host.until("held", |ps| ps["daemons"][0]["held"] == 100);
    assert_eq!(host.call("/ledger/total", &json!({})).status, 503);
    waiting.into_iter().for_each(Client::break_off);
    while host.call("/ledger/total", &json!({})).status == 503 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    host.does(&["resume", "counter"]);
    assert_eq!(host.call("/counter/value", &json!({})).body["value"], 100);
}

#[test]
fn a6_health_is_answered_while_it_is_flooded_and_a_daemon_spins_and_calls_go_on() {
    let endless = ["--fuel", "chaos=1000000000000000000", "--deadline", "chaos=3600s"];
    let host = Host::run(&["counter", "chaos"], &endless);
    let spinning = host.calling("/chaos/die", &json!({ "how": "spin" }));
    host.until("spins", |ps| !ps["transactions"].as_array().unwrap().is_empty());
    let before = host.ask(&json!({ "ps": {} }))["daemons"].as_array().unwrap().len();
    std::thread::scope(|scope| {
        let host = &host;
        let flood = move |number: usize| {
            let mut client = host.connect();
            for n in 0..300 {
                client.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
                let answer = client.answer().unwrap();
                assert_eq!((answer.status, &answer.body["state"]), (200, &json!("ok")));
                // Names that nobody has are noted nowhere.
                let stranger = format!("/stranger-{number}-{n}/value");
                assert_eq!(client.post(&stranger, &[], "{}").status, 404);
            }
        };
        let floods: Vec<_> = (0..16).map(|number| scope.spawn(move || flood(number))).collect();
        let mut value = 0;
        while value < 100 || !floods.iter().all(|flood| flood.is_finished()) {
            value += 1;
            let answer = host.call("/counter/increment", &json!({ "by": 1 }));
            assert_eq!((answer.status, &answer.body["value"]), (200, &json!(value)));
        }
        host.does(&["health"]);
    });
    let ps = host.ask(&json!({ "ps": {} }));
    assert_eq!(ps["daemons"].as_array().unwrap().len(), before);
    assert!(!ps.to_string().contains("stranger"));
    let id = ps["transactions"][0]["id"].as_str().unwrap().to_owned();
    host.does(&["kill", &id]);
    assert_eq!(spinning.join().unwrap().code(), "E_CANCELLED");
}
