//! Reading the log: one group after the other, and after a crash whatever is there.

use super::super::JournalFault;
use super::super::backend::io_fault;
use super::frame::{self, BLOCK_BYTES, Cursor, HEADER_BYTES, Header};
use super::{LOG, Log};

/// Bytes that are read at once when all headers are looked at.
const SWEEP_BYTES: usize = 1 << 20;

/// What a log holds after a crash.
#[derive(Clone, Debug)]
pub(in super::super) struct Scanned {
    /// The groups in order.
    pub(in super::super) groups: Vec<Cursor>,
    /// Where the next one goes. Its number is higher than any in the log.
    pub(in super::super) end: Cursor,
    /// Bytes of a last group that was never acknowledged, as far as its header is there.
    pub(in super::super) torn_bytes: u64,
    /// What can't be: acknowledged groups that are not there.
    pub(in super::super) damage: Option<JournalFault>,
}

impl Log {
    /// Reads the group at `at`, or at the beginning of the next lap, into `buffer`. Gives `use_it`
    /// its records and returns where the next group is; `None` when there is no such group.
    ///
    /// # Errors
    ///
    /// The machine's, and those of `use_it`.
    pub(in super::super) fn read(
        &self,
        at: Cursor,
        buffer: &mut Vec<u8>,
        use_it: &mut dyn FnMut(&[u8]) -> Result<(), JournalFault>,
    ) -> Result<Option<Cursor>, JournalFault> {
        let lap = Cursor { position: at.position.next_multiple_of(self.ring), ..at };
        for at in [at, lap] {
            let Some(header) = self.header(at.position % self.ring)? else { continue };
            if header.at != at || !self.fits(&header) {
                continue;
            }
            self.read_bytes(at.position % self.ring, header.frame_bytes, buffer)?;
            let Some((records, hash)) = frame::decode(buffer, self.id, at) else { continue };
            records.into_iter().try_for_each(use_it)?;
            return Ok(Some(after(&header, hash)));
        }
        Ok(None)
    }

    /// Finds all groups from `begin` on, and what is wrong with them.
    ///
    /// # Errors
    ///
    /// The machine's.
    pub(in super::super) fn scan(&self, begin: Cursor) -> Result<Scanned, JournalFault> {
        let (mut groups, mut end, mut buffer) = (Vec::new(), begin, Vec::new());
        while let Some(next) = self.read(end, &mut buffer, &mut |_| Ok(()))? {
            groups.push(end);
            end = next;
        }
        let mut scanned = Scanned { groups, end, torn_bytes: 0, damage: None };
        let later = self.sweep(end)?;
        for header in &later {
            if header.at.number == end.number {
                scanned.torn_bytes = scanned.torn_bytes.max(header.frame_bytes);
            }
        }
        for header in later {
            scanned.end.number = scanned.end.number.max(header.at.number + 1);
            let next = self.read(header.at, &mut buffer, &mut |_| Ok(()))?;
            let Some(next) = next.filter(|_| header.at.number > end.number) else { continue };
            // It was written, so the one before it had been synced.
            scanned.damage.get_or_insert_with(|| self.damaged(end));
            scanned.groups.push(header.at);
            scanned.end = Cursor { number: scanned.end.number, ..next };
        }
        if scanned.damage.is_some() {
            scanned.torn_bytes = 0;
        }
        Ok(scanned)
    }

    fn damaged(&self, at: Cursor) -> JournalFault {
        let offset = at.position % self.ring;
        let what = format!("the group at offset {offset} was acknowledged, but is not there");
        JournalFault::corrupt(what).in_file(LOG)
    }

    /// The headers of all groups from `from` on, by number.
    fn sweep(&self, from: Cursor) -> Result<Vec<Header>, JournalFault> {
        let mut found = Vec::new();
        let mut buffer = Vec::new();
        let mut offset = 0;
        while offset < self.ring {
            self.read_bytes(offset, SWEEP_BYTES as u64, &mut buffer)?;
            let blocks = buffer.chunks(usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX));
            for (block, at) in blocks.zip((offset..).step_by(block_step())) {
                let header = Header::read(block, self.id);
                let of_this_lap = |header: &Header| {
                    let ahead = header.at.position.checked_sub(from.position);
                    header.at.position % self.ring == at
                        && header.at.number >= from.number
                        && ahead.is_some_and(|ahead| ahead < 2 * self.ring)
                        && self.fits(header)
                };
                found.extend(header.filter(of_this_lap));
            }
            offset += buffer.len() as u64;
        }
        found.sort_by_key(|header| header.at.number);
        Ok(found)
    }

    fn fits(&self, header: &Header) -> bool {
        let offset = header.at.position % self.ring;
        let end = offset.checked_add(header.frame_bytes);
        offset.is_multiple_of(BLOCK_BYTES) && end.is_some_and(|end| end <= self.ring)
    }

    fn header(&self, offset: u64) -> Result<Option<Header>, JournalFault> {
        let mut bytes = [0; HEADER_BYTES];
        self.file.read(offset, &mut bytes).map_err(|error| io_fault(&error).in_file(LOG))?;
        Ok(Header::read(&bytes, self.id))
    }

    fn read_bytes(&self, offset: u64, bytes: u64, out: &mut Vec<u8>) -> Result<(), JournalFault> {
        let bytes = bytes.min(self.ring - offset);
        out.resize(usize::try_from(bytes).unwrap_or(0), 0);
        self.file.read(offset, out).map_err(|error| io_fault(&error).in_file(LOG))
    }
}

fn block_step() -> usize {
    usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX)
}

fn after(header: &Header, hash: blake3::Hash) -> Cursor {
    let frame = header.frame_bytes.next_multiple_of(BLOCK_BYTES);
    let at = header.at;
    Cursor { number: at.number + 1, position: at.position + frame, previous: hash }
}
