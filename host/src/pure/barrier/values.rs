//! What is known of the 32-bit values of a function: which are a constant apart.
//!
//! An address is written as a sum of unknown values, each times a constant, plus a constant, all
//! modulo 2^32. Two sums over the same unknown values have a known difference. That is enough to
//! see that a store lies just behind another one whose card is marked already.

use std::collections::HashMap;

/// Terms that a sum has at most. A longer one becomes an unknown value of its own.
const TERMS_MAX: usize = 3;

/// Largest upper bound that is remembered of an unknown value: larger ones can't help.
const RANGE_MAX: i64 = 128;

/// An unknown value. Each computation at a place in the code makes a new one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, PartialOrd, Ord, Hash)]
pub(super) struct Unknown(u32);

/// A sum of unknown values times constants, plus a constant, modulo 2^32.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sum {
    /// In ascending order; those with factor 0, at the end, don't count.
    terms: [(Unknown, i32); TERMS_MAX],
    constant: i32,
}

impl Sum {
    pub(super) fn constant(constant: i32) -> Self {
        Self { constant, ..Self::default() }
    }

    pub(super) fn unknown(value: Unknown) -> Self {
        let mut sum = Self::default();
        if let Some(term) = sum.terms.first_mut() {
            *term = (value, 1);
        }
        sum
    }

    /// Its value if it has no unknown part.
    pub(super) fn as_constant(&self) -> Option<i32> {
        self.terms.iter().all(|(_, factor)| *factor == 0).then_some(self.constant)
    }

    /// `self + other * factor`, if that isn't too long.
    pub(super) fn add(&self, other: &Self, factor: i32) -> Option<Self> {
        let mut sum = *self;
        sum.constant = self.constant.wrapping_add(other.constant.wrapping_mul(factor));
        for (value, times) in other.terms {
            let times = times.wrapping_mul(factor);
            if times != 0 {
                sum.add_term(value, times)?;
            }
        }
        sum.terms.sort_unstable_by_key(|(value, factor)| (*factor == 0, *value));
        Some(sum)
    }

    fn add_term(&mut self, value: Unknown, times: i32) -> Option<()> {
        let same = |term: &&mut (Unknown, i32)| term.0 == value && term.1 != 0;
        if let Some(term) = self.terms.iter_mut().find(same) {
            term.1 = term.1.wrapping_add(times);
            // An unused term has one form only, so that equal sums are equal bit by bit.
            if term.1 == 0 {
                *term = Default::default();
            }
            return Some(());
        }
        *self.terms.iter_mut().find(|term| term.1 == 0)? = (value, times);
        Some(())
    }

    /// `self * factor`. Never longer than `self`.
    pub(super) fn times(&self, factor: i32) -> Self {
        Self::default().add(self, factor).unwrap_or_default()
    }
}

/// The unknown values of one function.
#[derive(Debug, Default)]
pub(super) struct Values {
    next: u32,
    /// For those that are known to be small: their largest value.
    ranges: HashMap<Unknown, i64>,
}

impl Values {
    /// A value of which nothing is known.
    pub(super) fn fresh(&mut self) -> Sum {
        self.next = self.next.wrapping_add(1);
        Sum::unknown(Unknown(self.next))
    }

    /// A value of which it is known that it is at most `largest`.
    pub(super) fn fresh_up_to(&mut self, largest: i64) -> Sum {
        let sum = self.fresh();
        if (0..=RANGE_MAX).contains(&largest) {
            self.ranges.insert(Unknown(self.next), largest);
        }
        sum
    }

    /// Least and greatest value of `to - from`, if they are known.
    pub(super) fn distance(&self, from: &Sum, to: &Sum) -> Option<(i64, i64)> {
        let difference = to.add(from, -1)?;
        let (mut least, mut greatest) =
            (i64::from(difference.constant), i64::from(difference.constant));
        for (value, factor) in difference.terms {
            if factor == 0 {
                continue;
            }
            let reach = i64::from(factor) * self.ranges.get(&value)?;
            least += reach.min(0);
            greatest += reach.max(0);
        }
        Some((least, greatest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_the_same_parts_are_equal_whatever_the_order() {
        let mut values = Values::default();
        let (a, b) = (values.fresh(), values.fresh());
        let left = a.add(&b, 8).and_then(|sum| sum.add(&Sum::constant(4), 1)).unwrap();
        let right = Sum::constant(4).add(&b.times(8), 1).and_then(|sum| sum.add(&a, 1)).unwrap();
        assert_eq!(left, right);
        assert_eq!(values.distance(&left, &right), Some((0, 0)));
        // What cancels out leaves no trace.
        assert_eq!(left.add(&left, -1), Some(Sum::constant(0)));
        assert_eq!(left.add(&a, -1).and_then(|sum| sum.add(&b, -8)), Some(Sum::constant(4)));
    }

    #[test]
    fn small_unknowns_bound_a_distance_from_both_sides() {
        let mut values = Values::default();
        let (base, truth) = (values.fresh(), values.fresh_up_to(1));
        let to = base.add(&truth, 8).and_then(|sum| sum.add(&Sum::constant(-4), 1)).unwrap();
        assert_eq!(values.distance(&base, &to), Some((-4, 4)));
        assert_eq!(values.distance(&to, &base), Some((-4, 4)));
        let unknown = values.fresh();
        assert_eq!(values.distance(&base, &unknown), None);
    }

    #[test]
    fn distances_are_modulo_the_address_space() {
        let mut values = Values::default();
        let base = values.fresh();
        let far = base.add(&Sum::constant(i32::MAX), 1).unwrap();
        let wrapped = far.add(&Sum::constant(i32::MAX), 1).unwrap();
        assert_eq!(values.distance(&base, &wrapped), Some((-2, -2)));
    }

    #[test]
    fn a_sum_of_too_many_parts_is_given_up() {
        let mut values = Values::default();
        let mut sum = values.fresh();
        for _ in 1..TERMS_MAX {
            sum = sum.add(&values.fresh(), 1).unwrap();
        }
        assert_eq!(sum.add(&values.fresh(), 1), None);
    }
}
