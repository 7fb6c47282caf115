//! Computes for far longer than it may, within the fuel that it has.

use std::hint::black_box;

everywhere::act!(spin);

fn spin() -> Result<(), String> {
    (0..u64::MAX).for_each(|round| _ = black_box(round));
    Ok(())
}
