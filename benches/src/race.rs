//! Takes turns: each round, every contender adds samples to its series.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Samples by series. What the numbers are is up to the series; mostly nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Samples(BTreeMap<String, Vec<f64>>);

impl Samples {
    /// Adds a sample.
    pub fn add(&mut self, series: &str, sample: f64) {
        match self.0.get_mut(series) {
            Some(samples) => samples.push(sample),
            None => drop(self.0.insert(series.to_owned(), vec![sample])),
        }
    }

    /// Adds a time in nanoseconds.
    pub fn add_time(&mut self, series: &str, time: Duration) {
        self.add(series, nanos(time));
    }

    /// The median of a series.
    ///
    /// # Panics
    ///
    /// When there is no such series.
    #[must_use]
    pub fn median(&self, series: &str) -> f64 {
        self.find(series).unwrap_or_else(|| panic!("nothing was measured for `{series}`"))
    }

    /// The median of a series, if it is there.
    #[must_use]
    pub fn find(&self, series: &str) -> Option<f64> {
        let mut samples = self.0.get(series)?.clone();
        samples.sort_unstable_by(f64::total_cmp);
        samples.get(samples.len() / 2).copied()
    }
}

/// A time in nanoseconds.
#[must_use]
pub fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// The time of one of `count` runs, in nanoseconds.
pub fn time_per_run(count: u32, mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        run();
    }
    nanos(start.elapsed()) / f64::from(count)
}

/// What takes part: adds its samples of one round.
pub type Contender<'a> = Box<dyn FnMut(&mut Samples) + 'a>;

/// Runs all contenders in turns. The first round only warms up. Each round begins with another
/// contender, so that none always follows the same one.
pub fn race(rounds: usize, contenders: &mut [Contender<'_>]) -> Samples {
    let mut samples = Samples::default();
    for contender in contenders.iter_mut() {
        contender(&mut Samples::default());
    }
    for round in 0..rounds {
        for place in 0..contenders.len() {
            let place = (place + round) % contenders.len();
            contenders[place](&mut samples);
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_take_turns_and_the_first_round_counts_nothing() {
        let order = std::cell::RefCell::new(String::new());
        let contender = |name: char| -> Contender<'_> {
            let order = &order;
            Box::new(move |samples| {
                order.borrow_mut().push(name);
                samples.add("all", 1.0);
            })
        };
        let samples = race(2, &mut [contender('a'), contender('b')]);
        assert_eq!(*order.borrow(), "ababba");
        assert_eq!(samples.0["all"].len(), 4);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let mut samples = Samples::default();
        [5.0, 1.0, 900.0].into_iter().for_each(|sample| samples.add("x", sample));
        assert_eq!(samples.median("x").to_bits(), 5.0_f64.to_bits());
        assert_eq!(samples.find("y"), None);
    }
}
