//! Gives up before it is called.

use stile_sdk::prelude::*;

#[config]
struct Config {}

struct Init;

#[plugin]
impl Init {
    fn new(_: Config) -> Self {
        panic!("in init")
    }

    #[pre]
    fn attack(&self) {}
}
