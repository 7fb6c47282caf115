//! Built-in authentication: the credential is the token of a session in the store.

use crate::model::api::CredentialSource;
use crate::model::key::{KeyHash, Token};
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
    let token = Token::parse(token).ok_or(Reject::CredentialUnknown)?;
    let organisation = &exchange.plan.api.organisation;
    let mut found = None;
    for key in token.hashes(organisation) {
        if let Some(stored) = find(exchange, &key).await? {
            found = Some((key, stored));
            break;
        }
    }
    let (key, stored) = found.ok_or(Reject::CredentialUnknown)?;
    // A key of another organisation is nobody here, which Tyk does not look at.
    let of = &stored.session.organisation;
    if !of.is_empty() && of != organisation {
        return Err(Reject::OtherOrganisation);
    }
    Caller::kept(exchange, key, stored, None).await
}

/// The session of a key, as the cache has it.
async fn find(exchange: &Exchange, key: &KeyHash) -> Result<Option<Stored>, Reject> {
    match exchange.core.sessions.get(key).await {
        // What was known last, unless the operator would rather refuse.
        Err(error) if error.is_away() && exchange.core.away != Away::Deny => {
            exchange.core.sessions.last_known(key).ok_or(Reject::Store(error))
        }
        Err(error) => Err(Reject::Store(error)),
        Ok(stored) => {
            exchange.core.store_answered();
            Ok(stored)
        }
    }
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
