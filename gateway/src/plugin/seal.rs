//! Native code that comes from outside of this process, taken only with a seal that proves who wrote it.
//!
//! The one module that loads compiled components: from the cache's files, and from the process that compiled them.

use std::fs::File;
use std::io::{self, Read as _};

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use crate::model::digest::Digest;

/// A key that only its owner knows, and what it seals: content, bound to the digest of the component that it is made of.
#[derive(Clone)]
pub struct Seal([u8; 32]);

/// Content whose seal was whole: who made it had the key.
#[derive(Clone, Copy)]
pub struct Opened<'a>(&'a [u8]);

impl Seal {
    /// The seal with this key.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// A seal with a fresh key.
    pub fn random() -> io::Result<Self> {
        let mut key = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        Ok(Self(key))
    }

    /// The key, for whoever is to seal as well.
    pub fn key(&self) -> &[u8; 32] {
        &self.0
    }

    /// What stands before the content.
    pub fn code(&self, digest: &Digest, content: &[u8]) -> [u8; 32] {
        let inner = Sha256::new().chain_update(self.0).chain_update(digest.hex()).chain_update(content).finalize();
        // Hashed again with the key, so that nothing can be appended to what was hashed first.
        Sha256::new().chain_update(self.0).chain_update(inner).finalize().into()
    }

    /// The content after a code, if it is whole and of this component.
    pub fn open<'a>(&self, digest: &Digest, bytes: &'a [u8]) -> Option<Opened<'a>> {
        let (code, content) = bytes.split_first_chunk::<32>()?;
        (*code == self.code(digest, content)).then_some(Opened(content))
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out.
        f.write_str("Seal")
    }
}

impl<'a> Opened<'a> {
    /// The bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The first bytes, and the rest.
    pub fn split_at(self, length: usize) -> Option<(&'a [u8], Self)> {
        let (first, rest) = self.0.split_at_checked(length)?;
        Some((first, Self(rest)))
    }

    /// Loads a compiled component. One that was compiled with other settings or by another version is an error.
    #[expect(unsafe_code, reason = "loading native code is the point")]
    pub fn component(self, engine: &wasmtime::Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes are whole and from `serialize` or `precompile_component` of this program: their code was made
        // with a key that only the gateway's user can read, or that only the process knows which was started to compile.
        unsafe { Component::deserialize(engine, self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_holds_for_its_key_its_component_and_its_content_alone() {
        let (seal, digest) = (Seal::new([7; 32]), Digest::of(b"component"));
        let sealed = [&seal.code(&digest, b"content")[..], b"content"].concat();
        let opens = |seal: &Seal, digest: &Digest, bytes: &[u8]| seal.open(digest, bytes).is_some();
        assert!(opens(&seal, &digest, &sealed));
        assert!(!opens(&Seal::new([8; 32]), &digest, &sealed));
        assert!(!opens(&seal, &Digest::of(b"another"), &sealed));
        assert!(!opens(&seal, &digest, &[&sealed[..], b"more"].concat()));
        assert!(!opens(&seal, &digest, sealed.get(1..).unwrap_or_default()));
        assert!(!opens(&seal, &digest, b"short"));
    }
}
