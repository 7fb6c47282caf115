//! Lets itself be made once, for the gateway to see, and never again.

use stile_sdk::prelude::*;

#[config]
struct Config {}

struct Later;

#[plugin(capabilities(kv = "to count"))]
impl Later {
    fn new(_: Config) -> Result<Self, String> {
        if kv::increment("instances", 1, None) == Ok(1) { Ok(Self) } else { Err("once is enough".to_owned()) }
    }

    #[pre]
    fn attack(&self) {}
}
