//! Built-in authentication: the credential is the token of a session in the store.

use crate::model::api::CredentialSource;
use crate::model::key::{KeyHash, full_token};
use crate::model::store::Away;
use crate::pipeline::caller::Caller;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::reject::Reject;
use crate::store::Stored;

/// The caller whose token this is.
pub(super) async fn caller(
    exchange: &Exchange,
    source: &CredentialSource,
    credential: Option<&[u8]>,
) -> Result<Box<Caller>, Reject> {
    let credential = credential.ok_or(Reject::CredentialMissing)?;
    let token = std::str::from_utf8(credential).map_err(|_| Reject::CredentialUnknown)?;
    let token = if matches!(source, CredentialSource::Header(_)) { bare(token) } else { token };
    if token.is_empty() {
        return Err(Reject::CredentialMissing);
    }
    // A query or cookie may hold any byte; no token that the gateway makes or keeps does.
    if token.chars().any(char::is_control) {
        return Err(Reject::CredentialUnknown);
    }
    // As in Tyk, whose `min_token_length` has this default.
    if token.len() < TOKEN_BYTES_MIN {
        return Err(Reject::CredentialUnknown);
    }
    let organisation = &exchange.plan.api.organisation;
    let (key, stored) = match find(exchange, token).await? {
        Some(found) => found,
        // As in Tyk, a key may be called by its own name, without the organisation in front.
        None => {
            let full = full_token(organisation, token);
            let found = if full == token { None } else { find(exchange, &full).await? };
            found.ok_or(Reject::CredentialUnknown)?
        }
    };
    // A key of another organisation is nobody here, which Tyk does not look at.
    let of = &stored.session.organisation;
    if !of.is_empty() && of != organisation {
        return Err(Reject::OtherOrganisation);
    }
    Caller::kept(exchange, key, stored, None).await
}

/// The session of a token, as the cache has it.
async fn find(exchange: &Exchange, token: &str) -> Result<Option<(KeyHash, Stored)>, Reject> {
    let key = KeyHash::of(token);
    let stored = match exchange.core.sessions.get(&key).await {
        Ok(stored) => {
            exchange.core.store_answered();
            stored
        }
        // What was known last, unless the operator would rather refuse.
        Err(error) if error.is_away() && exchange.core.away != Away::Deny => {
            exchange.core.sessions.last_known(&key).ok_or(Reject::Store(error))?
        }
        Err(error) => return Err(Reject::Store(error)),
    };
    Ok(stored.map(|stored| (key, stored)))
}

/// The token of `Bearer …` (RFC 6750, section 2.1). As in Tyk, the scheme may be left out.
fn bare(value: &str) -> &str {
    match value.split_at_checked(BEARER.len()) {
        Some((scheme, "")) if scheme.eq_ignore_ascii_case(BEARER) => "",
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(BEARER) && token.starts_with(' ') => token.trim_start(),
        _ => value,
    }
}

const BEARER: &str = "bearer";
const TOKEN_BYTES_MIN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_may_be_left_out() {
        for (value, token) in [
            ("Bearer abc", "abc"),
            ("bearer  abc", "abc"),
            ("abc", "abc"),
            ("Bearerabc", "Bearerabc"),
            ("Bearer ", ""),
            ("bearer", ""),
        ] {
            assert_eq!(bare(value), token, "{value}");
        }
    }
}
