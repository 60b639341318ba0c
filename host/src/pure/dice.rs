//! Random numbers for tests that can be repeated from a seed.

/// SplitMix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// A place in a list of so many.
    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}

/// How many seeds a test tries: `BULKHEAD_SEEDS`, or what keeps the suite quick.
pub(super) fn seeds(default: u64) -> u64 {
    std::env::var("BULKHEAD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}
