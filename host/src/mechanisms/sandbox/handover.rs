//! Carries a guest's state from old code to new, as a value that the host keeps in between.
//!
//! ```text
//!   old code   save  --write--> Handover
//!   new code   load  <--read--- Handover     over cleared images of its own
//!                    --write--> Handover     what it has read, where it makes something else of it
//!              check
//!              save  --write--> Handover     what is left
//! ```

use std::sync::Arc;

use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Lower};

use super::bindings::WitRejection;
use super::crash::{Caught, Stop};
use super::deploy::Guest;
use super::instance::{Environment, Instance, StartCause, StartError, shown};
use super::state::{CallContext, Limits};
use crate::base::error::Code;
use crate::base::ids::Generation;
use crate::base::limits::HANDOVER_BYTES_MAX;
use crate::mechanisms::memory::Images;
use crate::pure::request::Rejection;

/// Pieces that are smaller together are kept as one: a guest that writes byte by byte must not cost
/// the host an allocation each time.
const PIECE_BYTES: usize = 16 << 10;

/// A guest's state as a value, in the pieces in which it was written.
#[derive(Debug, Default)]
pub struct Handover {
    pieces: Vec<Vec<u8>>,
    bytes: usize,
}

impl Handover {
    /// Bytes that were written.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The value.
    #[must_use]
    pub fn pieces(&self) -> &[Vec<u8>] {
        &self.pieces
    }

    /// Takes the next bytes. Those of a value of more than `keep` bytes are only counted.
    fn write(&mut self, bytes: Vec<u8>, keep: usize) -> Result<(), Stop> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > HANDOVER_BYTES_MAX {
            let message = format!("a state of more than {HANDOVER_BYTES_MAX} bytes as a value");
            return Err(Stop::new(Code::HostcallLimit, message));
        }
        if self.bytes > keep {
            self.pieces = Vec::new();
            return Ok(());
        }
        match self.pieces.last_mut() {
            // An empty piece would be read as the end.
            _ if bytes.is_empty() => {}
            Some(last) if last.len() + bytes.len() <= PIECE_BYTES => last.extend_from_slice(&bytes),
            _ => self.pieces.push(bytes),
        }
        Ok(())
    }
}

/// A value that is read.
#[derive(Debug)]
pub(super) struct Reading {
    value: Arc<Handover>,
    piece: usize,
    /// Bytes of that piece that were read.
    read: usize,
}

impl Reading {
    fn new(value: Arc<Handover>) -> Self {
        Self { value, piece: 0, read: 0 }
    }

    /// The next bytes, at most `max` and at most a piece; none at the end.
    fn next(&mut self, max: usize) -> Vec<u8> {
        let Some(piece) = self.value.pieces.get(self.piece) else { return Vec::new() };
        let end = self.read.saturating_add(max).min(piece.len());
        let taken = piece.get(self.read..end).unwrap_or_default().to_vec();
        self.read = end;
        if end >= piece.len() {
            (self.piece, self.read) = (self.piece + 1, 0);
        }
        taken
    }
}

/// What the running guest may do with the interface `handover`.
#[derive(Debug, Default)]
pub(super) enum Passage {
    /// Nothing.
    #[default]
    Closed,
    /// Write; a value of more than `keep` bytes is only counted.
    Save { value: Handover, keep: usize },
    /// Read, and write what was read again.
    Load { value: Reading, again: Handover },
}

impl Passage {
    /// Takes the next bytes of a value that is saved.
    pub(super) fn write(&mut self, bytes: Vec<u8>) -> Result<(), Stop> {
        match self {
            Self::Save { value, keep } => value.write(bytes, *keep),
            Self::Load { again, .. } => again.write(bytes, usize::MAX),
            Self::Closed => {
                let message =
                    "`handover.write` is there while `save` or `load` runs, and only then";
                Err(Stop::new(Code::HostcallUnsupported, message))
            }
        }
    }

    /// Gives the next bytes of a value that is loaded.
    pub(super) fn read(&mut self, max: usize) -> Result<Vec<u8>, Stop> {
        match self {
            Self::Load { value, .. } => Ok(value.next(max)),
            _ => {
                let message = "`handover.read` is there while `load` runs, and only then";
                Err(Stop::new(Code::HostcallUnsupported, message))
            }
        }
    }
}

impl Instance {
    /// Makes the guest's first state over cleared images of the value that other code saved in the
    /// form of `version`: start functions, `prime`, `load`. Nothing is committed yet. The value in
    /// the answer is what the guest has read, in that form, if it says so; empty otherwise.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the guest refuses or crashes; the images then hold nothing of use.
    pub fn load(
        guest: &Arc<Guest>,
        images: &mut Images,
        environment: Environment,
        value: (u32, Arc<Handover>),
        generation: Generation,
        (context, limits): (&CallContext, &Limits),
    ) -> Result<(Self, Handover), Box<StartError>> {
        let mut instance = Self::unstarted(guest, images, environment, generation, context)?;
        let primed = instance.prime(context);
        let mut read = Handover::default();
        let loaded = primed.and_then(|()| match instance.load_again(value, context, limits) {
            Ok(Ok(again)) => {
                read = again;
                Ok(())
            }
            Ok(Err(rejection)) => Err(StartCause::Rejected(rejection)),
            Err(caught) => Err(StartCause::Crashed(caught)),
        });
        Ok((instance.started(loaded)?, read))
    }

    /// Lets the guest load a state, in the place of the one that it has if it has one. The caller
    /// rolls the images back, unless they are to hold that state.
    ///
    /// # Errors
    ///
    /// [`Caught`] when it crashes; the instance must be dropped then.
    pub fn load_again(
        &mut self,
        (version, value): (u32, Arc<Handover>),
        context: &CallContext,
        limits: &Limits,
    ) -> Result<Result<Handover, Rejection>, Caught> {
        let (value, again) = (Reading::new(value), Handover::default());
        self.store.data_mut().passage = Passage::Load { value, again };
        let export = self.guest.exports.load;
        let answer = self.ask(export, (version,), context, limits);
        let passage = std::mem::take(&mut self.store.data_mut().passage);
        Ok(answer?.map(|()| match passage {
            Passage::Load { again, .. } => again,
            Passage::Closed | Passage::Save { .. } => Handover::default(),
        }))
    }

    /// Lets the guest save its state. The caller rolls the images back, whatever the answer is;
    /// one of more than `keep` bytes has none of them, but their number.
    ///
    /// # Errors
    ///
    /// [`Caught`] when it crashes; the instance must be dropped then.
    pub fn save(
        &mut self,
        keep: usize,
        context: &CallContext,
        limits: &Limits,
    ) -> Result<Result<Handover, Rejection>, Caught> {
        let value = Handover::default();
        self.store.data_mut().passage = Passage::Save { value, keep };
        let export = self.guest.exports.save;
        let answer = self.ask(export, (), context, limits);
        let passage = std::mem::take(&mut self.store.data_mut().passage);
        Ok(answer?.map(|()| match passage {
            Passage::Save { value, .. } => value,
            Passage::Closed | Passage::Load { .. } => Handover::default(),
        }))
    }

    /// Asks the guest whether its state is sound. The caller rolls the images back.
    ///
    /// # Errors
    ///
    /// [`Caught`] when it crashes; the instance must be dropped then.
    pub fn check(
        &mut self,
        context: &CallContext,
        limits: &Limits,
    ) -> Result<Result<(), Rejection>, Caught> {
        let export = self.guest.exports.check;
        self.ask(export, (), context, limits)
    }

    fn ask<Params>(
        &mut self,
        export: ComponentExportIndex,
        params: Params,
        context: &CallContext,
        limits: &Limits,
    ) -> Result<Result<(), Rejection>, Caught>
    where
        Params: ComponentNamedList + Lower,
    {
        type Answer = (Result<(), WitRejection>,);
        let (answer,) = self.run::<_, Answer>(export, params, context, limits)?;
        self.check_handles()?;
        Ok(answer.map_err(shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saving(keep: usize) -> Passage {
        Passage::Save { value: Handover::default(), keep }
    }

    fn loading(value: Handover) -> Passage {
        let value = Reading::new(Arc::new(value));
        Passage::Load { value, again: Handover::default() }
    }

    fn value(passage: Passage) -> Handover {
        let Passage::Save { value, .. } = passage else { panic!("{passage:?}") };
        value
    }

    #[test]
    fn what_is_written_is_read_whatever_the_pieces() {
        let written: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        for (write, read) in [(1, 7), (1000, 1), (16_384, 16_384), (50_000, 999), (200_000, 65_536)]
        {
            let mut passage = saving(usize::MAX);
            for piece in written.chunks(write) {
                passage.write(piece.to_vec()).unwrap();
                passage.write(Vec::new()).unwrap();
            }
            let saved = value(passage);
            assert_eq!(saved.bytes(), written.len());
            assert!(saved.pieces.len() <= written.len().div_ceil(write.max(PIECE_BYTES / 2)));
            let mut passage = loading(saved);
            let mut all = Vec::new();
            loop {
                let piece = passage.read(read).unwrap();
                assert!(piece.len() <= read);
                if piece.is_empty() {
                    break;
                }
                all.extend(piece);
            }
            assert!(all == written, "written by {write}, read by {read}");
            assert!(passage.read(1).unwrap().is_empty());
        }
    }

    #[test]
    fn a_value_over_the_limit_is_refused_also_when_it_is_only_counted() {
        for keep in [0, HANDOVER_BYTES_MAX - 1, usize::MAX] {
            let mut passage = saving(keep);
            let mebibyte = vec![0; 1 << 20];
            for _ in 0..HANDOVER_BYTES_MAX >> 20 {
                passage.write(mebibyte.clone()).unwrap();
            }
            assert!(passage.write(vec![0]).is_err());
            let kept: usize = value(passage).pieces.iter().map(Vec::len).sum();
            assert_eq!(kept, if keep == usize::MAX { HANDOVER_BYTES_MAX } else { 0 });
        }
    }

    #[test]
    fn each_way_is_open_in_its_own_call_only() {
        assert!(Passage::Closed.write(vec![1]).is_err());
        assert!(Passage::Closed.read(1).is_err());
        assert!(saving(usize::MAX).read(1).is_err());
        // What is written while a value is loaded is kept apart from it.
        let mut passage = loading(Handover::default());
        passage.write(vec![1]).unwrap();
        assert!(passage.read(1).unwrap().is_empty());
        let Passage::Load { again, .. } = passage else { panic!("{passage:?}") };
        assert_eq!(again.pieces(), [[1]]);
    }
}
