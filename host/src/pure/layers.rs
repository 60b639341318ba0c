//! In which order those who wait for something go on when it is there: layer by layer, as they were
//! started, each when all of the one below have come to rest.
//!
//! One that does not come to rest is not waited for: it is the driver's to say who follows.

/// How far one of those who wait is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Stage {
    /// It waits for its turn.
    Held,
    /// It was told, and is starting.
    Told,
    /// It has started, or isn't going to.
    #[default]
    AtRest,
}

/// The layer whose turn it is, among these with their layers; none while somebody is starting, and
/// when nobody is held.
#[must_use]
pub fn turn(all: impl Iterator<Item = (usize, Stage)> + Clone) -> Option<usize> {
    if all.clone().any(|(_, stage)| stage == Stage::Told) {
        return None;
    }
    all.filter(|(_, stage)| *stage == Stage::Held).map(|(layer, _)| layer).min()
}

#[cfg(test)]
mod tests {
    use super::Stage::{AtRest, Held, Told};
    use super::*;

    type Layers<'a> = &'a [(usize, Stage)];

    #[test]
    fn a_layer_has_its_turn_when_the_one_below_is_at_rest() {
        let table: [(Layers<'_>, Option<usize>); 7] = [
            (&[], None),
            (&[(0, AtRest), (3, AtRest)], None),
            (&[(2, Held), (1, Held), (1, AtRest)], Some(1)),
            (&[(2, Held), (1, Told)], None),
            // Also of a higher one: it was told for good reason.
            (&[(0, Held), (1, Told)], None),
            (&[(2, Held), (1, AtRest)], Some(2)),
            (&[(7, Held)], Some(7)),
        ];
        for (all, expected) in table {
            assert_eq!(turn(all.iter().copied()), expected, "{all:?}");
        }
    }
}
