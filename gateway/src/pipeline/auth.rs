//! Who calls: the credential, the plugin that knows it, and the session that it gives.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::exchange::{Answer, Exchange, Flow};
use super::hooks;
use super::plan::AuthStep;
use super::query;
use super::reject::Reject;
use crate::model::api::CredentialSource;
use crate::plugin::verdict::{AuthVerdict, CredentialPlace, CredentialView, Refusal};

/// Asks the plugin who calls, and keeps the session for the request.
pub async fn authenticate(step: &AuthStep, exchange: &mut Exchange) -> Result<Flow, Reject> {
    let hook = &step.hook;
    hooks::read_body(hook, exchange).await?;
    let value = find(&step.credential, &exchange.headers, exchange.query.as_deref());
    let (place, name) = match &step.credential {
        CredentialSource::Header(name) => (CredentialPlace::Header, name.as_str()),
        CredentialSource::Query(name) => (CredentialPlace::Query, name.as_str()),
        CredentialSource::Cookie(name) => (CredentialPlace::Cookie, name.as_str()),
    };
    let credential = value.as_deref().map(|value| CredentialView { place, name, value });
    let (facts, view) = exchange.seen_by(hook);
    // Boxed: a session on its way out of the guest would make the future of every request larger.
    let outcome = Box::pin(hook.function.auth(&exchange.core.worker, facts, view, credential)).await;
    // `continue` is refused for `auth` when a definition is read, so there always is a verdict or an error.
    let Some(verdict) = hooks::settle(hook, exchange, outcome)? else { return Err(Reject::CredentialUnknown) };
    exchange.credential = value;
    match verdict {
        AuthVerdict::Authenticated { mut session, edits } => {
            hooks::edit_request(exchange, edits).map_err(|reason| hooks::invalid(hook, reason))?;
            // The organisation is not the plugin's to choose.
            session.organisation.clone_from(&exchange.plan.api.organisation);
            exchange.session = Some(session);
            Ok(Flow::Next)
        }
        AuthVerdict::Refuse(refusal) => {
            hook.metrics.rejected();
            Err(match refusal {
                Refusal::CredentialMissing => Reject::CredentialMissing,
                Refusal::CredentialUnknown => Reject::CredentialUnknown,
                Refusal::CredentialExpired => Reject::SessionExpired,
                Refusal::CredentialInactive => Reject::SessionInactive,
            })
        }
        AuthVerdict::Respond(reply) => {
            hook.metrics.responded();
            Ok(Flow::Reply(Box::new(Answer::from(reply))))
        }
        AuthVerdict::Reject(rejection) => {
            hook.metrics.rejected();
            Err(Reject::ByPlugin(Box::new(rejection)))
        }
    }
}

/// Takes the credential off before the upstream.
pub fn strip(source: &CredentialSource, exchange: &mut Exchange) -> Flow {
    match source {
        CredentialSource::Header(name) => {
            exchange.headers.remove(name);
        }
        CredentialSource::Query(name) => exchange.query = query::without(exchange.query.as_deref(), name),
        CredentialSource::Cookie(name) => strip_cookie(&mut exchange.headers, name),
    }
    Flow::Next
}

/// Ends the request of a session that is inactive or expired.
pub fn check_expiry(exchange: &Exchange) -> Result<Flow, Reject> {
    let Some(session) = &exchange.session else { return Ok(Flow::Next) };
    if session.inactive {
        return Err(Reject::SessionInactive);
    }
    let now = i64::try_from(exchange.time_ms / 1000).unwrap_or(i64::MAX);
    if session.expires > 0 && session.expires <= now {
        return Err(Reject::SessionExpired);
    }
    Ok(Flow::Next)
}

fn find(source: &CredentialSource, headers: &HeaderMap, query: Option<&str>) -> Option<Vec<u8>> {
    let value = match source {
        CredentialSource::Header(name) => headers.get(name)?.as_bytes().to_vec(),
        CredentialSource::Query(name) => query::get(query, name)?,
        CredentialSource::Cookie(name) => cookies(headers).find(|(of, _)| of == &name.as_bytes())?.1.to_vec(),
    };
    Some(value).filter(|value| !value.is_empty())
}

/// Names and values of all cookies (RFC 6265, section 5.4; HTTP/2 splits the field, RFC 9113, section 8.2.3).
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).filter_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at(at);
        Some((name, value.get(1..)?))
    })
}

fn strip_cookie(headers: &mut HeaderMap, name: &str) {
    let kept: Vec<Vec<u8>> = cookies(headers)
        .filter(|(of, _)| *of != name.as_bytes())
        .map(|(name, value)| [name, b"=", value].concat())
        .collect();
    headers.remove(COOKIE);
    if let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
        && !kept.is_empty()
    {
        headers.insert(COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(cookie))])
    }

    #[test]
    fn a_credential_is_found_in_its_cookie_and_taken_off() {
        let mut headers = headers("a=1; sid=s=1; b=2");
        let source = CredentialSource::Cookie("sid".to_owned());
        assert_eq!(find(&source, &headers, None), Some(b"s=1".to_vec()));
        strip_cookie(&mut headers, "sid");
        assert_eq!(headers.get(COOKIE), Some(&HeaderValue::from_static("a=1; b=2")));
    }

    #[test]
    fn the_last_cookie_takes_its_field_along() {
        let mut headers = headers("sid=1");
        strip_cookie(&mut headers, "sid");
        assert!(headers.is_empty());
    }
}
