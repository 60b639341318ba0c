//! Each rule of what a guest may look like, by an example that breaks it.

use super::*;
use syn::parse_quote;

fn parse(block: ItemImpl) -> Program {
    Program::parse(block).unwrap()
}

/// The error that `block` gets.
fn refuse(block: ItemImpl) -> String {
    Program::parse(block).map(|_| ()).unwrap_err().to_string()
}

/// The error that a guest gets which has `function` besides a sound contract.
fn refuse_function(function: ImplItemFn) -> String {
    refuse(parse_quote! { impl Ledger { pub fn total(&self) -> u64 { 0 } #function } })
}

#[track_caller]
fn assert_says(error: &str, part: &str) {
    assert!(error.contains(part), "{error:?} does not say {part:?}");
}

#[test]
fn public_methods_are_contracts_in_order() {
    let program = parse(parse_quote! {
        impl Ledger {
            const LIMIT: u64 = 5;
            /// Moves `amount`.
            ///
            /// All of it.
            pub fn transfer(&mut self, from: String, mut amount: u64, note: Option<String>)
                -> Result<Receipt, Rejection> { todo!() }
            pub fn total(&self) -> u64 { 0 }
            pub(crate) fn helper() {}
            fn private<T>(self, _: &T) {}
        }
    });
    let [transfer, total] = program.contracts.as_slice() else { panic!("not two") };
    assert_eq!(transfer.name, "transfer");
    assert_eq!(transfer.documentation, "Moves `amount`.\n\nAll of it.");
    assert!(!transfer.read_only);
    let arguments: Vec<(String, bool)> = transfer
        .arguments
        .iter()
        .map(|argument| (argument.name.to_string(), argument.required))
        .collect();
    let expected = [("from", true), ("amount", true), ("note", false)];
    assert_eq!(arguments, expected.map(|(name, required)| (name.to_owned(), required)));
    assert!(matches!(transfer.answer, Answer::Fallible(_)));
    assert!(total.read_only);
    assert!(matches!(total.answer, Answer::Plain(_)));
}

#[test]
fn hooks_are_found_and_their_attributes_removed() {
    let program = parse(parse_quote! {
        impl Ledger {
            #[init]
            fn new(parameters: Parameters) -> Self { todo!() }
            #[recover]
            fn recover(&mut self, report: CrashReport) -> Result<Recovery, Rejection> { todo!() }
            #[on_restore]
            #[inline]
            pub fn again(&mut self, generation: u64) {}
            pub fn total(&self) -> u64 { 0 }
        }
    });
    assert_eq!(program.contracts.len(), 1);
    assert_eq!(program.init.unwrap().arguments_count, 1);
    assert!(matches!(program.recover.unwrap().answer, Answer::Fallible(_)));
    assert_eq!(program.on_restore.unwrap().name, "again");
    let attributes: Vec<&Attribute> = program
        .block
        .items
        .iter()
        .flat_map(|item| if let ImplItem::Fn(function) = item { &*function.attrs } else { &[] })
        .collect();
    assert!(matches!(attributes.as_slice(), [inline] if inline.path().is_ident("inline")));
}

#[test]
fn the_block_is_a_plain_one() {
    let contract: ImplItemFn = parse_quote! { pub fn total(&self) -> u64 { 0 } };
    assert_says(
        &refuse(parse_quote! { impl Clone for Ledger { #contract } }),
        "not on that of a trait",
    );
    assert_says(&refuse(parse_quote! { impl<T> Ledger<T> { #contract } }), "can't be generic");
    assert_says(&refuse(parse_quote! { impl [u8] { #contract } }), "a struct or an enum");
    assert_says(
        &refuse(parse_quote! { impl Ledger { fn total(&self) {} } }),
        "at least one contract",
    );
}

#[test]
fn a_contract_borrows_its_state() {
    let by_value = refuse_function(parse_quote! { pub fn close(self) {} });
    assert_says(&by_value, "borrows its state");
    let boxed = refuse_function(parse_quote! { pub fn close(self: Box<Self>) {} });
    assert_says(&boxed, "borrows its state");
    let without = refuse_function(parse_quote! { pub fn open() -> u64 { 0 } });
    assert_says(&without, "`&mut self` or `&self`");
}

#[test]
fn a_contract_is_an_ordinary_function() {
    assert_says(&refuse_function(parse_quote! { pub async fn f(&self) {} }), "can't be async");
    assert_says(&refuse_function(parse_quote! { pub fn f<T>(&self, t: T) {} }), "can't be generic");
    assert_says(&refuse_function(parse_quote! { pub fn f<'a>(&'a self) {} }), "can't be generic");
    assert_says(&refuse_function(parse_quote! { pub unsafe fn f(&self) {} }), "can't be unsafe");
    assert_says(&refuse_function(parse_quote! { pub extern "C" fn f(&self) {} }), "ordinary Rust");
    let conditional = refuse_function(parse_quote! { #[cfg(unix)] pub fn f(&self) {} });
    assert_says(&conditional, "can't be conditional");
}

#[test]
fn values_are_owned_and_named() {
    assert_says(
        &refuse_function(parse_quote! { pub fn f(&self, name: &str) {} }),
        "`String` for `&str`",
    );
    let nested = refuse_function(parse_quote! { pub fn f(&self, names: Vec<Option<&str>>) {} });
    assert_says(&nested, "are owned");
    assert_says(&refuse_function(parse_quote! { pub fn f(&self) -> &str { "" } }), "are owned");
    let borrowed = refuse_function(parse_quote! { pub fn f(&self) -> Result<&str, Rejection> { } });
    assert_says(&borrowed, "are owned");
    let nameless = refuse_function(parse_quote! { pub fn f(&self, x: impl Into<u64>) {} });
    assert_says(&nameless, "not `impl Trait`");
    let pattern = refuse_function(parse_quote! { pub fn f(&self, (a, b): (u64, u64)) {} });
    assert_says(&pattern, "needs a name");
    assert_says(&refuse_function(parse_quote! { pub fn f(&self, _: u64) {} }), "needs a name");
}

#[test]
fn names_are_those_that_the_host_admits() {
    let odd = quote::format_ident!("a\u{e9}");
    assert_says(&refuse_function(parse_quote! { pub fn #odd(&self) {} }), "no '\u{e9}'");
    assert_says(&refuse_function(parse_quote! { pub fn f(&self, #odd: u64) {} }), "no '\u{e9}'");
    let name = quote::format_ident!("{}", "x".repeat(65));
    assert_says(&refuse_function(parse_quote! { pub fn #name(&self) {} }), "65 bytes");
    assert_says(&refuse_function(parse_quote! { pub fn f(&self, #name: u64) {} }), "65 bytes");
    let longest = quote::format_ident!("{}", "x".repeat(64));
    parse(parse_quote! { impl Ledger { pub fn #longest(&self, #longest: u64, _b: u64) {} } });
    let twice = refuse_function(parse_quote! { pub fn f(&self, a: u64, b: u64, r#a: u64) {} });
    assert_says(&twice, "two arguments `a`");
    let contracts = refuse_function(parse_quote! { pub fn r#total(&self) {} });
    assert_says(&contracts, "two contracts `total`");
    // Helpers are nobody's business.
    parse(parse_quote! { impl Ledger { pub fn a(&self) {} fn #odd(&self, #odd: u64) {} } });
}

#[test]
fn resources_are_named_as_in_a_manifest() {
    for (name, part) in [("", "one character"), ("a b", "no ' '"), ("a/b", "no '/'")] {
        let refused = refuse_function(parse_quote! { #[needs(#name)] pub fn f(&self) {} });
        assert_says(&refused, part);
    }
    parse(parse_quote! { impl Ledger { #[needs("2-caches_b")] pub fn f(&self) {} } });
    let names = (0..65).map(|number| format!("cache{number}"));
    let many = refuse_function(parse_quote! { #[needs(#(#names),*)] pub fn f(&self) {} });
    assert_says(&many, "at most 64 resources");
}

#[test]
fn there_are_as_many_contracts_and_arguments_as_the_host_admits() {
    let functions = |count: usize| -> ItemImpl {
        let names = (0..count).map(|number| quote::format_ident!("f{number}"));
        parse_quote! { impl Ledger { #(pub fn #names(&self) {})* } }
    };
    assert_eq!(parse(functions(256)).contracts.len(), 256);
    assert_says(&refuse(functions(257)), "at most 256 contracts");
    let arguments = |count: usize| -> ItemImpl {
        let names = (0..count).map(|number| quote::format_ident!("a{number}"));
        parse_quote! { impl Ledger { pub fn f(&self, #(#names: u64),*) {} } }
    };
    assert_eq!(parse(arguments(64)).contracts.len(), 1);
    assert_says(&refuse(arguments(65)), "at most 64 arguments");
}

#[test]
fn the_keys_of_a_map_are_names_in_json() {
    let argument = refuse_function(parse_quote! {
        pub fn f(&self, pairs: Vec<BTreeMap<(u8, u8), String>>) {}
    });
    assert_says(&argument, "a list of pairs");
    let answer = refuse_function(parse_quote! {
        pub fn f(&self) -> Result<(u8, HashMap<Option<u8>, u8>), Rejection> { todo!() }
    });
    assert_says(&answer, "a list of pairs");
    parse(
        parse_quote! { impl Ledger { pub fn f(&self, a: BTreeMap<u64, BTreeMap<bool, u8>>) {} } },
    );
}

#[test]
fn hooks_have_their_form() {
    let init_self = refuse_function(parse_quote! { #[init] fn new(&mut self) -> Self {} });
    assert_says(&init_self, "takes no `self`");
    let init_unit = refuse_function(parse_quote! { #[init] fn new() {} });
    assert_says(&init_unit, "returns `Self`");
    let init_two = refuse_function(parse_quote! { #[init] fn new(a: u64, b: u64) -> Self {} });
    assert_says(&init_two, "takes the parameters");
    let recover_read =
        refuse_function(parse_quote! { #[recover] fn r(&self, c: C) -> Recovery {} });
    assert_says(&recover_read, "#[recover] is");
    let recover_none = refuse_function(parse_quote! { #[recover] fn r(&mut self) -> Recovery {} });
    assert_says(&recover_none, "#[recover] is");
    let restore = refuse_function(parse_quote! { #[on_restore] fn o(&mut self, g: u64) -> u64 {} });
    assert_says(&restore, "#[on_restore] is");
    let check =
        refuse_function(parse_quote! { #[check] fn c(&mut self) -> Result<(), Rejection> {} });
    assert_says(&check, "#[check] is");
    let check_nothing = refuse_function(parse_quote! { #[check] fn c(&self) {} });
    assert_says(&check_nothing, "#[check] is");
    let restore_none = refuse_function(parse_quote! { #[on_restore] fn o(&mut self) {} });
    assert_says(&restore_none, "#[on_restore] is");
    let hook_async = refuse_function(parse_quote! { #[init] async fn new() -> Self {} });
    assert_says(&hook_async, "#[init] can't be async");
}

#[test]
fn a_hook_stands_once() {
    let twice = refuse(parse_quote! {
        impl Ledger {
            #[init] fn new() -> Self { todo!() }
            #[init] fn other() -> Self { todo!() }
            pub fn total(&self) -> u64 { 0 }
        }
    });
    assert_says(&twice, "the other one is `new`");
    let both = refuse_function(parse_quote! { #[init] #[recover] fn new() -> Self {} });
    assert_says(&both, "one hook only");
    let arguments = refuse_function(parse_quote! { #[init(now)] fn new() -> Self {} });
    assert_says(&arguments, "takes no arguments");
}

#[test]
fn attributes_take_no_arguments() {
    assert!(no_arguments(TokenStream::new(), "#[data]").is_ok());
    let error = no_arguments(parse_quote! { name = "x" }, "#[data]").unwrap_err();
    assert_eq!(error.to_string(), "#[data] takes no arguments");
}
