//! Loading: base image, then the records after it, each checked before it is applied.

use std::ops::{ControlFlow, RangeInclusive};

use redb::{ReadTransaction, ReadableTable};

use super::base::{BaseHead, CHUNK_BYTES, ChunksHash, unpack_answer, unpack_chunk};
use super::chain::Chain;
use super::fold::visit_records;
use super::hints::Hint;
use super::store::{ANSWERS, BASES, CHUNKS, PARTS, RECORDS, Store, fault};
use super::verify::Nowhere;
use super::{DaemonKey, FaultKind, ImageSink, JournalFault, Loaded, SinkError};
use crate::base::ids::Sequence;
use crate::pure::keys::KeptAnswer;
use crate::pure::record::{Frame, Record};

impl Store {
    /// Loads from log and tables: what is in the log is moved first.
    pub(super) fn load_all(
        &self,
        daemon: DaemonKey,
        at: Option<Sequence>,
        sink: &mut dyn ImageSink,
    ) -> Result<Option<Loaded>, JournalFault> {
        self.reading(|store| {
            // Read first: what is acknowledged from here on may be in the log only.
            let acked = store.hints()?.read(daemon)?;
            store.drain()?;
            store.at_tables(|| store.load_state(daemon, at, acked, sink))
        })
    }

    /// Bytes that a load of the daemon's state at that commit, or at its last one, takes at most:
    /// those of the largest memory that it had since its base. Records are not checked.
    ///
    /// # Errors
    ///
    /// [`JournalFault`].
    pub fn largest_memory(
        &self,
        daemon: DaemonKey,
        at: Option<Sequence>,
    ) -> Result<u64, JournalFault> {
        self.reading(|store| {
            store.drain()?;
            store.at_tables(|| {
                let read = store.begin_read()?;
                let base = read_base(&read, daemon)?;
                let mut largest = base.map_or(0, |base| base.memory_bytes);
                let records = read.open_table(RECORDS).map_err(|error| fault(&error.into()))?;
                let range = (daemon.0, 0)..=(daemon.0, at.map_or(u64::MAX, |at| at.0));
                for entry in records.range(range).map_err(|error| fault(&error.into()))? {
                    let (_, value) = entry.map_err(|error| fault(&error.into()))?;
                    // A rotten one is found when it is decoded.
                    let head = Frame::of(value.value()).map(|frame| frame.head);
                    largest = head.map_or(largest, |head| largest.max(head.memory_bytes));
                }
                Ok(largest)
            })
        })
    }

    fn load_state(
        &self,
        daemon: DaemonKey,
        at: Option<Sequence>,
        acked: Option<Hint>,
        sink: &mut dyn ImageSink,
    ) -> Result<Option<Loaded>, JournalFault> {
        if let Some(bad) = self.lock().tails.get(&daemon).and_then(|tail| tail.bad.clone()) {
            return Err(bad);
        }
        let read = self.begin_read()?;
        let base = read_base(&read, daemon)?;
        if let (Some(base), Some(at)) = (&base, at)
            && at < base.sequence
        {
            let what = format!("the oldest state that is kept is commit {}", base.sequence);
            return Err(JournalFault::no_commit(what).at(at));
        }
        let mut loaded = None;
        sink.clear().map_err(sink_fault)?;
        let whole = last_whole(&read, daemon, at)?;
        if let Some(base) = &base {
            if whole.is_some() {
                load_base(&read, daemon, base, &mut Nowhere)?;
            } else {
                load_base(&read, daemon, base, sink)?;
            }
            load_answers(&read, daemon, base, sink)?;
            loaded = Some(loaded_base(base));
        }
        let loaded = load_records(&read, daemon, at, whole, loaded, sink)?;
        match at {
            None => {
                let last = loaded.map(|last| Hint { sequence: last.sequence, hash: last.hash });
                Self::compare_with_hint(acked, last)?;
            }
            Some(at) if loaded.is_none_or(|last| last.sequence < at) => {
                return Err(JournalFault::no_commit("no such commit yet").at(at));
            }
            Some(_) => {}
        }
        Ok(loaded)
    }
}

pub(super) fn loaded_base(base: &BaseHead) -> Loaded {
    Loaded {
        sequence: base.sequence,
        hash: base.hash,
        code: base.code,
        generation: base.generation,
        unix_nanos: base.unix_nanos,
        memory_bytes: base.memory_bytes,
        base: Some(base.sequence),
        records: 0,
        record_bytes: 0,
    }
}

pub(super) fn read_base(
    read: &ReadTransaction,
    daemon: DaemonKey,
) -> Result<Option<BaseHead>, JournalFault> {
    let bases = read.open_table(BASES).map_err(|error| fault(&error.into()))?;
    let base = bases.get(daemon.0).map_err(|error| fault(&error.into()))?;
    base.map(|base| BaseHead::decode(base.value())).transpose()
}

/// Calls `visit` with index and stored bytes of each chunk of the base of that sequence.
pub(super) fn visit_chunks(
    chunks: &impl ReadableTable<(u64, u64, u64), &'static [u8]>,
    daemon: DaemonKey,
    sequence: Sequence,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), JournalFault>,
) -> Result<(), JournalFault> {
    let range = (daemon.0, 0, 0)..=(daemon.0, u64::MAX, u64::MAX);
    let mut newest: Option<(u64, redb::AccessGuard<'_, &'static [u8]>)> = None;
    for entry in chunks.range(range).map_err(|error| fault(&error.into()))? {
        let (key, value) = entry.map_err(|error| fault(&error.into()))?;
        let (_, index, version) = key.value();
        if version > sequence.0 {
            // Of a base that is being made, or whose making was interrupted.
            continue;
        }
        if let Some((done, stored)) = newest.replace((index, value))
            && done != index
        {
            visit_stored(done, stored.value(), &mut visit)?;
        }
    }
    newest.map_or(Ok(()), |(index, stored)| visit_stored(index, stored.value(), &mut visit))
}

/// An empty value says that the chunk became zero.
fn visit_stored(
    index: u64,
    stored: &[u8],
    visit: &mut impl FnMut(u64, &[u8]) -> Result<(), JournalFault>,
) -> Result<(), JournalFault> {
    if stored.is_empty() { Ok(()) } else { visit(index, stored) }
}

fn load_base(
    read: &ReadTransaction,
    daemon: DaemonKey,
    base: &BaseHead,
    sink: &mut dyn ImageSink,
) -> Result<(), JournalFault> {
    let chunks = read.open_table(CHUNKS).map_err(|error| fault(&error.into()))?;
    sink.resize(base.memory_bytes).map_err(sink_fault)?;
    let mut hash = ChunksHash::default();
    let mut chunk = Vec::new();
    visit_chunks(&chunks, daemon, base.sequence, |index, stored| {
        hash.add(index, stored);
        unpack_chunk(stored, &mut chunk)?;
        let offset = index.saturating_mul(CHUNK_BYTES as u64);
        let inside = base.memory_bytes.saturating_sub(offset).min(CHUNK_BYTES as u64);
        let inside = usize::try_from(inside).unwrap_or(CHUNK_BYTES);
        let (kept, beyond) = chunk.split_at_checked(inside).unwrap_or((&chunk, &[]));
        if beyond.iter().any(|&byte| byte != 0) {
            return Err(JournalFault::corrupt("base chunk: bytes beyond the memory's end"));
        }
        sink.write(offset, kept).map_err(sink_fault)
    })
    .and_then(|()| {
        let whole = hash.count == base.chunks && hash.finish() == base.chunks_hash;
        whole.then_some(()).ok_or_else(|| JournalFault::corrupt("base: chunks are missing or old"))
    })
    .map_err(|fault| fault.at(base.sequence))?;
    for (module, control) in base.controls.iter().enumerate() {
        sink.control(module, control).map_err(sink_fault)?;
    }
    Ok(())
}

fn load_answers(
    read: &ReadTransaction,
    daemon: DaemonKey,
    base: &BaseHead,
    sink: &mut dyn ImageSink,
) -> Result<(), JournalFault> {
    let answers = read.open_table(ANSWERS).map_err(|error| fault(&error.into()))?;
    let range = (daemon.0, 0)..=(daemon.0, u64::MAX);
    let mut count = 0;
    for entry in answers.range(range).map_err(|error| fault(&error.into()))? {
        let (key, value) = entry.map_err(|error| fault(&error.into()))?;
        let sequence = Sequence(key.value().1);
        let (name, answer) = unpack_answer(value.value()).map_err(|fault| fault.at(sequence))?;
        if answer.sequence != sequence {
            return Err(JournalFault::corrupt("kept answer: of another commit").at(sequence));
        }
        sink.answer(&name, answer);
        count += 1;
    }
    if count == base.answers {
        return Ok(());
    }
    Err(JournalFault::corrupt(format!("{count} kept answers instead of {}", base.answers)))
}

/// The last record up to `at` that holds a whole state: nothing before it needs to be applied.
fn last_whole(
    read: &ReadTransaction,
    daemon: DaemonKey,
    at: Option<Sequence>,
) -> Result<Option<Sequence>, JournalFault> {
    let records = read.open_table(RECORDS).map_err(|error| fault(&error.into()))?;
    let range = (daemon.0, 0)..=(daemon.0, at.map_or(u64::MAX, |at| at.0));
    for entry in records.range(range).map_err(|error| fault(&error.into()))?.rev() {
        let (key, value) = entry.map_err(|error| fault(&error.into()))?;
        // A rotten one is found when it is decoded.
        if Frame::of(value.value()).is_ok_and(|frame| frame.head.whole) {
            return Ok(Some(Sequence(key.value().1)));
        }
    }
    Ok(None)
}

/// Calls `visit` with sequence and bytes of each part in that range, until it breaks off.
pub(super) fn visit_parts(
    read: &ReadTransaction,
    range: RangeInclusive<(u64, u64, u64)>,
    mut visit: impl FnMut(Sequence, &[u8]) -> Result<ControlFlow<()>, JournalFault>,
) -> Result<(), JournalFault> {
    let parts = match read.open_table(PARTS) {
        // Tables of an earlier build.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
        parts => parts.map_err(|error| fault(&error.into()))?,
    };
    for entry in parts.range(range).map_err(|error| fault(&error.into()))? {
        let (key, part) = entry.map_err(|error| fault(&error.into()))?;
        if visit(Sequence(key.value().1), part.value())?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Loads the records up to `at`, all checked, those from `whole` on applied.
fn load_records(
    read: &ReadTransaction,
    daemon: DaemonKey,
    at: Option<Sequence>,
    whole: Option<Sequence>,
    base: Option<Loaded>,
    sink: &mut dyn ImageSink,
) -> Result<Option<Loaded>, JournalFault> {
    let mut loaded = base;
    let mut chain = chain_at(base.as_ref());
    let last = at.map_or(u64::MAX, |at| at.0);
    let mut parts_bytes = 0;
    visit_records(read, daemon, 0, last, |sequence, bytes, record| {
        chain
            .take(daemon, sequence, &record.head, record.hash)
            .map_err(|what| JournalFault::corrupt(what).at(sequence))?;
        if whole.is_none_or(|whole| whole <= sequence) {
            apply(record, sink).map_err(|error| sink_fault(error).at(sequence))?;
        }
        if record.head.is_more() {
            parts_bytes += bytes;
            return Ok(());
        }
        if let Some(first) = record.head.voids_from() {
            sink.void_answers(first);
        }
        if let Some(keyed) = &record.keyed {
            let attempts = record.head.attempts;
            let (request, value) = (keyed.request, keyed.reply.to_vec());
            sink.answer(keyed.key, KeptAnswer { request, value, sequence, attempts });
        }
        let bytes = bytes + std::mem::take(&mut parts_bytes);
        let (count, total) = loaded.map_or((0, 0), |last| (last.records, last.record_bytes));
        loaded = Some(Loaded {
            base: base.and_then(|base| base.base),
            records: count + 1,
            record_bytes: total + bytes as u64,
            ..loaded_record(record)
        });
        Ok(())
    })?;
    Ok(loaded)
}

/// The state after a record.
pub(super) fn loaded_record(record: &Record<'_>) -> Loaded {
    let head = &record.head;
    Loaded {
        sequence: head.sequence,
        hash: record.hash,
        code: head.code,
        generation: head.generation.0,
        unix_nanos: head.unix_nanos,
        memory_bytes: head.memory_bytes,
        base: None,
        records: 0,
        record_bytes: 0,
    }
}

/// The chain that goes on after that state.
pub(super) fn chain_at(last: Option<&Loaded>) -> Chain {
    Chain::at(last.map(|last| Hint { sequence: last.sequence, hash: last.hash }))
}

fn apply(record: &Record<'_>, sink: &mut dyn ImageSink) -> Result<(), SinkError> {
    if record.head.clears() {
        sink.clear()?;
    }
    sink.resize(record.head.memory_bytes)?;
    for (offset, bytes) in record.ranges() {
        sink.write(offset, bytes)?;
    }
    for (module, state) in record.controls().enumerate() {
        sink.control(module, state)?;
    }
    Ok(())
}

pub(super) fn sink_fault(error: SinkError) -> JournalFault {
    JournalFault::new(FaultKind::Sink, error.0)
}
