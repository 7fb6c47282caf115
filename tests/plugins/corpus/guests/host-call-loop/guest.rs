//! Asks for the time, over and over: next to nothing for the guest, a call each for the host.

use std::hint::black_box;
use std::time::Instant;

everywhere::act!(ask);

fn ask() -> Result<(), String> {
    (0..100_000).for_each(|_| _ = black_box(Instant::now()));
    Ok(())
}
