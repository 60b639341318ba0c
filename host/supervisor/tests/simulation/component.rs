//! A component whose every generation does something else, drawn from the seed.

use std::sync::Arc;
use std::time::Duration;

use supervisor::clock::Clock;
use supervisor::{BoxError, Irrecoverable, Manageable, Reporter, Signals, Task};

use crate::clock::SimulatedClock;
use crate::oracle::Oracle;
use crate::random::Random;

const MILLISECOND: u64 = 1_000_000;

pub(crate) struct Actor {
    pub(crate) seed: u64,
    pub(crate) clock: SimulatedClock,
    pub(crate) oracle: Arc<Oracle>,
}

impl Actor {
    fn sleep(&self, milliseconds: u64) -> impl Future<Output = ()> + Send + use<> {
        let nanos = self.clock.now_nanos() + milliseconds * MILLISECOND;
        self.clock.sleep_until(nanos)
    }
}

impl Manageable for Actor {
    async fn start(&mut self, reports: Reporter, mut signals: Signals) -> Result<Task, BoxError> {
        let alive = self.oracle.begins(reports.path(), reports.generation());
        let mut random = Random::of(self.seed, reports.path(), reports.generation().0);
        let delay = random.below(4) * random.below(30);
        self.sleep(delay).await;
        match random.below(25) {
            0 => return Err("no start".into()),
            1 => std::panic::resume_unwind(Box::new("start panics")),
            2 => reports.report("from start")?,
            3 => std::future::pending().await,
            _ => {}
        }
        // Most run for a while; some fail at once, again and again.
        let storms = self.seed.is_multiple_of(3) && reports.path().ends_with('1');
        let life = if storms { 0 } else { random.below(20_000) };
        let runs = self.sleep(life);
        let last_words = self.sleep(life + random.below(400));
        Ok(Task::new(async move {
            let _alive = alive;
            tokio::select! {
                biased;
                () = signals.cancelled() => {
                    match random.below(8) {
                        0 => std::future::pending().await,
                        1 => return Err("on the way out".into()),
                        2 => std::panic::resume_unwind(Box::new("panics on the way out")),
                        3 => {
                            reports.report("one more thing")?;
                            signals.acked().await;
                        }
                        4 => last_words.await,
                        _ => {}
                    }
                    return Ok(());
                }
                () = runs => {}
            }
            match random.below(8) {
                0 => {}
                1 => return Err("returned".into()),
                2 => std::panic::resume_unwind(Box::new("task panics")),
                3 => reports.report("and gone")?,
                4 => {
                    reports.report("and stays")?;
                    std::future::pending().await
                }
                5 => {
                    reports.report("and panics")?;
                    signals.acked().await;
                    std::panic::resume_unwind(Box::new("after its ack"));
                }
                _ => {
                    reports.report("as it should be")?;
                    signals.acked().await;
                }
            }
            Ok(())
        }))
    }

    async fn handle_irrecoverable(&mut self, error: &Irrecoverable) -> Result<(), BoxError> {
        let mut random = Random::of(self.seed, &error.to_string(), error.generation.0);
        let delay = if random.below(4) == 0 { random.below(50) } else { 0 };
        self.sleep(delay).await;
        match random.below(400) {
            0 => Err("hook fails".into()),
            1 => std::panic::resume_unwind(Box::new("hook panics")),
            2 => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

/// Grace of each component: some need longer, and are aborted.
pub(crate) const GRACE: Duration = Duration::from_millis(200);
