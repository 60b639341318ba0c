//! The manifest of a service: one TOML file, read whole, each mistake with its place.
//!
//! ```text
//!   bytes -- parse --> Manifest -- bind --> BoundManifest
//!                      `${x}` in texts      values, which nothing changes any more
//! ```
//!
//! No serde: it would stop at the first mistake, and forget where keys stand. Both steps collect
//! complaints; [`bind`] hands out those of both.

mod bind;
mod daemons;
mod example;
mod resources;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod walk;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use self::bind::{BoundManifest, Given, bind};
pub use self::daemons::{DaemonSpec, InitParameters};
pub use self::example::example;
pub use self::resources::{Access, AllowRule, ProviderSpec, ResourceSpec};
pub use self::source::{Complaint, Place, Span};
pub use self::text::{BoundText, Hidden, Text};
pub use self::walk::{Named, meant};

use self::source::Source;
use self::walk::{Fields, Walk, suggest};
use crate::base::limits::MANIFEST_BYTES_MAX;
use crate::pure::setting::is_name;

/// Words in the names of keys whose values are never shown.
const SECRET_WORDS: [&str; 4] = ["pass", "secret", "token", "credential"];

/// A parameter of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParameterSpec {
    /// Its name.
    pub name: Named,
    /// The environment's variable that has its value.
    pub env: Option<String>,
    /// Its value when nobody gives one.
    pub default: Option<Hidden>,
    /// Its value is never shown.
    pub secret: bool,
}

/// A manifest, as much of it as could be read, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Manifest {
    service: Option<Named>,
    parameters: Vec<ParameterSpec>,
    resources: Vec<ResourceSpec<Text>>,
    daemons: Vec<DaemonSpec<Text>>,
    complaints: Vec<Complaint>,
    source: Source,
}

impl Manifest {
    /// The variables of the environment that its parameters ask for.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().filter_map(|parameter| parameter.env.as_deref())
    }

    /// The names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|parameter| parameter.name.name.as_str())
    }
}

/// Reads a manifest. What is wrong with it is said by [`bind`].
#[must_use]
pub fn parse(bytes: &[u8]) -> Manifest {
    let mut walk = Walk::default();
    let mut manifest = Parts::default();
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() > MANIFEST_BYTES_MAX => {
            walk.complain(&(0..0), format!("larger than {MANIFEST_BYTES_MAX} bytes"));
        }
        Ok(text) => manifest = read(text, &mut walk),
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            walk.source = Source::new(&String::from_utf8_lossy(valid));
            let end = valid.len();
            walk.complain(&(end..end), "from here on it is not a text in UTF-8");
        }
    }
    Manifest {
        service: manifest.service,
        parameters: manifest.parameters,
        resources: manifest.resources,
        daemons: manifest.daemons,
        complaints: walk.complaints,
        source: walk.source,
    }
}

/// What could be read.
#[derive(Default)]
struct Parts {
    service: Option<Named>,
    parameters: Vec<ParameterSpec>,
    resources: Vec<ResourceSpec<Text>>,
    daemons: Vec<DaemonSpec<Text>>,
}

fn read(text: &str, walk: &mut Walk) -> Parts {
    walk.source = Source::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    hide_secrets(table.get_ref(), false, &mut walk.source);
    // In a text that is broken other mistakes may be mere consequences.
    if !errors.is_empty() {
        for error in errors {
            let end = text.len()..text.len();
            walk.complain(&error.span().unwrap_or(end), format!("TOML: {}", error.message()));
        }
        return Parts::default();
    }
    let top = Fields::new("a manifest", 0..0, table.get_ref());
    walk.only(&top, &["service", "parameters", "resources", "daemons"]);
    let service = service(walk, &top);
    let tables = |walk: &mut Walk, key: &str, kind: &str, like: &str| {
        let (named, value) = top.entries.iter().find(|(named, _)| named.name == key)?;
        let fields = walk.table(named, value, format!("[{key}]"), like)?;
        Some(walk.named_tables(&fields, kind, like))
    };
    let like = "a table like { env = \"URL\", default = \"..\" }";
    let declared = tables(walk, "parameters", "parameter", like).unwrap_or_default();
    walk.parameters = declared.iter().map(|(name, _)| name.name.clone()).collect();
    let parameters = declared.iter().map(|(name, fields)| parameter(walk, name, fields)).collect();
    let like = "a table like { provider = \"redis\" }";
    let declared = tables(walk, "resources", "resource", like).unwrap_or_default();
    let names: Vec<&str> = declared.iter().map(|(name, _)| name.name.as_str()).collect();
    let resources = resources::read(walk, &declared);
    let like = "a table like { guest = \"ledger.wasm\" }";
    let declared = tables(walk, "daemons", "daemon", like);
    if declared.is_none() && top.get("daemons").is_none() {
        walk.complain(&(0..0), "there is no daemon; write [daemons.NAME] with `guest`");
    }
    let daemons = daemons::read(walk, &declared.unwrap_or_default(), &names);
    Parts { service, parameters, resources, daemons }
}

fn service(walk: &mut Walk, top: &Fields<'_, '_>) -> Option<Named> {
    let like = "a table with `name`";
    let Some((key, value)) = top.entries.iter().find(|(key, _)| key.name == "service") else {
        walk.complain(&(0..0), "there is no [service] with `name`");
        return None;
    };
    let fields = walk.table(key, value, "[service]".to_owned(), like)?;
    walk.only(&fields, &["name"]);
    if fields.get("name").is_none() {
        walk.missing(&fields, "name", "a text");
    }
    let name = walk.word(&fields, "name", "a text")?;
    if is_name(&name.name) {
        return Some(name);
    }
    walk.complain(&name.span, "a service's name is 1 to 64 of a-z, 0-9, - and _");
    None
}

fn parameter(walk: &mut Walk, name: &Named, fields: &Fields<'_, '_>) -> ParameterSpec {
    walk.only(fields, &["env", "default", "secret"]);
    let env = walk.word(fields, "env", "the name of a variable").map(|word| (word.name, word.span));
    if let Some((env, span)) = &env
        && (env.is_empty() || env.contains(['=', '\0']))
    {
        walk.complain(span, "no variable of the environment can have this name");
    }
    // One that can't be read is there all the same: nobody has to give another one.
    let default = fields.get("default").map(|_| {
        let word = walk.word(fields, "default", "a text");
        Hidden(word.map(|word| word.name).unwrap_or_default())
    });
    ParameterSpec {
        name: name.clone(),
        env: env.map(|(env, _)| env),
        default,
        secret: walk.flag(fields, "secret").unwrap_or(false),
    }
}

/// Which of `known` is meant by a name that is none of them.
#[must_use]
pub fn nearest(name: &str, known: &[&str]) -> String {
    suggest(name, known)
}

/// Hides values of keys that sound secret, and defaults of parameters that may be.
fn hide_secrets(table: &DeTable<'_>, mut secret: bool, source: &mut Source) {
    secret |= table.iter().any(|(key, value)| {
        key.get_ref().contains("secr") && !matches!(value.get_ref(), DeValue::Boolean(false))
    });
    for (key, value) in table {
        let name = key.get_ref().to_lowercase();
        let sounds_secret = SECRET_WORDS.iter().any(|word| name.contains(word));
        hide_value(value, sounds_secret || (secret && name == "default"), source);
    }
}

fn hide_value(value: &Spanned<DeValue<'_>>, secret: bool, source: &mut Source) {
    match value.get_ref() {
        DeValue::Table(table) => hide_secrets(table, false, source),
        DeValue::Array(list) => list.iter().for_each(|value| hide_value(value, secret, source)),
        DeValue::Boolean(_) => {}
        _ if secret => source.hide(value.span()),
        _ => {}
    }
}
