//! How a function ends.

use std::fmt::Display;

use crate::types::{Refusal, Rejection, Reply, Session};

/// How a function of a request hook ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Go on, with the changes made to the request and its session.
    Continue,
    /// Answer now, with this.
    Respond(Reply),
    /// Refuse; the gateway words and renders the answer.
    Reject(Rejection),
}

/// How an `#[auth]` function ends.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "made once for a call and moved out at once")]
pub enum AuthAction {
    /// The caller is who this session says. Changes made to the request are kept.
    Authenticated(Session),
    /// The caller is not let in; the gateway words the answer.
    Refuse(Refusal),
    /// Answer now, with this.
    Respond(Reply),
    /// Refuse with a status and a message of the plugin's.
    Reject(Rejection),
}

/// What becomes of an analytics record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is stored, with the changes made to it.
    Keep,
    /// It is not stored.
    Drop,
}

/// Refuses a request: `status` is 400 to 599, `message` is what the caller reads.
#[must_use]
pub fn reject(status: u16, message: impl Into<String>) -> Action {
    Action::Reject(Rejection::new(status, message))
}

impl From<Reply> for Action {
    fn from(reply: Reply) -> Self {
        Self::Respond(reply)
    }
}

impl From<Rejection> for Action {
    fn from(rejection: Rejection) -> Self {
        Self::Reject(rejection)
    }
}

/// What a function of a request hook may return.
#[diagnostic::on_unimplemented(
    message = "a function of a request hook cannot return `{Self}`",
    note = "return `Action`, `Reply`, `Rejection` or nothing, or a `Result` of one of these"
)]
pub trait IntoAction {
    /// The action, or the text of a plugin failure.
    ///
    /// # Errors
    /// The function returned an error.
    fn into_action(self) -> Result<Action, String>;
}

impl IntoAction for Action {
    fn into_action(self) -> Result<Action, String> {
        Ok(self)
    }
}

impl IntoAction for () {
    fn into_action(self) -> Result<Action, String> {
        Ok(Action::Continue)
    }
}

impl IntoAction for Reply {
    fn into_action(self) -> Result<Action, String> {
        Ok(Action::Respond(self))
    }
}

impl IntoAction for Rejection {
    fn into_action(self) -> Result<Action, String> {
        Ok(Action::Reject(self))
    }
}

impl<T: IntoAction, E: Display> IntoAction for Result<T, E> {
    fn into_action(self) -> Result<Action, String> {
        self.map_err(|error| error.to_string())?.into_action()
    }
}

/// What an `#[auth]` function may return.
#[diagnostic::on_unimplemented(
    message = "an `#[auth]` function cannot return `{Self}`",
    note = "return `AuthAction`, `Session`, `Refusal`, `Reply` or `Rejection`, or a `Result` of one of these"
)]
pub trait IntoAuthAction {
    /// The action, or the text of a plugin failure.
    ///
    /// # Errors
    /// The function returned an error.
    fn into_auth_action(self) -> Result<AuthAction, String>;
}

impl IntoAuthAction for AuthAction {
    fn into_auth_action(self) -> Result<AuthAction, String> {
        Ok(self)
    }
}

impl IntoAuthAction for Session {
    fn into_auth_action(self) -> Result<AuthAction, String> {
        Ok(AuthAction::Authenticated(self))
    }
}

impl IntoAuthAction for Refusal {
    fn into_auth_action(self) -> Result<AuthAction, String> {
        Ok(AuthAction::Refuse(self))
    }
}

impl IntoAuthAction for Reply {
    fn into_auth_action(self) -> Result<AuthAction, String> {
        Ok(AuthAction::Respond(self))
    }
}

impl IntoAuthAction for Rejection {
    fn into_auth_action(self) -> Result<AuthAction, String> {
        Ok(AuthAction::Reject(self))
    }
}

impl<T: IntoAuthAction, E: Display> IntoAuthAction for Result<T, E> {
    fn into_auth_action(self) -> Result<AuthAction, String> {
        self.map_err(|error| error.to_string())?.into_auth_action()
    }
}

/// What a `#[response]` function may return.
#[diagnostic::on_unimplemented(
    message = "a `#[response]` function cannot return `{Self}`",
    note = "return nothing, or `Result<(), _>`: a response is changed, never replaced by an action"
)]
pub trait IntoDone {
    /// Nothing, or the text of a plugin failure.
    ///
    /// # Errors
    /// The function returned an error.
    fn into_done(self) -> Result<(), String>;
}

impl IntoDone for () {
    fn into_done(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> IntoDone for Result<(), E> {
    fn into_done(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// What an `#[analytics]` function may return.
#[diagnostic::on_unimplemented(
    message = "an `#[analytics]` function cannot return `{Self}`",
    note = "return `Verdict` or nothing, or a `Result` of one of these"
)]
pub trait IntoVerdict {
    /// The verdict, or the text of a plugin failure.
    ///
    /// # Errors
    /// The function returned an error.
    fn into_verdict(self) -> Result<Verdict, String>;
}

impl IntoVerdict for Verdict {
    fn into_verdict(self) -> Result<Verdict, String> {
        Ok(self)
    }
}

impl IntoVerdict for () {
    fn into_verdict(self) -> Result<Verdict, String> {
        Ok(Verdict::Keep)
    }
}

impl<T: IntoVerdict, E: Display> IntoVerdict for Result<T, E> {
    fn into_verdict(self) -> Result<Verdict, String> {
        self.map_err(|error| error.to_string())?.into_verdict()
    }
}
