//! A guest of the tests that calls whatever resources it is told to.

use guest_sdk::prelude::*;
use guest_sdk::resource::{self, Stand};
use guest_sdk::{files, http, redis, sql, staged};

/// Names and values.
type Headers = Vec<(String, String)>;

/// Counts what it asked for.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Caller {
    asked: u64,
    ended: u64,
    /// What it calls itself.
    name: String,
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

    /// Answers for what was cancelled: `try_to_ask` with why, `ask_often` with a no.
    #[on_stale]
    fn stale(&self, stale: Stale) -> Result<Fallback, Rejection> {
        match stale.contract.as_str() {
            "try_to_ask" => Fallback::value(&format!("{} is gone: {}", stale.resource, stale.why)),
            "ask_often" => reject!("gone", "{} is gone", stale.resource),
            _ => Ok(Fallback::none()),
        }
    }

    /// Tells a log, if it has a name and there is one.
    #[on_restore]
    fn restored(&mut self, _generation: u64) {
        if !self.name.is_empty() && resource::look("log").is_some() {
            drop(redis::command("log", ["SLOW", &self.name]));
        }
    }

    /// From here on it has a name.
    pub fn be(&mut self, name: String) {
        self.name = name;
    }

    /// Counts, and tells the cache if there is one.
    #[shutdown]
    fn shutdown(&mut self) -> Result<(), Rejection> {
        self.ended += 1;
        if resource::look("cache").is_some() {
            redis::command("cache", ["ECHO", "bye"])?;
        }
        Ok(())
    }

    /// How often it was shut down.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Runs a statement, counts that, and answers how often it has done so with the first value.
    pub fn query(&mut self, name: String, statement: String) -> Result<(u64, String), Rejection> {
        self.asked += 1;
        let rows = sql::query::<sql::Value>(&name, &statement, [])?;
        let first = rows.first().map(|value| match value {
            sql::Value::Int(number) => number.to_string(),
            sql::Value::Text(text) => text.clone(),
            other => format!("{other:?}"),
        });
        Ok((self.asked, first.unwrap_or_default()))
    }

    /// Appends a line to a file, and counts that.
    pub fn append(&mut self, name: String, path: String, line: String) -> Result<u64, Rejection> {
        self.asked += 1;
        files::append(&name, &path, format!("{line}\n").as_bytes())?;
        Ok(self.asked)
    }

    /// The same, and an error is an answer.
    pub fn try_to_ask(&mut self, name: String, words: Vec<String>) -> String {
        self.asked += 1;
        match redis::command(&name, &words) {
            Ok(answer) => shown(&answer),
            Err(error) => error.code().to_owned(),
        }
    }

    /// Sends a request, counts that, and answers the status and the body.
    pub fn fetch(
        &mut self,
        name: String,
        method: String,
        url: String,
    ) -> Result<(u16, String), Rejection> {
        self.asked += 1;
        let response = http::send(&name, http::Request::new(method, url))?;
        Ok((response.status, response.text().unwrap_or_default().to_owned()))
    }

    /// Sends one with headers and a body, counts that, and answers all that came back.
    pub fn post(
        &mut self,
        name: String,
        url: String,
        headers: Headers,
        body: String,
    ) -> Result<(u16, Headers, String), Rejection> {
        self.asked += 1;
        let request = http::Request::new("POST", url).with_body(body);
        let request = headers
            .iter()
            .fold(request, |request, (header, value)| request.with_header(header.as_str(), value));
        let response = http::send(&name, request)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = response.headers.iter().map(|(name, value)| (name.clone(), text(value)));
        Ok((response.status, headers.collect(), text(&response.body)))
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

    /// Stages a command, counts that, and answers how often it has asked.
    pub fn stage(
        &mut self,
        name: String,
        words: Vec<String>,
        repeatable: bool,
    ) -> Result<u64, Rejection> {
        self.asked += 1;
        let effect = staged::redis(&words);
        if repeatable { effect.repeatable() } else { effect }.stage(&name)?;
        Ok(self.asked)
    }

    /// Stages so many commands, each with its number at the end, and counts that.
    pub fn stage_often(
        &mut self,
        name: String,
        words: Vec<String>,
        times: u32,
    ) -> Result<u64, Rejection> {
        for number in 0..times {
            let number = number.to_string();
            staged::redis(words.iter().chain([&number])).stage(&name)?;
        }
        self.asked += 1;
        Ok(self.asked)
    }

    /// Stages a statement with a number, and counts that.
    pub fn stage_sql(
        &mut self,
        name: String,
        statement: String,
        number: i64,
    ) -> Result<(), Rejection> {
        staged::sql(&statement, [number]).stage(&name)?;
        self.asked += 1;
        Ok(())
    }

    /// Stages a request over HTTP, and counts that.
    pub fn stage_http(
        &mut self,
        name: String,
        url: String,
        repeatable: bool,
    ) -> Result<(), Rejection> {
        let effect = staged::http(http::Request::new("PUT", url));
        if repeatable { effect.repeatable() } else { effect }.stage(&name)?;
        self.asked += 1;
        Ok(())
    }

    /// Stages one of each other kind, for resources of these names.
    pub fn stage_each(
        &mut self,
        sql: String,
        directory: String,
        http: String,
        url: String,
    ) -> Result<(), Rejection> {
        let statement = "INSERT INTO effects VALUES ($1, $2)";
        staged::sql(statement, [sql::Value::Int(7), "seven".into()]).stage(&sql)?;
        staged::append("effects.log", b"seven\n").stage(&directory)?;
        staged::http(http::Request::new("POST", url).with_body("seven")).stage(&http)?;
        self.asked += 1;
        Ok(())
    }

    /// Stages a command, and then says no, crashes, or asks a Redis that never answers.
    #[expect(clippy::panic, reason = "it is asked to")]
    pub fn stage_and_fail(
        &mut self,
        name: String,
        words: Vec<String>,
        how: String,
    ) -> Result<(), Rejection> {
        self.asked += 1;
        staged::redis(&words).stage(&name)?;
        match how.as_str() {
            "reject" => reject!("no", "it was asked to"),
            "crash" => panic!("after it had staged"),
            "crash once" => assert!(context::attempt() > 1, "the first try"),
            _ => drop(redis::command(&name, ["HANG"])?),
        }
        Ok(())
    }

    /// Stages a command, though it is a read.
    pub fn stage_in_read(&self, name: String, words: Vec<String>) -> Result<(), Rejection> {
        staged::redis(&words).stage(&name)?;
        Ok(())
    }

    /// Counts as if it had asked.
    pub fn count(&mut self) -> u64 {
        self.asked += 1;
        self.asked
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
