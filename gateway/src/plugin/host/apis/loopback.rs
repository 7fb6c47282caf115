//! The core's side of calls to APIs: a guest hands them over, a task of the core has them answered.
//!
//! The state of an instance may move between threads, requests may not: so calls go by message. Who answers them knows APIs;
//! nothing here does.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{Cause, Refused};
use crate::plugin::verdict::{ApiRequest, Reply};

/// A core's way back in for all plugins. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Loopback(mpsc::Sender<ApiCall>);

/// The calls that wait for an answer.
#[derive(Debug)]
pub struct ApiCalls(mpsc::Receiver<ApiCall>);

/// One call of a guest to an API.
#[derive(Debug)]
pub struct ApiCall {
    /// What is called.
    pub asked: Asked,
    /// Who waits for the answer.
    pub waiting: Waiting,
}

/// What a guest calls.
#[derive(Debug)]
pub struct Asked {
    /// The request.
    pub request: ApiRequest,
    /// The request that the guest is called for.
    pub cause: Arc<Cause>,
    /// The most bytes of the answer: body, and names and values of header fields.
    pub answer_bytes_max: u64,
}

/// A guest that waits for its answer.
#[derive(Debug)]
pub struct Waiting {
    answer: oneshot::Sender<Answered>,
    /// Held until the call has ended on this side too.
    place: Option<OwnedSemaphorePermit>,
}

type Answered = Result<Reply, Unanswered>;
pub(super) type Answer = oneshot::Receiver<Answered>;

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The API is not there, or the path is another API's.
    NotFound,
    /// It comes from as many requests as may be.
    TooDeep,
    /// The answer is too long.
    TooLarge,
    /// The answer broke off.
    BrokenOff,
}

impl Loopback {
    /// Begins, with nobody who answers yet.
    pub fn new() -> (Self, ApiCalls) {
        let (calls, waiting) = mpsc::channel(WAITING_MAX);
        (Self(calls), ApiCalls(waiting))
    }

    /// Hands a call over.
    pub(super) fn send(&self, call: ApiCall) -> Result<(), Refused> {
        // As many may wait as all plugins of a busy core call in a moment; the channel closes with the core.
        self.0.try_send(call).map_err(|_| Refused::Busy)
    }
}

impl ApiCalls {
    /// The next call; `None` when there will be none.
    pub async fn next(&mut self) -> Option<ApiCall> {
        self.0.recv().await
    }
}

impl ApiCall {
    pub(super) fn new(request: ApiRequest, cause: Arc<Cause>, answer_bytes_max: u64) -> (Self, Answer) {
        let (answer, awaited) = oneshot::channel();
        let asked = Asked { request, cause, answer_bytes_max };
        (Self { asked, waiting: Waiting { answer, place: None } }, awaited)
    }

    pub(super) fn in_place(mut self, place: OwnedSemaphorePermit) -> Self {
        self.waiting.place = Some(place);
        self
    }
}

impl Waiting {
    /// Tells the answer.
    pub fn answer(self, answered: Result<Reply, Unanswered>) {
        // Nobody hears it where the call of the guest is over.
        let _ = self.answer.send(answered);
    }

    /// Waits until nobody waits for the answer.
    pub async fn given_up(&mut self) {
        self.answer.closed().await;
    }
}

/// Calls of a core on their way to their task.
const WAITING_MAX: usize = 1_024;
