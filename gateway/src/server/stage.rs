//! How far a worker is on its way to the end, and how its tasks hear of it.
//!
//! Tasks of one core: looking costs a load, and a task is woken only when the stage changes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How far a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Stage {
    /// It accepts and serves.
    #[default]
    Serving,
    /// It finishes what was begun.
    Draining,
    /// It ends now.
    Aborting,
}

/// The stage of one worker.
#[derive(Debug, Default)]
pub(super) struct Stages {
    now: Cell<Stage>,
    next_id: Cell<u64>,
    waiting: RefCell<HashMap<u64, Waker>>,
}

/// One task's view of the stage. Must be looked at by that task only: its waker is kept from the first look on.
#[derive(Debug)]
pub(super) struct StageView {
    stages: Rc<Stages>,
    id: Option<u64>,
}

impl Stages {
    pub(super) fn set(&self, stage: Stage) {
        self.now.set(stage);
        // Wakers stay: there may be another stage to come.
        self.waiting.borrow().values().for_each(Waker::wake_by_ref);
    }

    pub(super) fn view(self: &Rc<Self>) -> StageView {
        StageView { stages: self.clone(), id: None }
    }

    /// Waits until the worker is that far.
    pub(super) async fn reached(self: &Rc<Self>, stage: Stage) {
        let mut view = self.view();
        poll_fn(|cx| if view.look(cx) >= stage { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

impl StageView {
    pub(super) fn look(&mut self, cx: &Context<'_>) -> Stage {
        if self.id.is_none() {
            let id = self.stages.next_id.get();
            self.stages.next_id.set(id + 1);
            self.stages.waiting.borrow_mut().insert(id, cx.waker().clone());
            self.id = Some(id);
        }
        self.stages.now.get()
    }
}

impl Drop for StageView {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.stages.waiting.borrow_mut().remove(&id);
        }
    }
}
