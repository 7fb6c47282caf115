//! Takes up changed definitions and plugin files while requests are answered: on a thread of its own, one change after another.
//!
//! What cannot be read or built leaves what is served as it was, and is told on `/ready`, by metrics and in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use super::retry::{Brought, Retry};
use super::watch::Watch;
use super::{Builder, Effect, Live, Problem, Report, Snapshot, files};
use crate::clock::Clock;
use crate::fetch::Fetcher;
use crate::files::Stamp;
use crate::model::gateway::{Gateway, Runtime};
use crate::plugin::load::Loader;
use crate::spec;
use crate::store::{PolicyCache, Store};

/// Asks for a reload. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reloader {
    asks: mpsc::Sender<Ask>,
    /// What was counted.
    pub numbers: Arc<ReloadNumbers>,
}

/// What a reloader works on.
pub struct Parts {
    /// The configuration that the gateway was started with.
    pub gateway: Gateway,
    /// Of its sources, from before they were used.
    pub stamps: Stamps,
    /// What is served.
    pub live: Live,
    /// What plugins are loaded with.
    pub loader: Loader,
    /// Who brings plugins that are elsewhere.
    pub fetcher: Fetcher,
    /// Which policies of files there are.
    pub policies: PolicyCache,
    /// Where other gateways are heard.
    pub store: Store,
    /// The time.
    pub clock: Clock,
}

/// What files looked like at some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

/// What a reloader has counted.
#[derive(Debug, Default)]
pub struct ReloadNumbers {
    /// Reloads that changed something.
    pub changed: AtomicU64,
    /// Reloads that found nothing changed.
    pub unchanged: AtomicU64,
    /// Reloads some part of which could not be taken up.
    pub kept: AtomicU64,
    /// Reloads whose definitions could not be used at all.
    pub refused: AtomicU64,
    /// When the configuration was last taken up as a whole, in milliseconds since 1970.
    pub good_ms: AtomicU64,
}

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// The definitions were read, and this became of each of their parts.
    Built {
        /// What became of APIs and plugins.
        report: Report,
        /// Whether policies of files differ from before.
        policies_changed: bool,
        /// Sections of the configuration that differ from what runs, and wait for a restart.
        restart: Vec<&'static str>,
        /// Warnings about the definitions, a line each.
        warnings: Vec<String>,
    },
    /// The definitions cannot be used; everything is as it was. Why, a problem each.
    Refused(Vec<String>),
}

/// Nobody reloads: too many ask already, the gateway is ending, or it was not started from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is ending, or too many reloads wait already")]
pub struct NotNow;

struct Ask(oneshot::Sender<Arc<Reloaded>>);

impl Reloaded {
    /// Whether everything is as the configuration has it.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Built { report, .. } => report.outcomes().all(|outcome| outcome.reason().is_none()),
            Self::Refused(_) => false,
        }
    }

    /// Whether anything is otherwise than before.
    pub fn has_changes(&self) -> bool {
        match self {
            Self::Built { report, policies_changed, .. } => report.has_changes() || *policies_changed,
            Self::Refused(_) => false,
        }
    }
}

impl Reloader {
    /// Reads everything again and tries again what was refused. Answers when requests get what came of it.
    ///
    /// # Errors
    /// See [`NotNow`].
    pub async fn reload(&self) -> Result<Arc<Reloaded>, NotNow> {
        self.ask()?.await.map_err(|_| NotNow)
    }

    /// The same, without waiting: what comes of it is in the log, and with the receiver.
    ///
    /// # Errors
    /// See [`NotNow`].
    pub fn ask(&self) -> Result<oneshot::Receiver<Arc<Reloaded>>, NotNow> {
        let (ask, answer) = oneshot::channel();
        self.asks.try_send(Ask(ask)).map_err(|_| NotNow)?;
        Ok(answer)
    }
}

/// Starts the thread. It ends when `stop` says so, or its sender is gone.
///
/// # Errors
/// The thread cannot be started.
pub fn start(parts: Parts, stop: watch::Receiver<bool>) -> io::Result<(Reloader, JoinHandle<()>)> {
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let numbers = Arc::new(ReloadNumbers::default());
    numbers.good_ms.store(parts.clock.now_ms(), Ordering::Relaxed);
    let state = State::new(parts, numbers.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        runtime.block_on(serve(state, asked, stop));
        // A build that is under way is of no use any more.
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("stile-reload".to_owned()).spawn(run)?;
    Ok((Reloader { asks, numbers }, thread))
}

/// Why a reload is made.
enum Cause {
    /// Somebody waits for its outcome.
    Asked(Ask),
    /// Another gateway says so.
    Told,
    /// Files may have changed.
    Files,
    /// Plugins were asked for again that could not be fetched before.
    Brought(Vec<Brought>),
}

async fn serve(state: State, mut asked: mpsc::Receiver<Ask>, mut stop: watch::Receiver<bool>) {
    let mut reloads = state.store.reloads();
    let mut watch = state.running.reload.watch.then(|| Watch::new(&state.running.reload));
    let mut retry = Retry::new(&state.running.fetch, &state.fetcher, &state.live);
    let mut state = Some(state);
    loop {
        if let (Some(watch), Some(state)) = (&mut watch, &state) {
            watch.set(&state.paths());
        }
        let changed = async {
            match &mut watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        let cause = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            ask = asked.recv() => match ask {
                Some(ask) => Cause::Asked(ask),
                None => return,
            },
            told = reloads.changed() => match told {
                Ok(()) => Cause::Told,
                Err(_) => return,
            },
            () = changed => Cause::Files,
            brought = retry.brought() => Cause::Brought(brought),
        };
        let Some(mut working) = state.take() else { return };
        let work = tokio::task::spawn_blocking(move || {
            // Of this thread alone. Where it may not be, requests wait a little longer.
            let _ = rustix::process::setpriority_process(None, NICE);
            let is_other = working.reload(cause);
            (working, is_other)
        });
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            worked = work => match worked {
                Ok((worked, is_other)) => {
                    state = Some(worked);
                    if is_other {
                        retry.begin_anew();
                    }
                }
                Err(_) => {
                    tracing::error!("reloading has panicked: changes are not taken up until the gateway is started again");
                    return;
                }
            },
        }
    }
}

struct State {
    /// As the process was started.
    running: Gateway,
    /// As it was read last.
    gateway: Gateway,
    live: Live,
    loader: Loader,
    fetcher: Fetcher,
    policies: PolicyCache,
    store: Store,
    clock: Clock,
    numbers: Arc<ReloadNumbers>,
    /// Of the definitions, when they were read last.
    stamps: Stamps,
    warnings: Vec<String>,
    /// What is wrong with the definitions as they are now.
    refused: Vec<Problem>,
}

impl State {
    fn new(parts: Parts, numbers: Arc<ReloadNumbers>) -> Self {
        let Parts { gateway, stamps, live, loader, fetcher, policies, store, clock } = parts;
        Self {
            running: gateway.clone(),
            gateway,
            live,
            loader,
            fetcher,
            policies,
            store,
            clock,
            numbers,
            stamps,
            warnings: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// What is watched.
    fn paths(&self) -> BTreeSet<PathBuf> {
        let definitions = self.stamps.0.keys().cloned();
        definitions.chain(self.gateway.plugins.iter().flat_map(files).map(Path::to_owned)).collect()
    }

    /// Takes up what there is to take up. Whether what is waited for may be something else now.
    fn reload(&mut self, cause: Cause) -> bool {
        let cause = match cause {
            Cause::Brought(brought) => {
                self.take_in(brought);
                return false;
            }
            cause => cause,
        };
        let is_asked = matches!(cause, Cause::Asked(_));
        let is_told = !matches!(cause, Cause::Files);
        let is_unread = is_told || self.stamps != Stamps::of(self.stamps.0.keys());
        let plugins_changed = || {
            let snapshot = self.live.snapshot();
            self.gateway
                .plugins
                .iter()
                .any(|spec| snapshot.plugin(&spec.name).is_none_or(|plugin| plugin.is_changed(spec)))
        };
        if !is_unread && !plugins_changed() {
            return false;
        }
        let reloaded = Arc::new(self.take_up(is_unread, is_told, is_asked));
        self.count(&reloaded);
        if let Cause::Asked(Ask(answer)) = cause {
            // Who asked may have left.
            let _ = answer.send(reloaded);
        }
        true
    }

    /// Has plugins used that came by themselves, and leaves everything else as it is: nobody asked for a reload.
    fn take_in(&mut self, mut brought: Vec<Brought>) {
        let snapshot = self.live.snapshot();
        // A reload may have been faster, with a newer one.
        brought.retain(|brought| snapshot.awaits(&brought.spec).is_some());
        if !brought.is_empty() {
            let reloaded = self.build(|builder| builder.bringing(brought));
            self.count(&reloaded);
        }
    }

    fn take_up(&mut self, is_unread: bool, asks_elsewhere: bool, tries_refused_again: bool) -> Reloaded {
        // What makes definitions unusable may be the file of a plugin, such as one that is not there.
        if (is_unread || !self.refused.is_empty())
            && let Err(refused) = self.read()
        {
            if is_unread {
                return self.refuse(refused);
            }
            self.refused = refused;
        }
        self.build(|mut builder| {
            if asks_elsewhere {
                builder = builder.asking();
            }
            if tries_refused_again {
                builder = builder.trying_again();
            }
            builder
        })
    }

    fn build(&mut self, prepared: impl FnOnce(Builder<'_>) -> Builder<'_>) -> Reloaded {
        let before = self.live.snapshot();
        let builder = prepared(Builder::after(&self.loader, &self.fetcher, &before));
        match builder.build(&self.gateway, |_| {}) {
            Ok((mut snapshot, report)) => {
                snapshot.problems.extend(self.refused.iter().cloned());
                // Policies first: a new API may be called as soon as it is there.
                let policies_changed = self.policies.set_files(&self.gateway.policies);
                self.live.swap(snapshot);
                report.log();
                Reloaded::Built { report, policies_changed, restart: self.restart(), warnings: self.warnings.clone() }
            }
            Err(conflict) => {
                // Among definitions there is none: one of the two is an API that stays as it was.
                let reason = format!("{conflict}: one of them cannot be taken up and stays where it was");
                tracing::error!(%reason, "definitions not taken up");
                self.refuse(vec![Problem { place: "apis".to_owned(), reason, effect: Effect::Outdated }])
            }
        }
    }

    /// Leaves what is served as it is, with other problems beside it.
    fn refuse(&mut self, refused: Vec<Problem>) -> Reloaded {
        let mut snapshot = Snapshot::clone(&self.live.snapshot());
        snapshot.problems.retain(|problem| !self.refused.contains(problem));
        self.refused = refused;
        snapshot.problems.extend(self.refused.iter().cloned());
        self.live.swap(snapshot);
        Reloaded::Refused(self.refused.iter().map(|p| format!("{}: {}", p.place, p.reason)).collect())
    }

    /// Reads the definitions again; on an error those that were read before stay.
    fn read(&mut self) -> Result<(), Vec<Problem>> {
        let Some(main) = self.gateway.sources.first().cloned() else { return Ok(()) };
        // Before they are read: a write in between is found by the next look.
        let looked_at = Stamps::of(self.stamps.0.keys());
        match spec::read(&main) {
            Ok((gateway, warnings)) => {
                self.stamps = looked_at.carried_to(&gateway.sources);
                self.gateway = gateway;
                self.warnings = warnings.iter().map(ToString::to_string).collect();
                self.refused.clear();
                self.fetcher.set_accounts(&self.gateway.accounts);
                Ok(())
            }
            Err(problems) => {
                // Those of the last good reading may be named again; one that is new may have the mistake.
                let known = self.stamps.0.keys().chain(problems.0.iter().map(|problem| &problem.file));
                self.stamps = looked_at.carried_to(known);
                for problem in &problems.0 {
                    tracing::error!(%problem, "definitions not taken up");
                }
                let errors = problems.0.into_iter().filter(|problem| problem.severity == spec::Severity::Error);
                Err(errors.map(Problem::from).collect())
            }
        }
    }

    /// Sections that only a new process takes up.
    fn restart(&self) -> Vec<&'static str> {
        let (now, new) = (&self.running, &self.gateway);
        // What plugins may be granted is looked at whenever definitions are read, and by nobody else.
        let runtime = Runtime {
            grants_max: now.runtime.grants_max.clone(),
            outgoing_http_max: now.runtime.outgoing_http_max.clone(),
            upstream_max: now.runtime.upstream_max.clone(),
            apis_max: now.runtime.apis_max.clone(),
            ..new.runtime.clone()
        };
        let sections = [
            ("listen", now.listeners == new.listeners),
            ("control", now.control == new.control),
            ("store", now.store == new.store),
            ("reload", now.reload == new.reload),
            ("workers", now.workers == new.workers),
            ("trusted_proxies", now.trusted_proxies == new.trusted_proxies),
            ("limits", now.limits == new.limits),
            ("runtime", now.runtime == runtime),
            ("fetch", now.fetch == new.fetch),
            ("log", now.log == new.log),
            ("analytics", now.analytics == new.analytics),
        ];
        let changed: Vec<&'static str> =
            sections.into_iter().filter_map(|(name, is_same)| (!is_same).then_some(name)).collect();
        if !changed.is_empty() {
            tracing::warn!(
                sections = changed.join(", "),
                "changed in the configuration; start the gateway again to use them"
            );
        }
        changed
    }

    fn count(&self, reloaded: &Reloaded) {
        let numbers = &self.numbers;
        if reloaded.is_whole() {
            numbers.good_ms.store(self.clock.now_ms(), Ordering::Relaxed);
        }
        let count = match reloaded {
            Reloaded::Refused(_) => &numbers.refused,
            Reloaded::Built { .. } => match (reloaded.is_whole(), reloaded.has_changes()) {
                (false, _) => &numbers.kept,
                (true, true) => &numbers.changed,
                (true, false) => &numbers.unchanged,
            },
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl From<spec::Problem> for Problem {
    fn from(problem: spec::Problem) -> Self {
        let file = problem.file.display();
        let place = if problem.path.is_empty() { file.to_string() } else { format!("{file}: {}", problem.path) };
        let hint = if problem.hint.is_empty() { String::new() } else { format!(" ({})", problem.hint) };
        Self { place, reason: format!("{}{hint}", problem.message), effect: Effect::Outdated }
    }
}

impl Stamps {
    /// What these files look like now.
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        Self(paths.into_iter().map(|path| (path.clone(), Stamp::of(path).ok())).collect())
    }

    /// Stamps of other paths: those of before for the same ones, and of now for those that are new.
    fn carried_to<'p>(&self, paths: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        let carried = |path: &PathBuf| self.0.get(path).copied().unwrap_or_else(|| Stamp::of(path).ok());
        Self(paths.into_iter().map(|path| (path.clone(), carried(path))).collect())
    }
}

/// Who asks while so many wait is told to come back.
/// Requests come first: a large file is read, looked at and mapped here.
const NICE: i32 = 10;
const ASKS_MAX: usize = 16;
