//! Whole components: what the host itself writes, several modules over one memory, and new
//! instances over restored memories.

use host::pure::admission::{Caps, World, admit};
use host::pure::barrier::{Layout, MemoryRole, OVERRUN, Options, Site, rewrite};
use wasmtime::component::{Component, Instance, Linker, Val};
use wasmtime::{Config, Engine, Store};

use super::mapping::Mappings;

/// Functions of the host and the pattern in which wit-component wires them: a shim with a table
/// that is filled when the memory exists, and an adapter with state of its own over the same
/// memory.
const GUEST: &str = r#"(component
  (import "host:test/api" (instance $api
    (export "bytes" (func (param "n" u32) (result (list u8))))
    (export "wide" (func (param "n" u32)
      (result (tuple u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64 u64))))
    (export "nested" (func (param "n" u32) (result (list (tuple string u64)))))
    (export "maybe" (func (param "n" u32) (result (option string))))
    (export "either" (func (param "n" u32) (result (result (list u8) (error string)))))))
  (core module $shim
    (type $t (func (param i32 i32)))
    (table (export "$imports") 5 funcref)
    (func (export "0") (type $t) local.get 0 local.get 1 i32.const 0 call_indirect (type $t))
    (func (export "1") (type $t) local.get 0 local.get 1 i32.const 1 call_indirect (type $t))
    (func (export "2") (type $t) local.get 0 local.get 1 i32.const 2 call_indirect (type $t))
    (func (export "3") (type $t) local.get 0 local.get 1 i32.const 3 call_indirect (type $t))
    (func (export "4") (type $t) local.get 0 local.get 1 i32.const 4 call_indirect (type $t)))
  (core module $main
    (type $t (func (param i32 i32)))
    (import "api" "0" (func $bytes (type $t)))
    (import "api" "1" (func $wide (type $t)))
    (import "api" "2" (func $nested (type $t)))
    (import "api" "3" (func $maybe (type $t)))
    (import "api" "4" (func $either (type $t)))
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 0x8000))
    (data (i32.const 4000) "written once, at the first start")
    (func $start (i32.store (i32.const 100) (i32.const 77)))
    (start $start)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (block
        (br_if 0 (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (drop (memory.grow (i32.const 4))))
      (local.get $at))
    (func (export "bytes") (type $t) (call $bytes (local.get 0) (local.get 1)))
    (func (export "wide") (type $t) (call $wide (local.get 0) (local.get 1)))
    (func (export "nested") (type $t) (call $nested (local.get 0) (local.get 1)))
    (func (export "maybe") (type $t) (call $maybe (local.get 0) (local.get 1)))
    (func (export "either") (type $t) (call $either (local.get 0) (local.get 1)))
    (func (export "take") (param i32 i32) (result i32) (local.get 1))
    (func (export "next") (result i32) (global.get $next)))
  (core module $fill
    (type $t (func (param i32 i32)))
    (import "" "$imports" (table 5 funcref))
    (import "" "0" (func $0 (type $t)))
    (import "" "1" (func $1 (type $t)))
    (import "" "2" (func $2 (type $t)))
    (import "" "3" (func $3 (type $t)))
    (import "" "4" (func $4 (type $t)))
    (elem (i32.const 0) func $0 $1 $2 $3 $4))
  (core module $adapter
    (import "main" "memory" (memory 0))
    (global $count (mut i64) (i64.const 40))
    (func (export "poke") (param i32 i32) (result i64)
      (i64.store offset=3 (local.get 0) (i64.extend_i32_u (local.get 1)))
      (global.set $count (i64.add (global.get $count) (i64.const 1)))
      (global.get $count)))
  (core instance $shim (instantiate $shim))
  (core instance $main (instantiate $main (with "api" (instance $shim))))
  (core instance $adapter (instantiate $adapter (with "main" (instance $main))))
  (alias core export $main "memory" (core memory $memory))
  (alias core export $main "cabi_realloc" (core func $main_realloc))
  (core instance $renamed (export "again" (func $main_realloc)))
  (alias core export $renamed "again" (core func $realloc))
  (core func $bytes (canon lower (func $api "bytes") (memory $memory) (realloc $realloc)))
  (core func $wide (canon lower (func $api "wide") (memory $memory)))
  (core func $nested (canon lower (func $api "nested") (memory $memory) (realloc $realloc)))
  (core func $maybe (canon lower (func $api "maybe") (memory $memory) (realloc $realloc)))
  (core func $either (canon lower (func $api "either") (memory $memory) (realloc $realloc)))
  (core instance (instantiate $fill (with "" (instance
    (export "$imports" (table $shim "$imports"))
    (export "0" (func $bytes)) (export "1" (func $wide)) (export "2" (func $nested))
    (export "3" (func $maybe)) (export "4" (func $either))))))
  (func (export "bytes") (param "n" u32) (param "area" u32) (canon lift (core func $main "bytes")))
  (func (export "wide") (param "n" u32) (param "area" u32) (canon lift (core func $main "wide")))
  (func (export "nested") (param "n" u32) (param "area" u32) (canon lift (core func $main "nested")))
  (func (export "maybe") (param "n" u32) (param "area" u32) (canon lift (core func $main "maybe")))
  (func (export "either") (param "n" u32) (param "area" u32) (canon lift (core func $main "either")))
  (func (export "take") (param "data" (list u8)) (result u32)
    (canon lift (core func $main "take") (memory $memory) (realloc $realloc)))
  (func (export "next") (result u32) (canon lift (core func $main "next")))
  (func (export "poke") (param "at" u32) (param "value" u32) (result u64)
    (canon lift (core func $adapter "poke"))))"#;

fn rewritten(options: &Options) -> (Vec<u8>, Layout) {
    let bytes = wat::parse_str(GUEST).unwrap();
    let admitted = admit(&bytes, &Caps::default(), &World::ANY).unwrap();
    let rewritten = rewrite(&admitted, options).unwrap();
    (rewritten.component, rewritten.layout)
}

/// A host over mappings that outlive its instances.
struct Host {
    layout: Layout,
    component: Component,
    engine: Engine,
    linker: Linker<()>,
    mappings: Mappings,
}

struct Running {
    store: Store<()>,
    instance: Instance,
}

impl Host {
    fn new(options: &Options) -> Self {
        let (component, layout) = rewritten(options);
        let mappings = Mappings::new(layout.memories.len());
        let mut config = Config::new();
        config.wasm_multi_memory(true).memory_may_move(false).memory_init_cow(false);
        config.memory_reservation(4 << 30).with_host_memory(mappings.creator());
        let engine = Engine::new(&config).unwrap();
        let component = Component::new(&engine, component).unwrap();
        let mut linker = Linker::new(&engine);
        let mut api = linker.instance("host:test/api").unwrap();
        for name in ["bytes", "wide", "nested", "maybe", "either"] {
            api.func_new(name, |_, ty, arguments, results| {
                let Some(Val::U32(n)) = arguments.first() else { panic!("{arguments:?}") };
                let result = ty.results().next().unwrap();
                results[0] = answer(&result, *n);
                Ok(())
            })
            .unwrap();
        }
        Self { layout, component, engine, linker, mappings }
    }

    fn start(&self) -> Running {
        self.mappings.rewind();
        let mut store = Store::new(&self.engine, ());
        let instance = self.linker.instantiate(&mut store, &self.component).unwrap();
        Running { store, instance }
    }

    /// The first byte that differs from `image` without a mark in any control memory.
    fn unmarked(&self, image: &[u8]) -> Option<usize> {
        let (mut data, mut controls) = (Vec::new(), Vec::new());
        for (role, contents) in self.layout.memories.iter().zip(self.mappings.contents()) {
            match role {
                MemoryRole::Data => data = contents,
                MemoryRole::Control { .. } => controls.push(contents),
            }
        }
        let marked = |address: usize| {
            controls.iter().any(|cards| cards[address >> self.layout.card_shift] != 0)
        };
        (0..data.len()).find(|&address| {
            data[address] != image.get(address).copied().unwrap_or(0)
                && !marked(address)
                && !marked(address.saturating_sub(OVERRUN as usize))
        })
    }

    fn data(&self) -> Vec<u8> {
        let at = self.layout.memories.iter().position(|role| *role == MemoryRole::Data).unwrap();
        self.mappings.contents().swap_remove(at)
    }

    fn clear_cards(&self) {
        for (at, role) in self.layout.memories.iter().enumerate() {
            if let MemoryRole::Control { .. } = role {
                self.mappings.zero(at, self.layout.state_offset as usize);
            }
        }
    }
}

impl Running {
    fn call(&mut self, name: &str, arguments: &[Val], results: usize) -> Vec<Val> {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let mut answers = vec![Val::Bool(false); results];
        function.call(&mut self.store, arguments, &mut answers).unwrap();
        answers
    }
}

/// A value of the type whose size grows with `n`, and of which no byte is 0.
fn answer(ty: &wasmtime::component::Type, n: u32) -> Val {
    use wasmtime::component::Type;
    match ty {
        Type::U8 => Val::U8(0x5a),
        Type::U64 => Val::U64(0x0101_0101_0101_0101 * u64::from(n % 200 + 1)),
        Type::String => Val::String("x".repeat(n as usize)),
        Type::List(list) => Val::List((0..n).map(|_| answer(&list.ty(), n % 300)).collect()),
        Type::Tuple(tuple) => Val::Tuple(tuple.types().map(|ty| answer(&ty, n)).collect()),
        Type::Option(option) => Val::Option(Some(Box::new(answer(&option.ty(), n)))),
        Type::Result(result) => {
            let [ok, err] =
                [result.ok(), result.err()].map(|ty| ty.map(|ty| Box::new(answer(&ty, n))));
            Val::Result(if n.is_multiple_of(2) { Ok(ok) } else { Err(err) })
        }
        other => panic!("no value of type {other:?}"),
    }
}

/// Calls everything in every size. Answers which call changed a byte without a mark.
fn hole(options: &Options) -> Option<String> {
    let host = Host::new(options);
    let mut running = host.start();
    if let Some(address) = host.unmarked(&[]) {
        return Some(format!("instantiation changed {address:#x}"));
    }
    for n in [0, 1, 2, 7, 127, 128, 129, 300, 4095, 5000] {
        for name in ["bytes", "wide", "nested", "maybe", "either", "take"] {
            for area in [4088, 16_384] {
                let n = if name == "nested" { n % 400 } else { n };
                host.clear_cards();
                let image = host.data();
                let list = Val::List(vec![Val::U8(7); n as usize]);
                let (arguments, results) = if name == "take" {
                    (vec![list], 1)
                } else {
                    (vec![Val::U32(n), Val::U32(area)], 0)
                };
                running.call(name, &arguments, results);
                if let Some(address) = host.unmarked(&image) {
                    return Some(format!("{name}({n}) changed {address:#x}"));
                }
            }
        }
        host.clear_cards();
        let image = host.data();
        running.call("poke", &[Val::U32(n * 25), Val::U32(u32::MAX - n)], 1);
        if let Some(address) = host.unmarked(&image) {
            return Some(format!("poke changed {address:#x}"));
        }
    }
    None
}

#[test]
fn whatever_the_host_writes_is_marked() {
    assert_eq!(hole(&Options::default()), None);
    assert_eq!(hole(&Options { card_shift: 8, ..Options::default() }), None);
}

#[test]
fn each_forgotten_way_of_the_host_is_found() {
    for site in [Site::Realloc, Site::ResultArea, Site::ActiveSegment, Site::I64Store] {
        let options = Options { card_shift: 8, omit: Some(site), ..Options::default() };
        assert!(hole(&options).is_some(), "the barrier forgets {site:?} and nobody notices");
    }
}

#[test]
fn the_layout_names_the_memories_in_the_order_of_their_creation() {
    let (_, layout) = rewritten(&Options::default());
    let control = |module, state_bytes| MemoryRole::Control { module, state_bytes };
    // The shim and what fills its table pass calls on and need nothing.
    assert_eq!(layout.memories, [MemoryRole::Data, control(1, 32), control(3, 32)]);
    let host = Host::new(&Options::default());
    host.start();
    let sizes: Vec<u64> =
        host.mappings.contents().iter().map(|memory| memory.len() as u64).collect();
    let pages = layout.control_pages * (64 << 10);
    assert_eq!(sizes, [layout.data_minimum_bytes, pages, pages]);
}

#[test]
fn a_new_instance_over_restored_memories_writes_nothing_and_goes_on() {
    let host = Host::new(&Options::default());
    let mut running = host.start();
    running.call("take", &[Val::List(vec![Val::U8(7); 1000])], 1);
    running.call("poke", &[Val::U32(4000), Val::U32(0x5555)], 1);
    let next = running.call("next", &[], 1);
    drop(running);
    host.clear_cards();
    let before = host.mappings.contents();

    let mut running = host.start();
    assert!(before == host.mappings.contents(), "instantiation wrote to a restored memory");
    assert_eq!(running.call("next", &[], 1), next);
    let count = running.call("poke", &[Val::U32(0), Val::U32(0)], 1);
    assert_eq!(count, [Val::U64(42)]);
}
