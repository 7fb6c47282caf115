//! Answers of the control port: JSON that always parses, and the one place of it that picks status codes.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::secret::NoRandom;
use crate::live::reload::NotNow;
use crate::store::{Cursor, StoreError};

/// An answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// Why a request for keys or policies was turned away. The texts are Tyk's where it has one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("Attempted administrative access with invalid or missing key!")]
    Secret,
    #[error("{0}")]
    NotFound(&'static str),
    #[error("Method not supported")]
    Method(&'static str),
    #[error("Request is too large")]
    TooLarge,
    #[error("Request did not come in time")]
    TooSlow,
    #[error("Request broke off")]
    Broken,
    #[error("Request malformed: {0}")]
    Malformed(String),
    #[error("{0}")]
    Invalid(String),
    #[error("Failed to create key, keys must have at least one Access Rights record set.")]
    NoRights,
    #[error("{0}")]
    Collides(&'static str),
    /// The body says what was not taken up.
    #[error("not everything was taken up")]
    NotTakenUp(Box<Value>),
    #[error(transparent)]
    NotNow(#[from] NotNow),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

impl Refusal {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Secret => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge | Self::Store(StoreError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken | Self::Malformed(_) | Self::Invalid(_) | Self::NoRights => StatusCode::BAD_REQUEST,
            Self::Collides(_) => StatusCode::CONFLICT,
            Self::NotTakenUp(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotNow(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(StoreError::Full(_)) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Store(error) if error.is_away() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) | Self::NoRandom(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(super) fn answer(&self) -> Answer {
        let body = match self {
            Self::NotTakenUp(body) => Value::clone(body),
            _ => json!({ "status": "error", "message": self.to_string() }),
        };
        let mut answer = json_answer(self.status(), &body);
        match self {
            Self::NotNow(_) => {
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Method(allowed) => {
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Self::Store(error) if error.is_away() => {
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        answer
    }
}

/// What was asked for.
pub(super) fn shown(value: &Value) -> Answer {
    json_answer(StatusCode::OK, value)
}

/// Part of a list. The header names the place where the next part begins, if there is one.
pub(super) fn listed(value: &Value, next: Option<&Cursor>) -> Answer {
    let mut answer = shown(value);
    if let Some(next) = next {
        let next = percent_encoding::utf8_percent_encode(next.as_str(), percent_encoding::NON_ALPHANUMERIC);
        if let Ok(next) = HeaderValue::try_from(next.to_string()) {
            answer.headers_mut().insert(NEXT, next);
        }
    }
    answer
}

/// A change that was made. `key` is the token or the policy's id; the hash is told of new keys.
pub(super) fn changed(action: &str, key: &str, hash: Option<&str>) -> Answer {
    let mut value = json!({ "key": key, "status": "ok", "action": action });
    if let (Some(hash), Some(fields)) = (hash, value.as_object_mut()) {
        fields.insert("key_hash".to_owned(), hash.into());
    }
    shown(&value)
}

pub(super) fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::from(body.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Where the next part of a list begins, ready to be put into `?cursor=`. Bodies of lists stay Tyk's.
const NEXT: HeaderName = HeaderName::from_static("x-stile-next");
