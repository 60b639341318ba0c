//! Crash reports: what a crashed request needs to be run again.

use super::{Bound, Daemon, Phase};
use crate::base::error::{Code, printable};
use crate::base::ids::Sequence;
use crate::base::limits::LOG_LINE_BYTES_MAX;
use crate::pure::crash_rate::{CrashRate, Fingerprint, Keep};
use crate::pure::crash_report::{ARGUMENTS_BYTES_MAX, Arguments, CrashReport};
use crate::pure::request::Crash;
use crate::tree::crashes::Reporter;
use crate::tree::gauges::Gauges;

/// Where a daemon's reports go, and how many.
#[derive(Debug)]
pub(super) struct Reports {
    reporter: Reporter,
    rate: CrashRate,
}

/// The commit that a try runs on. After the crash, the policy may have made others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    sequence: Sequence,
    record: blake3::Hash,
    daemon_key: u64,
}

impl Daemon {
    /// Makes a report of each crash from now on. Needs a journal: reports refer to its commits.
    pub(in crate::tree) fn report_crashes_to(&mut self, reporter: Reporter) {
        self.reports = Some(Reports { reporter, rate: CrashRate::default() });
    }

    /// What a report of the next try would refer to; none when no reports are made.
    pub(super) fn stand(&self) -> Option<Stand> {
        self.reports.as_ref()?;
        let (record, daemon_key) = self.last_record()?;
        Some(Stand { sequence: self.sequence, record, daemon_key })
    }

    /// Reports the crash of a request's last try, unless there is such a report already, or too
    /// many. The crash then names it.
    pub(super) fn report(&mut self, bound: &Bound, crash: &mut Crash, stand: Stand) {
        let now = self.world.clock.monotonic_nanos();
        let Some(reports) = &mut self.reports else { return };
        let Stand { sequence, record, .. } = stand;
        let fingerprint =
            Fingerprint::of(sequence, &record, bound.contract, bound.arguments.packed(), crash);
        match reports.rate.decide(now, &fingerprint) {
            Keep::Same(id) => {
                Gauges::add(&self.gauges.crash_reports_repeated, 1);
                crash.report = Some(id);
            }
            Keep::LeaveOut => Gauges::add(&self.gauges.crash_reports_left_out, 1),
            Keep::Report => {
                let id = bound.request;
                crash.report = Some(id);
                let report = self.crash_report(bound, crash, stand);
                let offered =
                    self.reports.as_ref().is_some_and(|reports| reports.reporter.offer(report));
                if !offered {
                    crash.report = None;
                    Gauges::add(&self.gauges.crash_reports_dropped, 1);
                    return;
                }
                Gauges::add(&self.gauges.crash_reports, 1);
                if let Some(reports) = &mut self.reports {
                    reports.rate.made(fingerprint, id);
                }
            }
        }
    }

    /// A line of the log for a crash, at most so many; what a person ended is no failure.
    pub(super) fn tell_of(&mut self, bound: &Bound, crash: &Crash) {
        let Some(left_out) = self.crash_lines.ask(self.world.clock.monotonic_nanos()) else {
            return;
        };
        let daemon = &self.options.name;
        let contract = self.guest.contract_at(bound.contract);
        let contract = contract.map_or("-", |contract| contract.name.as_str());
        let (code, request) = (crash.code, bound.request);
        let report = crash.report.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let message = printable(&crash.message, LOG_LINE_BYTES_MAX);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "crash",
                    daemon,
                    contract,
                    %code,
                    %request,
                    crash = report,
                    left_out,
                    "{message}"
                )
            };
        }
        if code == Code::Cancelled { line!(info) } else { line!(error) }
    }

    fn crash_report(&self, bound: &Bound, crash: &Crash, stand: Stand) -> CrashReport {
        let contract = self.guest.contract_at(bound.contract);
        let arguments = match &bound.arguments {
            super::Arguments::Packed(bytes) if bytes.len() <= ARGUMENTS_BYTES_MAX => {
                Arguments::Kept(bytes.clone())
            }
            arguments => Arguments::TooLarge(arguments.packed().len() as u64),
        };
        let seed = match &self.phase {
            Phase::Live(instance) => instance.seed(crash.generation, bound.request),
            Phase::Parked(parked) => parked.0.seed(crash.generation, bound.request),
            // Every path that takes the phase puts one back.
            Phase::Between => [0; 32],
        };
        let of = self.following.as_ref().map(|following| following.of.as_ref());
        CrashReport {
            id: bound.request,
            daemon: of.unwrap_or(&self.options.name).to_owned(),
            daemon_key: stand.daemon_key,
            sequence: stand.sequence,
            record: stand.record,
            code: *self.guest.facts().digest.as_bytes(),
            contract: bound.contract,
            contract_name: contract.map(|contract| contract.name.clone()).unwrap_or_default(),
            arguments,
            shows: bound.show.is_some(),
            correlation: bound.correlation.as_deref().map(str::to_owned),
            key: bound.key.as_deref().map(str::to_owned),
            unix_nanos: self.now.unix_nanos,
            fuel: self.spent.fuel_of_try(),
            deadline: self.options.limits.deadline,
            budget_bytes: self.options.budget_bytes as u64,
            seed,
            seen: self.seen.clone(),
            crash: crash.clone(),
        }
    }
}
