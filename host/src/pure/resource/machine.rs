//! The machine of one resource.

use super::{Action, Actions, Change, Event, Policy, Status, nanos};
use crate::base::ids::ResourceGeneration;
use crate::base::limits::{
    CHECK_EVERY, CHECK_TIME_MAX, CONNECT_TIME_MAX, INIT_JOB_TIME_MAX, PROBE_GAP, UP_STABLE,
};

/// What is under way. All times are monotonic nanoseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Until its next attempt.
    Waiting(u64),
    /// Since the attempt began; given up at this time.
    Connecting(u64),
    /// The job of this index runs; given up at this time.
    Initializing(usize, u64),
    /// Until this time.
    Settling(u64),
    /// Asked whether it has survived that; given up at this time.
    Proving(u64),
    /// It may be used.
    Available(Watch),
    /// Since then.
    Held(u64),
    Stopped,
}

/// How an available resource is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Watch {
    /// When it is to be asked, or when its answer is late.
    due: u64,
    asked: Option<Asked>,
    /// A connection died after it was asked last.
    suspect: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    Check,
    Probe,
}

/// Decides about one resource: plain values in, plain values out.
///
/// It begins down: the first [`Event::Due`] makes it connect. An event that doesn't fit what is
/// under way changes nothing.
#[derive(Clone, Debug)]
pub struct Machine {
    policy: Policy,
    jobs: usize,
    stateless: bool,
    phase: Phase,
    generation: ResourceGeneration,
    /// When it was last not available any more, and why it isn't yet.
    down_since: u64,
    why: String,
    /// When it was last announced.
    up_since: u64,
    flaps: u32,
    /// Attempts to connect since then.
    attempts: u32,
    /// Not probed again before this time.
    probe_from: u64,
}

impl Machine {
    /// A resource that has not been connected yet, with so many init jobs.
    #[must_use]
    pub fn new(policy: Policy, jobs: usize, now_nanos: u64) -> Self {
        Self {
            policy,
            jobs,
            stateless: false,
            phase: Phase::Waiting(now_nanos),
            generation: ResourceGeneration::default(),
            down_since: now_nanos,
            why: "it has not been connected yet".to_owned(),
            up_since: 0,
            flaps: 0,
            attempts: 0,
            probe_from: 0,
        }
    }

    /// A resource that is always available: there is nothing that could die. Its first event
    /// announces it, and nothing else ever happens.
    #[must_use]
    pub fn stateless() -> Self {
        Self { stateless: true, ..Self::new(Policy::default(), 0, 0) }
    }

    /// Decides what is to be done about `event` at `now_nanos`, monotonic. `random` is any number:
    /// it spreads attempts to connect.
    #[must_use = "actions that are not carried out leave the resource in limbo"]
    pub fn on(&mut self, event: Event, now_nanos: u64, random: u64) -> Actions {
        let mut actions = Actions::new();
        let (now, out) = (now_nanos, &mut actions);
        if self.stateless {
            if self.generation == ResourceGeneration::default() {
                self.announce_up(out);
            }
            return actions;
        }
        self.forget_flaps(now);
        match (event, self.phase) {
            // A connection that nobody waits for.
            (Event::Connected, Phase::Waiting(_) | Phase::Held(_) | Phase::Stopped) => {
                out.push(Action::Disconnect);
            }
            (_, Phase::Stopped) => {}
            (Event::Stop, _) => self.leave(Phase::Stopped, "its service has ended", now, out),
            (Event::Release, Phase::Held(_)) => {
                "it was released, and is not connected yet".clone_into(&mut self.why);
                self.attempts = 0;
                self.connect(now, out);
            }
            (_, Phase::Held(_)) => {}
            (Event::Hold, _) => self.leave(Phase::Held(now), "a person took it down", now, out),
            (Event::Connected, Phase::Connecting(_)) => self.job(0, now, out),
            (Event::JobDone, Phase::Initializing(job, _)) => self.job(job + 1, now, out),
            (Event::JobFailed(why), Phase::Initializing(job, _)) => {
                self.fail(&format!("init job {}: {why}", job + 1), now, random, out);
            }
            (Event::CheckPassed, Phase::Proving(_)) => self.up(now, out),
            (Event::CheckPassed, Phase::Available(watch)) => self.passed(watch, now, out),
            // What fails now was under way, whatever the driver calls it.
            (
                Event::ConnectFailed(why) | Event::JobFailed(why) | Event::CheckFailed(why),
                phase,
            ) if phase.works() => self.fail(&why, now, random, out),
            (Event::ConnectionDied(_), Phase::Available(watch)) => self.suspect(watch, now, out),
            (
                Event::ConnectionDied(why),
                Phase::Initializing(..) | Phase::Settling(_) | Phase::Proving(_),
            ) => self.fail(&why, now, random, out),
            (Event::Due, phase) => self.due(phase, now, random, out),
            _ => {}
        }
        actions
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.phase {
            _ if self.stateless => Status::Available,
            Phase::Available(_) => Status::Available,
            Phase::Held(since_nanos) => Status::Held { since_nanos },
            _ => Status::Down { since_nanos: self.down_since, why: self.why.clone() },
        }
    }

    /// Whether a connection has died, and it is not known yet what that means.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        let Phase::Available(watch) = self.phase else { return false };
        watch.suspect || watch.asked == Some(Asked::Probe)
    }

    /// How often in a row it went down soon after it had come up.
    #[must_use]
    pub fn flaps(&self) -> u32 {
        self.flaps
    }

    /// How often it was announced; 0 before the first time.
    #[must_use]
    pub fn generation(&self) -> ResourceGeneration {
        self.generation
    }

    /// When it wants to hear [`Event::Due`], in monotonic nanoseconds: the next attempt, check or
    /// end of patience; none while it is held, after its end, and for stateless ones.
    #[must_use]
    pub fn due_nanos(&self) -> Option<u64> {
        self.phase.due().filter(|_| !self.stateless)
    }

    fn due(&mut self, phase: Phase, now: u64, random: u64, out: &mut Actions) {
        match (phase, phase.due()) {
            (_, Some(due)) if now < due => out.push(Action::WakeAt(due)),
            (Phase::Waiting(_), _) => self.connect(now, out),
            (Phase::Settling(_), _) => {
                let late = now.saturating_add(nanos(CHECK_TIME_MAX));
                self.phase = Phase::Proving(late);
                out.extend([Action::Check, Action::WakeAt(late)]);
            }
            (Phase::Available(Watch { asked: None, suspect, .. }), _) => {
                self.ask(suspect, now, out);
            }
            (Phase::Connecting(_), _) => {
                let why = format!("it did not connect within {CONNECT_TIME_MAX:?}");
                self.fail(&why, now, random, out);
            }
            (Phase::Initializing(job, _), _) => {
                let why =
                    format!("init job {}: it did not end within {INIT_JOB_TIME_MAX:?}", job + 1);
                self.fail(&why, now, random, out);
            }
            (Phase::Proving(_) | Phase::Available(_), _) => {
                let why = format!("it did not check within {CHECK_TIME_MAX:?}");
                self.fail(&why, now, random, out);
            }
            (Phase::Held(_) | Phase::Stopped, _) => {}
        }
    }

    fn connect(&mut self, now: u64, out: &mut Actions) {
        let late = now.saturating_add(nanos(CONNECT_TIME_MAX));
        self.attempts = self.attempts.saturating_add(1);
        self.phase = Phase::Connecting(late);
        out.extend([Action::Connect, Action::WakeAt(late)]);
    }

    /// Runs this job, or goes on when there are no more.
    fn job(&mut self, job: usize, now: u64, out: &mut Actions) {
        if job < self.jobs {
            let late = now.saturating_add(nanos(INIT_JOB_TIME_MAX));
            self.phase = Phase::Initializing(job, late);
            out.extend([Action::RunJob(job), Action::WakeAt(late)]);
        } else if self.generation == ResourceGeneration::default() {
            // Nobody was started yet who could be started too often.
            self.up(now, out);
        } else {
            let due = now.saturating_add(self.policy.settling_nanos(self.flaps));
            self.phase = Phase::Settling(due);
            out.push(Action::WakeAt(due));
        }
    }

    fn up(&mut self, now: u64, out: &mut Actions) {
        let due = now.saturating_add(nanos(CHECK_EVERY));
        self.phase = Phase::Available(Watch { due, asked: None, suspect: false });
        (self.up_since, self.attempts) = (now, 0);
        self.announce_up(out);
        out.push(Action::WakeAt(due));
    }

    fn announce_up(&mut self, out: &mut Actions) {
        self.generation = self.generation.next();
        out.push(Action::Announce(Change::Up { generation: self.generation }));
    }

    fn ask(&mut self, suspect: bool, now: u64, out: &mut Actions) {
        let late = now.saturating_add(nanos(CHECK_TIME_MAX));
        let (asked, action) =
            if suspect { (Asked::Probe, Action::Probe) } else { (Asked::Check, Action::Check) };
        self.phase = Phase::Available(Watch { due: late, asked: Some(asked), suspect: false });
        out.extend([action, Action::WakeAt(late)]);
    }

    fn passed(&mut self, watch: Watch, now: u64, out: &mut Actions) {
        let Some(asked) = watch.asked else { return };
        if asked == Asked::Probe {
            self.probe_from = now.saturating_add(nanos(PROBE_GAP));
        }
        let next = now.saturating_add(nanos(CHECK_EVERY));
        let due = if watch.suspect { self.probe_from } else { next };
        self.watch(Watch { due, asked: None, ..watch }, now, out);
    }

    fn suspect(&mut self, watch: Watch, now: u64, out: &mut Actions) {
        let watch = Watch { suspect: true, ..watch };
        if watch.asked.is_some() {
            // The answer may be older than this death: it is asked once more after it.
            self.phase = Phase::Available(watch);
        } else {
            self.watch(Watch { due: self.probe_from, ..watch }, now, out);
        }
    }

    fn watch(&mut self, watch: Watch, now: u64, out: &mut Actions) {
        if watch.due <= now {
            self.ask(watch.suspect, now, out);
        } else {
            self.phase = Phase::Available(watch);
            out.push(Action::WakeAt(watch.due));
        }
    }

    /// What was under way failed: it is tried again, after an available resource's death at once.
    fn fail(&mut self, why: &str, now: u64, random: u64, out: &mut Actions) {
        let delay = self.policy.backoff.delay_nanos(self.attempts, random);
        let due = now.saturating_add(delay);
        self.leave(Phase::Waiting(due), why, now, out);
        if delay == 0 {
            self.connect(now, out);
        } else {
            out.push(Action::WakeAt(due));
        }
    }

    /// Goes down, if it was up, and disconnects, if it was connected.
    fn leave(&mut self, next: Phase, why: &str, now: u64, out: &mut Actions) {
        why.clone_into(&mut self.why);
        if let Phase::Available(_) = self.phase {
            // What a person does says nothing of the resource.
            if now < self.stable_at() && !matches!(next, Phase::Held(_)) {
                self.flaps = self.flaps.saturating_add(1);
            }
            self.down_since = now;
            let change = Change::Down { since_nanos: now, why: why.to_owned() };
            out.push(Action::Announce(change));
        }
        if self.phase.works() {
            out.push(Action::Disconnect);
        }
        self.phase = next;
    }

    fn forget_flaps(&mut self, now: u64) {
        if matches!(self.phase, Phase::Available(_)) && now >= self.stable_at() {
            self.flaps = 0;
        }
    }

    fn stable_at(&self) -> u64 {
        self.up_since.saturating_add(nanos(UP_STABLE))
    }
}

impl Phase {
    /// Whether there is a connection, or an attempt to get one.
    fn works(self) -> bool {
        !matches!(self, Self::Waiting(_) | Self::Held(_) | Self::Stopped)
    }

    fn due(self) -> Option<u64> {
        match self {
            Self::Waiting(due)
            | Self::Connecting(due)
            | Self::Initializing(_, due)
            | Self::Settling(due)
            | Self::Proving(due) => Some(due),
            Self::Available(watch) => Some(watch.due),
            Self::Held(_) | Self::Stopped => None,
        }
    }
}
