//! Which children are stopped and started when one of them has to be restarted.

use crate::policy::Restart;

/// What the end of one child means for its siblings.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Strategy {
    /// Nothing: it is restarted alone.
    #[default]
    OneForOne,
    /// All are stopped and started: they can't do without each other.
    OneForAll,
    /// Those that were started after it are stopped and started: they build on it.
    RestForOne,
}

/// One child, as far as the others' ends concern it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Sibling {
    /// It runs, or waits for its restart. One that ended for good or is parked stays as it is.
    pub alive: bool,
    /// A temporary one that is stopped is not started again.
    pub restart: Restart,
}

/// What to do, by the children's places in the order in which they are started.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// To be stopped in this order: the last one first.
    pub stop: Vec<usize>,
    /// To be started in this order, after all were stopped. The one that ended is among them.
    pub start: Vec<usize>,
}

/// Plans the restart of the child at place `ended` of `children`, which stand in the order in which
/// they are started. Which end that was, and whether it is restarted at all, was decided before.
#[must_use]
pub fn plan(strategy: Strategy, children: &[Sibling], ended: usize) -> Plan {
    let concerned = |place: usize| match strategy {
        Strategy::OneForOne => place == ended,
        Strategy::OneForAll => true,
        Strategy::RestForOne => place >= ended,
    };
    let mut plan = Plan::default();
    for (place, child) in children.iter().enumerate().filter(|(place, _)| concerned(*place)) {
        if place == ended {
            plan.start.push(place);
        } else if child.alive {
            plan.stop.push(place);
            if child.restart != Restart::Temporary {
                plan.start.push(place);
            }
        }
    }
    plan.stop.reverse();
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use proptest::strategy::Strategy as Generator;

    use super::*;

    const UP: Sibling = Sibling { alive: true, restart: Restart::Permanent };
    const DOWN: Sibling = Sibling { alive: false, ..UP };
    const ONCE: Sibling = Sibling { alive: true, restart: Restart::Temporary };

    #[test]
    fn strategies_by_table() {
        use Strategy::{OneForAll, OneForOne, RestForOne};
        for (strategy, children, ended, stop, start) in [
            (OneForOne, vec![UP, UP, UP], 1, vec![], vec![1]),
            (OneForAll, vec![UP, UP, UP], 1, vec![2, 0], vec![0, 1, 2]),
            (OneForAll, vec![UP], 0, vec![], vec![0]),
            (OneForAll, vec![UP, DOWN, ONCE, UP], 0, vec![3, 2], vec![0, 3]),
            (RestForOne, vec![UP, UP, UP], 0, vec![2, 1], vec![0, 1, 2]),
            (RestForOne, vec![UP, UP, UP], 1, vec![2], vec![1, 2]),
            (RestForOne, vec![UP, UP, UP], 2, vec![], vec![2]),
            (RestForOne, vec![UP, UP, DOWN, ONCE, UP], 1, vec![4, 3], vec![1, 4]),
            (OneForOne, vec![UP], 7, vec![], vec![]),
        ] {
            let planned = plan(strategy, &children, ended);
            assert_eq!(planned, Plan { stop, start }, "{strategy:?} {children:?} {ended}");
        }
    }

    fn any_sibling() -> impl Generator<Value = Sibling> {
        let restart = prop_oneof![
            Just(Restart::Permanent),
            Just(Restart::Transient),
            Just(Restart::Temporary)
        ];
        (any::<bool>(), restart).prop_map(|(alive, restart)| Sibling { alive, restart })
    }

    proptest! {
        #[test]
        fn whatever_is_stopped_lived_and_whatever_is_started_was_stopped(
            children in prop::collection::vec(any_sibling(), 1..20),
            ended in any::<prop::sample::Index>(),
            strategy in prop_oneof![
                Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)
            ],
        ) {
            let ended = ended.index(children.len());
            let Plan { stop, start } = plan(strategy, &children, ended);
            prop_assert!(stop.is_sorted_by(|a, b| a > b) && start.is_sorted_by(|a, b| a < b));
            prop_assert!(start.contains(&ended) && !stop.contains(&ended));
            prop_assert!(stop.iter().all(|&place| children[place].alive));
            prop_assert!(start.iter().all(|place| *place == ended || stop.contains(place)));
            // Rest-for-one is one-for-all among those that came later.
            let all = plan(Strategy::OneForAll, &children[ended..], 0);
            let rest = plan(Strategy::RestForOne, &children, ended);
            let shifted = |places: Vec<usize>| {
                places.iter().map(|place| place + ended).collect::<Vec<_>>()
            };
            let all = Plan { stop: shifted(all.stop), start: shifted(all.start) };
            prop_assert_eq!(rest, all);
        }
    }
}
