//! Calls itself for ever. What it has is on the engine's stack: that of its own memory would end sooner.

use std::hint::black_box;

everywhere::act!(begin);

fn begin() -> Result<(), String> {
    black_box(deeper(1, black_box(u64::MAX)));
    Ok(())
}

#[inline(never)]
fn deeper(depth: u64, end: u64) -> u64 {
    // Turned afterwards, so that no loop does the same.
    if depth == end { 0 } else { deeper(depth + 1, end).rotate_left(7) ^ depth }
}
