//! Plugins along the request: what they see, and how their edits are applied.

use super::content::{Content, ContentError};
use super::exchange::{Answer, Exchange, Flow};
use super::plan::{EndpointStep, HookStep, ResponseStep};
use super::query::Query;
use super::reject::Reject;
use crate::message::body::BodyError;
use crate::model::plugin::{FailureKind, OnFailure};
use crate::plugin::call::Outcome;
use crate::plugin::failure::{CallError, Fault};
use crate::plugin::verdict::{Edits, Made, Reply, RequestEdit, ResponseEdit, ResponseView, Vars, Verdict};

/// Runs a `pre` plugin.
pub async fn pre(step: &HookStep, exchange: &mut Exchange) -> Result<Flow, Reject> {
    read_body(step, exchange).await?;
    let (facts, view) = exchange.seen_by(step);
    let outcome = step.function.pre(&exchange.core.worker, facts, view).await;
    apply(step, exchange, outcome)
}

/// Runs a `post-auth` plugin.
pub async fn post_auth(step: &HookStep, exchange: &mut Exchange) -> Result<Flow, Reject> {
    read_body(step, exchange).await?;
    let (facts, view) = exchange.seen_by(step);
    let outcome = step.function.post_auth(&exchange.core.worker, facts, view, exchange.session()).await;
    apply(step, exchange, outcome)
}

/// Runs an `endpoint` plugin, if method and path match as they are now.
pub async fn endpoint(step: &EndpointStep, exchange: &mut Exchange) -> Result<Flow, Reject> {
    if step.method.as_ref().is_some_and(|method| *method != exchange.method) {
        return Ok(Flow::Next);
    }
    let Some(parameters) = step.path.matches(exchange.path_below_listen_path()) else { return Ok(Flow::Next) };
    let hook = &step.hook;
    read_body(hook, exchange).await?;
    let (facts, view) = exchange.seen_by(hook);
    let (worker, session) = (&exchange.core.worker, exchange.session());
    let outcome = hook.function.endpoint(worker, facts, view, &parameters, session).await;
    apply(hook, exchange, outcome)
}

/// Runs a `post` plugin.
pub async fn post(step: &HookStep, exchange: &mut Exchange) -> Result<Flow, Reject> {
    read_body(step, exchange).await?;
    let (facts, view) = exchange.seen_by(step);
    let outcome = step.function.post(&exchange.core.worker, facts, view, exchange.session()).await;
    apply(step, exchange, outcome)
}

/// Runs a `response` plugin.
pub async fn response(step: &ResponseStep, exchange: &mut Exchange, answer: &mut Answer) -> Result<(), Reject> {
    let hook = &step.hook;
    if let Some(bytes_max) = hook.function.body_bytes_max()
        && !answer.is_upgraded()
        && !exchange.is_bodiless(answer.status)
    {
        let read =
            tokio::time::timeout_at(exchange.deadline().into(), answer.content.whole(&answer.headers, bytes_max)).await;
        match read {
            Ok(Ok(_)) => {}
            Ok(Err(ContentError::Body(error))) => return Err(Reject::ResponseBody(error)),
            Ok(Err(ContentError::CodingUnknown)) => return Err(Reject::ResponseCoding),
            Err(_) => return Err(Reject::ResponseBody(BodyError::Timeout)),
        }
    }
    let body = answer.content.known().filter(|_| hook.function.function.reads.body_bytes_max.is_some());
    let view = ResponseView { status: answer.status, origin: answer.made, headers: &answer.headers, body };
    let (facts, request) = exchange.seen_by(hook);
    let (worker, session) = (&exchange.core.worker, exchange.session());
    let outcome = hook.function.response(worker, facts, request, view, session).await;
    let Some(edits) = settle(hook, exchange, outcome)? else { return Ok(()) };
    let mut vars: Option<Vars> = None;
    for edit in &edits {
        match edit {
            ResponseEdit::SetVar(name, value) => {
                if let Err(reason) = set_var(vars.get_or_insert_with(|| exchange.vars.clone()), name, value) {
                    return unfit(hook, exchange, reason);
                }
            }
            ResponseEdit::RemoveVar(name) => {
                vars.get_or_insert_with(|| exchange.vars.clone()).retain(|(of, _)| of != name);
            }
            ResponseEdit::Status(_) | ResponseEdit::Header(_) | ResponseEdit::Body(_) => {}
        }
    }
    if let Some(vars) = vars {
        exchange.vars = vars;
    }
    for edit in edits {
        match edit {
            // An upgraded connection is no answer any more: its status and body are what they are.
            ResponseEdit::Status(_) | ResponseEdit::Body(_) if answer.is_upgraded() => {}
            ResponseEdit::Status(status) => answer.status = status,
            ResponseEdit::Header(edit) => edit.apply(&mut answer.headers),
            ResponseEdit::Body(body) => answer.content.replace(body, &mut answer.headers),
            // Done above.
            ResponseEdit::SetVar(..) | ResponseEdit::RemoveVar(_) => {}
        }
    }
    Ok(())
}

/// Counts a call, and decides what a failure means: an error, or `None` to go on as if the plugin were not there.
pub fn settle<V>(step: &HookStep, exchange: &Exchange, outcome: Outcome<V>) -> Result<Option<V>, Reject> {
    let usage = outcome.usage;
    if let Err(source) = &outcome.verdict
        && source.fault == Fault::Quarantine
    {
        step.metrics.quarantined();
        return unmade(step, source).map(|()| None);
    }
    step.metrics.call_ended(usage.time, usage.waited, usage.fuel);
    step.metrics.log_lines_dropped(usage.log_lines_dropped);
    match outcome.verdict {
        Ok(verdict) => Ok(Some(verdict)),
        Err(source) => failed(step, exchange, source).map(|()| None),
    }
}

/// A call that was not made. Nothing is logged: the quarantine itself was told.
fn unmade(step: &HookStep, source: &CallError) -> Result<(), Reject> {
    if step.on_failure == OnFailure::Continue {
        step.metrics.continued();
        return Ok(());
    }
    let plugin = step.function.generation.spec.name.clone();
    Err(Reject::Plugin { plugin, hook: step.hook, source: source.clone() })
}

fn failed(step: &HookStep, exchange: &Exchange, source: CallError) -> Result<(), Reject> {
    step.metrics.failed(source.kind);
    let plugin = step.function.generation.spec.name.clone();
    if step.on_failure == OnFailure::Continue {
        step.metrics.continued();
        tracing::warn!(
            api = %exchange.plan.api.id, request_id = exchange.id.as_str(), %plugin, hook = %step.hook,
            kind = source.kind.as_str(), reason = %source.reason, "plugin failed; going on without it"
        );
        return Ok(());
    }
    Err(Reject::Plugin { plugin, hook: step.hook, source })
}

/// Reads the request's body as a whole if the function reads bodies.
pub async fn read_body(step: &HookStep, exchange: &mut Exchange) -> Result<(), Reject> {
    match step.function.body_bytes_max() {
        Some(bytes_max) => read_whole(exchange, bytes_max).await,
        None => Ok(()),
    }
}

/// Reads the request's body as a whole, if it is not longer than this.
pub async fn read_whole(exchange: &mut Exchange, bytes_max: u64) -> Result<(), Reject> {
    let deadline = exchange.deadline();
    let whole = exchange.content.whole(&exchange.headers, bytes_max);
    match tokio::time::timeout_at(deadline.into(), whole).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(ContentError::Body(error))) => Err(Reject::RequestBody(error)),
        Ok(Err(ContentError::CodingUnknown)) => Err(Reject::RequestCoding),
        Err(_) => Err(Reject::RequestBody(BodyError::Timeout)),
    }
}

/// Applies a verdict to the request, or makes it the answer.
fn apply(step: &HookStep, exchange: &mut Exchange, outcome: Outcome<Verdict>) -> Result<Flow, Reject> {
    let Some(verdict) = settle(step, exchange, outcome)? else { return Ok(Flow::Next) };
    match verdict {
        Verdict::Continue => Ok(Flow::Next),
        Verdict::Edit(Edits { request, session }) => {
            let rules = step.function.pool.edit_rules();
            // Where there is no session, as on a keyless API, there is nothing to change.
            let allowed = exchange.caller.as_deref().map_or(Ok(()), |caller| caller.allows(&session, rules));
            let applied = match allowed {
                Ok(()) => edit_request(exchange, request).map_err(str::to_owned),
                Err(refused) => Err(format!("session edits: {refused}")),
            };
            if let Err(reason) = applied {
                return unfit(step, exchange, &reason).map(|()| Flow::Next);
            }
            if let Some(caller) = exchange.caller.as_deref_mut() {
                caller.edit(session, rules, &exchange.core.standings);
            }
            Ok(Flow::Next)
        }
        Verdict::Respond(reply) => {
            step.metrics.responded();
            Ok(Flow::Reply(Box::new(Answer::from(reply))))
        }
        Verdict::Reject(rejection) => {
            step.metrics.rejected();
            Err(Reject::ByPlugin(Box::new(rejection)))
        }
    }
}

/// A verdict that was valid in itself, but not for this request: a failure like others. Nothing of it was applied.
fn unfit(step: &HookStep, exchange: &Exchange, reason: &str) -> Result<(), Reject> {
    let source = CallError::new(FailureKind::BadOutput, reason);
    step.function.overruled(&source, exchange.client);
    failed(step, exchange, source)
}

/// The same where no request goes on after a failure.
pub fn invalid(step: &HookStep, exchange: &Exchange, reason: &str) -> Reject {
    match unfit(step, exchange, reason) {
        Err(reject) => reject,
        Ok(()) => Reject::CredentialUnknown,
    }
}

/// Applies checked edits, in their order; or none of them, where one does not fit this exchange.
pub fn edit_request(exchange: &mut Exchange, edits: Vec<RequestEdit>) -> Result<(), &'static str> {
    let (mut text, mut is_query_edited) = (exchange.query.as_deref(), false);
    // Taken apart at the first edit by name, put together at the end.
    let mut query: Option<Query> = None;
    let mut vars: Option<Vars> = None;
    for edit in &edits {
        is_query_edited |= matches!(
            edit,
            RequestEdit::Query(_)
                | RequestEdit::SetQueryParam(..)
                | RequestEdit::AppendQueryParam(..)
                | RequestEdit::RemoveQueryParam(_)
        );
        match edit {
            RequestEdit::Query(new) => (query, text) = (None, new.as_deref()),
            RequestEdit::SetQueryParam(name, value) => {
                opened(&mut query, text)?.set(name, value).map_err(|_| QUERY_TOO_LARGE)?;
            }
            RequestEdit::AppendQueryParam(name, value) => {
                opened(&mut query, text)?.append(name, value).map_err(|_| QUERY_TOO_LARGE)?;
            }
            RequestEdit::RemoveQueryParam(name) => opened(&mut query, text)?.remove(name),
            RequestEdit::SetVar(name, value) => {
                set_var(vars.get_or_insert_with(|| exchange.vars.clone()), name, value)?;
            }
            RequestEdit::RemoveVar(name) => {
                vars.get_or_insert_with(|| exchange.vars.clone()).retain(|(of, _)| of != name);
            }
            RequestEdit::Method(_)
            | RequestEdit::Path(_)
            | RequestEdit::Header(_)
            | RequestEdit::Body(_)
            | RequestEdit::Upstream(_) => {}
        }
    }
    // From here on nothing can fail.
    if is_query_edited {
        exchange.query = query.map_or_else(|| text.map(str::to_owned), Query::into_text);
    }
    if let Some(vars) = vars {
        exchange.vars = vars;
    }
    for edit in edits {
        match edit {
            RequestEdit::Method(method) => {
                exchange.method = method;
                exchange.is_moved = true;
            }
            RequestEdit::Path(path) => {
                exchange.path = path;
                exchange.is_moved = true;
            }
            RequestEdit::Header(edit) => edit.apply(&mut exchange.headers),
            RequestEdit::Body(body) => exchange.content.replace(body, &mut exchange.headers),
            RequestEdit::Upstream(target) => exchange.target = Some(target),
            // Done above.
            _ => {}
        }
    }
    Ok(())
}

/// The query to edit by name.
fn opened<'q>(query: &'q mut Option<Query>, text: Option<&str>) -> Result<&'q mut Query, &'static str> {
    if query.is_none() {
        *query = Some(Query::parse(text).map_err(|_| QUERY_TOO_LARGE)?);
    }
    query.as_mut().ok_or(QUERY_TOO_LARGE)
}

fn set_var(vars: &mut Vars, name: &str, value: &bytes::Bytes) -> Result<(), &'static str> {
    let is_full = vars.len() >= VARS_MAX;
    match vars.iter_mut().find(|(of, _)| *of == name) {
        Some((_, of)) => of.clone_from(value),
        None if is_full => return Err("more than 64 variables in one request"),
        None => vars.push((name.to_owned(), value.clone())),
    }
    Ok(())
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        let Reply { status, headers, body } = reply;
        Self { status, headers, content: Content::made(body), made: Made::Plugin, upgrade: None }
    }
}

const QUERY_TOO_LARGE: &str = "the query grew beyond 64 KiB or 1,000 parts";
const VARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    // limit: pipeline::hooks::VARS_MAX
    #[test]
    fn a_request_has_so_many_variables() {
        let mut vars = Vars::default();
        for number in 0..VARS_MAX {
            assert_eq!(set_var(&mut vars, &number.to_string(), &bytes::Bytes::new()), Ok(()));
        }
        assert!(set_var(&mut vars, "one more", &bytes::Bytes::new()).is_err());
        assert_eq!(set_var(&mut vars, "0", &bytes::Bytes::from_static(b"another")), Ok(()), "it has its place");
        assert_eq!(vars.len(), VARS_MAX);
    }
}
