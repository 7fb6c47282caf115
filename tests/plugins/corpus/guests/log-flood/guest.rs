//! Fills the log with many lines.

use stile_sdk::log;

everywhere::act!(flood, capabilities(log = "to flood it"));

fn flood() -> Result<(), String> {
    (0..100).for_each(|_| log::info("again"));
    Ok(())
}
