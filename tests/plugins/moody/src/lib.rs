//! Fails where its caller asks for it, and counts its calls.

use stile_sdk::prelude::*;

struct Moody;

#[plugin(capabilities(kv = "to count its calls"))]
impl Moody {
    /// Tells the upstream which call of the plugin this is, in this API.
    #[pre(headers = ["x-mood"])]
    fn ask(request: &mut Request) -> Result<Action, String> {
        let calls = kv::increment("calls", 1, None).map_err(|error| format!("{error:?}"))?;
        match request.headers.get("x-mood") {
            Some(b"trap") => panic!("as asked"),
            Some(b"err") => return Err("as asked".to_owned()),
            // Valid in itself, but too many for one request.
            Some(b"vars") => (0..65).for_each(|n| request.vars.set(format!("v{n}"), "1")),
            _ => {}
        }
        request.headers.set("x-calls", calls.to_string());
        Ok(Action::Continue)
    }

    #[auth(name = "ask", headers = ["x-mood"])]
    fn in_auth(request: &mut Request) -> Result<AuthAction, String> {
        Self::ask(request)?;
        Ok(AuthAction::Authenticated(Session::new("moody")))
    }

    #[analytics(name = "ask", headers = ["x-mood"])]
    fn in_analytics(record: &mut Record) -> Result<(), String> {
        if record.request_header("x-mood").is_some() { Err("as asked".to_owned()) } else { Ok(()) }
    }
}
