//! Requests to other servers. Capability `outgoing-http`.
//!
//! The operator lists where requests may go and limits them. They work in all hooks but `analytics`, and not in `init`.
//! Redirects are answers like any other; nobody follows them for you.
//!
//! ```no_run
//! # use stile_sdk::http;
//! # fn example() -> Result<(), http::Error> {
//! let reply = http::post("https://auth.example.com/introspect")
//!     .header("content-type", "application/x-www-form-urlencoded")
//!     .body("token=abc")
//!     .send()?;
//! assert_eq!(reply.status, 200);
//! # Ok(())
//! # }
//! ```
//!
//! Libraries over `wasi:http`, such as `waki` or `wstd`, work as well.

use std::time::Duration;

#[cfg(target_family = "wasm")]
mod wasi;

/// A request to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    /// The method.
    pub method: String,
    /// Scheme, host, path and query.
    pub url: String,
    /// Header fields.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long its answer may take; the operator's limits end it too.
    pub timeout: Option<Duration>,
}

/// An answer, read as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Header fields, with names in small letters.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The operator does not allow it: the place, the address behind its name, a header field, or where a secret may go.
    Denied,
    /// The URL is not one that can be sent to.
    UrlInvalid,
    /// A header field is none, or belongs to the connection.
    HeaderInvalid,
    /// It took too long.
    Timeout,
    /// Too much: bytes, or requests at one time.
    TooMuch,
    /// There was no answer, in the gateway's words.
    Failed(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Denied => "the request is not allowed",
            Self::UrlInvalid => "the URL is not valid",
            Self::HeaderInvalid => "a header field is not valid",
            Self::Timeout => "there was no answer in time",
            Self::TooMuch => "the request or its answer is over a limit",
            Self::Failed(reason) => reason,
        })
    }
}

impl std::error::Error for Error {}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

/// A request with `GET`.
pub fn get(url: impl Into<String>) -> Request {
    Request::new("GET", url)
}

/// A request with `POST`.
pub fn post(url: impl Into<String>) -> Request {
    Request::new("POST", url)
}

impl Request {
    /// A request.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        let (method, url) = (method.into(), url.into());
        Self { method, url, headers: Vec::new(), body: Vec::new(), timeout: None }
    }

    /// Adds a header field. A [placeholder](crate::secrets::placeholder) in its value becomes the secret on the way out.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets how long the answer may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends it and waits for the whole answer.
    ///
    /// # Errors
    /// There is none: see [`Error`].
    pub fn send(self) -> Result<Response, Error> {
        host::send(self)
    }

    /// The first value of a header field, as text.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }
}

impl Response {
    /// An answer, for tests.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// The first value of a header field, as text.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// The body from JSON.
    ///
    /// # Errors
    /// It is not JSON, or not of this type.
    #[cfg(feature = "config")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| error.to_string())
    }
}

pub(crate) fn text<'h>(headers: &'h [(String, Vec<u8>)], name: &str) -> Option<&'h str> {
    let (_, value) = headers.iter().find(|(of, _)| of.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}

#[cfg(not(target_family = "wasm"))]
use crate::testing::host::http as host;
#[cfg(target_family = "wasm")]
use wasi as host;
