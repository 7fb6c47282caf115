//! Takes the memory of large instances back, on a thread of its own.
//!
//! The kernel takes milliseconds to clear away the pages of a guest that filled its memory, all in one piece: on a thread that
//! serves requests, all others would wait.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use super::host::Host;

/// A store in its slot.
pub struct Room {
    // `None` only while it is dropped.
    taken: Option<Taken>,
    reclaim: Reclaim,
}

/// The way to the thread that takes memory back. Cheap to clone; the thread ends with the last one.
#[derive(Clone)]
pub struct Reclaim(SyncSender<Taken>);

/// In this order: a slot is free when its memory is clear.
struct Taken {
    store: Store<Host>,
    _slot: OwnedSemaphorePermit,
}

impl Reclaim {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Self> {
        let (sender, large) = sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("stile-reclaim".to_owned()).spawn(move || take(&large))?;
        Ok(Self(sender))
    }

    /// Puts a store in its slot.
    pub fn room(&self, store: Store<Host>, slot: OwnedSemaphorePermit) -> Room {
        Room { taken: Some(Taken { store, _slot: slot }), reclaim: self.clone() }
    }
}

impl Room {
    /// The store.
    pub fn store(&mut self) -> Option<&mut Store<Host>> {
        self.taken.as_mut().map(|taken| &mut taken.store)
    }

    /// Bytes of linear memory in it.
    pub fn memory_bytes(&self) -> u64 {
        self.taken.as_ref().map_or(0, Taken::memory_bytes)
    }
}

impl Taken {
    fn memory_bytes(&self) -> u64 {
        self.store.data().limiter().memory_bytes()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else { return };
        if taken.memory_bytes() > LARGE_BYTES {
            // Where too many wait, whoever makes them does the work: memory is not to run out behind a queue.
            drop(self.reclaim.0.try_send(taken));
        }
    }
}

fn take(large: &Receiver<Taken>) {
    while let Ok(taken) = large.recv() {
        drop(taken);
    }
}

/// Below, handing it over costs more than it saves.
const LARGE_BYTES: u64 = 4 << 20;
const WAITING_MAX: usize = 4;
