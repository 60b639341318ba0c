//! Values on their way to a server and back.
//!
//! A value means what it would mean if it were written into the statement. A number is an `integer`
//! if it fits, else a `bigint`; text and NULL take the type of their place, so that a text may be
//! a `date` or a member of an enum; the others have the type of their name, JSON is `jsonb`.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type};
use tokio_postgres::{Column, Row};

use crate::pure::resource::operation::{CallError, SqlValue};
use crate::pure::resource::sql::{date, numeric};

/// Microseconds from the Unix epoch to the server's, which is the year 2000.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Bytes that a value takes, about.
pub(super) fn size(value: &SqlValue) -> usize {
    match value {
        SqlValue::Text(text) | SqlValue::Json(text) => text.len(),
        SqlValue::Bytes(bytes) => bytes.len(),
        SqlValue::Uuid(_) => 16,
        SqlValue::Null
        | SqlValue::Boolean(_)
        | SqlValue::Int(_)
        | SqlValue::Float(_)
        | SqlValue::Timestamp(_) => 8,
    }
}

/// A value for the place of a `$1`.
#[derive(Debug)]
pub(super) struct Parameter<'a>(pub(super) &'a SqlValue);

impl Parameter<'_> {
    pub(super) fn type_(&self) -> Type {
        match self.0 {
            SqlValue::Null | SqlValue::Text(_) => Type::UNKNOWN,
            SqlValue::Boolean(_) => Type::BOOL,
            SqlValue::Int(number) if i32::try_from(*number).is_ok() => Type::INT4,
            SqlValue::Int(_) => Type::INT8,
            SqlValue::Float(_) => Type::FLOAT8,
            SqlValue::Bytes(_) => Type::BYTEA,
            SqlValue::Uuid(_) => Type::UUID,
            SqlValue::Timestamp(_) => Type::TIMESTAMPTZ,
            SqlValue::Json(_) => Type::JSONB,
        }
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(
        &self,
        _type: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            SqlValue::Null => return Ok(IsNull::Yes),
            SqlValue::Text(text) | SqlValue::Json(text) => out.put_slice(text.as_bytes()),
            SqlValue::Boolean(truth) => out.put_u8(u8::from(*truth)),
            SqlValue::Int(number) => match i32::try_from(*number) {
                Ok(number) => out.put_i32(number),
                Err(_) => out.put_i64(*number),
            },
            SqlValue::Float(number) => out.put_f64(*number),
            SqlValue::Bytes(bytes) => out.put_slice(bytes),
            SqlValue::Uuid(bytes) => out.put_slice(bytes),
            SqlValue::Timestamp(micros) => out.put_i64(to_server(*micros)),
        }
        Ok(IsNull::No)
    }

    fn accepts(_type: &Type) -> bool {
        true
    }

    fn to_sql_checked(
        &self,
        type_: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.to_sql(type_, out)
    }

    fn encode_format(&self, _type: &Type) -> Format {
        match self.0 {
            SqlValue::Text(_) | SqlValue::Json(_) => Format::Text,
            _ => Format::Binary,
        }
    }
}

/// The ends of time stay what they are, and so does a time that only the other side can't hold: it
/// becomes one of them.
fn to_server(micros: i64) -> i64 {
    match micros {
        i64::MAX => i64::MAX,
        _ => micros.saturating_sub(EPOCH_MICROS),
    }
}

fn from_server(micros: i64) -> i64 {
    match micros {
        i64::MIN => i64::MIN,
        _ => micros.saturating_add(EPOCH_MICROS),
    }
}

/// Reads a value; `None` for bytes that are none.
type Reader = fn(&[u8]) -> Option<SqlValue>;

/// How the values of a column are read.
#[derive(Debug)]
pub(super) struct Form {
    column: String,
    type_: String,
    read: Reader,
}

impl Form {
    /// For this column.
    ///
    /// # Errors
    ///
    /// When its type has no form here.
    pub(super) fn of(column: &Column) -> Result<Self, CallError> {
        let (name, type_) = (column.name().to_owned(), column.type_());
        match reader(type_) {
            Some(read) => Ok(Self { column: name, type_: type_.name().to_owned(), read }),
            None => Err(CallError::Refused {
                code: "E_TYPE".to_owned(),
                message: format!("column {name} has type {}; cast it to text", type_.name()),
            }),
        }
    }

    pub(super) fn read(&self, row: &Row, index: usize) -> Result<SqlValue, CallError> {
        let wrong = || CallError::Refused {
            code: "E_TYPE".to_owned(),
            message: format!("column {} holds bytes that are no {}", self.column, self.type_),
        };
        let raw = row.try_get::<_, Option<Raw<'_>>>(index).map_err(|_| wrong())?;
        raw.map_or(Some(SqlValue::Null), |Raw(bytes)| (self.read)(bytes)).ok_or_else(wrong)
    }
}

/// A value as it was sent.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_type: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_type: &Type) -> bool {
        true
    }
}

fn reader(type_: &Type) -> Option<Reader> {
    Some(match *type_ {
        Type::BOOL => |raw| Some(SqlValue::Boolean(u8::from_be_bytes(exactly(raw)?) != 0)),
        Type::INT2 => |raw| Some(SqlValue::Int(i16::from_be_bytes(exactly(raw)?).into())),
        Type::INT4 => |raw| Some(SqlValue::Int(i32::from_be_bytes(exactly(raw)?).into())),
        Type::INT8 => |raw| Some(SqlValue::Int(i64::from_be_bytes(exactly(raw)?))),
        Type::OID => |raw| Some(SqlValue::Int(u32::from_be_bytes(exactly(raw)?).into())),
        Type::FLOAT4 => |raw| Some(SqlValue::Float(f32::from_be_bytes(exactly(raw)?).into())),
        Type::FLOAT8 => |raw| Some(SqlValue::Float(f64::from_be_bytes(exactly(raw)?))),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::XML => {
            |raw| text(raw).map(SqlValue::Text)
        }
        Type::NUMERIC => |raw| numeric(raw).map(SqlValue::Text),
        Type::DATE => |raw| Some(SqlValue::Text(date(i32::from_be_bytes(exactly(raw)?)))),
        Type::BYTEA => |raw| Some(SqlValue::Bytes(raw.to_vec())),
        Type::UUID => |raw| exactly(raw).map(SqlValue::Uuid),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            |raw| Some(SqlValue::Timestamp(from_server(i64::from_be_bytes(exactly(raw)?))))
        }
        Type::JSON => |raw| text(raw).map(SqlValue::Json),
        // In its version 1, the only one.
        Type::JSONB => |raw| text(raw.strip_prefix(&[1])?).map(SqlValue::Json),
        // What a function answers that answers nothing.
        Type::VOID => |_| Some(SqlValue::Null),
        _ if matches!(type_.kind(), Kind::Enum(_)) => |raw| text(raw).map(SqlValue::Text),
        _ => return None,
    })
}

fn exactly<const LENGTH: usize>(raw: &[u8]) -> Option<[u8; LENGTH]> {
    raw.try_into().ok()
}

fn text(raw: &[u8]) -> Option<String> {
    String::from_utf8(raw.to_vec()).ok()
}
