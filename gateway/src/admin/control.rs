//! Requests below `/tyk/` and `/stile/`: who may ask, what is asked, and a line in the audit log for each change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request};
use http_body::Body;

use super::answer::{Answer, Refusal};
use super::audit::{self, Audit};
use super::request::{self, Target};
use super::secret::Secret;
use super::{Loaded, keys, loaded, policies};
use crate::clock::Clock;
use crate::model::key::KeyHash;
use crate::store::{PolicyCache, Store};

/// What keys and policies are kept with. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    /// Where they are kept.
    pub store: Store,
    /// Policies as requests get them, those of files among them.
    pub policies: PolicyCache,
    /// The time.
    pub clock: Clock,
    /// What a request must carry.
    pub secret: Secret,
    /// Whether a key without rights and policies may be made.
    pub allow_master_keys: bool,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Connections at one time.
    pub connections_max: usize,
    /// The organisation of an API, by the API's id.
    pub organisation: OrganisationOf,
    /// The name of the session that the plugin of an API made of an ID.
    pub identity: IdentityOf,
    /// What is loaded; none where nothing can be.
    pub loaded: Option<Loaded>,
    /// What is counted.
    pub numbers: Arc<ControlNumbers>,
}

/// Tells the organisation of an API by the API's id.
pub type OrganisationOf = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Tells under which name the session of an ID is kept, by the API's id and the ID; nothing where the API takes none.
pub type IdentityOf = Arc<dyn Fn(&str, &str) -> Option<KeyHash> + Send + Sync>;

/// What the control port has counted.
#[derive(Debug, Default)]
pub struct ControlNumbers {
    /// Changes that were made.
    pub changes: AtomicU64,
    /// Requests without the secret.
    pub refused: AtomicU64,
    /// Requests whose body was too large.
    pub bodies_too_large: AtomicU64,
    /// Connections closed to make room for others, or for want of room.
    pub connections_closed: AtomicU64,
}

/// Answers a request below `/tyk/` or `/stile/`.
pub(super) async fn answer<B>(control: &Control, remote: SocketAddr, request: Request<B>, path: &str) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let given = request.headers().get("x-tyk-authorization");
    // Before anything else: who has no secret does not learn what there is.
    if !given.is_some_and(|given| control.secret.is(given.as_bytes())) {
        control.numbers.refused.fetch_add(1, Ordering::Relaxed);
        audit::refused(remote);
        return Refusal::Secret.answer();
    }
    let answered = route(control, remote, request, path).await;
    if let Err(refusal @ Refusal::TooLarge) = &answered {
        control.numbers.bodies_too_large.fetch_add(1, Ordering::Relaxed);
        return refusal.answer();
    }
    answered.unwrap_or_else(|refusal| refusal.answer())
}

async fn route<B>(control: &Control, remote: SocketAddr, request: Request<B>, path: &str) -> Result<Answer, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let target = Target::parse(path)?;
    let (parts, body) = request.into_parts();
    let method = parts.method.clone();
    if !target.methods().split(", ").any(|allowed| allowed == method.as_str()) {
        return Err(Refusal::Method(target.methods()));
    }
    if let Target::Reload { group } = target {
        let mut audit = Audit::new(remote, "reload");
        let result = loaded::reload(control, group, &mut audit).await;
        audit.write(&result);
        return result;
    }
    if let Target::Release(name) = &target {
        let mut audit = Audit::new(remote, "plugin.release");
        let result = loaded::release(control, name, &mut audit);
        audit.write(&result);
        return result;
    }
    if method == Method::GET {
        return match target {
            Target::Reload { .. } | Target::Release(_) => Err(Refusal::Method(target.methods())),
            Target::Plugins => loaded::plugins(control),
            Target::Apis => loaded::apis(control),
            Target::Keys | Target::KeyCreate => keys::list(control, &parts).await,
            Target::Key(name) => keys::show(control, &parts, &name).await,
            Target::Policies => policies::list(control, &parts).await,
            Target::Policy(id) => policies::show(control, &id).await,
        };
    }
    let mut audit = Audit::new(remote, action(&method, &target));
    let result = change(control, &parts, body, target, &mut audit).await;
    audit.write(&result);
    if result.is_ok() {
        control.numbers.changes.fetch_add(1, Ordering::Relaxed);
    }
    result
}

async fn change<B>(
    control: &Control,
    parts: &Parts,
    body: B,
    target: Target,
    audit: &mut Audit,
) -> Result<Answer, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match &target {
        Target::Key(name) => keys::note(parts, name, audit),
        Target::Policy(id) => audit.policy(id),
        Target::KeyCreate | Target::Keys | Target::Policies => {}
        Target::Reload { .. } | Target::Release(_) | Target::Plugins | Target::Apis => {
            return Err(Refusal::Method(target.methods()));
        }
    }
    if parts.method == Method::DELETE {
        return match target {
            Target::Policy(id) => policies::delete(control, &id).await,
            Target::Key(name) => keys::delete(control, parts, &name, audit).await,
            _ => Err(Refusal::Method(target.methods())),
        };
    }
    let body = request::body(body, control.body_bytes_max).await?;
    let is_put = parts.method == Method::PUT;
    match target {
        Target::KeyCreate | Target::Keys => keys::create(control, &body, audit).await,
        Target::Key(name) if is_put => keys::update(control, parts, &name, &body, audit).await,
        Target::Key(name) => keys::add(control, parts, &name, &body, audit).await,
        Target::Policies => policies::put(control, None, &body, is_put, audit).await,
        Target::Policy(id) => policies::put(control, Some(&id), &body, is_put, audit).await,
        Target::Reload { .. } | Target::Release(_) | Target::Plugins | Target::Apis => {
            Err(Refusal::Method(target.methods()))
        }
    }
}

fn action(method: &Method, target: &Target) -> &'static str {
    let is_policy = matches!(target, Target::Policies | Target::Policy(_));
    match (is_policy, method.as_str()) {
        (false, "DELETE") => "key.delete",
        (false, "PUT") => "key.update",
        (false, _) => "key.create",
        (true, "DELETE") => "policy.delete",
        (true, "PUT") => "policy.update",
        (true, _) => "policy.create",
    }
}
