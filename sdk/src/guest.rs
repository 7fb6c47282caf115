//! What `#[plugin]` implements, and the way from a call of the gateway to a function and back.
//!
//! Authors see nothing of this: only the macro writes calls of it.

#![allow(missing_docs, reason = "public for the code that the macro writes, not for people")]

use crate::{
    bindings::{
        analytics, auth,
        base::exports::stile::plugin::description::{
            BodyRead, Capability, ContextFields, Function, HeaderSelection, Hook, Metric as WireMetric, MetricKind,
            PluginDescription, Reads,
        },
        endpoint, post, post_auth, pre, response,
    },
    types::{AnalyticsRecord, Context, Credential, Request, Response, Session},
};

pub use crate::bindings::base::exports::stile::plugin::description as contract;

/// A plugin: its description and its functions by hook. Implemented by [`#[plugin]`](macro@crate::plugin), never by hand:
/// its items may change with every version.
pub trait Plugin: 'static {
    #[doc(hidden)]
    type State: 'static;

    #[doc(hidden)]
    const DESCRIPTION: Description;

    #[doc(hidden)]
    fn config_schema() -> Option<String> {
        None
    }

    #[doc(hidden)]
    fn init(config: &str) -> Result<Self::State, String>;

    #[doc(hidden)]
    fn pre(_: &Self::State, function: &str, _: Context, _: Request) -> Result<pre::Action, String> {
        unknown_function(function)
    }

    #[doc(hidden)]
    fn auth(
        _: &Self::State,
        function: &str,
        _: Context,
        _: Request,
        _: Option<Credential>,
    ) -> Result<auth::Action, String> {
        unknown_function(function)
    }

    #[doc(hidden)]
    fn post_auth(
        _: &Self::State,
        function: &str,
        _: Context,
        _: Request,
        _: Option<Session>,
    ) -> Result<post_auth::Action, String> {
        unknown_function(function)
    }

    #[doc(hidden)]
    fn endpoint(
        _: &Self::State,
        function: &str,
        _: Context,
        _: Request,
        _: Vec<(String, String)>,
        _: Option<Session>,
    ) -> Result<endpoint::Action, String> {
        unknown_function(function)
    }

    #[doc(hidden)]
    fn post(
        _: &Self::State,
        function: &str,
        _: Context,
        _: Request,
        _: Option<Session>,
    ) -> Result<post::Action, String> {
        unknown_function(function)
    }

    #[doc(hidden)]
    fn response(
        _: &Self::State,
        function: &str,
        _: Context,
        _: Request,
        _: Response,
        _: Option<Session>,
    ) -> Result<response::Action, String> {
        unknown_function(function)
    }

    #[doc(hidden)]
    fn analytics(_: &Self::State, function: &str, _: Vec<AnalyticsRecord>) -> Result<Vec<analytics::Verdict>, String> {
        unknown_function(function)
    }

    #[doc(hidden)]
    fn describe() -> PluginDescription {
        let description = Self::DESCRIPTION;
        PluginDescription {
            name: description.name.to_owned(),
            version: description.version.to_owned(),
            functions: description.functions.iter().map(FunctionSpec::function).collect(),
            capabilities: description.capabilities.iter().map(|(name, reason)| capability(name, reason)).collect(),
            metrics: description.metrics.iter().map(Metric::metric).collect(),
            config_schema: Self::config_schema(),
        }
    }
}

/// The definition picked a function that is not there.
pub fn unknown_function<T>(name: &str) -> Result<T, String> {
    Err(["no function `", name, "` for this hook"].concat())
}

/// What `describe` says, as far as it is known when the plugin is compiled.
pub struct Description {
    pub name: &'static str,
    pub version: &'static str,
    pub functions: &'static [FunctionSpec],
    /// Names with reasons.
    pub capabilities: &'static [(&'static str, &'static str)],
    pub metrics: &'static [Metric],
}

pub struct FunctionSpec {
    pub hook: Hook,
    pub name: &'static str,
    pub headers: HeaderSpec,
    pub body: Option<u64>,
    pub request_headers: HeaderSpec,
    pub session: bool,
    pub context: ContextFields,
}

pub enum HeaderSpec {
    All,
    Named(&'static [&'static str]),
}

pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
}

impl FunctionSpec {
    fn function(&self) -> Function {
        let reads = Reads {
            headers: self.headers.selection(),
            body: self.body.map_or(BodyRead::None, BodyRead::Buffered),
            request_headers: self.request_headers.selection(),
            session: self.session,
            context: self.context,
        };
        Function { hook: self.hook, name: self.name.to_owned(), reads }
    }
}

impl HeaderSpec {
    fn selection(&self) -> HeaderSelection {
        match self {
            Self::All => HeaderSelection::All,
            Self::Named([]) => HeaderSelection::None,
            Self::Named(names) => HeaderSelection::Named(names.iter().map(|name| (*name).to_owned()).collect()),
        }
    }
}

impl Metric {
    fn metric(&self) -> WireMetric {
        WireMetric { name: self.name.to_owned(), kind: self.kind, help: self.help.to_owned() }
    }
}

fn capability(name: &str, reason: &str) -> Capability {
    Capability { name: name.to_owned(), reason: reason.to_owned() }
}

/// What `fn new` of a plugin may return.
#[diagnostic::on_unimplemented(message = "`new` of a plugin returns `Self` or a `Result<Self, _>`, not `{Self}`")]
pub trait IntoState<S> {
    fn into_state(self) -> Result<S, String>;
}

impl<S> IntoState<S> for S {
    fn into_state(self) -> Result<S, String> {
        Ok(self)
    }
}

impl<S, E: std::fmt::Display> IntoState<S> for Result<S, E> {
    fn into_state(self) -> Result<S, String> {
        self.map_err(|error| error.to_string())
    }
}

/// What the custom section `stile:sdk` holds: which SDK made the component, and for which contract.
pub const STAMP: &[u8; STAMP_TEXT.len()] = match STAMP_TEXT.as_bytes().first_chunk() {
    Some(bytes) => bytes,
    None => panic!("a text is as long as itself"),
};

const STAMP_TEXT: &str = concat!("stile-sdk ", env!("CARGO_PKG_VERSION"), " contract ", contract_version!());

/// One call: what a function is handed, made of what crossed the boundary, and its action on the way back.
pub mod calls {
    use crate::{
        Action, AuthAction, Context, PathParams, Record, Request, Response, SessionEdits, Verdict,
        bindings::{analytics, auth, endpoint, post, post_auth, pre, response},
        fields::Vars,
        types,
    };

    /// A call of a hook on the way to the upstream.
    pub struct Inbound {
        pub context: Context,
        pub request: Request,
        pub session: Option<types::Session>,
        pub session_edits: SessionEdits,
        pub path_params: PathParams,
        pub credential: Option<types::Credential>,
    }

    impl Inbound {
        pub fn new(context: types::Context, request: types::Request) -> Self {
            let (context, vars) = Context::split(context);
            Self {
                context,
                request: Request::new(request, vars),
                session: None,
                session_edits: SessionEdits::default(),
                path_params: PathParams::new(Vec::new()),
                credential: None,
            }
        }

        pub fn with_session(self, session: Option<types::Session>) -> Self {
            Self { session, ..self }
        }

        pub fn with_credential(self, credential: Option<types::Credential>) -> Self {
            Self { credential, ..self }
        }

        pub fn with_path_params(self, params: Vec<(String, String)>) -> Self {
            Self { path_params: PathParams::new(params), ..self }
        }

        pub fn pre(self, action: Action) -> pre::Action {
            match action {
                Action::Continue => match self.request.into_edits() {
                    edits if edits.is_empty() => pre::Action::Continue,
                    edits => pre::Action::Edit(edits),
                },
                Action::Respond(reply) => pre::Action::Respond(reply),
                Action::Reject(rejection) => pre::Action::Reject(rejection),
            }
        }

        pub fn auth(self, action: AuthAction) -> auth::Action {
            match action {
                AuthAction::Authenticated(session) => {
                    auth::Action::Authenticated(auth::Authenticated { session, edits: self.request.into_edits() })
                }
                AuthAction::Refuse(refusal) => auth::Action::Refuse(refusal),
                AuthAction::Respond(reply) => auth::Action::Respond(reply),
                AuthAction::Reject(rejection) => auth::Action::Reject(rejection),
            }
        }

        fn edits(self) -> Option<types::Edits> {
            let edits = types::Edits { request: self.request.into_edits(), session: self.session_edits.into_edits() };
            (!edits.request.is_empty() || !edits.session.is_empty()).then_some(edits)
        }
    }

    macro_rules! authenticated_hooks {
        ($($hook:ident)*) => {
            impl Inbound {
                $(
                    pub fn $hook(self, action: Action) -> $hook::Action {
                        match action {
                            Action::Continue => self.edits().map_or($hook::Action::Continue, $hook::Action::Edit),
                            Action::Respond(reply) => $hook::Action::Respond(reply),
                            Action::Reject(rejection) => $hook::Action::Reject(rejection),
                        }
                    }
                )*
            }
        };
    }

    authenticated_hooks! { post_auth endpoint post }

    /// A call of the response hook.
    pub struct Outbound {
        pub context: Context,
        pub request: Request,
        pub response: Response,
        pub session: Option<types::Session>,
    }

    impl Outbound {
        pub fn new(
            context: types::Context,
            request: types::Request,
            response: types::Response,
            session: Option<types::Session>,
        ) -> Self {
            let (context, vars) = Context::split(context);
            let request = Request::new(request, Vars::default());
            Self { context, request, response: Response::new(response, vars), session }
        }

        pub fn response(self, (): ()) -> response::Action {
            match self.response.into_edits() {
                edits if edits.is_empty() => response::Action::Continue,
                edits => response::Action::Edit(edits),
            }
        }
    }

    /// One record of a call of the analytics hook.
    pub struct Recorded {
        pub record: Record,
    }

    impl Recorded {
        pub fn new(record: types::AnalyticsRecord) -> Self {
            Self { record: Record::new(record) }
        }

        pub fn analytics(self, verdict: Verdict) -> analytics::Verdict {
            match verdict {
                Verdict::Keep => match self.record.into_edits() {
                    edits if edits.is_empty() => analytics::Verdict::Keep,
                    edits => analytics::Verdict::Edit(edits),
                },
                Verdict::Drop => analytics::Verdict::Drop,
            }
        }
    }
}
