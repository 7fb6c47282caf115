//! Takes all memory before it is called.

use std::hint::black_box;

use stile_sdk::prelude::*;

#[config]
struct Config {}

struct Init(Vec<Vec<u8>>);

#[plugin]
impl Init {
    fn new(_: Config) -> Self {
        Self((0..100).map(|_| black_box(Vec::with_capacity(1 << 20))).collect())
    }

    #[pre]
    fn attack(&self) {
        black_box(&self.0);
    }
}
