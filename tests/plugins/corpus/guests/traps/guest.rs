//! Breaks the rules of WebAssembly, each in its way.

#![allow(unsafe_code, reason = "a stranger's plugin may do this, so ours for tests has to")]

use std::hint::black_box;

use stile_sdk::prelude::*;

#[config]
struct Traps {
    kind: Kind,
}

#[config]
#[derive(Clone, Copy)]
enum Kind {
    Unreachable,
    Divide,
    Overflow,
    Memory,
    Indirect,
    Type,
}

#[plugin(config = Self)]
impl Traps {
    #[pre]
    fn attack(&self) {
        // SAFETY: none in any of them. They trap.
        match self.kind {
            Kind::Unreachable => std::process::abort(),
            Kind::Divide => _ = black_box(quotient(black_box(1), black_box(0))),
            Kind::Overflow => _ = black_box(quotient(black_box(i32::MIN), black_box(-1))),
            Kind::Memory => {
                _ = black_box(unsafe {
                    std::ptr::with_exposed_provenance::<u8>(black_box(usize::MAX - 8)).read_volatile()
                })
            }
            Kind::Indirect => black_box(unsafe { std::mem::transmute::<usize, fn()>(black_box(1 << 20)) })(),
            Kind::Type => {
                let other: fn(u64) -> u64 = |number| number;
                black_box(unsafe { std::mem::transmute::<fn(u64) -> u64, fn()>(black_box(other)) })();
            }
        }
    }
}

/// Without Rust's own look at the divisor.
fn quotient(dividend: i32, divisor: i32) -> i32 {
    // SAFETY: none.
    unsafe {
        std::hint::assert_unchecked(divisor != 0 && (dividend != i32::MIN || divisor != -1));
    }
    dividend / divisor
}
