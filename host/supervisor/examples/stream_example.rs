//! A component that fails once, and runs then until Ctrl-C.

use supervisor::{BoxError, Irrecoverable, Manageable, Reporter, Signals, Supervisor, Task};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Default)]
struct Stream {
    starts: u32,
}

impl Manageable for Stream {
    async fn start(&mut self, reports: Reporter, mut signals: Signals) -> Result<Task, BoxError> {
        println!("starting component task");
        self.starts += 1;
        let ready = self.starts > 1;
        Ok(Task::new(async move {
            if !ready {
                reports.report("missing something required")?;
                signals.acked().await;
                return Ok(());
            }
            signals.cancelled().await;
            println!("terminating component task");
            Ok(())
        }))
    }

    async fn handle_irrecoverable(&mut self, error: &Irrecoverable) -> Result<(), BoxError> {
        println!("Received irrecoverable error: {error}");
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let supervisor = Supervisor::new(Stream::default());
    let stream = supervisor.spawn().await?;

    interrupt.recv().await;
    stream.stop().await?;
    Ok(())
}
