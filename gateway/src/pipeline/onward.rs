//! Requests that come from requests: sent on to another API of the gateway instead of the upstream, or made by a plugin.
//!
//! Either goes through the whole plan of its API, like a caller's: its hooks, its authentication, its rights and limits. The
//! caller is who it was; a plugin chooses what the request says, and not where it comes cause.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request, Uri, Version};

use super::arrival::Arrival;
use super::content::Content;
use super::exchange::{Answer, Core, Exchange, Lineage};
use super::forward;
use super::plan::{Plan, Routed};
use super::reject::Reject;
use super::run;
use crate::message::body::{Body, BodyError};
use crate::message::collect::collect;
use crate::message::hop;
use crate::model::id::ApiId;
use crate::net::client::Peer;
use crate::plugin::host::{ApiCall, ApiCalls, Asked, Unanswered};
use crate::plugin::verdict::{Made, Reply};

/// Sends a request on to another API, and takes its answer as an upstream's.
pub(super) async fn send(plan: &Plan, exchange: &mut Exchange, id: &ApiId) -> Result<Answer, Reject> {
    let core = exchange.core.clone();
    let lineage = exchange.lineage.next(exchange.id.as_str(), core.api_depth_max).ok_or(Reject::TooDeep)?;
    let path = exchange.path_sent();
    // What is below the one listen path goes below the other.
    let listen = &plan.api.listen;
    let below = if listen.strip { &*path } else { listen.path.strip(&path).unwrap_or(&path) };
    let apis = (core.apis)();
    let (routed, path) = apis.named(id, below).ok_or(Reject::Unavailable)?;
    let Routed::Plan(target) = routed else { return Err(Reject::Unavailable) };
    let target = target.clone();
    let uri = uri(&path, exchange.query_sent()?.as_deref()).ok_or(Reject::RequestInvalid("path or query"))?;
    drop(apis);
    let mut headers = exchange.headers.clone();
    exchange.write_version(&mut headers);
    let content = std::mem::replace(&mut exchange.content, Content::made(Bytes::new()));
    let body = content.into_body(&mut headers);
    let mut request = Request::new(());
    *request.method_mut() = exchange.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = exchange.version;
    *request.headers_mut() = headers;
    let begun = Instant::now();
    let arrival = Arrival {
        begun,
        id: core.ids.next(),
        lineage,
        peer: exchange.peer.clone(),
        // As they were found when the caller came: header fields may have become a plugin's.
        client: exchange.client,
        is_https: exchange.is_https,
        host: exchange.host.clone(),
        authority: exchange.authority.clone(),
        parts: request.into_parts().0,
        path: stripped(&target, path),
        body,
        upgrade: exchange.upgrade.take(),
    };
    let answered = run(&target, arrival.enter(&core, &target));
    let answered = tokio::time::timeout_at(exchange.deadline().into(), answered).await;
    exchange.upstream_time = begun.elapsed();
    let (mut parts, body) = answered.map_err(|_| forward::late(exchange))?.into_parts();
    plan.metrics.upstream_ended(exchange.upstream_time);
    if !parts.status.is_informational() {
        hop::strip(&mut parts.headers);
    }
    let content = Content::streamed(body);
    Ok(Answer { status: parts.status, headers: parts.headers, content, made: Made::Upstream, upgrade: None })
}

/// Answers the calls of plugins on this core, each in a task of its own. Ends with the core.
pub async fn serve(core: Weak<Core>, mut calls: ApiCalls) {
    while let Some(ApiCall { asked, mut waiting }) = calls.next().await {
        let Some(core) = core.upgrade() else { return };
        tokio::task::spawn_local(async move {
            let answer = tokio::select! {
                biased;
                // Nobody waits for it any more: the plugin's call is over, or its time.
                () = waiting.given_up() => return,
                answer = called(&core, &asked) => answer,
            };
            waiting.answer(answer);
        });
    }
}

async fn called(core: &Rc<Core>, asked: &Asked) -> Result<Reply, Unanswered> {
    let Asked { request: asked, cause, answer_bytes_max } = asked;
    let lineage = Lineage { depth: cause.depth, parent: None };
    let lineage = lineage.next(&cause.request_id, core.api_depth_max).ok_or(Unanswered::TooDeep)?;
    let apis = (core.apis)();
    let (routed, path) = apis.named(&asked.api, &asked.path).ok_or(Unanswered::NotFound)?;
    let Routed::Plan(plan) = routed else { return Err(Unanswered::NotFound) };
    let plan = plan.clone();
    let uri = uri(&path, asked.query.as_deref()).ok_or(Unanswered::NotFound)?;
    drop(apis);
    let mut request = Request::new(());
    *request.method_mut() = asked.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().clone_from(&asked.headers);
    if !asked.body.is_empty() {
        request.headers_mut().insert(CONTENT_LENGTH, asked.body.len().into());
    }
    let arrival = Arrival {
        begun: Instant::now(),
        id: core.ids.next(),
        lineage,
        // No proxy: what a plugin writes about the caller is believed as little as what the caller does.
        peer: Rc::new(Peer::of_client(cause.client, cause.local, cause.is_https)),
        client: cause.client,
        is_https: cause.is_https,
        host: cause.host.clone(),
        authority: HeaderValue::from_str(&cause.host).ok().filter(|host| !host.is_empty()),
        parts: request.into_parts().0,
        path: stripped(&plan, path),
        body: Body::full(asked.body.clone()),
        upgrade: None,
    };
    let (mut parts, body) = run(&plan, arrival.enter(core, &plan)).await.into_parts();
    hop::strip(&mut parts.headers);
    let head_bytes: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let head_bytes = u64::try_from(head_bytes).unwrap_or(u64::MAX);
    let left = answer_bytes_max.checked_sub(head_bytes).ok_or(Unanswered::TooLarge)?;
    let body = collect(body, None, left).await.map_err(|error| match error {
        BodyError::TooLarge { .. } => Unanswered::TooLarge,
        _ => Unanswered::BrokenOff,
    })?;
    Ok(Reply { status: parts.status, headers: parts.headers, body: body.bytes })
}

impl Lineage {
    /// That of a request which comes from this one, if it may be so deep.
    fn next(&self, id: &str, depth_max: u32) -> Option<Self> {
        let depth = self.depth.saturating_add(1);
        (depth <= depth_max).then(|| Self { depth, parent: Some(id.into()) })
    }
}

/// Path and query in origin form.
fn uri(path: &str, query: Option<&str>) -> Option<Uri> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    Uri::try_from(text).ok()
}

/// The path as the upstream of an API will be asked for it.
fn stripped(plan: &Arc<Plan>, path: String) -> String {
    let listen = &plan.api.listen;
    let below = listen.path.strip(&path).filter(|_| listen.strip).map(str::to_owned);
    below.unwrap_or(path)
}
