//! TLS: both protocols by ALPN, handshakes that fail or hang, new certificates.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio_rustls::TlsConnector;

use super::harness::*;
use crate::model::gateway::{ListenerTls, ServerLimits};

/// Certificate files in a folder of their own.
struct Files {
    folder: PathBuf,
    certificate: String,
}

impl Files {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("stile-server-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        fs::write(folder.join("cert.pem"), made.cert.pem()).expect("a file");
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("a file");
        Self { folder, certificate: made.cert.pem() }
    }

    fn listener(&self) -> Option<ListenerTls> {
        Some(ListenerTls { certificate: self.folder.join("cert.pem"), key: self.folder.join("key.pem") })
    }

    fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM");
        roots.add(certificate).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn connect(&self, server: &Running, alpn: &[&str]) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(self.client(alpn), name).expect("a session");
        StreamOwned::new(session, server.connect())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn http1_is_spoken_with_alpn_and_without() {
    let files = Files::new("http1");
    let server = start_with(&limits(), 1, files.listener());
    for alpn in [&[][..], &["http/1.1"]] {
        let mut stream = files.connect(&server, alpn);
        stream.write_all(b"GET /peer HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("open");
        until(&mut stream, &format!("{} true", server.address.port()));
    }
    assert_eq!(server.totals().requests_http1, 2);
}

#[test]
fn http2_is_spoken_where_alpn_has_it() {
    let files = Files::new("http2");
    let server = start_with(&limits(), 1, files.listener());
    runtime().block_on(async {
        let tcp = tokio::net::TcpStream::connect(server.address).await.expect("the server listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = TlsConnector::from(files.client(&["h2", "http/1.1"])).connect(name, tcp).await.expect("TLS");
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let handshake = hyper::client::conn::http2::Builder::new(Local).handshake(TokioIo::new(tls));
        let (mut caller, connection) = handshake.await.expect("HTTP/2");
        tokio::task::spawn_local(connection);
        let request = Request::get("https://localhost/a").body(Empty::<Bytes>::new()).expect("a request");
        let answer = caller.send_request(request).await.expect("an answer");
        assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "GET /a");
    });
}

#[test]
fn large_answers_go_through_tls_whole() {
    let files = Files::new("large");
    let server = start_with(&limits(), 1, files.listener());
    let mut stream = files.connect(&server, &[]);
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("open");
    until(&mut stream, "\r\n\r\n");
    let mut body = Vec::new();
    // Without `close_notify` this would be an error.
    stream.read_to_end(&mut body).expect("a clean end");
    assert_eq!(body.len(), 64 << 20);
}

#[test]
fn cleartext_on_a_tls_port_is_a_failed_handshake() {
    let files = Files::new("cleartext");
    let server = start_with(&limits(), 1, files.listener());
    server.send_until_close(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_for(|| server.totals().handshake_failures == 1);
}

// limit: limits.tls_handshake_timeout_ms counts: handshake_timeouts
#[test]
fn a_handshake_has_so_much_time() {
    let files = Files::new("time");
    let server = start_with(&limits(), 1, files.listener());
    let (mut slow, mut stream) = (files.connect(&server, &[]), server.connect());
    // A handshake half-way is waited for, and one that is whole is no matter of this limit any more.
    stream.write_all(b"\x16\x03\x01").expect("open");
    slow.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    until(&mut slow, "GET /a");
    assert_eq!(server.totals().handshake_timeouts, 0);
    drop((slow, stream));

    let limits = ServerLimits { tls_handshake_timeout: Duration::from_millis(50), ..limits() };
    let server = start_with(&limits, 1, files.listener());
    assert_eq!(server.send_until_close(b"\x16\x03\x01"), "");
    wait_for(|| server.totals().handshake_timeouts == 1);
}

#[test]
fn a_reloaded_certificate_is_shown_to_the_next_caller() {
    let old = Files::new("reload");
    let server = start_with(&limits(), 1, old.listener());
    old.connect(&server, &[]).write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").expect("trusted");

    let new = Files::new("reload");
    assert!(server.certificates[0].reload_if_changed().expect("a pair"));

    let mut stream = new.connect(&server, &[]);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").expect("trusted");
    until(&mut stream, "GET /a");
    old.connect(&server, &[]).write_all(b"GET").expect_err("not the certificate any more");
}
