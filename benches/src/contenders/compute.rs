//! Guest code that computes, as it was built and with the write barrier in it, on the same engine.
//!
//! Fuel and epochs are on as in the host, traps come by signals, memories are wasmtime's own.
//! Nothing is committed: this is what marking alone costs.

use host::mechanisms::sandbox::Sandbox;
use host::pure::admission::{Caps, World, admit};
use host::pure::barrier::{Options, rewrite};
use serde_json::json;
use wasmtime::component::{Component, Func, Instance, Linker, Val};
use wasmtime::{Config, Engine, Store};

use super::daemon::bind;
use super::{component, deploy};

/// The programs of the guest `compute`.
pub const PROGRAMS: [&str; 5] = ["btree", "matrix", "sieve", "sort", "format"];

/// Rounds of each program that together take some milliseconds.
pub const ROUNDS: [u32; 5] = [1, 4, 2, 1, 2];

/// One instance that computes.
pub struct Computer {
    store: Store<()>,
    call: Func,
    /// Arguments of `call` for each program.
    arguments: Vec<[Val; 2]>,
}

impl std::fmt::Debug for Computer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Computer").finish_non_exhaustive()
    }
}

/// Which form of the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// As it was built.
    Plain,
    /// With the write barrier, as the host runs it.
    Rewritten,
    /// With the write barrier, but loops as they were. The host also unrolls loops that store,
    /// which saves looks at fuel and epoch that have nothing to do with the barrier.
    NotUnrolled,
}

impl Computer {
    /// Compiles and starts the guest in that form.
    ///
    /// # Panics
    ///
    /// When it doesn't start.
    #[must_use]
    pub fn start(sandbox: &Sandbox, form: Form) -> Self {
        let plain = component("compute");
        let bytes = match form {
            Form::Plain => plain,
            Form::Rewritten => rewritten(&plain, &Options::default()),
            Form::NotUnrolled => {
                rewritten(&plain, &Options { unroll: false, ..Options::default() })
            }
        };
        let engine = engine();
        let component = Component::new(&engine, bytes).expect("the guest compiles");
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component).expect("the imports can be defined");
        let mut store = Store::new(&engine, ());
        store.set_fuel(u64::MAX).expect("fuel is on");
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = linker.instantiate(&mut store, &component).expect("an instance");
        start_guest(&mut store, &instance);
        let call = instance.get_func(&mut store, "call").expect("it exports `call`");
        Self { store, call, arguments: arguments(sandbox) }
    }

    /// Runs the program in that place of [`PROGRAMS`], and answers what it answers, as bytes.
    ///
    /// # Panics
    ///
    /// When it crashes.
    pub fn run(&mut self, program: usize) -> Val {
        self.store.set_fuel(u64::MAX).expect("fuel is on");
        let mut results = [Val::Bool(false)];
        self.call
            .call(&mut self.store, &self.arguments[program], &mut results)
            .expect("the program runs");
        let [answer] = results;
        assert!(matches!(answer, Val::Result(Ok(_))), "{answer:?}");
        answer
    }
}

fn rewritten(plain: &[u8], options: &Options) -> Vec<u8> {
    let admitted = admit(plain, &Caps::default(), &World::GUEST).expect("it is admitted");
    rewrite(&admitted, options).expect("it can be rewritten").component
}

/// The host's own configuration, in as far as it changes the code.
fn engine() -> Engine {
    let mut config = Config::new();
    config
        .cranelift_nan_canonicalization(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_may_move(false)
        .memory_init_cow(false)
        .signals_based_traps(true)
        .wasm_multi_memory(true);
    Engine::new(&config).expect("an engine")
}

/// Primes the guest and makes its first state, without parameters.
fn start_guest(store: &mut Store<()>, instance: &Instance) {
    let prime = instance.get_func(&mut *store, "prime").expect("it exports `prime`");
    prime.call(&mut *store, &[], &mut []).expect("it can be primed");
    let init = instance.get_func(&mut *store, "init").expect("it exports `init`");
    // MessagePack's empty map.
    let parameters = Val::List(vec![Val::U8(0x80)]);
    let mut results = [Val::Bool(false)];
    init.call(store, &[parameters], &mut results).expect("it makes its first state");
}

/// The arguments of `call`: the contract's index and MessagePack bytes.
fn arguments(sandbox: &Sandbox) -> Vec<[Val; 2]> {
    let guest = deploy(sandbox, "compute");
    PROGRAMS
        .into_iter()
        .zip(ROUNDS)
        .map(|(program, rounds)| {
            let bound = bind(&guest, "run", json!({"program": program, "rounds": rounds}));
            let bytes = bound.arguments.packed().iter().map(|&byte| Val::U8(byte)).collect();
            [Val::U32(bound.contract), Val::List(bytes)]
        })
        .collect()
}
