//! Answers with one header field more than it may, or one that is a byte too long.

use stile_sdk::prelude::*;

#[config]
struct Flood {
    count: usize,
    bytes: usize,
}

#[plugin(config = Self)]
impl Flood {
    #[pre]
    fn attack(&self) -> Reply {
        let value = "v".repeat(self.bytes);
        (0..self.count).fold(Reply::new(200), |reply, _| reply.header("x", value.as_str()))
    }
}
