//! When a connection has had its time: a head that does not come, idleness, an answer nobody reads, age, the drain.
//!
//! hyper's own header timeout makes a timer for each request. This is one lazy timer for each connection: it is moved
//! only when a deadline comes closer, and looks at what really happened when it fires.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::Shared;
use super::socket::{Activity, Doing};
use super::stage::{Stage, StageView};
use super::worker::{LINGER, Worker};

/// The watch over one connection.
pub(super) struct Watch {
    activity: Arc<Activity>,
    shared: Arc<Shared>,
    worker: usize,
    stage: StageView,
    /// What the connection did at the last look, and since when.
    doing: Doing,
    progress: u64,
    since: Instant,
    /// When an HTTP/2 connection is asked to end.
    old_at: Option<Instant>,
    /// Set once the connection was asked to end.
    finishing: Option<Finishing>,
    timer: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy)]
struct Finishing {
    asked_at: Instant,
    was_idle: bool,
}

/// What is to be done with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ask it to end when its requests are answered.
    Finish,
    /// Drop it.
    Close,
}

impl Watch {
    pub(super) fn new<F>(worker: &Worker<F>, activity: Arc<Activity>, opened: Instant, jitter: u32) -> Self {
        let limits = worker.limits();
        // Connections opened together, after a restart say, should not all come back together.
        let age = limits.http2_connection_age_max.mul_f64(1.0 - f64::from(jitter % 1000) / 10_000.0);
        Self {
            shared: worker.shared.clone(),
            worker: worker.index,
            stage: worker.stages.view(),
            doing: Doing::Head,
            progress: 0,
            since: opened,
            old_at: activity.is_http2().then_some(opened + age),
            finishing: None,
            timer: Box::pin(sleep_until(opened + limits.header_timeout)),
            activity,
        }
    }

    /// To be asked before the connection's turn: whether a drain began while it works. Told so before it answers, hyper
    /// can say `connection: close`. An idle one gets its turn first, since its next request may have arrived already.
    pub(super) fn drain_begins_at_work(&mut self, cx: &Context<'_>) -> bool {
        let begins = self.finishing.is_none() && self.stage.look(cx) == Stage::Draining && self.activity.is_answering();
        if begins {
            self.finish();
        }
        begins
    }

    /// To be asked whenever the connection has nothing to do.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        match self.stage.look(cx) {
            Stage::Serving => {}
            Stage::Draining if self.finishing.is_some() => {}
            // hyper would close an idle connection at once, and with it the end of an answer that still waits to leave.
            Stage::Draining if self.activity.doing() == Doing::Write => {}
            Stage::Draining => {
                self.finish();
                return Poll::Ready(Verdict::Finish);
            }
            Stage::Aborting => {
                self.shared.counters.worker(self.worker).aborted.add_one();
                return Poll::Ready(Verdict::Close);
            }
        }
        self.notice();
        loop {
            if let Some(deadline) = self.deadline().filter(|d| *d < self.timer.deadline()) {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if let Some(verdict) = self.judge(now) {
                return Poll::Ready(verdict);
            }
            let next = self.deadline().unwrap_or(now + self.idle_timeout());
            self.timer.as_mut().reset(next);
        }
    }

    /// Whether it was asked to end while it had nothing to do.
    pub(super) fn ended_idle(&self) -> bool {
        self.finishing.is_some_and(|f| f.was_idle)
    }

    fn notice(&mut self) {
        let doing = self.activity.doing();
        let progress = self.activity.progress(doing);
        if (doing, progress) == (self.doing, self.progress) {
            return;
        }
        // A request in work needs no time of its own: the clock is read once per request, at its end.
        if doing != Doing::Work {
            self.since = Instant::now();
        }
        (self.doing, self.progress) = (doing, progress);
    }

    /// The next time at which something may be due; `None` while it works.
    fn deadline(&self) -> Option<Instant> {
        let limits = &self.shared.limits;
        let own = match self.doing {
            Doing::Head => Some(self.since + limits.header_timeout),
            Doing::Idle => Some(self.idle_until()),
            Doing::Write => Some(self.since + limits.idle_timeout),
            Doing::Work => None,
        };
        let old = self.old_at.filter(|_| self.finishing.is_none());
        own.into_iter().chain(old).min()
    }

    /// A connection that was asked to end gets a moment to do so: an HTTP/2 caller may never answer.
    fn idle_until(&self) -> Instant {
        match self.finishing {
            None => self.since + self.idle_timeout(),
            Some(finishing) => finishing.asked_at.max(self.since) + LINGER,
        }
    }

    fn judge(&mut self, now: Instant) -> Option<Verdict> {
        let shared = self.shared.clone();
        let counters = shared.counters.worker(self.worker);
        if self.finishing.is_none() && self.old_at.is_some_and(|old| old <= now) {
            counters.aged.add_one();
            self.finish();
            return Some(Verdict::Finish);
        }
        match self.doing {
            Doing::Head if self.since + shared.limits.header_timeout <= now => {
                counters.header_timeouts.add_one();
                Some(Verdict::Close)
            }
            Doing::Idle if self.idle_until() <= now && self.finishing.is_some() => Some(Verdict::Close),
            Doing::Idle if self.idle_until() <= now => {
                counters.idle_timeouts.add_one();
                self.finish();
                Some(Verdict::Finish)
            }
            Doing::Write if self.since + shared.limits.idle_timeout <= now => {
                counters.write_timeouts.add_one();
                Some(Verdict::Close)
            }
            Doing::Head | Doing::Idle | Doing::Work | Doing::Write => None,
        }
    }

    fn finish(&mut self) {
        let was_idle = self.activity.doing() == Doing::Idle;
        self.finishing = Some(Finishing { asked_at: Instant::now(), was_idle });
    }

    fn idle_timeout(&self) -> Duration {
        self.shared.limits.idle_timeout
    }
}
