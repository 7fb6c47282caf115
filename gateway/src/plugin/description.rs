//! What a plugin says of itself, checked.

use std::borrow::Cow;

use http::HeaderName;
use serde::{Deserialize, Serialize};

use crate::model::plugin::{Capability, Hook};

/// The answer of `describe`, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The plugin's own name for itself.
    pub name: String,
    /// Its version, as its author counts.
    pub version: String,
    /// What it offers.
    pub functions: Vec<Function>,
    /// What it wants.
    pub capabilities: Vec<Wanted>,
    /// Metrics that it will write.
    pub metrics: Vec<DeclaredMetric>,
    /// JSON Schema of its configuration, as text.
    pub config_schema: Option<String>,
}

/// One entry of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// The hook that it is for.
    pub hook: Hook,
    /// Its name.
    pub name: String,
    /// What it is handed.
    pub reads: Reads,
}

/// What a function is handed. What is not asked for does not cross the boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// Header fields of the message that the hook is about.
    pub headers: HeaderSelection,
    /// The largest body that it takes, if it reads bodies.
    pub body_bytes_max: Option<u64>,
    /// Header fields of the request, in `response`.
    pub request_headers: HeaderSelection,
    /// The session.
    pub session: bool,
    /// Parts of the context.
    pub context: ContextReads,
}

/// Parts of the context that cost something to hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the contract")]
pub struct ContextReads {
    /// The request's id.
    pub request_id: bool,
    /// The API.
    pub api: bool,
    /// The matched endpoint.
    pub endpoint: bool,
    /// The host.
    pub host: bool,
    /// The API's variables.
    pub variables: bool,
    /// What earlier plugins set.
    pub vars: bool,
}

/// Which header fields a function is handed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeaderSelection {
    /// None.
    None,
    /// All.
    All,
    /// Those of these names.
    Named(#[serde(with = "names")] Vec<HeaderName>),
}

/// A capability that a plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The capability.
    pub capability: Capability,
    /// Why, in the author's words.
    pub reason: String,
}

/// A metric that a plugin declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredMetric {
    /// Its name, without the gateway's prefix.
    pub name: String,
    /// Whether it counts or observes.
    pub kind: MetricKind,
    /// A line for people.
    pub help: String,
}

/// The kinds of metrics that plugins may declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// A distribution.
    Histogram,
}

impl Description {
    /// The functions for a hook.
    pub fn functions_for(&self, hook: Hook) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(move |function| function.hook == hook)
    }
}

impl Reads {
    /// A line for people: what crosses the boundary.
    pub fn summary(&self) -> String {
        let mut parts: Vec<Cow<'_, str>> = Vec::new();
        match &self.headers {
            HeaderSelection::None => {}
            HeaderSelection::All => parts.push("all headers".into()),
            HeaderSelection::Named(names) => {
                parts.push(format!("headers {}", join(names.iter().map(HeaderName::as_str))).into());
            }
        }
        if let Some(bytes_max) = self.body_bytes_max {
            parts.push(format!("body up to {bytes_max} bytes").into());
        }
        match &self.request_headers {
            HeaderSelection::None => {}
            HeaderSelection::All => parts.push("all request headers".into()),
            HeaderSelection::Named(names) => {
                parts.push(format!("request headers {}", join(names.iter().map(HeaderName::as_str))).into());
            }
        }
        if self.session {
            parts.push("session".into());
        }
        parts.extend(self.context.parts().into_iter().filter(|(is_read, _)| *is_read).map(|(_, name)| name.into()));
        if parts.is_empty() { "method and path only".to_owned() } else { parts.join(", ") }
    }
}

impl ContextReads {
    /// Each part with its name for people.
    pub fn parts(&self) -> [(bool, &'static str); 6] {
        [
            (self.request_id, "request id"),
            (self.api, "api"),
            (self.endpoint, "endpoint"),
            (self.host, "host"),
            (self.variables, "variables"),
            (self.vars, "vars"),
        ]
    }
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(" ")
}

/// Header names as texts.
mod names {
    use http::HeaderName;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(names.iter().map(HeaderName::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HeaderName>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names.iter().map(|name| HeaderName::from_bytes(name.as_bytes()).map_err(D::Error::custom)).collect()
    }
}
