//! Guests that no toolchain would make: a component of the world `bulkhead:guest`, written by hand,
//! with places for whatever a test wants to do wrong.
//!
//! Contract [`RUN`] adds one to a counter and does what the test says; [`BUMP`] adds one; [`VALUE`]
//! reads it. So a missing roll back shows, and so does a guest that doesn't run on.
//!
//! ```text
//!   page 0   8 heap, 16 counter, 64 result, 96 what was read, 512 value, 1024 description,
//!            4096 .. free for tests
//!   page 1   heap, empty at the begin of each call
//! ```
//!
//! In all texts `#7` is short for `(i32.const 7)`.

/// The contract that does what the test says.
pub const RUN: &str = "run";
/// The contract that adds one to the counter.
pub const BUMP: &str = "bump";
/// The contract that reads the counter.
pub const VALUE: &str = "value";

/// What is wrong with a guest, as pieces of WebAssembly text. The default is nothing.
#[derive(Clone, Debug)]
pub struct Hostile {
    /// The memory.
    pub memory: String,
    /// Fields of the component; the core memory `$memory` and the function `$realloc` are there.
    pub component: String,
    /// Exports of the core instance `extra`, for functions that `component` lowers.
    pub extra: String,
    /// Fields of the main module that import something.
    pub imports: String,
    /// Fields of the main module.
    pub items: String,
    /// What `describe` does before it answers.
    pub describe: String,
    /// What `prime` does.
    pub prime: String,
    /// What `init` does before it answers.
    pub init: String,
    /// What the contract `run` does.
    pub run: String,
    /// What `recover` does before it answers `resume`.
    pub recover: String,
    /// What `on-restore` does.
    pub on_restore: String,
    /// What `save` does after it has handed over the four bytes of the counter.
    pub save: String,
    /// What `load` does after it has taken the counter over.
    pub load: String,
    /// What `check` does before it answers that all is well.
    pub check: String,
    /// What its `realloc` does before it allocates.
    pub realloc: String,
    /// The version of its state, if it says that it can be upgraded.
    pub upgrade: Option<u8>,
    /// Which hooks the description names: 1 is `recover`, 2 `on-restore`.
    pub hooks: u8,
    /// The JSON Schema of every contract's result, at most 80 bytes.
    pub schema: String,
    /// Name of the first contract, 3 bytes.
    pub name: String,
    /// The JSON Schema of the argument `x` of the first contract, which has none when this is
    /// empty. It is in pages 2 and 3, which the memory must have then.
    pub argument: String,
}

impl Default for Hostile {
    fn default() -> Self {
        let nothing = String::new;
        Self {
            memory: "(memory (export \"memory\") 2)".to_owned(),
            component: nothing(),
            extra: nothing(),
            imports: nothing(),
            items: nothing(),
            describe: nothing(),
            prime: nothing(),
            init: nothing(),
            run: nothing(),
            recover: nothing(),
            on_restore: nothing(),
            save: nothing(),
            load: nothing(),
            check: nothing(),
            realloc: nothing(),
            upgrade: Some(1),
            hooks: 0,
            schema: "true".to_owned(),
            name: RUN.to_owned(),
            argument: nothing(),
        }
    }
}

/// A guest whose contract `run` does `run`. Locals `$i`, `$j`, `$n` (i32) and `$l` (i64) are there.
#[must_use]
pub fn hostile(run: &str) -> Vec<u8> {
    Hostile { run: run.to_owned(), ..Hostile::default() }.build()
}

impl Hostile {
    /// A guest whose contract `run` answers `count` maps of one entry, three bytes each: as many
    /// values for their bytes as there can be.
    #[must_use]
    pub fn maps(count: u32) -> Self {
        let [high, middle, low, last] = count.to_be_bytes().map(u32::from);
        let head = 0xdd | high << 8 | middle << 16 | low << 24;
        let (bytes, all) = (3 * count, 3 * count + 5);
        let run = format!(
            "(i32.store #1048571 #{head:#x}) (i32.store8 #1048575 #{last:#x})
             (i32.store #1048576 #0x81c0a081) (i32.store #1048580 #0xa081c0a0)
             (i32.store #1048584 #0xc0a081c0) (local.set $i #12)
             (block $done (loop $more
               (br_if $done (i32.ge_u (local.get $i) #{bytes}))
               (memory.copy (i32.add #1048576 (local.get $i)) #1048576 (local.get $i))
               (local.set $i (i32.shl (local.get $i) #1)) (br $more)))
             (return (call $answer #1048571 #{all}))"
        );
        let memory = "(memory (export \"memory\") 600)".to_owned();
        Self { memory, run, ..Self::default() }
    }

    /// A guest that describes its contract `run` with `count` arguments.
    #[must_use]
    pub fn arguments(count: usize) -> Self {
        let describe = format!(
            "(i32.store #1080 #{count}) (i32.store #1076 #1048576)
             (block $done (loop $more (br_if $done (i32.ge_u (local.get $i) #{count}))
               (memory.copy (i32.add #1048576 (i32.mul (local.get $i) #20)) #3072 #20)
               (local.set $i (i32.add (local.get $i) #1)) (br $more)))"
        );
        let memory = "(memory (export \"memory\") 600)".to_owned();
        Self { memory, describe, argument: "{}".to_owned(), ..Self::default() }
    }

    /// The component.
    ///
    /// # Panics
    ///
    /// When a piece is not WebAssembly text.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let text = self.text();
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// The component as text.
    #[must_use]
    pub fn text(&self) -> String {
        let (component, memory, main) = (&self.component, self.memory_module(), self.main_module());
        let extra = &self.extra;
        let parts = [
            "(component",
            TYPES,
            &memory,
            LOWERED,
            component,
            &main,
            INSTANCE_BEGIN,
            extra,
            INSTANCE_END,
            EXPORTS,
            ")",
        ];
        spell_out(&parts.join("\n"))
    }

    fn memory_module(&self) -> String {
        let (memory, hooks, schema) = (&self.memory, self.hooks, escape(&self.schema));
        let (schema_bytes, name) = (self.schema.len(), escape(&self.name));
        let word = |n: usize| escape_bytes(&u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
        let argument = &self.argument;
        let arguments = usize::from(!argument.is_empty());
        let contract = |name: usize, len: usize, read_only: u8, arguments: usize| {
            format!(
                "{}{}{}{}\\{read_only:02x}\\00\\00\\00{}{}{}{}",
                word(name),
                word(len),
                word(0),
                word(0),
                word(3072),
                word(arguments),
                word(1280),
                word(schema_bytes),
            )
        };
        let first = contract(1216, 3, 0, arguments);
        let contracts = [first, contract(1220, 4, 0, 0), contract(1226, 5, 1, 0)].concat();
        let (at, bytes) = (word(131_072), word(argument.len()));
        let described = format!("{}{}{at}{bytes}\\01", word(3068), word(1));
        let argument = match arguments {
            0 => String::new(),
            _ => format!(
                "(data (i32.const 3068) \"x\") (data (i32.const 3072) \"{described}\")
  (data (i32.const 131072) \"{}\")",
                escape(argument)
            ),
        };
        let upgrade = (u8::from(self.upgrade.is_some()), self.upgrade.unwrap_or_default());
        let upgrade = format!("\\{:02x}\\00\\00\\00\\{:02x}", upgrade.0, upgrade.1);
        let description = format!("{}{}\\{hooks:02x}\\00\\00\\00{upgrade}", word(1056), word(3));
        format!(
            r#"(core module $mem
  {memory}
  (func (export "realloc") (param $old i32) (param $old_size i32)
    (param $align i32) (param $size i32) (result i32) (local $at i32)
    (local.set $at (i32.and
      (i32.add (i32.load (i32.const 8)) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (i32.store (i32.const 8) (i32.add (local.get $at) (local.get $size)))
    (block $fits (loop $more
      (br_if $fits (i32.le_u (i32.load (i32.const 8)) (i32.shl (memory.size) (i32.const 16))))
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
      (br $more)))
    (local.get $at))
  (data (i32.const 8) "\00\00\01\00")
  (data (i32.const 1024) "{description}")
  (data (i32.const 1056) "{contracts}")
  (data (i32.const 1216) "{name}")
  (data (i32.const 1220) "bump")
  (data (i32.const 1226) "value")
  {argument}
  (data (i32.const 1280) "{schema}"))"#
        )
    }

    fn main_module(&self) -> String {
        let Self { imports, items, describe, prime, init, run, recover, on_restore, .. } = self;
        let Self { realloc, save, load, check, .. } = self;
        format!(
            r#"(core module $main
  {IMPORTS}
  {imports}
  {items}
  (func (export "describe") (result i32) {LOCALS} {describe} (i32.const 1024))
  (func (export "prime") {LOCALS} {prime})
  (func (export "init") (param i32 i32) (result i32) {LOCALS} {init} (call $reset) (call $nothing))
  (func (export "recover") (param i32 i32 i32 i32 i32 i32 i32 i64 i64) (result i32) {LOCALS}
    {recover} (call $reset) (call $nothing))
  (func (export "on-restore") (param i64) {LOCALS} {on_restore})
  (func (export "save") (result i32) {LOCALS}
    (call $handover-write #16 #4) {save} (call $reset) (call $nothing))
  (func (export "load") (param $version i32) (result i32) {LOCALS} (call $reset)
    (call $handover-read #4 #96)
    (i32.store #16 (i32.load (i32.load #96))) {load} (call $reset) (call $nothing))
  (func (export "check") (result i32) {LOCALS} {check} (call $reset) (call $nothing))
  (func (export "realloc") (param $a i32) (param $b i32) (param $c i32) (param $d i32) (result i32)
    {realloc} (call $realloc (local.get $a) (local.get $b) (local.get $c) (local.get $d)))
  {HELPERS}
  (func (export "call") (param $contract i32) (param i32 i32) (result i32) {LOCALS}
    (call $reset)
    (if (i32.ne (local.get $contract) (i32.const 2)) (then
      (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))))
    (if (i32.eqz (local.get $contract)) (then {run}))
    (i32.store8 (i32.const 512) (i32.and (i32.load (i32.const 16)) (i32.const 127)))
    (call $answer (i32.const 512) (i32.const 1))))"#
        )
    }
}

/// Replaces `#7` by `(i32.const 7)`.
fn spell_out(text: &str) -> String {
    let mut parts = text.split('#');
    let mut spelled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let (number, rest) = part.split_at(end.unwrap_or(part.len()));
        spelled.push_str(&format!("(i32.const {number}){rest}"));
    }
    spelled
}

fn escape(text: &str) -> String {
    escape_bytes(text.as_bytes())
}

fn escape_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

const LOCALS: &str = "(local $i i32) (local $j i32) (local $n i32) (local $l i64)";

/// `$answer` and `$reject` give what `call` returns, `$nothing` and `$refuse` what the others do.
const HELPERS: &str = r#"
  (func $reset (i32.store (i32.const 8) (i32.const 65536)))
  (func $answer (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 64) (i32.const 0))
    (i32.store (i32.const 68) (local.get $at))
    (i32.store (i32.const 72) (local.get $len))
    (i32.const 64))
  (func $nothing (result i32)
    (i64.store (i32.const 64) (i64.const 0))
    (i32.const 64))
  (func $refuse (param $at i32) (param $len i32) (result i32)
    (drop (call $reject (local.get $at) (local.get $len)))
    (memory.copy (i32.const 68) (i32.const 72) (i32.const 20))
    (i32.const 64))
  (func $reject (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 64) (i32.const 1))
    (i32.store (i32.const 68) (i32.const 0))
    (i32.store (i32.const 72) (local.get $at))
    (i32.store (i32.const 76) (local.get $len))
    (i32.store (i32.const 80) (local.get $at))
    (i32.store (i32.const 84) (local.get $len))
    (i32.store (i32.const 88) (i32.const 0))
    (i32.const 64))"#;

const IMPORTS: &str = r#"
  (import "mem" "memory" (memory 1))
  (import "mem" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
  (import "host" "write" (func $write (param i32 i32 i32 i32 i32)))
  (import "host" "print" (func $print (param i32 i32 i32)))
  (import "host" "panicked" (func $panicked (param i32 i32)))
  (import "host" "now" (func $now (result i64)))
  (import "host" "random" (func $random (result i64)))
  (import "host" "request-id" (func $request-id (param i32)))
  (import "host" "attempt" (func $attempt (result i32)))
  (import "host" "generation" (func $generation (result i64)))
  (import "host" "handover-write" (func $handover-write (param i32 i32)))
  (import "host" "handover-read" (func $handover-read (param i32 i32)))
  (import "host" "show" (func $show (param i32 i32)))
  (import "host" "read-output" (func $read-output (param i32 i32 i32 i32 i32)))"#;

const TYPES: &str = r#"
  (import "bulkhead:guest/types@0.1.0" (instance $types
    (type $argument0 (record (field "name" string) (field "schema" string) (field "required" bool)))
    (export "argument" (type $argument (eq $argument0)))
    (type $contract0 (record (field "name" string) (field "documentation" string)
      (field "read-only" bool) (field "arguments" (list $argument)) (field "result" string)))
    (export "contract" (type $contract (eq $contract0)))
    (type $hooks0 (flags "recover" "on-restore"))
    (export "hooks" (type $hooks (eq $hooks0)))
    (type $description0 (record (field "contracts" (list $contract)) (field "hooks" $hooks)
      (field "upgrade" (option u32))))
    (export "description" (type $description (eq $description0)))
    (type $rejection0 (record (field "code" string) (field "message" string)
      (field "details" (option (list u8)))))
    (export "rejection" (type $rejection (eq $rejection0)))
    (type $call-error0 (variant (case "rejected" $rejection) (case "bad-arguments" string)
      (case "unknown-contract")))
    (export "call-error" (type $call-error (eq $call-error0)))
    (type $crash-report0 (record (field "code" string) (field "message" string)
      (field "contract" string) (field "attempt" u32) (field "generation" u64)
      (field "fuel-used" u64)))
    (export "crash-report" (type $crash-report (eq $crash-report0)))
    (type $recovery0 (enum "resume" "zero" "park"))
    (export "recovery" (type $recovery (eq $recovery0)))))
  (alias export $types "description" (type $description))
  (alias export $types "rejection" (type $rejection))
  (alias export $types "call-error" (type $call-error))
  (alias export $types "crash-report" (type $crash-report))
  (alias export $types "recovery" (type $recovery))
  (import "bulkhead:guest/log@0.1.0" (instance $log
    (type $level0 (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level0)))
    (type $output0 (enum "stdout" "stderr"))
    (export "output" (type $output (eq $output0)))
    (export "write" (func (param "level" $level) (param "target" string) (param "message" string)))
    (export "print" (func (param "to" $output) (param "bytes" (list u8))))
    (export "panicked" (func (param "message" string)))))
  (import "bulkhead:guest/clock@0.1.0" (instance $clock (export "now" (func (result u64)))))
  (import "bulkhead:guest/entropy@0.1.0" (instance $entropy (export "next" (func (result u64)))))
  (import "bulkhead:guest/context@0.1.0" (instance $context
    (export "request-id" (func (result string)))
    (export "attempt" (func (result u32)))
    (export "generation" (func (result u64)))))
  (import "bulkhead:guest/handover@0.1.0" (instance $handover
    (export "write" (func (param "bytes" (list u8))))
    (export "read" (func (param "max" u32) (result (list u8))))))
  (import "bulkhead:guest/outputs@0.1.0" (instance $outputs
    (export "show" (func (param "address" u32) (param "size" u32)))
    (export "read" (func (param "daemon" string) (param "offset" u32) (param "max" u32)
      (result (list u8))))))"#;

const LOWERED: &str = r#"
  (core instance $mem (instantiate $mem))
  (alias core export $mem "memory" (core memory $memory))
  (alias core export $mem "realloc" (core func $realloc))
  (core func $write (canon lower (func $log "write") (memory $memory)))
  (core func $print (canon lower (func $log "print") (memory $memory)))
  (core func $panicked (canon lower (func $log "panicked") (memory $memory)))
  (core func $now (canon lower (func $clock "now")))
  (core func $random (canon lower (func $entropy "next")))
  (core func $request-id (canon lower (func $context "request-id") (memory $memory)
    (realloc (func $realloc))))
  (core func $attempt (canon lower (func $context "attempt")))
  (core func $generation (canon lower (func $context "generation")))
  (core func $handover-write (canon lower (func $handover "write") (memory $memory)))
  (core func $handover-read (canon lower (func $handover "read") (memory $memory)
    (realloc (func $realloc))))
  (core func $show (canon lower (func $outputs "show")))
  (core func $read-output (canon lower (func $outputs "read") (memory $memory)
    (realloc (func $realloc))))"#;

const INSTANCE_BEGIN: &str = r#"
  (core instance $main (instantiate $main (with "mem" (instance $mem))
    (with "host" (instance
      (export "write" (func $write)) (export "print" (func $print))
      (export "panicked" (func $panicked)) (export "now" (func $now))
      (export "random" (func $random)) (export "request-id" (func $request-id))
      (export "attempt" (func $attempt)) (export "generation" (func $generation))
      (export "handover-write" (func $handover-write))
      (export "handover-read" (func $handover-read))
      (export "show" (func $show)) (export "read-output" (func $read-output))))
    (with "extra" (instance"#;

const INSTANCE_END: &str = "))))";

const EXPORTS: &str = r#"
  (func (export "describe") (result $description)
    (canon lift (core func $main "describe") (memory $memory)))
  (func (export "prime") (canon lift (core func $main "prime")))
  (func (export "init") (param "parameters" (list u8)) (result (result (error $rejection)))
    (canon lift (core func $main "init") (memory $memory) (realloc (func $main "realloc"))))
  (func (export "call") (param "contract" u32) (param "arguments" (list u8))
    (result (result (list u8) (error $call-error)))
    (canon lift (core func $main "call") (memory $memory) (realloc (func $main "realloc"))))
  (func (export "recover") (param "report" $crash-report)
    (result (result $recovery (error $rejection)))
    (canon lift (core func $main "recover") (memory $memory) (realloc (func $main "realloc"))))
  (func (export "on-restore") (param "generation" u64)
    (canon lift (core func $main "on-restore")))
  (func (export "save") (result (result (error $rejection)))
    (canon lift (core func $main "save") (memory $memory)))
  (func (export "load") (param "version" u32) (result (result (error $rejection)))
    (canon lift (core func $main "load") (memory $memory)))
  (func (export "check") (result (result (error $rejection)))
    (canon lift (core func $main "check") (memory $memory)))"#;
