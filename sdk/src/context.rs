//! What a call is about, beside the message itself.

use std::net::IpAddr;

use crate::{
    fields::Vars,
    types::{self, Api, MatchedEndpoint, Scheme, Variable},
};

/// What every call carries. The parts that cost something are there when `context = […]` asks for them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Context {
    /// Time of the call in milliseconds since 1970-01-01T00:00Z. Does not advance during a call.
    pub time_ms: u64,
    /// How the caller reached the gateway.
    pub scheme: Scheme,
    /// The address of the caller, after trusted proxies were taken into account.
    pub client_address: IpAddr,
    /// Names this request in the gateway's logs and in `x-request-id`. Asked for by `request_id`.
    pub request_id: Option<String>,
    /// Asked for by `api`.
    pub api: Option<Api>,
    /// Asked for by `endpoint`; `None` too when no endpoint of the definition matched.
    pub endpoint: Option<MatchedEndpoint>,
    /// The host that the caller addressed, without port, in lower case. Asked for by `host`.
    pub host: Option<String>,
    /// The API's context variables, from its definition. Asked for by `variables`.
    pub variables: Vec<Variable>,
}

impl Context {
    /// Vars change with the message, so they are kept with it.
    pub(crate) fn split(context: types::Context) -> (Self, Vars) {
        let types::Context { time_ms, scheme, client_address, request_id, api, endpoint, host, variables, .. } =
            context;
        let client_address = client_address.into();
        let own = Self { time_ms, scheme, client_address, request_id, api, endpoint, host, variables };
        (own, Vars::new(context.vars))
    }

    /// The API's context variable of this name.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&[u8]> {
        self.variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_slice())
    }
}

/// The parameters of the path template that an `#[endpoint]` function was reached by, decoded.
#[derive(Debug)]
pub struct PathParams(Vec<(String, String)>);

impl PathParams {
    pub(crate) fn new(params: Vec<(String, String)>) -> Self {
        Self(params)
    }

    /// The parameter of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Every parameter, in the order of the template.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
