//! From a configuration to a running gateway, and to its end.
//!
//! The one module that knows all others: it makes the parts, starts the threads, and drains them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::admin::{Admin, AdminHandle, AdminState, Readiness};
use crate::analytics::{Sink, SinkError};
use crate::clock::Clock;
use crate::live::{Live, Problem, Snapshot};
use crate::model::gateway::Gateway;
use crate::net::client::TrustedProxies;
use crate::net::listen::{self, BindError};
use crate::net::tls::{self, Certificate, TlsError};
use crate::pipeline::analytics::Recorder;
use crate::pipeline::exchange::{Core, RequestIds};
use crate::plugin::cache::Cache;
use crate::plugin::engine::{Choice, Engine, EngineError};
use crate::plugin::lane::SlowLane;
use crate::plugin::load::Loader;
use crate::plugin::machine::Machine;
use crate::plugin::pool::Worker;
use crate::router::Conflict;
use crate::store::kv::Kv;
use crate::telemetry::metrics::{Metrics, ReaderKind};
use crate::upstream::{self, Upstreams};

/// Everything that plugins are loaded with, and what start-up found out on the way.
pub struct Prepared {
    /// The loader.
    pub loader: Loader,
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
    /// An address cannot be taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The control port cannot be taken.
    #[error("control port {address}: {source}; is another gateway running?")]
    Control {
        /// Its address.
        address: SocketAddr,
        /// The system's word for it.
        source: std::io::Error,
    },
    /// Records have nowhere to go.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Makes the engine and what else plugins are loaded with.
pub fn prepare(gateway: &Gateway, clock: &Clock) -> Result<Prepared, StartError> {
    let machine = Machine::read();
    let (engine, choice) = Engine::new(&gateway.runtime, &machine)?;
    let cache = gateway.runtime.cache_dir.clone().or_else(default_cache_dir).and_then(|path| {
        let opened = Cache::open(&path, gateway.runtime.cache_bytes_max);
        opened
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "no compile cache: plugins compile at each start");
            })
            .ok()
    });
    let metrics = Metrics::new();
    let kv = Kv::new(clock.clone(), gateway.runtime.kv_bytes_max);
    let loader = Loader { engine, cache, kv, metrics, workers: gateway.workers };
    Ok(Prepared { loader, machine, choice })
}

/// A gateway that serves. Dropping it ends it without waiting for requests; see [`Running::drain`].
pub struct Running {
    /// The addresses that it listens on, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// The control port.
    pub control: SocketAddr,
    /// What is not served, and why.
    pub problems: Vec<Problem>,
    /// Its metrics.
    pub metrics: Metrics,
}

fn default_cache_dir() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(base.join("stile"))
}
