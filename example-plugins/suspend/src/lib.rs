//! Suspends keys: a token that was found where it does not belong is reported, and its callers are turned away.
//!
//! Hooks: `endpoint`, function `report`, and `post_auth`, function `turn_away`. Needs the capability `sessions`. Configuration:
//!
//! ```yaml
//! tag: may-suspend    # the default: what the sessions of those are tagged with who may report
//! ```
//!
//! Put `report` on an endpoint of an API for operators, and `turn_away` on every API of the same organisation. Then
//!
//! ```sh
//! curl -H "authorization: $OPERATOR" -d '{"token": "…", "reason": "found in a public repository"}' …/suspensions
//! ```
//!
//! suspends a key from its next request on, on every gateway, and a report without `reason` lifts that again. The
//! session of the key says why, under `suspended` in its metadata: `stile key show` has it.

use stile_sdk::{prelude::*, sessions::UpdateError};

#[config]
struct Suspend {
    /// What the sessions of those are tagged with who may report.
    #[serde(default = "default_tag")]
    tag: String,
}

fn default_tag() -> String {
    "may-suspend".to_owned()
}

#[config]
struct Report {
    /// The token, as its caller sends it.
    token: String,
    /// Why it is suspended; without a reason, it no longer is.
    reason: Option<String>,
}

#[plugin(config = Self, capabilities(sessions = "marks the sessions of keys that are reported"))]
impl Suspend {
    #[endpoint(body = 16 * 1024)]
    fn report(&self, request: &mut Request, session: Option<&Session>) -> Result<Action, String> {
        if !session.is_some_and(|session| session.has_tag(&self.tag)) {
            return Ok(reject(403, "your key may not suspend others"));
        }
        let Ok(Report { token, reason }) = request.json() else {
            return Ok(reject(400, "the body is to be JSON with `token`, and `reason` to suspend it"));
        };
        let marked = sessions::update(&token, |session| match reason {
            Some(reason) => session.set_metadata(MARK, reason),
            None => session.remove_metadata(MARK),
        });
        match marked {
            Ok(()) => Ok(Reply::new(204).into()),
            Err(UpdateError::NotFound) => Ok(reject(404, "no key has this token")),
            Err(UpdateError::Unavailable) => Ok(reject(503, "keys cannot be suspended at the moment")),
            Err(error) => Err(format!("the key was not suspended: {error}")),
        }
    }

    #[post_auth]
    fn turn_away(session: Option<&Session>) -> Action {
        match session.and_then(|session| session.metadata_value(MARK)) {
            Some(_) => reject(403, "this key is suspended"),
            None => Action::Continue,
        }
    }
}

/// In the metadata of a session, with the reason.
const MARK: &str = "suspended";

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stile_sdk::{
        prelude::*,
        testing::{Call, Host, Loaded},
    };

    use super::Suspend;

    fn report(suspend: &Loaded<Suspend>, tag: &str, body: serde_json::Value) -> Option<u16> {
        let operator = Session::new("operator").with_tag(tag);
        suspend.endpoint("report", Call::post("/suspensions", body.to_string()).with_session(operator)).status()
    }

    fn is_turned_away(host: &Host, suspend: &Loaded<Suspend>) -> bool {
        let session = host.session("ana-token").expect("it is kept");
        suspend.post_auth("turn_away", Call::get("/").with_session(session)).status() == Some(403)
    }

    #[test]
    fn a_reported_key_is_turned_away_until_the_report_is_lifted() {
        let host = Host::new();
        host.set_session("ana-token", Session::new("ana"));
        let suspend = host.load_with::<Suspend>(json!({}));
        assert!(!is_turned_away(&host, &suspend));

        let found = json!({ "token": "ana-token", "reason": "found in a public repository" });
        assert_eq!(report(&suspend, "may-suspend", found), Some(204));
        assert!(is_turned_away(&host, &suspend));

        assert_eq!(report(&suspend, "may-suspend", json!({ "token": "ana-token" })), Some(204));
        assert!(!is_turned_away(&host, &suspend));
    }

    #[test]
    fn only_who_may_report_can_suspend() {
        let host = Host::new();
        host.set_session("ana-token", Session::new("ana"));
        let suspend = host.load_with::<Suspend>(json!({ "tag": "security" }));
        let found = json!({ "token": "ana-token", "reason": "a grudge" });
        assert_eq!(report(&suspend, "may-suspend", found.clone()), Some(403));
        let nobody = Call::post("/suspensions", found.to_string());
        assert_eq!(suspend.endpoint("report", nobody).status(), Some(403));
        assert!(!is_turned_away(&host, &suspend));
    }

    #[test]
    fn who_reports_is_told_what_came_of_it() {
        let host = Host::new();
        let suspend = host.load_with::<Suspend>(json!({}));
        assert_eq!(report(&suspend, "may-suspend", json!({ "token": "nobody", "reason": "x" })), Some(404));
        assert_eq!(report(&suspend, "may-suspend", json!({ "reason": "x" })), Some(400));
        host.set_sessions_away(true);
        assert_eq!(report(&suspend, "may-suspend", json!({ "token": "nobody", "reason": "x" })), Some(503));
    }
}
