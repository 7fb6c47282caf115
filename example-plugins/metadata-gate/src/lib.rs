//! Lets only those callers through whose session has certain metadata.
//!
//! Hook: `post_auth`, function `gate`. Configuration:
//!
//! ```yaml
//! require: { plan: gold, beta: "true" }    # all of them; a value that is not a text is compared as JSON
//! message: this endpoint is for gold callers
//! ```
//!
//! Others get 403 with the message. So does everyone on a keyless API, where there is no session.

use std::collections::BTreeMap;

use stile_sdk::{prelude::*, types::MetadataValue};

#[config]
struct Gate {
    /// Names and values that the session's metadata must have.
    require: BTreeMap<String, String>,
    /// What those read who do not get through.
    #[serde(default = "default_message")]
    message: String,
}

fn default_message() -> String {
    "your key is not entitled to this API".to_owned()
}

#[plugin(config = Self)]
impl Gate {
    #[post_auth]
    fn gate(&self, session: Option<&Session>) -> Action {
        match session.is_some_and(|session| self.opens_for(session)) {
            true => Action::Continue,
            false => reject(403, &self.message),
        }
    }

    fn opens_for(&self, session: &Session) -> bool {
        self.require.iter().all(|(name, wanted)| match session.metadata_value(name) {
            Some(MetadataValue::Text(value) | MetadataValue::Json(value)) => value == wanted,
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stile_sdk::{
        prelude::*,
        testing::{Call, Host},
        types::MetadataValue,
    };

    use super::Gate;

    fn check(session: Option<Session>, status: Option<u16>) {
        let config = json!({ "require": { "plan": "gold", "beta": "true" }, "message": "gold only" });
        let gate = Host::new().load_with::<Gate>(config);
        let outcome = gate.post_auth("gate", Call { session, ..Call::get("/") });
        assert_eq!(outcome.status(), status);
        assert!(outcome.rejection.is_none_or(|rejection| rejection.message == "gold only"));
    }

    #[test]
    fn every_required_value_must_be_there() {
        let gold = Session::new("key").with_metadata("plan", "gold");
        check(Some(gold.clone().with_metadata("beta", "true")), None);
        check(Some(gold.clone().with_metadata("beta", MetadataValue::Json("true".to_owned()))), None);
        check(Some(gold.clone().with_metadata("beta", "false")), Some(403));
        check(Some(gold), Some(403));
    }

    #[test]
    fn without_a_session_nobody_gets_through() {
        check(None, Some(403));
    }
}
