//! Turns commits into records of the journal.
//!
//! The daemon applies a commit in memory and goes on; the record waits here until whoever drives
//! the daemon takes it to the journal, and the answer leaves the host only when that is durable.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Bound;
use crate::base::error::Code;
use crate::base::ids::{Generation, RequestId, Sequence};
use crate::mechanisms::journal::{DaemonKey, Journal};
use crate::mechanisms::memory::{Changed, Images};
use crate::mechanisms::sandbox::Caught;
use crate::pure::delta::Delta;
use crate::pure::record::{
    Draft, EncodeError, Encoder, Head, Keyed, Kind, PAYLOAD_BYTES_MAX, Part,
};

/// Bytes of a record's payload that are kept free for headers of ranges.
const RANGES_BYTES_MAX: usize = PAYLOAD_BYTES_MAX / 4;

/// Bytes of cards that one commit may change: what a record holds besides its headers of ranges.
pub const COMMIT_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - RANGES_BYTES_MAX;

/// Bytes of a state that are compared at a time.
const DIFF_BYTES: usize = 64 << 10;

/// A daemon's place in the journal.
#[derive(Clone, Debug)]
pub struct JournalSeat {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The daemon's id in it.
    pub key: DaemonKey,
}

/// The request that a commit answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered<'a> {
    pub(super) bound: &'a Bound,
    pub(super) attempt: u32,
    pub(super) value: &'a [u8],
    /// Hash of the request, when it has a key.
    pub(super) request: Option<blake3::Hash>,
}

/// When a commit was made, and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) sequence: Sequence,
    pub(super) generation: Generation,
    pub(super) unix_nanos: u64,
}

/// Makes records and chains them.
#[derive(Debug)]
pub(super) struct Recorder {
    seat: JournalSeat,
    /// The journal's when the state was loaded; none when the state can't be relied on.
    incarnation: Option<u64>,
    code: [u8; 32],
    previous: blake3::Hash,
    delta: Delta,
    /// What a revert changes is more than a record holds.
    revert_whole: bool,
    encoder: Encoder,
    records: VecDeque<(Sequence, Vec<u8>)>,
    /// Used buffers, for the next records.
    spare: Vec<Vec<u8>>,
}

impl Recorder {
    /// Continues a chain; `previous` is the hash of its last record, zero when there is none.
    /// `incarnation` is the journal's from before the state was loaded.
    pub(super) fn new(
        seat: &JournalSeat,
        incarnation: u64,
        code: [u8; 32],
        previous: blake3::Hash,
    ) -> Self {
        let (delta, encoder) = (Delta::default(), Encoder::new());
        let (seat, records, spare) = (seat.clone(), VecDeque::new(), Vec::new());
        let incarnation = Some(incarnation);
        let revert_whole = false;
        Self { seat, incarnation, code, previous, delta, revert_whole, encoder, records, spare }
    }

    /// Its place in the journal.
    pub(super) fn seat(&self) -> &JournalSeat {
        &self.seat
    }

    /// The journal was opened again since the state was loaded, or the state is in doubt.
    pub(super) fn is_stale(&self) -> bool {
        self.incarnation != Some(self.seat.journal.incarnation())
    }

    /// The journal's when the state was loaded; none when the state can't be relied on.
    pub(super) fn incarnation(&self) -> Option<u64> {
        self.incarnation
    }

    /// The state can't be relied on any more: only what is durable can.
    pub(super) fn doubt(&mut self) {
        self.incarnation = None;
    }

    /// Hash of the last record.
    pub(super) fn last_hash(&self) -> blake3::Hash {
        self.previous
    }

    /// Applies the changes to the committed image and remembers the bytes that differ.
    ///
    /// # Errors
    ///
    /// `E_COMMIT_TOO_LARGE`, before anything is applied.
    pub(super) fn commit(
        &mut self,
        images: &mut Images,
        bytes_max: usize,
    ) -> Result<Changed, Caught> {
        check_size(images, bytes_max)?;
        Ok(images.commit_into(&mut self.delta))
    }

    /// Remembers the bytes that differ between two whole states, for the record of a revert; none
    /// when a record doesn't hold them, so that the whole state has to be written.
    pub(super) fn diff(&mut self, old: &[u8], new: &[u8]) {
        self.delta.clear();
        self.revert_whole = false;
        let old = old.chunks(DIFF_BYTES).chain(std::iter::repeat(&[][..]));
        for (index, (old, new)) in old.zip(new.chunks(DIFF_BYTES)).enumerate() {
            self.delta.diff((index * DIFF_BYTES) as u64, old, new);
            if self.delta.bytes().len() > COMMIT_BYTES_MAX {
                self.delta.clear();
                self.revert_whole = true;
                return;
            }
        }
    }

    /// Writes the record of a revert; [`Recorder::diff`] came before.
    ///
    /// # Errors
    ///
    /// As [`Recorder::record`].
    pub(super) fn record_revert(
        &mut self,
        to: Sequence,
        images: &Images,
        moment: Moment,
    ) -> Result<(), Caught> {
        self.write(Kind::Revert, RequestId(to.0), images, moment, None)
    }

    /// Writes the record of an upgrade: the whole state of `images`, made by other code, which
    /// makes the later ones too.
    ///
    /// # Errors
    ///
    /// As [`Recorder::record`]; then nothing is recorded, and the code is what it was.
    pub(super) fn record_upgrade(
        &mut self,
        code: [u8; 32],
        images: &Images,
        moment: Moment,
    ) -> Result<(), Caught> {
        let before = std::mem::replace(&mut self.code, code);
        let written = self.write(Kind::Upgrade, RequestId(0), images, moment, None);
        if written.is_err() {
            self.code = before;
        }
        written
    }

    /// Writes the record of the commit that was applied last.
    ///
    /// # Errors
    ///
    /// `E_COMMIT_TOO_LARGE` for a change that no record holds. A whole state takes as many as it
    /// needs.
    pub(super) fn record(
        &mut self,
        kind: Kind,
        images: &Images,
        moment: Moment,
        answered: Option<Answered<'_>>,
    ) -> Result<(), Caught> {
        let request = answered.map_or(RequestId(0), |answered| answered.bound.request);
        self.write(kind, request, images, moment, answered)
    }

    fn write(
        &mut self,
        kind: Kind,
        request: RequestId,
        images: &Images,
        moment: Moment,
        answered: Option<Answered<'_>>,
    ) -> Result<(), Caught> {
        let whole = match kind {
            Kind::Commit => false,
            Kind::Revert => self.revert_whole,
            Kind::Init | Kind::Restore | Kind::Upgrade | Kind::Zero => true,
        };
        let controls: SmallVec<[&[u8]; 4]> = images.committed_states().collect();
        let head = Head {
            kind,
            whole,
            daemon: self.seat.key.0,
            fence: 0,
            sequence: moment.sequence,
            previous: self.previous,
            code: self.code,
            request,
            contract: answered.map(|answered| answered.bound.contract),
            unix_nanos: moment.unix_nanos,
            generation: moment.generation,
            memory_bytes: images.committed_size() as u64,
            attempts: answered.map_or(0, |answered| answered.attempt),
            part: Part::Only,
        };
        let keyed = answered.and_then(|answered| {
            let key = answered.bound.key.as_deref()?;
            Some(Keyed { key, request: answered.request?, reply: answered.value })
        });
        if whole {
            return self.write_whole(head, keyed, &controls, images.committed());
        }
        self.encode(head, keyed, &controls)
    }

    /// A whole state, in as many records as it takes.
    fn write_whole(
        &mut self,
        mut head: Head,
        keyed: Option<Keyed<'_>>,
        controls: &[&[u8]],
        memory: &[u8],
    ) -> Result<(), Caught> {
        let (queued, previous) = (self.records.len(), self.previous);
        let part_bytes = self.seat.journal.part_bytes();
        let (mut rest, mut number) = (memory, 0);
        loop {
            self.delta.clear();
            while !rest.is_empty() && self.delta.bytes().len() < part_bytes {
                let at = (memory.len() - rest.len()) as u64;
                let (some, after) = rest.split_at(rest.len().min(part_bytes.min(DIFF_BYTES)));
                self.delta.diff_from_zero(at, some);
                rest = after;
            }
            head.previous = self.previous;
            head.part = match (rest.is_empty(), number) {
                (false, number) => Part::More(number),
                (true, 0) => Part::Only,
                (true, _) => Part::Last,
            };
            let last = rest.is_empty();
            let encoded = if last {
                self.encode(head, keyed, controls)
            } else {
                self.encode(head, None, &[])
            };
            if last || encoded.is_err() {
                if encoded.is_err() {
                    self.records.truncate(queued);
                    self.previous = previous;
                }
                return encoded;
            }
            number += 1;
        }
    }

    /// Encodes what is in the delta.
    fn encode(
        &mut self,
        head: Head,
        keyed: Option<Keyed<'_>>,
        controls: &[&[u8]],
    ) -> Result<(), Caught> {
        let draft = Draft { head, keyed, controls, delta: &self.delta };
        let mut record = self.spare.pop().unwrap_or_default();
        self.previous = self.encoder.encode(&draft, &mut record).map_err(|error| match error {
            EncodeError::TooLarge { .. } => too_large(error.to_string()),
            EncodeError::Controls { .. } => Caught::new(Code::HostBug, error.to_string()),
        })?;
        self.records.push_back((head.sequence, record));
        Ok(())
    }

    /// The oldest record that was not taken yet.
    pub(super) fn take(&mut self) -> Option<(Sequence, Vec<u8>)> {
        self.records.pop_front()
    }

    /// Where used, empty buffers go; it takes one for each record.
    pub(super) fn spare(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.spare
    }
}

/// Whether what changed fits a record, and `bytes_max`.
///
/// # Errors
///
/// `E_COMMIT_TOO_LARGE`.
pub(in crate::tree) fn check_size(images: &Images, bytes_max: usize) -> Result<(), Caught> {
    let room = bytes_max.min(COMMIT_BYTES_MAX);
    if images.live_size() > room && images.marked_bytes() > room {
        return Err(too_large(format!("it changed more than {room} bytes")));
    }
    Ok(())
}

fn too_large(message: String) -> Caught {
    Caught::new(Code::CommitTooLarge, message)
}
