//! What the engine has to say, as JSON has words for it.

use gluesql_core::data::Value;
use gluesql_core::executor::{Payload, PayloadVariable};
use guest_sdk::prelude::*;
use serde_json::{Map, Value as Json};

/// How deep lists and maps of an answer may be nested; the host stops at 64, the answer included.
const NESTING_MAX: usize = 48;

/// What one statement did or found.
#[data]
#[derive(Clone, Debug, PartialEq)]
#[serde(tag = "did", rename_all = "snake_case")]
pub enum Answer {
    /// Made a table or a function.
    Create,
    /// Changed a table's columns or name.
    AlterTable,
    /// Removed tables.
    DropTable {
        /// How many.
        tables_count: usize,
    },
    /// Removed functions.
    DropFunction,
    /// Added rows.
    Insert {
        /// How many.
        rows_count: usize,
    },
    /// Changed rows.
    Update {
        /// How many.
        rows_count: usize,
    },
    /// Removed rows.
    Delete {
        /// How many.
        rows_count: usize,
    },
    /// Found rows.
    Select {
        /// Names of the columns.
        columns: Vec<String>,
        /// The rows, with a value for each of the columns.
        rows: Vec<Vec<Json>>,
    },
    /// Found rows of a table without columns.
    SelectMaps {
        /// The rows: names and values.
        rows: Vec<Map<String, Json>>,
    },
    /// Listed the columns of a table.
    ShowColumns {
        /// Name and type of each.
        columns: Vec<(String, String)>,
    },
    /// Listed the tables.
    ShowTables {
        /// Their names.
        tables: Vec<String>,
    },
    /// Listed the functions of the user's.
    ShowFunctions {
        /// Their names with arguments.
        functions: Vec<String>,
    },
    /// Told the engine's version.
    ShowVersion {
        /// The version.
        version: String,
    },
}

impl Answer {
    /// # Errors
    ///
    /// Values that are nested too deep, and statements that the storage doesn't have.
    pub(crate) fn new(payload: Payload) -> Result<Self, Rejection> {
        Ok(match payload {
            Payload::Create => Self::Create,
            Payload::AlterTable => Self::AlterTable,
            Payload::DropTable(tables_count) => Self::DropTable { tables_count },
            Payload::DropFunction => Self::DropFunction,
            Payload::Insert(rows_count) => Self::Insert { rows_count },
            Payload::Update(rows_count) => Self::Update { rows_count },
            Payload::Delete(rows_count) => Self::Delete { rows_count },
            Payload::Select { labels: columns, rows } => {
                let row = |row: Vec<Value>| row.into_iter().map(json).collect();
                Self::Select { columns, rows: rows.into_iter().map(row).collect::<Result<_, _>>()? }
            }
            Payload::SelectMap(rows) => Self::SelectMaps {
                rows: rows.into_iter().map(|row| map(row, 0)).collect::<Result<_, _>>()?,
            },
            Payload::ShowColumns(columns) => Self::ShowColumns {
                columns: columns.into_iter().map(|(name, ty)| (name, ty.to_string())).collect(),
            },
            Payload::ShowVariable(PayloadVariable::Tables(tables)) => Self::ShowTables { tables },
            Payload::ShowVariable(PayloadVariable::Functions(functions)) => {
                Self::ShowFunctions { functions }
            }
            Payload::ShowVariable(PayloadVariable::Version(version)) => {
                Self::ShowVersion { version }
            }
            Payload::CreateIndex
            | Payload::DropIndex
            | Payload::StartTransaction
            | Payload::Commit
            | Payload::Rollback => reject!("sql_storage", "this storage can't do that"),
        })
    }
}

/// A value as JSON: by itself where JSON has the type, else under the name of its type.
fn json(value: Value) -> Result<Json, Rejection> {
    nested(value, 0)
}

fn nested(value: Value, depth: usize) -> Result<Json, Rejection> {
    let name = value.get_type().map(|ty| ty.to_string()).unwrap_or_default();
    let named = |value: Json| Ok(Json::Object(Map::from_iter([(name, value)])));
    match value {
        Value::Null => Ok(Json::Null),
        Value::Bool(value) => Ok(value.into()),
        Value::I64(value) => Ok(value.into()),
        Value::F64(value) if value.is_finite() => Ok(value.into()),
        Value::Str(value) => Ok(value.into()),
        Value::List(values) => {
            check(depth)?;
            let values = values.into_iter().map(|value| nested(value, depth + 1));
            values.collect::<Result<_, _>>().map(Json::Array)
        }
        Value::Map(values) => named(map(values, depth)?.into()),
        Value::I8(value) => named(value.into()),
        Value::I16(value) => named(value.into()),
        Value::I32(value) => named(value.into()),
        Value::U8(value) => named(value.into()),
        Value::U16(value) => named(value.into()),
        Value::U32(value) => named(value.into()),
        Value::U64(value) => named(value.into()),
        Value::F32(value) if value.is_finite() => named(value.into()),
        // Infinities and numbers of 128 bits, among others, have no place in JSON.
        other => named(String::from(other).into()),
    }
}

fn map(values: BTreeMap<String, Value>, depth: usize) -> Result<Map<String, Json>, Rejection> {
    check(depth)?;
    // Two levels: the map itself, and the name of the type around it.
    values.into_iter().map(|(name, value)| Ok((name, nested(value, depth + 2)?))).collect()
}

fn check(depth: usize) -> Result<(), Rejection> {
    ensure!(depth < NESTING_MAX, "nested_too_deep", "a value has more than {NESTING_MAX} levels");
    Ok(())
}
