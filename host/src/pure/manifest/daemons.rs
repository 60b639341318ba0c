//! `[daemons.NAME]`: what runs, and how it is treated.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Number, Value};
use supervisor::policy::Policy;
use toml::Spanned;
use toml::de::DeValue;

use super::resources::required;
use super::text::Text;
use super::walk::{Fields, Named, Walk, shown};
use crate::base::limits::{
    BUDGET_MAX_BYTES, BUDGET_MIN_BYTES, DAEMONS_MAX, INSTANCES_MAX, READERS_MAX, RETRIES_MAX,
};
use crate::pure::order::layers;
use crate::pure::pace::CpuShare;
use crate::pure::policy::OnCrash;
use crate::pure::setting::{parse_deadline, parse_fuel, parse_restarts};
use crate::pure::size::{parse_bytes, show_bytes};

const KEYS: &[&str] = &[
    "guest",
    "budget",
    "needs",
    "uses",
    "after",
    "on_crash",
    "fuel",
    "deadline",
    "retries",
    "retry_live",
    "restarts",
    "cpu",
    "parameters",
    "stateless",
    "instances",
    "readers",
];

/// What a guest's `init` gets. Shown without its values: secrets may be among them.
#[derive(Clone, Default, PartialEq)]
pub struct InitParameters(pub(super) Map<String, Value>);

impl InitParameters {
    /// The values.
    #[must_use]
    pub fn expose(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl fmt::Debug for InitParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A daemon. What is not given is as `host run` has it without options.
#[derive(Clone, Debug, PartialEq)]
pub struct DaemonSpec<T> {
    /// Its name, which no other daemon of the host has.
    pub name: Named,
    /// Its guest's file; relative to the manifest's directory.
    pub guest: T,
    /// Most memory of its guest.
    pub budget_bytes: Option<usize>,
    /// Resources that it can't do without.
    pub needs: Vec<Named>,
    /// Resources that it can do without.
    pub uses: Vec<Named>,
    /// Daemons that are ready before it is started.
    pub after: Vec<Named>,
    /// How many daemons start before it in a row, each after the one before.
    pub layer: usize,
    /// State after a crash.
    pub on_crash: Option<OnCrash>,
    /// Fuel per transaction.
    pub fuel: Option<u64>,
    /// Time per transaction.
    pub deadline: Option<Duration>,
    /// Times that a crashed transaction is tried again.
    pub retries: Option<u32>,
    /// That even when it has made calls that can't be undone.
    pub retry_live: bool,
    /// How often its thread may die.
    pub restarts: Option<Policy>,
    /// Share of one processor.
    pub cpu: Option<CpuShare>,
    /// What its `init` gets.
    pub parameters: InitParameters,
    /// It has no state, and so many instances.
    pub stateless: Option<u32>,
    /// So many run its read-only transactions beside it.
    pub readers: u32,
}

/// Reads all daemons, as many as can be read.
pub(super) fn read(
    walk: &mut Walk,
    tables: &[(Named, Fields<'_, '_>)],
    resources: &[&str],
) -> Vec<DaemonSpec<Text>> {
    if let Some((name, _)) = tables.get(DAEMONS_MAX) {
        walk.complain(&name.span, format!("more than {DAEMONS_MAX} daemons"));
        return Vec::new();
    }
    let known: Vec<&str> = tables.iter().map(|(name, _)| name.name.as_str()).collect();
    let read = tables.iter().filter_map(|(name, fields)| {
        let after = walk.names(fields, "after", "daemon", &known);
        daemon(walk, name, fields, resources).map(|spec| DaemonSpec { after, ..spec })
    });
    let mut daemons: Vec<_> = read.collect();
    put_in_order(walk, &mut daemons);
    daemons
}

fn daemon(
    walk: &mut Walk,
    name: &Named,
    fields: &Fields<'_, '_>,
    resources: &[&str],
) -> Option<DaemonSpec<Text>> {
    walk.only(fields, KEYS);
    let needs = walk.names(fields, "needs", "resource", resources);
    let uses = walk.names(fields, "uses", "resource", resources);
    for used in uses.iter().filter(|used| needs.iter().any(|need| need.name == used.name)) {
        let message = format!("`{}` stands in `needs` too; one of the two holds", used.name);
        walk.complain(&used.span, message);
    }
    Some(DaemonSpec {
        name: name.clone(),
        needs,
        uses,
        after: Vec::new(),
        layer: 0,
        budget_bytes: walk.setting(fields, "budget", "a size like \"64MiB\"", parse_budget),
        on_crash: walk.setting(fields, "on_crash", "checkpoint, zero or ask", str::parse),
        fuel: walk.setting(fields, "fuel", "an amount like 1_000_000", parse_fuel),
        deadline: walk.setting(fields, "deadline", "a time like \"500ms\"", parse_deadline),
        retries: walk
            .number(fields, "retries", 0..=u64::from(RETRIES_MAX))
            .and_then(|number| u32::try_from(number).ok()),
        retry_live: walk.flag(fields, "retry_live").unwrap_or(false),
        restarts: walk.setting(fields, "restarts", "like \"10/60s,park\"", parse_restarts),
        cpu: walk.setting(fields, "cpu", "a share of one processor like 0.5", str::parse),
        parameters: parameters(walk, fields),
        stateless: stateless(walk, fields),
        readers: walk
            .number(fields, "readers", 0..=READERS_MAX)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(0),
        // The last one: what else is wrong is said as well when it is missing.
        guest: required(walk, fields, "guest", "a file like \"ledger.wasm\"")?,
    })
}

fn parse_budget(text: &str) -> Result<usize, String> {
    let bytes = parse_bytes(text).map_err(|error| error.to_string())?;
    if !(BUDGET_MIN_BYTES..=BUDGET_MAX_BYTES).contains(&bytes) {
        let (least, most) = (show_bytes(BUDGET_MIN_BYTES), show_bytes(BUDGET_MAX_BYTES));
        return Err(format!("`{text}` is not a budget from {least} to {most}"));
    }
    Ok(bytes)
}

fn stateless(walk: &mut Walk, fields: &Fields<'_, '_>) -> Option<u32> {
    let stateless = walk.flag(fields, "stateless").unwrap_or(false);
    let instances = walk.number(fields, "instances", 1..=INSTANCES_MAX);
    let span = |key: &str| {
        fields.entries.iter().find(|(named, _)| named.name == key).map(|(key, _)| key.span.clone())
    };
    if let Some(span) = span("instances").filter(|_| !stateless) {
        walk.complain(&span, "`instances` needs `stateless = true`: one state has one instance");
    }
    if !stateless {
        return None;
    }
    if let Some(span) = span("on_crash") {
        walk.complain(
            &span,
            "`on_crash` needs a state: a stateless daemon goes on with its first one",
        );
    }
    if let Some(span) = span("readers") {
        walk.complain(&span, "`readers` read a state: a stateless daemon has `instances`");
    }
    Some(instances.and_then(|instances| u32::try_from(instances).ok()).unwrap_or(1))
}

fn parameters(walk: &mut Walk, fields: &Fields<'_, '_>) -> InitParameters {
    let like = "a table like { limit = 5 }";
    let mut parameters = Map::new();
    let found = fields.entries.iter().find(|(key, _)| key.name == "parameters");
    let table =
        found.and_then(|(key, value)| walk.table(key, value, "`parameters`".to_owned(), like));
    for (key, value) in table.iter().flat_map(|table| &table.entries) {
        if let Some(value) = json(walk, &key.name, value) {
            parameters.insert(key.name.clone(), value);
        }
    }
    InitParameters(parameters)
}

/// A value as JSON; texts are still to be bound.
fn json(walk: &mut Walk, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
    let span = value.span();
    match value.get_ref() {
        DeValue::String(text) => {
            walk.text_of(value, key, "a text").map(|_| Value::String(text.to_string()))
        }
        DeValue::Boolean(flag) => Some(Value::Bool(*flag)),
        DeValue::Integer(number) => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok();
            let parsed = parsed.and_then(Number::from_i128);
            if parsed.is_none() {
                walk.complain(&span, format!("`{}` does not fit 64 bits", shown(key)));
            }
            parsed.map(Value::Number)
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().parse().ok().and_then(Number::from_f64);
            if parsed.is_none() {
                walk.complain(&span, format!("`{}` has no form in JSON", shown(key)));
            }
            parsed.map(Value::Number)
        }
        DeValue::Datetime(_) => {
            walk.complain(&span, format!("`{}` is a date: write it as a text", shown(key)));
            None
        }
        DeValue::Array(list) => {
            Some(list.iter().filter_map(|element| json(walk, key, element)).collect())
        }
        DeValue::Table(table) => {
            let fields = Fields::new(key, span, table);
            let entries = fields.entries.iter().filter_map(|(key, value)| {
                json(walk, &key.name, value).map(|value| (key.name.clone(), value))
            });
            Some(Value::Object(entries.collect()))
        }
    }
}

/// Puts each daemon into a layer after those that it waits for.
fn put_in_order(walk: &mut Walk, daemons: &mut [DaemonSpec<Text>]) {
    let places: BTreeMap<&str, usize> =
        daemons.iter().enumerate().map(|(i, daemon)| (daemon.name.name.as_str(), i)).collect();
    let mut pairs = Vec::new();
    for (waiting, daemon) in daemons.iter().enumerate() {
        let before = daemon.after.iter().filter_map(|after| places.get(after.name.as_str()));
        pairs.extend(before.map(|&before| (waiting, before)));
    }
    match layers(daemons.len(), &pairs) {
        Ok(layers) => {
            for (layer, nodes) in layers.iter().enumerate() {
                for &node in nodes {
                    if let Some(daemon) = daemons.get_mut(node) {
                        daemon.layer = layer;
                    }
                }
            }
        }
        Err(mut cycle) => {
            // Named where the first of them in the text waits.
            let first = cycle.iter().enumerate().min_by_key(|(_, node)| **node).map(|(i, _)| i);
            cycle.rotate_left(first.unwrap_or(0));
            let its = || cycle.iter().filter_map(|&node| daemons.get(node));
            let Some(daemon) = its().next() else { return };
            let next = its().nth(1).unwrap_or(daemon);
            let edge = daemon.after.iter().find(|after| after.name == next.name.name);
            let names: Vec<&str> = its().chain([daemon]).map(|d| d.name.name.as_str()).collect();
            let message = format!("they wait for each other: {}", shown_chain(&names));
            walk.complain(&edge.unwrap_or(&daemon.name).span.clone(), message);
        }
    }
}

/// A chain of names, without the middle of a long one.
fn shown_chain(names: &[&str]) -> String {
    match names {
        [first, second, .., last] if names.len() > 8 => {
            format!("{first} after {second} after ... after {last}")
        }
        _ => names.join(" after "),
    }
}
