//! To the upstream and back: what is sent, and what of the answer is kept.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

use super::content::Content;
use super::exchange::{Answer, Exchange, Upload};
use super::onward;
use super::plan::{Destination, Plan};
use super::reject::Reject;
use super::version::ServedVersion;
use crate::message::body::{Body, BodyError};
use crate::model::api::Origin;
use crate::model::outgoing::Reach;
use crate::plugin::verdict::{Made, UpstreamOverride};
use crate::upstream::UpstreamError;

/// Sends the request as it is now, and takes the upstream's answer.
pub async fn send(plan: &Plan, exchange: &mut Exchange) -> Result<Answer, Reject> {
    if let Some(UpstreamOverride::Api(id)) = &exchange.target {
        let id = id.clone();
        // Boxed: that API may send it on as well.
        return Box::pin(onward::send(plan, exchange, &id)).await;
    }
    let version = exchange.api_version.clone();
    let destination = version.as_deref().and_then(ServedVersion::destination).unwrap_or(&plan.destination);
    let uri = uri(destination, exchange)?;
    let overridden = exchange
        .origin()
        .map(|(origin, reach)| Arc::new(destination.target.with_origin(origin.clone()).within(*reach)));
    let target = overridden.as_ref().unwrap_or(&destination.target);
    // The exchange keeps its headers for the response hooks; what is sent is made from a copy only where they need them.
    let mut headers = if plan.response.is_empty() && !plan.api.analytics.enabled {
        std::mem::take(&mut exchange.headers)
    } else {
        exchange.headers.clone()
    };
    let is_upgrade = exchange.upgrade.is_some();
    // Once, rather than with every field that is added.
    headers.reserve(FIELDS_ADDED);
    exchange.write_version(&mut headers);
    host(plan, destination, exchange, &mut headers);
    exchange.peer.tell_upstream(exchange.authority.clone(), &mut headers);
    headers.insert(X_REQUEST_ID, exchange.id.to_value());
    let content = std::mem::replace(&mut exchange.content, Content::made(Bytes::new()));
    let body = content.into_body(&mut headers);
    let is_streamed = matches!(body, Body::Incoming(_) | Body::Wrapped(_));
    let mut request = Request::new(body);
    *request.method_mut() = exchange.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;

    // The others of this core first. What all of them send then leaves in one go, which wakes the upstream's machine, or its
    // process, once for many: waking one that sleeps costs more than most plugins.
    if exchange.core.in_flight.get() > 1 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    let sent = async {
        if is_upgrade {
            Box::pin(exchange.core.upstreams.send_upgrade(target, request)).await
        } else {
            exchange.core.upstreams.send(target, request).await.map(|response| (response, None))
        }
    };
    // One timer is enough: the whole request's is only set where it ends before the reply's own, or where the caller may
    // take its time with the body.
    let answered = if is_streamed || exchange.deadline() < begun + plan.api.upstream.reply_timeout {
        tokio::time::timeout_at(exchange.deadline().into(), sent).await.map_err(|_| late(exchange))?
    } else {
        sent.await
    };
    exchange.upstream_time = begun.elapsed();
    let (response, upgraded) = answered.map_err(|error| failed(plan, error))?;
    plan.metrics.upstream_ended(exchange.upstream_time);
    let (parts, body) = response.into_parts();
    let is_upgraded = upgraded.is_some();
    // Nobody asked for another protocol.
    if !is_upgraded && parts.status.is_informational() {
        return Err(failed(plan, UpstreamError::Protocol(None)));
    }
    let content = if is_upgraded { Content::streamed(Body::Empty) } else { Content::streamed(body) };
    Ok(Answer { status: parts.status, headers: parts.headers, content, made: Made::Upstream, upgrade: upgraded })
}

/// Who is late: the caller, whose body is waited for, or the upstream.
pub(super) fn late(exchange: &Exchange) -> Reject {
    match exchange.upload.get() {
        Upload::Awaited => Reject::RequestBody(BodyError::Timeout),
        Upload::Whole | Upload::Left(_) => Reject::Timeout,
    }
}

fn failed(plan: &Plan, error: UpstreamError) -> Reject {
    plan.metrics.upstream_failed(error.kind());
    Reject::Upstream(error)
}

/// Base path, path and query in origin form.
fn uri(destination: &Destination, exchange: &Exchange) -> Result<Uri, Reject> {
    let (base, path, query) = (&destination.base_path, exchange.path_sent(), exchange.query_sent()?);
    let mut text = String::with_capacity(base.len() + path.len() + query.as_ref().map_or(0, |query| query.len() + 1));
    text.push_str(base);
    text.push_str(&path);
    if let Some(query) = query {
        text.push('?');
        text.push_str(&query);
    }
    let path = PathAndQuery::from_maybe_shared(Bytes::from(text));
    path.map(Uri::from).map_err(|_| Reject::RequestInvalid("path or query"))
}

impl Exchange {
    /// The server that a plugin sends it to, and which of its addresses it may be.
    const fn origin(&self) -> Option<(&Origin, &Reach)> {
        match &self.target {
            Some(UpstreamOverride::Origin(origin, reach)) => Some((origin, reach)),
            Some(UpstreamOverride::Api(_)) | None => None,
        }
    }
}

/// The target's host, or the caller's where the definition preserves it.
fn host(plan: &Plan, destination: &Destination, exchange: &Exchange, headers: &mut HeaderMap) {
    let preserved =
        exchange.authority.clone().filter(|_| plan.api.upstream.preserve_host && exchange.origin().is_none());
    if let Some(authority) = preserved {
        headers.insert(HOST, authority);
        return;
    }
    let authority = match exchange.origin() {
        Some((origin, _)) => HeaderValue::from_str(&origin.authority()).ok(),
        None => Some(destination.host.clone()),
    };
    if let Some(authority) = authority {
        headers.insert(HOST, authority);
    }
}

/// `Host`, `X-Forwarded-*` and `X-Request-Id`, of which a caller may have sent some.
const FIELDS_ADDED: usize = 6;
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
