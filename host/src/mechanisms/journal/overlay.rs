//! Files that are only read: what is written over them stays in memory. So a directory can be
//! opened and recovered on a disk that is full, or that nothing may be written to, and nothing of
//! it changes.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::base::limits::OVERLAY_BYTES_MAX;

/// Bytes that are kept together.
const BLOCK_BYTES: usize = 4096;

/// Reads a file at an offset, and tells its length.
pub(super) trait Below: Send + Sync + fmt::Debug + 'static {
    /// Bytes of the file.
    ///
    /// # Errors
    ///
    /// The machine's.
    fn len(&self) -> io::Result<u64>;

    /// Fills `out` with what is there.
    ///
    /// # Errors
    ///
    /// The machine's; a range that isn't inside the file.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

/// A file with what was written over it.
#[derive(Debug)]
pub(super) struct Overlay<F> {
    below: F,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    /// Bytes of the whole.
    length: u64,
    /// Bytes of the file below that still count; after them come zeros.
    kept: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK_BYTES]>>,
}

impl<F: Below> Overlay<F> {
    pub(super) fn new(below: F) -> io::Result<Self> {
        let length = below.len()?;
        let over = Over { length, kept: length, blocks: BTreeMap::new() };
        Ok(Self { below, over: Mutex::new(over) })
    }

    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the file below has for a block.
    fn block_below(&self, over: &Over, block: u64) -> io::Result<Box<[u8; BLOCK_BYTES]>> {
        let mut bytes = Box::new([0; BLOCK_BYTES]);
        let start = block.saturating_mul(BLOCK_BYTES as u64);
        let kept = over.kept.saturating_sub(start).min(BLOCK_BYTES as u64);
        if let Some(some) = usize::try_from(kept).ok().and_then(|kept| bytes.get_mut(..kept))
            && !some.is_empty()
        {
            self.below.read(start, some)?;
        }
        Ok(bytes)
    }
}

/// The parts of a range: block, offset in it, and where in the buffer.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset.checked_add(done as u64)?;
        let inside = usize::try_from(at % BLOCK_BYTES as u64).ok()?;
        let some = (BLOCK_BYTES - inside).min(length - done);
        let range = done..done + some;
        done += some;
        (some > 0).then_some((at / BLOCK_BYTES as u64, inside, range))
    })
}

fn outside() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

impl Below for Vec<u8> {
    fn len(&self) -> io::Result<u64> {
        Ok(Self::len(self) as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let some = self.get(start..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(some.ok_or_else(outside)?);
        Ok(())
    }
}

impl<F: Below> StorageBackend for Overlay<F> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > over.length) {
            return Err(outside());
        }
        for (block, inside, range) in pieces(offset, out.len()) {
            let place = out.get_mut(range).ok_or_else(outside)?;
            let below;
            let bytes = match over.blocks.get(&block) {
                Some(bytes) => bytes,
                None => {
                    below = self.block_below(&over, block)?;
                    &below
                }
            };
            let bytes = bytes.get(inside..).and_then(|rest| rest.get(..place.len()));
            place.copy_from_slice(bytes.ok_or_else(outside)?);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut over = self.over();
        if len < over.length {
            over.kept = over.kept.min(len);
            let block = len / BLOCK_BYTES as u64;
            let inside = usize::try_from(len % BLOCK_BYTES as u64).unwrap_or(0);
            drop(over.blocks.split_off(&(block + u64::from(inside > 0))));
            if let Some(rest) = over.blocks.get_mut(&block).and_then(|last| last.get_mut(inside..))
            {
                rest.fill(0);
            }
        }
        over.length = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.over();
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > over.length) {
            return Err(outside());
        }
        for (block, inside, range) in pieces(offset, data.len()) {
            if !over.blocks.contains_key(&block) {
                if over.blocks.len() >= OVERLAY_BYTES_MAX / BLOCK_BYTES {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let below = self.block_below(&over, block)?;
                over.blocks.insert(block, below);
            }
            let data = data.get(range).ok_or_else(outside)?;
            let place = over.blocks.get_mut(&block).and_then(|bytes| bytes.get_mut(inside..));
            let place = place.and_then(|rest| rest.get_mut(..data.len())).ok_or_else(outside)?;
            place.copy_from_slice(data);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a vector that does the same.
    #[test]
    fn it_reads_as_if_it_had_been_written() {
        let mut state = 7_u64;
        let mut roll = move |below: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..40 {
            let mut model: Vec<u8> = (0..roll(20_000)).map(|_| 7).collect();
            let overlay = Overlay::new(model.clone()).unwrap();
            for _ in 0..60 {
                let (at, length) = (roll(20_000), roll(9000));
                if roll(4) == 0 {
                    overlay.set_len(at as u64).unwrap();
                    model.resize(at, 0);
                } else {
                    let data: Vec<u8> =
                        (0..length).map(|_| u8::try_from(roll(256)).unwrap()).collect();
                    let place = model.get_mut(at..at + length);
                    let written = overlay.write(at as u64, &data);
                    assert_eq!(written.is_ok(), place.is_some());
                    if let Some(place) = place {
                        place.copy_from_slice(&data);
                    }
                }
                assert_eq!(overlay.len().unwrap(), model.len() as u64);
                let mut found = vec![1; model.len()];
                overlay.read(0, &mut found).unwrap();
                assert!(found == model);
            }
        }
    }
}
