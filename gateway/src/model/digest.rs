//! The sha256 of a file's content, by which versions are told apart.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The sha256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads 64 hexadecimal digits, with `sha256:` before them or without.
    pub fn parse(text: &str) -> Option<Self> {
        bytes_of_hex(text.strip_prefix("sha256:").unwrap_or(text)).map(Self)
    }

    /// In hexadecimal.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The first twelve digits, for people and labels.
    pub fn short(&self) -> String {
        self.hex().chars().take(12).collect()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

/// The 32 bytes of 64 hexadecimal digits.
pub(super) fn bytes_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(b"component");
        for text in [digest.hex(), digest.hex().to_uppercase(), format!("sha256:{}", digest.hex())] {
            assert_eq!(Digest::parse(&text), Some(digest), "{text}");
        }
        let hex = digest.hex();
        for text in
            ["", "sha256:", &hex[1..], &format!("{hex}0"), &format!("+{}", &hex[1..]), &format!("é{}", &hex[2..])]
        {
            assert_eq!(Digest::parse(text), None, "{text}");
        }
    }
}
