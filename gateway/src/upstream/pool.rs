//! Connections that wait for a request, per core and target.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::limits::Limits;
use super::target::{Key, KeyHasher, Speaks, Target};
use super::{h1, h2};

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
    limits: Arc<Limits>,
    /// What the last connection turned out to speak.
    pub(super) speaks: Cell<Speaks>,
    /// One at a time opens a connection that others could use too.
    pub(super) gate: Semaphore,
    /// The one that was used last is taken first, so the others can grow old and go.
    #[expect(clippy::vec_box, reason = "a connection is large and moves with every request")]
    idle: RefCell<Vec<Box<h1::Connection>>>,
    shared: RefCell<Vec<Rc<h2::Connection>>>,
}

/// A connection, or a part of one, for one request.
#[derive(Debug)]
pub(super) enum Lease {
    H1(Box<h1::Connection>),
    H2(h2::Ticket),
}

/// As many connections as the target may have are in use.
#[derive(Debug)]
pub(super) struct Busy;

impl Pool {
    pub(super) fn slot(self: &Rc<Self>, target: &Target) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get(&target.key) {
            return Rc::clone(slot);
        }
        let slot = Rc::new(Slot {
            pool: Rc::downgrade(self),
            limits: Arc::clone(&target.limits),
            speaks: Cell::new(target.speaks()),
            gate: Semaphore::new(1),
            idle: RefCell::default(),
            shared: RefCell::default(),
        });
        slots.insert(target.key.clone(), Rc::clone(&slot));
        drop(slots);
        // Plugins may name targets, and need not reach them: a slot that never gets a connection goes too.
        self.keep_swept();
        slot
    }

    /// Closes what has been idle for too long, and forgets targets without connections.
    fn sweep(&self, now: Instant) {
        self.slots.borrow_mut().retain(|_, slot| {
            slot.sweep(now);
            Rc::strong_count(slot) > 1 || !slot.is_empty()
        });
    }

    /// How many targets are known now, and how many are after a sweep that is sure to come.
    #[cfg(test)]
    pub(super) fn swept(&self) -> Option<(usize, usize)> {
        let known = self.slots.borrow().len();
        self.sweeping.get().then(|| {
            self.sweep(Instant::now());
            (known, self.slots.borrow().len())
        })
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
    /// An open connection that has room for a request.
    pub(super) fn take(&self) -> Result<Option<Lease>, Busy> {
        if self.speaks.get() != Speaks::H1
            && let Some(connection) = self.shared.borrow().iter().rfind(|c| c.is_open() && c.has_room())
        {
            return connection.ticket().map(|ticket| Some(Lease::H2(ticket))).ok_or(Busy);
        }
        let Some(mut connection) = self.take_idle() else { return Ok(None) };
        if connection.activate() {
            return Ok(Some(Lease::H1(connection)));
        }
        self.idle.borrow_mut().push(connection);
        Err(Busy)
    }

    fn take_idle(&self) -> Option<Box<h1::Connection>> {
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

    /// Lets requests to come share a connection.
    pub(super) fn share(&self, connection: Rc<h2::Connection>) {
        self.shared.borrow_mut().push(connection);
        self.keep_swept();
    }

    /// Sends no further request over a connection.
    pub(super) fn forget(&self, connection: &Rc<h2::Connection>) {
        self.shared.borrow_mut().retain(|shared| !Rc::ptr_eq(shared, connection));
    }

    /// Keeps a connection for the next request, where it is open and the limits allow.
    pub(super) fn park(&self, mut connection: Box<h1::Connection>) {
        if !connection.park() {
            return;
        }
        self.idle.borrow_mut().push(connection);
        self.keep_swept();
    }

    fn keep_swept(&self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.keep_swept();
        }
    }

    fn sweep(&self, now: Instant) {
        let timeout = self.limits.idle_connection_timeout;
        let is_young = |since: Instant| now.saturating_duration_since(since) <= timeout;
        self.idle.borrow_mut().retain_mut(|connection| is_young(connection.idle_since()) && connection.is_ready());
        self.shared.borrow_mut().retain(|c| c.is_open() && c.idle_since().is_none_or(is_young));
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.shared.borrow().is_empty()
    }
}

const SWEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
