//! Keys and signatures of `openssl`, made as the reference tells operators to make them.

use std::path::PathBuf;
use std::process::Command;

use crate::Folder;

/// A key that signs plugins.
#[derive(Debug, Default)]
pub struct SigningKey(Folder);

impl SigningKey {
    /// Makes a fresh one.
    #[must_use]
    pub fn new() -> Self {
        let key = Self::default();
        key.openssl(&["genpkey", "-algorithm", "ed25519", "-out", "key.pem"]);
        key
    }

    /// Its public part, in PEM.
    #[must_use]
    pub fn public(&self) -> String {
        let pem = self.openssl(&["pkey", "-in", "key.pem", "-pubout"]);
        String::from_utf8(pem).expect("PEM is text")
    }

    /// The signature of a content: 64 bytes.
    #[must_use]
    pub fn sign(&self, content: impl AsRef<[u8]>) -> Vec<u8> {
        self.0.write("content", content);
        self.openssl(&["pkeyutl", "-sign", "-inkey", "key.pem", "-rawin", "-in", "content", "-out", "content.sig"]);
        std::fs::read(self.path("content.sig")).expect("it was written")
    }

    /// The same in base64.
    #[must_use]
    pub fn sign_base64(&self, content: impl AsRef<[u8]>) -> String {
        _ = self.sign(content);
        let text = self.openssl(&["base64", "-A", "-in", "content.sig"]);
        String::from_utf8(text).expect("base64 is text")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &[&str]) -> Vec<u8> {
        let ran = Command::new("openssl").args(arguments).current_dir(self.0.path()).output();
        let ran = ran.expect("openssl is installed");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        ran.stdout
    }
}
