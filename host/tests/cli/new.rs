//! `host new`: the files of a guest's crate, and the SDK that it depends on.

use std::path::Path;

use super::{code, host, stderr};

#[test]
fn a_new_guest_has_its_files_and_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(code(&host(dir.path(), &["new", "my-guest"])), 0);
    let manifest = std::fs::read_to_string(dir.path().join("my-guest/Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"my-guest\""), "{manifest}");
    assert!(dir.path().join("my-guest/src/lib.rs").is_file());
    let again = host(dir.path(), &["new", "my-guest"]);
    assert_eq!(code(&again), 1);
    assert!(stderr(&again).contains("E_FILE"), "{}", stderr(&again));
}

#[test]
fn a_new_guest_depends_on_the_package_of_the_sdk_and_on_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let made =
        |name: &str, sdk: &Path| host(dir.path(), &["new", name, "--sdk", sdk.to_str().unwrap()]);
    for (place, name) in [("guest-sdk", "one"), ("", "two")] {
        let output = made(name, &root.join(place));
        assert_eq!(code(&output), 0, "{place:?}: {}", stderr(&output));
        let manifest = std::fs::read_to_string(dir.path().join(name).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("/guest-sdk\" }"), "{manifest}");
    }
    for place in ["nowhere", "guests", "host", "guests/ledger"] {
        let refused = made("other", &root.join(place));
        assert_eq!(code(&refused), 1, "{place}");
        let words = stderr(&refused);
        assert!(words.contains("E_FILE") && words.contains("`guest-sdk` with --sdk"), "{words}");
        assert!(!dir.path().join("other").exists(), "{place}");
    }
}
