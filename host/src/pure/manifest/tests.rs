//! Whole manifests: what is read, what is refused and where, and that no text makes it panic.

mod mistakes;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::base::error::Code;
use crate::pure::policy::OnCrash;

/// What services look like, with everything that there is.
const EXAMPLE: &str = r#"
[service]
name = "bank"

[parameters]                       # constant for the life of the service
redis_url = { env = "REDIS_URL", default = "redis://127.0.0.1:6379" }
password = { env = "DB_PASSWORD", default = "hunter2", secret = true }

[resources.cache]
provider = "redis"
url = "${redis_url}"
prefix = "bank:"
connections = 2
init = ["SCRIPT LOAD @scripts/limits.lua"]
up_delay = "250ms"
backoff = "50ms..10s"

[resources.reports]
provider = "directory"
path = "./reports"
access = "append"

[resources.rates]
provider = "http"
allow = ["http://rates.example.com/v1/", { url = "http://10.0.0.7:80/", private = true }]
check = "none"

[resources.books]
provider = "postgres"
check = "read"
url = "postgres://bank:${password}@db.example.com/books"

[resources.settings]
provider = "config"
values = { greeting = "hello", password = "${password}" }

[resources.time]
provider = "clock"

[resources.dice]
provider = "entropy"

[daemons.ledger]
guest = "guests/ledger.wasm"
budget = "64MiB"
needs = ["cache", "reports"]
uses = ["rates"]
on_crash = "checkpoint"
fuel = 5_000_000
deadline = "500ms"
retries = 2
retry_live = true
restarts = "3/1m,emergency"
cpu = 0.5
readers = 3
after = ["limits"]
parameters = { limit = 5, names = ["a", "${redis_url}"], deep = { on = true, part = 0.5 } }

[daemons.limits]
guest = "guests/limits.wasm"
stateless = true
instances = 4
"#;

fn bound(text: &str, options: &[(&str, &str)]) -> Result<BoundManifest, Vec<Complaint>> {
    let pairs = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let given = Given { options: pairs.collect(), environment: BTreeMap::new() };
    bind(&parse(text.as_bytes()), &given)
}

#[test]
fn a_manifest_with_everything_is_read_whole() {
    let bank = bound(EXAMPLE, &[("redis_url", "redis://10.0.0.1:7000")]).unwrap();
    assert_eq!(bank.service, "bank");
    let kinds: Vec<_> = bank.resources.iter().map(|r| (r.name.name.as_str(), r.kind())).collect();
    let expected = [
        ("cache", "redis"),
        ("reports", "directory"),
        ("rates", "http"),
        ("books", "postgres"),
        ("settings", "config"),
        ("time", "clock"),
        ("dice", "entropy"),
    ];
    assert_eq!(kinds, expected);
    let cache = &bank.resources[0];
    assert_eq!(cache.init[0].expose(), "SCRIPT LOAD @scripts/limits.lua");
    assert_eq!(cache.up_delay, Some(Duration::from_millis(250)));
    assert!(cache.backoff.is_some());
    let ProviderSpec::Redis { url, prefix, connections, writes } = &cache.provider else {
        panic!()
    };
    assert_eq!((url.expose(), *connections, *writes), ("redis://10.0.0.1:7000", 2, true));
    assert_eq!(prefix.as_ref().unwrap().expose(), "bank:");
    let ProviderSpec::Directory { access, .. } = bank.resources[1].provider else { panic!() };
    assert_eq!(access, Access::Append);
    let ProviderSpec::Http { allow, check } = &bank.resources[2].provider else { panic!() };
    assert_eq!((allow[0].private, allow[1].private, *check), (false, true, false));
    let ProviderSpec::Postgres { writes, .. } = bank.resources[3].provider else { panic!() };
    assert!(!writes, "a replica will do");
    let ledger = &bank.daemons[0];
    assert_eq!(ledger.guest.expose(), "guests/ledger.wasm");
    assert_eq!((ledger.budget_bytes, ledger.fuel), (Some(64 << 20), Some(5_000_000)));
    assert_eq!(ledger.deadline, Some(Duration::from_millis(500)));
    assert_eq!((ledger.retries, ledger.retry_live), (Some(2), true));
    assert_eq!(ledger.on_crash, Some(OnCrash::Checkpoint));
    assert_eq!(ledger.cpu.unwrap().thousandths(), 500);
    assert_eq!(ledger.restarts.unwrap().intensity().unwrap().restarts_max(), 3);
    let names = |named: &[Named]| named.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&ledger.needs), ["cache", "reports"]);
    assert_eq!(names(&ledger.uses), ["rates"]);
    assert_eq!((ledger.layer, bank.daemons[1].layer), (1, 0));
    let parameters = json!({
        "limit": 5,
        "names": ["a", "redis://10.0.0.1:7000"],
        "deep": { "on": true, "part": 0.5 },
    });
    assert_eq!(Some(ledger.parameters.expose()), parameters.as_object());
    assert_eq!((bank.daemons[1].stateless, bank.daemons[1].readers), (Some(4), 0));
    assert_eq!((ledger.stateless, ledger.readers), (None, 3));
}

#[test]
fn s0_04_parameters_stay_what_they_were_at_the_start() {
    let text = "service.name = 's'\nparameters.x = { env = 'X', default = 'c' }\n\
                daemons.d = { guest = '${x}' }\n";
    let manifest = parse(text.as_bytes());
    assert_eq!(manifest.variables().collect::<Vec<_>>(), ["X"]);
    let mut given = Given::default();
    let guest = |given: &Given| bind(&manifest, given).unwrap().daemons[0].guest.clone();
    assert_eq!(guest(&given).expose(), "c");
    given.environment.insert("X".to_owned(), "b".to_owned());
    let before = guest(&given);
    assert_eq!(before.expose(), "b");
    given.options.insert("x".to_owned(), "a".to_owned());
    assert_eq!((guest(&given).expose(), before.expose()), ("a", "b"));
}

#[test]
fn all_mistakes_are_named_at_once_in_order_with_their_lines() {
    let text = "[service]\nname = \"bank\"\n\n[parameters]\nuser = { env = \"BANK_USER\" }\n\n\
                [resources.cache]\nprovider = \"redis\"\nurl = \"http://${user}@h\"\n\n\
                [daemons.ledger]\nguest = \"l.wasm\"\nbudgt = \"64MiB\"\nneeds = [\"cash\"]\n";
    let complaints = bound(text, &[]).unwrap_err();
    let shown: Vec<String> = complaints.iter().map(|c| c.show("bank.toml")).collect();
    let expected = [
        "bank.toml:5:1: parameter `user` has no value; give --param user=VALUE, or set BANK_USER\n  \
         5 | user = { env = \"BANK_USER\" }\n    | ^^^^",
        "bank.toml:13:1: daemon `ledger` has no key `budgt`; is it `budget`?\n  \
         13 | budgt = \"64MiB\"\n     | ^^^^^",
        "bank.toml:14:10: there is no resource `cash`; is it `cache`?\n  \
         14 | needs = [\"cash\"]\n     |          ^^^^^^",
    ];
    assert_eq!(shown, expected);
    assert_eq!(complaints[0].code, Code::Parameter);
    assert_eq!(complaints[1].code, Code::Manifest);
}

#[test]
fn secrets_are_never_shown() {
    let bank = bound(EXAMPLE, &[("password", "s3same")]).unwrap();
    let manifest = parse(EXAMPLE.as_bytes());
    for shown in [format!("{bank:?}"), format!("{manifest:?}")] {
        assert!(!shown.contains("s3same") && !shown.contains("hunter2"), "{shown}");
    }
    let ProviderSpec::Postgres { url, .. } = &bank.resources[3].provider else { panic!() };
    assert_eq!(url.expose(), "postgres://bank:s3same@db.example.com/books");
    assert_eq!(url.to_string(), "postgres://***@db.example.com/books");
    // Lines with secrets, each with a mistake in it.
    for line in [
        "parameters.p = { env = 5, default = \"hunter2\", secret = true }",
        "parameters.p = { default = \"hunter2\", secret = 1 }",
        "parameters.p = { default = \"hunter2\", secrt = true }",
        "parameters.p = { secret = true, default = \"hunter2\" ",
        "resources.r = { provider = \"redis\", url = \"redsi://:hunter2@h\" }",
        "resources.r = { provider = \"redis\", url = \"rediss://:hunter2@h\" }",
        "resources.r = { provider = \"redis\", url = \"redis://h/\", password = \"hunter2\" }",
        "resources.r = { provider = \"config\", values = { api_token = \"hunter2${\" } }",
        "resources.r = { provider = \"config\", values = { secrets = [\"hunter2\", 5] } }",
        "daemons.e = { guest = 5, parameters = { credentials = \"hunter2\" } }",
    ] {
        let text = format!("service.name = 's'\ndaemons.d.guest = 'd.wasm'\n{line}\n");
        let complaints = bound(&text, &[]).unwrap_err();
        for complaint in &complaints {
            let shown = complaint.show("f");
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(!format!("{complaint:?}").contains("hunter2"), "{complaint:?}");
        }
    }
}

#[test]
fn what_is_no_text_or_too_large_is_refused() {
    let complaints = |bytes: &[u8]| bind(&parse(bytes), &Given::default()).unwrap_err();
    let odd = complaints(b"[service]\nname = \"\xff\"");
    assert_eq!((odd[0].place.line, odd[0].place.column), (2, 9));
    let large = complaints(&vec![b'#'; MANIFEST_BYTES_MAX + 1]);
    assert!(large[0].message.starts_with("larger than"), "{large:?}");
    // As many mistakes as fit: not all of them are listed.
    let many = "x\n".repeat(MANIFEST_BYTES_MAX / 2);
    assert!(complaints(many.as_bytes()).len() <= 100);
    let deep = format!("x = {}", "[".repeat(100_000));
    assert!(!complaints(deep.as_bytes()).is_empty());
}

#[test]
fn a_large_manifest_is_read_in_its_time() {
    // A chain as long as there may be daemons, and each with a mistake.
    let mut text = "service.name = \"s\"\n".to_owned();
    for daemon in 0..4096 {
        text.push_str(&format!(
            "[daemons.d{daemon}]\nguest = \"g\"\nafter = [\"d{}\"]\n",
            daemon + 1
        ));
    }
    assert_eq!(bound(&text, &[]).unwrap_err().len(), 1);
    let text = text.replace("d4096", "d0");
    let cycle = bound(&text, &[]).unwrap_err();
    assert!(cycle[0].message.contains("wait for each other"), "{cycle:?}");
    let text = text.replace("guest", "gest");
    assert_eq!(bound(&text, &[]).unwrap_err().len(), 100);
}

/// Reads and binds any bytes; each place must lie inside the text.
fn check_any(bytes: &[u8]) {
    let Err(complaints) = bind(&parse(bytes), &Given::default()) else { return };
    assert!(!complaints.is_empty());
    let valid = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = valid.split('\n').collect();
    for complaint in complaints {
        let Place { line, column } = complaint.place;
        assert!((1..=lines.len()).contains(&line), "{complaint:?}");
        assert!((1..=lines[line - 1].chars().count() + 1).contains(&column), "{complaint:?}");
        assert!(complaint.show("f").lines().count() == 3, "{complaint:?}");
    }
}

/// Pieces that a manifest is made of, and some that it isn't.
const PIECES: [&str; 20] = [
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "=",
    ".",
    "\n",
    ",",
    "${",
    "}",
    "\u{e9}",
    "5",
    "true",
    "\"\"\"",
    "[[daemons]]",
    "needs = [\"cache\"]",
    "1979-05-27",
    "\0",
];

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_any(&bytes);
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,200}") {
        check_any(text.as_bytes());
    }

    #[test]
    fn any_change_of_a_manifest_is_read_without_a_panic(
        changes in prop::collection::vec(
            (0..EXAMPLE.len(), 0_usize..12, 0..PIECES.len()), 1..6),
    ) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (at, cut, piece) in changes {
            let at = at.min(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, PIECES[piece].bytes());
        }
        check_any(&bytes);
    }
}
