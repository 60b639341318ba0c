//! Every limit of the host, with its unit and its reason. Nothing is unbounded.

mod calls;
mod clients;
mod values;

use std::time::Duration;

pub use calls::*;
pub use clients::*;
pub use values::*;

/// Bytes of address space that each linear memory reserves: all that a 32-bit address reaches, so
/// that compiled code needs no bounds checks.
pub const MEMORY_RESERVATION_BYTES: usize = 4 << 30;

/// Bytes of unmapped space after (and before) each reservation; a static offset up to this size
/// needs no bounds check either. wasmtime's default.
pub const MEMORY_GUARD_BYTES: usize = 32 << 20;

/// Bytes of a WebAssembly page.
pub const WASM_PAGE_BYTES: usize = 64 << 10;

/// A card is `1 << CARD_SHIFT` bytes. Smaller cards copy less but make a longer table to scan: by
/// `cargo xtask bench cards`, 1 KiB is faster for many scattered changes in a small image, 16 KiB
/// for few changes in a large one, 4 KiB for few changes in a small one and never far behind.
pub const CARD_SHIFT: u32 = 12;

/// Budget in bytes of a daemon that declares none: small services fit, a hundred of them too.
pub const BUDGET_DEFAULT_BYTES: usize = 16 << 20;

/// Smallest budget in bytes: one megabyte of stack plus one of data is what Rust guests start with.
pub const BUDGET_MIN_BYTES: usize = 2 * WASM_PAGE_BYTES;

/// Largest budget in bytes: what a 32-bit memory can hold, less the page that the write barrier
/// keeps free so that an address that wraps around meets no memory.
pub const BUDGET_MAX_BYTES: usize = MEMORY_RESERVATION_BYTES - WASM_PAGE_BYTES;

/// Part of the machine's memory that all budgets together may take when `--memory` is not given,
/// in percent: the kernel, the page cache and the neighbours need the rest.
pub const MEMORY_SHARE_PERCENT: usize = 50;

/// Bytes per daemon beside its images: card tables, Store, mailbox, thread. Part of the bill.
pub const DAEMON_OVERHEAD_BYTES: usize = 4 << 20;

/// Bytes of WebAssembly stack per instance. wasmtime's default; deep recursion traps.
pub const GUEST_STACK_BYTES: usize = 512 << 10;

/// Bytes of a daemon's thread stack: the guest's share plus what host calls need under it.
pub const DAEMON_STACK_BYTES: usize = GUEST_STACK_BYTES + (2 << 20);

/// Fuel of a transaction that declares none: about half a second of ordinary work.
pub const FUEL_DEFAULT: u64 = 1_000_000_000;

/// Deadline of a transaction that declares none.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(1);

/// Longest deadline that can be asked for: a stuck transaction blocks its daemon that long.
pub const DEADLINE_MAX: Duration = Duration::from_secs(3600);

/// Time between two ticks of the epoch, hence how late a deadline may fire. Shorter ticks wake the
/// machine more often for nothing.
pub const EPOCH_TICK: Duration = Duration::from_millis(5);

/// Times that a crashed transaction is tried again by default.
pub const RETRIES_DEFAULT: u32 = 1;

/// Most retries that can be asked for: a crash is almost always the same crash again.
pub const RETRIES_MAX: u32 = 10;

/// Time between two tries to load a daemon's state again after the journal failed, if nobody asks
/// it: each reads the state.
pub const RELOAD_EVERY: Duration = Duration::from_millis(500);

/// How much larger the tables of a data directory may become than they were after they were
/// compacted: each time costs a reading and a writing of all that is left.
pub const COMPACT_FACTOR: u64 = 2;

/// Bytes of tables that are not worth compacting.
pub const COMPACT_BYTES_MIN: u64 = 64 << 20;

/// Longest time that compacting may take before it counts as a stalled disk: gigabytes, on a slow
/// one.
pub const COMPACT_TIME_MAX: Duration = Duration::from_secs(600);

/// Bytes of records that all daemons of a data directory keep together for history and reverting;
/// over that each keeps its share.
pub const RETAIN_TOTAL_BYTES: u64 = 256 << 20;

/// Bytes of memory that take the place of what can't be written, when a data directory is only
/// read: several times what its log can hold.
pub const OVERLAY_BYTES_MAX: usize = 256 << 20;

/// Bytes of a whole state in one record of the journal; a larger one takes several. Small enough
/// for the journal's log, so that others commit in between.
pub const PART_BYTES_MAX: usize = 4 << 20;

/// Requests that may wait in a daemon's mailbox; more are refused with `E_QUEUE_FULL`.
pub const MAILBOX_REQUESTS_MAX: usize = 1024;

/// Bytes of one log line; the rest is cut and marked.
pub const LOG_LINE_BYTES_MAX: usize = 4096;

/// Log lines of one transaction; more are counted and dropped.
pub const LOG_LINES_PER_TRANSACTION_MAX: u32 = 1000;

/// Host calls of one transaction; one more is `E_HOSTCALL_LIMIT`.
pub const HOSTCALLS_PER_TRANSACTION_MAX: u32 = 1_000_000;

/// Fuel per host call, on top of the call's own instructions: a host call is about this much work.
pub const HOSTCALL_FUEL: u64 = 200;

/// Fuel per byte that a host call moves.
pub const HOSTCALL_FUEL_PER_BYTE: u64 = 1;

/// Bytes that the host copies out of a guest in one host call or reply (wasmtime's hostcall fuel).
pub const HOSTCALL_BYTES_MAX: usize = 16 << 20;

/// Bytes of random numbers in one call.
pub const ENTROPY_BYTES_MAX: usize = 1 << 20;

/// Host resources (streams, pollables) that one instance may hold.
pub const HANDLES_MAX: usize = 64;

/// Elements of all tables of an instance. Function tables of large guests have some ten thousand.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Core instances in one guest: adapters and shims make about ten.
pub const CORE_INSTANCES_MAX: usize = 64;

/// Tables in one guest.
pub const TABLES_MAX: usize = 16;

/// Linear memories in one guest after rewriting: its own and one control memory per core module.
pub const MEMORIES_MAX: usize = 1 + CORE_INSTANCES_MAX;

/// Frames in a crash report's backtrace.
pub const BACKTRACE_FRAMES_MAX: usize = 8;

/// Frames that are captured: a panic's own machinery is left out of the report, and has about ten.
pub const BACKTRACE_FRAMES_CAPTURED_MAX: usize = 2 * BACKTRACE_FRAMES_MAX;

/// Bytes of a name or message that a guest puts into a report.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Frames of a backtrace when a crash is run again: a guest's stack has room for no more.
pub const REPLAY_FRAMES_MAX: usize = GUEST_STACK_BYTES / 16;

/// Bytes of a crash report: the arguments, twice as long in hexadecimal, and a backtrace.
pub const CRASH_REPORT_BYTES_MAX: usize = 256 << 10;

/// Crash reports that are kept in a data directory, the oldest dropped first. With the most bytes
/// that each may have they are a quarter of a gigabyte; most have two kilobytes.
pub const CRASH_REPORTS_MAX: u64 = 1000;

/// Crash reports that wait for the disk; more are counted and dropped, because no daemon waits.
pub const CRASH_REPORTS_WAITING_MAX: usize = 64;

/// Cards that a simulated crash writes over.
pub const SCRIBBLED_CARDS: usize = 64;

/// Bytes of a request line, arguments included.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Bytes of the idempotency key or correlation id of a request.
pub const KEY_BYTES_MAX: usize = 256;

/// Answers kept per daemon for requests with an idempotency key, oldest dropped first.
pub const KEYS_PER_DAEMON_MAX: usize = 4096;

/// Bytes of those answers per daemon.
pub const KEY_ANSWERS_BYTES_MAX: usize = 4 << 20;

/// Daemons in one host: each holds three 4 GiB reservations of a 47-bit address space.
pub const DAEMONS_MAX: usize = 4096;

/// Names that have state in one data directory, those that nothing runs any more included: a list
/// that is kept in memory. `host remove` takes names out of it.
pub const DAEMONS_KEPT_MAX: usize = 1 << 16;

/// Bytes of a guest file. Python guests with their library are about 40 MiB.
pub const MODULE_BYTES_MAX: usize = 64 << 20;

/// Bytes of a snapshot's file: the largest state, incompressible, with its code.
pub const SNAPSHOT_BYTES_MAX: usize = 2 * BUDGET_MAX_BYTES + MODULE_BYTES_MAX;

/// Steps for which the write barrier follows one function, to leave out marks that others stand
/// for: one for each instruction, operand and local that it looks at. After them it marks store by
/// store. Milliseconds of work; a function of hand-made size would take minutes.
pub const BARRIER_FLOW_STEPS_MAX: usize = 2_000_000;

/// Wall time that compiling one guest may take.
pub const COMPILE_TIME_MAX: Duration = Duration::from_secs(60);

/// Address space in bytes of the process that compiles one guest.
pub const COMPILE_MEMORY_BYTES_MAX: u64 = 4 << 30;

/// Bytes of what that process says of a file before it compiles it: names of imports, mostly.
pub const COMPILER_ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Fuel of `describe`, `prime` and `init`, which run once per deployment.
pub const INIT_FUEL: u64 = 10 * FUEL_DEFAULT;

/// Deadline of `describe`, `prime` and `init`.
pub const INIT_DEADLINE: Duration = Duration::from_secs(10);

/// Fuel of `recover` and `on-restore`.
pub const RECOVER_FUEL: u64 = FUEL_DEFAULT;

/// Bytes of a guest's state as the value that moves from old code to new. The host holds it twice
/// in its own memory, beyond the budgets, while an upgrade runs; and a state that needs more is
/// more than one record of the journal holds.
pub const HANDOVER_BYTES_MAX: usize = 256 << 20;

/// Places that are noted at once while two states are compared, eight to forty bytes each: maps and
/// lists that are longer are compared whole.
pub const LOSS_INDEX_MAX: usize = 2 << 20;

/// Kinds of places at which an upgrade loses something that are told apart; the rest is counted.
pub const LOSS_LINES_MAX: usize = 256;

/// Kinds of places that one message names: about a page of a terminal.
pub const LOSS_LINES_SHOWN: usize = 20;

/// Names of a map that are told apart: structs have fewer fields, and maps of data have more.
pub const LOSS_NAMES_MAX: usize = 64;

/// Nesting of states that are compared: what the SDK can save, and some more.
pub const LOSS_DEPTH_MAX: usize = 160;

/// Steps of a comparison for each byte of both states: each value is looked at once for each list
/// that it is in, and few states have more than a handful in each other.
pub const LOSS_STEPS_PER_BYTE: u64 = 32;

/// Fuel of each of `save`, `load` and `check`: half a minute of ordinary work, for a state of some
/// ten million entries.
pub const UPGRADE_FUEL: u64 = 60 * FUEL_DEFAULT;

/// Deadline of each of `save`, `load` and `check`; the daemon answers nobody meanwhile.
pub const UPGRADE_DEADLINE: Duration = Duration::from_secs(30);

/// How many times longer than the last trial of `save` took a daemon waits before the next one:
/// trials take a thousandth of its time.
pub const SAVE_TRIAL_REST: u32 = 1000;

/// Bytes of a state as a value that a trial loads again, too. It is in the host's memory, beyond
/// the budgets, and at a start all daemons have their first trial. Larger ones are loaded in a
/// rehearsal.
pub const SAVE_TRIAL_BYTES_MAX: usize = 4 << 20;

/// Shortest time between two trials of `save`.
pub const SAVE_TRIAL_WAIT_MIN: Duration = Duration::from_secs(60);

/// Longest time between two trials of `save`, however long they take: nobody wants to learn a day
/// later that a guest can't be upgraded any more.
pub const SAVE_TRIAL_WAIT_MAX: Duration = Duration::from_secs(3600);

/// Bytes that a daemon may show others. Each version is a copy, made at a commit that changes it,
/// in memory beyond the budgets; a megabyte takes about as long as fifty small commits.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Daemons whose outputs one transaction may look at: it keeps a version of each.
pub const OUTPUTS_SEEN_MAX: usize = 64;

/// Bytes of a daemon's name.
pub const NAME_BYTES_MAX: usize = 64;

/// Time that a daemon gets to end its running transaction when the host stops, unless
/// `--stop-grace` says otherwise. The journal's last sync gets as long again, and at least
/// [`SYNC_TIME_MAX`].
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// Longest grace that can be asked for: service managers wait for a minute and a half.
pub const STOP_GRACE_MAX: Duration = Duration::from_secs(3600);

/// Time that a cancelled transaction gets to end: a tick and the longest host call.
pub const STOP_CANCEL: Duration = Duration::from_secs(2);

/// Time that a stop during start-up gets until the start has noticed.
pub const STOP_STARTING: Duration = Duration::from_secs(2);

/// Time that the last answers get to reach their clients.
pub const STOP_ANSWERS: Duration = Duration::from_millis(500);

/// Time between two looks of the main loop for a reason to stop.
pub const LOOP_TICK: Duration = Duration::from_millis(10);

/// Time between two looks while the host stops: thousands of daemons end within some of these.
pub const STOP_TICK: Duration = Duration::from_millis(1);

/// Longest time between two looks that counts as time: a process that was held longer, by a signal
/// or by its machine, could not have done anything meanwhile.
pub const AWAKE_GAP_MAX: Duration = Duration::from_millis(500);

/// Time that `host stop` waits for the end unless it is told otherwise.
pub const STOP_WAIT: Duration = Duration::from_secs(60);

/// Time that a part of the host may be late before the host is called stuck: machines that swap,
/// or are held for a moment, must not count as broken.
pub const WATCH_SLACK: Duration = Duration::from_secs(30);

/// Longest such time that can be asked for: after it a stuck host is of no use to anybody.
pub const WATCH_SLACK_MAX: Duration = Duration::from_secs(3600);

/// Time that the watchdog's last words get: whatever made it end the process may hold them up.
pub const LAST_WORDS: Duration = Duration::from_millis(100);

/// Files that a host has to be able to have open: some twenty of its own, with a few clients and
/// resources.
pub const DESCRIPTORS_MIN: usize = 64;

/// Threads that a host has to be able to start: some ten of its own, those of commands, a compiler,
/// a few daemons.
pub const THREADS_MIN: usize = 32;

/// Bytes that a host needs for itself beside the budgets of daemons, where the system limits data:
/// without them it would end at the first value that finds no room.
pub const HOST_MEMORY_BYTES: usize = 32 << 20;

/// Bytes of lines that wait for standard error, or for standard output: more are dropped and
/// counted. Some thousand lines, for a reader that is held up for a moment.
pub const LOG_WAITING_BYTES_MAX: usize = 1 << 20;

/// Time that the last lines get to be written, when the process ends.
pub const FLUSH_TIME_MAX: Duration = Duration::from_millis(500);

/// Time between two looks of the watchdog.
pub const WATCH_TICK: Duration = Duration::from_millis(250);

/// Time after which a write or sync of the journal is called stalled. It is the disk's fault: the
/// host is degraded then, and not stuck.
pub const SYNC_TIME_MAX: Duration = Duration::from_secs(2);

/// Time that an upgrade or another piece of work between two transactions may take.
pub const CONTROL_TIME_MAX: Duration = Duration::from_secs(600);

/// Time that `host health` waits for the host: an answer needs no daemon and no disk.
pub const HEALTH_WAIT: Duration = Duration::from_secs(2);

/// Threads for commands of the socket and of HTTP that wait for something; they are there from the
/// start on. More are started while the system allows it.
pub const COMMAND_THREADS: usize = 8;

/// How long such a thread stays without work: as good as for ever.
pub const COMMAND_THREADS_KEPT: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Time that a copy which could not be started has to be taken back, while the journal is opened
/// again.
pub const TAKE_BACK_MAX: Duration = Duration::from_secs(2);

/// Time between two tries of that.
pub const TAKE_BACK_TICK: Duration = Duration::from_millis(20);

/// Time between two beats of the control plane.
pub const API_BEAT: Duration = Duration::from_secs(1);

/// Bytes of a run file or of a stop file; more is neither.
pub const RUN_FILE_BYTES_MAX: u64 = 64 << 10;

/// Time that `host ps` waits for a daemon to compute its state's hash.
pub const HASH_WAIT: Duration = Duration::from_secs(2);

/// Shortest time between two frames of `host ps --watch`: faster ones nobody can read.
pub const PS_WATCH_MIN: Duration = Duration::from_millis(100);

/// Bytes of the body of an HTTP request: many clients send one at the same time. What is larger
/// goes through the socket.
pub const HTTP_BODY_BYTES_MAX: usize = 1 << 20;

/// Requests of a request file that are under way at once.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 512;

/// Answers of a request file that wait for an earlier one's, because lines are printed in order.
pub const REQUESTS_UNPRINTED_MAX: usize = 1 << 16;

// A mark of any 32-bit address must fall inside the card table.
const _: () = assert!(MEMORY_RESERVATION_BYTES == 1 << 32);
// Cards must not be smaller than the overrun that is copied with them, nor larger than a page.
const _: () = assert!(8 <= CARD_SHIFT && CARD_SHIFT <= 16);
// A request file must never fill a mailbox by itself.
const _: () = assert!(REQUESTS_IN_FLIGHT_MAX < MAILBOX_REQUESTS_MAX);
const _: () = assert!(BUDGET_MIN_BYTES <= BUDGET_DEFAULT_BYTES);
const _: () = assert!(GUEST_STACK_BYTES < DAEMON_STACK_BYTES);

/// Notes to the root's loop that may wait: a death of each of hundreds of threads at once. A thread
/// that dies while there is no room waits for it.
pub const ROOT_NOTES_MAX: usize = 256;

/// Deaths of threads that the root remembers, the last ones: each has some hundred bytes.
pub const THREAD_EXITS_MAX: usize = 256;

/// Longest time in which restarts of a daemon's thread may be counted: a bug that shows once a day
/// is not a storm.
pub const RESTARTS_WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Stack of the thread that writes crash reports: as much as the system gives any thread.
pub const WRITER_STACK_BYTES: usize = 2 << 20;

/// Resources of a service: a set of them is the bits of one word.
pub const RESOURCES_MAX: usize = 64;

/// Time between two checks of a resource that is available: an idle dead peer is noticed after this
/// and [`CHECK_TIME_MAX`].
pub const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Time that a resource has to answer a check: a peer that needs longer serves nobody. One second
/// was too short for a PostgreSQL on a machine with twice as many busy threads as processors.
pub const CHECK_TIME_MAX: Duration = Duration::from_secs(2);

/// Shortest time between the end of a probe and the next one: a peer that accepts connections and
/// drops them must not keep a processor busy. The first death of a connection is probed at once.
pub const PROBE_GAP: Duration = Duration::from_millis(100);

/// Time that opening a connection may take: a lost packet is sent again after one second, and after
/// another two.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// Time after which a peer that does not even confirm what was sent to it counts as gone: several
/// lost packets in a row, sent again. One that confirms and says nothing is found out by a check.
pub const PEER_SILENT_MAX: Duration = Duration::from_secs(5);

/// Time that an init job of a resource may take: scripts and schemas are small, and dependents wait
/// for it.
pub const INIT_JOB_TIME_MAX: Duration = Duration::from_secs(10);

/// Time that a resource has to stay usable before its recovery is announced, unless its service
/// says otherwise: what dies again at once must not restart its dependents.
pub const UP_DELAY: Duration = Duration::from_millis(100);

/// Shortest such time that a service may ask for. It doubles with each flap, so that even then
/// there are few recoveries in a minute.
pub const UP_DELAY_MIN: Duration = Duration::from_millis(1);

/// Longest such time, after many flaps: a resource that recovered for good is not kept waiting much
/// longer than a person needs to look at it.
pub const UP_DELAY_MAX: Duration = Duration::from_secs(30);

/// A resource that goes down within this time of its recovery flaps; one that stays up for so long
/// has its flaps forgotten.
pub const UP_STABLE: Duration = Duration::from_secs(10);

const _: () = assert!(RESOURCES_MAX == u64::BITS as usize);

/// Switches of a resource by people that its keeper has not come to: more are refused.
pub const RESOURCE_SWITCHES_MAX: usize = 8;

/// Longest time that a request may ask to wait for a resource: its client holds a connection
/// meanwhile, and its daemon a place among the held requests.
pub const RESOURCE_WAIT_MAX: Duration = Duration::from_secs(60 * 60);

/// Time that a start gives resources to become available before daemons begin to wait for them:
/// what is there answers within milliseconds.
pub const RESOURCES_START_WAIT: Duration = Duration::from_secs(2);

/// Bytes of a service's manifest: a thousand daemons with all their options are a third of it.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Complaints about one manifest: who has made so many mistakes reads the first ones.
pub const MANIFEST_COMPLAINTS_MAX: usize = 100;

/// Characters of a line that a complaint shows: a line of a terminal, twice.
pub const MANIFEST_EXCERPT_CHARS: usize = 160;

/// Services of one host.
pub const SERVICES_MAX: usize = 64;

/// Connections that one resource may share among its leases: servers allow about a hundred.
pub const RESOURCE_CONNECTIONS_MAX: u64 = 64;

/// Instances of a stateless daemon: each has a thread and a budget of its own.
pub const INSTANCES_MAX: u64 = 1024;

/// Readers of a daemon: each has a thread and two images of its own, and copies what each commit
/// changes.
pub const READERS_MAX: u64 = 64;

/// Time that a read waits for a commit to get on its way to the journal, before the daemon itself
/// is asked: a thousand times what that takes.
pub const FOLLOW_WAIT: Duration = Duration::from_millis(100);

/// Time that a commit leaves to reads which waited for the one before: most need some microseconds,
/// and one that is not scheduled must not hold commits up.
pub const FOLLOW_TURN: Duration = Duration::from_millis(1);

/// Longest delay that a manifest may name for a resource: a peer that is back is noticed by then.
pub const RESOURCE_DELAY_MAX: Duration = UP_DELAY_MAX;

/// States of a daemon that are kept to be looked at: five deaths of a resource.
pub const STATES_KEPT_MAX: usize = 16;

/// Codes of a daemon that are remembered after the commits that they made: those of a file that
/// somebody may still name at a start.
pub const RAN_CODES_MAX: usize = 64;

/// Commits that one answer lists.
pub const COMMITS_LISTED_MAX: u64 = 10_000;
