//! A credential as the gateway keeps it: its hash, with the hash's name beside it.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::id::{ApiId, PluginName};

/// The hash of a key (token). The key itself is never kept.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash {
    algorithm: HashAlgorithm,
    text: Arc<str>,
}

/// The token of a key as it is hashed: the organisation followed by the key's own name. As in Tyk, a name that begins with
/// the organisation has it already.
pub fn full_token(organisation: &str, name: &str) -> String {
    format!("{organisation}{}", name.strip_prefix(organisation).unwrap_or(name))
}

/// A text that may be the token of a key, as its caller sends it.
#[derive(Clone, Copy)]
pub struct Token<'a>(&'a str);

impl<'a> Token<'a> {
    /// Takes a text, unless no key has it as its token: a query or cookie may hold any byte, but no token that the gateway
    /// makes or keeps holds a control character, and as in Tyk, whose `min_token_length` has this default, none is short.
    pub fn parse(text: &'a str) -> Option<Self> {
        (text.len() >= TOKEN_BYTES_MIN && !text.chars().any(char::is_control)).then_some(Self(text))
    }

    /// What its key may be kept under: the hash of the token and, as in Tyk, of the token with the organisation in front, so
    /// that a key may be called by its own name.
    pub fn hashes(self, organisation: &str) -> impl Iterator<Item = KeyHash> {
        let with_organisation = move || {
            let full = full_token(organisation, self.0);
            (full != self.0).then(|| KeyHash::of(&full))
        };
        std::iter::once_with(move || KeyHash::of(self.0)).chain(std::iter::once_with(with_organisation).flatten())
    }
}

const TOKEN_BYTES_MIN: usize = 3;

/// How a key was hashed. Sha256 is written; the others are names of what Tyk wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashAlgorithm {
    /// Sha256 over the whole token.
    Sha256,
    /// Tyk's murmur3 of 32 bits.
    Murmur32,
    /// Murmur3 of 64 bits.
    Murmur64,
    /// Murmur3 of 128 bits.
    Murmur128,
}

/// A text is not the hexadecimal hash that it was given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a hash of a key: lower-case hexadecimal digits of the hash's length")]
pub struct KeyHashInvalid;

impl KeyHash {
    /// Hashes a token with sha256.
    pub fn of(token: &str) -> Self {
        Self::sha256(Sha256::digest(token.as_bytes()).as_ref())
    }

    /// Names the session that a plugin of an API made of an ID in a request, which is no token.
    ///
    /// No token can be given that has the same name: tokens are text in UTF-8, and what is hashed here begins with a byte
    /// that no such text holds. Each part has its length before it, so that no other organisation, API, plugin and ID
    /// give the same bytes.
    pub fn of_extracted(organisation: &str, api: &ApiId, plugin: &PluginName, id: &[u8]) -> Self {
        let parts = [organisation.as_bytes(), api.as_str().as_bytes(), plugin.as_str().as_bytes(), id];
        Self::of_parts(b"\xffstile extracted id 2", parts)
    }

    /// Names the session that a plugin of an API made of whom it calls by this name. As for [`KeyHash::of_extracted`], no token
    /// has the same name, whatever bytes a caller sends.
    pub fn of_plugin(api: &ApiId, plugin: &PluginName, name: &[u8]) -> Self {
        Self::of_parts(b"\xffstile plugin session 1", [api.as_str().as_bytes(), plugin.as_str().as_bytes(), name])
    }

    fn of_parts<const N: usize>(what: &[u8], parts: [&[u8]; N]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(what);
        for part in parts {
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        Self::sha256(hasher.finalize().as_ref())
    }

    fn sha256(digest: &[u8]) -> Self {
        let mut text = String::with_capacity(64);
        for byte in digest {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        Self { algorithm: HashAlgorithm::Sha256, text: text.into() }
    }

    /// Hashes a token as Tyk does by default (`murmur32`): the running state of murmur3 after its last whole block, so that up
    /// to three bytes at the end never count. Read, where Tyk wrote it, and never written.
    pub fn tyk_of(token: &str) -> Self {
        let (blocks, _) = token.as_bytes().as_chunks::<4>();
        let state = blocks.iter().fold(0_u32, |state, block| {
            let mixed = u32::from_le_bytes(*block).wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
            (state ^ mixed).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
        });
        Self { algorithm: HashAlgorithm::Murmur32, text: format!("{state:08x}").into() }
    }

    /// Takes a hash that is known already.
    pub fn parse(algorithm: HashAlgorithm, text: &str) -> Result<Self, KeyHashInvalid> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex || text.len() != algorithm.digits() {
            return Err(KeyHashInvalid);
        }
        Ok(Self { algorithm, text: text.into() })
    }

    /// Takes a hash whose name is not known: its length tells, as no two that we read share one.
    pub fn guess(text: &str) -> Result<Self, KeyHashInvalid> {
        let known = HashAlgorithm::ALL.into_iter().find(|algorithm| algorithm.digits() == text.len());
        Self::parse(known.ok_or(KeyHashInvalid)?, text)
    }

    /// The hash's name.
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The hash, in lower-case hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl HashAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sha256, Self::Murmur32, Self::Murmur64, Self::Murmur128];

    /// Its name, as Tyk spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Murmur32 => "murmur32",
            Self::Murmur64 => "murmur64",
            Self::Murmur128 => "murmur128",
        }
    }

    /// Finds it by name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    const fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Murmur32 => 8,
            Self::Murmur64 => 16,
            Self::Murmur128 => 32,
        }
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({}:{})", self.algorithm.as_str(), self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_hashed_with_sha256() {
        let hash = KeyHash::of("abc");
        assert_eq!(hash.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(KeyHash::guess(hash.as_str()), Ok(hash));
    }

    #[test]
    fn a_token_is_hashed_as_tyk_does() {
        // Seen on Tyk 5.14.
        for (token, hash) in [
            ("defaultk-x", "8e04d41c"),
            ("defaultk-aa", "8e04d41c"),
            ("defaultbob", "8d94dfb6"),
            ("defaultzzz", "1e148a52"),
        ] {
            assert_eq!(KeyHash::tyk_of(token).as_str(), hash, "{token}");
            assert_eq!(KeyHash::guess(hash), Ok(KeyHash::tyk_of(token)));
        }
    }

    #[test]
    fn a_token_begins_with_its_organisation_once() {
        for (organisation, name, full) in [("", "a", "a"), ("o", "a", "oa"), ("o", "oa", "oa"), ("o", "o", "o")] {
            assert_eq!(full_token(organisation, name), full);
        }
    }

    #[test]
    fn a_token_names_a_key_with_and_without_its_organisation() {
        let hashes = |token, organisation| {
            let token = Token::parse(token).expect("a token");
            token.hashes(organisation).collect::<Vec<_>>()
        };
        assert_eq!(hashes("ana", "red"), [KeyHash::of("ana"), KeyHash::of("redana")]);
        assert_eq!(hashes("redana", "red"), [KeyHash::of("redana")]);
        assert_eq!(hashes("ana", ""), [KeyHash::of("ana")]);
        for text in ["", "an", "a\0na", "ana\n", "\u{7f}ana"] {
            assert!(Token::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_a_hash_is_refused() {
        for text in ["", "8e04d41", "8e04d41C", "8e04d41g", "../../etc"] {
            assert_eq!(KeyHash::guess(text), Err(KeyHashInvalid), "{text}");
        }
        let murmur = KeyHash::guess("8e04d41c").expect("this is one");
        assert_eq!(murmur.algorithm(), HashAlgorithm::Murmur32);
    }

    #[test]
    fn extracted_ids_have_names_of_their_own() {
        let api = |text: &str| ApiId::parse(text).expect("an id");
        let by = |organisation: &str, of: &str, plugin: &str, id: &str| {
            let plugin = PluginName::parse(plugin).expect("a name");
            KeyHash::of_extracted(organisation, &api(of), &plugin, id.as_bytes())
        };
        let of = |organisation: &str, of: &str, id: &str| by(organisation, of, "p", id);
        let all = [
            by("acme", "a", "q", "id"),
            by("acme", "ap", "p", "id"),
            of("acme", "a", "id"),
            of("acme", "b", "id"),
            of("rival", "a", "id"),
            of("acme", "a", "di"),
            of("acm", "ea", "id"),
            of("acme", "ai", "d"),
            KeyHash::of("id"),
            KeyHash::of("acmeaid"),
            KeyHash::of(&String::from_utf8_lossy(b"\xffstile extracted id 1")),
        ];
        let distinct: std::collections::BTreeSet<&KeyHash> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(of("acme", "a", "id"), of("acme", "a", "id"));
    }
}
