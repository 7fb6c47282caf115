//! A certificate for `localhost` that only its own callers trust.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct SelfSigned {
    certificate: rcgen::Certificate,
    key: String,
}

impl SelfSigned {
    /// Makes a fresh one.
    #[must_use]
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        Self { certificate: made.cert, key: made.signing_key.serialize_pem() }
    }

    /// Writes `cert.pem` and `key.pem`, each in one step.
    pub fn write(&self, folder: &Path) {
        for (name, content) in [("key.pem", self.key.clone()), ("cert.pem", self.certificate.pem())] {
            let beside = folder.join(format!("{name}.new"));
            std::fs::write(&beside, content).expect("a file is written");
            std::fs::rename(beside, folder.join(name)).expect("a file is renamed");
        }
    }

    /// A handshake that trusts this certificate and no other.
    ///
    /// # Errors
    /// The server has another certificate.
    pub async fn try_connect(&self, stream: TcpStream, is_http2: bool) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    pub(crate) async fn connect(&self, stream: TcpStream, is_http2: bool) -> TlsStream<TcpStream> {
        self.try_connect(stream, is_http2).await.expect("a TLS handshake")
    }
}

impl Default for SelfSigned {
    fn default() -> Self {
        Self::new()
    }
}
