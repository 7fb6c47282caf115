//! Access rights on the way: whether a session may make the call that its request is.

use std::borrow::Cow;

use super::exchange::{Exchange, Flow};
use super::reject::Reject;
use super::rights::{Call, Denied};

/// Ends the request of a session without the right to it.
pub fn check(exchange: &mut Exchange) -> Result<Flow, Reject> {
    exchange.is_moved = false;
    let Some(caller) = exchange.caller.as_deref() else { return Ok(Flow::Next) };
    exchange.as_call(|call| caller.rights.check(call)).map_err(denied)?;
    Ok(Flow::Next)
}

/// Looks again where a plugin changed method or path since.
pub fn check_again(exchange: &mut Exchange) -> Result<(), Reject> {
    if exchange.is_moved { check(exchange).map(drop) } else { Ok(()) }
}

/// The refusal of a session that may not make a call.
pub fn denied(denied: Denied) -> Reject {
    match denied {
        Denied::Api | Denied::Version => Reject::ApiForbidden,
        Denied::Path => Reject::ResourceForbidden,
        Denied::RateInvalid => Reject::SessionInvalid("its rate cannot be counted"),
    }
}

impl Exchange {
    /// The request as rights and limits look at it.
    pub fn as_call<T>(&self, look: impl FnOnce(&Call<'_>) -> T) -> T {
        // Both have the version in them where the path names it: otherwise a right to one below `/v1` would be one to what a
        // second version has below a `/v1` of its own.
        let listen = &self.plan.api.listen;
        let own = self.path_with_version();
        let (path, stripped) = if listen.strip {
            (Cow::Owned(format!("{}{own}", listen.path.as_str().trim_end_matches('/'))), &*own)
        } else {
            (Cow::Borrowed(&*own), listen.path.strip(&own).unwrap_or(&own))
        };
        let version = self.api_version.as_ref().map(|version| version.name().as_str());
        let (api, method) = (self.plan.api.id.as_str(), self.method.as_str());
        look(&Call { api, version, method, path: &path, stripped })
    }
}
