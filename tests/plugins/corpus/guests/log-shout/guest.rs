//! Fills the log with one line of sixteen mebibytes.

use stile_sdk::log;

everywhere::act!(shout, capabilities(log = "to flood it"));

fn shout() -> Result<(), String> {
    log::info("a".repeat(16 << 20).as_str());
    Ok(())
}
