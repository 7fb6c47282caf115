//! Warnings that every request of an API may cause: one flood for each of its kinds, so that neither another kind nor
//! another API silences what begins here.

use super::reject::Reject;
use crate::telemetry::flood::Flood;

/// The warnings of one API.
#[derive(Debug, Default)]
pub struct Warnings {
    /// Answers that broke off.
    pub broken_off: Flood,
    session: Flood,
    upstream: Flood,
    request: Flood,
}

impl Warnings {
    /// Where a refusal is counted that operators should learn of.
    pub fn of(&self, reject: &Reject) -> Option<&Flood> {
        match reject {
            Reject::SessionInvalid(_) | Reject::Policy(_) => Some(&self.session),
            Reject::Upstream(_) | Reject::ResponseBody(_) | Reject::ResponseCoding => Some(&self.upstream),
            Reject::RequestInvalid(_) => Some(&self.request),
            _ => None,
        }
    }
}
