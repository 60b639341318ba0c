//! The engine's errors as answers.

use gluesql_core::error::Error;
use guest_sdk::Rejection;

/// A rejection with the class of the error as code and the error itself as details.
pub(crate) fn engine(error: Error) -> Rejection {
    Rejection::new(code(&error), error.to_string()).with_details(&error)
}

/// Callers rely on these.
fn code(error: &Error) -> &'static str {
    match error {
        Error::StorageMsg(_) => "sql_storage",
        Error::Parser(_) => "sql_parser",
        Error::Translate(_) => "sql_translate",
        Error::QueryBuilder(_) => "sql_query_builder",
        Error::AlterTable(_) => "sql_alter_table",
        Error::Index(_) => "sql_index",
        Error::Execute(_) => "sql_execute",
        Error::Alter(_) => "sql_alter",
        Error::Fetch(_) => "sql_fetch",
        Error::Query(_) => "sql_query",
        Error::Evaluate(_) => "sql_evaluate",
        Error::Insert(_) => "sql_insert",
        Error::Delete(_) => "sql_delete",
        Error::Update(_) => "sql_update",
        Error::Table(_) => "sql_table",
        Error::Validate(_) => "sql_validate",
        Error::Key(_) => "sql_key",
        Error::Value(_) => "sql_value",
        Error::Interval(_) => "sql_interval",
        Error::StringExt(_) => "sql_text",
        Error::Planner(_) => "sql_planner",
        Error::Schema(_) => "sql_schema",
        Error::RowConversion(_) => "sql_row_conversion",
    }
}
