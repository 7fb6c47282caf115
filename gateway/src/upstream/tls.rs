//! TLS towards upstreams: which authorities are trusted, which name is checked.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::files;
use crate::model::api::UpstreamTls;

/// The TLS settings of a target. Loaded at most once, then only looked at.
#[derive(Debug)]
pub(super) struct Tls {
    ca_file: Option<PathBuf>,
    server_name: Option<String>,
    loaded: OnceLock<Loaded>,
}

/// Which protocols are offered in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Offer {
    H1,
    H2,
    Both,
}

/// One configuration per offer; equal settings share them, and with them their session tickets.
#[derive(Debug, Clone)]
struct Loaded {
    h1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    both: Arc<ClientConfig>,
}

/// Why the certificate authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not PEM.
    #[error("`{path}` is not a PEM file")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// There is no usable certificate in it.
    #[error("no certificate authority in {place}")]
    NoRoots {
        /// Where they were looked for.
        place: String,
    },
    /// The library refuses the settings.
    #[error("TLS settings are refused")]
    Config(#[from] rustls::Error),
}

impl Tls {
    pub(super) fn new(settings: &UpstreamTls) -> Self {
        let UpstreamTls { ca_file, server_name } = settings.clone();
        Self { ca_file, server_name, loaded: OnceLock::new() }
    }

    /// Reads the authorities, if that was not done before.
    pub(super) fn load(&self) -> Result<(), TlsError> {
        self.loaded().map(drop)
    }

    pub(super) async fn handshake(
        &self,
        host: &str,
        offer: Offer,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, io::Error> {
        let loaded = self.loaded().map_err(io::Error::other)?;
        let config = match offer {
            Offer::H1 => &loaded.h1,
            Offer::H2 => &loaded.h2,
            Offer::Both => &loaded.both,
        };
        let name = self.server_name(host).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(config)).connect(name, tcp).await
    }

    fn server_name(&self, host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
        ServerName::try_from(self.server_name.as_deref().unwrap_or(host).to_owned())
    }

    fn loaded(&self) -> Result<&Loaded, TlsError> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let loaded = match &self.ca_file {
            None => system()?,
            Some(path) => from_file(path)?,
        };
        Ok(self.loaded.get_or_init(|| loaded))
    }
}

impl Loaded {
    fn new(roots: RootCertStore) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let h1 = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let offering = |protocols: &[&[u8]]| {
            let mut config = h1.clone();
            // Tickets of one offer must not be used with another: a resumed session keeps its protocol.
            config.resumption = rustls::client::Resumption::in_memory_sessions(256);
            config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Self { h1: offering(&[b"http/1.1"]), h2: offering(&[b"h2"]), both: offering(&[b"h2", b"http/1.1"]) })
    }
}

fn system() -> Result<Loaded, TlsError> {
    static SYSTEM: OnceLock<Loaded> = OnceLock::new();
    if let Some(loaded) = SYSTEM.get() {
        return Ok(loaded.clone());
    }
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if usable == 0 {
        return Err(TlsError::NoRoots { place: "the system's store".to_owned() });
    }
    let loaded = Loaded::new(roots)?;
    Ok(SYSTEM.get_or_init(|| loaded).clone())
}

/// Files are told apart by what is in them, so a renewed authority is seen when an API loads again.
fn from_file(path: &Path) -> Result<Loaded, TlsError> {
    type Shared = HashMap<Vec<u8>, [Weak<ClientConfig>; 3]>;
    static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(Mutex::default);

    let pem = files::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some([h1, h2, both]) = shared.get(&pem).map(|configs| configs.each_ref().map(Weak::upgrade))
        && let (Some(h1), Some(h2), Some(both)) = (h1, h2, both)
    {
        return Ok(Loaded { h1, h2, both });
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
        roots.add(certificate)?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots { place: format!("`{}`", path.display()) });
    }
    let loaded = Loaded::new(roots)?;
    shared.retain(|_, configs| configs.iter().any(|config| config.strong_count() > 0));
    shared.insert(pem, [&loaded.h1, &loaded.h2, &loaded.both].map(Arc::downgrade));
    Ok(loaded)
}
