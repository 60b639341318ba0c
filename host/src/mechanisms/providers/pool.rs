//! The connections to one resource that transactions use, and the calls on them.
//!
//! A shared connection serves any number of transactions; an exclusive one serves one, from its
//! first call to its end, and is put back in its first state before the next. When one dies, the
//! leases on it end before anything else happens, and no call on it is answered any more: what
//! becomes of a transaction never depends on whether a reply or the death came first.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::calls::{Call, Calls, Seat};
use super::keeper::Observer;
use super::{Line, NoConnection, Opened, Pending, Provider, Sharing};
use crate::base::ids::{ConnectionId, ConnectionIds};
use crate::base::limits::{
    CALL_GRACE, CALLS_QUEUED_MAX, CANCEL_TIME_MAX, CONNECT_TIME_MAX, NO_ROOM_TOLD, OPEN_AGAIN,
    RESET_TIME_MAX,
};
use crate::pure::resource::operation::{CallError, CallResult};
use crate::pure::resource::refusal::Refusal;

/// An open connection.
struct Open {
    id: ConnectionId,
    line: Box<dyn Line>,
    /// The one transaction that uses it; none when it is free, or shared.
    seat: Option<Arc<Seat>>,
    /// Calls under way.
    calls: usize,
    /// The other end of it said that it can't do what it is for: it may be the wrong one.
    unfit: bool,
}

impl Open {
    fn new(id: ConnectionId, line: Box<dyn Line>) -> Self {
        Self { id, line, seat: None, calls: 0, unfit: false }
    }
}

/// A connection that is back in its first state; none when it isn't.
type Reset = Option<(ConnectionId, Box<dyn Line>)>;

/// The end of a call: on which connection, and what that says of it.
type Ended = (ConnectionId, Left);

/// How a call leaves its connection.
enum Left {
    Sound,
    /// The other side can't do what it is for, it says.
    Unfit(String),
    Dead(String),
}

pub(super) struct Pool {
    provider: Arc<dyn Provider>,
    observer: Arc<dyn Observer>,
    ids: Arc<ConnectionIds>,
    calls: Calls,
    lines: Vec<Open>,
    opening: Option<Pending<'static, Opened>>,
    resetting: JoinSet<Reset>,
    under_way: JoinSet<Ended>,
    /// Calls that no connection is free for, oldest first.
    waiting: VecDeque<Call>,
    /// Why the last connection could not be opened, until it is known how the other side is.
    trouble: Option<String>,
    /// The other side takes no more connections, for this reason; when it is asked again, if it
    /// isn't at the moment.
    full: Option<(String, Option<Instant>)>,
}

/// What happens in a pool.
enum Happened {
    Called(Option<Call>),
    Opened(Opened),
    Died(ConnectionId, String),
    Ended(Result<Ended, JoinError>),
    Reset(Result<Reset, JoinError>),
    /// A transaction has ended for which a connection was kept.
    Freed,
    /// A call has waited for long enough.
    Late,
    /// There may be room for another connection by now.
    Again,
}

impl Pool {
    pub(super) fn new(
        provider: Arc<dyn Provider>,
        observer: Arc<dyn Observer>,
        ids: Arc<ConnectionIds>,
        calls: Calls,
    ) -> Self {
        Self {
            provider,
            observer,
            ids,
            calls,
            lines: Vec::new(),
            opening: None,
            resetting: JoinSet::new(),
            under_way: JoinSet::new(),
            waiting: VecDeque::new(),
            trouble: None,
            full: None,
        }
    }

    /// Closes all connections; calls on them get no answer.
    pub(super) fn clear(&mut self) {
        self.under_way.abort_all();
        self.resetting.abort_all();
        (self.under_way, self.resetting) = (JoinSet::new(), JoinSet::new());
        self.opening = None;
        (self.trouble, self.full) = (None, None);
        self.lines.clear();
        self.waiting.clear();
    }

    /// The other side is there and can do what it is for, whatever died or said that it can't.
    pub(super) fn clear_of_doubt(&mut self) {
        self.drop_unfit();
        if let Some(why) = self.trouble.take()
            && self.lines.is_empty()
            && self.resetting.is_empty()
        {
            for call in self.waiting.drain(..) {
                call.ticket.settle(Err(CallError::Unavailable(why.clone())));
            }
        }
        // Where an unfit connection was, there is room for another one.
        self.serve();
    }

    /// Closes shared connections that are unfit, once nothing runs on them. Exclusive ones are not
    /// used again after their transaction.
    fn drop_unfit(&mut self) {
        self.lines.retain(|open| !open.unfit || open.calls > 0 || open.seat.is_some());
    }

    /// Carries calls until a connection dies, or can't be opened: then why. Cancel safe.
    ///
    /// # Panics
    ///
    /// When a provider's code does: its keeper panics with it.
    pub(super) async fn run(&mut self) -> String {
        loop {
            let died = match self.next().await {
                Happened::Called(Some(call)) => {
                    self.queue(call);
                    None
                }
                // Nobody can call any more.
                Happened::Called(None) => pending().await,
                Happened::Opened(opened) => {
                    self.opening = None;
                    self.opened(opened)
                }
                Happened::Died(id, why) => self.die(id, why),
                Happened::Ended(ended) => self.ended(ended),
                Happened::Reset(reset) => {
                    self.free(reset);
                    None
                }
                Happened::Freed => {
                    self.take_back();
                    None
                }
                Happened::Late => {
                    self.drop_late();
                    None
                }
                Happened::Again => {
                    self.full = self.full.take().map(|(why, _)| (why, None));
                    None
                }
            };
            self.serve();
            if let Some(why) = died {
                return why;
            }
        }
    }

    async fn next(&mut self) -> Happened {
        let late = self.waiting.iter().filter_map(|call| self.told_at(call)).min();
        let again = self.full.as_ref().and_then(|(_, at)| *at);
        let lines = &mut self.lines;
        let died = poll_fn(|context| {
            for open in lines.iter_mut() {
                if let Poll::Ready(why) = open.line.died().as_mut().poll(context) {
                    return Poll::Ready((open.id, why));
                }
            }
            Poll::Pending
        });
        let opened = async {
            match self.opening.as_mut() {
                Some(opening) => opening.await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            // Before the end of calls: a call that a death ended must not look like its answer.
            (id, why) = died => Happened::Died(id, why),
            Some(ended) = self.under_way.join_next() => Happened::Ended(ended),
            Some(reset) = self.resetting.join_next() => Happened::Reset(reset),
            () = self.calls.bell.notified() => Happened::Freed,
            opened = opened => Happened::Opened(opened),
            call = self.calls.calls.recv() => Happened::Called(call),
            () = sleep_until(Instant::from_std(late.unwrap_or_else(std::time::Instant::now))),
                if late.is_some() => Happened::Late,
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                Happened::Again
            }
        }
    }

    fn queue(&mut self, call: Call) {
        if self.waiting.len() < CALLS_QUEUED_MAX {
            self.waiting.push_back(call);
        } else {
            call.ticket.settle(Err(CallError::Full));
        }
    }

    /// Starts what can be started, in order.
    fn serve(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some(call) = self.waiting.pop_front() else { return };
            if call.seat.has_ended() {
                continue;
            }
            match self.place(&call.seat) {
                Some(place) => self.start(place, call),
                None => self.waiting.push_back(call),
            }
        }
        if !self.waiting.is_empty() {
            self.open();
        }
    }

    /// The connection that a transaction's call is to use; none when it has to wait for one.
    fn place(&mut self, seat: &Arc<Seat>) -> Option<usize> {
        let (its, is_its) = (seat.connection(), |open: &Open| open.seat.is_some() || !open.unfit);
        if let Some(place) = self.lines.iter().position(|open| open.id == its && is_its(open)) {
            return Some(place);
        }
        let lines = self.lines.iter().enumerate().filter(|(_, open)| !open.unfit);
        match self.provider.sharing() {
            Sharing::None => None,
            Sharing::Shared(most) => {
                let (place, open) = lines.min_by_key(|(_, open)| open.calls)?;
                let more = self.lines.len() < usize::try_from(most).unwrap_or(usize::MAX);
                let more = more && self.full.is_none();
                // Meanwhile it waits: the other one is there soon, or it can't be opened.
                if open.calls > 0 && more { None } else { Some(place) }
            }
            Sharing::Exclusive(_) => {
                let mut free = lines.filter(|(_, open)| open.seat.is_none());
                free.next().map(|(place, _)| place)
            }
        }
    }

    fn start(&mut self, place: usize, call: Call) {
        let Some(open) = self.lines.get_mut(place) else { return };
        let Call { seat, operation, until, ticket } = call;
        if !self.observer.uses(seat.lease(), open.id) {
            // Its lease has ended, and it knows.
            return;
        }
        seat.connect(open.id);
        if let Sharing::Exclusive(_) = self.provider.sharing() {
            seat.claim();
            open.seat = Some(seat.clone());
        }
        open.calls += 1;
        let (id, until) = (open.id, Instant::from_std(until));
        let call = timeout_at(until + CALL_GRACE, open.line.call(operation, until));
        self.under_way.spawn(async move {
            tokio::select! {
                biased;
                () = seat.over() => (id, Left::Sound),
                ended = call => match ended {
                    // Whoever waits learns of the death of the connection by its lease.
                    Ok(Err(CallError::Died | CallError::NotSent(_))) => (id, Left::Sound),
                    Ok(answer) => {
                        let left = left(&answer);
                        ticket.settle(answer);
                        (id, left)
                    }
                    Err(_) => (id, Left::Dead("a call did not end in its time".to_owned())),
                },
            }
        });
        if self.lines.get(place).is_some_and(|open| open.seat.is_some()) {
            self.take_back();
        }
    }

    /// Opens another connection, if there may be one.
    fn open(&mut self) {
        let most = match self.provider.sharing() {
            Sharing::None => 0,
            Sharing::Shared(most) | Sharing::Exclusive(most) => most,
        };
        let open = self.lines.len() + self.resetting.len();
        let waits = self.full.as_ref().is_some_and(|(_, at)| at.is_some());
        let busy = self.opening.is_some() || self.trouble.is_some() || waits;
        if busy || open >= usize::try_from(most).unwrap_or(usize::MAX) {
            return;
        }
        let provider = self.provider.clone();
        self.opening = Some(Box::pin(async move {
            match timeout(CONNECT_TIME_MAX, provider.open()).await {
                Ok(opened) => opened,
                Err(_) => Err(format!("it did not connect within {CONNECT_TIME_MAX:?}").into()),
            }
        }));
    }

    fn opened(&mut self, opened: Opened) -> Option<String> {
        match opened {
            Ok(line) => {
                let id = self.ids.next();
                self.lines.push(Open::new(id, line));
                self.full = None;
                None
            }
            // Nobody has died: what waits does so until there is room, or its time is over.
            Err(NoConnection::Full(why)) => {
                self.full = Some((why, Some(Instant::now() + OPEN_AGAIN)));
                None
            }
            Err(NoConnection::Failed(why)) => {
                self.trouble = Some(why.clone());
                Some(why)
            }
        }
    }

    /// A connection is dead: leases first, and no call on it is answered.
    fn die(&mut self, id: ConnectionId, why: String) -> Option<String> {
        let place = self.lines.iter().position(|open| open.id == id)?;
        self.observer.connection_died(id, &why);
        drop(self.lines.swap_remove(place));
        Some(why)
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) -> Option<String> {
        match ended {
            Ok((id, Left::Dead(why))) => self.die(id, why),
            Ok((id, left)) => {
                let open = self.lines.iter_mut().find(|open| open.id == id);
                if let Some(open) = open {
                    open.calls = open.calls.saturating_sub(1);
                    open.unfit |= matches!(left, Left::Unfit(_));
                }
                self.take_back();
                match left {
                    Left::Unfit(why) => Some(why),
                    Left::Sound | Left::Dead(_) => None,
                }
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }

    /// Puts connections whose transaction has ended back in their first state.
    fn take_back(&mut self) {
        let mut place = 0;
        while let Some(open) = self.lines.get_mut(place) {
            let over = open.seat.as_ref().is_some_and(|seat| seat.has_ended());
            // Its calls end with it, at once: they are given up.
            if !over || open.calls > 0 {
                place += 1;
                continue;
            }
            let mut open = self.lines.swap_remove(place);
            if open.unfit {
                continue;
            }
            self.resetting.spawn(async move {
                let reset = timeout(CANCEL_TIME_MAX + RESET_TIME_MAX, open.line.reset()).await;
                matches!(reset, Ok(Ok(()))).then_some((open.id, open.line))
            });
        }
    }

    fn free(&mut self, reset: Result<Reset, JoinError>) {
        match reset {
            Ok(Some((id, line))) => self.lines.push(Open::new(id, line)),
            Ok(None) => {}
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }

    /// When a call that waits is told that there is no connection for it: for want of room a little
    /// before its time is over, so that it hears why.
    fn told_at(&self, call: &Call) -> Option<std::time::Instant> {
        let before = if self.full.is_some() { NO_ROOM_TOLD } else { Duration::ZERO };
        call.until.checked_sub(before)
    }

    fn drop_late(&mut self) {
        let now = std::time::Instant::now();
        let error = match &self.full {
            Some((why, _)) => CallError::Unavailable(why.clone()),
            None => CallError::TimedOut,
        };
        for _ in 0..self.waiting.len() {
            let Some(call) = self.waiting.pop_front() else { return };
            if self.told_at(&call).is_none_or(|at| at <= now) {
                call.ticket.settle(Err(error.clone()));
            } else {
                self.waiting.push_back(call);
            }
        }
    }
}

/// What an answer says of the connection.
fn left(answer: &CallResult) -> Left {
    match answer {
        Err(CallError::Refused { code, message }) if Refusal::of(code) == Refusal::Unfit => {
            Left::Unfit(format!("{code} {message}"))
        }
        _ => Left::Sound,
    }
}
