//! Takes sixteen mebibytes, which it may, and sits on them.

use std::hint::black_box;
use std::time::Duration;

everywhere::act!(hold);

fn hold() -> Result<(), String> {
    let held = black_box(vec![1_u8; 16 << 20]);
    std::thread::sleep(Duration::from_secs(2));
    drop(black_box(held));
    Ok(())
}
