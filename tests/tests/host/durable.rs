//! Daemons over a journal, in one process.

use std::sync::Arc;

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
