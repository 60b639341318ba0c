//! Redis as a resource: available while a server answers on a connection that lives, and takes what
//! it is there for.
//!
//! Many transactions share a connection, and its answers come in the order of the calls. So what
//! would block it or change it is refused, a call that is given up leaves its answer to be thrown
//! away, and whatever could make the answers be of other calls ends the connection.

mod guard;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisError,
    Script, Value,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use self::guard::{Guarded, Shared};
use super::dial::{dial, dial_unix};
use super::{Connection, Line, NoConnection, Opened, Pending, Provider, Sharing};
use crate::base::limits::{CALL_BYTES_MAX, CALL_VALUES_MAX};
use crate::pure::resource::operation::{CallError, CallResult, Operation, RedisValue, Reply};
use crate::pure::resource::redis::denied;
use crate::pure::resource::refusal::{Refusal, is_full};
use crate::pure::resource::resp::TOO_LARGE;

/// Init jobs: what each is called, and its words. What files hold is in them already, so that a
/// recovery does what the start did.
pub type Jobs = BTreeMap<String, Vec<Vec<u8>>>;

/// A server that daemons depend on.
pub struct Redis {
    at: ConnectionAddr,
    info: ::redis::RedisConnectionInfo,
    prefix: Option<String>,
    connections: u32,
    jobs: Jobs,
    /// A key whose change is tried, if it has to take changes.
    tried: Option<Arc<[u8]>>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest of the URL may be a password.
        f.debug_struct("Redis").field("at", &self.place()).finish_non_exhaustive()
    }
}

impl Redis {
    /// The server of this URL: `redis://[user[:password]@]host[:port][/database]` or
    /// `unix:///path[?db=database&user=..&pass=..]`. Transactions share so many connections.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL; nothing that is in it.
    pub fn new(
        url: &str,
        prefix: Option<String>,
        connections: u32,
        jobs: Jobs,
    ) -> Result<Self, String> {
        let info = url.into_connection_info().map_err(|error| {
            let text = error.to_string();
            let what = text.split(" - ").next().unwrap_or_default();
            format!("the URL can't be used: {what}")
        })?;
        // Answers to calls, and nothing else.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        let tried = format!("{}bulkhead-check", prefix.as_deref().unwrap_or_default());
        let tried = Some(tried.into_bytes().into());
        Ok(Self { at: info.addr().clone(), info: settings, prefix, connections, jobs, tried })
    }

    /// The same, for reading alone: a replica will do.
    #[must_use]
    pub fn to_read(self) -> Self {
        Self { tried: None, ..self }
    }

    /// A connection to a server that can do what it is for.
    async fn link(&self) -> Result<Link, NoConnection> {
        let mut link = self.dialled().await.map_err(none)?;
        link.asker.look(self.tried.as_deref()).await.map_err(none)?;
        Ok(link)
    }

    async fn dialled(&self) -> Result<Link, String> {
        let stream = match &self.at {
            ConnectionAddr::Tcp(host, port) => dial(host, *port).await?,
            ConnectionAddr::Unix(path) => dial_unix(&PathBuf::from(path)).await?,
            _ => return Err("there is no TLS in this host".to_owned()),
        };
        let shared = Arc::new(Shared::new());
        let guarded = Guarded::new(stream, shared.clone());
        // Who waits says how long.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&self.info, guarded, config).await;
        let (connection, driver) =
            made.map_err(|error| shared.reason().unwrap_or_else(|| error.to_string()))?;
        let (sender, ended) = watch::channel(None);
        let its = shared.clone();
        let driver = tokio::spawn(async move {
            tokio::select! {
                () = driver => {}
                () = its.given_up() => {}
            }
            let _nobody_asks = sender.send(Some(its.why_ended()));
        });
        let driver = Driver(driver.abort_handle());
        Ok(Link { asker: Asker { connection, shared }, ended, _driver: driver })
    }
}

impl Provider for Redis {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or_default()
    }

    fn place(&self) -> String {
        match self.info.db() {
            0 => self.at.to_string(),
            database => format!("{}, database {database}", self.at),
        }
    }

    fn connect(&self) -> Pending<'_, Result<Box<dyn Connection>, NoConnection>> {
        Box::pin(async move {
            // One that wants a password, or still loads, takes connections too.
            let (link, jobs, tried) = (self.link().await?, self.jobs.clone(), self.tried.clone());
            Ok(Box::new(Control { link, jobs, tried }) as Box<dyn Connection>)
        })
    }

    fn sharing(&self) -> Sharing {
        Sharing::Shared(self.connections)
    }

    fn admits(&self, operation: &Operation) -> Result<(), CallError> {
        match operation {
            Operation::Redis(words) => admitted(words),
            _ => Ok(()),
        }
    }

    fn open(&self) -> Pending<'_, Opened> {
        Box::pin(async move { Ok(Box::new(self.link().await?) as Box<dyn Line>) })
    }
}

/// The task that moves bytes. Dropping it closes the connection.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An open connection.
struct Link {
    asker: Asker,
    ended: watch::Receiver<Option<String>>,
    _driver: Driver,
}

impl Link {
    fn ends(&mut self) -> Pending<'_, String> {
        Box::pin(async {
            match self.ended.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => "the client of Redis has panicked".to_owned(),
            }
        })
    }
}

impl Line for Link {
    fn call(&mut self, operation: Operation, until: Instant) -> Pending<'static, CallResult> {
        let asker = self.asker.clone();
        Box::pin(asker.call(operation, until))
    }

    fn died(&mut self) -> Pending<'_, String> {
        self.ends()
    }
}

/// The keeper's own connection.
struct Control {
    link: Link,
    jobs: Jobs,
    tried: Option<Arc<[u8]>>,
}

impl Connection for Control {
    fn check(&mut self) -> Pending<'_, Result<(), String>> {
        Box::pin(async { self.link.asker.look(self.tried.as_deref()).await })
    }

    fn job(&mut self, text: &str) -> Pending<'_, Result<(), String>> {
        let command = self.jobs.get(text).map(command);
        Box::pin(async move {
            let command = command.ok_or("it was not known at the start")?;
            match self.link.asker.send(&command).await? {
                Value::ServerError(error) => Err(explained(&error)),
                _ => Ok(()),
            }
        })
    }

    fn died(&mut self) -> Pending<'_, String> {
        self.link.ends()
    }
}

/// Sends commands, also while others do.
#[derive(Clone)]
struct Asker {
    connection: MultiplexedConnection,
    shared: Arc<Shared>,
}

impl Asker {
    async fn call(mut self, operation: Operation, until: Instant) -> CallResult {
        match operation {
            Operation::Redis(words) => {
                admitted(&words)?;
                self.ask(&command(&words), until).await
            }
            Operation::RedisScript { script, keys, arguments } => {
                let rest = || keys.iter().chain(&arguments);
                check_size(rest().map(Vec::len).chain([script.len()]))?;
                let count = keys.len().to_string();
                let run = |name: &str, script: &str| {
                    let first = [name, script, &count].map(str::as_bytes).into_iter();
                    command(first.chain(rest().map(Vec::as_slice)))
                };
                let by_hash = run("EVALSHA", Script::new(&script).get_hash());
                match self.ask(&by_hash, until).await {
                    Err(CallError::Refused { code, .. }) if code == "NOSCRIPT" => {
                        self.ask(&run("EVAL", &script), until).await
                    }
                    answered => answered,
                }
            }
            _ => Err(CallError::WrongKind),
        }
    }

    /// Dropping it gives the answer up, which is thrown away when it comes.
    async fn ask(&mut self, command: &Cmd, until: Instant) -> CallResult {
        if let Some(why) = self.shared.reason() {
            return Err(CallError::NotSent(why));
        }
        let sent = Instant::now();
        match timeout_at(until, self.connection.send_packed_command(command)).await {
            Ok(Ok(value)) => reply(value),
            Ok(Err(_)) => Err(CallError::Died),
            Err(_) => {
                self.shared.late(sent);
                Err(CallError::TimedOut)
            }
        }
    }

    /// Whether the server is there and can do what it is for: also take changes, of which one is
    /// tried that changes nothing.
    async fn look(&mut self, tried: Option<&[u8]>) -> Result<(), String> {
        match self.send(&command([b"PING"])).await? {
            Value::SimpleString(text) if text == "PONG" => {}
            Value::ServerError(error) => return Err(explained(&error)),
            _ => return Err("it answered something else than PONG".to_owned()),
        }
        let Some(key) = tried else { return Ok(()) };
        // A replica may be told to take changes: its master doesn't know them, and they are lost.
        if let Value::Array(role) = self.send(&command([b"ROLE"])).await?
            && let Some(Value::BulkString(role)) = role.first()
            && [&b"slave"[..], b"replica", b"sentinel"].contains(&role.as_slice())
        {
            let role = String::from_utf8_lossy(role);
            return Err(format!("it is no master: its role is `{role}`"));
        }
        let change: [&[u8]; 3] = [b"SREM", key, b"-"];
        match self.send(&command(change)).await? {
            // Whoever may not do this may do other things; and keys of guests may be here, where
            // this one is not.
            Value::ServerError(error) if Refusal::of(error.code()) == Refusal::Unfit => {
                let here = !["MOVED", "ASK", "CLUSTERDOWN"].contains(&error.code());
                if here { Err(explained(&error)) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    async fn send(&mut self, command: &Cmd) -> Result<Value, String> {
        let sent = self.connection.send_packed_command(command).await;
        sent.map_err(|error| self.why_not(&error))
    }

    fn why_not(&self, error: &RedisError) -> String {
        self.shared.reason().unwrap_or_else(|| error.to_string())
    }
}

fn none(why: String) -> NoConnection {
    if is_full("", &why) { NoConnection::Full(why) } else { NoConnection::Failed(why) }
}

fn command<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word.as_ref());
    }
    command
}

fn admitted(words: &[Vec<u8>]) -> Result<(), CallError> {
    denied(words).map_or(Ok(()), |why| Err(CallError::Denied(why)))?;
    check_size(words.iter().map(Vec::len))
}

fn check_size(lengths: impl Iterator<Item = usize>) -> Result<(), CallError> {
    let (mut bytes, mut words) = (0_usize, 0_usize);
    lengths.for_each(|length| (bytes, words) = (bytes.saturating_add(length), words + 1));
    match bytes > CALL_BYTES_MAX || words > CALL_VALUES_MAX {
        true => Err(CallError::TooLarge(CALL_BYTES_MAX as u64)),
        false => Ok(()),
    }
}

fn explained(error: &::redis::ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or_default())
}

fn reply(value: Value) -> CallResult {
    if let Value::ServerError(error) = &value
        && error.code() != TOO_LARGE
    {
        let message = error.details().unwrap_or_default().to_owned();
        return Err(CallError::Refused { code: error.code().to_owned(), message });
    }
    let mut flat = Flat { values: Vec::new(), bytes: 0 };
    flat.add(value)?;
    Ok(Reply::Redis(flat.values))
}

/// A reply in one row.
struct Flat {
    values: Vec<RedisValue>,
    bytes: usize,
}

impl Flat {
    /// Lists are not deeper than [`crate::base::limits::REPLY_DEPTH_MAX`].
    fn add(&mut self, value: Value) -> Result<(), CallError> {
        match value {
            Value::Nil => self.push(RedisValue::Nil, 0),
            Value::Int(number) => self.push(RedisValue::Int(number), 0),
            Value::BulkString(bytes) => {
                let length = bytes.len();
                self.push(RedisValue::Bytes(bytes), length)
            }
            Value::Okay => self.push(RedisValue::Status("OK".to_owned()), 2),
            Value::SimpleString(text) => {
                let length = text.len();
                self.push(RedisValue::Status(text), length)
            }
            Value::ServerError(error) if error.code() == TOO_LARGE => {
                Err(CallError::TooLarge(CALL_BYTES_MAX as u64))
            }
            // In a list that a script made: the call itself went well.
            Value::ServerError(error) => {
                let text = explained(&error);
                let length = text.len();
                self.push(RedisValue::Status(text), length)
            }
            Value::Array(items) => {
                self.push(RedisValue::Items(u32::try_from(items.len()).unwrap_or(u32::MAX)), 0)?;
                items.into_iter().try_for_each(|item| self.add(item))
            }
            other => Err(CallError::Refused {
                code: "PROTOCOL".to_owned(),
                message: format!("the server answered what RESP 2 does not have: {other:?}"),
            }),
        }
    }

    fn push(&mut self, value: RedisValue, bytes: usize) -> Result<(), CallError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > CALL_BYTES_MAX || self.values.len() >= CALL_VALUES_MAX {
            return Err(CallError::TooLarge(CALL_BYTES_MAX as u64));
        }
        self.values.push(value);
        Ok(())
    }
}
