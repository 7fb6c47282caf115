//! Rewrites JSON bodies on their way to the upstream.
//!
//! Hook: `post`, function `rewrite`. Fields are named by JSON pointers. Configuration, every key optional:
//!
//! ```yaml
//! remove: [/internal, /items/0/note]      # first
//! rename: { /customer: /buyer }           # then: takes the value from one place to the other
//! set: { /source: gateway }               # last
//! ```
//!
//! A body that is said to be JSON and is none gets 400. Bodies of other types pass as they are. One over a mebibyte is
//! refused by the gateway with 413.

use std::collections::BTreeMap;

use serde_json::Value;
use stile_sdk::prelude::*;

#[config]
struct Rewrite {
    /// Fields to take away.
    #[serde(default)]
    remove: Vec<String>,
    /// Fields to move: from, to.
    #[serde(default)]
    rename: BTreeMap<String, String>,
    /// Fields to set, whatever was there.
    #[serde(default)]
    set: BTreeMap<String, Value>,
}

#[plugin(config = Self)]
impl Rewrite {
    #[post(headers = ["content-type"], body = 1024 * 1024)]
    fn rewrite(&self, request: &mut Request) -> Action {
        if !is_json(&request.headers) || request.body().is_none_or(<[u8]>::is_empty) {
            return Action::Continue;
        }
        let Ok(mut body) = request.json::<Value>() else {
            return reject(400, "the body is not valid JSON");
        };
        self.apply(&mut body);
        request.set_body(body.to_string());
        Action::Continue
    }

    fn apply(&self, body: &mut Value) {
        for pointer in &self.remove {
            take(body, pointer);
        }
        for (from, to) in &self.rename {
            if let Some(value) = take(body, from) {
                put(body, to, value);
            }
        }
        for (pointer, value) in &self.set {
            put(body, pointer, value.clone());
        }
    }
}

fn is_json(headers: &stile_sdk::Headers) -> bool {
    let kind = headers.text("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

fn take(body: &mut Value, pointer: &str) -> Option<Value> {
    let (parent, field) = split(pointer)?;
    match body.pointer_mut(parent)? {
        Value::Object(fields) => fields.remove(&field),
        Value::Array(values) => {
            let index = field.parse().ok().filter(|index| *index < values.len())?;
            Some(values.remove(index))
        }
        _ => None,
    }
}

/// Sets a field of an object that is there, or an element of an array; `-` is the place after its last.
fn put(body: &mut Value, pointer: &str, value: Value) {
    let Some((parent, field)) = split(pointer) else { return };
    match body.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            fields.insert(field, value);
        }
        Some(Value::Array(values)) if field == "-" => values.push(value),
        Some(Value::Array(values)) => {
            if let Some(place) = field.parse::<usize>().ok().and_then(|index| values.get_mut(index)) {
                *place = value;
            }
        }
        _ => {}
    }
}

/// A pointer's parent, and its last field in plain text.
fn split(pointer: &str) -> Option<(&str, String)> {
    let (parent, field) = pointer.rsplit_once('/')?;
    Some((parent, field.replace("~1", "/").replace("~0", "~")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stile_sdk::testing::{Call, Host, Outcome};

    use super::Rewrite;

    fn rewrite(config: Value, kind: &str, body: &str) -> Outcome {
        let rewrite = Host::new().load_with::<Rewrite>(config);
        rewrite.post("rewrite", Call::post("/", body).with_header("content-type", kind))
    }

    fn check(config: Value, body: Value, expected: Value) {
        let outcome = rewrite(config, "application/json; charset=utf-8", &body.to_string());
        let found: Value = serde_json::from_slice(&outcome.call.body).expect("the rewritten body is JSON");
        assert_eq!(found, expected);
    }

    #[test]
    fn fields_are_removed_moved_and_set() {
        check(json!({ "remove": ["/a/b"] }), json!({ "a": { "b": 1, "c": 2 } }), json!({ "a": { "c": 2 } }));
        check(json!({ "remove": ["/a/0"] }), json!({ "a": [1, 2] }), json!({ "a": [2] }));
        check(json!({ "remove": ["/a/7", "/x/y"] }), json!({ "a": [1] }), json!({ "a": [1] }));
        check(json!({ "rename": { "/a": "/b" } }), json!({ "a": 1 }), json!({ "b": 1 }));
        check(json!({ "rename": { "/a": "/b" } }), json!({ "c": 1 }), json!({ "c": 1 }));
        check(json!({ "set": { "/a~1b": null } }), json!({}), json!({ "a/b": null }));
        check(json!({ "set": { "/a/-": 3 } }), json!({ "a": [1] }), json!({ "a": [1, 3] }));
    }

    #[test]
    fn only_json_is_touched() {
        let config = || json!({ "set": { "/a": 1 } });
        assert_eq!(rewrite(config(), "text/plain", "{}").call.body(), Some("{}"));
        assert_eq!(rewrite(config(), "application/json", "").call.body(), Some(""));
        assert_eq!(rewrite(config(), "application/problem+json", "{}").call.body(), Some(r#"{"a":1}"#));
        assert_eq!(rewrite(config(), "application/json", "{").status(), Some(400));
    }
}
