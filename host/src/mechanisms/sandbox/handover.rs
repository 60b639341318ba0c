//! Carries a guest's state from old code to new, as a value that the host keeps in between.
//!
//! ```text
//!   old code   save  --write--> Handover
//!   new code   load  <--read--- Handover     over cleared images of its own
//!              check
//! ```

use std::collections::VecDeque;
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

/// A guest's state as a value, in the pieces in which it was written. What is read is freed.
#[derive(Debug, Default)]
pub struct Handover {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that were read.
    read: usize,
    bytes: usize,
}

impl Handover {
    /// Bytes that were written.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, bytes: Vec<u8>) {
        match self.pieces.back_mut() {
            // An empty piece would be read as the end.
            _ if bytes.is_empty() => {}
            Some(last) if last.len() + bytes.len() <= PIECE_BYTES => last.extend_from_slice(&bytes),
            _ => self.pieces.push_back(bytes),
        }
    }

    /// The next bytes, at most `max` and at most a piece; none at the end.
    fn pop(&mut self, max: usize) -> Vec<u8> {
        let Some(piece) = self.pieces.front_mut() else { return Vec::new() };
        let end = self.read.saturating_add(max).min(piece.len());
        let taken = match self.read {
            0 if end == piece.len() => std::mem::take(piece),
            read => piece.get(read..end).unwrap_or_default().to_vec(),
        };
        self.read = end;
        if end >= piece.len() {
            self.pieces.pop_front();
            self.read = 0;
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
    /// Write; without `keep` the value is only counted.
    Save { value: Handover, keep: bool },
    /// Read.
    Load(Handover),
}

impl Passage {
    /// Takes the next bytes of a value that is saved.
    pub(super) fn write(&mut self, bytes: Vec<u8>) -> Result<(), Stop> {
        let Self::Save { value, keep } = self else {
            let message = "`handover.write` is there while `save` runs, and only then";
            return Err(Stop::new(Code::HostcallUnsupported, message));
        };
        value.bytes = value.bytes.saturating_add(bytes.len());
        if value.bytes > HANDOVER_BYTES_MAX {
            let message = format!("a state of more than {HANDOVER_BYTES_MAX} bytes as a value");
            return Err(Stop::new(Code::HostcallLimit, message));
        }
        if *keep {
            value.push(bytes);
        }
        Ok(())
    }

    /// Gives the next bytes of a value that is loaded.
    pub(super) fn read(&mut self, max: usize) -> Result<Vec<u8>, Stop> {
        match self {
            Self::Load(value) => Ok(value.pop(max)),
            _ => {
                let message = "`handover.read` is there while `load` runs, and only then";
                Err(Stop::new(Code::HostcallUnsupported, message))
            }
        }
    }
}

impl Instance {
    /// Makes the guest's first state over cleared images of the value that other code saved in the
    /// form of `version`: start functions, `prime`, `load`. Nothing is committed yet.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the guest refuses or crashes; the images then hold nothing of use.
    pub fn load(
        guest: &Arc<Guest>,
        images: &mut Images,
        environment: Environment,
        (version, value): (u32, Handover),
        generation: Generation,
        (context, limits): (&CallContext, &Limits),
    ) -> Result<Self, Box<StartError>> {
        let mut instance = Self::unstarted(guest, images, environment, generation, context)?;
        let primed = instance.prime(context);
        let loaded = primed.and_then(|()| {
            instance.store.data_mut().passage = Passage::Load(value);
            let export = instance.guest.exports.load;
            let answer = instance.ask(export, (version,), context, limits);
            instance.store.data_mut().passage = Passage::Closed;
            match answer {
                Ok(Ok(())) => Ok(()),
                Ok(Err(rejection)) => Err(StartCause::Rejected(rejection)),
                Err(caught) => Err(StartCause::Crashed(caught)),
            }
        });
        instance.started(loaded)
    }

    /// Lets the guest save its state. The caller rolls the images back, whatever the answer is;
    /// without `keep` the value has no bytes, but their number.
    ///
    /// # Errors
    ///
    /// [`Caught`] when it crashes; the instance must be dropped then.
    pub fn save(
        &mut self,
        keep: bool,
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
            Passage::Closed | Passage::Load(_) => Handover::default(),
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

    fn saving(keep: bool) -> Passage {
        Passage::Save { value: Handover::default(), keep }
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
            let mut passage = saving(true);
            for piece in written.chunks(write) {
                passage.write(piece.to_vec()).unwrap();
                passage.write(Vec::new()).unwrap();
            }
            let saved = value(passage);
            assert_eq!(saved.bytes(), written.len());
            assert!(saved.pieces.len() <= written.len().div_ceil(write.max(PIECE_BYTES / 2)));
            let mut passage = Passage::Load(saved);
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
        for keep in [false, true] {
            let mut passage = saving(keep);
            let mebibyte = vec![0; 1 << 20];
            for _ in 0..HANDOVER_BYTES_MAX >> 20 {
                passage.write(mebibyte.clone()).unwrap();
            }
            assert!(passage.write(vec![0]).is_err());
            let kept: usize = value(passage).pieces.iter().map(Vec::len).sum();
            assert_eq!(kept, if keep { HANDOVER_BYTES_MAX } else { 0 });
        }
    }

    #[test]
    fn each_way_is_open_in_its_own_call_only() {
        assert!(Passage::Closed.write(vec![1]).is_err());
        assert!(Passage::Closed.read(1).is_err());
        assert!(Passage::Load(Handover::default()).write(vec![1]).is_err());
        assert!(saving(true).read(1).is_err());
    }
}
