//! From the end of a request to the sink: the record is made, masked by the API's analytics plugins, and handed on.
//!
//! Off the request's path: a queue for each worker, and one task that empties it. What finds no place is dropped and
//! counted; a record whose plugin failed is never stored.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::USER_AGENT;
use tokio::sync::mpsc;

use super::exchange::Exchange;
use super::plan::Plan;
use crate::analytics::Sink;
use crate::model::record::{Record, RecordedMessage};
use crate::plugin::failure::Fault;
use crate::plugin::pool::Worker;
use crate::plugin::verdict::RecordVerdict;
use crate::telemetry::metrics::ApiMetrics;

/// What is kept of a request for its record.
#[derive(Debug)]
pub struct Recording {
    detailed: Option<Detail>,
    /// The request's body, as far as it is recorded.
    pub request_body: Capture,
}

#[derive(Debug)]
struct Detail {
    request_headers: Vec<(String, Vec<u8>)>,
    response_headers: Vec<(String, Vec<u8>)>,
}

/// The beginning of a body. Clones add to the same one.
#[derive(Debug, Clone, Default)]
pub struct Capture(Rc<RefCell<Captured>>);

#[derive(Debug, Default)]
struct Captured {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_truncated: bool,
}

impl Recording {
    /// Begins a recording, where the API wants records.
    pub fn begin(plan: &Plan, headers: &HeaderMap) -> Option<Box<Self>> {
        let settings = &plan.api.analytics;
        if !settings.enabled {
            return None;
        }
        let detail = || Detail { request_headers: listed(headers), response_headers: Vec::new() };
        let bytes_max = if settings.detailed { settings.body_bytes_max } else { 0 };
        Some(Box::new(Self { detailed: settings.detailed.then(detail), request_body: Capture::new(bytes_max) }))
    }

    /// Takes the answer's headers; gives what its body is recorded in.
    pub fn response(&mut self, headers: &HeaderMap) -> Option<Capture> {
        let detail = self.detailed.as_mut()?;
        detail.response_headers = listed(headers);
        Some(Capture::new(self.request_body.bytes_max()))
    }

    /// The record of a request that has ended.
    pub fn finish(
        self,
        exchange: &Exchange,
        status: u16,
        time: Duration,
        bytes_out: u64,
        response_body: Option<Capture>,
    ) -> Record {
        let api = &exchange.plan.api;
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (total, upstream) = (milliseconds(time), milliseconds(exchange.upstream_time));
        let session = exchange.session();
        let endpoint = exchange.endpoint();
        let header =
            |name| exchange.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let (mut request, mut response) = (None, None);
        if let Some(detail) = self.detailed {
            let metrics = &exchange.plan.metrics;
            request = Some(self.request_body.message(detail.request_headers, metrics));
            response = response_body.map(|body| body.message(detail.response_headers, metrics));
        }
        Record {
            request_id: exchange.id.as_str().to_owned(),
            method: exchange.method.as_str().to_owned(),
            host: exchange.host.clone(),
            path: endpoint.map_or_else(|| exchange.path.clone(), |(_, template)| template.to_owned()),
            raw_path: exchange.path_sent().into_owned(),
            original_path: exchange.original_uri.path().to_owned(),
            listen_path: api.listen.path.as_str().to_owned(),
            query: exchange.query.clone().unwrap_or_default(),
            content_length: i64::try_from(exchange.bytes_in.get()).unwrap_or(-1),
            user_agent: header(USER_AGENT).unwrap_or_default(),
            response_code: status,
            api_key: session.map_or_else(
                || {
                    exchange
                        .credential
                        .as_deref()
                        .map(|key| String::from_utf8_lossy(key).into_owned())
                        .unwrap_or_default()
                },
                |session| session.key_id.clone(),
            ),
            timestamp_ms: exchange.time_ms,
            api_version: Some(exchange.version_name())
                .filter(|name| !name.is_empty())
                .unwrap_or(NOT_VERSIONED)
                .to_owned(),
            api_name: api.name.clone(),
            api_id: api.id.to_string(),
            organisation: api.organisation.clone(),
            oauth_id: session.map(|session| session.oauth_client_id.clone()).unwrap_or_default(),
            request_time_ms: total,
            latency_total_ms: total,
            latency_upstream_ms: upstream,
            latency_gateway_ms: total.saturating_sub(upstream),
            ip_address: Record::address(exchange.client),
            bytes_in: exchange.bytes_in.get(),
            bytes_out,
            tags: session.map(|session| session.tags.clone()).unwrap_or_default(),
            alias: session.map(|session| session.alias.clone()).unwrap_or_default(),
            track_path: endpoint.is_some(),
            request,
            response,
            ..Record::default()
        }
    }
}

/// What Tyk's records have where there is no version.
const NOT_VERSIONED: &str = "Non Versioned";

impl Capture {
    fn new(bytes_max: usize) -> Self {
        Self(Rc::new(RefCell::new(Captured { bytes_max, ..Captured::default() })))
    }

    /// Adds what there is room for.
    pub fn add(&self, data: &Bytes) {
        let mut captured = self.0.borrow_mut();
        let room = captured.bytes_max.saturating_sub(captured.bytes.len());
        captured.is_truncated |= data.len() > room;
        captured.bytes.extend(data.iter().take(room));
    }

    fn bytes_max(&self) -> usize {
        self.0.borrow().bytes_max
    }

    fn message(&self, headers: Vec<(String, Vec<u8>)>, metrics: &ApiMetrics) -> RecordedMessage {
        let captured = self.0.take();
        if captured.is_truncated {
            metrics.body_cut();
        }
        RecordedMessage { headers, body: Some(captured.bytes), truncated: captured.is_truncated }
    }
}

fn listed(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Where a worker's records wait to be masked.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<(Arc<Plan>, Record)>);

impl Recorder {
    /// A queue of so many records, and the task that empties it; the task ends when every recorder is gone.
    pub fn new(sink: Sink, worker: Worker, queue_max: usize, batch_max: usize) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(queue_max.max(1));
        (Self(sender), empty(receiver, sink, worker, batch_max.max(1)))
    }

    /// Hands a record over, if there is room.
    pub fn send(&self, plan: &Arc<Plan>, record: Record) {
        if self.0.try_send((plan.clone(), record)).is_err() {
            plan.metrics.records_dropped(1);
        }
    }
}

async fn empty(mut queue: mpsc::Receiver<(Arc<Plan>, Record)>, sink: Sink, worker: Worker, batch_max: usize) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, batch_max).await > 0 {
        // A batch is of one API: neighbours in the queue that belong together go together.
        while let Some((plan, _)) = waiting.first() {
            let plan = plan.clone();
            let of_plan = waiting.iter().position(|(other, _)| !Arc::ptr_eq(other, &plan)).unwrap_or(waiting.len());
            let records: Vec<Record> = waiting.drain(..of_plan).map(|(_, record)| record).collect();
            let records = mask(&plan, records, &worker).await;
            if !records.is_empty() {
                sink.send(records);
            }
        }
    }
}

/// Runs the API's analytics plugins over some records, each on what the one before left.
async fn mask(plan: &Plan, mut records: Vec<Record>, worker: &Worker) -> Vec<Record> {
    for step in &plan.analytics {
        if records.is_empty() {
            break;
        }
        let outcome = step.function.analytics(worker, &records).await;
        let before = records.len();
        let is_made = !matches!(&outcome.verdict, Err(error) if error.fault == Fault::Quarantine);
        if is_made {
            step.metrics.call_ended(outcome.usage.time, outcome.usage.waited, outcome.usage.fuel);
            step.metrics.log_lines_dropped(outcome.usage.log_lines_dropped);
        }
        match outcome.verdict {
            Ok(verdicts) => {
                let decided = records.into_iter().zip(verdicts);
                records = decided.filter_map(|(record, verdict)| settle(record, verdict)).collect();
            }
            // Unmasked they are not stored; that the plugin is in quarantine was told once.
            Err(_) if !is_made => {
                step.metrics.quarantined();
                records = Vec::new();
            }
            Err(error) => {
                step.metrics.failed(error.kind);
                tracing::warn!(
                    api = %plan.api.id, plugin = %step.function.generation.spec.name, kind = error.kind.as_str(),
                    reason = %error.reason, records = before, "records dropped: analytics plugin failed"
                );
                records = Vec::new();
            }
        }
        step.metrics.records_dropped(u64::try_from(before - records.len()).unwrap_or(0));
    }
    records
}

fn settle(mut record: Record, verdict: RecordVerdict) -> Option<Record> {
    match verdict {
        RecordVerdict::Keep => Some(record),
        RecordVerdict::Drop => None,
        RecordVerdict::Edit(edits) => {
            edits.into_iter().for_each(|edit| record.apply(edit));
            Some(record)
        }
    }
}
