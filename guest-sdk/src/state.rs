//! A guest's state as a value that outlives its code.
//!
//! New code lays out its memory in another way, so it never sees the old memory: the old code
//! writes its state as one MessagePack value, structs as maps by name, and the new code makes its
//! own of it. The value goes to the host, and comes from it, in pieces.

use std::fmt::Display;
use std::io::{self, Write};
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host;
use crate::rejection::Rejection;
use crate::wire::{self, DecodeError, Source, cut_off};

/// A form of a guest's state, and how it is made of older ones.
///
/// [`#[guest(version = .., from = ..)]`](macro@crate::guest) and the same arguments of
/// [`#[state]`](macro@crate::state) implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no form of a guest's state",
    note = "put `#[state(version = 1)]` before it"
)]
pub trait State: Sized {
    /// Counts from 1, and grows whenever older code could not read what this one saves.
    const VERSION: u32;

    /// Hands the state over to the host.
    ///
    /// # Errors
    ///
    /// `bad_state` when its `Serialize` fails.
    fn save(&self) -> Result<(), Rejection>;

    /// Makes the state of what the host hands over in the form of `version`.
    ///
    /// # Errors
    ///
    /// `bad_state` for a value of another shape, `unknown_version`, or what a migration rejects
    /// with.
    fn load(version: u32) -> Result<Self, Rejection>;
}

/// Takes an older form over, and hands back what it has read of it.
///
/// # Errors
///
/// What the older form or the conversion rejects with.
pub fn migrate<Old, New>(version: u32, newest: u32) -> Result<New, Rejection>
where
    Old: State,
    New: TryFrom<Old>,
    Rejection: From<New::Error>,
{
    if version > newest {
        return unknown_version(version, newest);
    }
    let old = Old::load(version)?;
    if version == Old::VERSION {
        // What this form has no place for would be lost before anybody could convert it: the host
        // compares. What the conversion makes of the rest is its author's business.
        old.save()?;
    }
    Ok(New::try_from(old)?)
}

/// # Errors
///
/// Always: no form of the state has this version.
pub fn unknown_version<T>(version: u32, newest: u32) -> Result<T, Rejection> {
    let message = format!("this code reads no version {version} of the state; it is at {newest}");
    Err(Rejection::new("unknown_version", message))
}

/// Hands a value over to the host.
///
/// # Errors
///
/// `bad_state` when its `Serialize` fails.
pub fn write_state<T: Serialize>(state: &T) -> Result<(), Rejection> {
    let mut pieces = Outgoing::new();
    wire::encode_state(state, &mut pieces).map_err(|error| bad_state("saved", &error))?;
    pieces.hand_over();
    Ok(())
}

/// Makes a value of what the host hands over.
///
/// # Errors
///
/// `bad_state` for a value of another shape.
pub fn read_state<T: DeserializeOwned>() -> Result<T, Rejection> {
    let mut pieces = Incoming::new();
    let state = wire::decode_from(&mut pieces)
        .map_err(|error: DecodeError| bad_state("loaded", &error.in_state()))?;
    match pieces.has_more() {
        false => Ok(state),
        true => Err(bad_state("loaded", &"bytes after the end of the value")),
    }
}

fn bad_state(what: &str, error: &dyn Display) -> Rejection {
    Rejection::new("bad_state", format!("the state can't be {what}: {error}"))
}

/// Bytes of a piece: few calls of the host, and little of a guest's stack of 1 MiB. On the stack,
/// so that saving allocates nothing: memory that grew would cost the guest a restart.
const PIECE_BYTES: usize = 16 * 1024;

/// What is not handed over yet.
struct Outgoing {
    bytes: [u8; PIECE_BYTES],
    used: usize,
}

impl Outgoing {
    const fn new() -> Self {
        Self { bytes: [0; PIECE_BYTES], used: 0 }
    }

    fn hand_over(&mut self) {
        if let Some(bytes) = self.bytes.get(..self.used)
            && !bytes.is_empty()
        {
            host::handover_write(bytes);
        }
        self.used = 0;
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.used == PIECE_BYTES {
            self.hand_over();
        }
        let room = self.bytes.get_mut(self.used..).unwrap_or_default();
        let taken = room.len().min(bytes.len());
        if let (Some(places), Some(bytes)) = (room.get_mut(..taken), bytes.get(..taken)) {
            places.copy_from_slice(bytes);
        }
        self.used += taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is not read yet of the piece that was handed over last.
struct Incoming {
    piece: Vec<u8>,
    read: usize,
}

impl Incoming {
    const fn new() -> Self {
        Self { piece: Vec::new(), read: 0 }
    }

    /// What is left of the piece, or the next one; empty at the end of the value.
    fn rest(&mut self) -> &[u8] {
        if self.read >= self.piece.len() {
            // First, so that there is never more than one.
            self.piece = Vec::new();
            self.piece = host::handover_read(PIECE_BYTES);
            self.read = 0;
        }
        self.piece.get(self.read..).unwrap_or_default()
    }

    fn has_more(&mut self) -> bool {
        !self.rest().is_empty()
    }
}

impl Source for &mut Incoming {
    fn take<'s>(
        &'s mut self,
        length: usize,
        room: &'s mut Vec<u8>,
    ) -> Result<&'s [u8], DecodeError> {
        if self.rest().len() >= length {
            let start = self.read;
            self.read += length;
            return self.piece.get(start..self.read).ok_or_else(cut_off);
        }
        room.clear();
        while room.len() < length {
            let rest = self.rest();
            let taken = rest.len().min(length - room.len());
            room.extend_from_slice(
                rest.get(..taken).filter(|rest| !rest.is_empty()).ok_or_else(cut_off)?,
            );
            self.read += taken;
        }
        Ok(room)
    }
}

/// Asks what a guest's type can do: `#[guest]` knows its name only. The three traits below answer,
/// and the one that takes the most borrowing comes first.
#[derive(Clone, Copy, Debug)]
pub struct Probe<T>(PhantomData<T>);

impl<T> Probe<T> {
    /// The only one.
    pub const NEW: Self = Self(PhantomData);
}

/// A type that has its own version.
pub trait ByForm<T> {
    /// Its version.
    fn version(&self) -> Option<u32>;
    /// See [`State::save`].
    fn save(&self, state: &T) -> Result<(), Rejection>;
    /// See [`State::load`].
    fn load(&self, version: u32) -> Result<T, Rejection>;
}

impl<T: State> ByForm<T> for &&Probe<T> {
    fn version(&self) -> Option<u32> {
        Some(T::VERSION)
    }

    fn save(&self, state: &T) -> Result<(), Rejection> {
        state.save()
    }

    fn load(&self, version: u32) -> Result<T, Rejection> {
        T::load(version)
    }
}

/// A type that serde can read and write: it is at the first version.
pub trait BySerde<T> {
    /// Its version.
    fn version(&self) -> Option<u32>;
    /// See [`State::save`].
    fn save(&self, state: &T) -> Result<(), Rejection>;
    /// See [`State::load`].
    fn load(&self, version: u32) -> Result<T, Rejection>;
}

impl<T: Serialize + DeserializeOwned> BySerde<T> for &Probe<T> {
    fn version(&self) -> Option<u32> {
        Some(1)
    }

    fn save(&self, state: &T) -> Result<(), Rejection> {
        write_state(state)
    }

    fn load(&self, version: u32) -> Result<T, Rejection> {
        if version == 1 { read_state() } else { unknown_version(version, 1) }
    }
}

/// Any other type: its guest can't be upgraded.
pub trait NotAtAll<T> {
    /// None.
    fn version(&self) -> Option<u32>;
    /// Rejects.
    fn save(&self, state: &T) -> Result<(), Rejection>;
    /// Rejects.
    fn load(&self, version: u32) -> Result<T, Rejection>;
}

impl<T> NotAtAll<T> for Probe<T> {
    fn version(&self) -> Option<u32> {
        None
    }

    fn save(&self, _state: &T) -> Result<(), Rejection> {
        not_at_all()
    }

    fn load(&self, _version: u32) -> Result<T, Rejection> {
        not_at_all()
    }
}

fn not_at_all<T>() -> Result<T, Rejection> {
    let message = "the guest's type has no `#[state]`, so it can't be handed over";
    Err(Rejection::new("not_upgradable", message))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::simulated;

    #[test]
    fn pieces_of_any_size_come_back_whole() {
        for length in [0, 1, PIECE_BYTES - 5, PIECE_BYTES, 3 * PIECE_BYTES + 7] {
            let text = "x".repeat(length);
            simulated::hand_over(Vec::new());
            write_state(&(&text, 7)).unwrap();
            let value = simulated::handed_over();
            assert!(value.len() > length);
            simulated::hand_over(value);
            assert_eq!(read_state::<(String, u8)>().unwrap(), (text, 7));
        }
    }

    /// What older code saved, as far as newer code knows of it.
    #[derive(serde::Deserialize, Serialize)]
    struct Old {
        kept: u8,
    }

    struct Newer(u8);
    struct Newest(u8);

    impl State for Old {
        const VERSION: u32 = 1;

        fn save(&self) -> Result<(), Rejection> {
            write_state(self)
        }

        fn load(_version: u32) -> Result<Self, Rejection> {
            read_state()
        }
    }

    impl From<Old> for Newer {
        fn from(old: Old) -> Self {
            Self(old.kept)
        }
    }

    impl From<Newer> for Newest {
        fn from(newer: Newer) -> Self {
            Self(newer.0 + 1)
        }
    }

    impl State for Newer {
        const VERSION: u32 = 2;

        fn save(&self) -> Result<(), Rejection> {
            write_state(&self.0)
        }

        fn load(version: u32) -> Result<Self, Rejection> {
            if version == 2 { read_state().map(Self) } else { migrate::<Old, Self>(version, 2) }
        }
    }

    #[test]
    fn a_newer_version_hands_back_what_it_has_read_of_the_old_form() {
        let old = b"\x82\xa4kept\x07\xa4lost\x08".to_vec();
        for (version, value, read) in [(1, old, &b"\x81\xa4kept\x07"[..]), (2, vec![0x09], &[0x09])]
        {
            simulated::hand_over(value);
            assert!(migrate::<Newer, Newest>(version, 3).is_ok_and(|newest| newest.0 >= 8));
            assert_eq!(simulated::handed_over(), read, "once, in the form that it came in");
        }
    }

    #[test]
    fn a_value_of_another_shape_says_what_is_wrong() {
        let refuse = |value: &[u8]| {
            simulated::hand_over(value.to_vec());
            let rejection = read_state::<Vec<bool>>().unwrap_err();
            assert_eq!(rejection.code(), "bad_state");
            rejection.message().to_owned()
        };
        assert!(refuse(&[0x91, 0xc3, 0xc0]).contains("after the end"));
        assert!(refuse(&[0x92, 0xc3]).contains("can't be loaded"));
        assert!(refuse(&[]).contains("can't be loaded"));
        assert!(refuse(&[0x91, 0x07]).contains("invalid type"));
        // Where, as the host names what would be lost.
        simulated::hand_over(b"\x81\xa5small\x92\x07\xcc\xc8".to_vec());
        let rejection = read_state::<BTreeMap<String, Vec<i8>>>().unwrap_err();
        let expected = "loaded: small[1]: invalid value: integer `200`, expected i8";
        assert!(rejection.message().ends_with(expected), "{rejection}");
    }
}
