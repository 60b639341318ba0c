//! Texts with parameters: `redis://${host}:6379`.
//!
//! A parameter's value is put in once: what it contains is not looked at again. `$${` stands for
//! `${` itself.

use std::collections::BTreeMap;
use std::fmt;

use super::source::{Span, credentials};

/// What is shown of a secret.
pub(super) const STARS: &str = "***";

/// A text that is never shown.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Hidden(pub(super) String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STARS)
    }
}

/// A piece of a text.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Literal(String),
    Parameter(String),
}

/// A text as it stands in a manifest.
#[derive(Clone)]
pub struct Text {
    parts: Vec<Part>,
    /// Where it stands.
    pub span: Span,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text").field("span", &self.span).finish_non_exhaustive()
    }
}

/// A parameter's value.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) value: Hidden,
    pub(super) secret: bool,
}

impl Text {
    /// Reads a text; the error says what is wrong with a `${`.
    pub(super) fn parse(text: &str, span: Span) -> Result<Self, &'static str> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                rest = after;
                continue;
            }
            literal.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                return Err("`${` has no `}`; write `$${` for the two characters themselves");
            };
            parts.push(Part::Literal(std::mem::take(&mut literal)));
            parts.push(Part::Parameter(name.to_owned()));
            rest = after;
        }
        literal.push_str(rest);
        parts.push(Part::Literal(literal));
        Ok(Self { parts, span })
    }

    /// The parameters in it.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Parameter(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// Puts values in; none where one is missing. With `url`, what stands between `://` and `@` is
    /// percent-encoded, so that a password may have any characters.
    pub(super) fn bind(&self, values: &BTreeMap<String, Given>, url: bool) -> Option<BoundText> {
        let (mut text, mut shown) = (String::new(), String::new());
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(literal) => {
                    text.push_str(literal);
                    shown.push_str(literal);
                }
                Part::Parameter(name) => {
                    let given = values.get(name)?;
                    let value = match url && self.is_credential(index) {
                        true => percent_encoded(&given.value.0),
                        false => given.value.0.clone(),
                    };
                    shown.push_str(if given.secret { STARS } else { &value });
                    text.push_str(&value);
                }
            }
        }
        let spans = credentials(&shown);
        for span in spans.into_iter().rev() {
            shown.replace_range(span, STARS);
        }
        Some(BoundText { text, shown, span: self.span.clone() })
    }

    /// True between `://` and an `@` before the next `/`.
    fn is_credential(&self, index: usize) -> bool {
        let literals = |part: &Part| match part {
            Part::Literal(literal) => literal.clone(),
            Part::Parameter(_) => String::new(),
        };
        let before: String = self.parts.iter().take(index).map(literals).collect();
        let after: String = self.parts.iter().skip(index + 1).map(literals).collect();
        let authority = before.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| !authority.contains(['/', '@']))
            && after.split('/').next().is_some_and(|after| after.contains('@'))
    }
}

fn percent_encoded(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A text with its parameters' values: it owns them, so that nothing changes it any more. Shown
/// without what is secret in it.
#[derive(Clone, Eq, PartialEq)]
pub struct BoundText {
    text: String,
    shown: String,
    /// Where it stands.
    pub span: Span,
}

impl BoundText {
    /// The text itself, which may have secrets in it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for BoundText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for BoundText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> BTreeMap<String, Given> {
        let given = |value: &str, secret| Given { value: Hidden(value.to_owned()), secret };
        BTreeMap::from([
            ("a".to_owned(), given("1", false)),
            ("again".to_owned(), given("${a}$${", false)),
            ("pw".to_owned(), given("p/w@ \u{e9}", true)),
        ])
    }

    #[test]
    fn values_are_put_in_once() {
        for (text, bound) in [
            ("", Some("")),
            ("plain $ {a} }", Some("plain $ {a} }")),
            ("${a}", Some("1")),
            ("x${a}y${a}", Some("x1y1")),
            ("${again}", Some("${a}$${")),
            ("$${a}", Some("${a}")),
            ("$$${a}", Some("$${a}")),
            ("${none}", None),
            ("${}", None),
        ] {
            let bind = |url| {
                let parsed = Text::parse(text, 0..0).unwrap();
                parsed.bind(&values(), url).map(|bound| bound.expose().to_owned())
            };
            assert_eq!(bind(false).as_deref(), bound, "{text}");
            assert_eq!(bind(true).as_deref(), bound, "{text}");
        }
        assert!(Text::parse("${a", 0..0).is_err());
    }

    #[test]
    fn a_password_is_encoded_where_it_is_one_and_never_shown() {
        for (text, bound, shown) in [
            ("redis://:${pw}@h/${a}", "redis://:p%2Fw%40%20%C3%A9@h/1", "redis://***@h/1"),
            ("${pw}", "p/w@ \u{e9}", "***"),
            ("redis://h/${pw}", "redis://h/p/w@ \u{e9}", "redis://h/***"),
            ("redis://u:x@h", "redis://u:x@h", "redis://***@h"),
            ("x ${a} y", "x 1 y", "x 1 y"),
        ] {
            let text = Text::parse(text, 0..0).unwrap().bind(&values(), true).unwrap();
            assert_eq!(text.expose(), bound);
            assert_eq!(
                (text.to_string().as_str(), format!("{text:?}").trim_matches('"')),
                (shown, shown)
            );
        }
    }
}
