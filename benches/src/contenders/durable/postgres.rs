//! PostgreSQL: `SmallBank` in PL/pgSQL, prepared calls, every commit synced before its answer.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use servers::{Listens, Server, TempDir, User};
use smallbank::mix::Request;
use smallbank::{CHECKING_START_CENTS, PENALTY_CENTS, SAVINGS_START_CENTS};

use super::wire::{Connection, Protocol, Reply, serve};
use super::{DurableBank, Served};

const SCHEMA: &str = include_str!("../../../postgres/smallbank.sql");
const SOCKET: &str = ".s.PGSQL.5432";

/// Version 3.0 of the protocol.
const PROTOCOL: u32 = 3 << 16;

/// `raise_exception`: what the bank's functions raise.
const REJECTED: &str = "P0001";

/// How long the server may refuse connections because it starts.
const START_MAX: Duration = Duration::from_secs(20);

/// The prepared statements and how many arguments they have.
const STATEMENTS: [(&str, usize); 7] = [
    ("total", 0),
    ("balance", 1),
    ("deposit_checking", 2),
    ("transact_savings", 2),
    ("amalgamate", 2),
    ("write_check", 2),
    ("send_payment", 3),
];

/// A server with the bank in it.
#[derive(Debug)]
pub struct PostgresBank {
    // Before the server: it is dropped first.
    connections: Vec<Connection>,
    _server: Server,
}

impl PostgresBank {
    /// Starts a server with its data in `dir`, opens the accounts and that many connections.
    ///
    /// # Errors
    ///
    /// What to do about it.
    pub fn start(dir: &Path, customers: u64, clients: usize) -> Result<Self, String> {
        let [initdb, postgres] = servers::postgres_programs()?;
        let user = User::unprivileged(&["postgres", "nobody"])?;
        User::give(user, dir)?;
        let mut init = servers::command(&initdb, user, dir);
        init.args(["--auth", "trust", "--username", "bench", "--locale", "C", "--encoding"]);
        init.args(["UTF8", "--no-sync", "--pgdata"]).arg(dir);
        servers::run(&mut init)
            .map_err(|error| format!("{} in {}: {error}", initdb.display(), dir.display()))?;
        let home = servers::home("postgres", user)?;
        Self::start_in(servers::command(&postgres, user, dir), dir, home, customers, clients)
            .map_err(|error| format!("{}: {error}", postgres.display()))
    }

    fn start_in(
        mut command: Command,
        dir: &Path,
        home: TempDir,
        customers: u64,
        clients: usize,
    ) -> Result<Self, String> {
        command.arg("-D").arg(dir).arg("-k").arg(home.path());
        for setting in ["listen_addresses=", "fsync=on", "synchronous_commit=on"] {
            command.args(["-c", setting]);
        }
        let socket = home.path().join(SOCKET);
        let server = Server::start(command, home, Listens::Unix(socket.clone()), Signal::INT)?;
        let mut first = first_connection(&socket)?;
        let schema = SCHEMA
            .replace("SAVINGS_CENTS", &SAVINGS_START_CENTS.to_string())
            .replace("CHECKING_CENTS", &CHECKING_START_CENTS.to_string())
            .replace("PENALTY", &PENALTY_CENTS.to_string())
            .replace("CUSTOMERS", &customers.to_string());
        let mut query = Vec::new();
        message(b'Q', &[schema.as_bytes(), &[0]], &mut query);
        first.send(&query)?;
        first.wait(parse)?;
        let others = (1..clients).map(|_| connect(&socket));
        let mut connections =
            std::iter::once(Ok(first)).chain(others).collect::<Result<Vec<_>, String>>()?;
        connections.iter_mut().try_for_each(prepare)?;
        Ok(Self { connections, _server: server })
    }
}

impl DurableBank for PostgresBank {
    fn serve(&mut self, clients: usize, requests: &[Request]) -> Served {
        serve(&Version3, &mut self.connections[..clients], requests).expect("the server answers")
    }

    fn total(&mut self) -> Option<i64> {
        let (mut bytes, connection) = (Vec::new(), &mut self.connections[0]);
        call("total", &[], &mut bytes);
        match connection.send(&bytes).and_then(|()| connection.wait(parse)) {
            Ok(Reply::Value(total)) => Some(total),
            other => panic!("no total: {other:?}"),
        }
    }
}

/// It listens before it takes connections.
fn first_connection(socket: &Path) -> Result<Connection, String> {
    let start = Instant::now();
    loop {
        match connect(socket) {
            Err(_) if start.elapsed() < START_MAX => {
                std::thread::sleep(Duration::from_millis(10));
            }
            connected => return connected,
        }
    }
}

fn connect(socket: &Path) -> Result<Connection, String> {
    let mut connection = Connection::open(socket)?;
    let body = [&PROTOCOL.to_be_bytes()[..], b"user\0bench\0database\0postgres\0\0"].concat();
    let mut startup = Vec::new();
    lengthy(&[&body], &mut startup);
    connection.send(&startup)?;
    connection.wait(parse)?;
    Ok(connection)
}

fn prepare(connection: &mut Connection) -> Result<(), String> {
    for (name, count) in STATEMENTS {
        let arguments: Vec<String> = (1..=count).map(|place| format!("${place}")).collect();
        let text = format!("{name}\0SELECT {name}({})\0", arguments.join(", "));
        let mut bytes = Vec::new();
        message(b'P', &[text.as_bytes(), &[0, 0]], &mut bytes);
        message(b'S', &[], &mut bytes);
        connection.send(&bytes)?;
        connection.wait(parse)?;
    }
    Ok(())
}

/// Appends the calls of a prepared statement: bind, execute, sync.
fn call(statement: &str, arguments: &[i64], out: &mut Vec<u8>) {
    // No portal name, no formats: all is text.
    let mut bind = format!("\0{statement}\0\0\0").into_bytes();
    let count = u16::try_from(arguments.len()).expect("few arguments");
    bind.extend_from_slice(&count.to_be_bytes());
    for argument in arguments {
        lengthy_text(&argument.to_string(), &mut bind);
    }
    bind.extend_from_slice(&[0, 0]);
    message(b'B', &[&bind], out);
    // All rows of the unnamed portal.
    message(b'E', &[&[0; 5]], out);
    message(b'S', &[], out);
}

fn message(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.push(kind);
    lengthy(parts, out);
}

/// A length that counts itself, then the parts.
fn lengthy(parts: &[&[u8]], out: &mut Vec<u8>) {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&u32::try_from(length).expect("a short message").to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// A length that doesn't count itself, then the text.
fn lengthy_text(text: &str, out: &mut Vec<u8>) {
    let length = u32::try_from(text.len()).expect("a short text");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// The protocol of PostgreSQL.
struct Version3;

impl Protocol for Version3 {
    fn request(&self, request: &Request, out: &mut Vec<u8>) {
        let arguments: Vec<i64> = request.arguments().map(|(_, value)| value).collect();
        call(request.contract(), &arguments, out);
    }

    fn reply(&self, bytes: &[u8]) -> Result<Option<(Reply, usize)>, String> {
        parse(bytes)
    }
}

/// All messages until the server is ready for the next request.
fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    let (mut rest, mut reply, mut error) = (bytes, Reply::Rejected, None);
    while let Some((&kind, after)) = rest.split_first() {
        let Some((length, _)) = after.split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((message, next)) = after.split_at_checked(length) else { return Ok(None) };
        rest = next;
        let body = message.get(4..).ok_or("a message without its length")?;
        match kind {
            b'D' => reply = row(body)?,
            b'E' => {
                let text = field(body, b'M').unwrap_or_default();
                if field(body, b'C').as_deref() != Some(REJECTED) {
                    error = Some(text);
                }
            }
            b'Z' => {
                let read = bytes.len() - rest.len();
                return error.map_or(Ok(Some((reply, read))), Err);
            }
            _ => {}
        }
    }
    // A fatal error is the last message.
    error.map_or(Ok(None), Err)
}

/// The first column of a row, a number as text; null is the bank's "no".
fn row(body: &[u8]) -> Result<Reply, String> {
    let value = body.get(2..).and_then(|body| body.split_first_chunk());
    let (length, value) = value.ok_or("a row without columns")?;
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
        return Ok(Reply::Rejected);
    };
    let text = String::from_utf8_lossy(value.get(..length).unwrap_or_default());
    text.parse().map(Reply::Value).map_err(|error| format!("`{text}`: {error}"))
}

/// A field of an error.
fn field(body: &[u8], kind: u8) -> Option<String> {
    let fields = body.split(|byte| *byte == 0).filter_map(<[u8]>::split_first);
    let mut wanted = fields.filter(|(found, _)| **found == kind);
    wanted.next().map(|(_, text)| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(list: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        list.iter().for_each(|(kind, body)| message(*kind, &[body], &mut bytes));
        bytes
    }

    #[test]
    fn an_answer_ends_when_the_server_is_ready() {
        let row = b"\0\x01\0\0\0\x03-12";
        let bytes = messages(&[(b'2', b""), (b'D', row), (b'C', b"SELECT 1\0"), (b'Z', b"I")]);
        assert_eq!(parse(&bytes), Ok(Some((Reply::Value(-12), bytes.len()))));
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Ok(None));
        }
        let null = messages(&[(b'D', b"\0\x01\xff\xff\xff\xff"), (b'Z', b"I")]);
        assert_eq!(parse(&null), Ok(Some((Reply::Rejected, null.len()))));
    }

    #[test]
    fn only_the_bank_itself_rejects() {
        let own = messages(&[(b'E', b"SERROR\0CP0001\0Mno funds\0\0"), (b'Z', b"I")]);
        assert_eq!(parse(&own), Ok(Some((Reply::Rejected, own.len()))));
        let other = messages(&[(b'E', b"SERROR\0C40P01\0Mdeadlock\0\0"), (b'Z', b"I")]);
        assert_eq!(parse(&other), Err("deadlock".to_owned()));
        let fatal = messages(&[(b'E', b"SFATAL\0C57P03\0Mstarting\0\0")]);
        assert_eq!(parse(&fatal), Err("starting".to_owned()));
    }

    #[test]
    fn a_call_is_bound_executed_and_synced() {
        let mut bytes = Vec::new();
        call("balance", &[7], &mut bytes);
        let bind = b"B\0\0\0\x18\0balance\0\0\0\0\x01\0\0\0\x017\0\0";
        let expected = [&bind[..], b"E\0\0\0\x09\0\0\0\0\0", b"S\0\0\0\x04"].concat();
        assert_eq!(bytes, expected);
    }
}
