//! Handles that are taken once: of an API, and of a plugin at one of its hooks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::{Families, Labels, with};
use crate::model::plugin::FailureKind;
use crate::telemetry::histogram::Histogram;

/// Handles of one API.
pub struct ApiMetrics {
    pub(super) requests: Mutex<HashMap<u16, Counter>>,
    pub(super) ok: Counter,
    pub(super) in_flight: Gauge,
    pub(super) aborted: Counter,
    pub(super) seconds: Histogram,
    pub(super) request_body_bytes: Counter,
    pub(super) response_body_bytes: Counter,
    pub(super) upstream_seconds: Histogram,
    pub(super) families: Arc<Families>,
    pub(super) labels: Labels,
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

    /// Changes of a session could not be written back.
    pub fn session_not_written_back(&self) {
        self.families.sessions_not_written.get_or_create_owned(&self.labels).inc();
    }

    /// A recorded body was longer than `analytics.body_bytes_max`.
    pub fn body_cut(&self) {
        self.families.bodies_cut.get_or_create_owned(&self.labels).inc();
    }

    /// Records found no place in their queue.
    pub fn records_dropped(&self, records: u64) {
        self.families.records_dropped.get_or_create_owned(&with(&self.labels, "reason", "queue")).inc_by(records);
    }
}

/// The handle of one version of an API.
#[derive(Debug)]
pub struct VersionMetrics {
    pub(super) requests: Counter,
}

impl VersionMetrics {
    /// A request has this version.
    pub fn asked(&self) {
        self.requests.inc();
    }
}

/// Handles of one plugin of one API that may have sessions by their tokens.
pub struct SessionCallMetrics {
    pub(super) families: Arc<Families>,
    pub(super) labels: Labels,
}

impl SessionCallMetrics {
    /// One was asked for (`get`) or changed (`update`), and this came of it.
    pub fn called(&self, call: &'static str, outcome: &'static str) {
        let labels = with(&with(&self.labels, "call", call), "outcome", outcome);
        self.families.session_calls.get_or_create_owned(&labels).inc();
    }
}

impl std::fmt::Debug for SessionCallMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionCallMetrics")
    }
}

/// Handles of one plugin, about its quarantine.
#[derive(Debug)]
pub struct QuarantineMetrics {
    pub(super) versions: Gauge,
    pub(super) entered: Counter,
}

impl QuarantineMetrics {
    /// A version of the plugin is in quarantine from now on.
    pub fn entered(&self) {
        self.versions.inc();
        self.entered.inc();
    }

    /// It is not any more, or is gone.
    pub fn left(&self) {
        self.versions.dec();
    }
}

/// Handles of one plugin at one hook of one API.
pub struct HookMetrics {
    pub(super) calls: Counter,
    pub(super) failures: [(FailureKind, Counter); 9],
    pub(super) continued: Counter,
    pub(super) quarantined: Counter,
    pub(super) responded: Counter,
    pub(super) rejected: Counter,
    pub(super) seconds: Histogram,
    pub(super) wait_seconds: Histogram,
    pub(super) fuel: Histogram,
    pub(super) log_lines_dropped: Counter,
    pub(super) records_dropped: Counter,
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

    /// A call was not made: the plugin is in quarantine.
    pub fn quarantined(&self) {
        self.quarantined.inc();
    }

    /// The request went on without the plugin.
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

/// What became of the calls that a plugin of an API makes to APIs.
#[derive(Clone)]
pub struct ApiCallMetrics {
    pub(super) families: Arc<Families>,
    pub(super) labels: Labels,
}

impl ApiCallMetrics {
    /// A call ended, or was refused.
    pub fn ended(&self, outcome: &'static str, time: Duration) {
        self.families.api_calls.get_or_create_owned(&with(&self.labels, "outcome", outcome)).inc();
        self.families.api_call_seconds.get_or_create_owned(&self.labels).observe(time.as_secs_f64());
    }
}

impl std::fmt::Debug for ApiCallMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiCallMetrics")
    }
}

/// What became of the requests that a plugin of an API sends.
#[derive(Clone)]
pub struct OutgoingMetrics {
    pub(super) families: Arc<Families>,
    pub(super) labels: Labels,
}

impl OutgoingMetrics {
    /// A request ended, or was refused.
    pub fn ended(&self, outcome: &'static str, time: Duration) {
        self.families.outgoing.get_or_create_owned(&with(&self.labels, "outcome", outcome)).inc();
        self.families.outgoing_seconds.get_or_create_owned(&self.labels).observe(time.as_secs_f64());
    }
}

impl std::fmt::Debug for OutgoingMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OutgoingMetrics")
    }
}
