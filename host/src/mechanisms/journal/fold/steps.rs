//! The writing steps of a fold.

use redb::ReadableTable;

use super::super::base::{
    BaseHead, CHUNK_BYTES, ChunksHash, pack_answer, pack_chunk, unpack_chunk,
};
use super::super::load::visit_chunks;
use super::super::store::{ANSWERS, BASES, CHUNKS, PARTS, RECORDS, Store, fault};
use super::super::{FaultKind, JournalFault};
use super::{Built, CHUNKS_PER_STEP, FoldJob, apply_to_chunk, visit_records};
use crate::base::limits::{KEY_ANSWERS_BYTES_MAX, KEYS_PER_DAEMON_MAX};
use crate::pure::keys::KeptAnswer;

impl Store {
    /// Writes some of the job's chunks and reads them back.
    pub(super) fn build_chunks(&self, job: &mut FoldJob) -> Result<(), JournalFault> {
        let some: Vec<u64> = job.left.iter().copied().take(CHUNKS_PER_STEP).collect();
        let built = self.new_chunks(job, &some)?;
        let version = job.target.sequence.0;
        let write = self.begin_write()?;
        {
            let mut chunks = write.open_table(CHUNKS).map_err(|error| fault(&error.into()))?;
            for (&index, chunk) in &built {
                let stored = pack_chunk(chunk).unwrap_or_default();
                let key = (job.daemon.0, index, version);
                chunks.insert(key, stored.as_slice()).map_err(|error| fault(&error.into()))?;
            }
        }
        write.commit().map_err(|error| fault(&error.into()))?;
        if let Err(fault) = self.read_back(job, &built) {
            // The old base and all records are there. What is not there as it was written goes, so
            // that no start finds it; the tables are opened again, and it is tried once more.
            self.drop_chunks(job, &built)?;
            return Err(JournalFault { kind: FaultKind::Io, ..fault }.of_daemon(job.daemon));
        }
        for index in some {
            job.left.remove(&index);
        }
        Ok(())
    }

    /// The chunks as they are after the job's records.
    fn new_chunks(&self, job: &FoldJob, some: &[u64]) -> Result<Built, JournalFault> {
        let read = self.begin_read()?;
        let chunks = read.open_table(CHUNKS).map_err(|error| fault(&error.into()))?;
        let mut built = Built::new();
        for &index in some {
            let mut chunk = vec![0; CHUNK_BYTES];
            if let Some(base) = &job.base {
                let range = (job.daemon.0, index, 0)..=(job.daemon.0, index, base.sequence.0);
                let mut versions = chunks.range(range).map_err(|error| fault(&error.into()))?;
                if let Some(newest) = versions.next_back() {
                    let (_, stored) = newest.map_err(|error| fault(&error.into()))?;
                    if !stored.value().is_empty() {
                        unpack_chunk(stored.value(), &mut chunk)?;
                    }
                }
            }
            built.insert(index, chunk);
        }
        let (first, last) = (job.first, job.target.sequence.0);
        visit_records(&read, job.daemon, first, last, |_, _, record| {
            for (&index, chunk) in &mut built {
                apply_to_chunk(chunk, index, record);
            }
            Ok(())
        })?;
        Ok(built)
    }

    fn drop_chunks(&self, job: &FoldJob, built: &Built) -> Result<(), JournalFault> {
        let write = self.begin_write()?;
        {
            let mut chunks = write.open_table(CHUNKS).map_err(|error| fault(&error.into()))?;
            for &index in built.keys() {
                let key = (job.daemon.0, index, job.target.sequence.0);
                chunks.remove(key).map_err(|error| fault(&error.into()))?;
            }
        }
        write.commit().map_err(|error| fault(&error.into()))
    }

    fn read_back(&self, job: &FoldJob, built: &Built) -> Result<(), JournalFault> {
        let read = self.begin_read()?;
        let chunks = read.open_table(CHUNKS).map_err(|error| fault(&error.into()))?;
        let mut found = Vec::new();
        for (&index, chunk) in built {
            let key = (job.daemon.0, index, job.target.sequence.0);
            let stored = chunks.get(key).map_err(|error| fault(&error.into()))?;
            let Some(stored) = stored else {
                return Err(JournalFault::corrupt("base chunk: not there when read back"));
            };
            if stored.value().is_empty() {
                found.clear();
                found.resize(CHUNK_BYTES, 0);
            } else {
                unpack_chunk(stored.value(), &mut found)?;
            }
            if found != *chunk {
                return Err(JournalFault::corrupt("base chunk: not what was written"));
            }
        }
        Ok(())
    }

    /// Makes the new base the base; then, in the same transaction, deletes what it replaces.
    pub(super) fn finish_fold(&self, job: &FoldJob) -> Result<(), JournalFault> {
        let read = self.begin_read()?;
        let (target, daemon) = (&job.target, job.daemon.0);
        let mut hash = ChunksHash::default();
        {
            let chunks = read.open_table(CHUNKS).map_err(|error| fault(&error.into()))?;
            visit_chunks(&chunks, job.daemon, target.sequence, |index, stored| {
                hash.add(index, stored);
                Ok(())
            })?;
        }
        let write = self.begin_write()?;
        let (answers, answers_bytes) = Self::keep_answers(&read, &write, job)?;
        {
            let mut bases = write.open_table(BASES).map_err(|error| fault(&error.into()))?;
            let head = BaseHead {
                sequence: target.sequence,
                hash: target.hash,
                code: target.code,
                generation: target.generation,
                unix_nanos: target.unix_nanos,
                memory_bytes: target.memory_bytes,
                chunks: hash.count,
                chunks_hash: hash.finish(),
                answers,
                answers_bytes,
                controls: job.controls.clone(),
            };
            let head = head.encode();
            bases.insert(daemon, head.as_slice()).map_err(|error| fault(&error.into()))?;
            let mut chunks = write.open_table(CHUNKS).map_err(|error| fault(&error.into()))?;
            for &index in &job.touched {
                let all = (daemon, index, 0)..=(daemon, index, u64::MAX);
                chunks
                    .retain_in(all, |key, stored| key.2 == target.sequence.0 && !stored.is_empty())
                    .map_err(|error| fault(&error.into()))?;
            }
            let mut records = write.open_table(RECORDS).map_err(|error| fault(&error.into()))?;
            records
                .retain_in((daemon, 0)..=(daemon, target.sequence.0), |_, _| false)
                .map_err(|error| fault(&error.into()))?;
            let mut parts = write.open_table(PARTS).map_err(|error| fault(&error.into()))?;
            parts
                .retain_in((daemon, 0, 0)..=(daemon, target.sequence.0, u64::MAX), |_, _| false)
                .map_err(|error| fault(&error.into()))?;
        }
        write.commit().map_err(|error| fault(&error.into()))
    }

    /// Keeps the answers of the records that go; drops the oldest over the limits.
    fn keep_answers(
        read: &redb::ReadTransaction,
        write: &redb::WriteTransaction,
        job: &FoldJob,
    ) -> Result<(u64, u64), JournalFault> {
        let daemon = job.daemon.0;
        let mut answers = write.open_table(ANSWERS).map_err(|error| fault(&error.into()))?;
        let (mut count, mut bytes) =
            job.base.as_ref().map_or((0, 0), |base| (base.answers, base.answers_bytes));
        let last = job.target.sequence.0;
        if !job.answers {
            return Ok((count, bytes));
        }
        visit_records(read, job.daemon, job.first, last, |sequence, _, record| {
            if record.head.is_more() {
                return Ok(());
            }
            if let Some(first) = record.head.voids_from() {
                let void = (daemon, first.0)..=(daemon, u64::MAX);
                answers
                    .retain_in(void, |_, stored| {
                        count = count.saturating_sub(1);
                        bytes = bytes.saturating_sub(stored.len() as u64);
                        false
                    })
                    .map_err(|error| fault(&error.into()))?;
            }
            let Some(keyed) = &record.keyed else { return Ok(()) };
            let (request, attempts) = (keyed.request, record.head.attempts);
            let value = keyed.reply.to_vec();
            let packed = pack_answer(keyed.key, &KeptAnswer { request, value, sequence, attempts });
            count += 1;
            bytes += packed.len() as u64;
            let key = (daemon, sequence.0);
            answers.insert(key, packed.as_slice()).map_err(|error| fault(&error.into()))?;
            Ok(())
        })?;
        let all = (daemon, 0)..=(daemon, u64::MAX);
        while count > KEYS_PER_DAEMON_MAX as u64 || bytes > KEY_ANSWERS_BYTES_MAX as u64 {
            let oldest = {
                let mut range = answers.range(all.clone()).map_err(|e| fault(&e.into()))?;
                let Some(oldest) = range.next() else { break };
                let (key, stored) = oldest.map_err(|error| fault(&error.into()))?;
                (key.value(), stored.value().len() as u64)
            };
            answers.remove(oldest.0).map_err(|error| fault(&error.into()))?;
            count = count.saturating_sub(1);
            bytes = bytes.saturating_sub(oldest.1);
        }
        Ok((count, bytes))
    }
}
