//! Makes responses safer to receive.
//!
//! Hook: `response`, two functions: `headers` mends headers and cookies, `redact` takes fields out of JSON bodies. A
//! definition picks one of them or both. Configuration, every key optional:
//!
//! ```yaml
//! remove: [server, x-powered-by]                     # the default
//! set: { x-content-type-options: nosniff }           # replaces the defaults below
//! same_site: Lax                                     # for cookies that do not say
//! cookies: ["edge=1; Path=/", "seen=1; Path=/"]      # cookies of our own, hardened too
//! redact: [password, card_number]                    # fields of JSON bodies, at any depth
//! ```
//!
//! Every cookie gets `Secure`, `HttpOnly` and `SameSite` where it lacks them. A JSON body that cannot be read is a
//! failure of the plugin: nothing leaves that should have been redacted. A body over a mebibyte is 502.

use std::collections::BTreeMap;

use serde_json::Value;
use stile_sdk::prelude::*;

#[config]
struct Hardening {
    /// Header fields to take away.
    #[serde(default = "telling_headers")]
    remove: Vec<String>,
    /// Header fields to set.
    #[serde(default = "security_headers")]
    set: BTreeMap<String, String>,
    /// `SameSite` of cookies that have none.
    #[serde(default)]
    same_site: SameSite,
    /// Cookies to add to every response.
    #[serde(default)]
    cookies: Vec<String>,
    /// Fields of JSON bodies whose values are replaced, at any depth.
    #[serde(default)]
    redact: Vec<String>,
}

#[config]
#[derive(Debug, Default)]
#[serde(rename_all = "PascalCase")]
enum SameSite {
    Strict,
    #[default]
    Lax,
    None,
}

fn telling_headers() -> Vec<String> {
    ["server", "x-powered-by", "x-aspnet-version"].map(str::to_owned).into()
}

fn security_headers() -> BTreeMap<String, String> {
    let headers = [
        ("strict-transport-security", "max-age=31536000"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ];
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[plugin(config = Self)]
impl Hardening {
    #[response(headers = ["set-cookie"])]
    fn headers(&self, response: &mut Response) {
        for name in &self.remove {
            response.headers.remove(name);
        }
        for (name, value) in &self.set {
            response.headers.set(name, value.as_str());
        }
        let received = response.headers.all("set-cookie").map(|cookie| self.harden(cookie));
        let cookies: Vec<_> = received.chain(self.cookies.iter().map(|own| self.harden(own.as_bytes()))).collect();
        response.headers.remove("set-cookie");
        for cookie in cookies {
            response.headers.append("set-cookie", cookie);
        }
    }

    #[response(headers = ["content-type"], body = 1024 * 1024)]
    fn redact(&self, response: &mut Response) -> Result<(), serde_json::Error> {
        let kind = response.headers.text("content-type").unwrap_or_default().to_ascii_lowercase();
        if !kind.contains("json") || response.body().is_none_or(<[u8]>::is_empty) {
            return Ok(());
        }
        let mut body: Value = response.json()?;
        if self.redact_in(&mut body) {
            response.set_body(body.to_string());
        }
        Ok(())
    }

    /// The cookie with what it lacks. Its bytes stay: not every cookie is UTF-8.
    fn harden(&self, cookie: &[u8]) -> Vec<u8> {
        let attributes: Vec<_> = cookie.split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii).collect();
        let has = |name: &[u8]| {
            let names = attributes.iter().filter_map(|attribute| attribute.split(|byte| *byte == b'=').next());
            names.into_iter().any(|found| found.trim_ascii().eq_ignore_ascii_case(name))
        };
        let mut hardened = cookie.to_vec();
        if !has(b"secure") {
            hardened.extend_from_slice(b"; Secure");
        }
        if !has(b"httponly") {
            hardened.extend_from_slice(b"; HttpOnly");
        }
        if !has(b"samesite") {
            hardened.extend_from_slice(format!("; SameSite={:?}", self.same_site).as_bytes());
        }
        hardened
    }

    /// Whether there was anything to redact.
    fn redact_in(&self, value: &mut Value) -> bool {
        let mut found = false;
        match value {
            Value::Array(values) => {
                for value in values {
                    found |= self.redact_in(value);
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    if self.redact.contains(name) {
                        *value = Value::from("***");
                        found = true;
                    } else {
                        found |= self.redact_in(value);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stile_sdk::{
        prelude::*,
        testing::{Call, Host, Outcome},
    };

    use super::Hardening;

    fn respond(config: Value, function: &str, reply: Reply) -> Outcome {
        Host::new().load_with::<Hardening>(config).response(function, Call::get("/"), reply)
    }

    #[test]
    fn cookies_keep_what_they_say_and_get_what_they_lack() {
        let config = json!({ "cookies": ["edge=1; Path=/", "seen=1"] });
        let reply =
            Reply::new(200).header("set-cookie", "a=1; secure; SameSite=Strict").header("set-cookie", "b=Secure");

        let outcome = respond(config, "headers", reply);

        let expected = [
            "a=1; secure; SameSite=Strict; HttpOnly",
            "b=Secure; Secure; HttpOnly; SameSite=Lax",
            "edge=1; Path=/; Secure; HttpOnly; SameSite=Lax",
            "seen=1; Secure; HttpOnly; SameSite=Lax",
        ];
        assert_eq!(outcome.headers("set-cookie"), expected);
    }

    #[test]
    fn headers_that_tell_go_and_headers_that_protect_come() {
        let outcome = respond(json!({}), "headers", Reply::new(200).header("server", "upstream/1.0"));
        assert_eq!(outcome.header("server"), None);
        assert_eq!(outcome.header("x-content-type-options"), Some("nosniff"));
    }

    #[test]
    fn fields_are_redacted_at_any_depth() {
        let body = json!({ "user": { "password": "p", "name": "ana" }, "list": [{ "password": { "old": 1 } }] });
        let reply = Reply::json(200, &body).expect("a value is JSON");
        let outcome = respond(json!({ "redact": ["password"] }), "redact", reply);
        let body = outcome.body().and_then(|body| serde_json::from_str::<Value>(body).ok());
        let expected = json!({ "user": { "password": "***", "name": "ana" }, "list": [{ "password": "***" }] });
        assert_eq!(body, Some(expected));
    }

    #[test]
    fn a_body_that_cannot_be_read_does_not_leave() {
        let broken = Reply::new(200).header("content-type", "application/json").body("{\"password\":");
        assert!(respond(json!({ "redact": ["password"] }), "redact", broken).error.is_some());
    }
}
