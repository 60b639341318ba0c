//! The README's first command: real requests through the host, and crashes among them.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::Command;

use crate::guests;
use crate::step::{self, Failure, cargo, first_build_hint, output_of, root, say, target_dir};

/// The daemons, in the order of the table.
const DAEMONS: [&str; 4] = ["counter", "ledger", "smallbank", "chaos"];

/// SmallBank requests of each of the two mixes.
const REQUESTS_PER_MIX: usize = 50_000;

/// SmallBank requests between two deaths: `chaos` dies four times in each of its twelve ways. Some
/// of them take a second, namely those that only fuel or the deadline ends.
const CHAOS_EVERY: usize = 2000;

/// SmallBank requests between two requests to the counter, the ledger, and to what chaos holds.
const OTHERS_EVERY: usize = 10;

/// Accounts of the ledger.
const ACCOUNTS: u64 = 50;

/// What each account starts with; transfers move up to a fifth more, so that some are overdrafts.
const DEPOSIT: u64 = 100;

/// Builds all that is needed, writes the requests, and runs them.
pub(crate) fn run() -> Result<(), Failure> {
    run_in(&target_dir().join("demo"))
}

fn run_in(folder: &Path) -> Result<(), Failure> {
    guests::build()?;
    say(&format!("building the host{}", first_build_hint()));
    let words = ["build", "--release", "--package", "host", "--package", "smallbank", "--bins"];
    step::run(&mut cargo(&words), "see the compiler's messages above")?;
    fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    let requests = folder.join("requests.jsonl");
    let lines = write_requests(&requests)?;
    say(&format!("wrote {lines} requests to {}", shown(&requests)));
    say("running them; chaos dies in twelve ways, some until fuel or deadline end it (seconds)");
    let mut host = Command::new(target_dir().join("release/host"));
    host.current_dir(root()).arg("run");
    for daemon in DAEMONS {
        host.arg(format!("guests/{daemon}.wasm"));
    }
    host.arg("--memory-only").arg("--requests").arg(&requests);
    step::run(
        &mut host,
        "see the host's message above; `target/release/host explain CODE` says more",
    )
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Writes the request file and answers its number of lines.
fn write_requests(path: &Path) -> Result<usize, Failure> {
    let generated = [generate("uniform")?, generate("hot-spot")?];
    let file = fs::File::create(path).map_err(|error| Failure::file(path, &error))?;
    let mut output = BufWriter::new(file);
    let written = write_mixed(&generated, &mut output);
    written.map_err(|error| Failure::file(path, &error))
}

/// Lines of SmallBank's published mix, with deaths of chaos in between.
fn generate(mix: &str) -> Result<String, Failure> {
    let mut generator = Command::new(target_dir().join("release/smallbank-requests"));
    generator
        .args(["--mix", mix])
        .args(["--count", &REQUESTS_PER_MIX.to_string()])
        .args(["--chaos-every", &CHAOS_EVERY.to_string()]);
    let lines = output_of(&mut generator, "see its message above")?;
    String::from_utf8(lines).map_err(|error| {
        Failure::new(format!("smallbank-requests: {error}"), "this is a bug; please report it")
    })
}

/// Puts requests to the other daemons between the generated ones.
fn write_mixed(generated: &[String], output: &mut impl Write) -> io::Result<usize> {
    let mut lines = 0;
    let mut write = |line: &str| {
        lines += 1;
        writeln!(output, "{line}")
    };
    for account in 0..ACCOUNTS {
        write(&format!(
            r#"{{"daemon":"ledger","contract":"deposit","args":{{"account":"a{account}","amount":{DEPOSIT}}}}}"#
        ))?;
    }
    let mut random = Random(1);
    for (place, line) in generated.iter().flat_map(|text| text.lines()).enumerate() {
        write(line)?;
        if place % OTHERS_EVERY == 0 {
            let by = random.below(10);
            write(&format!(
                r#"{{"daemon":"counter","contract":"increment","args":{{"by":{by}}}}}"#
            ))?;
            let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
            let amount = random.below(DEPOSIT + DEPOSIT / 5);
            write(&format!(
                r#"{{"daemon":"ledger","contract":"transfer","args":{{"from":"a{from}","to":"a{to}","amount":{amount}}}}}"#
            ))?;
        }
        if place % (CHAOS_EVERY / 4) == 0 {
            let pages = 1 + random.below(64);
            write(&format!(
                r#"{{"daemon":"chaos","contract":"touch","args":{{"pages":{pages}}}}}"#
            ))?;
        }
    }
    output.flush()?;
    Ok(lines)
}

/// SplitMix64: the same requests each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_daemon_gets_requests() {
        let generated = ["{\"daemon\":\"smallbank\"}\n{\"daemon\":\"chaos\"}\n".to_owned()];
        let mut output = Vec::new();
        let lines = write_mixed(&generated, &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert_eq!(text.lines().count(), lines);
        for daemon in DAEMONS {
            assert!(text.contains(&format!(r#""daemon":"{daemon}""#)), "{daemon}");
        }
    }
}
