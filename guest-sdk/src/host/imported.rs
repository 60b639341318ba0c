//! The host, through the imports of the world.

use crate::bindings::bulkhead::guest as world;
use crate::http;
use crate::log::Level;
use crate::redis::{Flat, Value, fold};
use crate::resource::{CallError, Stand};
use crate::sql;
use crate::staged::{Effect, Kind};

pub(crate) fn log(level: Level, target: &str, message: &str) {
    let level = match level {
        Level::Trace => world::log::Level::Trace,
        Level::Debug => world::log::Level::Debug,
        Level::Info => world::log::Level::Info,
        Level::Warn => world::log::Level::Warn,
        Level::Error => world::log::Level::Error,
    };
    world::log::write(level, target, message);
}

pub(crate) fn panicked(message: &str) {
    world::log::panicked(message);
}

pub(crate) fn now() -> u64 {
    world::clock::now()
}

pub(crate) fn random() -> u64 {
    world::entropy::next()
}

pub(crate) fn request_id() -> String {
    world::context::request_id()
}

pub(crate) fn correlation_id() -> String {
    world::context::correlation_id()
}

pub(crate) fn attempt() -> u32 {
    world::context::attempt()
}

pub(crate) fn generation() -> u64 {
    world::context::generation()
}

pub(crate) fn handover_write(bytes: &[u8]) {
    world::handover::write(bytes);
}

pub(crate) fn handover_read(max: usize) -> Vec<u8> {
    world::handover::read(u32::try_from(max).unwrap_or(u32::MAX))
}

/// From the next commit on these bytes are shown; none for nothing. They must stay where they are.
pub(crate) fn show(bytes: &[u8]) {
    // On wasm32 both fit; a buffer of zero bytes has no address worth telling.
    let address = u32::try_from(bytes.as_ptr().addr()).unwrap_or(u32::MAX);
    world::outputs::show(address, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
}

pub(crate) fn look(daemon: &str) -> Option<(u64, u32)> {
    world::outputs::look(daemon).map(|version| (version.sequence, version.size))
}

pub(crate) fn read_output(daemon: &str, offset: u32, max: u32) -> Vec<u8> {
    world::outputs::read(daemon, offset, max)
}

pub(crate) fn look_at_resource(resource: &str) -> Option<Stand> {
    let (state, generation) = world::resources::look(resource)?;
    Some(Stand { available: state == world::resources::State::Available, generation })
}

fn call_error(error: world::calls::Error) -> CallError {
    use world::calls::Error;
    match error {
        Error::NoSuchResource => CallError::NoSuchResource,
        Error::WrongKind => CallError::WrongKind,
        Error::Denied(why) => CallError::Denied(why),
        Error::Refused((code, message)) => CallError::Refused { code, message },
        Error::TooLarge(most) => CallError::TooLarge(most),
        Error::TimedOut => CallError::TimedOut,
        Error::Unavailable(why) => CallError::Unavailable(why),
        Error::Full => CallError::Full,
    }
}

fn redis_value(values: Vec<world::redis::Value>) -> Value {
    use world::redis::Value as Wit;
    let flat = values.into_iter().map(|value| match value {
        Wit::Nil => Flat::One(Value::Nil),
        Wit::Status(status) => Flat::One(Value::Status(status)),
        Wit::Int(number) => Flat::One(Value::Int(number)),
        Wit::Bytes(bytes) => Flat::One(Value::Bytes(bytes)),
        Wit::Items(count) => Flat::Items(count),
    });
    fold(flat.collect())
}

pub(crate) fn redis(resource: &str, words: &[Vec<u8>]) -> Result<Value, CallError> {
    world::redis::command(resource, words).map(redis_value).map_err(call_error)
}

pub(crate) fn redis_eval(
    resource: &str,
    script: &str,
    keys: &[Vec<u8>],
    arguments: &[Vec<u8>],
) -> Result<Value, CallError> {
    world::redis::eval(resource, script, keys, arguments).map(redis_value).map_err(call_error)
}

fn sql_values(values: Vec<sql::Value>) -> Vec<world::sql::Value> {
    use world::sql::Value as Wit;
    let to_wit = |value| match value {
        sql::Value::Null => Wit::Null,
        sql::Value::Boolean(value) => Wit::Boolean(value),
        sql::Value::Int(value) => Wit::Int(value),
        sql::Value::Float(value) => Wit::Float(value),
        sql::Value::Text(value) => Wit::Text(value),
        sql::Value::Bytes(value) => Wit::Bytes(value),
        sql::Value::Uuid(value) => Wit::Uuid(((value >> 64) as u64, ((value << 64) >> 64) as u64)),
        sql::Value::Timestamp(value) => Wit::Timestamp(value),
        sql::Value::Json(value) => Wit::Json(value),
    };
    values.into_iter().map(to_wit).collect()
}

pub(crate) fn sql(
    resource: &str,
    statement: &str,
    values: Vec<sql::Value>,
) -> Result<sql::Rows, CallError> {
    use world::sql::Value as Wit;
    let of_wit = |value| match value {
        Wit::Null => sql::Value::Null,
        Wit::Boolean(value) => sql::Value::Boolean(value),
        Wit::Int(value) => sql::Value::Int(value),
        Wit::Float(value) => sql::Value::Float(value),
        Wit::Text(value) => sql::Value::Text(value),
        Wit::Bytes(value) => sql::Value::Bytes(value),
        Wit::Uuid((high, low)) => sql::Value::Uuid(u128::from(high) << 64 | u128::from(low)),
        Wit::Timestamp(value) => sql::Value::Timestamp(value),
        Wit::Json(value) => sql::Value::Json(value),
    };
    let values = sql_values(values);
    let rows = world::sql::query(resource, statement, &values).map_err(call_error)?;
    let values = rows.values.into_iter().map(of_wit).collect();
    Ok(sql::Rows { columns: rows.columns, values, affected: rows.affected })
}

pub(crate) fn append(resource: &str, path: &str, bytes: &[u8]) -> Result<(), CallError> {
    world::files::append(resource, path, bytes).map_err(call_error)
}

fn http_request(request: http::Request) -> world::http::Request {
    let http::Request { method, url, headers, body } = request;
    world::http::Request { method, url, headers, body }
}

pub(crate) fn http(resource: &str, request: http::Request) -> Result<http::Response, CallError> {
    let response = world::http::send(resource, &http_request(request)).map_err(call_error)?;
    let world::http::Response { status, headers, body } = response;
    Ok(http::Response { status, headers, body })
}

pub(crate) fn stage(resource: &str, effect: Effect) -> Result<(), CallError> {
    use world::staged::{Effect as Wit, Script};
    let Effect { kind, repeatable } = effect;
    let effect = match kind {
        Kind::Redis(words) => Wit::Redis(words),
        Kind::RedisScript { script, keys, arguments } => {
            Wit::RedisScript(Script { script, keys, arguments })
        }
        Kind::Sql { statement, values } => Wit::Sql((statement, sql_values(values))),
        Kind::Append { path, bytes } => Wit::Append((path, bytes)),
        Kind::Http(request) => Wit::Http(http_request(request)),
    };
    world::staged::stage(resource, &effect, repeatable).map_err(call_error)
}
