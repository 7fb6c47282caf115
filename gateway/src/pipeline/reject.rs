//! Refusals, and the one place that turns them into responses.
//!
//! What a caller reads is chosen here and never holds a cause; causes go to the log.

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::extract::ExtractError;
use super::limits::{self, RateTold};
use super::policy::PolicyError;
use crate::message::body::{Body, BodyError};
use crate::model::id::PluginName;
use crate::model::path::PathInvalid;
use crate::model::plugin::{FailureKind, Hook};
use crate::plugin::failure::CallError;
use crate::plugin::verdict::{Refusal, Rejection};
use crate::store::StoreError;
use crate::upstream::UpstreamError;

/// Why a request was turned away. [`Reject::status`] is the only place that picks a status code.
#[derive(Debug, thiserror::Error)]
pub enum Reject {
    /// No API listens there.
    #[error("no API listens on this host and path")]
    NotFound,
    /// The path cannot be read in one way only.
    #[error(transparent)]
    PathInvalid(#[from] PathInvalid),
    /// The API has no good version.
    #[error("the API did not load")]
    Unavailable,
    /// The request names no version, and the API has no default.
    #[error("no version of the API is named")]
    VersionMissing,
    /// The API has no such version, or the request names more than one.
    #[error("version of the API is not known")]
    VersionUnknown,
    /// The version is not served any more.
    #[error("version of the API has expired")]
    VersionExpired,
    /// The request's body cannot be had whole.
    #[error("request body: {0}")]
    RequestBody(#[source] BodyError),
    /// The request's body is coded in a way that the plugin cannot be handed.
    #[error("request body: content coding is not known")]
    RequestCoding,
    /// The answer's body cannot be had whole.
    #[error("response body: {0}")]
    ResponseBody(#[source] BodyError),
    /// The answer's body is coded in a way that the plugin cannot be handed.
    #[error("response body: content coding is not known")]
    ResponseCoding,
    /// There is no credential where the API wants one.
    #[error("no credential")]
    CredentialMissing,
    /// The credential is not known.
    #[error("credential is not known")]
    CredentialUnknown,
    /// The key is of another organisation than the API.
    #[error("key is of another organisation than the API")]
    OtherOrganisation,
    /// It was good once.
    #[error("session has expired")]
    SessionExpired,
    /// It is switched off.
    #[error("session is inactive")]
    SessionInactive,
    /// There is no ID where the API's extractor looks for one.
    #[error("id: {0}")]
    NoId(#[source] ExtractError),
    /// Too many requests wait to learn who calls.
    #[error("too many requests wait for the answer of a plugin")]
    Busy,
    /// A plugin knows the caller, but names nothing that the session could be kept under.
    #[error("session has no key")]
    Forbidden,
    /// The session has a value that cannot be used.
    #[error("session is not valid: {0}")]
    SessionInvalid(&'static str),
    /// The session has no right to the API.
    #[error("session has no right to the API")]
    ApiForbidden,
    /// The session has no right to method and path.
    #[error("session has no right to the resource")]
    ResourceForbidden,
    /// The session's policies cannot be applied.
    #[error("policies: {0}")]
    Policy(#[source] PolicyError),
    /// Too many requests in a period.
    #[error("rate limit of {} requests is exceeded", .rate.limit)]
    RateLimited {
        /// Whether it is the API's own rate, of all callers.
        of_api: bool,
        /// The rate; another try is worth it when it resets.
        rate: RateTold,
    },
    /// The quota is used up.
    #[error("quota is exceeded")]
    QuotaExceeded {
        /// When it renews, in milliseconds since 1970.
        renews_ms: Option<u64>,
    },
    /// The store gave no answer.
    #[error("store: {0}")]
    Store(#[source] StoreError),
    /// A plugin rejected the request.
    #[error("rejected by a plugin")]
    ByPlugin(Box<Rejection>),
    /// A plugin failed.
    #[error("plugin `{plugin}` failed in `{hook}`: {source}")]
    Plugin {
        /// The plugin.
        plugin: PluginName,
        /// Where.
        hook: Hook,
        /// How.
        source: CallError,
    },
    /// The upstream gave no answer.
    #[error("upstream: {0}")]
    Upstream(#[source] UpstreamError),
    /// What plugins made of the request cannot be sent.
    #[error("request cannot be sent: {0}")]
    RequestInvalid(&'static str),
    /// It would come from more requests than it may.
    #[error("request came through more APIs than `runtime.api_depth_max`")]
    TooDeep,
    /// The time of the whole request is over.
    #[error("request took longer than `request_timeout_ms`")]
    Timeout,
}

impl From<Refusal> for Reject {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::CredentialMissing => Self::CredentialMissing,
            Refusal::CredentialUnknown => Self::CredentialUnknown,
            Refusal::CredentialExpired => Self::SessionExpired,
            Refusal::CredentialInactive => Self::SessionInactive,
        }
    }
}

impl Reject {
    /// Why an `auth` plugin does not know a caller, where that is what this says.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::CredentialMissing => Some(Refusal::CredentialMissing),
            Self::CredentialUnknown => Some(Refusal::CredentialUnknown),
            Self::SessionExpired => Some(Refusal::CredentialExpired),
            Self::SessionInactive => Some(Refusal::CredentialInactive),
            _ => None,
        }
    }

    /// The status of the answer. Where Tyk has one for the case, it is Tyk's.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::VersionUnknown => StatusCode::NOT_FOUND,
            Self::PathInvalid(_) => StatusCode::BAD_REQUEST,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::RequestBody(error) => match error {
                BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                BodyError::Timeout => StatusCode::REQUEST_TIMEOUT,
                BodyError::Connection(_) | BodyError::Coding { .. } | BodyError::BrokenOff => StatusCode::BAD_REQUEST,
            },
            Self::RequestCoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ResponseBody(BodyError::Timeout) | Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::ResponseBody(_) | Self::ResponseCoding => StatusCode::BAD_GATEWAY,
            Self::CredentialMissing | Self::SessionExpired => StatusCode::UNAUTHORIZED,
            Self::VersionMissing
            | Self::VersionExpired
            | Self::CredentialUnknown
            | Self::OtherOrganisation
            | Self::SessionInactive
            | Self::Forbidden
            | Self::ApiForbidden
            | Self::ResourceForbidden
            | Self::SessionInvalid(_)
            | Self::Policy(_)
            // As in Tyk, where a rate is 429.
            | Self::QuotaExceeded { .. } => StatusCode::FORBIDDEN,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Store(_) | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoId(_) => StatusCode::BAD_REQUEST,
            Self::ByPlugin(rejection) => rejection.status,
            Self::Plugin { source, hook, .. } => match source.kind {
                FailureKind::Busy | FailureKind::Load => StatusCode::SERVICE_UNAVAILABLE,
                _ if *hook == Hook::Auth => StatusCode::FORBIDDEN,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Upstream(error) => match error {
                UpstreamError::RequestBody(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
                UpstreamError::RequestBody(BodyError::Timeout) => StatusCode::REQUEST_TIMEOUT,
                UpstreamError::RequestBody(_) => StatusCode::BAD_REQUEST,
                UpstreamError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
                UpstreamError::ConnectTimeout | UpstreamError::ReplyTimeout => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::BAD_GATEWAY,
            },
            Self::RequestInvalid(_) | Self::TooDeep => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The label of the metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::PathInvalid(_) => "path_invalid",
            Self::Unavailable => "unavailable",
            Self::VersionMissing => "version_missing",
            Self::VersionUnknown => "version_unknown",
            Self::VersionExpired => "version_expired",
            Self::RequestBody(BodyError::TooLarge { .. }) => "request_too_large",
            Self::RequestBody(_) => "request_body",
            Self::RequestCoding => "request_coding",
            Self::ResponseBody(BodyError::TooLarge { .. }) => "response_too_large",
            Self::ResponseBody(_) => "response_body",
            Self::ResponseCoding => "response_coding",
            Self::CredentialMissing => "credential_missing",
            Self::CredentialUnknown => "credential_unknown",
            Self::OtherOrganisation => "other_organisation",
            Self::SessionExpired => "session_expired",
            Self::SessionInactive => "session_inactive",
            Self::NoId(_) => "no_id",
            Self::Busy => "busy",
            Self::Forbidden => "session_without_key",
            Self::SessionInvalid(_) => "session_invalid",
            Self::Policy(_) => "policy",
            Self::ApiForbidden => "api_forbidden",
            Self::ResourceForbidden => "resource_forbidden",
            Self::RateLimited { of_api: false, .. } => "rate",
            Self::RateLimited { of_api: true, .. } => "api_rate",
            Self::QuotaExceeded { .. } => "quota",
            Self::Store(_) => "store",
            Self::ByPlugin(_) => "by_plugin",
            Self::Plugin { .. } => "plugin_failure",
            Self::Upstream(_) => "upstream",
            Self::RequestInvalid(_) => "request_invalid",
            Self::TooDeep => "too_deep",
            Self::Timeout => "timeout",
        }
    }

    /// What the caller reads.
    fn public_message(&self) -> &str {
        match self {
            Self::NotFound => "Not found",
            Self::PathInvalid(_) => "Path is not valid",
            Self::Unavailable => "Service unavailable",
            Self::VersionMissing => "Version information not found",
            Self::VersionUnknown => "This API version does not seem to exist",
            Self::VersionExpired => "Api Version has expired, please check documentation or contact administrator",
            Self::RequestBody(BodyError::TooLarge { .. })
            | Self::Upstream(UpstreamError::RequestBody(BodyError::TooLarge { .. })) => "Request is too large",
            Self::RequestBody(BodyError::Timeout) | Self::Upstream(UpstreamError::RequestBody(BodyError::Timeout)) => {
                "Request took too long"
            }
            Self::RequestBody(_) | Self::Upstream(UpstreamError::RequestBody(_)) => "Request body is not valid",
            Self::RequestCoding => "Content coding is not supported",
            Self::ResponseBody(_) | Self::ResponseCoding => "Upstream's answer is not usable",
            Self::CredentialMissing | Self::NoId(_) => "Authorization field missing",
            Self::CredentialUnknown | Self::OtherOrganisation => "Access to this API has been disallowed",
            Self::SessionExpired => "Key has expired, please renew",
            Self::SessionInactive => "Key is inactive, please renew",
            Self::Forbidden | Self::SessionInvalid(_) | Self::Policy(_) => "Forbidden",
            Self::ApiForbidden => "Access to this API has been disallowed",
            Self::ResourceForbidden => "Access to this resource has been disallowed",
            Self::RateLimited { of_api: false, .. } => "Rate Limit Exceeded",
            Self::RateLimited { of_api: true, .. } => "API Rate Limit Exceeded",
            Self::QuotaExceeded { .. } => "Quota exceeded",
            Self::Store(_) | Self::Busy => "Service unavailable",
            // Tyk's words where the plugin has none.
            Self::ByPlugin(rejection) if rejection.message.is_empty() => "Key not authorised",
            Self::ByPlugin(rejection) => &rejection.message,
            Self::Plugin { source, hook, .. } => match source.kind {
                FailureKind::Busy | FailureKind::Load => "Service unavailable",
                _ if *hook == Hook::Auth => "Key not authorised",
                _ => "Middleware error",
            },
            Self::Upstream(UpstreamError::Busy { .. }) => "Service unavailable",
            Self::Upstream(UpstreamError::ConnectTimeout | UpstreamError::ReplyTimeout) | Self::Timeout => {
                "Upstream service took too long"
            }
            Self::Upstream(_) => "There was a problem proxying the request",
            Self::RequestInvalid(_) => "Middleware error",
            // Tyk's words.
            Self::TooDeep => "Loop level too deep",
        }
    }

    /// The response.
    pub fn respond(&self, format: ErrorFormat) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = self.status();
        let (content_type, text) = match format {
            ErrorFormat::Xml => ("application/xml", xml(self.public_message())),
            ErrorFormat::Json => ("application/json", json(self.public_message())),
        };
        let headers = response.headers_mut();
        match self {
            Self::ByPlugin(rejection) => headers.clone_from(&rejection.headers),
            Self::CredentialMissing | Self::SessionExpired => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::RateLimited { rate, .. } => {
                headers.insert(RETRY_AFTER, limits::seconds(rate.reset).max(1).into());
                rate.write(headers);
            }
            _ if response_is_worth_another_try(self) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        *response.body_mut() = Body::full(text);
        response
    }
}

fn response_is_worth_another_try(reject: &Reject) -> bool {
    reject.status() == StatusCode::SERVICE_UNAVAILABLE
}

/// In what shape a refusal is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorFormat {
    /// An object with `error`.
    Json,
    /// An element `error`.
    Xml,
}

impl ErrorFormat {
    /// Tyk's choice: by the content type of the request.
    pub fn of(request_headers: &HeaderMap) -> Self {
        let Some(value) = request_headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
            return Self::Json;
        };
        let media_type = value.split(';').next().unwrap_or("").trim();
        let is_xml = |xml: &&str| media_type.eq_ignore_ascii_case(xml);
        if ["application/xml", "text/xml", "application/soap+xml"].iter().any(is_xml) { Self::Xml } else { Self::Json }
    }
}

/// Tyk's template, with a message that is always valid JSON.
fn json(message: &str) -> String {
    format!("{{\n    \"error\": {}\n}}", serde_json::Value::from(message))
}

fn xml(message: &str) -> String {
    let mut escaped = String::with_capacity(message.len());
    for character in message.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // XML 1.0 has no other control characters, escaped or not.
            '\t' | '\n' | '\r' | '\u{20}'.. => escaped.push(character),
            _ => escaped.push('\u{fffd}'),
        }
    }
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>{escaped}</error>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(message: &str) -> Reject {
        let (status, headers) = (StatusCode::IM_A_TEAPOT, HeaderMap::new());
        Reject::ByPlugin(Box::new(Rejection { status, message: message.to_owned(), headers }))
    }

    #[track_caller]
    fn check(message: &str, content_type: &'static str, expected: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let Body::Full(body) = rejection(message).respond(ErrorFormat::of(&headers)).into_body() else {
            panic!("no body")
        };
        assert_eq!(body, expected);
    }

    #[test]
    fn a_refusal_is_rendered_by_the_content_type_of_the_request() {
        check("it's \"x\"", "text/plain", "{\n    \"error\": \"it's \\\"x\\\"\"\n}");
        check("a<b", "application/xml", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>a&lt;b</error>");
        check("a", "Text/XML; charset=utf-8", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>a</error>");
    }
}
