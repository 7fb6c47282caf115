//! Checks bearer tokens against a list, without having the tokens.
//!
//! Hook: `auth`, function `token`. Configuration:
//!
//! ```yaml
//! tokens:
//!   - token_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08   # printf %s test | sha256sum
//!     alias: ana
//!     metadata: { team: red }
//!     tags: [internal]
//! ```
//!
//! A digest hides a token only if nobody can guess it: take long random ones (`openssl rand -hex 32`).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use stile_sdk::prelude::*;

#[config]
struct Config {
    /// Who may call.
    tokens: Vec<Caller>,
}

#[config]
struct Caller {
    /// SHA-256 of the token, in hexadecimal.
    token_sha256: String,
    /// The caller's name in logs and analytics.
    alias: String,
    /// What later plugins and transforms may read about the caller.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// Tags for analytics.
    #[serde(default)]
    tags: Vec<String>,
}

struct Tokens(Vec<([u8; 32], Caller)>);

#[plugin]
impl Tokens {
    fn new(config: Config) -> Result<Self, String> {
        let caller = |caller: Caller| match from_hex(&caller.token_sha256) {
            Some(digest) => Ok((digest, caller)),
            None => Err(format!("`token_sha256` of `{}` is not 64 hexadecimal digits", caller.alias)),
        };
        config.tokens.into_iter().map(caller).collect::<Result<_, _>>().map(Self)
    }

    #[auth]
    fn token(&self, credential: Option<&Credential>) -> AuthAction {
        let token = credential.map(|credential| strip_bearer(&credential.value)).filter(|token| !token.is_empty());
        let Some(token) = token else {
            return AuthAction::Refuse(Refusal::CredentialMissing);
        };
        let digest = Sha256::digest(token).into();
        match self.find(&digest) {
            Some(caller) => AuthAction::Authenticated(caller.session()),
            None => AuthAction::Refuse(Refusal::CredentialUnknown),
        }
    }

    /// Looks at every byte of every digest, so that the time taken tells nothing about any of them.
    fn find(&self, digest: &[u8; 32]) -> Option<&Caller> {
        let mut found = None;
        for (known, caller) in &self.0 {
            let difference = known.iter().zip(digest).fold(0, |difference, (a, b)| difference | (a ^ b));
            if std::hint::black_box(difference) == 0 {
                found = Some(caller);
            }
        }
        found
    }
}

impl Caller {
    /// The session is kept under the digest: the gateway never stores the token.
    fn session(&self) -> Session {
        let session = Session::new(self.token_sha256.to_ascii_lowercase()).with_alias(&self.alias);
        let session = self.tags.iter().fold(session, Session::with_tag);
        self.metadata.iter().fold(session, |session, (name, value)| session.with_metadata(name, value.as_str()))
    }
}

fn strip_bearer(value: &[u8]) -> &[u8] {
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => value.trim_ascii(),
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16)).map(|digit| digit?.try_into().ok()).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    (digits.len() == 64).then(|| bytes.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stile_sdk::{
        prelude::*,
        testing::{Call, Host, Loaded, Outcome},
    };

    use super::Tokens;

    fn tokens() -> Loaded<Tokens> {
        Host::new().load_with(json!({ "tokens": [{
            "token_sha256": "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08",
            "alias": "ana",
            "metadata": { "team": "red" },
            "tags": ["internal"],
        }] }))
    }

    fn present(credential: &str) -> Outcome {
        tokens().auth("token", Call::get("/").with_credential("authorization", credential))
    }

    #[test]
    fn a_known_token_makes_a_session_that_does_not_hold_it() {
        for credential in ["Bearer test", "bearer  test", "test"] {
            let session = present(credential).call.session.expect("the token is known");
            assert_eq!(session.alias, "ana");
            assert_eq!(session.metadata_text("team"), Some("red"));
            assert!(session.has_tag("internal"));
            assert!(session.key_id.starts_with("9f86d081"));
        }
    }

    #[test]
    fn a_missing_token_and_an_unknown_one_are_told_apart() {
        assert_eq!(tokens().auth("token", Call::get("/")).refusal, Some(Refusal::CredentialMissing));
        assert_eq!(present("Bearer ").refusal, Some(Refusal::CredentialMissing));
        assert_eq!(present("Bearer tset").refusal, Some(Refusal::CredentialUnknown));
    }

    #[test]
    fn a_broken_digest_is_a_load_error() {
        for digest in ["", "9f86", "zz", &"é".repeat(32), &"0".repeat(65)] {
            let config = json!({ "tokens": [{ "token_sha256": digest, "alias": "ana" }] });
            let error = Host::new().try_load_with::<Tokens>(config).err();
            assert!(error.is_some_and(|error| error.contains("ana")), "{digest}");
        }
    }
}
