//! Daemons that have a state and could not be started: what is said of them, and that they count.

use std::sync::Arc;

use host::base::error::{Blame, Code, Fault};
use host::base::limits::DAEMONS_MAX;
use host::mechanisms::sandbox::Guest;
use host::pure::request::Outcome;
use host::tree::{DaemonOptions, DaemonPlan, Unstarted};
use serde_json::json;
use tests::{Tree, deployed, plan};

const BUDGET_BYTES: usize = 4 << 20;

fn unstarted(name: &str, why: Fault) -> Unstarted {
    let options = DaemonOptions::new(name, BUDGET_BYTES);
    Unstarted { options, copied: false, needs: Vec::new(), uses: Vec::new(), why }
}

fn ledger() -> DaemonPlan {
    plan("ledger", &deployed("ledger"), |_| {})
}

#[test]
fn what_one_is_answered_has_the_blame_and_the_remedy_of_what_kept_it_from_starting() {
    let whys = [
        (Code::StoreCorrupt, Blame::Environment),
        (Code::MemoryLimit, Blame::Guest),
        (Code::Budget, Blame::Operator),
        (Code::HostBug, Blame::Host),
    ];
    let name = |code: Code| code.as_str().to_lowercase().replace('_', "-");
    let parked = whys.iter().map(|(code, _)| unstarted(&name(*code), Fault::new(*code, "so")));
    let tree = Tree::beside(vec![ledger()], parked.collect());
    for (code, blame) in whys {
        let Outcome::Rejected(rejection) = tree.call(&name(code), "total", json!({})).outcome
        else {
            panic!("{code}");
        };
        assert_eq!((rejection.code.as_str(), rejection.blame), ("E_PARKED", blame), "{code}");
        for part in [code.as_str(), code.remedy()] {
            assert!(rejection.message.contains(part), "{}", rejection.message);
        }
        let refused = tree.root.fork(&name(code), "copy", None, &|_| panic!()).unwrap_err();
        assert_eq!((refused.code, refused.blame), (Code::Parked, blame), "{refused}");
        let shown = tree.view(&name(code)).report.parked.unwrap();
        assert_eq!((shown.code, shown.blame), (code, blame), "{shown}");
    }
}

#[test]
fn a_copy_is_one_daemon_too_many_where_a_start_would_say_so() {
    let why = Fault::new(Code::StoreCorrupt, "so");
    let others = |count: usize| -> Vec<Unstarted> {
        (0..count).map(|number| unstarted(&format!("other-{number}"), why.clone())).collect()
    };
    let guest = deployed("ledger");
    let deploy = |_: &[u8]| -> Result<Arc<Guest>, Fault> { Ok(guest.clone()) };
    let tree = Tree::beside(vec![ledger()], others(DAEMONS_MAX - 2));
    let (_, snapshot) = tree.root.snapshot("ledger", None).unwrap();
    tree.root.fork("ledger", "last", None, &deploy).unwrap();
    let options = || DaemonOptions::new("more", BUDGET_BYTES);
    for refused in [
        tree.root.fork("ledger", "more", None, &deploy).map(drop).unwrap_err(),
        tree.root.restore(&snapshot, options(), &deploy).map(drop).unwrap_err(),
    ] {
        assert_eq!(refused.code, Code::Name, "{refused}");
        assert!(refused.message.starts_with(&(DAEMONS_MAX + 1).to_string()), "{refused}");
    }
    // There is room again for what takes the place of another one.
    tree.root.remove("last").unwrap();
    tree.root.restore(&snapshot, options(), &deploy).unwrap();
}
