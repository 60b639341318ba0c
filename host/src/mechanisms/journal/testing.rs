//! A disk that remembers, fails and loses power; and daemons that check what comes back.

mod chains;
mod directories;
mod faults;
mod golden;
mod logs;
mod names;
mod power;
mod rot;
mod sectors;
mod space;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::backend::Files;
pub(super) use super::backend::Which;
use super::{
    DaemonKey, DirectoryId, Entry, ImageSink, Journal, JournalFault, Loaded, Origin, SinkError,
    Store, StoreOptions, Tended,
};
use crate::base::ids::{Generation, RequestId, Sequence};
use crate::base::limits::{CRASH_REPORT_BYTES_MAX, CRASH_REPORTS_MAX};
use crate::pure::delta::Delta;
use crate::pure::keys::KeptAnswer;
use crate::pure::record::{Draft, Encoder, Head, Keyed, Kind, Part};

pub(super) const ID: DirectoryId = DirectoryId(7);

/// Records that a whole state takes at most.
const PARTS_MAX: usize = 3;

/// A small generator of test cases; the same on every machine.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Write(usize, u64, Vec<u8>),
    SetLen(usize, u64),
    Sync(usize),
}

/// What goes wrong: from which operation on, how often, with which error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) at: usize,
    pub(super) forever: bool,
    pub(super) kind: io::ErrorKind,
    /// A failing write leaves its first half behind.
    pub(super) short: bool,
    /// Only operations on this file fail.
    pub(super) file: Option<Which>,
}

#[derive(Debug, Default)]
pub(super) struct Platter {
    pub(super) files: [Vec<u8>; 3],
    pub(super) log: Vec<Op>,
    pub(super) ops: usize,
    pub(super) failure: Option<Failure>,
    /// A file, and which of its syncs does nothing.
    pub(super) ignored_sync: Option<(usize, usize)>,
    pub(super) syncs: [usize; 3],
    /// A write of the tables that holds these bytes leaves others behind.
    pub(super) rots: Option<Vec<u8>>,
}

/// Three files: 0 the tables, 1 the acknowledgements, 2 the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(pub(super) Arc<Mutex<Platter>>);

#[derive(Debug)]
struct DiskFile(Disk, usize);

impl Platter {
    fn fails(&mut self, file: usize) -> Option<Failure> {
        self.ops += 1;
        let failure = self.failure?;
        if failure.file.is_some_and(|only| only as usize != file) {
            return None;
        }
        let now = self.ops - 1;
        let hit = now == failure.at || (failure.forever && now > failure.at);
        hit.then_some(failure)
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.0.lock().unwrap().files[self.1].len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(out.len());
        let bytes = platter.files[self.1].get(start..end);
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.0.lock().unwrap();
        if let Some(failure) = platter.fails(self.1) {
            return Err(failure.kind.into());
        }
        if len > 1 << 30 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.files[self.1].resize(usize::try_from(len).unwrap(), 0);
        platter.log.push(Op::SetLen(self.1, len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.0.lock().unwrap();
        if let Some(failure) = platter.fails(self.1) {
            return Err(failure.kind.into());
        }
        platter.syncs[self.1] += 1;
        if platter.ignored_sync != Some((self.1, platter.syncs[self.1] - 1)) {
            platter.log.push(Op::Sync(self.1));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.0.lock().unwrap();
        let failure = platter.fails(self.1);
        let data = match failure {
            Some(failure) if failure.short => &data[..data.len() / 2],
            Some(failure) => return Err(failure.kind.into()),
            None => data,
        };
        let start = usize::try_from(offset).unwrap();
        let file = &mut platter.files[self.1];
        let Some(place) = file.get_mut(start..start + data.len()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        place.copy_from_slice(data);
        if let (0, Some(rots)) = (self.1, platter.rots.clone())
            && let Some(at) = data.windows(rots.len()).position(|bytes| bytes == rots.as_slice())
        {
            platter.files[0][start + at + rots.len() - 1] ^= 1;
        }
        platter.log.push(Op::Write(self.1, offset, data.to_vec()));
        failure.map_or(Ok(()), |failure| Err(failure.kind.into()))
    }
}

impl Files for Disk {
    fn open(&self, which: Which, _: bool) -> Result<Arc<dyn StorageBackend>, JournalFault> {
        Ok(Arc::new(DiskFile(self.clone(), which as usize)))
    }

    fn view(&self) -> Option<Box<dyn Files>> {
        Some(Box::new(Self::of(self.files())))
    }
}

impl Disk {
    pub(super) fn of(files: [Vec<u8>; 3]) -> Self {
        Self(Arc::new(Mutex::new(Platter { files, ..Platter::default() })))
    }

    pub(super) fn open(
        &self,
        options: StoreOptions,
        expected: bool,
    ) -> Result<Store, JournalFault> {
        let files = Box::new(self.clone());
        Store::from_files(files, options, expected.then_some(ID), ID, Arc::default())
    }

    pub(super) fn ops(&self) -> usize {
        self.0.lock().unwrap().ops
    }

    pub(super) fn logged(&self) -> usize {
        self.0.lock().unwrap().log.len()
    }

    pub(super) fn files(&self) -> [Vec<u8>; 3] {
        self.0.lock().unwrap().files.clone()
    }
}

/// Retention that makes folding happen in small tests.
pub(super) fn small() -> StoreOptions {
    let log_bytes = StoreOptions::LOG_BYTES_MIN;
    StoreOptions { cache_bytes: 1 << 20, retain_commits: 8, log_bytes, ..StoreOptions::default() }
}

/// A loaded state.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) memory: Vec<u8>,
    pub(super) controls: Vec<Vec<u8>>,
    pub(super) answers: BTreeMap<String, KeptAnswer>,
    /// Bytes of each control, when only that shape fits.
    shape: Option<usize>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.memory == other.memory
            && self.controls == other.controls
            && self.answers == other.answers
    }
}

impl ImageSink for State {
    fn clear(&mut self) -> Result<(), SinkError> {
        self.memory.clear();
        self.controls.clear();
        Ok(())
    }

    fn resize(&mut self, memory_bytes: u64) -> Result<(), SinkError> {
        self.memory.resize(usize::try_from(memory_bytes).unwrap(), 0);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        let start = usize::try_from(offset).unwrap();
        let place = self.memory.get_mut(start..start + bytes.len());
        place.ok_or_else(|| SinkError("outside".to_owned()))?.copy_from_slice(bytes);
        Ok(())
    }

    fn control(&mut self, module: usize, state: &[u8]) -> Result<(), SinkError> {
        if self.shape.is_some_and(|shape| shape != state.len()) {
            return Err(SinkError("another shape".to_owned()));
        }
        self.controls.resize(self.controls.len().max(module + 1), Vec::new());
        self.controls[module] = state.to_vec();
        Ok(())
    }

    fn answer(&mut self, key: &str, answer: KeptAnswer) {
        self.answers.insert(key.to_owned(), answer);
    }

    fn void_answers(&mut self, first: Sequence) {
        self.answers.retain(|_, answer| answer.sequence < first);
    }
}

/// A daemon that changes its state at random and remembers every commit.
pub(super) struct Player {
    pub(super) key: DaemonKey,
    pub(super) state: State,
    pub(super) past: Vec<(blake3::Hash, State)>,
    previous: blake3::Hash,
    /// Version of the code; its controls have that many bytes more.
    code: u8,
    encoder: Encoder,
}

impl Player {
    pub(super) fn new(key: DaemonKey) -> Self {
        let previous = blake3::Hash::from_bytes([0; 32]);
        let (state, past, encoder) = (State::default(), Vec::new(), Encoder::new());
        Self { key, state, past, previous, code: 1, encoder }
    }

    /// Another one that goes on from the first `commits`.
    pub(super) fn twin(&self, commits: u64) -> Self {
        let (state, past) = (self.state.clone(), self.past.clone());
        let mut twin =
            Self { state, past, previous: self.previous, code: self.code, ..Self::new(self.key) };
        if commits < twin.past.len() as u64 {
            twin.rewind(commits);
        }
        twin
    }

    /// What makes the next commit; a revert with the commit that it goes back to.
    fn kind(&self, dice: &mut Dice) -> (Kind, u64) {
        let sequence = self.past.len() as u64;
        if sequence == 0 {
            return (Kind::Init, 0);
        }
        match dice.roll(40) {
            0 => (Kind::Zero, sequence),
            1 => (Kind::Upgrade, sequence),
            2 => {
                let back = 1 + dice.roll(4).min(self.past.len() - 1);
                let same = self.past[self.past.len() - back].1.controls[0].len();
                let fits = same == self.state.controls[0].len();
                let to = sequence - back as u64;
                if fits { (Kind::Revert, to) } else { (Kind::Commit, sequence) }
            }
            _ => (Kind::Commit, sequence),
        }
    }

    /// Forgets all but the first `commits`: they are not durable.
    pub(super) fn rewind(&mut self, commits: u64) {
        self.past.truncate(usize::try_from(commits).unwrap());
        (self.previous, self.state) = match self.past.last() {
            Some((hash, state)) => (*hash, state.clone()),
            None => (blake3::Hash::from_bytes([0; 32]), State::default()),
        };
    }

    /// The next commit's record.
    pub(super) fn step(&mut self, dice: &mut Dice) -> (Sequence, Vec<u8>) {
        self.steps(1, dice).pop().unwrap()
    }

    /// The next commit's records: those of a whole state are up to so many parts.
    pub(super) fn steps(&mut self, parts: usize, dice: &mut Dice) -> Vec<(Sequence, Vec<u8>)> {
        let sequence = Sequence(self.past.len() as u64);
        let (kind, number) = self.kind(dice);
        let old = self.state.memory.clone();
        if kind == Kind::Revert {
            let back = &self.past[usize::try_from(number).unwrap()].1;
            self.state.memory.clone_from(&back.memory);
        }
        let new = &mut self.state.memory;
        let whole = matches!(kind, Kind::Init | Kind::Zero | Kind::Upgrade);
        if whole || dice.roll(10) == 0 {
            new.resize(65_536 * (1 + dice.roll(3)), 0);
        }
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(new.len() - 600);
            let length = 1 + dice.roll(500);
            let byte = u8::try_from(dice.roll(256)).unwrap();
            new[at..at + length].iter_mut().for_each(|old| *old = old.wrapping_add(byte));
        }
        let new = new.clone();
        let mut change = Delta::default();
        if !whole {
            let mut padded = old;
            padded.resize(new.len(), 0);
            change.diff(0, &padded, &new);
        }
        self.code += u8::from(kind == Kind::Upgrade);
        let mut control = vec![7; usize::from(self.code)];
        control.extend(sequence.0.to_le_bytes());
        self.state.shape = Some(control.len());
        self.state.controls = vec![control];
        let (name, reply) = (format!("key-{sequence}"), sequence.0.to_le_bytes());
        let request = blake3::hash(name.as_bytes());
        let keyed = (dice.roll(3) == 0).then_some(Keyed { key: &name, request, reply: &reply });
        let head = Head {
            kind,
            whole,
            daemon: self.key.0,
            fence: 0,
            sequence,
            previous: self.previous,
            code: [self.code; 32],
            request: RequestId(number),
            contract: Some(3),
            unix_nanos: sequence.0,
            generation: Generation::FIRST,
            memory_bytes: new.len() as u64,
            attempts: 1,
            part: Part::Only,
        };
        let parts = if whole && parts > 1 { 1 + dice.roll(parts) } else { 1 };
        let records = self.encode(head, keyed, (&change, new.as_slice()), parts);
        if let Some(first) = head.voids_from() {
            self.state.answers.retain(|_, answer| answer.sequence < first);
        }
        if keyed.is_some() {
            let value = reply.to_vec();
            let kept = KeptAnswer { request, value, sequence, attempts: 1 };
            self.state.answers.insert(name, kept);
        }
        self.past.push((self.previous, self.state.clone()));
        records
    }

    /// The records of one commit, of its changes or of the whole `new` state.
    fn encode(
        &mut self,
        head: Head,
        keyed: Option<Keyed<'_>>,
        (change, new): (&Delta, &[u8]),
        parts: usize,
    ) -> Vec<(Sequence, Vec<u8>)> {
        let controls: Vec<&[u8]> = self.state.controls.iter().map(Vec::as_slice).collect();
        let mut records = Vec::new();
        for number in 0..parts {
            let mut delta = change.clone();
            if head.whole {
                let share = new.len() / parts;
                let end = if number + 1 == parts { new.len() } else { (number + 1) * share };
                delta.diff_from_zero((number * share) as u64, &new[number * share..end]);
            }
            let part = match (number + 1 < parts, parts) {
                (true, _) => Part::More(number as u64),
                (false, 1) => Part::Only,
                (false, _) => Part::Last,
            };
            let head = Head { previous: self.previous, part, ..head };
            let (keyed, controls) =
                if head.is_more() { (None, &[][..]) } else { (keyed, &controls[..]) };
            let mut record = Vec::new();
            let draft = Draft { head, keyed, controls, delta: &delta };
            self.previous = self.encoder.encode(&draft, &mut record).unwrap();
            records.push((head.sequence, record));
        }
        records
    }

    /// Loads, and compares with the commit of that sequence.
    pub(super) fn load(&self, store: &Store) -> Result<Option<Loaded>, JournalFault> {
        let mut state = State::default();
        let loaded = store.load(self.key, None, &mut state)?;
        if let Some(loaded) = loaded {
            let (hash, expected) = &self.past[usize::try_from(loaded.sequence.0).unwrap()];
            assert_eq!(loaded.hash, *hash, "commit {}: another chain", loaded.sequence);
            assert!(state == *expected, "commit {}: another state", loaded.sequence);
            // Images of that code's shape take it: nothing of an earlier shape is told.
            let mut shaped = State { shape: expected.shape, ..State::default() };
            store.load(self.key, None, &mut shaped)?;
            assert!(shaped == *expected, "commit {}: another state", loaded.sequence);
        }
        Ok(loaded)
    }
}

/// Appends one commit of each player in one group; parts of whole states before that, each in a
/// group of its own.
pub(super) fn group(
    store: &Store,
    players: &mut [Player],
    dice: &mut Dice,
) -> Result<(), JournalFault> {
    let mut made = Vec::new();
    for player in players {
        let daemon = player.key;
        let mut records = player.steps(PARTS_MAX, dice);
        made.push((daemon, records.pop().unwrap()));
        for (sequence, record) in &records {
            store.append(&[Entry { daemon, sequence: *sequence, record }])?;
        }
    }
    let entries: Vec<Entry<'_>> = made
        .iter()
        .map(|(daemon, (sequence, record))| Entry { daemon: *daemon, sequence: *sequence, record })
        .collect();
    store.append(&entries).map(|_| ())
}

/// Moves and folds until nothing is left.
pub(super) fn fold_all(store: &Store) {
    while store.tend().unwrap() != Tended::Idle {}
}

/// The id of a daemon, given out at its first call.
pub(super) fn daemon(store: &Store, number: usize) -> DaemonKey {
    store.daemon(&format!("daemon-{number}"), Origin::Init, 1 << 20).unwrap()
}

/// Players of a new store on `disk`.
pub(super) fn players(store: &Store, count: usize) -> Vec<Player> {
    (0..count).map(|n| Player::new(daemon(store, n))).collect()
}

#[test]
fn what_was_appended_is_loaded_before_and_after_folding() {
    let disk = Disk::default();
    let store = disk.open(small(), false).unwrap();
    let mut players = players(&store, 2);
    let mut dice = Dice(3);
    for round in 0..100 {
        group(&store, &mut players, &mut dice).unwrap();
        if round % 7 == 0 {
            store.tend().unwrap();
        }
    }
    fold_all(&store);
    assert_eq!(store.fold_debt().records, 0);
    drop(store);
    let store = disk.open(small(), true).unwrap();
    assert!(store.verify().is_good(), "{:?}", store.verify());
    for player in &players {
        let loaded = player.load(&store).unwrap().unwrap();
        assert_eq!(loaded.sequence, Sequence(99));
        assert!(loaded.base.is_some() && loaded.records <= 11, "{loaded:?}");
        let mut earlier = State::default();
        store.load(player.key, Some(Sequence(95)), &mut earlier).unwrap();
        assert!(earlier == player.past[95].1);
        assert!(store.load(player.key, Some(Sequence(3)), &mut earlier).is_err());
        assert!(store.load(player.key, Some(Sequence(100)), &mut earlier).is_err());
    }
    assert_eq!(daemon(&store, 1), players[1].key);
    group(&store, &mut players, &mut dice).unwrap();
}

#[test]
fn a_record_that_does_not_continue_the_chain_is_refused() {
    let store = Disk::default().open(small(), false).unwrap();
    let mut players = players(&store, 1);
    let mut dice = Dice(5);
    group(&store, &mut players, &mut dice).unwrap();
    let skipped = players[0].step(&mut dice);
    let (sequence, record) = players[0].step(&mut dice);
    let daemon = players[0].key;
    let fault = store.append(&[Entry { daemon, sequence, record: &record }]).unwrap_err();
    assert_eq!(fault.kind, super::FaultKind::Misuse);
    let (sequence, record) = skipped;
    store.append(&[Entry { daemon, sequence, record: &record }]).unwrap();
    let again = store.append(&[Entry { daemon, sequence, record: &record }]);
    assert_eq!(again.unwrap_err().kind, super::FaultKind::Misuse);
}

#[test]
fn crash_reports_are_kept_and_the_oldest_go() {
    let disk = Disk::default();
    let store = disk.open(small(), false).unwrap();
    let put = |store: &Store, id: u64| store.put_crashes(&[(RequestId(id), b"{}".to_vec())]);
    put(&store, 7).unwrap();
    put(&store, 9).unwrap();
    assert_eq!(store.crash(RequestId(7)).unwrap().unwrap(), b"{}");
    assert_eq!(store.crash(RequestId(99)).unwrap(), None);
    drop(store);
    let store = disk.open(small(), true).unwrap();
    assert_eq!(store.crash_ids().unwrap(), [RequestId(7), RequestId(9)]);
    let ids = 100..100 + CRASH_REPORTS_MAX;
    let many: Vec<_> = ids.map(|id| (RequestId(id), b"{}".to_vec())).collect();
    store.put_crashes(&many).unwrap();
    assert_eq!(store.crash_ids().unwrap().len() as u64, CRASH_REPORTS_MAX);
    assert_eq!(store.crash(RequestId(7)).unwrap(), None);
    let mut newest = Vec::new();
    store
        .visit_crashes(|id, _| {
            newest.push(id.0);
            if newest.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(newest, [99 + CRASH_REPORTS_MAX, 98 + CRASH_REPORTS_MAX]);
    let large = vec![0; CRASH_REPORT_BYTES_MAX + 1];
    let fault = store.put_crashes(&[(RequestId(1), large)]).unwrap_err();
    assert_eq!(fault.kind, super::FaultKind::Misuse);
}
