//! Makes one answer of the answers of several APIs of the gateway, which it calls at the same time.
//!
//! Hook: `endpoint`, function `aggregate`. Needs the capability `apis`. In the gateway's configuration:
//!
//! ```yaml
//! plugins:
//!   aggregate:
//!     file: plugins/aggregate.wasm
//!     grants: [apis]
//!     apis: { allow: [users, orders] }
//!     limits: { deadline_ms: 2_000 }    # for all of them together
//! ```
//!
//! and of an API:
//!
//! ```yaml
//! hooks:
//!   endpoint:
//!     - plugin: aggregate
//!       method: GET
//!       path: /customers/{id}
//!       config:
//!         parts:
//!           customer: { api: users, path: "/{id}" }              # below the listen path of `users`
//!           orders: { api: orders, path: "/?customer={id}" }
//!         timeout_ms: 1_000
//! ```
//!
//! `GET …/customers/7` then has the JSON of both: `{"customer": {…}, "orders": […]}`. A part that fails is `null`, and
//! `errors` says why; where all of them fail, the status is 502. Each API gets the caller's `Authorization` and decides for
//! itself.

use std::time::Duration;

use serde_json::{Map, Value, json};
use stile_sdk::prelude::*;

#[config]
struct Aggregate {
    /// What the answer is made of, by the names that it has there.
    parts: std::collections::BTreeMap<String, Part>,
    /// How long each part may take.
    #[serde(default = "one_second")]
    timeout_ms: u64,
}

#[config]
struct Part {
    /// The id of the API.
    api: String,
    /// Path and query; names in braces are path parameters of the endpoint.
    path: String,
}

fn one_second() -> u64 {
    1_000
}

#[plugin(config = Self, capabilities(apis = "asks the APIs of which it makes one answer"))]
impl Aggregate {
    #[endpoint(headers = ["authorization"])]
    fn aggregate(&self, request: &mut Request, params: &PathParams) -> Result<Reply, serde_json::Error> {
        let credential = request.headers.get("authorization");
        let calls = self.parts.values().map(|part| {
            let call = apis::get(&part.api, filled(&part.path, params)).timeout(Duration::from_millis(self.timeout_ms));
            match credential {
                Some(credential) => call.header("authorization", credential),
                None => call,
            }
        });
        let (mut body, mut errors) = (Map::new(), Map::new());
        for (name, answer) in self.parts.keys().zip(apis::all_of(calls)) {
            let value = part(answer).unwrap_or_else(|error| {
                errors.insert(name.clone(), error.into());
                Value::Null
            });
            body.insert(name.clone(), value);
        }
        let status = if errors.len() < self.parts.len() { 200 } else { 502 };
        if !errors.is_empty() {
            body.insert("errors".to_owned(), errors.into());
        }
        Reply::json(status, &json!(body))
    }
}

/// The JSON of an answer.
fn part(answer: Result<apis::Response, apis::Error>) -> Result<Value, String> {
    let answer = answer?;
    match answer.status {
        200..=299 => answer.json(),
        status => Err(format!("answered {status}")),
    }
}

/// Puts path parameters in the place of their names, escaped: a value adds no segment and no query.
fn filled(template: &str, params: &PathParams) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, name, after)) = placeholder(rest) {
        text = text + before + &escaped(params.get(name).unwrap_or_default());
        rest = after;
    }
    text + rest
}

fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = text.split_once('{')?;
    let (name, after) = after.split_once('}')?;
    Some((before, name, after))
}

fn escaped(value: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stile_sdk::{
        prelude::*,
        testing::{Call, Host},
    };

    use super::Aggregate;

    /// Status and body where `users` and `orders` answer so.
    fn check(users: Result<(u16, &str), apis::Error>, orders: (u16, &str), status: u16, body: Value) -> Host {
        let host = Host::new();
        let response = |(status, body): (u16, &str)| apis::Response::new(status, body);
        let (users, orders) = (users.map(response), Ok(response(orders)));
        host.answer_apis(move |request| if request.api == "users" { users.clone() } else { orders.clone() });
        let parts = json!({
            "customer": { "api": "users", "path": "/{id}" },
            "orders": { "api": "orders", "path": "/?customer={id}" },
        });
        let plugin = host.load_with::<Aggregate>(json!({ "parts": parts }));
        let call = Call::get("/customers/a%20b").with_path_param("id", "a b").with_header("authorization", "mine");
        let outcome = plugin.endpoint("aggregate", call);
        let found = outcome.body().and_then(|body| serde_json::from_str::<Value>(body).ok());
        assert_eq!((outcome.status(), found), (Some(status), Some(body)));
        host
    }

    #[test]
    fn two_answers_become_one() {
        let both = json!({ "customer": { "name": "ana" }, "orders": [1, 2] });
        let host = check(Ok((200, "{\"name\":\"ana\"}")), (200, "[1,2]"), 200, both);
        let sent = host.api_requests();
        let paths: Vec<&str> = sent.iter().map(|request| request.path.as_str()).collect();
        assert_eq!(paths, ["/a%20b", "/?customer=a%20b"]);
        assert!(sent.iter().all(|request| request.header_text("authorization") == Some("mine")));
    }

    #[test]
    fn a_part_that_fails_leaves_the_others() {
        for (users, why) in
            [(Ok((404, "{}")), "answered 404"), (Err(apis::Error::Timeout), "there was no answer in time")]
        {
            let partial = json!({ "customer": null, "orders": [], "errors": { "customer": why } });
            check(users, (200, "[]"), 200, partial);
        }
    }

    #[test]
    fn where_all_fail_there_is_no_answer() {
        let errors = json!({ "customer": "calls of calls are too deep", "orders": "answered 500" });
        let nothing = json!({ "customer": null, "orders": null, "errors": errors });
        check(Err(apis::Error::TooDeep), (500, ""), 502, nothing);
    }
}
