//! Calls to APIs of the gateway. Capability `apis`.
//!
//! The operator lists the APIs. A call is a request like any other: it goes through the hooks, authentication, rights and
//! limits of its API, and carries the credential that you put into it, or none. Calls work in all hooks but `analytics`, and
//! not in `init`.
//!
//! ```no_run
//! # use stile_sdk::apis;
//! # fn example(token: &str) -> Result<(), apis::Error> {
//! let user = apis::get("users", "/7?fields=name").header("authorization", token).send()?;
//! assert_eq!(user.status, 200);
//!
//! // Two at the same time.
//! let [user, orders] = apis::all([apis::get("users", "/7"), apis::get("orders", "/?customer=7")]);
//! # Ok(())
//! # }
//! ```
//!
//! An answer is whatever its caller would get, refusals of the gateway too; an [`Error`] is that there is none.

use std::time::Duration;

use crate::types::Method;

pub use crate::bindings::base::stile::plugin::apis::Error;
pub use crate::http::Response;

/// A request to an API of the gateway.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    /// The id of the API.
    pub api: String,
    /// The method.
    pub method: Method,
    /// The path below the API's listen path, percent-encoded, beginning with `/`, and the query after a `?`.
    pub path: String,
    /// Header fields.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long its answer may take; the operator's limits end it too.
    pub timeout: Option<Duration>,
}

/// A request with `GET`.
pub fn get(api: impl Into<String>, path: impl Into<String>) -> Request {
    Request::new(Method::Get, api, path)
}

/// A request with `POST`.
pub fn post(api: impl Into<String>, path: impl Into<String>) -> Request {
    Request::new(Method::Post, api, path)
}

/// Sends requests at the same time, and waits for all answers.
pub fn all<const N: usize>(requests: [Request; N]) -> [Result<Response, Error>; N] {
    let mut answers = all_of(requests).into_iter();
    std::array::from_fn(|_| answers.next().unwrap_or(Err(Error::BrokenOff)))
}

/// Like [`all`], where it is not known beforehand how many they are.
pub fn all_of(requests: impl IntoIterator<Item = Request>) -> Vec<Result<Response, Error>> {
    host::call_all(requests.into_iter().collect())
}

impl Request {
    /// A request.
    pub fn new(method: Method, api: impl Into<String>, path: impl Into<String>) -> Self {
        let (api, path) = (api.into(), path.into());
        Self { api, method, path, headers: Vec::new(), body: Vec::new(), timeout: None }
    }

    /// Adds a header field.
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
        host::call(self)
    }

    /// The first value of a header field, as text.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        crate::http::text(&self.headers, name)
    }
}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(reason) => reason,
            Error::Denied => "the API may not be called".to_owned(),
            Error::NotFound => "the API is not there".to_owned(),
            Error::TooLarge => "the request or its answer is over a limit".to_owned(),
            Error::TooDeep => "calls of calls are too deep".to_owned(),
            Error::Busy => "too many calls are on their way".to_owned(),
            Error::Timeout => "there was no answer in time".to_owned(),
            Error::BrokenOff => "the answer broke off".to_owned(),
        }
    }
}

#[cfg(target_family = "wasm")]
mod gateway {
    use super::{Error, Request, Response};
    use crate::bindings::base::stile::plugin::apis::{self, Outgoing};
    use crate::types::Reply;

    pub(super) fn call(request: Request) -> Result<Response, Error> {
        apis::call(&Outgoing::from(request)).map(Response::from)
    }

    pub(super) fn call_all(requests: Vec<Request>) -> Vec<Result<Response, Error>> {
        let requests: Vec<Outgoing> = requests.into_iter().map(Outgoing::from).collect();
        apis::call_all(&requests).into_iter().map(|answer| answer.map(Response::from)).collect()
    }

    impl From<Request> for Outgoing {
        fn from(request: Request) -> Self {
            let Request { api, method, path, headers, body, timeout } = request;
            let headers = headers.into_iter().map(|(name, value)| (crate::fields::lower(name), value)).collect();
            let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
            Self { api_id: api, method, path, headers, body, timeout_ms }
        }
    }

    impl From<Reply> for Response {
        fn from(reply: Reply) -> Self {
            let Reply { status, headers, body } = reply;
            Self { status, headers, body }
        }
    }
}

#[cfg(not(target_family = "wasm"))]
use crate::testing::host::apis as host;
#[cfg(target_family = "wasm")]
use gateway as host;
