//! Groups: order, strategies, escalation, and what the tree shows.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use supervisor::{
    Child, End, Escalation, Exhausted, Generation, Group, Intensity, Kind, NameError, Policy,
    Restart, State, Strategy, Supervised, Supervisor,
};
use tokio::sync::Notify;

use crate::script::{Script, Trace, lines, told};

const LONG: Duration = Duration::from_secs(600);

fn at_once() -> Policy {
    Policy::new(Restart::Permanent).with_backoff(None).with_intensity(None)
}

async fn spawn(trace: &Arc<Trace>, group: Group) -> Supervised {
    let never = Policy::new(Restart::Temporary);
    let supervisor = Supervisor::group(group).name("g").policy(never);
    supervisor.observer(Arc::clone(trace) as _).spawn().await.unwrap()
}

/// Three children, the middle one of which fails in its first generation when `fail` is told.
fn three(strategy: Strategy, fail: &Arc<Notify>) -> Group {
    let fail = Arc::clone(fail);
    let failing = Script::running(move |reports, signals| {
        let fail = Arc::clone(&fail);
        async move {
            if reports.generation() == Generation(1) {
                fail.notified().await;
                return Err("b fails".into());
            }
            told(signals).await
        }
    });
    let [a, b, c] = [("a", Script::idle()), ("b", failing), ("c", Script::idle())]
        .map(|(name, script)| Child::new(name, script).policy(at_once()).grace(LONG));
    Group::new(strategy).with(a).unwrap().with(b).unwrap().with(c).unwrap()
}

#[tokio::test]
async fn started_in_order_restarted_by_strategy_stopped_in_reverse_order() {
    let failed = "g/b 1 recorded: b fails
                  g/b 1 hook returned
                  g/b 1 ended(failed)
                  g/b 1 restarting";
    for (strategy, restarts, generations) in [
        (Strategy::OneForOne, "g/b 2 starting\ng/b 2 started", [1, 2, 1]),
        (
            Strategy::OneForAll,
            "g/c 1 cancelled\ng/c 1 ended(cancelled)\ng/a 1 cancelled\ng/a 1 ended(cancelled)
             g/a 2 starting\ng/a 2 started\ng/b 2 starting\ng/b 2 started
             g/c 2 starting\ng/c 2 started",
            [2, 2, 2],
        ),
        (
            Strategy::RestForOne,
            "g/c 1 cancelled\ng/c 1 ended(cancelled)
             g/b 2 starting\ng/b 2 started\ng/c 2 starting\ng/c 2 started",
            [1, 2, 2],
        ),
    ] {
        let (trace, fail) = (Trace::new(), Arc::new(Notify::new()));
        let mut supervised = spawn(&trace, three(strategy, &fail)).await;
        fail.notify_one();
        for (name, generation) in ["g/a", "g/b", "g/c"].iter().zip(generations) {
            let generation = Generation(generation);
            let up = |node: &supervisor::Node| {
                node.generation == generation && node.state == State::Running
            };
            supervised.until(name, up).await;
        }
        assert_eq!(supervised.stop().await.unwrap(), End::Stopped);
        let [a, b, c] = generations;
        let expected = format!(
            "g 1 starting
             g/a 1 starting\ng/a 1 started\ng/b 1 starting\ng/b 1 started
             g/c 1 starting\ng/c 1 started
             g 1 started
             {failed}
             {restarts}
             g 1 cancelled
             g/c {c} cancelled\ng/c {c} ended(cancelled)\ng/c {c} over
             g/b {b} cancelled\ng/b {b} ended(cancelled)\ng/b {b} over
             g/a {a} cancelled\ng/a {a} ended(cancelled)\ng/a {a} over
             g 1 ended(cancelled)
             g 1 over"
        );
        assert_eq!(trace.text(), lines(&expected), "{strategy:?}");
    }
}

#[test]
fn s1_02_a_name_means_one_component() {
    let group = || Group::new(Strategy::OneForOne).with(Child::new("a", Script::idle())).unwrap();
    let twice = group().with(Child::new("a", Script::idle())).unwrap_err();
    assert_eq!(twice, NameError::Taken("a".into()));
    for name in ["", "a/b", "a\nb", &"a".repeat(65)] {
        let refused = group().with(Child::new(name, Script::idle())).unwrap_err();
        assert_eq!(refused, NameError::Invalid(name.into()));
    }
    assert!(group().with(Child::new("a".repeat(64), Script::idle())).is_ok());
}

/// A group in a group whose child always fails: each level restarts it as often as it may.
#[tokio::test]
async fn a_child_that_always_fails_escalates_level_by_level() {
    let trace = Trace::new();
    let storm = Script::running(|_, _| async { Err("always".into()) });
    let policy = |restarts| {
        let intensity = Intensity::new(restarts, LONG).unwrap();
        Policy::new(Restart::Permanent).with_backoff(None).with_intensity(intensity)
    };
    let inner = Group::new(Strategy::OneForOne);
    let inner = inner.with(Child::new("storm", storm).policy(policy(2))).unwrap();
    let outer = Group::new(Strategy::OneForOne)
        .with(Child::new("calm", Script::idle()).grace(LONG))
        .unwrap()
        .with(Child::group("inner", inner).policy(policy(3)))
        .unwrap();
    let supervised = Supervisor::group(outer).name("g").policy(policy(0));
    let supervised = supervised.observer(Arc::clone(&trace) as _).spawn().await.unwrap();
    let escalation = supervised.ended().await.unwrap_err();
    assert!(matches!(&escalation, Escalation::Exhausted { path, .. } if &**path == "g"));
    assert_eq!(
        escalation.to_string(),
        "`g` has used its restarts up, the last time with: `g/inner` has used its restarts up, \
         the last time with: `g/inner/storm` has used its restarts up, the last time with: always"
    );
    assert_eq!(trace.count("g/inner/storm "), 12 * 6, "{}", trace.text());
    assert_eq!(trace.count("g/calm 1 ended(cancelled)"), 1);
    // Generations go on where they were when their group is restarted.
    let storm = supervised.node("g/inner/storm").unwrap();
    assert_eq!((storm.generation, storm.restarts), (Generation(12), 11));
}

#[tokio::test]
async fn an_emergency_below_stops_everything_at_once() {
    let policy = at_once().with_intensity(Intensity::new(0, LONG).unwrap());
    let fails = Script::running(|_, _| async { Err("no way on".into()) });
    let fails = Child::new("vital", fails).policy(policy.with_exhausted(Exhausted::Emergency));
    let inner = Group::new(Strategy::OneForOne).with(fails).unwrap();
    let group = Group::new(Strategy::OneForOne)
        .with(Child::new("other", Script::idle()))
        .unwrap()
        .with(Child::group("inner", inner).policy(at_once()))
        .unwrap();
    let supervised = Supervisor::group(group).name("g").policy(at_once()).spawn().await.unwrap();
    let escalation = supervised.ended().await.unwrap_err().to_string();
    let expected = "emergency: `g/inner/vital` has used its restarts up, the last time with: \
                    no way on";
    assert_eq!(escalation, expected);
    assert_eq!(supervised.node("g/inner").unwrap().generation, Generation(1));
}

#[tokio::test]
async fn the_tree_shows_parents_kinds_states_and_last_exits() {
    let (trace, fail) = (Trace::new(), Arc::new(Notify::new()));
    let done = Child::new("done", Script::running(|_, _| async { Ok(()) }));
    let group = Group::new(Strategy::OneForOne)
        .with(Child::group("three", three(Strategy::OneForOne, &fail)))
        .unwrap()
        .with(done)
        .unwrap();
    let mut supervised = spawn(&trace, group).await;
    fail.notify_one();
    supervised.until("g/three/b", |node| node.restarts == 1).await;
    supervised.until("g/done", |node| node.state == State::Ended).await;
    let nodes = supervised.nodes();
    let seen: Vec<_> = nodes
        .iter()
        .map(|node| (&*node.path, node.parent.as_deref(), node.kind, node.generation.0))
        .collect();
    let expected = [
        ("g", None, Kind::Group, 1),
        ("g/three", Some("g"), Kind::Group, 1),
        ("g/three/a", Some("g/three"), Kind::Component, 1),
        ("g/three/b", Some("g/three"), Kind::Component, 2),
        ("g/three/c", Some("g/three"), Kind::Component, 1),
        ("g/done", Some("g"), Kind::Component, 1),
    ];
    assert_eq!(seen, expected);
    let last = nodes[3].last_exit.clone().unwrap();
    assert_eq!((last.generation, last.text.as_deref()), (Generation(1), Some("b fails")));
    assert_eq!(supervised.stop().await.unwrap(), End::Stopped);
    assert!(supervised.nodes().iter().all(|node| node.state == State::Ended));
}

/// A group that is aborted takes its children with it.
#[tokio::test]
async fn s1_13_nothing_of_an_aborted_group_goes_on() {
    struct Alive(Arc<AtomicU32>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let alive = Arc::new(AtomicU32::new(0));
    let deaf = || {
        let alive = Arc::clone(&alive);
        Script::running(move |_, _| {
            alive.fetch_add(1, Ordering::SeqCst);
            let alive = Alive(Arc::clone(&alive));
            async move {
                let _alive = alive;
                pending().await
            }
        })
    };
    let inner = Group::new(Strategy::OneForOne)
        .with(Child::new("a", deaf()).grace(LONG))
        .unwrap()
        .with(Child::new("b", deaf()).grace(LONG))
        .unwrap();
    let child = Child::group("inner", inner).grace(Duration::from_millis(1));
    let group = Group::new(Strategy::OneForOne).with(child).unwrap();
    let supervised = spawn(&Trace::new(), group).await;
    assert_eq!(alive.load(Ordering::SeqCst), 2);
    assert_eq!(supervised.stop().await.unwrap(), End::Stopped);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}
