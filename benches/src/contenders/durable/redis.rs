//! Redis: `SmallBank` as a library of Lua functions, every change synced before its answer.

use std::path::Path;

use rustix::process::Signal;
use servers::{Listens, Server};
use smallbank::mix::Request;
use smallbank::{CHECKING_START_CENTS, PENALTY_CENTS, SAVINGS_START_CENTS};

use super::wire::{Connection, Protocol, Reply, serve};
use super::{DurableBank, Served};

const LIBRARY: &str = include_str!("../../../redis/smallbank.lua");
const SOCKET: &str = "redis";

/// A server with the bank in it.
#[derive(Debug)]
pub struct RedisBank {
    customers: u64,
    // Before the server: it is dropped first.
    connections: Vec<Connection>,
    _server: Server,
}

impl RedisBank {
    /// Starts a server with its data in `dir`, opens the accounts and that many connections.
    ///
    /// # Errors
    ///
    /// What to do about it.
    pub fn start(dir: &Path, customers: u64, clients: usize) -> Result<Self, String> {
        let program = servers::redis_program()?;
        Self::start_program(&program, dir, customers, clients)
            .map_err(|error| format!("{}: {error}", program.display()))
    }

    fn start_program(
        program: &Path,
        dir: &Path,
        customers: u64,
        clients: usize,
    ) -> Result<Self, String> {
        let home = servers::home("redis", None)?;
        let socket = home.path().join(SOCKET);
        let mut command = servers::command(program, None, dir);
        command.args(["--port", "0", "--unixsocket"]).arg(&socket).arg("--dir").arg(dir).args([
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--save",
            "",
            "--daemonize",
            "no",
        ]);
        let server = Server::start(command, home, Listens::Unix(socket.clone()), Signal::TERM)?;
        let connections = (0..clients).map(|_| Connection::open(&socket));
        let connections = connections.collect::<Result<Vec<_>, _>>()?;
        let mut bank = Self { customers, connections, _server: server };
        let library = LIBRARY.replace("PENALTY_CENTS", &PENALTY_CENTS.to_string());
        bank.call(&["FUNCTION", "LOAD", &library])?;
        let numbers = [customers.to_string()]
            .into_iter()
            .chain([SAVINGS_START_CENTS, CHECKING_START_CENTS].map(|cents| cents.to_string()));
        let numbers: Vec<String> = numbers.collect();
        let words: Vec<&str> =
            ["FCALL", "load", "0"].into_iter().chain(numbers.iter().map(String::as_str)).collect();
        bank.call(&words)?;
        Ok(bank)
    }

    /// Runs one command on the first connection; a number, if it answers one.
    fn call(&mut self, words: &[&str]) -> Result<Reply, String> {
        let mut bytes = Vec::new();
        encode(words, &mut bytes);
        let connection = self.connections.first_mut().ok_or("there are no connections")?;
        connection.send(&bytes)?;
        connection.wait(parse)
    }
}

impl DurableBank for RedisBank {
    fn serve(&mut self, clients: usize, requests: &[Request]) -> Served {
        serve(&Resp, &mut self.connections[..clients], requests).expect("the server answers")
    }

    fn total(&mut self) -> Option<i64> {
        let customers = self.customers.to_string();
        match self.call(&["FCALL", "total", "0", &customers]) {
            Ok(Reply::Value(total)) => Some(total),
            other => panic!("no total: {other:?}"),
        }
    }
}

/// The protocol of Redis.
struct Resp;

impl Protocol for Resp {
    fn request(&self, request: &Request, out: &mut Vec<u8>) {
        let (savings, checking) = (|n: u64| format!("s:{n}"), |n: u64| format!("c:{n}"));
        let (keys, amount) = match *request {
            Request::Load { .. } => (Vec::new(), None),
            Request::Balance { customer } => (vec![savings(customer), checking(customer)], None),
            Request::DepositChecking { customer, amount } => {
                (vec![checking(customer)], Some(amount))
            }
            Request::TransactSavings { customer, amount } => {
                (vec![savings(customer)], Some(amount))
            }
            Request::Amalgamate { from, to } => {
                (vec![savings(from), checking(from), checking(to)], None)
            }
            Request::WriteCheck { customer, amount } => {
                (vec![savings(customer), checking(customer)], Some(amount))
            }
            Request::SendPayment { from, to, amount } => {
                (vec![checking(from), checking(to)], Some(amount))
            }
        };
        let mut words = vec!["FCALL".to_owned(), request.contract().to_owned()];
        words.push(keys.len().to_string());
        words.extend(keys);
        words.extend(amount.map(|amount| amount.to_string()));
        encode(&words, out);
    }

    fn reply(&self, bytes: &[u8]) -> Result<Option<(Reply, usize)>, String> {
        parse(bytes)
    }
}

/// An array of bulk strings: what commands are.
fn encode(words: &[impl AsRef<str>], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words.iter().map(AsRef::as_ref) {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

/// A number, a null, or a bulk string, whose text nobody needs.
fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let after = end + 2;
    let number = || line[1..].parse::<i64>().map_err(|error| format!("`{line}`: {error}"));
    match line.as_bytes().first() {
        Some(b':') => Ok(Some((Reply::Value(number()?), after))),
        Some(b'$') => match usize::try_from(number()?) {
            Err(_) => Ok(Some((Reply::Rejected, after))),
            Ok(length) => {
                let length = after + length + 2;
                Ok((bytes.len() >= length).then_some((Reply::Value(0), length)))
            }
        },
        _ => Err(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_when_they_are_whole() {
        assert_eq!(parse(b":-12\r\n:"), Ok(Some((Reply::Value(-12), 6))));
        assert_eq!(parse(b"$-1\r\n"), Ok(Some((Reply::Rejected, 5))));
        assert_eq!(parse(b"$4\r\nbank\r\n"), Ok(Some((Reply::Value(0), 10))));
        for part in [&b""[..], b":1", b":1\r", b"$4\r\nbank\r"] {
            assert_eq!(parse(part), Ok(None));
        }
        assert_eq!(parse(b"-ERR no\r\n"), Err("-ERR no".to_owned()));
        assert!(parse(b":x\r\n").is_err());
    }

    #[test]
    fn a_request_is_an_array_of_words() {
        let mut bytes = Vec::new();
        Resp.request(&Request::SendPayment { from: 1, to: 22, amount: 500 }, &mut bytes);
        let expected = "*6\r\n$5\r\nFCALL\r\n$12\r\nsend_payment\r\n$1\r\n2\r\n$3\r\nc:1\r\n\
                        $4\r\nc:22\r\n$3\r\n500\r\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
