//! The component around a guest: the world's exports, and the place where the state lives.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::bindings;
use crate::bindings::bulkhead::guest::types;
use crate::guest::{Argument, Contract, CrashReport, Guest, Recovery, Stale};
use crate::panic;
use crate::rejection::Rejection;

/// Where a guest's state lives between calls. `None` until `init` or `load`.
pub type State<G> = RefCell<Option<G>>;

/// A guest whose state has a place: a thread-local, which on wasm is a plain static.
pub trait Stateful: Guest {
    /// Gives access to the place.
    fn with_state<R>(use_state: impl FnOnce(&State<Self>) -> R) -> R;
}

/// Exports `G` as the world's component.
#[derive(Debug)]
pub struct Component<G>(PhantomData<G>);

impl<G: Stateful> bindings::Guest for Component<G> {
    fn describe() -> bindings::Description {
        panic::install_hook();
        let mut hooks = types::Hooks::empty();
        hooks.set(types::Hooks::RECOVER, G::HOOKS.recover);
        hooks.set(types::Hooks::ON_RESTORE, G::HOOKS.on_restore);
        let contracts = G::CONTRACTS.iter().map(describe_contract).collect();
        bindings::Description { contracts, hooks, upgrade: G::upgrade() }
    }

    fn prime() {
        // A lean guest without files holds nothing of the host's.
        #[cfg(not(feature = "lean"))]
        crate::streams::acquire();
        if G::HOOKS.files {
            crate::directories::acquire();
        }
    }

    fn init(parameters: Vec<u8>) -> Result<(), bindings::Rejection> {
        // The hook lives in guest memory, so every later instance gets it with the image.
        panic::install_hook();
        let guest = G::init(&parameters)?;
        G::with_state(|state| state.replace(Some(guest)));
        Ok(())
    }

    fn recover(report: bindings::CrashReport) -> Result<bindings::Recovery, bindings::Rejection> {
        let recovery = with_guest(|guest: &mut G| guest.recover(report.into()))?;
        Ok(recovery.into())
    }

    fn on_restore(generation: u64) {
        with_guest(|guest: &mut G| guest.on_restore(generation));
    }

    fn save() -> Result<(), bindings::Rejection> {
        with_guest(|guest: &mut G| guest.save())?;
        Ok(())
    }

    fn load(version: u32) -> Result<(), bindings::Rejection> {
        panic::install_hook();
        // The host may try whether this code loads what it saves: there is room for one state.
        drop(G::with_state(RefCell::take));
        let guest = G::load(version)?;
        G::with_state(|state| state.replace(Some(guest)));
        Ok(())
    }

    fn check() -> Result<(), bindings::Rejection> {
        with_guest(|guest: &mut G| guest.check())?;
        Ok(())
    }

    fn declare() -> bindings::Declaration {
        let need = |contract: &Contract, name: &str| {
            let (contract, name) = (contract.name.to_owned(), name.to_owned());
            types::Need { contract, name }
        };
        let needs = G::CONTRACTS
            .iter()
            .flat_map(|contract| contract.needs.iter().map(move |name| need(contract, name)));
        let mut reactions = types::Reactions::empty();
        reactions.set(types::Reactions::ON_STALE, G::HOOKS.on_stale);
        reactions.set(types::Reactions::SHUTDOWN, G::HOOKS.shutdown);
        bindings::Declaration { needs: needs.collect(), reactions }
    }

    fn on_stale(stale: bindings::Stale) -> Result<Option<Vec<u8>>, bindings::Rejection> {
        let fallback = with_guest(|guest: &mut G| guest.on_stale(stale.into()))?;
        Ok(fallback.into_bytes())
    }

    fn shutdown() -> Result<(), bindings::Rejection> {
        with_guest(|guest: &mut G| guest.shutdown())?;
        Ok(())
    }
}

#[expect(
    clippy::expect_used,
    reason = "a call before init or load is a bug of the host, and traps"
)]
pub(crate) fn with_guest<G: Stateful, R>(use_guest: impl FnOnce(&mut G) -> R) -> R {
    G::with_state(|state| {
        let mut state = state.borrow_mut();
        use_guest(state.as_mut().expect("the guest has no state: `init` has not been called"))
    })
}

fn describe_contract(contract: &Contract) -> types::Contract {
    types::Contract {
        name: contract.name.to_owned(),
        documentation: contract.documentation.to_owned(),
        read_only: contract.read_only,
        arguments: contract.arguments.iter().map(describe_argument).collect(),
        result: (contract.result)(),
    }
}

fn describe_argument(argument: &Argument) -> types::Argument {
    types::Argument {
        name: argument.name.to_owned(),
        schema: (argument.schema)(),
        required: argument.required,
    }
}

impl From<Rejection> for bindings::Rejection {
    fn from(rejection: Rejection) -> Self {
        let (code, message, details) = rejection.into_parts();
        Self { code, message, details }
    }
}

impl From<bindings::CrashReport> for CrashReport {
    fn from(report: bindings::CrashReport) -> Self {
        Self {
            code: report.code,
            message: report.message,
            contract: report.contract,
            attempt: report.attempt,
            generation: report.generation,
            fuel_used: report.fuel_used,
        }
    }
}

impl From<bindings::Stale> for Stale {
    fn from(stale: bindings::Stale) -> Self {
        Self {
            resource: stale.name,
            lease: stale.lease,
            why: stale.why,
            contract: stale.contract,
            request_id: stale.request_id,
        }
    }
}

impl From<Recovery> for bindings::Recovery {
    fn from(recovery: Recovery) -> Self {
        match recovery {
            Recovery::Resume => Self::Resume,
            Recovery::Zero => Self::Zero,
            Recovery::Park => Self::Park,
        }
    }
}

/// Exports a guest's type as the component.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($guest:ty) => {
        const _: () = {
            ::std::thread_local! {
                static STATE: $crate::__private::State<$guest> =
                    const { $crate::__private::State::new(::core::option::Option::None) };
            }

            impl $crate::__private::Stateful for $guest {
                fn with_state<R>(
                    use_state: impl ::core::ops::FnOnce(&$crate::__private::State<Self>) -> R,
                ) -> R {
                    STATE.with(use_state)
                }
            }

            type Component = $crate::__private::Component<$guest>;
            $crate::__private::bindings::export!(
                Component with_types_in $crate::__private::bindings
            );

            #[unsafe(export_name = "call")]
            unsafe extern "C" fn call(
                contract: u32,
                arguments: *mut u8,
                length: usize,
            ) -> *const usize {
                // SAFETY: only the host calls this, by the canonical ABI.
                unsafe { $crate::__private::call::<$guest>(contract, arguments, length) }
            }
        };
    };
}
