//! Crashes a supervised component of blank state. For each line of standard input, a number, it
//! does that so often, and answers the nanoseconds from each crash to the first reply of the
//! restarted component. Its argument says whose supervisor it is: `supervisor` or `ractor`.

mod ractors;
mod supervised;

use std::io::{self, Write};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

/// What a component is asked.
#[derive(Debug)]
pub(crate) enum Message {
    Crash,
    Ping(oneshot::Sender<()>),
}

/// Messages that a component of ours may have waiting: one at a time is sent.
pub(crate) const MAILBOX: usize = 16;

/// How to reach the component that runs; a restarted one sends how to reach it.
pub(crate) trait Crew: Send {
    fn send(&self, message: Message) -> impl Future<Output = ()> + Send;
    fn restarted(&mut self) -> impl Future<Output = ()> + Send;
}

pub(crate) type Ups<T> = mpsc::Receiver<T>;

async fn serve(mut crew: impl Crew) -> io::Result<()> {
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        let count: u32 = line.trim().parse().unwrap_or(0);
        line.clear();
        let mut samples = Vec::new();
        for _ in 0..count {
            let start = Instant::now();
            crew.send(Message::Crash).await;
            crew.restarted().await;
            let (reply, replied) = oneshot::channel();
            crew.send(Message::Ping(reply)).await;
            replied.await.map_err(io::Error::other)?;
            samples.push(start.elapsed().as_nanos().to_string());
        }
        let mut output = io::stdout().lock();
        writeln!(output, "{}", samples.join(" "))?;
        output.flush()?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let whose = std::env::args().nth(1).unwrap_or_default();
    // The client is a task like the others, as it is a process like the others in Erlang.
    let served = runtime.block_on(async {
        match whose.as_str() {
            "supervisor" => tokio::spawn(async { serve(supervised::start().await).await }).await,
            "ractor" => tokio::spawn(async { serve(ractors::start().await).await }).await,
            other => panic!("`{other}` is neither `supervisor` nor `ractor`"),
        }
    });
    served.map_err(io::Error::other)?
}
