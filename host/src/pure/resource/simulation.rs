//! Thousands of resources that die, hang, flap and are held at random, on a clock of their own. The
//! oracle knows what was told to the machine and what it answered, and nothing of its inside.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use supervisor::policy::Backoff;

use super::*;
use crate::base::limits::{CHECK_EVERY, CHECK_TIME_MAX, PROBE_GAP, UP_STABLE};
use crate::pure::dice::{Dice, seeds};

const MS: u64 = 1_000_000;
const MINUTE: u64 = 60_000 * MS;

/// What a driver does, as far as one resource sees it.
#[derive(Default)]
struct Driver {
    /// What is under way: when it ends, and how.
    work: Option<(u64, Event)>,
    wake: Option<u64>,
}

/// What is known from events and actions alone.
#[derive(Default)]
struct Oracle {
    available: bool,
    held: bool,
    stopped: bool,
    /// There is a connection, or an attempt.
    trying: bool,
    connected: bool,
    /// It failed since it was connected.
    broken: bool,
    jobs_done: usize,
    job_runs: bool,
    asked_at: Option<u64>,
    generation: u64,
    up_at: u64,
    down_at: u64,
    flaps: u32,
    /// When it was last known to be alive.
    alive_at: u64,
    ups: VecDeque<u64>,
}

struct World {
    machine: Machine,
    driver: Driver,
    oracle: Oracle,
    jobs: usize,
    up_delay: u64,
    dice: Dice,
    now: u64,
    trace: String,
}

impl World {
    fn tell(&mut self, event: Event) {
        let ends = self.oracle.hear(&event, self.now);
        let must_go_down = self.oracle.available && ends;
        let actions = self.machine.on(event.clone(), self.now, self.dice.roll());
        writeln!(self.trace, "{} {event:?} -> {actions:?}", self.now).unwrap();
        if must_go_down {
            let first = actions.first();
            let told = matches!(first, Some(Action::Announce(Change::Down { .. })));
            assert!(told, "a death was not announced at once");
        }
        assert!(actions.len() <= 4, "more than there is room for: {actions:?}");
        for action in actions {
            self.obey(action);
        }
        self.compare();
    }

    fn obey(&mut self, action: Action) {
        let (now, oracle) = (self.now, &mut self.oracle);
        match action {
            Action::Connect => {
                assert!(!oracle.trying && !oracle.held && !oracle.stopped);
                (oracle.trying, oracle.connected, oracle.broken) = (true, false, false);
                (oracle.jobs_done, oracle.job_runs, oracle.asked_at) = (0, false, None);
                self.work(3_500, Event::Connected, Event::ConnectFailed("refused".into()));
            }
            Action::RunJob(job) => {
                assert!(oracle.connected && !oracle.job_runs && !oracle.available);
                assert_eq!(job, oracle.jobs_done, "jobs are not in order");
                oracle.job_runs = true;
                self.work(2_000, Event::JobDone, Event::JobFailed("error".into()));
            }
            Action::Check | Action::Probe => {
                assert!(oracle.connected && oracle.jobs_done == self.jobs);
                assert_eq!(oracle.asked_at, None, "asked twice at once");
                assert!(oracle.available || action == Action::Check);
                oracle.asked_at = Some(now);
                self.work(1_200, Event::CheckPassed, Event::CheckFailed("timeout".into()));
            }
            Action::Disconnect => {
                (oracle.trying, oracle.connected, oracle.asked_at) = (false, false, None);
                self.driver.work = None;
            }
            Action::Announce(Change::Up { generation }) => {
                assert!(!oracle.available && !oracle.held && !oracle.stopped);
                assert!(oracle.connected && !oracle.broken, "up without a connection");
                assert_eq!(oracle.jobs_done, self.jobs, "up before its jobs were done");
                assert_eq!(generation.0, oracle.generation + 1);
                let proven = oracle.generation == 0 || oracle.alive_at == now;
                assert!(proven, "up without a proof that it has survived so long");
                let times = 1_u64 << oracle.flaps.min(20);
                let least = (self.up_delay * times).min(30_000 * MS);
                let waited = now - oracle.down_at;
                assert!(oracle.generation == 0 || waited >= least, "{waited} < {least}");
                (oracle.generation, oracle.available) = (generation.0, true);
                (oracle.up_at, oracle.alive_at) = (now, now);
                oracle.ups.push_back(now);
                while oracle.ups.front().is_some_and(|&up| up + MINUTE <= now) {
                    oracle.ups.pop_front();
                }
                let most = ups_max(self.up_delay);
                assert!(oracle.ups.len() as u64 <= most, "more than {most} ups in a minute");
            }
            Action::Announce(Change::Down { since_nanos, .. }) => {
                assert!(oracle.available && since_nanos == now);
                let flapped = now - oracle.up_at < nanos(UP_STABLE);
                let more = u32::from(!oracle.held);
                oracle.flaps = if flapped { oracle.flaps + more } else { 0 };
                (oracle.available, oracle.down_at) = (false, now);
            }
            Action::WakeAt(at) => {
                assert!(at > now || self.machine.due_nanos() == Some(at));
                self.driver.wake = Some(at);
            }
        }
    }

    /// Lets what is under way end well, badly or never, within `most` milliseconds.
    fn work(&mut self, most: u64, good: Event, bad: Event) {
        let took = self.dice.below(most) * [0, 0, 1][self.dice.index(3)] * MS;
        let event = [&good, &good, &good, &bad][self.dice.index(4)].clone();
        self.driver.work = (self.dice.below(12) > 0).then_some((self.now + took, event));
    }

    /// What people see is what was announced, and something always goes on.
    fn compare(&self) {
        let oracle = &self.oracle;
        match self.machine.status() {
            Status::Available => assert!(oracle.available),
            Status::Held { .. } => assert!(oracle.held && !oracle.available),
            Status::Down { since_nanos, .. } => {
                assert!(!oracle.available && !oracle.held);
                assert_eq!(since_nanos, oracle.down_at);
            }
        }
        let idle = oracle.held || oracle.stopped;
        assert_eq!(self.machine.due_nanos().is_none(), idle);
        assert!(idle || self.driver.wake.is_some(), "nothing wakes it");
        assert!(!idle || !oracle.trying, "a connection is left");
        let patience = nanos(CHECK_EVERY + CHECK_TIME_MAX + PROBE_GAP);
        let known = oracle.alive_at + patience;
        assert!(!oracle.available || self.now <= known, "nobody noticed that it is dead");
    }

    /// The next thing that happens by itself, or somebody's doing before that.
    fn step(&mut self) {
        let work = self.driver.work.as_ref().map(|(at, _)| *at);
        let next = [work, self.driver.wake].into_iter().flatten().min();
        let patience = [50, 500, 5_000, 15_000][self.dice.index(4)];
        let chance = self.now + self.dice.below(patience * MS);
        if next.is_none_or(|next| chance < next) {
            self.now = chance;
            let event = self.chance();
            return self.tell(event);
        }
        self.now = next.unwrap_or(chance);
        if work == next {
            let Some((_, event)) = self.driver.work.take() else { return };
            self.tell(event);
        } else {
            self.driver.wake = None;
            self.tell(Event::Due);
        }
    }

    /// What the world or a person does; now and then what no driver should say.
    fn chance(&mut self) -> Event {
        match self.dice.below(60) {
            0..12 => Event::ConnectionDied("reset".into()),
            12..20 => Event::CheckFailed("its keeper panicked".into()),
            20..24 => Event::Hold,
            24..40 => Event::Release,
            40..44 => Event::Due,
            44 => Event::Connected,
            45 => Event::JobDone,
            46 => Event::CheckPassed,
            47 => Event::JobFailed("nonsense".into()),
            48 => Event::ConnectFailed("nonsense".into()),
            49 if self.dice.below(20) == 0 => Event::Stop,
            _ => Event::ConnectionDied("closed".into()),
        }
    }
}

impl Oracle {
    /// Notes what an event says; answers whether an available resource is down by it.
    fn hear(&mut self, event: &Event, now: u64) -> bool {
        match event {
            Event::Connected => self.connected |= self.trying,
            Event::JobDone => {
                self.jobs_done += usize::from(self.job_runs);
                self.job_runs = false;
            }
            Event::CheckPassed if self.asked_at.take().is_some() => self.alive_at = now,
            Event::ConnectionDied(_) => self.broken |= self.connected && !self.available,
            Event::ConnectFailed(_) | Event::JobFailed(_) | Event::CheckFailed(_) => {
                self.broken = true;
                return true;
            }
            Event::Hold if !self.stopped => {
                self.held = true;
                return true;
            }
            Event::Release => self.held = false,
            Event::Stop => {
                (self.stopped, self.held) = (true, false);
                return true;
            }
            Event::Due => {
                let late = nanos(CHECK_TIME_MAX);
                return self.asked_at.is_some_and(|asked| now >= asked + late);
            }
            Event::CheckPassed | Event::Hold => {}
        }
        false
    }
}

/// Ups that fit into a minute: `stable` runs of ten seconds part it, and between two of these each
/// takes twice as long as the one before.
fn ups_max(up_delay: u64) -> u64 {
    let fits = |stable: u64| {
        let share = (MINUTE - stable * nanos(UP_STABLE)) / (stable + 1) / up_delay;
        (stable + 1) * u64::from((share + 1).ilog2() + 1) + 1
    };
    (0..6).map(fits).max().unwrap_or(0)
}

/// One resource under one seed. Answers what happened, line by line.
fn simulate(seed: u64) -> (String, u64) {
    let mut dice = Dice(seed);
    let (jobs, up_delay) = (dice.index(4), [1, 10, 100, 2_000][dice.index(4)]);
    let longest = Duration::from_millis([100, 3_000, 30_000][dice.index(3)]);
    let backoff = Backoff::new(Duration::from_millis(100), 2, longest, 20).unwrap();
    let policy = Policy::new(backoff, Duration::from_millis(up_delay));
    let now = dice.below(1_000) * MS;
    let mut world = World {
        machine: Machine::new(policy, jobs, now),
        driver: Driver { work: None, wake: Some(now) },
        oracle: Oracle { down_at: now, ..Oracle::default() },
        jobs,
        up_delay: up_delay * MS,
        dice,
        now,
        trace: String::new(),
    };
    for _ in 0..300 {
        world.step();
    }
    (world.trace, world.oracle.generation)
}

#[test]
fn s0_06_s0_11_s0_12_thousands_of_resources_and_the_same_seed_gives_the_same_trace() {
    let seeds = seeds(10_000);
    let mut ups = 0;
    for seed in 0..seeds {
        let run = || std::panic::catch_unwind(|| simulate(seed));
        let (trace, generation) = run().unwrap_or_else(|_| panic!("seed {seed}"));
        ups += generation;
        if seed % 20 == 0 {
            assert_eq!(run().unwrap().0, trace, "seed {seed} has two traces");
        }
    }
    assert!(ups > 5 * seeds, "{ups} ups: too few to tell");
}
