//! The core's side of outgoing requests: a guest hands them over, a task of the core sends them.
//!
//! The state of an instance may move between threads, connections may not: so requests go by message.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::timeout_at;
use wasmtime_wasi_http::{RequestOptions, WasiBody};

use super::PAUSE_MAX;
use super::body::{Answer, Upload};
use super::gate::{Gate, Refused, Telling, check_bytes};
use crate::message::body::{Body, BodyError};
use crate::plugin::host::secrets::Masks;
use crate::upstream::{Target, Upstreams};

/// A core's way out for all plugins. Cheap to clone; ends with its last clone, or with the core.
#[derive(Debug, Clone)]
pub struct Outlet(mpsc::Sender<Job>);

/// One request with all that its sending needs.
pub(super) struct Job {
    pub(super) gate: Arc<Gate>,
    pub(super) target: Arc<Target>,
    pub(super) request: Request<WasiBody>,
    /// The length that the guest declared.
    pub(super) length: Option<u64>,
    pub(super) masks: Masks,
    pub(super) times: Times,
    /// Closed when the call ends.
    pub(super) ended: watch::Receiver<()>,
    pub(super) reply: oneshot::Sender<Result<Response<WasiBody>, Refused>>,
    pub(super) telling: Telling,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// Until when a request may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    head_until: Instant,
    until: Instant,
    /// The longest pause within the answer.
    pause: Duration,
}

impl Times {
    /// What the guest asks for, within the limit. The end of the call ends it too.
    pub(super) fn new(options: Option<RequestOptions>, time_max: Duration) -> Self {
        let now = Instant::now();
        let until = now + time_max;
        let RequestOptions { connect_timeout, first_byte_timeout, between_bytes_timeout } = options.unwrap_or_default();
        let head = match (connect_timeout, first_byte_timeout) {
            (Some(connect), Some(first)) => connect.saturating_add(first),
            (None, Some(first)) => first,
            _ => PAUSE_MAX,
        };
        let pause = between_bytes_timeout.unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
        Self { head_until: until.min(now + head.min(PAUSE_MAX)), until, pause }
    }
}

impl Outlet {
    /// Begins on this core, over its connections.
    pub fn start(upstreams: Upstreams) -> Self {
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING_MAX);
        tokio::task::spawn_local(async move {
            while let Some(job) = waiting.recv().await {
                let upstreams = upstreams.clone();
                tokio::task::spawn_local(async move { job.run(&upstreams).await });
            }
        });
        Self(jobs)
    }

    /// Hands a request over, once its plugin has a place for it.
    pub(super) async fn send(&self, mut job: Job) -> Result<(), Refused> {
        let place = tokio::select! {
            biased;
            _ = job.ended.changed() => Err(Refused::Aborted),
            place = timeout_at(job.times.until.into(), job.gate.place()) => place.unwrap_or(Err(Refused::Time)),
        };
        match place {
            Ok(permit) => job.permit = Some(permit),
            Err(refused) => {
                job.telling.tell(refused);
                return Err(refused);
            }
        }
        // As many may wait as all plugins of a busy core send in a moment; the channel closes with the core.
        match self.0.try_send(job) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) => {
                job.telling.tell(Refused::Busy);
                Err(Refused::Busy)
            }
        }
    }
}

impl Job {
    async fn run(self, upstreams: &Upstreams) {
        let Self { gate, target, request, length, mut masks, times, mut ended, reply, telling, permit } = self;
        let exchanged = tokio::select! {
            biased;
            // Whatever is under way goes with its future: the connection closes.
            _ = ended.changed() => Err(Refused::Aborted),
            exchanged = exchange(upstreams, &gate, &target, (request, length), &mut masks, times, reply) => exchanged,
        };
        telling.tell_ended(exchanged);
        upstreams.settled(&target).await;
        drop(permit);
    }
}

async fn exchange(
    upstreams: &Upstreams,
    gate: &Gate,
    target: &Arc<Target>,
    (request, length): (Request<WasiBody>, Option<u64>),
    masks: &mut Masks,
    times: Times,
    mut reply: oneshot::Sender<Result<Response<WasiBody>, Refused>>,
) -> Result<(), Refused> {
    let limits = gate.limits();
    let sending = async {
        let request = with_body(request, length, limits.outgoing_request_bytes_max).await;
        upstreams.send(target, request).await.map_err(|error| {
            tracing::debug!(target: "stile::outgoing", host = %target.origin().host, %error, "no answer");
            Refused::from(&error)
        })
    };
    let sent = tokio::select! {
        biased;
        () = reply.closed() => return Err(Refused::Aborted),
        sent = timeout_at(times.head_until.into(), sending) => sent.unwrap_or(Err(Refused::Time)),
    };
    let checked = sent.and_then(|response| {
        // Nobody asked for another protocol.
        if response.status().is_informational() {
            return Err(Refused::Protocol);
        }
        check_bytes(response.headers(), limits)?;
        let is_longer = response.body().size_hint().lower() > limits.outgoing_response_bytes_max;
        if is_longer { Err(Refused::ResponseBytes) } else { Ok(response) }
    });
    let response = match checked {
        Ok(response) => response,
        Err(refused) => {
            // Nobody hears it where the call is over.
            let _ = reply.send(Err(refused));
            return Err(refused);
        }
    };
    let (mut parts, body) = response.into_parts();
    masks.hide_in(&mut parts.headers);
    let (frames, received) = mpsc::channel(1);
    let (end, told) = oneshot::channel();
    let answer = Answer::new(received, told).boxed_unsync();
    if reply.send(Ok(Response::from_parts(parts, answer))).is_err() {
        return Err(Refused::Aborted);
    }
    let read = read(body, &frames, masks, times, limits.outgoing_response_bytes_max).await;
    // The end is told before the frames end: an answer that was cut off must not look whole.
    let _ = end.send(read);
    read
}

/// Hands the answer's body over, frame by frame, no faster than the guest reads.
async fn read(
    mut body: Body,
    frames: &mpsc::Sender<http_body::Frame<bytes::Bytes>>,
    masks: &mut Masks,
    times: Times,
    bytes_max: u64,
) -> Result<(), Refused> {
    let mut left = bytes_max;
    loop {
        let until = times.until.min(Instant::now() + times.pause);
        let frame = tokio::select! {
            biased;
            () = frames.closed() => return Err(Refused::Aborted),
            frame = timeout_at(until.into(), body.frame()) => frame.map_err(|_| Refused::Time)?,
        };
        let frame = match frame {
            None => None,
            Some(Err(BodyError::Timeout)) => return Err(Refused::Time),
            Some(Err(_)) => return Err(Refused::Closed),
            Some(Ok(frame)) => Some(frame),
        };
        if let Some(data) = frame.as_ref().and_then(http_body::Frame::data_ref) {
            let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
            left = left.checked_sub(bytes).ok_or(Refused::ResponseBytes)?;
        }
        let is_last = frame.is_none();
        for frame in masks.pass(frame) {
            match timeout_at(times.until.into(), frames.send(frame)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Refused::Aborted),
                Err(_) => return Err(Refused::Time),
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// The request as connections take it. Libraries open a body for methods that have none, and write nothing: such a body
/// is waited for, as it would be sent as an empty one in chunks otherwise.
async fn with_body(request: Request<WasiBody>, length: Option<u64>, bytes_max: u64) -> Request<Body> {
    let (parts, mut body) = request.into_parts();
    let is_bare = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE);
    let first = match length {
        None if is_bare && !body.is_end_stream() => match body.frame().await {
            None => return Request::from_parts(parts, Body::Empty),
            first => first,
        },
        _ => None,
    };
    if body.is_end_stream() && first.is_none() && length.unwrap_or(0) == 0 {
        return Request::from_parts(parts, Body::Empty);
    }
    Request::from_parts(parts, Body::wrap(Upload::new(first, body, length, bytes_max)))
}

/// Requests of a core on their way to its task.
const WAITING_MAX: usize = 1_024;
