//! Asks a token server about bearer tokens (RFC 7662), with a secret that it never sees.
//!
//! Hook: `auth`, function `introspect`. Grants: `outgoing-http`, `secrets`. In the gateway's configuration:
//!
//! ```yaml
//! plugins:
//!   introspect:
//!     file: plugins/introspect.wasm
//!     grants: [outgoing-http, secrets]
//!     outgoing_http: { allow: ["https://auth.example.com"] }
//!     secrets: { client: { env: TOKEN_SERVER_SECRET } }
//!     limits: { deadline_ms: 2_000 }
//! ```
//!
//! and of an API, which asks once for each token as long as its answer is good:
//!
//! ```yaml
//! auth:
//!   plugin: introspect
//!   config: { url: "https://auth.example.com/introspect", client: gateway }
//!   id_extractor: { from: header }
//! ```

use base64::{Engine, engine::general_purpose::STANDARD};
use stile_sdk::{prelude::*, serde};

#[config]
struct Config {
    /// Where the token server answers.
    url: String,
    /// Whom it knows the gateway as; its password is the secret `client`.
    client: String,
    /// How long an answer is good at most, in seconds.
    #[serde(default = "five_minutes")]
    remember_seconds: i64,
}

fn five_minutes() -> i64 {
    300
}

/// What the token server says of a token.
#[derive(serde::Deserialize)]
#[serde(crate = "stile_sdk::serde")]
struct Answer {
    active: bool,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    scope: String,
    exp: Option<i64>,
}

#[plugin(
    config = Self,
    capabilities(outgoing_http = "asks the token server", secrets = "tells the token server who asks")
)]
impl Config {
    #[auth]
    fn introspect(&self, credential: Option<&Credential>, context: &Context) -> Result<AuthAction, String> {
        let token = credential.and_then(Credential::text).map(strip_bearer).filter(|token| !token.is_empty());
        let Some(token) = token else { return Ok(AuthAction::Refuse(Refusal::CredentialMissing)) };
        let answer = self.ask(token)?;
        let now = i64::try_from(context.time_ms / 1000).unwrap_or(i64::MAX);
        if !answer.active {
            return Ok(AuthAction::Refuse(Refusal::CredentialUnknown));
        }
        if answer.exp.is_some_and(|expires| expires <= now) {
            return Ok(AuthAction::Refuse(Refusal::CredentialExpired));
        }
        let good_until = answer.exp.unwrap_or(i64::MAX).min(now.saturating_add(self.remember_seconds));
        let mut session = Session::new(token).with_alias(answer.sub).with_metadata("scope", answer.scope.as_str());
        session.expires = answer.exp.unwrap_or_default();
        session.id_extractor_deadline = good_until;
        session.lifetime_seconds = good_until - now;
        Ok(AuthAction::Authenticated(session))
    }

    fn ask(&self, token: &str) -> Result<Answer, String> {
        // The gateway puts the value in the placeholder's place, also within `Basic`.
        let secret = secrets::placeholder("client").map_err(|error| format!("no secret `client`: {error:?}"))?;
        let answer = http::post(&self.url)
            .header("authorization", format!("Basic {}", STANDARD.encode(format!("{}:{secret}", self.client))))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(format!("token={}&token_type_hint=access_token", form_value(token)))
            .send()?;
        match answer.status {
            200 => answer.json(),
            status => Err(format!("the token server answered {status}")),
        }
    }
}

fn strip_bearer(value: &str) -> &str {
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer ") => token.trim(),
        _ => value.trim(),
    }
}

fn form_value(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stile_sdk::{
        http::{Error, Response},
        prelude::*,
        testing::{Call, Host, Outcome},
    };

    use super::{Config, form_value};

    /// Presents a token where the server answers like this.
    fn present(host: &Host, answer: Result<(u16, Value), Error>) -> Outcome {
        host.set_secret("client");
        host.answer_http(move |_| answer.clone().map(|(status, body)| Response::new(status, body.to_string())));
        let config = json!({ "url": "https://auth.test/introspect", "client": "gateway" });
        let call = Call::get("/").with_credential("authorization", "Bearer a+b");
        host.load_with::<Config>(config).auth("introspect", call)
    }

    #[test]
    fn a_good_token_makes_a_session_that_is_good_as_long() {
        let host = Host::new();
        let answer = json!({ "active": true, "sub": "ana", "scope": "read", "exp": 1_750_000_060 });
        let session = present(&host, Ok((200, answer))).call.session.expect("the token is good");
        assert_eq!((session.alias.as_str(), session.metadata_text("scope")), ("ana", Some("read")));
        assert_eq!((session.expires, session.id_extractor_deadline), (1_750_000_060, 1_750_000_060));
        let sent = &host.http_requests()[0];
        assert_eq!((sent.method.as_str(), sent.url.as_str()), ("POST", "https://auth.test/introspect"));
        assert_eq!(sent.body, b"token=a%2Bb&token_type_hint=access_token");
        // base64 of `gateway:placeholder-of-client`
        assert_eq!(sent.header_text("authorization"), Some("Basic Z2F0ZXdheTpwbGFjZWhvbGRlci1vZi1jbGllbnQ="));
    }

    #[test]
    fn an_answer_without_an_end_is_remembered_for_a_while() {
        let session = present(&Host::new(), Ok((200, json!({ "active": true })))).call.session.expect("it is good");
        assert_eq!((session.expires, session.id_extractor_deadline), (0, 1_750_000_300));
    }

    #[test]
    fn a_bad_token_is_refused() {
        let refusal = |answer| present(&Host::new(), Ok((200, answer))).refusal;
        assert_eq!(refusal(json!({ "active": false })), Some(Refusal::CredentialUnknown));
        assert_eq!(refusal(json!({ "active": true, "exp": 1_750_000_000 })), Some(Refusal::CredentialExpired));
    }

    #[test]
    fn without_an_answer_nobody_gets_in() {
        for answer in [Ok((500, json!({}))), Ok((200, json!([]))), Err(Error::Timeout)] {
            let outcome = present(&Host::new(), answer.clone());
            assert!(outcome.call.session.is_none() && outcome.error.is_some(), "{answer:?}");
        }
    }

    #[test]
    fn a_token_cannot_add_fields_to_the_form() {
        assert_eq!(form_value("a&b=c d"), "a%26b%3Dc%20d");
    }
}
