//! Confines itself as a compiler does, and says what it still can do: a line for each.

use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;

use host::mechanisms::sandbox::{Bounds, confine};
use rustix::process::{Resource, getrlimit, setrlimit};

fn main() {
    let parent = rustix::process::getppid();
    // What it says is made when it is read.
    let mut status = File::open("/proc/self/status").ok();
    let bounds = Bounds { memory_bytes: 4 << 30, cpu_seconds: 60 };
    confine(bounds).unwrap_or_else(|why| println!("not confined: {why}"));
    let said = |what: &str, done: bool| println!("{what}: {}", if done { "yes" } else { "no" });
    said("threads", std::thread::spawn(|| 1 + 1).join().is_ok_and(|two| two == 2));
    said("memory", vec![1_u8; 64 << 20].iter().all(|byte| *byte == 1));
    said("time", std::time::Instant::now().elapsed().as_secs() < 60);
    said("reading files", File::open("/proc/self/status").is_ok());
    said("writing files", File::create("/tmp/confined").is_ok());
    said("folders", std::fs::read_dir("/").is_ok());
    said("programs", Command::new("/bin/true").status().is_ok());
    said("tcp", TcpListener::bind("127.0.0.1:0").is_ok());
    said("udp", UdpSocket::bind("127.0.0.1:0").is_ok());
    said("unix sockets", UnixStream::pair().is_ok());
    let ask = |pid| rustix::process::test_kill_process(pid).is_ok();
    said("signals to others", parent.is_some_and(ask));
    let no_core = getrlimit(Resource::Core);
    said("new limits", setrlimit(Resource::Core, no_core).is_ok());
    let mut lines = String::new();
    let read = status.as_mut().is_some_and(|file| file.read_to_string(&mut lines).is_ok());
    said("new privileges", !read || !lines.contains("NoNewPrivs:\t1\n"));
    let limits =
        [Resource::As, Resource::Cpu, Resource::Core].map(|which| getrlimit(which).maximum);
    println!("limits: {:?}", limits.map(Option::unwrap_or_default));
    // An abort has to go on being one, for whoever looks at the status.
    std::process::abort();
}
