//! The secret of the control port, and what else must not be guessed.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// What a request for keys and policies must carry, kept as its digest.
#[derive(Clone)]
pub struct Secret([u8; 32]);

/// The system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandom;

impl Secret {
    /// Takes the operator's secret.
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Makes a secret of 256 random bits; its text is told this once.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn make() -> Result<(Self, String), NoRandom> {
        let text = random_hex()?;
        Ok((Self::new(&text), text))
    }

    /// Whether this is it. Digests are compared: how long it takes says nothing of the secret.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        self.0 == <[u8; 32]>::from(Sha256::digest(given))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// 256 random bits in hexadecimal digits.
pub(super) fn random_hex() -> Result<String, NoRandom> {
    let mut bytes = [0; 32];
    // The one source of randomness for secrets that the gateway has already.
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| NoRandom)?;
    let mut text = String::with_capacity(64);
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_secret_is_random_and_fits_its_text_alone() {
        let (secret, text) = Secret::make().expect("there are random bytes");
        let (_, other) = Secret::make().expect("there are random bytes");
        assert_eq!(text.len(), 64);
        assert_ne!(text, other);
        assert!(secret.is(text.as_bytes()));
        assert!(!secret.is(other.as_bytes()));
        assert!(!secret.is(b""));
        assert!(!format!("{secret:?}").contains(&text));
    }
}
