//! Random numbers, drawn anew for each daemon, generation and transaction.
//!
//! Outside wasm they come from a fixed seed, which a test may change through its harness.

/// 64 uniformly distributed bits, fit for keys.
#[must_use]
pub fn next() -> u64 {
    crate::host::random()
}

/// Fills `bytes` with uniformly distributed bits.
pub fn fill(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(size_of::<u64>()) {
        let random = next().to_le_bytes();
        for (byte, random) in chunk.iter_mut().zip(random) {
            *byte = random;
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_is_filled() {
        let mut bytes = [0; 1003];
        super::fill(&mut bytes);
        assert!(bytes.windows(8).all(|window| window != [0; 8]));
        assert_ne!(bytes.first_chunk::<8>(), bytes.last_chunk::<8>());
    }
}
