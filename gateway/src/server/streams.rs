//! The tasks of HTTP/2's streams, and the time that an answer has to leave.
//!
//! While a caller takes nothing, hyper asks the answer's body for nothing either, so no body can end the wait. The task
//! can: dropped, it resets its stream.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Shared;

/// Runs HTTP/2's streams on their own core.
#[derive(Clone)]
pub(super) struct Streams {
    answered: Answered,
    shared: Arc<Shared>,
    worker: usize,
}

/// By when the answer that a stream's task has just begun must have left. Written while a stream's task runs and taken
/// right after, so one place serves all streams of a core.
#[derive(Debug, Clone, Default)]
pub(super) struct Answered(Rc<Cell<Option<Instant>>>);

impl Answered {
    pub(super) fn leave_by(&self, time: Instant) {
        self.0.set(Some(time));
    }
}

impl Streams {
    pub(super) fn new(answered: Answered, shared: Arc<Shared>, worker: usize) -> Self {
        Self { answered, shared, worker }
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streams")
    }
}

impl<T: Future<Output = ()> + 'static> Executor<T> for Streams {
    fn execute(&self, stream: T) {
        tokio::task::spawn_local(Timed { stream, streams: self.clone(), leave_by: None, timer: None });
    }
}

pin_project! {
    /// A stream's task, which ends when its answer is late.
    struct Timed<T> {
        #[pin]
        stream: T,
        streams: Streams,
        leave_by: Option<Instant>,
        // Made when an answer first waits: most never do.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<T: Future<Output = ()>> Future for Timed<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let polled = this.stream.poll(cx);
        if let Some(leave_by) = this.streams.answered.0.take() {
            *this.leave_by = Some(leave_by);
        }
        let Some(leave_by) = this.leave_by.filter(|_| polled.is_pending()) else { return polled };
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(leave_by)));
        ready!(timer.as_mut().poll(cx));
        this.streams.shared.counters.worker(this.streams.worker).late_answers.add_one();
        Poll::Ready(())
    }
}
