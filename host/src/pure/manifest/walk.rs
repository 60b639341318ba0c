//! Reads tables of a manifest key by key, and collects what is wrong with them.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::{Complaint, Source, Span};
use super::text::Text;
use crate::base::error::{Code, printable};
use crate::base::limits::MANIFEST_COMPLAINTS_MAX;
use crate::pure::setting::is_name;

/// Characters of a name in a message.
const NAME_CHARS: usize = 64;

/// Something that is named, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// Where it stands.
    pub span: Span,
}

/// The entries of a table, in the order of the text.
pub(super) struct Fields<'t, 'i> {
    /// What the table is, for messages: "daemon `ledger`".
    pub(super) what: String,
    /// Where its name stands.
    pub(super) span: Span,
    pub(super) entries: Vec<(Named, &'t Spanned<DeValue<'i>>)>,
}

impl<'t, 'i> Fields<'t, 'i> {
    pub(super) fn new(what: impl Into<String>, span: Span, table: &'t DeTable<'i>) -> Self {
        let entry = |(key, value): (&Spanned<_>, &'t Spanned<DeValue<'i>>)| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            (Named { name: name.to_string(), span: key.span() }, value)
        };
        let mut entries: Vec<_> = table.iter().map(entry).collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        Self { what: what.into(), span, entries }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.entries.iter().find(|(named, _)| named.name == key).map(|(_, value)| *value)
    }
}

/// What is known while a manifest is read.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) source: Source,
    pub(super) complaints: Vec<Complaint>,
    /// The parameters that are declared; one that is never used is fine.
    pub(super) parameters: Vec<String>,
}

impl Walk {
    pub(super) fn complain(&mut self, span: &Span, message: impl AsRef<str>) {
        if self.complaints.len() < MANIFEST_COMPLAINTS_MAX {
            let complaint = self.source.complaint(Code::Manifest, span, message.as_ref());
            self.complaints.push(complaint);
        }
    }

    /// Complains about keys that nobody knows: a mistyped one must not pass in silence.
    pub(super) fn only(&mut self, fields: &Fields<'_, '_>, known: &[&str]) {
        for (key, _) in &fields.entries {
            if !known.contains(&key.name.as_str()) {
                let what = format!("{} has no key `{}`", fields.what, shown(&key.name));
                self.complain(&key.span, format!("{what}; {}", suggest(&key.name, known)));
            }
        }
    }

    /// Complains that a key is missing.
    pub(super) fn missing(&mut self, fields: &Fields<'_, '_>, key: &str, like: &str) {
        let message = format!("{} needs `{key}`, {like}", fields.what);
        self.complain(&fields.span, message);
    }

    /// Complains about a value of another type.
    fn other_type(&mut self, value: &Spanned<DeValue<'_>>, key: &str, like: &str) {
        let found = type_name(value.get_ref());
        self.complain(&value.span(), format!("`{}` is {like}, not {found}", shown(key)));
    }

    /// A table, or a complaint.
    pub(super) fn table<'t, 'i>(
        &mut self,
        key: &Named,
        value: &'t Spanned<DeValue<'i>>,
        what: String,
        like: &str,
    ) -> Option<Fields<'t, 'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Fields::new(what, key.span.clone(), table)),
            _ => {
                self.other_type(value, &key.name, like);
                None
            }
        }
    }

    /// The tables in a table by their names, which must be usable ones.
    pub(super) fn named_tables<'t, 'i>(
        &mut self,
        fields: &Fields<'t, 'i>,
        kind: &str,
        like: &str,
    ) -> Vec<(Named, Fields<'t, 'i>)> {
        let mut tables = Vec::new();
        for (key, value) in &fields.entries {
            if !is_name(&key.name) {
                let message =
                    format!("`{}` is no name: 1 to 64 of a-z, 0-9, - and _", shown(&key.name));
                self.complain(&key.span, message);
                continue;
            }
            let what = format!("{kind} `{}`", key.name);
            if let Some(table) = self.table(key, value, what, like) {
                tables.push((key.clone(), table));
            }
        }
        tables
    }

    /// A value that is written as a text or a number, and read by `parse`.
    pub(super) fn setting<T>(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
        like: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = fields.get(key)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix())
            {
                Ok(number) => number.to_string(),
                Err(_) => number.as_str().to_owned(),
            },
            _ => {
                self.other_type(value, key, like);
                return None;
            }
        };
        match parse(&text) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.complain(&value.span(), format!("`{key}`: {error}"));
                None
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn number(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let (least, most) = (*range.start(), *range.end());
        let like = format!("a number from {least} to {most}");
        self.setting(fields, key, &like, |text| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| format!("`{text}` is not {like}"))
        })
    }

    pub(super) fn flag(&mut self, fields: &Fields<'_, '_>, key: &str) -> Option<bool> {
        let value = fields.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.other_type(value, key, "true or false");
                None
            }
        }
    }

    /// A text without parameters.
    pub(super) fn word(&mut self, fields: &Fields<'_, '_>, key: &str, like: &str) -> Option<Named> {
        let value = fields.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Named { name: text.to_string(), span: value.span() }),
            _ => {
                self.other_type(value, key, like);
                None
            }
        }
    }

    /// One of some words.
    pub(super) fn one_of(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
        words: &[&'static str],
    ) -> Option<&'static str> {
        let like = format!("one of {}", words.join(", "));
        let word = self.word(fields, key, &like)?;
        let found = words.iter().find(|known| **known == word.name).copied();
        if found.is_none() {
            let message = format!("`{key}` is {like}, not `{}`", shown(&word.name));
            self.complain(&word.span, message);
        }
        found
    }

    /// A text in which parameters may stand.
    pub(super) fn text(&mut self, fields: &Fields<'_, '_>, key: &str, like: &str) -> Option<Text> {
        let value = fields.get(key)?;
        self.text_of(value, key, like)
    }

    pub(super) fn text_of(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key: &str,
        like: &str,
    ) -> Option<Text> {
        let DeValue::String(text) = value.get_ref() else {
            self.other_type(value, key, like);
            return None;
        };
        match Text::parse(text, value.span()) {
            Ok(text) => {
                let known: Vec<&str> = self.parameters.iter().map(String::as_str).collect();
                let unknown = text.parameters().find(|name| !known.contains(name));
                let message = unknown.map(|name| {
                    format!("no parameter `{}`; {}", shown(name), suggest(name, &known))
                });
                match message {
                    Some(message) => {
                        self.complain(&text.span, message);
                        None
                    }
                    None => Some(text),
                }
            }
            Err(error) => {
                self.complain(&value.span(), error);
                None
            }
        }
    }

    /// The elements of a list.
    pub(super) fn list<'t, 'i>(
        &mut self,
        fields: &Fields<'t, 'i>,
        key: &str,
        like: &str,
    ) -> &'t [Spanned<DeValue<'i>>] {
        match fields.get(key).map(|value| (value, value.get_ref())) {
            None => &[],
            Some((_, DeValue::Array(list))) => list,
            Some((value, _)) => {
                self.other_type(value, key, like);
                &[]
            }
        }
    }

    /// A list of texts in which parameters may stand.
    pub(super) fn texts(&mut self, fields: &Fields<'_, '_>, key: &str, like: &str) -> Vec<Text> {
        let list = self.list(fields, key, &format!("a list of {like}"));
        list.iter().filter_map(|element| self.text_of(element, key, like)).collect()
    }

    /// A list of names out of `known`, none twice.
    pub(super) fn names(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
        kind: &str,
        known: &[&str],
    ) -> Vec<Named> {
        let like = format!("a list of {kind}s");
        let mut names: BTreeMap<String, Span> = BTreeMap::new();
        for element in self.list(fields, key, &like) {
            let DeValue::String(name) = element.get_ref() else {
                self.other_type(element, key, &like);
                continue;
            };
            if !known.contains(&name.as_ref()) {
                let what = format!("there is no {kind} `{}`", shown(name));
                self.complain(&element.span(), format!("{what}; {}", suggest(name, known)));
            } else if names.contains_key(name.as_ref()) {
                self.complain(&element.span(), format!("`{name}` stands twice in `{key}`"));
            } else {
                names.insert(name.to_string(), element.span());
            }
        }
        let mut names: Vec<Named> =
            names.into_iter().map(|(name, span)| Named { name, span }).collect();
        names.sort_by_key(|named| named.span.start);
        names
    }
}

/// A name as it may stand in a message.
pub(super) fn shown(name: &str) -> String {
    printable(name, NAME_CHARS)
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known name that is meant, or all there are.
pub(super) fn suggest(name: &str, known: &[&str]) -> String {
    match meant(name, known) {
        Some(nearest) => format!("is it `{nearest}`?"),
        None if known.is_empty() => "there are none".to_owned(),
        None if known.len() <= 16 => format!("there are {}", known.join(", ")),
        None => format!("there are {}", known.len()),
    }
}

/// The known name that is meant, if one is near enough.
#[must_use]
pub fn meant<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distances = known.iter().map(|known| (distance(name, known), *known));
    // A third of the letters may be wrong.
    let near = |(distance, nearest): &(usize, &str)| *distance <= 1 + nearest.len() / 3;
    distances.min().filter(near).map(|(_, nearest)| nearest)
}

/// Letters to insert, remove or replace to make one name of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > NAME_CHARS || b.len() > NAME_CHARS {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, letter) in a.iter().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut next = vec![left];
        for (other, &above) in b.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(letter != other)).min(above + 1).min(left + 1);
            diagonal = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        for (a, b, letters) in
            [("", "", 0), ("abc", "", 3), ("budgt", "budget", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (letters, letters), "{a} {b}");
        }
        let known = ["budget", "fuel", "deadline"];
        assert_eq!(suggest("budgt", &known), "is it `budget`?");
        assert_eq!(suggest("deadlin", &known), "is it `deadline`?");
        assert_eq!(suggest("zzz", &known), "there are budget, fuel, deadline");
        assert_eq!(suggest("zzz", &[]), "there are none");
        assert_eq!(suggest(&"z".repeat(1 << 20), &["a"; 17]), "there are 17");
    }
}
