//! The answer of `describe`.

use super::super::hooks::description as described;
use super::{Invalid, check_count, header_name_syntax, invalid};
use crate::model::plugin::{Capability, Hook};
use crate::plugin::description::{
    ContextReads, DeclaredMetric, Description, Function, HeaderSelection, MetricKind, Reads, Wanted,
};
use crate::telemetry::text::is_plain;

/// The answer of `describe`. A capability that is not known is an error of its own kind, so names come first.
pub fn description(raw: described::PluginDescription) -> Result<Description, DescriptionInvalid> {
    let no = |text: String| DescriptionInvalid::Other(text);
    if raw.functions.len() > FUNCTIONS_MAX || raw.metrics.len() > METRICS_MAX {
        return Err(no(format!("more than {FUNCTIONS_MAX} functions or {METRICS_MAX} metrics")));
    }
    let mut functions: Vec<Function> = Vec::with_capacity(raw.functions.len());
    for function in raw.functions {
        let function = self::function(function).map_err(|Invalid(text)| no(text))?;
        if functions.iter().any(|other| other.hook == function.hook && other.name == function.name) {
            return Err(no(format!("function `{}` for `{}` occurs twice", function.name, function.hook)));
        }
        functions.push(function);
    }
    let capabilities = raw.capabilities.into_iter().map(|wanted| {
        let reason = wanted.reason;
        let capability = Capability::parse(&wanted.name).ok_or(DescriptionInvalid::CapabilityUnknown(wanted.name))?;
        Ok(Wanted { capability, reason })
    });
    let metrics = raw.metrics.into_iter().map(|metric| {
        let is_name = !metric.name.is_empty()
            && metric.name.len() <= METRIC_NAME_BYTES_MAX
            && metric.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            return Err(no(format!("`{}` is not a metric's name", metric.name)));
        }
        let kind = match metric.kind {
            described::MetricKind::Counter => MetricKind::Counter,
            described::MetricKind::Histogram => MetricKind::Histogram,
        };
        Ok(DeclaredMetric { name: metric.name, kind, help: metric.help })
    });
    Ok(Description {
        capabilities: capabilities.collect::<Result<_, _>>()?,
        metrics: metrics.collect::<Result<_, _>>()?,
        name: name(raw.name, "a plugin's name").map_err(|Invalid(text)| no(text))?,
        version: name(raw.version, "a plugin's version").map_err(|Invalid(text)| no(text))?,
        functions,
        config_schema: raw.config_schema,
    })
}

/// Why the answer of `describe` is refused.
#[derive(Debug)]
pub enum DescriptionInvalid {
    /// It wants a capability that this gateway has never heard of.
    CapabilityUnknown(String),
    /// Anything else.
    Other(String),
}

fn function(raw: described::Function) -> Result<Function, Invalid> {
    use described as d;
    let hook = match raw.hook {
        d::Hook::Pre => Hook::Pre,
        d::Hook::Auth => Hook::Auth,
        d::Hook::PostAuth => Hook::PostAuth,
        d::Hook::Endpoint => Hook::Endpoint,
        d::Hook::Post => Hook::Post,
        d::Hook::Response => Hook::Response,
        d::Hook::Analytics => Hook::Analytics,
    };
    if raw.name.is_empty() {
        return Err(invalid!("a function's name is empty"));
    }
    let wanted = raw.reads.context;
    let has = |flag| wanted.contains(flag);
    Ok(Function {
        hook,
        name: name(raw.name, "a function's name")?,
        reads: Reads {
            headers: header_selection(raw.reads.headers)?,
            body_bytes_max: match raw.reads.body {
                d::BodyRead::None => None,
                d::BodyRead::Buffered(bytes_max) => Some(bytes_max),
            },
            request_headers: header_selection(raw.reads.request_headers)?,
            session: raw.reads.session,
            context: ContextReads {
                request_id: has(d::ContextFields::REQUEST_ID),
                api: has(d::ContextFields::API),
                endpoint: has(d::ContextFields::ENDPOINT),
                host: has(d::ContextFields::HOST),
                variables: has(d::ContextFields::VARIABLES),
                vars: has(d::ContextFields::VARS),
            },
        },
    })
}

fn header_selection(raw: described::HeaderSelection) -> Result<HeaderSelection, Invalid> {
    use described::HeaderSelection as S;
    Ok(match raw {
        S::None => HeaderSelection::None,
        S::All => HeaderSelection::All,
        S::Named(names) => {
            check_count(names.len(), "header names")?;
            HeaderSelection::Named(names.iter().map(|name| header_name_syntax(name)).collect::<Result<_, _>>()?)
        }
    })
}

/// A name that people read, on a terminal too.
fn name(text: String, of: &str) -> Result<String, Invalid> {
    if text.len() > NAME_BYTES_MAX {
        return Err(invalid!("{of} is longer than {NAME_BYTES_MAX} bytes"));
    }
    if !is_plain(&text) {
        return Err(invalid!("`{text}` is not {of}: it has a backslash, or characters that nobody sees"));
    }
    Ok(text)
}

const NAME_BYTES_MAX: usize = 128;
const FUNCTIONS_MAX: usize = 256;
const METRICS_MAX: usize = 64;
const METRIC_NAME_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    /// So many bytes.
    fn text(bytes: usize) -> String {
        "a".repeat(bytes)
    }

    /// What a plugin says of itself: so many functions and metrics, with names of so many bytes.
    fn is_taken(functions: usize, metrics: usize, name: usize, metric_name: usize) -> bool {
        use described as d;
        let function = |number: usize| d::Function {
            hook: d::Hook::Pre,
            name: number.to_string(),
            reads: d::Reads {
                headers: d::HeaderSelection::None,
                body: d::BodyRead::None,
                request_headers: d::HeaderSelection::None,
                session: false,
                context: d::ContextFields::empty(),
            },
        };
        let metric = |number: usize| d::Metric {
            name: format!("{number:a>metric_name$}"),
            kind: d::MetricKind::Counter,
            help: String::new(),
        };
        let raw = d::PluginDescription {
            name: text(name),
            version: "1".to_owned(),
            functions: (0..functions).map(function).collect(),
            capabilities: Vec::new(),
            metrics: (0..metrics).map(metric).collect(),
            config_schema: None,
        };
        description(raw).is_ok()
    }

    // limit: plugin::v0_1::lift::description::FUNCTIONS_MAX
    // limit: plugin::v0_1::lift::description::METRICS_MAX
    // limit: plugin::v0_1::lift::description::NAME_BYTES_MAX
    // limit: plugin::v0_1::lift::description::METRIC_NAME_BYTES_MAX
    #[test]
    fn a_plugin_says_so_much_of_itself() {
        assert!(is_taken(FUNCTIONS_MAX, METRICS_MAX, NAME_BYTES_MAX, METRIC_NAME_BYTES_MAX));
        assert!(!is_taken(FUNCTIONS_MAX + 1, 1, 1, 1));
        assert!(!is_taken(1, METRICS_MAX + 1, 1, 1));
        assert!(!is_taken(1, 1, NAME_BYTES_MAX + 1, 1));
        assert!(!is_taken(1, 1, 1, METRIC_NAME_BYTES_MAX + 1));
    }
}
