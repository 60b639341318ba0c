//! Each mistake with the place and the message that it gets.

use super::bound;

/// Lines 1 and 2; the mistake begins on line 3. What comes before is good.
const HEAD: &str = "service.name = \"s\"\nparameters.x = { default = \"v\" }\n";
/// What comes after it.
const TAIL: &str = "\n[resources.r]\nprovider = \"clock\"\n[daemons.d]\nguest = \"d.wasm\"\n";

/// What is wrong, where, and what is said.
const MISTAKES: &[(&str, &str, &str)] = &[
    // The form.
    ("x = ", "3:5", "TOML: "),
    ("x = 'a", "3:7", "TOML: "),
    ("x = 1\nx = 2", "4:1", "TOML: duplicate key"),
    ("[a", "3:3", "TOML: "),
    ("\u{e9} = 1", "3:1", "TOML: "),
    // The top.
    ("extra = 1", "3:1", "a manifest has no key `extra`; there are service, parameters"),
    ("resource.a = 1", "3:1", "has no key `resource`; is it `resources`?"),
    ("[daemon.a]", "3:2", "has no key `daemon`; is it `daemons`?"),
    ("[service.more]", "3:10", "[service] has no key `more`; there are name"),
    // Parameters.
    (
        "parameters.y = 5",
        "3:16",
        "`y` is a table like { env = \"URL\", default = \"..\" }, not a whole number",
    ),
    ("parameters.y = \"v\"", "3:16", "not a text"),
    ("parameters.y = {}", "3:12", "parameter `y` has no value; give --param y=VALUE"),
    ("parameters.y = { env = \"HOPE_NOT\" }", "3:12", "--param y=VALUE, or set HOPE_NOT"),
    ("parameters.y = { defalt = \"v\", default = \"v\" }", "3:18", "is it `default`?"),
    ("parameters.y = { default = 5 }", "3:28", "`default` is a text, not a whole number"),
    (
        "parameters.y = { default = \"v\", secret = \"yes\" }",
        "3:42",
        "`secret` is true or false, not a text",
    ),
    ("parameters.y = { default = \"v\", env = \"A=B\" }", "3:39", "no variable"),
    ("parameters.\"a b\" = { default = \"v\" }", "3:12", "`a b` is no name"),
    // Resources.
    ("resources.q = 5", "3:15", "`q` is a table like { provider = \"redis\" }, not a whole number"),
    ("[resources.q]", "3:12", "resource `q` needs `provider`, one of clock, config,"),
    ("[resources.q]\nprovider = 5", "4:12", "`provider` is one of clock"),
    (
        "[resources.q]\nprovider = \"rediss\"",
        "4:12",
        "there is no provider `rediss`; is it `redis`?",
    ),
    (
        "[resources.q]\nprovider = \"zebra\"",
        "4:12",
        "there is no provider `zebra`; there are clock,",
    ),
    ("[resources.q]\nprovider = \"redis\"", "3:12", "resource `q` needs `url`"),
    ("[resources.q]\nprovider = \"redis\"\nurl = 5", "5:7", "`url` is like"),
    (
        "[resources.q]\nprovider = \"redis\"\nurl = \"localhost:6379\"",
        "5:7",
        "must begin with redis:// or unix://",
    ),
    ("[resources.q]\nprovider = \"redis\"\nurl = \"redis:///0\"", "5:7", "the URL names no host"),
    ("[resources.q]\nprovider = \"redis\"\nurl = \"redis://a b\"", "5:7", "must be encoded"),
    (
        "[resources.q]\nprovider = \"redis\"\nurl = \"rediss://h\"",
        "5:7",
        "`rediss://` asks for TLS",
    ),
    (
        "[resources.q]\nprovider = \"redis\"\nurl = \"redis://h\"\nconnections = 0",
        "6:15",
        "`0` is not a number from 1 to 64",
    ),
    (
        "[resources.q]\nprovider = \"redis\"\nurl = \"redis://h\"\ncheck = \"connect\"",
        "6:9",
        "`check` is one of write, read, not `connect`",
    ),
    (
        "[resources.q]\nprovider = \"redis\"\nurl = \"redis://h\"\ninit = \"PING\"",
        "6:8",
        "`init` is a list of texts, not a text",
    ),
    (
        "[resources.q]\nprovider = \"redis\"\nurl = \"redis://h\"\ninit = [\"PING\", 5]",
        "6:17",
        "`init` is texts, not a whole number",
    ),
    (
        "[resources.q]\nprovider = \"redis\"\nurl = \"redis://h\"\nup_delay = \"5\"",
        "6:12",
        "`up_delay`: `5` is not a time",
    ),
    (
        "[resources.q]\nprovider = \"redis\"\nurl = \"redis://h\"\nup_delay = \"2m\"",
        "6:12",
        "not a time between 1ms and 30s",
    ),
    (
        "[resources.q]\nprovider = \"redis\"\nurl = \"redis://h\"\nbackoff = \"5s\"",
        "6:11",
        "not like 100ms..30s",
    ),
    (
        "[resources.q]\nprovider = \"redis\"\nurl = \"redis://h\"\nbackoff = \"5s..1s\"",
        "6:11",
        "longer than the longest",
    ),
    (
        "[resources.q]\nprovider = \"postgres\"\nurl = \"postgres://h/d?sslmode=require\"",
        "5:7",
        "`sslmode` asks for TLS",
    ),
    (
        "[resources.q]\nprovider = \"postgres\"\nurl = \"mysql://h/d\"",
        "5:7",
        "postgres:// or postgresql://",
    ),
    ("[resources.q]\nprovider = \"http\"", "3:12", "resource `q` needs `allow`"),
    (
        "[resources.q]\nprovider = \"http\"\nallow = [\"http://h/\", \"https://h/\"]",
        "5:23",
        "`https://` asks for TLS",
    ),
    (
        "[resources.q]\nprovider = \"http\"\nallow = [\"http://u:p@h/\"]",
        "5:10",
        "no user and no password",
    ),
    (
        "[resources.q]\nprovider = \"http\"\nallow = [\"http://h/\", \"http://0x7f.1/\"]",
        "5:23",
        "write an address as four decimal numbers",
    ),
    (
        "[resources.q]\nprovider = \"http\"\nallow = [{ private = true }]",
        "5:10",
        "a rule of `allow` needs `url`",
    ),
    (
        "[resources.q]\nprovider = \"http\"\nallow = []\ncheck = \"often\"",
        "6:9",
        "`check` is one of connect, none, not `often`",
    ),
    ("[resources.q]\nprovider = \"directory\"", "3:12", "resource `q` needs `path`"),
    ("[resources.q]\nprovider = \"directory\"\npath = \"\"", "5:8", "the path is empty"),
    (
        "[resources.q]\nprovider = \"directory\"\npath = \"p\"\naccess = \"rw\"",
        "6:10",
        "one of read, append, not `rw`",
    ),
    (
        "[resources.q]\nprovider = \"directory\"\npath = \"p\"\naccess = \"write\"",
        "6:10",
        "what guests write to files can't be undone with their transaction: `append` lets",
    ),
    (
        "[resources.q]\nprovider = \"directory\"\npath = \"p\"\ninit = []",
        "6:1",
        "resource `q` has no key `init`",
    ),
    (
        "[resources.q]\nprovider = \"clock\"\nup_delay = \"1s\"",
        "5:1",
        "has no key `up_delay`; there are provider",
    ),
    ("[resources.q]\nprovider = \"config\"", "3:12", "resource `q` needs `values`"),
    (
        "[resources.q]\nprovider = \"config\"\nvalues = { a = 5 }",
        "5:16",
        "`a` is a text, not a whole number",
    ),
    // Parameters in texts.
    ("[daemons.e]\nguest = \"${y}\"", "4:9", "no parameter `y`; is it `x`?"),
    ("[daemons.e]\nguest = \"${x\"", "4:9", "`${` has no `}`"),
    (
        "[daemons.e]\nguest = \"e\"\nparameters = { a = [1, \"${wrong}\"] }",
        "5:24",
        "no parameter `wrong`",
    ),
    // Daemons.
    ("[daemons.e]", "3:10", "daemon `e` needs `guest`, a file like"),
    (
        "[daemons.e]\nguest = true",
        "4:9",
        "`guest` is a file like \"ledger.wasm\", not true or false",
    ),
    ("[daemons.\"e/f\"]\nguest = \"e\"", "3:10", "`e/f` is no name"),
    (
        "[daemons.e]\nguest = \"e\"\nbudgt = \"1MiB\"",
        "5:1",
        "daemon `e` has no key `budgt`; is it `budget`?",
    ),
    ("[daemons.e]\nguest = \"e\"\nbudget = \"64XB\"", "5:10", "unknown unit"),
    ("[daemons.e]\nguest = \"e\"\nbudget = 5", "5:10", "`5` is not a budget from 128 KiB"),
    ("[daemons.e]\nguest = \"e\"\nbudget = \"8GiB\"", "5:10", "is not a budget from"),
    (
        "[daemons.e]\nguest = \"e\"\nneeds = \"r\"",
        "5:9",
        "`needs` is a list of resources, not a text",
    ),
    (
        "[daemons.e]\nguest = \"e\"\nneeds = [\"r\", \"cash\"]",
        "5:15",
        "there is no resource `cash`; there are r",
    ),
    ("[daemons.e]\nguest = \"e\"\nneeds = [\"r\",\n  5]", "6:3", "not a whole number"),
    ("[daemons.e]\nguest = \"e\"\nneeds = [\"r\", \"r\"]", "5:15", "`r` stands twice in `needs`"),
    (
        "[daemons.e]\nguest = \"e\"\nneeds = [\"r\"]\nuses = [\"r\"]",
        "6:9",
        "`r` stands in `needs` too",
    ),
    (
        "[daemons.e]\nguest = \"e\"\non_crash = \"retry\"",
        "5:12",
        "not one of checkpoint, zero, ask",
    ),
    ("[daemons.e]\nguest = \"e\"\nfuel = -1", "5:8", "not an amount of fuel"),
    (
        "[daemons.e]\nguest = \"e\"\nfuel = []",
        "5:8",
        "`fuel` is an amount like 1_000_000, not a list",
    ),
    ("[daemons.e]\nguest = \"e\"\ndeadline = 500", "5:12", "`500` is not a time"),
    ("[daemons.e]\nguest = \"e\"\nretries = 11", "5:11", "`11` is not a number from 0 to 10"),
    ("[daemons.e]\nguest = \"e\"\nretry_live = 1", "5:14", "`retry_live` is true or false"),
    ("[daemons.e]\nguest = \"e\"\nrestarts = \"often\"", "5:12", "is not like 10/60s"),
    ("[daemons.e]\nguest = \"e\"\ncpu = 2.5", "5:7", "not a share of one processor"),
    (
        "[daemons.e]\nguest = \"e\"\nparameters = 5",
        "5:14",
        "`parameters` is a table like { limit = 5 }",
    ),
    (
        "[daemons.e]\nguest = \"e\"\nparameters.at = 1979-05-27",
        "5:17",
        "`at` is a date: write it as a text",
    ),
    ("[daemons.e]\nguest = \"e\"\nparameters.at = nan", "5:17", "`at` has no form in JSON"),
    (
        "[daemons.e]\nguest = \"e\"\nparameters.at = 99999999999999999999",
        "5:17",
        "does not fit 64 bits",
    ),
    (
        "[daemons.e]\nguest = \"e\"\nstateless = true\non_crash = \"zero\"",
        "6:1",
        "`on_crash` needs a state",
    ),
    (
        "[daemons.e]\nguest = \"e\"\nstateless = true\nreaders = 2",
        "6:1",
        "`readers` read a state: a stateless daemon has `instances`",
    ),
    ("[daemons.e]\nguest = \"e\"\nreaders = 65", "5:11", "`65` is not a number from 0 to 64"),
    ("[daemons.e]\nguest = \"e\"\ninstances = 4", "5:1", "`instances` needs `stateless = true`"),
    (
        "[daemons.e]\nguest = \"e\"\nstateless = true\ninstances = 0",
        "6:13",
        "`0` is not a number from 1",
    ),
    ("[daemons.e]\nguest = \"e\"\nafter = [\"f\"]", "5:10", "there is no daemon `f`; is it"),
    ("[daemons.e]\nguest = \"e\"\nafter = [\"e\"]", "5:10", "they wait for each other: e after e"),
    (
        "[daemons]\ne = { guest = \"e\", after = [\"f\"] }\nf = { guest = \"f\", after = [\"e\"] }",
        "4:29",
        "they wait for each other: e after f after e",
    ),
];

#[test]
fn each_mistake_is_named_at_its_place() {
    let mut wrong = Vec::new();
    for (text, place, message) in MISTAKES {
        let whole = format!("{HEAD}{text}{TAIL}");
        let complaints = bound(&whole, &[]).map_or_else(|complaints| complaints, |_| Vec::new());
        let found: Vec<String> = complaints.iter().map(|complaint| complaint.show("f")).collect();
        let prefix = format!("f:{place}: ");
        if found.len() != 1 || !found[0].starts_with(&prefix) || !found[0].contains(message) {
            wrong
                .push(format!("{text}\nexpected {place}: {message}\nfound {}\n", found.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(MISTAKES.len() >= 60);
}

#[test]
fn what_is_missing_altogether_is_named_at_the_beginning() {
    for (text, place, message) in [
        ("", "1:1", "there is no [service] with `name`"),
        ("service.name = \"s\"", "1:1", "there is no daemon"),
        ("[service]\n[daemons.d]\nguest = \"d\"", "1:2", "[service] needs `name`"),
        ("service = 5\ndaemons.d.guest = \"d\"", "1:11", "`service` is a table with `name`"),
        ("service.name = \"a b\"\ndaemons.d.guest = \"d\"", "1:16", "a service's name is"),
        ("service.name = 5\ndaemons.d.guest = \"d\"", "1:16", "`name` is a text"),
    ] {
        let complaints = bound(text, &[]).unwrap_err();
        let found: Vec<String> = complaints.iter().map(|complaint| complaint.show("f")).collect();
        let wanted =
            |found: &String| found.starts_with(&format!("f:{place}: ")) && found.contains(message);
        assert!(found.iter().any(wanted), "{text}: {found:?}");
    }
}
