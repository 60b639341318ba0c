//! Codes of rejections that `guest-sdk` makes. They are the guest's words, not the host's, but
//! whoever meets one asks the host what it means.

use super::error::Blame;

/// A code, what it means, and what to do.
pub const SDK_CODES: &[(&str, &str, &str)] = &[
    (
        "no_such_resource",
        "The guest asked a resource that its daemon doesn't have.",
        "Name it in `needs` or `uses` of the daemon's manifest.",
    ),
    (
        "wrong_kind",
        "The guest asked a resource for something that another kind of it can do.",
        "`host resources` shows the kinds; the name in the guest's code may be mistaken.",
    ),
    (
        "call_denied",
        "The host doesn't let guests ask that of a resource.",
        "The message has the reason: a command that blocks or changes a shared connection, mostly.",
    ),
    (
        "call_refused",
        "The resource said no: its own code and message follow.",
        "Look the code up where the resource is documented: an SQLSTATE, or a word of Redis.",
    ),
    (
        "call_too_large",
        "What was asked of a resource, or its answer, is larger than the host moves at once.",
        "Ask for less at a time.",
    ),
    (
        "call_timed_out",
        "A resource did not answer in time. What was asked may have been done.",
        "Ask again when that is harmless; a call takes 10 s at most.",
    ),
    (
        "resource_unavailable",
        "A resource that the daemon merely uses is down at the moment.",
        "`host resources` shows why and since when; `#[needs]` refuses such requests beforehand.",
    ),
    (
        "resource_busy",
        "Too many calls or staged effects wait for this resource.",
        "Try again later. `host resources` counts the effects that wait.",
    ),
    (
        "bad_output",
        "What a daemon shows others can't be written, or is not what the reader expects.",
        "The type that is shown and the one that is looked for must be the same.",
    ),
    (
        "bad_parameters",
        "The daemon's parameters don't fit the type that the guest's `init` takes.",
        "The message names the field: correct --param, or `parameters` in the manifest.",
    ),
    (
        "bad_fallback",
        "The answer that `#[on_stale]` gave can't be written as the contract's result.",
        "Give a value of the contract's own type.",
    ),
    (
        "bad_state",
        "The guest's state can't be handed over to other code, or taken over.",
        "The message has the reason; `host upgrade --dry-run` rehearses it.",
    ),
    (
        "unknown_version",
        "The state that is handed over has a version that this code doesn't know.",
        "Build the guest with `#[guest(version = N, from = OLD)]` for the version that it comes from.",
    ),
    (
        "not_upgradable",
        "The guest has no form in which it could hand its state over.",
        "Put `#[state]` on its type.",
    ),
];

/// Who has to change something, where a guest passes on what it was told.
#[must_use]
pub fn blame(code: &str) -> Blame {
    match code {
        // The manifest says what a daemon has, and by which names.
        "no_such_resource" | "wrong_kind" | "bad_parameters" => Blame::Operator,
        "call_timed_out" | "resource_unavailable" | "resource_busy" => Blame::Environment,
        _ => Blame::Guest,
    }
}
