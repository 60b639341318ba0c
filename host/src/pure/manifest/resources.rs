//! `[resources.NAME]`: what a service depends on outside of the host.

use std::collections::BTreeMap;
use std::time::Duration;

use supervisor::policy::Backoff;
use toml::de::DeValue;

use super::source::Span;
use super::text::{BoundText, Text};
use super::walk::{Fields, Named, Walk, shown, suggest};
use crate::base::limits::{RESOURCE_CONNECTIONS_MAX, RESOURCE_DELAY_MAX, RESOURCES_MAX, UP_DELAY};
use crate::pure::resource::Policy;
use crate::pure::resource::allow::Rule;
use crate::pure::setting::parse_time;

/// Connections to PostgreSQL, of which each transaction needs one for itself.
const POSTGRES_CONNECTIONS: u32 = 4;

/// A kind of resource.
#[derive(Debug)]
pub(super) struct Kind {
    name: &'static str,
    keys: &'static [&'static str],
}

/// All kinds that a manifest may name.
const KINDS: &[Kind] = &[
    Kind { name: "clock", keys: &["provider"] },
    Kind { name: "config", keys: &["provider", "values"] },
    Kind { name: "directory", keys: &["provider", "path", "access", "up_delay", "backoff"] },
    Kind { name: "entropy", keys: &["provider"] },
    Kind { name: "http", keys: &["provider", "allow", "check", "up_delay", "backoff"] },
    Kind {
        name: "postgres",
        keys: &["provider", "url", "connections", "check", "init", "up_delay", "backoff"],
    },
    Kind {
        name: "redis",
        keys: &["provider", "url", "prefix", "connections", "check", "init", "up_delay", "backoff"],
    },
];

/// What guests may do in a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Read files.
    Read,
    /// Add to files, and nothing else.
    Append,
}

/// Where guests may send HTTP requests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AllowRule<T> {
    /// Scheme, host, port and beginning of the path.
    pub url: T,
    /// Addresses of private networks are meant too.
    pub private: bool,
}

/// What provides a resource, with texts as they are written ([`Text`]) or bound ([`BoundText`]).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProviderSpec<T> {
    /// A Redis server.
    Redis {
        /// Where.
        url: T,
        /// What each key begins with.
        prefix: Option<T>,
        /// Connections that leases share.
        connections: u32,
        /// Whether it has to take changes.
        writes: bool,
    },
    /// A PostgreSQL server.
    Postgres {
        /// Where.
        url: T,
        /// Connections, each for one transaction at a time.
        connections: u32,
        /// Whether it has to take changes.
        writes: bool,
    },
    /// HTTP requests to others.
    Http {
        /// Whom.
        allow: Vec<AllowRule<T>>,
        /// Whether the first of them is tried now and then.
        check: bool,
    },
    /// A directory.
    Directory {
        /// Where; relative to the manifest's own.
        path: T,
        /// What for.
        access: Access,
    },
    /// Time.
    Clock,
    /// Random numbers.
    Entropy,
    /// Constants.
    Config {
        /// Each with its value.
        values: BTreeMap<String, T>,
    },
}

/// A resource.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResourceSpec<T> {
    /// Its name in the service.
    pub name: Named,
    /// What provides it.
    pub provider: ProviderSpec<T>,
    /// What runs, in order, each time that it becomes available.
    pub init: Vec<T>,
    /// How long it stays available before its dependents are started, if it is not the default.
    pub up_delay: Option<Duration>,
    /// How long tries to connect wait, if it is not the default.
    pub backoff: Option<Backoff>,
}

impl<T> ResourceSpec<T> {
    /// How fast it is connected again, and how long its recovery has to last.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::new(self.backoff.unwrap_or_default(), self.up_delay.unwrap_or(UP_DELAY))
    }

    /// The word for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.provider {
            ProviderSpec::Redis { .. } => "redis",
            ProviderSpec::Postgres { .. } => "postgres",
            ProviderSpec::Http { .. } => "http",
            ProviderSpec::Directory { .. } => "directory",
            ProviderSpec::Clock => "clock",
            ProviderSpec::Entropy => "entropy",
            ProviderSpec::Config { .. } => "config",
        }
    }
}

/// Reads all resources, as many as can be read.
pub(super) fn read(walk: &mut Walk, tables: &[(Named, Fields<'_, '_>)]) -> Vec<ResourceSpec<Text>> {
    if let Some((name, _)) = tables.get(RESOURCES_MAX) {
        walk.complain(&name.span, format!("more than {RESOURCES_MAX} resources"));
    }
    tables.iter().filter_map(|(name, fields)| resource(walk, name, fields)).collect()
}

fn resource(walk: &mut Walk, name: &Named, fields: &Fields<'_, '_>) -> Option<ResourceSpec<Text>> {
    let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    let like = format!("one of {}", kinds.join(", "));
    if fields.get("provider").is_none() {
        walk.missing(fields, "provider", &like);
        return None;
    }
    let word = walk.word(fields, "provider", &like)?;
    let Some(kind) = KINDS.iter().find(|kind| kind.name == word.name) else {
        let what = format!("there is no provider `{}`", shown(&word.name));
        walk.complain(&word.span, format!("{what}; {}", suggest(&word.name, &kinds)));
        return None;
    };
    walk.only(fields, kind.keys);
    let up_delay = walk.setting(fields, "up_delay", "a time like \"100ms\"", |text| {
        parse_time(text, RESOURCE_DELAY_MAX)
    });
    let backoff = walk.setting(fields, "backoff", "like \"100ms..30s\"", parse_backoff);
    let init = match kind.keys.contains(&"init") {
        true => walk.texts(fields, "init", "texts"),
        false => Vec::new(),
    };
    let provider = provider(walk, fields, kind.name)?;
    Some(ResourceSpec { name: name.clone(), provider, init, up_delay, backoff })
}

/// Reads `100ms..30s`: the first and the longest delay.
fn parse_backoff(text: &str) -> Result<Backoff, String> {
    let (first, longest) =
        text.split_once("..").ok_or_else(|| format!("`{text}` is not like 100ms..30s"))?;
    let time = |text: &str| parse_time(text, RESOURCE_DELAY_MAX);
    // As the default: doubled each time, up to a fifth left out.
    Backoff::new(time(first)?, 2, time(longest)?, 20).map_err(|error| error.to_string())
}

fn provider(walk: &mut Walk, fields: &Fields<'_, '_>, kind: &str) -> Option<ProviderSpec<Text>> {
    let connections = |walk: &mut Walk, default: u32| {
        let number = walk.number(fields, "connections", 1..=RESOURCE_CONNECTIONS_MAX);
        number.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
    };
    let writes = |walk: &mut Walk| walk.one_of(fields, "check", &["write", "read"]) != Some("read");
    Some(match kind {
        "redis" => ProviderSpec::Redis {
            writes: writes(walk),
            prefix: walk.text(fields, "prefix", "a text"),
            connections: connections(walk, 1),
            url: required(walk, fields, "url", "like \"redis://127.0.0.1:6379\"")?,
        },
        "postgres" => ProviderSpec::Postgres {
            writes: writes(walk),
            connections: connections(walk, POSTGRES_CONNECTIONS),
            url: required(walk, fields, "url", "like \"postgres://user@127.0.0.1/database\"")?,
        },
        "http" => http(walk, fields),
        "directory" => ProviderSpec::Directory {
            access: access(walk, fields),
            path: required(walk, fields, "path", "a path like \"./reports\"")?,
        },
        "clock" => ProviderSpec::Clock,
        "entropy" => ProviderSpec::Entropy,
        _ => ProviderSpec::Config { values: values(walk, fields) },
    })
}

fn access(walk: &mut Walk, fields: &Fields<'_, '_>) -> Access {
    let like = "one of read, append";
    let Some(word) = walk.word(fields, "access", like) else { return Access::Read };
    match word.name.as_str() {
        "read" => {}
        "append" => return Access::Append,
        "write" => {
            let message = "what guests write to files can't be undone with their transaction: \
                           `append` lets them add lines to files, and nothing else";
            walk.complain(&word.span, message);
        }
        other => {
            walk.complain(&word.span, format!("`access` is {like}, not `{}`", shown(other)));
        }
    }
    Access::Read
}

/// A text that must be there.
pub(super) fn required(
    walk: &mut Walk,
    fields: &Fields<'_, '_>,
    key: &str,
    like: &str,
) -> Option<Text> {
    if fields.get(key).is_none() {
        walk.missing(fields, key, like);
    }
    walk.text(fields, key, like)
}

fn http(walk: &mut Walk, fields: &Fields<'_, '_>) -> ProviderSpec<Text> {
    let like = "a list like [\"http://api.example.com/v1/\"]";
    if fields.get("allow").is_none() {
        walk.missing(fields, "allow", like);
    }
    let mut allow = Vec::new();
    for element in walk.list(fields, "allow", like) {
        let (url, private) = match element.get_ref() {
            DeValue::Table(table) => {
                let rule = Fields::new("a rule of `allow`", element.span(), table);
                walk.only(&rule, &["url", "private"]);
                let url = required(walk, &rule, "url", "like \"http://api.example.com/\"");
                (url, walk.flag(&rule, "private").unwrap_or(false))
            }
            _ => (walk.text_of(element, "allow", like), false),
        };
        allow.extend(url.map(|url| AllowRule { url, private }));
    }
    let check = walk.one_of(fields, "check", &["connect", "none"]) != Some("none");
    ProviderSpec::Http { allow, check }
}

fn values(walk: &mut Walk, fields: &Fields<'_, '_>) -> BTreeMap<String, Text> {
    let like = "a table like { limit = \"5\" }";
    let Some((key, value)) = fields.entries.iter().find(|(key, _)| key.name == "values") else {
        walk.missing(fields, "values", like);
        return BTreeMap::new();
    };
    let Some(table) = walk.table(key, value, "`values`".to_owned(), like) else {
        return BTreeMap::new();
    };
    let mut values = BTreeMap::new();
    for (key, value) in &table.entries {
        if let Some(text) = walk.text_of(value, &key.name, "a text") {
            values.insert(key.name.clone(), text);
        }
    }
    values
}

/// What is wrong with a bound provider, and where.
pub(super) fn check(provider: &ProviderSpec<BoundText>) -> Vec<(Span, String)> {
    let check = |text: &BoundText, wrong: Option<String>| wrong.map(|w| (text.span.clone(), w));
    match provider {
        ProviderSpec::Redis { url, .. } => {
            check(url, wrong_url(url.expose(), &["redis", "unix"], "rediss")).into_iter().collect()
        }
        ProviderSpec::Postgres { url, .. } => {
            let text = url.expose();
            let encrypted = text.contains("sslmode=require") || text.contains("sslmode=verify");
            let wrong = match encrypted {
                true => Some(format!("`sslmode` {NO_TLS}")),
                false => wrong_url(text, &["postgres", "postgresql"], ""),
            };
            check(url, wrong).into_iter().collect()
        }
        ProviderSpec::Http { allow, .. } => {
            let rules = allow.iter().filter_map(|rule| {
                let url = rule.url.expose();
                let wrong = wrong_url(url, &["http"], "https");
                let wrong = wrong.or_else(|| Rule::parse(url, rule.private).err());
                check(&rule.url, wrong)
            });
            rules.collect()
        }
        ProviderSpec::Directory { path, .. } => {
            check(path, path.expose().is_empty().then(|| "the path is empty".to_owned()))
                .into_iter()
                .collect()
        }
        ProviderSpec::Clock | ProviderSpec::Entropy | ProviderSpec::Config { .. } => Vec::new(),
    }
}

const NO_TLS: &str = "asks for TLS, which is not built into this host";

/// What is wrong with a URL. Says nothing of what is in it: it may hold a password.
fn wrong_url(url: &str, schemes: &[&str], encrypted: &str) -> Option<String> {
    let known = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>();
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some(scheme) if scheme == encrypted => return Some(format!("`{encrypted}://` {NO_TLS}")),
        Some(scheme) if schemes.contains(&scheme) => {}
        _ => return Some(format!("the URL must begin with {}", known.join(" or "))),
    }
    let rest = url.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
    if rest.is_empty() || (rest.starts_with('/') && scheme != Some("unix")) {
        return Some("the URL names no host".to_owned());
    }
    let odd = url.contains(|c: char| c.is_whitespace() || c.is_control());
    odd.then(|| "the URL has a space or another character that must be encoded".to_owned())
}
