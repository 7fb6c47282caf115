//! Has more requests on their way at one time than it may.

#![cfg(target_family = "wasm")]

use stile_sdk::prelude::*;

#[config]
struct Connections {
    authority: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Connections {
    #[pre]
    fn attack(&self) -> Reply {
        let pending: Vec<_> = (0..3).map(|_| by_hand::begin(&self.authority, "/slow")).collect();
        let ended = pending.iter().map(by_hand::Pending::end).filter(|ended| ended == "200").count();
        Reply::new(200).body(ended.to_string())
    }
}
