//! Components that read files with std alone, in the directories that their daemon may read.

use std::future::pending;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use host::mechanisms::journal::{DirectoryId, Store, StoreOptions};
use host::mechanisms::providers::directory::Directory;
use host::mechanisms::providers::{
    Connection, Line, NoConnection, Opened, Pending, Provider, Sharing,
};
use host::mechanisms::sandbox::NoLog;
use host::pure::manifest::Access;
use host::pure::request::{Answer, Outcome};
use host::pure::resource::operation::{CallResult, Operation};
use host::pure::resource::{Policy, Status};
use host::tree::{DaemonPlan, Replayed, ResourcePlan, replay};
use serde_json::json;
use supervisor::Backoff;
use tempfile::TempDir;
use tests::{Tree, deployed, plan, until};
use tokio::time::Instant;

const DATA: &str = "bank/data";

fn reader(needs: &[&str], uses: &[&str]) -> DaemonPlan {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let plan = plan("reader", &deployed("reader"), |options| {
        options.limits.deadline = Duration::from_secs(60);
        options.limits.fuel = u64::MAX / 2;
    });
    DaemonPlan { needs: names(needs), uses: names(uses), ..plan }
}

fn kept(name: &str, provider: impl Provider + 'static) -> ResourcePlan {
    let millisecond = Duration::from_millis(1);
    let policy = Policy::new(Backoff::new(millisecond, 1, millisecond, 0).unwrap(), millisecond);
    ResourcePlan { name: name.to_owned(), provider: Arc::new(provider), jobs: Vec::new(), policy }
}

fn directory(name: &str, path: &Path, access: Access) -> ResourcePlan {
    kept(name, Directory::new(path.to_owned(), access))
}

fn run(tree: &Tree, what: &str, path: &str) -> String {
    let done = tree.committed("reader", "run", json!({"what": what, "path": path}));
    done.as_str().unwrap().to_owned()
}

fn available(tree: &Tree) -> bool {
    tree.root.resources().iter().all(|view| view.status == Status::Available)
}

/// `data` with some files, and things around it.
fn scratch() -> TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    for path in [&data, &data.join("sub"), &scratch.path().join("other")] {
        std::fs::create_dir(path).unwrap();
    }
    std::fs::write(data.join("a.txt"), "alpha").unwrap();
    std::fs::write(data.join("sub/b.txt"), "beta").unwrap();
    std::fs::write(scratch.path().join("secret"), "secret").unwrap();
    std::fs::write(scratch.path().join("other/o.txt"), "omega").unwrap();
    scratch
}

#[test]
fn a_component_reads_files_with_std_alone_and_changes_none() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    std::fs::write(data.join("large"), "0123456789".repeat(1 << 20)).unwrap();
    symlink("a.txt", data.join("link")).unwrap();
    let resources = vec![
        directory(DATA, &data, Access::Read),
        directory("bank/log", &scratch.path().join("other"), Access::Append),
        directory("bank/other", &scratch.path().join("other"), Access::Read),
    ];
    let tree =
        Tree::with_resources(vec![reader(&[DATA, "bank/log", "bank/other"], &[])], resources, None);
    let seen = [
        ("read", "/data/a.txt", "alpha"),
        ("read", "data/sub/b.txt", "beta"),
        ("read", "/data/./sub/../a.txt", "alpha"),
        ("read", "/data/link", "alpha"),
        ("read", "/other/o.txt", "omega"),
        ("end", "/data/a.txt", "ha"),
        ("size", "/data/a.txt", "5"),
        ("count", "/data/large", "10485760"),
        ("kind", "/data/link", "true"),
        ("link", "/data/link", "a.txt"),
        ("list", "/data/sub", "b.txt"),
        ("list", "/data", "a.txt large link sub"),
        ("list", "/", "data other"),
    ];
    let refused = [
        ("read", "/data/gone", "entity not found"),
        ("read", "/gone/a.txt", "entity not found"),
        ("read", "/log/o.txt", "entity not found"),
        ("read", "/data/sub", "is a directory"),
        ("read", "/data/a.txt/x", "not a directory"),
        ("list", "/data/a.txt", "not a directory"),
        ("write", "/data/new", "read-only filesystem or storage medium"),
        ("write", "/data/a.txt", "read-only filesystem or storage medium"),
        ("append", "/data/a.txt", "read-only filesystem or storage medium"),
        ("cut", "/data/a.txt", "read-only filesystem or storage medium"),
        ("remove", "/data/a.txt", "read-only filesystem or storage medium"),
        ("mkdir", "/data/new", "read-only filesystem or storage medium"),
        ("rename", "/data/a.txt", "read-only filesystem or storage medium"),
        ("copy", "/data/a.txt", "read-only filesystem or storage medium"),
    ];
    // Again, with the handle that wasi-libc keeps in the memory of the guest: after commits, after
    // reads, which are rolled back, and in a new instance.
    for round in 0..3 {
        for (what, path, expected) in seen {
            assert_eq!(run(&tree, what, path), expected, "{round} {what} {path}");
            let looked = tree.committed("reader", "look", json!({"what": what, "path": path}));
            assert_eq!(looked, expected);
        }
        for (what, path, why) in refused {
            assert_eq!(run(&tree, what, path), format!("error: {why}"), "{round} {what} {path}");
        }
        assert_eq!(
            tree.code("reader", "fail", json!({"path": "/data/a.txt"})),
            "E_TRAP_UNREACHABLE"
        );
    }
    assert_eq!(tree.committed("reader", "runs", json!({})), 3 * (seen.len() + refused.len()));
    assert_eq!(std::fs::read_to_string(data.join("a.txt")).unwrap(), "alpha");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 4);
}

#[test]
fn a_path_that_leads_out_of_its_directory_leads_nowhere() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let secret = scratch.path().join("secret");
    symlink(&secret, data.join("out")).unwrap();
    symlink("../secret", data.join("up")).unwrap();
    symlink("..", data.join("parent")).unwrap();
    symlink("/proc/self/root", data.join("root")).unwrap();
    symlink("loop", data.join("loop")).unwrap();
    for pipe in ["pipe", "sub/pipe"] {
        assert!(Command::new("mkfifo").arg(data.join(pipe)).status().unwrap().success());
    }
    let tree = Tree::with_resources(
        vec![reader(&[DATA], &[])],
        vec![directory(DATA, &data, Access::Read)],
        None,
    );
    let absolute = format!("/data{}", secret.display());
    let paths = [
        "/data/../secret",
        "/data/sub/../../secret",
        "/data/out",
        "/data/up",
        "/data/parent/secret",
        "/data/root/etc/passwd",
        "/data/loop",
        "/data/pipe",
        "/data/sub/pipe",
        "/../secret",
        "../secret",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "/data//etc/passwd",
        "/data/a\0b",
        &absolute,
        &format!("/data/{}", "x".repeat(5000)),
        &format!("/data/{}secret", "sub/../".repeat(10) + "../"),
    ];
    for path in paths {
        for what in ["read", "count", "list", "end"] {
            let seen = run(&tree, what, path);
            assert!(seen.starts_with("error: "), "{what} {path}: {seen}");
        }
    }
    assert_eq!(run(&tree, "read", "/data/a.txt"), "alpha");
    // While others move what is on the way.
    let (inside, ending) = (data.join("sub"), Arc::new(AtomicBool::new(false)));
    let its = ending.clone();
    std::fs::write(scratch.path().join("other/b.txt"), "secret").unwrap();
    let (aside, other) = (data.join("aside"), scratch.path().join("other"));
    let mover = std::thread::spawn(move || {
        while !its.load(Ordering::SeqCst) {
            std::fs::rename(&inside, &aside).unwrap();
            symlink(&other, &inside).unwrap();
            std::fs::remove_file(&inside).unwrap();
            std::fs::rename(&aside, &inside).unwrap();
        }
    });
    for _ in 0..500 {
        let seen = run(&tree, "read", "/data/sub/b.txt");
        assert!(seen == "beta" || seen.starts_with("error: "), "{seen}");
    }
    ending.store(true, Ordering::SeqCst);
    mover.join().unwrap();
}

#[test]
fn c9_a_file_that_stays_open_is_a_leak_and_is_closed() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let tree = Tree::with_resources(
        vec![reader(&[DATA], &[])],
        vec![directory(DATA, &data, Access::Read)],
        None,
    );
    assert_eq!(run(&tree, "read", "/data/a.txt"), "alpha");
    for _ in 0..3 {
        assert_eq!(tree.code("reader", "leak", json!({"path": "/data/a.txt"})), "E_HANDLE_LEAK");
        assert_eq!(run(&tree, "read", "/data/a.txt"), "alpha");
    }
    let file = data.join("a.txt").canonicalize().unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    let open = open.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|path| path == file));
    assert_eq!(open.count(), 0);
}

#[test]
fn what_one_call_reads_is_bounded_and_paid_for() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    std::fs::create_dir(data.join("many")).unwrap();
    for index in 0..10_001 {
        std::fs::write(data.join(format!("many/{index}")), "").unwrap();
    }
    // A hole, which costs nobody anything but those who read it.
    let hole = std::fs::File::create(data.join("hole")).unwrap();
    hole.set_len(1 << 40).unwrap();
    let mut plan = reader(&[DATA], &[]);
    plan.options.limits.fuel = 300_000_000;
    let tree = Tree::with_resources(vec![plan], vec![directory(DATA, &data, Access::Read)], None);
    assert_eq!(run(&tree, "size", "/data/hole"), (1_u64 << 40).to_string());
    let listed = tree.committed("reader", "run", json!({"what": "names", "path": "/data/many"}));
    assert!(listed.as_str().unwrap().starts_with("error: "), "{listed}");
    std::fs::remove_file(data.join("many/0")).unwrap();
    let listed = tree.committed("reader", "run", json!({"what": "names", "path": "/data/many"}));
    assert_eq!(listed, "10000");
    std::fs::write(data.join("large"), vec![b'x'; 8 << 20]).unwrap();
    let fuel = || tree.view("reader").report.fuel;
    let before = fuel();
    assert_eq!(run(&tree, "count", "/data/large"), (8 << 20).to_string());
    assert!(fuel() - before >= 8 << 20, "{}", fuel() - before);
    let code = |what: &str| tree.code("reader", "run", json!({"what": what, "path": "/data/hole"}));
    assert_eq!(code("count"), "E_FUEL");
    assert_eq!(run(&tree, "read", "/data/hole"), "error: out of memory");
    assert_eq!(run(&tree, "read", "/data/a.txt"), "alpha");
}

#[test]
fn s0_02_a_directory_that_is_down_is_an_error_or_a_wait() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let start = |plan: DaemonPlan| {
        let tree =
            Tree::with_resources(vec![plan], vec![directory(DATA, &data, Access::Read)], None);
        until("up", || available(&tree));
        assert_eq!(run(&tree, "read", "/data/a.txt"), "alpha");
        tree.root.switch_resource(DATA, true).unwrap();
        until("down", || !available(&tree));
        tree
    };
    let tree = start(reader(&[], &[DATA]));
    assert!(run(&tree, "read", "/data/a.txt").starts_with("error: "));
    tree.root.switch_resource(DATA, false).unwrap();
    until("up", || run(&tree, "read", "/data/a.txt") == "alpha");
    drop(tree);
    let tree = start(reader(&[DATA], &[]));
    let read = json!({"what": "read", "path": "/data/a.txt"});
    assert_eq!(tree.code("reader", "run", read.clone()), "E_UNAVAILABLE");
    tree.root.switch_resource(DATA, false).unwrap();
    until("up", || tree.call("reader", "run", read.clone()).outcome.word() == "committed");
}

/// A directory on a disk that answers nothing any more.
#[derive(Clone, Debug, Default)]
struct Hung(Arc<AtomicU64>);

impl Provider for Hung {
    fn kind(&self) -> &'static str {
        "directory"
    }

    fn place(&self) -> String {
        "a disk".to_owned()
    }

    fn is_read(&self) -> bool {
        true
    }

    fn connect(&self) -> Pending<'_, Result<Box<dyn Connection>, NoConnection>> {
        let its = self.clone();
        Box::pin(async { Ok(Box::new(its) as Box<dyn Connection>) })
    }

    fn sharing(&self) -> Sharing {
        Sharing::Shared(1)
    }

    fn open(&self) -> Pending<'_, Opened> {
        let its = self.clone();
        Box::pin(async { Ok(Box::new(its) as Box<dyn Line>) })
    }
}

impl Connection for Hung {
    fn check(&mut self) -> Pending<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn job(&mut self, _text: &str) -> Pending<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn died(&mut self) -> Pending<'_, String> {
        Box::pin(pending())
    }
}

impl Line for Hung {
    fn call(&mut self, _operation: Operation, _until: Instant) -> Pending<'static, CallResult> {
        // From here on who asked waits: it runs no guest code before that.
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(pending())
    }

    fn died(&mut self) -> Pending<'_, String> {
        Box::pin(pending())
    }
}

#[test]
fn c13_a_read_of_a_disk_that_hangs_ends_as_any_other_call() {
    let mut plan = reader(&[DATA], &[]);
    plan.options.limits.deadline = Duration::from_millis(200);
    let tree = Tree::with_resources(vec![plan], vec![kept(DATA, Hung::default())], None);
    until("up", || available(&tree));
    let read = json!({"what": "read", "path": "/data/a.txt"});
    assert_eq!(tree.code("reader", "run", read.clone()), "E_DEADLINE");
    drop(tree);
    let hung = Hung::default();
    let disk = vec![kept(DATA, hung.clone())];
    let tree = Tree::with_resources(vec![reader(&[DATA], &[])], disk, None);
    until("up", || available(&tree));
    let request = || {
        let resources = tree.root.resources();
        resources.iter().flat_map(|view| &view.leases).map(|lease| lease.request).next()
    };
    std::thread::scope(|scope| {
        for kills in [true, false] {
            let before = hung.0.load(Ordering::SeqCst);
            let asked = scope.spawn(|| tree.call("reader", "run", read.clone()));
            until("it reads", || hung.0.load(Ordering::SeqCst) > before);
            if kills {
                tree.root.kill(request().unwrap()).unwrap();
                let answer = asked.join().unwrap();
                assert_eq!(code(&answer), "E_CANCELLED");
                // And not when the call had ended in another way.
                let Outcome::Crashed(crash) = answer.outcome else { panic!() };
                assert!(crash.message.contains("while it waited"), "{crash:?}");
            } else {
                tree.root.switch_resource(DATA, true).unwrap();
                assert!(matches!(asked.join().unwrap().outcome, Outcome::Cancelled(_)));
            }
        }
    });
}

#[test]
fn a_replay_says_that_it_has_no_files_instead_of_going_another_way() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let journal = tempfile::tempdir().unwrap();
    let store = Store::open(journal.path(), StoreOptions::default(), DirectoryId(9)).unwrap();
    let resources = vec![directory(DATA, &data, Access::Read)];
    let tree = Tree::with_resources(vec![reader(&[DATA], &[])], resources, Some(Arc::new(store)));
    let fail = json!({"path": "/data/a.txt"});
    let Outcome::Crashed(crash) = tree.call("reader", "fail", fail).outcome else { panic!() };
    assert!(crash.message.contains("it was Ok(\"alpha\")"), "{crash:?}");
    let report = crash.report.unwrap();
    until("kept", || tree.root.crashes("reader", 9).unwrap().iter().any(|one| one.id == report));
    let materials = tree.root.replay_materials(report).unwrap();
    let guest = deployed("reader");
    let again = replay(&guest, &materials, &materials.limits(), Arc::new(NoLog)).unwrap();
    let Replayed::Crashed { crash: again, .. } = again else { panic!("{again:?}") };
    assert_eq!(again.code.as_str(), "E_HOSTCALL_UNSUPPORTED");
    assert!(again.message.contains("what that answered was not kept"), "{again:?}");
}

fn code(answer: &Answer) -> String {
    answer.to_json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}
