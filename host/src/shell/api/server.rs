//! Answers commands on the socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::geteuid;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::bits;
use super::crashes;
use super::lineage::{self, Fields, Served};
use super::socket::Listening;
use super::{error_line, output, ps_json, resources, upgrade};
use crate::base::error::{Code, Fault, plain_lines, printable};
use crate::base::failpoint::{self, Point};
use crate::base::ids::{RequestId, Sequence};
use crate::base::limits::{
    ACCEPT_PAUSE, CLIENT_ANSWER_TIME_MAX, CLIENT_PLACE_WAIT, COMMAND_BYTES_MAX, HASH_WAIT,
    LINE_INLINE_BYTES_MAX, REQUEST_BYTES_MAX,
};
use crate::base::room::{Room, Taken};
use crate::pure::contract::Args;
use crate::pure::json;
use crate::pure::request::{self, Answer, Outcome, Request};
use crate::shell::clients::{Clients, Paced, Seat, Stage, Times};
use crate::tree::Root;

/// Accepts clients until the future is dropped.
///
/// # Errors
///
/// When the listener can't be used at all; errors of single clients are logged.
///
/// # Cancel safety
///
/// Dropping it closes all connections; requests that were submitted run to their end all the same.
pub async fn serve(listening: &Listening, served: Arc<Served>) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listening.listener.try_clone()?)?;
    loop {
        let Some((stream, seat)) = next_client(&listener, &listening.clients).await? else {
            continue;
        };
        let stream = Paced::new(stream, seat.stage.clone());
        let client = Client {
            served: served.clone(),
            clients: listening.clients.clone(),
            waiting: listening.waiting.clone(),
            stage: seat.stage.clone(),
        };
        tokio::spawn(seat.serve(async move {
            if let Err(error) = client.attend(stream).await {
                tracing::debug!(%error, "a client went away, or was let go of");
            }
        }));
    }
}

/// The next client, with its place; none when it can't be served.
async fn next_client(
    listener: &UnixListener,
    clients: &Arc<Clients>,
) -> std::io::Result<Option<(UnixStream, Seat)>> {
    // However many there are, the others of this thread have their turns between them.
    tokio::task::yield_now().await;
    let stream = match listener.accept().await {
        Ok((stream, _)) => stream,
        Err(error) => {
            // Out of descriptors, most likely.
            tracing::warn!(%error, "accepting a client failed");
            clients.make_room();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            return Ok(None);
        }
    };
    failpoint::pass(Point::AcceptClient)?;
    if let Err(stranger) = is_known(&stream) {
        tracing::warn!(stranger, "a client is another user: let go of");
        return Ok(None);
    }
    let seat = clients.seat(USUAL).await;
    Ok(Some((stream, seat)))
}

/// Clients are this user, or root; whatever the modes of directory and socket let through.
fn is_known(stream: &UnixStream) -> Result<(), u32> {
    let user = stream.peer_cred().map_or(u32::MAX, |peer| peer.uid());
    let known = user == geteuid().as_raw() || user == 0;
    known.then_some(()).ok_or(user)
}

/// A client may be silent for as long as nobody else needs its place.
const USUAL: Times =
    Times { head: Duration::MAX, answer: CLIENT_ANSWER_TIME_MAX, idle: Duration::MAX };

/// What one client is served with.
struct Client {
    served: Arc<Served>,
    clients: Arc<Clients>,
    waiting: Arc<Semaphore>,
    stage: Arc<Stage>,
}

impl Client {
    /// Serves it, line by line.
    async fn attend(self, stream: Paced<UnixStream>) -> std::io::Result<()> {
        // The parts of a small answer are one write: each costs a system call and wakes the client.
        let mut stream = BufStream::new(stream);
        loop {
            let read = read_line(&mut stream, self.served.root.requests()).await?;
            self.stage.begin(Attending::one(&self.served.attending));
            let (said, mut last) = match read {
                Line::End => return Ok(()),
                Line::Refused(fault) => (Err(fault), true),
                Line::Whole(line, room) => (self.answer(line, room).await, false),
            };
            // One that is refused for want of room, and would go on asking, keeps others out.
            let refused = matches!(&said, Err(fault) if fault.code == Code::QueueFull);
            last |= refused && self.clients.is_crowded();
            self.stage.answered();
            let said = said.unwrap_or_else(|fault| Said::Value(error_line(&fault)));
            write(&mut stream, said).await?;
            stream.flush().await?;
            if last {
                return stream.shutdown().await;
            }
        }
    }

    async fn answer(&self, line: Vec<u8>, room: Vec<Taken>) -> Result<Said, Fault> {
        // Reading over a long line takes longer than others should wait for.
        let command = match line.len() {
            0..=LINE_INLINE_BYTES_MAX => Command::read(&line),
            _ => blocking(move || Command::read(&line)).await?,
        }?;
        drop(room);
        let is_urgent = command.call.is_none() && is_urgent(&command.fields, &self.served.root);
        let _place = if is_urgent { None } else { Some(self.place().await?) };
        match command {
            Command { call: Some(request), .. } => {
                Ok(Said::Outcome(answered(request, &self.served.root).await.into_line()))
            }
            Command { fields, .. } => self::command(fields, &self.served).await.map(Said::Value),
        }
    }

    /// A place among those that wait.
    async fn place(&self) -> Result<SemaphorePermit<'_>, Fault> {
        let wait = if self.clients.is_crowded() { Duration::ZERO } else { CLIENT_PLACE_WAIT };
        match tokio::time::timeout(wait, self.waiting.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                let clients = self.clients.open_to_all();
                let message = format!("{clients} clients of the socket are waiting already");
                Err(Fault::new(Code::QueueFull, message))
            }
        }
    }
}

/// What a client is told.
enum Said {
    Value(Value),
    /// The outcome of a request.
    Outcome(request::Line),
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), said: Said) -> std::io::Result<()> {
    match said {
        Said::Value(value) => {
            let text = plain_lines(format!("{value}\n"));
            writer.write_all(text.as_bytes()).await
        }
        Said::Outcome(request::Line { mut head, shown, tail }) => {
            if let Some(shown) = shown {
                writer.write_all(head.as_bytes()).await?;
                writer.write_all(shown.as_ref()).await?;
                head.clear();
            }
            head.push_str(tail);
            head.push('\n');
            writer.write_all(head.as_bytes()).await
        }
    }
}

/// A command that is being answered: a stop waits for it.
#[derive(Debug)]
pub(in crate::shell) struct Attending(Arc<AtomicUsize>);

impl Attending {
    pub(in crate::shell) fn one(attending: &Arc<AtomicUsize>) -> Self {
        attending.fetch_add(1, Ordering::AcqRel);
        Self(attending.clone())
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

enum Line {
    /// With its room among those that are being read.
    Whole(Vec<u8>, Vec<Taken>),
    Refused(Fault),
    End,
}

/// Reads one line of at most [`REQUEST_BYTES_MAX`] bytes; a long one takes room as it comes.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin), room: &Room) -> std::io::Result<Line> {
    let (mut line, mut taken) = (Vec::new(), Vec::new());
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(if line.is_empty() { Line::End } else { Line::Whole(line, taken) });
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        if line.len() + part.len() > REQUEST_BYTES_MAX {
            let message = format!("a line of more than {REQUEST_BYTES_MAX} bytes");
            return Ok(Line::Refused(Fault::new(Code::Request, message)));
        }
        while line.len() + part.len() > (taken.len() + 1) * LINE_INLINE_BYTES_MAX {
            match room.take(LINE_INLINE_BYTES_MAX) {
                Some(more) => taken.push(more),
                None => {
                    let message = format!("clients are sending {} bytes already", room.taken());
                    return Ok(Line::Refused(Fault::new(Code::QueueFull, message)));
                }
            }
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(Line::Whole(line, taken));
        }
    }
}

/// A line, as far as it is read here.
#[derive(Debug, Default)]
struct Command {
    call: Option<Request>,
    /// The other fields.
    fields: Map<String, Value>,
}

impl Command {
    fn read(line: &[u8]) -> Result<Self, Fault> {
        let wrong = |message: String| Fault::new(Code::Request, message);
        let line = std::str::from_utf8(line);
        let line = line.map_err(|_| wrong("the line is not UTF-8".to_owned()))?;
        let (mut command, mut texts, mut bytes) = (Self::default(), None, 0);
        json::fields(line, "a command", |name, value| {
            match name {
                "call" => command.call = Some(Request::parse(value)?.shown()),
                "text" => texts = Some(value),
                name => {
                    bytes += name.len() + value.len();
                    if bytes > COMMAND_BYTES_MAX {
                        let most = COMMAND_BYTES_MAX;
                        return Err(wrong(format!("a command of more than {most} bytes")));
                    }
                    let value = json::parse(value).map_err(|error| wrong(error.to_string()))?;
                    command.fields.insert(name.to_owned(), value);
                }
            }
            Ok(())
        })?;
        match (&mut command.call, texts) {
            (Some(request), Some(texts)) => request.args = Args::texts(texts),
            (None, Some(_)) => return Err(wrong("`text` goes with `call`".to_owned())),
            (_, None) => {}
        }
        Ok(command)
    }
}

/// The commands that wait for nothing, but at most a moment for a transaction's end: there is a
/// place for them when all others wait.
const URGENT: [&str; 9] =
    ["ps", "health", "kill", "disable", "enable", "pause", "resume", "resources", "resource"];

/// Starting a daemon compiles its code: that is not done in a moment.
fn is_urgent(fields: &Map<String, Value>, root: &Root) -> bool {
    let starts = fields.get("resume").and_then(Value::as_str);
    let is_long = wants_hashes(fields) || starts.is_some_and(|name| root.is_unstarted(name));
    URGENT.iter().any(|name| fields.contains_key(*name)) && !is_long
}

/// A daemon is asked for its hash.
fn wants_hashes(fields: &Map<String, Value>) -> bool {
    fields.get("ps").and_then(|ps| ps.get("hash")).and_then(Value::as_bool).unwrap_or(false)
}

async fn command(mut fields: Map<String, Value>, served: &Arc<Served>) -> Result<Value, Fault> {
    if fields.contains_key("ps") {
        return ps(wants_hashes(&fields), served).await;
    }
    if fields.remove("health").is_some() {
        return Ok(json!({ "health": served.look().0 }));
    }
    let found = BLOCKING
        .iter()
        .find_map(|(name, run)| fields.remove(*name).map(|argument| (*name, *run, argument)));
    if let Some((name, run, argument)) = found {
        let served = served.clone();
        return blocking(move || run(&served, name, argument)).await?;
    }
    let name = fields.keys().next().map_or("", String::as_str);
    let known: Vec<&str> = BLOCKING.iter().map(|(name, _)| *name).collect();
    let (name, known) = (printable(name, 64), known.join(", "));
    let message = format!("unknown command `{name}`; there are call, ps, health, {known}");
    Err(Fault::new(Code::Request, message))
}

type Blocking = fn(&Served, &'static str, Value) -> Result<Value, Fault>;

/// The commands that wait for a daemon, the disk or the compiler.
const BLOCKING: &[(&str, Blocking)] = &[
    ("resume", |served, command, argument| bits::resume(served, &name(command, argument)?)),
    ("kill", |served, _command, argument| bits::kill(served, &argument)),
    ("disable", |served, command, fields| bits::disable(served, Fields::new(command, fields)?)),
    ("enable", |served, command, fields| bits::enable(served, Fields::new(command, fields)?)),
    ("pause", |served, command, fields| bits::pause(served, Fields::new(command, fields)?)),
    ("remove", |served, command, argument| {
        let name = name(command, argument)?;
        served.root.remove(&name)?;
        Ok(json!({ "removed": name }))
    }),
    ("resources", |served, command, fields| resources::list(served, Fields::new(command, fields)?)),
    ("resource", |served, command, fields| {
        resources::switch(served, Fields::new(command, fields)?)
    }),
    ("output", |served, command, fields| output::output(served, Fields::new(command, fields)?)),
    ("commits", |served, command, fields| lineage::commits(served, Fields::new(command, fields)?)),
    ("snapshot", |served, command, fields| {
        lineage::snapshot(served, Fields::new(command, fields)?)
    }),
    ("restore", |served, command, fields| lineage::restore(served, Fields::new(command, fields)?)),
    ("fork", |served, command, fields| lineage::fork(served, Fields::new(command, fields)?)),
    ("upgrade", |served, command, fields| upgrade::upgrade(served, Fields::new(command, fields)?)),
    ("revert", |served, command, fields| lineage::revert(served, Fields::new(command, fields)?)),
    ("crashes", |served, command, fields| crashes::crashes(served, Fields::new(command, fields)?)),
    ("crash", |served, _command, argument| crashes::crash(served, &argument)),
    ("replay", |served, command, fields| crashes::replay(served, Fields::new(command, fields)?)),
    ("simulate_thread_death", |served, command, argument| {
        crashes::simulate_thread(served, &name(command, argument)?)
    }),
    ("simulate_crash", |served, command, argument| {
        crashes::simulate(served, &name(command, argument)?)
    }),
];

fn name(command: &str, argument: Value) -> Result<String, Fault> {
    match argument {
        Value::String(name) => Ok(name),
        _ => Err(Fault::new(Code::Request, format!("`{command}` takes a name"))),
    }
}

/// Submits a request and waits for its answer.
///
/// # Cancel safety
///
/// Dropping it leaves the request to its daemon: it runs to its end all the same.
pub(in crate::shell) async fn answered(request: Request, root: &Root) -> Answer {
    let (daemon, contract) = (request.daemon.clone(), request.contract.clone());
    let (reply, answer) = oneshot::channel();
    root.submit(request, Box::new(move |answer| drop(reply.send(answer))));
    answer.await.unwrap_or_else(|_| {
        let fault = Fault::new(Code::HostBug, "the daemon ended without an answer");
        Answer {
            request: RequestId(0),
            daemon,
            contract,
            outcome: Outcome::Unknown(fault),
            sequence: Sequence::default(),
            attempts: 0,
            shown: None,
        }
    })
}

async fn ps(hash: bool, served: &Arc<Served>) -> Result<Value, Fault> {
    let mut hashes = Vec::new();
    let daemons = served.root.daemons();
    if hash {
        for name in daemons.iter().map(|daemon| daemon.name.clone()) {
            let served = served.clone();
            // A daemon that is busy for long shows no hash; the others show theirs.
            let hash = blocking(move || served.root.committed_hash(&name, HASH_WAIT)).await?;
            hashes.push(hash.ok().flatten().map(|hash| hash.to_hex().to_string()));
        }
    }
    Ok(ps_json(served, &daemons, &hashes))
}

/// Runs what waits for a daemon off the control plane's thread.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(run)
        .await
        .map_err(|error| Fault::new(Code::HostBug, format!("a helper thread ended: {error}")))
}

#[cfg(test)]
mod tests;
