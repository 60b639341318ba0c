//! Values of the types that guests use most, as people type and read them, and through an upgrade.

use std::path::Path;

use serde_json::{Value, json};

use super::{Running, code, stderr, stdout};

fn test_guest(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
    let path = folder.join(name).with_extension("wasm");
    assert!(path.is_file(), "run `cargo xtask guests` first: {}", path.display());
    path.to_str().unwrap().to_owned()
}

fn started(name: &str) -> Running {
    Running::start_in(tempfile::tempdir().unwrap(), vec![test_guest(name)])
}

#[test]
fn well_known_types_are_named_on_the_command_line_and_kept_through_an_upgrade() {
    let running = started("values");
    let typed = [
        "at=2026-11-30T21:13:39.250Z",
        "day=2026-11-30",
        r#"lasts={"secs":3,"nanos":0}"#,
        "id=67e55044-10b1-426f-9247-bb680e5fe0c8",
        "price=19.90",
        "page=https://example.com/a?b=c",
        "address=2001:db8::1",
        "peer=127.0.0.1:6379",
        "blob=[1,2,255]",
        "raw=[0,128]",
    ];
    let kept = running.host(&[&["call", "values", "keep"][..], &typed].concat());
    assert_eq!(code(&kept), 0, "{}", stderr(&kept));
    let expected = json!({
        "at": "2026-11-30T21:13:39.250Z",
        "day": "2026-11-30",
        "lasts": {"secs": 3, "nanos": 0},
        "id": "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "price": "19.90",
        "page": "https://example.com/a?b=c",
        "address": "2001:db8::1",
        "peer": "127.0.0.1:6379",
        "blob": [1, 2, 255],
        "raw": [0, 128],
    });
    let shown: Value = serde_json::from_str(&stdout(&kept)).unwrap();
    assert_eq!(shown, expected);
    // The same code in a file with other bytes: a custom section more.
    let again = running.dir().join("again.wasm");
    let bytes = std::fs::read(test_guest("values")).unwrap();
    std::fs::write(&again, [&bytes, &b"\x00\x07\x05build\x01"[..]].concat()).unwrap();
    let upgraded = running.host(&["upgrade", "values", again.to_str().unwrap()]);
    assert_eq!(code(&upgraded), 0, "{}", stderr(&upgraded));
    let known = running.host(&["call", "values", "known"]);
    let shown: Value = serde_json::from_str(&stdout(&known)).unwrap();
    assert_eq!(shown["67e55044-10b1-426f-9247-bb680e5fe0c8"], expected);
}

#[test]
fn a_loss_is_named_refused_and_accepted() {
    let running = started("stock");
    for name in ["name=ann", "name=bob", "name=zoe"] {
        assert_eq!(code(&running.host(&["call", "stock", "name", name])), 0);
    }
    let next = test_guest("stock-next");
    let upgrade = |options: &[&str]| {
        running.host(&[&["upgrade", "stock", next.as_str()][..], options].concat())
    };
    for options in [&["--dry-run"][..], &[]] {
        let refused = upgrade(options);
        assert_eq!(code(&refused), 1);
        let words = stderr(&refused);
        assert!(words.contains("error[E_UPGRADE_LOSS]: names (3 values) would be lost"), "{words}");
    }
    let accepted = upgrade(&["--dry-run", "--accept-loss"]);
    assert_eq!(code(&accepted), 0, "{}", stderr(&accepted));
    assert!(stdout(&accepted).contains("loss      names (3 values) would be lost"));
    let accepted = upgrade(&["--accept-loss", "--output", "json"]);
    let answer: Value = serde_json::from_str(&stdout(&accepted)).unwrap();
    let line = json!({"path": "names", "fate": "gone", "values": 3, "first": "names"});
    assert_eq!(answer["loss"]["lines"], json!([line]));
}
