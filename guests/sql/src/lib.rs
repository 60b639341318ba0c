//! A SQL database: [GlueSQL](https://gluesql.org) with its storage in memory, both unmodified. By
//! being a guest it becomes atomic, durable and safe from its own crashes.
//!
//! ```
//! use guest_sdk::test::{Harness, json};
//! use sql::Database;
//!
//! let mut database = Harness::<Database>::new(json!({}));
//! let sql = "CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT);
//!            INSERT INTO account VALUES (1, 'ann'), (2, 'bob')";
//! let answers = database.call("execute", json!({"sql": sql})).committed();
//! assert_eq!(answers, json!([{"did": "create"}, {"did": "insert", "rows_count": 2}]));
//!
//! let sql = "SELECT id, owner FROM account WHERE id = $1";
//! let answers = database.call("query", json!({"sql": sql, "params": [2]})).committed();
//! let expected = json!([{"did": "select", "columns": ["id", "owner"], "rows": [[2, "bob"]]}]);
//! assert_eq!(answers, expected);
//! ```
//!
//! | contract | | rejects with |
//! |---|---|---|
//! | `execute(sql, params) -> [Answer]` | one transaction | see below |
//! | `query(sql, params) -> [Answer]` | read-only: `SELECT`, `SHOW` | see below, `read_only` |
//!
//! There is one [`Answer`] per statement. `params` are what `$1`, `$2` ... stand for, in each of
//! the statements: null, a `BOOLEAN`, `INTEGER`, `FLOAT` or `TEXT`. Where a column has another type
//! say so: `CAST($1 AS DATE)`.
//!
//! # Values
//!
//! `NULL`, `BOOLEAN`, `INTEGER`, `FLOAT`, `TEXT` and `LIST` are plain JSON. A value of another type
//! is an object that names it: `{"DATE": "2026-02-28"}`, `{"DECIMAL": "1.10"}`, `{"INT8": 5}`, so
//! that none is taken for another one and none loses digits.
//!
//! # Transactions
//!
//! A call is a transaction: its statements see each other's changes, and if one fails none of them
//! happened. So there is nothing for `BEGIN`, `COMMIT` and `ROLLBACK` to say, and they are rejected
//! with `transaction_statement`. What the engine refuses is rejected with `sql_` and the class of
//! its error as code, like `sql_validate` for a key that is there already, and with the error
//! itself as details. A panic inside the engine is a crash, undone like any other.
//!
//! # Clock and random numbers
//!
//! `NOW()` and its like are the time of the transaction, `GENERATE_UUID()` and `RAND()` the host's
//! entropy. No value is drawn twice, also not by a copy of the database.
//!
//! # What it costs
//!
//! A `SELECT` by primary key finds its row. Every other `WHERE`, also of `UPDATE` and `DELETE`,
//! scans its table and copies it on the way; the storage has no other indexes.
//!
//! | a small row | fuel | memory |
//! |---|---|---|
//! | to keep | | 400 bytes |
//! | to insert | 65,000 | 1600 bytes while it is parsed |
//! | to scan | 5,000 | 100 bytes while it is copied |
//! | to answer with | 10,000 | |
//! | to compare by `LIKE`, which compiles its pattern each time | 800,000 | |
//!
//! With the host's defaults, 1e9 of fuel and 16 MiB, that is a database of twenty thousand rows,
//! five thousand inserted in one call, or a thousand compared by `LIKE`. Give a larger one a budget
//! of four times its rows, and fuel for its scans. An answer may have 16 MiB.
//!
//! The first start takes some seconds, since the engine is large to compile. The host keeps what it
//! compiled.
//!
//! # What is the engine's own
//!
//! Two rows with the same key in one `INSERT` are one row, the last. Expressions of thousands of
//! terms have no room on the stack and crash.

mod answer;
mod reject;

use std::cell::RefCell;

use gluesql_core::ast::Statement;
use gluesql_core::executor;
use gluesql_core::parse_sql::parse;
use gluesql_core::store::{CustomFunction, Planner};
use gluesql_core::translate::{IntoParamLiteral, ParamLiteral, translate_with_params};
use gluesql_memory_storage::MemoryStorage;
use guest_sdk::prelude::*;
use rand::RngCore;
use serde_json::Value as Json;

pub use answer::Answer;

/// Bytes after which the engine's generator of random numbers takes a new seed: rand 0.8's constant
/// for `thread_rng`.
const RESEED_BYTES: usize = 64 << 10;

/// A database in memory. Its tables as values are what other code takes over in an upgrade.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Database {
    /// In a cell because the engine wants to be able to change what it only reads.
    storage: RefCell<MemoryStorage>,
}

/// Which statements are let through.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Access {
    Read,
    Write,
}

#[guest]
impl Database {
    /// An empty database.
    ///
    /// What the generator of random numbers needs once is part of the first state: a read would
    /// allocate it, and give it back, each time.
    #[init]
    pub fn new() -> Self {
        reseed();
        Self::default()
    }

    /// Runs statements, separated by semicolons, as one transaction.
    pub fn execute(
        &mut self,
        sql: String,
        params: Option<Vec<Json>>,
    ) -> Result<Vec<Answer>, Rejection> {
        self.run(&sql, params, Access::Write)
    }

    /// Runs statements that change nothing.
    pub fn query(&self, sql: String, params: Option<Vec<Json>>) -> Result<Vec<Answer>, Rejection> {
        self.run(&sql, params, Access::Read)
    }

    fn run(
        &self,
        sql: &str,
        params: Option<Vec<Json>>,
        access: Access,
    ) -> Result<Vec<Answer>, Rejection> {
        let params = params.unwrap_or_default();
        let params = params.into_iter().map(literal).collect::<Result<Vec<_>, _>>()?;
        let storage = &mut *self.storage.borrow_mut();
        if draws(sql, storage)? {
            reseed();
        }
        let mut answers = Vec::new();
        // One after the other: a plan depends on what the statements before it have made.
        for parsed in parse(sql).map_err(reject::engine)? {
            let statement = translate_with_params(&parsed, &params).map_err(reject::engine)?;
            admit(&statement, access)?;
            let plan = storage.plan(statement.into()).map_err(reject::engine)?;
            let payload = executor::execute(storage, &plan).map_err(reject::engine)?;
            answers.push(Answer::new(payload)?);
        }
        Ok(answers)
    }
}

/// Refuses what doesn't fit the contract.
fn admit(statement: &Statement, access: Access) -> Result<(), Rejection> {
    match statement {
        Statement::StartTransaction | Statement::Commit | Statement::Rollback => reject!(
            "transaction_statement",
            "a call is one transaction already: send all of its statements in one `execute`"
        ),
        Statement::Query(_)
        | Statement::ShowColumns { .. }
        | Statement::ShowIndexes(_)
        | Statement::ShowVariable(_) => Ok(()),
        _ => {
            ensure!(access == Access::Write, "read_only", "`query` reads: use `execute`");
            Ok(())
        }
    }
}

/// What a parameter stands for.
fn literal(param: Json) -> Result<ParamLiteral, Rejection> {
    match param {
        Json::Null => Ok(ParamLiteral::null()),
        Json::Bool(value) => Ok(value.into_param_literal()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(whole.into_param_literal()),
            (None, Some(float)) if !number.is_u64() => Ok(float.into_param_literal()),
            _ => reject!("bad_parameter", "{number} does not fit in an INTEGER or a FLOAT"),
        },
        Json::String(value) => Ok(value.into_param_literal()),
        Json::Array(_) | Json::Object(_) => {
            reject!("bad_parameter", "a parameter is null, a boolean, a number or text")
        }
    }
}

/// Whether statements may draw random numbers. A function of the user's may say `RAND` where its
/// call doesn't.
fn draws(sql: &str, storage: &MemoryStorage) -> Result<bool, Rejection> {
    let functions = storage.fetch_all_functions().map_err(reject::engine)?;
    let said = sql.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"RAND"));
    Ok(said || !functions.is_empty())
}

/// Makes `RAND()` draw from a new seed of the host.
///
/// The engine's generator keeps its state in memory, which a rejection or a read rolls back and a
/// copy of the database has as well: it would draw the same numbers again. It can't be told to
/// forget that state, but takes a new seed after a number of bytes.
fn reseed() {
    let mut generator = rand::thread_rng();
    // In small pieces: what is on the stack becomes part of the commit.
    let mut piece = [0; 256];
    for _ in 0..RESEED_BYTES / piece.len() {
        generator.fill_bytes(&mut piece);
    }
}

#[cfg(test)]
mod tests;
