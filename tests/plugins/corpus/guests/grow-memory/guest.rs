//! Takes more memory than it may have, a megabyte at a time.

use std::hint::black_box;

everywhere::act!(grow);

fn grow() -> Result<(), String> {
    let mut taken = Vec::new();
    for _ in 0..100 {
        taken.push(black_box(Vec::<u8>::with_capacity(1 << 20)));
    }
    drop(black_box(taken));
    Ok(())
}
