//! Watches a tree, and knows what must never happen in it.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use supervisor::clock::Clock;
use supervisor::{Event, Generation, Intensity, Observed, Observer, Strategy};

use crate::clock::SimulatedClock;

/// What is known of one place of the tree.
#[derive(Debug, Default)]
struct Known {
    generation: u64,
    /// Its generation has begun and not ended.
    alive: bool,
    started: bool,
    /// It is over or parked.
    down: bool,
    /// It has started or ended since its group was started.
    settled: bool,
    recorded: bool,
    hooked: bool,
    told: bool,
    ended_once: bool,
    /// Moments of its own restarts since its group was started, or since it was parked.
    restarts_nanos: Vec<u64>,
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) strategy: Strategy,
    pub(crate) siblings: Vec<String>,
    pub(crate) intensity: Intensity,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<String, Known>,
    trace: String,
    next: u64,
    wrong: Vec<String>,
    counts: HashMap<&'static str, u64>,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    clock: SimulatedClock,
    /// By path.
    rules: HashMap<String, Rule>,
    state: Mutex<State>,
    this: Weak<Oracle>,
    running: Mutex<HashMap<String, u64>>,
}

/// A generation's own code has not ended while this is there.
pub(crate) struct Alive {
    oracle: Arc<Oracle>,
    path: String,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.oracle.running.lock().unwrap().remove(&self.path);
    }
}

impl Oracle {
    pub(crate) fn new(clock: SimulatedClock, rules: HashMap<String, Rule>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            clock,
            rules,
            state: Mutex::default(),
            this: Weak::clone(this),
            running: Mutex::default(),
        })
    }

    /// A generation's code begins.
    pub(crate) fn begins(&self, path: &str, generation: Generation) -> Alive {
        let before = self.running.lock().unwrap().insert(path.to_owned(), generation.0);
        if let Some(before) = before {
            self.wrong(format!("{path}: {generation} begins while {before} runs"));
        }
        Alive { oracle: self.this.upgrade().unwrap(), path: path.to_owned() }
    }

    fn wrong(&self, what: String) {
        self.state.lock().unwrap().wrong.push(what);
    }

    /// All that happened, after the end; what was wrong, if anything.
    pub(crate) fn finish(&self) -> (String, Vec<String>, HashMap<&'static str, u64>) {
        let mut state = std::mem::take(&mut *self.state.lock().unwrap());
        for (path, known) in &state.known {
            if known.alive {
                state.wrong.push(format!("{path} is alive after the end"));
            }
        }
        for path in self.running.lock().unwrap().keys() {
            state.wrong.push(format!("{path} runs after the end"));
        }
        (state.trace, state.wrong, state.counts)
    }
}

impl State {
    fn see(&mut self, rules: &HashMap<String, Rule>, now: u64, observed: &Observed<'_>) {
        let Observed { path, generation, event, .. } = *observed;
        let known = self.known.entry(path.to_owned()).or_default();
        let mut wrong = Vec::new();
        let mut check = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{path} {generation} {event:?}: {what}"));
            }
        };
        if !matches!(event, Event::Starting | Event::Restarting(_) | Event::Parked | Event::Over) {
            check(known.alive, "it has ended");
            check(known.generation == generation.0, "another generation");
        }
        match event {
            Event::Starting => {
                check(!known.alive, "the one before has not ended");
                check(generation.0 == known.generation + 1, "not the next generation");
                check(known.hooked == known.recorded, "the hook was not called");
                *known = Known {
                    generation: generation.0,
                    alive: true,
                    settled: known.settled,
                    restarts_nanos: std::mem::take(&mut known.restarts_nanos),
                    ..Known::default()
                };
            }
            Event::Started => (known.started, known.settled) = (true, true),
            Event::Irrecoverable(_) => {
                check(!known.recorded, "recorded before");
                known.recorded = true;
            }
            Event::HookReturned | Event::HookFailed(_) => {
                check(known.recorded && !known.hooked, "nothing to call the hook for");
                known.hooked = true;
            }
            Event::Acked => check(known.hooked && !known.ended_once, "before the hook"),
            Event::Cancelled => {
                check(!known.told, "told before");
                known.told = true;
            }
            Event::Aborted => check(known.told || known.recorded, "not told before"),
            Event::Stuck => check(false, "nothing blocks here"),
            Event::Ended(_) => {
                check(known.hooked == known.recorded, "the hook was not called");
                (known.alive, known.ended_once, known.settled) = (false, true, true);
            }
            Event::Restarting(after) => {
                let Rule { intensity, .. } = &rules[path];
                let at = now + after;
                known.restarts_nanos.push(at);
                let window = u64::try_from(intensity.window().as_nanos()).unwrap();
                let inside = known.restarts_nanos.iter().filter(|&&then| at - then < window);
                check(inside.count() <= intensity.restarts_max() as usize, "too often");
            }
            Event::Parked | Event::Over => {
                known.down = true;
                known.restarts_nanos.clear();
            }
        }
        self.wrong.append(&mut wrong);
        self.order(rules, observed);
    }

    /// Starts in order, stops in reverse order.
    fn order(&mut self, rules: &HashMap<String, Rule>, observed: &Observed<'_>) {
        let Observed { path, generation, event, .. } = *observed;
        let Some(Rule { strategy, siblings, .. }) = rules.get(path) else { return };
        let place = siblings.iter().position(|sibling| sibling == path).unwrap();
        let known = |path: &String| self.known.get(path);
        let mut wrong = None;
        match event {
            Event::Starting => {
                let in_order = |sibling: &Known| match strategy {
                    Strategy::OneForOne => sibling.settled || sibling.down,
                    _ => sibling.started || sibling.down,
                };
                let settled = |sibling: &String| known(sibling).is_some_and(in_order);
                let first = *strategy != Strategy::OneForOne || generation.0 == 1;
                if first && !siblings[..place].iter().all(settled) {
                    wrong = Some("an earlier sibling has not started");
                }
            }
            // Told by its group: not for an error of its own.
            Event::Cancelled if !self.known[path].recorded && self.known[path].started => {
                let alive = |sibling: &String| known(sibling).is_some_and(|one| one.alive);
                if siblings[place + 1..].iter().any(alive) {
                    wrong = Some("a later sibling has not ended");
                }
            }
            _ => {}
        }
        if let Some(wrong) = wrong {
            self.wrong.push(format!("{path} {generation} {event:?}: {wrong}"));
        }
        // With its group's start a child begins anew.
        if matches!(event, Event::Starting) {
            let prefix = format!("{path}/");
            for (_, known) in self.known.iter_mut().filter(|(path, _)| path.starts_with(&prefix)) {
                *known = Known { generation: known.generation, ..Known::default() };
            }
        }
    }
}

impl Observer for Oracle {
    fn observe(&self, observed: &Observed<'_>) {
        let Observed { sequence, path, generation, event } = *observed;
        let now = self.clock.now_nanos();
        let state = &mut *self.state.lock().unwrap();
        if sequence != state.next {
            state.wrong.push(format!("{sequence} comes after {}", state.next));
        }
        state.next = sequence + 1;
        let name = match event {
            Event::Restarting(_) => "restarted",
            Event::Aborted => "aborted",
            Event::Parked => "parked",
            Event::HookFailed(_) => "hook failed",
            Event::Acked => "acked",
            _ => "other",
        };
        *state.counts.entry(name).or_default() += 1;
        let event = match event {
            Event::Irrecoverable(error) => format!("recorded: {error}"),
            other => format!("{other:?}"),
        };
        let now = Duration::from_nanos(now);
        writeln!(state.trace, "{now:?} {path} {generation} {event}").unwrap();
        state.see(&self.rules, self.clock.now_nanos(), observed);
    }
}
