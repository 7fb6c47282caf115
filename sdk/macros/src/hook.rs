//! The seven hooks: what their functions may take, and how generated code names them.

use proc_macro2::Ident;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Pre,
    Auth,
    PostAuth,
    Endpoint,
    Post,
    Response,
    Analytics,
}

pub(crate) const HOOKS: [Hook; 7] =
    [Hook::Pre, Hook::Auth, Hook::PostAuth, Hook::Endpoint, Hook::Post, Hook::Response, Hook::Analytics];

/// An argument of a function, by its type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    Request,
    SentRequest,
    Context,
    Credential,
    Session,
    SessionEdits,
    PathParams,
    Response,
    Record,
}

impl Hook {
    pub(crate) fn from_attribute(name: &Ident) -> Option<Self> {
        HOOKS.into_iter().find(|hook| name == hook.attribute())
    }

    /// The attribute, and the module of the bindings.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Auth => "auth",
            Self::PostAuth => "post_auth",
            Self::Endpoint => "endpoint",
            Self::Post => "post",
            Self::Response => "response",
            Self::Analytics => "analytics",
        }
    }

    pub(crate) fn variant(self) -> &'static str {
        match self {
            Self::Pre => "Pre",
            Self::Auth => "Auth",
            Self::PostAuth => "PostAuth",
            Self::Endpoint => "Endpoint",
            Self::Post => "Post",
            Self::Response => "Response",
            Self::Analytics => "Analytics",
        }
    }

    pub(crate) fn arguments(self) -> &'static [Argument] {
        use Argument::*;
        match self {
            Self::Pre => &[Request, Context],
            Self::Auth => &[Request, Context, Credential],
            Self::PostAuth | Self::Post => &[Request, Context, Session, SessionEdits],
            Self::Endpoint => &[Request, Context, PathParams, Session, SessionEdits],
            Self::Response => &[Response, SentRequest, Context, Session],
            Self::Analytics => &[Record],
        }
    }
}

impl Argument {
    pub(crate) fn written(self) -> &'static str {
        match self {
            Self::Request => "&mut Request",
            Self::SentRequest => "&Request",
            Self::Context => "&Context",
            Self::Credential => "Option<&Credential>",
            Self::Session => "Option<&Session>",
            Self::SessionEdits => "&mut SessionEdits",
            Self::PathParams => "&PathParams",
            Self::Response => "&mut Response",
            Self::Record => "&mut Record",
        }
    }
}
