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

mod check;
mod shape;

use serde_json::Value;

pub use check::{CheckError, check};
pub use shape::{SchemaError, Shape, Shapes};

use crate::base::error::printable;
use crate::base::limits::{CONTRACTS_MAX, MESSAGE_BYTES_MAX, SCHEMA_BYTES_MAX};

/// A JSON Schema and what it was compiled to.
#[derive(Clone, Debug)]
pub struct Schema {
    /// As the guest gave it.
    pub json: Value,
    shapes: Shapes,
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
    pub fn check(&self, bytes: &[u8]) -> Result<(), CheckError> {
        check(bytes, &self.shapes)
    }

    /// True when a plain text fits, so that `key=value` needs no quotes.
    #[must_use]
    pub fn takes_text(&self) -> bool {
        self.shapes.takes_text()
    }
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

/// The arguments don't fit the contract: unbound, superfluous or ill-typed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BindError {
    /// A placeholder stayed unbound.
    #[error("argument `{0}` is missing")]
    Missing(String),
    /// The contract has no such placeholder.
    #[error("there is no argument `{name}`; the contract takes {takes}")]
    Superfluous {
        /// The name that was given.
        name: String,
        /// What would have been possible.
        takes: String,
    },
    /// The value is of another type.
    #[error("argument `{name}`: {error}")]
    Type {
        /// The argument.
        name: String,
        /// What is wrong with it.
        error: CheckError,
    },
    /// Arguments must be a JSON object.
    #[error("the arguments must be an object of names and values, not {0}")]
    NotAnObject(&'static str),
}

impl Contract {
    /// Binds arguments given by name, and answers them as the guest takes them: a MessagePack array
    /// in the contract's order.
    ///
    /// # Errors
    ///
    /// [`BindError`]; nothing was started then.
    pub fn bind(&self, arguments: &Value) -> Result<Vec<u8>, BindError> {
        let empty = serde_json::Map::new();
        let given = match arguments {
            Value::Object(given) => given,
            Value::Null => &empty,
            other => return Err(BindError::NotAnObject(kind(other))),
        };
        let unknown = |name: &&String| !self.arguments.iter().any(|a| a.name == **name);
        if let Some(name) = given.keys().find(unknown) {
            let name = printable(name, MESSAGE_BYTES_MAX);
            return Err(BindError::Superfluous { name, takes: self.argument_names() });
        }
        let mut bytes = Vec::with_capacity(64);
        let count = u32::try_from(self.arguments.len()).unwrap_or(u32::MAX);
        // Writing to memory can't fail.
        let _marker = rmp::encode::write_array_len(&mut bytes, count);
        for argument in &self.arguments {
            let start = bytes.len();
            match given.get(&argument.name) {
                None if argument.required => return Err(BindError::Missing(argument.name.clone())),
                None => bytes.push(rmp::Marker::Null.to_u8()),
                Some(value) => {
                    write_json(&mut bytes, value);
                    let written = bytes.get(start..).unwrap_or_default();
                    let null_for_optional = value.is_null() && !argument.required;
                    if !null_for_optional {
                        argument.schema.check(written).map_err(|error| BindError::Type {
                            name: argument.name.clone(),
                            error,
                        })?;
                    }
                }
            }
        }
        Ok(bytes)
    }

    /// Reads arguments that came as texts: as they are where the schema takes text, else as JSON. A
    /// text that is neither stays one, and [`Contract::bind`] says what was expected.
    #[must_use]
    pub fn read_texts(
        &self,
        texts: serde_json::Map<String, Value>,
    ) -> serde_json::Map<String, Value> {
        let read = |(name, value): (String, Value)| {
            let takes_text = self
                .arguments
                .iter()
                .any(|argument| argument.name == name && argument.schema.takes_text());
            let value = match &value {
                Value::String(text) if !takes_text => super::json::parse(text).unwrap_or(value),
                _ => value,
            };
            (name, value)
        };
        texts.into_iter().map(read).collect()
    }

    fn argument_names(&self) -> String {
        if self.arguments.is_empty() {
            return "none".to_owned();
        }
        let names: Vec<&str> = self.arguments.iter().map(|a| a.name.as_str()).collect();
        names.join(", ")
    }
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

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
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

    #[test]
    fn s0_14_unbound_superfluous_and_ill_typed_arguments_are_refused_by_name() {
        let contract = contract();
        for (arguments, expected) in [
            (json!({"from": "a"}), "argument `amount` is missing"),
            (json!(null), "argument `from` is missing"),
            (json!({"from": "a", "amount": 1, "to": 1}), "there is no argument `to`"),
            (json!({"from": 1, "amount": 1}), "argument `from`: expected a string, found 1"),
            (json!({"from": "a", "amount": -1}), "argument `amount`: -1 is below the minimum 0"),
            (json!({"from": "a", "amount": 1.5}), "argument `amount`: expected an integer"),
            (json!([1]), "must be an object"),
        ] {
            let error = contract.bind(&arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments}: {error}");
        }
    }

    #[test]
    fn bound_arguments_travel_in_the_contracts_order() {
        let bytes = contract().bind(&json!({"amount": 5, "from": "ann"})).unwrap();
        let values: (String, u64, Option<String>) = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(values, ("ann".to_owned(), 5, None));
        let bytes = contract().bind(&json!({"amount": 5, "from": "ann", "note": null})).unwrap();
        let values: (String, u64, Option<String>) = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(values.2, None);
    }

    #[test]
    fn texts_are_read_by_the_schema() {
        let texts = json!({"from": "5", "amount": "5", "note": "null", "other": "x"});
        let Value::Object(texts) = texts else { panic!("an object") };
        let read = Value::Object(contract().read_texts(texts));
        assert_eq!(read, json!({"from": "5", "amount": 5, "note": "null", "other": "x"}));
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
