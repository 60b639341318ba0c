//! What `#[guest]` makes of a block, seen through the harness.

#![expect(unreachable_pub, reason = "`pub` is what makes a contract, also in a test")]

use guest_sdk::__private::Guest as _;
use guest_sdk::prelude::*;
use guest_sdk::test::{Harness, Outcome, Value, json};

/// A guest with all hooks and every shape of a contract.
#[derive(Clone, Debug, PartialEq)]
struct Notes {
    limit: usize,
    notes: Vec<Note>,
    generation: u64,
}

#[data]
#[derive(Clone, Debug, PartialEq)]
struct Note {
    text: String,
    #[serde(default)]
    urgent: bool,
    kind: Kind,
}

#[data]
#[derive(Clone, Debug, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Plain,
    Reply { to: u64 },
}

#[data]
struct Parameters {
    limit: usize,
}

/// An error that becomes a rejection by itself.
struct Full(usize);

impl From<Full> for Rejection {
    fn from(full: Full) -> Self {
        Self::new("full", format!("there are {} notes already", full.0)).with_details(&full.0)
    }
}

#[guest]
impl Notes {
    #[init]
    fn new(parameters: Parameters) -> Result<Self, Rejection> {
        ensure!(parameters.limit > 0, "no_limit", "a limit of {} leaves no room", parameters.limit);
        Ok(Self { limit: parameters.limit, notes: Vec::new(), generation: context::generation() })
    }

    #[recover]
    fn recover(&mut self, report: CrashReport) -> Recovery {
        self.notes.clear();
        if report.attempt > 1 { Recovery::Park } else { Recovery::Resume }
    }

    #[on_restore]
    fn on_restore(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// Adds a note.
    ///
    /// The second paragraph.
    pub fn add(&mut self, note: Note) -> Result<usize, Full> {
        self.notes.push(note);
        if self.notes.len() > self.limit { Err(Full(self.limit)) } else { Ok(self.notes.len()) }
    }

    pub fn find(&self, text: Option<String>, urgent: Option<bool>) -> Vec<Note> {
        let matches = |note: &&Note| {
            text.as_ref().is_none_or(|text| note.text.contains(text.as_str()))
                && urgent.is_none_or(|urgent| note.urgent == urgent)
        };
        self.notes.iter().filter(matches).cloned().collect()
    }

    pub fn merge(&mut self, mut others: Vec<Note>) {
        self.notes.append(&mut others);
        assert!(self.notes.len() <= self.limit, "merged too much");
    }

    pub fn stamp(&mut self, r#type: String) -> (String, u64, u32) {
        (format!("{}:{}", r#type, context::request_id()), clock::now(), context::attempt())
    }

    pub(crate) fn helper(&self) -> usize {
        self.notes.len()
    }
}

fn notes(limit: usize) -> Harness<Notes> {
    Harness::new(json!({"limit": limit}))
}

fn plain(text: &str) -> Value {
    json!({"text": text, "kind": "plain"})
}

fn report(attempt: u32) -> CrashReport {
    CrashReport {
        code: "E_TRAP".to_owned(),
        message: "unreachable".to_owned(),
        contract: "add".to_owned(),
        attempt,
        generation: 1,
        fuel_used: 7,
    }
}

#[test]
fn contracts_are_described_in_order() {
    let contracts = Notes::CONTRACTS;
    let names: Vec<&str> = contracts.iter().map(|contract| contract.name).collect();
    assert_eq!(names, ["add", "find", "merge", "stamp"]);
    assert_eq!(contracts[0].documentation, "Adds a note.\n\nThe second paragraph.");
    assert_eq!(contracts.iter().filter(|contract| contract.read_only).count(), 1);
    assert!(contracts[0].arguments[0].required);
    assert!(!contracts[1].arguments[0].required);
    assert_eq!(contracts[3].arguments[0].name, "type");
    let schema: Value = serde_json::from_str(&(contracts[0].arguments[0].schema)()).unwrap();
    assert_eq!(schema["required"], json!(["text", "kind"]));
    let result: Value = serde_json::from_str(&(contracts[0].result)()).unwrap();
    assert_eq!(result["type"], "integer");
    let hooks = Notes::HOOKS;
    assert_eq!((hooks.recover, hooks.on_restore), (true, true));
}

#[test]
fn init_takes_the_parameters_or_refuses_them() {
    assert_eq!(notes(3).state().limit, 3);
    let refused = Harness::<Notes>::start(json!({"limit": 0})).unwrap_err();
    assert_eq!(refused.code(), "no_limit");
    let missing = Harness::<Notes>::start(json!({})).unwrap_err();
    assert_eq!((missing.code(), missing.message()), ("bad_parameters", "missing field `limit`"));
}

#[test]
fn what_does_not_commit_is_undone() {
    let mut notes = notes(1);
    assert_eq!(notes.call("add", json!([plain("a")])).committed(), json!(1));
    let before = notes.state().clone();
    let rejection = notes.call("add", json!([plain("b")])).rejected();
    assert_eq!(rejection.code(), "full");
    assert_eq!(rejection.details::<usize>(), Some(1));
    assert_eq!(notes.state(), &before);
    let crashed = notes.call("merge", json!({"others": [plain("c"), plain("d")]}));
    assert_eq!(crashed, Outcome::Crashed("merged too much".to_owned()));
    assert_eq!(notes.state(), &before);
}

#[test]
fn arguments_are_checked_before_the_guest_runs() {
    let mut notes = notes(9);
    let mut refuse = |arguments| match notes.call("add", arguments) {
        Outcome::BadArguments(message) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(refuse(json!({})), "`add`: missing field `note`");
    assert!(refuse(json!({"note": plain("a"), "more": 1})).contains("unknown field `more`"));
    assert!(refuse(json!([])).contains("add(note)"));
    // By name or by place.
    for odd in
        [json!({"note": {"text": "a", "kind": "odd"}}), json!([{"text": "a", "kind": "odd"}])]
    {
        let expected = "unknown variant `odd`, expected `plain` or `reply`";
        assert_eq!(refuse(odd), format!("`add`: argument `note`: at `.kind`: {expected}"));
    }
    let reply = json!({"text": "a", "kind": {"reply": {"to": -1}}});
    let message = refuse(json!({ "note": reply }));
    assert!(message.starts_with("`add`: argument `note`: at `.kind.reply.to`: "), "{message}");
    let mut deep = json!("x");
    for _ in 0..200 {
        deep = json!([deep]);
    }
    assert_eq!(refuse(deep), "it is nested deeper than 128 levels");
}

#[test]
fn optional_arguments_may_be_left_out() {
    let mut notes = notes(9);
    let reply = json!({"text": "b", "urgent": true, "kind": {"reply": {"to": 4}}});
    notes.call("merge", json!([[plain("a"), reply.clone()]])).committed();
    assert_eq!(notes.call("find", json!({"urgent": true})).committed(), json!([reply]));
    assert_eq!(notes.call("find", json!(["a"])).committed()[0]["text"], "a");
    assert_eq!(notes.call("find", json!([])).committed().as_array().map(Vec::len), Some(2));
}

#[test]
fn the_host_answers_as_the_test_says() {
    let mut notes = notes(9);
    notes.set_clock(77);
    notes.set_attempt(2);
    notes.set_request("r1", "c1");
    let stamp = notes.call("stamp", json!({"type": "memo"})).committed();
    assert_eq!(stamp, json!(["memo:r1", 77, 2]));
}

#[test]
fn hooks_run() {
    let mut notes = notes(9);
    notes.call("add", json!([plain("a")])).committed();
    notes.restart();
    assert_eq!(notes.state().generation, 2);
    assert_eq!(notes.recover(report(2)), Ok(Ok(Recovery::Park)));
    assert_eq!(notes.state().helper(), 1);
    assert_eq!(notes.recover(report(1)), Ok(Ok(Recovery::Resume)));
    assert_eq!(notes.state().helper(), 0);
}

#[test]
#[should_panic(
    expected = "there is no contract \"subtract\"; the guest has add, find, merge, stamp"
)]
fn an_unknown_contract_is_a_mistake_of_the_test() {
    notes(1).call("subtract", json!([])).committed();
}
