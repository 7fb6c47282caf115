//! Fills the store with keys, and tells how many it took.

use stile_sdk::prelude::*;

struct Flood;

#[plugin(capabilities(kv = "to fill it"))]
impl Flood {
    #[pre]
    fn attack() -> Reply {
        let taken = (0..200).filter(|number| kv::set(&format!("key-{number}"), &[0; 1_000], None).is_ok()).count();
        Reply::new(200).body(taken.to_string())
    }
}
