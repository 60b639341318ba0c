//! What the compiler says of guests that can't be: words of the SDK's own, at the place.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What `cargo check` says of a guest's crate that has this code, and that it must not take.
#[expect(clippy::unwrap_used, reason = "it fails the test")]
fn refuse(name: &str, code: &str) -> String {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refusals");
    let folder = scratch.join(name);
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nedition = \"2024\"\n[dependencies]\n\
         guest-sdk = {{ path = {sdk:?} }}\n[workspace]\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/lib.rs"), code).unwrap();
    // The versions that are here already.
    fs::copy(sdk.join("../Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--color=never"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", scratch.join("target"))
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{words}");
    words
}

#[test]
fn a_type_without_data_is_told_what_it_lacks() {
    let words = refuse(
        "no-data",
        "use guest_sdk::prelude::*;\n\
         pub struct Order { pub amount: u64 }\n\
         #[derive(Default)]\n\
         pub struct Shop;\n\
         #[guest]\n\
         impl Shop {\n    \
             pub fn order(&mut self, order: Order) {\n        \
                 drop(order);\n    \
             }\n\
         }\n",
    );
    for expected in [
        "`Order` can't be an argument or an answer of a contract",
        "put `#[data]` before a struct or an enum of your own",
        "src/lib.rs:7:36",
    ] {
        assert!(words.contains(expected), "{expected:?}: {words}");
    }
}

#[test]
fn a_misspelled_word_of_the_guest_is_named() {
    let words = refuse(
        "misspelled",
        "use guest_sdk::prelude::*;\n\
         #[derive(Default)]\n\
         pub struct Shop;\n\
         #[guest(versoin = 2)]\n\
         impl Shop {\n    \
             pub fn open(&self) {}\n\
         }\n",
    );
    assert!(
        words.contains("`versoin` is nothing that may stand here; there is `files`"),
        "{words}"
    );
    assert!(words.contains("src/lib.rs:4:9"), "{words}");
}
