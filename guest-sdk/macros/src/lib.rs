//! The attribute macros of `guest-sdk`. Use them through its prelude; everything they generate
//! names `::guest_sdk` only, so that a guest needs no other dependency.

mod data;
mod expand;
mod form;
mod names;
mod once;
mod overflow;
mod program;

use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as TokenStream2};
use quote::ToTokens as _;

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
/// | `#[check] fn check(&self) -> Result<(), Rejection>` | asked after an upgrade |
/// | `#[on_stale]`, see below | answers for a transaction that a resource's death cancelled |
/// | `#[shutdown] fn shutdown(&mut self)` | the last transaction before a stop |
///
/// `#[on_stale]` goes on `fn(&self, stale: Stale) -> Result<Fallback, Rejection>`.
/// `#[needs("cache")]` on a contract says that it can't be met without that resource.
///
/// `init` and `recover` may also answer a `Result` with `Rejection` as its error. A contract
/// answers `T` or `Result<T, E>` with `E: Into<Rejection>`; the name `Result` is what the macro
/// goes by, so an alias of it must be called `Result` as well. Arguments are owned values that are
/// `Deserialize` and `JsonSchema` (see [`macro@data`]); those written as `Option<..>` may be left
/// out. Doc comments are the contract's documentation.
///
/// A guest whose type is `Serialize` and `Deserialize` (see [`macro@state`]) can be upgraded.
/// `#[guest(version = 3, from = OldLedger)]` says in which version of its form it keeps the state,
/// and from which older form it takes it over: by `impl From<OldLedger>`, or by `TryFrom` with an
/// error that becomes a `Rejection`. Without that, the version is 1.
///
/// `#[guest(files)]`, or `#[guest(files, version = 3, from = OldLedger)]`, is for a guest that
/// reads files with `std::fs`, or whose libraries do: the directories that its daemon may read are
/// in `/`, each under the name of the resource.
///
/// A component is one guest, with one such block.
///
/// A build for wasm without overflow checks is refused: it would commit what the guest's tests
/// panic at. Names that the host would refuse are refused here, too.
#[proc_macro_attribute]
pub fn guest(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = syn::parse::<form::Arguments>(attribute).and_then(|arguments| {
        if overflow::left_out(words()) {
            return Err(syn::Error::new(Span::call_site(), overflow::LEFT_OUT));
        }
        let program = syn::parse(item).and_then(program::Program::parse)?;
        let guest = &program.block.self_ty;
        once::note(words(), &guest.to_token_stream().to_string())
            .map_err(|message| syn::Error::new_spanned(guest, message))?;
        Ok(expand::program(&program, &arguments))
    });
    or_compile_error(expanded)
}

/// Makes a struct or an enum fit for a guest's state that is to survive its code.
///
/// Derives serde's `Serialize` and `Deserialize` through the SDK, so that a guest needs no serde
/// itself. Attributes of serde work as usual: a new field with `#[serde(default)]` needs no new
/// version, `#[serde(skip)]` leaves out what can be made again.
///
/// `#[state(version = 2, from = OlderLedger)]` marks an older form, of which newer ones are made;
/// the oldest has a version alone.
#[proc_macro_attribute]
pub fn state(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = form::Form::parse(attribute.into())
        .and_then(|form| form::expand(form.as_ref(), &syn::parse(item)?));
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

/// The command line of the compiler that runs this.
fn words() -> impl Iterator<Item = String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned())
}

fn or_compile_error(expanded: syn::Result<TokenStream2>) -> TokenStream {
    expanded.unwrap_or_else(|error| error.to_compile_error()).into()
}
