//! Calls the host while the host is in the middle of handing something over: from the allocator that the host asks for room.

#![allow(unsafe_code, reason = "a stranger's plugin may do this, so ours for tests has to")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use stile_sdk::prelude::*;

#[config]
struct Config {}

struct Treacherous;

static IS_ARMED: AtomicBool = AtomicBool::new(false);

#[global_allocator]
static ALLOCATOR: Treacherous = Treacherous;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Treacherous {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_ARMED.load(Ordering::Relaxed) {
            black_box(Instant::now());
        }
        // SAFETY: as asked.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as asked.
        unsafe { System.dealloc(memory, layout) }
    }
}

struct Armed;

#[plugin]
impl Armed {
    fn new(_: Config) -> Self {
        IS_ARMED.store(true, Ordering::Relaxed);
        Self
    }

    #[pre]
    fn attack(&self, request: &mut Request) {
        black_box(request.path());
    }
}
