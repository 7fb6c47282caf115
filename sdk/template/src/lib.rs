//! Greets the upstream.
//!
//! Hook: `pre`, function `greet`. Configuration:
//!
//! ```yaml
//! greeting: hello
//! ```

use stile_sdk::prelude::*;

#[config]
struct Greeter {
    /// What the upstream is greeted with.
    #[serde(default = "hello")]
    greeting: String,
}

fn hello() -> String {
    "hello".to_owned()
}

#[plugin(config = Self)]
impl Greeter {
    #[pre]
    fn greet(&self, request: &mut Request) {
        request.headers.set("x-greeting", self.greeting.as_str());
    }
}

#[cfg(test)]
mod tests {
    use stile_sdk::{
        serde_json::json,
        testing::{Call, Host},
    };

    use super::Greeter;

    #[test]
    fn the_upstream_is_greeted() {
        let greeter = Host::new().load_with::<Greeter>(json!({ "greeting": "good morning" }));
        let outcome = greeter.pre("greet", Call::get("/"));
        assert_eq!(outcome.call.header("x-greeting"), Some("good morning"));
    }
}
