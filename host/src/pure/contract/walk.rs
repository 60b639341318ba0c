//! Walks along a value by its schema: reads it, checks it, and writes it in its other form.
//!
//! One pass for all that is done with values: arguments from text to MessagePack, results checked,
//! results from MessagePack to text. Which alternative of a union a value is decides itself by the
//! value's kind and by what tells the alternatives apart; where nothing does, they are tried in
//! order. The meter bounds the steps in proportion to the value's bytes, whatever the schema.

use std::cell::Cell;

use smallvec::SmallVec;

use super::describe::describe;
use super::meter::Meter;
use super::shape::{ArrayShape, Id, Node, ObjectShape, Shapes, Tag, contains};
use crate::base::error::{Code, printable};
use crate::base::limits::{EXPECTED_BYTES_MAX, SHOWN_BYTES_MAX, VALUE_DEPTH_MAX};
use crate::pure::value::json::{said, too_deep};
use crate::pure::value::packed::write;
use crate::pure::value::{Head, Items, Sink, Source, Whole, Wrong};

/// A value, its schema and where it goes.
pub(super) struct Walk<'w, 'm, S, K> {
    shapes: &'w Shapes,
    source: S,
    sink: &'w mut K,
    meter: &'w mut Meter<'m>,
    depth: usize,
    /// Alternatives that are being tried: their errors are not described.
    trying: u32,
    /// How deep, and where, the one that is being tried went wrong.
    failed: Cell<(usize, usize)>,
}

/// Walks along one whole value.
pub(super) fn walk<'v, S: Source<'v>, K: Sink>(
    shapes: &Shapes,
    source: S,
    sink: &mut K,
    meter: &mut Meter<'_>,
) -> Result<(), Wrong> {
    let mut walk = Walk::new(shapes, source, sink, meter);
    walk.value(shapes.root())?;
    walk.source.end()
}

impl<'v, 'w, 'm, S: Source<'v>, K: Sink> Walk<'w, 'm, S, K> {
    pub(super) fn new(
        shapes: &'w Shapes,
        source: S,
        sink: &'w mut K,
        meter: &'w mut Meter<'m>,
    ) -> Self {
        Self { shapes, source, sink, meter, depth: 0, trying: 0, failed: Cell::default() }
    }

    /// The next value; answers where it ended.
    pub(super) fn next(mut self, depth: usize) -> Result<S, Wrong> {
        self.depth = depth;
        self.value(self.shapes.root())?;
        Ok(self.source)
    }

    fn value(&mut self, id: Id) -> Result<(), Wrong> {
        if self.depth > VALUE_DEPTH_MAX {
            return Err(too_deep());
        }
        if self.sink.is_full() {
            return Err(Wrong::Ended(Code::AnswerTooLarge));
        }
        let start = self.source;
        let head = self.source.head()?;
        self.meter.step(self.source.at() - start.at())?;
        let shapes = self.shapes;
        let node = shapes.node(id);
        self.depth += 1;
        let walked = match head {
            Head::Array(items) => self.array(node, start, items),
            Head::Map(items) => self.map(node, start, items),
            head => self.scalar(node, start, head),
        };
        self.depth -= 1;
        walked
    }

    /// A value without others in it.
    fn scalar(&mut self, node: &Node, start: S, head: Head<'v>) -> Result<(), Wrong> {
        let fits = match &head {
            Head::Null => node.any || node.null,
            Head::Boolean(value) => node.any || node.booleans.contains(value),
            Head::Integer(number) => return self.integer(node, start, *number),
            Head::Huge(digits) => return self.huge(node, start, digits),
            Head::Float(number) => node.any || node.takes_float(*number),
            Head::Single(number) => node.any || node.takes_float(f64::from(*number)),
            Head::Text(text) => return self.text(node, start, text),
            Head::Bytes(bytes) => return self.bytes(node, start, bytes),
            // They have their own ways.
            Head::Array(_) | Head::Map(_) => false,
        };
        if !fits {
            return Err(self.unfit_number(node, start, &head));
        }
        write(&head, self.sink);
        Ok(())
    }

    fn integer(&mut self, node: &Node, start: S, number: Whole) -> Result<(), Wrong> {
        if contains(&node.integers, number) || (node.any && number.has_64_bits()) {
            self.sink.integer(number);
        } else if node.takes_float(number.to_f64()) {
            match number.has_64_bits() {
                true => self.sink.integer(number),
                false => self.sink.float(number.to_f64()),
            }
        } else {
            return Err(self.unfit_number(node, start, &Head::Integer(number)));
        }
        Ok(())
    }

    /// More than 128 bits: a float at most.
    fn huge(&mut self, node: &Node, start: S, digits: &str) -> Result<(), Wrong> {
        match digits.parse::<f64>() {
            Ok(number) if number.is_finite() && node.takes_float(number) => {
                self.sink.float(number);
                Ok(())
            }
            _ => Err(self.unfit_number(node, start, &Head::Huge(digits))),
        }
    }

    fn text(&mut self, node: &Node, start: S, text: &str) -> Result<(), Wrong> {
        if node.any || node.names.contains(text) || node.takes_length(text) {
            self.sink.text(text);
            return Ok(());
        }
        // Decimal digits, for whoever has no number as wide.
        if let Some(number) = Whole::parse(text).filter(|_| !node.integers.is_empty()) {
            return self.integer(node, start, number);
        }
        if S::IS_TEXT
            && let Some(number) = said(text).filter(|number| node.takes_float(*number))
        {
            self.sink.float(number);
            return Ok(());
        }
        Err(self.unfit(node, start, || match node.lengths.as_slice() {
            [(minimum, maximum)] if node.names.is_empty() => {
                let count = text.chars().count();
                Some(format!("{count} characters, where {} may be", between(minimum, maximum)))
            }
            _ => None,
        }))
    }

    /// A list of numbers to JSON, or a number of more than 64 bits.
    fn bytes(&mut self, node: &Node, start: S, bytes: &'v [u8]) -> Result<(), Wrong> {
        if node.any || !node.arrays.is_empty() {
            self.sink.bytes(bytes);
            return Ok(());
        }
        match node.wide_integer(bytes) {
            Some(number) => self.integer(node, start, number),
            None => Err(self.unfit(node, start, || None)),
        }
    }

    fn array(&mut self, node: &Node, start: S, items: Items) -> Result<(), Wrong> {
        let shapes = self.shapes;
        match (node.arrays.as_slice(), node.any) {
            ([], true) => self.elements(ArrayShape::any(), items),
            ([only], false) => self.elements(shapes.array(*only), items),
            ([], false) => Err(self.unfit(node, start, || None)),
            (several, any) => {
                let last = any.then_some(ArrayShape::any());
                let all = several.iter().map(|id| shapes.array(*id)).chain(last);
                self.attempt(all, |walk, shape| walk.elements(shape, items))
            }
        }
    }

    fn map(&mut self, node: &Node, start: S, items: Items) -> Result<(), Wrong> {
        let shapes = self.shapes;
        match (node.objects.as_slice(), node.any) {
            ([], true) => self.entries(ObjectShape::any(), items),
            ([only], false) => self.entries(shapes.object(*only), items),
            ([], false) => Err(self.unfit(node, start, || None)),
            (_, false) if node.tag.is_some() => {
                let shape = self.tagged(node, start, items)?;
                self.entries(shapes.object(shape), items)
            }
            (several, any) => {
                let last = any.then(ObjectShape::any);
                let all = several.iter().map(|id| shapes.object(*id)).chain(last);
                self.attempt(all, |walk, shape| walk.entries(shape, items))
            }
        }
    }

    /// The alternative that a map is, by what tells them apart.
    fn tagged(&mut self, node: &Node, start: S, items: Items) -> Result<u32, Wrong> {
        let Some(tag) = &node.tag else { return Err(self.unfit(node, start, || None)) };
        let (mut source, mut items) = (self.source, items);
        let mut place;
        let found = match tag {
            Tag::Outer(by) => {
                if !source.more(&mut items)? {
                    return Err(self.unfit(node, start, || None));
                }
                place = source;
                match source.key()? {
                    Head::Text(name) => by.get(name.as_ref()).copied(),
                    _ => None,
                }
            }
            Tag::Inner(tag, by) => loop {
                if !source.more(&mut items)? {
                    return Err(self.unfit(node, start, || Some(format!("`{tag}` is missing"))));
                }
                let is_tag = matches!(source.key()?, Head::Text(name) if *name == **tag);
                place = source;
                if is_tag {
                    break match source.head()? {
                        Head::Text(name) => by.get(name.as_ref()).copied(),
                        _ => None,
                    };
                }
                source.skip(VALUE_DEPTH_MAX.saturating_sub(self.depth))?;
            },
        };
        self.meter.step(source.at() - self.source.at())?;
        found.ok_or_else(|| {
            self.wrong(|| {
                let found = place.shown();
                match tag {
                    Tag::Inner(tag, by) => {
                        let names: Vec<String> =
                            by.keys().map(|name| format!("\"{name}\"")).collect();
                        let names = printable(&names.join(", "), EXPECTED_BYTES_MAX);
                        format!("expected one of {names} for `{tag}`, found {found}")
                    }
                    Tag::Outer(_) => {
                        let (name, expected) =
                            (found.trim_matches('"'), describe(self.shapes, node));
                        format!("`{name}` is not expected: expected {expected}")
                    }
                }
            })
        })
    }

    /// Tries alternatives in order. When none fits, the one that got deepest says why.
    fn attempt<T: Copy>(
        &mut self,
        alternatives: impl Iterator<Item = T>,
        mut run: impl FnMut(&mut Self, T) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        let (source, mark, depth) = (self.source, self.sink.mark(), self.depth);
        let mut deepest: Option<((usize, usize), T)> = None;
        for alternative in alternatives {
            self.trying += 1;
            self.failed.set((0, 0));
            let ran = run(self, alternative);
            self.trying -= 1;
            match ran {
                Ok(()) => return Ok(()),
                Err(Wrong::Quiet) => {}
                Err(wrong) => return Err(wrong),
            }
            let failed = self.failed.get();
            if deepest.is_none_or(|(best, _)| failed > best) {
                deepest = Some((failed, alternative));
            }
            (self.source, self.depth) = (source, depth);
            self.sink.back(mark);
            self.meter.step(0)?;
        }
        let Some((failed, alternative)) = deepest else { return Err(Wrong::Quiet) };
        self.failed.set(failed);
        if self.trying == 0 { run(self, alternative) } else { Err(Wrong::Quiet) }
    }

    fn elements(&mut self, shape: &ArrayShape, mut items: Items) -> Result<(), Wrong> {
        let begun = self.sink.begin(false);
        let mut count: u32 = 0;
        while self.source.more(&mut items)? {
            let place = usize::try_from(count).unwrap_or(usize::MAX);
            let id = shape.prefix.get(place).copied().unwrap_or(shape.items);
            if self.shapes.node(id).is_never() {
                let known = shape.prefix.len();
                return Err(self.wrong(|| format!("more than the {known} elements expected")));
            }
            self.sink.separate(count == 0);
            self.value(id).map_err(|wrong| wrong.under(|| format!("[{count}]")))?;
            count = count.saturating_add(1);
        }
        if !(shape.minimum..=shape.maximum).contains(&u64::from(count)) {
            let may = between(&shape.minimum, &shape.maximum);
            return Err(self.wrong(|| format!("{count} elements, where {may} may be")));
        }
        self.sink.end(begun, false, count)
    }

    fn entries(&mut self, shape: &ObjectShape, mut items: Items) -> Result<(), Wrong> {
        let begun = self.sink.begin(true);
        let mut seen: SmallVec<[u64; 2]> = SmallVec::new();
        let (mut count, mut required): (u32, usize) = (0, 0);
        while self.source.more(&mut items)? {
            let start = self.source;
            let key = self.source.key()?;
            self.meter.step(self.source.at() - start.at())?;
            self.sink.separate(count == 0);
            let (id, number, key) = self.entry(shape, start, key)?;
            if let Some(number) = number {
                required += usize::from(is_first(&mut seen, number));
            }
            self.sink.key(&key);
            self.sink.keyed();
            self.value(id).map_err(|wrong| wrong.under(|| format!(".{}", name_of(&key))))?;
            count = count.saturating_add(1);
        }
        if required < shape.required {
            return Err(self.wrong(|| {
                let missing = shape.required_names().enumerate();
                let missing = missing.filter(|(place, _)| is_first(&mut seen, *place));
                let missing: Vec<String> = missing.map(|(_, name)| format!("`{name}`")).collect();
                let verb = if missing.len() == 1 { "is" } else { "are" };
                let missing = printable(&missing.join(", "), EXPECTED_BYTES_MAX);
                let names = shape.required_names().collect::<Vec<_>>().join(", ");
                let names = printable(&names, EXPECTED_BYTES_MAX);
                format!("expected an object with {names}: {missing} {verb} missing")
            }));
        }
        self.sink.end(begun, true, count)
    }

    /// What the value of an entry must be, its number if it must be there, and its key as it is
    /// written.
    fn entry(
        &mut self,
        shape: &ObjectShape,
        start: S,
        key: Head<'v>,
    ) -> Result<(Id, Option<usize>, Head<'v>), Wrong> {
        let known = match &key {
            Head::Text(name) => shape.property(name),
            _ => None,
        };
        if let Some((id, required)) = known {
            return Ok((id, required, key));
        }
        if let Some((is_signed, id)) = shape.integer_keys {
            let number = match &key {
                Head::Text(digits) => Whole::parse(digits),
                Head::Integer(number) => Some(*number),
                Head::Bytes(bytes) => Whole::of_bytes(bytes, is_signed),
                _ => None,
            };
            if let Some(number) = number.filter(|number| is_signed || *number >= Whole::ZERO) {
                return Ok((id, None, Head::Integer(number)));
            }
        }
        let is_key = matches!(key, Head::Text(_) | Head::Integer(_) | Head::Boolean(_));
        if is_key && !self.shapes.node(shape.additional).is_never() {
            return Ok((shape.additional, None, key));
        }
        Err(self.wrong(|| {
            let name = match &key {
                Head::Text(_) | Head::Integer(_) | Head::Boolean(_) => name_of(&key),
                _ => start.shown(),
            };
            format!("`{name}` is not expected{}", shape.known())
        }))
    }

    fn wrong(&self, problem: impl FnOnce() -> String) -> Wrong {
        if self.trying > 0 {
            self.failed.set(self.failed.get().max((self.depth, self.source.at())));
            return Wrong::Quiet;
        }
        Wrong::Unfit { path: String::new(), problem: problem() }
    }

    /// What was expected, what is there; or what is known better.
    fn unfit(&self, node: &Node, start: S, better: impl FnOnce() -> Option<String>) -> Wrong {
        self.wrong(|| {
            better().unwrap_or_else(|| {
                format!("expected {}, found {}", describe(self.shapes, node), start.shown())
            })
        })
    }

    /// How a number is to be written that is exact as a text alone.
    fn exact(&self, node: &Node, start: S, head: &Head<'_>) -> Option<String> {
        let why = match head {
            Head::Float(_) => ": a JSON number is a float",
            Head::Integer(_) | Head::Huge(_) => "",
            _ => return None,
        };
        let (expected, shown) = (describe(self.shapes, node), start.shown());
        Some(format!("expected {expected}, found {shown}; write it as text, \"{shown}\"{why}"))
    }

    /// The same for a number that may only be out of a range.
    fn unfit_number(&self, node: &Node, start: S, head: &Head<'_>) -> Wrong {
        self.unfit(node, start, || {
            if S::IS_TEXT && node.is_decimal() {
                return self.exact(node, start, head);
            }
            let (is_below, low, high) = match (node.integers.as_slice(), node.numbers.as_slice()) {
                ([(low, high)], []) => {
                    let is_below = match head {
                        Head::Integer(number) => number < low,
                        Head::Huge(digits) => digits.starts_with('-'),
                        _ => return None,
                    };
                    (is_below, low.to_string(), high.to_string())
                }
                ([], [(low, high)]) => {
                    let is_below = match head {
                        Head::Integer(number) => number.to_f64() < *low,
                        Head::Huge(digits) => digits.starts_with('-'),
                        Head::Float(number) if !number.is_nan() => number < low,
                        Head::Single(number) if !number.is_nan() => f64::from(*number) < *low,
                        _ => return None,
                    };
                    (is_below, low.to_string(), high.to_string())
                }
                _ => return None,
            };
            let shown = start.shown();
            Some(match is_below {
                true => format!("{shown} is below the minimum {low}"),
                false => format!("{shown} is above the maximum {high}"),
            })
        })
    }
}

fn name_of(key: &Head<'_>) -> String {
    match key {
        Head::Text(name) => printable(name, SHOWN_BYTES_MAX),
        Head::Integer(number) => number.to_string(),
        Head::Boolean(value) => value.to_string(),
        _ => String::new(),
    }
}

fn between(minimum: &u64, maximum: &u64) -> String {
    match (minimum, maximum) {
        (minimum, &u64::MAX) => format!("{minimum} or more"),
        (minimum, maximum) if minimum == maximum => minimum.to_string(),
        (minimum, maximum) => format!("{minimum} to {maximum}"),
    }
}

/// Notes a number; answers whether it is there for the first time.
fn is_first(seen: &mut SmallVec<[u64; 2]>, number: usize) -> bool {
    let (word, bit) = (number / 64, 1_u64 << (number % 64));
    if seen.len() <= word {
        seen.resize(word + 1, 0);
    }
    let Some(word) = seen.get_mut(word) else { return false };
    let is_first = *word & bit == 0;
    *word |= bit;
    is_first
}

#[cfg(test)]
mod tests;
