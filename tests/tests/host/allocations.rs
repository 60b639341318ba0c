//! S4-25: committing and rolling back allocates nothing; and what requests and answers take.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use host::base::error::{Code, Fault};
use host::base::ids::{Generation, RequestId, Sequence};
use host::base::limits::{ANSWER_BYTES_MAX, TRAFFIC_BYTES_MIN};
use host::base::room::Room;
use host::mechanisms::journal::{DirectoryId, Durability, Store, StoreOptions};
use host::mechanisms::memory::Images;
use host::mechanisms::sandbox::{CallContext, Called, Environment, Guest, Instance, Limits, NoLog};
use host::pure::checkpoint::{encode_snapshot, encode_snapshot_to};
use host::pure::contract::{Argument, Contract, Meter, Schema, show_any};
use host::pure::pace::CpuShare;
use host::pure::request::Request;
use host::tree::{Bound, DaemonOptions, RevertTo, Root};
use serde_json::{Value, json};
use tests::{Hostile, Rig, RigOptions, Tree, bind, deployed, in_own_process, plan, sandbox};

use super::durable::store;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that are there now, and the most that were.
    static BYTES: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

struct Counting;

// SAFETY: hands everything to the system's allocator, and counts.
#[expect(unsafe_code, reason = "an allocator is unsafe by its nature")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        count_bytes(layout.size(), 0);
        hold(layout.size());
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_bytes(0, layout.size());
        HELD_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        count_bytes(size, layout.size());
        // Large ones are moved by their pages.
        HELD_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        hold(size);
        // SAFETY: as our caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        count_bytes(layout.size(), 0);
        hold(layout.size());
        // SAFETY: as our caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }
}

/// Bytes that the process has allocated now, and at most so far.
static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

fn hold(bytes: usize) {
    let held = HELD_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK_BYTES.fetch_max(held, Ordering::Relaxed);
}

/// Most bytes that the process has allocated while `run` runs, beyond those from before.
fn process_peak<R>(run: impl FnOnce() -> R) -> (R, usize) {
    let before = HELD_BYTES.load(Ordering::Relaxed);
    PEAK_BYTES.store(before, Ordering::Relaxed);
    let result = run();
    (result, PEAK_BYTES.load(Ordering::Relaxed).saturating_sub(before))
}

fn count_one() {
    // A thread that ends allocates after its counter is gone.
    let _counted = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

/// One that is moved is there twice for a moment.
fn count_bytes(more: usize, fewer: usize) {
    let signed = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    let _counted = BYTES.try_with(|bytes| {
        let (now, most) = bytes.get();
        let with = now + signed(more);
        bytes.set((with - signed(fewer), most.max(with)));
    });
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `run` runs.
fn allocations<R>(run: impl FnOnce() -> R) -> (R, u64) {
    let before = ALLOCATIONS.get();
    let result = run();
    (result, ALLOCATIONS.get() - before)
}

/// The most bytes that this thread held more than before while `run` runs.
fn peak<R>(run: impl FnOnce() -> R) -> (R, usize) {
    let (before, _) = BYTES.get();
    BYTES.set((before, before));
    let result = run();
    (result, usize::try_from(BYTES.get().1 - before).unwrap())
}

/// A guest over its images, without a daemon around it.
struct Bare {
    guest: Arc<Guest>,
    images: Images,
    instance: Option<Instance>,
}

impl Bare {
    fn start(name: &str) -> Self {
        let (guest, budget) = (deployed(name), 8 << 20);
        let mut images = Images::new(budget, &guest.shape()).unwrap();
        let (log, outputs) = (Arc::new(NoLog), Arc::default());
        let environment = Environment::new(log, outputs, [1; 32], CpuShare::FULL, budget);
        let generation = Generation::FIRST;
        let instance =
            Instance::first(&guest, &mut images, environment, &[0x80], generation, &context());
        images.commit_whole();
        Self { guest, images, instance: Some(instance.unwrap()) }
    }

    fn call(&mut self, contract: &str, args: &Value) -> Called {
        let bound = bind(&self.guest, contract, args);
        let instance = self.instance.as_mut().unwrap();
        let limits = Limits { fuel: 50_000_000, ..Limits::default() };
        let arguments = bound.arguments.shared().unwrap();
        instance.call(bound.contract, arguments, context(), &limits)
    }

    /// Replaces an instance that crashed, or whose memory is smaller now.
    fn again(&mut self) {
        let instance = self.instance.take().unwrap();
        let (held, environment) = (instance.held().clone(), instance.into_environment());
        let (guest, images) = (&self.guest, &mut self.images);
        let generation = Generation(2);
        let again =
            Instance::again(guest, images, environment, Some(&held), generation, &context());
        self.instance = Some(again.unwrap());
    }
}

fn context() -> CallContext {
    CallContext { request: RequestId(1), correlation: None, attempt: 1, unix_nanos: 0 }
}

#[test]
fn the_counter_counts() {
    let (vector, count) = allocations(|| vec![1_u8; 100]);
    assert_eq!((vector.len(), count), (100, 1));
    assert_eq!(allocations(|| 1 + 1), (2, 0));
}

#[test]
fn s4_25_a_commit_allocates_nothing() {
    let mut bare = Bare::start("chaos");
    for pages in [1, 7, 300, 2, 900, 5] {
        let called = bare.call("touch", &json!({"pages": pages}));
        assert!(matches!(called, Called::Returned(_)), "{called:?}");
        let (changed, count) = allocations(|| bare.images.commit());
        assert!(changed.cards >= pages, "{changed:?}");
        assert_eq!(count, 0, "allocations of a commit of {} cards", changed.cards);
        bare.images.verify().unwrap();
    }
}

#[test]
fn s4_25_a_roll_back_allocates_nothing() {
    let mut bare = Bare::start("chaos");
    bare.call("touch", &json!({"pages": 300}));
    bare.images.commit();
    for how in ["panic", "unreachable", "grow", "half_moved"] {
        let called = bare.call("die", &json!({"how": how}));
        assert!(matches!(called, Called::Caught(_)), "{called:?}");
        let (changed, count) = allocations(|| bare.images.roll_back());
        assert!(changed.cards > 0, "{how}");
        assert_eq!(count, 0, "allocations of a roll back after {how}");
        bare.images.verify().unwrap();
        bare.again();
    }
    // Growth, and changes in many cards, undone without a crash.
    let called = bare.call("touch", &json!({"pages": 900}));
    assert!(matches!(called, Called::Returned(_)), "{called:?}");
    let (changed, count) = allocations(|| bare.images.roll_back());
    assert!(changed.cards >= 900, "{changed:?}");
    assert_eq!(count, 0);
    bare.images.verify().unwrap();
    bare.again();
    assert!(matches!(bare.call("touch", &json!({"pages": 1})), Called::Returned(_)));
}

#[test]
fn s4_25_a_daemons_transactions_allocate_no_more_as_time_goes_by() {
    let mut rig = tests::Rig::of("counter");
    let bound = rig.bind("increment", &json!({"by": 1}));
    let mut run =
        |times: u32| allocations(|| (0..times).for_each(|_| drop(rig.daemon.transact(&bound)))).1;
    run(100);
    let first = run(100);
    assert_eq!(run(100), first);
    assert_eq!(run(100), first);
    // The engine's and the reply's own; a new one should have a reason.
    assert!(first <= 100 * 12, "{first} allocations in 100 transactions");
}

/// What a request of each form takes while it waits, and while its arguments are read: a multiple
/// of its bytes, however many values these are.
#[test]
fn arguments_take_a_multiple_of_their_bytes() {
    let schema = Schema::parse("{}").unwrap();
    let argument = Argument { name: "x".to_owned(), required: true, schema: schema.clone() };
    let contract = Contract {
        index: 0,
        name: "run".to_owned(),
        documentation: String::new(),
        read_only: false,
        needs: Vec::new(),
        arguments: vec![argument],
        result: schema,
    };
    let list = |item: &str| format!("[{}]", vec![item; 1_000_000 / (item.len() + 1)].join(","));
    let names: Vec<String> = (0..60_000).rev().map(|n| format!("\"{n}\":[{n}]")).collect();
    for value in [
        list("1"),
        list("0.5"),
        list("[]"),
        list("{\"\":null}"),
        list("\"\\u0001\""),
        format!("{{{}}}", names.join(",")),
        format!("\"{}\"", "\\n".repeat(500_000)),
        format!("{}{}{}", "[".repeat(60), list("{}"), "]".repeat(60)),
    ] {
        let line = format!(r#"{{"daemon":"d","contract":"run","args":{{"x":{value}}}}}"#);
        let (request, read) = peak(|| Request::parse(&line).unwrap());
        assert!(read <= line.len() + 4096, "{read} bytes for {} that wait", line.len());
        let (bound, taken) = peak(|| contract.bind(&request.args, &mut Meter::free()).unwrap());
        let most = 12 * line.len() + (64 << 10);
        assert!(taken <= most, "{taken} bytes to read {}: {}", line.len(), &value[..20]);
        let (shown, taken) = peak(|| show_any(&bound, ANSWER_BYTES_MAX, &mut Meter::free()));
        // Text that grows is there once more while it moves.
        let text = shown.unwrap().len();
        assert!(taken <= 3 * text + (64 << 10), "{taken} bytes to show {text}: {}", &value[..20]);
    }
}

/// A whole transaction with an answer of 3 MB, 10 MB as JSON, on the thread of its daemon.
#[test]
fn an_answer_takes_a_multiple_of_its_text() {
    let run = "(i32.store #1048571 #0x420f00dd) (i32.store8 #1048575 #0x40)
        (i32.store #1048576 #0x81c0a081) (i32.store #1048580 #0xa081c0a0)
        (i32.store #1048584 #0xc0a081c0) (local.set $i #12)
        (block $done (loop $more
          (br_if $done (i32.ge_u (local.get $i) #3000000))
          (memory.copy (i32.add #1048576 (local.get $i)) #1048576 (local.get $i))
          (local.set $i (i32.shl (local.get $i) #1)) (br $more)))
        (return (call $answer #1048571 #3000005))";
    let memory = "(memory (export \"memory\") 160)".to_owned();
    let guest = Hostile { memory, run: run.to_owned(), ..Hostile::default() }.build();
    let guest = tests::deploy(&guest).unwrap();
    let mut options = RigOptions { budget_bytes: 16 << 20, ..RigOptions::default() };
    (options.verify, options.fuel) = (false, 1_000_000_000);
    let mut rig = Rig::start(&guest, options);
    let show = Some(Room::new(ANSWER_BYTES_MAX));
    let bound = Bound { show, ..tests::bound(0, &[0x90]) };
    let (transacted, taken) = peak(|| rig.daemon.transact(&bound));
    let text = transacted.shown.unwrap().as_str().len();
    assert_eq!(text, 10_000_001);
    assert!(taken <= 4 * text, "{taken} bytes for {text}");
}

/// What a copy of a state costs beside the images, which are no allocations.
fn states_are_copied_in_pieces(mib: u32) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { durability: Durability::Os, ..StoreOptions::default() };
    let store = Arc::new(Store::open(dir.path(), options, DirectoryId(5)).unwrap());
    let budget = (mib as usize + 16) << 20;
    let chaos = plan("chaos", &deployed("chaos"), |options| {
        (options.budget_bytes, options.verify) = (budget, false);
        options.limits.fuel = u64::MAX / 2;
    });
    let tree = Tree::durable(vec![chaos], store);
    drop(tree.committed("chaos", "touch", json!({"pages": 1})));
    let mut held = 0;
    while held < mib {
        // One record of the journal is in memory while it is loaded, too.
        let more = (mib - held).min(16);
        drop(tree.committed("chaos", "hold", json!({"mib": more})));
        held += more;
    }
    let state = tree.root.checkpoint("chaos", None).unwrap().memory.len();
    assert!(state >= (mib as usize) << 20);
    let deploy = |code: &[u8]| sandbox().deploy(code).map_err(|error| Fault::from(&error));
    // The page cache of the tables, records that wait, and what else runs.
    let beside = 64 << 20;
    let ceiling = |what: &str, states: usize, took: usize| {
        assert!(took <= states * state + beside, "{what} of {state} bytes took {took}");
    };
    let file = dir.path().join("snapshot");
    let (_, took) = process_peak(|| save(&tree.root, &file));
    ceiling("a snapshot", 1, took);
    let (_, took) = process_peak(|| drop(tree.root.fork("chaos", "copy", None, &deploy).unwrap()));
    ceiling("a fork", 1, took);
    tree.root.remove("copy").unwrap();
    drop(tree.committed("chaos", "touch", json!({"pages": 2})));
    let (_, took) = process_peak(|| tree.root.revert("chaos", RevertTo::Last(1)).unwrap());
    ceiling("a revert", 1, took);
    let snapshot = std::fs::read(&file).unwrap();
    let options = DaemonOptions::new("old", budget);
    let (_, took) = process_peak(|| drop(tree.root.restore(&snapshot, options, &deploy).unwrap()));
    ceiling("a restore", 1, took);
    tree.root.remove("old").unwrap();
    let (_, took) = process_peak(|| tree.root.restore_into("chaos", &snapshot).unwrap());
    ceiling("a restore into a daemon", 1, took);
}

fn save(root: &Root, file: &Path) {
    let mut file = std::fs::File::create(file).unwrap();
    let (checkpoint, code) = root.checkpoint_with_code("chaos", None).unwrap();
    let write = |piece: &[u8]| std::io::Write::write_all(&mut file, piece);
    encode_snapshot_to(&checkpoint, &code, write).unwrap();
}

#[test]
fn a_state_is_copied_once_at_most_and_else_in_pieces() {
    const NAME: &str = "host::allocations::a_state_is_copied_once_at_most_and_else_in_pieces";
    in_own_process(NAME, || states_are_copied_in_pieces(160));
}

#[test]
#[ignore = "soak"]
fn soak_a_gibibyte_is_copied_once_at_most_and_else_in_pieces() {
    const NAME: &str =
        "host::allocations::soak_a_gibibyte_is_copied_once_at_most_and_else_in_pieces";
    in_own_process(NAME, || states_are_copied_in_pieces(1024));
}

#[test]
fn copies_count_against_the_limit_of_memory() {
    let chaos = || plan("chaos", &deployed("chaos"), |options| options.budget_bytes = 8 << 20);
    let tree = Tree::start(vec![chaos()]);
    let state = tree.view("chaos").report.memory_bytes;
    let bill = tree.root.bill();
    // What requests and answers may take depends on the limit.
    let daemons = bill.total_bytes() - bill.traffic_bytes;
    let limit = daemons + TRAFFIC_BYTES_MIN + usize::try_from(state).unwrap();
    drop(tree);
    let tree = Tree::try_start(vec![chaos()], limit).unwrap();
    drop(tree.root.lend_for("chaos", None).unwrap());
    drop(tree.committed("chaos", "hold", json!({"mib": 4})));
    let refused = tree.root.lend_for("chaos", None).unwrap_err();
    assert_eq!(refused.code, Code::Budget, "{refused}");
    assert!(refused.message.contains("copies"), "{refused}");
}

/// A memory may have been larger than it is, and a daemon that does not run has one, too.
#[test]
fn copies_of_earlier_states_count_as_large_as_those_were() {
    let dir = tempfile::tempdir().unwrap();
    let start = |budget: usize| {
        let chaos = plan("chaos", &deployed("chaos"), |options| options.budget_bytes = budget);
        Tree::durable(vec![chaos], store(dir.path()))
    };
    let lent = |tree: &Tree, until: Option<u64>| {
        let _lent = tree.root.lend_for("chaos", until.map(Sequence)).unwrap();
        tree.root.bill().lent_bytes
    };
    let tree = start(8 << 20);
    let small = lent(&tree, None);
    drop(tree.committed("chaos", "hold", json!({"mib": 4})));
    let large = lent(&tree, None);
    assert!(large >= small + (4 << 20), "{small}, {large}");
    drop(tree);
    let tree = start(2 << 20);
    assert!(tree.root.is_unstarted("chaos"));
    assert_eq!((lent(&tree, None), lent(&tree, Some(0))), (large, small));
    drop(tree);
    let tree = start(8 << 20);
    tree.root.revert("chaos", RevertTo::Last(1)).unwrap();
    let now = [None, Some(0), Some(1), Some(2)].map(|until| lent(&tree, until));
    assert_eq!(now, [small, small, large, large]);
    assert_eq!(tree.root.bill().lent_bytes, 0);
}

#[test]
fn a_small_snapshot_of_a_large_state_counts_before_it_is_unpacked() {
    const NAME: &str =
        "host::allocations::a_small_snapshot_of_a_large_state_counts_before_it_is_unpacked";
    in_own_process(NAME, || {
        let chaos = plan("chaos", &deployed("chaos"), |options| options.budget_bytes = 8 << 20);
        let tree = Tree::try_start(vec![chaos], 128 << 20).unwrap();
        let (mut checkpoint, code) = tree.root.checkpoint_with_code("chaos", None).unwrap();
        checkpoint.memory.resize(160 << 20, 0);
        let snapshot = encode_snapshot(&checkpoint, &code);
        drop(checkpoint);
        assert!(snapshot.len() < 2 << 20, "{}", snapshot.len());
        let deploy = |_: &[u8]| -> Result<Arc<Guest>, Fault> { panic!("nothing to deploy") };
        let options = DaemonOptions::new("copy", 16 << 20);
        let restore = || tree.root.restore(&snapshot, options, &deploy).map(drop);
        let (restored, took) = process_peak(restore);
        assert_eq!(restored.unwrap_err().code, Code::Budget);
        assert!(took < 16 << 20, "a restore took {took}");
        let (restored, took) = process_peak(|| tree.root.restore_into("chaos", &snapshot));
        assert_eq!(restored.unwrap_err().code, Code::Budget);
        assert!(took < 16 << 20, "a restore into a daemon took {took}");
        assert_eq!(tree.root.bill().lent_bytes, 0, "nothing stays lent");
    });
}
