//! Copies all its memory to and fro: one instruction each time.

use std::hint::black_box;

everywhere::act!(copy);

fn copy() -> Result<(), String> {
    let mut memory = vec![1_u8; 48 << 20];
    let half = memory.len() / 2;
    for _ in 0..1_000 {
        black_box(&mut memory).copy_within(..half, half);
    }
    Ok(())
}
