//! Matches `(a+)+b` by going back, on a text for which that takes two to the power of its length.

use std::hint::black_box;

everywhere::act!(blow_up);

fn blow_up() -> Result<(), String> {
    let is_match = groups(black_box(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"));
    if is_match { Err("it is no match".to_owned()) } else { Ok(()) }
}

/// One group of `a+` or more, and a `b`.
fn groups(text: &[u8]) -> bool {
    let run = text.iter().take_while(|byte| **byte == b'a').count();
    (1..=run).rev().any(|taken| {
        let rest = black_box(text).get(taken..).unwrap_or_default();
        rest.first() == Some(&b'b') || groups(rest)
    })
}
