//! Answers of guests as a person would write them down, for fuzzing and its seeds.
//!
//! A line is a name and its values, with tabs between them: `set-header`, name, value. What is missing is empty or zero, and what is
//! not known is passed over, so that every text is an answer. `70000*x` stands for so many of `x`, and the line `again`
//! with a number for so many of the line before it.

use std::str::FromStr;

use super::bindings::stile::plugin::types;
use super::hooks;

/// The lines of a text.
#[derive(Debug, Clone)]
pub struct Lines<'t> {
    lines: Vec<&'t str>,
}

/// The values of a line, after its name.
struct Values<'t>(std::str::Split<'t, char>);

impl<'t> Lines<'t> {
    /// Takes a text apart.
    pub fn of(text: &'t str) -> Self {
        Self { lines: text.lines().take(LINES_MAX).collect() }
    }

    /// Takes the first line: its values.
    pub fn first(&mut self) -> Vec<&'t str> {
        if self.lines.is_empty() { Vec::new() } else { self.lines.remove(0).split('\t').collect() }
    }

    /// The values of the first line of this name.
    fn find(&self, name: &str) -> Values<'t> {
        let mut found = self.lines.iter().map(|line| line.split('\t'));
        let found = found.find_map(|mut line| (line.next() == Some(name)).then_some(line));
        Values(found.unwrap_or_else(|| "".split('\t')))
    }

    /// What is made of each line that something can be made of.
    fn each<T: Clone>(&self, mut make: impl FnMut(&str, &mut Values<'t>) -> Option<T>) -> Vec<T> {
        let mut made: Vec<T> = Vec::new();
        for line in &self.lines {
            let mut values = Values(line.split('\t'));
            let name = values.0.next().unwrap_or_default();
            if name == "again" && made.len() < LINES_MAX {
                let count = values.number::<usize>().min(AGAIN_MAX);
                made.extend(made.last().cloned().into_iter().flat_map(|last| vec![last; count]));
            } else {
                made.extend(make(name, &mut values));
            }
        }
        made
    }
}

impl Values<'_> {
    fn text(&mut self) -> String {
        let text = self.0.next().unwrap_or_default();
        match text.split_once('*').and_then(|(count, text)| Some((count.parse::<usize>().ok()?, text))) {
            Some((count, text)) => text.repeat(count.min(BYTES_MAX / text.len().max(1))),
            None => text.to_owned(),
        }
    }

    fn some(&mut self) -> Option<String> {
        Some(self.text()).filter(|text| !text.is_empty())
    }

    /// Bytes, with `\` for one that is no text.
    fn bytes(&mut self) -> Vec<u8> {
        self.text().into_bytes().into_iter().map(|byte| if byte == b'\\' { 0xff } else { byte }).collect()
    }

    fn number<T: FromStr + Default>(&mut self) -> T {
        self.text().parse().unwrap_or_default()
    }

    fn flag(&mut self) -> bool {
        self.text() == "true"
    }

    fn rest(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while self.0.clone().next().is_some() {
            texts.push(self.text());
        }
        texts
    }

    fn header(&mut self) -> (String, Vec<u8>) {
        (self.text(), self.bytes())
    }

    fn rate(&mut self) -> types::Rate {
        let mut rate = types::Rate {
            requests: self.number(),
            per_seconds: self.number(),
            throttle_interval: self.number(),
            throttle_retries: self.number(),
            smoothing: None,
        };
        if self.flag() {
            rate.smoothing = Some(types::RateSmoothing {
                threshold: self.number(),
                trigger: self.number(),
                step: self.number(),
                delay_seconds: self.number(),
            });
        }
        rate
    }

    fn quota(&mut self) -> types::Quota {
        types::Quota {
            max: self.number(),
            remaining: self.number(),
            renews: self.number(),
            renewal_rate: self.number(),
        }
    }

    fn metadata(&mut self) -> (String, types::MetadataValueResult) {
        let name = self.text();
        let value = match self.text().as_str() {
            "json" => types::MetadataValueResult::Json(self.text()),
            _ => types::MetadataValueResult::Text(self.text()),
        };
        (name, value)
    }
}

/// An answer of `pre`.
pub fn pre(case: &str, lines: &Lines<'_>) -> hooks::pre::Action {
    use hooks::pre::Action;
    match case {
        "edit" => Action::Edit(request_edits(lines)),
        "respond" => Action::Respond(reply(lines)),
        "reject" => Action::Reject(rejection(lines)),
        _ => Action::Continue,
    }
}

/// An answer of `auth`.
pub fn auth(case: &str, lines: &Lines<'_>) -> hooks::auth::Action {
    use hooks::auth::{Action, Authenticated, Refusal};
    match case {
        "refuse" => Action::Refuse(Refusal::CredentialUnknown),
        "respond" => Action::Respond(reply(lines)),
        "reject" => Action::Reject(rejection(lines)),
        _ => Action::Authenticated(Authenticated { session: session(lines), edits: request_edits(lines) }),
    }
}

/// An answer of `post`, whose cases `post-auth` and `endpoint` have too.
pub fn post(case: &str, lines: &Lines<'_>) -> hooks::post::Action {
    use hooks::post::Action;
    match case {
        "edit" => Action::Edit(types::Edits { request: request_edits(lines), session: session_edits(lines) }),
        "respond" => Action::Respond(reply(lines)),
        "reject" => Action::Reject(rejection(lines)),
        _ => Action::Continue,
    }
}

/// An answer of `response`.
pub fn response(case: &str, lines: &Lines<'_>) -> hooks::response::Action {
    use hooks::response::Action;
    use types::ResponseEdit as E;
    if case != "edit" {
        return Action::Continue;
    }
    Action::Edit(lines.each(|name, values| {
        Some(match name {
            "set-status" => E::SetStatus(values.number()),
            "set-header" => E::SetHeader(values.header()),
            "append-header" => E::AppendHeader(values.header()),
            "remove-header" => E::RemoveHeader(values.text()),
            "set-body" => E::SetBody(values.bytes()),
            "set-var" => E::SetVar(values.header()),
            "remove-var" => E::RemoveVar(values.text()),
            _ => return None,
        })
    }))
}

/// An answer of `analytics`: a verdict on one record.
pub fn analytics(case: &str, lines: &Lines<'_>) -> Vec<hooks::analytics::Verdict> {
    use hooks::analytics::Verdict;
    vec![match case {
        "edit" => Verdict::Edit(record_edits(lines)),
        "drop" => Verdict::Drop,
        _ => Verdict::Keep,
    }]
}

/// What a guest asks to change of a session.
pub fn session_edits(lines: &Lines<'_>) -> Vec<types::SessionEdit> {
    use types::SessionEdit as E;
    lines.each(|name, values| {
        Some(match name {
            "set-metadata" => E::SetMetadata(values.metadata()),
            "remove-metadata" => E::RemoveMetadata(values.text()),
            "add-tag" => E::AddTag(values.text()),
            "remove-tag" => E::RemoveTag(values.text()),
            "set-alias" => E::SetAlias(values.text()),
            "set-rate" => E::SetRate(values.rate()),
            "set-quota" => E::SetQuota(values.quota()),
            "set-access-rights" => E::SetAccessRights(rights(lines)),
            "set-policies" => E::SetPolicies(values.rest()),
            "set-expires" => E::SetExpires(values.number()),
            "set-inactive" => E::SetInactive(values.flag()),
            _ => return None,
        })
    })
}

/// An answer of `describe`.
pub fn description(lines: &Lines<'_>) -> hooks::description::PluginDescription {
    use hooks::description as d;
    let selection = |values: &mut Values<'_>| match values.text().as_str() {
        "all" => d::HeaderSelection::All,
        "" | "none" => d::HeaderSelection::None,
        names => d::HeaderSelection::Named(names.split(' ').map(str::to_owned).collect()),
    };
    d::PluginDescription {
        name: lines.find("name").text(),
        version: lines.find("version").text(),
        functions: lines.each(|name, values| {
            let hook = match name {
                "pre" => d::Hook::Pre,
                "auth" => d::Hook::Auth,
                "post-auth" => d::Hook::PostAuth,
                "endpoint" => d::Hook::Endpoint,
                "post" => d::Hook::Post,
                "response" => d::Hook::Response,
                "analytics" => d::Hook::Analytics,
                _ => return None,
            };
            let name = values.text();
            let reads = d::Reads {
                headers: selection(values),
                body: match values.text().parse() {
                    Ok(bytes_max) => d::BodyRead::Buffered(bytes_max),
                    Err(_) => d::BodyRead::None,
                },
                request_headers: selection(values),
                session: values.flag(),
                context: if values.flag() { d::ContextFields::API } else { d::ContextFields::empty() },
            };
            Some(d::Function { hook, name, reads })
        }),
        capabilities: lines.each(|name, values| {
            (name == "capability").then(|| d::Capability { name: values.text(), reason: values.text() })
        }),
        metrics: lines.each(|name, values| {
            let kind = match name {
                "counter" => d::MetricKind::Counter,
                "histogram" => d::MetricKind::Histogram,
                _ => return None,
            };
            Some(d::Metric { name: values.text(), kind, help: values.text() })
        }),
        config_schema: lines.find("schema").some(),
    }
}

fn request_edits(lines: &Lines<'_>) -> Vec<types::RequestEdit> {
    use types::RequestEdit as E;
    lines.each(|name, values| {
        Some(match name {
            "set-method" => E::SetMethod(match values.text().as_str() {
                "GET" => types::MethodResult::Get,
                "TRACE" => types::MethodResult::Trace,
                other => types::MethodResult::Other(other.to_owned()),
            }),
            "set-path" => E::SetPath(values.text()),
            "set-query" => E::SetQuery(values.some()),
            "set-query-param" => E::SetQueryParam((values.text(), values.text())),
            "append-query-param" => E::AppendQueryParam((values.text(), values.text())),
            "remove-query-param" => E::RemoveQueryParam(values.text()),
            "set-header" => E::SetHeader(values.header()),
            "append-header" => E::AppendHeader(values.header()),
            "remove-header" => E::RemoveHeader(values.text()),
            "set-body" => E::SetBody(values.bytes()),
            "set-upstream" => E::SetUpstream(types::Upstream::Origin(values.text())),
            "set-api" => E::SetUpstream(types::Upstream::Api(values.text())),
            "set-var" => E::SetVar(values.header()),
            "remove-var" => E::RemoveVar(values.text()),
            _ => return None,
        })
    })
}

fn record_edits(lines: &Lines<'_>) -> Vec<types::RecordEdit> {
    use types::RecordEdit as E;
    lines.each(|name, values| {
        Some(match name {
            "set-path" => E::SetPath(values.text()),
            "set-raw-path" => E::SetRawPath(values.text()),
            "set-original-path" => E::SetOriginalPath(values.text()),
            "set-query" => E::SetQuery(values.text()),
            "set-host" => E::SetHost(values.text()),
            "set-user-agent" => E::SetUserAgent(values.text()),
            "set-api-key" => E::SetApiKey(values.text()),
            "set-oauth-id" => E::SetOauthId(values.text()),
            "set-ip-address" => E::SetIpAddress(values.text()),
            "set-geo" => E::SetGeo(Some(types::GeoResult {
                country_iso_code: values.text(),
                city_geoname_id: values.number(),
                city_names: vec![(values.text(), values.text())],
                latitude: values.number(),
                longitude: values.number(),
                time_zone: values.text(),
            })),
            "set-alias" => E::SetAlias(values.text()),
            "add-tag" => E::AddTag(values.text()),
            "remove-tag" => E::RemoveTag(values.text()),
            "set-request-header" => E::SetRequestHeader(values.header()),
            "remove-request-header" => E::RemoveRequestHeader(values.text()),
            "set-request-body" => E::SetRequestBody(Some(values.bytes())),
            "set-response-header" => E::SetResponseHeader(values.header()),
            "remove-response-header" => E::RemoveResponseHeader(values.text()),
            "set-response-body" => E::SetResponseBody(Some(values.bytes())),
            "set-expires-ms" => E::SetExpiresMs(values.number()),
            _ => return None,
        })
    })
}

fn headers(lines: &Lines<'_>) -> Vec<(String, Vec<u8>)> {
    lines.each(|name, values| (name == "header").then(|| values.header()))
}

fn reply(lines: &Lines<'_>) -> types::Reply {
    let (status, body) = (lines.find("status").number(), lines.find("body").bytes());
    types::Reply { status, headers: headers(lines), body }
}

fn rejection(lines: &Lines<'_>) -> types::Rejection {
    let (status, message) = (lines.find("status").number(), lines.find("message").text());
    types::Rejection { status, message, headers: headers(lines) }
}

fn rights(lines: &Lines<'_>) -> Vec<types::AccessRightResult> {
    lines.each(|name, values| {
        (name == "right").then(|| types::AccessRightResult {
            api_id: values.text(),
            api_name: values.text(),
            versions: values.some().into_iter().collect(),
            allowed_urls: lines.each(|name, values| {
                (name == "url").then(|| types::AllowedUrlResult { url: values.text(), methods: values.rest() })
            }),
            rate: lines.each(|name, values| (name == "right-rate").then(|| values.rate())).pop(),
            quota: lines.each(|name, values| (name == "right-quota").then(|| values.quota())).pop(),
            max_query_depth: lines.each(|name, values| (name == "right-depth").then(|| values.number())).pop(),
            allowance_scope: values.text(),
            endpoints: lines.each(|name, values| {
                (name == "endpoint").then(|| types::EndpointLimitResult {
                    path: values.text(),
                    method: values.text(),
                    rate: values.rate(),
                })
            }),
            extra: lines.each(|name, values| (name == "right-extra").then(|| values.header())),
        })
    })
}

fn session(lines: &Lines<'_>) -> types::SessionResult {
    types::SessionResult {
        key_id: lines.find("key-id").text(),
        organisation: lines.find("organisation").text(),
        alias: lines.find("alias").text(),
        tags: lines.find("tags").rest(),
        metadata: lines.each(|name, values| (name == "metadata").then(|| values.metadata())),
        rate: lines.find("rate").rate(),
        quota: lines.find("quota").quota(),
        access_rights: rights(lines),
        policies: lines.find("policies").rest(),
        expires: lines.find("expires").number(),
        inactive: lines.find("inactive").flag(),
        lifetime_seconds: lines.find("lifetime").number(),
        id_extractor_deadline: lines.find("deadline").number(),
        post_expiry_action: match lines.find("post-expiry").text().as_str() {
            "delete" => types::PostExpiryAction::Delete,
            _ => types::PostExpiryAction::Retain,
        },
        post_expiry_grace_period: lines.find("grace").number(),
        data_expires: lines.find("data-expires").number(),
        detailed_recording: lines.find("detailed").flag(),
        monitor_trigger_limits: lines.each(|name, values| (name == "monitor").then(|| values.number())),
        max_query_depth: lines.find("depth").number(),
        oauth_client_id: lines.find("oauth").text(),
        certificate: lines.find("certificate").text(),
        mtls_certificate_bindings: lines.find("bindings").rest(),
        hmac_enabled: lines.find("hmac").flag(),
        http_signature_validation: lines.find("signature").flag(),
        rsa_certificate_id: lines.find("rsa").text(),
        created_ms: lines.find("created").number(),
        last_updated: lines.find("updated").text(),
        extra: lines.each(|name, values| (name == "extra").then(|| values.header())),
    }
}

const LINES_MAX: usize = 40;
const AGAIN_MAX: usize = 1_100;
const BYTES_MAX: usize = 70_000;
