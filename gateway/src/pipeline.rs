//! The order of work for one request.
//!
//! A [`Plan`] is made once when an API loads and run once for each request; only steps that the API switches on are in it.
//! Nothing here opens a socket or reads a file.

pub mod access;
pub mod analytics;
pub mod apis;
mod arrival;
pub mod auth;
pub mod caller;
pub mod content;
pub mod exchange;
pub mod extract;
pub mod finish;
pub mod flight;
pub mod forward;
pub mod hooks;
pub mod limits;
pub mod onward;
pub mod plan;
pub mod policy;
pub mod query;
pub mod reject;
pub mod rights;
pub mod standing;
pub mod version;
pub mod warnings;

use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;

use self::apis::Apis;
use self::exchange::{Answer, Core, Exchange, Flow};
use self::plan::{Plan, Step};
use self::reject::Reject;
use crate::message::body::Body;
use crate::net::client::Peer;
use crate::plugin::verdict::Made;

/// Answers one request. The answer is always there: what goes wrong becomes one.
pub async fn handle(core: &Rc<Core>, apis: &Apis, request: Request<Incoming>, peer: Rc<Peer>) -> Response<Body> {
    match Exchange::begin(core, apis, request, peer) {
        Ok((exchange, plan)) => run(&plan, exchange).await,
        Err(unrouted) => unrouted.respond(core),
    }
}

/// Answers a request that has come to its API.
async fn run(plan: &Plan, mut exchange: Box<Exchange>) -> Response<Body> {
    let mut answer = match attempt(plan, &mut exchange).await {
        Ok(answer) => answer,
        Err(reject) => exchange.refuse(&reject),
    };
    exchange.write_session_back().await;
    if let Some(version) = &exchange.api_version {
        version.write_expiry(&mut answer.headers);
    }
    if let Some(told) = exchange.told.take() {
        told.write(&mut answer.headers);
    }
    finish_answer(plan, &mut exchange, &mut answer).await;
    finish::respond(exchange, answer)
}

/// The way in, up to an answer. A step may answer itself, which ends the way in.
async fn attempt(plan: &Plan, exchange: &mut Exchange) -> Result<Answer, Reject> {
    for step in &plan.steps {
        let flow = match step {
            Step::Version(step) => version::choose(step, exchange)?,
            Step::Pre(hook) => hooks::pre(hook, exchange).await?,
            Step::BodySize(bytes_max) => exchange.check_size(*bytes_max)?,
            Step::Authenticate(auth) => auth::authenticate(auth, exchange).await?,
            Step::PostAuth(hook) => hooks::post_auth(hook, exchange).await?,
            Step::StripCredential(source) => auth::credential::strip(source, exchange),
            // After the hooks, because a post-auth hook may have changed the session.
            Step::Expiry => auth::check_expiry(exchange)?,
            Step::Rights => access::check(exchange)?,
            Step::Limits(rates) => limits::check(rates, exchange).await?,
            Step::Endpoint(endpoint) => hooks::endpoint(endpoint, exchange).await?,
            Step::Post(hook) => hooks::post(hook, exchange).await?,
        };
        if let Flow::Reply(answer) = flow {
            return Ok(*answer);
        }
    }
    // What hooks made of method and path is looked at as the caller's own were.
    access::check_again(exchange)?;
    forward::send(plan, exchange).await
}

/// The way out. A response hook that fails ends its answer with an error, which the hooks after it see as well.
async fn finish_answer(plan: &Plan, exchange: &mut Exchange, answer: &mut Answer) {
    for hook in &plan.response {
        if hook.sees_only_upstream && answer.made != Made::Upstream {
            continue;
        }
        if let Err(reject) = hooks::response(hook, exchange, answer).await {
            *answer = exchange.refuse(&reject);
        }
    }
}
