//! Components in registries, by version 2 of the OCI's distribution specification: a manifest, maybe by way of an index, and its
//! one layer.

use std::sync::atomic::Ordering;

use http::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::client::{Client, Reply, Wanted};
use super::login::Login;
use super::manifest::{MANIFESTS, Manifest};
use super::{FetchError, Fetched, Inner, Kind};
use crate::model::digest::Digest;
use crate::model::plugin::PluginSpec;
use crate::model::source::{Image, Location, Reference};

/// Who is asked, and what it wants to be told once it has said so.
struct Asking<'c, 's> {
    client: &'c Client<'s>,
    login: Login<'c>,
    image: &'c Image,
    authorization: Option<HeaderValue>,
}

impl Inner {
    pub(super) async fn ask_registry(
        &self,
        client: &Client<'_>,
        login: Login<'_>,
        image: &Image,
        spec: &PluginSpec,
    ) -> Result<Fetched, FetchError> {
        let mut asking = Asking { client, login, image, authorization: None };
        let mut manifest = self.manifest(&mut asking, &image.reference).await?;
        if let Some(chosen) = manifest.chosen()? {
            manifest = self.manifest(&mut asking, &Reference::Digest(chosen)).await?;
        }
        let layer = manifest.component()?;
        let digest = Digest::parse(&layer.digest).filter(|_| layer.digest.starts_with("sha256:"));
        let digest = digest.ok_or_else(|| FetchError::invalid("its layer has no sha256"))?;
        let bytes_max = spec.limits.file_bytes_max;
        if layer.size > bytes_max {
            let reason = format!("its layer has {} bytes, and `limits.file_bytes_max` is {bytes_max}", layer.size);
            return Err(FetchError::new(Kind::Bytes, reason));
        }
        let content = match self.content(&digest) {
            Some(content) => {
                let count = match &image.reference {
                    Reference::Tag(_) => &self.numbers.unchanged,
                    Reference::Digest(_) => &self.numbers.kept,
                };
                count.fetch_add(1, Ordering::Relaxed);
                content
            }
            None => {
                let name = format!("sha256:{}", digest.hex());
                let reply = asking.get("blobs", &name, HeaderMap::new(), bytes_max).await?;
                if Digest::of(&reply.body) != digest {
                    return Err(FetchError::invalid("its layer is not what the manifest says"));
                }
                self.keep(&reply.body, spec)?;
                reply.body
            }
        };
        let signature = manifest.signature(layer).map(|signature| signature.as_bytes().to_vec());
        self.remember(spec, &digest, None, signature.as_deref());
        Ok(Fetched { content, signature, stale: None })
    }

    /// A manifest. One that is named by its digest is kept like a file.
    async fn manifest(&self, asking: &mut Asking<'_, '_>, which: &Reference) -> Result<Manifest, FetchError> {
        let (name, expected) = match which {
            Reference::Tag(tag) => (tag.clone(), None),
            Reference::Digest(digest) => (format!("sha256:{}", digest.hex()), Some(*digest)),
        };
        if let Some(kept) = expected.and_then(|digest| self.content(&digest)) {
            return Manifest::read(&kept);
        }
        let accept = [(ACCEPT, HeaderValue::from_static(MANIFESTS))].into_iter().collect();
        let reply = asking.get("manifests", &name, accept, MANIFEST_BYTES_MAX).await?;
        let digest = Digest::of(&reply.body);
        // A registry says what it means to send; where both are told they are the same or something is wrong.
        let told = reply.headers.get("docker-content-digest").and_then(|told| told.to_str().ok());
        let told = told.filter(|told| told.starts_with("sha256:")).and_then(Digest::parse);
        if expected.or(told).is_some_and(|expected| expected != digest) {
            return Err(FetchError::invalid("its manifest is not the one that was asked for"));
        }
        if let (Some(_), Some(cache)) = (expected, &self.cache) {
            cache.put(&digest, &reply.body);
        }
        Manifest::read(&reply.body)
    }
}

impl Asking<'_, '_> {
    async fn get(&mut self, kind: &str, which: &str, headers: HeaderMap, bytes_max: u64) -> Result<Reply, FetchError> {
        let url = self.image.location(kind, which).ok_or_else(|| FetchError::invalid("it has no URL"))?;
        let mut reply = self.send(&url, &headers, bytes_max).await?;
        if reply.status == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            let authorization = self.authorization(&reply).await;
            self.authorization = Some(authorization.map_err(|error| self.login.explained(error))?);
            reply = self.send(&url, &headers, bytes_max).await?;
        }
        reply.good().map_err(|error| self.login.explained(error))
    }

    /// What opens the door, by what the registry says that it wants.
    async fn authorization(&mut self, reply: &Reply) -> Result<HeaderValue, FetchError> {
        let challenges = reply.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|challenge| challenge.to_str().ok());
        let mut wants_password = false;
        for challenge in challenges {
            match Challenge::parse(challenge) {
                Some(Challenge::Bearer { realm, service }) => return self.token(realm, service).await,
                Some(Challenge::Basic) => wants_password = true,
                None => {}
            }
        }
        self.login.basic().filter(|_| wants_password).ok_or_else(|| reply.refused())
    }

    async fn send(&self, url: &Location, headers: &HeaderMap, bytes_max: u64) -> Result<Reply, FetchError> {
        let mut headers = headers.clone();
        headers.extend(self.authorization.clone().map(|value| (AUTHORIZATION, value)));
        self.client.get(Wanted { url, headers, bytes_max }).await
    }

    /// Gets a token: the account's where there is one, and otherwise one that lets anybody in.
    async fn token(&mut self, realm: &str, service: Option<&str>) -> Result<HeaderValue, FetchError> {
        let registry = &self.image.registry;
        let realm = Location::parse(realm).ok().filter(|realm| realm.origin.tls || !registry.tls);
        let realm = realm.ok_or_else(|| FetchError::invalid("the registry names no good place for tokens"))?;
        let pull = format!("repository:{}:pull", self.image.repository);
        let mut query = format!("scope={}", encoded(&pull));
        if let Some(service) = service {
            query.push_str(&format!("&service={}", encoded(service)));
        }
        let separator = if realm.target.query().is_some() { '&' } else { '?' };
        let url = realm.at(&format!("{}{separator}{query}", realm.target));
        let url = url.ok_or_else(|| FetchError::invalid("the registry names no good place for tokens"))?;
        let basic = self.login.basic_for_tokens(&url.origin);
        let headers = basic.map(|basic| (AUTHORIZATION, basic)).into_iter().collect();
        let wanted = Wanted { url: &url, headers, bytes_max: TOKEN_BYTES_MAX };
        let reply = self.client.get(wanted).await.and_then(Reply::good);
        let reply = reply.map_err(|error| FetchError::new(error.kind, format!("no token: {error}")))?;
        let token: Token = serde_json::from_slice(&reply.body).unwrap_or_default();
        let token = token.token.or(token.access_token).unwrap_or_default();
        let mut token = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| FetchError::invalid("the registry's token is none"))?;
        token.set_sensitive(true);
        Ok(token)
    }
}

#[derive(Default, Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What a registry wants to be told.
#[derive(Debug, PartialEq, Eq)]
enum Challenge<'t> {
    /// A token of another place: `Bearer realm="…",service="…"`.
    Bearer { realm: &'t str, service: Option<&'t str> },
    /// Name and password.
    Basic,
}

impl<'t> Challenge<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let (scheme, mut rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        while let Some((name, quoted)) = rest.split_once("=\"") {
            let (value, more) = quoted.split_once('"')?;
            match name.trim_matches([',', ' ']) {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
            rest = more;
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// What registries take, by the specification.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
const TOKEN_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm, service| Some(Challenge::Bearer { realm, service });
        let text = "Bearer realm=\"https://auth.test/token\",service=\"registry.test\",scope=\"repository:a/b:pull\"";
        assert_eq!(Challenge::parse(text), bearer("https://auth.test/token", Some("registry.test")));
        assert_eq!(Challenge::parse("bearer realm=\"https://a\""), bearer("https://a", None));
        for text in ["Basic realm=\"x\"", "basic"] {
            assert_eq!(Challenge::parse(text), Some(Challenge::Basic), "{text}");
        }
        for text in ["", "Digest realm=\"x\"", "Bearer", "Bearer realm=", "Bearer realm=\"x", "Bearer service=\"x\""] {
            assert_eq!(Challenge::parse(text), None, "{text}");
        }
    }
}
