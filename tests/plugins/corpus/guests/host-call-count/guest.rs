//! Calls the host once more than it may.

use stile_sdk::kv;

everywhere::act!(call, capabilities(kv = "to wear it out"));

fn call() -> Result<(), String> {
    (0..1_001).for_each(|_| _ = kv::get("a"));
    Ok(())
}
