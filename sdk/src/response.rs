//! The response that a function is handed, and what it changes of it.

use crate::{
    edits::Edit,
    fields::{Headers, Vars},
    request::Changeable,
    types::{self, Origin, ResponseEdit},
};

/// A response on its way to the caller.
#[derive(Debug)]
pub struct Response {
    /// The header fields named by `headers = […]`.
    pub headers: Headers,
    /// Values from earlier plugins and for later ones.
    pub vars: Vars,
    origin: Origin,
    status: Changeable<u16>,
    body: Changeable<Option<Vec<u8>>>,
}

impl Response {
    pub(crate) fn new(response: types::Response, vars: Vars) -> Self {
        Self {
            headers: Headers::new(response.headers),
            vars,
            origin: response.origin,
            status: Changeable::new(response.status),
            body: Changeable::new(response.body),
        }
    }

    /// Who made it: the upstream, a plugin or the gateway.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status.value
    }

    /// Replaces the status code: 200 to 599.
    pub fn set_status(&mut self, status: u16) {
        self.status.set(status);
    }

    /// The whole body, content codings removed; `None` without `body = …`.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        self.body.value.as_deref()
    }

    /// The body as JSON. A function that does not read the body, or a response without one, has no JSON.
    ///
    /// # Errors
    /// The body is not the JSON that `T` wants.
    #[cfg(feature = "config")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.body().unwrap_or_default())
    }

    /// Replaces the body. The gateway puts length and coding right.
    pub fn set_body(&mut self, body: impl Into<Vec<u8>>) {
        self.body.set(Some(body.into()));
    }

    pub(crate) fn into_edits(self) -> Vec<ResponseEdit> {
        let mut edits = Vec::new();
        edits.extend(self.status.change().map(ResponseEdit::SetStatus));
        edits.extend(self.headers.edits.into_iter().map(|edit| match edit {
            Edit::Set(name, value) => ResponseEdit::SetHeader((name, value)),
            Edit::Append(name, value) => ResponseEdit::AppendHeader((name, value)),
            Edit::Remove(name) => ResponseEdit::RemoveHeader(name),
        }));
        edits.extend(self.body.change().flatten().map(ResponseEdit::SetBody));
        edits.extend(self.vars.edits.into_iter().map(|edit| match edit {
            Edit::Set(name, value) | Edit::Append(name, value) => ResponseEdit::SetVar((name, value)),
            Edit::Remove(name) => ResponseEdit::RemoveVar(name),
        }));
        edits
    }
}
