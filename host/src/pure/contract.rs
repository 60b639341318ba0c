//! Contracts: what a guest offers, and whether a request or a result fits.
//!
//! A contract's types are JSON Schemas. They are compiled once, at deploy, into a [`Shape`] that is
//! checked against MessagePack bytes without copying them: arguments before anything starts,
//! results before anything is committed.
//!
//! Checked keywords: `type`, `properties`, `required`, `additionalProperties`, `items`,
//! `prefixItems`, `minItems`, `maxItems`, `minimum`, `maximum`, `minLength`, `maxLength`, `enum`,
//! `const`, `anyOf`, `oneOf` (as `anyOf`), `allOf` of one, `$ref` into `$defs`. Other keywords are
//! shown by `host inspect` and not checked.

mod bind;
mod describe;
mod meter;
mod shape;
mod walk;

use std::sync::LazyLock;

use serde_json::Value;

pub use bind::{Args, BindError};
pub use meter::{Ask, Meter};
pub use shape::{SchemaError, Shapes};

use super::value::json::JsonWriter;
use super::value::packed::Packed;
use super::value::{Nowhere, Sink as _, Wrong};
use crate::base::error::{Code, printable};
use crate::base::limits::{ARGUMENTS_MAX, CONTRACTS_MAX, DESCRIPTION_BYTES_MAX, SCHEMA_BYTES_MAX};

/// A JSON Schema and what it was compiled to.
#[derive(Clone, Debug)]
pub struct Schema {
    /// As the guest gave it.
    pub json: Value,
    shapes: Shapes,
}

/// A value does not fit, or was not read to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CheckError {
    /// It doesn't fit, or is not one value.
    Unfit {
        /// Where, like `.lines[3].amount`; empty at the top.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Reading it was ended: out of fuel, late, cancelled; or its text is too large.
    Ended(Code),
}

impl std::error::Error for CheckError {}

impl std::fmt::Display for CheckError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unfit { path, problem } if path.is_empty() => f.write_str(problem),
            Self::Unfit { path, problem } => write!(f, "at `{path}`: {problem}"),
            Self::Ended(code) => write!(f, "reading it ended with {code}"),
        }
    }
}

impl From<Wrong> for CheckError {
    fn from(wrong: Wrong) -> Self {
        let unfit = |path, problem| Self::Unfit { path, problem };
        match wrong {
            Wrong::Quiet => unfit(String::new(), "no alternative fits".to_owned()),
            Wrong::Broken(problem) => unfit(String::new(), problem),
            Wrong::Unfit { path, problem } => unfit(path, problem),
            Wrong::Ended(code) => Self::Ended(code),
        }
    }
}

impl Schema {
    /// Compiles the text of a schema.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] when it is not JSON, too long, or uses a checked keyword wrongly.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(SchemaError::TooLong { bytes: text.len() });
        }
        let json: Value =
            serde_json::from_str(text).map_err(|e| SchemaError::Json(e.to_string()))?;
        let shapes = Shapes::compile(&json)?;
        Ok(Self { json, shapes })
    }

    /// Checks one MessagePack value.
    ///
    /// # Errors
    ///
    /// [`CheckError`] with the path to what doesn't fit.
    pub fn check(&self, bytes: &[u8], meter: &mut Meter<'_>) -> Result<(), CheckError> {
        meter.begin(bytes.len());
        Ok(walk::walk(&self.shapes, Packed::new(bytes), &mut Nowhere, meter)?)
    }

    /// Checks one MessagePack value and writes it as JSON of at most so many bytes.
    ///
    /// # Errors
    ///
    /// [`CheckError`] with the path to what doesn't fit; `E_ANSWER_TOO_LARGE`.
    pub fn show(
        &self,
        bytes: &[u8],
        bytes_max: usize,
        meter: &mut Meter<'_>,
    ) -> Result<String, CheckError> {
        show(&self.shapes, bytes, bytes_max, meter)
    }
}

/// Writes any MessagePack value as JSON of at most so many bytes. Bytes become a list of numbers;
/// NaN and infinities the texts `nan`, `inf` and `-inf`; keys that are numbers, texts.
///
/// # Errors
///
/// [`CheckError`] for bytes that are no value; `E_ANSWER_TOO_LARGE`.
pub fn show_any(
    bytes: &[u8],
    bytes_max: usize,
    meter: &mut Meter<'_>,
) -> Result<String, CheckError> {
    static ANYTHING: LazyLock<Shapes> = LazyLock::new(Shapes::anything);
    show(&ANYTHING, bytes, bytes_max, meter)
}

fn show(
    shapes: &Shapes,
    bytes: &[u8],
    bytes_max: usize,
    meter: &mut Meter<'_>,
) -> Result<String, CheckError> {
    meter.begin(bytes.len());
    let mut text = JsonWriter::new(bytes_max);
    walk::walk(shapes, Packed::new(bytes), &mut text, meter)?;
    if text.is_full() {
        return Err(CheckError::Ended(Code::AnswerTooLarge));
    }
    Ok(text.into_text())
}

/// One argument of a contract.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// False when it may be left out.
    pub required: bool,
    /// Its type.
    pub schema: Schema,
}

/// What a guest offers.
#[derive(Clone, Debug)]
pub struct Contract {
    /// Its place in the guest's list.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it does, for people.
    pub documentation: String,
    /// True when it never changes the state.
    pub read_only: bool,
    /// The resources that it can't be met without, as the service calls them.
    pub needs: Vec<String>,
    /// In the order in which they travel.
    pub arguments: Vec<Argument>,
    /// The type of its result.
    pub result: Schema,
}

/// The guest's description can't be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DescriptionError {
    /// Nothing to call, or far too much.
    #[error("it describes {0} contracts; 1 to {CONTRACTS_MAX} are possible")]
    Count(usize),
    /// A name that can't be typed.
    #[error("`{0}` is not a name: 1 to 64 letters, digits, `_` or `-`, not starting with a digit")]
    Name(String),
    /// A name twice.
    #[error("`{0}` is described twice")]
    Twice(String),
    /// A need that can't be.
    #[error(
        "contract `{contract}` can't need `{name}`: there is no such contract, or no such name"
    )]
    Need {
        /// The contract.
        contract: String,
        /// The resource.
        name: String,
    },
    /// More arguments than anybody calls with.
    #[error("contract `{contract}` has {count} arguments; {ARGUMENTS_MAX} is the most")]
    Arguments {
        /// The contract.
        contract: String,
        /// How many.
        count: usize,
    },
    /// All of it is too much.
    #[error("it describes itself with {0} bytes; {DESCRIPTION_BYTES_MAX} is the most")]
    TooLong(usize),
    /// A schema that can't be used.
    #[error("{of}: {error}")]
    Schema {
        /// Contract and argument.
        of: String,
        /// What is wrong.
        error: SchemaError,
    },
}

/// Checks that names can be typed and are not given twice.
///
/// # Errors
///
/// [`DescriptionError`] names the contract.
pub fn check_contracts(contracts: &[Contract]) -> Result<(), DescriptionError> {
    if contracts.is_empty() || contracts.len() > CONTRACTS_MAX {
        return Err(DescriptionError::Count(contracts.len()));
    }
    check_names(contracts.iter().map(|contract| contract.name.as_str()))?;
    for contract in contracts {
        check_names(contract.arguments.iter().map(|argument| argument.name.as_str()))?;
    }
    Ok(())
}

fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), DescriptionError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        let usable = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !usable {
            return Err(DescriptionError::Name(printable(name, 64)));
        }
        if !seen.insert(name) {
            return Err(DescriptionError::Twice(name.to_owned()));
        }
    }
    Ok(())
}

/// Writes a JSON value as MessagePack.
pub fn write_json(bytes: &mut Vec<u8>, value: &Value) {
    // Writing a JSON value to memory can't fail: all its types have a MessagePack form.
    let _written = rmp_serde::encode::write(bytes, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn contract() -> Contract {
        let argument = |name: &str, required, schema: &str| Argument {
            name: name.to_owned(),
            required,
            schema: Schema::parse(schema).unwrap(),
        };
        Contract {
            index: 0,
            name: "transfer".to_owned(),
            documentation: String::new(),
            needs: Vec::new(),
            read_only: false,
            arguments: vec![
                argument("from", true, r#"{"type": "string"}"#),
                argument("amount", true, r#"{"type": "integer", "minimum": 0}"#),
                argument("note", false, r#"{"type": ["string", "null"]}"#),
            ],
            result: Schema::parse("{}").unwrap(),
        }
    }

    fn bind(contract: &Contract, args: Args) -> Result<Vec<u8>, String> {
        contract.bind(&args, &mut Meter::free()).map_err(|error| error.to_string())
    }

    #[test]
    fn s0_14_unbound_superfluous_and_ill_typed_arguments_are_refused_by_name() {
        let contract = contract();
        for (arguments, expected) in [
            (r#"{"from": "a"}"#, "argument `amount` is missing: an integer of at least 0 is"),
            ("null", "argument `from` is missing"),
            ("", "argument `from` is missing"),
            (r#"{"from": "a", "amount": 1, "to": 1}"#, "there is no argument `to`"),
            (r#"{"from": "a", "from": "b"}"#, "argument `from` is given twice"),
            (r#"{"from": 1, "amount": 1}"#, "argument `from`: expected a string, found 1"),
            (r#"{"from": "a", "amount": -1}"#, "argument `amount`: -1 is below the minimum 0"),
            (r#"{"from": "a", "amount": 1.5}"#, "argument `amount`: expected an integer"),
            ("[1]", "must be an object of names and values, not [1]"),
            (r#"{"from": "a", "amount": 1"#, "at byte 25: expected `,` or `}`"),
            (r#"{"from": "a", "amount": 1} 2"#, "at byte 27"),
        ] {
            let error = bind(&contract, Args::json(arguments)).unwrap_err();
            assert!(error.contains(expected), "{arguments}: {error}");
        }
    }

    #[test]
    fn bound_arguments_travel_in_the_contracts_order() {
        let bytes = bind(&contract(), Args::json(r#"{"amount": 5, "from": "ann"}"#)).unwrap();
        let values: (String, u64, Option<String>) = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(values, ("ann".to_owned(), 5, None));
        let null = Args::json(r#"{"amount": 5, "from": "ann", "note": null}"#);
        assert_eq!(bind(&contract(), null), Ok(bytes));
    }

    #[test]
    fn texts_are_read_by_the_schema() {
        let read = |schema: &str, text: &str| {
            let argument =
                Argument { name: "x".to_owned(), required: true, schema: schema_of(schema) };
            let contract = Contract { arguments: vec![argument], ..contract() };
            let texts = json!({ "x": text }).to_string();
            let bytes = bind(&contract, Args::texts(texts))?;
            Ok::<_, String>(crate::pure::json::from_message_pack(&bytes).unwrap()[0].clone())
        };
        let kind = r#"{"oneOf": [
            {"type": "string", "enum": ["Red", "5"]},
            {"type": "object", "properties": {"Custom": {"type": "integer"}},
             "required": ["Custom"], "additionalProperties": false}
        ]}"#;
        for (schema, text, expected) in [
            (r#"{"type": "string"}"#, "5", json!("5")),
            (r#"{"type": "string"}"#, "{\"a\": 1}", json!("{\"a\": 1}")),
            (r#"{"type": "integer"}"#, "5", json!(5)),
            (r#"{"type": ["string", "null"]}"#, "null", json!("null")),
            (r#"{"type": ["integer", "null"]}"#, "null", json!(null)),
            (r#"{"type": "boolean"}"#, "true", json!(true)),
            (r#"{"type": "array"}"#, "[1, 2]", json!([1, 2])),
            ("{}", "x", json!("x")),
            ("{}", "[1]", json!([1])),
            (kind, "Red", json!("Red")),
            (kind, "5", json!("5")),
            (kind, "{\"Custom\": 7}", json!({"Custom": 7})),
        ] {
            assert_eq!(read(schema, text), Ok(expected), "{schema} {text}");
        }
        assert!(read(r#"{"type": "integer"}"#, "x").unwrap_err().contains("found \"x\""));
        let unknown = read(kind, "Blue").unwrap_err();
        assert!(unknown.contains(r#"one of "5", "Red" or an object with Custom"#), "{unknown}");
    }

    fn schema_of(text: &str) -> Schema {
        Schema::parse(text).unwrap()
    }

    #[test]
    fn names_must_be_usable_and_unique() {
        let named = |name: &str| Contract { name: name.to_owned(), ..contract() };
        assert!(check_contracts(&[named("a"), named("b-c_2")]).is_ok());
        for bad in ["", "2a", "a b", "a\n", &"x".repeat(65)] {
            assert!(check_contracts(&[named(bad)]).is_err(), "{bad:?}");
        }
        let twice = check_contracts(&[named("a"), named("a")]).unwrap_err();
        assert_eq!(twice, DescriptionError::Twice("a".to_owned()));
        assert_eq!(check_contracts(&[]), Err(DescriptionError::Count(0)));
    }
}
