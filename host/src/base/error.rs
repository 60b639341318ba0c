//! Stable error codes: who is to blame, what it means, what to do.
//!
//! Inside, each operation has an error enum of its own. Outside, all of them become a [`Fault`]: a
//! code from this list and a message. Codes are promises; messages are not.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// Who has to change something for the error to go away.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// Whoever sent the request.
    Caller,
    /// The guest's code.
    Guest,
    /// Whoever runs the host: options, budgets, files.
    Operator,
    /// The machine: memory, disk, other processes.
    Environment,
    /// The host itself. Please report it.
    Host,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "caller",
            Self::Guest => "guest",
            Self::Operator => "operator",
            Self::Environment => "environment",
            Self::Host => "host",
        })
    }
}

macro_rules! codes {
    ($($variant:ident $text:literal $blame:ident $meaning:literal $remedy:literal;)*) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
        }

        impl Code {
            /// Every code, in the order of `host explain`'s list.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as it is written everywhere.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Who is to blame.
            #[must_use]
            pub const fn blame(self) -> Blame {
                match self { $(Self::$variant => Blame::$blame,)* }
            }

            /// What happened, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What to do about it.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

codes! {
    ModuleInvalid "E_MODULE_INVALID" Guest
        "The file is not a valid WebAssembly component."
        "Build it again with `host build`; the message gives the byte offset of the first error.";
    NotAComponent "E_NOT_A_COMPONENT" Guest
        "The file is something else than a component: a core module, native code, compiled code."
        "Build for wasm32-wasip2, as `host build` does, and give the host the .wasm file.";
    ModuleTooLarge "E_MODULE_TOO_LARGE" Guest
        "The file, or something in it, is larger than the host's limit."
        "Strip debug information, split the guest, or load data at run time.";
    ModuleFeature "E_MODULE_FEATURE" Guest
        "The guest uses a WebAssembly feature that this host leaves off."
        "Build without that target feature (threads, memory64, GC, exceptions, tail calls ...).";
    SnapshotUnsafe "E_MODULE_SNAPSHOT_UNSAFE" Guest
        "The guest keeps state where a memory image does not hold it, so it could not be rolled back."
        "Keep state in linear memory: no table writes, dropped segments or reference globals.";
    ComponentNested "E_COMPONENT_NESTED" Guest
        "The guest is composed of several programs, or instantiates one of them twice."
        "Deploy one program per daemon and let daemons talk through requests.";
    ImportUnknown "E_IMPORT_UNKNOWN" Guest
        "The guest imports a function that this host does not offer."
        "`host inspect` lists the imports; build against this host's WIT world.";
    World "E_WORLD" Guest
        "The guest does not export the functions of the world bulkhead:guest, or with other types."
        "Write it with guest-sdk of this version, or implement wit/guest.wit.";
    MemoryLimit "E_MEM_LIMIT" Guest
        "The guest's memory at its start does not fit its budget, or it has several memories."
        "Raise --budget for this daemon, or lower the guest's initial memory.";
    TableLimit "E_TABLE_LIMIT" Guest
        "The guest's tables are larger than the host's limit."
        "Split the guest.";
    CompileLimit "E_COMPILE_LIMIT" Guest
        "Compiling the guest would take too much time or memory."
        "Split large functions; code of this size is almost always generated.";
    ContractInvalid "E_CONTRACT_INVALID" Guest
        "The guest's description of its contracts can't be used."
        "The message names the contract and what is wrong with it.";
    Init "E_INIT" Guest
        "The guest could not make its first state: its `init` rejected, crashed or ran too long."
        "The message has the guest's own words; check the daemon's parameters (--param).";
    Budget "E_BUDGET" Operator
        "The budgets of all daemons together are over the host's memory limit."
        "Lower --budget of some daemons or raise --memory; the bill shows where it goes.";
    BudgetSize "E_BUDGET_SIZE" Operator
        "A memory size can't be read, or is out of range."
        "Write bytes, or a number with KiB, MiB, GiB, KB, MB or GB, like 64MiB or 1.5GB.";
    Option "E_OPTION" Operator
        "An option's value can't be used."
        "The message names the option and what it accepts; see --help.";
    Manifest "E_MANIFEST" Operator
        "A service's manifest can't be used. Nothing was started."
        "The message has file, line and column of each mistake; `host validate FILE` shows them too.";
    Parameter "E_PARAMETER" Operator
        "A parameter of a service has no value, or there is no such parameter. Nothing was started."
        "Give it with --param NAME=VALUE or in the variable that the manifest names as `env`.";
    Name "E_NAME" Operator
        "A daemon's name is not usable, or is given twice."
        "Names are 1 to 64 of a-z, 0-9, - and _; rename the file.";
    File "E_FILE" Operator
        "A file could not be read or written."
        "The message gives the path and the system's reason.";
    FileRefused "E_FILE_REFUSED" Caller
        "The path is none to read or write: no regular file, or inside a data directory."
        "Nothing was changed. Name a regular file; to write, one that may go, or a new one elsewhere.";
    Build "E_BUILD" Guest
        "The guest's crate could not be built."
        "The compiler's messages say why; [lib] crate-type = [\"cdylib\"] makes a component.";
    NoMemory "E_NO_MEM" Environment
        "The machine did not give the memory that the budgets need."
        "Free memory, lower budgets, or lift the process's limits (ulimit -v, cgroup).";
    ProcessLimit "E_PROCESS_LIMIT" Environment
        "The system lets the host open fewer files, or start fewer threads, than it needs."
        "Raise its limits: ulimit -n and -u; LimitNOFILE= and TasksMax= of a unit; pids.max of a cgroup.";
    Engine "E_ENGINE" Environment
        "The WebAssembly engine could not be set up on this machine."
        "The message has the engine's reason; the host needs Linux on a 64-bit processor.";
    Socket "E_SOCKET" Environment
        "The host's socket could not be used."
        "Start a host with `host run`, or give the running one's path with --socket.";
    NoAnswer "E_NO_ANSWER" Environment
        "The host went away, or this command was ended, before there was an answer."
        "What was asked for may have been done: see, or ask again with the same key.";
    Http "E_HTTP" Operator
        "The address for HTTP could not be used."
        "The message has the system's reason; choose another one with --http, port 0 takes any.";
    HostRunning "E_HOST_RUNNING" Operator
        "Another host answers on this socket."
        "Stop it, or give this one a socket of its own with --socket.";
    Request "E_REQUEST" Caller
        "The request is not a JSON object with daemon, contract and args."
        "See `host run --help` for the form of a request line.";
    DaemonUnknown "E_DAEMON_UNKNOWN" Caller
        "No daemon has this name."
        "`host ps` lists the daemons, `host ps --data DIR` those of a host that is stopped.";
    ContractUnknown "E_CONTRACT_UNKNOWN" Caller
        "The daemon has no contract of this name."
        "`host inspect` lists a guest's contracts.";
    Args "E_ARGS" Caller
        "The arguments do not fit the contract. Nothing was started."
        "The message names the argument; `host inspect` shows the schemas.";
    KeyConflict "E_KEY_CONFLICT" Caller
        "The idempotency key was used before, for another request."
        "Use a new key for a new request, and the same request for the same key.";
    QueueFull "E_QUEUE_FULL" Environment
        "Too much is waiting already, in the daemon's mailbox or at the socket. Nothing was started."
        "Try again later, with fewer requests in flight.";
    Parked "E_PARKED" Guest
        "The daemon takes no requests: its guest could not recover, or it could not be started."
        "`host ps` has the reason; repair, then `host resume DAEMON`, or `host upgrade` to better code.";
    Restarts "E_RESTARTS" Host
        "A thread under the root died more often than --restarts allows, each time of a bug of the host."
        "`host crashes` shows each death: please report them. `host resume` starts a daemon again.";
    Disabled "E_DISABLED" Operator
        "The daemon, or this contract of it, is disabled. Nothing was started."
        "`host ps` shows what is switched off; `host enable DAEMON[/CONTRACT]` takes requests again.";
    NoTransaction "E_NO_TRANSACTION" Operator
        "No transaction of this id is running: it has ended, or was not started."
        "`host ps` lists those that run; what waits for its turn is held by `host pause DAEMON`.";
    Unavailable "E_UNAVAILABLE" Environment
        "A resource that the daemon needs is not available. Nothing was started."
        "`host resources` shows why and since when. Send it again later, or let it wait: `--wait`.";
    HandleStale "E_HANDLE_STALE" Environment
        "A resource died while the request held a lease of it. The state is as before the request."
        "What it had asked of the resource may have been done. Send it again when that is harmless.";
    ResourceUnknown "E_RESOURCE_UNKNOWN" Operator
        "The host has no resource of this name."
        "Name the manifest that has it at the start; `host resources` lists what a running host has.";
    ResourceFixed "E_RESOURCE_FIXED" Operator
        "The resource is a part of the host, so it can't be taken down."
        "A drill is for what is outside of the host: `host resources` shows the kind of each.";
    Stopping "E_STOPPING" Operator
        "The host is stopping. Nothing was started."
        "Send it again when the host is back.";
    Emergency "E_EMERGENCY" Operator
        "Somebody asked the host to stop at once."
        "The message has the reason that was given; start the host again when it is dealt with.";
    StopForced "E_STOP_FORCED" Environment
        "The host left before its stop was complete, because something did not end in its time."
        "What was acknowledged is durable. Ask again with the same key for what is unknown.";
    Stuck "E_STUCK" Host
        "A part of the host did not turn any more, so the host ended itself."
        "Please report it with the message; a service manager starts the host again.";
    Cancelled "E_CANCELLED" Operator
        "The transaction was cancelled and rolled back."
        "Send it again if it is still wanted.";
    Fuel "E_FUEL" Guest
        "The transaction used up its fuel and was rolled back."
        "Look for an endless loop, do less per call, or raise --fuel.";
    Deadline "E_DEADLINE" Guest
        "The transaction was still running at its deadline and was rolled back."
        "Do less per call, or raise --deadline.";
    Unreachable "E_TRAP_UNREACHABLE" Guest
        "The guest stopped itself: a panic, an abort, a failed assertion."
        "The message has the guest's last words; the backtrace says where.";
    OutOfMemory "E_OUT_OF_MEMORY" Guest
        "The guest asked for more memory than it may have, and stopped itself; rolled back."
        "The message has budget and use: raise --budget for this daemon, or hold less.";
    MemoryTrap "E_TRAP_MEMORY" Guest
        "The guest read or wrote outside its memory."
        "A wild pointer, or an allocation that failed; the backtrace says where.";
    StackTrap "E_TRAP_STACK" Guest
        "The guest's calls were nested too deep."
        "Look for recursion without an end; keep large values on the heap.";
    Arithmetic "E_TRAP_ARITHMETIC" Guest
        "An integer was divided by zero, overflowed, or came from a bad float."
        "The backtrace says where.";
    IndirectCall "E_TRAP_INDIRECT_CALL" Guest
        "The guest called a function pointer that is null, out of range or of another type."
        "The backtrace says where.";
    OtherTrap "E_TRAP" Guest
        "The guest trapped."
        "The message has the engine's reason; the backtrace says where.";
    HandleLeak "E_HANDLE_LEAK" Guest
        "The transaction ended with another number of host resources than it may keep; rolled back."
        "Drop streams and pollables before the call returns; only those of `prime` may stay.";
    Handle "E_HANDLE" Guest
        "The guest used a handle that it does not hold, or holds too many."
        "Handles don't outlive their instance; acquire them anew in each call.";
    HostcallLimit "E_HOSTCALL_LIMIT" Guest
        "The transaction called the host too often, or moved too much in one call."
        "Batch host calls and cut large values into pieces.";
    HostcallArgs "E_HOSTCALL_ARGS" Guest
        "The guest gave a host function a pointer, length or value that is not valid."
        "Strings must be UTF-8 inside the guest's memory.";
    HostcallUnsupported "E_HOSTCALL_UNSUPPORTED" Guest
        "The guest asked the host for something that makes no sense inside a transaction."
        "Don't sleep, wait or exit in a call: time stands still, and returning is the end.";
    OutputRange "E_OUTPUT_RANGE" Guest
        "The guest shows a range that is not all in its memory, or too large; rolled back."
        "Show a range that stays where it is, of at most 1 MiB; keep the rest behind a contract.";
    ResultShape "E_RESULT_SHAPE" Guest
        "The guest's result does not fit the contract's schema; rolled back."
        "Correct the contract's result type.";
    AnswerTooLarge "E_ANSWER_TOO_LARGE" Guest
        "The guest's answer is larger as JSON than the host sends; rolled back."
        "Answer in parts; the largest text that is sent has 64 MiB.";
    CommitTooLarge "E_COMMIT_TOO_LARGE" Guest
        "The transaction changed more than one record of the journal holds; rolled back."
        "Change less per call.";
    CodeChanged "E_CODE_CHANGED" Operator
        "The file has code that the daemon never ran, or its state was made by other code."
        "`host run --upgrade` takes a state over; without the file it goes on with its own code. An \
         earlier code's commit N can be had as a copy of a daemon that runs: `fork DAEMON COPY --at N`.";
    UpgradeSame "E_UPGRADE_SAME" Operator
        "The daemon runs this code already."
        "Nothing is to be done; `host inspect` shows the digest of a file.";
    UpgradeForm "E_UPGRADE_FORM" Guest
        "A guest can't hand its state over, or can't take one over: it has no form for it."
        "Put `#[state]` on the guest's type; a state that is there moves through contracts only.";
    UpgradeVersion "E_UPGRADE_VERSION" Operator
        "The new code knows only older versions of the state."
        "Use newer code; `host revert` and `host fork` go back in time, upgrades don't.";
    UpgradeSave "E_UPGRADE_SAVE" Guest
        "A guest could not save its state. The daemon runs on as it was."
        "The message has the guest's own words, and whether it was the running or the new code.";
    UpgradeLoad "E_UPGRADE_LOAD" Guest
        "The new code could not take the state over. The daemon runs on as it was."
        "The message has the guest's own words; correct the migration and rehearse with --dry-run.";
    UpgradeCheck "E_UPGRADE_CHECK" Guest
        "The new code found the state that it took over unsound. The daemon runs on as it was."
        "The message has the words of its `#[check]`; correct the migration.";
    UpgradeLoss "E_UPGRADE_LOSS" Operator
        "The new code would drop or change values of the state. The daemon runs on as it was."
        "The message names them. Keep them in the new code, or say with --accept-loss that they may go.";
    DataDir "E_DATA_DIR" Operator
        "The data directory is not one, or its state is gone."
        "Check --data; a directory whose state is missing is never filled anew.";
    DataDirLocked "E_DATA_DIR_LOCKED" Operator
        "Another host uses the data directory."
        "Stop it, or give this one a --data directory of its own.";
    Format "E_FORMAT" Operator
        "The data directory has another format version than this program."
        "Use the program that wrote it.";
    StoreFull "E_STORE_FULL" Environment
        "There is no space left for the journal, so commits are refused before they are applied."
        "Free space: the host takes commits again by itself; reads go on meanwhile.";
    StoreIo "E_STORE_IO" Environment
        "The machine refused to read or write the journal."
        "See the system's reason; the host tries again by itself. Ask again with the same key for what was unknown.";
    StoreCorrupt "E_STORE_CORRUPT" Environment
        "The journal does not hold what was written, or acknowledged commits are missing."
        "`host verify` says what is good, and `host snapshot DAEMON --data DIR` takes it out. Restore that, or a copy; `host remove DAEMON --data DIR` lets go of what is not good.";
    StorePoisoned "E_STORE_POISONED" Environment
        "A write to the journal failed, so nothing is acknowledged until it has been opened again."
        "The host does that by itself once the cause, which was reported first, is gone; then send it again.";
    NoCommit "E_NO_COMMIT" Operator
        "There is no such commit, or it is not kept any more."
        "`host checkpoints` lists the commits that can be had.";
    NoCrash "E_NO_CRASH" Operator
        "There is no crash report of this id, or not all of it was kept."
        "`host history DAEMON` lists the crashes whose reports are kept.";
    MemoryOnly "E_MEMORY_ONLY" Operator
        "The host keeps its state in memory only, so there is no history."
        "Start it with a data directory.";
    Snapshot "E_SNAPSHOT" Operator
        "The file is not a whole snapshot of this format."
        "Use a file that `host snapshot` wrote, and that was copied whole.";
    DaemonExists "E_DAEMON_EXISTS" Operator
        "A daemon of that name is running, or has state in the data directory."
        "Choose another name; `host ps` lists the running ones.";
    Stateless "E_STATELESS" Operator
        "The daemon is stateless, or a reader of another one's state: there is no history, copy or upgrade of it."
        "`host ps --tree` lists instances and readers; ask the daemon whose reader it is, or one without `stateless`.";
    DaemonFile "E_DAEMON_FILE" Operator
        "The daemon has a guest's file: it would be there again, empty, at the next start."
        "Stop the host, `host remove DAEMON --data DIR`, and start it without the file.";
    HostBug "E_HOST_BUG" Host
        "Something went wrong in the host itself; the transaction was rolled back."
        "Please report it with the message.";
    Barrier "E_BARRIER" Host
        "The write barrier missed a change, so the daemon was parked before anything wrong was kept."
        "Please report it with the guest's file; the daemon's last commit is intact.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The code of that name was never given out.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not an error code; `host explain` without a code lists them all")]
pub struct UnknownCode(pub String);

impl std::str::FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

/// An error as the outside sees it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Fault {
    /// What happened, for programs.
    pub code: Code,
    /// Who has to change something: the code's, but where another error is behind it.
    pub blame: Blame,
    /// What happened, where, and what to do, for people.
    pub message: String,
}

impl Fault {
    /// An error with its code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, blame: code.blame(), message: message.into() }
    }

    /// The same, of which somebody else is to blame.
    #[must_use]
    pub fn blamed_on(self, blame: Blame) -> Self {
        Self { blame, ..self }
    }

    /// The same, in other words.
    #[must_use]
    pub fn saying(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }
}

/// True for what shows as what it is wherever it is shown: no control character, of either set, and
/// nothing that changes the direction, the order or the lines of the text around it.
#[must_use]
pub fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            // Marks, embeddings, overrides and isolates of text in two directions.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{206f}'
                // Ends of lines and paragraphs, annotations, a mark of byte order, hidden tags.
                | '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Cuts `text` to at most `bytes_max` bytes at a character and makes visible what is not
/// [plain](is_plain), so that a guest can't write into somebody's terminal or forge log lines.
#[must_use]
pub fn printable(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max && text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len().min(bytes_max));
    for character in text.chars() {
        if shown.len() + character.len_utf8() > bytes_max {
            shown.push_str("...");
            break;
        }
        if is_plain(character) || character == '\t' {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    shown
}

/// The same for text that has lines, or is JSON, and stays that: what is not plain in it is written
/// as JSON writes it, `\u009b`, so that a value in it is the same value.
#[must_use]
pub fn plain_lines(text: String) -> String {
    let is_fine = |character: char| is_plain(character) || matches!(character, '\n' | '\t');
    let is_ascii = text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'));
    if is_ascii || text.chars().all(is_fine) {
        return text;
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_fine(character) {
            shown.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    }
    shown
}

/// The text of a panic.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_explained() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert!(code.as_str().starts_with("E_"));
            assert!(code.meaning().ends_with('.') && code.remedy().ends_with('.'), "{code}");
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        assert!("E_NONSENSE".parse::<Code>().is_err());
    }

    #[test]
    fn printable_text_has_no_control_characters_and_is_cut() {
        assert_eq!(printable("a\u{1b}[31mb\r\n", 100), "a\\u{1b}[31mb\\r\\n");
        assert_eq!(printable("abcdef", 3), "abc...");
        assert_eq!(printable("\u{e9}\u{e9}", 3), "\u{e9}...");
        assert_eq!(printable("\u{9b}31m \u{202e}txt", 100), "\\u{9b}31m \\u{202e}txt");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_or_reorders_leaves_in_either_way() {
        // Unicode's own lists: Cc, and Bidi_Control with the other invisible ones of Cf.
        let obeyed = (0..=0x1f).chain(0x7f..=0x9f);
        let reorders = [0x61c, 0x200e, 0x200f].into_iter().chain(0x202a..=0x202e);
        let hidden = (0x2066..=0x206f).chain([0x2028, 0x2029, 0xfeff]).chain(0xe0001..=0xe007f);
        for code in obeyed.chain(reorders).chain(hidden) {
            let bad = char::from_u32(code).unwrap();
            let kept = matches!(bad, '\n' | '\t');
            assert_eq!(printable(&bad.to_string(), 100).contains(bad), bad == '\t', "{code:x}");
            let json = serde_json::json!({ "said": format!("a{bad}b") }).to_string();
            let plain = plain_lines(json.clone());
            assert!(!plain.contains(bad), "{code:x}");
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(read(&plain), read(&json), "{code:x}");
            assert_eq!(plain_lines(format!("a{bad}b")).contains(bad), kept, "{code:x}");
        }
        // What people write.
        for good in ["\u{e9} \u{4e2d}\u{6587} \u{5d0} \u{1f600}\u{200d}", "a\n\tb"] {
            assert_eq!(plain_lines(good.to_owned()), good);
        }
        assert_eq!(plain_lines("\u{1b}[2J".to_owned()), "\\u001b[2J");
    }
}
