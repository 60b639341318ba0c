//! What an upgrade would lose, for people and programs; [`super::compare`] finds it.

use std::collections::BTreeMap;
use std::fmt;

use crate::base::limits::{LOSS_DEPTH_MAX, LOSS_LINES_SHOWN};

/// Why two values can't be compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Incomparable {
    /// It ends too early.
    #[error("it is cut off")]
    CutOff,
    /// It is something else.
    #[error("it is no MessagePack")]
    NoMessagePack,
    /// Bytes after the value.
    #[error("it is more than one value of MessagePack")]
    MoreThanOne,
    /// Nested too deep.
    #[error("it is nested deeper than {LOSS_DEPTH_MAX} levels")]
    TooDeep,
    /// Too much to do.
    #[error("lists in lists are too long")]
    TooLong,
    /// Whoever asked wants it to end.
    #[error("it was cancelled")]
    Cancelled,
}

/// What became of the values at a place.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fate {
    /// They are not there any more.
    Gone,
    /// Others stand there.
    Changed,
}

/// One kind of place at which something is lost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Names from the top, `[]` for any element and `*` for any name in a map of many.
    pub path: String,
    /// What became of them.
    pub fate: Fate,
    /// How many values.
    pub values: u64,
    /// The first of them: where exactly, and for a changed one what it was and became.
    pub first: String,
}

/// What would be lost.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Loss {
    /// By place, in order.
    pub lines: Vec<Line>,
    /// Values at places for which there was no line.
    pub elsewhere: u64,
    /// Old and new paths of what was renamed.
    pub renamed: Vec<(String, String)>,
}

impl Loss {
    /// Of what was found at each place, for which there was no line, and under new names.
    pub(super) fn new(found: Places, elsewhere: u64, renamed: BTreeMap<String, String>) -> Self {
        let line = |(place, found): (Place, Found)| {
            let Place { path, fate } = place;
            let path = if path.is_empty() { "the state".to_owned() } else { joined(&path) };
            Line { path, fate, values: found.values, first: found.first }
        };
        let lines: Vec<Line> = merged(found).into_iter().map(line).collect();
        // What is lost at some places of a kind was not renamed at the others.
        let lost = |path: &String| lines.iter().any(|line| line.path == *path);
        let renamed = renamed.into_iter().filter(|(old, _)| !lost(old)).collect();
        Self { lines, elsewhere, renamed }
    }

    /// True when nothing is lost.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.lines.is_empty() && self.elsewhere == 0
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = |values: u64| format!("{values} value{}", if values == 1 { "" } else { "s" });
        for (place, line) in self.lines.iter().take(LOSS_LINES_SHOWN).enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            let (path, count) = (&line.path, values(line.values));
            match line.fate {
                Fate::Gone => write!(f, "{separator}{path} ({count}) would be lost")?,
                Fate::Changed => {
                    write!(f, "{separator}{path} ({count}) would change, first {}", line.first)?;
                }
            }
        }
        let hidden = self.lines.iter().skip(LOSS_LINES_SHOWN);
        let more = hidden.fold(self.elsewhere, |all, line| all.saturating_add(line.values));
        if more > 0 {
            write!(f, "; so would {} elsewhere", values(more))?;
        }
        Ok(())
    }
}

/// A kind of place, and what became of what was there.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    pub(super) path: Vec<String>,
    pub(super) fate: Fate,
}

/// What was lost there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) values: u64,
    pub(super) first: String,
}

pub(super) type Places = BTreeMap<Place, Found>;

/// The names of a path as people write it.
pub(super) fn joined(path: &[String]) -> String {
    let mut text = String::new();
    for segment in path {
        if !text.is_empty() && !segment.starts_with('[') {
            text.push('.');
        }
        text.push_str(segment);
    }
    text
}

/// Lines of a kind from which one is made.
const SAME_LINES_MIN: usize = 4;

/// Makes one line of many whose paths differ in one name that is not the last: of the same field of
/// many entries.
fn merged(mut found: Places) -> Places {
    let longest = found.keys().map(|place| place.path.len()).max().unwrap_or_default();
    for index in 0..longest.saturating_sub(1) {
        let starred = |place: &Place| {
            let mut place = place.clone();
            if index + 1 < place.path.len()
                && let Some(segment) = place.path.get_mut(index).filter(|name| *name != "[]")
            {
                *segment = "*".to_owned();
            }
            place
        };
        let mut counts: BTreeMap<Place, usize> = BTreeMap::new();
        for place in found.keys() {
            *counts.entry(starred(place)).or_default() += 1;
        }
        let mut kept = Places::new();
        for (place, line) in found {
            let star = starred(&place);
            let many = counts.get(&star).is_some_and(|count| *count >= SAME_LINES_MIN);
            let place = if many { star } else { place };
            match kept.get_mut(&place) {
                Some(first) => first.values = first.values.saturating_add(line.values),
                None => drop(kept.insert(place, line)),
            }
        }
        found = kept;
    }
    found
}
