//! Where requests go: an origin with its protocol, TLS settings and limits.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};

use super::limits::Limits;
use super::tls::{self, Tls};
use crate::model::api::{Origin, Upstream, UpstreamProtocol};
use crate::model::outgoing::Reach;

/// A target of requests, made once when an API loads and shared by all cores.
#[derive(Debug, Clone)]
pub struct Target {
    pub(super) origin: Origin,
    pub(super) key: Key,
    pub(super) authority: Option<Authority>,
    pub(super) settings: Arc<Settings>,
    pub(super) limits: Arc<Limits>,
    /// Which of its addresses may be connected to.
    pub(super) reach: Reach,
}

/// What a target shares with those that differ in their origin only.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) protocol: UpstreamProtocol,
    pub(super) tls: Tls,
    pub(super) connect_timeout: Duration,
    pub(super) reply_timeout: Duration,
    pub(super) idle_timeout: Duration,
}

/// The protocol of a target's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    H1,
    H2,
    /// The TLS handshake will tell.
    Unsettled,
}

/// Why an API's upstream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Its certificate authorities cannot be read.
    #[error("certificate authorities of the upstream cannot be used")]
    Tls(#[from] tls::TlsError),
}

impl Target {
    /// A target from an API's settings. Reads the CA file, or the system's roots where TLS is spoken.
    pub fn new(upstream: &Upstream) -> Result<Self, TargetError> {
        let tls = Tls::new(&upstream.tls);
        if upstream.origin.tls || upstream.tls.ca_file.is_some() {
            tls.load()?;
        }
        let limits = Limits::new(upstream);
        let settings = Settings {
            protocol: upstream.protocol,
            tls,
            connect_timeout: upstream.connect_timeout,
            reply_timeout: upstream.reply_timeout,
            idle_timeout: upstream.idle_timeout,
        };
        Ok(Self::assemble(upstream.origin.clone(), Arc::new(settings), limits))
    }

    /// Another origin with the same TLS settings, and within the same limits.
    pub fn with_origin(&self, origin: Origin) -> Self {
        Self::assemble(origin, Arc::clone(&self.settings), Arc::clone(&self.limits))
    }

    /// Another origin like [`Target::with_origin`], known before its first request: what TLS needs for it is read now.
    ///
    /// # Errors
    /// The certificate authorities cannot be read.
    pub fn beside(&self, origin: Origin) -> Result<Self, TargetError> {
        if origin.tls {
            self.settings.tls.load()?;
        }
        Ok(self.with_origin(origin))
    }

    /// The same target, connected to at these of its addresses only, through connections of its own.
    #[must_use]
    pub fn within(self, reach: Reach) -> Self {
        Self { key: Key::new(self.limits.family, &self.origin, reach), reach, ..self }
    }

    /// The origin.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    fn assemble(origin: Origin, settings: Arc<Settings>, limits: Arc<Limits>) -> Self {
        let key = Key::new(limits.family, &origin, Reach::Any);
        let authority = origin.authority().parse().ok();
        Self { origin, key, authority, settings, limits, reach: Reach::Any }
    }

    /// What connections will speak, as far as it is settled.
    pub(super) fn speaks(&self) -> Speaks {
        match (self.settings.protocol, self.origin.tls) {
            (UpstreamProtocol::Auto, true) => Speaks::Unsettled,
            (UpstreamProtocol::Auto, false) | (UpstreamProtocol::Http1, _) => Speaks::H1,
            (UpstreamProtocol::Http2, _) => Speaks::H2,
        }
    }

    pub(super) fn scheme(&self) -> Scheme {
        if self.origin.tls { Scheme::HTTPS } else { Scheme::HTTP }
    }
}

/// Tells connections apart that may not be mixed. The hash is computed once, with the target.
#[derive(Debug, Clone)]
pub(super) struct Key {
    hash: u64,
    family: u64,
    origin: Origin,
    reach: Reach,
}

impl Key {
    fn new(family: u64, origin: &Origin, reach: Reach) -> Self {
        let hash = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::new().hash_one((family, origin, reach));
        Self { hash, family, origin: origin.clone(), reach }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.origin, &other.origin);
        let same_host = Arc::ptr_eq(&a.host, &b.host) || a.host == b.host;
        let same_origin = a.port == b.port && a.tls == b.tls && same_host;
        self.hash == other.hash && self.family == other.family && same_origin && self.reach == other.reach
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Takes the hash that a [`Key`] brings along.
#[derive(Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
