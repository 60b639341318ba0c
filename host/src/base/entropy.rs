//! Randomness comes in through a trait, so that the host can run from a seed.
//!
//! A guest never draws from the machine directly: its numbers are a stream keyed by
//! (daemon secret, generation, transaction), so that a restored memory image can't make it repeat
//! numbers it has drawn before. Each transaction has a seed, the keyed BLAKE3 of these, and the
//! stream is BLAKE3 under that seed in extendable-output mode. So one seed, in a crash report,
//! gives one transaction's numbers away and no others.

use std::fmt;

/// A source of seeds.
pub trait Entropy: fmt::Debug + Send + Sync {
    /// 32 fresh bytes, fit for keys.
    fn seed(&self) -> [u8; 32];
}

/// The kernel's generator. Only the shell names it.
#[derive(Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        let mut filled = 0;
        while let Some(rest) = seed.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            // getrandom fails only before the kernel's pool is ready, or when interrupted.
            if let Ok(n) = rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
                filled += n;
            }
        }
        seed
    }
}

/// Seeds derived from one number: the same number, the same seeds.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    drawn: std::sync::atomic::AtomicU64,
}

impl SeededEntropy {
    /// All seeds follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: std::sync::atomic::AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn seed(&self) -> [u8; 32] {
        let n = self.drawn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut hasher = blake3::Hasher::new_derive_key("bulkhead seeded entropy 2026");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&n.to_le_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// Where the seeds of transactions come from.
#[derive(Debug)]
enum Seeds {
    /// A daemon's secret: another seed for each transaction.
    Secret([u8; 32]),
    /// One seed for all: that of the transaction which is run again.
    Pinned([u8; 32]),
}

/// The numbers that one guest draws.
#[derive(Debug)]
pub struct EntropyStream {
    seeds: Seeds,
    generation: u64,
    transaction: u64,
    output: Option<blake3::OutputReader>,
}

impl EntropyStream {
    /// A stream under a daemon's secret, for its first generation.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self { seeds: Seeds::Secret(secret), generation: 0, transaction: 0, output: None }
    }

    /// The stream of one transaction again, whatever it is rekeyed to.
    #[must_use]
    pub fn pinned(seed: [u8; 32]) -> Self {
        Self { seeds: Seeds::Pinned(seed), generation: 0, transaction: 0, output: None }
    }

    /// Starts over for another (generation, transaction). Costs nothing until a number is drawn.
    pub fn rekey(&mut self, generation: u64, transaction: u64) {
        self.generation = generation;
        self.transaction = transaction;
        self.output = None;
    }

    /// The seed of a transaction: what [`EntropyStream::pinned`] needs to repeat it.
    #[must_use]
    pub fn seed(&self, generation: u64, transaction: u64) -> [u8; 32] {
        match &self.seeds {
            Seeds::Pinned(seed) => *seed,
            Seeds::Secret(secret) => {
                let mut hasher = blake3::Hasher::new_keyed(secret);
                hasher.update(&generation.to_le_bytes());
                hasher.update(&transaction.to_le_bytes());
                *hasher.finalize().as_bytes()
            }
        }
    }

    /// Fills `buffer` with the next bytes of the stream.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        if self.output.is_none() {
            let seed = self.seed(self.generation, self.transaction);
            self.output = Some(blake3::Hasher::new_keyed(&seed).finalize_xof());
        }
        if let Some(output) = &mut self.output {
            output.fill(buffer);
        }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_transaction_in_a_new_generation_draws_other_numbers() {
        let mut stream = EntropyStream::new([7; 32]);
        stream.rekey(1, 10);
        let first = [stream.next_u64(), stream.next_u64()];
        stream.rekey(2, 10);
        let second = [stream.next_u64(), stream.next_u64()];
        stream.rekey(1, 10);
        let again = [stream.next_u64(), stream.next_u64()];
        assert_ne!(first, second);
        assert_ne!(first[0], first[1]);
        assert_eq!(first, again);
    }

    #[test]
    fn a_seed_repeats_its_transaction_and_no_other() {
        let mut stream = EntropyStream::new([7; 32]);
        let seed = stream.seed(1, 10);
        for (generation, transaction) in [(1, 10), (1, 11), (2, 10)] {
            stream.rekey(generation, transaction);
            let mut again = EntropyStream::pinned(seed);
            again.rekey(9, 9);
            let (drawn, repeated) = ([0; 3].map(|_| stream.next_u64()), again.next_u64());
            assert_eq!(drawn[0] == repeated, (generation, transaction) == (1, 10));
            if drawn[0] == repeated {
                assert_eq!(drawn[1..], [again.next_u64(), again.next_u64()]);
            }
        }
    }

    #[test]
    fn system_seeds_differ_and_seeded_ones_repeat() {
        assert_ne!(SystemEntropy.seed(), SystemEntropy.seed());
        assert_eq!(SeededEntropy::new(3).seed(), SeededEntropy::new(3).seed());
        let seeded = SeededEntropy::new(3);
        assert_ne!(seeded.seed(), seeded.seed());
    }
}
