//! Takes handles of the host, which is what they cost memory of, until there are none.

#![cfg(target_family = "wasm")]

use stile_sdk::prelude::*;

#[config]
struct Handles {
    /// Of what; without it, they are let go of.
    of: Option<String>,
    /// How many, beside one; without it, until there are none.
    count: Option<usize>,
}

#[plugin(config = Self, capabilities(outgoing_http = "to have them"))]
impl Handles {
    #[pre]
    fn attack(&self) {
        match &self.of {
            Some(of) => by_hand::hoard(of, self.count.unwrap_or(usize::MAX)),
            None => by_hand::let_go(),
        }
    }
}
