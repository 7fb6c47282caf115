//! What plugins are handed and what they decide, in the gateway's own types.
//!
//! A verdict is checked: whoever holds one need not ask again whether a header is a header.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::model::api::Origin;
use crate::model::id::ApiId;
use crate::model::outgoing::Reach;
use crate::model::record::RecordEdit;
use crate::model::session::{Session, SessionEdit};

/// Values that plugins of one request hand to later ones.
pub type Vars = Vec<(String, Bytes)>;

/// What every call is told about its request, from which a function's `reads` take their part.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// Whether the caller's connection is encrypted, as far as trusted proxies tell.
    pub is_https: bool,
    /// The caller's address.
    pub client: IpAddr,
    /// Names the request in logs.
    pub request_id: &'a str,
    /// Version of the API.
    pub api_version: &'a str,
    /// Operation id and path template of the endpoint that matched.
    pub endpoint: Option<(&'a str, &'a str)>,
    /// The host that the caller addressed, without port, in lower case.
    pub host: &'a str,
    /// What earlier plugins set.
    pub vars: &'a Vars,
    /// Our end of the caller's connection.
    pub local: SocketAddr,
    /// How many requests it comes from.
    pub depth: u32,
}

/// The request as plugins see it.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The canonical path, as the upstream will be asked for it.
    pub path: &'a str,
    /// The query without `?`.
    pub query: Option<&'a str>,
    /// Header fields.
    pub headers: &'a HeaderMap,
    /// The decoded body, where the function reads it.
    pub body: Option<&'a [u8]>,
}

/// The response as plugins see it.
#[derive(Debug, Clone, Copy)]
pub struct ResponseView<'a> {
    /// The status.
    pub status: StatusCode,
    /// Who made it.
    pub origin: Made,
    /// Header fields.
    pub headers: &'a HeaderMap,
    /// The decoded body, where the function reads it.
    pub body: Option<&'a [u8]>,
}

/// Who made a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// The upstream.
    Upstream,
    /// A plugin, with `respond`.
    Plugin,
    /// The gateway: an error, or a plugin's `reject`.
    Gateway,
}

/// The caller's credential, found where the definition says that it stands.
#[derive(Debug, Clone, Copy)]
pub struct CredentialView<'a> {
    /// Where it stood.
    pub place: CredentialPlace,
    /// The name of the header, parameter or cookie.
    pub name: &'a str,
    /// Its value.
    pub value: &'a [u8],
}

/// Where a credential stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialPlace {
    /// A header field.
    Header,
    /// A query parameter.
    Query,
    /// A cookie.
    Cookie,
}

/// What a request plugin decided.
#[derive(Debug)]
pub enum Verdict {
    /// Go on, nothing changed.
    Continue,
    /// Go on with changes.
    Edit(Edits),
    /// Answer with this.
    Respond(Reply),
    /// Refuse with this.
    Reject(Rejection),
}

/// What an `auth` plugin decided.
#[derive(Debug)]
pub enum AuthVerdict {
    /// It knows the caller.
    Authenticated {
        /// What the caller may do.
        session: Box<Session>,
        /// Changes of the request.
        edits: Vec<RequestEdit>,
    },
    /// It does not, for one of the reasons that the gateway words.
    Refuse(Refusal),
    /// Answer with this.
    Respond(Reply),
    /// Refuse with this.
    Reject(Rejection),
}

/// Why an `auth` plugin does not know the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no credential of its kind.
    CredentialMissing,
    /// The credential is not known.
    CredentialUnknown,
    /// It was good once.
    CredentialExpired,
    /// It is switched off.
    CredentialInactive,
}

/// Changes of a request and of its session.
#[derive(Debug, Default)]
pub struct Edits {
    /// In the order in which they apply.
    pub request: Vec<RequestEdit>,
    /// In the order in which they apply.
    pub session: Vec<SessionEdit>,
}

/// One change of a request, checked.
#[derive(Debug)]
pub enum RequestEdit {
    /// Sets the method.
    Method(Method),
    /// Sets the path, canonical.
    Path(String),
    /// Sets or removes the query.
    Query(Option<String>),
    /// Replaces every parameter of the name.
    SetQueryParam(String, String),
    /// Adds a parameter at the end.
    AppendQueryParam(String, String),
    /// Removes every parameter of the name.
    RemoveQueryParam(String),
    /// Changes a header field.
    Header(HeaderEdit),
    /// Replaces the body.
    Body(Bytes),
    /// Sends the request elsewhere.
    Upstream(UpstreamOverride),
    /// Sets a value for later plugins.
    SetVar(String, Bytes),
    /// Removes such a value.
    RemoveVar(String),
}

/// One change of header fields.
#[derive(Debug)]
pub enum HeaderEdit {
    /// Replaces every value of the name.
    Set(HeaderName, HeaderValue),
    /// Adds one.
    Append(HeaderName, HeaderValue),
    /// Takes all away.
    Remove(HeaderName),
}

impl HeaderEdit {
    /// Applies the change.
    pub fn apply(self, headers: &mut HeaderMap) {
        match self {
            Self::Set(name, value) => {
                headers.insert(name, value);
            }
            Self::Append(name, value) => {
                headers.append(name, value);
            }
            Self::Remove(name) => {
                headers.remove(name);
            }
        }
    }
}

/// Where a request goes instead of its API's upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamOverride {
    /// Another server, and which of its addresses may be connected to.
    Origin(Origin, Reach),
    /// Another API of the gateway.
    Api(ApiId),
}

/// A request that a plugin has for an API of the gateway.
#[derive(Debug)]
pub struct ApiRequest {
    /// The API.
    pub api: ApiId,
    /// The method.
    pub method: Method,
    /// Canonical, below the API's listen path.
    pub path: String,
    /// The query without `?`.
    pub query: Option<String>,
    /// Checked header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// An answer that a plugin made, or is given.
#[derive(Debug)]
pub struct Reply {
    /// 200 to 599.
    pub status: StatusCode,
    /// Checked header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A refusal that the gateway renders.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// 400 to 599.
    pub status: StatusCode,
    /// What the caller reads.
    pub message: String,
    /// Checked header fields to add.
    pub headers: HeaderMap,
}

/// One change of a response, checked.
#[derive(Debug)]
pub enum ResponseEdit {
    /// Sets the status.
    Status(StatusCode),
    /// Changes a header field.
    Header(HeaderEdit),
    /// Replaces the body.
    Body(Bytes),
    /// Sets a value for later plugins.
    SetVar(String, Bytes),
    /// Removes such a value.
    RemoveVar(String),
}

/// What an analytics plugin decided of one record.
#[derive(Debug)]
pub enum RecordVerdict {
    /// Store it as it is.
    Keep,
    /// Store it with changes.
    Edit(Vec<RecordEdit>),
    /// Do not store it.
    Drop,
}
