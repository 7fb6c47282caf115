//! Timers that cost next to nothing while nothing is late.

use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::error::UpstreamError;
use super::upload::Upload;

/// A deadline that moves often and is reached rarely.
///
/// The runtime's timer is made at the first wait and then moved only when it fires: a later deadline lets it fire
/// early, notice that, and sleep on. So a connection touches the timer wheel about once per timeout, not per request.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Ready once `at` has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}

/// The wait for the head of an answer. It counts from the request's last byte, and while the upstream takes none.
#[derive(Debug)]
pub(super) struct ReplyWait {
    since: Instant,
    timeout: Duration,
}

impl ReplyWait {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { since: Instant::now(), timeout }
    }

    /// Ready once the upstream is late.
    pub(super) fn poll(
        &mut self,
        deadline: &mut Deadline,
        upload: Option<&Rc<Upload>>,
        cx: &mut Context<'_>,
    ) -> Poll<UpstreamError> {
        loop {
            ready!(deadline.poll(cx, self.since + self.timeout));
            let owed_since = upload.map_or(Some(self.since), |upload| upload.upstream_owes_since());
            let owed_since = owed_since.unwrap_or_else(Instant::now);
            if owed_since <= self.since {
                return Poll::Ready(UpstreamError::ReplyTimeout);
            }
            self.since = owed_since;
        }
    }
}
