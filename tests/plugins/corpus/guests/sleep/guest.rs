//! Waits for longer than it may.

use std::time::Duration;

everywhere::act!(sleep);

fn sleep() -> Result<(), String> {
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}
