//! Generated components of several modules over one memory.

use std::collections::BTreeMap;

use host::pure::barrier::{Options, Site};

use super::components::{Generated, Way, component};
use super::composed::Pair;
use super::generator::Dice;
use super::oracle::Verdict;
use super::programs;

/// Calls of all exports, twice, and how the component is rewritten.
fn calls(generated: &Generated, dice: &mut Dice) -> Vec<(String, [u32; 2])> {
    let exports = generated.exports.iter().chain(&generated.exports);
    let calls = exports.map(|export| {
        let arguments = [0; 2].map(|_| match dice.roll(6) {
            0 => 0x1_fff0 + dice.roll(16),
            1 => dice.roll(64).wrapping_neg(),
            _ => dice.roll(0x2_0000),
        });
        (export.clone(), arguments)
    });
    calls.collect()
}

fn options(dice: &mut Dice) -> Options {
    Options {
        card_shift: dice.of(&[8, 8, 9, 12, 16]),
        trap_by_grow: dice.roll(2) == 0,
        share_marks: dice.roll(5) != 0,
        unroll: dice.roll(5) != 0,
        flow_steps_max: match dice.roll(3) {
            0 => dice.roll(4000) as usize,
            1 => dice.roll(400) as usize,
            _ => Options::default().flow_steps_max,
        },
        ..Options::default()
    }
}

#[test]
fn generated_components_mark_what_they_change_and_compute_the_same() {
    let pair = Pair::new();
    let (mut same, mut cut, mut ways) = (0, 0, BTreeMap::new());
    for seed in programs() {
        let generated = component(seed);
        let mut dice = Dice::new(!seed);
        let (calls, options) = (calls(&generated, &mut dice), options(&mut dice));
        match pair.compare(&generated.bytes, &calls, &options) {
            Verdict::Same => same += 1,
            Verdict::Cut => cut += 1,
            verdict => panic!("seed {seed}, {options:?}: {verdict:?}"),
        }
        for way in generated.ways {
            *ways.entry(format!("{way:?}")).or_insert(0) += 1;
        }
    }
    println!("{same} the same, {cut} cut short; by {ways:?}");
    assert!(same > cut, "{cut} of {} comparisons were cut short", same + cut);
    assert_eq!(ways.len(), Way::ALL.len(), "{ways:?}");
}

/// The generator and its comparison, against a barrier that forgets one kind of mark.
#[test]
fn each_forgotten_kind_of_mark_is_found_in_generated_components() {
    let pair = Pair::new();
    for site in Site::ALL {
        let found = (0..400).any(|seed| {
            let generated = component(seed);
            let calls = calls(&generated, &mut Dice::new(!seed));
            let options = Options { card_shift: 8, omit: Some(site), ..Options::default() };
            matches!(pair.compare(&generated.bytes, &calls, &options), Verdict::Unmarked(_))
        });
        assert!(found, "the barrier forgets {site:?} and nobody notices");
    }
}
