//! From a configuration to a running gateway, and to its end.
//!
//! The one module that knows all others: it makes the parts, starts the threads, and drains them.

mod counters;
mod state;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::watch;

use crate::admin::{Admin, AdminHandle, AdminState, Control, Loaded, NoRandom, Readiness, Secret};
use crate::analytics::{Sink, SinkError};
use crate::clock::Clock;
use crate::fetch::Fetcher;
use crate::live::reload::{self, Reloader, Stamps};
use crate::live::{Builder, Effect, Live, Problem, Snapshot};
use crate::model::gateway::Gateway;
use crate::model::store::Away;
use crate::model::time;
use crate::net::client::TrustedProxies;
use crate::net::tls::{self, Certificate};
use crate::pipeline;
use crate::pipeline::analytics::Recorder;
use crate::pipeline::exchange::{Core, RequestIds};
use crate::pipeline::onward;
use crate::pipeline::rights::Patterns;
use crate::pipeline::standing::Standings;
use crate::plugin::cache::Cache;
use crate::plugin::compile::Compiler;
use crate::plugin::engine::{Choice, Engine, EngineError};
use crate::plugin::host::{Loopback, Outlet};
use crate::plugin::lane::SlowLane;
use crate::plugin::load::Loader;
use crate::plugin::machine::Machine;
use crate::plugin::pool::Worker;
use crate::router::Conflict;
use crate::server::{self, Seat, Server, Summary};
use crate::store::{PolicyCache, SessionCache, Store, StoreTrouble};
use crate::telemetry::metrics::Metrics;
use crate::upstream::{self, Upstreams};

/// Everything that plugins are loaded with, and what start-up found out on the way.
pub struct Prepared {
    /// The loader.
    pub loader: Loader,
    /// Who brings plugins that are elsewhere.
    pub fetcher: Fetcher,
    /// What the machine has.
    pub machine: Machine,
    /// What was chosen for it.
    pub choice: Choice,
}

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine cannot be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Two APIs stand on one host and path.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// An address cannot be taken, or a certificate not be used.
    #[error(transparent)]
    Server(#[from] server::StartError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] state::StoreStartError),
    /// The control port cannot be taken.
    #[error("control port {address} cannot be taken; is another gateway running?")]
    Control {
        /// Its address.
        address: SocketAddr,
        /// The system's word for it.
        source: std::io::Error,
    },
    /// The control port's secret cannot be made.
    #[error(transparent)]
    Secret(#[from] NoRandom),
    /// Records have nowhere to go.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Makes the engine and what else plugins are loaded with. What plugins keep goes to `store`: to look at them, one in memory.
/// `stile` is the program that compiles them; without it this process does.
pub fn prepare(gateway: &Gateway, store: &Store, stile: Option<&Path>) -> Result<Prepared, StartError> {
    prepare_with(gateway, store, stile, Arc::default())
}

fn prepare_with(
    gateway: &Gateway,
    store: &Store,
    stile: Option<&Path>,
    upstreams: Arc<upstream::Shared>,
) -> Result<Prepared, StartError> {
    let machine = Machine::read();
    let (engine, choice) = Engine::new(&gateway.runtime, &machine)?;
    let cache_dir = gateway.runtime.cache_dir.clone().or_else(default_cache_dir);
    let cache = cache_dir.as_ref().and_then(|path| {
        let opened = Cache::open(path, gateway.runtime.cache_bytes_max);
        opened
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "no compile cache: plugins compile at each start");
            })
            .ok()
    });
    let metrics = Metrics::new();
    let sessions = SessionCache::new(store, &gateway.store.cache);
    let (store, workers) = (store.clone(), gateway.workers);
    let (instances, generations) = (Arc::default(), Arc::default());
    let compiler = Compiler::new(stile, &gateway.runtime);
    let allow_master_keys = gateway.control.allow_master_keys;
    let loader = Loader {
        engine,
        compiler,
        cache,
        store,
        sessions,
        metrics,
        allow_master_keys,
        workers,
        instances,
        generations,
    };
    let fetched = cache_dir.map(|path| path.join("fetched"));
    let fetcher = Fetcher::new(&gateway.fetch, fetched.as_deref(), upstreams, loader.store.clock());
    fetcher.set_accounts(&gateway.accounts);
    Ok(Prepared { loader, fetcher, machine, choice })
}

/// A gateway that serves. Dropping it ends it like [`Running::drain`].
pub struct Running {
    /// The addresses that it listens on, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// What start-up found out, a line each.
    pub found: Vec<String>,
    /// Its metrics.
    pub metrics: Metrics,
    live: Live,
    reloader: Option<Reloader>,
    store: Store,
    sink: Sink,
    admin: Option<AdminHandle>,
    is_draining: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<Summary>>,
    certificates: Option<JoinHandle<()>>,
    reloading: Option<JoinHandle<()>>,
}

/// How a gateway ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Connections cut off because they were not done in time.
    pub connections_aborted: u64,
    /// Analytics records that were not written.
    pub records_lost: u64,
}

/// Starts a gateway: loads plugins, takes addresses, serves. `stile` is the program that compiles plugins, and `step` is told
/// the name of each before it loads.
pub fn start(
    gateway: &Gateway,
    clock: &Clock,
    stile: Option<&Path>,
    step: impl FnMut(&str),
) -> Result<Running, StartError> {
    start_with(gateway, clock, stile, upstream::Shared::default(), step)
}

/// The same with what all cores share of upstreams, such as a resolver of one's own.
pub fn start_with(
    gateway: &Gateway,
    clock: &Clock,
    stile: Option<&Path>,
    upstreams: upstream::Shared,
    step: impl FnMut(&str),
) -> Result<Running, StartError> {
    let stamps = Stamps::of(&gateway.sources);
    let store = state::open(gateway, clock)?;
    let upstreams = Arc::new(upstreams);
    let prepared = prepare_with(gateway, &store, stile, upstreams.clone())?;
    let Prepared { loader, fetcher, machine, choice } = prepared;
    let files = raise_file_limit();
    let mut found = vec![format!("machine: {machine}")];
    found.push(format!(
        "plugins: {} instances, {} MiB of memory for all of them; {} workers, {} open files",
        choice.slots,
        choice.memory_bytes_max >> 20,
        gateway.workers,
        files.map_or_else(|| "unlimited".to_owned(), |files| files.to_string()),
    ));
    let compiler = &loader.compiler;
    let kind = if compiler.is_here() { "fallback" } else { "compiler" };
    found.push(format!("{kind}: plugins are compiled {}", compiler.told()));
    found.extend(choice.fallbacks.iter().map(|reason| format!("fallback: {reason}")));
    if let Some(files) = files
        && files < connections_need(gateway)
    {
        found.push(format!(
            "warning: {files} open files are fewer than `limits.connections_max` with upstreams may need ({}); raise `ulimit -n`",
            connections_need(gateway)
        ));
    }
    if std::env::var("RUST_BACKTRACE").is_ok_and(|value| value != "0") {
        found.push(
            "warning: `RUST_BACKTRACE` is set: every failure of a plugin pays for a backtrace of the gateway"
                .to_owned(),
        );
    }
    for line in &found {
        if ["machine", "plugins", "compiler"].iter().any(|kind| line.starts_with(kind)) {
            tracing::info!(target: "stile::start", "{line}");
        } else {
            tracing::warn!(target: "stile::start", "{line}");
        }
    }
    let (snapshot, _) = Builder::new(&loader, &fetcher).build(gateway, step)?;
    for problem in &snapshot.problems {
        tracing::error!(place = %problem.place, reason = %problem.reason, "not served");
    }
    let live = Live::new(snapshot);
    let sessions = loader.sessions.clone();
    let policies = PolicyCache::new(&store, gateway.policies.clone());
    let patterns = Arc::new(Patterns::default());
    let sink = Sink::start(&gateway.analytics)?;
    let server = Server::bind(&gateway.listeners, gateway.workers, &gateway.limits, &gateway.trusted_proxies)?;
    let admin = Admin::bind(gateway.control.address)
        .map_err(|source| StartError::Control { address: gateway.control.address, source })?;
    let (stop, _) = watch::channel(false);
    // Without a file there is nothing to read again.
    let (reloader, reloading) = if gateway.sources.is_empty() {
        (None, None)
    } else {
        let parts = reload::Parts {
            gateway: gateway.clone(),
            stamps,
            live: live.clone(),
            loader: loader.clone(),
            fetcher: fetcher.clone(),
            policies: policies.clone(),
            store: store.clone(),
            clock: clock.clone(),
        };
        let (reloader, thread) = reload::start(parts, stop.subscribe()).map_err(StartError::Thread)?;
        (Some(reloader), Some(thread))
    };
    let control = control(gateway, (&live, reloader.as_ref()), (&store, &policies), clock)?;
    counters::register(&loader, &live, &server.counters, &upstreams, &sink);
    counters::register_fetches(&loader.metrics, &fetcher);
    counters::register_store(&loader.metrics, &store, &sessions);
    counters::register_shares(&loader.metrics, &live);
    counters::register_control(&loader, &control);
    if let Some(reloader) = &reloader {
        counters::register_reloads(&loader.metrics, reloader);
    }

    let is_draining = Arc::new(AtomicBool::new(false));
    let certificates = watch_certificates(server.certificates, &stop)?;
    let trusted = Arc::new(TrustedProxies::new(gateway.trusted_proxies.clone()));
    let mut workers = Vec::new();
    for (index, seat) in server.seats.into_iter().enumerate() {
        let lane = SlowLane::start(index).map_err(StartError::Thread)?;
        let parts = WorkerParts {
            worker: Worker { index, lane: Some(lane), outlet: None, loopback: None },
            seat,
            live: live.clone(),
            upstreams: upstreams.clone(),
            sink: sink.clone(),
            store: store.clone(),
            sessions: sessions.clone(),
            policies: policies.clone(),
            patterns: patterns.clone(),
            trusted: trusted.clone(),
            clock: clock.clone(),
            metrics: loader.metrics.clone(),
            gateway: gateway.clone(),
            stop: stop.subscribe(),
        };
        let thread = std::thread::Builder::new().name(format!("stile-worker-{index}"));
        workers.push(thread.spawn(move || parts.run()).map_err(StartError::Thread)?);
    }
    let state = admin_state(control, &live, (&store, gateway.store.away), &loader.metrics, &is_draining);
    let admin = admin.serve(state).map_err(StartError::Thread)?;
    let (addresses, metrics) = (server.addresses, loader.metrics.clone());
    let admin = Some(admin);
    Ok(Running {
        addresses,
        found,
        metrics,
        live,
        reloader,
        store,
        sink,
        admin,
        is_draining,
        stop,
        workers,
        certificates,
        reloading,
    })
}

impl Running {
    /// The control port's address.
    pub fn control(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// Where keys, policies and counters are kept.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Has definitions and plugin files read again; none where the gateway was not started from a file.
    pub fn reloader(&self) -> Option<&Reloader> {
        self.reloader.as_ref()
    }

    /// What is served now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.live.snapshot()
    }

    /// Ends the gateway: no new requests, those in flight are finished, records are written.
    pub fn drain(mut self) -> Drained {
        self.end()
    }

    fn end(&mut self) -> Drained {
        self.is_draining.store(true, Ordering::SeqCst);
        self.stop.send_replace(true);
        let mut drained = Drained::default();
        for worker in self.workers.drain(..) {
            match worker.join() {
                Ok(summary) => drained.connections_aborted += summary.aborted,
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
        if let Some(watcher) = self.certificates.take() {
            // It only looks at files; there is nothing to learn from how it ended.
            let _ = watcher.join();
        }
        if let Some(reloading) = self.reloading.take() {
            // What it served is not served any more.
            let _ = reloading.join();
        }
        drained.records_lost = self.sink.close(SINK_CLOSE_TIMEOUT);
        self.admin.take();
        self.metrics.close();
        drained
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.workers.is_empty() {
            self.end();
        }
    }
}

/// What a worker's thread is given.
struct WorkerParts {
    worker: Worker,
    seat: Seat,
    live: Live,
    upstreams: Arc<upstream::Shared>,
    sink: Sink,
    store: Store,
    sessions: SessionCache,
    policies: PolicyCache,
    patterns: Arc<Patterns>,
    trusted: Arc<TrustedProxies>,
    clock: Clock,
    metrics: Metrics,
    gateway: Gateway,
    stop: watch::Receiver<bool>,
}

impl WorkerParts {
    fn run(self) -> Summary {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve()),
            Err(error) => {
                tracing::error!(%error, "worker cannot start");
                Summary::default()
            }
        }
    }

    async fn serve(mut self) -> Summary {
        let upstreams = Upstreams::new(self.upstreams);
        let (loopback, calls) = Loopback::new();
        self.worker.outlet = Some(Outlet::start(upstreams.clone()));
        self.worker.loopback = Some(loopback);
        let settings = &self.gateway.analytics;
        let (recorder, records) = Recorder::new(self.sink, self.worker.clone(), settings.queue_max, settings.batch_max);
        let recording = tokio::task::spawn_local(records);
        let core = Rc::new(Core {
            worker: self.worker,
            upstreams,
            recorder,
            trusted: self.trusted,
            access: self.gateway.log.access,
            clock: self.clock,
            metrics: self.metrics,
            ids: RequestIds::new(random()),
            in_flight: Cell::default(),
            store: self.store,
            sessions: self.sessions,
            standings: Standings::new(self.policies, self.patterns),
            away: self.gateway.store.away,
            apis: Box::new({
                let live = self.live.clone();
                move || live.apis()
            }),
            api_depth_max: self.gateway.runtime.api_depth_max,
        });
        tokio::task::spawn_local(onward::serve(Rc::downgrade(&core), calls));
        let handler = {
            let (core, live) = (core.clone(), self.live);
            move |request, peer| {
                let (core, apis) = (core.clone(), live.apis());
                async move { pipeline::handle(&core, &apis, request, peer).await }
            }
        };
        let mut stop = self.stop;
        let summary = self.seat.serve(handler, async move {
            // The sender goes only with the gateway, which is an end as well.
            let _ = stop.wait_for(|stop| *stop).await;
        });
        let summary = summary.await;
        // The last of the core takes its recorder along, and with that the task ends that masks what waits.
        drop(core);
        let _ = tokio::time::timeout(RECORDS_TIMEOUT, recording).await;
        summary
    }
}

/// What the control port keeps keys and policies with. A secret that nobody configured is made, and told this once.
fn control(
    gateway: &Gateway,
    (live, reloader): (&Live, Option<&Reloader>),
    (store, policies): (&Store, &PolicyCache),
    clock: &Clock,
) -> Result<Control, NoRandom> {
    let secret = match &gateway.control.secret {
        Some(secret) => Secret::new(secret),
        None => {
            let (secret, text) = Secret::make()?;
            tracing::warn!(
                target: "stile::start", secret = text,
                "no `control.secret`: this one is for keys and policies until the gateway ends"
            );
            secret
        }
    };
    let (live, by_api) = (live.clone(), live.clone());
    let loaded = Loaded { live: live.clone(), reloader: reloader.cloned() };
    Ok(Control {
        store: store.clone(),
        policies: policies.clone(),
        clock: clock.clone(),
        secret,
        allow_master_keys: gateway.control.allow_master_keys,
        body_bytes_max: gateway.control.body_bytes_max,
        connections_max: gateway.control.connections_max,
        organisation: Arc::new(move |id| {
            let snapshot = live.snapshot();
            Some(snapshot.plan(id)?.api.organisation.clone())
        }),
        identity: Arc::new(move |api, id| by_api.snapshot().plan(api)?.identity(id)),
        loaded: Some(loaded),
        numbers: Arc::default(),
    })
}

fn admin_state(
    control: Control,
    live: &Live,
    (store, away): (&Store, Away),
    metrics: &Metrics,
    is_draining: &Arc<AtomicBool>,
) -> AdminState {
    let (live, store, metrics, is_draining) = (live.clone(), store.clone(), metrics.clone(), is_draining.clone());
    AdminState {
        readiness: Arc::new(move || {
            let snapshot = live.snapshot();
            let is_draining = is_draining.load(Ordering::SeqCst);
            let trouble = store.trouble();
            // Otherwise callers that are known are served without it, and sending them elsewhere would help nobody.
            let is_refusing = matches!(trouble, Some(StoreTrouble::Away { .. })) && away == Away::Deny;
            let is_served = snapshot.problems.iter().all(|problem| problem.effect == Effect::Outdated);
            let problems = snapshot.problems.iter().map(|p| (p.place.clone(), shown(p)));
            // They are served as their `on_failure` says, here as on any other gateway. What the plugin said is for who has the
            // secret.
            let quarantined = snapshot.quarantined().into_iter().map(|(generation, quarantined, meanings)| {
                let since = time::text(i64::try_from(quarantined.since_ms).unwrap_or(i64::MAX));
                let (kind, meaning) = (quarantined.last.kind.as_str(), meanings.join("; "));
                let place = format!("plugins.{}.quarantine", generation.spec.name);
                (place, format!("in quarantine since {since}, its last failure: {kind}; {meaning}"))
            });
            let of_store = trouble.map(|trouble| ("store".to_owned(), trouble.to_string()));
            Readiness {
                is_ready: !is_draining && !is_refusing && is_served,
                is_draining,
                details: problems.chain(quarantined).chain(of_store).collect(),
            }
        }),
        metrics: Arc::new(move || metrics.render()),
        control,
    }
}

fn shown(problem: &Problem) -> String {
    match problem.effect {
        Effect::Unserved => problem.reason.clone(),
        Effect::Outdated => format!("{} (what was there before is used)", problem.reason),
    }
}

fn watch_certificates(
    certificates: Vec<Arc<Certificate>>,
    stop: &watch::Sender<bool>,
) -> Result<Option<JoinHandle<()>>, StartError> {
    if certificates.is_empty() {
        return Ok(None);
    }
    let stop = stop.subscribe();
    let go_on = move || !*stop.borrow();
    let thread = std::thread::Builder::new().name("stile-certificates".to_owned());
    thread.spawn(move || tls::watch(&certificates, go_on)).map(Some).map_err(StartError::Thread)
}

/// Takes as many open files as the machine lets the process have; returns how many that are.
fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// A connection to a caller and one to an upstream each, and some for the rest.
fn connections_need(gateway: &Gateway) -> u64 {
    u64::try_from(gateway.limits.connections_max.saturating_mul(2).saturating_add(64)).unwrap_or(u64::MAX)
}

/// A number that no other worker or gateway begins with.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

const SINK_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const RECORDS_TIMEOUT: Duration = Duration::from_secs(5);

fn default_cache_dir() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(base.join("stile"))
}
