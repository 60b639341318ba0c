//! Arguments and answers as large and as odd as callers and guests like: they cost whoever sends
//! them, and nobody else.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use host::base::error::Code;
use host::base::ids::RequestId;
use host::base::limits::{
    ANSWER_BYTES_MAX, ARGUMENTS_MAX, SCHEMA_BYTES_MAX, TRAFFIC_BYTES_MIN, TRAFFIC_REQUESTS_PART,
};
use host::base::room::Room;
use host::mechanisms::sandbox::{Guest, Limits};
use host::pure::contract::Args;
use host::pure::request::{Answer, Outcome, Request};
use host::tree::{Arguments, Bound};
use serde_json::{Value, json};
use tests::{Hostile, RUN, Rig, RigOptions, Tree, bound, deploy, deployed, plan};

/// Fuel for 20 MB of values.
const PLENTY: u64 = 1_000_000_000;

fn limits(fuel: u64) -> Limits {
    Limits { fuel, deadline: Duration::from_secs(60) }
}

/// A guest whose contract `run` takes an `x` of that schema.
fn taking(argument: &str, run: &str) -> Arc<Guest> {
    let memory = "(memory (export \"memory\") 600)".to_owned();
    let (argument, run) = (argument.to_owned(), run.to_owned());
    deploy(&Hostile { memory, argument, run, ..Hostile::default() }.build()).unwrap()
}

fn rig(guest: &Arc<Guest>) -> Rig {
    let options = RigOptions { budget_bytes: 48 << 20, fuel: PLENTY, ..RigOptions::default() };
    Rig::start(guest, RigOptions { verify: false, ..options })
}

/// A request whose arguments nobody has read.
fn unread(text: impl Into<Arc<str>>, show: Option<Room>) -> Bound {
    let arguments = Arguments::Unread(Args::json(text));
    Bound { arguments, show, request: RequestId(7), ..bound(0, &[]) }
}

fn code(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Committed(_) => String::new(),
        Outcome::Rejected(rejection) => rejection.code.clone(),
        Outcome::Crashed(crash) => crash.code.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// As wide a union as there may be, and 1 MB of values that meet all of it.
#[test]
fn a_wide_union_costs_what_the_bytes_allow() {
    let nulls = vec![r#"{"type":"null"}"#; 3900].join(",");
    let union = format!(r#"{{"anyOf":[{nulls},{{}}]}}"#);
    assert!(union.len() <= SCHEMA_BYTES_MAX);
    let lists: Vec<String> =
        (0..1500).map(|n| format!(r#"{{"type":"array","items":{{"const":{n}}}}}"#)).collect();
    let apart = format!(r#"{{"anyOf":[{}]}}"#, lists.join(","));
    let numbers = format!("{{\"x\": [{}]}}", vec!["1"; 500_000].join(","));
    for (schema, expected) in [(union, ""), (apart, "")] {
        let mut rig = rig(&taking(&schema, ""));
        let transacted = rig.daemon.transact(&unread(&*numbers, None));
        assert_eq!(code(&transacted.outcome), expected);
        // It was paid for, by the bytes.
        let fuel = rig.daemon.gauges().report().fuel;
        assert!((numbers.len() as u64..100 * numbers.len() as u64).contains(&fuel), "{fuel}");
    }
}

/// What ends a transaction ends the reading of its arguments too, before anything was started.
#[test]
fn reading_arguments_ends_by_fuel_and_cancel() {
    let numbers = format!("{{\"x\": [{}]}}", vec!["1"; 100_000].join(","));
    let mut rig = rig(&taking("{}", ""));
    let before = rig.hash();
    rig.daemon.set_limits(limits(1_000_000));
    let transacted = rig.daemon.transact(&unread(&*numbers, None));
    assert_eq!((code(&transacted.outcome).as_str(), transacted.attempts), ("E_FUEL", 0));
    rig.daemon.set_limits(limits(PLENTY));
    rig.daemon.cancel().request(RequestId(7));
    let transacted = rig.daemon.transact(&unread(&*numbers, None));
    assert_eq!((code(&transacted.outcome).as_str(), transacted.attempts), ("E_CANCELLED", 0));
    rig.daemon.cancel().request(RequestId(8));
    assert_eq!(rig.hash(), before);
    let transacted = rig.daemon.transact(&unread(&*numbers, None));
    assert_eq!((code(&transacted.outcome).as_str(), transacted.attempts), ("", 1));
}

/// The guest answers 8 MiB of small numbers: checking them is part of the transaction.
#[test]
fn checking_a_result_ends_by_fuel() {
    let run = "(memory.fill #1048576 #1 #8388608) (i32.store8 #1048571 #0xdd)
        (i32.store #1048572 #0x8000) (return (call $answer #1048571 #8388613))";
    let mut rig = rig(&taking("{}", run));
    let bound = unread("{\"x\": 1}", None);
    let transacted = rig.daemon.transact(&bound);
    assert_eq!(code(&transacted.outcome), "", "{:?}", transacted.outcome);
    let (before, sequence) = (rig.hash(), rig.daemon.sequence());
    rig.daemon.set_limits(limits(100_000_000));
    let transacted = rig.daemon.transact(&bound);
    assert_eq!(code(&transacted.outcome), "E_FUEL");
    assert_eq!((rig.hash(), rig.daemon.sequence()), (before, sequence));
    rig.assert_whole();
}

#[test]
fn an_answer_is_shown_up_to_its_limit_and_counted_until_it_is_read() {
    let room = Room::new(ANSWER_BYTES_MAX);
    let text = |count: usize| count * "{\"\":null},".len() + 1;
    let count = 1_000_000;
    let mut fits = rig(&deploy(&Hostile::maps(1_000_000).build()).unwrap());
    let shown = Bound { show: Some(room.clone()), ..bound(0, &[0x90]) };
    let transacted = fits.daemon.transact(&shown);
    let answer = transacted.shown.unwrap();
    assert_eq!((answer.as_str().len(), room.taken()), (text(count), text(count)));
    assert!(answer.as_str().starts_with("[{\"\":null},{\"\":null},"));
    // Others are refused when there is no room, and nothing of them happened.
    let elsewhere = room.take(ANSWER_BYTES_MAX - text(count)).unwrap();
    let (hash, sequence) = (fits.hash(), fits.daemon.sequence());
    let transacted = fits.daemon.transact(&shown);
    assert_eq!((code(&transacted.outcome).as_str(), transacted.attempts), ("E_QUEUE_FULL", 1));
    assert_eq!((fits.hash(), fits.daemon.sequence()), (hash, sequence));
    drop((answer, elsewhere));
    assert_eq!(room.taken(), 0);
    assert_eq!(code(&fits.daemon.transact(&shown).outcome), "");
    // More than is ever sent.
    let run = "(memory.fill #1048576 #0xc0 #15000000) (i32.store #1048571 #0xe1e400dd)
        (i32.store8 #1048575 #0xc0) (return (call $answer #1048571 #15000005))";
    let mut large = rig(&taking("", run));
    let transacted = large.daemon.transact(&shown);
    assert_eq!(code(&transacted.outcome), "E_ANSWER_TOO_LARGE");
    assert_eq!((room.taken(), large.daemon.sequence().0), (0, 0));
    // Whoever wants no JSON gets it all the same.
    let packed = Bound { show: None, ..shown };
    assert_eq!(code(&large.daemon.transact(&packed).outcome), "");
}

/// A paused daemon holds requests, and nobody has read what is in them.
#[test]
fn arguments_wait_unread_and_take_room() {
    let guest = taking("{}", "");
    let change = |options: &mut host::tree::DaemonOptions| options.budget_bytes = 48 << 20;
    let (part, overhead) = (TRAFFIC_BYTES_MIN / TRAFFIC_REQUESTS_PART, 4 << 20);
    let limit = 2 * (48 << 20) + overhead + (16 << 20);
    let tree = Tree::try_start(vec![plan("d", &guest, change)], limit).unwrap();
    let room = tree.root.requests().bytes_max();
    assert!(room >= part, "{room}");
    tree.root.pause("d", false).unwrap();
    let (reply, answers) = channel::<Answer>();
    let submit = |args: String| {
        let reply = reply.clone();
        let request = Request::new("d", RUN, Args::json(args));
        tree.root.submit(request, Box::new(move |answer| drop(reply.send(answer))));
    };
    submit("{\"x\": ".to_owned());
    submit(format!("{{\"x\": \"{}\"}}", "y".repeat(room / 2)));
    assert!(tree.root.requests().taken() > room / 2);
    assert!(answers.try_recv().is_err(), "nobody has read them");
    submit(format!("{{\"x\": \"{}\"}}", "z".repeat(room / 2)));
    let refused = answers.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(code(&refused.outcome), "E_QUEUE_FULL");
    tree.root.resume("d").unwrap();
    let mut codes: Vec<String> = (0..2)
        .map(|_| code(&answers.recv_timeout(Duration::from_secs(60)).unwrap().outcome))
        .collect();
    codes.sort();
    assert_eq!(codes, ["", "E_ARGS"]);
    assert_eq!(tree.root.requests().taken(), 0);
}

/// The first 200,000 arguments were one request too many.
#[test]
fn descriptions_have_caps() {
    let refused = |hostile: Hostile, expected: &str| {
        let error = deploy(&hostile.build()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let memory = "(memory (export \"memory\") 600)".to_owned();
    let with = |argument: &str| Hostile {
        memory: memory.clone(),
        argument: argument.to_owned(),
        ..Hostile::default()
    };
    refused(Hostile::arguments(ARGUMENTS_MAX + 1), "65 arguments; 64 is the most");
    let wide = format!(r#"{{"enum": ["{}"]}}"#, "x".repeat(SCHEMA_BYTES_MAX));
    refused(with(&wide), "bytes; 65536 is the most");
    let mut deep = "{}".to_owned();
    for _ in 0..70 {
        deep = format!(r#"{{"type":"array","items":{deep}}}"#);
    }
    refused(with(&deep), "nested deeper");
}

/// Replies of every kind are shown: values of reads, kept answers, details of rejections.
#[test]
fn whatever_a_client_is_told_is_shown_by_the_daemon() {
    let tree = Tree::start(vec![plan("ledger", &deployed("ledger"), |_| {})]);
    let call = |contract: &str, args: Value, key: Option<&str>| {
        let request = Request::new("ledger", contract, args).shown();
        let key = key.map(str::to_owned);
        tree.root.call(Request { key, ..request }).unwrap()
    };
    let deposit = json!({"account": "ann", "amount": 5});
    let first = call("deposit", deposit.clone(), Some("k"));
    let again = call("deposit", deposit, Some("k"));
    assert_eq!((first.shown.clone(), first.sequence), (again.shown, again.sequence));
    assert!(first.shown.is_some());
    let total = call("total", json!({}), None);
    assert_eq!(total.shown.as_ref().map(|shown| shown.as_str()), Some("5"));
    let line = total.into_line().to_string();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["value"], &line["outcome"]), (&json!(5), &json!("committed")));
    let refused = call("transfer", json!({"from": "ann", "to": "bob", "amount": 50}), None);
    let line: Value = serde_json::from_str(&refused.clone().into_line().to_string()).unwrap();
    assert_eq!(line, refused.to_json());
    assert_eq!(line["outcome"], "rejected");
}

/// A value that is read, however it is asked for, is the same.
#[test]
fn a_number_that_fits_no_float_is_refused_as_it_was_sent() {
    let tree = Tree::start(vec![plan("counter", &deployed("counter"), |_| {})]);
    let args = Args::json(r#"{"by": 18446744073709551616}"#);
    let answer = tree.root.call(Request::new("counter", "increment", args)).unwrap();
    let Outcome::Rejected(rejection) = answer.outcome else { panic!("{answer:?}") };
    assert_eq!(rejection.code, Code::Args.as_str());
    let expected = "`increment`: argument `by`: 18446744073709551616 is above the maximum \
                    18446744073709551615";
    assert_eq!(rejection.message, expected);
    assert_eq!(tree.committed("counter", "value", json!({})), 0);
}
