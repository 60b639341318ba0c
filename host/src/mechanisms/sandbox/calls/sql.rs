//! `bulkhead:guest/sql`: one statement with its values.

use wasmtime::component::{ComponentType, Linker, Lower};

use super::super::host_calls::{Store, VERSION, charge};
use super::super::state::StoreState;
use super::ask;
use super::types::{WitError, WitSqlValue};
use crate::pure::resource::operation::{CallResult, Operation, Reply, SqlRows, SqlValue};

/// `sql.rows`.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(record)]
struct WitRows {
    columns: Vec<String>,
    values: Vec<WitSqlValue>,
    affected: u64,
}

pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    let mut sql = linker.instance(&format!("bulkhead:guest/sql@{VERSION}"))?;
    sql.func_wrap(
        "query",
        |mut store: Store<'_>, (name, statement, values): (String, String, Vec<WitSqlValue>)| {
            let sizes = values.iter().map(WitSqlValue::bytes);
            let bytes = sizes.fold(statement.len(), usize::saturating_add);
            let values = values.into_iter().map(SqlValue::from).collect();
            let answer = ask(&mut store, &name, Operation::Sql { statement, values }, bytes)?;
            Ok((rows(&mut store, answer)?,))
        },
    )
}

fn rows(store: &mut Store<'_>, answer: CallResult) -> wasmtime::Result<Result<WitRows, WitError>> {
    let SqlRows { columns, values, affected } = match answer {
        Ok(Reply::Sql(rows)) => rows,
        Ok(_) => return Ok(Err(WitError::WrongKind)),
        Err(error) => return Ok(Err(error.into())),
    };
    let values: Vec<WitSqlValue> = values.into_iter().map(WitSqlValue::from).collect();
    let names = columns.iter().map(String::len).fold(0, usize::saturating_add);
    charge(store, values.iter().map(WitSqlValue::bytes).fold(names, usize::saturating_add))?;
    Ok(Ok(WitRows { columns, values, affected }))
}
