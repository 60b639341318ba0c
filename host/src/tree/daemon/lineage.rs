//! States that come from elsewhere: another daemon's, a snapshot's, an earlier commit's.

use std::sync::Arc;

use super::recorder::{JournalSeat, Recorder};
use super::{Daemon, DaemonOptions, World};
use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::mechanisms::memory::Images;
use crate::mechanisms::sandbox::Guest;
use crate::pure::checkpoint::Checkpoint;
use crate::pure::record::Kind;

/// What replaces a state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    /// An earlier one of the same daemon.
    Revert,
    /// One that comes from elsewhere.
    Restore,
}

impl Daemon {
    /// A copy of the committed state.
    #[must_use]
    pub fn capture(&self) -> Checkpoint {
        Checkpoint {
            daemon: self.options.name.clone(),
            sequence: self.sequence,
            generation: self.generation,
            unix_nanos: self.now.unix_nanos,
            code: *self.guest.facts().digest.as_bytes(),
            memory: self.images.committed().to_vec(),
            controls: self.images.committed_states().map(<[u8]>::to_vec).collect(),
        }
    }

    /// A new daemon whose first commit is the state of `checkpoint`: a generation later, with
    /// random numbers of its own, and without the kept answers of the daemon that it is a copy of.
    ///
    /// # Errors
    ///
    /// `E_CODE_CHANGED` when other code made the checkpoint, `E_BUDGET` when it is larger than the
    /// budget, and what an instance's start may fail with.
    pub fn adopt(
        guest: Arc<Guest>,
        mut images: Images,
        options: DaemonOptions,
        world: World,
        checkpoint: &Checkpoint,
        seat: Option<&JournalSeat>,
    ) -> Result<Self, Fault> {
        let code = *guest.facts().digest.as_bytes();
        same_code(&options.name, checkpoint, code)?;
        load(&options.name, &mut images, checkpoint)?;
        let generation = checkpoint.generation.next();
        let mut daemon = Self::over_committed(guest, images, options, world, generation)?;
        if let Some(seat) = seat {
            let none = blake3::Hash::from_bytes([0; 32]);
            daemon.recorder = Some(Recorder::new(seat, seat.journal.incarnation(), code, none));
        }
        daemon.now.look(daemon.world.clock.as_ref());
        daemon.record(Kind::Restore, None).map_err(|c| Fault::new(c.code, c.message))?;
        daemon.tell_restored()?;
        daemon.show_state();
        Ok(daemon)
    }

    /// Goes back to an earlier state of this daemon, as a commit of its own; answers its sequence.
    /// A parked daemon runs again. Answers that were kept for keys since then are forgotten.
    ///
    /// # Errors
    ///
    /// `E_CODE_CHANGED` when other code made the checkpoint, and what an instance's start may fail
    /// with. The daemon then has the state that it had.
    pub fn revert(&mut self, checkpoint: &mut Checkpoint) -> Result<Sequence, Fault> {
        self.replacing(|daemon| daemon.replace(checkpoint, By::Revert))
    }

    /// Goes on with a state that comes from elsewhere, as a commit of its own; answers its
    /// sequence. What it had before can be reverted to. All answers that were kept for keys are
    /// forgotten.
    ///
    /// # Errors
    ///
    /// As [`Daemon::revert`].
    pub fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<Sequence, Fault> {
        self.replacing(|daemon| daemon.replace(checkpoint, By::Restore))
    }

    fn replace(&mut self, checkpoint: &mut Checkpoint, by: By) -> Result<Sequence, Fault> {
        let name = self.options.name.clone();
        let same = same_code(&name, checkpoint, *self.guest.facts().digest.as_bytes());
        same.map_err(|fault| {
            let copy = match by {
                By::Restore => "restore FILE --as NEW".to_owned(),
                By::Revert => format!("fork {name} COPY --at {}", checkpoint.sequence),
            };
            let message = format!("{}; `host {copy}` starts a copy with that code", fault.message);
            fault.saying(message)
        })?;
        if let (By::Revert, Some(recorder)) = (by, &mut self.recorder) {
            recorder.diff(self.images.committed(), &checkpoint.memory);
        }
        fits(&name, &self.images, checkpoint)?;
        self.images.clear_live();
        exchange(&mut self.images, checkpoint);
        if let Err(fault) = self.start_anew() {
            self.images.clear_live();
            exchange(&mut self.images, checkpoint);
            let back = self.start_anew();
            if let Err(reason) = back {
                self.park(reason);
            }
            self.show_state();
            return Err(fault);
        }
        self.now.look(self.world.clock.as_ref());
        self.sequence = self.sequence.next();
        let reverted = self.sequence;
        let recorded = match by {
            By::Revert => {
                self.keys.forget_from(checkpoint.sequence.next());
                self.record_revert(checkpoint.sequence)
            }
            By::Restore => {
                self.keys.forget_from(Sequence(0));
                self.record(Kind::Restore, None)
            }
        };
        recorded.map_err(|caught| Fault::new(caught.code, caught.message))?;
        self.recover_failures = 0;
        self.host_bugs = 0;
        self.gauges.set_parked(None);
        self.show_output();
        self.tell_restored()?;
        self.show_state();
        Ok(reverted)
    }

    /// A new instance over the committed image, whatever the live one holds; none when it waits
    /// for a resource.
    pub(super) fn start_anew(&mut self) -> Result<(), Fault> {
        self.images.set_live_size_to_committed();
        self.images.load_committed();
        if self.is_waiting() {
            return Ok(());
        }
        self.again()
    }
}

/// A state can be continued only by the code that made it.
fn same_code(name: &str, checkpoint: &Checkpoint, code: [u8; 32]) -> Result<(), Fault> {
    if checkpoint.code == code {
        return Ok(());
    }
    let made = blake3::Hash::from_bytes(checkpoint.code).to_hex();
    let (from, at) = (&checkpoint.daemon, checkpoint.sequence);
    let message =
        format!("daemon `{name}` runs other code than {made}, which made commit {at} of `{from}`");
    Err(Fault::new(Code::CodeChanged, message))
}

/// Bytes that are exchanged at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Whether images can take the state of a checkpoint.
///
/// # Errors
///
/// As [`load`].
fn fits(name: &str, images: &Images, checkpoint: &Checkpoint) -> Result<(), Fault> {
    let bytes = checkpoint.memory.len();
    if bytes > images.budget() {
        let message = format!("a state of {bytes} bytes is larger than daemon `{name}`'s budget");
        return Err(Fault::new(Code::Budget, message));
    }
    let shapes = images.committed_states().map(<[u8]>::len);
    if shapes.eq(checkpoint.controls.iter().map(Vec::len)) {
        return Ok(());
    }
    Err(Fault::new(Code::Snapshot, "its globals have another shape than the code's"))
}

/// Exchanges the committed state and that of a checkpoint which [`fits`], so that there is never a
/// third one: each holds then what the other one held.
fn exchange(images: &mut Images, checkpoint: &mut Checkpoint) {
    let (before, after) = (images.committed_size(), checkpoint.memory.len());
    let (larger, memory) = (before.max(after), &mut checkpoint.memory);
    memory.reserve_exact(larger - after);
    memory.resize(larger, 0);
    let mut done = images.resize_committed(larger);
    let (mut piece, mut at) = (Vec::with_capacity(PIECE_BYTES), 0);
    for bytes in memory.chunks_mut(PIECE_BYTES) {
        let end = at + bytes.len();
        piece.clear();
        piece.extend_from_slice(images.committed().get(at..end).unwrap_or_default());
        done &= piece.len() == bytes.len() && images.write_committed(at, bytes);
        if done {
            bytes.copy_from_slice(&piece);
        }
        at = end;
    }
    done &= images.resize_committed(after);
    memory.truncate(before);
    for (module, state) in checkpoint.controls.iter_mut().enumerate() {
        let held = images.committed_states().nth(module).map(<[u8]>::to_vec);
        done &= images.write_committed_state(module, state);
        *state = held.unwrap_or_default();
    }
    assert!(done, "it fits");
}

/// Fills the committed image.
///
/// # Errors
///
/// `E_BUDGET` when the checkpoint is larger than the budget, `E_SNAPSHOT` when its globals are
/// those of other code.
pub(in crate::tree) fn load(
    name: &str,
    images: &mut Images,
    checkpoint: &Checkpoint,
) -> Result<(), Fault> {
    images.clear_committed();
    let bytes = checkpoint.memory.len();
    if !images.resize_committed(bytes) {
        let message = format!("a state of {bytes} bytes is larger than daemon `{name}`'s budget");
        return Err(Fault::new(Code::Budget, message));
    }
    let mut fits = images.write_committed(0, &checkpoint.memory);
    for (module, state) in checkpoint.controls.iter().enumerate() {
        fits &= images.write_committed_state(module, state);
    }
    if fits && checkpoint.controls.len() == images.committed_states().count() {
        return Ok(());
    }
    Err(Fault::new(Code::Snapshot, "its globals have another shape than the code's"))
}
