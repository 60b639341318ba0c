//! Names that callers type: what the host admits, said where the name stands.
//!
//! The host refuses a guest with any other name when it is deployed. This file names nothing of the
//! macros, so that a test can hold it against the host's own rule.

/// Bytes of a name.
const NAME_BYTES_MAX: usize = 64;

/// Contracts of one guest.
pub(crate) const CONTRACTS_MAX: usize = 256;

/// Arguments of one contract.
pub(crate) const ARGUMENTS_MAX: usize = 64;

/// Resources that one contract needs.
pub(crate) const NEEDS_MAX: usize = 64;

/// Checks the name of a contract or of an argument.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn check(name: &str) -> Result<(), String> {
    check_resource(name)?;
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(format!("`{name}` begins with a digit: no caller could tell it from a number"));
    }
    Ok(())
}

/// Checks the name of a resource.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn check_resource(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a name has one character at least".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        let bytes = name.len();
        return Err(format!("this name has {bytes} bytes; the host takes {NAME_BYTES_MAX}"));
    }
    let odd = |c: &char| !(c.is_ascii_alphanumeric() || *c == '_' || *c == '-');
    match name.chars().find(odd) {
        Some(odd) => Err(format!(
            "the host takes letters from a to z, digits, `_` and `-` in a name, and no {odd:?}"
        )),
        None => Ok(()),
    }
}
