//! Resources that transactions hold, as people see them.

use super::{Place, Value, until};

const SPINNING: &str = r#"
[service]
name = "bank"

[resources.reports]
provider = "directory"
path = "reports"
access = "append"
backoff = "1ms..10ms"

[daemons.chaos]
guest = "chaos.wasm"
needs = ["reports"]
fuel = 1_000_000_000_000_000_000
deadline = "3600s"
"#;

#[test]
fn s0_08_the_id_of_a_lease_is_shown_where_it_is_held_and_where_it_ends() {
    let place = Place::with(&[("bank.toml", SPINNING)]);
    let (reports, aside) = (place.0.path().join("services/reports"), place.0.path().join("aside"));
    std::fs::create_dir(&reports).unwrap();
    let log = place.0.path().join("log");
    let _running = place.start_logging(&["services/bank.toml"], &log);
    let mut seen = Vec::new();
    for round in 1..=3 {
        let mut spins = place.command(&["call", "chaos", "die", "how=spin"]);
        let mut spins = spins.stderr(std::process::Stdio::null()).spawn().unwrap();
        let transactions = || {
            let ps = place.host(&["ps", "--output", "json"]).out;
            serde_json::from_str::<Value>(&ps).unwrap()["transactions"].clone()
        };
        until("it runs", || transactions()[0]["leases"][0]["lease"].is_u64());
        let held = transactions()[0].clone();
        let (lease, request) = (&held["leases"][0]["lease"], held["id"].as_str().unwrap());
        assert_eq!(held["leases"][0]["resource"], "bank/reports");
        assert!(!seen.contains(lease), "{lease} was that of another one: {seen:?}");
        let tree = place.host(&["ps", "--tree"]).out;
        assert!(tree.contains(&format!("lease {lease} of bank/reports")), "{tree}");
        let listed = place.host(&["resources"]).out;
        let line = format!("lease {lease}: request {request} of `chaos`");
        assert!(listed.contains(&line), "{listed}");
        std::fs::rename(&reports, &aside).unwrap();
        assert_eq!(spins.wait().unwrap().code(), Some(1), "{round}: cancelled");
        std::fs::rename(&aside, &reports).unwrap();
        let said =
            format!("a lease has ended resource=\"bank/reports\" lease={lease} request={request}");
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(log.contains(&said), "{said}: {log}");
        seen.push(lease.clone());
        until("ready", || place.daemon("chaos")["state"] == "ready");
    }
}
