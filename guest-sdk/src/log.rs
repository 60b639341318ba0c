//! Lines for the host's log, and the macros that write them.
//!
//! ```
//! use guest_sdk::prelude::*;
//!
//! let (account, amount) = ("ann", 5);
//! info!("moved {amount}");
//! info!(amount, account = ?account, "moved"); // moved amount=5 account="ann"
//! warn!(target: "audit", reason = "limit", "refused {account}");
//! ```
//!
//! Fields come first and are written after the message: `name` and `name = value` by `Display`,
//! `name = ?value` and `?name` by `Debug`, as with `tracing`, whose `%` is understood as well. On
//! the host each line carries the daemon, the request and the correlation id, so a guest needs to
//! say none of them. Outside wasm, lines go to standard error.

use std::fmt;

/// How much a line matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// Each step, for whoever debugs the guest.
    Trace,
    /// What helps to find a mistake.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What an operator should look at some time.
    Warn,
    /// What an operator should look at now.
    Error,
}

/// Writes one line; `target` says where in the guest it comes from. The macros are shorter.
pub fn write(level: Level, target: &str, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(text) => crate::host::log(level, target, text),
        None => crate::host::log(level, target, &message.to_string()),
    }
}

/// Writes a line at [`Level::Trace`]; see the [module](crate::log) for what it takes.
#[macro_export]
macro_rules! trace { ($($rest:tt)+) => { $crate::__log!(Trace, $($rest)+) }; }

/// Writes a line at [`Level::Debug`]; see the [module](crate::log) for what it takes.
#[macro_export]
macro_rules! debug { ($($rest:tt)+) => { $crate::__log!(Debug, $($rest)+) }; }

/// Writes a line at [`Level::Info`]; see the [module](crate::log) for what it takes.
#[macro_export]
macro_rules! info { ($($rest:tt)+) => { $crate::__log!(Info, $($rest)+) }; }

/// Writes a line at [`Level::Warn`]; see the [module](crate::log) for what it takes.
#[macro_export]
macro_rules! warn { ($($rest:tt)+) => { $crate::__log!(Warn, $($rest)+) }; }

/// Writes a line at [`Level::Error`]; see the [module](crate::log) for what it takes.
#[macro_export]
macro_rules! error { ($($rest:tt)+) => { $crate::__log!(Error, $($rest)+) }; }

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, target: $target:expr, $($rest:tt)+) => {
        $crate::log::write($crate::log::Level::$level, $target, $crate::__log_text!([] $($rest)+))
    };
    ($level:ident, $($rest:tt)+) => {
        $crate::__log!($level, target: ::core::module_path!(), $($rest)+)
    };
}

/// Collects fields as `(name, format, value)` until the message comes.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_text {
    ([$($fields:tt)*] $message:literal $($arguments:tt)*) => {
        $crate::__log_text!(@write [$($fields)*] $message $($arguments)*)
    };
    ([$($fields:tt)*] ? $name:ident, $($rest:tt)+) => {
        $crate::__log_text!([$($fields)* ($name, "{:?}", $name)] $($rest)+)
    };
    ([$($fields:tt)*] % $name:ident, $($rest:tt)+) => {
        $crate::__log_text!([$($fields)* ($name, "{}", $name)] $($rest)+)
    };
    ([$($fields:tt)*] $name:ident, $($rest:tt)+) => {
        $crate::__log_text!([$($fields)* ($name, "{}", $name)] $($rest)+)
    };
    ([$($fields:tt)*] $name:ident = ? $value:expr, $($rest:tt)+) => {
        $crate::__log_text!([$($fields)* ($name, "{:?}", $value)] $($rest)+)
    };
    ([$($fields:tt)*] $name:ident = % $value:expr, $($rest:tt)+) => {
        $crate::__log_text!([$($fields)* ($name, "{}", $value)] $($rest)+)
    };
    ([$($fields:tt)*] $name:ident = $value:expr, $($rest:tt)+) => {
        $crate::__log_text!([$($fields)* ($name, "{}", $value)] $($rest)+)
    };
    // Without fields the text is often constant, and then nothing is formatted.
    (@write [] $message:literal $($arguments:tt)*) => {
        ::core::format_args!($message $($arguments)*)
    };
    (
        @write [$(($name:ident, $format:literal, $value:expr))+]
        $message:literal $($arguments:tt)*
    ) => {
        ::core::format_args!(
            ::core::concat!("{}" $(, " ", ::core::stringify!($name), "=", $format)+),
            ::core::format_args!($message $($arguments)*),
            $($value),+
        )
    };
}

#[cfg(test)]
mod tests {
    macro_rules! text {
        ($($rest:tt)+) => { $crate::__log_text!([] $($rest)+).to_string() };
    }

    #[test]
    fn fields_follow_the_message() {
        let (account, amount) = ("ann", 5);
        assert_eq!(text!("moved"), "moved");
        assert_eq!(text!("moved {amount} of {}", 7), "moved 5 of 7");
        assert_eq!(text!(amount, "moved"), "moved amount=5");
        assert_eq!(text!(?account, %amount, "moved"), "moved account=\"ann\" amount=5");
        let line = text!(amount = amount + 1, who = ?account, by = %account, "{} {}", 1, 2,);
        assert_eq!(line, "1 2 amount=6 who=\"ann\" by=ann");
    }

    #[test]
    fn the_macros_write() {
        trace!("a");
        debug!(x = 1, "b");
        info!(target: "here", "c {}", 2);
        warn!(target: "here", x = 1, "d");
        error!("e");
    }
}
