//! Callers by the ID in their request: the plugin is asked once for each, as long as its answer is good.

use std::sync::{Arc, Weak};

use super::plugin::{self, Answered};
use crate::model::extractor::ExtractorSettings;
use crate::model::key::KeyHash;
use crate::model::store::Away;
use crate::pipeline::caller::Caller;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::extract::{self, Deadline, Extractor, Input};
use crate::pipeline::flight::{Flight, Refusals};
use crate::pipeline::hooks;
use crate::pipeline::plan::{AuthStep, HookStep};
use crate::pipeline::reject::Reject;
use crate::plugin::verdict::Refusal;
use crate::store::{Event, Listener, Store};

/// The extractor of an API, and what is known of its callers.
pub struct Extraction {
    extractor: Extractor,
    flight: Flight<KeyHash, Landed>,
    refused: Arc<Refused>,
}

/// Callers that the plugin refused. Forgotten when the store has news of them.
struct Refused(Refusals<KeyHash, Refusal>);

/// What those learn who waited for another one's call.
#[derive(Debug, Clone, Copy)]
enum Landed {
    /// The session is in the store.
    Kept,
    /// The plugin refused.
    Refused(Refusal),
    /// It answered, failed, or could not be remembered: that was for the one request.
    ForOne,
}

impl Extraction {
    /// Begins with no caller known: a plugin that was exchanged may decide otherwise. From now on it forgets refusals of whom
    /// the store has news. What the one before it counted goes on.
    pub fn new(settings: ExtractorSettings, store: &Store, before: Option<&Self>) -> Self {
        let life_ms = u64::try_from(settings.refusal_life.as_millis()).unwrap_or(u64::MAX);
        let refusals = Refusals::new(settings.refusals_max, life_ms);
        let refusals = match before {
            Some(before) => refusals.counting_on(&before.refused.0),
            None => refusals,
        };
        let refused = Arc::new(Refused(refusals));
        // It is not kept by being told: a plan that is replaced goes.
        let listener: Weak<dyn Listener> = Arc::downgrade(&refused) as _;
        store.listen(listener);
        let flight = Flight::new(settings.asked_max, settings.waiting_max);
        Self { extractor: Extractor::new(settings), flight, refused }
    }

    /// IDs that the plugin is asked about at this moment, and requests that wait for one.
    pub fn asked(&self) -> (usize, usize) {
        (self.flight.keys(), self.flight.callers())
    }

    /// Refusals that are remembered, and how many went before their time.
    pub fn refused(&self) -> (usize, u64) {
        (self.refused.0.held(), self.refused.0.evicted())
    }
}

impl Listener for Refused {
    fn told(&self, event: &Event) {
        match event {
            Event::SessionChanged(key) | Event::SessionDeleted(key) => self.0.forget(key),
            Event::Lost => self.0.clear(),
            Event::PolicyChanged(_) | Event::Reload => {}
        }
    }
}

/// Finds the caller by the ID, or asks the plugin: one request for all of an ID at one time.
pub(super) async fn caller(
    extraction: &Extraction,
    step: &AuthStep,
    hook: &HookStep,
    exchange: &mut Exchange,
    credential: Option<&[u8]>,
) -> Result<Answered, Reject> {
    let key = key(extraction, hook, exchange).await?;
    if let Some(known) = known(extraction, step, exchange, &key).await? {
        return Ok(Answered::Caller(known));
    }
    let id = Some((&key, extraction.extractor.settings().deadline_max));
    let mut own = None;
    let landed = extraction.flight.run(&key, async || {
        // Another call may have ended just before this one began.
        let answered = match known(extraction, step, exchange, &key).await {
            Ok(Some(known)) => Ok(Answered::Caller(known)),
            Err(reject) => Err(reject),
            Ok(None) => {
                let asking = extraction.refused.0.ask(&key);
                let answered = plugin::caller(step, hook, exchange, credential, id).await;
                if let Some(refusal) = answered.as_ref().err().and_then(Reject::refusal) {
                    asking.refused(refusal, exchange.core.clock.now_ms());
                }
                answered
            }
        };
        let landed = match &answered {
            Ok(Answered::Caller(_)) => Landed::Kept,
            Ok(Answered::Reply(_)) => Landed::ForOne,
            Err(reject) => reject.refusal().map_or(Landed::ForOne, Landed::Refused),
        };
        own = Some(answered);
        landed
    });
    let landed = landed.await;
    if let Some(answered) = own {
        return answered;
    }
    match landed {
        Ok(Landed::Refused(refusal)) => Err(Reject::from(refusal)),
        Ok(Landed::Kept | Landed::ForOne) => match known(extraction, step, exchange, &key).await? {
            Some(known) => Ok(Answered::Caller(known)),
            None => plugin::caller(step, hook, exchange, credential, id).await,
        },
        Err(_) => Err(Reject::Busy),
    }
}

/// The name under which the session of the request's ID is kept.
async fn key(extraction: &Extraction, hook: &HookStep, exchange: &mut Exchange) -> Result<KeyHash, Reject> {
    let extractor = &extraction.extractor;
    if extractor.needs_body() {
        let bytes_max = u64::try_from(extractor.settings().input_bytes_max).unwrap_or(u64::MAX);
        hooks::read_whole(exchange, bytes_max).await?;
    }
    let input = Input {
        headers: &exchange.headers,
        query: exchange.query.as_deref(),
        body: if extractor.needs_body() { exchange.content.known() } else { None },
    };
    let id = extractor.extract(input).map_err(Reject::NoId)?;
    let api = &exchange.plan.api;
    Ok(extract::session_key(&api.organisation, &api.id, &hook.function.generation.spec.name, id.as_bytes()))
}

/// What is known of an ID without the plugin: its caller, or that it was refused.
async fn known(
    extraction: &Extraction,
    step: &AuthStep,
    exchange: &Exchange,
    key: &KeyHash,
) -> Result<Option<Box<Caller>>, Reject> {
    let now_ms = exchange.core.clock.now_ms();
    if let Some(refusal) = extraction.refused.0.get(key, now_ms) {
        return Err(Reject::from(refusal));
    }
    let stored = match exchange.core.sessions.get(key).await {
        Ok(stored) => {
            exchange.core.store_answered();
            stored
        }
        // The operator would rather refuse, as for tokens.
        Err(error) if error.is_away() && exchange.core.away == Away::Deny => return Err(Reject::Store(error)),
        // The plugin can be asked, store or no store.
        Err(_) => exchange.core.sessions.last_known(key).flatten(),
    };
    let Some(stored) = stored else { return Ok(None) };
    let (session, plugin) = (&stored.session, &step.plugin);
    let is_good = Deadline::of(session.id_extractor_deadline).is_some_and(|deadline| !deadline.is_over(now_ms));
    // What another version of the plugin said, or was configured to say, or may not say any more, is no answer of this one.
    if !is_good || session.maker != plugin.maker || !session.policies.iter().all(|id| plugin.policies.has(id)) {
        return Ok(None);
    }
    Caller::kept(exchange, key.clone(), stored, Some(step.plugin.made())).await.map(Some)
}
