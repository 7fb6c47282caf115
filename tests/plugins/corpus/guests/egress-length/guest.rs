//! Sends a body of another length than it says.

#![cfg(target_family = "wasm")]

use stile_sdk::prelude::*;

#[config]
struct Length {
    authority: String,
    length: usize,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Length {
    #[pre]
    fn attack(&self) -> Reply {
        Reply::new(200).body(by_hand::declared(&self.authority, self.length))
    }
}
