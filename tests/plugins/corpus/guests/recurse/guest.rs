//! Calls itself for ever.

use std::hint::black_box;

everywhere::act!(begin);

fn begin() -> Result<(), String> {
    black_box(deeper(1));
    Ok(())
}

#[expect(unconditional_recursion, reason = "that is the attack")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    black_box(deeper(depth + 1)) + frame[0]
}
