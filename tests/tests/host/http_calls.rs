//! Requests of guests to HTTP servers, and what becomes of them when a server is no good.

pub(super) mod server;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use host::mechanisms::providers::http::{Http, Resolve};
use host::mechanisms::providers::{Pending, Provider};
use host::pure::request::{Answer, Outcome};
use host::pure::resource::allow::Rule;
use host::pure::resource::operation::{CallError, CallResult, HttpAnswer, HttpRequest};
use host::pure::resource::operation::{Operation, Reply};
use host::pure::resource::{Policy, Status};
use host::tree::{DaemonPlan, DaemonState, ResourcePlan, ResourceView};
use serde_json::{Value, json};
use supervisor::Backoff;
use tests::{Tree, deployed, plan, until};
use tokio::time::Instant;

use server::{MIB, Server, flood};

const RATES: &str = "bank/rates";

/// Where names lead: told the name, and how many were looked up before.
#[derive(Debug)]
struct Names {
    answer: fn(&str, usize) -> Vec<IpAddr>,
    lookups: AtomicUsize,
}

impl Names {
    fn new(answer: fn(&str, usize) -> Vec<IpAddr>) -> Arc<Self> {
        Arc::new(Self { answer, lookups: AtomicUsize::new(0) })
    }

    fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: &str) -> Pending<'_, io::Result<Vec<IpAddr>>> {
        let found = (self.answer)(name, self.lookups.fetch_add(1, Ordering::SeqCst));
        Box::pin(async move { Ok(found) })
    }
}

fn rules(texts: &[(&str, bool)]) -> Vec<Rule> {
    texts.iter().map(|(text, private)| Rule::parse(text, *private).unwrap()).collect()
}

/// A daemon that needs this, and nobody else.
fn tree(http: Http) -> Tree {
    let caller = plan("caller", &deployed("caller"), |options| {
        options.limits.deadline = Duration::from_secs(60);
        options.limits.fuel = u64::MAX / 2;
    });
    tree_of(caller, http)
}

fn tree_of(caller: DaemonPlan, http: Http) -> Tree {
    let (millisecond, most) = (Duration::from_millis(1), Duration::from_millis(10));
    let backoff = Backoff::new(millisecond, 2, most, 0).unwrap();
    let resource = ResourcePlan {
        name: RATES.to_owned(),
        provider: Arc::new(http),
        jobs: Vec::new(),
        policy: Policy::new(backoff, millisecond),
    };
    let caller = DaemonPlan { needs: vec![RATES.to_owned()], ..caller };
    Tree::with_resources(vec![caller], vec![resource], None)
}

fn fetch(tree: &Tree, url: &str) -> Answer {
    tree.call("caller", "fetch", json!({"name": "rates", "method": "GET", "url": url}))
}

fn rates(tree: &Tree) -> ResourceView {
    tree.root.resources().into_iter().find(|view| view.name == RATES).unwrap()
}

fn code(answer: &Answer) -> String {
    answer.to_json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_request_goes_out_and_its_answer_comes_back() {
    let server = Server::start(|_, stream| {
        let head = "HTTP/1.1 404 Not Here\r\nX-Odd: a\r\nx-odd: b\r\nContent-Length: 4\r\n\r\n";
        stream.write_all(format!("{head}none").as_bytes()).unwrap();
    });
    let tree = tree(Http::new(rules(&[(&server.url("/"), false)]), true));
    let sent = json!({
        "name": "rates",
        "url": server.url("/v1/rates?of=EUR"),
        "headers": [["X-Trace", "t 1"], ["accept", "text/plain"]],
        "body": "amount=1",
    });
    let expected = json!([404, [["x-odd", "a"], ["x-odd", "b"], ["content-length", "4"]], "none"]);
    assert_eq!(tree.committed("caller", "post", sent), expected);
    let request = server.last_request();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!((lines.remove(0), body), ("POST /v1/rates?of=EUR HTTP/1.1", "amount=1"));
    lines.sort_unstable();
    let host = format!("host: {}", server.address());
    let others = ["connection: close", "content-length: 8", &host, "x-trace: t 1"];
    assert_eq!(lines, [&["accept: text/plain"], &others[..]].concat());
    assert!(rates(&tree).leases.is_empty());
    assert_eq!((rates(&tree).kind, rates(&tree).place), ("http", server.address().to_string()));
}

#[test]
fn a_redirect_is_an_answer_and_is_not_followed() {
    let secret = Server::saying("HTTP/1.1 200 OK\r\n\r\nsecret");
    let location = secret.url("/");
    let server = Server::start(move |_, stream| {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\nover there");
        stream.write_all(head.as_bytes()).unwrap();
    });
    let both = rules(&[(&server.url("/"), false), (&secret.url("/"), false)]);
    let tree = tree(Http::new(both, false));
    assert_eq!(fetch(&tree, &server.url("/")).value(), Some(json!([302, "over there"])));
    assert_eq!(secret.connections(), 0);
    assert_eq!(fetch(&tree, &secret.url("/")).value(), Some(json!([200, "secret"])));
}

/// Where names of the tests lead.
fn lead(name: &str, _before: usize) -> Vec<IpAddr> {
    let found = match name {
        "inside.test" | "deep.inside.test" | "outside.test" => &["127.0.0.1"][..],
        "mixed.test" => &["1.1.1.1", "127.0.0.1"],
        "meta.test" | "meta.inside.test" => &["169.254.169.254"],
        "mapped.inside.test" => &["::ffff:127.0.0.1"],
        "zero.inside.test" => &["0.0.0.0"],
        "six.test" => &["::1"],
        _ => &[],
    };
    found.iter().map(|text| text.parse().unwrap()).collect()
}

/// URLs that no rule of the next test covers, without `http://`.
const UNCOVERED: [&str; 25] = [
    "127.0.0.1:PORT/",
    "127.0.0.1:PORT/ok",
    "127.0.0.1:PORT/ok/../x",
    "127.0.0.1:PORT/x",
    "127.0.0.1:PORT/ok/%2e%2e/x",
    "127.0.0.1:PORT/ok/..%2fx",
    "127.1:PORT/ok/",
    "0177.0.0.1:PORT/ok/",
    "2130706433:PORT/ok/",
    "0x7f000001:PORT/ok/",
    "127.0.0.2:PORT/ok/",
    "[::1]:PORT/ok/",
    "[::ffff:127.0.0.1]:PORT/ok/",
    "0.0.0.0:PORT/ok/",
    "0:PORT/ok/",
    "localhost:PORT/ok/",
    "127.0.0.1:PORT@outside.test/",
    "inside.test@127.0.0.1:PORT/x",
    "inside.test:1/",
    "inside.test/",
    "evilinside.test:PORT/",
    "inside.test.evil:PORT/",
    "inside.test:PORT/\r\nx: y",
    "inside.test:PORT\\@127.0.0.1/",
    "169.254.169.254/latest/",
];

/// Names that are allowed, and lead where that is not.
const LEADING_AWAY: [&str; 7] = [
    "outside.test",
    "mixed.test",
    "meta.test",
    "meta.inside.test",
    "six.test",
    "mapped.inside.test",
    "zero.inside.test",
];

#[test]
fn a_guest_reaches_those_that_the_manifest_allows_and_nobody_else() {
    let server = Server::saying("HTTP/1.1 200 OK\r\n\r\nhi");
    let (names, port) = (Names::new(lead), server.port());
    let at = |rest: &str| format!("http://{}", rest.replace("PORT", &port.to_string()));
    let allowed = [
        ("127.0.0.1:PORT/ok/", false),
        ("inside.test:PORT/", true),
        ("*.inside.test:PORT/", true),
        ("outside.test:PORT/", false),
        ("mixed.test:PORT/", false),
        ("meta.test:PORT/", false),
        ("six.test:PORT/", false),
        ("gone.test:PORT/", false),
    ];
    let allowed = allowed.map(|(rest, private)| Rule::parse(&at(rest), private).unwrap());
    let tree = tree(Http::with_resolver(allowed.into(), false, names.clone()));
    let fine = ["127.0.0.1:PORT/ok/x", "inside.test:PORT/", "DEEP.inside.test.:PORT/a?b=/../c"];
    for rest in fine {
        assert_eq!(fetch(&tree, &at(rest)).value(), Some(json!([200, "hi"])), "{rest}");
    }
    assert_eq!((server.connections(), names.lookups()), (3, 2));
    assert!(server.last_request().contains(&format!("\r\nhost: deep.inside.test:{port}\r\n")));
    // Those whose URL no rule covers are not even looked up.
    for rest in UNCOVERED {
        let denied = fetch(&tree, &at(rest));
        assert_eq!(code(&denied), "call_denied", "{rest}: {denied:?}");
    }
    for url in ["https://inside.test/", "file:///etc/passwd", "gopher://127.0.0.1/", "", "/"] {
        assert_eq!(code(&fetch(&tree, url)), "call_denied", "{url}");
    }
    assert_eq!((server.connections(), names.lookups()), (3, 2));
    // The name is allowed, and where it leads is not.
    for name in LEADING_AWAY {
        let rest = format!("{name}:PORT/");
        let denied = fetch(&tree, &at(&rest));
        assert_eq!(code(&denied), "call_denied", "{rest}: {denied:?}");
    }
    assert_eq!(code(&fetch(&tree, &at("gone.test:PORT/"))), "call_refused");
    assert_eq!((server.connections(), names.lookups()), (3, 10));
}

#[test]
fn what_is_sent_is_one_request_to_the_host_of_its_url() {
    let server = Server::saying("HTTP/1.1 200 OK\r\n\r\nhi");
    let url = server.url("/");
    let tree = tree(Http::new(rules(&[(&url, false)]), false));
    let call = |method: &str, headers: Value| {
        let tunnel = json!({"name": "rates", "method": method, "url": url});
        let post = json!({"name": "rates", "url": url, "headers": headers, "body": ""});
        let answer = match method {
            "POST" => tree.call("caller", "post", post),
            _ => tree.call("caller", "fetch", tunnel),
        };
        code(&answer)
    };
    for method in ["CONNECT", "GET / HTTP/1.1\r\nx:", ""] {
        assert_eq!(call(method, json!([])), "call_denied", "{method}");
    }
    for name in ["host", "Content-Length", "transfer-encoding", "proxy-authorization", "a\r\nb"] {
        assert_eq!(call("POST", json!([[name, "x"]])), "call_denied", "{name}");
    }
    assert_eq!(call("POST", json!([["x", "1\r\nhost: evil"]])), "call_denied");
    assert_eq!(server.connections(), 0);
    assert_eq!(call("POST", json!([["x", "1"]])), "");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_name_is_looked_up_once_and_nobody_can_put_another_address_behind_it() {
    let first = Server::saying("HTTP/1.1 200 OK\r\n\r\nfirst");
    // The same port of another address of this machine.
    let secret = (Ipv4Addr::new(127, 0, 0, 2), first.port()).into();
    let secret = Server::at(secret, |_, stream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")));
    let names = Names::new(|_name, before| {
        vec![if before == 0 {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv4Addr::new(127, 0, 0, 2).into()
        }]
    });
    let url = format!("http://rebind.test:{}/", first.port());
    let tree = tree(Http::with_resolver(rules(&[(&url, true)]), false, names.clone()));
    assert_eq!(fetch(&tree, &url).value(), Some(json!([200, "first"])));
    assert_eq!((first.connections(), secret.connections(), names.lookups()), (1, 0, 1));
    assert_eq!(fetch(&tree, &url).value(), Some(json!([200, ""])));
    assert_eq!((first.connections(), secret.connections(), names.lookups()), (1, 1, 2));
    // Without `private` the second one is judged anew.
    let names = Names::new(|_name, _before| vec![Ipv4Addr::new(127, 0, 0, 2).into()]);
    let tree = self::tree(Http::with_resolver(rules(&[(&url, false)]), false, names));
    assert_eq!(code(&fetch(&tree, &url)), "call_denied");
    assert_eq!((first.connections(), secret.connections()), (1, 1));
}

#[test]
fn c13_a_server_that_never_answers_is_a_clear_error_at_the_deadline() {
    let server = Server::silent();
    let caller = plan("caller", &deployed("caller"), |options| {
        options.limits.deadline = Duration::from_secs(2);
    });
    let tree = tree_of(caller, Http::new(rules(&[(&server.url("/"), false)]), false));
    let answer = fetch(&tree, &server.url("/"));
    let Outcome::Crashed(crash) = &answer.outcome else { panic!("{answer:?}") };
    assert_eq!(crash.code.as_str(), "E_DEADLINE");
    assert_eq!(answer.attempts, 1, "what it asked for may have been done: it is not tried again");
    until("let go of", || server.done() == 1);
    assert_eq!(rates(&tree).status, Status::Available, "a request that fails is no death");
    assert_eq!(rates(&tree).generation.0, 1);
}

/// A server that hands each request on to another daemon of the host, and waits for its answer.
fn around(line: &'static [&'static str]) {
    let (ask, asked) = std::sync::mpsc::channel::<(String, Sender<String>)>();
    let server = Server::start(move |request, stream| {
        let (answer, answered) = std::sync::mpsc::channel();
        ask.send((request.to_owned(), answer)).unwrap();
        let body = answered.recv().unwrap();
        let length = body.len();
        // Who asked may have gone.
        drop(write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
    });
    let plans = line.iter().map(|name| {
        let caller = plan(name, &deployed("caller"), |options| {
            options.limits.deadline = Duration::from_secs(2);
            options.retries_max = 0;
        });
        DaemonPlan { needs: vec![RATES.to_owned()], ..caller }
    });
    let millisecond = Duration::from_millis(1);
    let resource = ResourcePlan {
        name: RATES.to_owned(),
        provider: Arc::new(Http::new(rules(&[(&server.url("/"), false)]), false)),
        jobs: Vec::new(),
        policy: Policy::new(Backoff::new(millisecond, 2, millisecond, 0).unwrap(), millisecond),
    };
    let tree = Tree::with_resources(plans.collect(), vec![resource], None);
    let fetch = |daemon: &str, step: usize| {
        let url = server.url(&format!("/{step}"));
        tree.call(daemon, "fetch", json!({"name": "rates", "method": "GET", "url": url}))
    };
    std::thread::scope(|scope| {
        let outer = scope.spawn(|| fetch(line[0], 1));
        // From daemon to daemon, and at last to the first one, which waits for all of it.
        for step in 1..=line.len() {
            let (request, answer) = asked.recv().unwrap();
            assert!(request.starts_with(&format!("GET /{step} ")), "{request}");
            let (daemon, fetch, tree) = (line[step % line.len()], &fetch, &tree);
            scope.spawn(move || {
                let inner = if step == line.len() {
                    tree.call(daemon, "asked", json!({}))
                } else {
                    fetch(daemon, step + 1)
                };
                answer.send(inner.to_json().to_string()).unwrap();
            });
        }
        let outer = outer.join().unwrap();
        assert_eq!(outer.to_json()["error"]["code"], "E_DEADLINE", "{outer:?}");
    });
    for name in line {
        until("given back", || tree.view(name).report.running.is_none());
        assert_eq!(tree.view(name).report.state, DaemonState::Ready);
        assert_eq!(tree.call(name, "asked", json!({})).to_json()["outcome"], "committed");
    }
}

#[test]
fn c15_daemons_that_wait_for_themselves_through_the_outside_are_ended_by_their_deadlines() {
    around(&["a"]);
    around(&["a", "b"]);
    around(&["a", "b", "c"]);
}

#[test]
fn s0_02_a_drill_ends_a_request_that_waits() {
    let server = Server::silent();
    let tree = tree(Http::new(rules(&[(&server.url("/"), false)]), false));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| fetch(&tree, &server.url("/")));
        until("it waits", || server.requests() == 1);
        tree.root.switch_resource(RATES, true).unwrap();
        let answer = waits.join().unwrap();
        let Outcome::Cancelled(stale) = &answer.outcome else { panic!("{answer:?}") };
        assert_eq!(stale.resource, RATES);
    });
    until("let go of", || server.done() == 1);
    let state = || tree.view("caller").report.state;
    assert_eq!(state(), DaemonState::Waiting);
    tree.root.switch_resource(RATES, false).unwrap();
    until("ready", || state() == DaemonState::Ready);
    assert_eq!(tree.committed("caller", "asked", json!({})), 0, "it was undone");
    assert_eq!(tree.view("caller").report.generation, 2);
}

#[test]
fn s0_03_a_server_that_is_gone_is_a_death_where_that_is_checked() {
    let server = Server::saying("HTTP/1.1 200 OK\r\n\r\nhi");
    let (address, url) = (server.address(), server.url("/"));
    let tree = tree(Http::new(rules(&[(&url, false)]), true));
    drop(server);
    until("down", || rates(&tree).status != Status::Available);
    assert_eq!(code(&fetch(&tree, &url)), "E_UNAVAILABLE");
    // Requests are refused before the daemon has heard of it.
    until("waiting", || tree.view("caller").report.state == DaemonState::Waiting);
    let _server =
        Server::at(address, |_, stream| drop(stream.write_all(b"HTTP/1.1 200 K\r\n\r\n")));
    until("ready", || tree.view("caller").report.state == DaemonState::Ready);
    assert_eq!(fetch(&tree, &url).value(), Some(json!([200, ""])));
    assert_eq!(tree.view("caller").report.generation, 2);
}

/// What a call answers, without a daemon.
fn ask(url: &str, method: &str, body: usize, patience: Duration) -> CallResult {
    let names = Names::new(|_name, _before| Vec::new());
    let http = Http::with_resolver(rules(&[(url, false)]), false, names);
    let request = HttpRequest {
        method: method.to_owned(),
        url: url.to_owned(),
        body: vec![b'x'; body],
        ..HttpRequest::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut line = http.open().await.unwrap();
        line.call(Operation::Http(request), Instant::now() + patience).await
    })
}

const MINUTE: Duration = Duration::from_secs(60);

fn answer(said: &'static str, method: &str) -> Result<HttpAnswer, CallError> {
    match ask(&Server::saying(said).url("/"), method, 0, MINUTE)? {
        Reply::Http(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_are_read_in_all_their_forms() {
    for (said, method, status, body) in [
        ("HTTP/1.1 200 OK\r\n\r\nto the end", "GET", 200, "to the end"),
        ("HTTP/1.0 200 OK\r\n\r\nold", "GET", 200, "old"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more", "GET", 200, "hi"),
        (
            "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\
             X-Trailer: t\r\n\r\n",
            "GET",
            500,
            "abc",
        ),
        ("HTTP/1.1 204 Nothing\r\n\r\n", "DELETE", 204, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", "HEAD", 200, ""),
        ("HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhi", "PUT", 200, "hi"),
        ("HTTP/1.1 999 Odd\r\n\r\n", "GET", 999, ""),
    ] {
        let answer = answer(said, method).unwrap();
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!((answer.status, text.as_str()), (status, body), "{said}");
    }
}

#[test]
fn c5_an_answer_that_is_none_is_an_error_of_the_call() {
    for (said, code) in [
        ("", "closed"),
        ("HTTP/1.1 200 OK\r\nX: y", "closed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "closed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", "closed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "closed"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "no-http"),
        ("\0\x01\x02\x03\x04\x05\x06\x07\r\n\r\n", "no-http"),
        ("HTTP/9.9 200 OK\r\n\r\n", "no-http"),
        ("HTTP/1.1 20 OK\r\n\r\n", "no-http"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "no-http"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no-http"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "no-http"),
        ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "no-http"),
    ] {
        let error = answer(said, "GET").unwrap_err();
        let CallError::Refused { code: its, message } = &error else { panic!("{said}: {error:?}") };
        assert_eq!(its, code, "{said}: {message}");
    }
    let gone = Server::silent().url("/");
    let refused = |url: &str| match ask(url, "GET", 0, MINUTE) {
        Err(CallError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (refused(&gone), refused("http://nowhere.test/")),
        ("connect".into(), "lookup".into())
    );
}

#[test]
fn c5_an_answer_has_an_end_and_is_not_kept_beyond_it() {
    const HEAD: CallError = CallError::TooLarge(64 << 10);
    const BODY: CallError = CallError::TooLarge(8 << 20);
    let taken = Arc::new(AtomicUsize::new(0));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x1_0000], b"\r\n"].concat();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let large = "HTTP/1.1 200 OK\r\nContent-Length: 8388609\r\n\r\n";
    let cases: [(String, Vec<u8>, CallError); 8] = [
        ("HTTP/1.1 200 OK\r\nx: ".to_owned(), vec![b'y'; 4096], HEAD),
        ("HTTP/1.1 200 OK\r\n".to_owned(), b"x: y\r\n".repeat(1000), HEAD),
        ("HTTP/1.1 200 ".to_owned(), vec![b'K'; 4096], HEAD),
        (many, Vec::new(), HEAD),
        (long, Vec::new(), HEAD),
        ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), vec![b'x'; MIB], BODY),
        (chunked.to_owned(), chunk, BODY),
        (large.to_owned(), Vec::new(), BODY),
    ];
    for (head, piece, expected) in cases {
        let (its, shown) = (taken.clone(), head.clone());
        let server = Server::start(move |_, stream| {
            let head = stream.write_all(head.as_bytes());
            let flooded = if piece.is_empty() { 0 } else { flood(stream, &piece) };
            its.store(flooded, Ordering::SeqCst);
            drop(head);
        });
        let answer = ask(&server.url("/"), "GET", 0, MINUTE);
        assert_eq!(answer, Err(expected), "{}", shown.lines().next().unwrap());
        until("let go of", || server.done() == 1);
        // What both ends of a connection buffer is in this.
        assert!(taken.load(Ordering::SeqCst) < 64 * MIB, "{taken:?}");
    }
    // As much as may be, both ways.
    let server = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n").unwrap();
        stream.write_all(&vec![b'x'; 8 * MIB]).unwrap();
    });
    let Ok(Reply::Http(answer)) = ask(&server.url("/"), "PUT", 8 * MIB, MINUTE) else { panic!() };
    assert_eq!((answer.status, answer.body.len()), (200, 8 * MIB));
}

#[test]
fn c13_a_slow_answer_ends_in_its_time_and_with_it_the_connection() {
    let slow_head: fn(&str, &mut TcpStream) = |_, stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nx: "));
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let slow_body: fn(&str, &mut TcpStream) = |_, stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n"));
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let informing: fn(&str, &mut TcpStream) = |_, stream| {
        while stream.write_all(b"HTTP/1.1 102 Wait\r\n\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let silent: fn(&str, &mut TcpStream) = |_, stream| drop(stream.read(&mut [0]));
    for (index, answer) in [slow_head, slow_body, informing, silent].into_iter().enumerate() {
        let server = Server::start(answer);
        let late = ask(&server.url("/"), "GET", 0, Duration::from_millis(300));
        assert_eq!(late, Err(CallError::TimedOut), "{index}");
        until("let go of", || server.done() == 1);
    }
    // It takes the connection, and not the body.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let late = ask(&url, "POST", 8 * MIB, Duration::from_millis(300));
    assert_eq!(late, Err(CallError::TimedOut));
}
