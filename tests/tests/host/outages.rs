//! Real servers that die under load: who is cancelled, who waits, who notices nothing.
//!
//! ```text
//!  a, b --need--> bank/victim ---- proxy ---- a server that is killed, stopped, cut off, slow
//!  c    --needs-> bank/other  ------------- another server, of the other kind
//!  d    --needs nothing
//! ```
//!
//! Each transaction of a, b and c asks its server whether its init jobs have run, and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::base::entropy::{Entropy, SeededEntropy};
use host::mechanisms::providers::postgres::Postgres as PostgresProvider;
use host::mechanisms::providers::redis::Redis as RedisProvider;
use host::mechanisms::providers::{Provider, Sharing};
use host::pure::request::Outcome;
use host::pure::resource::{Policy, Status};
use host::tree::{DaemonPlan, DaemonState, ResourcePlan, ResourceView};
use serde_json::json;
use servers::{Fault, Kept, Postgres, Proxy, Redis};
use supervisor::Backoff;
use tests::{Holdings, Tree, deployed, in_own_process, plan, until};

const VICTIM: &str = "bank/victim";
const OTHER: &str = "bank/other";

/// Clients of each daemon.
const CLIENTS: usize = 2;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Redis,
    Postgres,
}

impl Kind {
    fn other(self) -> Self {
        if self == Self::Redis { Self::Postgres } else { Self::Redis }
    }

    /// Init jobs, after which a server answers `ready`: and not before them, when it has lost all.
    fn jobs(self) -> &'static [&'static str] {
        match self {
            Self::Redis => &["SET ready yes", "INCR starts"],
            Self::Postgres => &[
                "CREATE UNLOGGED TABLE IF NOT EXISTS ready (answer text)",
                "INSERT INTO ready VALUES ('yes')",
            ],
        }
    }

    fn provider(self, url: &str) -> Arc<dyn Provider> {
        let jobs = self.jobs().iter();
        match self {
            Self::Redis => {
                let words =
                    |job: &str| job.split(' ').map(|word| word.as_bytes().to_vec()).collect();
                let jobs = jobs.map(|job| ((*job).to_owned(), words(job))).collect();
                Arc::new(RedisProvider::new(url, None, 1, jobs).unwrap())
            }
            Self::Postgres => {
                let jobs = jobs.map(|job| ((*job).to_owned(), (*job).to_owned())).collect();
                Arc::new(PostgresProvider::new(url, 4, jobs).unwrap())
            }
        }
    }

    fn plan(self, name: &str, url: &str) -> ResourcePlan {
        let backoff = Backoff::new(Duration::from_millis(2), 2, Duration::from_millis(50), 0);
        ResourcePlan {
            name: name.to_owned(),
            provider: self.provider(url),
            jobs: self.jobs().iter().map(|&job| job.to_owned()).collect(),
            policy: Policy::new(backoff.unwrap(), Duration::from_millis(5)),
        }
    }
}

/// A server of either kind.
enum Server {
    Redis(Redis),
    Postgres(Postgres),
}

impl Server {
    fn start(kind: Kind) -> Self {
        match kind {
            Kind::Redis => Self::Redis(Redis::start()),
            Kind::Postgres => Self::Postgres(Postgres::start()),
        }
    }

    fn kept(&mut self) -> &mut Kept {
        match self {
            Self::Redis(server) => server,
            Self::Postgres(server) => server,
        }
    }

    fn own_url(&mut self) -> String {
        let addr = self.kept().addr();
        self.url(addr)
    }

    fn url(&self, addr: std::net::SocketAddr) -> String {
        match self {
            Self::Redis(_) => format!("redis://{addr}"),
            Self::Postgres(server) => {
                server.url().replace(&server.addr().to_string(), &addr.to_string())
            }
        }
    }
}

/// What can happen to a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Blow {
    Killed,
    Stopped,
    Reset,
    Stalled,
    Slow,
}

const BLOWS: [Blow; 5] = [Blow::Killed, Blow::Stopped, Blow::Reset, Blow::Stalled, Blow::Slow];

fn daemon(name: &str, needs: &[&str]) -> DaemonPlan {
    let plan = plan(name, &deployed("caller"), |options| {
        options.verify = false;
        options.limits.deadline = Duration::from_secs(60);
    });
    DaemonPlan { needs: needs.iter().map(|&name| name.to_owned()).collect(), ..plan }
}

fn resource(tree: &Tree, name: &str) -> ResourceView {
    tree.root.resources().into_iter().find(|view| view.name == name).unwrap()
}

fn is_up(tree: &Tree) -> bool {
    resource(tree, VICTIM).status == Status::Available
}

fn generation(tree: &Tree, daemon: &str) -> u64 {
    tree.view(daemon).report.generation
}

/// What the clients of one daemon were answered.
#[derive(Debug, Default)]
struct Seen {
    values: BTreeSet<u64>,
    asked: u64,
    others: BTreeMap<String, u64>,
    /// The machine was too slow for a server that nothing was done to.
    late: bool,
}

/// One client. `kind` is that of the server that the daemon needs.
fn client(tree: &Tree, name: &str, kind: Option<Kind>, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let resource = if matches!(name, "a" | "b") { "victim" } else { "other" };
    while !over.load(Ordering::Relaxed) {
        let (contract, arguments) = match kind {
            Some(Kind::Redis) => ("ask", json!({"name": resource, "words": ["GET", "ready"]})),
            Some(Kind::Postgres) => {
                let statement = "SELECT answer FROM ready LIMIT 1";
                ("query", json!({"name": resource, "statement": statement}))
            }
            None => ("count", json!({})),
        };
        let answer = tree.call(name, contract, arguments);
        seen.asked += 1;
        match (answer.value(), &answer.outcome) {
            (Some(value), _) => {
                let counted = if kind.is_some() { &value[0] } else { &value };
                if kind.is_some() {
                    assert_eq!(value[1], "yes", "{name} ran before the init jobs");
                }
                let counted = counted.as_u64().unwrap();
                assert!(seen.values.insert(counted), "{name}: {counted} was answered twice");
            }
            (None, Outcome::Rejected(no)) => *seen.others.entry(no.code.clone()).or_default() += 1,
            (None, Outcome::Cancelled(stale)) => {
                // A machine on which nothing answers in time has no server that is well.
                let late = stale.resource == OTHER && stale.why.contains("did not check within");
                assert!(stale.resource == VICTIM || late, "{name}: {stale}");
                *seen.others.entry("cancelled".to_owned()).or_default() += 1;
                seen.late |= late;
            }
            (None, other) => panic!("{name}: {other:?}"),
        }
    }
    seen
}

/// Strikes, waits until that has come to what it must, and until all are well again.
fn strike(tree: &Tree, server: &mut Server, proxy: &Proxy, blow: Blow) {
    let before = resource(tree, VICTIM).generation.0;
    match blow {
        Blow::Killed => server.kept().kill9(),
        Blow::Stopped => server.kept().pause(),
        Blow::Reset => proxy.set(Fault::Reset),
        Blow::Stalled => proxy.set(Fault::Stall { to_server: true, to_client: true }),
        Blow::Slow => proxy.set(Fault::Delay(Duration::from_millis(20))),
    }
    if blow == Blow::Slow {
        std::thread::sleep(Duration::from_millis(300));
    } else {
        until("down", || !is_up(tree) || resource(tree, VICTIM).generation.0 > before);
    }
    match blow {
        Blow::Killed => server.kept().restart(),
        Blow::Stopped => server.kept().resume(),
        Blow::Reset | Blow::Stalled | Blow::Slow => proxy.set(Fault::Pass),
    }
    let ready = |name: &str| tree.view(name).report.state == DaemonState::Ready;
    let well =
        || is_up(tree) && ["a", "b"].iter().all(|name| ready(name) || is_running(tree, name));
    until("up", well);
}

fn is_running(tree: &Tree, name: &str) -> bool {
    tree.view(name).report.state == DaemonState::Running
}

/// How many requests are committed by the daemons that notice nothing, per second, meanwhile.
fn untouched_rate(tree: &Tree, meanwhile: impl FnOnce()) -> f64 {
    let count = || ["c", "d"].map(|name| tree.view(name).report.sequence).iter().sum::<u64>();
    let (before, since) = (count(), Instant::now());
    meanwhile();
    let committed = count() - before;
    f64::from(u32::try_from(committed).unwrap()) / since.elapsed().as_secs_f64()
}

/// Strikes a server so often, under load from four daemons.
fn outages(victim: Kind, blows: &[Blow]) {
    let (mut server, mut beside) = (Server::start(victim), Server::start(victim.other()));
    let proxy = Proxy::start(server.kept().addr());
    assert_ne!(victim.provider(&server.url(proxy.addr())).sharing(), Sharing::None);
    let resources = vec![
        victim.plan(VICTIM, &server.url(proxy.addr())),
        victim.other().plan(OTHER, &beside.own_url()),
    ];
    let needs = [("a", VICTIM), ("b", VICTIM), ("c", OTHER)];
    let plans = needs.map(|(name, resource)| daemon(name, &[resource]));
    let plans = plans.into_iter().chain([daemon("d", &[])]).collect();
    let tree = Tree::with_resources(plans, resources, None);
    until("up", || is_up(&tree) && resource(&tree, OTHER).status == Status::Available);
    let kinds =
        [("a", Some(victim)), ("b", Some(victim)), ("c", Some(victim.other())), ("d", None)];
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients = kinds.map(|(name, kind)| {
            let (tree, over) = (&tree, &over);
            let of = |_| scope.spawn(move || client(tree, name, kind, over));
            (name, (0..CLIENTS).map(of).collect::<Vec<_>>())
        });
        std::thread::sleep(Duration::from_millis(200));
        let (mut storm, mut quiet, mut struck) = (0_u64, Vec::new(), Vec::new());
        for &blow in blows {
            quiet.push(untouched_rate(&tree, || std::thread::sleep(Duration::from_millis(500))));
            let before = ["a", "b"].map(|name| generation(&tree, name));
            let resource_before = resource(&tree, VICTIM).generation.0;
            struck.push(untouched_rate(&tree, || strike(&tree, &mut server, &proxy, blow)));
            let recoveries = resource(&tree, VICTIM).generation.0 - resource_before;
            let started = ["a", "b"].map(|name| generation(&tree, name));
            let expected = before.map(|generation| generation + recoveries);
            assert_eq!(started, expected, "{blow:?}: {recoveries} recoveries");
            assert_eq!(recoveries > 0, blow != Blow::Slow, "{blow:?}");
            storm += recoveries;
        }
        over.store(true, Ordering::Relaxed);
        println!("{victim:?}: {storm} recoveries; commits of c and d per second between the blows");
        println!("{quiet:.0?}, from each to its end {struck:.0?}");
        for (name, clients) in clients {
            let seen: Vec<Seen> =
                clients.into_iter().map(|client| client.join().unwrap()).collect();
            let mut values = BTreeSet::new();
            for value in seen.iter().flat_map(|seen| &seen.values) {
                assert!(values.insert(*value), "{name}: {value} was answered twice");
            }
            let report = tree.view(name).report;
            assert_eq!((report.crashed, report.restarts), (0, 0), "{name}");
            let others = || seen.iter().flat_map(|seen| &seen.others);
            let cancelled: u64 =
                others().filter(|(code, _)| *code == "cancelled").map(|(_, count)| count).sum();
            assert_eq!(report.cancelled, cancelled, "{name}");
            if seen.iter().any(|seen| seen.late) {
                println!("{name} is not judged: the machine was too slow for its server");
            } else if matches!(name, "c" | "d") {
                assert_eq!(
                    (others().count(), report.generation),
                    (0, 1),
                    "{name} noticed: {seen:?}"
                );
            } else {
                assert!(cancelled > 0, "{name} was never cancelled");
                let known = |code: &str| code == "cancelled" || code == "E_UNAVAILABLE";
                assert!(others().all(|(code, _)| known(code)), "{name}: {seen:?}");
            }
            // On a slow machine its server may be down at this moment, and comes back.
            until("it can be asked", || tree.view(name).report.state == DaemonState::Ready);
            // Nothing committed that nobody was told of, and nothing told that was not committed.
            let asked = tree.committed(name, "asked", json!({})).as_u64().unwrap();
            assert_eq!(values.len() as u64, asked, "{name}");
        }
    });
    assert!(tree.root.resources().iter().all(|resource| resource.leases.is_empty()));
}

#[test]
fn s0_02_s0_03_s0_12_a_redis_that_dies_under_load_ends_and_starts_its_own_daemons_alone() {
    outages(Kind::Redis, &BLOWS);
}

#[test]
fn s0_02_s0_03_s0_12_a_postgresql_that_dies_under_load_ends_and_starts_its_own_daemons_alone() {
    outages(Kind::Postgres, &BLOWS);
}

#[test]
#[ignore = "soak"]
fn soak_s0_02_outages_of_both_servers_in_any_order() {
    let seeds = std::env::var("BULKHEAD_SEEDS").ok().and_then(|text| text.parse().ok());
    let name = "host::outages::soak_s0_02_outages_of_both_servers_in_any_order";
    in_own_process(name, || {
        outages(Kind::Redis, &[Blow::Killed]);
        outages(Kind::Postgres, &[Blow::Killed]);
        let before = Holdings::now();
        for seed in 0..seeds.unwrap_or(3_u64).min(20) {
            let random = SeededEntropy::new(seed);
            let any = || BLOWS[usize::from(random.seed()[0]) % BLOWS.len()];
            for kind in [Kind::Redis, Kind::Postgres] {
                let blows: Vec<Blow> = (0..10).map(|_| any()).collect();
                println!("seed {seed}: {blows:?}");
                let with_one_death: Vec<Blow> = [Blow::Killed].into_iter().chain(blows).collect();
                outages(kind, &with_one_death);
            }
        }
        let after = Holdings::now();
        println!("{before:?}, after that {after:?}");
        let held = |held: &Holdings| (held.threads, held.descriptors);
        assert_eq!(held(&after), held(&before));
    });
}

#[test]
#[ignore = "soak"]
fn soak_s0_03_a_hundred_flaps_in_a_minute_start_dependents_a_few_times() {
    let mut server = Server::start(Kind::Redis);
    let proxy = Proxy::start(server.kept().addr());
    let plans = vec![daemon("a", &[VICTIM])];
    let plan = Kind::Redis.plan(VICTIM, &server.url(proxy.addr()));
    let tree = Tree::with_resources(plans, vec![plan], None);
    until("up", || is_up(&tree));
    for _ in 0..100 {
        proxy.set(Fault::Reset);
        std::thread::sleep(Duration::from_millis(100));
        proxy.set(Fault::Pass);
        std::thread::sleep(Duration::from_millis(500));
    }
    let starts = generation(&tree, "a") - 1;
    println!("100 flaps, {starts} starts");
    // 5 ms doubled with each flap: after seven it has to last longer than the pauses are.
    assert!((1..=8).contains(&starts), "{starts} starts");
    until("it comes back for good", || is_up(&tree));
}
