//! A loaded plugin, and how its calls end.

use crate::{
    bindings::{analytics, auth, endpoint, post, post_auth, pre, response},
    guest::{
        Plugin,
        contract::{BodyRead, ContextFields, HeaderSelection, Hook, PluginDescription, Reads},
    },
    testing::{
        Call,
        apply::{apply_record, apply_reply, apply_request, apply_session},
        host,
    },
    types::{
        AnalyticsRecord, Context, Header, Origin, Refusal, Rejection, Reply, Request, RequestEdit, Response,
        SessionEdit,
    },
};

/// A plugin that was loaded by [`Host::load`](super::Host::load).
pub struct Loaded<P: Plugin> {
    state: P::State,
    description: PluginDescription,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The request with the plugin's changes. An answer or a refusal has none.
    pub call: Call,
    /// The plugin's answer; of a response function the response with its changes.
    pub reply: Option<Reply>,
    /// The plugin's refusal.
    pub rejection: Option<Rejection>,
    /// Of an auth function: a refusal worded by the gateway.
    pub refusal: Option<Refusal>,
    /// The function returned an error.
    pub error: Option<String>,
}

impl Outcome {
    fn of(call: Call) -> Self {
        Self { call, reply: None, rejection: None, refusal: None, error: None }
    }

    /// Whether the request goes on.
    #[must_use]
    pub fn continues(&self) -> bool {
        self.reply.is_none() && self.rejection.is_none() && self.refusal.is_none() && self.error.is_none()
    }

    /// The status of the answer or refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let refused = |refusal: &Refusal| match refusal {
            Refusal::CredentialMissing | Refusal::CredentialExpired => 401,
            Refusal::CredentialUnknown | Refusal::CredentialInactive => 403,
        };
        let reply = self.reply.as_ref().map(|reply| reply.status);
        let rejection = self.rejection.as_ref().map(|rejection| rejection.status);
        reply.or(rejection).or(self.refusal.as_ref().map(refused))
    }

    /// The first value of a header of the answer or refusal, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    /// Every value of a header of the answer or refusal that is UTF-8.
    #[must_use]
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let reply = self.reply.iter().flat_map(|reply| &reply.headers);
        let all = reply.chain(self.rejection.iter().flat_map(|rejection| &rejection.headers));
        let named = all.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.filter_map(|(_, value)| std::str::from_utf8(value).ok()).collect()
    }

    /// The body of the answer, if it is UTF-8.
    #[must_use]
    pub fn body(&self) -> Option<&str> {
        std::str::from_utf8(&self.reply.as_ref()?.body).ok()
    }
}

macro_rules! inbound {
    ($($(#[$doc:meta])* $hook:ident $variant:ident ($call:ident $(, $argument:expr)*);)*) => {
        $(
            $(#[$doc])*
            #[track_caller]
            pub fn $hook(&self, function: &str, call: Call) -> Outcome {
                self.enter();
                let $call = &call;
                let (context, request) = match self.hand_over(Hook::$variant, function, $call) {
                    Ok(handed) => handed,
                    Err(too_large) => return Outcome { rejection: Some(too_large), ..Outcome::of(call) },
                };
                let answer = P::$hook(&self.state, function, context, request $(, $argument(self, function, $call))*);
                let mut outcome = Outcome::of(call);
                match answer {
                    Ok(action) => inbound!(@$hook self outcome action),
                    Err(error) => outcome.error = Some(error),
                }
                outcome
            }
        )*
    };
    (@pre $self:ident $outcome:ident $action:ident) => {
        match $action {
            pre::Action::Continue => {}
            pre::Action::Edit(edits) => $self.edit(&mut $outcome.call, edits, Vec::new()),
            pre::Action::Respond(reply) => $outcome.reply = Some(reply),
            pre::Action::Reject(rejection) => $outcome.rejection = Some(rejection),
        }
    };
    (@auth $self:ident $outcome:ident $action:ident) => {
        match $action {
            auth::Action::Authenticated(authenticated) => {
                $outcome.call.session = Some(authenticated.session);
                $self.edit(&mut $outcome.call, authenticated.edits, Vec::new());
            }
            auth::Action::Refuse(refusal) => $outcome.refusal = Some(refusal),
            auth::Action::Respond(reply) => $outcome.reply = Some(reply),
            auth::Action::Reject(rejection) => $outcome.rejection = Some(rejection),
        }
    };
    (@$hook:ident $self:ident $outcome:ident $action:ident) => {
        match $action {
            $hook::Action::Continue => {}
            $hook::Action::Edit(edits) => $self.edit(&mut $outcome.call, edits.request, edits.session),
            $hook::Action::Respond(reply) => $outcome.reply = Some(reply),
            $hook::Action::Reject(rejection) => $outcome.rejection = Some(rejection),
        }
    };
}

impl<P: Plugin> Loaded<P> {
    pub(super) fn new(state: P::State, description: PluginDescription) -> Self {
        Self { state, description }
    }

    /// What the plugin tells the gateway.
    #[must_use]
    pub fn description(&self) -> &PluginDescription {
        &self.description
    }

    inbound! {
        /// Calls a `#[pre]` function.
        pre Pre (call);
        /// Calls an `#[auth]` function. The session that it makes is `call.session` of the outcome.
        auth Auth (call, |_, _, call: &Call| call.credential.clone());
        /// Calls a `#[post_auth]` function.
        post_auth PostAuth (call, |this: &Self, name, call: &Call| this.session(Hook::PostAuth, name, call));
        /// Calls an `#[endpoint]` function.
        endpoint Endpoint (
            call,
            |_, _, call: &Call| call.path_params.clone(),
            |this: &Self, name, call: &Call| this.session(Hook::Endpoint, name, call)
        );
        /// Calls a `#[post]` function.
        post Post (call, |this: &Self, name, call: &Call| this.session(Hook::Post, name, call));
    }

    /// Calls a `#[response]` function with the upstream's response. The response with its changes is `reply` of the
    /// outcome.
    #[track_caller]
    pub fn response(&self, function: &str, call: Call, mut reply: Reply) -> Outcome {
        self.enter();
        let reads = self.reads(Hook::Response, function);
        let mut request = call.request();
        select(&mut request.headers, &reads.request_headers);
        request.body = None;
        let mut response = Response {
            status: reply.status,
            origin: Origin::Upstream,
            headers: reply.headers.clone(),
            body: Some(reply.body.clone()),
            extra: Vec::new(),
        };
        select(&mut response.headers, &reads.headers);
        let mut outcome = Outcome::of(call);
        if let Err(limit) = buffer(&mut response.body, &reads.body) {
            outcome.rejection = Some(Rejection::new(502, format!("the response is longer than {limit} bytes")));
            return outcome;
        }
        let session = self.session(Hook::Response, function, &outcome.call);
        let context = context(&outcome.call, reads);
        match P::response(&self.state, function, context, request, response, session) {
            Ok(response::Action::Continue) => {}
            Ok(response::Action::Edit(edits)) => apply_reply(&mut reply, &mut outcome.call, edits),
            Err(error) => outcome.error = Some(error),
        }
        outcome.reply = Some(reply);
        outcome
    }

    /// Calls an `#[analytics]` function with a record. `None`: it was dropped.
    ///
    /// # Errors
    /// The function's own. The gateway does not store the record then.
    #[track_caller]
    pub fn analytics(&self, function: &str, record: AnalyticsRecord) -> Result<Option<AnalyticsRecord>, String> {
        self.enter();
        let reads = self.reads(Hook::Analytics, function);
        let mut handed = record.clone();
        for message in [&mut handed.request, &mut handed.response].into_iter().flatten() {
            select(&mut message.headers, &reads.headers);
            if reads.body == BodyRead::None {
                message.body = None;
            }
        }
        let mut verdicts = P::analytics(&self.state, function, vec![handed])?.into_iter();
        let (Some(verdict), None) = (verdicts.next(), verdicts.next()) else {
            panic!("a function gives one verdict for each record");
        };
        Ok(match verdict {
            analytics::Verdict::Keep => Some(record),
            analytics::Verdict::Edit(edits) => Some(apply_record(record, edits)),
            analytics::Verdict::Drop => None,
        })
    }

    /// The host is this plugin's from here on: there may be others in the test.
    fn enter(&self) {
        host::with(|state| state.description = Some(self.description.clone()));
    }

    /// What the gateway would hand over, or its refusal of a body that is too large.
    #[track_caller]
    fn hand_over(&self, hook: Hook, function: &str, call: &Call) -> Result<(Context, Request), Rejection> {
        let reads = self.reads(hook, function);
        let mut request = call.request();
        select(&mut request.headers, &reads.headers);
        buffer(&mut request.body, &reads.body)
            .map_err(|limit| Rejection::new(413, format!("the request is longer than {limit} bytes")))?;
        Ok((context(call, reads), request))
    }

    #[track_caller]
    fn session(&self, hook: Hook, function: &str, call: &Call) -> Option<crate::types::Session> {
        self.reads(hook, function).session.then(|| call.session.clone()).flatten()
    }

    #[track_caller]
    fn reads(&self, hook: Hook, name: &str) -> &Reads {
        let mut functions = self.description.functions.iter();
        let found = functions.find(|function| function.hook == hook && function.name == name);
        &found.unwrap_or_else(|| panic!("the plugin has no function `{name}` for this hook")).reads
    }

    #[track_caller]
    fn edit(&self, call: &mut Call, request: Vec<RequestEdit>, session: Vec<SessionEdit>) {
        apply_request(&self.description, call, request);
        apply_session(&self.description, call, session);
    }
}

fn select(headers: &mut Vec<Header>, selection: &HeaderSelection) {
    match selection {
        HeaderSelection::None => headers.clear(),
        HeaderSelection::All => {}
        HeaderSelection::Named(names) => headers.retain(|(name, _)| names.contains(name)),
    }
}

/// Takes the body away that was not asked for; an error is the limit that it is longer than.
fn buffer(body: &mut Option<Vec<u8>>, read: &BodyRead) -> Result<(), u64> {
    match read {
        BodyRead::None => *body = None,
        BodyRead::Buffered(limit) if body.as_ref().is_some_and(|body| body.len() as u64 > *limit) => {
            return Err(*limit);
        }
        BodyRead::Buffered(_) => {}
    }
    Ok(())
}

fn context(call: &Call, reads: &Reads) -> Context {
    let mut context = call.context();
    let asked = |field| reads.context.contains(field);
    context.request_id = context.request_id.filter(|_| asked(ContextFields::REQUEST_ID));
    context.api = context.api.filter(|_| asked(ContextFields::API));
    context.endpoint = context.endpoint.filter(|_| asked(ContextFields::ENDPOINT));
    context.host = context.host.filter(|_| asked(ContextFields::HOST));
    context.variables.retain(|_| asked(ContextFields::VARIABLES));
    context.vars.retain(|_| asked(ContextFields::VARS));
    context
}
