//! Fetches the files of plugins that are elsewhere, and keeps them by their digest.
//!
//! What was fetched is nothing but bytes: whether a plugin may be made of them is decided where it loads. Nothing is fetched
//! twice: what is pinned and kept needs no server, and for all else the server is asked whether it has another one.

mod cache;
mod client;
mod login;
mod manifest;
mod registry;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::{HeaderMap, StatusCode, header};
use tokio::runtime::LocalOptions;

pub use self::cache::Evicted;
use self::cache::{Cache, Known};
use self::client::{Client, Reply, Wanted};
use self::login::Login;
use crate::clock::Clock;
use crate::model::account::Account;
use crate::model::api::Origin;
use crate::model::digest::Digest;
use crate::model::gateway::FetchSettings;
use crate::model::plugin::PluginSpec;
use crate::model::provenance::Signed;
use crate::model::source::{Location, Source};
use crate::upstream::Shared;

/// Fetches files of plugins. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher(Arc<Inner>);

struct Inner {
    settings: FetchSettings,
    upstreams: Arc<Shared>,
    cache: Option<Cache>,
    /// Passwords change more often than a gateway is started.
    accounts: ArcSwap<Vec<Account>>,
    numbers: FetchNumbers,
}

/// Fetches for one configuration: a server that does not answer is asked once, not for each of its plugins.
pub struct Round<'f> {
    fetcher: &'f Fetcher,
    silent: RefCell<HashMap<Origin, FetchError>>,
}

/// What came of a fetch.
pub struct Fetched {
    /// The file.
    pub content: Vec<u8>,
    /// The signature that came with it, where one was asked for.
    pub signature: Option<Vec<u8>>,
    /// Why the server was not heard: then this is what it had when it was asked last.
    pub stale: Option<FetchError>,
}

/// Why nothing was fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct FetchError {
    /// For counters.
    pub kind: Kind,
    reason: String,
}

/// The kinds of failures, each counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There was no answer.
    Away,
    /// The answer was another status than was hoped for.
    Status,
    /// Who asks is not known there, or may not have it.
    Denied,
    /// The answer makes no sense, or is not what was asked for.
    Invalid,
    /// It took too long.
    Time,
    /// It is too large.
    Bytes,
    /// It leads on and on, or to where it may not lead.
    Redirect,
}

/// What fetches came to.
#[derive(Debug, Default)]
pub struct FetchNumbers {
    /// Files that came.
    pub fetched: AtomicU64,
    /// Files of which the server has no other version than the one that is kept.
    pub unchanged: AtomicU64,
    /// Files that were kept, for which nobody was asked.
    pub kept: AtomicU64,
    /// Fetches that were tried again, though nobody asked for it.
    pub retried: AtomicU64,
    failed: [AtomicU64; Kind::ALL.len()],
}

impl Kind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 7] =
        [Self::Away, Self::Status, Self::Denied, Self::Invalid, Self::Time, Self::Bytes, Self::Redirect];

    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Status => "status",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Time => "time",
            Self::Bytes => "bytes",
            Self::Redirect => "redirect",
        }
    }

    /// Whether it may be over soon, without anybody mending what is named or what is there.
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Away | Self::Status | Self::Denied | Self::Time => true,
            Self::Invalid | Self::Bytes | Self::Redirect => false,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Away => 0,
            Self::Status => 1,
            Self::Denied => 2,
            Self::Invalid => 3,
            Self::Time => 4,
            Self::Bytes => 5,
            Self::Redirect => 6,
        }
    }
}

impl FetchError {
    fn new(kind: Kind, reason: impl Into<String>) -> Self {
        let reason: String = reason.into();
        Self { kind, reason: crate::telemetry::text::escaped(&reason, REASON_BYTES_MAX).into_owned() }
    }

    fn invalid(reason: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, reason)
    }
}

impl FetchNumbers {
    /// Fetches that failed in this way.
    pub fn failed(&self, kind: Kind) -> u64 {
        self.failed.get(kind.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Fetcher {
    /// Keeps files in this folder, where there is one that can be used. It has no accounts yet.
    pub fn new(settings: &FetchSettings, folder: Option<&Path>, upstreams: Arc<Shared>, clock: &Clock) -> Self {
        let cache = folder.and_then(|folder| {
            let opened = Cache::open(folder, settings, clock.clone());
            let warned = opened.inspect_err(|error| {
                tracing::warn!(path = %folder.display(), %error, "fetched plugins are not kept");
            });
            warned.ok()
        });
        let (accounts, numbers) = (ArcSwap::default(), FetchNumbers::default());
        Self(Arc::new(Inner { settings: settings.clone(), upstreams, cache, accounts, numbers }))
    }

    /// From now on, servers are told of these accounts, each of its own.
    pub fn set_accounts(&self, accounts: &[Account]) {
        self.0.accounts.store(Arc::new(accounts.to_vec()));
    }

    /// What was counted.
    pub fn numbers(&self) -> &FetchNumbers {
        &self.0.numbers
    }

    /// Bytes of the files that are kept, and how many had to go.
    pub fn kept(&self) -> (u64, Evicted) {
        self.0.cache.as_ref().map(Cache::numbers).unwrap_or_default()
    }

    /// Begins to fetch for all plugins of a configuration.
    pub fn round(&self) -> Round<'_> {
        Round { fetcher: self, silent: RefCell::default() }
    }
}

impl Round<'_> {
    /// Brings the file of a plugin that is elsewhere. Takes a while, so not on a thread that serves requests.
    ///
    /// # Errors
    /// It cannot be fetched, and none is kept.
    pub fn fetch(&self, spec: &PluginSpec) -> Result<Fetched, FetchError> {
        let inner = &self.fetcher.0;
        let numbers = &inner.numbers;
        if let Some(kept) = inner.pinned(spec) {
            numbers.kept.fetch_add(1, Ordering::Relaxed);
            return Ok(kept);
        }
        let server = spec.source.server();
        let silent = server.and_then(|server| self.silent.borrow().get(server).cloned());
        let error = match silent {
            Some(error) => FetchError::new(error.kind, format!("not asked, as its server was not heard: {error}")),
            None => match inner.run(spec) {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            },
        };
        if let Some(server) = server.filter(|_| matches!(error.kind, Kind::Away | Kind::Time)) {
            self.silent.borrow_mut().entry(server.clone()).or_insert_with(|| error.clone());
        }
        if let Some(count) = numbers.failed.get(error.kind.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let mut kept = inner.last(spec).ok_or_else(|| error.clone())?;
        kept.stale = Some(error);
        Ok(kept)
    }
}

impl Inner {
    /// What is pinned by its own digest and kept, with the signature if it needs one.
    fn pinned(&self, spec: &PluginSpec) -> Option<Fetched> {
        let digest = spec.provenance.sha256.as_ref()?;
        let known = self.cache.as_ref()?.recall(&spec.source);
        let signature = known.and_then(|known| known.signature_of(digest));
        let content = self.content(digest)?;
        let comes_along = spec.provenance.signed.as_ref().is_some_and(|signed| signed.file.is_none());
        let fits = |content: &[u8]| {
            let signature = |_: &Signed| Ok(signature.clone().unwrap_or_default());
            spec.provenance.check(content, digest, signature).is_ok()
        };
        // A signature that does not fit is asked for anew: somebody may have mended it.
        (!comes_along || fits(&content)).then_some(Fetched { content, signature, stale: None })
    }

    /// What the server had when it was asked last.
    fn last(&self, spec: &PluginSpec) -> Option<Fetched> {
        let known = self.cache.as_ref()?.recall(&spec.source)?;
        let digest = known.digest()?;
        if spec.provenance.sha256.is_some_and(|pinned| pinned != digest) {
            return None;
        }
        Some(Fetched { content: self.content(&digest)?, signature: known.signature_of(&digest), stale: None })
    }

    fn content(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.cache.as_ref()?.get(digest)
    }

    fn run(&self, spec: &PluginSpec) -> Result<Fetched, FetchError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = runtime.map_err(|error: io::Error| FetchError::new(Kind::Away, error.to_string()))?;
        runtime.block_on(async {
            let client = Client::new(&self.settings, self.upstreams.clone());
            let accounts = self.accounts.load_full();
            let asked = async {
                match &spec.source {
                    Source::File(_) => Err(FetchError::invalid("it is on this machine")),
                    Source::Url(location) => {
                        let login = Login::new(&accounts, &location.origin);
                        let asked = self.ask_url(&client, &login, location, spec).await;
                        asked.map_err(|error| login.explained(error))
                    }
                    Source::Registry(image) => {
                        let login = Login::new(&accounts, &image.registry);
                        self.ask_registry(&client, login, image, spec).await
                    }
                }
            };
            let late = || {
                let time_max_ms = self.settings.time_max.as_millis();
                FetchError::new(Kind::Time, format!("it takes longer than `fetch.time_max_ms` ({time_max_ms})"))
            };
            tokio::time::timeout(self.settings.time_max, asked).await.unwrap_or_else(|_| Err(late()))
        })
    }

    async fn ask_url(
        &self,
        client: &Client<'_>,
        login: &Login<'_>,
        url: &Location,
        spec: &PluginSpec,
    ) -> Result<Fetched, FetchError> {
        let known = self.cache.as_ref().and_then(|cache| cache.recall(&spec.source));
        // What is not here any more, or not what it was, is asked for as if it were new.
        let kept = known.and_then(|known| Some((self.content(&known.digest()?)?, known)));
        let tag = kept.as_ref().and_then(|(_, known)| known.tag.as_deref()).and_then(|tag| tag.parse().ok());
        // Servers that hide what they have from strangers do not ask who asks.
        let authorization: HeaderMap = login.basic().map(|basic| (header::AUTHORIZATION, basic)).into_iter().collect();
        let mut headers = authorization.clone();
        headers.extend(tag.map(|tag| (header::IF_NONE_MATCH, tag)));
        let reply = client.get(Wanted { url, headers, bytes_max: spec.limits.file_bytes_max }).await?;
        let (content, tag) = match (reply.status, kept) {
            (StatusCode::NOT_MODIFIED, Some((content, known))) => {
                self.numbers.unchanged.fetch_add(1, Ordering::Relaxed);
                (content, known.tag)
            }
            (StatusCode::OK, _) => {
                let tag = reply.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
                self.keep(&reply.body, spec)?;
                (reply.body, tag)
            }
            _ => return Err(reply.refused()),
        };
        let signature = match &spec.provenance.signed {
            Some(signed) if signed.file.is_none() => {
                let beside = url.beside(".sig").ok_or_else(|| FetchError::invalid("its signature has no URL"))?;
                let wanted = Wanted { url: &beside, headers: authorization, bytes_max: SIGNATURE_BYTES_MAX };
                let reply = client.get(wanted).await.and_then(Reply::good);
                Some(reply.map_err(|error| FetchError::new(error.kind, format!("its signature: {error}")))?.body)
            }
            _ => None,
        };
        self.remember(spec, &Digest::of(&content), tag, signature.as_deref());
        Ok(Fetched { content, signature, stale: None })
    }

    /// Keeps what came. What is pinned and another one is not.
    fn keep(&self, content: &[u8], spec: &PluginSpec) -> Result<(), FetchError> {
        self.numbers.fetched.fetch_add(1, Ordering::Relaxed);
        let digest = Digest::of(content);
        if let Some(pinned) = spec.provenance.sha256.filter(|pinned| *pinned != digest) {
            let (found, pinned) = (digest.hex(), pinned.hex());
            return Err(FetchError::invalid(format!("what came has the sha256 {found}, and {pinned} is pinned")));
        }
        if let Some(cache) = &self.cache {
            cache.put(&digest, content);
        }
        Ok(())
    }

    fn remember(&self, spec: &PluginSpec, digest: &Digest, tag: Option<String>, signature: Option<&[u8]>) {
        if let Some(cache) = &self.cache {
            cache.remember(&spec.source, &Known::new(&spec.source, digest, tag, signature));
        }
    }
}

/// More than one in base64, with line breaks.
const SIGNATURE_BYTES_MAX: u64 = 1_024;
const REASON_BYTES_MAX: usize = 1_024;
