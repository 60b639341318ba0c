//! Carries out the effects of one resource, one after the other, on a connection of their own.
//!
//! ```text
//!   next effect -> open, if need be -> call -> reset an exclusive one -> next
//!                     |                  |
//!                     +--- no ----------+---- again later, or over: `pure::resource::delivery`
//! ```
//!
//! While the resource is down nothing is sent, and nothing is counted as tried.

use std::future::pending;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::outbox::{Effects, Over, Released};
use super::{Line, NoConnection, Opened, Pending, Provider, Sharing};
use crate::base::limits::{CALL_GRACE, CALL_TIME_MAX, CONNECT_TIME_MAX, RESET_TIME_MAX};
use crate::pure::resource::delivery::{Fate, Verdict, delay, verdict};
use crate::pure::resource::operation::{CallError, CallResult};

/// What is under way.
enum Step {
    Idle,
    Opening(Pending<'static, Opened>),
    Calling(Pending<'static, CallResult>),
    /// An exclusive connection is put back in its first state.
    Resetting(Pending<'static, Option<Box<dyn Line>>>),
}

/// What happens next.
enum Happened {
    Came(Released),
    /// The wait before the next try is over.
    Due,
    Opened(Opened),
    Ended(CallResult),
    Reset(Option<Box<dyn Line>>),
    Died(String),
}

pub(super) struct Delivery {
    resource: String,
    provider: Arc<dyn Provider>,
    effects: Effects,
    /// The one that is worked on, and how often it was sent.
    current: Option<(Released, u32)>,
    /// It was sent, and surely not done.
    undone: bool,
    /// Tries to open a connection for it in a row, which gave none.
    opens: u32,
    step: Step,
    line: Option<Box<dyn Line>>,
    /// The resource is there.
    open: bool,
    /// Something has died, and what that means is not known yet.
    in_doubt: bool,
    /// Not before.
    due: Option<Instant>,
}

impl Delivery {
    pub(super) fn new(resource: &str, provider: Arc<dyn Provider>, effects: Effects) -> Self {
        Self {
            resource: resource.to_owned(),
            provider,
            effects,
            current: None,
            undone: false,
            opens: 0,
            step: Step::Idle,
            line: None,
            open: false,
            in_doubt: false,
            due: None,
        }
    }

    /// The resource is there.
    pub(super) fn resume(&mut self) {
        self.open = true;
    }

    /// The resource is gone, and with it what was under way.
    pub(super) fn pause(&mut self, why: &str) {
        self.drop_step(why);
        // The next try is when it is there. What it has refused it refused because of that.
        (self.open, self.due, self.opens) = (false, None, 0);
        if let (true, Some((_, tries))) = (self.undone, &mut self.current) {
            *tries = 0;
        }
    }

    /// Gives up what is under way.
    pub(super) fn drop_step(&mut self, why: &str) {
        let step = std::mem::replace(&mut self.step, Step::Idle);
        self.line = None;
        if let Step::Calling(_) = step {
            self.end(Fate::Unknown(why.to_owned()));
        }
    }

    /// What has died meant nothing, or is known by now.
    pub(super) fn clear_of_doubt(&mut self) {
        self.in_doubt = false;
    }

    /// Carries effects out until something dies: then why. Cancel safe.
    ///
    /// # Panics
    ///
    /// When a provider's code does: its keeper panics with it.
    pub(super) async fn run(&mut self) -> String {
        loop {
            self.begin();
            let died = match self.next().await {
                Happened::Came(released) => {
                    self.current = Some((released, 0));
                    None
                }
                Happened::Due => {
                    self.due = None;
                    None
                }
                Happened::Opened(opened) => self.opened(opened),
                Happened::Ended(answer) => self.ended(answer),
                Happened::Reset(line) => {
                    (self.step, self.line) = (Step::Idle, line);
                    None
                }
                Happened::Died(why) => self.died(why),
            };
            if let Some(why) = died {
                self.in_doubt = true;
                return why;
            }
        }
    }

    /// Starts the next step of the effect that is worked on, if it may.
    fn begin(&mut self) {
        let may = self.open && !self.in_doubt && self.due.is_none();
        let Some((released, tries)) = self.current.as_mut().filter(|_| may) else { return };
        if !matches!(self.step, Step::Idle) {
            return;
        }
        let Some(line) = &mut self.line else {
            let provider = self.provider.clone();
            self.step = Step::Opening(Box::pin(async move {
                match timeout(CONNECT_TIME_MAX, provider.open()).await {
                    Ok(opened) => opened,
                    Err(_) => Err(format!("it did not connect within {CONNECT_TIME_MAX:?}").into()),
                }
            }));
            return;
        };
        *tries += 1;
        let until = Instant::now() + CALL_TIME_MAX;
        let call = line.call(released.effect.operation.clone(), until);
        self.step = Step::Calling(Box::pin(async move {
            let ended = timeout_at(until + CALL_GRACE, call).await;
            ended.unwrap_or(Err(CallError::Died))
        }));
    }

    async fn next(&mut self) -> Happened {
        let (line, step) = (&mut self.line, &mut self.step);
        let died = async {
            match line.as_mut() {
                Some(line) => line.died().await,
                None => pending().await,
            }
        };
        let stepped = async {
            match step {
                Step::Idle => pending().await,
                Step::Opening(opening) => Happened::Opened(opening.await),
                Step::Calling(call) => Happened::Ended(call.await),
                Step::Resetting(reset) => Happened::Reset(reset.await),
            }
        };
        let (none, due) = (self.current.is_none(), self.due);
        let came = async {
            match self.effects.recv().await {
                Some(released) => released,
                // Nobody can stage anything any more.
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            // Before a death: an answer that has come is one.
            happened = stepped => happened,
            why = died => Happened::Died(why),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Happened::Due,
            released = came, if none => Happened::Came(released),
        }
    }

    /// That there is no connection says nothing of the effect: it was not tried.
    fn opened(&mut self, opened: Opened) -> Option<String> {
        self.step = Step::Idle;
        match opened {
            Ok(line) => {
                (self.line, self.opens) = (Some(line), 0);
                None
            }
            Err(none) => {
                self.opens = self.opens.saturating_add(1);
                self.due = Some(Instant::now() + delay(self.opens));
                match none {
                    NoConnection::Full(_) => None,
                    NoConnection::Failed(why) => Some(why),
                }
            }
        }
    }

    fn ended(&mut self, answer: CallResult) -> Option<String> {
        self.step = Step::Idle;
        let died = matches!(answer, Err(CallError::Died | CallError::NotSent(_)));
        let operation = self.current.as_ref().map(|(released, _)| &released.effect.operation);
        let fate = operation.map(|operation| Fate::of(operation, answer));
        let unfit = match &fate {
            Some(Fate::Unfit(why)) => Some(why.clone()),
            _ => None,
        };
        if let Some(fate) = fate {
            self.end(fate);
        }
        if died {
            self.line = None;
            return Some("the connection for effects died".to_owned());
        }
        if unfit.is_some() {
            // It may lead to the wrong one.
            self.line = None;
            return unfit;
        }
        if let (Sharing::Exclusive(_), Some(mut line)) = (self.provider.sharing(), self.line.take())
        {
            self.step = Step::Resetting(Box::pin(async move {
                let reset = timeout(RESET_TIME_MAX, line.reset()).await;
                matches!(reset, Ok(Ok(()))).then_some(line)
            }));
        }
        None
    }

    fn died(&mut self, why: String) -> Option<String> {
        self.line = None;
        if let Step::Calling(_) = std::mem::replace(&mut self.step, Step::Idle) {
            self.end(Fate::Unknown(why.clone()));
        }
        Some(why)
    }

    /// A try has ended so: the effect is over, or is sent again later.
    fn end(&mut self, fate: Fate) {
        let Some((released, tries)) = self.current.take() else { return };
        self.undone = matches!(fate, Fate::NotSent(_) | Fate::Unfit(_));
        let effect = &released.effect;
        let (resource, daemon, request) = (&self.resource, &effect.daemon, effect.request);
        match verdict(fate, effect.repeatable, tries) {
            Verdict::Done => released.over(Over::Done),
            Verdict::Again(delay) => {
                self.due = Some(Instant::now() + delay);
                self.current = Some((released, tries));
            }
            Verdict::Failed(why) => {
                tracing::warn!(resource, %daemon, %request, tries, why, "an effect was not done");
                released.over(Over::Failed);
            }
            Verdict::Unknown(why) => {
                tracing::warn!(resource, %daemon, %request, tries, why, "an effect may be done");
                released.over(Over::Unknown);
            }
        }
    }
}
