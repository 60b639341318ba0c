//! What an upgrade would lose: the state that old code saved, next to what is left of it when new
//! code has loaded it and saves it again.
//!
//! Both are MessagePack, which says nothing of types. So this is what counts:
//!
//! * An entry of a map that is gone is lost, unless it was empty (nil, or a list or a map without
//!   anything in it). So is an element of a list. What is new is no loss.
//! * A number that is the same number is the same value, whatever its width.
//! * The order of maps and lists says nothing: sets are lists, and come in any order.
//! * When an entry is gone and another one that was not there has all that it had, it was renamed,
//!   which is said and is no loss.
//!
//! It takes time in proportion to the bytes of both values, and for lists in lists to how deep
//! those are; a limit on the steps ends the rest. Beside the values it takes memory for
//! [`LOSS_INDEX_MAX`] places and [`LOSS_LINES_MAX`] lines.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher as _};

use super::loss::{Fate, Found, Incomparable, Loss, Place, Places, joined};
use super::value::{
    Cursor, Digest, ENTRY, EXTENSION, Head, LIST, MAP, TEXT, mix, scalar_hash, sum_hash,
};
use crate::base::error::printable;
use crate::base::limits::{
    LOSS_DEPTH_MAX, LOSS_INDEX_MAX, LOSS_LINES_MAX, LOSS_NAMES_MAX, LOSS_STEPS_PER_BYTE,
};

/// Steps between two looks whether to go on.
const STEPS_BETWEEN_LOOKS: u64 = 1 << 16;

/// Bytes of text that cost as much as one step.
const BYTES_PER_STEP: usize = 16;

/// Characters of a name or value that are shown.
const SHOWN_BYTES_MAX: usize = 64;

/// Compares what old code saved with what new code made of it. `go_on` is asked now and then.
///
/// # Errors
///
/// [`Incomparable`]; it is then not known what is lost.
pub fn compare(
    old: &[Vec<u8>],
    new: &[Vec<u8>],
    go_on: &dyn Fn() -> bool,
) -> Result<Loss, Incomparable> {
    let bytes = old.iter().chain(new).map(|piece| piece.len() as u64).sum::<u64>();
    let steps = bytes.saturating_mul(LOSS_STEPS_PER_BYTE).saturating_add(STEPS_BETWEEN_LOOKS);
    let mut walk = Walk {
        steps,
        index_room: LOSS_INDEX_MAX,
        go_on,
        path: Vec::new(),
        found: BTreeMap::new(),
        elsewhere: 0,
        renamed: BTreeMap::new(),
    };
    let (mut old, mut new) = (Cursor::new(old), Cursor::new(new));
    walk.value(&mut old, &mut new)?;
    if !old.is_at_end() || !new.is_at_end() {
        return Err(Incomparable::MoreThanOne);
    }
    Ok(Loss::new(walk.found, walk.elsewhere, walk.renamed))
}

/// A step from a value to one in it.
#[derive(Clone, Copy)]
enum Segment<'a> {
    /// A name, in a map of so many.
    Name(Cursor<'a>, usize),
    Element(usize),
}

struct Walk<'a> {
    /// How many are left.
    steps: u64,
    /// Places that may be noted in addition.
    index_room: usize,
    go_on: &'a dyn Fn() -> bool,
    path: Vec<Segment<'a>>,
    found: Places,
    elsewhere: u64,
    renamed: BTreeMap<String, String>,
}

type Done = Result<(), Incomparable>;

impl<'a> Walk<'a> {
    fn charge(&mut self, steps: usize) -> Done {
        let before = self.steps / STEPS_BETWEEN_LOOKS;
        self.steps = self.steps.checked_sub(steps as u64).ok_or(Incomparable::TooLong)?;
        let looks = self.steps / STEPS_BETWEEN_LOOKS != before;
        if looks && !(self.go_on)() { Err(Incomparable::Cancelled) } else { Ok(()) }
    }

    fn head(&mut self, at: &mut Cursor<'a>) -> Result<Head, Incomparable> {
        self.charge(1)?;
        at.head()
    }

    /// Steps over what follows a head.
    fn pass_rest(&mut self, at: &mut Cursor<'a>, head: Head) -> Done {
        let mut head = head;
        let mut left = 0_usize;
        loop {
            match head {
                Head::Text(count) | Head::Bytes(count) | Head::Extension(count) => {
                    at.bytes(count, |_| ())?;
                }
                Head::List(count) => left = left.saturating_add(count),
                Head::Map(count) => left = left.saturating_add(count.saturating_mul(2)),
                _ => {}
            }
            let Some(next) = left.checked_sub(1) else { return Ok(()) };
            left = next;
            head = self.head(at)?;
        }
    }

    fn pass(&mut self, at: &mut Cursor<'a>) -> Done {
        let head = self.head(at)?;
        self.pass_rest(at, head)
    }

    fn digest(&mut self, at: &mut Cursor<'a>) -> Result<Digest, Incomparable> {
        let head = self.head(at)?;
        self.digest_rest(at, head, self.path.len())
    }

    fn digest_rest(
        &mut self,
        at: &mut Cursor<'a>,
        head: Head,
        depth: usize,
    ) -> Result<Digest, Incomparable> {
        if depth > LOSS_DEPTH_MAX {
            return Err(Incomparable::TooDeep);
        }
        let mut digest = Digest { hash: 0, values: 1 };
        match head {
            Head::Nil => digest.values = 0,
            Head::Boolean(_) | Head::Integer(_) | Head::Float(_) => digest.hash = scalar_hash(head),
            Head::Text(count) => digest.hash = self.bytes_hash(at, TEXT, count)?,
            Head::Extension(count) => digest.hash = self.bytes_hash(at, EXTENSION, count)?,
            // To other code these may be a list of numbers.
            Head::Bytes(count) => {
                let mut sum = 0_u64;
                at.bytes(count, |bytes| {
                    let hash = |&byte: &u8| scalar_hash(Head::Integer(byte.into()));
                    sum = bytes.iter().map(hash).fold(sum, u64::wrapping_add);
                })?;
                self.charge(count)?;
                digest = Digest { hash: sum_hash(LIST, count, sum), values: count as u64 };
            }
            Head::List(count) => {
                let mut sum = 0_u64;
                digest.values = 0;
                for _ in 0..count {
                    let head = self.head(at)?;
                    let element = self.digest_rest(at, head, depth + 1)?;
                    sum = sum.wrapping_add(element.hash);
                    digest.values = digest.values.saturating_add(element.values);
                }
                digest.hash = sum_hash(LIST, count, sum);
            }
            Head::Map(count) => {
                let mut sum = 0_u64;
                digest.values = 0;
                for _ in 0..count {
                    let head = self.head(at)?;
                    let name = self.digest_rest(at, head, depth + 1)?;
                    let head = self.head(at)?;
                    let value = self.digest_rest(at, head, depth + 1)?;
                    sum = sum.wrapping_add(mix(ENTRY, [name.hash, value.hash]));
                    digest.values = digest.values.saturating_add(value.values);
                }
                digest.hash = sum_hash(MAP, count, sum);
            }
        }
        Ok(digest)
    }

    fn bytes_hash(
        &mut self,
        at: &mut Cursor<'a>,
        kind: u8,
        count: usize,
    ) -> Result<u64, Incomparable> {
        self.charge(count / BYTES_PER_STEP)?;
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(kind);
        at.bytes(count, |bytes| hasher.write(bytes))?;
        Ok(hasher.finish())
    }

    /// Compares two values at the same place, and leaves both cursors behind them.
    fn value(&mut self, old: &mut Cursor<'a>, new: &mut Cursor<'a>) -> Done {
        if self.path.len() > LOSS_DEPTH_MAX {
            return Err(Incomparable::TooDeep);
        }
        let (old_start, new_start) = (*old, *new);
        match (self.head(old)?, self.head(new)?) {
            (Head::Map(count), Head::Map(new_count)) => self.maps(old, count, new, new_count),
            (Head::List(count), Head::List(new_count)) => self.lists(old, count, new, new_count),
            (head, new_head) => {
                let was = self.digest_rest(old, head, self.path.len())?;
                let is = self.digest_rest(new, new_head, self.path.len())?;
                let same = was == is || (was.values == 0 && (is.values == 0));
                if same || (head.is_empty() && new_head.is_empty()) {
                    return Ok(());
                }
                let values = was.values.max(1);
                if new_head == Head::Nil {
                    self.note(Fate::Gone, values, String::new());
                } else {
                    let change = format!("{} to {}", self.show(old_start), self.show(new_start));
                    self.note(Fate::Changed, values, change);
                }
                Ok(())
            }
        }
    }

    fn maps(
        &mut self,
        old: &mut Cursor<'a>,
        count: usize,
        new: &mut Cursor<'a>,
        new_count: usize,
    ) -> Done {
        // Most maps have the same names in the same order.
        let mut left = count;
        let mut new_left = new_count;
        while left > 0 && new_left > 0 {
            let (name, mut old_value, mut new_value) = (*old, *old, *new);
            if self.digest(&mut old_value)?.hash != self.digest(&mut new_value)?.hash {
                break;
            }
            self.path.push(Segment::Name(name, count));
            self.value(&mut old_value, &mut new_value)?;
            self.path.pop();
            (*old, *new) = (old_value, new_value);
            (left, new_left) = (left - 1, new_left - 1);
        }
        if new_left > self.index_room {
            return self.without_index(old, left, new, new_left);
        }
        self.index_room -= new_left;
        let done = self.maps_by_name(old, (left, count), new, new_left);
        self.index_room += new_left;
        done
    }

    /// Compares the entries of maps that are left, by their names.
    fn maps_by_name(
        &mut self,
        old: &mut Cursor<'a>,
        (left, count): (usize, usize),
        new: &mut Cursor<'a>,
        new_left: usize,
    ) -> Done {
        let mut others = HashMap::new();
        for _ in 0..new_left {
            let name = *new;
            let hash = self.digest(new)?.hash;
            others.insert(hash, name.place());
            self.pass(new)?;
        }
        let mut gone = Vec::new();
        let mut more_gone = false;
        for _ in 0..left {
            let name = *old;
            let hash = self.digest(old)?.hash;
            if let Some(place) = others.remove(&hash) {
                let mut found = new.go_to(place);
                self.pass(&mut found)?;
                self.path.push(Segment::Name(name, count));
                self.value(old, &mut found)?;
                self.path.pop();
                continue;
            }
            self.pass(old)?;
            gone.push(name);
            if more_gone || gone.len() > LOSS_NAMES_MAX {
                more_gone = true;
                gone.drain(..).try_for_each(|name| self.note_gone(name, count))?;
            }
        }
        let renamed = if more_gone || others.len() > LOSS_NAMES_MAX {
            HashMap::new()
        } else {
            self.renamed(&gone, others.into_values().map(|place| new.go_to(place)).collect())?
        };
        for (place, name) in gone.into_iter().enumerate() {
            match renamed.get(&place) {
                Some(to) => self.note_renamed(name, *to, count),
                None => self.note_gone(name, count)?,
            }
        }
        Ok(())
    }

    fn note_gone(&mut self, name: Cursor<'a>, count: usize) -> Done {
        let mut value = name;
        self.pass(&mut value)?;
        let values = self.digest(&mut value)?.values;
        self.path.push(Segment::Name(name, count));
        self.note(Fate::Gone, values, String::new());
        self.path.pop();
        Ok(())
    }

    /// Which of the entries that are gone have all that just one new entry has, and it alone: the
    /// names of those, by the place in `gone`.
    fn renamed(
        &mut self,
        gone: &[Cursor<'a>],
        added: Vec<Cursor<'a>>,
    ) -> Result<HashMap<usize, Cursor<'a>>, Incomparable> {
        let mut by_hash: HashMap<u64, (Vec<usize>, Vec<Cursor<'a>>)> = HashMap::new();
        for (place, name) in gone.iter().enumerate() {
            let mut value = *name;
            self.pass(&mut value)?;
            let digest = self.digest(&mut value)?;
            if digest.values > 0 {
                by_hash.entry(digest.hash).or_default().0.push(place);
            }
        }
        for name in added {
            let mut value = name;
            self.pass(&mut value)?;
            if let Some(same) = by_hash.get_mut(&self.digest(&mut value)?.hash) {
                same.1.push(name);
            }
        }
        let alone = by_hash.into_values().filter_map(|(gone, added)| {
            match (gone.as_slice(), added.as_slice()) {
                ([gone], [added]) => Some((*gone, *added)),
                _ => None,
            }
        });
        Ok(alone.collect())
    }

    fn lists(
        &mut self,
        old: &mut Cursor<'a>,
        count: usize,
        new: &mut Cursor<'a>,
        new_count: usize,
    ) -> Done {
        let places = count.saturating_add(new_count);
        if places > self.index_room {
            return self.in_order(old, count, new, new_count);
        }
        self.index_room -= places;
        let done = self.lists_by_content(old, count, new, new_count);
        self.index_room += places;
        done
    }

    /// Compares lists: what is in both is passed over, wherever it stands; the others are compared
    /// in order.
    fn lists_by_content(
        &mut self,
        old: &mut Cursor<'a>,
        count: usize,
        new: &mut Cursor<'a>,
        new_count: usize,
    ) -> Done {
        let (mut left, mut others) = (*old, *new);
        let mut hashes = Vec::new();
        let mut unmatched: HashMap<u64, usize> = HashMap::new();
        for _ in 0..count {
            hashes.push(self.digest(old)?.hash);
        }
        for _ in 0..new_count {
            *unmatched.entry(self.digest(new)?.hash).or_default() += 1;
        }
        // Afterwards those of the new ones are left that no old one is like.
        hashes.retain_mut(|hash| match unmatched.get_mut(hash) {
            Some(more) if *more > 0 => {
                *more -= 1;
                false
            }
            _ => true,
        });
        if hashes.is_empty() {
            return Ok(());
        }
        let mut lost: HashMap<u64, usize> = HashMap::new();
        for hash in hashes {
            *lost.entry(hash).or_default() += 1;
        }
        let mut others_left = new_count;
        for element in 0..count {
            let start = left;
            let hash = self.digest(&mut left)?.hash;
            if !take(&mut lost, hash) {
                continue;
            }
            let mut other = self.next_of(&mut others, &mut others_left, &mut unmatched)?;
            self.path.push(Segment::Element(element));
            let mut start = start;
            match &mut other {
                Some(other) => self.value(&mut start, other)?,
                None => {
                    let values = self.digest(&mut start)?.values;
                    self.note(Fate::Gone, values, String::new());
                }
            }
            self.path.pop();
        }
        Ok(())
    }

    /// The next element of a list that is among those.
    fn next_of(
        &mut self,
        at: &mut Cursor<'a>,
        left: &mut usize,
        wanted: &mut HashMap<u64, usize>,
    ) -> Result<Option<Cursor<'a>>, Incomparable> {
        while *left > 0 {
            *left -= 1;
            let start = *at;
            let hash = self.digest(at)?.hash;
            if take(wanted, hash) {
                return Ok(Some(start));
            }
        }
        Ok(None)
    }

    /// Compares lists that are too long for an index.
    fn in_order(
        &mut self,
        old: &mut Cursor<'a>,
        count: usize,
        new: &mut Cursor<'a>,
        new_count: usize,
    ) -> Done {
        for element in 0..count {
            self.path.push(Segment::Element(element));
            if element < new_count {
                self.value(old, new)?;
            } else {
                let values = self.digest(old)?.values;
                self.note(Fate::Gone, values, String::new());
            }
            self.path.pop();
        }
        (count..new_count).try_for_each(|_| self.pass(new))
    }

    /// Compares entries of maps that are too many for an index: all are there, or all are said to
    /// be changed.
    fn without_index(
        &mut self,
        old: &mut Cursor<'a>,
        left: usize,
        new: &mut Cursor<'a>,
        new_left: usize,
    ) -> Done {
        let mut entries = |at: &mut Cursor<'a>, count| {
            let (mut sum, mut values) = (0_u64, 0_u64);
            for _ in 0..count {
                let name = self.digest(at)?.hash;
                let value = self.digest(at)?;
                sum = sum.wrapping_add(mix(ENTRY, [name, value.hash]));
                values = values.saturating_add(value.values);
            }
            Ok((sum, values))
        };
        let (was, is) = (entries(old, left)?, entries(new, new_left)?);
        if left != new_left || was.0 != is.0 {
            let change = "in a map that is too large to say which".to_owned();
            self.note(Fate::Changed, was.1, change);
        }
        Ok(())
    }

    fn note(&mut self, fate: Fate, values: u64, change: String) {
        if values == 0 {
            return;
        }
        let place = Place { path: self.pattern(), fate };
        if let Some(found) = self.found.get_mut(&place) {
            found.values = found.values.saturating_add(values);
        } else if self.found.len() < LOSS_LINES_MAX {
            let path = self.exact_path();
            let first = if change.is_empty() { path } else { format!("{path}: {change}") };
            self.found.insert(place, Found { values, first });
        } else {
            self.elsewhere = self.elsewhere.saturating_add(values);
        }
    }

    fn note_renamed(&mut self, from: Cursor<'a>, to: Cursor<'a>, count: usize) {
        let mut named = |name| {
            self.path.push(Segment::Name(name, count));
            let path = joined(&self.pattern());
            self.path.pop();
            path
        };
        let (from, to) = (named(from), named(to));
        if self.renamed.len() < LOSS_LINES_MAX {
            self.renamed.insert(from, to);
        }
    }

    fn pattern(&self) -> Vec<String> {
        let segment = |segment: &Segment<'a>| match *segment {
            Segment::Name(_, count) if count > LOSS_NAMES_MAX => "*".to_owned(),
            Segment::Name(name, _) => self.show_name(name),
            Segment::Element(_) => "[]".to_owned(),
        };
        self.path.iter().map(segment).collect()
    }

    fn exact_path(&self) -> String {
        let segment = |segment: &Segment<'a>| match *segment {
            Segment::Name(name, _) => self.show_name(name),
            Segment::Element(place) => format!("[{place}]"),
        };
        joined(&self.path.iter().map(segment).collect::<Vec<_>>())
    }

    fn show_name(&self, name: Cursor<'a>) -> String {
        let shown = self.show(name);
        let inner = shown.strip_prefix('"').and_then(|shown| shown.strip_suffix('"'));
        let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        match inner {
            Some(inner) if !inner.is_empty() && inner.chars().all(plain) => inner.to_owned(),
            _ => shown,
        }
    }

    /// A value in a few words.
    fn show(&self, at: Cursor<'a>) -> String {
        let mut at = at;
        match at.head() {
            Ok(Head::Nil) => "null".to_owned(),
            Ok(Head::Boolean(value)) => value.to_string(),
            Ok(Head::Integer(value)) => value.to_string(),
            Ok(Head::Float(value)) => value.to_string(),
            Ok(Head::Text(length)) => {
                let mut text = Vec::new();
                // What is cut off was noticed before.
                let _shown = at.bytes(length.min(SHOWN_BYTES_MAX), |part| text.extend(part));
                let more = if length > SHOWN_BYTES_MAX { ".." } else { "" };
                let text = printable(&String::from_utf8_lossy(&text), SHOWN_BYTES_MAX);
                format!("\"{text}{more}\"")
            }
            Ok(Head::Bytes(length)) => format!("{length} bytes"),
            Ok(Head::List(length)) => format!("a list of {length}"),
            Ok(Head::Map(length)) => format!("a map of {length}"),
            Ok(Head::Extension(_)) | Err(_) => "another value".to_owned(),
        }
    }
}

/// Takes one of those that there are; false when there is none.
fn take(counts: &mut HashMap<u64, usize>, hash: u64) -> bool {
    match counts.get_mut(&hash) {
        Some(more) if *more > 0 => {
            *more -= 1;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
