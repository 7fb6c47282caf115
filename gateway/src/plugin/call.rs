//! One call of a plugin: with fuel, until a deadline, and what became of it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bumpalo::Bump;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

use super::engine::Engine;
use super::failure::{CallError, Fault};
use super::host::{Host, HostLimit};
use super::lane::{Account, Ended, SlowLane, until};
use super::load::Use;
use super::pool::{Pool, Worker};
use super::reclaim::Room;
use super::v0_1::lift::{Invalid, Lift, SessionAction};
use super::v0_1::{Analytics, Auth, Endpoint, Exports, Pre, Response, Typed, WithSession, hooks, lower};
use super::verdict::{
    AuthVerdict, CredentialView, Facts, RecordVerdict, RequestView, ResponseEdit, ResponseView, Verdict,
};
use crate::model::plugin::{FailureKind, Hook, Limits};
use crate::model::record::Record;
use crate::model::session::Session;

/// What a call used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Wall time, waiting for an instance included.
    pub time: Duration,
    /// Of which waiting for an instance, or making one.
    pub waited: Duration,
    /// Fuel.
    pub fuel: u64,
    /// Log lines over the limit.
    pub log_lines_dropped: u32,
}

/// A verdict or how the call failed, and what it used.
pub struct Outcome<V> {
    /// The verdict.
    pub verdict: Result<V, CallError>,
    /// What it used.
    pub usage: Usage,
}

impl Use {
    /// Calls a `pre` function.
    pub async fn pre(&self, worker: &Worker, facts: Facts<'_>, view: RequestView<'_>) -> Outcome<Verdict> {
        let arena = Bump::new();
        let reads = &self.function.reads;
        let context = lower::context(&arena, &facts, &self.api, reads, self.generation.limits.clock_grain);
        let request = lower::request(&arena, &view, &reads.headers);
        let params = (&*self.function.name, context, request);
        self.call::<Pre<'_>, _, _>(Hook::Pre, worker, Some(&facts), params, |action| self.lift().pre(action)).await
    }

    /// Calls an `auth` function.
    pub async fn auth(
        &self,
        worker: &Worker,
        facts: Facts<'_>,
        view: RequestView<'_>,
        credential: Option<CredentialView<'_>>,
    ) -> Outcome<AuthVerdict> {
        let arena = Bump::new();
        let reads = &self.function.reads;
        let context = lower::context(&arena, &facts, &self.api, reads, self.generation.limits.clock_grain);
        let request = lower::request(&arena, &view, &reads.headers);
        let credential = credential.as_ref().map(lower::credential);
        let credential = credential.as_ref();
        let params = (&*self.function.name, context, request, credential);
        self.call::<Auth<'_>, _, _>(Hook::Auth, worker, Some(&facts), params, |action| self.lift().auth(action)).await
    }

    /// Calls a `post-auth` function.
    pub async fn post_auth(
        &self,
        worker: &Worker,
        facts: Facts<'_>,
        view: RequestView<'_>,
        session: Option<&Session>,
    ) -> Outcome<Verdict> {
        self.with_session::<hooks::post_auth::Action>(Hook::PostAuth, worker, facts, view, session).await
    }

    /// Calls an `endpoint` function. `path_params` are the template's, decoded.
    pub async fn endpoint(
        &self,
        worker: &Worker,
        facts: Facts<'_>,
        view: RequestView<'_>,
        path_params: &[(&str, String)],
        session: Option<&Session>,
    ) -> Outcome<Verdict> {
        let arena = Bump::new();
        let reads = &self.function.reads;
        let context = lower::context(&arena, &facts, &self.api, reads, self.generation.limits.clock_grain);
        let request = lower::request(&arena, &view, &reads.headers);
        let session = session.filter(|_| reads.session).map(|session| lower::session(&arena, session));
        let path_params: &[(&str, &str)] =
            arena.alloc_slice_fill_iter(path_params.iter().map(|(name, value)| (*name, value.as_str())));
        let params = (&*self.function.name, context, request, path_params, session);
        self.call::<Endpoint<'_>, _, _>(Hook::Endpoint, worker, Some(&facts), params, |action| {
            self.lift().action(SessionAction::from(action))
        })
        .await
    }

    /// Calls a `post` function.
    pub async fn post(
        &self,
        worker: &Worker,
        facts: Facts<'_>,
        view: RequestView<'_>,
        session: Option<&Session>,
    ) -> Outcome<Verdict> {
        self.with_session::<hooks::post::Action>(Hook::Post, worker, facts, view, session).await
    }

    /// `post-auth` and `post` differ in the name of their action only.
    async fn with_session<A>(
        &self,
        hook: Hook,
        worker: &Worker,
        facts: Facts<'_>,
        view: RequestView<'_>,
        session: Option<&Session>,
    ) -> Outcome<Verdict>
    where
        A: wasmtime::component::Lift + Send + Sync + 'static,
        SessionAction: From<A>,
    {
        let arena = Bump::new();
        let reads = &self.function.reads;
        let context = lower::context(&arena, &facts, &self.api, reads, self.generation.limits.clock_grain);
        let request = lower::request(&arena, &view, &reads.headers);
        let session = session.filter(|_| reads.session).map(|session| lower::session(&arena, session));
        let params = (&*self.function.name, context, request, session);
        self.call::<WithSession<'_, A>, _, _>(hook, worker, Some(&facts), params, |action| {
            self.lift().action(SessionAction::from(action))
        })
        .await
    }

    /// Calls a `response` function.
    pub async fn response(
        &self,
        worker: &Worker,
        facts: Facts<'_>,
        request: RequestView<'_>,
        response: ResponseView<'_>,
        session: Option<&Session>,
    ) -> Outcome<Vec<ResponseEdit>> {
        let arena = Bump::new();
        let reads = &self.function.reads;
        let context = lower::context(&arena, &facts, &self.api, reads, self.generation.limits.clock_grain);
        let request = lower::request(&arena, &RequestView { body: None, ..request }, &reads.request_headers);
        let response = lower::response(&arena, &response, reads);
        let session = session.filter(|_| reads.session).map(|session| lower::session(&arena, session));
        let params = (&*self.function.name, context, request, response, session);
        self.call::<Response<'_>, _, _>(Hook::Response, worker, Some(&facts), params, |action| {
            self.lift().response(action)
        })
        .await
    }

    /// Calls an `analytics` function with some records of the API.
    pub async fn analytics(&self, worker: &Worker, records: &[Record]) -> Outcome<Vec<RecordVerdict>> {
        let arena = Bump::new();
        let lowered: &[_] = arena
            .alloc_slice_fill_iter(records.iter().map(|record| lower::record(&arena, record, &self.function.reads)));
        let params = (&*self.function.name, lowered);
        self.call::<Analytics<'_>, _, _>(Hook::Analytics, worker, None, params, |verdicts| {
            self.lift().analytics(verdicts, records.len())
        })
        .await
    }

    /// Says that a verdict for this caller, though valid in itself, could not be used.
    pub fn overruled(&self, error: &CallError, caller: IpAddr) {
        self.generation.quarantine.overruled(error, Some(caller));
    }

    /// The largest body that this function is handed: what it declares, under the operator's limit.
    pub fn body_bytes_max(&self) -> Option<u64> {
        self.function.reads.body_bytes_max.map(|declared| declared.min(self.generation.limits.body_in_bytes_max))
    }

    fn lift(&self) -> Lift<'_> {
        let spec = &self.generation.spec;
        Lift { limits: &self.generation.limits, grants: &spec.grants, upstream: &spec.upstream, apis: &spec.apis }
    }

    /// What all calls have in common: an instance, fuel, a deadline, and an answer to check.
    async fn call<F, R, V>(
        &self,
        hook: Hook,
        worker: &Worker,
        facts: Option<&Facts<'_>>,
        params: F::Params,
        lift: impl FnOnce(R) -> Result<V, Invalid>,
    ) -> Outcome<V>
    where
        F: Typed<Results = (Result<R, String>,)>,
        R: Send + 'static,
    {
        let begin = Instant::now();
        let limits = &self.generation.limits;
        let deadline = begin + limits.deadline;
        let caller = facts.map(|facts| facts.client);
        let mut usage = Usage::default();
        let pass = match self.generation.quarantine.admit(caller) {
            Ok(pass) => pass,
            Err(refused) => return Outcome { verdict: Err(refused), usage },
        };
        let verdict = async {
            let mut lease = self.pool.lease(worker, deadline).await.map_err(CallError::without_instance)?;
            usage.waited = lease.waited;
            let Some((store, instance)) = lease.parts() else {
                return Err(CallError::gone());
            };
            // `init` has no network, for it may run before each call; `analytics`, which is told of no request, has none, for
            // it sees what all callers sent.
            if let Some(facts) = facts {
                store.data_mut().open(facts);
            }
            let guest = HookCall::<F> { exports: &self.generation.exports, hook, instance, params };
            let place = self.pool.place(worker);
            let ran = run(&self.generation.engine, limits, store, deadline, place, guest).await;
            usage.fuel = ran.fuel;
            usage.log_lines_dropped = ran.log_lines_dropped;
            // A guest that says `err` is in order, and so is one whose answer is refused: both ended by themselves. But an
            // invalid answer is a sign of something wrong inside, so its instance goes.
            match ran.result? {
                Err(text) => {
                    lease.finish();
                    Err(CallError::new(FailureKind::Plugin, &text))
                }
                Ok(answer) => {
                    let verdict =
                        lift(answer).map_err(|Invalid(reason)| CallError::new(FailureKind::BadOutput, &reason))?;
                    lease.finish();
                    Ok(verdict)
                }
            }
        };
        let verdict = verdict.await;
        pass.settle(verdict.as_ref().err());
        usage.time = begin.elapsed();
        Outcome { verdict, usage }
    }
}

/// What is done in an instance. It can leave its core's thread for the slow lane's.
trait Guest: Send {
    /// What comes of it.
    type Answer: Send + 'static;

    /// Does it.
    fn enter(self, store: &mut Store<Host>) -> impl Future<Output = wasmtime::Result<Self::Answer>> + Send;
}

/// A call of a hook's function.
struct HookCall<'c, F: Typed> {
    exports: &'c Exports,
    hook: Hook,
    instance: &'c Instance,
    params: F::Params,
}

impl<F, R> Guest for HookCall<'_, F>
where
    F: Typed<Results = (R,)>,
    R: Send + 'static,
{
    type Answer = R;

    async fn enter(self, store: &mut Store<Host>) -> wasmtime::Result<R> {
        let handle: F = self.exports.handle(self.hook, store, self.instance)?;
        Ok(handle.call(store, self.params).await?.0)
    }
}

/// Making an instance, and its `init`.
struct Preparation<'c> {
    component: &'c InstancePre<Host>,
    exports: &'c Exports,
    config: &'c str,
}

impl Guest for Preparation<'_> {
    type Answer = Result<Instance, String>;

    async fn enter(self, store: &mut Store<Host>) -> wasmtime::Result<Result<Instance, String>> {
        let instance = self.component.instantiate_async(&mut *store).await?;
        Ok(self.exports.init(store, &instance, self.config).await?.map(|()| instance))
    }
}

/// Making an instance to compare its functions with the contract's.
struct Comparison<'c> {
    component: &'c InstancePre<Host>,
    exports: &'c Exports,
}

impl Guest for Comparison<'_> {
    type Answer = ();

    async fn enter(self, store: &mut Store<Host>) -> wasmtime::Result<()> {
        let instance = self.component.instantiate_async(&mut *store).await?;
        self.exports.check(store, &instance)
    }
}

/// `describe`, in an instance made for it.
struct Description<'c> {
    component: &'c InstancePre<Host>,
    exports: &'c Exports,
}

impl Guest for Description<'_> {
    type Answer = hooks::description::PluginDescription;

    async fn enter(self, store: &mut Store<Host>) -> wasmtime::Result<hooks::description::PluginDescription> {
        let instance = self.component.instantiate_async(&mut *store).await?;
        self.exports.describe(store, &instance).await
    }
}

/// Makes an instance in this slot and prepares it with its configuration.
pub(super) async fn instantiate(
    pool: &Pool,
    worker: &Worker,
    slot: OwnedSemaphorePermit,
    deadline: Instant,
) -> Result<(Room, Instance), CallError> {
    let generation = pool.generation();
    let (engine, limits, identity) = (&generation.engine, &generation.limits, pool.identity());
    let host = Host::new(limits.clone(), Some(identity.clone()), generation.memory.clone())
        .with_ways(worker.outlet.clone(), worker.loopback.clone());
    let mut room = engine.reclaim().room(host.into_store(engine.wasmtime()), slot);
    let Some(store) = room.store() else { return Err(CallError::gone()) };
    let prepared =
        Preparation { component: &generation.component, exports: &generation.exports, config: pool.config() };
    let ran = run(engine, limits, store, deadline, pool.place(worker), prepared).await;
    match ran.result? {
        Ok(instance) => Ok((room, instance)),
        Err(text) => Err(CallError::new(FailureKind::Plugin, &text)),
    }
}

/// Makes an instance only to compare its functions with the contract's.
pub(super) async fn check_types(
    engine: &Engine,
    host: Host,
    limits: &Limits,
    component: &InstancePre<Host>,
    exports: &Exports,
) -> Result<(), CallError> {
    let mut store = host.into_store(engine.wasmtime());
    let deadline = Instant::now() + limits.deadline;
    run(engine, limits, &mut store, deadline, Place::Alone, Comparison { component, exports }).await.result
}

/// Asks a component what it is.
pub(super) async fn describe(
    engine: &Engine,
    host: Host,
    limits: &Limits,
    component: &InstancePre<Host>,
    exports: &Exports,
) -> Result<hooks::description::PluginDescription, CallError> {
    let mut store = host.into_store(engine.wasmtime());
    let deadline = Instant::now() + limits.deadline;
    run(engine, limits, &mut store, deadline, Place::Alone, Description { component, exports }).await.result
}

/// Where a guest runs.
pub(super) enum Place<'w> {
    /// On a core that others want too, with its slow lane.
    Core(&'w SlowLane, Account<'w>),
    /// On a thread where nobody else waits.
    Alone,
}

/// How a guest ended, and what it used.
struct Ran<A> {
    result: Result<A, CallError>,
    fuel: u64,
    log_lines_dropped: u32,
}

/// Runs a guest with whole allowances until its deadline.
async fn run<G: Guest>(
    engine: &Engine,
    limits: &Limits,
    store: &mut Store<Host>,
    deadline: Instant,
    place: Place<'_>,
    guest: G,
) -> Ran<G::Answer> {
    let running = engine.ticker().enter();
    store.data_mut().begin_call(deadline);
    // `consume_fuel` is on, so this cannot fail.
    let _ = store.set_fuel(limits.fuel);
    let slice = store.data().slice().clone();
    let entered = async {
        store.set_epoch_deadline(1);
        guest.enter(store).await
    };
    let ended = match place {
        Place::Core(lane, account) => lane.run(&slice, account, deadline, entered).await,
        Place::Alone => until(deadline, entered).await.map_or(Ended::Late, Ended::Answer),
    };
    drop(running);
    let fuel = limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
    let trace = store.data_mut().end_call();
    let result = match ended {
        Ended::Answer(Ok(answer)) => Ok(answer),
        Ended::Answer(Err(error)) => Err(failure(&error, store.data(), &trace.printed)),
        Ended::Late => Err(CallError::new(FailureKind::Deadline, "its time was over while it waited")),
        Ended::Crowded => Err(CallError::new(FailureKind::Busy, "other plugins computed until its time was over")),
    };
    if result.is_ok() && !trace.printed.is_empty() {
        let text = crate::telemetry::text::escaped_bytes(&trace.printed, PRINTED_BYTES_MAX);
        tracing::debug!(target: "stile::guest", "printed: {text}");
    }
    Ran { result, fuel, log_lines_dropped: trace.log_lines_dropped }
}

/// What kind of failure an error of the engine is.
fn failure(error: &wasmtime::Error, host: &Host, printed: &[u8]) -> CallError {
    let mut kind = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => FailureKind::Fuel,
        Some(Trap::Interrupt) => FailureKind::Deadline,
        Some(_) => FailureKind::Trap,
        None if error.is::<PoolConcurrencyLimitError>() => FailureKind::Busy,
        None if error.is::<HostLimit>() => FailureKind::HostCall,
        None if error.is::<wasmtime_wasi::I32Exit>() => FailureKind::Trap,
        // An error that left through guest code came from a host call; one outside of it, from reading the answer.
        None if error.downcast_ref::<WasmBacktrace>().is_some() => FailureKind::HostCall,
        None => FailureKind::BadOutput,
    };
    // A guest whose allocation is refused usually aborts: the trap is only how that shows.
    if kind == FailureKind::Trap && host.limiter().was_refused() {
        kind = FailureKind::Memory;
    }
    if kind == FailureKind::BadOutput && host.limiter().was_refused() {
        kind = FailureKind::Memory;
    }
    let mut reason = format!("{:#}", error.root_cause());
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let frames: Vec<&str> = backtrace.frames().iter().take(FRAMES_SHOWN).filter_map(|f| f.func_name()).collect();
        if !frames.is_empty() {
            reason = format!("{reason}; at {}", frames.join(" < "));
        }
    }
    if kind == FailureKind::Memory {
        let bound = match host.limiter().was_refused_by_budget() {
            true => "`runtime.memory_bytes_max`, or the plugin's share of it",
            false => "`memory_bytes_max` or `table_elements_max`",
        };
        reason = format!("it was refused what is beyond {bound}: {reason}");
    }
    if !printed.is_empty() {
        reason = format!("{reason}; printed: {}", String::from_utf8_lossy(printed).trim());
    }
    let mut failure = CallError::new(kind, &reason);
    if kind == FailureKind::Memory && host.limiter().was_refused_by_budget() {
        failure.fault = Fault::Gateway;
    }
    failure
}

/// Runs a future of loading to its end, on a small runtime of its own: loading is not done on a serving thread. With
/// sockets, because `init` may ask for values that are on Redis.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CallError::new(FailureKind::Load, &format!("cannot start a runtime: {error}")))?;
    runtime.block_on(future)
}

const FRAMES_SHOWN: usize = 6;
const PRINTED_BYTES_MAX: usize = 1024;
