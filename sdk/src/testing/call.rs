//! A request on its way through the gateway.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    fields::lower,
    testing::host,
    types::{
        AnalyticsRecord, Api, Context, Credential, CredentialSource, Header, MatchedEndpoint, Method, Request, Scheme,
        Session, Upstream, Variable,
    },
};

/// A request on its way through the gateway, with all that functions may ask for.
///
/// Made by [`get`](Call::get), [`post`](Call::post) or [`new`](Call::new), filled by the methods that return it, and read
/// by the others.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of a request and its context")]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub query: Option<String>,
    pub headers: Vec<Header>,
    pub body: Vec<u8>,
    pub client_address: IpAddr,
    pub host: String,
    pub api: Api,
    pub endpoint: Option<MatchedEndpoint>,
    pub variables: Vec<Variable>,
    pub vars: Vec<Variable>,
    pub path_params: Vec<(String, String)>,
    pub credential: Option<Credential>,
    pub session: Option<Session>,
    pub upstream: Option<Upstream>,
}

impl Call {
    /// A request; `target` is its path, with a query or without.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Self {
            method: method.into(),
            path: path.to_owned(),
            query,
            headers: Vec::new(),
            body: Vec::new(),
            client_address: Ipv4Addr::LOCALHOST.into(),
            host: "gateway.example".to_owned(),
            api: Api {
                id: "api".to_owned(),
                name: "API".to_owned(),
                version: String::new(),
                organisation: "organisation".to_owned(),
                listen_path: "/".to_owned(),
            },
            endpoint: None,
            variables: Vec::new(),
            vars: Vec::new(),
            path_params: Vec::new(),
            credential: None,
            session: None,
            upstream: None,
        }
    }

    /// A `GET` request.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A `POST` request.
    #[must_use]
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target).with_body(body)
    }

    /// With a header field more.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((lower(name), value.into()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// From this address.
    ///
    /// # Panics
    /// It is no address.
    #[must_use]
    #[track_caller]
    pub fn from_address(mut self, address: &str) -> Self {
        self.client_address = address.parse().expect("the test names an address");
        self
    }

    /// With this var, as if an earlier plugin had set it.
    #[must_use]
    pub fn with_var(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.vars.push((name.to_owned(), value.into()));
        self
    }

    /// With this context variable of the API.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// With this parameter of the path template.
    #[must_use]
    pub fn with_path_param(mut self, name: &str, value: &str) -> Self {
        self.path_params.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this credential, as found in a header.
    #[must_use]
    pub fn with_credential(mut self, header: &str, value: impl Into<Vec<u8>>) -> Self {
        let value = value.into();
        self.credential = Some(Credential { source: CredentialSource::Header, name: lower(header), value });
        self
    }

    /// With this session.
    #[must_use]
    pub fn with_session(mut self, session: Session) -> Self {
        self.session = Some(session);
        self
    }

    /// The first value of a header, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        values.next().and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The value of a var, if it is UTF-8.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        let mut values = self.vars.iter().filter(|(found, _)| found == name);
        values.next().and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The body, if it is UTF-8.
    #[must_use]
    pub fn body(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }

    pub(super) fn context(&self) -> Context {
        Context {
            time_ms: host::with(|state| state.time_ms),
            scheme: Scheme::Https,
            client_address: self.client_address.into(),
            request_id: Some("request".to_owned()),
            api: Some(self.api.clone()),
            endpoint: self.endpoint.clone(),
            host: Some(self.host.clone()),
            variables: self.variables.clone(),
            vars: self.vars.clone(),
            extra: Vec::new(),
        }
    }

    pub(super) fn request(&self) -> Request {
        Request {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: Some(self.body.clone()),
            extra: Vec::new(),
        }
    }
}

/// An analytics record of a request, to be changed by the test: `AnalyticsRecord { query: …, ..record() }`.
#[must_use]
pub fn record() -> AnalyticsRecord {
    let call = Call::get("/orders");
    AnalyticsRecord {
        request_id: "request".to_owned(),
        method: call.method.as_str().to_owned(),
        host: call.host,
        path: call.path.clone(),
        raw_path: call.path.clone(),
        original_path: call.path,
        listen_path: call.api.listen_path,
        query: String::new(),
        content_length: 0,
        user_agent: "test".to_owned(),
        response_code: 200,
        api_key: String::new(),
        timestamp_ms: host::with(|state| state.time_ms),
        api_version: call.api.version,
        api_name: call.api.name,
        api_id: call.api.id,
        organisation: call.api.organisation,
        oauth_id: String::new(),
        request_time_ms: 0,
        latency_total_ms: 0,
        latency_upstream_ms: 0,
        latency_gateway_ms: 0,
        ip_address: call.client_address.to_string(),
        geo: None,
        open_connections: 0,
        closed_connections: 0,
        bytes_in: 0,
        bytes_out: 0,
        tags: Vec::new(),
        alias: String::new(),
        track_path: false,
        expires_ms: 0,
        request: None,
        response: None,
        extra: Vec::new(),
    }
}
