//! The host through its root: requests by name, bound on the client's thread, run on the daemons'.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use host::base::limits::REQUESTS_IN_FLIGHT_MAX;
use host::mechanisms::sandbox::Guest;
use host::pure::request::{Outcome, Request};
use host::tree::{DaemonOptions, DaemonPlan, Root};

use super::quiet_root;

/// A root over some daemons of one guest.
#[derive(Debug)]
pub struct Rooted {
    root: Root,
    owners: usize,
}

fn name_of(owner: usize) -> String {
    format!("owner-{owner}")
}

impl Rooted {
    /// Starts the daemons; each runs `first`, if there is one.
    ///
    /// # Panics
    ///
    /// When they don't start.
    #[must_use]
    pub fn start(
        guest: &Arc<Guest>,
        owners: usize,
        budget_bytes: usize,
        first: Option<&Request>,
    ) -> Self {
        let plans = (0..owners)
            .map(|owner| {
                let options = DaemonOptions::new(name_of(owner), budget_bytes);
                DaemonPlan::new(guest.clone(), options)
            })
            .collect();
        let root = Root::start(plans, quiet_root()).expect("the daemons start");
        for owner in 0..owners {
            let Some(first) = first else { continue };
            let request = Request { daemon: name_of(owner), ..first.clone() };
            let answer = root.call(request).expect("the daemon answers");
            assert!(matches!(answer.outcome, Outcome::Committed(_)), "{answer:?}");
        }
        Self { root, owners }
    }

    /// Sends the requests to each of the first `owners` daemons, as many at once as the host's own
    /// clients do, and answers how many were run in a second.
    ///
    /// # Panics
    ///
    /// When a request crashes.
    #[must_use]
    pub fn per_second(&self, requests: &[Request], owners: usize) -> f64 {
        assert!(owners <= self.owners, "there are only {} daemons", self.owners);
        // What a client would have parsed is made before the time starts.
        let requests: Vec<Request> = requests
            .iter()
            .flat_map(|request| {
                (0..owners).map(|owner| Request { daemon: name_of(owner), ..request.clone() })
            })
            .collect();
        let count = requests.len();
        let (reply, answers) = sync_channel::<bool>(REQUESTS_IN_FLIGHT_MAX);
        let start = Instant::now();
        let mut running = 0;
        for request in requests {
            if running == REQUESTS_IN_FLIGHT_MAX {
                assert!(answers.recv().expect("an answer"), "a request crashed");
                running -= 1;
            }
            let reply = reply.clone();
            running += 1;
            self.root.submit(
                request,
                Box::new(move |answer| {
                    let answered = !matches!(answer.outcome, Outcome::Crashed(_));
                    reply.send(answered).expect("the client waits for all answers");
                }),
            );
        }
        for _ in 0..running {
            assert!(answers.recv().expect("an answer"), "a request crashed");
        }
        count as f64 / start.elapsed().as_secs_f64()
    }
}
