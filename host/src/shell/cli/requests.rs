//! Runs a file of requests through the daemons.
//!
//! Requests of one daemon run in the order of the file; different daemons run at the same time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use serde_json::{Value, json};

use super::deploy::progress;
use super::table::{Align, Table};
use super::{Output, print};
use crate::base::error::{Code, Fault, plain_lines};
use crate::base::ids::{RequestId, Sequence};
use crate::base::limits::{REQUEST_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX, REQUESTS_UNPRINTED_MAX};
use crate::base::stop::StopLatch;
use crate::pure::request::{Answer, Outcome, Request};
use crate::pure::size::show_bytes;
use crate::shell::api::daemon_json;
use crate::shell::exit;
use crate::tree::{DaemonView, Root};

/// Runs the requests of `file` and prints the outcomes.
pub(super) fn run(root: &Root, file: &Path, output: Output, stop: &StopLatch) -> Result<u8, Fault> {
    let failed = |error: io::Error| Fault::new(Code::File, format!("{}: {error}", file.display()));
    let mut lines: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(file).map_err(failed)?))
    };
    let started = Instant::now();
    let (replies, answers) = sync_channel(REQUESTS_IN_FLIGHT_MAX);
    let mut pass = Pass {
        root,
        output,
        replies,
        answers,
        submitted: 0,
        answered: 0,
        next_printed: 0,
        unprinted: BTreeMap::new(),
        tally: Tally::default(),
        stdout: BufWriter::new(io::stdout()),
    };
    let bar = progress(format!("running {}", file.display()));
    let mut line = Vec::new();
    let mut number: u64 = 0;
    loop {
        line.clear();
        let limit = REQUEST_BYTES_MAX as u64 + 1;
        lines.by_ref().take(limit).read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() || stop.is_set() {
            break;
        }
        number += 1;
        if line.len() > REQUEST_BYTES_MAX {
            let place = file.display();
            let message = format!("{place}:{number}: more than {REQUEST_BYTES_MAX} bytes");
            return Err(Fault::new(Code::Request, message));
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if !text.is_empty() {
            pass.submit(text, file, number).map_err(failed)?;
        }
        if number.is_multiple_of(1024) {
            bar.set_message(format!("running {}: {number} requests", file.display()));
        }
    }
    pass.finish().map_err(failed)?;
    bar.finish_and_clear();
    let whole = pass.tally.malformed == 0 && !stop.is_set();
    let code = if whole { exit::DONE } else { exit::FAILED };
    report(&pass.tally, root, output, started.elapsed().as_secs_f64());
    Ok(code)
}

/// How many requests ended how.
#[derive(Debug, Default)]
struct Tally {
    outcomes: BTreeMap<&'static str, u64>,
    errors: BTreeMap<String, u64>,
    malformed: u64,
}

impl Tally {
    fn count(&mut self, answer: &Answer) {
        *self.outcomes.entry(answer.outcome.word()).or_default() += 1;
        let code = match &answer.outcome {
            Outcome::Committed(_) => return,
            Outcome::Rejected(rejection) => rejection.code.clone(),
            Outcome::Crashed(crash) => crash.code.as_str().to_owned(),
            Outcome::Cancelled(_) => Code::HandleStale.as_str().to_owned(),
            Outcome::Unknown(fault) => fault.code.as_str().to_owned(),
        };
        *self.errors.entry(code).or_default() += 1;
    }

    fn total(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

/// One run over a file.
struct Pass<'a> {
    root: &'a Root,
    output: Output,
    replies: SyncSender<(u64, Answer)>,
    answers: Receiver<(u64, Answer)>,
    submitted: u64,
    answered: u64,
    next_printed: u64,
    /// Answers that came before an earlier request's.
    unprinted: BTreeMap<u64, Answer>,
    tally: Tally,
    stdout: BufWriter<io::Stdout>,
}

impl Pass<'_> {
    fn submit(&mut self, line: &str, file: &Path, number: u64) -> io::Result<()> {
        while self.is_full() {
            self.take_one()?;
        }
        let index = self.submitted;
        self.submitted += 1;
        match Request::parse(line) {
            Ok(mut request) => {
                request.show = self.output == Output::Json;
                let replies = self.replies.clone();
                // There is room for every request in flight, so this never blocks a daemon.
                let reply = move |answer| drop(replies.send((index, answer)));
                self.root.submit(request, Box::new(reply));
                Ok(())
            }
            Err(fault) => {
                self.tally.malformed += 1;
                let place = format!("{}:{number}: {}", file.display(), fault.message);
                let fault = fault.saying(place);
                // The line of its outcome says it too.
                super::tell_fault(&fault);
                let refused =
                    Answer::refused(RequestId(0), &Request::default(), Sequence::default(), fault);
                self.take(index, refused)
            }
        }
    }

    fn is_full(&self) -> bool {
        let in_flight = self.submitted - self.answered;
        let unprinted = self.submitted - self.next_printed;
        let room = self.root.answers();
        in_flight >= REQUESTS_IN_FLIGHT_MAX as u64
            // Large answers are printed before there are more.
            || (in_flight > 0 && room.taken() > room.bytes_max() / 2)
            || (self.output == Output::Json && unprinted >= REQUESTS_UNPRINTED_MAX as u64)
    }

    fn take_one(&mut self) -> io::Result<()> {
        match self.answers.recv() {
            Ok((index, answer)) => self.take(index, answer),
            Err(_) => Err(io::Error::other("a daemon ended without an answer")),
        }
    }

    fn take(&mut self, index: u64, answer: Answer) -> io::Result<()> {
        self.answered += 1;
        self.tally.count(&answer);
        if self.output != Output::Json {
            return Ok(());
        }
        self.unprinted.insert(index, answer);
        while let Some(answer) = self.unprinted.remove(&self.next_printed) {
            self.next_printed += 1;
            writeln!(self.stdout, "{}", plain_lines(answer.into_line().to_string()))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        while self.answered < self.submitted {
            self.take_one()?;
        }
        self.stdout.flush()
    }
}

fn report(tally: &Tally, root: &Root, output: Output, seconds: f64) {
    let daemons = root.daemons();
    if output == Output::Json {
        let numbers: Vec<Value> = daemons.iter().map(|daemon| daemon_json(daemon, None)).collect();
        print(&json!({ "daemons": numbers, "seconds": seconds }).to_string());
        return;
    }
    print(&table(&daemons).to_string());
    let total = tally.total();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = total as f64 / seconds.max(1e-9);
    let outcomes: Vec<String> =
        tally.outcomes.iter().map(|(word, count)| format!("{count} {word}")).collect();
    print(&format!("\n{total} requests in {seconds:.2} s ({rate:.0}/s): {}", outcomes.join(", ")));
    let mut errors: Vec<(&String, &u64)> = tally.errors.iter().collect();
    errors.sort_by_key(|(code, count)| (std::cmp::Reverse(**count), (*code).clone()));
    for (code, count) in errors {
        print(&format!("  {count:>8} {code}"));
    }
}

fn table(daemons: &[DaemonView]) -> Table {
    let mut table = Table::new(&[
        ("DAEMON", Align::Left),
        ("COMMITTED", Align::Right),
        ("READ", Align::Right),
        ("REJECTED", Align::Right),
        ("CRASHED", Align::Right),
        ("RESTARTS", Align::Right),
        ("RESTART P50", Align::Right),
        ("P99", Align::Right),
        ("FUEL", Align::Right),
        ("CHANGED", Align::Right),
        ("MEMORY", Align::Right),
        ("BUDGET", Align::Right),
    ]);
    let bytes = |bytes: u64| show_bytes(usize::try_from(bytes).unwrap_or(usize::MAX));
    for daemon in daemons {
        let report = &daemon.report;
        let micros = |time: std::time::Duration| match report.restart_times.count {
            0 => "-".to_owned(),
            _ => format!("{:.1} us", time.as_secs_f64() * 1e6),
        };
        table.row(vec![
            daemon.name.clone(),
            report.committed.to_string(),
            report.read.to_string(),
            report.rejected.to_string(),
            report.crashed.to_string(),
            report.restarts.to_string(),
            micros(report.restart_times.p50),
            micros(report.restart_times.p99),
            show_count(report.fuel),
            bytes(report.bytes_changed),
            bytes(report.memory_peak_bytes),
            show_bytes(daemon.budget_bytes),
        ]);
    }
    table
}

/// A large number for people: 12.3 G.
fn show_count(count: u64) -> String {
    let units = [("T", 1_000_000_000_000_u64), ("G", 1_000_000_000), ("M", 1_000_000)];
    match units.iter().find(|(_, unit)| count >= *unit) {
        Some((name, unit)) => {
            let tenths = count / (unit / 10);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => count.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shown_in_the_largest_unit_that_fits() {
        for (count, text) in
            [(0, "0"), (999_999, "999999"), (1_250_000, "1.2 M"), (3_000_000_000, "3.0 G")]
        {
            assert_eq!(show_count(count), text);
        }
    }
}
