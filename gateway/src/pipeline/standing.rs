//! What a caller may do: the session with its policies put onto it, and its rights made ready.
//!
//! Both are made once and kept as long as neither session nor policies change.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::exchange::Exchange;
use super::policy;
use super::reject::Reject;
use super::rights::{Patterns, Rights};
use crate::model::key::KeyHash;
use crate::model::policy::{Policy, PolicyId};
use crate::model::session::Session;
use crate::store::PolicyCache;
use crate::telemetry::flood::Flood;

/// The standing of callers, as far as a core has made it.
pub struct Standings {
    policies: PolicyCache,
    patterns: Arc<Patterns>,
    made: RefCell<HashMap<KeyHash, Made>>,
}

/// What one caller may do.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The session with its policies on it.
    pub session: Arc<Session>,
    /// Its rights.
    pub rights: Arc<Rights>,
}

struct Made {
    /// Of this session, as the store has it.
    from: Arc<Session>,
    /// At the APIs of this organisation, which policies must be of too.
    organisation: String,
    /// While no policy changed.
    generation: u64,
    standing: Standing,
}

impl Standings {
    /// Begins with nothing made. The patterns are shared by all cores.
    pub fn new(policies: PolicyCache, patterns: Arc<Patterns>) -> Self {
        Self { policies, patterns, made: RefCell::default() }
    }

    /// Makes the rights of a session ready, after it was changed.
    pub fn rights(&self, session: &Session) -> Arc<Rights> {
        Arc::new(Rights::of(session, &self.patterns))
    }

    fn made(&self, key: &KeyHash, session: &Arc<Session>, organisation: &str) -> Option<Standing> {
        let made = self.made.borrow();
        let made = made.get(key).filter(|_| self.policies.is_heard())?;
        let is_good = Arc::ptr_eq(&made.from, session)
            && made.organisation == organisation
            && made.generation == self.policies.generation();
        is_good.then(|| made.standing.clone())
    }

    fn keep(&self, key: KeyHash, made: Made) {
        let mut all = self.made.borrow_mut();
        if all.len() >= MADE_MAX {
            all.clear();
        }
        all.insert(key, made);
    }
}

/// What the caller with this key and session may do at the exchange's API.
pub async fn of(exchange: &Exchange, key: &KeyHash, session: &Arc<Session>) -> Result<Standing, Reject> {
    let standings = &exchange.core.standings;
    let organisation = &exchange.plan.api.organisation;
    if let Some(standing) = standings.made(key, session, organisation) {
        return Ok(standing);
    }
    let generation = standings.policies.generation();
    let mut found: Vec<Policy> = Vec::new();
    for id in &session.policies {
        // What is no id names no policy.
        let Ok(id) = PolicyId::parse(id) else { continue };
        found.extend(standings.policies.get(&id).await.map_err(Reject::Store)?.map(|policy| Policy::clone(&policy)));
    }
    let mut with_policies = Session::clone(session);
    policy::apply(&mut with_policies, &found, organisation).map_err(Reject::Policy)?;
    let rights = standings.rights(&with_policies);
    if let Some(problem) = rights.problems().first()
        && let Some(sessions) = UNUSABLE.begin(exchange.core.clock.now_ms())
    {
        let problems = rights.problems().len();
        tracing::warn!(
            api = %exchange.plan.api.id, key = %key, sessions, problems, reason = %problem, "a right cannot be used"
        );
    }
    let standing = Standing { session: Arc::new(with_policies), rights };
    let (from, organisation) = (session.clone(), organisation.clone());
    standings.keep(key.clone(), Made { from, organisation, generation, standing: standing.clone() });
    Ok(standing)
}

static UNUSABLE: Flood = Flood::new();

/// Beyond it a core begins anew.
const MADE_MAX: usize = 10_000;
