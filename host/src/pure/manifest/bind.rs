//! From a manifest and what it was given to values that never change any more.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::daemons::{DaemonSpec, InitParameters};
use super::resources::{AllowRule, ProviderSpec, ResourceSpec, check};
use super::source::{Complaint, Source, Span};
use super::text::{self, BoundText, Hidden, Text};
use super::{Manifest, ParameterSpec};
use crate::base::error::Code;

/// What parameters get their values from.
#[derive(Clone, Default)]
pub struct Given {
    /// `--param NAME=VALUE`.
    pub options: BTreeMap<String, String>,
    /// The variables that [`Manifest::variables`] names, those that are set.
    pub environment: BTreeMap<String, String>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.options.keys()).entries(self.environment.keys()).finish()
    }
}

/// A service as it runs. It owns all its texts, so that parameters stay what they were.
#[derive(Clone, Debug)]
pub struct BoundManifest {
    /// The service's name.
    pub service: String,
    /// Where that stands.
    pub service_span: Span,
    /// What it depends on.
    pub resources: Vec<ResourceSpec<BoundText>>,
    /// What runs, in the order of the text.
    pub daemons: Vec<DaemonSpec<BoundText>>,
    source: Source,
}

impl BoundManifest {
    /// A complaint about something in the manifest that shows only outside of it.
    #[must_use]
    pub fn complaint(&self, code: Code, span: &Span, message: &str) -> Complaint {
        self.source.complaint(code, span, message)
    }
}

/// Gives each parameter its value: that of the option, else of the environment, else the default.
///
/// # Errors
///
/// All that is wrong, in the order of the text: what [`super::parse`] found, parameters without a
/// value (`E_PARAMETER`), and what is wrong with values.
pub fn bind(manifest: &Manifest, given: &Given) -> Result<BoundManifest, Vec<Complaint>> {
    let mut complaints = manifest.complaints.clone();
    let mut values = BTreeMap::new();
    for parameter in &manifest.parameters {
        match value(parameter, given) {
            Some(value) => {
                let (value, secret) = (Hidden(value), parameter.secret);
                values.insert(parameter.name.name.clone(), text::Given { value, secret });
            }
            None => {
                let message = missing(parameter);
                let span = &parameter.name.span;
                complaints.push(manifest.source.complaint(Code::Parameter, span, &message));
            }
        }
    }
    // One that lacks a parameter is left out: that is said once.
    let resources: Vec<_> =
        manifest.resources.iter().filter_map(|spec| bound_resource(spec, &values)).collect();
    let daemons = manifest.daemons.iter().filter_map(|spec| bound_daemon(spec, &values)).collect();
    for (span, message) in resources.iter().flat_map(|resource| check(&resource.provider)) {
        complaints.push(manifest.source.complaint(Code::Manifest, &span, &message));
    }
    match &manifest.service {
        Some(service) if complaints.is_empty() => Ok(BoundManifest {
            service: service.name.clone(),
            service_span: service.span.clone(),
            resources,
            daemons,
            source: manifest.source.clone(),
        }),
        _ => {
            complaints.sort_by_key(|complaint| complaint.place);
            Err(complaints)
        }
    }
}

fn value(parameter: &ParameterSpec, given: &Given) -> Option<String> {
    let option = given.options.get(&parameter.name.name);
    let variable = parameter.env.as_ref().and_then(|env| given.environment.get(env));
    let default = parameter.default.as_ref().map(|default| &default.0);
    option.or(variable).or(default).cloned()
}

fn missing(parameter: &ParameterSpec) -> String {
    let name = &parameter.name.name;
    let variable = match &parameter.env {
        Some(env) => format!(", or set {env}"),
        None => String::new(),
    };
    format!("parameter `{name}` has no value; give --param {name}=VALUE{variable}")
}

type Values = BTreeMap<String, text::Given>;

fn bound_resource(spec: &ResourceSpec<Text>, values: &Values) -> Option<ResourceSpec<BoundText>> {
    let bind = |text: &Text| text.bind(values, false);
    let url = |text: &Text| text.bind(values, true);
    let provider = match &spec.provider {
        ProviderSpec::Redis { url: place, prefix, connections, writes } => ProviderSpec::Redis {
            url: url(place)?,
            prefix: match prefix {
                Some(prefix) => Some(bind(prefix)?),
                None => None,
            },
            connections: *connections,
            writes: *writes,
        },
        ProviderSpec::Postgres { url: place, connections, writes } => {
            ProviderSpec::Postgres { url: url(place)?, connections: *connections, writes: *writes }
        }
        ProviderSpec::Http { allow, check } => {
            let rule = |rule: &AllowRule<Text>| {
                Some(AllowRule { url: url(&rule.url)?, private: rule.private })
            };
            let allow = allow.iter().map(rule).collect::<Option<Vec<_>>>()?;
            ProviderSpec::Http { allow, check: *check }
        }
        ProviderSpec::Directory { path, access } => {
            ProviderSpec::Directory { path: bind(path)?, access: *access }
        }
        ProviderSpec::Clock => ProviderSpec::Clock,
        ProviderSpec::Entropy => ProviderSpec::Entropy,
        ProviderSpec::Config { values: texts } => {
            let values = texts.iter().map(|(name, text)| Some((name.clone(), bind(text)?)));
            ProviderSpec::Config { values: values.collect::<Option<_>>()? }
        }
    };
    Some(ResourceSpec {
        name: spec.name.clone(),
        provider,
        init: spec.init.iter().map(bind).collect::<Option<_>>()?,
        up_delay: spec.up_delay,
        backoff: spec.backoff,
    })
}

fn bound_daemon(spec: &DaemonSpec<Text>, values: &Values) -> Option<DaemonSpec<BoundText>> {
    let parameters = spec.parameters.0.iter();
    let parameters = parameters
        .map(|(name, value)| Some((name.clone(), bound_value(value, values)?)))
        .collect::<Option<Map<_, _>>>()?;
    Some(DaemonSpec {
        name: spec.name.clone(),
        guest: spec.guest.bind(values, false)?,
        budget_bytes: spec.budget_bytes,
        needs: spec.needs.clone(),
        uses: spec.uses.clone(),
        after: spec.after.clone(),
        layer: spec.layer,
        on_crash: spec.on_crash,
        fuel: spec.fuel,
        deadline: spec.deadline,
        retries: spec.retries,
        retry_live: spec.retry_live,
        restarts: spec.restarts,
        cpu: spec.cpu,
        parameters: InitParameters(parameters),
        stateless: spec.stateless,
        readers: spec.readers,
    })
}

fn bound_value(value: &Value, values: &Values) -> Option<Value> {
    Some(match value {
        Value::String(text) => {
            let text = Text::parse(text, 0..0).ok()?.bind(values, false)?;
            Value::String(text.expose().to_owned())
        }
        Value::Array(list) => {
            list.iter().map(|value| bound_value(value, values)).collect::<Option<_>>()?
        }
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(name, value)| Some((name.clone(), bound_value(value, values)?)))
                .collect::<Option<_>>()?,
        ),
        other => other.clone(),
    })
}
