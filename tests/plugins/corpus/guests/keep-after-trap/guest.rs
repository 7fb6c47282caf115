//! Dies in the middle of a change, and looks at what is left of it at the next call.

use std::sync::atomic::{AtomicBool, Ordering};

use stile_sdk::prelude::*;

static IS_HALF_DONE: AtomicBool = AtomicBool::new(false);

struct Half;

#[plugin]
impl Half {
    #[pre(headers = ["authorization"])]
    fn attack(request: &mut Request) -> Reply {
        if request.headers.get("authorization") == Some(b"killer") {
            IS_HALF_DONE.store(true, Ordering::Relaxed);
            std::process::abort();
        }
        Reply::new(200).body(if IS_HALF_DONE.load(Ordering::Relaxed) { "half done" } else { "whole" })
    }
}
