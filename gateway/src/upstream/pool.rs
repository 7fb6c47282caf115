//! Connections that wait for a request, per core and target.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::time::Instant;

use super::h1;
use super::target::{Key, KeyHasher, Target};

/// The connections of one core.
#[derive(Debug, Default)]
pub(super) struct Pool {
    slots: RefCell<HashMap<Key, Rc<Slot>, BuildHasherDefault<KeyHasher>>>,
    sweeping: Cell<bool>,
}

/// The connections of one target.
#[derive(Debug)]
pub(super) struct Slot {
    pool: Weak<Pool>,
    limits: Arc<super::limits::Limits>,
    /// The one that was used last is taken first, so the others can grow old and go.
    idle: RefCell<Vec<Box<h1::Connection>>>,
}

impl Pool {
    pub(super) fn slot(self: &Rc<Self>, target: &Target) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get(&target.key) {
            return Rc::clone(slot);
        }
        let slot =
            Rc::new(Slot { pool: Rc::downgrade(self), limits: Arc::clone(&target.limits), idle: RefCell::default() });
        slots.insert(target.key.clone(), Rc::clone(&slot));
        slot
    }

    /// Closes what has been idle for too long, and forgets targets without connections.
    fn sweep(&self, now: Instant) {
        self.slots.borrow_mut().retain(|_, slot| {
            slot.sweep(now);
            Rc::strong_count(slot) > 1 || !slot.is_empty()
        });
    }

    /// Sweeps now and then as long as there is something to sweep.
    fn keep_swept(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let pool = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.sweep(Instant::now());
                if pool.slots.borrow().is_empty() {
                    pool.sweeping.set(false);
                    return;
                }
            }
        });
    }
}

impl Slot {
    /// The connection that was used last, if it is still open.
    pub(super) fn take(&self) -> Option<Box<h1::Connection>> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            if connection.idle_since().elapsed() > self.limits.idle_connection_timeout {
                // All others are older still.
                self.idle.borrow_mut().clear();
                return None;
            }
            if connection.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request, where it is open and the limits allow.
    pub(super) fn park(&self, mut connection: Box<h1::Connection>) {
        if !connection.park() {
            return;
        }
        self.idle.borrow_mut().push(connection);
        if let Some(pool) = self.pool.upgrade() {
            pool.keep_swept();
        }
    }

    fn sweep(&self, now: Instant) {
        let oldest = now.checked_sub(self.limits.idle_connection_timeout);
        self.idle.borrow_mut().retain_mut(|connection| {
            oldest.is_none_or(|oldest| connection.idle_since() > oldest) && connection.is_ready()
        });
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }
}

const SWEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
