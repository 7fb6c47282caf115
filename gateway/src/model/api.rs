//! One API as its definition says: where it listens, where it sends, which plugins it uses.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::extractor::ExtractorSettings;
use super::id::{ApiId, PluginName};
use super::limit::{Algorithm, RateLimit};
use super::path::{ListenPath, PathTemplate};
use super::plugin::{Hook, OnFailure};
use super::version::Versions;

/// One API definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Api {
    /// Its id: unique in the gateway, the label of its metrics.
    pub id: ApiId,
    /// Its name, for people.
    pub name: String,
    /// The organisation that it belongs to.
    pub organisation: String,
    /// Where it listens below the gateway's addresses.
    pub listen: Listen,
    /// Which versions it has; `None` where it has none.
    pub versions: Option<Versions>,
    /// Where it sends requests.
    pub upstream: Upstream,
    /// Which plugins it uses, and where.
    pub hooks: Hooks,
    /// How callers authenticate.
    pub auth: Auth,
    /// How many requests it takes, of all callers and of each.
    pub rates: Rates,
    /// Context variables handed to plugins.
    pub variables: Vec<(String, String)>,
    /// The largest request body; longer ones end with 413.
    pub request_body_bytes_max: u64,
    /// How long a whole request may take, from its first byte to the last of the answer.
    pub request_timeout: Duration,
    /// What is recorded of its requests.
    pub analytics: Analytics,
}

/// Where an API listens.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    /// The beginning of the paths that are its own. The longest one of all APIs wins.
    pub path: ListenPath,
    /// Hosts that it answers to, in lower case without port, `*.` in front for any one label; empty for every host.
    pub hosts: Vec<String>,
    /// Whether the listen path is taken off before the upstream.
    pub strip: bool,
}

/// Where an API sends requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// The target.
    pub origin: Origin,
    /// Put before every path, without a slash at its end; empty where the URL has no path.
    pub base_path: String,
    /// The protocol spoken.
    pub protocol: UpstreamProtocol,
    /// How its certificate is checked.
    pub tls: UpstreamTls,
    /// Whether the caller's `Host` is passed on instead of the target's.
    pub preserve_host: bool,
    /// Time to connect, TLS handshake included.
    pub connect_timeout: Duration,
    /// Time from the request's last byte to the answer's head.
    pub reply_timeout: Duration,
    /// The longest pause within the answer's body.
    pub idle_timeout: Duration,
    /// Idle connections kept, over all cores.
    pub idle_connections_max: usize,
    /// How long an idle connection is kept.
    pub idle_connection_timeout: Duration,
    /// Connections at one time, over all cores; above it the API answers 503.
    pub connections_max: usize,
}

/// Scheme, host and port of a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A DNS name or an address, without brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// The protocol spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum UpstreamProtocol {
    /// HTTP/2 where TLS negotiates it, HTTP/1.1 otherwise. Requests with trailers to come (gRPC) work over both.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, in cleartext with prior knowledge.
    Http2,
}

/// How an upstream's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct UpstreamTls {
    /// A PEM file with certificate authorities; the system's roots where there is none.
    pub ca_file: Option<PathBuf>,
    /// The name to check, where it is not the target's host.
    pub server_name: Option<String>,
}

/// How callers authenticate.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Auth {
    /// Nobody is asked.
    #[default]
    Keyless,
    /// With a credential.
    Keyed(Box<Keyed>),
}

/// How the callers of an API with keys authenticate.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyed {
    /// Who knows them.
    pub by: AuthBy,
    /// Where callers put their credential.
    pub credential: CredentialSource,
    /// Whether the credential is taken off before the upstream.
    pub strip_credential: bool,
    /// Finds callers' IDs, so that the plugin is not asked while the session that it made is good.
    pub extractor: Option<ExtractorSettings>,
    /// The policies that a session of the plugin may name.
    pub policies: PolicyGrant,
    /// How long a session that a plugin made is kept, where it does not say itself; zero keeps it until it is deleted.
    pub session_lifetime: Duration,
    /// Sessions that the plugin made; for one more, the one that would end first leaves.
    pub sessions_max: usize,
    /// Counters of their rates and quotas in this process.
    pub counters_max: usize,
    /// How long what they used of a quota that never renews is remembered; zero for ever.
    pub quota_life: Duration,
}

/// The policies that a plugin may put a session under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyGrant {
    /// Any of them.
    All,
    /// These; none where the list is empty.
    Only(Vec<String>),
}

impl PolicyGrant {
    /// Whether a policy may be named.
    pub fn has(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.iter().any(|of| of == id),
        }
    }
}

/// Who knows a caller.
#[derive(Debug, Clone, PartialEq)]
pub enum AuthBy {
    /// The store: the credential is the token of a session there.
    Token,
    /// A plugin.
    Plugin(HookUse),
    /// Both.
    Both {
        /// The plugin.
        plugin: HookUse,
        /// Whether both must know the caller.
        require: Require,
        /// Whose session it is where both know the caller.
        session_from: Provider,
    },
}

/// How many of several ways to authenticate must succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Require {
    /// All of them.
    #[default]
    All,
    /// The first that does; the built-in one is asked first.
    Any,
}

/// Who provides the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provider {
    /// The session of the token.
    #[default]
    Token,
    /// The plugin.
    Plugin,
}

impl AuthBy {
    /// The plugin, where one is asked.
    pub fn plugin(&self) -> Option<&HookUse> {
        match self {
            Self::Token => None,
            Self::Plugin(plugin) | Self::Both { plugin, .. } => Some(plugin),
        }
    }
}

/// How rates of an API are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// What the API takes of all callers together.
    pub api: Option<RateLimit>,
    /// How this and the callers' own rates are counted.
    pub algorithm: Algorithm,
    /// What answers say of limits.
    pub headers: RateHeaders,
}

/// What the fields `X-RateLimit-*` of an answer tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RateHeaders {
    /// The quota, on answers of the upstream.
    #[default]
    Quota,
    /// The rate, on every answer.
    Rate,
    /// Nothing; there is no standard `RateLimit` field either.
    Off,
}

/// Where callers put their credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// A header field, in lower case.
    Header(http::HeaderName),
    /// A query parameter.
    Query(String),
    /// A cookie.
    Cookie(String),
}

/// Which plugins an API uses. `auth` stands in [`Auth`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hooks {
    /// In the order in which they run.
    pub pre: Vec<HookUse>,
    /// In the order in which they run.
    pub post_auth: Vec<HookUse>,
    /// In the order in which they run, each only where it matches.
    pub endpoint: Vec<EndpointUse>,
    /// In the order in which they run.
    pub post: Vec<HookUse>,
    /// In the order in which they run.
    pub response: Vec<ResponseUse>,
    /// In the order in which they run.
    pub analytics: Vec<HookUse>,
}

/// One function of one plugin at one hook.
#[derive(Debug, Clone, PartialEq)]
pub struct HookUse {
    /// The plugin, as the configuration names it.
    pub plugin: PluginName,
    /// The function; `None` takes the only one that the plugin has for this hook.
    pub function: Option<String>,
    /// The configuration of this use, as JSON.
    pub config: serde_json::Value,
    /// What a failure means.
    pub on_failure: OnFailure,
}

/// A use at one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointUse {
    /// The plugin's function.
    pub hook: HookUse,
    /// The method; `None` matches all.
    pub method: Option<http::Method>,
    /// The path below the listen path.
    pub path: PathTemplate,
    /// The operation id, for `context.endpoint`.
    pub operation_id: String,
}

/// A use on the way back.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseUse {
    /// The plugin's function.
    pub hook: HookUse,
    /// Which answers it sees.
    pub answers: Answers,
}

/// Which answers a response hook sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answers {
    /// The upstream's, the plugins' and the gateway's.
    #[default]
    All,
    /// The upstream's only.
    Upstream,
}

/// What is recorded of an API's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Analytics {
    /// Whether requests are recorded at all.
    pub enabled: bool,
    /// Whether headers and bodies are recorded.
    pub detailed: bool,
    /// The longest recorded body; longer ones are cut.
    pub body_bytes_max: usize,
}

impl Api {
    /// Every use of a plugin with its hook, in the order in which a request meets them.
    pub fn uses(&self) -> impl Iterator<Item = (Hook, &HookUse)> {
        let auth = match &self.auth {
            Auth::Keyless => None,
            Auth::Keyed(keyed) => keyed.by.plugin().map(|hook| (Hook::Auth, hook)),
        };
        (self.hooks.pre.iter().map(|u| (Hook::Pre, u)))
            .chain(auth)
            .chain(self.hooks.post_auth.iter().map(|u| (Hook::PostAuth, u)))
            .chain(self.hooks.endpoint.iter().map(|u| (Hook::Endpoint, &u.hook)))
            .chain(self.hooks.post.iter().map(|u| (Hook::Post, u)))
            .chain(self.hooks.response.iter().map(|u| (Hook::Response, &u.hook)))
            .chain(self.hooks.analytics.iter().map(|u| (Hook::Analytics, u)))
    }
}

impl Origin {
    /// Reads scheme and authority, such as `https://blue.internal:8443`; a path, user or anything more is refused.
    pub fn parse(text: &str) -> Option<Self> {
        let uri = http::Uri::try_from(text).ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return None;
        }
        let port = match authority.port() {
            Some(port) => Some(port.as_u16()).filter(|port| *port != 0)?,
            // What comes after the host is no port.
            None if authority.as_str() != authority.host() => return None,
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
        };
        Some(Self { tls, host: host.into(), port })
    }

    /// Host and port as they stand in a `Host` header: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        if self.port == self.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    /// `http` or `https`.
    pub const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    const fn default_port(&self) -> u16 {
        if self.tls { 443 } else { 80 }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())
    }
}

impl std::fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header `{name}`"),
            Self::Query(name) => write!(f, "query parameter `{name}`"),
            Self::Cookie(name) => write!(f, "cookie `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port_or_nothing() {
        let read = |text: &str| Origin::parse(text).map(|origin| origin.to_string());
        for (text, origin) in [
            ("http://A.test", "http://a.test"),
            ("https://a.test:443/", "https://a.test"),
            ("http://a.test:8080", "http://a.test:8080"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(read(text).as_deref(), Some(origin), "{text}");
        }
        let ports = ["http://a:80x", "https://a:99999", "http://a:", "http://a:0", "http://[::1]:", "http://a:-1"];
        let others = ["a.test", "ftp://a", "http://", "http://u@a", "http://u:p@a", "http://a/path", "http://a?q"];
        for text in ports.iter().chain(&others) {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
