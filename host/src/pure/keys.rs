//! Idempotency keys: the same request with the same key has one effect, and gets the first answer.
//!
//! Kept are committed answers, up to [`KEYS_PER_DAEMON_MAX`] and [`KEY_ANSWERS_BYTES_MAX`], the
//! oldest dropped first. A request that was rejected or crashed had no effect: it is simply tried
//! again.

use std::collections::{HashMap, VecDeque};

use crate::base::ids::Sequence;
use crate::base::limits::{KEY_ANSWERS_BYTES_MAX, KEYS_PER_DAEMON_MAX};

/// A committed answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptAnswer {
    /// Hash of contract and arguments.
    pub request: blake3::Hash,
    /// The value, MessagePack.
    pub value: Vec<u8>,
    /// The commit.
    pub sequence: Sequence,
    /// Tries that it took.
    pub attempts: u32,
}

/// What is known of a key.
#[derive(Debug, Eq, PartialEq)]
pub enum Lookup<'a> {
    /// Never seen, or long ago.
    New,
    /// This request was answered.
    Answered(&'a KeptAnswer),
    /// Another request was.
    Conflict,
}

/// The keys of one daemon.
#[derive(Debug, Default)]
pub struct Keys {
    answers: HashMap<String, KeptAnswer>,
    oldest_first: VecDeque<String>,
    bytes: usize,
}

impl Keys {
    /// Looks a key up for the request with that hash.
    #[must_use]
    pub fn look_up(&self, key: &str, request: &blake3::Hash) -> Lookup<'_> {
        match self.answers.get(key) {
            None => Lookup::New,
            Some(kept) if kept.request == *request => Lookup::Answered(kept),
            Some(_) => Lookup::Conflict,
        }
    }

    /// Keeps the answer of a new key, and drops the oldest ones over the limits.
    pub fn keep(&mut self, key: &str, answer: KeptAnswer) {
        self.bytes += answer.value.len();
        self.answers.insert(key.to_owned(), answer);
        self.oldest_first.push_back(key.to_owned());
        while self.answers.len() > KEYS_PER_DAEMON_MAX || self.bytes > KEY_ANSWERS_BYTES_MAX {
            let Some(oldest) = self.oldest_first.pop_front() else { break };
            if let Some(dropped) = self.answers.remove(&oldest) {
                self.bytes -= dropped.value.len();
            }
        }
    }

    /// Forgets the answers of `first` and later commits: their effects are not in the state any
    /// more.
    pub fn forget_from(&mut self, first: Sequence) {
        let Self { answers, oldest_first, bytes } = self;
        answers.retain(|_, answer| {
            let kept = answer.sequence < first;
            if !kept {
                *bytes -= answer.value.len();
            }
            kept
        });
        oldest_first.retain(|key| answers.contains_key(key));
    }
}

/// Hash of what a key stands for: the name of a contract, which outlives its code, and arguments.
#[must_use]
pub fn request_hash(contract: &str, arguments: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(contract.len() as u64).to_le_bytes());
    hasher.update(contract.as_bytes());
    hasher.update(arguments);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &str, bytes: usize) -> KeptAnswer {
        let request = blake3::hash(request.as_bytes());
        KeptAnswer { request, value: vec![0; bytes], sequence: Sequence(1), attempts: 1 }
    }

    #[test]
    fn a_key_answers_its_own_request_and_conflicts_with_others() {
        let mut keys = Keys::default();
        let kept = answer("a", 1);
        assert_eq!(keys.look_up("k", &kept.request), Lookup::New);
        keys.keep("k", kept.clone());
        assert_eq!(keys.look_up("k", &kept.request), Lookup::Answered(&kept));
        assert_eq!(keys.look_up("k", &blake3::hash(b"b")), Lookup::Conflict);
        assert_ne!(request_hash("a", b"bx"), request_hash("ab", b"x"));
    }

    #[test]
    fn answers_of_undone_commits_are_forgotten() {
        let mut keys = Keys::default();
        let at = |sequence| KeptAnswer { sequence: Sequence(sequence), ..answer("a", 10) };
        for sequence in 1..=9 {
            keys.keep(&sequence.to_string(), at(sequence));
        }
        keys.forget_from(Sequence(4));
        let request = blake3::hash(b"a");
        for sequence in 1..=9 {
            let known = keys.look_up(&sequence.to_string(), &request) != Lookup::New;
            assert_eq!(known, sequence < 4, "{sequence}");
        }
        assert_eq!((keys.bytes, keys.oldest_first.len()), (30, 3));
        keys.keep("4", at(12));
        keys.forget_from(Sequence(0));
        assert_eq!((keys.bytes, keys.oldest_first.len()), (0, 0));
    }

    #[test]
    fn the_oldest_answers_go_first() {
        let mut keys = Keys::default();
        for n in 0..=KEYS_PER_DAEMON_MAX {
            keys.keep(&n.to_string(), answer("a", 0));
        }
        let request = blake3::hash(b"a");
        assert_eq!(keys.look_up("0", &request), Lookup::New);
        assert!(matches!(keys.look_up("1", &request), Lookup::Answered(_)));
        keys.keep("big", answer("a", KEY_ANSWERS_BYTES_MAX));
        keys.keep("bigger", answer("a", 1));
        assert_eq!(keys.look_up("big", &request), Lookup::New);
        assert!(matches!(keys.look_up("bigger", &request), Lookup::Answered(_)));
        assert_eq!(keys.bytes, 1);
    }
}
