//! A guest's answer, checked: header syntax, forbidden names, sizes, counts, ranges, texts.
//!
//! Everything here is input from a stranger. What passes is of the gateway's own types, which cannot hold a bad value.

mod description;
mod session;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

pub use self::description::{DescriptionInvalid, description};
use self::session::session;
pub use self::session::session_edits;
use super::bindings::stile::plugin::{apis, types};
use super::hooks;
use crate::message::hop;
use crate::model::id::ApiId;
use crate::model::outgoing::{self, Destination, Site};
use crate::model::path;
use crate::model::plugin::{Capability, Limits};
use crate::model::record::{Geo, RecordEdit};
use crate::model::session::SessionEdit;
use crate::plugin::verdict::{
    ApiRequest, AuthVerdict, Edits, HeaderEdit, RecordVerdict, Refusal, Rejection, Reply, RequestEdit, ResponseEdit,
    UpstreamOverride, Verdict,
};

/// Why an answer is not valid: words for the log, with the guest's own text in them.
#[derive(Debug)]
pub struct Invalid(pub String);

macro_rules! invalid {
    ($($text:tt)*) => { Invalid(format!($($text)*)) };
}
use invalid;

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

#[cfg(test)]
mod tests;
