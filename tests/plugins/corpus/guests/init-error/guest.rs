//! Says that it cannot be made, in words meant for a terminal.

use stile_sdk::prelude::*;

#[config]
struct Config {}

struct Init;

#[plugin]
impl Init {
    fn new(_: Config) -> Result<Self, String> {
        Err("no \u{1b}[31mpeace\r\nplugins.other: fine".to_owned())
    }

    #[pre]
    fn attack(&self) {}
}
