//! The types of `wit/resources.wit`, and what a guest may know of its resources.

use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::super::host_calls::{Store, VERSION, charge};
use super::super::state::StoreState;
use crate::pure::resource::operation::{CallError, RedisValue, SqlValue};

/// `calls.error`.
#[derive(Clone, ComponentType, Debug, Lift, Lower)]
#[component(variant)]
pub(super) enum WitError {
    #[component(name = "no-such-resource")]
    NoSuchResource,
    #[component(name = "wrong-kind")]
    WrongKind,
    #[component(name = "denied")]
    Denied(String),
    #[component(name = "refused")]
    Refused((String, String)),
    #[component(name = "too-large")]
    TooLarge(u64),
    #[component(name = "timed-out")]
    TimedOut,
    #[component(name = "unavailable")]
    Unavailable(String),
    #[component(name = "full")]
    Full,
}

impl From<CallError> for WitError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoSuchResource => Self::NoSuchResource,
            CallError::WrongKind => Self::WrongKind,
            CallError::Denied(why) => Self::Denied(why),
            CallError::Refused { code, message } => Self::Refused((code, message)),
            CallError::TooLarge(most) => Self::TooLarge(most),
            CallError::TimedOut => Self::TimedOut,
            CallError::Unavailable(why) => Self::Unavailable(why),
            CallError::Full => Self::Full,
            CallError::Died | CallError::NotSent(_) => {
                Self::Unavailable("the connection died".to_owned())
            }
        }
    }
}

/// `resources.state`.
#[derive(Clone, ComponentType, Copy, Debug, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum WitState {
    #[component(name = "available")]
    Available,
    #[component(name = "down")]
    Down,
}

/// `redis.value`.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(variant)]
pub(super) enum WitRedisValue {
    #[component(name = "nil")]
    Nil,
    #[component(name = "status")]
    Status(String),
    #[component(name = "int")]
    Int(i64),
    #[component(name = "bytes")]
    Bytes(Vec<u8>),
    #[component(name = "items")]
    Items(u32),
}

impl From<RedisValue> for WitRedisValue {
    fn from(value: RedisValue) -> Self {
        match value {
            RedisValue::Nil => Self::Nil,
            RedisValue::Status(status) => Self::Status(status),
            RedisValue::Int(number) => Self::Int(number),
            RedisValue::Bytes(bytes) => Self::Bytes(bytes),
            RedisValue::Items(count) => Self::Items(count),
        }
    }
}

/// `sql.value`.
#[derive(Clone, ComponentType, Debug, Lift, Lower)]
#[component(variant)]
pub(super) enum WitSqlValue {
    #[component(name = "null")]
    Null,
    #[component(name = "boolean")]
    Boolean(bool),
    #[component(name = "int")]
    Int(i64),
    #[component(name = "float")]
    Float(f64),
    #[component(name = "text")]
    Text(String),
    #[component(name = "bytes")]
    Bytes(Vec<u8>),
    #[component(name = "uuid")]
    Uuid((u64, u64)),
    #[component(name = "timestamp")]
    Timestamp(i64),
    #[component(name = "json")]
    Json(String),
}

impl WitSqlValue {
    /// Bytes that it carries.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Json(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Null | Self::Boolean(_) => 1,
            Self::Uuid(_) => 16,
            Self::Int(_) | Self::Float(_) | Self::Timestamp(_) => 8,
        }
    }
}

impl From<SqlValue> for WitSqlValue {
    fn from(value: SqlValue) -> Self {
        match value {
            SqlValue::Null => Self::Null,
            SqlValue::Boolean(value) => Self::Boolean(value),
            SqlValue::Int(value) => Self::Int(value),
            SqlValue::Float(value) => Self::Float(value),
            SqlValue::Text(value) => Self::Text(value),
            SqlValue::Bytes(value) => Self::Bytes(value),
            SqlValue::Uuid(bytes) => {
                let bits = u128::from_be_bytes(bytes);
                let low = u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(u64::MAX);
                Self::Uuid((u64::try_from(bits >> 64).unwrap_or(u64::MAX), low))
            }
            SqlValue::Timestamp(value) => Self::Timestamp(value),
            SqlValue::Json(value) => Self::Json(value),
        }
    }
}

impl From<WitSqlValue> for SqlValue {
    fn from(value: WitSqlValue) -> Self {
        match value {
            WitSqlValue::Null => Self::Null,
            WitSqlValue::Boolean(value) => Self::Boolean(value),
            WitSqlValue::Int(value) => Self::Int(value),
            WitSqlValue::Float(value) => Self::Float(value),
            WitSqlValue::Text(value) => Self::Text(value),
            WitSqlValue::Bytes(value) => Self::Bytes(value),
            WitSqlValue::Uuid((high, low)) => {
                Self::Uuid((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
            }
            WitSqlValue::Timestamp(value) => Self::Timestamp(value),
            WitSqlValue::Json(value) => Self::Json(value),
        }
    }
}

/// `resources.look`, and the names of the interfaces that have types alone.
pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    linker.instance(&format!("bulkhead:guest/calls@{VERSION}"))?;
    let mut resources = linker.instance(&format!("bulkhead:guest/resources@{VERSION}"))?;
    resources.func_wrap("look", |mut store: Store<'_>, (name,): (String,)| {
        charge(&mut store, name.len())?;
        let outside = store.data().outside.clone();
        let seen = outside.and_then(|outside| outside.look(&name));
        Ok((seen.map(|(available, generation)| {
            let state = if available { WitState::Available } else { WitState::Down };
            (state, generation.0)
        }),))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_keeps_its_order_of_bytes() {
        let bytes: [u8; 16] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let wit = WitSqlValue::from(SqlValue::Uuid(bytes));
        let WitSqlValue::Uuid(pair) = wit else { panic!("{wit:?}") };
        assert_eq!(pair, (0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f));
        assert_eq!(SqlValue::from(WitSqlValue::Uuid(pair)), SqlValue::Uuid(bytes));
    }
}
