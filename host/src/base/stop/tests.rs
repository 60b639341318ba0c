//! The latch by its table, and its real code under a scheduler that tries interleavings.

use super::{Code, Reason, StopLatch};

/// The latch's source once more, on atomics whose every access is a step of the scheduler.
#[path = "."]
mod modelled {
    pub(super) mod atomic {
        pub(in crate::base::stop) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    }
    #[path = "latch.rs"]
    #[expect(unreachable_pub, reason = "it is public where it is compiled for users")]
    pub(super) mod latch;
}

const REASONS: [Reason; 5] = [
    Reason::Asked,
    Reason::Signal(15),
    Reason::Signal(255),
    Reason::Emergency(Code::ModuleInvalid),
    Reason::Emergency(Code::Barrier),
];

#[test]
fn s3_13_the_first_reason_wins_and_stays() {
    for first in REASONS {
        for second in REASONS {
            let latch = StopLatch::new();
            assert_eq!((latch.is_set(), latch.reason(), latch.text()), (false, None, None));
            assert!(latch.trigger(first));
            assert!(!latch.trigger(second));
            assert!(!latch.emergency(Code::HostBug, "too late"));
            assert_eq!((latch.is_set(), latch.reason(), latch.text()), (true, Some(first), None));
        }
        let latch = StopLatch::new();
        assert!(!latch.hurries());
        assert!(latch.trigger(first) && !latch.trigger(Reason::Signal(2)));
        assert_eq!(latch.hurries(), first.is_emergency());
        assert!(!latch.trigger(Reason::Emergency(Code::HostBug)));
        assert_eq!((latch.hurries(), latch.reason(), latch.text()), (true, Some(first), None));
    }
    for code in Code::ALL {
        let latch = StopLatch::new();
        assert!(latch.emergency(*code, "words"));
        assert!(!latch.trigger(Reason::Asked));
        assert_eq!(latch.reason(), Some(Reason::Emergency(*code)));
        assert_eq!(latch.text(), Some("words"));
    }
}

/// Two emergencies with texts, a signal, and somebody who looks on all the time.
fn race() {
    use shuttle::sync::Arc;
    use shuttle::thread::spawn;
    let latch = Arc::new(modelled::latch::StopLatch::new());
    let emergency = |code, text: &'static str| {
        let latch = latch.clone();
        spawn(move || latch.emergency(code, text).then_some(Reason::Emergency(code)))
    };
    let handler = {
        let latch = latch.clone();
        spawn(move || latch.trigger(Reason::Signal(15)).then_some(Reason::Signal(15)))
    };
    let setters = [emergency(Code::HostBug, "a"), emergency(Code::Barrier, "b"), handler];
    let mut seen = None;
    for _ in 0..4 {
        let now = latch.reason();
        assert!(seen.is_none() || seen == now, "the reason changed");
        seen = now;
        if let (Some(reason), Some(text)) = (now, latch.text()) {
            let code = if text == "a" { Code::HostBug } else { Code::Barrier };
            assert_eq!(reason, Reason::Emergency(code), "another one's text");
        }
    }
    let winners: Vec<Reason> =
        setters.into_iter().filter_map(|setter| setter.join().unwrap()).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(latch.reason(), Some(winners[0]));
    assert!(latch.hurries(), "an emergency is forgotten");
    assert!(seen.is_none() || seen == Some(winners[0]));
    assert!(latch.text().is_none() || winners[0] != Reason::Signal(15));
}

#[test]
fn s3_13_no_interleaving_gives_two_winners_or_a_strangers_text() {
    shuttle::check_random(race, 20_000);
    shuttle::check_pct(race, 5_000, 3);
}
