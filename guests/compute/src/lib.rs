//! Five programs that compute and answer a checksum: what the write barrier costs is measured on
//! them.
//!
//! | program | a round does | what it is mostly made of |
//! |---|---|---|
//! | `sieve` | the primes below a million | stores of single bytes, far apart |
//! | `sort` | 100,000 numbers sorted | swaps all over an array |
//! | `btree` | a map of 50,000 entries built and read | small allocations, pointers |
//! | `format` | 20,000 lines of formatted text | runs of stores to one buffer |
//! | `matrix` | ten products of 64 x 64 matrices | arithmetic, few stores |
//!
//! Every round starts from the same numbers, so a checksum tells whether the rewritten guest
//! computes what the plain one does.

use std::fmt::Write as _;

use guest_sdk::prelude::*;

/// Nothing to keep but how often it ran, so that a run is a transaction with a change.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Compute {
    rounds: u64,
}

#[guest]
impl Compute {
    /// Runs `program` (sieve, sort, btree, format or matrix) `rounds` times and answers a checksum.
    pub fn run(&mut self, program: String, rounds: u32) -> Result<u64, Rejection> {
        let Some(round) = round_of(&program) else {
            reject!("unknown_program", "{program}: it is one of {}", PROGRAMS.join(", "));
        };
        let checksum = (0..rounds).fold(0, |checksum, _| mix(checksum, round()));
        self.rounds += u64::from(rounds);
        Ok(checksum)
    }

    /// Answers how many rounds were run.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }
}

/// The programs, by name.
pub const PROGRAMS: [&str; 5] = ["sieve", "sort", "btree", "format", "matrix"];

fn round_of(program: &str) -> Option<fn() -> u64> {
    match program {
        "sieve" => Some(sieve),
        "sort" => Some(sort),
        "btree" => Some(btree),
        "format" => Some(format),
        "matrix" => Some(matrix),
        _ => None,
    }
}

const SIEVE_BYTES: usize = 1_000_000;

fn sieve() -> u64 {
    let mut composite = vec![false; SIEVE_BYTES];
    let (mut count, mut sum) = (0, 0_u64);
    for candidate in 2..SIEVE_BYTES {
        if composite.get(candidate) != Some(&false) {
            continue;
        }
        count += 1;
        sum = sum.wrapping_add(candidate as u64);
        // Of large ones not even an address can say where that is.
        let first = candidate.checked_mul(candidate);
        if let Some(multiples) = first.and_then(|first| composite.get_mut(first..)) {
            multiples.iter_mut().step_by(candidate).for_each(|multiple| *multiple = true);
        }
    }
    mix(count, sum)
}

const SORT_COUNT: usize = 100_000;

fn sort() -> u64 {
    let mut numbers: Vec<u64> = Numbers::new().take(SORT_COUNT).collect();
    numbers.sort_unstable();
    numbers.iter().step_by(997).fold(0, |checksum, &number| mix(checksum, number))
}

const BTREE_COUNT: usize = 50_000;

fn btree() -> u64 {
    let mut map: BTreeMap<u64, u64> = Numbers::new().zip(0..).take(BTREE_COUNT).collect();
    let odd: Vec<u64> = map.keys().copied().filter(|key| key % 2 == 1).collect();
    for key in &odd {
        map.remove(key);
    }
    map.iter().fold(0, |checksum, (&key, &value)| mix(mix(checksum, key), value))
}

const FORMAT_LINES: usize = 20_000;

fn format() -> u64 {
    let mut text = String::new();
    for (line, number) in Numbers::new().take(FORMAT_LINES).enumerate() {
        let share = (number % 10_000) as f64 / 100.0;
        let written = writeln!(text, "{line:>6} {number:#018x} {share:8.2} % {}", number % 97);
        debug_assert!(written.is_ok(), "a String takes all that fits in memory");
    }
    text.bytes().fold(text.len() as u64, |checksum, byte| mix(checksum, u64::from(byte)))
}

const MATRIX_SIZE: usize = 64;
const MATRIX_PRODUCTS: usize = 10;

type Matrix = [[f64; MATRIX_SIZE]; MATRIX_SIZE];

fn matrix() -> u64 {
    let mut numbers = Numbers::new().map(|number| (number % 1000) as f64 / 1000.0 - 0.5);
    let mut fresh = || -> Box<Matrix> {
        let mut matrix = Box::new([[0.0; MATRIX_SIZE]; MATRIX_SIZE]);
        matrix.iter_mut().flatten().zip(&mut numbers).for_each(|(cell, number)| *cell = number);
        matrix
    };
    let (mut left, right) = (fresh(), fresh());
    for _ in 0..MATRIX_PRODUCTS {
        left = product(&left, &right);
    }
    left.iter().flatten().fold(0, |checksum, cell| mix(checksum, cell.to_bits()))
}

fn product(left: &Matrix, right: &Matrix) -> Box<Matrix> {
    let mut result = Box::new([[0.0; MATRIX_SIZE]; MATRIX_SIZE]);
    for (row, left_row) in result.iter_mut().zip(left) {
        for (factor, right_row) in left_row.iter().zip(right) {
            for (cell, value) in row.iter_mut().zip(right_row) {
                *cell += factor * value;
            }
        }
    }
    result
}

fn mix(checksum: u64, value: u64) -> u64 {
    (checksum ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(7)
}

/// The same numbers each time: xorshift from a fixed seed.
struct Numbers(u64);

impl Numbers {
    fn new() -> Self {
        Self(0x2545_f491_4f6c_dd1d)
    }
}

impl Iterator for Numbers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Some(self.0)
    }
}

#[cfg(test)]
mod tests {
    use guest_sdk::test::{Harness, Outcome, json};

    use super::*;

    #[test]
    fn every_program_answers_the_same_each_time() {
        let mut compute = Harness::<Compute>::new(json!({}));
        for program in PROGRAMS {
            let first = compute.call("run", json!([program, 1])).committed();
            assert_eq!(compute.call("run", json!([program, 1])).committed(), first, "{program}");
            assert_ne!(compute.call("run", json!([program, 2])).committed(), first, "{program}");
        }
        assert_eq!(compute.call("rounds", json!([])).committed(), json!(20));
    }

    #[test]
    fn the_sieve_finds_the_primes() {
        // 78,498 primes below a million, with the sum 37,550,402,023.
        assert_eq!(sieve(), mix(78_498, 37_550_402_023));
    }

    #[test]
    fn an_unknown_program_is_rejected() {
        let mut compute = Harness::<Compute>::new(json!({}));
        assert!(matches!(compute.call("run", json!(["quake", 1])), Outcome::Rejected(_)));
    }
}
