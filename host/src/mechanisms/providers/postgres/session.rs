//! One connection: its driver, calls, their end, and the way back to its first state.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use futures_core::Stream as _;
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::config::Host;
use tokio_postgres::error::{Error, Severity};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::super::metered::{Meter, Metered};
use super::super::{Connection, Line, NoConnection, Pending};
use super::own::Stand;
use super::values::{Form, Parameter, size};
use super::{Server, Stream, reach, within};
use crate::base::limits::{
    CALL_BYTES_MAX, CALL_FRAMING_BYTES_MAX, CALL_VALUES_MAX, CANCEL_TIME_MAX, RESET_TIME_MAX,
};
use crate::pure::resource::operation::{
    CallError, CallResult, Operation, Reply, SqlRows, SqlValue,
};
use crate::pure::resource::refusal::{Refusal, is_full};
use crate::pure::resource::sql::{commits, is_copy};

/// A connection, for the keeper or for one transaction at a time. Dropping it closes it.
pub(super) struct Session {
    pub(super) link: Arc<Link>,
    /// How it was at its start.
    pub(super) first: Stand,
    /// Tells the driver that nobody is there any more.
    _closing: oneshot::Sender<()>,
}

/// What calls under way share with their session.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) server: Arc<Server>,
    pub(super) place: (Host, u16),
    meter: Meter,
    /// Why it is dead, from then on.
    ended: watch::Sender<Option<String>>,
    /// Cancels under way: one hits whatever the server runs for this session when it arrives.
    cancels: watch::Sender<u32>,
    /// It was asked about types that are not the server's own: what the client has learned of them
    /// ends with a reset, and it doesn't know that.
    learned: AtomicBool,
}

impl Session {
    /// Opens one that is as it was asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing open.
    pub(super) async fn open(
        server: Arc<Server>,
        place: (&Host, u16),
    ) -> Result<Self, NoConnection> {
        let stream = reach(place).await?;
        let meter = Meter::new((CALL_BYTES_MAX + CALL_FRAMING_BYTES_MAX) as u64);
        let stream = Metered::new(stream, meter.clone());
        let connected = server.config.connect_raw(stream, NoTls).await;
        let (client, connection) = connected.map_err(|error| match error.as_db_error() {
            Some(said) if is_full(said.code().code(), said.message()) => {
                NoConnection::Full(say(&error))
            }
            _ => NoConnection::Failed(meter.over().unwrap_or_else(|| say(&error))),
        })?;
        let (ended, (closing, closed)) = (watch::Sender::new(None), oneshot::channel());
        tokio::spawn(drive(connection, closed, meter.clone(), ended.clone()));
        let place = (place.0.clone(), place.1);
        let (cancels, learned) = (watch::Sender::new(0), AtomicBool::new(false));
        let link = Arc::new(Link { client, server, place, meter, ended, cancels, learned });
        let first = link.stand().await?;
        first.check(&link.server)?;
        Ok(Self { link, first, _closing: closing })
    }
}

/// Moves bytes between the client and the server until either is gone. Notices of the server are
/// read here, and are nobody's.
async fn drive(
    connection: tokio_postgres::Connection<
        Metered<Box<dyn Stream>>,
        tokio_postgres::tls::NoTlsStream,
    >,
    closed: oneshot::Receiver<()>,
    meter: Meter,
    ended: watch::Sender<Option<String>>,
) {
    let mut connection = pin!(connection);
    let mut killed = ended.subscribe();
    let end = tokio::select! {
        end = &mut connection => Some(end),
        _ = async { killed.wait_for(Option::is_some).await.map(drop) } => None,
        // Says goodbye, which a server that hangs doesn't hear.
        _ = closed => within(CANCEL_TIME_MAX, &mut connection).await,
    };
    let why = match end {
        Some(Err(error)) => meter.over().unwrap_or_else(|| say(&error)),
        _ => "it was closed".to_owned(),
    };
    // Before the connection is dropped, on which calls end.
    die(&ended, why);
}

/// The first reason stays.
fn die(ended: &watch::Sender<Option<String>>, why: String) {
    ended.send_if_modified(|reason| {
        let first = reason.is_none();
        reason.get_or_insert(why);
        first
    });
}

/// An error with what it comes from, without what was sent.
pub(super) fn say(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl Connection for Session {
    fn check(&mut self) -> Pending<'_, Result<(), String>> {
        self.link.meter.reset();
        Box::pin(async { self.link.stand().await?.check_again(&self.first, &self.link.server) })
    }

    fn job(&mut self, text: &str) -> Pending<'_, Result<(), String>> {
        self.link.meter.reset();
        let text = self.link.server.jobs.get(text).map_or(text, String::as_str).to_owned();
        Box::pin(async move { self.link.run(&text).await })
    }

    fn died(&mut self) -> Pending<'_, String> {
        Box::pin(self.link.died())
    }
}

impl Line for Session {
    fn call(&mut self, operation: Operation, until: Instant) -> Pending<'static, CallResult> {
        let link = self.link.clone();
        Box::pin(async move {
            let Operation::Sql { statement, values } = operation else {
                return Err(CallError::WrongKind);
            };
            check_request(&statement, &values)?;
            link.meter.reset();
            let running = Running { link: link.clone(), over: false };
            let cut = Cut::default();
            let mut query = pin!(link.query(&statement, &values, &cut));
            let done = tokio::select! {
                biased;
                done = &mut query => Some(done),
                () = cut.told.notified() => None,
                () = sleep_until(until) => None,
            };
            let done = match done {
                Some(done) => done,
                None => {
                    cut.make(CallError::TimedOut);
                    link.settle(query).await;
                    Err(CallError::TimedOut)
                }
            };
            running.end();
            // It was cut for one reason, whatever came of it then.
            match cut.why.get().cloned() {
                Some(why) => Err(why),
                None => done.map(Reply::Sql),
            }
        })
    }

    fn died(&mut self) -> Pending<'_, String> {
        Box::pin(self.link.died())
    }

    fn reset(&mut self) -> Pending<'_, Result<(), String>> {
        Box::pin(async {
            self.link.meter.reset();
            if self.link.learned.load(Ordering::Relaxed) {
                return Err(self.link.kill("it has learned types, and a reset ends that"));
            }
            // Not in one message: the second one is refused in a transaction, as that would be.
            let reset = async {
                self.link.run("ROLLBACK").await?;
                self.link.run("DISCARD ALL").await
            };
            // What a cancel hits must not be another transaction's.
            self.link.cancels_over().await;
            match within(RESET_TIME_MAX, reset).await {
                Some(Ok(())) => Ok(()),
                Some(Err(why)) => Err(self.link.kill(&format!("its reset failed: {why}"))),
                None => Err(self.link.kill("its reset took too long")),
            }
        })
    }
}

/// What is refused before anything is sent.
fn check_request(statement: &str, values: &[SqlValue]) -> Result<(), CallError> {
    let refused = |code: &str, message: &str| {
        Err(CallError::Refused { code: code.to_owned(), message: message.to_owned() })
    };
    let bytes = values.iter().fold(statement.len(), |bytes, value| bytes + size(value));
    if bytes > CALL_BYTES_MAX {
        return Err(CallError::TooLarge(CALL_BYTES_MAX as u64));
    }
    if is_copy(statement) {
        let why = "COPY, whose data is no answer: use INSERT and SELECT";
        return Err(CallError::Denied(why.to_owned()));
    }
    if statement.contains('\0') {
        return refused("22021", "a statement can't hold a zero byte");
    }
    if u16::try_from(values.len()).is_err() {
        return refused("54023", "a statement can't have more than 65535 values");
    }
    Ok(())
}

/// Ends a call that goes on: its rows are read on, since the next answer is behind them, and are
/// nobody's.
#[derive(Default)]
struct Cut {
    why: OnceLock<CallError>,
    told: Notify,
}

impl Cut {
    /// The first reason stays.
    fn make(&self, why: CallError) {
        if self.why.set(why).is_ok() {
            self.told.notify_one();
        }
    }
}

/// An answer as far as it has come.
struct Answer {
    forms: Vec<Form>,
    rows: SqlRows,
    bytes: usize,
    values: usize,
}

impl Answer {
    fn new(prepared: &Statement, forms: Vec<Form>) -> Self {
        let columns = prepared.columns().iter().map(|column| column.name().to_owned());
        let rows = SqlRows { columns: columns.collect(), ..SqlRows::default() };
        let bytes = rows.columns.iter().map(String::len).sum();
        Self { forms, rows, bytes, values: 0 }
    }

    fn add(&mut self, row: &Row) -> Result<(), CallError> {
        // One without columns counts as one of them.
        self.values += self.forms.len().max(1);
        for (index, form) in self.forms.iter().enumerate() {
            let value = form.read(row, index)?;
            // Not what was sent: a number of ten bytes may have 100,000 digits.
            self.bytes += size(&value);
            self.rows.values.push(value);
            if self.bytes > CALL_BYTES_MAX || self.values > CALL_VALUES_MAX {
                break;
            }
        }
        match self.bytes > CALL_BYTES_MAX || self.values > CALL_VALUES_MAX {
            true => Err(CallError::TooLarge(CALL_BYTES_MAX as u64)),
            false => Ok(()),
        }
    }
}

impl Link {
    /// Statements of the host's own, whose rows are nobody's.
    pub(super) async fn run(&self, statements: &str) -> Result<(), String> {
        let done = self.client.batch_execute(statements).await;
        done.map_err(|error| self.reason(&error))
    }

    async fn query(
        &self,
        statement: &str,
        values: &[SqlValue],
        cut: &Cut,
    ) -> Result<SqlRows, CallError> {
        let types: Vec<Type> = values.iter().map(|value| Parameter(value).type_()).collect();
        let prepared = self.client.prepare_typed(statement, &types).await;
        let prepared = prepared.map_err(|error| self.failed(&error, true))?;
        let forms = self.forms(&prepared, values.len())?;
        let parameters: Vec<Parameter<'_>> = values.iter().map(Parameter).collect();
        let parameters = parameters.iter().map(|value| value as &(dyn ToSql + Sync));
        // What is ended before it is complete is undone, unless it commits in between.
        let whole = !commits(statement);
        let rows = self.client.query_raw(&prepared, parameters).await;
        let mut rows = pin!(rows.map_err(|error| self.failed(&error, whole && is_over(&error)))?);
        let mut answer = Answer::new(&prepared, forms);
        while let Some(row) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
            let undone = || whole && rows.rows_affected().is_none();
            let row = row.map_err(|error| self.failed(&error, undone() && is_over(&error)))?;
            self.meter.reset();
            if cut.why.get().is_some() {
                answer.rows.values = Vec::new();
            } else if let Err(why) = answer.add(&row) {
                cut.make(why);
            }
        }
        answer.rows.affected = rows.rows_affected().unwrap_or(0);
        Ok(answer.rows)
    }

    /// How the values of each column are read, known before anything runs.
    fn forms(&self, prepared: &Statement, values: usize) -> Result<Vec<Form>, CallError> {
        let columns = prepared.columns();
        let mut types = columns.iter().map(|column| column.type_()).chain(prepared.params());
        if types.any(|type_| Type::from_oid(type_.oid()).is_none()) {
            self.learned.store(true, Ordering::Relaxed);
        }
        let wanted = prepared.params().len();
        if wanted != values {
            // The server's code for it.
            let message = format!("the statement has {wanted} values, and {values} were given");
            return Err(CallError::Refused { code: "08P01".to_owned(), message });
        }
        columns.iter().map(Form::of).collect()
    }

    /// An error; `undone` when nothing of the statement is left if it killed the session.
    fn failed(&self, error: &Error, undone: bool) -> CallError {
        if self.meter.over().is_some() {
            return CallError::TooLarge(CALL_BYTES_MAX as u64);
        }
        let fatal = |severity| matches!(severity, Some(Severity::Fatal | Severity::Panic));
        match error.as_db_error() {
            Some(said) if !fatal(said.parsed_severity()) => {
                let detail = said.detail().map(|detail| format!(" ({detail})"));
                let message = format!("{}{}", said.message(), detail.unwrap_or_default());
                CallError::Refused { code: said.code().code().to_owned(), message }
            }
            // What was not understood leaves an answer half read.
            _ => {
                let why = self.reason(error);
                die(&self.ended, why.clone());
                if undone { CallError::NotSent(why) } else { CallError::Died }
            }
        }
    }

    /// Why it is dead, or what went wrong.
    pub(super) fn reason(&self, error: &Error) -> String {
        let ended = self.ended.borrow().clone();
        ended.filter(|_| error.is_closed()).unwrap_or_else(|| say(error))
    }

    fn kill(&self, why: &str) -> String {
        die(&self.ended, why.to_owned());
        why.to_owned()
    }

    async fn died(&self) -> String {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "it was closed".to_owned(),
        }
    }

    /// Ends a query that was cut, so that the connection is fit for another call, or kills it.
    async fn settle(self: &Arc<Self>, query: impl Future<Output = Result<SqlRows, CallError>>) {
        self.begin_cancel();
        let settled = async {
            // What it answers now is nobody's, but has to be read.
            let ((), _nobodys) = tokio::join!(self.cancels_over(), query);
            // A cancel that was too late for the query may hit this.
            match self.client.batch_execute("").await {
                Err(error) if error.as_db_error().is_none() => Err(self.reason(&error)),
                _ => Ok(()),
            }
        };
        let why = match within(CANCEL_TIME_MAX, settled).await {
            Some(Ok(())) => return,
            Some(Err(why)) => format!("a call could not be cancelled: {why}"),
            None => NO_END.to_owned(),
        };
        die(&self.ended, why);
    }

    /// Tells the server to cancel what runs. That goes on when nobody waits for it, and kills the
    /// session when it is not known to have ended: it may still hit what comes next.
    fn begin_cancel(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            // The keepers' thread ends, and all sessions with it.
            die(&self.ended, NO_END.to_owned());
            return;
        };
        self.cancels.send_modify(|under_way| *under_way += 1);
        let link = self.clone();
        runtime.spawn(async move {
            match within(CANCEL_TIME_MAX, link.cancel()).await {
                Some(Ok(())) => {}
                Some(Err(why)) => {
                    die(&link.ended, format!("a call could not be cancelled: {why}"));
                }
                None => die(&link.ended, NO_END.to_owned()),
            }
            link.cancels.send_modify(|under_way| *under_way -= 1);
        });
    }

    /// Ends when no cancel is under way.
    async fn cancels_over(&self) {
        let mut under_way = self.cancels.subscribe();
        // Its sender is in `self`: it is never closed.
        let _open = under_way.wait_for(|count| *count == 0).await;
    }

    /// Asks the server to cancel what runs, on a connection of its own.
    async fn cancel(&self) -> Result<(), String> {
        let mut stream = reach((&self.place.0, self.place.1)).await?;
        let token = self.client.cancel_token();
        token.cancel_query_raw(&mut stream, NoTls).await.map_err(|error| say(&error))?;
        // The server closes it when the cancel was delivered, and not before.
        match stream.read(&mut [0]).await {
            Ok(0) => Ok(()),
            Ok(_) => Err("the server answered a cancel".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

const NO_END: &str = "a call did not end when it was cancelled";

/// Whether the server has ended a session, and said why: it rolls back before that.
fn is_over(error: &Error) -> bool {
    error.as_db_error().is_some_and(|said| Refusal::of(said.code().code()) == Refusal::Unfit)
}

/// A call under way. When it is dropped before it is over, the server is told to end it.
struct Running {
    link: Arc<Link>,
    over: bool,
}

impl Running {
    fn end(mut self) {
        self.over = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.link.begin_cancel();
        }
    }
}
