//! Binding: arguments by name, as they came, become what a guest takes.

use std::sync::Arc;

use serde_json::Value;

use super::describe::describe;
use super::meter::Meter;
use super::walk::Walk;
use super::{Argument, CheckError, Contract};
use crate::base::error::{Code, printable};
use crate::base::limits::{EXPECTED_BYTES_MAX, SHOWN_BYTES_MAX, VALUE_DEPTH_MAX};
use crate::pure::value::json::{JsonText, JsonWriter};
use crate::pure::value::packed::PackedWriter;
use crate::pure::value::{Head, Items, Sink, Source, Wrong};

/// Arguments by name, as text that nobody has read: what a waiting request holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Args {
    text: Arc<str>,
    /// Each value is a text, to be read by the contract's schema.
    are_texts: bool,
}

impl Args {
    /// A JSON object of names and values; nothing where it is empty.
    #[must_use]
    pub fn json(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), are_texts: false }
    }

    /// A JSON object of names and texts, as people type them.
    #[must_use]
    pub fn texts(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), are_texts: true }
    }

    /// Whether each value is a text.
    #[must_use]
    pub fn are_texts(&self) -> bool {
        self.are_texts
    }

    /// The JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len()
    }
}

impl From<Value> for Args {
    fn from(value: Value) -> Self {
        Self::json(value.to_string())
    }
}

/// The arguments don't fit the contract: unbound, superfluous or ill-typed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BindError {
    /// A placeholder stayed unbound.
    #[error("argument `{name}` is missing: {expected} is expected")]
    Missing {
        /// Its name.
        name: String,
        /// What may stand there.
        expected: String,
    },
    /// The contract has no such placeholder.
    #[error("there is no argument `{name}`; the contract takes {takes}")]
    Superfluous {
        /// The name that was given.
        name: String,
        /// What would have been possible.
        takes: String,
    },
    /// A name that was there before.
    #[error("argument `{0}` is given twice")]
    Twice(String),
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
    NotAnObject(String),
    /// They are no JSON.
    #[error("the arguments are no JSON: {0}")]
    Broken(String),
    /// Reading them was ended: out of fuel, late or cancelled.
    #[error("reading the arguments ended with {0}")]
    Ended(Code),
}

impl From<Wrong> for BindError {
    fn from(wrong: Wrong) -> Self {
        match wrong.into() {
            CheckError::Unfit { problem, .. } => Self::Broken(problem),
            CheckError::Ended(code) => Self::Ended(code),
        }
    }
}

/// The places of bound values among the bytes that were written.
type Places = Vec<Option<(usize, usize)>>;

impl Contract {
    /// Binds arguments given by name, and answers them as the guest takes them: a MessagePack array
    /// in the contract's order.
    ///
    /// # Errors
    ///
    /// [`BindError`]; nothing was started then.
    pub fn bind(&self, args: &Args, meter: &mut Meter<'_>) -> Result<Vec<u8>, BindError> {
        meter.begin(args.bytes());
        let mut places: Places = vec![None; self.arguments.len()];
        let mut values = PackedWriter::default();
        let mut source = JsonText::new(&args.text);
        if source.end().is_err() {
            let start = source;
            match source.head()? {
                Head::Null => {}
                Head::Map(items) => {
                    source = self.named(args, source, items, &mut values, &mut places, meter)?;
                }
                _ => return Err(BindError::NotAnObject(start.shown())),
            }
            source.end()?;
        }
        self.in_order(&values, &places)
    }

    /// Reads names and values, in whatever order they come.
    fn named<'v>(
        &self,
        args: &Args,
        mut source: JsonText<'v>,
        mut items: Items,
        values: &mut PackedWriter,
        places: &mut Places,
        meter: &mut Meter<'_>,
    ) -> Result<JsonText<'v>, BindError> {
        while source.more(&mut items)? {
            let Head::Text(name) = source.key()? else { continue };
            let mut known = self.arguments.iter().zip(places.iter_mut());
            let found = known.find(|(argument, _)| argument.name == *name);
            let Some((argument, place)) = found else {
                let name = printable(&name, SHOWN_BYTES_MAX);
                return Err(BindError::Superfluous { name, takes: self.argument_names() });
            };
            if place.is_some() {
                return Err(BindError::Twice(argument.name.clone()));
            }
            let start = values.len();
            source = if args.are_texts {
                argument.read_text(source, values, meter)?
            } else {
                argument.read(source, values, meter)?
            };
            *place = Some((start, values.len()));
        }
        Ok(source)
    }

    fn in_order(&self, values: &PackedWriter, places: &Places) -> Result<Vec<u8>, BindError> {
        let mut bytes = Vec::with_capacity(values.len() + 8);
        let count = u32::try_from(self.arguments.len()).unwrap_or(u32::MAX);
        // Writing to memory can't fail.
        let _marker = rmp::encode::write_array_len(&mut bytes, count);
        for (argument, place) in self.arguments.iter().zip(places) {
            match place {
                Some((start, end)) => {
                    bytes
                        .extend_from_slice(values.as_bytes().get(*start..*end).unwrap_or_default());
                }
                None if argument.required => {
                    let shapes = &argument.schema.shapes;
                    let (name, expected) = (&argument.name, describe(shapes, shapes.root_node()));
                    return Err(BindError::Missing { name: name.clone(), expected });
                }
                None => bytes.push(rmp::Marker::Null.to_u8()),
            }
        }
        Ok(bytes)
    }

    fn argument_names(&self) -> String {
        if self.arguments.is_empty() {
            return "none".to_owned();
        }
        let names: Vec<&str> = self.arguments.iter().map(|a| a.name.as_str()).collect();
        printable(&names.join(", "), EXPECTED_BYTES_MAX)
    }
}

impl Argument {
    /// Reads its value, and answers where that ends.
    fn read<'v>(
        &self,
        source: JsonText<'v>,
        values: &mut PackedWriter,
        meter: &mut Meter<'_>,
    ) -> Result<JsonText<'v>, BindError> {
        let mut after = source;
        if !self.required && matches!(after.head()?, Head::Null) {
            values.null();
            return Ok(after);
        }
        let walk = Walk::new(&self.schema.shapes, source, values, meter);
        walk.next(1).map_err(|wrong| match wrong {
            // It is about the text as a whole.
            Wrong::Ended(code) => BindError::Ended(code),
            wrong => BindError::Type { name: self.name.clone(), error: wrong.into() },
        })
    }

    /// The same for a text: as it is where the schema takes text, else as JSON. What is neither
    /// stays text, so that it is said what was expected.
    fn read_text<'v>(
        &self,
        mut source: JsonText<'v>,
        values: &mut PackedWriter,
        meter: &mut Meter<'_>,
    ) -> Result<JsonText<'v>, BindError> {
        let start = source;
        let Head::Text(text) = source.head()? else {
            let problem = format!("expected a text, found {}", start.shown());
            let error = CheckError::Unfit { path: String::new(), problem };
            return Err(BindError::Type { name: self.name.clone(), error });
        };
        let mut json = JsonText::new(&text);
        let is_json = json.skip(VALUE_DEPTH_MAX).is_ok() && json.end().is_ok();
        if is_json && !self.schema.shapes.root_node().takes_text(&text) {
            self.read(JsonText::new(&text), values, meter)?;
        } else {
            let mut quoted = JsonWriter::new(usize::MAX);
            quoted.text(&text);
            self.read(JsonText::new(&quoted.into_text()), values, meter)?;
        }
        Ok(source)
    }
}
