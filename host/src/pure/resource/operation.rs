//! What transactions ask of resources, as values: what a guest's call carries to a provider, and
//! what comes back.

use super::files::{FileCall, FileReply};

/// One thing that a transaction asks of a resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Redis: one command, the name first.
    Redis(Vec<Vec<u8>>),
    /// Redis: runs a script, by its hash where the server knows it.
    RedisScript {
        /// The script.
        script: String,
        /// Names of keys.
        keys: Vec<Vec<u8>>,
        /// Other arguments.
        arguments: Vec<Vec<u8>>,
    },
    /// SQL: one statement, with values for `$1`, `$2` ..
    Sql {
        /// The statement.
        statement: String,
        /// Its values.
        values: Vec<SqlValue>,
    },
    /// A directory: adds to the end of a file, which is made if it isn't there.
    Append {
        /// Where, relative to the directory.
        path: String,
        /// What.
        bytes: Vec<u8>,
    },
    /// A directory: looks into it.
    Files(FileCall),
    /// HTTP: one request.
    Http(HttpRequest),
}

impl Operation {
    /// The kind of resource that it is for.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Redis(_) | Self::RedisScript { .. } => "redis",
            Self::Sql { .. } => "postgres",
            Self::Append { .. } | Self::Files(_) => "directory",
            Self::Http(_) => "http",
        }
    }

    /// Whether it may change something outside, which no rollback undoes. Only what surely doesn't
    /// says no.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !matches!(self, Self::Files(_))
    }
}

/// What a resource answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Redis: a value, flat; see [`RedisValue::Items`].
    Redis(Vec<RedisValue>),
    /// SQL: rows.
    Sql(SqlRows),
    /// A directory: what was seen.
    Files(FileReply),
    /// HTTP: whatever was answered, an error's status too.
    Http(HttpAnswer),
    /// It is done.
    Done,
}

/// A request of HTTP.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpRequest {
    /// `GET`, `POST` ..
    pub method: String,
    /// Where to.
    pub url: String,
    /// Names and values; some names are the host's.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body; often empty.
    pub body: Vec<u8>,
}

impl HttpRequest {
    /// Bytes of all that the guest says.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let sizes = self.headers.iter().map(|(name, value)| name.len().saturating_add(value.len()));
        let head = self.method.len().saturating_add(self.url.len());
        sizes.fold(head.saturating_add(self.body.len()), usize::saturating_add)
    }
}

/// An answer of HTTP.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// Names, in small letters, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// One element of a reply of Redis.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RedisValue {
    /// Nothing there.
    Nil,
    /// A status line, like `OK`.
    Status(String),
    /// A number.
    Int(i64),
    /// A string.
    Bytes(Vec<u8>),
    /// A list: that many values that follow belong to it, each with what is in it.
    Items(u32),
}

/// A value of SQL.
#[derive(Clone, Debug, PartialEq)]
pub enum SqlValue {
    /// NULL.
    Null,
    /// `boolean`.
    Boolean(bool),
    /// `smallint`, `integer`, `bigint`.
    Int(i64),
    /// `real`, `double precision`.
    Float(f64),
    /// `text`, `varchar`, and what has no other form here, as the server writes it.
    Text(String),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// `uuid`, as its 16 bytes.
    Uuid([u8; 16]),
    /// `timestamp` and `timestamptz`: microseconds since the Unix epoch.
    Timestamp(i64),
    /// `json` and `jsonb`, as text.
    Json(String),
}

/// Rows of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SqlRows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The values, row by row.
    pub values: Vec<SqlValue>,
    /// Rows that the statement changed or answered.
    pub affected: u64,
}

/// Why a call has no answer. The death of the resource is not among these: it ends the transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CallError {
    /// The daemon has no resource of that name.
    NoSuchResource,
    /// The resource is of another kind.
    WrongKind,
    /// The host doesn't let guests do that.
    Denied(String),
    /// The resource said no, with a code of its own.
    Refused {
        /// For programs: an SQLSTATE, the first word of an error of Redis.
        code: String,
        /// For people.
        message: String,
    },
    /// The request, or the answer, is larger than this many bytes.
    TooLarge(u64),
    /// No answer in time. Whether it was done is not known.
    TimedOut,
    /// The resource is down, or gave no connection; for this reason.
    Unavailable(String),
    /// Too many calls wait for this resource.
    Full,
    /// The connection died. No guest sees this: its transaction ends.
    Died,
    /// The same, for this reason, before the other side was asked for anything that it has done.
    NotSent(String),
}

impl CallError {
    /// The code by which the SDK passes it on as a rejection; none for what no guest sees.
    #[must_use]
    pub const fn passed_on(&self) -> Option<&'static str> {
        match self {
            Self::NoSuchResource => Some("no_such_resource"),
            Self::WrongKind => Some("wrong_kind"),
            Self::Denied(_) => Some("call_denied"),
            Self::Refused { .. } => Some("call_refused"),
            Self::TooLarge(_) => Some("call_too_large"),
            Self::TimedOut => Some("call_timed_out"),
            Self::Unavailable(_) => Some("resource_unavailable"),
            Self::Full => Some("resource_busy"),
            Self::Died | Self::NotSent(_) => None,
        }
    }
}

/// How a call ended.
pub type CallResult = Result<Reply, CallError>;
