//! What changed between two versions of the same bytes.
//!
//! A [`Delta`] collects runs of new bytes, in ascending order. Equal bytes between two runs are
//! taken along when there are fewer of them than a run's own description costs.

use std::ops::Range;

/// Equal bytes between two changed ones that don't end a run: a run costs 12 bytes of description.
pub const MERGE_BYTES: usize = 16;

/// Bytes compared in one step while nothing differs: what compilers make a few vector compares of.
const BLOCK: usize = 64;

/// Bytes compared in one step inside a block that differs.
const WORD: usize = 16;

/// A change that doesn't fit the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a change of {bytes} bytes at {offset:#x} is outside an image of {image_bytes} bytes")]
pub struct OutOfImage {
    /// Where it begins.
    pub offset: u64,
    /// Its length.
    pub bytes: usize,
    /// The image's.
    pub image_bytes: usize,
}

/// Runs of changed bytes, ascending; keeps its buffers when it is cleared.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delta {
    runs: Vec<(u64, usize)>,
    bytes: Vec<u8>,
}

impl Delta {
    /// Forgets all runs.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.bytes.clear();
    }

    /// Adds what differs in `new`, which lies at `offset` of the image.
    ///
    /// `old` must have the length of `new`; bytes after a shorter one count as changed.
    pub fn diff(&mut self, offset: u64, old: &[u8], new: &[u8]) {
        let common = old.len().min(new.len());
        let mut at = 0;
        while let Some(run) = next_run(old, new, at..common) {
            at = run.end;
            let bytes = new.get(run.clone()).unwrap_or_default();
            self.push(offset.saturating_add(run.start as u64), bytes);
        }
        if let Some(rest) = new.get(common..) {
            self.push(offset.saturating_add(common as u64), rest);
        }
    }

    /// Adds a run as it is. Runs must ascend and not overlap; one that touches the last is merged.
    pub fn push(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.runs.last_mut() {
            Some((start, length)) if *start + *length as u64 == offset => *length += bytes.len(),
            last => {
                debug_assert!(last.is_none_or(|last| last.0 + (last.1 as u64) < offset));
                self.runs.push((offset, bytes.len()));
            }
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds all bytes of `image` that are not zero: the change from an empty one. It lies at
    /// `offset`.
    pub fn diff_from_zero(&mut self, offset: u64, image: &[u8]) {
        const ZERO: [u8; 4096] = [0; 4096];
        for (index, block) in image.chunks(ZERO.len()).enumerate() {
            let zero = ZERO.get(..block.len()).unwrap_or_default();
            self.diff(offset.saturating_add((index * ZERO.len()) as u64), zero, block);
        }
    }

    /// The runs: offset and bytes.
    pub fn runs(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.runs.iter().map_while(move |&(offset, length)| {
            let (bytes, after) = rest.split_at_checked(length)?;
            rest = after;
            Some((offset, bytes))
        })
    }

    /// How many runs.
    #[must_use]
    pub fn runs_count(&self) -> usize {
        self.runs.len()
    }

    /// The bytes of all runs, one after the other.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes runs into an image. Runs before a bad one are written.
///
/// # Errors
///
/// [`OutOfImage`] when a run is outside.
pub fn apply<'a>(
    image: &mut [u8],
    runs: impl IntoIterator<Item = (u64, &'a [u8])>,
) -> Result<(), OutOfImage> {
    let image_bytes = image.len();
    for (offset, bytes) in runs {
        let outside = OutOfImage { offset, bytes: bytes.len(), image_bytes };
        let start = usize::try_from(offset).map_err(|_| outside)?;
        let end = start.checked_add(bytes.len()).ok_or(outside)?;
        image.get_mut(start..end).ok_or(outside)?.copy_from_slice(bytes);
    }
    Ok(())
}

/// The first run of differing bytes in `within`, with short equal gaps taken along.
fn next_run(old: &[u8], new: &[u8], within: Range<usize>) -> Option<Range<usize>> {
    let start = next_difference(old, new, within.clone())?;
    let mut end = start + 1;
    loop {
        // Differing bytes come in runs: follow this one bytewise.
        let differing = old
            .get(end..within.end)?
            .iter()
            .zip(new.get(end..within.end)?)
            .take_while(|(old, new)| old != new)
            .count();
        end += differing;
        let gap_end = end.saturating_add(MERGE_BYTES).min(within.end);
        match next_difference(old, new, end..gap_end) {
            Some(next) => end = next + 1,
            None => return Some(start..end),
        }
    }
}

/// Where `old` and `new` first differ.
fn next_difference(old: &[u8], new: &[u8], within: Range<usize>) -> Option<usize> {
    let old = old.get(within.clone())?;
    let new = new.get(within.clone())?;
    let mut skipped = equal_steps::<BLOCK>(old, new);
    skipped += equal_steps::<WORD>(old.get(skipped..)?, new.get(skipped..)?);
    let rest = old.get(skipped..)?.iter().zip(new.get(skipped..)?);
    let found = rest.take(2 * WORD).position(|(old, new)| old != new)?;
    Some(within.start + skipped + found)
}

/// Bytes at the front that are equal, in whole steps.
fn equal_steps<const STEP: usize>(old: &[u8], new: &[u8]) -> usize {
    let (old, _) = old.as_chunks::<STEP>();
    let (new, _) = new.as_chunks::<STEP>();
    old.iter().zip(new).take_while(|(old, new)| old == new).count() * STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator of test cases; the same on every machine.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, below: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            usize::try_from(self.0 >> 33).unwrap() % below
        }
    }

    fn check(old: &[u8], new: &[u8]) -> usize {
        let mut delta = Delta::default();
        delta.diff(0, old, new);
        let mut image = old.to_vec();
        image.resize(new.len(), 0);
        apply(&mut image, delta.runs()).unwrap();
        assert_eq!(image, new);
        let mut reached = 0;
        for (offset, bytes) in delta.runs() {
            let offset = usize::try_from(offset).unwrap();
            assert!(offset == 0 || reached < offset, "touching runs are one run");
            assert!(!bytes.is_empty());
            reached = offset + bytes.len();
        }
        delta.runs_count()
    }

    #[test]
    fn applying_a_difference_gives_the_new_bytes() {
        let mut dice = Dice(7);
        for _ in 0..2000 {
            let length = dice.roll(300) + 1;
            let old: Vec<u8> = (0..length).map(|_| u8::try_from(dice.roll(3)).unwrap()).collect();
            let mut new = old.clone();
            for _ in 0..dice.roll(12) {
                let at = dice.roll(length);
                let end = (at + dice.roll(40)).min(length);
                let byte = u8::try_from(dice.roll(3)).unwrap();
                new[at..end].fill(byte);
            }
            check(&old, &new);
        }
    }

    #[test]
    fn near_changes_are_one_run_and_far_ones_two() {
        let old = [0_u8; 200];
        let mut new = old;
        assert_eq!(check(&old, &new), 0);
        new[10] = 1;
        new[10 + MERGE_BYTES] = 1;
        assert_eq!(check(&old, &new), 1);
        new[10 + MERGE_BYTES] = 0;
        new[10 + MERGE_BYTES + 1] = 1;
        assert_eq!(check(&old, &new), 2);
        new[199] = 1;
        assert_eq!(check(&old, &new), 3);
        assert_eq!(check(&[], &[1, 2]), 1);
    }

    #[test]
    fn an_image_is_its_difference_from_zero() {
        let mut image = vec![0; 20_000];
        image[3] = 1;
        image[4095] = 2;
        image[4096] = 3;
        image[19_999] = 4;
        let mut delta = Delta::default();
        delta.diff_from_zero(0, &image);
        assert_eq!(delta.runs_count(), 3);
        let mut other = vec![0; image.len()];
        apply(&mut other, delta.runs()).unwrap();
        assert_eq!(other, image);
        delta.clear();
        assert_eq!((delta.runs_count(), delta.bytes()), (0, &[][..]));
    }

    #[test]
    fn a_run_outside_the_image_is_refused() {
        let mut image = [0; 4];
        for offset in [1, 4, u64::MAX] {
            let run: &[u8] = &[1, 2, 3, 4];
            let error = apply(&mut image, [(offset, run)]).unwrap_err();
            assert_eq!(error, OutOfImage { offset, bytes: 4, image_bytes: 4 });
        }
        assert_eq!(image, [0; 4]);
    }
}
