//! Which key a path means: a hash, or a token with or without its organisation.

use crate::admin::answer::Refusal;
use crate::admin::control::Control;
use crate::admin::request::Query;
use crate::model::key::{KeyHash, full_token};
use crate::store::{Store, Stored};

/// The key that a path names.
pub(super) enum KeyName {
    Hash(String),
    /// Spellings of a token, the likeliest first; or else the ID that a plugin of an API was asked about.
    Tokens(Vec<String>, Option<KeyHash>),
}

impl KeyName {
    /// The organisation is the body's, or else that of `?org_id=` or of the API of `?api_id=`. As in Tyk, a token is looked
    /// for with its organisation in front first, and then as it is. With `?api_id=` it may be an ID, too, of which a plugin of
    /// that API made a session.
    pub(super) fn parse(control: &Control, query: &Query<'_>, name: &str, organisation: Option<&str>) -> Self {
        if query.is_hashed() {
            return Self::Hash(name.to_owned());
        }
        let organisation = organisation.filter(|organisation| !organisation.is_empty()).map(str::to_owned);
        let organisation = organisation
            .or_else(|| query.get("org_id"))
            .or_else(|| query.get("api_id").and_then(|api| (control.organisation)(&api)))
            .unwrap_or_default();
        let full = full_token(&organisation, name);
        let mut tokens = vec![full];
        if tokens.iter().all(|token| token != name) {
            tokens.push(name.to_owned());
        }
        let identity = query.get("api_id").and_then(|api| (control.identity)(&api, name));
        Self::Tokens(tokens, identity)
    }

    /// Hashes under which it may be kept, each with the key as it is shown: ours first, then those of Tyk.
    pub(super) fn hashes(&self) -> Vec<(String, KeyHash)> {
        match self {
            Self::Hash(text) => by_hash(text).map(|hash| (text.clone(), hash)).into_iter().collect(),
            Self::Tokens(tokens, identity) => {
                let ours = tokens.iter().map(|token| (token.clone(), KeyHash::of(token)));
                let tyks = tokens.iter().map(|token| (token.clone(), KeyHash::tyk_of(token)));
                let made = tokens.last().cloned().zip(identity.clone());
                ours.chain(tyks).chain(made).collect()
            }
        }
    }

    /// The first that there is.
    pub(super) async fn find(&self, store: &Store) -> Result<Option<(String, KeyHash, Stored)>, Refusal> {
        for (shown, hash) in self.hashes() {
            if let Some(stored) = store.session(&hash).await? {
                return Ok(Some((shown, hash, stored)));
            }
        }
        Ok(None)
    }
}

/// A hash by its length, capital digits or small.
pub(super) fn by_hash(text: &str) -> Option<KeyHash> {
    KeyHash::guess(&text.to_ascii_lowercase()).ok()
}
