//! Takes handles of the host, which is what they cost memory of, until there are none.

#![cfg(target_family = "wasm")]

use stile_sdk::prelude::*;

struct Handles;

#[plugin(capabilities(outgoing_http = "to have them"))]
impl Handles {
    #[pre]
    fn attack() {
        by_hand::hoard()
    }
}
