//! The ID extractor: finds in a request the ID whose session may be known already, and says until when it may be used.
//!
//! Pure. An ID that is missing, empty or there twice is an error and never one that callers share.

mod json;
mod xml;

use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::auth::credential::cookies;
use super::query;
use crate::model::extractor::{ExtractorSettings, IdSource, Reading};
use crate::model::id::{ApiId, PluginName};
use crate::model::key::KeyHash;

/// The extractor of one API, made when the API loads.
#[derive(Debug, Clone)]
pub struct Extractor {
    settings: ExtractorSettings,
}

/// What of a request an extractor may look at.
#[derive(Debug, Clone, Copy)]
pub struct Input<'r> {
    /// The header fields, cookies among them.
    pub headers: &'r HeaderMap,
    /// The query, without `?`.
    pub query: Option<&'r str>,
    /// The body, decoded; needed where [`Extractor::needs_body`] says so.
    pub body: Option<&'r [u8]>,
}

/// An ID of a caller: at least one byte that is no white space.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Id(Vec<u8>);

/// Why there is no ID. The caller learns only that it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// The header field, parameter, cookie or body is not there.
    #[error("the source of the id is not there")]
    Missing,
    /// It is there more than once, or what matches is: the plugin or the upstream might take another one.
    #[error("the id is there more than once")]
    Ambiguous,
    /// It is longer than `input_bytes_max`.
    #[error("the source of the id is too long")]
    TooLong,
    /// The body is not of the type `application/x-www-form-urlencoded`.
    #[error("the body is no form")]
    NotForm,
    /// The body is no XML document within bounds and without a document type.
    #[error("the source of the id is not XML")]
    NotXml,
    /// The body is no JSON document.
    #[error("the source of the id is not JSON")]
    NotJson,
    /// Nothing matches, or what matches is no text.
    #[error("no id matches")]
    NoMatch,
    /// It holds nothing but white space.
    #[error("the id is empty")]
    Empty,
}

/// When a session that the plugin gave is too old to be used without asking the plugin again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    ms: u64,
}

impl Extractor {
    /// Takes checked settings.
    pub const fn new(settings: ExtractorSettings) -> Self {
        Self { settings }
    }

    /// Its settings.
    pub const fn settings(&self) -> &ExtractorSettings {
        &self.settings
    }

    /// Whether the body must be read before [`Extractor::extract`]; at most `input_bytes_max` bytes of it are of use.
    pub const fn needs_body(&self) -> bool {
        self.settings.needs_body()
    }

    /// Finds the ID.
    ///
    /// # Errors
    /// See [`ExtractError`]. In no case is the plugin to be passed over then.
    pub fn extract(&self, input: Input<'_>) -> Result<Id, ExtractError> {
        let text = self.source(input)?;
        if text.len() > self.settings.input_bytes_max {
            return Err(ExtractError::TooLong);
        }
        let id = match self.settings.reading() {
            Reading::Value => text,
            Reading::Regex(pattern) => pattern.find(&text).ok_or(ExtractError::NoMatch)?.to_vec(),
            Reading::XPath(path) => xml::find(path, &text)?.into_bytes(),
            Reading::JsonPointer(pointer) => json::find(pointer, &text)?.into_bytes(),
        };
        if id.trim_ascii().is_empty() {
            return Err(ExtractError::Empty);
        }
        Ok(Id(id))
    }

    fn source(&self, input: Input<'_>) -> Result<Vec<u8>, ExtractError> {
        match self.settings.source() {
            IdSource::Header(name) => only(input.headers.get_all(name).iter().map(|value| value.as_bytes().to_vec())),
            IdSource::Query(name) => only(query::values(input.query, name)),
            IdSource::Cookie(name) => {
                let named = cookies(input.headers).filter(|(of, _)| *of == name.as_bytes());
                only(named.map(|(_, value)| value.to_vec()))
            }
            IdSource::Body => {
                input.body.filter(|body| !body.is_empty()).ok_or(ExtractError::Missing).map(<[u8]>::to_vec)
            }
            IdSource::Form(name) => {
                let body = input.body.ok_or(ExtractError::Missing)?;
                if body.len() > self.settings.input_bytes_max {
                    return Err(ExtractError::TooLong);
                }
                if !is_form(input.headers) {
                    return Err(ExtractError::NotForm);
                }
                let form = std::str::from_utf8(body).map_err(|_| ExtractError::NotForm)?;
                only(query::values(Some(form), name))
            }
        }
    }
}

impl Id {
    /// The bytes of the ID.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// An ID may be a credential: its text is not shown.
impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Id({} bytes)", self.0.len())
    }
}

/// The name under which the session of an ID is stored: the one place that makes it.
///
/// Tyk takes the organisation and the MD5 of the ID, as a token that a caller could send as well. This one is
/// [`KeyHash::of_extracted`]: no token has the same name, and neither has the ID at another API or organisation, or where
/// another plugin is asked.
pub fn session_key(organisation: &str, api: &ApiId, plugin: &PluginName, id: &[u8]) -> KeyHash {
    KeyHash::of_extracted(organisation, api, plugin, id)
}

impl Deadline {
    /// The deadline of a session (`id_extractor_deadline`): seconds since 1970, or milliseconds above 10^11, because the
    /// example of Tyk's documentation has such. `None` where it is zero or less: the plugin is asked each time.
    pub fn of(session_deadline: i64) -> Option<Self> {
        let number = u64::try_from(session_deadline).ok().filter(|number| *number > 0)?;
        Some(Self { ms: if number > SECONDS_MAX { number } else { number * 1_000 } })
    }

    /// No later than `max` after the plugin's answer. To be applied once, when that answer is stored: at each request it
    /// would move on for ever.
    #[must_use]
    pub fn capped(self, answered_ms: u64, max: Duration) -> Self {
        let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
        Self { ms: self.ms.min(answered_ms.saturating_add(max)) }
    }

    /// Whether the plugin must be asked again. In the very millisecond of the deadline it must.
    pub const fn is_over(self, now_ms: u64) -> bool {
        self.ms <= now_ms
    }

    /// In milliseconds since 1970.
    pub const fn ms(self) -> u64 {
        self.ms
    }

    /// As a session holds it: whole seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        i64::try_from(self.ms / 1_000).unwrap_or(i64::MAX)
    }
}

fn only(mut values: impl Iterator<Item = Vec<u8>>) -> Result<Vec<u8>, ExtractError> {
    let value = values.next().ok_or(ExtractError::Missing)?;
    if values.next().is_some() { Err(ExtractError::Ambiguous) } else { Ok(value) }
}

fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let essence = only.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// The year 5138 in seconds, 1973 in milliseconds.
const SECONDS_MAX: u64 = 100_000_000_000;

#[cfg(test)]
mod tests;
