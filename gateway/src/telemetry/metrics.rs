//! Metrics in Prometheus' text format.
//!
//! Handles are taken once, when an API loads; a request then only adds to atomics. Labels come from the configuration and
//! from what plugins declare, never from a request.

mod guest;
mod handles;
mod reader;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::guest::GuestFamilies;
pub use self::guest::{GuestMetricKind, GuestMetrics, MetricRefused};
pub use self::handles::{
    ApiCallMetrics, ApiMetrics, HookMetrics, OutgoingMetrics, QuarantineMetrics, SessionCallMetrics, VersionMetrics,
};
pub use self::reader::ReaderKind;
use self::reader::Readers;
use super::histogram::Histogram;
use crate::model::id::{ApiId, PluginName, VersionName};
use crate::model::plugin::{FailureKind, Hook};

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// The registry. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: Mutex<Registry>,
    guests: Mutex<HashMap<(ApiId, PluginName), Arc<GuestMetrics>>>,
    guest_families: Arc<GuestFamilies>,
    readers: Arc<Readers>,
    requests: Counters,
    requests_in_flight: Gauges,
    requests_aborted: Counters,
    request_seconds: Histograms,
    request_body_bytes: Counters,
    response_body_bytes: Counters,
    upstream_seconds: Histograms,
    upstream_failures: Counters,
    refusals: Counters,
    version_requests: Counters,
    sessions_not_written: Counters,
    calls: Counters,
    call_failures: Counters,
    calls_continued: Counters,
    calls_quarantined: Counters,
    replies: Counters,
    call_seconds: Histograms,
    call_wait_seconds: Histograms,
    call_fuel: Histograms,
    log_lines_dropped: Counters,
    session_calls: Counters,
    records_dropped: Counters,
    bodies_cut: Counters,
    plugin_info: Gauges,
    /// The labels of `plugin_info` as they are now: those of the version before go.
    informed: Mutex<HashMap<PluginName, Labels>>,
    plugin_compile_seconds: Histograms,
    plugin_load_failures: Counters,
    plugin_quarantined: Gauges,
    plugin_quarantines: Counters,
    metrics_refused: Counters,
    outgoing: Counters,
    outgoing_seconds: Histograms,
    api_calls: Counters,
    api_call_seconds: Histograms,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! families {
    ($registry:ident: $($field:ident = $family:expr, $name:literal, $help:literal;)*) => {
        $(
            let $field = $family;
            $registry.register($name, $help, $field.clone());
        )*
    };
}

impl Metrics {
    /// An empty registry with the gateway's families.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("stile");
        let seconds = || Histograms::new_with_constructor(|| Histogram::new(&SECONDS));
        // Counters get `_total` from the encoder.
        families! { registry:
            requests = Counters::default(), "requests", "Requests answered, by status";
            requests_in_flight = Gauges::default(), "requests_in_flight", "Requests that have no whole answer yet";
            requests_aborted = Counters::default(), "requests_aborted", "Requests whose caller left, or whose answer broke off";
            request_seconds = seconds(), "request_seconds", "From a request's head to the last byte of its answer";
            request_body_bytes = Counters::default(), "request_body_bytes", "Body bytes from callers";
            response_body_bytes = Counters::default(), "response_body_bytes", "Body bytes to callers";
            upstream_seconds = seconds(), "upstream_seconds", "From sending a request to the head of the upstream's answer";
            upstream_failures = Counters::default(), "upstream_failures", "Requests that got no answer from their upstream, by kind";
            refusals = Counters::default(), "refusals", "Requests that the gateway refused, by reason";
            version_requests = Counters::default(), "version_requests", "Requests of a version of an API";
            sessions_not_written = Counters::default(), "sessions_not_written_back", "Requests whose changes of the session were lost";
            calls = Counters::default(), "plugin_calls", "Calls of plugins";
            call_failures = Counters::default(), "plugin_call_failures", "Calls of plugins that failed, by kind";
            calls_continued = Counters::default(), "plugin_calls_continued", "Requests that went on without a plugin that failed or is in quarantine";
            calls_quarantined = Counters::default(), "plugin_calls_quarantined", "Calls that were not made because the plugin is in quarantine";
            replies = Counters::default(), "plugin_replies", "Requests that a plugin answered or rejected itself";
            call_seconds = seconds(), "plugin_call_seconds", "Time of a call, waiting for an instance included";
            call_wait_seconds = seconds(), "plugin_call_wait_seconds", "Time until a call had its instance";
            call_fuel = Histograms::new_with_constructor(|| Histogram::new(&FUEL)), "plugin_call_fuel", "Fuel of a call";
            log_lines_dropped = Counters::default(), "plugin_log_lines_dropped", "Log lines of plugins over their limit";
            session_calls = Counters::default(), "plugin_session_calls", "Sessions that plugins asked for or changed by token, by outcome";
            records_dropped = Counters::default(), "analytics_records_dropped", "Analytics records that were not stored, by reason";
            bodies_cut = Counters::default(), "analytics_bodies_cut", "Recorded bodies that were cut: `analytics.body_bytes_max`";
            plugin_info = Gauges::default(), "plugin_info", "Loaded plugins: version and digest";
            plugin_compile_seconds = seconds(), "plugin_compile_seconds", "Time to compile a plugin";
            plugin_load_failures = Counters::default(), "plugin_load_failures", "Plugins that did not load";
            plugin_quarantined = Gauges::default(), "plugin_quarantined", "Loaded versions of the plugin that are in quarantine";
            plugin_quarantines = Counters::default(), "plugin_quarantines", "Times that a version of the plugin was put into quarantine";
            metrics_refused = Counters::default(), "plugin_metrics_refused", "Metrics that a plugin declared and cannot have";
            outgoing = Counters::default(), "plugin_outgoing_requests", "Requests that plugins sent or wished to send, by outcome";
            outgoing_seconds = seconds(), "plugin_outgoing_seconds", "Time of such a request with its answer";
            api_calls = Counters::default(), "plugin_api_calls", "Calls that plugins made or wished to make to APIs, by outcome";
            api_call_seconds = seconds(), "plugin_api_call_seconds", "Time of such a call with its answer";
        }
        let readers = Arc::new(Readers::default());
        let guest_families = Arc::new(GuestFamilies::default());
        registry.register_collector(Box::new(readers.clone()));
        registry.register_collector(Box::new(guest_families.clone()));
        Self(Arc::new(Families {
            registry: Mutex::new(registry),
            guests: Mutex::default(),
            guest_families,
            readers,
            requests,
            requests_in_flight,
            requests_aborted,
            request_seconds,
            request_body_bytes,
            response_body_bytes,
            upstream_seconds,
            upstream_failures,
            refusals,
            version_requests,
            sessions_not_written,
            calls,
            call_failures,
            calls_continued,
            calls_quarantined,
            replies,
            call_seconds,
            call_wait_seconds,
            call_fuel,
            log_lines_dropped,
            session_calls,
            records_dropped,
            bodies_cut,
            plugin_info,
            informed: Mutex::default(),
            plugin_compile_seconds,
            plugin_load_failures,
            plugin_quarantined,
            plugin_quarantines,
            metrics_refused,
            outgoing,
            outgoing_seconds,
            api_calls,
            api_call_seconds,
        }))
    }

    /// The handles of one API.
    pub fn api(&self, api: &ApiId) -> ApiMetrics {
        let families = &self.0;
        let labels = vec![("api", api.to_string())];
        ApiMetrics {
            requests: Mutex::default(),
            in_flight: families.requests_in_flight.get_or_create_owned(&labels),
            aborted: families.requests_aborted.get_or_create_owned(&labels),
            seconds: families.request_seconds.get_or_create_owned(&labels),
            request_body_bytes: families.request_body_bytes.get_or_create_owned(&labels),
            response_body_bytes: families.response_body_bytes.get_or_create_owned(&labels),
            upstream_seconds: families.upstream_seconds.get_or_create_owned(&labels),
            ok: families.requests.get_or_create_owned(&with(&labels, "status", "200")),
            families: families.clone(),
            labels,
        }
    }

    /// The handle of one version of an API.
    pub fn version(&self, api: &ApiId, version: &VersionName) -> VersionMetrics {
        let labels = vec![("api", api.to_string()), ("version", version.to_string())];
        VersionMetrics { requests: self.0.version_requests.get_or_create_owned(&labels) }
    }

    /// The handles of one plugin at one hook of one API.
    pub fn hook_use(&self, api: &ApiId, hook: Hook, plugin: &PluginName) -> HookMetrics {
        let families = &self.0;
        let labels = vec![("api", api.to_string()), ("hook", hook.to_string()), ("plugin", plugin.to_string())];
        let failure =
            |kind: FailureKind| families.call_failures.get_or_create_owned(&with(&labels, "kind", kind.as_str()));
        let reply = |how: &str| families.replies.get_or_create_owned(&with(&labels, "how", how));
        HookMetrics {
            calls: families.calls.get_or_create_owned(&labels),
            failures: FailureKind::ALL.map(|kind| (kind, failure(kind))),
            continued: families.calls_continued.get_or_create_owned(&labels),
            quarantined: families.calls_quarantined.get_or_create_owned(&labels),
            responded: reply("respond"),
            rejected: reply("reject"),
            seconds: families.call_seconds.get_or_create_owned(&labels),
            wait_seconds: families.call_wait_seconds.get_or_create_owned(&labels),
            fuel: families.call_fuel.get_or_create_owned(&labels),
            log_lines_dropped: families.log_lines_dropped.get_or_create_owned(&labels),
            records_dropped: families
                .records_dropped
                .get_or_create_owned(&vec![("api", api.to_string()), ("reason", "plugin".to_owned())]),
        }
    }

    /// The handles of one plugin's quarantine.
    pub fn quarantine(&self, plugin: &PluginName) -> QuarantineMetrics {
        let label = vec![("plugin", plugin.to_string())];
        QuarantineMetrics {
            versions: self.0.plugin_quarantined.get_or_create_owned(&label),
            entered: self.0.plugin_quarantines.get_or_create_owned(&label),
        }
    }

    /// What a plugin of an API declares and writes itself.
    pub fn guest(&self, api: &ApiId, plugin: &PluginName) -> Arc<GuestMetrics> {
        let mut guests = self.0.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let labels = vec![("api", api.to_string()), ("plugin", plugin.to_string())];
            let refused = self.0.metrics_refused.get_or_create_owned(&labels);
            Arc::new(GuestMetrics::new(labels, self.0.guest_families.clone(), refused))
        };
        guests.entry((api.clone(), plugin.clone())).or_insert_with(make).clone()
    }

    /// What a plugin of an API does to sessions by their tokens.
    pub fn session_calls(&self, api: &ApiId, plugin: &PluginName) -> SessionCallMetrics {
        let labels = vec![("api", api.to_string()), ("plugin", plugin.to_string())];
        SessionCallMetrics { families: self.0.clone(), labels }
    }

    /// What became of the requests that a plugin of an API sends.
    pub fn outgoing(&self, api: &ApiId, plugin: &PluginName) -> OutgoingMetrics {
        let labels = vec![("api", api.to_string()), ("plugin", plugin.to_string())];
        OutgoingMetrics { families: self.0.clone(), labels }
    }

    /// What became of the calls that a plugin of an API makes to APIs.
    pub fn api_calls(&self, api: &ApiId, plugin: &PluginName) -> ApiCallMetrics {
        let labels = vec![("api", api.to_string()), ("plugin", plugin.to_string())];
        ApiCallMetrics { families: self.0.clone(), labels }
    }

    /// Counts a request that reached no API.
    pub fn unrouted(&self, status: u16, reason: &'static str) {
        let nowhere = vec![("api", String::new())];
        self.0.requests.get_or_create_owned(&with(&nowhere, "status", &status.to_string())).inc();
        self.0.refusals.get_or_create_owned(&with(&nowhere, "reason", reason)).inc();
    }

    /// Notes a plugin that loaded.
    pub fn plugin_loaded(&self, plugin: &PluginName, version: &str, digest: &str, compile_time: Option<Duration>) {
        let label = vec![("plugin", plugin.to_string())];
        let info = with(&with(&label, "version", version), "digest", digest);
        let mut informed = self.0.informed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = informed.insert(plugin.clone(), info.clone()) {
            self.0.plugin_info.remove(&before);
        }
        self.0.plugin_info.get_or_create_owned(&info).set(1);
        if let Some(time) = compile_time {
            self.0.plugin_compile_seconds.get_or_create_owned(&label).observe(time.as_secs_f64());
        }
    }

    /// Forgets the version of a plugin that is gone.
    pub fn plugin_removed(&self, plugin: &PluginName) {
        let mut informed = self.0.informed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = informed.remove(plugin) {
            self.0.plugin_info.remove(&before);
        }
    }

    /// Counts a plugin that did not load.
    pub fn plugin_load_failed(&self, plugin: &PluginName) {
        self.0.plugin_load_failures.get_or_create_owned(&vec![("plugin", plugin.to_string())]).inc();
    }

    /// Adds a value that is read when the page is asked for.
    pub fn reader(
        &self,
        name: &'static str,
        help: &'static str,
        kind: ReaderKind,
        labels: &[(&'static str, &str)],
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let labels: Labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.0.readers.add(name, help, kind, Box::new(move || vec![(labels.clone(), read())]));
    }

    /// Adds values that are read when the page is asked for, with what stands in their label: whatever there is then.
    pub fn reader_by(
        &self,
        name: &'static str,
        help: &'static str,
        kind: ReaderKind,
        label: &'static str,
        read: impl Fn() -> Vec<(String, f64)> + Send + Sync + 'static,
    ) {
        let labelled = move || read().into_iter().map(|(of, value)| (vec![(label, of)], value)).collect();
        self.0.readers.add(name, help, kind, Box::new(labelled));
    }

    /// Lets go of what is read for the page: it may hold what holds this registry.
    pub fn close(&self) {
        self.0.readers.clear();
    }

    /// The page.
    pub fn render(&self) -> String {
        let mut page = String::new();
        let registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a `String` cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut page, &registry);
        page
    }
}

fn with(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}

const SECONDS: [f64; 16] =
    [5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.5, 2.5, 10.0];
const FUEL: [f64; 8] = [1e3, 1e4, 3e4, 1e5, 1e6, 1e7, 1e8, 1e9];
