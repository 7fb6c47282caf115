//! Callers by the ID in their request: the plugin is asked once for each, as long as its answer is good.

use super::plugin::{self, Answered};
use crate::model::extractor::ExtractorSettings;
use crate::model::key::KeyHash;
use crate::pipeline::caller::Caller;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::extract::{self, Deadline, Extractor, Input};
use crate::pipeline::flight::{Flight, Refusals};
use crate::pipeline::hooks;
use crate::pipeline::plan::{AuthStep, HookStep};
use crate::pipeline::reject::Reject;
use crate::plugin::verdict::Refusal;

/// The extractor of an API, and what is known of its callers.
pub struct Extraction {
    extractor: Extractor,
    flight: Flight<KeyHash, Landed>,
    refusals: Refusals<KeyHash, Refusal>,
}

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
    /// Begins with no caller known.
    pub fn new(settings: ExtractorSettings) -> Self {
        let life_ms = u64::try_from(settings.refusal_life.as_millis()).unwrap_or(u64::MAX);
        let refusals = Refusals::new(settings.refusals_max, life_ms);
        Self { extractor: Extractor::new(settings), flight: Flight::new(KEYS_MAX, CALLERS_MAX), refusals }
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
    let key = key(extraction, exchange).await?;
    if let Some(known) = known(extraction, exchange, &key).await? {
        return Ok(Answered::Caller(known));
    }
    let id = Some((&key, extraction.extractor.settings().deadline_max));
    let mut own = None;
    let landed = extraction.flight.run(&key, async || {
        // Another call may have ended just before this one began.
        let answered = match known(extraction, exchange, &key).await {
            Ok(Some(known)) => Ok(Answered::Caller(known)),
            Err(reject) => Err(reject),
            Ok(None) => {
                let answered = plugin::caller(step, hook, exchange, credential, id).await;
                if let Some(refusal) = answered.as_ref().err().and_then(Reject::refusal) {
                    extraction.refusals.put(&key, refusal, exchange.core.clock.now_ms());
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
        Ok(Landed::Kept) => match known(extraction, exchange, &key).await? {
            Some(known) => Ok(Answered::Caller(known)),
            None => plugin::caller(step, hook, exchange, credential, id).await,
        },
        Ok(Landed::ForOne) => plugin::caller(step, hook, exchange, credential, id).await,
        Err(_) => Err(Reject::Busy),
    }
}

/// The name under which the session of the request's ID is kept.
async fn key(extraction: &Extraction, exchange: &mut Exchange) -> Result<KeyHash, Reject> {
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
    Ok(extract::session_key(&api.organisation, &api.id, &id))
}

/// What is known of an ID without the plugin: its caller, or that it was refused.
async fn known(extraction: &Extraction, exchange: &Exchange, key: &KeyHash) -> Result<Option<Box<Caller>>, Reject> {
    let now_ms = exchange.core.clock.now_ms();
    if let Some(refusal) = extraction.refusals.get(key, now_ms) {
        return Err(Reject::from(refusal));
    }
    let stored = match exchange.core.sessions.get(key).await {
        Ok(stored) => stored,
        // The plugin can be asked, store or no store.
        Err(_) => exchange.core.sessions.last_known(key).flatten(),
    };
    let Some(stored) = stored else { return Ok(None) };
    let is_good = Deadline::of(stored.session.id_extractor_deadline).is_some_and(|deadline| !deadline.is_over(now_ms));
    if is_good { Caller::kept(exchange, key.clone(), stored).await.map(Some) } else { Ok(None) }
}

/// IDs that are asked about at one time, and requests that wait for one.
const KEYS_MAX: usize = 10_000;
const CALLERS_MAX: usize = 10_000;
