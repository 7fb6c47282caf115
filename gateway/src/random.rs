//! Numbers for tests that look random and are the same for the same seed.

/// Xorshift; the seed is not zero.
pub struct Random(pub u64);

impl Random {
    /// One below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// An index into so many.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).expect("small"))).expect("small")
    }
}
