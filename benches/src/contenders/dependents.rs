//! Daemons that need one resource, which dies and comes back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use host::mechanisms::providers::directory::Directory;
use host::mechanisms::sandbox::Sandbox;
use host::pure::manifest::Access;
use host::pure::request::{Answer, Outcome, Request};
use host::pure::resource::Policy;
use host::tree::{DaemonOptions, DaemonPlan, DaemonState, ResourcePlan, Root, RootOptions};
use serde_json::json;
use supervisor::Backoff;

use super::{MIB, deploy, quiet_root};

const RESOURCE: &str = "bench/place";

/// How long a recovery has to last. The resource has died before, soon after it had come: twice
/// this.
pub const SETTLES: Duration = Duration::from_millis(1);

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it took.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From the death to the last daemon without an instance.
    pub waiting: Duration,
    /// From the return to the first answer of a request that waited.
    pub first: Duration,
    /// To the last daemon's.
    pub last: Duration,
}

/// Starts that many daemons, lets their resource die and come back.
///
/// # Panics
///
/// When something doesn't work.
#[must_use]
pub fn die_and_return(sandbox: &Sandbox, count: usize) -> Times {
    let guest = deploy(sandbox, "counter");
    let name = |index: usize| format!("d{index}");
    let plan = |index| {
        let options = DaemonOptions::new(name(index), MIB + MIB / 2);
        let needs = vec![RESOURCE.to_owned()];
        DaemonPlan { needs, ..DaemonPlan::new(guest.clone(), options) }
    };
    let backoff = Backoff::new(SETTLES, 1, SETTLES, 0).expect("a delay");
    let resource = ResourcePlan {
        name: RESOURCE.to_owned(),
        provider: Arc::new(Directory::new(PathBuf::from("/"), Access::Read)),
        jobs: Vec::new(),
        policy: Policy::new(backoff, SETTLES),
    };
    let options = RootOptions { resources: vec![resource], ..quiet_root() };
    let root = Root::start((0..count).map(plan).collect(), options).expect("the daemons start");
    let all = |state: DaemonState| root.daemons().iter().all(|daemon| daemon.report.state == state);
    assert!(all(DaemonState::Ready));
    let start = Instant::now();
    root.switch_resource(RESOURCE, true).expect("it can be switched");
    while !all(DaemonState::Waiting) {
        assert!(start.elapsed() < PATIENCE, "they don't wait");
    }
    let waiting = start.elapsed();
    let (sender, answers) = channel::<Answer>();
    for index in 0..count {
        let sender = sender.clone();
        let args = json!({"by": 1});
        let request =
            Request { wait: Some(PATIENCE), ..Request::new(name(index), "increment", args) };
        root.submit(request, Box::new(move |answer| drop(sender.send(answer))));
    }
    let start = Instant::now();
    root.switch_resource(RESOURCE, false).expect("it can be switched");
    let mut times = Times { waiting, first: Duration::ZERO, last: Duration::ZERO };
    for number in 0..count {
        let answer = answers.recv_timeout(PATIENCE).expect("an answer");
        assert!(matches!(answer.outcome, Outcome::Committed(_)), "{answer:?}");
        if number == 0 {
            times.first = start.elapsed();
        }
    }
    times.last = start.elapsed();
    times
}
