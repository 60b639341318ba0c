//! Why a component is not admitted: a stable code, and for people what, where and what to do.

use std::fmt;

/// Characters of a guest's name that a message shows; the rest is cut and marked.
const NAME_CHARS_MAX: usize = 96;

/// Characters of the validator's message, which may quote a guest's names.
const MESSAGE_CHARS_MAX: usize = 256;

/// Where in a component something was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// Index of the core module in the component, if it was in one.
    pub module: Option<u32>,
    /// Index of the function in that module's function index space, if it was in one.
    pub function: Option<u32>,
    /// Name of that function from the name section, escaped.
    pub function_name: Option<String>,
    /// Byte offset in the component.
    pub offset: u64,
}

impl Place {
    /// A place known only by its offset.
    #[must_use]
    pub fn at(offset: usize) -> Self {
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        Self { module: None, function: None, function_name: None, offset }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = self.function {
            write!(formatter, "function {function} ")?;
            if let Some(name) = &self.function_name {
                write!(formatter, "`{name}` ")?;
            }
            formatter.write_str("of ")?;
        }
        if let Some(module) = self.module {
            write!(formatter, "core module {module}, ")?;
        }
        write!(formatter, "byte {}", self.offset)
    }
}

/// Why a component is not admitted.
///
/// Only [`code`](Self::code) is stable; the messages are for people.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The bytes break the rules of the binary format or of validation.
    #[error(
        "invalid WebAssembly at {place}: {message}; build it with `host build`, or the file is damaged"
    )]
    Invalid {
        /// Where the first mistake is.
        place: Place,
        /// What is wrong, in the validator's words, escaped.
        message: String,
    },
    /// More of something than the caps allow.
    #[error("{found} {what}, at most {limit} allowed; make the guest smaller or strip it")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much may be.
        limit: u64,
    },
    /// An import that the host does not provide.
    #[error("unknown import `{name}`; a guest may import bulkhead:guest@0.1 and WASI 0.2")]
    ImportUnknown {
        /// Its name, escaped and cut.
        name: String,
    },
    /// A proposal that the host has switched off.
    #[error("needs the WebAssembly feature {feature} ({message}, at {place}); build without it")]
    Feature {
        /// Name of the feature.
        feature: String,
        /// What used it, in the validator's words, escaped.
        message: String,
        /// Where it is used first.
        place: Place,
    },
    /// State that a memory image doesn't hold, so that a rollback couldn't undo it.
    #[error("{what} at {place}: a rollback could not undo it; build the guest without it")]
    SnapshotUnsafe {
        /// The instruction or definition.
        what: String,
        /// Where it is.
        place: Place,
    },
    /// The linear memory that it defines is out of bounds.
    #[error("linear memory: {message}")]
    MemoryLimit {
        /// What is asked for, what is allowed, what to do.
        message: String,
    },
    /// The tables that it defines are out of bounds.
    #[error("tables: {message}")]
    TableLimit {
        /// What is asked for and what is allowed.
        message: String,
    },
    /// A function that would take the compiler too long.
    #[error("{found} {what} in {place}, at most {limit} allowed; split the function")]
    CompileLimit {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much may be.
        limit: u64,
        /// Which function.
        place: Place,
    },
    /// Another kind of file.
    #[error("this is {found}, not a WebAssembly component; build for wasm32-wasip2")]
    NotAComponent {
        /// What it looks like.
        found: &'static str,
    },
    /// Core code wired in a way that the write barrier can't follow.
    #[error("{what} (at {place}); link the guest into one component as wit-component does")]
    Nested {
        /// What is wired so.
        what: &'static str,
        /// Where.
        place: Place,
    },
    /// A component, but not one of the world of a guest.
    #[error("not a guest: {message}; build it with the guest SDK or wit/guest.wit of this version")]
    World {
        /// What is missing or of another version.
        message: String,
    },
}

impl Refusal {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "E_MODULE_INVALID",
            Self::TooLarge { .. } => "E_MODULE_TOO_LARGE",
            Self::ImportUnknown { .. } => "E_IMPORT_UNKNOWN",
            Self::Feature { .. } => "E_MODULE_FEATURE",
            Self::SnapshotUnsafe { .. } => "E_MODULE_SNAPSHOT_UNSAFE",
            Self::MemoryLimit { .. } => "E_MEM_LIMIT",
            Self::TableLimit { .. } => "E_TABLE_LIMIT",
            Self::CompileLimit { .. } => "E_COMPILE_LIMIT",
            Self::NotAComponent { .. } => "E_NOT_A_COMPONENT",
            Self::Nested { .. } => "E_COMPONENT_NESTED",
            Self::World { .. } => "E_WORLD",
        }
    }

    /// The place that the refusal names, if it names one.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Invalid { place, .. }
            | Self::Feature { place, .. }
            | Self::SnapshotUnsafe { place, .. }
            | Self::CompileLimit { place, .. }
            | Self::Nested { place, .. } => Some(place),
            _ => None,
        }
    }

    /// The same refusal with the place completed by `complete`.
    pub(super) fn with_place(mut self, complete: impl FnOnce(&mut Place)) -> Self {
        match &mut self {
            Self::Invalid { place, .. }
            | Self::Feature { place, .. }
            | Self::SnapshotUnsafe { place, .. }
            | Self::CompileLimit { place, .. }
            | Self::Nested { place, .. } => complete(place),
            _ => {}
        }
        self
    }

    pub(super) fn function_limit(
        what: &'static str,
        found: u64,
        limit: u64,
        offset: usize,
    ) -> Self {
        Self::CompileLimit { what, found, limit, place: Place::at(offset) }
    }

    pub(super) fn snapshot_unsafe(what: impl Into<String>, offset: usize) -> Self {
        Self::SnapshotUnsafe { what: what.into(), place: Place::at(offset) }
    }

    pub(super) fn nested(what: &'static str, offset: usize) -> Self {
        Self::Nested { what, place: Place::at(offset) }
    }
}

impl From<wasmparser::Error> for Refusal {
    fn from(error: wasmparser::Error) -> Self {
        let place = Place::at(error.offset());
        let message = escaped(error.message(), MESSAGE_CHARS_MAX);
        match error.missing_wasm_feature() {
            Some(features) => {
                let names: Vec<_> = features.iter_names().map(|(name, _)| name).collect();
                Self::Feature { feature: names.join("+").to_lowercase(), message, place }
            }
            None => Self::Invalid { place, message },
        }
    }
}

/// A guest's name as it may stand in a log line: control characters escaped, long ones cut.
#[must_use]
pub fn printable(name: &str) -> String {
    escaped(name, NAME_CHARS_MAX)
}

fn escaped(text: &str, chars_max: usize) -> String {
    let mut escaped: String = text.chars().take(chars_max).flat_map(char::escape_default).collect();
    if text.chars().nth(chars_max).is_some() {
        escaped.push_str("...");
    }
    escaped
}
