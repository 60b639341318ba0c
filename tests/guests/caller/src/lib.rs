//! A guest of the tests that calls whatever resources it is told to.

use guest_sdk::prelude::*;
use guest_sdk::redis;
use guest_sdk::resource::{self, Stand};

/// Counts what it asked for.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Caller {
    asked: u64,
}

#[guest]
impl Caller {
    /// Asks a Redis for something, counts that, and answers how often it has done so with what the
    /// Redis answered, as text.
    pub fn ask(&mut self, name: String, words: Vec<String>) -> Result<(u64, String), Rejection> {
        self.asked += 1;
        let answer = redis::command(&name, &words)?;
        Ok((self.asked, shown(&answer)))
    }

    /// The same, and an error is an answer.
    pub fn try_to_ask(&mut self, name: String, words: Vec<String>) -> String {
        self.asked += 1;
        match redis::command(&name, &words) {
            Ok(answer) => shown(&answer),
            Err(error) => error.code().to_owned(),
        }
    }

    /// Asks so often in one transaction.
    pub fn ask_often(&mut self, name: String, times: u32) -> Result<(), Rejection> {
        for _ in 0..times {
            redis::command(&name, ["ECHO", "x"])?;
        }
        self.asked += u64::from(times);
        Ok(())
    }

    /// Asks, and crashes.
    #[expect(clippy::panic, reason = "it is asked to")]
    pub fn ask_and_crash(&mut self, name: String, words: Vec<String>) -> Result<(), Rejection> {
        redis::command(&name, &words)?;
        panic!("after it had asked")
    }

    /// Answers how often it has asked.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Whether a resource is there, and its generation.
    pub fn look(&self, name: String) -> Option<(bool, u64)> {
        resource::look(&name).map(|Stand { available, generation }| (available, generation))
    }
}

fn shown(value: &redis::Value) -> String {
    match value {
        redis::Value::Nil => "nil".to_owned(),
        redis::Value::Int(number) => number.to_string(),
        redis::Value::Status(text) => text.clone(),
        redis::Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::List(values) => values.iter().map(shown).collect::<Vec<_>>().join(" "),
    }
}
