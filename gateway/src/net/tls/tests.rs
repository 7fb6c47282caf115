//! Certificate files, good, bad and changed under way.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("stile-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn files(&self) -> ListenerTls {
        ListenerTls { certificate: self.0.join("cert.pem"), key: self.0.join("key.pem") }
    }

    fn write(&self, certificate: &str, key: &str) -> ListenerTls {
        let files = self.files();
        fs::write(&files.certificate, certificate).expect("a file");
        fs::write(&files.key, key).expect("a file");
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[track_caller]
fn check_refused(certificate: &str, key: &str, expected: &[&str]) {
    let folder = Folder::new();
    let error = Certificate::from_files(&folder.write(certificate, key)).expect_err("refused").to_string();
    for part in expected {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn an_error_names_the_file_and_what_is_wrong_with_it() {
    let (certificate, key) = pair();
    check_refused("", &key, &["cert.pem", "no certificate"]);
    check_refused(&key, &key, &["cert.pem", "no certificate"]);
    check_refused(&certificate, "", &["key.pem", "no private key"]);
    check_refused(&certificate, &certificate, &["key.pem", "no private key"]);
    check_refused(&certificate, &pair().1, &["key.pem", "cert.pem", "does not belong"]);
    check_refused("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", &key, &["cert.pem", "not valid PEM"]);
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    check_refused(&certificate, garbage, &["key.pem", "cannot be used"]);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    check_refused(garbage, &key, &["cert.pem", "cannot be used"]);
    let missing = Certificate::from_files(&Folder::new().files()).expect_err("refused");
    assert!(missing.to_string().contains("cannot read"), "{missing}");
}

fn leaf(certificate: &Certificate) -> Vec<u8> {
    certificate.current.load().end_entity_cert().expect("a leaf").to_vec()
}

#[test]
fn a_new_pair_is_taken_and_a_broken_one_is_not() {
    let folder = Folder::new();
    let (cert, key) = pair();
    let certificate = Certificate::from_files(&folder.write(&cert, &key)).expect("a pair");
    let first = leaf(&certificate);
    assert!(!certificate.reload_if_changed().expect("readable"));

    folder.write("broken", &key);
    certificate.reload_if_changed().expect_err("broken");
    certificate.reload_if_changed().expect_err("still broken");
    assert_eq!(leaf(&certificate), first);

    // Written again with the same contents: nothing to take.
    folder.write(&cert, &key);
    assert!(!certificate.reload_if_changed().expect("readable"));

    let (cert, key) = pair();
    folder.write(&cert, &key);
    assert!(certificate.reload_if_changed().expect("a pair"));
    assert_ne!(leaf(&certificate), first);
    assert!(!certificate.reload_if_changed().expect("readable"));
}
