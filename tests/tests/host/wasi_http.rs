//! `wasi:http`, by a component with bindings from crates.io.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use host::mechanisms::providers::Pending;
use host::mechanisms::providers::http::{Http, Resolve};
use host::pure::request::{Answer, Outcome};
use host::pure::resource::allow::Rule;
use host::pure::resource::{Policy, Status};
use host::tree::{DaemonPlan, ResourcePlan, ResourceView};
use serde_json::{Value, json};
use tests::{Tree, deployed, in_own_process, plan, until};

use super::http_calls::server::{MIB, Server, flood};

const RATES: &str = "bank/rates";

/// All names lead to this machine.
#[derive(Debug)]
struct Here;

impl Resolve for Here {
    fn resolve(&self, _name: &str) -> Pending<'_, io::Result<Vec<IpAddr>>> {
        Box::pin(async { Ok(vec![[127, 0, 0, 1].into()]) })
    }
}

fn http(name: &str, rules: &[&str]) -> ResourcePlan {
    let rules = rules.iter().map(|rule| Rule::parse(rule, false).unwrap()).collect();
    let provider = Http::with_resolver(rules, false, Arc::new(Here));
    ResourcePlan {
        name: name.to_owned(),
        provider: Arc::new(provider),
        jobs: Vec::new(),
        policy: Policy::default(),
    }
}

fn fetcher(deadline: Duration) -> DaemonPlan {
    let plan = plan("fetcher", &deployed("fetcher"), |options| {
        options.limits.deadline = deadline;
        options.limits.fuel = u64::MAX / 2;
    });
    DaemonPlan { needs: vec![RATES.to_owned()], ..plan }
}

fn tree(rules: &[&str]) -> Tree {
    let plans = vec![fetcher(Duration::from_secs(60))];
    Tree::with_resources(plans, vec![http(RATES, rules)], None)
}

fn get(tree: &Tree, url: &str) -> String {
    text(tree, "fetch", json!({"method": "GET", "url": url}))
}

fn text(tree: &Tree, contract: &str, arguments: Value) -> String {
    tree.committed("fetcher", contract, arguments).as_str().unwrap().to_owned()
}

fn code(answer: &Answer) -> String {
    answer.to_json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_component_with_standard_bindings_sends_requests_as_others_do() {
    let server = Server::start(|_, stream| {
        let head = "HTTP/1.1 404 Not Here\r\nX-Odd: a\r\nx-odd: b\r\nContent-Length: 4\r\n\r\n";
        stream.write_all(format!("{head}none").as_bytes()).unwrap();
    });
    let tree = tree(&[&server.url("/")]);
    let expected = "404 x-odd=a x-odd=b content-length=4: none";
    assert_eq!(get(&tree, &server.url("/v1?a=b")), expected);
    assert!(server.last_request().starts_with("GET /v1?a=b HTTP/1.1\r\n"));
    assert_eq!(get(&tree, &server.url("")), expected);
    assert!(server.last_request().starts_with("GET / HTTP/1.1\r\n"));
    let body = "amount=1&comment=more than one piece";
    let mut sent = json!({
        "method": "POST",
        "url": server.url("/pay"),
        "headers": [["X-Trace", "t 1"], ["accept", "text/plain"], ["Content-Length", "36"]],
        "body": body,
    });
    assert_eq!(text(&tree, "fetch", sent.clone()), expected);
    let request = server.last_request();
    let (head, its) = request.split_once("\r\n\r\n").unwrap();
    let lines: BTreeSet<&str> = head.lines().collect();
    let host = format!("host: {}", server.address());
    let first = ["POST /pay HTTP/1.1", "accept: text/plain", "connection: close"];
    let others = ["content-length: 36", "x-trace: t 1", &host];
    assert_eq!((lines, its), (first.into_iter().chain(others).collect(), body));
    let sends = server.requests();
    sent["headers"][2][1] = json!("7");
    assert_eq!(text(&tree, "fetch", sent.clone()), "error: HttpRequestBodySize");
    for name in ["Host", "connection", "transfer-encoding", "Proxy-Authorization", "te"] {
        sent["headers"] = json!([[name, "x"]]);
        let refused = text(&tree, "fetch", sent.clone());
        assert_eq!(refused, format!("error: HeaderError::Forbidden {name}"));
    }
    sent["headers"] = json!([["x", "1\r\ny: 2"]]);
    assert_eq!(text(&tree, "fetch", sent), "error: HeaderError::InvalidSyntax x");
    assert_eq!(server.requests(), sends);
}

#[test]
fn who_is_not_allowed_is_not_asked() {
    let server = Server::saying("HTTP/1.1 200 OK\r\n\r\nsecret");
    let port = server.port();
    let named = format!("http://inside.test:{port}/");
    let tree = tree(&[&server.url("/ok/"), &named]);
    assert_eq!(get(&tree, &server.url("/ok/x")), "200: secret");
    let asked = server.connections();
    let urls = [
        server.url("/"),
        server.url("/ok/../x"),
        server.url("/ok/%2e%2e/x"),
        server.url("/ok/\r\nx: y"),
        // Allowed, but not where that name leads to.
        named,
        format!("http://localhost:{port}/ok/"),
        format!("http://[::1]:{port}/ok/"),
        format!("http://0x7f000001:{port}/ok/"),
        format!("http://127.0.0.1:{port}@other.test/ok/"),
        format!("https://127.0.0.1:{port}/ok/"),
        format!("file://127.0.0.1:{port}/ok/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http:///ok/".to_owned(),
    ];
    for url in urls {
        assert_eq!(get(&tree, &url), "error: HttpRequestDenied", "{url}");
    }
    for method in ["CONNECT", "G T", "GET /ok/ HTTP/1.1\r\n\r\nGET"] {
        let arguments = json!({"method": method, "url": server.url("/ok/")});
        assert_eq!(text(&tree, "fetch", arguments), "error: HttpRequestDenied", "{method}");
    }
    assert_eq!(server.connections(), asked);
}

#[test]
fn a_request_is_for_the_resource_that_lets_it_pass() {
    let (one, other) = (Server::saying("HTTP/1.1 200 OK\r\n\r\none"), Server::silent());
    let resources = vec![http(RATES, &[&one.url("/")]), http("bank/other", &[&other.url("/")])];
    let mut plan = fetcher(Duration::from_secs(60));
    plan.needs = Vec::new();
    plan.uses = vec![RATES.to_owned(), "bank/other".to_owned()];
    let tree = Tree::with_resources(vec![plan], resources, None);
    tree.root.switch_resource("bank/other", true).unwrap();
    let is_down = |view: &ResourceView| view.status != Status::Available;
    until("down", || tree.root.resources().iter().any(is_down));
    assert_eq!(get(&tree, &one.url("/")), "200: one");
    assert_eq!(get(&tree, &other.url("/")), "error: DestinationUnavailable");
    assert_eq!(get(&tree, "http://third.test/"), "error: HttpRequestDenied");
    assert_eq!(other.connections(), 0);
}

#[test]
fn requests_are_under_way_at_once_and_answers_come_as_they_are_there() {
    let fast_was_asked = Arc::new(AtomicBool::new(false));
    let asked = fast_was_asked.clone();
    let server = Server::start(move |request, stream| {
        if request.starts_with("GET /slow") {
            until("the other one was asked", || asked.load(Ordering::SeqCst));
            std::thread::sleep(Duration::from_millis(100));
        }
        asked.fetch_or(request.starts_with("GET /fast"), Ordering::SeqCst);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nyes").unwrap();
    });
    let tree = tree(&[&server.url("/")]);
    let urls = |paths: &[&str]| json!({"urls": paths.iter().map(|path| server.url(path)).collect::<Vec<_>>()});
    let answers = text(&tree, "race", urls(&["/slow", "/fast"]));
    assert_eq!(answers, "fast 200: yes, slow 200: yes");
    let answers = text(&tree, "race", urls(&["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"]));
    assert_eq!(answers.matches("200: yes").count(), 8, "{answers}");
}

#[test]
fn c13_a_peer_that_never_answers_is_waited_for_until_something_ends_it() {
    let server = Server::silent();
    let rule = server.url("/");
    let fetch = json!({"method": "GET", "url": server.url("/")});
    let short = vec![fetcher(Duration::from_millis(300))];
    let tree = Tree::with_resources(short, vec![http(RATES, &[&rule])], None);
    assert_eq!(tree.code("fetcher", "fetch", fetch.clone()), "E_DEADLINE");
    assert_eq!(tree.code("fetcher", "race", json!({"urls": [server.url("/")]})), "E_DEADLINE");
    drop(tree);
    let tree = self::tree(&[&rule]);
    let wait = json!({"url": server.url("/"), "milliseconds": 50});
    assert_eq!(text(&tree, "wait", wait), "error: HttpResponseTimeout");
    let request = || {
        let resources = tree.root.resources();
        resources.iter().flat_map(|view| &view.leases).map(|lease| lease.request).next()
    };
    // Asks, and something is done when that has come to the server.
    let asked = |act: &dyn Fn()| {
        std::thread::scope(|scope| {
            let before = server.requests();
            let asks = scope.spawn(|| tree.call("fetcher", "fetch", fetch.clone()));
            until("it was asked", || server.requests() > before);
            act();
            asks.join().unwrap().outcome
        })
    };
    let killed = || {
        let outcome = asked(&|| drop(tree.root.kill(request().unwrap()).unwrap()));
        let Outcome::Crashed(crash) = outcome else { panic!("{outcome:?}") };
        assert_eq!(crash.code.as_str(), "E_CANCELLED", "{crash:?}");
        crash.message
    };
    // And not when the call had ended in another way. Between asking and waiting the guest runs,
    // on a machine with much to do for long: one that is hit there ends there.
    let mut kills = std::iter::repeat_with(killed).take(50);
    assert!(kills.any(|message| message.contains("while it waited")), "none of 50");
    let held = asked(&|| drop(tree.root.switch_resource(RATES, true).unwrap()));
    assert!(matches!(held, Outcome::Cancelled(_)), "{held:?}");
    until("nobody waits any more", || server.done() == server.connections());
}

#[test]
fn bodies_are_bounded_both_ways() {
    let server = Server::start(|request, stream| {
        if request.starts_with("GET") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            flood(stream, &[b'x'; 1 << 16]);
        } else {
            let length = request.split_once("\r\n\r\n").unwrap().1.len();
            stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{length}").as_bytes()).unwrap();
        }
    });
    let tree = tree(&[&server.url("/")]);
    assert_eq!(get(&tree, &server.url("/")), "error: HttpResponseBodySize");
    let flood = |mebibytes: u32| {
        let arguments = json!({"url": server.url("/"), "mebibytes": mebibytes});
        text(&tree, "flood", arguments)
    };
    assert_eq!(flood(7), format!("200: {}", 7 * MIB));
    // The head counts too.
    assert_eq!(flood(8), "error: HttpRequestBodySize");
    assert_eq!(flood(1000), "closed after 8 MiB");
    let given_up = text(&tree, "give_up", json!({"url": server.url("/")}));
    assert_eq!(given_up, "error: InternalError");
    assert_eq!(server.requests(), 2);
}

#[test]
fn d13_what_nobody_waits_for_ends_with_its_transaction() {
    let server = Server::silent();
    let tree = tree(&[&server.url("/")]);
    let begin = |count: u32, keeps: bool| {
        let arguments = json!({"url": server.url("/"), "count": count, "keeps": keeps});
        tree.call("fetcher", "begin", arguments)
    };
    assert_eq!(begin(8, false).value(), Some(json!("begun")));
    until("nobody waits any more", || server.done() == server.connections());
    assert_eq!(begin(9, false).value(), Some(json!("error: ConnectionLimitReached")));
    assert_eq!(code(&begin(3, true)), "E_HANDLE_LEAK");
    until("nobody waits any more", || server.done() == server.connections());
    assert_eq!(tree.committed("fetcher", "calls", json!({})), 2);
    assert!(tree.root.resources().iter().all(|view| view.leases.is_empty()));
}

#[test]
fn d13_all_that_is_under_way_ends_with_its_transaction() {
    let silent = Arc::new(Server::silent());
    let its = silent.clone();
    let fast = Server::start(move |_, stream| {
        until("all others were asked", || its.requests() == 8);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nyes").unwrap();
    });
    let second = fetcher(Duration::from_secs(60));
    let first = plan("first", &deployed("fetcher"), |options| {
        options.limits.deadline = Duration::from_secs(60);
    });
    let first = DaemonPlan { needs: vec![RATES.to_owned()], ..first };
    let resource = http(RATES, &[&silent.url("/"), &fast.url("/")]);
    let tree = Tree::with_resources(vec![first, second], vec![resource], None);
    std::thread::scope(|scope| {
        let fetch = json!({"method": "GET", "url": silent.url("/")});
        let waits = scope.spawn(|| tree.call("first", "fetch", fetch));
        until("it was asked", || silent.requests() == 1);
        let request = || {
            let resources = tree.root.resources();
            resources.iter().flat_map(|view| &view.leases).map(|lease| lease.request).next()
        };
        let first = request().unwrap();
        let mut urls = vec![silent.url("/"); 7];
        urls.push(fast.url("/"));
        let raced = text(&tree, "race", json!({"urls": urls, "answers": 1}));
        assert!(raced.ends_with("200: yes"), "{raced}");
        until("nobody waits any more", || silent.done() == 7);
        // It was sent before those, and would have ended by itself before them.
        assert!(!waits.is_finished());
        tree.root.kill(first).unwrap();
        assert_eq!(code(&waits.join().unwrap()), "E_CANCELLED");
    });
}

#[test]
fn no_thread_is_started_that_nobody_accounts_for() {
    in_own_process("host::wasi_http::no_thread_is_started_that_nobody_accounts_for", || {
        let server = Server::saying("HTTP/1.1 200 OK\r\n\r\nyes");
        let tree = tree(&[&server.url("/")]);
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        for _ in 0..20 {
            assert_eq!(get(&tree, &server.url("/")), "200: yes");
        }
        // Those of the server, which are for one request each.
        until("as many as before", || threads() == before);
    });
}
