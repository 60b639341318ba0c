//! One component: every way in which it can end, and what comes of it.

use std::future::pending;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use supervisor::{
    BoxError, Emergency, End, Escalation, Exhausted, Exit, Generation, Intensity, Policy,
    ReportError, Reporter, Restart, Signals, SpawnError, State, Supervised, Supervisor, Task,
};

use crate::script::{Script, Trace, lines, told};

/// Far longer than anything here takes, so that nothing depends on it.
const LONG: Duration = Duration::from_secs(600);

fn at_once(restart: Restart) -> Policy {
    Policy::new(restart).with_backoff(None).with_intensity(None)
}

async fn spawn(trace: &Arc<Trace>, policy: Policy, script: Script) -> Supervised {
    let supervisor = Supervisor::new(script).name("c").policy(policy).grace(LONG);
    supervisor.observer(Arc::clone(trace) as _).spawn().await.unwrap()
}

/// Fails like this in its first generation, then runs until it is told to end.
fn once<F>(first: impl Fn(Reporter, Signals) -> F + Send + 'static) -> Script
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    Script::running(move |reports, signals| {
        let again = reports.generation() > Generation(1);
        let run: Pin<Box<dyn Future<Output = _> + Send>> =
            if again { Box::pin(told(signals)) } else { Box::pin(first(reports, signals)) };
        run
    })
}

/// Runs a component until its second generation runs, stops it, and compares what happened before.
async fn second_generation(script: Script, expected: &str) {
    let trace = Trace::new();
    let mut supervised = spawn(&trace, at_once(Restart::Transient), script).await;
    let second = supervised
        .until("c", |node| node.generation == Generation(2) && node.state == State::Running)
        .await;
    assert_eq!(second.restarts, 1);
    assert_eq!(supervised.stop().await.unwrap(), End::Stopped);
    let rest = "c 1 restarting
                c 2 starting
                c 2 started
                c 2 cancelled
                c 2 ended(cancelled)
                c 2 over";
    assert_eq!(trace.text(), lines(&format!("{expected}\n{rest}")));
}

#[tokio::test]
async fn s1_01_s1_03_s1_06_s1_08_error_recorded_hook_ack_old_ended_new_started() {
    let script = once(|reports, mut signals| async move {
        reports.report("no stream")?;
        signals.acked().await;
        Ok(())
    });
    let expected = "c 1 starting
                    c 1 started
                    c 1 recorded: no stream
                    c 1 hook returned
                    c 1 acked
                    c 1 cancelled
                    c 1 ended(failed)";
    second_generation(script, expected).await;
}

#[tokio::test]
async fn s1_09_a_report_before_an_immediate_return_is_not_lost() {
    for panics in [false, true] {
        let script = once(move |reports, signals| async move {
            drop(signals);
            reports.report("gone already")?;
            assert!(!panics, "and a panic after it");
            Ok(())
        });
        let expected = "c 1 starting
                        c 1 started
                        c 1 recorded: gone already
                        c 1 hook returned
                        c 1 ended(failed)";
        second_generation(script, expected).await;
    }
}

#[tokio::test]
async fn s1_05_s1_11_errors_and_panics_arrive_as_they_are() {
    let ends = |recorded: &str, end: &str| {
        format!("c 1 starting\nc 1 started\n{recorded}\nc 1 hook returned\nc 1 ended({end})")
    };
    let script = once(|_, _| async { Err("disk is gone".into()) });
    second_generation(script, &ends("c 1 recorded: disk is gone", "failed")).await;
    let script = once(|_, _| async { panic!("not {}", "possible") });
    second_generation(script, &ends("c 1 recorded: panicked: not possible", "panicked")).await;
    let script = once(|_, _| async { panic!("plain") });
    second_generation(script, &ends("c 1 recorded: panicked: plain", "panicked")).await;
    let script = once(|_, _| async { std::panic::panic_any(PanicsWhenDropped) });
    let text = "c 1 recorded: panicked: with something else than a text";
    second_generation(script, &ends(text, "panicked")).await;
}

/// What is logged, kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn s1_05_hook_and_log_get_the_text_of_errors_and_panics_unchanged() {
    for (panics, expected) in
        [(false, "sector 5 of \"a b\": unreadable, 3 %"), (true, "panicked: sector 5, `x` != 3")]
    {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(Mutex::new(writer)).finish();
        // The runtime of this test is on this thread.
        let _logging = tracing::subscriber::set_default(subscriber);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let script = once(move |_, _| async move {
            assert!(!panics, "sector 5, `x` != 3");
            Err("sector 5 of \"a b\": unreadable, 3 %".into())
        });
        let script = script.hook(move |error| {
            hears.lock().unwrap().push(error.to_string());
            async { Ok(()) }
        });
        let supervisor = Supervisor::new(script).name("c").policy(at_once(Restart::Transient));
        let mut supervised = supervisor.grace(LONG).spawn().await.unwrap();
        supervised.until("c", |node| node.generation == Generation(2)).await;
        supervised.stop().await.unwrap();
        assert_eq!(*heard.lock().unwrap(), [expected]);
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let line = log.lines().find(|line| line.contains("irrecoverable error")).unwrap();
        assert!(line.contains("ERROR") && line.contains(&format!("error={expected}")), "{log}");
        assert!(line.contains("path=\"c\"") && line.contains("generation=1"), "{log}");
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

#[tokio::test]
async fn s1_11_start_may_fail_panic_or_report() {
    let start = |first: fn(&Reporter) -> Result<(), BoxError>| {
        Script::starting(move |reports, mut signals| async move {
            if reports.generation() == Generation(1) {
                first(&reports)?;
                signals.acked().await;
                return Ok(Task::new(async { Ok(()) }));
            }
            Ok(Task::new(told(signals)))
        })
    };
    let failed = "c 1 starting
                  c 1 recorded: did not start: port is taken
                  c 1 hook returned
                  c 1 ended(failed)";
    second_generation(start(|_| Err("port is taken".into())), failed).await;
    let panicked = "c 1 starting
                    c 1 recorded: panicked in `start`: oh
                    c 1 hook returned
                    c 1 ended(panicked)";
    second_generation(start(|_| panic!("oh")), panicked).await;
    // The hook can't be called while `start` has the component: it is called when that is over.
    let reported = "c 1 starting
                    c 1 recorded: early
                    c 1 cancelled
                    c 1 started
                    c 1 hook returned
                    c 1 ended(failed)";
    second_generation(start(|reports| Ok(reports.report("early")?)), reported).await;
}

#[tokio::test]
async fn start_that_never_returns_is_given_up() {
    let trace = Trace::new();
    let script = Script::starting(|reports, _signals| async move {
        if reports.generation() == Generation(1) {
            return pending().await;
        }
        Ok(Task::new(async { Ok(()) }))
    });
    let supervised = spawn_with(&trace, script, |supervisor| {
        supervisor.start_within(Duration::from_millis(1)).grace(Duration::from_millis(1))
    });
    assert_eq!(supervised.await.ended().await.unwrap(), End::Completed);
    let expected = "c 1 starting
                    c 1 cancelled
                    c 1 aborted
                    c 1 recorded: `start` did not return within 1ms
                    c 1 hook returned
                    c 1 ended(failed)
                    c 1 restarting
                    c 2 starting
                    c 2 started
                    c 2 ended(completed)
                    c 2 over";
    assert_eq!(trace.text().replace("c 1 cancelled\n", ""), {
        // Its signals were dropped with `start`'s future or before: the cancel may reach nobody.
        lines(expected).replace("c 1 cancelled\n", "")
    });
}

async fn spawn_with(
    trace: &Arc<Trace>,
    script: Script,
    with: impl FnOnce(Supervisor) -> Supervisor,
) -> Supervised {
    let supervisor = Supervisor::new(script).name("c").policy(at_once(Restart::Transient));
    with(supervisor.observer(Arc::clone(trace) as _)).spawn().await.unwrap()
}

#[tokio::test]
async fn s1_07_a_hook_that_fails_ends_supervision_with_its_error() {
    for (hook, text) in [
        (Script::hook(failing(), |_| async { Err("can't clean up".into()) }), "can't clean up"),
        (Script::hook(failing(), |_| async { panic!("hook bug") }), "panicked: hook bug"),
    ] {
        let trace = Trace::new();
        let supervised = spawn(&trace, at_once(Restart::Permanent), hook).await;
        let escalation = supervised.ended().await.unwrap_err();
        let Escalation::Hook { path, failure } = &escalation else { panic!("{escalation}") };
        assert_eq!((&**path, failure.to_string().as_str()), ("c", text));
        // The component that waited for its ack got it, and has returned.
        let expected = format!(
            "c 1 starting\nc 1 started\nc 1 recorded: broken\nc 1 hook failed: {text}
             c 1 acked\nc 1 cancelled\nc 1 ended(failed)\nc 1 over"
        );
        assert_eq!(trace.text(), lines(&expected));
    }
}

fn failing() -> Script {
    Script::running(|reports, mut signals| async move {
        reports.report("broken")?;
        signals.acked().await;
        Ok(())
    })
}

#[tokio::test]
async fn s1_04_reports_of_a_dead_generation_and_second_reports_are_refused() {
    let kept = Arc::new(Mutex::new(Vec::<Reporter>::new()));
    let keep = Arc::clone(&kept);
    let script = Script::running(move |reports, mut signals| {
        keep.lock().unwrap().push(reports.clone());
        async move {
            if reports.generation() == Generation(1) {
                assert_eq!(reports.report("first"), Ok(()));
                assert_eq!(reports.report("second"), Err(ReportError::Twice(Generation(1))));
                signals.acked().await;
                assert_eq!(reports.report("third"), Err(ReportError::Twice(Generation(1))));
                return Ok(());
            }
            told(signals).await
        }
    });
    let trace = Trace::new();
    let mut supervised = spawn(&trace, at_once(Restart::Transient), script).await;
    supervised.until("c", |node| node.generation == Generation(2)).await;
    let old = kept.lock().unwrap()[0].clone();
    assert_eq!(old.report("late"), Err(ReportError::Stale(Generation(1))));
    let node = supervised.node("c").unwrap();
    assert_eq!(
        (node.generation, node.last_exit.unwrap().text.unwrap()),
        (Generation(2), "first".to_owned())
    );
    assert_eq!(supervised.stop().await.unwrap(), End::Stopped);
    assert_eq!(trace.count("recorded"), 1);
}

#[tokio::test]
async fn s1_12_completion_by_restart_kind() {
    for (restart, generations) in [(Restart::Transient, 1), (Restart::Temporary, 1)] {
        let trace = Trace::new();
        let script = Script::running(|_, _| async { Ok(()) });
        let supervised = spawn(&trace, at_once(restart), script).await;
        assert_eq!(supervised.ended().await.unwrap(), End::Completed);
        assert_eq!(trace.count("ended(completed)"), generations);
    }
    let script = once(|_, _| async { Ok(()) });
    let trace = Trace::new();
    let mut supervised = spawn(&trace, at_once(Restart::Permanent), script).await;
    supervised.until("c", |node| node.generation == Generation(2)).await;
    assert_eq!(supervised.stop().await.unwrap(), End::Stopped);
    assert_eq!((trace.count("ended(completed)"), trace.count("hook")), (1, 0));
    let script = Script::running(|_, _| async { Err("once is enough".into()) });
    let supervised = spawn(&trace, at_once(Restart::Temporary), script).await;
    assert_eq!(supervised.ended().await.unwrap(), End::Failed);
}

#[tokio::test]
async fn s1_10_cancelled_in_time_or_aborted() {
    let trace = Trace::new();
    let supervised = spawn(&trace, Policy::default(), Script::idle()).await;
    assert_eq!(supervised.stop().await.unwrap(), End::Stopped);
    assert_eq!(supervised.stop().await.unwrap(), End::Stopped, "again");
    let last = supervised.node("c").unwrap().last_exit.unwrap();
    assert_eq!(last.exit, Exit::Cancelled);

    let deaf = Script::running(|_, _| pending());
    let grace = Duration::from_millis(1);
    let supervised = spawn_with(&trace, deaf, |supervisor| supervisor.grace(grace)).await;
    assert_eq!(supervised.stop().await.unwrap(), End::Stopped);
    assert_eq!(supervised.node("c").unwrap().last_exit.unwrap().exit, Exit::Killed);
}

/// A failed component that ignores its cancel is aborted, too, before the next generation.
#[tokio::test]
async fn s1_10_a_failed_generation_that_stays_is_aborted_before_the_next() {
    let script = once(|reports, signals| async move {
        reports.report("broken, and I stay")?;
        drop(signals);
        pending().await
    });
    let trace = Trace::new();
    let grace = Duration::from_millis(1);
    let mut supervised = spawn_with(&trace, script, |supervisor| supervisor.grace(grace)).await;
    supervised.until("c", |node| node.generation == Generation(2)).await;
    let text = trace.text();
    let at = |line: &str| text.find(line).unwrap_or_else(|| panic!("no {line} in {text}"));
    assert!(at("c 1 aborted") < at("c 1 ended(failed)"));
    assert!(at("c 1 ended(failed)") < at("c 2 starting"));
    supervised.stop().await.unwrap();
}

/// It blocks a thread, until the test lets it go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_blocks_its_thread_is_stuck_and_has_no_second_generation() {
    let (let_go, hold) = std::sync::mpsc::channel::<()>();
    let hold = Arc::new(Mutex::new(hold));
    let held = move || {
        let hold = Arc::clone(&hold);
        once(move |reports, _| {
            let hold = Arc::clone(&hold);
            async move {
                reports.report("I block")?;
                hold.lock().unwrap().recv().ok();
                Ok(())
            }
        })
    };
    let trace = Trace::new();
    let policy = at_once(Restart::Transient);
    let grace = Duration::from_millis(1);
    let supervised = spawn_with(&trace, held(), |supervisor| {
        supervisor.grace(grace).policy(policy.with_exhausted(Exhausted::Park))
    });
    let mut supervised = supervised.await;
    let stuck = supervised.until("c", |node| node.state == State::Stuck).await;
    assert_eq!(stuck.generation, Generation(1));
    // It comes back, and then the restart that was decided goes on.
    let_go.send(()).unwrap();
    supervised.until("c", |node| node.generation == Generation(2)).await;
    assert_eq!(supervised.stop().await.unwrap(), End::Stopped);

    // Escalated, it ends supervision, and says why.
    let supervised = spawn_with(&trace, held(), |supervisor| supervisor.grace(grace)).await;
    let escalation = supervised.ended().await.unwrap_err();
    assert!(matches!(&escalation, Escalation::Stuck { path } if &**path == "c"), "{escalation}");
    let_go.send(()).unwrap();
}

#[tokio::test]
async fn r9_restarts_end_as_the_policy_says() {
    #[derive(Debug, Default)]
    struct Raised(Mutex<Vec<String>>);
    impl Emergency for Raised {
        fn emergency(&self, reason: &Escalation) {
            self.0.lock().unwrap().push(reason.to_string());
        }
    }
    let intensity = Intensity::new(99, LONG).unwrap();
    let policy = at_once(Restart::Permanent).with_intensity(intensity);
    let storm = || Script::running(|_, _| async { panic!("at once") });
    let trace = Trace::new();

    let supervised = spawn(&trace, policy, storm()).await;
    let escalation = supervised.ended().await.unwrap_err().to_string();
    assert_eq!(escalation, "`c` has used its restarts up, the last time with: panicked: at once");
    assert_eq!(trace.count("ended(panicked)"), 100);

    let raised = Arc::new(Raised::default());
    let supervised = Supervisor::new(storm())
        .policy(policy.with_exhausted(Exhausted::Emergency))
        .emergency(Arc::clone(&raised) as _)
        .spawn();
    let emergency = supervised.await.unwrap().ended().await.unwrap_err();
    assert!(matches!(emergency, Escalation::Emergency { .. }), "{emergency}");
    assert_eq!(*raised.0.lock().unwrap(), [emergency.to_string()]);

    let policy = policy.with_exhausted(Exhausted::Park);
    let mut supervised = spawn(&Trace::new(), policy, storm()).await;
    for resumed in 0..3 {
        let generation = Generation(100 * (resumed + 1));
        let parked =
            |node: &supervisor::Node| node.state == State::Parked && node.generation == generation;
        supervised.until("c", parked).await;
        assert!(supervised.resume("c") && !supervised.resume("d"));
    }
    assert_eq!(supervised.stop().await.unwrap(), End::Stopped);
}

/// The hook lets go of what the failed generation held, and the next one can have it.
#[tokio::test]
async fn s1_14_a_port_can_be_bound_again_by_the_next_generation() {
    let held = Arc::new(Mutex::new(None::<TcpListener>));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (hold, free) = (Arc::clone(&held), Arc::clone(&held));
    let script = Script::starting(move |reports, signals| {
        let hold = Arc::clone(&hold);
        async move {
            *hold.lock().unwrap() = Some(TcpListener::bind(("127.0.0.1", port))?);
            Ok(Task::new(async move {
                if reports.generation() < Generation(20) {
                    reports.report("lost its peer")?;
                }
                told(signals).await
            }))
        }
    });
    let script = script.hook(move |_| {
        drop(free.lock().unwrap().take());
        async { Ok(()) }
    });
    let trace = Trace::new();
    let mut supervised = spawn(&trace, at_once(Restart::Transient), script).await;
    supervised.until("c", |node| node.generation == Generation(20)).await;
    assert_eq!(trace.count("did not start"), 0);
    supervised.stop().await.unwrap();
}

#[tokio::test]
async fn a_dropped_handle_stops_nothing() {
    let (said, mut heard) = tokio::sync::mpsc::channel(1);
    let runs = Arc::new(AtomicU32::new(0));
    let script = Script::running(move |_, _| {
        let (said, run) = (said.clone(), runs.fetch_add(1, Ordering::Relaxed));
        async move { said.send(run).await.map_err(Into::into) }
    });
    let supervisor = Supervisor::new(script).policy(at_once(Restart::Permanent));
    drop(supervisor.spawn().await.unwrap());
    for run in 0..10 {
        assert_eq!(heard.recv().await, Some(run));
    }
}

/// A runtime without timers: the supervisor itself can't work, and that is no storm of restarts.
#[test]
fn a_supervisor_that_panics_is_escalated_and_not_restarted() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let escalation = runtime.block_on(async {
        let policy = at_once(Restart::Permanent);
        let supervised = Supervisor::new(Script::idle()).policy(policy).spawn().await.unwrap();
        supervised.ended().await.unwrap_err()
    });
    let Escalation::Lost { path, text } = &escalation else { panic!("{escalation}") };
    assert!(&**path == "root" && text.contains("timers are disabled"), "{escalation}");
}

#[test]
fn spawning_outside_of_a_runtime_is_refused() {
    let mut spawning = Box::pin(Supervisor::new(Script::idle()).spawn());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(result) = spawning.as_mut().poll(&mut context) else {
        panic!("it waits")
    };
    assert_eq!(result.unwrap_err(), SpawnError::NoRuntime);
}
