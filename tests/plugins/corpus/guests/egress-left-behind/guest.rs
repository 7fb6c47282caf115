//! Answers its caller and leaves a request on its way.

#![cfg(target_family = "wasm")]

use stile_sdk::prelude::*;

#[config]
struct Left {
    authority: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Left {
    #[pre]
    fn attack(&self) -> Reply {
        let left = by_hand::begin(&self.authority, "/slow");
        let told = by_hand::begin(&self.authority, "/").end();
        std::mem::forget(left);
        Reply::new(200).body(told)
    }
}
