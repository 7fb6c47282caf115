//! A guest's answer, checked: header syntax, forbidden names, sizes, counts, ranges, texts.
//!
//! Everything here is input from a stranger. What passes is of the gateway's own types, which cannot hold a bad value.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::bindings::stile::plugin::{apis, types};
use super::hooks;
use crate::message::hop;
use crate::model::id::ApiId;
use crate::model::outgoing::{self, Destination, Site};
use crate::model::path;
use crate::model::plugin::{Capability, Hook, Limits};
use crate::model::record::{Geo, RecordEdit};
use crate::model::session::{
    AccessRight, AllowedUrl, EndpointLimit, PostExpiryAction, Quota, Rate, RateSmoothing, Session, SessionEdit,
};
use crate::plugin::description::{
    ContextReads, DeclaredMetric, Description, Function, HeaderSelection, MetricKind, Reads, Wanted,
};
use crate::plugin::verdict::{
    ApiRequest, AuthVerdict, Edits, HeaderEdit, RecordVerdict, Refusal, Rejection, Reply, RequestEdit, ResponseEdit,
    UpstreamOverride, Verdict,
};
use crate::telemetry::text::is_plain;

/// Why an answer is not valid: words for the log, with the guest's own text in them.
#[derive(Debug)]
pub struct Invalid(pub String);

macro_rules! invalid {
    ($($text:tt)*) => { Invalid(format!($($text)*)) };
}

/// What a plugin may return: its limits and its grants.
#[derive(Debug, Clone, Copy)]
pub struct Lift<'a> {
    /// Sizes and counts.
    pub limits: &'a Limits,
    /// Rights over the upstream and the session.
    pub grants: &'a [Capability],
    /// Places that requests may be sent to instead of the API's upstream.
    pub upstream: &'a [Destination],
    /// APIs that requests may be sent on to.
    pub apis: &'a [ApiId],
}

/// Adds up what an answer holds, over all its edits.
struct Tally<'a> {
    lift: Lift<'a>,
    header_count: u32,
    header_bytes: u64,
}

impl<'a> Lift<'a> {
    /// The answer of `pre`.
    pub fn pre(self, action: hooks::pre::Action) -> Result<Verdict, Invalid> {
        use hooks::pre::Action;
        let mut tally = self.tally();
        Ok(match action {
            Action::Continue => Verdict::Continue,
            Action::Edit(edits) => Verdict::Edit(Edits { request: tally.request_edits(edits)?, session: Vec::new() }),
            Action::Respond(reply) => Verdict::Respond(tally.reply(reply)?),
            Action::Reject(rejection) => Verdict::Reject(tally.rejection(rejection)?),
        })
    }

    /// The answer of `auth`.
    pub fn auth(self, action: hooks::auth::Action) -> Result<AuthVerdict, Invalid> {
        use hooks::auth::{Action, Refusal as R};
        let mut tally = self.tally();
        Ok(match action {
            Action::Authenticated(authenticated) => AuthVerdict::Authenticated {
                session: Box::new(session(authenticated.session)?),
                edits: tally.request_edits(authenticated.edits)?,
            },
            Action::Refuse(refusal) => AuthVerdict::Refuse(match refusal {
                R::CredentialMissing => Refusal::CredentialMissing,
                R::CredentialUnknown => Refusal::CredentialUnknown,
                R::CredentialExpired => Refusal::CredentialExpired,
                R::CredentialInactive => Refusal::CredentialInactive,
            }),
            Action::Respond(reply) => AuthVerdict::Respond(tally.reply(reply)?),
            Action::Reject(rejection) => AuthVerdict::Reject(tally.rejection(rejection)?),
        })
    }

    /// The answer of `post-auth`, `endpoint` and `post`, whose generated types are the same but for their names.
    pub fn action(self, action: SessionAction) -> Result<Verdict, Invalid> {
        let mut tally = self.tally();
        Ok(match action {
            SessionAction::Continue => Verdict::Continue,
            SessionAction::Edit(edits) => Verdict::Edit(Edits {
                request: tally.request_edits(edits.request)?,
                session: tally.session_edits(edits.session)?,
            }),
            SessionAction::Respond(reply) => Verdict::Respond(tally.reply(reply)?),
            SessionAction::Reject(rejection) => Verdict::Reject(tally.rejection(rejection)?),
        })
    }

    /// The answer of `response`: no edit goes on unchanged.
    pub fn response(self, action: hooks::response::Action) -> Result<Vec<ResponseEdit>, Invalid> {
        use types::ResponseEdit as E;
        let hooks::response::Action::Edit(edits) = action else { return Ok(Vec::new()) };
        check_count(edits.len(), "edits")?;
        let mut tally = self.tally();
        let lift = |edit| {
            Ok(match edit {
                E::SetStatus(code) => ResponseEdit::Status(status(code, 200)?),
                E::SetHeader((name, value)) => ResponseEdit::Header(tally.set(&name, &value)?),
                E::AppendHeader((name, value)) => ResponseEdit::Header(tally.append(&name, &value)?),
                E::RemoveHeader(name) => ResponseEdit::Header(HeaderEdit::Remove(header_name(&name)?)),
                E::SetBody(body) => ResponseEdit::Body(tally.body(body)?),
                E::SetVar((name, value)) => var(name, value).map(|(n, v)| ResponseEdit::SetVar(n, v))?,
                E::RemoveVar(name) => ResponseEdit::RemoveVar(name),
            })
        };
        edits.into_iter().map(lift).collect()
    }

    /// The answer of `analytics`, one verdict for each of `records`.
    pub fn analytics(
        self,
        verdicts: Vec<hooks::analytics::Verdict>,
        records: usize,
    ) -> Result<Vec<RecordVerdict>, Invalid> {
        if verdicts.len() != records {
            return Err(invalid!("{} verdicts for {records} records", verdicts.len()));
        }
        let lift = |verdict| {
            Ok(match verdict {
                hooks::analytics::Verdict::Keep => RecordVerdict::Keep,
                hooks::analytics::Verdict::Drop => RecordVerdict::Drop,
                hooks::analytics::Verdict::Edit(edits) => {
                    check_count(edits.len(), "edits")?;
                    RecordVerdict::Edit(edits.into_iter().map(|edit| self.record_edit(edit)).collect::<Result<_, _>>()?)
                }
            })
        };
        verdicts.into_iter().map(lift).collect()
    }

    fn record_edit(self, edit: types::RecordEdit) -> Result<RecordEdit, Invalid> {
        use types::RecordEdit as E;
        let body = |body: Option<Vec<u8>>| body.map(|body| self.tally().body(body)).transpose();
        let body = |bytes| body(bytes).map(|b| b.map(Vec::from));
        let header = |(name, value): (String, Vec<u8>)| {
            let name = header_name_syntax(&name)?;
            let value = header_value(&name, &value)?;
            Ok((name.as_str().to_owned(), value.as_bytes().to_vec()))
        };
        Ok(match edit {
            E::SetPath(text) => RecordEdit::SetPath(short(text)?),
            E::SetRawPath(text) => RecordEdit::SetRawPath(short(text)?),
            E::SetOriginalPath(text) => RecordEdit::SetOriginalPath(short(text)?),
            E::SetQuery(text) => RecordEdit::SetQuery(short(text)?),
            E::SetHost(text) => RecordEdit::SetHost(short(text)?),
            E::SetUserAgent(text) => RecordEdit::SetUserAgent(short(text)?),
            E::SetApiKey(text) => RecordEdit::SetApiKey(short(text)?),
            E::SetOauthId(text) => RecordEdit::SetOauthId(short(text)?),
            E::SetIpAddress(text) => RecordEdit::SetIpAddress(short(text)?),
            E::SetGeo(geo) => RecordEdit::SetGeo(geo.map(place)),
            E::SetAlias(text) => RecordEdit::SetAlias(short(text)?),
            E::AddTag(tag) => RecordEdit::AddTag(short(tag)?),
            E::RemoveTag(tag) => RecordEdit::RemoveTag(tag),
            E::SetRequestHeader(pair) => header(pair).map(|(n, v)| RecordEdit::SetRequestHeader(n, v))?,
            E::RemoveRequestHeader(name) => RecordEdit::RemoveRequestHeader(name.to_ascii_lowercase()),
            E::SetRequestBody(bytes) => RecordEdit::SetRequestBody(body(bytes)?),
            E::SetResponseHeader(pair) => header(pair).map(|(n, v)| RecordEdit::SetResponseHeader(n, v))?,
            E::RemoveResponseHeader(name) => RecordEdit::RemoveResponseHeader(name.to_ascii_lowercase()),
            E::SetResponseBody(bytes) => RecordEdit::SetResponseBody(body(bytes)?),
            E::SetExpiresMs(expires) => RecordEdit::SetExpiresMs(expires),
        })
    }

    /// A request to an API of the gateway, but for its size.
    pub fn api_request(self, asked: apis::Outgoing) -> Result<ApiRequest, Invalid> {
        let (path, text) = match asked.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (asked.path.as_str(), None),
        };
        Ok(ApiRequest {
            api: ApiId::parse(&asked.api_id).map_err(|_| invalid!("`{}` is not an API's id", asked.api_id))?,
            method: method(asked.method)?,
            path: request_path(path)?,
            query: text.map(|text| query(text.to_owned())).transpose()?,
            headers: self.tally().headers(asked.headers)?,
            body: asked.body.into(),
        })
    }

    fn tally(self) -> Tally<'a> {
        Tally { lift: self, header_count: 0, header_bytes: 0 }
    }
}

/// `post-auth`, `endpoint` and `post` return the same cases.
pub enum SessionAction {
    /// Go on.
    Continue,
    /// Go on with changes.
    Edit(types::Edits),
    /// Answer.
    Respond(types::Reply),
    /// Refuse.
    Reject(types::Rejection),
}

macro_rules! session_action {
    ($($hook:ident),*) => {$(
        impl From<hooks::$hook::Action> for SessionAction {
            fn from(action: hooks::$hook::Action) -> Self {
                use hooks::$hook::Action;
                match action {
                    Action::Continue => Self::Continue,
                    Action::Edit(edits) => Self::Edit(edits),
                    Action::Respond(reply) => Self::Respond(reply),
                    Action::Reject(rejection) => Self::Reject(rejection),
                }
            }
        }
    )*};
}

session_action!(post_auth, endpoint, post);

impl Tally<'_> {
    fn request_edits(&mut self, edits: Vec<types::RequestEdit>) -> Result<Vec<RequestEdit>, Invalid> {
        check_count(edits.len(), "edits")?;
        edits.into_iter().map(|edit| self.request_edit(edit)).collect()
    }

    fn request_edit(&mut self, edit: types::RequestEdit) -> Result<RequestEdit, Invalid> {
        use types::RequestEdit as E;
        Ok(match edit {
            E::SetMethod(name) => RequestEdit::Method(method(name)?),
            E::SetPath(text) => RequestEdit::Path(request_path(&text)?),
            E::SetQuery(text) => RequestEdit::Query(text.map(query).transpose()?),
            E::SetQueryParam((name, value)) => RequestEdit::SetQueryParam(short(name)?, short(value)?),
            E::AppendQueryParam((name, value)) => RequestEdit::AppendQueryParam(short(name)?, short(value)?),
            E::RemoveQueryParam(name) => RequestEdit::RemoveQueryParam(name),
            E::SetHeader((name, value)) => RequestEdit::Header(self.set(&name, &value)?),
            E::AppendHeader((name, value)) => RequestEdit::Header(self.append(&name, &value)?),
            E::RemoveHeader(name) => RequestEdit::Header(HeaderEdit::Remove(header_name(&name)?)),
            E::SetBody(body) => RequestEdit::Body(self.body(body)?),
            E::SetUpstream(target) => {
                self.need(Capability::Upstream, "set-upstream")?;
                RequestEdit::Upstream(self.upstream(target)?)
            }
            E::SetVar((name, value)) => var(name, value).map(|(n, v)| RequestEdit::SetVar(n, v))?,
            E::RemoveVar(name) => RequestEdit::RemoveVar(name),
        })
    }

    fn session_edits(&mut self, edits: Vec<types::SessionEdit>) -> Result<Vec<SessionEdit>, Invalid> {
        let edits = session_edits(edits)?;
        if edits.iter().any(SessionEdit::needs_grant) {
            self.need(Capability::SessionLimits, "a session edit beyond metadata, tags and alias")?;
        }
        Ok(edits)
    }

    fn reply(&mut self, reply: types::Reply) -> Result<Reply, Invalid> {
        Ok(Reply {
            status: status(reply.status, 200)?,
            headers: self.headers(reply.headers)?,
            body: self.body(reply.body)?,
        })
    }

    fn rejection(&mut self, rejection: types::Rejection) -> Result<Rejection, Invalid> {
        Ok(Rejection {
            status: status(rejection.status, 400)?,
            message: short(rejection.message)?,
            headers: self.headers(rejection.headers)?,
        })
    }

    fn headers(&mut self, list: Vec<(String, Vec<u8>)>) -> Result<HeaderMap, Invalid> {
        // Counted before anything is allocated for them.
        if list.len() > usize::try_from(self.lift.limits.header_count_max).unwrap_or(usize::MAX) {
            return Err(invalid!("{} header fields, more than `header_count_max`", list.len()));
        }
        let mut map = HeaderMap::with_capacity(list.len());
        for (name, value) in list {
            let (name, value) = self.header(&name, &value)?;
            map.append(name, value);
        }
        Ok(map)
    }

    fn set(&mut self, name: &str, value: &[u8]) -> Result<HeaderEdit, Invalid> {
        self.header(name, value).map(|(name, value)| HeaderEdit::Set(name, value))
    }

    fn append(&mut self, name: &str, value: &[u8]) -> Result<HeaderEdit, Invalid> {
        self.header(name, value).map(|(name, value)| HeaderEdit::Append(name, value))
    }

    fn header(&mut self, name: &str, value: &[u8]) -> Result<(HeaderName, HeaderValue), Invalid> {
        let limits = self.lift.limits;
        self.header_count += 1;
        self.header_bytes += u64::try_from(name.len() + value.len()).unwrap_or(u64::MAX);
        if self.header_count > limits.header_count_max {
            return Err(invalid!("more than {} header fields (`header_count_max`)", limits.header_count_max));
        }
        if self.header_bytes > limits.header_bytes_max {
            return Err(invalid!("more than {} bytes of header fields (`header_bytes_max`)", limits.header_bytes_max));
        }
        let name = header_name(name)?;
        let value = header_value(&name, value)?;
        Ok((name, value))
    }

    fn upstream(&self, target: types::Upstream) -> Result<UpstreamOverride, Invalid> {
        match target {
            types::Upstream::Api(id) => match self.lift.apis.iter().find(|listed| listed.as_str() == id) {
                Some(listed) => Ok(UpstreamOverride::Api(listed.clone())),
                None => {
                    Err(invalid!("requests may not be sent on to API `{id}`: it is not in the plugin's `apis.allow`"))
                }
            },
            types::Upstream::Origin(text) => {
                let site = Site::of_origin(&text).map_err(|error| {
                    invalid!("`{text}` is not scheme and authority, such as `https://blue.internal:8443`: {error}")
                })?;
                match outgoing::reach(self.lift.upstream, &site) {
                    Some(reach) => Ok(UpstreamOverride::Origin(site.origin(), reach)),
                    None => Err(invalid!(
                        "requests may not be sent to `{text}`: it is not in the plugin's `upstream.allow`"
                    )),
                }
            }
        }
    }

    fn body(&mut self, body: Vec<u8>) -> Result<Bytes, Invalid> {
        let bytes_max = self.lift.limits.body_out_bytes_max;
        if u64::try_from(body.len()).unwrap_or(u64::MAX) > bytes_max {
            return Err(invalid!("a body of {} bytes, more than {bytes_max} (`body_out_bytes_max`)", body.len()));
        }
        Ok(body.into())
    }

    fn need(&self, capability: Capability, what: &str) -> Result<(), Invalid> {
        if self.lift.grants.contains(&capability) {
            return Ok(());
        }
        Err(invalid!("{what} needs the capability `{}`, which is not granted", capability.as_str()))
    }
}

fn header_name(name: &str) -> Result<HeaderName, Invalid> {
    let name = header_name_syntax(name)?;
    if hop::is_connection_field(&name) {
        return Err(invalid!("header `{name}` is not a plugin's to set or remove"));
    }
    Ok(name)
}

fn header_name_syntax(name: &str) -> Result<HeaderName, Invalid> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid!("`{name}` is not a header name"))
}

fn header_value(name: &HeaderName, value: &[u8]) -> Result<HeaderValue, Invalid> {
    HeaderValue::from_bytes(value).map_err(|_| invalid!("the value of header `{name}` holds a control character"))
}

fn status(code: u16, at_least: u16) -> Result<StatusCode, Invalid> {
    if !(at_least..600).contains(&code) {
        return Err(invalid!("status {code} is not within {at_least} to 599"));
    }
    StatusCode::from_u16(code).map_err(|_| invalid!("status {code} is none"))
}

fn method(method: types::MethodResult) -> Result<Method, Invalid> {
    use types::MethodResult as M;
    Ok(match method {
        M::Get => Method::GET,
        M::Head => Method::HEAD,
        M::Post => Method::POST,
        M::Put => Method::PUT,
        M::Delete => Method::DELETE,
        M::Options => Method::OPTIONS,
        M::Patch => Method::PATCH,
        M::Trace => Method::TRACE,
        M::Other(name) => match Method::from_bytes(name.as_bytes()) {
            Ok(Method::CONNECT) => return Err(invalid!("method `CONNECT` is not a plugin's to set")),
            Ok(method) if name.len() <= METHOD_BYTES_MAX => method,
            _ => return Err(invalid!("`{name}` is not a method")),
        },
    })
}

fn request_path(text: &str) -> Result<String, Invalid> {
    if text.len() > TEXT_BYTES_MAX || text.contains(['?', '#']) {
        return Err(invalid!("`{text}` is not a path"));
    }
    let canonical = path::canonical(text).map_err(|error| invalid!("`{text}` is not a path: {error}"))?;
    // What the connection will be given must be a URI too.
    Uri::try_from(canonical.as_ref()).map_err(|_| invalid!("`{text}` is not a path"))?;
    Ok(canonical.into_owned())
}

fn query(text: String) -> Result<String, Invalid> {
    let is_query = |byte: u8| byte > 0x20 && byte < 0x7f && byte != b'#';
    if text.len() > TEXT_BYTES_MAX || !text.bytes().all(is_query) || Uri::try_from(format!("/?{text}")).is_err() {
        return Err(invalid!("`{text}` is not a query; encode what is not ASCII, or use `set-query-param`"));
    }
    Ok(text)
}

fn var(name: String, value: Vec<u8>) -> Result<(String, Bytes), Invalid> {
    if name.is_empty() || name.len() > VAR_NAME_BYTES_MAX || value.len() > TEXT_BYTES_MAX {
        return Err(invalid!("variable `{name}` is empty or too long"));
    }
    Ok((name, value.into()))
}

fn metadata(value: types::MetadataValueResult) -> Result<serde_json::Value, Invalid> {
    match value {
        types::MetadataValueResult::Text(text) => Ok(short(text)?.into()),
        types::MetadataValueResult::Json(text) => {
            serde_json::from_str(&short(text)?).map_err(|error| invalid!("metadata is not JSON: {error}"))
        }
    }
}

/// Changes of a session. Whether the plugin may make them is for who asks: see [`SessionEdit::needs_grant`].
pub fn session_edits(edits: Vec<types::SessionEdit>) -> Result<Vec<SessionEdit>, Invalid> {
    check_count(edits.len(), "session edits")?;
    edits.into_iter().map(session_edit).collect()
}

fn session_edit(edit: types::SessionEdit) -> Result<SessionEdit, Invalid> {
    use types::SessionEdit as E;
    Ok(match edit {
        E::SetMetadata((name, value)) => SessionEdit::SetMetadata(short(name)?, metadata(value)?),
        E::RemoveMetadata(name) => SessionEdit::RemoveMetadata(name),
        E::AddTag(tag) => SessionEdit::AddTag(short(tag)?),
        E::RemoveTag(tag) => SessionEdit::RemoveTag(tag),
        E::SetAlias(alias) => SessionEdit::SetAlias(short(alias)?),
        E::SetRate(value) => SessionEdit::SetRate(rate(value)?),
        E::SetQuota(value) => SessionEdit::SetQuota(quota(value)),
        E::SetAccessRights(rights) => {
            check_count(rights.len(), "access rights")?;
            SessionEdit::SetAccessRights(rights.into_iter().map(access_right).collect::<Result<_, _>>()?)
        }
        E::SetPolicies(ids) => {
            check_count(ids.len(), "policies")?;
            SessionEdit::SetPolicies(ids)
        }
        E::SetExpires(seconds) => SessionEdit::SetExpires(seconds),
        E::SetInactive(inactive) => SessionEdit::SetInactive(inactive),
    })
}

fn session(session: types::SessionResult) -> Result<Session, Invalid> {
    check_count(session.metadata.len(), "metadata values")?;
    check_count(session.access_rights.len(), "access rights")?;
    check_count(session.tags.len(), "tags")?;
    check_count(session.policies.len(), "policies")?;
    // A store keeps JSON, which has no others.
    if !session.monitor_trigger_limits.iter().all(|limit| limit.is_finite()) {
        return Err(invalid!("a limit of the monitor is not a finite number"));
    }
    let metadata = session
        .metadata
        .into_iter()
        .map(|(name, value)| Ok((short(name)?, metadata(value)?)))
        .collect::<Result<_, _>>()?;
    Ok(Session {
        key_id: short(session.key_id)?,
        organisation: session.organisation,
        alias: short(session.alias)?,
        tags: session.tags,
        metadata,
        rate: rate(session.rate)?,
        quota: quota(session.quota),
        access_rights: session.access_rights.into_iter().map(access_right).collect::<Result<_, _>>()?,
        policies: session.policies,
        expires: session.expires,
        inactive: session.inactive,
        lifetime_seconds: session.lifetime_seconds,
        id_extractor_deadline: session.id_extractor_deadline,
        post_expiry_action: match session.post_expiry_action {
            types::PostExpiryAction::Retain => PostExpiryAction::Retain,
            types::PostExpiryAction::Delete => PostExpiryAction::Delete,
        },
        post_expiry_grace_period: session.post_expiry_grace_period,
        data_expires: session.data_expires,
        detailed_recording: session.detailed_recording,
        monitor_trigger_limits: session.monitor_trigger_limits,
        max_query_depth: session.max_query_depth,
        oauth_client_id: session.oauth_client_id,
        certificate: session.certificate,
        mtls_certificate_bindings: session.mtls_certificate_bindings,
        hmac_enabled: session.hmac_enabled,
        http_signature_validation: session.http_signature_validation,
        rsa_certificate_id: session.rsa_certificate_id,
        created_ms: session.created_ms,
        last_updated: session.last_updated,
        maker: String::new(),
        extra: session.extra,
    })
}

fn access_right(right: types::AccessRightResult) -> Result<AccessRight, Invalid> {
    Ok(AccessRight {
        api_id: right.api_id,
        api_name: right.api_name,
        versions: right.versions,
        allowed_urls: (right.allowed_urls.into_iter())
            .map(|allowed| AllowedUrl { url: allowed.url, methods: allowed.methods })
            .collect(),
        // Where it is kept, zeros are not told from nothing: the session's own counts, for the first request too.
        rate: right.rate.map(rate).transpose()?.filter(|rate| *rate != Rate::default()),
        quota: right.quota.map(quota).filter(|quota| *quota != Quota::default()),
        max_query_depth: right.max_query_depth.filter(|depth| *depth != 0),
        allowance_scope: right.allowance_scope,
        endpoints: (right.endpoints.into_iter())
            .map(|limit| Ok(EndpointLimit { path: limit.path, method: limit.method, rate: rate(limit.rate)? }))
            .collect::<Result<_, _>>()?,
        extra: right.extra,
    })
}

fn rate(value: types::Rate) -> Result<Rate, Invalid> {
    let trigger = value.smoothing.as_ref().map_or(0.0, |smoothing| smoothing.trigger);
    let numbers = [value.requests, value.per_seconds, value.throttle_interval, trigger];
    if !numbers.iter().all(|number| number.is_finite()) {
        return Err(invalid!("a rate is not a finite number"));
    }
    Ok(Rate {
        requests: value.requests,
        per_seconds: value.per_seconds,
        throttle_interval: value.throttle_interval,
        throttle_retries: value.throttle_retries,
        smoothing: value.smoothing.map(|smoothing| RateSmoothing {
            threshold: smoothing.threshold,
            trigger: smoothing.trigger,
            step: smoothing.step,
            delay_seconds: smoothing.delay_seconds,
        }),
    })
}

fn quota(value: types::Quota) -> Quota {
    Quota { max: value.max, remaining: value.remaining, renews: value.renews, renewal_rate: value.renewal_rate }
}

fn place(geo: types::GeoResult) -> Geo {
    Geo {
        country_iso_code: geo.country_iso_code,
        city_geoname_id: geo.city_geoname_id,
        city_names: geo.city_names,
        latitude: geo.latitude,
        longitude: geo.longitude,
        time_zone: geo.time_zone,
    }
}

/// The answer of `describe`. A capability that is not known is an error of its own kind, so names come first.
pub fn description(raw: hooks::description::PluginDescription) -> Result<Description, DescriptionInvalid> {
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
            hooks::description::MetricKind::Counter => MetricKind::Counter,
            hooks::description::MetricKind::Histogram => MetricKind::Histogram,
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

fn function(raw: hooks::description::Function) -> Result<Function, Invalid> {
    use hooks::description as d;
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

fn header_selection(raw: hooks::description::HeaderSelection) -> Result<HeaderSelection, Invalid> {
    use hooks::description::HeaderSelection as S;
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

fn short(text: String) -> Result<String, Invalid> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(invalid!("a text of {} bytes, more than {TEXT_BYTES_MAX}", text.len()));
    }
    Ok(text)
}

fn check_count(count: usize, what: &str) -> Result<(), Invalid> {
    if count > LIST_MAX { Err(invalid!("{count} {what}, more than {LIST_MAX}")) } else { Ok(()) }
}

const LIST_MAX: usize = 1_000;
const TEXT_BYTES_MAX: usize = 64 << 10;
const METHOD_BYTES_MAX: usize = 32;
const VAR_NAME_BYTES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 128;
const FUNCTIONS_MAX: usize = 256;
const METRICS_MAX: usize = 64;
const METRIC_NAME_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests;
