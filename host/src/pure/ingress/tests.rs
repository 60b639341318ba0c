use super::*;
use crate::base::ids::{Generation, LeaseId, RequestId, Sequence};
use crate::pure::request::{Crash, Stale};

fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
    let request = http::Request::builder().method(method).uri(path);
    let has_host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = (!has_host).then_some(("host", "127.0.0.1:8080"));
    let headers = host.iter().chain(headers);
    let request = headers.fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap().into_parts().0
}

fn ask(head: &Parts) -> Result<Ask, Refusal> {
    super::ask(head, &Hosts::new(&[Hosts::name("Bank.Example.").unwrap()]))
}

fn called(headers: &[(&str, &str)]) -> Request {
    match ask(&head("POST", "/ledger/deposit", headers)) {
        Ok(Ask::Call(request)) => *request,
        other => panic!("{headers:?}: {other:?}"),
    }
}

fn refused_with(method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let refusal = ask(&head(method, path, headers)).unwrap_err();
    assert_eq!(refusal.fault.code, Code::Request);
    assert_eq!(refusal.allow().is_some(), refusal.status == StatusCode::METHOD_NOT_ALLOWED);
    (refusal.status.as_u16(), refusal.fault.message)
}

#[test]
fn paths_and_methods_say_what_is_asked_for() {
    let expected = Request::new("ledger", "deposit", Args::default()).shown();
    assert_eq!(called(&[]), expected);
    let absolute = ask(&head("POST", "http://[::1]:8080/ledger/deposit", &[]));
    assert_eq!(absolute, Ok(Ask::Call(Box::new(expected))));
    for method in ["GET", "HEAD"] {
        assert_eq!(ask(&head(method, "/health?from=probe", &[])), Ok(Ask::Health));
        assert_eq!(ask(&head(method, "/health/ready", &[])), Ok(Ask::Health));
        assert_eq!(ask(&head(method, "/health/live", &[])), Ok(Ask::Liveness));
    }
    for (method, path, status) in [
        ("POST", "/health", 405),
        ("GET", "/ledger/deposit", 405),
        ("OPTIONS", "/ledger/deposit", 405),
        ("PUT", "/ledger/deposit", 405),
        ("GET", "/", 404),
        ("POST", "/ledger", 404),
        ("POST", "/ledger/", 404),
        ("POST", "//deposit", 404),
        ("POST", "/ledger/deposit/", 404),
        ("POST", "/ledger/deposit/more", 404),
        ("GET", "/health/", 404),
        ("GET", "/health/dead", 405),
        ("GET", "/health/live/now", 404),
        ("OPTIONS", "*", 404),
        ("POST", "/ledger/deposit?amount=5", 400),
    ] {
        assert_eq!(refused_with(method, path, &[]).0, status, "{method} {path}");
    }
    // A daemon may be called `health`.
    let asked = ask(&head("POST", "/health/live", &[]));
    assert!(matches!(asked, Ok(Ask::Call(call)) if call.contract == "live"));
    // No daemon is called so; that is the root's to say.
    let Ok(Ask::Call(odd)) = ask(&head("POST", "/%2e/..", &[])) else { panic!("it is a path") };
    assert_eq!((odd.daemon.as_str(), odd.contract.as_str()), ("%2e", ".."));
}

#[test]
fn a_host_is_named_once() {
    let mut none = head("POST", "/ledger/deposit", &[]);
    none.headers.remove("host");
    assert_eq!(ask(&none).unwrap_err().status, StatusCode::BAD_REQUEST);
    none.version = Version::HTTP_10;
    assert!(ask(&none).is_ok());
    let two = [("host", "localhost"), ("host", "localhost")];
    assert_eq!(refused_with("POST", "/ledger/deposit", &two).0, 400);
}

#[test]
fn only_names_that_no_page_can_choose_are_answered() {
    let of = |host: &str, path: &str| match ask(&head("GET", path, &[("host", host)])) {
        Ok(_) => 200,
        Err(refusal) => refusal.status.as_u16(),
    };
    for (host, status) in [
        ("127.0.0.1", 200),
        ("127.0.0.1:8080", 200),
        ("10.1.2.3:80", 200),
        ("[::1]", 200),
        ("[fe80::1]:8080", 200),
        ("localhost", 200),
        ("LocalHost.:8080", 200),
        ("bank.example", 200),
        ("Bank.Example.:443", 200),
        ("evil.example", 403),
        ("evil.example:8080", 403),
        ("notlocalhost", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("bank.example.evil.example", 403),
        ("xbank.example", 403),
        ("127.1", 403),
        ("localhost@evil.example", 403),
        ("", 400),
        ("a b", 400),
        ("[::1", 400),
    ] {
        assert_eq!(of(host, "/health"), status, "{host}");
        // The line of the request may name one too.
        assert_eq!(of("localhost", "http://evil.example/health"), 403);
        if status != 400 {
            assert_eq!(of("localhost", &format!("http://{host}/health")), status, "{host}");
        }
    }
    for bad in ["", "a b", "a:1", "http://a", "a/b", "u@a"] {
        assert!(Hosts::name(bad).is_err(), "{bad}");
    }
}

#[test]
fn keys_and_correlation_ids_come_from_headers() {
    let long = "x".repeat(KEY_BYTES_MAX);
    for (value, expected) in
        [("k1", "k1"), ("\"k1\"", "k1"), ("\"", "\""), ("a b", "a b"), (&long, &long)]
    {
        let request = called(&[("Idempotency-Key", value), ("X-Correlation-Id", value)]);
        assert_eq!(request.key.as_deref(), Some(expected));
        assert_eq!(request.correlation.as_deref(), Some(expected));
    }
    assert_eq!(called(&[("Correlation-Id", "c")]).correlation.as_deref(), Some("c"));
    let longer = "x".repeat(KEY_BYTES_MAX + 1);
    for headers in [
        &[("idempotency-key", "")][..],
        &[("idempotency-key", "\"\"")],
        &[("idempotency-key", &longer)],
        &[("idempotency-key", "\u{e9}")],
        &[("idempotency-key", "a"), ("idempotency-key", "a")],
        &[("correlation-id", "a"), ("x-correlation-id", "a")],
    ] {
        assert_eq!(refused_with("POST", "/ledger/deposit", headers).0, 400, "{headers:?}");
    }
}

#[test]
fn the_preference_to_wait_is_read_as_rfc_7240_says() {
    let most = RESOURCE_WAIT_MAX.as_secs();
    for (values, expected) in [
        (&["wait=2"][..], Some(2)),
        (&["respond-async, Wait = \"10\"; x=1"], Some(10)),
        (&["respond-async", "wait=3", "wait=4"], Some(3)),
        (&["wait=0"], Some(0)),
        (&["wait=99999999999999999999999"], Some(most)),
        (&["waiting=1"], None),
        (&["\u{e9}"], None),
        (&[], None),
    ] {
        let headers: Vec<_> = values.iter().map(|value| ("prefer", *value)).collect();
        assert_eq!(called(&headers).wait, expected.map(Duration::from_secs), "{values:?}");
    }
    for value in ["wait=x, wait=5", "wait", "wait=", "wait=-1", "wait=+1", "wait=1.5", "wait=abc"] {
        let refused = refused_with("POST", "/ledger/deposit", &[("prefer", value)]);
        assert_eq!(refused.0, 400, "{value}");
        assert!(refused.1.contains("wait=SECONDS"), "{refused:?}");
    }
}

#[test]
fn what_a_page_of_another_site_sends_is_refused() {
    let (site, origin, host) = ("sec-fetch-site", "origin", "host");
    for headers in [
        &[][..],
        &[(site, "same-origin"), (origin, "https://front.example")],
        &[(site, "none")],
        &[(origin, "http://127.0.0.1:8080")],
        &[(origin, "https://bank.example"), (host, "bank.example")],
    ] {
        called(headers);
    }
    for headers in [
        &[(site, "cross-site")][..],
        &[(site, "same-site"), (origin, "http://127.0.0.1:8080")],
        &[(site, "")],
        &[(origin, "http://evil.example")],
        &[(origin, "http://127.0.0.1:9090")],
        &[(origin, "null")],
        &[(origin, "")],
        &[(origin, "file://127.0.0.1:8080")],
    ] {
        assert_eq!(refused_with("POST", "/ledger/deposit", headers).0, 403, "{headers:?}");
    }
}

#[test]
fn bodies_are_nothing_or_json() {
    // Whether it is JSON the daemon finds out.
    for body in ["", " \r\n", "{\"a\": [1]}", "a=1"] {
        assert_eq!(arguments(body.into()), Ok(Args::json(body)));
    }
    let refusal = arguments(b"\xff".to_vec()).unwrap_err();
    assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
}

fn answer(outcome: Outcome, attempts: u32) -> Answer {
    Answer {
        request: RequestId(1),
        daemon: "d".to_owned(),
        contract: "c".to_owned(),
        outcome,
        sequence: Sequence(1),
        attempts,
        shown: None,
    }
}

fn rejection(code: &str, blame: Blame, attempts: u32) -> Answer {
    let (code, message) = (code.to_owned(), String::new());
    answer(Outcome::Rejected(Rejection { code, blame, message, details: None }), attempts)
}

#[test]
fn each_outcome_has_its_status() {
    let crashed = |code| {
        let crash = Crash {
            code,
            blame: code.blame(),
            message: String::new(),
            backtrace: Vec::new(),
            fuel_used: 0,
            cards_changed: 0,
            attempt: 1,
            generation: Generation(1),
            poison: false,
            report: None,
        };
        answer(Outcome::Crashed(Box::new(crash)), 1)
    };
    let stale = Stale { resource: "r".to_owned(), lease: LeaseId(1), why: String::new() };
    for (answer, expected) in [
        (answer(Outcome::Committed(vec![0xc0]), 1), 200),
        (crashed(Code::Unreachable), 500),
        (crashed(Code::Deadline), 500),
        (crashed(Code::Cancelled), 503),
        (answer(Outcome::Cancelled(Box::new(stale)), 1), 503),
        (answer(Outcome::Unknown(Fault::new(Code::StorePoisoned, "")), 1), 502),
        (rejection("overdraft", Blame::Caller, 1), 422),
        // The guest's own, whatever they are called.
        (rejection("E_QUEUE_FULL", Blame::Caller, 1), 422),
        (rejection("E_ARGS", Blame::Caller, 1), 400),
        // What it was told of a resource, and what only sounds like it.
        (rejection("resource_busy", Blame::Environment, 1), 503),
        (rejection("resource_unavailable", Blame::Environment, 1), 503),
        (rejection("resource_busy", Blame::Caller, 1), 422),
        (rejection("call_timed_out", Blame::Environment, 1), 504),
        (rejection("no_such_resource", Blame::Operator, 1), 500),
        (rejection("call_refused", Blame::Guest, 1), 500),
        (rejection("call_refused", Blame::Caller, 1), 422),
        // Between two tries.
        (rejection("E_PARKED", Blame::Guest, 2), 503),
        (rejection("E_STORE_POISONED", Blame::Environment, 1), 503),
    ] {
        assert_eq!(status(&answer).as_u16(), expected, "{answer:?}");
    }
}

#[test]
fn each_refusal_of_the_host_has_its_status() {
    for (codes, expected) in [
        (&[Code::Request, Code::Args][..], 400),
        (&[Code::DaemonUnknown, Code::ContractUnknown], 404),
        (&[Code::KeyConflict], 422),
        (&[Code::QueueFull], 429),
        (&[Code::Unavailable, Code::HandleStale, Code::Parked, Code::Restarts], 503),
        (&[Code::Disabled, Code::Stopping, Code::Cancelled], 503),
        (&[Code::StoreFull, Code::StoreIo, Code::StorePoisoned], 503),
        (&[Code::HostBug, Code::StoreCorrupt], 500),
    ] {
        for code in codes {
            let status = status(&rejection(code.as_str(), code.blame(), 0));
            assert_eq!(status.as_u16(), expected, "{code}");
            assert_eq!(comes_back(status), [429, 503].contains(&expected), "{code}");
        }
    }
}
