//! Says what went wrong: engine errors to stable codes.

use wasmtime::{FrameInfo, Trap, WasmBacktrace};

use crate::base::error::{Blame, Code, panic_text, printable};
use crate::base::limits::MESSAGE_BYTES_MAX;

/// Ends the running call from inside a host call or a tick, with its reason.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Stop {
    code: Code,
    message: String,
    blame: Blame,
}

impl Stop {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), blame: code.blame() }
    }

    /// The transaction's time was over while somebody outside of the host had not answered.
    pub(super) fn waiting(message: impl Into<String>) -> Self {
        Self { blame: Blame::Environment, ..Self::new(Code::Deadline, message) }
    }
}

/// A call that did not return.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caught {
    /// What happened.
    pub code: Code,
    /// Who has to change something.
    pub blame: Blame,
    /// The guest's last words where it had any, else the engine's.
    pub message: String,
    /// Innermost frames first: raw names of functions, see [`crate::pure::frames`].
    pub backtrace: Vec<String>,
    /// Per frame, where in its function's rewritten code, in bytes, if that is known; empty unless
    /// the sandbox was set up with full backtraces.
    pub offsets: Vec<Option<usize>>,
}

impl Caught {
    /// Without a backtrace: found by the host after the call.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let (backtrace, offsets) = (Vec::new(), Vec::new());
        Self { code, blame: code.blame(), message: message.into(), backtrace, offsets }
    }

    /// A panic of the host itself, caught at the transaction's edge.
    pub(super) fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = printable(panic_text(payload), 500);
        Self::new(Code::HostBug, format!("the host panicked: {text}"))
    }

    /// Classifies an error that the engine returned. `last_words` are the guest's own.
    pub(super) fn from_error(error: &wasmtime::Error, last_words: Option<String>) -> Self {
        let code = classify(error);
        let blame = error.downcast_ref::<Stop>().map_or(code.blame(), |stop| stop.blame);
        let engine = || printable(&format!("{}", error.root_cause()), MESSAGE_BYTES_MAX);
        let message = match last_words {
            Some(words) if code == Code::Unreachable => words,
            _ => engine(),
        };
        let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
        let backtrace = frames.iter().map(frame_name).collect();
        let offsets = || frames.iter().map(FrameInfo::func_offset);
        // Without an address map there are none.
        let offsets = if offsets().any(|o| o.is_some()) { offsets().collect() } else { Vec::new() };
        Self { code, blame, message, backtrace, offsets }
    }
}

/// The frame's function as the guest's name section has it. Making it readable is left to whoever
/// reads it: most crashes are tried again, and their first report is dropped.
fn frame_name(frame: &FrameInfo) -> String {
    match frame.func_name() {
        Some(name) => name.to_owned(),
        None => format!("function {}", frame.func_index()),
    }
}

fn classify(error: &wasmtime::Error) -> Code {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return stop.code;
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return classify_trap(*trap);
    }
    if error.downcast_ref::<wasmtime::component::ResourceTableError>().is_some() {
        return Code::Handle;
    }
    if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_some() {
        return Code::HostcallUnsupported;
    }
    classify_message(&format!("{error:#}"))
}

fn classify_trap(trap: Trap) -> Code {
    match trap {
        Trap::StackOverflow => Code::StackTrap,
        Trap::MemoryOutOfBounds | Trap::HeapMisaligned => Code::MemoryTrap,
        Trap::TableOutOfBounds | Trap::IndirectCallToNull | Trap::BadSignature => {
            Code::IndirectCall
        }
        Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger => {
            Code::Arithmetic
        }
        Trap::UnreachableCodeReached => Code::Unreachable,
        Trap::Interrupt => Code::Deadline,
        Trap::OutOfFuel => Code::Fuel,
        Trap::InvalidChar
        | Trap::StringOutOfBounds
        | Trap::ListOutOfBounds
        | Trap::InvalidDiscriminant
        | Trap::UnalignedPointer => Code::HostcallArgs,
        _ => Code::OtherTrap,
    }
}

/// The canonical ABI's own errors have no types; their texts are pinned by a test against this
/// version of the engine.
fn classify_message(message: &str) -> Code {
    let contains = |text: &str| message.contains(text);
    if contains("handle index") || contains("resource table") || contains("own<T>") {
        Code::Handle
    } else if contains("fuel allocated for hostcalls") || contains("too large to copy") {
        Code::HostcallLimit
    } else if contains("realloc return")
        || contains("out of bounds")
        || contains("out-of-bounds")
        || contains("not aligned")
        || contains("utf-8")
        || contains("UTF-8")
        || contains("invalid")
        || contains("unexpected discriminant")
        || contains("utf-16")
    {
        Code::HostcallArgs
    } else {
        Code::OtherTrap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_03_every_trap_has_its_code() {
        for (trap, code) in [
            (Trap::StackOverflow, Code::StackTrap),
            (Trap::MemoryOutOfBounds, Code::MemoryTrap),
            (Trap::IntegerDivisionByZero, Code::Arithmetic),
            (Trap::UnreachableCodeReached, Code::Unreachable),
            (Trap::OutOfFuel, Code::Fuel),
            (Trap::BadSignature, Code::IndirectCall),
            (Trap::StringOutOfBounds, Code::HostcallArgs),
            (Trap::CannotEnterComponent, Code::OtherTrap),
        ] {
            assert_eq!(classify(&trap.into()), code, "{trap}");
        }
        let stop = Stop::new(Code::Deadline, "late");
        let caught = Caught::from_error(&stop.into(), Some("words".to_owned()));
        assert_eq!((caught.code, caught.message.as_str()), (Code::Deadline, "late"));
        assert_eq!(caught.blame, Blame::Guest);
    }

    #[test]
    fn a_panics_last_words_are_the_message() {
        let error: wasmtime::Error = Trap::UnreachableCodeReached.into();
        let caught = Caught::from_error(&error, Some("index 9 out of range".to_owned()));
        assert_eq!(caught.message, "index 9 out of range");
        let payload: Box<dyn std::any::Any + Send> = Box::new("oh");
        assert_eq!(Caught::from_panic(payload.as_ref()).code, Code::HostBug);
    }
}
