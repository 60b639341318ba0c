//! The comparisons. Each is a race and the rows that come of it.

pub mod barrier;
pub mod branches;
pub mod calls;
pub mod cards;
pub mod durable;
pub mod latency;
pub mod readers;
pub mod recovery;
pub mod resources;
pub mod restart;
pub mod stop;
pub mod storm;
pub mod supervise;
pub mod throughput;

use host::mechanisms::sandbox::{Sandbox, SandboxOptions};

use crate::table::Table;

/// What all comparisons share.
#[derive(Debug)]
pub struct Setup {
    /// The host's engine, as it is by default.
    pub sandbox: Sandbox,
    /// How many rounds are run, in percent of what gives stable medians.
    pub rounds_percent: usize,
}

impl Setup {
    /// Sets up the engine.
    ///
    /// # Panics
    ///
    /// When this machine can't run it.
    #[must_use]
    pub fn new(rounds_percent: usize) -> Self {
        let sandbox = Sandbox::new(SandboxOptions::default()).expect("an engine");
        Self { sandbox, rounds_percent }
    }

    /// That many rounds, more or fewer as the user wishes; at least three.
    #[must_use]
    pub fn rounds(&self, usual: usize) -> usize {
        (usual * self.rounds_percent / 100).max(3)
    }
}

/// A comparison.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Runs it.
    pub run: fn(&Setup, &mut Table),
}

/// All comparisons.
pub const SECTIONS: [Section; 14] = [
    Section {
        name: "restart",
        about: "crash to next commit; fork, pooled instances and Erlang/OTP next to it",
        run: restart::run,
    },
    Section {
        name: "supervise",
        about: "crash to reply of a native component; ractor and Erlang/OTP next to it",
        run: supervise::run,
    },
    Section {
        name: "latency",
        about: "one-key transactions; SQLite next to them",
        run: latency::run,
    },
    Section {
        name: "throughput",
        about: "counter and SmallBank, one daemon and two; SQLite next to them",
        run: throughput::run,
    },
    Section {
        name: "barrier",
        about: "what the write barrier costs while a guest computes",
        run: barrier::run,
    },
    Section {
        name: "durable",
        about: "durable SmallBank, 1, 8, 64 clients; bare appends, SQLite, Redis, PostgreSQL",
        run: durable::run,
    },
    Section {
        name: "recovery",
        about: "kill -9 to the first answer, by the size of the state and the commits not folded",
        run: recovery::run,
    },
    Section {
        name: "branches",
        about: "a durable copy of a daemon, and undoing its last commit",
        run: branches::run,
    },
    Section {
        name: "stop",
        about: "host stop of a thousand daemons; TERM and wait of as many processes",
        run: stop::run,
    },
    Section {
        name: "storm",
        about: "a daemon's latency beside crashes, dying threads and ordinary commits",
        run: storm::run,
    },
    Section {
        name: "resources",
        about: "death and return of a resource that 1, 100 and 1,000 daemons need",
        run: resources::run,
    },
    Section {
        name: "calls",
        about: "a transaction that asks a Redis, next to the client that the host uses",
        run: calls::run,
    },
    Section {
        name: "readers",
        about: "reads beside a writer, of a daemon with 0, 1 and 2 readers",
        run: readers::run,
    },
    Section { name: "cards", about: "commits with cards of several sizes", run: cards::run },
];
