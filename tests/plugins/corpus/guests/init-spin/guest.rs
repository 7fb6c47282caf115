//! Computes for ever before it is called.

use stile_sdk::prelude::*;

#[config]
struct Config {}

struct Init;

#[plugin]
impl Init {
    fn new(_: Config) -> Self {
        loop {
            std::hint::black_box(());
        }
    }

    #[pre]
    fn attack(&self) {}
}
