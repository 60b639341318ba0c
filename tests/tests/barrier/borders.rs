//! Every way by which a function, a memory or a global comes from one core module to another, or
//! from the host: either what it leads to is marked, or the component is refused with its reason.

use host::pure::admission::{Caps, World, admit};
use host::pure::barrier::{Options, Site};

use super::composed::Pair;
use super::oracle::Verdict;

/// What stands between the host and the module `$a`, whose export `go` calls the host.
#[derive(Clone)]
struct Border {
    name: &'static str,
    /// Definitions before the module with the memory.
    early: String,
    /// Definitions after it: `$h` is the function of the host.
    late: String,
    /// The export that is called.
    entry: &'static str,
    /// A kind of mark without which something is written unmarked.
    site: Site,
}

/// The import of a function of the host.
const IMPORT: &str = "(import \"\" \"f\" (func $f (type $t)))";

fn border<const N: usize>(name: &'static str, late: [String; N]) -> Border {
    Border { name, early: String::new(), late: late.concat(), entry: "go", site: Site::ResultArea }
}

/// A core module with its instance. `$t` is the type of the host's function.
fn module(name: &str, fields: &str, with: &str) -> String {
    format!(
        "(core module ${name}-module (type $t (func (param i32 i32))) {fields})
         (core instance ${name} (instantiate ${name}-module {with}))"
    )
}

/// Arguments of an instantiation: the function of the host, or another, under `""` `f`.
fn with(item: &str) -> String {
    format!("(with \"\" (instance (export \"f\" {item})))")
}

/// The export `go` of an area and a seed.
fn go(call: &str) -> String {
    format!(
        "(func (export \"go\") (param i32 i32) (result i32)
           local.get 1 local.get 0 {call} i32.const 7)"
    )
}

/// The module `$a`, which calls what it imports as a function.
fn caller(with_item: &str) -> String {
    module("a", &format!("{IMPORT} {}", go("call $f")), &with(with_item))
}

/// The module `$a`, which calls what a table has at an index.
fn table_caller(fields: &str, index: u32, with: &str) -> String {
    let call = format!("i32.const {index} call_indirect (type $t)");
    module("a", &format!("{fields} {}", go(&call)), with)
}

impl Border {
    fn early(self, early: &str) -> Self {
        Self { early: early.to_owned(), ..self }
    }

    /// The component's export `after` is called.
    fn after_return(self) -> Self {
        Self { entry: "after", ..self }
    }

    fn site(self, site: Site) -> Self {
        Self { site, ..self }
    }

    fn component(&self) -> String {
        let wide = "u64 ".repeat(18);
        format!(
            "(component
               (import \"host:test/api\" (instance $api
                 (export \"pair\" (func (param \"n\" u32) (result (tuple u64 u64))))
                 (export \"wide\" (func (param \"n\" u32) (result (tuple {wide}))))
                 (export \"bytes\" (func (param \"n\" u32) (result (list u8))))))
               {}
               (core module $k-module
                 (memory (export \"memory\") 2 4)
                 (table (export \"table\") 4 funcref)
                 (global (export \"base\") i32 (i32.const 2))
                 (global $next (mut i32) (i32.const 0x1a000))
                 (func (export \"realloc\") (param i32 i32 i32 i32) (result i32)
                   (global.set $next (i32.add (global.get $next) (i32.const 72)))
                   (global.get $next))
                 (func (export \"poke\") (param i32 i32) (result i32)
                   (i32.store offset=3 (local.get 0) (local.get 1)) i32.const 1)
                 (func (export \"count\")
                   (i32.store (i32.const 640) (i32.add (i32.load (i32.const 640)) (i32.const 1)))))
               (core instance $k (instantiate $k-module))
               (core func $h (canon lower (func $api \"wide\") (memory $k \"memory\")))
               {}
               (func (export \"go\") (param \"area\" u32) (param \"seed\" u32) (result u32)
                 (canon lift (core func $a \"go\"))))",
            self.early, self.late
        )
    }

    fn verdict(&self, pair: &Pair, options: &Options) -> Verdict {
        let component = wat::parse_str(self.component())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let areas = [0, 4088, 65_528, 100_000, 130_920, 131_064, 0xffff_fff8];
        let mut verdict = Verdict::Same;
        // A trap ends a component: one for each area.
        for (seed, area) in (1..).zip(areas) {
            let call = |area, seed| (self.entry.to_owned(), [area, seed]);
            let calls = [call(area, seed), call(16, seed + 9)];
            verdict = pair.compare(&component, &calls, options);
            if verdict != Verdict::Same {
                break;
            }
        }
        verdict
    }
}

/// A module that exports what it imports.
fn reexport(name: &str, item: &str) -> String {
    module(name, &format!("{IMPORT} (export \"f\" (func $f))"), &with(item))
}

/// A module whose function passes its parameters on.
fn forward(name: &str, item: &str) -> String {
    let call = "local.get 0 local.get 1 call $f";
    module(name, &format!("{IMPORT} (func (export \"f\") (type $t) {call})"), &with(item))
}

/// A function that passes its parameters on to the first element of a table.
const FORWARD_BY_TABLE: &str = "(func (export \"f\") (type $t)
    local.get 0 local.get 1 i32.const 0 call_indirect (type $t))";

/// Functions that come under names.
fn by_name() -> Vec<Border> {
    let f = |name| caller(&format!("(func ${name} \"f\")"));
    let table = format!("{IMPORT} (table 1 funcref) (elem (i32.const 0) func $f)");
    let changes = format!(
        r#"{IMPORT} (func (export "f") (type $t)
             local.get 0 local.get 1 i32.const 64 i32.add call $f)"#
    );
    let renamed = r#"(core instance $y (export "g" (func $h)))
        (core instance $x (export "f" (func $y "g")))"#;
    let shim = format!("(table (export \"t\") 1 funcref) {FORWARD_BY_TABLE}");
    let starts = format!(
        "{IMPORT} (func $start (call $f (i32.const 3) (i32.const 4088))) (start $start) {}",
        go("drop drop")
    );
    let nested = format!(
        r#"(component $c (type $w (func (param "n" u32) (result (tuple {wide}))))
             (import "f" (func $f (type $w))) (export "g" (func $f)))
           (instance $n (instantiate $c (with "f" (func $api "wide"))))
           (instance $m (instantiate $c (with "f" (func $n "g"))))
           (core func $i (canon lower (func $m "g") (memory $k "memory")))"#,
        wide = "u64 ".repeat(18)
    );
    let (h, x) = ("(func $h)", "(func $x \"f\")");
    vec![
        border("an import", [caller(h)]),
        border("an import of a renamed instance", [renamed.to_owned(), f("x")]),
        border("an import that another module exports", [reexport("x", h), f("x")]),
        border("an import that two modules export", [reexport("x", h), reexport("y", x), f("y")]),
        border("a function that passes on", [forward("x", h), f("x")]),
        border(
            "a function that passes on to one that does",
            [forward("x", h), forward("y", x), f("y")],
        ),
        border(
            "a function that passes on by a table of its own",
            [module("x", &format!("{table} {FORWARD_BY_TABLE}"), &with(h)), f("x")],
        ),
        border("a function that changes its parameters", [module("x", &changes, &with(h)), f("x")]),
        border("a shim", [fill("x", 0), f("x")]).early(&module("x", &shim, "")),
        border("a start function", [module("a", &starts, &with(h))]),
        border("a nested component that renames it, made twice", [nested, caller("(func $i)")]),
    ]
}

/// Functions that come in tables.
fn by_table() -> Vec<Border> {
    let (h, import) = (with("(func $h)"), "(import \"x\" \"t\" (table 1 funcref))");
    let with_x = "(with \"x\" (instance $x))";
    let exports = "(table (export \"t\") 1 funcref)";
    let passes_on = r#"(import "y" "t" (table 1 funcref)) (export "t" (table 0))"#;
    let fill_shared = format!(
        r#"(import "k" "table" (table 1 funcref)) (import "k" "base" (global $b i32))
           {IMPORT} (elem (global.get $b) func $f)"#
    );
    let shared = "(import \"k\" \"table\" (table 1 funcref))";
    let with_k = "(with \"k\" (instance $k))";
    let element = format!("{IMPORT} (table 1 funcref) (elem (i32.const 0) func $f)");
    let expression =
        format!("{IMPORT} (table 1 funcref) (elem (i32.const 0) funcref (ref.func $f))");
    vec![
        border("the table of a shim", [fill("x", 0), table_caller(import, 0, with_x)])
            .early(&module("x", &format!("{exports} {FORWARD_BY_TABLE}"), "")),
        border(
            "a table behind another one",
            [fill("x", 0), table_caller(&format!("{import} (table 1 funcref)"), 0, with_x)],
        )
        .early(&module("x", exports, "")),
        border(
            "a table that a third module passes on",
            [
                fill("y", 0),
                module("x", passes_on, "(with \"y\" (instance $y))"),
                table_caller(import, 0, with_x),
            ],
        )
        .early(&module("y", exports, "")),
        border(
            "a table of its own that another module fills",
            [table_caller(exports, 0, ""), fill("a", 0)],
        ),
        border(
            "a table that others fill at a place that a global says",
            [module("y", &fill_shared, &format!("{h} {with_k}")), table_caller(shared, 2, with_k)],
        ),
        border("an element of its own", [table_caller(&element, 0, &h)]),
        border("an element that is an expression", [table_caller(&expression, 0, &h)]),
    ]
}

/// Functions that come as values of globals.
fn by_global() -> Vec<Border> {
    const GLOBAL: &str = "(import \"\" \"f\" (global $g funcref))";
    let export = format!("{IMPORT} (global (export \"g\") funcref (ref.func $f))");
    let global = |name| module(name, &export, &with("(func $h)"));
    let element = "(elem (table $own) (i32.const 0) funcref (global.get $g))";
    let own = format!("{GLOBAL} (table $own 1 funcref) {element}");
    let caller_of = |name| table_caller(&own, 0, &with(&format!("(global ${name} \"g\")")));
    let again = format!("{GLOBAL} (global (export \"g\") funcref (global.get $g))");
    let marks = format!(
        r#"(import "k" "memory" (memory 1)) {export}
           (func (i32.store (i32.const 0) (i32.const 0)))"#
    );
    let with_k = "(with \"k\" (instance $k))";
    let fills = format!("{GLOBAL} (import \"a\" \"t\" (table $own 1 funcref)) {element}");
    let (x, with_a) = (with("(global $x \"g\")"), "(with \"a\" (instance $a))");
    vec![
        border("a global of a module without code", [global("x"), caller_of("x")]),
        border(
            "a global whose value is another one's",
            [global("y"), module("x", &again, &with("(global $y \"g\")")), caller_of("x")],
        ),
        border(
            "a global that a module with code exports",
            [module("x", &marks, &format!("{} {with_k}", with("(func $h)"))), caller_of("x")],
        ),
        border(
            "a global that a third module puts into the caller's table",
            [
                global("x"),
                table_caller("(table (export \"t\") 1 funcref)", 0, ""),
                module("y", &fills, &format!("{x} {with_a}")),
            ],
        ),
        border(
            "a global, called by a function that passes on",
            [
                global("x"),
                module("y", &format!("{own} {FORWARD_BY_TABLE}"), &x),
                caller("(func $y \"f\")"),
            ],
        ),
    ]
}

/// A module that puts the host's function into the table of another instance.
fn fill(instance: &str, at: u32) -> String {
    let fields =
        format!("{IMPORT} (import \"t\" \"t\" (table 1 funcref)) (elem (i32.const {at}) func $f)");
    let with = format!("{} (with \"t\" (instance ${instance}))", with("(func $h)"));
    module(&format!("fill-{instance}"), &fields, &with)
}

/// Memories, and what the host enters.
fn memories() -> Vec<Border> {
    let memory = "(import \"k\" \"memory\" (memory 1))";
    let (from_k, from_x) = ("(with \"k\" (instance $k))", "(with \"k\" (instance $x))");
    let writes = format!(
        "{memory} {}",
        go("i32.store offset=3 (i32.store8 (i32.const 4095) (local.get 1))")
    );
    let passes_on = format!("{memory} (export \"memory\" (memory 0))");
    let renamed = "(core instance $x (export \"memory\" (memory $k \"memory\")))";
    let segments = format!(
        r#"{memory} (import "k" "base" (global $b i32))
           (data (global.get $b) "at a place that a global says") (data (i32.const 5000) "x") {}"#,
        go("drop drop")
    );
    let calls = r#"(import "k" "poke" (func $p (param i32 i32) (result i32)))
        (func (export "go") (param i32 i32) (result i32) local.get 0 local.get 1 call $p)"#;
    let segment = format!("{memory} (data (i32.const 5000) \"without code\")");
    let starts = "(import \"k\" \"count\" (func $f)) (start $f)";
    let stores = format!(
        r#"{memory} (func (export "f") (type $t) (i32.store (local.get 1) (i32.const -1)))"#
    );
    let text = format!(
        r#"{memory} (func (export "text") (param i32 i32) (result i32) i32.const 64)
           (func (export "post") (param i32) (i32.store (i32.const 9000) (i32.const 1)))"#
    );
    let lift = r#"(func (export "after") (param "a" u32) (param "b" u32) (result string) (canon lift
        (core func $x "text") (memory $k "memory") (post-return (func $x "post"))))"#;
    vec![
        border("a memory", [module("a", &writes, from_k)]),
        border(
            "a memory that a module passes on",
            [module("x", &passes_on, from_k), module("a", &writes, from_x)],
        ),
        border(
            "a memory of a renamed instance",
            [renamed.to_owned(), module("a", &writes, from_x)],
        ),
        border("a segment in another module's memory", [module("a", &segments, from_k)])
            .site(Site::ActiveSegment),
        border(
            "a segment of a module without code",
            [module("x", &segment, from_k), module("a", &writes, from_k)],
        )
        .site(Site::ActiveSegment),
        border(
            "a start function of another module",
            [module("x", starts, from_k), module("a", &writes, from_k)],
        ),
        border(
            "a function that only stores",
            [module("x", &stores, from_k), caller("(func $x \"f\")")],
        ),
        border("a function of the module with the memory", [module("a", calls, from_k)]),
        border(
            "what is called after a return",
            [module("x", &text, from_k), lift.to_owned(), module("a", &writes, from_k)],
        )
        .after_return(),
    ]
    .into_iter()
    .map(|border| match border.site {
        Site::ResultArea => border.site(Site::I32Store),
        _ => border,
    })
    .collect()
}

/// Functions that the host allocates with.
fn allocators() -> Vec<Border> {
    const TYPE: &str = "(param i32 i32 i32 i32) (result i32)";
    let import = format!("(import \"k\" \"realloc\" (func $r {TYPE}))");
    let arguments = "local.get 0 local.get 1 local.get 2 local.get 3";
    let (x, k) = ("$x \"f\"", "(with \"k\" (instance $k))");
    let renamed = "(core instance $x (export \"f\" (func $k \"realloc\")))";
    let exports = format!("{import} (export \"f\" (func $r))");
    let passes_on = format!("{import} (func (export \"f\") {TYPE} {arguments} call $r)");
    let by_table = format!(
        "{import} (table 1 funcref) (elem (i32.const 0) func $r)
         (func (export \"f\") {TYPE} {arguments} i32.const 0 call_indirect {TYPE})"
    );
    // The host writes a list to what the function answers.
    let list = |realloc| {
        let lower = format!(
            r#"(core func $l (canon lower (func $api "bytes") (memory $k "memory")
                 (realloc (func {realloc}))))"#
        );
        lower + &caller("(func $l)")
    };
    vec![
        border("an allocator", [list("$k \"realloc\"")]),
        border("an allocator of a renamed instance", [renamed.to_owned(), list(x)]),
        border("an allocator that another module exports", [module("x", &exports, k), list(x)]),
        border("an allocator that passes on", [module("x", &passes_on, k), list(x)]),
        border("an allocator in a table", [module("x", &by_table, k), list(x)]),
    ]
    .into_iter()
    .map(|border| border.site(Site::Realloc))
    .collect()
}

#[test]
fn what_crosses_a_border_is_marked_by_whatever_way() {
    let pair = Pair::new();
    for border in [by_name(), by_table(), by_global(), memories(), allocators()].concat() {
        for card_shift in [8, 12] {
            let options = Options { card_shift, ..Options::default() };
            assert_eq!(border.verdict(&pair, &options), Verdict::Same, "{}", border.name);
        }
        // It does write.
        let options = Options { card_shift: 8, omit: Some(border.site), ..Options::default() };
        let verdict = border.verdict(&pair, &options);
        assert!(matches!(verdict, Verdict::Unmarked(_)), "{}: {verdict:?}", border.name);
    }
}

/// Refused with `code` for `reason`.
fn refuses(late: String, code: &str, reason: &str) {
    let component = border("", [late]).component();
    let bytes = wat::parse_str(&component).unwrap_or_else(|error| panic!("{reason}: {error}"));
    let refusal = admit(&bytes, &Caps::default(), &World::ANY).expect_err(reason);
    assert_eq!(refusal.code(), code, "{refusal}");
    assert!(refusal.to_string().contains(reason), "{refusal} doesn't say {reason}");
}

#[test]
fn modules_that_change_what_no_image_holds_are_refused() {
    let by_table = |definition: &str| {
        module("a", &format!("{IMPORT} {definition} {}", go("drop drop")), &with("(func $h)"))
    };
    for (late, code, reason) in [
        (
            by_table(
                "(table 1 funcref) (elem declare func $f)
              (func (table.set (i32.const 0) (ref.func $f)))",
            ),
            "E_MODULE_SNAPSHOT_UNSAFE",
            "table.set",
        ),
        (
            by_table("(global (mut funcref) (ref.func $f))"),
            "E_MODULE_SNAPSHOT_UNSAFE",
            "a mutable reference in a global",
        ),
        (
            by_table("(global (export \"g\") (mut i32) (i32.const 0))"),
            "E_MODULE_SNAPSHOT_UNSAFE",
            "the exported mutable global `g`",
        ),
        (
            module("a", &format!("(import \"\" \"g\" (global (mut i32))) {}", go("drop drop")), ""),
            "E_MODULE_SNAPSHOT_UNSAFE",
            "an imported mutable global",
        ),
        (
            by_table("(type $r (func)) (func (param (ref $r)) (call_ref $r (local.get 0)))"),
            "E_MODULE_FEATURE",
            "function_references",
        ),
        (
            module("a", &format!("(memory 1) {}", go("drop drop")), ""),
            "E_MEM_LIMIT",
            "2 are defined",
        ),
        (
            module(
                "a",
                &format!(
                    "(import \"k\" \"memory\" (memory 1)) (import \"l\" \"memory\" (memory 1)) {}",
                    go("drop drop")
                ),
                "(with \"k\" (instance $k)) (with \"l\" (instance $k))",
            ),
            "E_MODULE_FEATURE",
            "multi_memory",
        ),
    ] {
        refuses(late, code, reason);
    }
}

#[test]
fn components_that_the_barrier_cannot_follow_are_refused() {
    let a = module("a", &go("drop drop"), "");
    for (late, code, reason) in [
        (
            format!("{a} (core instance $b (instantiate $a-module))"),
            "E_COMPONENT_NESTED",
            "instantiated twice",
        ),
        (
            format!("(type $r (resource (rep i32))) {a}"),
            "E_MODULE_SNAPSHOT_UNSAFE",
            "a resource type of the guest's own",
        ),
        (
            format!("{a} (component $c (core module (func)))"),
            "E_COMPONENT_NESTED",
            "a nested component holds a core module",
        ),
        (
            format!(
                "{a} (component $c (alias outer 1 $a-module (core module $m))
                   (core instance (instantiate $m)))"
            ),
            "E_COMPONENT_NESTED",
            "a nested component instantiates a core module",
        ),
        (
            format!(
                "{a} (component $c (alias outer 1 $a-module (core module $m))
                   (export \"m\" (core module $m)))
                 (instance $n (instantiate $c)) (alias export $n \"m\" (core module $again))"
            ),
            "E_COMPONENT_NESTED",
            "a core module is taken from another component",
        ),
        (
            format!(
                "(func $again (export \"again\") (param \"a\" u32) (param \"b\" u32)
                   (canon lift (core func $h))) {a}"
            ),
            "E_COMPONENT_NESTED",
            "call a core function of its own",
        ),
        (
            format!(
                "(core func $l (canon lower (func $api \"bytes\") (memory $k \"memory\")
                   (realloc $h))) {a}"
            ),
            "E_MODULE_INVALID",
            "realloc",
        ),
        (
            format!(
                "(core func $l (canon lower (func $api \"bytes\") async (memory $k \"memory\")))
                 {a}"
            ),
            "E_MODULE_FEATURE",
            "async",
        ),
    ] {
        refuses(late, code, reason);
    }
}
