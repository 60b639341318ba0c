//! How a service is, from how its parts are: in one word, and why.

use super::resource::Status;

/// A daemon of a service, as far as its service's state depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Daemon {
    /// It takes requests.
    Ready,
    /// It has not said yet that it is ready.
    Starting,
    /// It died, and will be started again.
    Restarting,
    /// It waits for a resource that it needs.
    Waiting,
    /// Nobody starts it again but a person.
    GivenUp,
}

/// A resource of a service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resource<'a> {
    /// How it is.
    pub status: &'a Status,
    /// Some daemon can't do without it.
    pub needed: bool,
    /// Nobody tries to connect it again but a person.
    pub given_up: bool,
}

/// How a service is. The worse, the larger.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum ServiceState {
    /// All parts do their work.
    #[default]
    Ready,
    /// A part doesn't, and will by itself.
    Unavailable,
    /// A part doesn't, and won't until a person does something.
    Gone,
}

impl ServiceState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Unavailable => "unavailable",
            Self::Gone => "gone",
        }
    }

    /// The status that HTTP has for it.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::Ready => 200,
            Self::Unavailable => 503,
            Self::Gone => 410,
        }
    }
}

/// How a service is at `now_nanos`, monotonic, and the reasons in words, the worst first; none when
/// it is ready.
#[must_use]
pub fn of(
    daemons: &[(&str, Daemon)],
    resources: &[(&str, Resource<'_>)],
    now_nanos: u64,
) -> (ServiceState, Vec<String>) {
    let resources = resources.iter().filter_map(|(name, resource)| {
        let (state, why) = resource_state(resource, now_nanos)?;
        Some((state, format!("resource `{name}` {why}")))
    });
    let daemons = daemons.iter().filter_map(|(name, daemon)| {
        let (state, why) = daemon_state(*daemon)?;
        Some((state, format!("daemon `{name}` {why}")))
    });
    let mut reasons: Vec<(ServiceState, String)> = resources.chain(daemons).collect();
    // In a stable order: resources come before the daemons that wait for them.
    reasons.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
    let state = reasons.first().map_or(ServiceState::Ready, |(state, _)| *state);
    (state, reasons.into_iter().map(|(_, reason)| reason).collect())
}

/// How a whole host is, from the word for its state and the worst of its parts.
#[must_use]
pub fn of_host(state: &str, worst: ServiceState) -> ServiceState {
    match state {
        "ok" => ServiceState::Ready,
        "degraded" => worst.max(ServiceState::Unavailable),
        // It stops or is stuck: another one may be there soon.
        _ => ServiceState::Unavailable,
    }
}

/// The status that HTTP has for whether a host turns at all: 503 for one that should be killed and
/// started again. What it waits for, or has given up, a start would not change.
#[must_use]
pub fn liveness(state: &str) -> u16 {
    if state == "stuck" { 503 } else { 200 }
}

fn daemon_state(daemon: Daemon) -> Option<(ServiceState, &'static str)> {
    match daemon {
        Daemon::Ready => None,
        Daemon::Starting => Some((ServiceState::Unavailable, "is starting")),
        Daemon::Restarting => Some((ServiceState::Unavailable, "is being started again")),
        Daemon::Waiting => Some((ServiceState::Unavailable, "waits for what it needs")),
        Daemon::GivenUp => Some((ServiceState::Gone, "was given up")),
    }
}

fn resource_state(resource: &Resource<'_>, now_nanos: u64) -> Option<(ServiceState, String)> {
    let (since_nanos, why) = match resource.status {
        Status::Available => return None,
        Status::Down { since_nanos, why } => (since_nanos, why.as_str()),
        Status::Held { since_nanos } => (since_nanos, "a person holds it"),
    };
    let state = match resource {
        Resource { given_up: true, .. } => ServiceState::Gone,
        Resource { needed: true, .. } => ServiceState::Unavailable,
        Resource { needed: false, .. } => return None,
    };
    let word = if resource.given_up { "was given up, and is down" } else { "is down" };
    let seconds = now_nanos.saturating_sub(*since_nanos) / 1_000_000_000;
    Some((state, format!("{word} since {seconds} s: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Status {
        Status::Down { since_nanos: 1_000_000_000, why: "connection refused".to_owned() }
    }

    #[test]
    fn s0_16_a_service_is_as_the_worst_of_its_parts() {
        use ServiceState::{Gone, Ready, Unavailable};
        const HELD: Status = Status::Held { since_nanos: 5_000_000_000 };
        for (daemon, status, needed, given_up, expected) in [
            (Daemon::Ready, Status::Available, true, false, Ready),
            (Daemon::Ready, down(), false, false, Ready),
            (Daemon::Ready, HELD, false, false, Ready),
            (Daemon::Ready, down(), true, false, Unavailable),
            (Daemon::Ready, HELD, true, false, Unavailable),
            (Daemon::Starting, Status::Available, true, false, Unavailable),
            (Daemon::Restarting, Status::Available, true, false, Unavailable),
            (Daemon::Waiting, Status::Available, true, false, Unavailable),
            (Daemon::Ready, down(), true, true, Gone),
            (Daemon::Ready, down(), false, true, Gone),
            (Daemon::Starting, down(), true, true, Gone),
            (Daemon::GivenUp, Status::Available, true, false, Gone),
            (Daemon::GivenUp, down(), true, false, Gone),
        ] {
            let resource = Resource { status: &status, needed, given_up };
            let (state, reasons) = of(&[("bank", daemon)], &[("cache", resource)], 13_000_000_000);
            assert_eq!(state, expected, "{daemon:?} {resource:?}");
            assert_eq!(reasons.is_empty(), state == Ready, "{daemon:?} {resource:?}");
        }
        assert_eq!(of(&[], &[], 0), (Ready, Vec::new()));
        let states = [Ready, Unavailable, Gone];
        assert_eq!(states.map(ServiceState::http_status), [200, 503, 410]);
        assert_eq!(states.map(ServiceState::as_str), ["ready", "unavailable", "gone"]);
    }

    #[test]
    fn s0_16_a_host_is_as_its_own_state_and_its_worst_part() {
        use ServiceState::{Gone, Ready, Unavailable};
        for (state, worst, expected) in [
            ("ok", Ready, Ready),
            ("degraded", Ready, Unavailable),
            ("degraded", Unavailable, Unavailable),
            ("degraded", Gone, Gone),
            ("stopping", Ready, Unavailable),
            ("stopping", Gone, Unavailable),
            ("stuck", Gone, Unavailable),
        ] {
            assert_eq!(of_host(state, worst), expected, "{state} {worst:?}");
        }
    }

    #[test]
    fn only_a_host_that_is_stuck_is_not_alive() {
        for (state, status) in
            [("ok", 200), ("degraded", 200), ("starting", 200), ("stopping", 200), ("stuck", 503)]
        {
            assert_eq!(liveness(state), status, "{state}");
        }
    }

    #[test]
    fn the_reasons_are_named_and_the_worst_comes_first() {
        let status = down();
        let cache = Resource { status: &status, needed: true, given_up: false };
        let daemons = [("bank", Daemon::Waiting), ("old", Daemon::GivenUp)];
        let (_, reasons) = of(&daemons, &[("cache", cache)], 13_000_000_000);
        let expected = [
            "daemon `old` was given up",
            "resource `cache` is down since 12 s: connection refused",
            "daemon `bank` waits for what it needs",
        ];
        assert_eq!(reasons, expected);
    }
}
