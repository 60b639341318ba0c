//! What the main thread does in `host run`: lets others start and serve, until there is a reason to
//! stop, and then stops everything in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::sync::Notify;

use super::run::{RunArgs, greeting, start};
use super::{print, print_fault, requests};
use crate::base::clock::SystemClock;
use crate::base::error::{Code, Fault};
use crate::base::limits::{
    STOP_ANSWERS, STOP_GRACE, STOP_GRACE_MAX, STOP_STARTING, WATCH_SLACK, WATCH_SLACK_MAX,
};
use crate::base::stop::Reason;
use crate::base::vitals::{Kind, Vitals};
use crate::pure::ingress::Hosts;
use crate::pure::setting::parse_time;
use crate::pure::stop_order::Deadlines;
use crate::shell::api::{Listening, Served};
use crate::shell::control_plane::serve_until;
use crate::shell::ending::stop_in_order;
use crate::shell::health::Health;
use crate::shell::ingress::Ingress;
use crate::shell::main_loop::MainLoop;
use crate::shell::notify::{self, Told};
use crate::shell::place::Place;
use crate::shell::signals::Signals;
use crate::shell::{exit, room, sink, watchdog};

/// Runs a host from its first moment to its exit code.
pub(super) fn conduct(args: &RunArgs) -> Result<u8, Fault> {
    room::take()?;
    let no_thread = |error: std::io::Error| {
        Fault::new(Code::ProcessLimit, format!("no thread for what the host says: {error}"))
    };
    sink::take_errors().map_err(no_thread)?;
    if args.requests.is_none() {
        // Outcomes of requests are never dropped: they wait for their reader, on their own thread.
        sink::take_answers().map_err(no_thread)?;
    }
    let grace = time("stop-grace", args.stop_grace.as_deref(), STOP_GRACE, STOP_GRACE_MAX)?;
    let slack = time("watch-slack", args.watch_slack.as_deref(), WATCH_SLACK, WATCH_SLACK_MAX)?;
    let deadlines = Deadlines::of_grace(grace);
    let broken = |error: std::io::Error| Fault::new(Code::Engine, error.to_string());
    let signals = Signals::take().map_err(broken)?;
    let place = match &args.requests {
        // Nobody would look for it at the default socket, and several may run at once.
        Some(_) if !args.socket.is_given() => None,
        _ => Some(Place::claim(&args.socket.path()).map_err(|error| Fault::from(&error))?),
    };
    let (vitals, health) = (Arc::new(Vitals::default()), Arc::new(Health::default()));
    let stop_time = deadlines.total() + STOP_STARTING + STOP_ANSWERS + slack;
    let clock = Arc::new(SystemClock::new());
    watchdog::start(vitals.clone(), health.clone(), clock, stop_time).map_err(broken)?;
    let mut main = MainLoop::new(vitals, signals, place, slack);
    let result = from_start_to_end(args, &mut main, &health, deadlines);
    if let Some(place) = main.place.take() {
        place.leave(match &result {
            Ok(code) => *code,
            Err(_) => exit::FAILED,
        });
    }
    result
}

fn time(
    option: &str,
    text: Option<&str>,
    usual: Duration,
    time_max: Duration,
) -> Result<Duration, Fault> {
    text.map_or(Ok(usual), |text| {
        parse_time(text, time_max)
            .map_err(|error| Fault::new(Code::Option, format!("--{option}: {error}")))
    })
}

fn from_start_to_end(
    args: &RunArgs,
    main: &mut MainLoop,
    health: &Arc<Health>,
    deadlines: Deadlines,
) -> Result<u8, Fault> {
    let (its, vitals, health) = (args.clone(), main.vitals().clone(), health.clone());
    let starting = main.spawn("start", Kind::Api, move |_heart| {
        start(&its, &vitals).map(|served| Served { health, ..served })
    })?;
    let Some(started) = main.until(&starting) else {
        begin_stop(main);
        // Nothing was served yet, so nobody loses anything when it does not end in its time.
        if let Ok(Ok(served)) = starting.recv_timeout(STOP_STARTING) {
            return Ok(end(main, &Arc::new(served), deadlines));
        }
        return Ok(code(main.reason(), true));
    };
    let served = match started {
        Ok(served) => Arc::new(served),
        Err(fault) if fault.code == Code::Stopping => {
            main.tick();
            begin_stop(main);
            return Ok(code(main.reason(), true));
        }
        Err(fault) => return Err(fault),
    };
    let api = Api::open(args, main, &served)?;
    let result = match &args.requests {
        Some(_) => run_requests(args, main, &served, deadlines),
        None => Ok(listen(args, main, &served, api.as_ref(), deadlines)),
    };
    if let Some(api) = api {
        api.close();
    }
    result
}

/// Runs the file of requests; a stop leaves out what is not submitted yet.
fn run_requests(
    args: &RunArgs,
    main: &mut MainLoop,
    served: &Arc<Served>,
    deadlines: Deadlines,
) -> Result<u8, Fault> {
    let (its, same) = (args.clone(), served.clone());
    let running = main.spawn("requests", Kind::Api, move |_heart| {
        let file = its.requests.unwrap_or_default();
        requests::run(&same.root, &file, its.output, same.vitals.stop())
    })?;
    let result = main.until(&running);
    // The work is done, or there was another reason before.
    let _first = served.vitals.stop().trigger(Reason::Asked);
    begin_stop(main);
    let stopped = end(main, served, deadlines);
    match result {
        Some(Ok(_)) if stopped != exit::DONE => Ok(stopped),
        Some(result) => result,
        None => {
            // What was answered is still printed. Some requests were left out, whoever asked for
            // that.
            let printed = running.recv_timeout(STOP_ANSWERS).is_ok();
            tracing::debug!(printed, "the requests were cut short");
            Ok(if stopped == exit::DONE { exit::FAILED } else { stopped })
        }
    }
}

/// Serves the socket until there is a reason to stop; the end of the control plane is one.
fn listen(
    args: &RunArgs,
    main: &mut MainLoop,
    served: &Arc<Served>,
    api: Option<&Api>,
    deadlines: Deadlines,
) -> u8 {
    let http = api.and_then(|api| api.http);
    print(&greeting(args.output, served, &args.socket.path(), http));
    notify::tell(Told::Ready);
    if let Some(api) = api {
        let _ended = main.until(&api.ended);
    }
    begin_stop(main);
    end(main, served, deadlines)
}

/// The control plane, on its thread.
struct Api {
    ended: Receiver<()>,
    ending: Arc<Notify>,
    /// Where it answers HTTP.
    http: Option<SocketAddr>,
}

impl Api {
    /// Listens at the host's place, if it has one, and for HTTP, if that is wanted.
    fn open(
        args: &RunArgs,
        main: &mut MainLoop,
        served: &Arc<Served>,
    ) -> Result<Option<Self>, Fault> {
        let Some(place) = &mut main.place else { return Ok(None) };
        let hosts = Hosts::new(&args.http_host);
        let ingress = args.http.map(|address| Ingress::bind(address, hosts)).transpose()?;
        let http = ingress.as_ref().map(Ingress::address);
        let listening = Listening::bind(place).map_err(|error| Fault::from(&error))?;
        let ending = Arc::new(Notify::new());
        let (its_end, same, slack) = (ending.clone(), served.clone(), main.slack);
        let ended = main.spawn("api", Kind::Api, move |heart| {
            let ended = serve_until((listening, ingress), &same, &its_end, heart, slack);
            if !same.vitals.stop().is_set() {
                let why = ended.err().map_or_else(String::new, |error| format!(": {error}"));
                let text = format!("the control plane ended{why}");
                // Another reason may have been there first.
                let _first = same.vitals.stop().emergency(Code::HostBug, text);
            }
        })?;
        Ok(Some(Self { ended, ending, http }))
    }

    fn close(self) {
        self.ending.notify_one();
        if self.ended.recv_timeout(STOP_ANSWERS).is_err() {
            tracing::debug!("the control plane is left as it is");
        }
    }
}

/// Tells everybody why the host stops.
fn begin_stop(main: &mut MainLoop) {
    notify::tell(Told::Stopping);
    let reason = main.reason();
    match (reason, main.vitals().stop().text()) {
        (Reason::Emergency(code), text) => {
            print_fault(&Fault::new(code, text.unwrap_or("emergency stop")));
        }
        _ => tracing::info!("stopping: {reason}"),
    }
    if let Some(place) = &mut main.place {
        place.note_stopping(&reason.to_string());
    }
}

/// Stops in order and answers the exit code.
fn end(main: &MainLoop, served: &Arc<Served>, deadlines: Deadlines) -> u8 {
    let stopped = stop_in_order(served, main, deadlines);
    if let Err(fault) = &stopped {
        print_fault(fault);
        // Whoever drops the root waits for what did not end: nobody does.
        std::mem::forget(served.clone());
    }
    code(main.reason(), stopped.is_ok())
}

/// The reason's exit code; a stop in order of anything but an emergency is a success.
fn code(reason: Reason, in_order: bool) -> u8 {
    match (reason, in_order) {
        (Reason::Emergency(_), _) => exit::EMERGENCY,
        (_, false) => exit::FORCED,
        (_, true) => exit::DONE,
    }
}
