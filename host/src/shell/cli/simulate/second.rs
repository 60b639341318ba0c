//! A second host, on a copy of a daemon, that is there to be killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::THIS_PROGRAM;
use crate::base::clock::SystemClock;
use crate::base::entropy::SystemEntropy;
use crate::base::error::{Code, Fault, printable};
use crate::base::limits::BUDGET_DEFAULT_BYTES;
use crate::mechanisms::journal::{DirectoryId, Entry, Journal, Origin, Store, StoreOptions};
use crate::mechanisms::memory::Images;
use crate::mechanisms::sandbox::{NoLog, Sandbox, SandboxOptions};
use crate::pure::checkpoint::decode_snapshot;
use crate::pure::drill::{State, absent_service};
use crate::shell::api::{Client, deploy_stored};
use crate::tree::{Daemon, DaemonOptions, JournalSeat, World};

/// Clients that ask at once, so that commits share syncs and wait for one another.
const CLIENTS: usize = 4;

/// What is on the disk after a kill.
#[derive(Clone, Debug)]
pub(super) struct Recovered {
    pub(super) state: State,
    /// What reading everything found to be wrong.
    pub(super) damage: Vec<String>,
}

/// What the clients saw until the kill.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) killed_after: Duration,
    pub(super) attempts: u64,
    pub(super) acknowledgements: u64,
    /// The last acknowledged commit.
    pub(super) last: u64,
}

/// The second host: its directory, and its process while it runs.
pub(super) struct Second {
    dir: PathBuf,
    daemon: String,
    service: PathBuf,
    budget: usize,
    changes_itself: bool,
    child: Option<Child>,
    last: Option<State>,
}

impl Drop for Second {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already; then there is nothing to end.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The daemon of that name in the answer to `ps`.
pub(super) fn find<'a>(ps: &'a Value, name: &str) -> Option<&'a Value> {
    ps.get("daemons")?
        .as_array()?
        .iter()
        .find(|daemon| daemon.get("name").and_then(Value::as_str) == Some(name))
}

fn file(path: &Path) -> impl Fn(std::io::Error) -> Fault {
    move |error| Fault::new(Code::File, format!("{}: {error}", path.display()))
}

impl Second {
    /// Makes a data directory in `dir` whose one daemon stands on the state of a snapshot, and a
    /// manifest with resources that are not there: `(name, kind)`.
    pub(super) fn plant(
        dir: &Path,
        daemon: &str,
        snapshot: &[u8],
        budget: Option<u64>,
        resources: &[(&str, &str)],
    ) -> Result<Self, Fault> {
        let (checkpoint, code) = decode_snapshot(snapshot)
            .map_err(|error| Fault::new(Code::Snapshot, error.to_string()))?;
        let guest = dir.join(daemon).with_extension("wasm");
        fs::write(&guest, code).map_err(file(&guest))?;
        let service = dir.join("drill.toml");
        fs::write(&service, absent_service(daemon, resources)).map_err(file(&service))?;
        let budget = budget.and_then(|bytes| usize::try_from(bytes).ok());
        let budget = budget.unwrap_or(BUDGET_DEFAULT_BYTES);
        let sandbox = Sandbox::new(SandboxOptions::default())
            .map_err(|error| Fault::new(Code::Engine, error.to_string()))?;
        let deployed = deploy_stored(&sandbox, code, budget)?;
        let changes_itself = deployed.hooks().on_restore;
        let store = open(dir)?;
        let fault = |fault| Fault::from(&fault);
        let key = store.daemon(daemon, Origin::Init, budget as u64).map_err(fault)?;
        store.put_code(checkpoint.code, code).map_err(fault)?;
        let journal: Arc<dyn Journal> = Arc::new(store);
        let seat = JournalSeat { journal: journal.clone(), key };
        let images = Images::new(budget, &deployed.shape())
            .map_err(|error| Fault::new(Code::NoMemory, error.to_string()))?;
        let world = World {
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            log: Arc::new(NoLog),
            outputs: Arc::default(),
            hold: None,
        };
        let options = DaemonOptions::new(daemon, budget);
        let mut adopted =
            Daemon::adopt(deployed, images, options, world, &checkpoint, Some(&seat))?;
        let records = adopted.take_records();
        let entries = records.iter().map(|(sequence, record)| Entry {
            daemon: key,
            sequence: *sequence,
            record,
        });
        let entries: Vec<Entry<'_>> = entries.collect();
        journal.append(&entries).map_err(fault)?;
        let (dir, daemon) = (dir.to_owned(), daemon.to_owned());
        Ok(Self { dir, daemon, service, budget, changes_itself, child: None, last: None })
    }

    /// The guest commits something when it is told of a restart.
    pub(super) fn changes_itself(&self) -> bool {
        self.changes_itself
    }

    /// What was on the disk after the last kill.
    pub(super) fn last(&self) -> Option<&State> {
        self.last.as_ref()
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("run").join("host.sock")
    }

    /// Starts the host, and answers the state that it runs on.
    pub(super) fn start(&mut self) -> Result<State, Fault> {
        let log = self.dir.join("log");
        let mut child = Command::new(THIS_PROGRAM)
            .arg("run")
            .arg(&self.service)
            .args(["--budget", &self.budget.to_string(), "--output", "json"])
            .args(["--durability", "fsync", "--data"])
            .arg(self.dir.join("data"))
            .arg("--socket")
            .arg(self.socket())
            .arg("--cache-dir")
            .arg(self.dir.join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(file(&log))?)
            .spawn()
            .map_err(file(Path::new(THIS_PROGRAM)))?;
        let stdout = child.stdout.take();
        self.child = Some(child);
        let mut line = String::new();
        // Nothing is read when it could not start; its log says why.
        let read = stdout.map(|stdout| BufReader::new(stdout).read_line(&mut line));
        if line.is_empty() {
            drop(read);
            let why = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<String> = why.lines().map(|line| printable(line, 300)).collect();
            let message = format!("the second host did not start:\n  {}", lines.join("\n  "));
            return Err(Fault::new(Code::HostBug, message));
        }
        let ps = self.ask(&json!({ "ps": { "hash": true } }))?;
        let state = find(&ps, &self.daemon).and_then(|daemon| {
            let hash = daemon.get("committed_hash")?.as_str()?.to_owned();
            Some(State { sequence: daemon.get("sequence")?.as_u64()?, hash })
        });
        state.ok_or_else(|| Fault::new(Code::HostBug, "the second host doesn't show its state"))
    }

    fn ask(&self, command: &Value) -> Result<Value, Fault> {
        Client::connect(&self.socket())
            .and_then(|mut client| client.ask(command))
            .map_err(|error| Fault::new(Code::Socket, error.to_string()))
    }

    /// Lets clients ask until the host is killed, `after` the first acknowledgement.
    pub(super) fn load_and_kill(
        &mut self,
        requests: Option<&[String]>,
        after: Duration,
    ) -> Result<Load, Fault> {
        let revert = [json!({ "revert": { "daemon": self.daemon, "last": 0 } }).to_string()];
        let requests = requests.unwrap_or(&revert);
        let (attempts, acknowledgements, last) =
            (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let socket = self.socket();
        let client = |number: usize, first: mpsc::SyncSender<()>| {
            let Ok(mut client) = Client::connect(&socket) else { return };
            for request in requests.iter().cycle().skip(number) {
                attempts.fetch_add(1, Ordering::SeqCst);
                let Ok(answer) = client.ask_line(request.clone()) else { return };
                let Ok(answer) = serde_json::from_str::<Value>(&answer) else { return };
                let outcome = answer.get("outcome").and_then(Value::as_str);
                let committed = outcome == Some("committed") || answer.get("reverted").is_some();
                let sequence = answer.get("sequence").and_then(Value::as_u64);
                if let Some(sequence) = sequence.filter(|_| committed) {
                    last.fetch_max(sequence, Ordering::SeqCst);
                    acknowledgements.fetch_add(1, Ordering::SeqCst);
                }
                // The first one counts; who comes later finds the place taken.
                let _taken = first.try_send(()).is_err();
            }
        };
        let (first, started) = mpsc::sync_channel(1);
        let killed_after = std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (client, first) = (&client, first.clone());
                scope.spawn(move || client(number, first));
            }
            drop(first);
            // An error: all clients are gone, and the kill ends what is left.
            let _gone = started.recv().is_err();
            let start = Instant::now();
            std::thread::sleep(after);
            self.kill()?;
            Ok::<_, Fault>(start.elapsed())
        })?;
        Ok(Load {
            killed_after,
            attempts: attempts.into_inner(),
            acknowledgements: acknowledgements.into_inner(),
            last: last.into_inner(),
        })
    }

    fn kill(&mut self) -> Result<(), Fault> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let killed = child.kill().and_then(|()| child.wait());
        killed.map(drop).map_err(|error| Fault::new(Code::HostBug, error.to_string()))
    }

    /// Reads the whole directory that the kill left behind.
    pub(super) fn recover(&mut self) -> Result<Recovered, Fault> {
        let store = open(&self.dir)?;
        let report = store.verify();
        let mut damage: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
        let faults = report.daemons.iter().filter_map(|daemon| daemon.found.as_ref().err());
        damage.extend(faults.map(ToString::to_string));
        let row = store.find_daemon(&self.daemon);
        let row = row.ok_or_else(|| Fault::new(Code::StoreCorrupt, "the daemon is gone"))?;
        let checkpoint =
            store.checkpoint(&self.daemon, row.key, None).map_err(|fault| Fault::from(&fault))?;
        let (sequence, hash) = (checkpoint.sequence.0, checkpoint.hash().to_hex().to_string());
        let state = State { sequence, hash };
        self.last = Some(state.clone());
        Ok(Recovered { state, damage })
    }
}

fn open(dir: &Path) -> Result<Store, Fault> {
    let id = DirectoryId(u128::from(std::process::id()));
    Store::open(&dir.join("data"), StoreOptions::default(), id).map_err(|fault| Fault::from(&fault))
}
