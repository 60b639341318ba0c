//! The attribute macros of `guest-sdk`. Use them through its prelude; everything they generate
//! names `::guest_sdk` only, so that a guest needs no other dependency.

mod data;
mod expand;
mod program;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as TokenStream2;

/// Makes a guest of a type: each `pub fn` of the block becomes a contract.
///
/// The block itself stays as it is, so its methods can be called from ordinary Rust and ordinary
/// tests.
///
/// | method | becomes |
/// |---|---|
/// | `pub fn name(&mut self, ..)` | a contract: one transaction |
/// | `pub fn name(&self, ..)` | a read-only contract |
/// | any other function | nothing: a helper |
/// | `#[init] fn new(parameters: P) -> Self` | makes the first state, `Default` without it |
/// | `#[recover] fn recover(&mut self, report: CrashReport) -> Recovery` | asked after a crash |
/// | `#[on_restore] fn on_restore(&mut self, generation: u64)` | told after each restart |
///
/// `init` and `recover` may also answer a `Result` with `Rejection` as its error. A contract
/// answers `T` or `Result<T, E>` with `E: Into<Rejection>`; the name `Result` is what the macro
/// goes by, so an alias of it must be called `Result` as well. Arguments are owned values that are
/// `Deserialize` and `JsonSchema` (see [`macro@data`]); those written as `Option<..>` may be left
/// out. Doc comments are the contract's documentation.
#[proc_macro_attribute]
pub fn guest(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = program::no_arguments(attribute.into(), "#[guest]")
        .and_then(|()| syn::parse(item))
        .and_then(program::Program::parse)
        .map(|program| expand::program(&program));
    or_compile_error(expanded)
}

/// Makes a struct or an enum fit for arguments, results, parameters and details.
///
/// Derives serde's `Serialize` and `Deserialize` and schemars' `JsonSchema` through the SDK, so
/// that a guest needs neither crate itself. Attributes of both, like `#[serde(default)]`, work as
/// usual.
#[proc_macro_attribute]
pub fn data(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = program::no_arguments(attribute.into(), "#[data]")
        .and_then(|()| syn::parse(item))
        .and_then(|item| data::expand(&item));
    or_compile_error(expanded)
}

fn or_compile_error(expanded: syn::Result<TokenStream2>) -> TokenStream {
    expanded.unwrap_or_else(|error| error.to_compile_error()).into()
}
