//! Hands the host more bytes than it may, over several calls.

use stile_sdk::kv;

everywhere::act!(call, capabilities(kv = "to wear it out"));

fn call() -> Result<(), String> {
    (0..65).for_each(|_| _ = kv::set("a", &[0; 64 << 10], None));
    Ok(())
}
