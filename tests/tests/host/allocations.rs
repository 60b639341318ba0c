//! S4-25: committing and rolling back allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use host::base::ids::{Generation, RequestId};
use host::mechanisms::memory::Images;
use host::mechanisms::sandbox::{CallContext, Called, Environment, Guest, Instance, Limits, NoLog};
use host::pure::pace::CpuShare;
use serde_json::{Value, json};
use tests::{bind, deployed};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything to the system's allocator, and counts.
#[expect(unsafe_code, reason = "an allocator is unsafe by its nature")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        // SAFETY: as our caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: as our caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }
}

fn count_one() {
    // A thread that ends allocates after its counter is gone.
    let _counted = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `run` runs.
fn allocations<R>(run: impl FnOnce() -> R) -> (R, u64) {
    let before = ALLOCATIONS.get();
    let result = run();
    (result, ALLOCATIONS.get() - before)
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
        instance.call(bound.contract, &bound.arguments, context(), &limits)
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
