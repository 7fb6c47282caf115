//! Who is connected to the control port.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::AbortHandle;

/// The connections that are open, the oldest first. Where there is no room for another one, the oldest that waits for a
/// request is closed: whoever holds connections keeps nobody from asking whether the gateway is ready.
pub(super) struct Places {
    open: VecDeque<(AbortHandle, Answering)>,
    max: usize,
}

/// How many requests of one connection are being answered.
#[derive(Clone, Default)]
pub(super) struct Answering(Arc<AtomicUsize>);

/// A request that is being answered, until it is dropped.
pub(super) struct Request(Answering);

impl Places {
    /// Room for so many.
    pub(super) fn new(max: usize) -> Self {
        Self { open: VecDeque::new(), max: max.max(1) }
    }

    /// Makes room for one more; how many were closed for that. Nothing where all that are open are being answered.
    pub(super) fn make_room(&mut self) -> Option<u64> {
        self.open.retain(|(task, _)| !task.is_finished());
        if self.open.len() < self.max {
            return Some(0);
        }
        let idle = self.open.iter().position(|(_, answering)| answering.0.load(Ordering::Relaxed) == 0)?;
        let (task, _) = self.open.remove(idle)?;
        task.abort();
        Some(1)
    }

    /// Enters a connection.
    pub(super) fn enter(&mut self, task: AbortHandle, answering: Answering) {
        self.open.push_back((task, answering));
    }
}

impl Answering {
    pub(super) fn begin(&self) -> Request {
        self.0.fetch_add(1, Ordering::Relaxed);
        Request(self.clone())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
