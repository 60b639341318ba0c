//! Daemons over a journal, in one process.

use std::sync::Arc;
use std::time::Duration;

use host::mechanisms::journal::{DirectoryId, Store, StoreOptions};
use serde_json::json;
use tests::{Tree, deployed, plan};

pub(super) fn store(dir: &std::path::Path) -> Arc<Store> {
    Arc::new(Store::open(dir, StoreOptions::default(), DirectoryId(9)).unwrap())
}

#[test]
fn c16_a_commit_that_no_record_holds_is_refused_before_it_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let open = || store(dir.path());
    let small = || {
        vec![plan("chaos", &deployed("chaos"), |options| {
            options.commit_bytes_max = 128 << 10;
            options.retries_max = 0;
        })]
    };
    let tree = Tree::durable(small(), open());
    assert_eq!(tree.committed("chaos", "touch", json!({"pages": 4})), json!(4));
    let before = tree.hash("chaos");
    assert_eq!(tree.code("chaos", "touch", json!({"pages": 64})), "E_COMMIT_TOO_LARGE");
    assert_eq!(tree.hash("chaos"), before);
    assert_eq!(tree.committed("chaos", "touch", json!({"pages": 2})), json!(4));
    let after = tree.hash("chaos");
    drop(tree);
    assert_eq!(Tree::durable(small(), open()).hash("chaos"), after);
}

#[test]
fn a_lock_that_a_child_of_this_process_still_holds_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let hold = |pid: u32| {
        let path = dir.path().join("lock");
        std::fs::write(&path, format!("{pid}\n")).unwrap();
        let lock = std::fs::File::options().write(true).open(path).unwrap();
        lock.lock().unwrap();
        lock
    };
    let open = || Store::open(dir.path(), StoreOptions::default(), DirectoryId(4));
    let other = hold(1);
    assert!(open().is_err_and(|fault| fault.to_string().contains("process 1,")));
    drop(other);
    let own = hold(std::process::id());
    let lets_go = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(own);
    });
    assert!(open().is_ok());
    lets_go.join().unwrap();
}
