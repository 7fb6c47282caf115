//! Declares a metric whose explanation has a line break and another metric in it.

use stile_sdk::prelude::*;

struct Help;

#[plugin(
    capabilities(metrics = "to forge them"),
    counters(calls = "its calls\nstile_forged_total 1\n# HELP more \u{1b}[2J")
)]
impl Help {
    #[pre]
    fn attack() {
        _ = metrics::add("calls", 1);
    }
}
