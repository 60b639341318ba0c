//! Makes components of several modules over one memory, in which functions of the host and of
//! other modules come to those who call them by every way that there is.

use std::collections::{BTreeSet, HashMap};

use wasm_encoder::{Function, ValType};

use super::composed::{replace_bodies, replace_modules};
use super::generator::{Dice, Element, Reach, function};

/// Functions of the host: one card, several cards, and blocks of a list. All take a number, and
/// all are lowered to type 1.
pub(super) const HOSTS: [&str; 3] = ["pair", "wide", "bytes"];

/// Types of globals.
const NUMBERS: [(&str, ValType); 5] = [
    ("i32", ValType::I32),
    ("i64", ValType::I64),
    ("f32", ValType::F32),
    ("f64", ValType::F64),
    ("v128", ValType::V128),
];

/// Statements of a function: components of many small ones try more in the same time.
const STATEMENTS: u32 = 25;

/// The element of the shared table that holds a function of the host. Those before it hold one of
/// each module.
const HOST_ELEMENT: u32 = 7;

/// By which way a function of the host comes to a module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// An import.
    Import,
    /// An import that the module puts into a table of its own.
    OwnElement,
    /// An import of what another module imports and exports.
    Reexport,
    /// A function of another module that passes its parameters on.
    Forward,
    /// One that passes them on through a table, which is filled when the memory exists.
    Shim,
    /// That table itself.
    ShimTable,
    /// A function of another module that changes its parameters.
    Change,
    /// An immutable global of another module, as an element of a table.
    Global,
    /// A global whose initial value is such a global of a third module.
    GlobalOfGlobal,
}

impl Way {
    /// Those that are there before the memory is.
    pub(super) const EARLY: [Self; 2] = [Self::Shim, Self::ShimTable];

    pub(super) const ALL: [Self; 9] = [
        Self::Import,
        Self::OwnElement,
        Self::Reexport,
        Self::Forward,
        Self::Shim,
        Self::ShimTable,
        Self::Change,
        Self::Global,
        Self::GlobalOfGlobal,
    ];
}

/// A component with the functions that it exports, all of two numbers to one.
pub(super) struct Generated {
    pub(super) bytes: Vec<u8>,
    pub(super) exports: Vec<String>,
    pub(super) ways: Vec<Way>,
}

/// A component from a seed.
pub(super) fn component(seed: u64) -> Generated {
    let builder = Builder {
        dice: Dice::new(seed),
        text: String::new(),
        modules: 0,
        bodies: HashMap::new(),
        functions: Vec::new(),
        ways: Vec::new(),
    };
    builder.build()
}

struct Builder {
    dice: Dice,
    /// The component, in which the functions that are made here do nothing.
    text: String,
    /// How many core modules it has so far, and for some the bodies of functions.
    modules: usize,
    bodies: HashMap<usize, Vec<Function>>,
    /// Functions that the modules so far export, with the number of the module.
    functions: Vec<(usize, String)>,
    ways: Vec<Way>,
}

impl Builder {
    fn build(mut self) -> Generated {
        let wide = "u64 ".repeat(18);
        self.text += &format!(
            "(component (import \"host:test/api\" (instance $api
               (export \"pair\" (func (param \"n\" u32) (result (tuple u64 u64))))
               (export \"wide\" (func (param \"n\" u32) (result (tuple {wide}))))
               (export \"bytes\" (func (param \"n\" u32) (result (list u8))))))"
        );
        let modules = 1 + self.dice.roll(3) as usize;
        for number in 0..modules {
            self.module(number, modules);
            if number == 0 {
                self.lower();
                self.fill();
            }
        }
        let mut exports = Vec::new();
        for (number, name) in &self.functions {
            let export = format!("m{number}-{name}");
            self.text += &format!(
                "(func (export \"{export}\") (param \"a\" u32) (param \"b\" u32) (result u32)
                   (canon lift (core func $m{number} \"{name}\")))"
            );
            exports.push(export);
        }
        self.text.push(')');
        let skeleton = wat::parse_str(&self.text).unwrap();
        let bytes = replace_modules(&skeleton, |index, module| match self.bodies.get(&index) {
            Some(bodies) => replace_bodies(module, bodies),
            None => module.to_vec(),
        });
        Generated { bytes, exports, ways: self.ways }
    }

    /// A module as text, which stays as it is.
    fn auxiliary(&mut self, name: &str, fields: &str, with: &str) {
        self.modules += 1;
        self.text += &format!(
            "(core module ${name}-module (type $u (func (param i32 i32) (result i32)))
               (type $t (func (param i32 i32))) {fields})
             (core instance ${name} (instantiate ${name}-module {with}))"
        );
    }

    /// The functions of the host, lowered, and in half of the cases through another `realloc`.
    fn lower(&mut self) {
        let mut realloc = "$m0";
        if self.dice.roll(2) == 0 {
            let ty = "(param i32 i32 i32 i32) (result i32)";
            let import = format!("(import \"\" \"realloc\" (func $f {ty}))");
            let fields = format!("{import} (export \"realloc\" (func $f))");
            self.auxiliary("realloc", &fields, "(with \"\" (instance $m0))");
            realloc = "$realloc";
        }
        for name in HOSTS {
            self.text += &format!(
                "(core func ${name} (canon lower (func $api \"{name}\") (memory $m0 \"memory\")
                   (realloc (func {realloc} \"realloc\"))))"
            );
        }
    }

    /// Fills the tables of the shims that were made before the memory, and an element of the
    /// shared table.
    fn fill(&mut self) {
        let ways = std::mem::take(&mut self.ways);
        for (number, way) in ways.iter().enumerate() {
            assert!(Way::EARLY.contains(way));
            self.fill_table(&format!("w{number}"), "t", 0);
        }
        self.ways = ways;
        self.fill_table("m0", "table", HOST_ELEMENT);
    }

    /// Puts a function of the host into a table of another instance.
    fn fill_table(&mut self, instance: &str, table: &str, at: u32) {
        let host = self.dice.of(&HOSTS);
        let fields = format!(
            "(import \"i\" \"{table}\" (table 1 funcref)) (import \"h\" \"f\" (func $f (type $t)))
             (elem (i32.const {at}) func $f)"
        );
        let with = format!(
            "(with \"i\" (instance ${instance})) (with \"h\" (instance (export \"f\" (func ${host}))))"
        );
        self.auxiliary(&format!("fill-{instance}"), &fields, &with);
    }

    /// Makes what a way needs. The instance that a module imports `f` of is called `name` then.
    fn way(&mut self, way: Way, name: &str) {
        let host = self.dice.of(&HOSTS);
        let import = "(import \"\" \"f\" (func $f (type $t)))";
        let with = format!("(with \"\" (instance (export \"f\" (func ${host}))))");
        match way {
            Way::Import | Way::OwnElement => {
                self.text += &format!("(core instance ${name} (export \"f\" (func ${host})))");
            }
            Way::Reexport => {
                let fields = format!("{import} (export \"f\" (func $f))");
                self.auxiliary(name, &fields, &with);
            }
            Way::Forward => {
                let call = "local.get 0 local.get 1 call $f";
                let fields = format!("{import} (func (export \"f\") (type $t) {call})");
                self.auxiliary(name, &fields, &with);
            }
            Way::Change => {
                let call = "local.get 0 i32.const 1 i32.xor local.get 1 call $f";
                let fields = format!("{import} (func (export \"f\") (type $t) {call})");
                self.auxiliary(name, &fields, &with);
            }
            Way::Shim | Way::ShimTable => {
                let fields = "(table (export \"t\") 1 1 funcref) (func (export \"f\") (type $t)
                    local.get 0 local.get 1 i32.const 0 call_indirect (type $t))";
                self.auxiliary(name, fields, "");
            }
            Way::Global => {
                let fields = format!("{import} (global (export \"f\") funcref (ref.func $f))");
                self.auxiliary(name, &fields, &with);
            }
            Way::GlobalOfGlobal => {
                let first = format!("{name}-first");
                self.way(Way::Global, &first);
                let fields = "(import \"\" \"f\" (global $g funcref))
                    (global (export \"f\") funcref (global.get $g))";
                self.auxiliary(name, fields, &format!("(with \"\" (instance ${first}))"));
            }
        }
    }

    /// A module with code from the dice. The first has the memory, a `realloc` and a table that
    /// others fill, too.
    fn module(&mut self, number: usize, modules: usize) {
        let choices = if number == 0 { &Way::EARLY[..] } else { &Way::ALL };
        let mut core = Core::default();
        core.reach.statements = STATEMENTS;
        for _ in 0..=self.dice.roll(2) {
            let (way, name) = (self.dice.of(choices), format!("w{}", self.ways.len()));
            self.way(way, &name);
            if number > 0 && Way::EARLY.contains(&way) {
                self.fill_table(&name, "t", 0);
            }
            self.ways.push(way);
            core.take_host(way, &name);
        }
        if number == 0 {
            core.define_memory(modules);
        } else {
            let (from, calls) = (self.dice.roll(number as u32), self.dice.roll(3));
            core.share_memory(from as usize);
            for _ in 0..calls {
                let (module, name) =
                    self.functions[self.dice.roll(self.functions.len() as u32) as usize].clone();
                core.take_function(module, &name);
            }
            if self.dice.roll(2) == 0 {
                core.take_constants(from as usize);
            }
            core.put_into_shared_table(number);
        }
        core.define_globals(&mut self.dice);
        let has_start = self.dice.roll(4) == 0;
        let names = core.define_functions(&mut self.dice, number, has_start);
        self.functions.extend(names.into_iter().map(|name| (number, name)));
        self.bodies.insert(self.modules, core.bodies);
        let mut with = String::new();
        let instances: BTreeSet<_> = core.imported.iter().map(|(instance, _)| instance).collect();
        for name in instances {
            with += &format!(" (with \"{name}\" (instance ${name}))");
        }
        let (imports, fields) = (core.imports, core.fields);
        self.auxiliary(&format!("m{number}"), &format!("{imports} {fields}"), &with);
    }
}

/// A core module with code from the dice, in the making.
#[derive(Default)]
struct Core {
    imports: String,
    fields: String,
    /// What it imports so far: instances and names.
    imported: BTreeSet<(String, String)>,
    /// How many there are so far, imported ones first.
    functions: u32,
    tables: u32,
    globals: u32,
    /// Definitions that come after all imports: elements of tables of its own.
    elements: Vec<String>,
    reach: Reach,
    bodies: Vec<Function>,
}

impl Core {
    fn import(&mut self, instance: &str, name: &str, entity: &str) {
        self.imported.insert((instance.to_owned(), name.to_owned()));
        self.imports += &format!("(import \"{instance}\" \"{name}\" {entity})");
    }

    /// Imports a function of the host by its way.
    fn take_host(&mut self, way: Way, name: &str) {
        match way {
            Way::ShimTable => {
                self.import(name, "t", "(table 1 funcref)");
                let element = Element { table: self.tables, index: 0, is_host: true };
                self.reach.elements.push(element);
                self.tables += 1;
            }
            Way::Global | Way::GlobalOfGlobal => {
                self.import(name, "f", "(global funcref)");
                self.elements.push(format!("(global.get {})", self.globals));
                self.globals += 1;
            }
            Way::OwnElement => {
                self.import(name, "f", "(func (type $t))");
                self.elements.push(format!("(ref.func {})", self.functions));
                self.functions += 1;
            }
            Way::Import | Way::Reexport | Way::Forward | Way::Shim | Way::Change => {
                self.import(name, "f", "(func (type $t))");
                self.reach.hosts.push(self.functions);
                self.functions += 1;
            }
        }
    }

    fn take_function(&mut self, module: usize, name: &str) {
        let instance = format!("m{module}");
        // A second import of the same name would be invalid.
        if self.imported.contains(&(instance.clone(), name.to_owned())) {
            return;
        }
        self.import(&instance, name, "(func (type $u))");
        self.reach.functions.push(self.functions);
        self.functions += 1;
    }

    fn take_constants(&mut self, module: usize) {
        for (name, ty) in NUMBERS {
            self.import(
                &format!("m{module}"),
                &format!("constant-{name}"),
                &format!("(global {name})"),
            );
            self.reach.constants.push((self.globals, ty));
            self.globals += 1;
        }
    }

    /// The memory, what the host allocates with, and a table for all modules.
    fn define_memory(&mut self, modules: usize) {
        self.fields += "(memory (export \"memory\") 2 4) (table (export \"table\") 8 funcref)";
        for module in 1..modules {
            let element = Element { table: self.tables, index: module as u32, is_host: false };
            self.reach.elements.push(element);
        }
        let element = Element { table: self.tables, index: HOST_ELEMENT, is_host: true };
        self.reach.elements.push(element);
        self.tables += 1;
    }

    fn share_memory(&mut self, module: usize) {
        self.import(&format!("m{module}"), "memory", "(memory 1)");
        self.fields += "(export \"memory\" (memory 0))";
    }

    fn put_into_shared_table(&mut self, number: usize) {
        self.import("m0", "table", "(table 8 funcref)");
        self.fields += &format!("(elem (table {}) (i32.const {number}) func $leaf)", self.tables);
        let element = Element { table: self.tables, index: HOST_ELEMENT, is_host: true };
        self.reach.elements.push(element);
        self.tables += 1;
    }

    /// Globals of all types, both kinds of each, and a table of what it can't call by name.
    fn define_globals(&mut self, dice: &mut Dice) {
        for (name, ty) in NUMBERS {
            let value = dice.roll(0x1_8000);
            let lanes = if ty == ValType::V128 { "i32x4 1 2 3" } else { "" };
            let value = format!("({name}.const {lanes} {value})");
            self.fields += &format!("(global (export \"constant-{name}\") {name} {value})");
            self.fields += &format!("(global (mut {name}) {value})");
            self.reach.constants.push((self.globals, ty));
            self.reach.globals.push((self.globals + 1, ty));
            self.globals += 2;
        }
        if self.elements.is_empty() {
            return;
        }
        let (table, count) = (self.tables, self.elements.len());
        self.fields += &format!("(table {count} funcref)");
        let elements = self.elements.concat();
        self.fields += &format!("(elem (table {table}) (i32.const 0) funcref {elements})");
        for index in 0..count as u32 {
            self.reach.elements.push(Element { table, index, is_host: true });
        }
        self.tables += 1;
    }

    /// Functions with bodies from the dice, and those that are the same in all modules.
    fn define_functions(&mut self, dice: &mut Dice, number: usize, has_start: bool) -> Vec<String> {
        // What is in the shared table calls nothing, so that no call comes back to its caller.
        let leaf = Reach {
            statements: STATEMENTS,
            globals: self.reach.globals.clone(),
            constants: self.reach.constants.clone(),
            ..Reach::default()
        };
        let mut names = vec![String::from("leaf")];
        self.bodies.push(function(dice, &leaf));
        for number in 0..=dice.roll(2) {
            self.reach.functions.push(self.functions + number);
            self.bodies.push(function(dice, &self.reach));
            names.push(format!("f{number}"));
        }
        for name in &names {
            self.fields += &format!("(func ${name} (export \"{name}\") (type $u) unreachable)");
        }
        let mut dump = String::new();
        for (at, (global, ty)) in self.reach.globals.iter().enumerate() {
            let (name, _) = NUMBERS.iter().find(|(_, known)| known == ty).unwrap();
            let at = 0x1f000 + number * 256 + at * 16;
            dump += &format!("({name}.store (i32.const {at}) (global.get {global}))");
        }
        self.fields += &format!("(func (export \"dump\") (type $u) {dump} i32.const 1)");
        if number == 0 {
            // Blocks of a list in a small ring, so that they don't run out.
            self.fields += "(global $next (mut i32) (i32.const 0))
              (func (export \"realloc\") (param i32 i32 i32 i32) (result i32)
                (global.set $next
                  (i32.and (i32.add (global.get $next) (i32.const 72)) (i32.const 0x1ff8)))
                (i32.add (global.get $next) (i32.const 0x1c000)))";
        }
        if has_start {
            let (a, b) = (dice.roll(0x8000), dice.roll(0x1_8000));
            self.fields += &format!(
                "(func $start (drop (call $leaf (i32.const {a}) (i32.const {b})))) (start $start)"
            );
        }
        // Needs the count of segments, as the bodies do that come later.
        self.fields += &format!(
            "(data (i32.const {}) \"active segment over two cards\")
             (data \"passive segment that is copied by memory.init\")
             (func (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 0)))",
            4090 + number * 4096
        );
        names.push(String::from("dump"));
        names
    }
}
