//! A host for tests: values that a thread sets for itself.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::http;
use crate::log::Level;
use crate::redis::Value;
use crate::resource::{CallError, Stand};
use crate::sql;
use crate::staged::{Effect, Kind};

/// What a test's Redis answers to a command.
pub(crate) type AnswerRedis = dyn Fn(&[Vec<u8>]) -> Result<Value, CallError>;

/// What a test's database answers to a statement.
pub(crate) type AnswerSql = dyn Fn(&str, &[sql::Value]) -> Result<sql::Rows, CallError>;

/// What a test's servers answer to a request.
pub(crate) type AnswerHttp = dyn Fn(&http::Request) -> Result<http::Response, CallError>;

/// A resource of a test.
#[derive(Clone)]
pub(crate) enum Simulated {
    Redis(Rc<AnswerRedis>),
    Sql(Rc<AnswerSql>),
    Http(Rc<AnswerHttp>),
    /// A directory, with what was appended to its files.
    Files(Rc<RefCell<BTreeMap<String, Vec<u8>>>>),
    /// It is down, for this reason.
    Down(String),
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if let Self::Down(_) = self { "Down" } else { "Available" })
    }
}

/// What the simulated host answers on this thread.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    pub(crate) now: u64,
    pub(crate) entropy: u64,
    pub(crate) request_id: String,
    pub(crate) correlation_id: String,
    pub(crate) attempt: u32,
    pub(crate) generation: u64,
    /// What other daemons show: a commit and its bytes.
    pub(crate) outputs: BTreeMap<String, (u64, Vec<u8>)>,
    /// What the guest shows.
    pub(crate) shown: Vec<u8>,
    pub(crate) resources: BTreeMap<String, Simulated>,
    /// What runs may stage effects.
    pub(crate) commits: bool,
    pub(crate) staged: Vec<(String, Effect)>,
}

impl Answers {
    pub(crate) const fn new() -> Self {
        Self {
            now: 0,
            entropy: 0,
            request_id: String::new(),
            correlation_id: String::new(),
            attempt: 1,
            generation: 1,
            outputs: BTreeMap::new(),
            shown: Vec::new(),
            resources: BTreeMap::new(),
            commits: false,
            staged: Vec::new(),
        }
    }
}

thread_local! {
    static ANSWERS: RefCell<Answers> = const { RefCell::new(Answers::new()) };
    /// The value that is handed over from old code to new; bytes that were read are gone.
    static HANDOVER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// What was written since then.
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads or changes what this thread's host answers.
pub(crate) fn with<R>(use_answers: impl FnOnce(&mut Answers) -> R) -> R {
    ANSWERS.with_borrow_mut(use_answers)
}

/// Sets what there is to read.
pub(crate) fn hand_over(value: Vec<u8>) {
    HANDOVER.set(value);
    WRITTEN.take();
}

/// Takes what was written.
pub(crate) fn handed_over() -> Vec<u8> {
    WRITTEN.take()
}

pub(crate) fn handover_write(bytes: &[u8]) {
    WRITTEN.with_borrow_mut(|value| value.extend_from_slice(bytes));
}

pub(crate) fn handover_read(max: usize) -> Vec<u8> {
    HANDOVER.with_borrow_mut(|value| value.drain(..max.min(value.len())).collect())
}

pub(crate) fn log(level: Level, target: &str, message: &str) {
    eprintln!("{level:?} {target}: {message}");
}

pub(crate) fn now() -> u64 {
    with(|answers| answers.now)
}

/// SplitMix64: the next number after the seed.
pub(crate) fn random() -> u64 {
    with(|answers| {
        answers.entropy = answers.entropy.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = answers.entropy;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    })
}

pub(crate) fn request_id() -> String {
    with(|answers| answers.request_id.clone())
}

pub(crate) fn correlation_id() -> String {
    with(|answers| answers.correlation_id.clone())
}

pub(crate) fn attempt() -> u32 {
    with(|answers| answers.attempt)
}

pub(crate) fn generation() -> u64 {
    with(|answers| answers.generation)
}

pub(crate) fn show(bytes: &[u8]) {
    with(|answers| answers.shown = bytes.to_vec());
}

pub(crate) fn look(daemon: &str) -> Option<(u64, u32)> {
    with(|answers| {
        let (sequence, bytes) = answers.outputs.get(daemon)?;
        Some((*sequence, u32::try_from(bytes.len()).unwrap_or(u32::MAX)))
    })
}

pub(crate) fn read_output(daemon: &str, offset: u32, max: u32) -> Vec<u8> {
    with(|answers| {
        let bytes = answers.outputs.get(daemon).map(|(_, bytes)| bytes.as_slice());
        let bytes = bytes.unwrap_or_default().iter().skip(offset as usize);
        bytes.take(max as usize).copied().collect()
    })
}

pub(crate) fn look_at_resource(resource: &str) -> Option<Stand> {
    let found = with(|answers| answers.resources.get(resource).cloned())?;
    Some(Stand { available: !matches!(found, Simulated::Down(_)), generation: 1 })
}

fn find(resource: &str) -> Result<Simulated, CallError> {
    let found = with(|answers| answers.resources.get(resource).cloned());
    match found {
        Some(Simulated::Down(why)) => Err(CallError::Unavailable(why)),
        found => found.ok_or(CallError::NoSuchResource),
    }
}

pub(crate) fn redis(resource: &str, words: &[Vec<u8>]) -> Result<Value, CallError> {
    match find(resource)? {
        Simulated::Redis(answer) => answer(words),
        _ => Err(CallError::WrongKind),
    }
}

pub(crate) fn sql(
    resource: &str,
    statement: &str,
    values: Vec<sql::Value>,
) -> Result<sql::Rows, CallError> {
    match find(resource)? {
        Simulated::Sql(answer) => answer(statement, &values),
        _ => Err(CallError::WrongKind),
    }
}

pub(crate) fn append(resource: &str, path: &str, bytes: &[u8]) -> Result<(), CallError> {
    match find(resource)? {
        Simulated::Files(files) => {
            files.borrow_mut().entry(path.to_owned()).or_default().extend_from_slice(bytes);
            Ok(())
        }
        _ => Err(CallError::WrongKind),
    }
}

pub(crate) fn http(resource: &str, request: http::Request) -> Result<http::Response, CallError> {
    match find(resource)? {
        Simulated::Http(answer) => answer(&request),
        _ => Err(CallError::WrongKind),
    }
}

pub(crate) fn redis_eval(
    resource: &str,
    script: &str,
    keys: &[Vec<u8>],
    arguments: &[Vec<u8>],
) -> Result<Value, CallError> {
    let head = [b"EVAL".to_vec(), script.as_bytes().to_vec(), keys.len().to_string().into_bytes()];
    let words: Vec<Vec<u8>> = head.iter().chain(keys).chain(arguments).cloned().collect();
    redis(resource, &words)
}

pub(crate) fn stage(resource: &str, effect: Effect) -> Result<(), CallError> {
    let found = with(|answers| answers.resources.get(resource).cloned());
    let fits = match (found.ok_or(CallError::NoSuchResource)?, &effect.kind) {
        (Simulated::Down(_), _) => true,
        (Simulated::Redis(_), kind) => matches!(kind, Kind::Redis(_) | Kind::RedisScript { .. }),
        (Simulated::Sql(_), kind) => matches!(kind, Kind::Sql { .. }),
        (Simulated::Http(_), kind) => matches!(kind, Kind::Http(_)),
        (Simulated::Files(_), kind) => matches!(kind, Kind::Append { .. }),
    };
    with(|answers| match (fits, answers.commits) {
        (false, _) => Err(CallError::WrongKind),
        (true, false) => Err(CallError::Denied("what runs commits nothing".to_owned())),
        (true, true) => {
            answers.staged.push((resource.to_owned(), effect));
            Ok(())
        }
    })
}
