//! A host under test, and its clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

pub(crate) const HOST: &str = env!("CARGO_BIN_EXE_host");

pub(crate) fn guest(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../guests/{name}.wasm"));
    assert!(path.is_file(), "run `cargo xtask guests` first: {}", path.display());
    path
}

/// A host that answers HTTP; killed when dropped.
pub(crate) struct Host {
    child: Child,
    pub(crate) address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Host {
    /// Runs guests, or services, whose files are written into its directory.
    pub(crate) fn run(what: &[&str], options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let guests: Vec<_> = what.iter().map(|name| guest(name)).collect();
        let mut command = Command::new(HOST);
        command.arg("run").args(guests);
        Self::spawn(dir, command, options)
    }

    pub(crate) fn spawn(dir: tempfile::TempDir, mut command: Command, options: &[&str]) -> Self {
        let mut child = command
            .args(["--http", "127.0.0.1:0", "--output", "json"])
            .args(options)
            .current_dir(dir.path())
            .env("BULKHEAD_SOCKET", dir.path().join("run/host.sock"))
            .env("BULKHEAD_CACHE_DIR", dir.path().join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let greeting: Value = serde_json::from_str(&line).unwrap();
        let address = greeting["http"].as_str().unwrap().parse().unwrap();
        Self { child, address, dir }
    }

    /// Another command, about this host.
    pub(crate) fn host(&self, words: &[&str]) -> Output {
        Command::new(HOST)
            .args(words)
            .current_dir(self.dir.path())
            .env("BULKHEAD_SOCKET", self.dir.path().join("run/host.sock"))
            .output()
            .unwrap()
    }

    pub(crate) fn does(&self, words: &[&str]) {
        let output = self.host(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    }

    /// Says one thing over the socket.
    pub(crate) fn ask(&self, command: &Value) -> Value {
        serde_json::from_str(&self.said(&command.to_string())).unwrap()
    }

    /// The same as text.
    pub(crate) fn said(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("run/host.sock")).unwrap();
        stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    /// A file in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The most memory that it has had at once.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        1024 * peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    }

    pub(crate) fn until(&self, what: &str, done: impl Fn(&Value) -> bool) {
        for _ in 0..3000 {
            if done(&self.ask(&json!({ "ps": {} }))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("never {what}");
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(self.address)
    }

    /// A request on a connection of its own.
    pub(crate) fn call(&self, path: &str, args: &Value) -> Answer {
        self.connect().post(path, &[], &args.to_string())
    }

    /// The same, from a thread of its own.
    pub(crate) fn calling(&self, path: &str, args: &Value) -> JoinHandle<Answer> {
        let mut client = self.connect();
        client.send(post(path, &[], &args.to_string()));
        std::thread::spawn(move || client.answer().unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        let mut client = self.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        client.answer().unwrap()
    }

    /// Its exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let (headers, length) = (headers.collect::<String>(), body.len());
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// Null without a body, and when it is large.
    pub(crate) body: Value,
    /// The same as it came.
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(its, _)| its == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

/// What is not made a tree of.
const LARGE_BYTES: usize = 1 << 20;

/// A connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(address).unwrap()) }
    }

    /// Sends bytes; the host may have closed the connection meanwhile.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        drop(self.stream.get_mut().write_all(bytes.as_ref()));
    }

    /// Sends bytes, all of which the host takes.
    pub(crate) fn send_all(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Says that nothing will follow.
    pub(crate) fn sends_no_more(&mut self) {
        self.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    /// Goes without a word: the host's end of the connection is reset.
    pub(crate) fn break_off(self) {
        set_socket_linger(self.stream.get_ref(), Some(Duration::ZERO)).unwrap();
    }

    pub(crate) fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send(post(path, headers, body));
        self.answer().unwrap()
    }

    /// The next answer; none when the connection is closed instead.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
        self.stream.read_exact(&mut body).unwrap();
        let text = String::from_utf8(body).unwrap();
        let whole = if text.len() < LARGE_BYTES { text.as_str() } else { "" };
        let body = serde_json::from_str(whole).unwrap_or_default();
        Some(Answer { status, headers, body, text })
    }

    /// The status of an answer whose rest is not read.
    pub(crate) fn status(&mut self) -> u16 {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The status of an answer after which the connection is closed; none without an answer.
    pub(crate) fn last(&mut self) -> Option<u16> {
        let answer = self.answer();
        assert!(self.is_closed(), "{answer:?}");
        answer.map(|answer| answer.status)
    }

    /// What is left, as text.
    pub(crate) fn rest(mut self) -> String {
        let mut text = String::new();
        self.stream.read_to_string(&mut text).unwrap();
        text
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        // A reset is as good.
        self.stream.read(&mut [0]).unwrap_or(0) == 0
    }
}
