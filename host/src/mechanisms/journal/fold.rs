//! Folding: records older than the retention become part of the base image, in bounded steps.
//!
//! ```text
//!  plan: read the records that go, note the chunks that they touch
//!  build (repeated): up to CHUNKS_PER_STEP new chunks, written beside the old ones, read back
//!  finish, one transaction: base head, kept answers; old chunks and records go
//! ```
//!
//! Until the end of `finish` the old base and all records are there. A fold that was interrupted
//! leaves chunks of a later sequence than the base's, which nobody reads; the next one replaces
//! them.
//!
//! Space: per daemon at most twice the live state (old and new chunks) plus 5/4 of the retained
//! bytes, but never fewer than RETAIN_COMMITS_MIN records; redb adds free pages to that.

mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use redb::ReadTransaction;

use super::backend::io_fault;
use super::base::{BaseHead, CHUNK_BYTES};
use super::load::{chain_at, loaded_base, loaded_record, read_base, visit_parts};
use super::store::{CHUNKS, Inner, RECORDS, Store, Tail, fault, lock};
use super::{DaemonKey, FoldDebt, JournalFault, Loaded};
use crate::base::failpoint::{self, Point};
use crate::base::ids::Sequence;
use crate::pure::record::{Frame, Part, Record};

/// Commits that are kept as records: how far `history` and `revert` reach.
pub(super) const RETAIN_COMMITS: u64 = 1000;

/// Bytes of records per daemon over which fewer commits are kept.
pub(super) const RETAIN_BYTES: u64 = 16 << 20;

/// Commits that are kept whatever their size.
pub(super) const RETAIN_COMMITS_MIN: u64 = 8;

/// Records that one fold takes. Each fold writes all chunks that were touched: the more records,
/// the fewer times.
const RECORDS_PER_FOLD_MAX: u64 = 16 << 10;

/// Chunks that one step writes: 16 MiB before compression are in memory at once.
const CHUNKS_PER_STEP: usize = 256;

/// A fold that is under way.
#[derive(Debug)]
pub(super) struct FoldJob {
    daemon: DaemonKey,
    base: Option<BaseHead>,
    first: u64,
    target: Loaded,
    controls: Vec<Vec<u8>>,
    bytes: u64,
    touched: BTreeSet<u64>,
    left: BTreeSet<u64>,
    /// The records change what answers are kept.
    answers: bool,
}

impl FoldJob {
    pub(super) fn daemon(&self) -> DaemonKey {
        self.daemon
    }
}

/// Bytes of records of one daemon over which some have to go.
fn bytes_max(store: &Store, inner: &Inner) -> u64 {
    let options = &store.options;
    let bytes: u64 = inner.tails.values().map(|tail| tail.bytes).sum();
    let share = options.retain_total_bytes / (inner.tails.len() as u64).max(1);
    let crowded = bytes > options.retain_total_bytes;
    if crowded { options.retain_bytes.min(share) } else { options.retain_bytes }
}

/// Records of a daemon that should go now, when more than `bytes_max` are too many.
fn surplus(store: &Store, tail: &Tail, bytes_max: u64) -> u64 {
    if tail.bad.is_some() {
        return 0;
    }
    let count = tail.moved.saturating_sub(tail.first);
    let options = &store.options;
    let retain = options.retain_commits.max(RETAIN_COMMITS_MIN);
    let by_count = count.saturating_sub(retain);
    let by_count = if by_count > retain / 4 { by_count } else { 0 };
    let too_large = tail.bytes > bytes_max.saturating_add(bytes_max / 4);
    // Half of them: records differ in size, and folding looks again afterwards.
    let by_bytes = if too_large { count / 2 } else { 0 };
    by_count.max(by_bytes).min(count.saturating_sub(RETAIN_COMMITS_MIN))
}

impl Store {
    pub(super) fn debt(&self) -> FoldDebt {
        let inner = self.lock();
        let (mut debt, most) = (FoldDebt::default(), bytes_max(self, &inner));
        for tail in inner.tails.values() {
            let last = tail.chain.last.map_or(0, |last| last.sequence.next().0);
            debt.records += surplus(self, tail, most) + last.saturating_sub(tail.moved);
            debt.bytes += tail.bytes;
        }
        drop(inner);
        debt.bytes += self.log().map_or(0, |log| log.span().used());
        debt
    }

    /// One step; false when nothing is left. A daemon whose records are rotten is not tried again.
    pub(super) fn fold(&self) -> Result<bool, JournalFault> {
        let mut place = lock(&self.job);
        let Some(mut job) = place.take() else {
            let Some((daemon, first, count)) = self.most() else { return Ok(false) };
            let planned = self.at_tables(|| self.plan_fold(daemon, first, count));
            *place = planned.map_err(|fault| self.fold_failed(daemon, fault))?;
            return Ok(place.is_some());
        };
        failpoint::pass(Point::DuringFold).map_err(|error| io_fault(&error))?;
        let daemon = job.daemon;
        let done = if job.left.is_empty() {
            self.at_tables(|| self.finish_fold(&job).map(|()| true))
        } else {
            self.at_tables(|| self.build_chunks(&mut job).map(|()| false))
        };
        if !done.map_err(|fault| self.fold_failed(daemon, fault))? {
            *place = Some(job);
        } else if let Some(tail) = self.lock().tails.get_mut(&daemon) {
            tail.first = job.target.sequence.next().0;
            tail.bytes = tail.bytes.saturating_sub(job.bytes);
        }
        Ok(true)
    }

    fn fold_failed(&self, daemon: DaemonKey, fault: JournalFault) -> JournalFault {
        let fault = fault.of_daemon(daemon);
        if fault.kind == super::FaultKind::Corrupt
            && let Some(tail) = self.lock().tails.get_mut(&daemon)
        {
            tail.bad = Some(fault.clone());
        }
        fault
    }

    /// The daemon with the most to fold: from which record on, and how many.
    fn most(&self) -> Option<(DaemonKey, u64, u64)> {
        let inner = self.lock();
        let most = bytes_max(self, &inner);
        let (&daemon, tail) =
            inner.tails.iter().max_by_key(|(_, tail)| surplus(self, tail, most))?;
        let count = surplus(self, tail, most).min(RECORDS_PER_FOLD_MAX);
        (count > 0).then_some((daemon, tail.first, count))
    }

    fn plan_fold(
        &self,
        daemon: DaemonKey,
        first: u64,
        count: u64,
    ) -> Result<Option<FoldJob>, JournalFault> {
        let read = self.begin_read()?;
        let base = read_base(&read, daemon)?;
        let mut last = base.as_ref().map(loaded_base);
        let mut chain = chain_at(last.as_ref());
        let (mut bytes, mut all, mut touched) = (0, false, BTreeSet::new());
        let (mut controls, mut answers) = (Vec::new(), false);
        let end = first.saturating_add(count - 1);
        visit_records(&read, daemon, first, end, |sequence, stored, record| {
            let head = &record.head;
            chain
                .take(daemon, sequence, head, record.hash)
                .map_err(|what| JournalFault::corrupt(what).at(sequence))?;
            all |= head.whole || last.is_some_and(|last| head.memory_bytes < last.memory_bytes);
            touched.extend(record.ranges().flat_map(|(offset, bytes)| chunks_of(offset, bytes)));
            bytes += stored as u64;
            if !head.is_more() {
                controls = record.controls().map(<[u8]>::to_vec).collect();
                answers |= record.keyed.is_some() || head.voids_from().is_some();
                last = Some(loaded_record(record));
            }
            Ok(())
        })?;
        let Some(target) =
            last.filter(|last| last.sequence.next().0 == first.saturating_add(count))
        else {
            return Err(JournalFault::corrupt("records are missing").at(Sequence(first)));
        };
        if all {
            touched.extend(chunk_indices(&read, daemon)?);
        }
        let left = touched.clone();
        Ok(Some(FoldJob { daemon, base, first, target, controls, bytes, touched, left, answers }))
    }
}

/// The chunks that a range lies in.
fn chunks_of(offset: u64, bytes: &[u8]) -> std::ops::RangeInclusive<u64> {
    let chunk = CHUNK_BYTES as u64;
    let last = offset.saturating_add((bytes.len() as u64).saturating_sub(1));
    offset / chunk..=last / chunk
}

fn chunk_indices(read: &ReadTransaction, daemon: DaemonKey) -> Result<BTreeSet<u64>, JournalFault> {
    let chunks = read.open_table(CHUNKS).map_err(|error| fault(&error.into()))?;
    let range = (daemon.0, 0, 0)..=(daemon.0, u64::MAX, u64::MAX);
    let mut indices = BTreeSet::new();
    for entry in chunks.range(range).map_err(|error| fault(&error.into()))? {
        let (key, _) = entry.map_err(|error| fault(&error.into()))?;
        indices.insert(key.value().1);
    }
    Ok(indices)
}

/// Decodes the records of a range, and before each the parts that it ends; `visit` gets sequence,
/// stored bytes and record.
pub(super) fn visit_records(
    read: &ReadTransaction,
    daemon: DaemonKey,
    first: u64,
    last: u64,
    mut visit: impl FnMut(Sequence, usize, &Record<'_>) -> Result<(), JournalFault>,
) -> Result<(), JournalFault> {
    let records = read.open_table(RECORDS).map_err(|error| fault(&error.into()))?;
    let mut scratch = Vec::new();
    let mut decode = |sequence: Sequence, bytes: &[u8]| {
        let record = Record::decode(bytes, &mut scratch)
            .map_err(|error| JournalFault::corrupt(error.to_string()).at(sequence))?;
        visit(sequence, bytes.len(), &record).map(|()| record.hash)
    };
    let range = (daemon.0, first)..=(daemon.0, last);
    for entry in records.range(range).map_err(|error| fault(&error.into()))? {
        let (key, value) = entry.map_err(|error| fault(&error.into()))?;
        let (sequence, bytes) = (Sequence(key.value().1), value.value());
        if let Ok(frame) = Frame::of(bytes)
            && frame.head.part == Part::Last
        {
            let parts = (daemon.0, sequence.0, 0)..=(daemon.0, sequence.0, u64::MAX);
            // Those after the one that it names are of a try before.
            visit_parts(read, parts, |sequence, part| {
                let named = decode(sequence, part)? == frame.head.previous;
                Ok(if named { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
        }
        decode(sequence, bytes)?;
    }
    Ok(())
}

/// Applies what a record says about one chunk.
fn apply_to_chunk(chunk: &mut [u8], index: u64, record: &Record<'_>) {
    debug_assert_eq!(chunk.len(), CHUNK_BYTES);
    if record.head.clears() {
        chunk.fill(0);
    }
    let start = index.saturating_mul(CHUNK_BYTES as u64);
    let inside = record.head.memory_bytes.saturating_sub(start).min(CHUNK_BYTES as u64);
    if let Some(beyond) = usize::try_from(inside).ok().and_then(|inside| chunk.get_mut(inside..)) {
        beyond.fill(0);
    }
    for (offset, bytes) in record.ranges() {
        let skipped = start.saturating_sub(offset);
        let at = offset.saturating_sub(start);
        let (Ok(skipped), Ok(at)) = (usize::try_from(skipped), usize::try_from(at)) else {
            continue;
        };
        let Some(bytes) = bytes.get(skipped..).filter(|bytes| !bytes.is_empty()) else { continue };
        let Some(place) = chunk.get_mut(at..) else { continue };
        let length = place.len().min(bytes.len());
        if let (Some(place), Some(bytes)) = (place.get_mut(..length), bytes.get(..length)) {
            place.copy_from_slice(bytes);
        }
    }
}

type Built = BTreeMap<u64, Vec<u8>>;
