//! Metrics in Prometheus' text format.
//!
//! Handles are taken once, when an API loads; a request then only adds to atomics. Labels come from the configuration and
//! from what plugins declare, never from a request.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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
    calls: Counters,
    call_failures: Counters,
    calls_continued: Counters,
    replies: Counters,
    call_seconds: Histograms,
    call_wait_seconds: Histograms,
    call_fuel: Histograms,
    log_lines_dropped: Counters,
    session_calls: Counters,
    records_dropped: Counters,
    plugin_info: Gauges,
    plugin_compile_seconds: Histograms,
    plugin_load_failures: Counters,
    metrics_refused: Counters,
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
            calls = Counters::default(), "plugin_calls", "Calls of plugins";
            call_failures = Counters::default(), "plugin_call_failures", "Calls of plugins that failed, by kind";
            calls_continued = Counters::default(), "plugin_calls_continued", "Failed calls after which the request went on";
            replies = Counters::default(), "plugin_replies", "Requests that a plugin answered or rejected itself";
            call_seconds = seconds(), "plugin_call_seconds", "Time of a call, waiting for an instance included";
            call_wait_seconds = seconds(), "plugin_call_wait_seconds", "Time until a call had its instance";
            call_fuel = Histograms::new_with_constructor(|| Histogram::new(&FUEL)), "plugin_call_fuel", "Fuel of a call";
            log_lines_dropped = Counters::default(), "plugin_log_lines_dropped", "Log lines of plugins over their limit";
            session_calls = Counters::default(), "plugin_session_calls", "Sessions that plugins asked for or changed by token, by outcome";
            records_dropped = Counters::default(), "analytics_records_dropped", "Analytics records that were not stored, by reason";
            plugin_info = Gauges::default(), "plugin_info", "Loaded plugins: version and digest";
            plugin_compile_seconds = seconds(), "plugin_compile_seconds", "Time to compile a plugin";
            plugin_load_failures = Counters::default(), "plugin_load_failures", "Plugins that did not load";
            metrics_refused = Counters::default(), "plugin_metrics_refused", "Metrics that a plugin declared and cannot have";
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
            calls,
            call_failures,
            calls_continued,
            replies,
            call_seconds,
            call_wait_seconds,
            call_fuel,
            log_lines_dropped,
            session_calls,
            records_dropped,
            plugin_info,
            plugin_compile_seconds,
            plugin_load_failures,
            metrics_refused,
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

    /// What a plugin of an API declares and writes itself.
    pub fn guest(&self, api: &ApiId, plugin: &PluginName) -> Arc<GuestMetrics> {
        let mut guests = self.0.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let labels = vec![("api", api.to_string()), ("plugin", plugin.to_string())];
            Arc::new(GuestMetrics {
                refused: self.0.metrics_refused.get_or_create_owned(&labels),
                labels,
                families: self.0.guest_families.clone(),
                declared: Mutex::default(),
            })
        };
        guests.entry((api.clone(), plugin.clone())).or_insert_with(make).clone()
    }

    /// What a plugin of an API does to sessions by their tokens.
    pub fn session_calls(&self, api: &ApiId, plugin: &PluginName) -> SessionCallMetrics {
        let labels = vec![("api", api.to_string()), ("plugin", plugin.to_string())];
        SessionCallMetrics { families: self.0.clone(), labels }
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
        self.0.plugin_info.get_or_create_owned(&info).set(1);
        if let Some(time) = compile_time {
            self.0.plugin_compile_seconds.get_or_create_owned(&label).observe(time.as_secs_f64());
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
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let mut all = self.0.readers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = (labels, Box::new(read) as Read);
        match all.iter_mut().find(|reader| reader.name == name) {
            Some(reader) => reader.values.push(value),
            None => all.push(Reader { name, help, kind, values: vec![value] }),
        }
    }

    /// Lets go of what is read for the page: it may hold what holds this registry.
    pub fn close(&self) {
        self.0.readers.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
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

/// Handles of one plugin of one API that may have sessions by their tokens.
pub struct SessionCallMetrics {
    families: Arc<Families>,
    labels: Labels,
}

impl SessionCallMetrics {
    /// One was asked for (`get`) or changed (`update`), and this came of it.
    pub fn called(&self, call: &'static str, outcome: &'static str) {
        let labels = with(&with(&self.labels, "call", call), "outcome", outcome);
        self.families.session_calls.get_or_create_owned(&labels).inc();
    }
}

impl fmt::Debug for SessionCallMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionCallMetrics")
    }
}

/// Handles of one API.
pub struct ApiMetrics {
    requests: Mutex<HashMap<u16, Counter>>,
    ok: Counter,
    in_flight: Gauge,
    aborted: Counter,
    seconds: Histogram,
    request_body_bytes: Counter,
    response_body_bytes: Counter,
    upstream_seconds: Histogram,
    families: Arc<Families>,
    labels: Labels,
}

impl ApiMetrics {
    /// A request has come.
    pub fn begin(&self) {
        self.in_flight.inc();
    }

    /// Its answer has left as a whole.
    pub fn ended(&self, status: u16, time: Duration, bytes_in: u64, bytes_out: u64) {
        self.in_flight.dec();
        self.seconds.observe(time.as_secs_f64());
        if bytes_in > 0 {
            self.request_body_bytes.inc_by(bytes_in);
        }
        self.response_body_bytes.inc_by(bytes_out);
        if status == 200 {
            self.ok.inc();
            return;
        }
        // At most as many as there are statuses.
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = || self.families.requests.get_or_create_owned(&with(&self.labels, "status", &status.to_string()));
        requests.entry(status).or_insert_with(counter).inc();
    }

    /// It has no whole answer, and nobody waits for one.
    pub fn aborted(&self) {
        self.in_flight.dec();
        self.aborted.inc();
    }

    /// The upstream's answer began.
    pub fn upstream_ended(&self, time: Duration) {
        self.upstream_seconds.observe(time.as_secs_f64());
    }

    /// The upstream gave no answer.
    pub fn upstream_failed(&self, kind: &'static str) {
        self.families.upstream_failures.get_or_create_owned(&with(&self.labels, "kind", kind)).inc();
    }

    /// The gateway refused the request.
    pub fn refused(&self, reason: &'static str) {
        self.families.refusals.get_or_create_owned(&with(&self.labels, "reason", reason)).inc();
    }

    /// Records found no place in their queue.
    pub fn records_dropped(&self, records: u64) {
        self.families.records_dropped.get_or_create_owned(&with(&self.labels, "reason", "queue")).inc_by(records);
    }
}

/// The handle of one version of an API.
#[derive(Debug)]
pub struct VersionMetrics {
    requests: Counter,
}

impl VersionMetrics {
    /// A request has this version.
    pub fn asked(&self) {
        self.requests.inc();
    }
}

/// Handles of one plugin at one hook of one API.
pub struct HookMetrics {
    calls: Counter,
    failures: [(FailureKind, Counter); 9],
    continued: Counter,
    responded: Counter,
    rejected: Counter,
    seconds: Histogram,
    wait_seconds: Histogram,
    fuel: Histogram,
    log_lines_dropped: Counter,
    records_dropped: Counter,
}

impl HookMetrics {
    /// A call ended, well or not.
    pub fn call_ended(&self, time: Duration, waited: Duration, fuel: u64) {
        self.calls.inc();
        self.seconds.observe(time.as_secs_f64());
        self.wait_seconds.observe(waited.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a histogram of fuel need not be exact")]
        self.fuel.observe(fuel as f64);
    }

    /// A call failed.
    pub fn failed(&self, kind: FailureKind) {
        if let Some((_, counter)) = self.failures.iter().find(|(of, _)| *of == kind) {
            counter.inc();
        }
    }

    /// The request went on after a failure.
    pub fn continued(&self) {
        self.continued.inc();
    }

    /// The plugin answered the request.
    pub fn responded(&self) {
        self.responded.inc();
    }

    /// The plugin rejected the request.
    pub fn rejected(&self) {
        self.rejected.inc();
    }

    /// Log lines went over their limit.
    pub fn log_lines_dropped(&self, lines: u32) {
        if lines > 0 {
            self.log_lines_dropped.inc_by(lines.into());
        }
    }

    /// Records were dropped: the plugin said so, or failed.
    pub fn records_dropped(&self, records: u64) {
        self.records_dropped.inc_by(records);
    }
}

/// The kinds of metrics that a plugin may declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestMetricKind {
    /// Only grows.
    Counter,
    /// A distribution.
    Histogram,
}

/// What a plugin of an API declares and writes itself.
#[derive(Debug)]
pub struct GuestMetrics {
    labels: Labels,
    families: Arc<GuestFamilies>,
    declared: Mutex<HashMap<String, GuestMetric>>,
    refused: Counter,
}

impl GuestMetric {
    const fn kind(&self) -> GuestMetricKind {
        match self {
            Self::Counter(_) => GuestMetricKind::Counter,
            Self::Histogram(_) => GuestMetricKind::Histogram,
        }
    }
}

/// Why a plugin cannot have a metric that it declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetricRefused {
    /// The page cannot have one name with two kinds.
    #[error("a metric of this name has another kind already")]
    OtherKind,
    /// It declares too many.
    #[error("there are {GUEST_METRICS_MAX} metrics of this plugin already")]
    TooMany,
}

#[derive(Debug, Clone)]
enum GuestMetric {
    Counter(Counter),
    Histogram(Histogram),
}

impl GuestMetrics {
    /// Makes a metric known. One that is refused is counted, and for the plugin it is not there.
    pub fn declare(&self, name: &str, kind: GuestMetricKind, help: &str) -> Result<(), MetricRefused> {
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match declared.get(name) {
            Some(metric) if metric.kind() == kind => return Ok(()),
            Some(_) => Err(MetricRefused::OtherKind),
            None if declared.len() >= GUEST_METRICS_MAX => Err(MetricRefused::TooMany),
            None => self.families.get(name, kind, help, &self.labels).ok_or(MetricRefused::OtherKind),
        };
        match made {
            Ok(metric) => {
                declared.insert(name.to_owned(), metric);
                Ok(())
            }
            Err(refused) => {
                self.refused.inc();
                Err(refused)
            }
        }
    }

    /// Adds to a counter; false if there is none of this name.
    pub fn add(&self, counter: &str, by: u64) -> bool {
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(GuestMetric::Counter(counter)) = declared.get(counter) else { return false };
        counter.inc_by(by);
        true
    }

    /// Adds to a histogram; false if there is none of this name.
    pub fn observe(&self, histogram: &str, value: f64) -> bool {
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(GuestMetric::Histogram(histogram)) = declared.get(histogram) else { return false };
        histogram.observe(value);
        true
    }
}

/// Families of plugins, by name: two plugins may declare one name, with labels apart.
#[derive(Debug, Default)]
struct GuestFamilies(Mutex<HashMap<String, GuestFamily>>);

#[derive(Debug)]
struct GuestFamily {
    kind: GuestMetricKind,
    help: String,
    series: Vec<(Labels, GuestMetric)>,
}

impl GuestFamilies {
    fn get(&self, name: &str, kind: GuestMetricKind, help: &str, labels: &Labels) -> Option<GuestMetric> {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new =
            || GuestFamily { kind, help: super::text::escaped(help, HELP_BYTES_MAX).into_owned(), series: Vec::new() };
        // Apart from the gateway's own families of plugins; counters get `_total` from the encoder.
        let name = if kind == GuestMetricKind::Counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
        let family = families.entry(format!("plugin_own_{name}")).or_insert_with(new);
        if family.kind != kind {
            return None;
        }
        if let Some((_, metric)) = family.series.iter().find(|(of, _)| of == labels) {
            return Some(metric.clone());
        }
        let metric = match kind {
            GuestMetricKind::Counter => GuestMetric::Counter(Counter::default()),
            GuestMetricKind::Histogram => GuestMetric::Histogram(Histogram::new(&GUEST)),
        };
        family.series.push((labels.clone(), metric.clone()));
        Some(metric)
    }
}

impl Collector for GuestFamilies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::EncodeMetric as _;
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in families.iter() {
            let kind = match family.kind {
                GuestMetricKind::Counter => MetricType::Counter,
                GuestMetricKind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(name, &family.help, None, kind)?;
            for (labels, series) in &family.series {
                let encoder = metric.encode_family(labels)?;
                match series {
                    GuestMetric::Counter(counter) => counter.encode(encoder)?,
                    GuestMetric::Histogram(histogram) => histogram.encode(encoder)?,
                }
            }
        }
        Ok(())
    }
}

/// How a value that is read for the page behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

type Read = Box<dyn Fn() -> f64 + Send + Sync>;

#[derive(Default)]
struct Readers(Mutex<Vec<Reader>>);

struct Reader {
    name: &'static str,
    help: &'static str,
    kind: ReaderKind,
    values: Vec<(Labels, Read)>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readers")
    }
}

impl Collector for Readers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::NoLabelSet;
        let readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for reader in readers.iter() {
            let kind = match reader.kind {
                ReaderKind::Counter => MetricType::Counter,
                ReaderKind::Gauge => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(reader.name, reader.help, None, kind)?;
            for (labels, read) in &reader.values {
                let mut series = metric.encode_family(labels)?;
                match reader.kind {
                    ReaderKind::Counter => series.encode_counter::<NoLabelSet, _, f64>(&read(), None)?,
                    ReaderKind::Gauge => series.encode_gauge(&read())?,
                }
            }
        }
        Ok(())
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
const GUEST: [f64; 10] = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
const GUEST_METRICS_MAX: usize = 64;
const HELP_BYTES_MAX: usize = 256;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn guest(metrics: &Metrics, plugin: &str) -> Arc<GuestMetrics> {
        metrics.guest(&ApiId::parse("orders").unwrap(), &PluginName::parse(plugin).unwrap())
    }

    fn refused(metrics: &Metrics, plugin: &str) -> bool {
        let series = format!("stile_plugin_metrics_refused_total{{api=\"orders\",plugin=\"{plugin}\"}} 1\n");
        metrics.render().contains(&series)
    }

    #[test]
    fn a_name_keeps_the_kind_that_it_was_declared_with_first() {
        let metrics = Metrics::new();
        let (one, two) = (guest(&metrics, "one"), guest(&metrics, "two"));
        assert_eq!(one.declare("seen", GuestMetricKind::Counter, "Seen"), Ok(()));
        assert_eq!(one.declare("seen", GuestMetricKind::Counter, "Seen"), Ok(()));
        assert!(!refused(&metrics, "one") && !refused(&metrics, "two"));

        let other = two.declare("seen", GuestMetricKind::Histogram, "Seen");

        assert_eq!(other, Err(MetricRefused::OtherKind));
        assert!(refused(&metrics, "two") && !refused(&metrics, "one"));
        assert!(one.add("seen", 1) && !two.observe("seen", 1.0));
        assert_eq!(one.declare("seen", GuestMetricKind::Histogram, "Seen"), Err(MetricRefused::OtherKind));
        assert!(refused(&metrics, "one"));
    }

    #[test]
    fn a_plugin_has_so_many_metrics_and_no_more() {
        let metrics = Metrics::new();
        let one = guest(&metrics, "one");
        for n in 0..GUEST_METRICS_MAX {
            assert_eq!(one.declare(&format!("m{n}"), GuestMetricKind::Counter, ""), Ok(()));
        }
        assert_eq!(one.declare("more", GuestMetricKind::Counter, ""), Err(MetricRefused::TooMany));
        assert!(refused(&metrics, "one"));
    }
}
