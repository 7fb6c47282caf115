//! Masks personal data in analytics records before they are stored.
//!
//! Hook: `analytics`, function `mask`. It masks the `Authorization` header, e-mail addresses in paths, queries and
//! bodies, and the values of password fields in JSON and form bodies and in queries. It drops no record. Configuration,
//! optional:
//!
//! ```yaml
//! fields: [password, card_number]      # instead of the defaults; letter case does not matter
//! ```
//!
//! A recorded body that cannot be read (cut off, or no text) is taken out of the record: what cannot be masked is not
//! stored.

use serde_json::Value;
use stile_sdk::{prelude::*, types::RecordedMessage};

const MASK: &str = "***";

#[config]
struct Mask {
    /// Names of fields whose values are masked.
    #[serde(default = "secret_fields")]
    fields: Vec<String>,
}

fn secret_fields() -> Vec<String> {
    ["password", "passwd", "secret", "token", "access_token", "refresh_token"].map(str::to_owned).into()
}

#[plugin(config = Self)]
impl Mask {
    #[analytics(headers = ["authorization", "content-type"], body)]
    fn mask(&self, record: &mut Record) {
        if record.request_header("authorization").is_some() {
            record.set_request_header("authorization", MASK);
        }
        let paths = [&record.path, &record.raw_path, &record.original_path].map(|path| mask_addresses(path));
        let [path, raw_path, original_path] = paths;
        record.set_path(path);
        record.set_raw_path(raw_path);
        record.set_original_path(original_path);
        record.set_query(self.form(&record.query));

        if let Some(body) = record.request.as_ref().map(|message| self.body(message)) {
            record.set_request_body(body);
        }
        if let Some(body) = record.response.as_ref().map(|message| self.body(message)) {
            record.set_response_body(body);
        }
    }

    /// What may be stored of a recorded body.
    fn body(&self, message: &RecordedMessage) -> Option<Vec<u8>> {
        let body = std::str::from_utf8(message.body.as_deref()?).ok()?;
        let mut kinds = message.headers.iter().filter(|(name, _)| name == "content-type");
        let kind = kinds.next().map(|(_, kind)| String::from_utf8_lossy(kind).to_ascii_lowercase()).unwrap_or_default();
        // Something that looks like JSON may be JSON, whatever its type says.
        if kind.contains("json") || body.trim_start().starts_with(['{', '[']) {
            let mut json = serde_json::from_str(body).ok()?;
            self.json(&mut json);
            return Some(json.to_string().into_bytes());
        }
        match kind.contains("x-www-form-urlencoded") || kind.is_empty() {
            true => Some(self.form(body).into_bytes()),
            false => Some(mask_addresses(body).into_bytes()),
        }
    }

    fn json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = mask_addresses(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.json(value)),
            Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match self.is_secret(name) {
                true => *value = Value::from(MASK),
                false => self.json(value),
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn form(&self, form: &str) -> String {
        let pair = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if self.is_secret(name) => format!("{name}={MASK}"),
            _ => mask_addresses(pair),
        };
        form.split('&').map(pair).collect::<Vec<_>>().join("&")
    }

    fn is_secret(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.eq_ignore_ascii_case(name))
    }
}

/// Replaces what stands around each `@`, as itself or percent-encoded, where both sides look like an address.
fn mask_addresses(text: &str) -> String {
    let part = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
    let mut masked = String::new();
    let mut rest = text;
    while let Some((before, sign, after)) = split_at_sign(rest) {
        let kept = before.trim_end_matches(part);
        let beyond = after.trim_start_matches(|c| c != '%' && part(c));
        rest = if kept.len() < before.len() && beyond.len() < after.len() {
            masked.extend([kept, MASK]);
            beyond
        } else {
            masked.extend([before, sign]);
            after
        };
    }
    masked + rest
}

/// What is before the first sign, the sign, and what is after it.
fn split_at_sign(text: &str) -> Option<(&str, &'static str, &str)> {
    let split = |sign| text.split_once(sign).map(|(before, after)| (before, sign, after));
    [split("@"), split("%40")].into_iter().flatten().min_by_key(|(before, _, _)| before.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stile_sdk::{
        testing::{Host, record},
        types::{AnalyticsRecord, RecordedMessage},
    };

    use super::{Mask, mask_addresses};

    fn message(kind: &str, body: &str) -> Option<RecordedMessage> {
        let headers = vec![
            ("content-type".to_owned(), kind.as_bytes().to_vec()),
            ("authorization".to_owned(), b"Bearer t0p".to_vec()),
        ];
        Some(RecordedMessage { headers, body: Some(body.as_bytes().to_vec()), truncated: false })
    }

    fn mask(record: AnalyticsRecord) -> AnalyticsRecord {
        let mask = Host::new().load::<Mask>();
        mask.analytics("mask", record).expect("masking does not fail").expect("no record is dropped")
    }

    fn check_body(kind: &str, body: &str, expected: Option<&str>) {
        let stored = mask(AnalyticsRecord { request: message(kind, body), ..record() }).request.and_then(|r| r.body);
        assert_eq!(stored.as_deref().map(String::from_utf8_lossy).as_deref(), expected, "{body}");
    }

    #[test]
    fn secrets_and_addresses_are_masked_in_bodies() {
        check_body("application/json", r#"{"a":{"Password":"x"}}"#, Some(r#"{"a":{"Password":"***"}}"#));
        check_body("application/json", r#"["to ana@example.org!"]"#, Some(r#"["to ***!"]"#));
        check_body("text/plain", r#"{"password":"x"}"#, Some(r#"{"password":"***"}"#));
        check_body("application/x-www-form-urlencoded", "u=a%40b.org&password=x&k", Some("u=***&password=***&k"));
        check_body("text/plain", "mail ana@example.org", Some("mail ***"));
    }

    #[test]
    fn what_cannot_be_masked_is_not_stored() {
        check_body("application/json", r#"{"password":"x"#, None);
    }

    #[test]
    fn the_authorization_header_is_masked() {
        let request = mask(AnalyticsRecord { request: message("text/plain", ""), ..record() }).request;
        let headers = request.expect("the message stays").headers;
        assert!(headers.contains(&("authorization".to_owned(), b"***".to_vec())));
    }

    #[test]
    fn paths_and_queries_are_masked() {
        let received = record();
        let masked = mask(AnalyticsRecord {
            original_path: "/users/ana@example.org/orders".to_owned(),
            query: "token=t0p&page=2".to_owned(),
            ..received
        });
        assert_eq!(masked.original_path, "/users/***/orders");
        assert_eq!(masked.query, "token=***&page=2");
    }

    #[test]
    fn configured_fields_replace_the_defaults() {
        let mask = Host::new().load_with::<Mask>(json!({ "fields": ["pin"] }));
        let received = AnalyticsRecord { query: "pin=1&token=2".to_owned(), ..record() };
        let masked = mask.analytics("mask", received).expect("masking does not fail").expect("no record is dropped");
        assert_eq!(masked.query, "pin=***&token=2");
    }

    #[test]
    fn only_addresses_are_taken_for_addresses() {
        fn check(text: &str, expected: &str) {
            assert_eq!(mask_addresses(text), expected);
        }
        check("no address", "no address");
        check("@home and at@", "@home and at@");
        check("a@b.c,d@e.f", "***,***");
        check("ana%40example.org%20x", "***%20x");
        check("é@ü.org", "***");
    }
}
