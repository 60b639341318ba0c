//! A resource whose life a test decides.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use host::mechanisms::providers::{
    Connection, Line, NoConnection, Opened, Pending, Provider, Sharing,
};
use host::pure::resource::Policy;
use host::pure::resource::operation::{CallError, CallResult, Operation, RedisValue, Reply};
use host::tree::ResourcePlan;
use supervisor::Backoff;
use tokio::time::Instant;

/// A resource whose life a test decides.
#[derive(Clone, Debug, Default)]
pub struct Fake(Arc<State>);

#[derive(Debug, Default)]
struct State {
    up: AtomicBool,
    /// Connections of an earlier one are dead.
    life: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
    jobs: Mutex<Vec<String>>,
    fails_jobs: AtomicBool,
    open: AtomicUsize,
    /// How transactions use it; nobody does when there are none.
    exclusive: AtomicBool,
    lines_max: AtomicUsize,
    /// Lines of an earlier one are dead.
    lines_life: AtomicU64,
    /// The keeper's connection doesn't know that it is dead.
    quiet: AtomicBool,
    open_lines: AtomicUsize,
    asked: AtomicU64,
    resets: AtomicU64,
    /// The words that it was asked to echo.
    heard: Mutex<Vec<String>>,
}

impl Fake {
    /// One that is there.
    #[must_use]
    pub fn alive() -> Self {
        let fake = Self::default();
        fake.revive();
        fake
    }

    /// One that is there and takes calls as a Redis does, on so many shared connections: `ECHO x`
    /// answers `x`, `COUNT` and any script how often it was asked, `HANG` nothing,
    /// `ONCE x` nothing for the first time, and `SLOW x` after five milliseconds, when it has heard
    /// `x.`, too.
    #[must_use]
    pub fn shared(lines: usize) -> Self {
        let fake = Self::alive();
        fake.0.lines_max.store(lines, Ordering::SeqCst);
        fake
    }

    /// The same, with connections that are for one transaction at a time.
    #[must_use]
    pub fn exclusive(lines: usize) -> Self {
        let fake = Self::shared(lines);
        fake.0.exclusive.store(true, Ordering::SeqCst);
        fake
    }

    /// The connections that transactions use die; it is there.
    pub fn kill_lines(&self) {
        self.0.lines_life.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// Connections for transactions that are open.
    #[must_use]
    pub fn open_lines(&self) -> usize {
        self.0.open_lines.load(Ordering::SeqCst)
    }

    /// Calls that came to it.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// What it was asked to echo, in order, also where it did not answer.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that were put back in their first state.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.0.resets.load(Ordering::SeqCst)
    }

    /// It is there from here on.
    pub fn revive(&self) {
        self.0.quiet.store(false, Ordering::SeqCst);
        self.0.up.store(true, Ordering::SeqCst);
    }

    /// It dies, and all connections know at once.
    pub fn kill(&self) {
        self.0.up.store(false, Ordering::SeqCst);
        self.0.life.fetch_add(1, Ordering::SeqCst);
        self.0.lines_life.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        let mut wakers = self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.drain(..).for_each(Waker::wake);
    }

    /// It dies, and only a check finds out, but the connections of transactions know at once.
    pub fn go_silent(&self) {
        self.0.quiet.store(true, Ordering::SeqCst);
        self.kill();
    }

    /// Its init jobs fail, or work.
    pub fn fail_jobs(&self, fails: bool) {
        self.0.fails_jobs.store(fails, Ordering::SeqCst);
    }

    /// The init jobs that were run so far.
    #[must_use]
    pub fn jobs(&self) -> Vec<String> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::SeqCst)
    }

    /// It as a resource of that name, with these init jobs. It is connected again at once, and a
    /// recovery has to last a millisecond.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn plan(&self, name: &str, jobs: &[&str]) -> ResourcePlan {
        let (millisecond, most) = (Duration::from_millis(1), Duration::from_millis(10));
        let backoff = Backoff::new(millisecond, 2, most, 0).unwrap();
        ResourcePlan {
            name: name.to_owned(),
            provider: Arc::new(self.clone()),
            jobs: jobs.iter().map(|&job| job.to_owned()).collect(),
            policy: Policy::new(backoff, millisecond),
        }
    }
}

impl Provider for Fake {
    fn kind(&self) -> &'static str {
        if self.0.lines_max.load(Ordering::SeqCst) > 0 { "redis" } else { "fake" }
    }

    fn sharing(&self) -> Sharing {
        let lines = u32::try_from(self.0.lines_max.load(Ordering::SeqCst)).unwrap_or(u32::MAX);
        match (lines, self.0.exclusive.load(Ordering::SeqCst)) {
            (0, _) => Sharing::None,
            (lines, true) => Sharing::Exclusive(lines),
            (lines, false) => Sharing::Shared(lines),
        }
    }

    fn open(&self) -> Pending<'_, Opened> {
        let state = self.0.clone();
        Box::pin(async move {
            if !state.up.load(Ordering::SeqCst) {
                return Err("nobody is there".to_owned().into());
            }
            state.open_lines.fetch_add(1, Ordering::SeqCst);
            let life = state.lines_life.load(Ordering::SeqCst);
            Ok(Box::new(FakeLine { state, life }) as Box<dyn Line>)
        })
    }

    fn place(&self) -> String {
        "nowhere".to_owned()
    }

    fn connect(&self) -> Pending<'_, Result<Box<dyn Connection>, NoConnection>> {
        let state = self.0.clone();
        Box::pin(async move {
            if !state.up.load(Ordering::SeqCst) {
                return Err("nobody is there".to_owned().into());
            }
            state.open.fetch_add(1, Ordering::SeqCst);
            let life = state.life.load(Ordering::SeqCst);
            Ok(Box::new(FakeConnection { state, life }) as Box<dyn Connection>)
        })
    }
}

struct FakeConnection {
    state: Arc<State>,
    life: u64,
}

impl Drop for FakeConnection {
    fn drop(&mut self) {
        self.state.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FakeConnection {
    fn lives(&self) -> bool {
        self.state.life.load(Ordering::SeqCst) == self.life
    }
}

impl Connection for FakeConnection {
    fn check(&mut self) -> Pending<'_, Result<(), String>> {
        Box::pin(async { if self.lives() { Ok(()) } else { Err("it is gone".to_owned()) } })
    }

    fn job(&mut self, text: &str) -> Pending<'_, Result<(), String>> {
        let text = text.to_owned();
        Box::pin(async move {
            if self.state.fails_jobs.load(Ordering::SeqCst) {
                return Err("it says no".to_owned());
            }
            self.state.jobs.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            Ok(())
        })
    }

    fn died(&mut self) -> Pending<'_, String> {
        let connection = &*self;
        let unknown = || connection.state.quiet.load(Ordering::SeqCst) || connection.lives();
        Box::pin(until_dead(&connection.state, unknown))
    }
}

/// Ends when `lives` says no after somebody was woken.
async fn until_dead(state: &State, lives: impl Fn() -> bool) -> String {
    let dead = poll_fn(|context| {
        let mut wakers = state.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if !lives() {
            return Poll::Ready(());
        }
        wakers.push(context.waker().clone());
        Poll::Pending
    });
    dead.await;
    "it was killed".to_owned()
}

struct FakeLine {
    state: Arc<State>,
    life: u64,
}

impl Drop for FakeLine {
    fn drop(&mut self) {
        self.state.open_lines.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Line for FakeLine {
    fn call(&mut self, operation: Operation, until: Instant) -> Pending<'static, CallResult> {
        let (state, life) = (self.state.clone(), self.life);
        let asked = state.asked.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move {
            let words = match operation {
                Operation::Redis(words) => words,
                Operation::RedisScript { .. } => vec![b"COUNT".to_vec()],
                _ => return Err(CallError::WrongKind),
            };
            let again = match words.as_slice() {
                [word, text] if matches!(word.as_slice(), b"ECHO" | b"ONCE" | b"SLOW") => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    let mut heard = state.heard.lock().unwrap_or_else(PoisonError::into_inner);
                    let again = heard.contains(&text);
                    heard.push(text);
                    again
                }
                _ => false,
            };
            let answer = match words.as_slice() {
                [word, text] if word == b"ECHO" || (again && word == b"ONCE") => {
                    RedisValue::Bytes(text.clone())
                }
                [word, text] if word == b"SLOW" => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    let done = format!("{}.", String::from_utf8_lossy(text));
                    state.heard.lock().unwrap_or_else(PoisonError::into_inner).push(done);
                    RedisValue::Bytes(text.clone())
                }
                [word] if word == b"COUNT" => {
                    RedisValue::Int(i64::try_from(asked).unwrap_or(i64::MAX))
                }
                [word, ..] if word == b"HANG" || word == b"ONCE" => {
                    let lives = || state.lines_life.load(Ordering::SeqCst) == life;
                    let dead = until_dead(&state, lives);
                    return Err(match tokio::time::timeout_at(until, dead).await {
                        Ok(_) => CallError::Died,
                        Err(_) => CallError::TimedOut,
                    });
                }
                _ => {
                    let (code, message) = ("ERR".to_owned(), "unknown command".to_owned());
                    return Err(CallError::Refused { code, message });
                }
            };
            Ok(Reply::Redis(vec![answer]))
        })
    }

    fn died(&mut self) -> Pending<'_, String> {
        let (state, life) = (&self.state, self.life);
        Box::pin(until_dead(state, move || state.lines_life.load(Ordering::SeqCst) == life))
    }

    fn reset(&mut self) -> Pending<'_, Result<(), String>> {
        self.state.resets.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }
}
