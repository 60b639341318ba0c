//! A component that does what a closure says, and an observer that keeps what happens.

use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use supervisor::{
    BoxError, Event, Irrecoverable, Manageable, Observed, Observer, Reporter, Signals, Task,
};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Start = Box<dyn FnMut(Reporter, Signals) -> Boxed<Result<Task, BoxError>> + Send>;
type Hook = Box<dyn FnMut(&Irrecoverable) -> Boxed<Result<(), BoxError>> + Send>;

pub(crate) struct Script {
    start: Start,
    hook: Hook,
}

impl Script {
    /// A component with this `start`.
    pub(crate) fn starting<F>(
        mut start: impl FnMut(Reporter, Signals) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Task, BoxError>> + Send + 'static,
    {
        let start: Start = Box::new(move |reports, signals| Box::pin(start(reports, signals)));
        Self { start, hook: Box::new(|_| Box::pin(async { Ok(()) })) }
    }

    /// A component whose task is this.
    pub(crate) fn running<F>(run: impl FnMut(Reporter, Signals) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let mut run = run;
        Self::starting(move |reports, signals| {
            let task = Task::new(run(reports, signals));
            async { Ok(task) }
        })
    }

    /// One that runs until it is told to end.
    pub(crate) fn idle() -> Self {
        Self::running(|_, signals| told(signals))
    }

    pub(crate) fn hook<F>(
        mut self,
        mut hook: impl FnMut(&Irrecoverable) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.hook = Box::new(move |error| Box::pin(hook(error)));
        self
    }
}

impl Manageable for Script {
    async fn start(&mut self, reports: Reporter, signals: Signals) -> Result<Task, BoxError> {
        (self.start)(reports, signals).await
    }

    async fn handle_irrecoverable(&mut self, error: &Irrecoverable) -> Result<(), BoxError> {
        (self.hook)(error).await
    }
}

/// Runs until it is told to end.
pub(crate) async fn told(mut signals: Signals) -> Result<(), BoxError> {
    signals.cancelled().await;
    Ok(())
}

/// Keeps a line for each event.
#[derive(Debug, Default)]
pub(crate) struct Trace(Mutex<String>);

impl Trace {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    /// The lines in which `word` stands.
    pub(crate) fn count(&self, word: &str) -> usize {
        self.text().lines().filter(|line| line.contains(word)).count()
    }
}

impl Observer for Trace {
    fn observe(&self, observed: &Observed<'_>) {
        let Observed { path, generation, event, .. } = observed;
        let event = match event {
            Event::Irrecoverable(error) => format!("recorded: {error}"),
            Event::HookFailed(failure) => format!("hook failed: {failure}"),
            Event::HookReturned => "hook returned".to_owned(),
            Event::Restarting(_) => "restarting".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        writeln!(self.0.lock().unwrap(), "{path} {generation} {event}").unwrap();
    }
}

/// What a trace is compared with: its lines, without indentation.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).fold(
        String::new(),
        |mut all, line| {
            writeln!(all, "{line}").unwrap();
            all
        },
    )
}
