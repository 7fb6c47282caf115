//! Writes metrics that it did not declare, each under a new name.

use stile_sdk::prelude::*;

struct Flood;

#[plugin(capabilities(metrics = "to flood them"), counters(calls = "its calls"))]
impl Flood {
    #[pre]
    fn attack() -> Reply {
        let taken = (0..500).filter(|number| metrics::add(&format!("calls_{number}"), 1).is_ok()).count();
        Reply::new(200).body(format!("{taken} of them, and {:?}", metrics::add("calls", 1)))
    }
}
