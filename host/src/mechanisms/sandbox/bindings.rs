//! The types of `wit/guest.wit`, as wasmtime moves them.

use wasmtime::component::{ComponentType, Lift, Lower};

/// `types.argument`.
#[derive(Clone, ComponentType, Debug, Lift)]
#[component(record)]
pub(super) struct WitArgument {
    pub(super) name: String,
    pub(super) schema: String,
    pub(super) required: bool,
}

/// `types.contract`.
#[derive(Clone, ComponentType, Debug, Lift)]
#[component(record)]
pub(super) struct WitContract {
    pub(super) name: String,
    pub(super) documentation: String,
    #[component(name = "read-only")]
    pub(super) read_only: bool,
    pub(super) arguments: Vec<WitArgument>,
    pub(super) result: String,
}

wasmtime::component::flags! {
    WitHooks {
        #[component(name = "recover")]
        const RECOVER;
        #[component(name = "on-restore")]
        const ON_RESTORE;
    }
}

/// `types.description`.
#[derive(Clone, ComponentType, Debug, Lift)]
#[component(record)]
pub(super) struct WitDescription {
    pub(super) contracts: Vec<WitContract>,
    pub(super) hooks: WitHooks,
    pub(super) upgrade: Option<u32>,
}

/// `types.rejection`.
#[derive(Clone, ComponentType, Debug, Lift)]
#[component(record)]
pub(super) struct WitRejection {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) details: Option<Vec<u8>>,
}

/// `types.call-error`.
#[derive(Clone, ComponentType, Debug, Lift)]
#[component(variant)]
pub(super) enum WitCallError {
    #[component(name = "rejected")]
    Rejected(WitRejection),
    #[component(name = "bad-arguments")]
    BadArguments(String),
    #[component(name = "unknown-contract")]
    UnknownContract,
}

/// `types.crash-report`.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(record)]
pub(super) struct WitCrashReport {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) contract: String,
    pub(super) attempt: u32,
    pub(super) generation: u64,
    #[component(name = "fuel-used")]
    pub(super) fuel_used: u64,
}

/// `types.recovery`.
#[derive(Clone, ComponentType, Copy, Debug, Eq, Lift, PartialEq)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "made by lifting, which the compiler does not see")]
pub(super) enum WitRecovery {
    #[component(name = "resume")]
    Resume,
    #[component(name = "zero")]
    Zero,
    #[component(name = "park")]
    Park,
}

/// `outputs.version`.
#[derive(Clone, ComponentType, Copy, Debug, Lower)]
#[component(record)]
pub(super) struct WitVersion {
    pub(super) sequence: u64,
    pub(super) size: u32,
}

/// `log.level`.
#[derive(Clone, ComponentType, Copy, Debug, Eq, Lift, PartialEq)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "made by lifting, which the compiler does not see")]
pub(super) enum WitLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// `log.output`.
#[derive(Clone, ComponentType, Copy, Debug, Eq, Lift, PartialEq)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "made by lifting, which the compiler does not see")]
pub(super) enum WitOutput {
    #[component(name = "stdout")]
    Stdout,
    #[component(name = "stderr")]
    Stderr,
}

/// `types.need`.
#[derive(Clone, ComponentType, Debug, Lift)]
#[component(record)]
pub(super) struct WitNeed {
    pub(super) contract: String,
    pub(super) name: String,
}

wasmtime::component::flags! {
    WitReactions {
        #[component(name = "on-stale")]
        const ON_STALE;
        #[component(name = "shutdown")]
        const SHUTDOWN;
    }
}

/// `types.declaration`.
#[derive(Clone, ComponentType, Debug, Lift)]
#[component(record)]
pub(super) struct WitDeclaration {
    pub(super) needs: Vec<WitNeed>,
    pub(super) reactions: WitReactions,
}

/// `types.stale`.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(record)]
pub(super) struct WitStale {
    pub(super) name: String,
    pub(super) lease: u64,
    pub(super) why: String,
    pub(super) contract: String,
    #[component(name = "request-id")]
    pub(super) request_id: String,
}
