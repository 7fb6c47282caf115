//! Tells what it was handed, and changes what the configuration says.
//!
//! Every hook has two functions: `everything` asks for all that the hook has, `nothing` for none of it. What they saw
//! goes into the header `x-saw-…` with the hook's name, of the request (in `response`: of the response; in `analytics`:
//! into a tag), as `name=value` pairs with a semicolon after each.
//!
//! `write` in the configuration names what is changed, as far as the hook's types can say it: `header`, `append`,
//! `remove`, `body`, `query`, `param`, `method`, `path`, `var`, `status`, `upstream`, `metadata`, `tag`, `alias`,
//! `rate`. `answer` is `respond`, `reject` or `refuse`.

use stile_sdk::{
    prelude::*,
    types::{Method, Rate, Upstream},
};

#[config]
struct Probe {
    #[serde(default)]
    write: Vec<String>,
    #[serde(default)]
    answer: Option<String>,
    /// Where `upstream` sends the request.
    #[serde(default)]
    origin: Option<String>,
}

#[plugin(config = Self, capabilities(upstream = "to try", session_limits = "to try"))]
impl Probe {
    #[pre(headers = all, body = 65536, context = [request_id, api, endpoint, host, variables, vars])]
    fn everything(&self, request: &mut Request, context: &Context) -> Action {
        self.on_request("x-saw-pre", request, context, None, &mut SessionEdits::default())
    }

    #[pre]
    fn nothing(&self, request: &mut Request, context: &Context) -> Action {
        self.on_request("x-saw-pre", request, context, None, &mut SessionEdits::default())
    }

    #[auth(headers = all, body = 65536, context = [request_id, api, endpoint, host, variables, vars], name = "everything")]
    fn auth_everything(&self, request: &mut Request, context: &Context, credential: Option<&Credential>) -> AuthAction {
        self.authenticate(request, context, credential)
    }

    #[auth(name = "nothing")]
    fn auth_nothing(&self, request: &mut Request, context: &Context, credential: Option<&Credential>) -> AuthAction {
        self.authenticate(request, context, credential)
    }

    #[post_auth(headers = all, body = 65536, context = [request_id, api, endpoint, host, variables, vars], name = "everything")]
    fn post_auth_everything(
        &self,
        request: &mut Request,
        context: &Context,
        session: Option<&Session>,
        edits: &mut SessionEdits,
    ) -> Action {
        self.on_request("x-saw-post-auth", request, context, session, edits)
    }

    #[post_auth(name = "nothing")]
    fn post_auth_nothing(&self, request: &mut Request, context: &Context, edits: &mut SessionEdits) -> Action {
        self.on_request("x-saw-post-auth", request, context, None, edits)
    }

    #[endpoint(headers = all, body = 65536, context = [request_id, api, endpoint, host, variables, vars], name = "everything")]
    fn endpoint_everything(
        &self,
        request: &mut Request,
        context: &Context,
        session: Option<&Session>,
        edits: &mut SessionEdits,
    ) -> Action {
        self.on_request("x-saw-endpoint", request, context, session, edits)
    }

    #[endpoint(name = "nothing")]
    fn endpoint_nothing(&self, request: &mut Request, context: &Context, edits: &mut SessionEdits) -> Action {
        self.on_request("x-saw-endpoint", request, context, None, edits)
    }

    #[post(headers = all, body = 65536, context = [request_id, api, endpoint, host, variables, vars], name = "everything")]
    fn post_everything(
        &self,
        request: &mut Request,
        context: &Context,
        session: Option<&Session>,
        edits: &mut SessionEdits,
    ) -> Action {
        self.on_request("x-saw-post", request, context, session, edits)
    }

    #[post(name = "nothing")]
    fn post_nothing(&self, request: &mut Request, context: &Context, edits: &mut SessionEdits) -> Action {
        self.on_request("x-saw-post", request, context, None, edits)
    }

    #[response(
        headers = all, request_headers = all, body = 65536,
        context = [request_id, api, endpoint, host, variables, vars], name = "everything"
    )]
    fn response_everything(
        &self,
        response: &mut Response,
        request: &Request,
        context: &Context,
        session: Option<&Session>,
    ) {
        self.on_response(response, request, context, session);
    }

    #[response(name = "nothing")]
    fn response_nothing(&self, response: &mut Response, request: &Request, context: &Context) {
        self.on_response(response, request, context, None);
    }

    #[analytics(headers = all, body, name = "everything")]
    fn analytics_everything(&self, record: &mut Record) -> Verdict {
        self.on_record(record)
    }

    #[analytics(name = "nothing")]
    fn analytics_nothing(&self, record: &mut Record) -> Verdict {
        self.on_record(record)
    }

    fn on_request(
        &self,
        report: &str,
        request: &mut Request,
        context: &Context,
        session: Option<&Session>,
        edits: &mut SessionEdits,
    ) -> Action {
        let saw = saw_request(request, context, session);
        self.write_request(request);
        self.write_session(edits);
        request.headers.set(report, saw);
        self.action()
    }

    fn authenticate(&self, request: &mut Request, context: &Context, credential: Option<&Credential>) -> AuthAction {
        let mut saw = saw_request(request, context, None);
        note(&mut saw, "credential", credential.map(|credential| &*credential.value));
        self.write_request(request);
        request.headers.set("x-saw-auth", saw);
        match self.answer.as_deref() {
            Some("refuse") => AuthAction::Refuse(Refusal::CredentialUnknown),
            Some(_) => match self.action() {
                Action::Respond(reply) => AuthAction::Respond(reply),
                Action::Reject(rejection) => AuthAction::Reject(rejection),
                Action::Continue => AuthAction::Refuse(Refusal::CredentialMissing),
            },
            None => {
                let session = Session::new("key").with_alias("auth").with_tag("made").with_metadata("made", "auth");
                AuthAction::Authenticated(session)
            }
        }
    }

    fn on_response(&self, response: &mut Response, request: &Request, context: &Context, session: Option<&Session>) {
        let mut saw = String::new();
        note(&mut saw, "status", Some(response.status().to_string().as_bytes()));
        note(&mut saw, "origin", Some(format!("{:?}", response.origin()).as_bytes()));
        note(&mut saw, "response-header", response.headers.get("x-probe"));
        note(&mut saw, "response-body", response.body());
        note(&mut saw, "response-var", response.vars.get("probe"));
        saw += &saw_request(request, context, session);
        for what in &self.write {
            match what.as_str() {
                "header" => response.headers.set("x-probe", "written"),
                "append" => response.headers.append("x-probe", "appended"),
                "remove" => response.headers.remove("x-probe"),
                "body" => response.set_body("written"),
                "status" => response.set_status(299),
                "var" => response.vars.set("probe", "written"),
                _ => {}
            }
        }
        response.headers.set("x-saw-response", saw);
    }

    fn on_record(&self, record: &mut Record) -> Verdict {
        let mut saw = String::new();
        note(&mut saw, "header", record.request_header("x-probe"));
        note(&mut saw, "response-header", record.response_header("x-probe"));
        note(&mut saw, "body", record.request_body());
        note(&mut saw, "response-body", record.response_body());
        note(&mut saw, "path", Some(record.path.as_bytes()));
        for what in &self.write {
            match what.as_str() {
                "header" => {
                    record.set_request_header("x-probe", "written");
                    record.set_response_header("x-probe", "written");
                }
                "remove" => {
                    record.remove_request_header("x-probe");
                    record.remove_response_header("x-probe");
                }
                "body" => {
                    record.set_request_body(Some(b"written".to_vec()));
                    record.set_response_body(Some(b"written".to_vec()));
                }
                "query" => record.set_query("written"),
                "path" => record.set_path("/written"),
                "tag" => record.add_tag("written"),
                "alias" => record.set_alias("written"),
                _ => {}
            }
        }
        record.add_tag(saw);
        if self.answer.is_some() { Verdict::Drop } else { Verdict::Keep }
    }

    fn action(&self) -> Action {
        match self.answer.as_deref() {
            None => Action::Continue,
            Some("respond") => Reply::new(218).header("x-probe", "answered").body("answered").into(),
            Some(_) => Rejection::new(418, "rejected").header("x-probe", "rejected").into(),
        }
    }

    fn write_request(&self, request: &mut Request) {
        for what in &self.write {
            match what.as_str() {
                "header" => request.headers.set("x-probe", "written"),
                "append" => request.headers.append("x-probe", "appended"),
                "remove" => request.headers.remove("x-probe"),
                "body" => request.set_body("written"),
                "query" => request.query.set_raw(Some("written=1".to_owned())),
                "param" => request.query.set("written", "a b&c"),
                "method" => request.set_method(Method::Put),
                "path" => request.set_path("/written"),
                "var" => request.vars.set("probe", "written"),
                "upstream" => request.set_upstream(Upstream::Origin(self.origin.clone().unwrap_or_default())),
                _ => {}
            }
        }
    }

    fn write_session(&self, edits: &mut SessionEdits) {
        for what in &self.write {
            match what.as_str() {
                "metadata" => edits.set_metadata("written", "1"),
                "tag" => edits.add_tag("written"),
                "alias" => edits.set_alias("written"),
                "rate" => edits.set_rate(Rate::new(1.0, 1.0)),
                "inactive" => edits.set_inactive(true),
                "no-rights" => edits.set_access_rights(Vec::new()),
                "no-policies" => edits.set_policies(Vec::new()),
                "gold" => edits.set_policies(vec!["gold".to_owned()]),
                _ => {}
            }
        }
    }
}

fn saw_request(request: &Request, context: &Context, session: Option<&Session>) -> String {
    let mut saw = String::new();
    note(&mut saw, "method", Some(request.method().as_str().as_bytes()));
    note(&mut saw, "path", Some(request.path().as_bytes()));
    note(&mut saw, "query", request.query.raw().map(str::as_bytes));
    note(&mut saw, "header", request.headers.get("x-probe"));
    note(&mut saw, "body", request.body());
    note(&mut saw, "var", request.vars.get("probe"));
    note(&mut saw, "api", context.api.as_ref().map(|api| api.id.as_bytes()));
    let version = context.api.as_ref().map(|api| api.version.as_bytes()).filter(|version| !version.is_empty());
    note(&mut saw, "version", version);
    note(&mut saw, "host", context.host.as_deref().map(str::as_bytes));
    note(&mut saw, "alias", session.map(|session| session.alias.as_bytes()));
    note(&mut saw, "tags", session.map(|session| session.tags.join("+")).as_deref().map(str::as_bytes));
    note(&mut saw, "metadata", session.and_then(|session| session.metadata_text("written")).map(str::as_bytes));
    saw
}

/// Adds a pair for what was handed over, and nothing for what was not.
fn note(saw: &mut String, name: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        saw.push_str(&format!("{name}={};", String::from_utf8_lossy(value)));
    }
}
