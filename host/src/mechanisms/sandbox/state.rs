//! What a Store carries: the running transaction, its meters and its limits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;

use super::calls::{Exchanges, FileStream, Told};
use super::cancel::Cancel;
use super::countdown::Countdown;
use super::crash::Stop;
use super::handles::Handles;
use super::handover::Passage;
use super::meter::Meter;
use super::outputs::{OutputVersion, Outputs, Seen};
use super::outside::Outside;
use crate::base::entropy::EntropyStream;
use crate::base::error::{Code, printable};
use crate::base::ids::{Generation, RequestId};
use crate::base::limits::{
    DEADLINE_DEFAULT, FUEL_DEFAULT, HOSTCALLS_PER_TRANSACTION_MAX, LOG_LINE_BYTES_MAX,
    LOG_LINES_PER_TRANSACTION_MAX, MESSAGE_BYTES_MAX, TABLE_ELEMENTS_MAX, UPGRADE_DEADLINE,
    UPGRADE_FUEL,
};
use crate::pure::out_of_memory::{Denied, Limit};
use crate::pure::pace::CpuShare;

/// What one call may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Fuel, in wasmtime's units: about one per instruction.
    pub fuel: u64,
    /// Wall time.
    pub deadline: Duration,
}

impl Limits {
    /// What each of `save`, `load` and `check` may use.
    pub const UPGRADE: Self = Self { fuel: UPGRADE_FUEL, deadline: UPGRADE_DEADLINE };
}

impl Default for Limits {
    fn default() -> Self {
        Self { fuel: FUEL_DEFAULT, deadline: DEADLINE_DEFAULT }
    }
}

/// Who is calling, for what the guest may ask about its transaction.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The request.
    pub request: RequestId,
    /// The correlation id; the request's own id when `None`.
    pub correlation: Option<Arc<str>>,
    /// Which try of the request, from 1.
    pub attempt: u32,
    /// What the guest's clock shows: nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
}

/// What a call has used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Fuel.
    pub fuel: u64,
    /// Host calls.
    pub host_calls: u32,
    /// Those that went to resources: what they did is not undone by a rollback.
    pub live_calls: u32,
    /// Log lines over the limit, dropped.
    pub lines_dropped: u32,
    /// Time that the guest was made to rest, to keep its share of the processor.
    pub rested: Duration,
}

/// Severity of a guest's log line.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Steps.
    Trace,
    /// For whoever writes the guest.
    Debug,
    /// Worth knowing.
    Info,
    /// Odd.
    Warn,
    /// Wrong.
    Error,
}

/// One line that a guest logged or printed, already cut and without control characters.
#[derive(Clone, Debug)]
pub struct GuestLine<'a> {
    /// Severity; standard output is `Info`, standard error `Warn`.
    pub level: Level,
    /// The guest's own name for where it comes from; `stdout` or `stderr` for printed lines.
    pub target: &'a str,
    /// The text.
    pub message: &'a str,
    /// The request.
    pub request: RequestId,
    /// The correlation id; the request's own id when `None`.
    pub correlation: Option<&'a str>,
    /// Which try of the request.
    pub attempt: u32,
    /// The instance.
    pub generation: Generation,
}

/// Takes the lines of one daemon's guest.
pub trait GuestLog: Send + Sync {
    /// Takes one line. Must not block: it runs inside the transaction.
    fn line(&self, line: &GuestLine<'_>);
}

/// Forgets every line.
#[derive(Debug)]
pub struct NoLog;

impl GuestLog for NoLog {
    fn line(&self, _line: &GuestLine<'_>) {}
}

/// Bytes of an output stream that are not a whole line yet.
#[derive(Debug, Default)]
struct PartialLine(Vec<u8>);

/// What log lines, printed text and the transaction's context need; shared with the WASI streams.
pub(super) struct Diary {
    log: Arc<dyn GuestLog>,
    pub(super) context: CallContext,
    pub(super) generation: Generation,
    partial: [PartialLine; 2],
    lines: u32,
    pub(super) lines_dropped: u32,
    /// What the guest said last on its standard error, or in a panic.
    pub(super) last_words: Option<String>,
    pub(super) entropy: EntropyStream,
}

impl Diary {
    pub(super) fn log(&mut self, level: Level, target: &str, message: &str) {
        if self.lines >= LOG_LINES_PER_TRANSACTION_MAX {
            self.lines_dropped = self.lines_dropped.saturating_add(1);
            return;
        }
        self.lines += 1;
        let target = printable(target, MESSAGE_BYTES_MAX);
        let message = printable(message, LOG_LINE_BYTES_MAX);
        self.log.line(&GuestLine {
            level,
            target: &target,
            message: &message,
            request: self.context.request,
            correlation: self.context.correlation.as_deref(),
            attempt: self.context.attempt,
            generation: self.generation,
        });
    }

    /// Takes printed bytes; whole lines go to the log, the rest waits for its end.
    pub(super) fn print(&mut self, error: bool, mut bytes: &[u8]) {
        let stream = usize::from(error);
        if self.lines >= LOG_LINES_PER_TRANSACTION_MAX
            && let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n')
            && let Some(before) =
                bytes.get(..end).and_then(|all| all.iter().rposition(|&byte| byte == b'\n'))
        {
            // Nobody sees them: they are counted. The last one may be a guest's last words.
            let (unseen, last) = bytes.split_at(before + 1);
            let count = unseen.iter().fold(0_u32, |count, &byte| count + u32::from(byte == b'\n'));
            self.lines_dropped = self.lines_dropped.saturating_add(count);
            if let Some(partial) = self.partial.get_mut(stream) {
                partial.0.clear();
            }
            bytes = last;
        }
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.keep(stream, line);
            self.flush(error);
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.keep(stream, bytes);
    }

    fn keep(&mut self, stream: usize, bytes: &[u8]) {
        if let Some(partial) = self.partial.get_mut(stream) {
            let room = (LOG_LINE_BYTES_MAX + 1).saturating_sub(partial.0.len());
            partial.0.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
    }

    fn flush(&mut self, error: bool) {
        let Some(partial) = self.partial.get_mut(usize::from(error)) else { return };
        let line = String::from_utf8_lossy(&partial.0).into_owned();
        partial.0.clear();
        if error {
            // std follows a panic's message with advice on its own backtraces, which there are none
            // of: the host's are in the crash.
            if line.starts_with("note: run with `RUST_BACKTRACE=") {
                return;
            }
            self.last_words = Some(printable(&line, MESSAGE_BYTES_MAX));
            self.log(Level::Warn, "stderr", &line);
        } else {
            self.log(Level::Info, "stdout", &line);
        }
    }

    /// Logs what has no line end yet.
    fn flush_partial(&mut self) {
        for error in [false, true] {
            let waiting = self.partial.get(usize::from(error));
            if waiting.is_some_and(|partial| !partial.0.is_empty()) {
                self.flush(error);
            }
        }
    }
}

/// A diary that the Store and the WASI streams both write to, on one thread.
#[derive(Clone)]
pub(super) struct SharedDiary(Arc<Mutex<Diary>>);

impl SharedDiary {
    pub(super) fn with<R>(&self, write: impl FnOnce(&mut Diary) -> R) -> R {
        // A host call that panicked holding it left whole lines: nothing to distrust.
        write(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The data of a Store. Survives restarts: it is taken out of the dead Store and reset.
pub(super) struct StoreState {
    pub(super) diary: SharedDiary,
    pub(super) gauge: Gauge,
    pub(super) handles: Handles,
    pub(super) host_calls: u32,
    /// What the guest may do with `handover`.
    pub(super) passage: Passage,
    outputs: Arc<Outputs>,
    /// The resources that it may call; none when it has none.
    pub(super) outside: Option<Arc<dyn Outside>>,
    pub(super) live_calls: u32,
    /// What resources answered the running call, that a guest may pass on: the last of each code.
    pub(super) told: BTreeMap<&'static str, Told>,
    /// It runs a transaction again, of whose resources nothing is kept.
    pub(super) repeating: bool,
    /// What streams of files read, by their places in the table.
    pub(super) file_streams: BTreeMap<u32, FileStream>,
    /// The requests of `wasi:http` that there are.
    pub(super) exchanges: Exchanges,
    /// The running call asked for the directories.
    pub(super) asked_directories: bool,
    /// What the running call sees of other daemons.
    pub(super) seen: Seen,
    /// The range that the running call wants to show: address and size.
    pub(super) shown: Option<(u32, u32)>,
    /// Until the deadline of the running call.
    pub(super) countdown: Countdown,
    /// Fuel that the running call began with.
    pub(super) fuel: u64,
    pub(super) share: CpuShare,
    pub(super) rested: Duration,
    /// Since when the guest runs without a rest; none when its share is a whole processor.
    pub(super) running_since: Option<Instant>,
    /// The request of the running call; 0 for what the daemon does for itself.
    pub(super) request: RequestId,
    /// Set from other threads to end the running call at the next tick.
    pub(super) cancel: Arc<Cancel>,
    /// Panics the next host call: how tests provoke a host bug.
    pub(super) panic_in_host_call: Arc<AtomicBool>,
}

impl StoreState {
    pub(super) fn new(
        log: Arc<dyn GuestLog>,
        outputs: Arc<Outputs>,
        entropy: EntropyStream,
        share: CpuShare,
        budget_bytes: usize,
    ) -> Self {
        let context =
            CallContext { request: RequestId(0), correlation: None, attempt: 1, unix_nanos: 0 };
        let diary = SharedDiary(Arc::new(Mutex::new(Diary {
            log,
            context,
            generation: Generation::FIRST,
            partial: Default::default(),
            lines: 0,
            lines_dropped: 0,
            last_words: None,
            entropy,
        })));
        Self {
            diary,
            gauge: Gauge {
                budget_bytes,
                control_bytes: 0,
                growth_denied: false,
                denied: None,
                meter: Arc::default(),
            },
            handles: Handles::new(),
            host_calls: 0,
            passage: Passage::Closed,
            outputs,
            outside: None,
            live_calls: 0,
            told: BTreeMap::new(),
            repeating: false,
            file_streams: BTreeMap::new(),
            exchanges: Exchanges::default(),
            asked_directories: false,
            seen: Seen::default(),
            shown: None,
            countdown: Countdown::default(),
            fuel: 0,
            share,
            rested: Duration::ZERO,
            running_since: None,
            request: RequestId(0),
            cancel: Arc::default(),
            panic_in_host_call: Arc::default(),
        }
    }

    /// Forgets the dead instance's resources and begins a generation.
    pub(super) fn begin_generation(&mut self, generation: Generation) {
        self.handles = Handles::new();
        self.file_streams.clear();
        self.diary.with(|diary| diary.generation = generation);
    }

    /// Sets the meters to zero and the transaction's context.
    pub(super) fn begin_call(&mut self, context: CallContext, limits: &Limits) {
        self.request = context.request;
        self.host_calls = 0;
        self.live_calls = 0;
        self.told.clear();
        self.asked_directories = false;
        self.gauge.denied = None;
        self.seen.clear();
        self.shown = None;
        self.rested = Duration::ZERO;
        self.running_since = (self.share != CpuShare::FULL).then(Instant::now);
        self.countdown = Countdown::new(limits.deadline);
        self.fuel = limits.fuel;
        self.diary.with(|diary| {
            diary.lines = 0;
            diary.lines_dropped = 0;
            diary.last_words = None;
            diary.entropy.rekey(diary.generation.0, context.request.0);
            diary.context = context;
        });
    }

    /// When the running call has to have ended.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        self.countdown.end(now)
    }

    /// Books time for which the guest waited: it counts for its deadline, which no tick saw, and
    /// not for its share of the processor.
    pub(super) fn waited(&mut self, time: Duration) {
        self.countdown.waited(time);
        self.running_since = self.running_since.map(|since| since + time);
    }

    /// Ends a call: text without a line end is logged.
    pub(super) fn end_call(&mut self) -> u32 {
        // From here on it is the daemon that books it.
        self.gauge.meter.used(0);
        self.diary.with(|diary| {
            diary.flush_partial();
            diary.lines_dropped
        })
    }

    /// The seed of a transaction's random numbers.
    pub(super) fn seed(&self, generation: Generation, request: RequestId) -> [u8; 32] {
        self.diary.with(|diary| diary.entropy.seed(generation.0, request.0))
    }

    /// What `daemon` shows the running call.
    pub(super) fn output_of(&mut self, daemon: &str) -> Result<Option<&Arc<OutputVersion>>, Stop> {
        self.seen.of(&self.outputs, daemon)
    }

    /// The host resources that it holds.
    pub(super) fn table(&mut self) -> &mut ResourceTable {
        self.handles.table()
    }

    /// Refuses to go on where a transaction that is run again met its resources.
    pub(super) fn resources_are_there(&self) -> Result<(), Stop> {
        if self.repeating {
            let message = "here it met a resource, and what that answered was not kept: a replay \
                           can't go on";
            return Err(Stop::new(Code::HostcallUnsupported, message));
        }
        Ok(())
    }

    /// Books one host call that moves `bytes`.
    pub(super) fn count_host_call(&mut self) -> Result<(), Stop> {
        assert!(
            !self.panic_in_host_call.swap(false, Ordering::Relaxed),
            "a panic that a test asked for"
        );
        self.host_calls += 1;
        if self.host_calls > HOSTCALLS_PER_TRANSACTION_MAX {
            let message = format!("more than {HOSTCALLS_PER_TRANSACTION_MAX} host calls");
            return Err(Stop::new(Code::HostcallLimit, message));
        }
        Ok(())
    }
}

/// Decides whether memories and tables may grow.
#[derive(Debug)]
pub(super) struct Gauge {
    pub(super) budget_bytes: usize,
    /// Size of control memories; growing one is how rewritten code says `unreachable`.
    pub(super) control_bytes: usize,
    /// While handles are primed the memory keeps its size, because the image that comes back has
    /// its own.
    pub(super) growth_denied: bool,
    /// What the running call asked for last and did not get.
    pub(super) denied: Option<Denied>,
    pub(super) meter: Arc<Meter>,
}

impl wasmtime::ResourceLimiter for Gauge {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let is_control = current == self.control_bytes && maximum == Some(self.control_bytes);
        if is_control && current != 0 {
            return Err(wasmtime::Trap::UnreachableCodeReached.into());
        }
        if maximum == Some(self.control_bytes) {
            return Ok(true);
        }
        let starting = current == 0;
        let own = maximum.filter(|maximum| *maximum <= self.budget_bytes);
        if desired > own.unwrap_or(self.budget_bytes) {
            let limit = own.map_or(Limit::Budget(self.budget_bytes), Limit::Own);
            let asked = desired.saturating_sub(current);
            self.denied = Some(Denied { asked, used: current, limit });
            return Ok(false);
        }
        let grows = !starting && !self.growth_denied;
        if grows {
            self.meter.grown(desired);
        }
        Ok(starting || grows)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        crate::base::limits::CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        crate::base::limits::TABLES_MAX
    }

    fn memories(&self) -> usize {
        crate::base::limits::MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<(Level, String)>>);

    impl GuestLog for Lines {
        fn line(&self, line: &GuestLine<'_>) {
            self.0.lock().unwrap().push((line.level, line.message.to_owned()));
        }
    }

    fn state(lines: &Arc<Lines>) -> StoreState {
        let entropy = EntropyStream::new([1; 32]);
        StoreState::new(lines.clone(), Arc::default(), entropy, CpuShare::FULL, 1 << 20)
    }

    #[test]
    fn printed_bytes_become_whole_lines_and_the_rest_comes_at_the_end() {
        let lines = Arc::new(Lines::default());
        let mut state = state(&lines);
        state.diary.with(|diary| diary.print(false, b"on"));
        state.diary.with(|diary| diary.print(false, b"e\n\ntw\xffo\nthree"));
        state.diary.with(|diary| diary.print(true, b"bad\n"));
        state.end_call();
        let text: Vec<String> = lines.0.lock().unwrap().iter().map(|l| l.1.clone()).collect();
        assert_eq!(text, ["one", "", "tw\u{fffd}o", "bad", "three"]);
        assert_eq!(state.diary.with(|diary| diary.last_words.clone()).as_deref(), Some("bad"));
    }

    #[test]
    fn advice_on_backtraces_that_there_are_none_of_is_not_passed_on() {
        let lines = Arc::new(Lines::default());
        let mut state = state(&lines);
        let advice =
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";
        let printed = format!("thread 'main' panicked at src/lib.rs:7:5:\noh\n{advice}\n");
        state.diary.with(|diary| diary.print(true, printed.as_bytes()));
        state.end_call();
        let text: Vec<String> = lines.0.lock().unwrap().iter().map(|l| l.1.clone()).collect();
        assert_eq!(text, ["thread 'main' panicked at src/lib.rs:7:5:", "oh"]);
        assert_eq!(state.diary.with(|diary| diary.last_words.clone()).as_deref(), Some("oh"));
    }

    #[test]
    fn long_lines_are_cut_and_many_lines_counted() {
        let lines = Arc::new(Lines::default());
        let mut state = state(&lines);
        state.diary.with(|diary| diary.print(false, &vec![b'x'; 1 << 20]));
        for _ in 0..LOG_LINES_PER_TRANSACTION_MAX + 5 {
            state.diary.with(|diary| diary.log(Level::Info, "t", "m"));
        }
        assert_eq!(state.end_call(), 6);
        let kept = lines.0.lock().unwrap();
        assert_eq!(kept.len(), LOG_LINES_PER_TRANSACTION_MAX as usize);
        assert!(kept.iter().all(|line| line.1.len() <= LOG_LINE_BYTES_MAX + 3));
    }

    #[test]
    fn lines_beyond_the_limit_are_counted_and_the_last_one_is_known() {
        let lines = Arc::new(Lines::default());
        let mut state = state(&lines);
        let more = LOG_LINES_PER_TRANSACTION_MAX as usize;
        let words = state.diary.with(|diary| {
            diary.print(true, &b"x\n".repeat(more));
            diary.print(true, b"begun ");
            diary.print(true, &[&b"y\n".repeat(more)[..], b"the last\nhalf"].concat());
            diary.last_words.clone()
        });
        assert_eq!(words.as_deref(), Some("the last"));
        assert_eq!(state.end_call() as usize, more + 2);
        assert_eq!(lines.0.lock().unwrap().len(), more);
    }
}
