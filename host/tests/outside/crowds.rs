//! More clients than there are places.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::rig::{Place, Running, guest};

/// Every place on the socket, and some more.
const CROWD: usize = 300;

/// Longer than any answer takes here.
pub(crate) const LONG: Duration = Duration::from_secs(60);

fn is_well(place: &Place) {
    let health = place.host(&["health"]);
    assert_eq!(String::from_utf8_lossy(&health.stdout), "ok\n");
    for words in [&["ps"][..], &["call", "counter", "increment", "by=1"]] {
        let output = place.host(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}

pub(crate) fn crowd(place: &Place, says: &[u8]) -> Vec<UnixStream> {
    crowd_of(CROWD, place, says)
}

fn crowd_of(count: usize, place: &Place, says: &[u8]) -> Vec<UnixStream> {
    let one = |_| {
        let mut client = UnixStream::connect(place.socket()).unwrap();
        // It may be let go of meanwhile.
        drop(client.write_all(says));
        client
    };
    (0..count).map(one).collect()
}

#[test]
fn clients_that_say_nothing_or_half_of_something_keep_nobody_out() {
    let place = Place::new();
    let mut running = place.run(&["counter"], &[]);
    for says in [&b""[..], b"{\"ps\"", b"{\"ps\": {}}\n"] {
        let crowd = crowd(&place, says);
        is_well(&place);
        drop(crowd);
    }
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}

#[test]
fn as_many_silent_clients_as_the_system_keeps_do_not_make_a_host_look_stuck() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let place = Place::new();
    let mut running = place.run(&["counter"], &[]);
    for count in [3000, 4000] {
        let crowd = crowd_of(count, &place, b"");
        is_well(&place);
        drop(crowd);
    }
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}

#[test]
fn clients_that_take_no_answers_keep_nobody_out() {
    let place = Place::new();
    let mut running = place.run(&["counter", "chaos"], &[]);
    // More than the system takes off the host's hands.
    let request =
        json!({ "daemon": "chaos", "contract": "echo", "args": { "text": "x".repeat(400_000) } });
    let crowd = crowd(&place, format!("{}\n", json!({ "call": request })).as_bytes());
    is_well(&place);
    drop(crowd);
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}

#[test]
fn clients_that_wait_and_others_that_try_again_and_again_keep_no_person_out() {
    let place = Place::new();
    let _running = place.run(&["counter"], &[]);
    assert!(place.host(&["pause", "counter"]).status.success());
    let request = json!({ "daemon": "counter", "contract": "increment", "args": { "by": 1 } });
    let line = format!("{}\n", json!({ "call": request }));
    let waiting = crowd(&place, line.as_bytes());
    let socket = place.socket();
    let tries = std::thread::spawn(move || {
        let mut refused = 0;
        for _ in 0..CROWD {
            let mut client = BufReader::new(UnixStream::connect(&socket).unwrap());
            let mut answer = String::new();
            // For as long as it is let.
            while client.get_mut().write_all(line.as_bytes()).is_ok() {
                answer.clear();
                if client.read_line(&mut answer).unwrap_or(0) == 0 {
                    break;
                }
                assert!(answer.contains("E_QUEUE_FULL"), "{answer}");
                refused += 1;
            }
        }
        refused
    });
    for _ in 0..5 {
        let shown = place.host(&["ps"]);
        assert!(shown.status.success(), "{shown:?}");
        assert_eq!(place.host(&["health"]).status.code(), Some(0));
    }
    assert!(tries.join().unwrap() > 0);
    assert!(place.host(&["resume", "counter"]).status.success());
    let answered = waiting.into_iter().filter(|client| {
        let mut line = String::new();
        let read = BufReader::new(client).read_line(&mut line);
        read.is_ok() && line.contains("committed")
    });
    assert_eq!(answered.count(), 256, "whoever waits is not let go of");
}

#[test]
fn a_line_over_the_limit_is_answered_and_not_reset() {
    let place = Place::new();
    let _running = place.run(&["counter"], &[]);
    let mut client = UnixStream::connect(place.socket()).unwrap();
    client.write_all(&vec![b' '; 9 << 20]).unwrap();
    client.write_all(b"\n").unwrap();
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).unwrap();
    assert!(line.contains("E_REQUEST") && line.contains("a line of more than"), "{line}");
}

fn with_http(place: &Place) -> (Running, SocketAddr) {
    let mut command = place.command(&["run", &guest("counter"), "--output", "json"]);
    command.args(["--http", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let greeting: Value = serde_json::from_str(&line).unwrap();
    (Running::of(child), greeting["http"].as_str().unwrap().parse().unwrap())
}

/// What is answered to a request on a connection of its own, until that is closed.
fn http(address: SocketAddr, request: &[u8]) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.write_all(request).unwrap();
    let mut text = Vec::new();
    client.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const INCREMENT: &[u8] =
    b"POST /counter/increment HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
      Content-Length: 8\r\n\r\n{\"by\":1}";

#[test]
fn connections_of_http_that_say_nothing_or_half_of_something_keep_nobody_out() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let place = Place::new();
    let (_running, address) = with_http(&place);
    let idle = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let half = b"POST /counter/increment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n{";
    for says in [&b""[..], b"GET /hea", half, idle] {
        let one = |_| {
            let mut client = TcpStream::connect(address).unwrap();
            drop(client.write_all(says));
            client
        };
        let crowd: Vec<TcpStream> = (0..1500).map(one).collect();
        for request in [HEALTH, INCREMENT] {
            let answer = http(address, request);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        is_well(&place);
        drop(crowd);
    }
}

#[test]
fn calls_over_http_that_all_wait_keep_nobody_from_asking_for_the_hosts_health() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let place = Place::new();
    let (_running, address) = with_http(&place);
    assert!(place.host(&["pause", "counter"]).status.success());
    let one = |_| {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(INCREMENT).unwrap();
        client
    };
    let mut waiting: Vec<TcpStream> = (0..1024).map(one).collect();
    place.until("held", |ps| ps["daemons"][0]["held"] == 1024);
    let refused = http(address, INCREMENT);
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("E_QUEUE_FULL") && refused.contains("retry-after: 1"), "{refused}");
    let health = http(address, HEALTH);
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
    assert!(place.host(&["resume", "counter"]).status.success());
    for client in &mut waiting {
        let mut status = [0; 12];
        client.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
}
