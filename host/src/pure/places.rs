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
//! connect before they speak. When a crowd comes, whoever says nothing has less time for that, so
//! that one who speaks is not behind all the others for long.

use std::time::Duration;

use crate::base::limits::{CLIENT_PATIENCE, CLIENT_PATIENCE_MIN};

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

/// How long a client may say nothing, when `crowd` others in a row have found none of the `places`
/// free.
#[must_use]
pub fn patience(crowd: usize, places: usize) -> Duration {
    let halvings = u32::try_from(crowd / places.max(1)).unwrap_or(u32::MAX).min(16);
    (CLIENT_PATIENCE / 2_u32.pow(halvings)).max(CLIENT_PATIENCE_MIN)
}

/// Looks for room among clients, each with what it has been doing and for how long. `patience` is
/// for those that say nothing.
pub fn make_room<T>(
    clients: impl Iterator<Item = (T, Doing, Duration)>,
    patience: Duration,
) -> Room<T> {
    let mut later = patience;
    let mut found: Option<(T, Doing, Duration)> = None;
    for (client, doing, time) in clients.filter(|(_, doing, _)| *doing != Doing::Waiting) {
        let patience = if doing == Doing::Nothing { patience } else { CLIENT_PATIENCE };
        if let Some(left) = patience.checked_sub(time).filter(|left| !left.is_zero()) {
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
    use std::collections::VecDeque;

    use super::*;
    use crate::base::limits::{CLIENTS_MAX, CLIENTS_RESERVED, HEALTH_WAIT, SOCKET_BACKLOG};
    use Doing::{Nothing, Sending, Taking, Waiting};

    /// Looks among clients with the milliseconds for which they have been doing something, beyond
    /// the time that each has.
    fn look(clients: &[(Doing, i64)]) -> Room<usize> {
        let time = |millis: i64| {
            let millis = i64::try_from(CLIENT_PATIENCE.as_millis()).unwrap() + millis;
            Duration::from_millis(u64::try_from(millis).unwrap())
        };
        let clients = clients.iter().enumerate();
        let clients = clients.map(|(at, (doing, more))| (at, *doing, time(*more)));
        make_room(clients, CLIENT_PATIENCE)
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

    #[test]
    fn whoever_comes_behind_a_crowd_waits_less_than_health_does() {
        // Silent clients come all at once, each takes the place of the one that has had it longest.
        let waits = |places: usize| {
            let (mut seated, mut now) = (VecDeque::new(), Duration::ZERO);
            for crowd in 0..usize::try_from(SOCKET_BACKLOG).unwrap() {
                if let Some(crowd) = crowd.checked_sub(places) {
                    let since: Duration = seated.pop_front().unwrap();
                    let patience = patience(crowd, places);
                    let room = make_room([(0, Nothing, patience)].into_iter(), patience);
                    assert_eq!(room, Room::LetGo(0));
                    now = now.max(since + patience);
                }
                seated.push_back(now);
            }
            now
        };
        for places in [128, CLIENTS_MAX, CLIENTS_MAX + CLIENTS_RESERVED] {
            let time = waits(places);
            assert!(time < HEALTH_WAIT, "{places} places: {time:?}");
        }
    }

    #[test]
    fn a_crowd_shortens_the_time_of_those_who_say_nothing_alone() {
        assert_eq!(patience(0, 272), CLIENT_PATIENCE);
        assert_eq!(patience(271, 272), CLIENT_PATIENCE);
        assert_eq!(patience(272, 272), CLIENT_PATIENCE / 2);
        for crowd in [272 * 4, usize::MAX] {
            assert_eq!(patience(crowd, 272), CLIENT_PATIENCE_MIN);
        }
        assert_eq!(patience(3, 0), CLIENT_PATIENCE / 8);
        let short = CLIENT_PATIENCE_MIN;
        for doing in [Sending, Taking] {
            let room = make_room([(0, doing, short)].into_iter(), short);
            assert_eq!(room, Room::Later(short));
        }
    }
}
