//! Which client is let go of, so that another one finds a place.
//!
//! | a client that | is let go of |
//! |---|---|
//! | says nothing | first |
//! | has sent a part of something | when nobody is silent |
//! | does not take its answer | when the others do |
//! | is being answered | never: what it asked for may have been done |
//!
//! Of two alike the one goes that has been so for longer, and none that has only begun: clients
//! connect before they speak.

use std::time::Duration;

use crate::base::limits::CLIENT_PATIENCE;

/// What a client is doing.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Doing {
    /// Nothing.
    Nothing,
    /// It sends something.
    Sending,
    /// It takes its answer.
    Taking,
    /// It waits for an answer.
    Waiting,
}

/// What makes room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Room<T> {
    /// This client is let go of.
    LetGo(T),
    /// Nobody is; look again after this time.
    Later(Duration),
}

/// Looks for room among clients, each with what it has been doing and for how long.
pub fn make_room<T>(clients: impl Iterator<Item = (T, Doing, Duration)>) -> Room<T> {
    let mut later = CLIENT_PATIENCE;
    let mut found: Option<(T, Doing, Duration)> = None;
    for (client, doing, time) in clients.filter(|(_, doing, _)| *doing != Doing::Waiting) {
        if let Some(left) = CLIENT_PATIENCE.checked_sub(time).filter(|left| !left.is_zero()) {
            later = later.min(left);
            continue;
        }
        let goes_before = |(_, its, since): &(T, Doing, Duration)| {
            doing < *its || (doing == *its && time > *since)
        };
        if found.as_ref().is_none_or(goes_before) {
            found = Some((client, doing, time));
        }
    }
    found.map_or(Room::Later(later), |(client, ..)| Room::LetGo(client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Doing::{Nothing, Sending, Taking, Waiting};

    /// Looks among clients with the milliseconds for which they have been doing something, beyond
    /// the time that each has.
    fn look(clients: &[(Doing, i64)]) -> Room<usize> {
        let time = |millis: i64| {
            let millis = i64::try_from(CLIENT_PATIENCE.as_millis()).unwrap() + millis;
            Duration::from_millis(u64::try_from(millis).unwrap())
        };
        make_room(clients.iter().enumerate().map(|(at, (doing, more))| (at, *doing, time(*more))))
    }

    fn millis(millis: u64) -> Room<usize> {
        Room::Later(Duration::from_millis(millis))
    }

    #[test]
    fn who_says_nothing_goes_first_then_who_is_slow_and_nobody_who_waits_for_an_answer() {
        let usual = Room::Later(CLIENT_PATIENCE);
        for (clients, room) in [
            (&[][..], usual),
            (&[(Waiting, 9000), (Waiting, 9)], usual),
            (&[(Waiting, 9000), (Nothing, 0)], Room::LetGo(1)),
            (&[(Nothing, 1), (Nothing, 3), (Nothing, 2)], Room::LetGo(1)),
            (&[(Sending, 9000), (Taking, 9000), (Nothing, 0)], Room::LetGo(2)),
            (&[(Taking, 9000), (Sending, 0), (Waiting, 9)], Room::LetGo(1)),
            (&[(Taking, 1), (Taking, 2)], Room::LetGo(1)),
            // Who has only begun is given its time, whatever the others do.
            (&[(Nothing, -20), (Sending, -10)], millis(10)),
            (&[(Nothing, -20), (Taking, 0)], Room::LetGo(1)),
            (&[(Nothing, -1), (Waiting, -200)], millis(1)),
        ] {
            assert_eq!(look(clients), room, "{clients:?}");
        }
    }

    #[test]
    fn whoever_waits_for_room_finds_it_unless_all_wait_for_answers() {
        // Every three clients, each in every state at every time around the patience.
        let states = [Nothing, Sending, Taking, Waiting];
        let one = || states.into_iter().flat_map(|doing| [-1, 0, 1].map(|time| (doing, time)));
        for a in one() {
            for (b, c) in one().flat_map(|b| one().map(move |c| (b, c))) {
                let clients = [a, b, c];
                let may_go = |(doing, time): &(Doing, i64)| *doing != Waiting && *time >= 0;
                match look(&clients) {
                    Room::LetGo(at) => {
                        assert!(may_go(&clients[at]), "{clients:?}");
                        let sooner = clients.iter().filter(|its| may_go(its));
                        let sooner = sooner.min_by_key(|(doing, time)| (*doing, -time)).unwrap();
                        assert_eq!(*sooner, clients[at], "{clients:?}");
                    }
                    Room::Later(time) => {
                        assert!(!clients.iter().any(may_go), "{clients:?}");
                        assert!(!time.is_zero() && time <= CLIENT_PATIENCE);
                    }
                }
            }
        }
    }
}
