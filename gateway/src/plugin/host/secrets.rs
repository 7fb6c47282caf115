//! Secrets of guests: a placeholder goes in, the value goes out.
//!
//! Values are put into header fields of requests on their way out, and nowhere else: URLs stand in logs, and bodies are
//! sent back more readily than fields. Who may hear a value is decided by where the request goes. Hiding it in the
//! answer only helps against servers that repeat what they heard: one that encodes it would have to be trusted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::http::Refused;
use super::{Host, imports};
use crate::model::outgoing::Site;
use crate::model::secret::PluginSecret;
use imports::secrets::Error;

impl imports::secrets::Host for Host {
    fn placeholder(&mut self, name: String) -> wasmtime::Result<Result<String, Error>> {
        self.charge(name.len())?;
        let identity = self.identity()?.clone();
        let Some(index) = identity.secrets.iter().position(|secret| secret.name == name) else {
            return Ok(Err(Error::NotFound));
        };
        Ok(self.sender().placeholders.of(index).ok_or(Error::Denied))
    }
}

/// The placeholders of one instance, by the index of their secret. They mean nothing to another instance.
#[derive(Debug, Default)]
pub(super) struct Placeholders(Vec<(usize, String)>);

impl Placeholders {
    /// The placeholder of a secret; `None` where the system has no random bytes.
    fn of(&mut self, index: usize) -> Option<String> {
        if let Some((_, text)) = self.0.iter().find(|(of, _)| *of == index) {
            return Some(text.clone());
        }
        let mut bytes = [0; 16];
        rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).ok()?;
        let text = format!("{PREFIX}{:032x}", u128::from_be_bytes(bytes));
        self.0.push((index, text.clone()));
        Some(text)
    }

    /// Puts the values where placeholders are, and returns what to hide in the answer.
    pub(super) fn put_in(
        &self,
        secrets: &[PluginSecret],
        site: &Site,
        headers: &mut HeaderMap,
    ) -> Result<Masks, Refused> {
        let mut masks = Masks::default();
        if self.0.is_empty() {
            return Ok(masks);
        }
        for (name, value) in headers.iter_mut() {
            if let Some(replaced) = self.replaced(secrets, site, value.as_bytes(), &mut masks)? {
                *value = sensitive(&replaced)?;
            } else if let Some(pair) = basic(name, value) {
                // The usual way for a client to tell a token server who it is (RFC 7617).
                let Some(replaced) = self.replaced(secrets, site, &pair, &mut masks)? else { continue };
                let encoded = BASE64.encode(replaced);
                masks.add(encoded.as_bytes());
                *value = sensitive(format!("Basic {encoded}").as_bytes())?;
            }
        }
        Ok(masks)
    }

    /// The text with values for placeholders; `None` where there is none in it.
    fn replaced(
        &self,
        secrets: &[PluginSecret],
        site: &Site,
        text: &[u8],
        masks: &mut Masks,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let mut replaced = None;
        for (index, placeholder) in &self.0 {
            let text = replaced.as_deref().unwrap_or(text);
            let places = places(text, placeholder.as_bytes());
            let (Some(secret), false) = (secrets.get(*index), places.is_empty()) else { continue };
            if !secret.may_go(site) {
                return Err(Refused::Secret);
            }
            let value = secret.value.expose().as_bytes();
            masks.add(value);
            let (mut out, mut rest) = (Vec::new(), 0);
            for place in places {
                out.extend_from_slice(text.get(rest..place).unwrap_or_default());
                out.extend_from_slice(value);
                rest = place + placeholder.len();
            }
            out.extend_from_slice(text.get(rest..).unwrap_or_default());
            replaced = Some(out);
        }
        Ok(replaced)
    }
}

fn sensitive(text: &[u8]) -> Result<HeaderValue, Refused> {
    let mut value = HeaderValue::from_bytes(text).map_err(|_| Refused::Field)?;
    value.set_sensitive(true);
    Ok(value)
}

/// User and password of an `Authorization: Basic` field.
fn basic(name: &HeaderName, value: &HeaderValue) -> Option<Vec<u8>> {
    let text = value.to_str().ok().filter(|_| *name == header::AUTHORIZATION)?;
    let (scheme, encoded) = text.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("basic") { BASE64.decode(encoded.trim()).ok() } else { None }
}

/// Where `what` begins in `text`, without overlaps.
fn places(text: &[u8], what: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.windows(what.len().max(1)).position(|w| w == what)) {
        places.push(from + at);
        from += at + what.len();
    }
    places
}

/// What was sent of secrets, to be hidden in the answer. Stars of the same number stand for it: lengths stay true.
#[derive(Default)]
pub(super) struct Masks {
    hidden: Vec<Vec<u8>>,
    /// The end of what came so far, where something may begin that is to be hidden.
    tail: BytesMut,
}

impl Masks {
    fn add(&mut self, text: &[u8]) {
        // What is shorter may be in an answer by accident, and hiding it would tell what it is.
        if text.len() >= HIDDEN_BYTES_MIN && !self.hidden.iter().any(|hidden| hidden == text) {
            self.hidden.push(text.to_vec());
        }
    }

    /// Hides secrets in header fields.
    pub(super) fn hide_in(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let mut text = value.as_bytes().to_vec();
            if self.hide(&mut text)
                && let Ok(hidden) = HeaderValue::from_bytes(&text)
            {
                *value = hidden;
            }
        }
    }

    /// Hides secrets in a body on its way: the frames that may go on. `None` is its end.
    pub(super) fn pass(&mut self, frame: Option<Frame<Bytes>>) -> Vec<Frame<Bytes>> {
        let Some(longest) = self.hidden.iter().map(Vec::len).max() else { return frame.into_iter().collect() };
        let (data, trailers) = match frame.map(Frame::into_data) {
            Some(Ok(data)) => (Some(data), None),
            Some(Err(other)) => (None, other.into_trailers().ok()),
            None => (None, None),
        };
        let mut out = Vec::new();
        let is_more = data.is_some();
        self.tail.extend_from_slice(&data.unwrap_or_default());
        let mut tail = std::mem::take(&mut self.tail);
        self.hide(&mut tail);
        let kept = if is_more { tail.len().min(longest - 1) } else { 0 };
        self.tail = tail.split_off(tail.len() - kept);
        if !tail.is_empty() {
            out.push(Frame::data(tail.freeze()));
        }
        if let Some(mut trailers) = trailers {
            self.hide_in(&mut trailers);
            out.push(Frame::trailers(trailers));
        }
        out
    }

    fn hide(&self, text: &mut [u8]) -> bool {
        let mut found = false;
        for hidden in &self.hidden {
            for place in places(text, hidden) {
                if let Some(part) = text.get_mut(place..place + hidden.len()) {
                    part.fill(b'*');
                    found = true;
                }
            }
        }
        found
    }
}

/// Placeholders are told by it in the logs of servers that they reached by mistake.
const PREFIX: &str = "stile-secret-";
const HIDDEN_BYTES_MIN: usize = 8;

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::model::outgoing::Destination;
    use crate::model::secret::SecretValue;

    fn secret(name: &str, value: &str, to: &[&str]) -> PluginSecret {
        let to = to.iter().map(|text| Destination::parse(text, false).unwrap()).collect();
        PluginSecret { name: name.to_owned(), value: SecretValue::parse(value).unwrap(), to }
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    fn site() -> Site {
        Site::parse(true, "auth.test").unwrap()
    }

    #[test]
    fn values_stand_for_placeholders_in_fields() {
        let secrets = [secret("a", "first-value", &[]), secret("b", "second-value", &["https://auth.test"])];
        let mut placeholders = Placeholders::default();
        let (a, b) = (placeholders.of(0).unwrap(), placeholders.of(1).unwrap());
        assert_eq!(placeholders.of(0).as_ref(), Some(&a));
        assert_ne!(a, b);
        let mut fields = headers("x-both", &format!("{a} and {b}, {a}"));
        placeholders.put_in(&secrets, &site(), &mut fields).unwrap();
        assert_eq!(fields["x-both"], "first-value and second-value, first-value");
        assert!(fields["x-both"].is_sensitive());
        let mut other = headers("x-none", "nothing");
        placeholders.put_in(&secrets, &site(), &mut other).unwrap();
        assert_eq!(other["x-none"], "nothing");
    }

    #[test]
    fn values_stand_in_basic_credentials() {
        let secrets = [secret("a", "hunter22", &[])];
        let mut placeholders = Placeholders::default();
        let pair = format!("gateway:{}", placeholders.of(0).unwrap());
        let mut fields = headers("authorization", &format!("basic {}", BASE64.encode(pair)));
        placeholders.put_in(&secrets, &site(), &mut fields).unwrap();
        assert_eq!(fields["authorization"], format!("Basic {}", BASE64.encode("gateway:hunter22")));
    }

    #[test]
    fn a_value_goes_to_its_hosts_only() {
        let secrets = [secret("a", "hunter22", &["https://other.test"])];
        let mut placeholders = Placeholders::default();
        let a = placeholders.of(0).unwrap();
        for value in [a.clone(), format!("Basic {}", BASE64.encode(format!("x:{a}")))] {
            let refused = placeholders.put_in(&secrets, &site(), &mut headers("authorization", &value));
            assert_eq!(refused.err(), Some(Refused::Secret));
        }
        let other = Site::parse(true, "other.test").unwrap();
        assert!(placeholders.put_in(&secrets, &other, &mut headers("x", &a)).is_ok());
    }

    #[test]
    fn another_instance_s_placeholder_is_text() {
        let secrets = [secret("a", "hunter22", &[])];
        let a = Placeholders::default().of(0).unwrap();
        let mut mine = Placeholders::default();
        mine.of(0).unwrap();
        let mut fields = headers("x", &a);
        mine.put_in(&secrets, &site(), &mut fields).unwrap();
        assert_eq!(fields["x"], a);
    }

    /// What comes through of a body that comes in these pieces.
    #[track_caller]
    fn check(pieces: &[&'static str], expected: &str) {
        let mut masks = Masks::default();
        masks.add(b"hunter22");
        masks.add(b"short");
        let mut out = Vec::new();
        for piece in pieces.iter().map(|piece| Some(Frame::data(Bytes::from_static(piece.as_bytes())))).chain([None]) {
            for frame in masks.pass(piece) {
                out.extend_from_slice(&frame.into_data().unwrap());
            }
        }
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{pieces:?}");
    }

    #[test]
    fn what_was_sent_is_hidden_in_the_answer_however_it_is_cut() {
        check(&["you said hunter22!"], "you said ********!");
        check(&["you said hun", "ter22!"], "you said ********!");
        check(&["h", "u", "n", "t", "e", "r", "2", "2"], "********");
        check(&["hunter2", "x", "hunter22hunter22"], "hunter2x****************");
        check(&["short"], "short");
        check(&[""], "");
    }
}
