//! Why an upstream gave no answer.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use crate::message::body::BodyError;

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Its name has no address.
    #[error("upstream `{host}` has no address")]
    Resolve {
        /// The name.
        host: Arc<str>,
        /// What the resolver said.
        #[source]
        source: Option<Arc<io::Error>>,
    },
    /// Its name has an address that may not be connected to.
    #[error("`{host}` has the address {address}, which is not public and not listed")]
    Address {
        /// The name.
        host: Arc<str>,
        /// The address.
        address: IpAddr,
    },
    /// No address accepted a connection.
    #[error("upstream does not accept a connection")]
    Connect(#[source] io::Error),
    /// Connecting, TLS handshake included, took too long.
    #[error("upstream did not accept a connection in time")]
    ConnectTimeout,
    /// The TLS handshake failed.
    #[error("TLS handshake with the upstream failed")]
    Tls(#[source] io::Error),
    /// As many connections as the API allows are in use.
    #[error("all {connections_max} connections to the upstream are in use")]
    Busy {
        /// The limit.
        connections_max: usize,
    },
    /// The answer's head did not come in time.
    #[error("upstream did not answer in time")]
    ReplyTimeout,
    /// The connection ended before the answer.
    #[error("upstream closed the connection before its answer")]
    Closed(#[source] Option<hyper::Error>),
    /// The upstream, or the request, broke the protocol.
    #[error("upstream broke the protocol")]
    Protocol(#[source] Option<hyper::Error>),
    /// The request's own body failed.
    #[error("request body failed")]
    RequestBody(#[source] BodyError),
}

impl UpstreamError {
    /// A word for logs and metrics.
    pub fn kind(&self) -> &'static str {
        KINDS.get(self.index()).copied().unwrap_or_default()
    }

    pub(super) const fn index(&self) -> usize {
        match self {
            Self::Resolve { .. } => 0,
            Self::Connect(_) => 1,
            Self::ConnectTimeout => 2,
            Self::Tls(_) => 3,
            Self::Busy { .. } => 4,
            Self::ReplyTimeout => 5,
            Self::Closed(_) => 6,
            Self::Protocol(_) => 7,
            Self::RequestBody(_) => 8,
            Self::Address { .. } => 9,
        }
    }

    /// Whether the upstream may be asked again, because it may just have closed an idle connection.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl From<hyper::Error> for UpstreamError {
    fn from(error: hyper::Error) -> Self {
        let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
        let broken = match h2 {
            Some(h2) => !h2.is_io() && !h2.is_go_away() && h2.reason() != Some(h2::Reason::REFUSED_STREAM),
            None => error.is_parse() || error.is_parse_too_large() || error.is_user(),
        };
        if broken { Self::Protocol(Some(error)) } else { Self::Closed(Some(error)) }
    }
}

/// Every [`UpstreamError::kind`], in the order of the counters.
pub const KINDS: [&str; 10] = [
    "resolve",
    "connect",
    "connect_timeout",
    "tls",
    "busy",
    "reply_timeout",
    "closed",
    "protocol",
    "request_body",
    "address",
];
