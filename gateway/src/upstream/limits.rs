//! How many connections a target may have, over all cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::counters::UpstreamCounters;
use crate::model::api::Upstream;

/// The limits of one API's upstream and what is used of them.
///
/// A connection counts as active while it serves a request or is being opened; idle ones have a limit of their own.
/// Counting both together would let one core's idle connections keep another core from opening its first.
#[derive(Debug)]
pub(super) struct Limits {
    /// Tells targets of different APIs, and of different loads of one API, apart.
    pub(super) family: u64,
    pub(super) connections_max: usize,
    pub(super) idle_max: usize,
    pub(super) idle_connection_timeout: Duration,
    active: AtomicUsize,
    idle: AtomicUsize,
}

impl Limits {
    pub(super) fn new(upstream: &Upstream) -> Arc<Self> {
        static FAMILIES: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            family: FAMILIES.fetch_add(1, Relaxed),
            connections_max: upstream.connections_max,
            idle_max: upstream.idle_connections_max,
            idle_connection_timeout: upstream.idle_connection_timeout,
            active: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
        })
    }
}

/// The place of one connection among its limits. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    limits: Arc<Limits>,
    counters: Arc<UpstreamCounters>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Active,
    Idle,
}

impl Place {
    /// A place for a connection to be opened; `None` above the limit.
    pub(super) fn take(limits: &Arc<Limits>, counters: &Arc<UpstreamCounters>) -> Option<Self> {
        enter(&limits.active, limits.connections_max).then(|| Self {
            limits: Arc::clone(limits),
            counters: Arc::clone(counters),
            state: State::Active,
        })
    }

    /// From idle to active; `false` above the limit, and then it stays idle.
    pub(super) fn activate(&mut self) -> bool {
        let entered = self.state == State::Active || enter(&self.limits.active, self.limits.connections_max);
        if entered && self.state == State::Idle {
            self.leave();
            self.state = State::Active;
        }
        entered
    }

    /// From active to idle; `false` above the limit, and then it stays active.
    pub(super) fn park(&mut self) -> bool {
        let entered = self.state == State::Idle || enter(&self.limits.idle, self.limits.idle_max);
        if entered && self.state == State::Active {
            self.leave();
            self.state = State::Idle;
            self.counters.idle.fetch_add(1, Relaxed);
        }
        entered
    }

    fn leave(&self) {
        match self.state {
            State::Active => {
                self.limits.active.fetch_sub(1, Relaxed);
            }
            State::Idle => {
                self.limits.idle.fetch_sub(1, Relaxed);
                self.counters.idle.fetch_sub(1, Relaxed);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

fn enter(count: &AtomicUsize, max: usize) -> bool {
    let entered = count.fetch_add(1, Relaxed) < max;
    if !entered {
        count.fetch_sub(1, Relaxed);
    }
    entered
}
