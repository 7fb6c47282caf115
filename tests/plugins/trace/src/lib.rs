//! Leaves its tag wherever it was: tests read from it which functions ran, in which order, and what they saw.
//!
//! Every hook has a function `trace`. Each appends the configured tag, after a comma, to what it finds in the header
//! `x-trace` (of the request, or of the response) and in the var `trace`. Beside that,
//!
//! - `auth` makes a session named by the credential, or by the tag where there is none, with the tag as alias;
//! - `post_auth`, `endpoint` and `post` send the alias that they see in `x-trace-alias`;
//! - `endpoint` sends the path parameters in `x-trace-params`;
//! - `response` sends the var, as it left it, in `x-trace-vars`, and the `x-trace` of the request in `x-trace-request`;
//! - `analytics` adds the tag to the record's tags.

use stile_sdk::{Headers, Vars, prelude::*};

#[config]
struct Trace {
    tag: String,
}

#[plugin(config = Self)]
impl Trace {
    #[pre(headers = ["x-trace"], context = [vars])]
    fn trace(&self, request: &mut Request) {
        self.leave(&mut request.headers, &mut request.vars);
    }

    #[auth(headers = ["x-trace"], context = [vars], name = "trace")]
    fn authenticate(&self, request: &mut Request, credential: Option<&Credential>) -> Session {
        self.leave(&mut request.headers, &mut request.vars);
        Session::new(credential.and_then(Credential::text).unwrap_or(&self.tag)).with_alias(&self.tag)
    }

    #[post_auth(headers = ["x-trace"], context = [vars], name = "trace")]
    fn after_authentication(&self, request: &mut Request, session: Option<&Session>) {
        self.leave(&mut request.headers, &mut request.vars);
        send_alias(request, session);
    }

    #[endpoint(headers = ["x-trace"], context = [vars], name = "trace")]
    fn at_endpoint(&self, request: &mut Request, params: &PathParams, session: Option<&Session>) {
        self.leave(&mut request.headers, &mut request.vars);
        send_alias(request, session);
        let params: Vec<_> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request.headers.set("x-trace-params", params.join(","));
    }

    #[post(headers = ["x-trace"], context = [vars], name = "trace")]
    fn before_upstream(&self, request: &mut Request, session: Option<&Session>) {
        self.leave(&mut request.headers, &mut request.vars);
        send_alias(request, session);
    }

    #[response(headers = ["x-trace"], request_headers = ["x-trace"], context = [vars], name = "trace")]
    fn on_the_way_back(&self, response: &mut Response, request: &Request) {
        self.leave(&mut response.headers, &mut response.vars);
        response.headers.set("x-trace-vars", response.vars.get("trace").unwrap_or_default());
        response.headers.set("x-trace-request", request.headers.get("x-trace").unwrap_or_default());
    }

    #[analytics(name = "trace")]
    fn recorded(&self, record: &mut Record) {
        record.add_tag(&self.tag);
    }

    fn leave(&self, headers: &mut Headers, vars: &mut Vars) {
        headers.set("x-trace", self.after(headers.text("x-trace")));
        vars.set("trace", self.after(vars.text("trace")));
    }

    fn after(&self, earlier: Option<&str>) -> String {
        earlier.into_iter().chain([self.tag.as_str()]).collect::<Vec<_>>().join(",")
    }
}

fn send_alias(request: &mut Request, session: Option<&Session>) {
    if let Some(session) = session {
        request.headers.set("x-trace-alias", session.alias.as_str());
    }
}

#[cfg(test)]
mod tests {
    use stile_sdk::{
        prelude::*,
        serde_json::json,
        testing::{Call, Host, record},
    };

    use super::Trace;

    #[test]
    fn each_hook_leaves_its_tag_after_the_earlier_ones() {
        let host = Host::new();
        let [a, b] = ["a", "b"].map(|tag| host.load_with::<Trace>(json!({ "tag": tag })));

        let call = a.pre("trace", Call::get("/").with_credential("authorization", "key")).call;
        let call = b.auth("trace", call).call;
        let call = a.post_auth("trace", call).call;
        let call = b.endpoint("trace", call.with_path_param("id", "7")).call;
        let call = a.post("trace", call).call;

        assert_eq!(call.header("x-trace"), Some("a,b,a,b,a"));
        assert_eq!(call.var("trace"), Some("a,b,a,b,a"));
        assert_eq!(call.header("x-trace-alias"), Some("b"));
        assert_eq!(call.header("x-trace-params"), Some("id=7"));
        assert_eq!(call.session.as_ref().map(|session| session.key_id.as_str()), Some("key"));

        let outcome = b.response("trace", call, Reply::new(200));
        assert_eq!(outcome.header("x-trace"), Some("b"));
        assert_eq!(outcome.header("x-trace-request"), Some("a,b,a,b,a"));
        assert_eq!(outcome.header("x-trace-vars"), Some("a,b,a,b,a,b"));

        let stored = a.analytics("trace", record()).expect("no failure").expect("not dropped");
        assert_eq!(stored.tags, ["a"]);
    }
}
