//! Answers an endpoint itself, in JSON, without an upstream.
//!
//! Hook: `endpoint`, function `answer`. Configuration, for an endpoint `GET /users/{id}`:
//!
//! ```yaml
//! status: 200                                 # the default
//! body: { id: "{id}", served_by: "{api}", stub: true }
//! ```
//!
//! In the texts of `body`, a name in braces becomes the path parameter of that name. So do `{api}` and `{request_id}`,
//! unless a path parameter has that name. Braces around anything else stay.

use serde_json::Value;
use stile_sdk::prelude::*;

#[config]
struct Answer {
    /// The status of the answer.
    #[serde(default = "ok")]
    status: u16,
    /// The body of the answer; texts may name path parameters in braces.
    body: Value,
}

fn ok() -> u16 {
    200
}

#[plugin(config = Self)]
impl Answer {
    #[endpoint(context = [api, request_id])]
    fn answer(&self, params: &PathParams, context: &Context) -> Result<Reply, serde_json::Error> {
        let known = |name: &str| match (params.get(name), name) {
            (Some(value), _) => Some(value),
            (None, "api") => context.api.as_ref().map(|api| api.name.as_str()),
            (None, "request_id") => context.request_id.as_deref(),
            (None, _) => None,
        };
        let mut body = self.body.clone();
        fill(&mut body, &known);
        Reply::json(self.status, &body)
    }
}

/// Replaces the names in braces in every text of the value.
fn fill<'a>(value: &mut Value, known: &impl Fn(&str) -> Option<&'a str>) {
    match value {
        Value::String(text) => *text = filled(text, known),
        Value::Array(values) => values.iter_mut().for_each(|value| fill(value, known)),
        Value::Object(fields) => fields.values_mut().for_each(|value| fill(value, known)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Goes through the template once: a brace in a parameter's value means nothing.
fn filled<'a>(template: &str, known: &impl Fn(&str) -> Option<&'a str>) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let named = after.split_once('}').and_then(|(name, after)| Some((known(name)?, after)));
        rest = match named {
            Some((value, after)) => {
                text.push_str(value);
                after
            }
            None => {
                text.push('{');
                after
            }
        };
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stile_sdk::testing::{Call, Host};

    use super::Answer;

    fn check(body: Value, call: Call, expected: Value) {
        let answer = Host::new().load_with::<Answer>(json!({ "body": body, "status": 203 }));
        let outcome = answer.endpoint("answer", call);
        assert_eq!(outcome.status(), Some(203));
        assert_eq!(outcome.header("content-type"), Some("application/json"));
        let body = outcome.body().and_then(|body| serde_json::from_str::<Value>(body).ok());
        assert_eq!(body, Some(expected));
    }

    #[test]
    fn names_in_braces_become_path_parameters() {
        let call = || Call::get("/users/7").with_path_param("id", "7");
        check(json!({ "id": "{id}", "links": ["/users/{id}"] }), call(), json!({ "id": "7", "links": ["/users/7"] }));
        check(json!({ "by": "{api}", "n": 1 }), call(), json!({ "by": "API", "n": 1 }));
        check(json!("{other} { {id}"), call(), json!("{other} { 7"));
    }

    #[test]
    fn a_value_is_not_filled_in_turn() {
        let call = Call::get("/").with_path_param("a", "{b}\"").with_path_param("b", "secret");
        check(json!({ "a": "{a}" }), call, json!({ "a": "{b}\"" }));
    }
}
