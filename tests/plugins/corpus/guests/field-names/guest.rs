//! Has functions of `wasi:http` carry bytes, over and over: names of four megabytes that no field has, if it is told so.

#![cfg(target_family = "wasm")]

use stile_sdk::prelude::*;

#[config]
struct Names {
    function: String,
    bytes: usize,
    times: usize,
}

#[plugin(config = Self, capabilities(outgoing_http = "to ask about them"))]
impl Names {
    #[pre]
    fn attack(&self) {
        by_hand::carry(&self.function, self.bytes, self.times);
    }
}
