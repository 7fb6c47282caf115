//! Takes more memory than it may have, in very many small pieces.

use std::hint::black_box;

everywhere::act!(grow);

fn grow() -> Result<(), String> {
    let mut taken = Vec::with_capacity(2_000_000);
    for number in 0..2_000_000_u64 {
        taken.push(black_box(Box::new([number; 4])));
    }
    drop(black_box(taken));
    Ok(())
}
