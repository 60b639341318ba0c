//! Daemons that have a state and could not be started: what is said of them.

use host::base::error::{Blame, Code, Fault};
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
