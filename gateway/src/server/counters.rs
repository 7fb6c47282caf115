//! What the data port counts. Each worker has counters of its own, so that counting never moves a cache line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counters of all workers.
#[derive(Debug)]
pub struct ServerCounters {
    workers: Box<[WorkerCounters]>,
}

/// One number that several threads may read and change.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of one worker, on cache lines of their own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(super) struct WorkerCounters {
            $(pub(super) $name: Counter,)*
        }

        /// The sums over all workers.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl ServerCounters {
            /// The sums over all workers, each read on its own.
            pub fn totals(&self) -> Totals {
                let mut totals = Totals::default();
                for worker in &self.workers {
                    $(totals.$name += worker.$name.get();)*
                }
                totals
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections open now, tunnels of upgraded ones included. Goes down as well.
    open,
    /// Connections closed as soon as they were accepted, because there were `connections_max` of them.
    refused,
    /// Sockets that could not be accepted, mostly for want of file descriptors.
    accept_errors,
    /// Connections handed to a worker that had far fewer.
    handed_on,
    /// TLS handshakes that failed.
    handshake_failures,
    /// TLS handshakes that took too long.
    handshake_timeouts,
    /// Connections closed because a request's head did not come in time.
    header_timeouts,
    /// Connections closed because they were idle too long.
    idle_timeouts,
    /// Connections closed because the caller did not read its answer.
    write_timeouts,
    /// Answers over HTTP/2 that were given up, because the caller did not take them in time.
    late_answers,
    /// Connections read on after their last answer, because the caller was still sending.
    lingering,
    /// Of these, connections closed before the caller was done.
    lingering_cut,
    /// HTTP/2 connections asked to end because of their age.
    aged,
    /// Requests over HTTP/1.
    requests_http1,
    /// Requests over HTTP/2.
    requests_http2,
    /// Times that an HTTP/2 connection had as many streams as it may have.
    streams_full,
    /// Requests with a head that was too long, or had too many fields.
    heads_too_large,
    /// Requests and connections refused because they broke the protocol.
    protocol_errors,
    /// Requests whose handler panicked.
    panics,
    /// Connections cut off at the end of a drain.
    aborted,
}

impl ServerCounters {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| WorkerCounters::default()).collect() }
    }

    pub(super) fn worker(&self, index: usize) -> &WorkerCounters {
        static NOBODY: std::sync::LazyLock<WorkerCounters> = std::sync::LazyLock::new(WorkerCounters::default);
        self.workers.get(index).unwrap_or(&NOBODY)
    }

    /// The worker with the fewest connections, and how many it has.
    pub(super) fn least_loaded(&self) -> Option<(usize, u64)> {
        self.workers.iter().map(|w| w.open.get()).enumerate().min_by_key(|(_, open)| *open)
    }
}

impl Counter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Takes one off and says what is left.
    pub(super) fn take_one(&self) -> u64 {
        self.0.fetch_sub(1, Relaxed).saturating_sub(1)
    }

    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
