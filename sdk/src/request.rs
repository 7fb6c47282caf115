//! The request that a function is handed, and what it changes of it.

use crate::{
    edits::Edit,
    fields::{Headers, Query, Vars},
    types::{self, Method, RequestEdit, Upstream},
};

/// A request on its way to the upstream.
///
/// What was not asked for in the function's attribute is not there. Changes are sent with the action that the function
/// returns; one that answers or rejects sends none.
#[derive(Debug)]
pub struct Request {
    /// The header fields named by `headers = […]`.
    pub headers: Headers,
    /// The query.
    pub query: Query,
    /// Values from earlier plugins and for later ones.
    pub vars: Vars,
    method: Changeable<Method>,
    path: Changeable<String>,
    body: Changeable<Option<Vec<u8>>>,
    upstream: Option<Upstream>,
}

impl Request {
    pub(crate) fn new(request: types::Request, vars: Vars) -> Self {
        Self {
            headers: Headers::new(request.headers),
            query: Query::new(request.query),
            vars,
            method: Changeable::new(request.method),
            path: Changeable::new(request.path),
            body: Changeable::new(request.body),
            upstream: None,
        }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method.value
    }

    /// Replaces the method.
    pub fn set_method(&mut self, method: Method) {
        self.method.set(method);
    }

    /// The path as the upstream will be asked for it, percent-encoded, beginning with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path.value
    }

    /// Replaces the path: percent-encoded, beginning with `/`, without query.
    pub fn set_path(&mut self, path: impl Into<String>) {
        self.path.set(path.into());
    }

    /// The whole body, content codings removed; `None` without `body = …`.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        self.body.value.as_deref()
    }

    /// The body as JSON. A function that does not read the body, or a request without one, has no JSON.
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

    /// Sends the request elsewhere than to the API's upstream: to another server, or to another API of the gateway that the
    /// operator lists, through whose hooks, authentication and limits it then goes. Needs the capability `upstream`.
    pub fn set_upstream(&mut self, upstream: Upstream) {
        self.upstream = Some(upstream);
    }

    pub(crate) fn into_edits(self) -> Vec<RequestEdit> {
        let mut edits = Vec::new();
        edits.extend(self.method.change().map(RequestEdit::SetMethod));
        edits.extend(self.path.change().map(RequestEdit::SetPath));
        let (raw, params) = self.query.into_parts();
        edits.extend(raw.map(RequestEdit::SetQuery));
        edits.extend(params.into_iter().map(|edit| match edit {
            Edit::Set(name, value) => RequestEdit::SetQueryParam((name, value)),
            Edit::Append(name, value) => RequestEdit::AppendQueryParam((name, value)),
            Edit::Remove(name) => RequestEdit::RemoveQueryParam(name),
        }));
        edits.extend(self.headers.edits.into_iter().map(|edit| match edit {
            Edit::Set(name, value) => RequestEdit::SetHeader((name, value)),
            Edit::Append(name, value) => RequestEdit::AppendHeader((name, value)),
            Edit::Remove(name) => RequestEdit::RemoveHeader(name),
        }));
        edits.extend(self.body.change().flatten().map(RequestEdit::SetBody));
        edits.extend(self.upstream.map(RequestEdit::SetUpstream));
        edits.extend(self.vars.edits.into_iter().map(|edit| match edit {
            Edit::Set(name, value) | Edit::Append(name, value) => RequestEdit::SetVar((name, value)),
            Edit::Remove(name) => RequestEdit::RemoveVar(name),
        }));
        edits
    }
}

/// A value, and whether the function replaced it.
#[derive(Debug)]
pub(crate) struct Changeable<T> {
    pub(crate) value: T,
    changed: bool,
}

impl<T> Changeable<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value, changed: false }
    }

    pub(crate) fn set(&mut self, value: T) {
        *self = Self { value, changed: true };
    }

    pub(crate) fn change(self) -> Option<T> {
        self.changed.then_some(self.value)
    }
}
