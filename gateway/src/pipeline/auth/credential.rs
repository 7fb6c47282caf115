//! The caller's credential: where it stands, and how it is taken off.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::model::api::CredentialSource;
use crate::pipeline::exchange::{Exchange, Flow};
use crate::pipeline::query;

/// The credential; nothing where it is missing or empty.
pub fn find(source: &CredentialSource, headers: &HeaderMap, query: Option<&str>) -> Option<Vec<u8>> {
    let value = match source {
        CredentialSource::Header(name) => headers.get(name)?.as_bytes().to_vec(),
        CredentialSource::Query(name) => query::get(query, name)?,
        CredentialSource::Cookie(name) => cookies(headers).find(|(of, _)| of == &name.as_bytes())?.1.to_vec(),
    };
    Some(value).filter(|value| !value.is_empty())
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

/// Names and values of all cookies (RFC 6265, section 5.4; HTTP/2 splits the field, RFC 9113, section 8.2.3).
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
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
