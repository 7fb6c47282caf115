//! What a guest can reach: the state of one instance, and the calls that it may make.
//!
//! Whether an interface is linked at all was decided when the plugin loaded; here each call is only measured.

mod apis;
mod http;
mod kv;
mod log;
mod metrics;
mod random;
mod secrets;
mod sessions;
mod streams;
mod wasi;

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{CallHook, Store, StoreContextMut, Trap, UpdateDeadline};

use self::apis::Cause;
pub use self::apis::{ApiCall, ApiCalls, ApiGate, Asked, Loopback, Unanswered};
pub use self::http::{Gate, Outlet};
pub use self::sessions::Sessions;
pub use self::wasi::Output;
use super::lane::Slice;
use super::limits::{Limiter, MemoryBudget};
use super::v0_1::bindings::stile::plugin as imports;
use crate::model::id::{ApiId, PluginName};
use crate::model::plugin::{Capability, Limits};
use crate::model::secret::PluginSecret;
use crate::plugin::verdict::Facts;
use crate::store::kv::KvSpace;
use crate::telemetry::metrics::{ApiCallMetrics, GuestMetrics, OutgoingMetrics};

/// Who calls: one plugin of one API, with what belongs to that pair alone.
#[derive(Debug)]
pub struct Identity {
    /// The API.
    pub api: ApiId,
    /// The plugin.
    pub plugin: PluginName,
    /// Its values.
    pub kv: KvSpace,
    /// Its metrics.
    pub metrics: Arc<GuestMetrics>,
    /// The sessions that it may ask for.
    pub sessions: Sessions,
    /// Where it may send requests; `None` without the grant.
    pub gate: Option<Arc<Gate>>,
    /// What became of its requests.
    pub outgoing: OutgoingMetrics,
    /// Which APIs it may call; `None` without the grant.
    pub api_gate: Option<Arc<ApiGate>>,
    /// What became of its calls.
    pub api_calls: ApiCallMetrics,
    /// What it may send without knowing it.
    pub secrets: Vec<PluginSecret>,
}

/// The state of one instance, and of the call that runs in it.
pub struct Host {
    limits: Arc<Limits>,
    identity: Option<Arc<Identity>>,
    limiter: Limiter,
    wasi: Option<Box<wasi::Wasi>>,
    output: Option<Output>,
    http: Option<Box<http::Http>>,
    held: http::Held,
    outlet: Option<Outlet>,
    loopback: Option<Loopback>,
    /// The request that a call is for, where the plugin may make others of it.
    cause: Option<Arc<Cause>>,
    api_calls_left: u32,
    /// Whether requests may leave: while a hook runs that may send any.
    is_open: bool,
    outgoing_left: u32,
    deadline: Instant,
    slice: Slice,
    calls_left: u32,
    session_calls_left: u32,
    bytes_left: u64,
    /// Host calls that were not paid for in fuel yet: several where one call asks for several things.
    calls_unpaid: u64,
    /// What they carry.
    bytes_unpaid: u64,
    /// Whether the host was entered for a tick and not for a call.
    is_tick: bool,
    random_bytes_left: u64,
    log_lines_left: u32,
    log_bytes_left: u64,
    log_lines_dropped: u32,
}

/// A guest went over a limit of host calls.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HostLimit(pub &'static str);

impl Host {
    /// State for a fresh instance. Without identity, as for `describe`, nothing but WASI answers.
    pub fn new(limits: Arc<Limits>, identity: Option<Arc<Identity>>, budget: Arc<MemoryBudget>) -> Self {
        Self {
            limiter: Limiter::new(limits.memory_bytes_max, limits.table_elements_max, budget),
            wasi: None,
            output: None,
            http: None,
            held: http::Held::default(),
            outlet: None,
            loopback: None,
            cause: None,
            api_calls_left: 0,
            is_open: false,
            outgoing_left: 0,
            deadline: Instant::now(),
            slice: Slice::default(),
            calls_left: 0,
            session_calls_left: 0,
            bytes_left: 0,
            calls_unpaid: 0,
            bytes_unpaid: 0,
            is_tick: false,
            random_bytes_left: 0,
            log_lines_left: 0,
            log_bytes_left: 0,
            log_lines_dropped: 0,
            limits,
            identity,
        }
    }

    /// With a way out for requests and one back in: those of the core where the instance runs.
    #[must_use]
    pub fn with_ways(self, outlet: Option<Outlet>, loopback: Option<Loopback>) -> Self {
        Self { outlet, loopback, ..self }
    }

    /// Lets requests leave until the call ends, which is for this request.
    pub fn open(&mut self, facts: &Facts<'_>) {
        self.is_open = true;
        let may_call = self.identity.as_ref().is_some_and(|identity| identity.api_gate.is_some());
        self.cause = may_call.then(|| Arc::new(Cause::new(facts)));
    }

    /// Puts the state in a store, with limiter and epoch callback.
    pub fn into_store(self, engine: &wasmtime::Engine) -> Store<Self> {
        let hostcall_bytes_max = self.limits.host_call_bytes_max.max(self.limits.body_out_bytes_max)
            + self.limits.header_bytes_max
            + RESULT_BYTES_SPARE;
        let is_priced = self.limits.host_call_fuel > 0 || self.limits.host_call_fuel_per_byte > 0;
        let mut store = Store::new(engine, self);
        if is_priced {
            store.call_hook(pay);
        }
        store.limiter(|host| &mut host.limiter);
        store.set_hostcall_fuel(usize::try_from(hostcall_bytes_max).unwrap_or(usize::MAX));
        store.set_max_component_handles(HANDLES_MAX);
        store.epoch_deadline_callback(at_tick);
        store
    }

    /// Begins a call: every allowance is whole again.
    pub fn begin_call(&mut self, deadline: Instant) {
        self.deadline = deadline;
        self.calls_left = self.limits.host_calls_max;
        self.session_calls_left = self.limits.session_calls_max;
        self.bytes_left = self.limits.host_call_bytes_max;
        self.calls_unpaid = 0;
        self.bytes_unpaid = 0;
        self.is_tick = false;
        self.random_bytes_left = self.limits.random_bytes_max;
        self.log_lines_left = self.limits.log_lines_max;
        self.log_bytes_left = self.limits.log_bytes_max;
        self.log_lines_dropped = 0;
        self.outgoing_left = self.limits.outgoing_calls_max;
        self.api_calls_left = self.limits.api_calls_max;
    }

    /// The slice that a call has.
    pub fn slice(&self) -> &Slice {
        &self.slice
    }

    /// Ends a call, and takes what is left to tell of it.
    pub fn end_call(&mut self) -> CallTrace {
        self.is_open = false;
        self.cause = None;
        if let Some(http) = &mut self.http {
            http.end_call();
        }
        let printed = self.output.as_ref().map(Output::take).unwrap_or_default();
        CallTrace { printed, log_lines_dropped: self.log_lines_dropped }
    }

    /// The limiter of the instance.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Counts one call into the host that carries so many bytes.
    fn charge(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.calls_left = self.calls_left.checked_sub(1).ok_or(HostLimit("more host calls than `host_calls_max`"))?;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes_left = self
            .bytes_left
            .checked_sub(bytes)
            .ok_or(HostLimit("more bytes in host calls than `host_call_bytes_max`"))?;
        self.calls_unpaid += 1;
        self.owe(bytes);
        Ok(())
    }

    /// Has the guest pay for bytes when the call into the host ends.
    fn owe(&mut self, bytes: u64) {
        self.bytes_unpaid = self.bytes_unpaid.saturating_add(bytes);
    }

    /// The price of the call into the host that ends now.
    fn price(&mut self) -> u64 {
        if std::mem::take(&mut self.is_tick) {
            return 0;
        }
        // Calls that are not charged, as most of WASI's, cost what one does.
        let calls = std::mem::take(&mut self.calls_unpaid).max(1);
        let bytes = std::mem::take(&mut self.bytes_unpaid);
        let of_bytes = bytes.saturating_mul(self.limits.host_call_fuel_per_byte);
        calls.saturating_mul(self.limits.host_call_fuel).saturating_add(of_bytes)
    }

    /// Who calls. `describe` has no identity and no linked import, so it cannot get here.
    fn identity(&self) -> wasmtime::Result<&Arc<Identity>> {
        self.identity.as_ref().ok_or_else(|| HostLimit("imports do not work in `describe`").into())
    }
}

/// What is left to tell of a call after it ended.
#[derive(Debug, Default)]
pub struct CallTrace {
    /// What it printed, last part first to be cut: text of a stranger.
    pub printed: Vec<u8>,
    /// Log lines over its limit.
    pub log_lines_dropped: u32,
}

/// Has a guest pay fuel for each call into the host, so that the host's work is bounded by what bounds the guest's own: a
/// loop of cheap calls would otherwise cost the guest next to nothing.
fn pay(mut store: StoreContextMut<'_, Host>, hook: CallHook) -> wasmtime::Result<()> {
    if !matches!(hook, CallHook::ReturningFromHost) {
        return Ok(());
    }
    let price = store.data_mut().price();
    if price == 0 {
        return Ok(());
    }
    let left = store.get_fuel()?.checked_sub(price);
    store.set_fuel(left.unwrap_or(0))?;
    left.map(drop).ok_or_else(|| Trap::OutOfFuel.into())
}

/// Runs at a tick: ends a call at its deadline, otherwise its slice.
fn at_tick(mut store: StoreContextMut<'_, Host>) -> wasmtime::Result<UpdateDeadline> {
    let host = store.data_mut();
    host.is_tick = true;
    if Instant::now() >= host.deadline {
        return Ok(UpdateDeadline::Interrupt);
    }
    Ok(match host.slice.end() {
        Some(gives_way) => UpdateDeadline::YieldCustom(1, gives_way),
        None => UpdateDeadline::Continue(1),
    })
}

/// Links what a set of grants allows, and WASI.
pub fn linker(engine: &wasmtime::Engine, grants: &[Capability]) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    for grant in grants {
        match grant {
            Capability::Log => imports::log::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?,
            Capability::Kv => imports::kv::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?,
            Capability::Metrics => imports::metrics::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?,
            Capability::SessionsRead => {
                imports::sessions_read::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
            }
            Capability::Sessions => imports::sessions::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?,
            // These are rights over what a call returns; there is nothing to link.
            Capability::Upstream | Capability::SessionLimits => {}
            Capability::Secrets => imports::secrets::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?,
            Capability::OutgoingHttp => http::add_to_linker(&mut linker)?,
            Capability::Apis => imports::apis::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?,
        }
    }
    Ok(linker)
}

/// Beyond the largest body and headers, for paths, queries, names and the records around them.
const RESULT_BYTES_SPARE: u64 = 256 << 10;

const HANDLES_MAX: usize = 1_000;

/// Of the host's own values that guests have handles for: each may hold header fields or a part of a body.
const RESOURCES_MAX: usize = 256;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_asks_for_several_things_costs_as_several() {
        let limits = Arc::new(Limits { host_call_fuel: 500, host_call_fuel_per_byte: 2, ..Limits::default() });
        let mut host = Host::new(limits, None, Arc::new(MemoryBudget::new(0)));
        host.begin_call(Instant::now());
        (0..3).for_each(|_| host.charge(10).unwrap());
        assert_eq!(host.price(), 3 * 500 + 3 * 10 * 2);
        assert_eq!(host.price(), 500);
        host.charge(0).unwrap();
        assert_eq!(host.price(), 500);
    }
}
