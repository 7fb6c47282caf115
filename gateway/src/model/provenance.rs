//! Where the file of a plugin must come from: the digest that it has, and whose signature.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};

use super::digest::{Digest, bytes_of_hex};

/// What the file of a plugin must show before anything of it is used. The default asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The digest that it must have.
    pub sha256: Option<Digest>,
    /// Who must have signed it.
    pub signed: Option<Signed>,
}

/// A signature that a file must have: of ed25519, over its content, in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The keys one of which must have made it.
    pub by: Vec<TrustedKey>,
    /// The file that has it; none where it comes with a file that is fetched.
    pub file: Option<PathBuf>,
}

/// A key that the operator trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// The name by which plugins ask for it.
    pub name: Arc<str>,
    key: VerifyingKey,
}

/// What every plugin of a gateway must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PluginsRequire {
    /// Nothing.
    #[default]
    Nothing,
    /// The digest of its file.
    Pinned,
    /// A signature.
    Signed,
}

/// Why a file is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// It is another file.
    #[error(
        "its file has the sha256 {found}, and {pinned} is pinned; if the new file is good, write that as its `sha256`"
    )]
    Digest {
        /// What it has.
        found: String,
        /// What it should have.
        pinned: String,
    },
    /// There is no signature, or it cannot be read.
    #[error("it must be signed, and its signature cannot be read: `{place}`: {reason}")]
    Unsigned {
        /// Where it was looked for.
        place: String,
        /// What is the matter.
        reason: String,
    },
    /// What is there is no signature.
    #[error("its signature is neither the 64 bytes of one of ed25519 nor these in base64")]
    Malformed,
    /// Nobody who is trusted signed this content.
    #[error("its signature is by none of {keys}, or is that of another file")]
    Stranger {
        /// The names of the keys that would do.
        keys: String,
    },
}

/// Why a text is no key to trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyInvalid {
    /// It is none of the known forms.
    #[error("it is neither PEM, nor 32 bytes in base64 or hexadecimal")]
    Form,
    /// It is a key for something else.
    #[error("it is a key of another kind than ed25519, or a private one")]
    Kind,
    /// No good key looks like that: signatures of it would fit many files.
    #[error("it is no point that a good key of ed25519 has")]
    Weak,
}

impl Provenance {
    /// Whether it asks for nothing.
    pub const fn is_open(&self) -> bool {
        self.sha256.is_none() && self.signed.is_none()
    }

    /// Looks at a file's content and its signature, which is asked for where it must have one. Gives the name of the key.
    ///
    /// # Errors
    /// It is not what it must be.
    pub fn check(
        &self,
        content: &[u8],
        digest: &Digest,
        signature: impl FnOnce(&Signed) -> Result<Vec<u8>, Doubt>,
    ) -> Result<Option<Arc<str>>, Doubt> {
        if let Some(pinned) = self.sha256.as_ref().filter(|pinned| *pinned != digest) {
            return Err(Doubt::Digest { found: digest.hex(), pinned: pinned.hex() });
        }
        let Some(signed) = &self.signed else { return Ok(None) };
        let signature = signature_of(&signature(signed)?).ok_or(Doubt::Malformed)?;
        // Strictly: a signature that is good here is good for every verifier, and for one content.
        let signer = signed.by.iter().find(|trusted| trusted.key.verify_strict(content, &signature).is_ok());
        match signer {
            Some(trusted) => Ok(Some(trusted.name.clone())),
            None => {
                let names = signed.by.iter().map(|trusted| format!("`{}`", trusted.name));
                Err(Doubt::Stranger { keys: names.collect::<Vec<_>>().join(", ") })
            }
        }
    }
}

impl TrustedKey {
    /// Reads a public key as `openssl pkey -pubout` writes it, that without its first and last line, or its 32 bytes in
    /// base64 or hexadecimal.
    ///
    /// # Errors
    /// It is no such key.
    pub fn parse(name: &str, text: &str) -> Result<Self, KeyInvalid> {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        let text = lines.collect::<String>();
        let bytes = match bytes_of_hex(&text) {
            Some(bytes) => bytes,
            None => {
                let decoded = STANDARD.decode(&text).map_err(|_| KeyInvalid::Form)?;
                let bare = match decoded.len() {
                    0..32 => return Err(KeyInvalid::Form),
                    32 => Some(decoded.as_slice()),
                    _ => decoded.strip_prefix(SPKI),
                };
                bare.and_then(|bytes| bytes.try_into().ok()).ok_or(KeyInvalid::Kind)?
            }
        };
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyInvalid::Weak)?;
        if key.is_weak() {
            return Err(KeyInvalid::Weak);
        }
        Ok(Self { name: name.into(), key })
    }
}

/// The signature in what a file has: 64 bytes, or these in base64 with line breaks where its writer put them.
fn signature_of(bytes: &[u8]) -> Option<Signature> {
    if let Ok(signature) = <&[u8; 64]>::try_from(bytes) {
        return Some(Signature::from_bytes(signature));
    }
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = STANDARD.decode(text).ok()?;
    <&[u8; 64]>::try_from(decoded.as_slice()).ok().map(Signature::from_bytes)
}

/// What stands before the 32 bytes of a key of ed25519 in DER (RFC 8410, section 4).
const SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by openssl, as the reference tells: of `a component`.
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAu6iFWBCUpVozPHRudZPCvjUkQbtSfS42nq0xtFCDVwE=\n\
                       -----END PUBLIC KEY-----\n";
    const SIGNATURE: &str =
        "TSPpI6R90d4lxGKYWyy+Q1i1fUgOiImLSBnU2oeJa4holA8jgOeCxGJkgsgdOfIm\nGPvUIJ93k1SLqzIQGX0GCw==\n";
    const OTHER: &str = "MCowBQYDK2VwAyEAwueY0Bk9HXoJnKNaDNzT+zgGd1gnFcA2C4K3e5DNTek=";

    fn key(name: &str, text: &str) -> TrustedKey {
        TrustedKey::parse(name, text).expect("it is a key")
    }

    /// What becomes of a content with this signature under these keys.
    fn check(keys: &[(&str, &str)], content: &[u8], signature: &[u8]) -> Result<Option<Arc<str>>, Doubt> {
        let by = keys.iter().map(|(name, text)| key(name, text)).collect();
        let provenance = Provenance { sha256: None, signed: Some(Signed { by, file: None }) };
        provenance.check(content, &Digest::of(content), |_| Ok(signature.to_owned()))
    }

    #[test]
    fn what_openssl_signed_is_known_by_its_key() {
        let raw = signature_of(SIGNATURE.as_bytes()).expect("a signature").to_bytes();
        let keys = [("other", OTHER), ("release", PEM)];
        for signature in [SIGNATURE.as_bytes(), raw.as_slice()] {
            assert_eq!(check(&keys, b"a component", signature), Ok(Some("release".into())));
        }
        let stranger = |keys: &str| Err(Doubt::Stranger { keys: keys.to_owned() });
        assert_eq!(check(&keys, b"another component", &raw), stranger("`other`, `release`"));
        assert_eq!(check(&[("other", OTHER)], b"a component", &raw), stranger("`other`"));
        for at in 0..raw.len() {
            let mut forged = raw;
            if let Some(byte) = forged.get_mut(at) {
                *byte ^= 1 << (at % 8);
            }
            assert!(check(&keys, b"a component", &forged).is_err(), "byte {at}");
        }
        for malformed in [b"".as_slice(), b"no base64!", &raw[..63], &[raw.as_slice(), b"\0"].concat()] {
            assert_eq!(check(&keys, b"a component", malformed), Err(Doubt::Malformed));
        }
    }

    #[test]
    fn a_digest_that_is_pinned_is_compared_before_a_signature_is_asked_for() {
        let pinned = Digest::of(b"a component");
        let signed = Some(Signed { by: vec![key("release", PEM)], file: None });
        let provenance = Provenance { sha256: Some(pinned), signed };
        let found = Digest::of(b"another");
        let doubt = provenance.check(b"another", &found, |_| panic!("it is not asked for"));
        assert_eq!(doubt, Err(Doubt::Digest { found: found.hex(), pinned: pinned.hex() }));
    }

    #[test]
    fn keys_are_read_in_every_form() {
        let hex = "bba885581094a55a333c746e7593c2be352441bb527d2e369ead31b450835701";
        let expected = key("release", PEM);
        for text in [
            hex,
            "MCowBQYDK2VwAyEAu6iFWBCUpVozPHRudZPCvjUkQbtSfS42nq0xtFCDVwE=",
            "u6iFWBCUpVozPHRudZPCvjUkQbtSfS42nq0xtFCDVwE=",
        ] {
            assert_eq!(key("release", text), expected, "{text}");
        }
        let refused = |text: &str| TrustedKey::parse("k", text).expect_err("it is none");
        // A key for another purpose, one byte too few, the point of order two, words.
        assert_eq!(refused("MCowBQYDK2VuAyEASiwDhB4TKrzcHzFnv6OC0A1m5m+u9adgxx5+7j2oRXg="), KeyInvalid::Kind);
        assert_eq!(refused("u6iFWBCUpVozPHRudZPCvjUkQbtSfS42nq0xtFCDVw=="), KeyInvalid::Form);
        assert_eq!(refused(&format!("ec{}7f", "ff".repeat(30))), KeyInvalid::Weak);
        assert_eq!(refused("release.pem"), KeyInvalid::Form);
        assert_eq!(refused(""), KeyInvalid::Form);
    }
}
