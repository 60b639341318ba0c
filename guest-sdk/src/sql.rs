//! SQL: statements of a resource of kind `postgres`.
//!
//! A transaction has a connection for itself, from its first statement to its end. What is to be
//! done as a whole in the database stands between `BEGIN` and `COMMIT`; what is left open is rolled
//! back there. The guest's own commit and the database's are two: the one can happen without the
//! other.
//!
//! ```
//! use guest_sdk::prelude::*;
//! use guest_sdk::sql::{self, Rows, Value};
//! use guest_sdk::test::{Harness, json};
//!
//! #[derive(Clone, Default)]
//! struct Names;
//!
//! #[guest]
//! impl Names {
//!     pub fn name_of(&self, id: i64) -> Result<Option<String>, Rejection> {
//!         let rows = sql::query("people", "SELECT name FROM people WHERE id = $1", [id])?;
//!         Ok(rows.first().and_then(|value| value.text().map(str::to_owned)))
//!     }
//! }
//!
//! let mut names = Harness::<Names>::new(json!({}));
//! names.set_sql("people", |_statement, values| {
//!     assert_eq!(values, [Value::Int(7)]);
//!     Ok(Rows::new(["name"], [Value::Text("Ann".to_owned())]))
//! });
//! assert_eq!(names.call("name_of", json!([7])).committed(), json!("Ann"));
//! ```

use crate::host;
use crate::resource::CallError;

/// A value of SQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// `boolean`.
    Boolean(bool),
    /// `smallint`, `integer`, `bigint`.
    Int(i64),
    /// `real`, `double precision`.
    Float(f64),
    /// `text`, `varchar`.
    Text(String),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// `uuid`, as a number.
    Uuid(u128),
    /// `timestamp`, `timestamptz`: microseconds since the Unix epoch.
    Timestamp(i64),
    /// `json`, `jsonb`, as text.
    Json(String),
}

impl Value {
    /// The number, if it is one.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) | Self::Json(text) = self { Some(text) } else { None }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The rows of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The values, row by row.
    pub values: Vec<Value>,
    /// Rows that the statement changed or answered.
    pub affected: u64,
}

impl Rows {
    /// Rows of these columns, for tests.
    #[must_use]
    pub fn new(
        columns: impl IntoIterator<Item = &'static str>,
        values: impl IntoIterator<Item = Value>,
    ) -> Self {
        let columns: Vec<String> = columns.into_iter().map(str::to_owned).collect();
        let values: Vec<Value> = values.into_iter().collect();
        let affected = values.len().checked_div(columns.len()).unwrap_or(0) as u64;
        Self { columns, values, affected }
    }

    /// The rows, each as long as there are columns.
    pub fn rows(&self) -> impl Iterator<Item = &[Value]> {
        self.values.chunks(self.columns.len().max(1))
    }

    /// The first value of the first row.
    #[must_use]
    pub fn first(&self) -> Option<&Value> {
        self.values.first()
    }
}

/// Runs one statement with values for `$1`, `$2` and so on.
///
/// # Errors
///
/// [`CallError`]; what the database refuses has its SQLSTATE.
pub fn query<V: Into<Value>>(
    resource: &str,
    statement: &str,
    values: impl IntoIterator<Item = V>,
) -> Result<Rows, CallError> {
    host::sql(resource, statement, values.into_iter().map(Into::into).collect())
}
