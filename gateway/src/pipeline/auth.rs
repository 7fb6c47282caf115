//! Who calls: the credential, who knows it, and the session that the request gets.

pub mod credential;
mod identity;
mod plugin;
mod token;

pub use self::identity::Extraction;
use self::plugin::Answered;
use super::caller::Caller;
use super::exchange::{Exchange, Flow};
use super::plan::{AuthStep, By, HookStep};
use super::reject::Reject;
use crate::model::api::{Provider, Require};

/// Asks who calls, and keeps the session for the request.
pub async fn authenticate(step: &AuthStep, exchange: &mut Exchange) -> Result<Flow, Reject> {
    let value = credential::find(&step.credential, &exchange.headers, exchange.query.as_deref());
    let answered = ask(step, exchange, value.as_deref()).await;
    exchange.credential = value;
    match answered? {
        Answered::Caller(caller) => {
            exchange.caller = Some(caller);
            Ok(Flow::Next)
        }
        Answered::Reply(answer) => Ok(Flow::Reply(answer)),
    }
}

async fn ask(step: &AuthStep, exchange: &mut Exchange, credential: Option<&[u8]>) -> Result<Answered, Reject> {
    let source = &step.credential;
    let (hook, require, session_from) = match &step.by {
        By::Token => return token::caller(exchange, source, credential).await.map(Answered::Caller),
        By::Plugin(hook) => return by_plugin(step, hook, exchange, credential).await,
        By::Both { hook, require, session_from } => (hook, *require, *session_from),
    };
    // The token first: it costs next to nothing, and who is refused here must not cost a call.
    let by_token = token::caller(exchange, source, credential).await;
    match (require, by_token) {
        (Require::Any, Ok(caller)) => Ok(Answered::Caller(caller)),
        (Require::Any, Err(_)) => by_plugin(step, hook, exchange, credential).await,
        (Require::All, Err(reject)) => Err(reject),
        (Require::All, Ok(of_token)) => {
            // Before the plugin is asked, or an expired key would still cost its call.
            of_token.check_expiry(exchange.time_ms)?;
            let of_plugin = match by_plugin(step, hook, exchange, credential).await? {
                Answered::Caller(caller) => caller,
                Answered::Reply(answer) => return Ok(Answered::Reply(answer)),
            };
            of_plugin.check_expiry(exchange.time_ms)?;
            Ok(Answered::Caller(match session_from {
                Provider::Token => of_token,
                Provider::Plugin => of_plugin,
            }))
        }
    }
}

/// Asks the plugin, where its last answer is not good any more. Boxed: a session on its way out of the guest would make the
/// future of every request larger.
async fn by_plugin(
    step: &AuthStep,
    hook: &HookStep,
    exchange: &mut Exchange,
    credential: Option<&[u8]>,
) -> Result<Answered, Reject> {
    match &step.plugin.extraction {
        None => Box::pin(plugin::caller(step, hook, exchange, credential, None)).await,
        Some(extraction) => Box::pin(identity::caller(extraction, step, hook, exchange, credential)).await,
    }
}

/// Ends the request of a session that is inactive or expired.
pub fn check_expiry(exchange: &Exchange) -> Result<Flow, Reject> {
    let check = |caller: &Caller| caller.check_expiry(exchange.time_ms);
    exchange.caller.as_deref().map_or(Ok(()), check).map(|()| Flow::Next)
}
