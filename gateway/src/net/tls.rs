//! Server TLS from PEM files, and new certificates without a restart.
//!
//! TLS 1.2 and 1.3 by rustls with *ring*. Files are looked at again every second; a broken pair never replaces a good one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use crate::files::{self, Stamp};
use crate::model::gateway::ListenerTls;

/// What is wrong with a listener's certificate files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not PEM, or broken.
    #[error("`{}` is not valid PEM: {reason}", file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// There is no certificate in the file.
    #[error("`{}` holds no certificate: expected `-----BEGIN CERTIFICATE-----`", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// There is no private key in the file.
    #[error("`{}` holds no private key: expected `-----BEGIN PRIVATE KEY-----`", file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// A key of a kind that cannot be used.
    #[error("the key in `{}` cannot be used", file.display())]
    KeyUnusable {
        /// The file.
        file: PathBuf,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// A certificate that cannot be used.
    #[error("the certificate in `{}` cannot be used", file.display())]
    CertificateUnusable {
        /// The file.
        file: PathBuf,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// Key and certificate are of different pairs.
    #[error("the key in `{}` does not belong to the certificate in `{}`", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// No protocol version or ticket key could be set up.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// A certificate with its key, as its files have it now. Shared by all workers of a listener.
#[derive(Debug)]
pub struct Certificate {
    files: ListenerTls,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    seen: Mutex<Seen>,
}

/// What the files looked like when they were last taken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    stamps: [Stamp; 2],
    digest: [u8; 32],
}

impl Certificate {
    /// Reads a pair of files.
    pub fn from_files(files: &ListenerTls) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let contents = Contents::read(files)?;
        let current = ArcSwap::from_pointee(contents.certified_key(files, &provider)?);
        let seen = Mutex::new(contents.seen());
        Ok(Arc::new(Self { files: files.clone(), provider, current, seen }))
    }

    /// A configuration that hands out this certificate, the newest at each handshake.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        // Resumption by ticket saves the caller a signature and us a cache.
        config.ticketer = ring::Ticketer::new().map_err(TlsError::Setup)?;
        Ok(Arc::new(config))
    }

    /// Takes the files if they hold something new; says whether they did. After an error the certificate in use stays,
    /// and the next call tries again.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps(&self.files)? == seen.stamps {
            return Ok(false);
        }
        let contents = Contents::read(&self.files)?;
        let found = contents.seen();
        if found.digest == seen.digest {
            seen.stamps = found.stamps;
            return Ok(false);
        }
        let key = contents.certified_key(&self.files, &self.provider)?;
        self.current.store(Arc::new(key));
        *seen = found;
        Ok(true)
    }

    /// The files that are watched.
    pub fn files(&self) -> &ListenerTls {
        &self.files
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// Looks at every certificate once a second until `go_on` says no, and logs what it finds. Blocks: it wants a thread of
/// its own, or a place in the body of one.
pub fn watch(certificates: &[Arc<Certificate>], mut go_on: impl FnMut() -> bool) {
    let mut told: Vec<Option<String>> = vec![None; certificates.len()];
    while go_on() {
        for (certificate, told) in certificates.iter().zip(&mut told) {
            let file = certificate.files.certificate.display();
            match certificate.reload_if_changed() {
                Ok(true) => {
                    *told = None;
                    tracing::info!(%file, "certificate reloaded");
                }
                Ok(false) => *told = None,
                // The same trouble every second is told once.
                Err(error) if told.as_deref() == Some(&error.to_string()) => {}
                Err(error) => {
                    tracing::error!(%file, %error, "new certificate is not usable, the old one stays");
                    *told = Some(error.to_string());
                }
            }
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    stamps: [Stamp; 2],
}

impl Contents {
    fn read(files: &ListenerTls) -> Result<Self, TlsError> {
        // Stamps first: a write in between is found by the next look.
        let stamps = stamps(files)?;
        let read = |file: &Path| files::read(file).map_err(|source| unreadable(file, source));
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)?, stamps })
    }

    fn seen(&self) -> Seen {
        let digest = Sha256::new_with_prefix(&self.certificate).chain_update([0]).chain_update(&self.key).finalize();
        Seen { stamps: self.stamps, digest: digest.into() }
    }

    fn certified_key(&self, files: &ListenerTls, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|e| TlsError::NotPem { file: files.certificate.clone(), reason: e.to_string() })?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate { file: files.certificate.clone() });
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|e| match e {
            rustls::pki_types::pem::Error::NoItemsFound => TlsError::NoKey { file: files.key.clone() },
            e => TlsError::NotPem { file: files.key.clone(), reason: e.to_string() },
        })?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|source| TlsError::KeyUnusable { file: files.key.clone(), source })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // A key that cannot show its public half cannot be compared; rustls takes it as well.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() })
            }
            Err(source) => Err(TlsError::CertificateUnusable { file: files.certificate.clone(), source }),
        }
    }
}

fn stamps(files: &ListenerTls) -> Result<[Stamp; 2], TlsError> {
    Ok([stamp(&files.certificate)?, stamp(&files.key)?])
}

fn stamp(file: &Path) -> Result<Stamp, TlsError> {
    Stamp::of(file).map_err(|source| unreadable(file, source))
}

fn unreadable(file: &Path, source: io::Error) -> TlsError {
    TlsError::Unreadable { file: file.to_owned(), source }
}

/// The name of HTTP/2 in ALPN.
pub const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
