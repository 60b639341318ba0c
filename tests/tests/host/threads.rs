//! Where guest code runs, and what is there when it first does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use host::base::error::Code;
use host::mechanisms::sandbox::{GuestLine, GuestLog};
use host::pure::policy::OnCrash;
use serde_json::json;
use tests::{BUMP, Holdings, Hostile, REAL, RUN, Tree, deploy, in_own_process, plan};

/// Keeps on which thread each line was written, and what the process held at the first one.
#[derive(Debug, Default)]
struct Looks {
    seen: Mutex<BTreeSet<(String, String)>>,
    first: Mutex<Option<Holdings>>,
}

impl GuestLog for Looks {
    fn line(&self, line: &GuestLine<'_>) {
        self.first.lock().unwrap().get_or_insert_with(Holdings::now);
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        self.seen.lock().unwrap().insert((line.message.to_owned(), thread));
    }
}

/// A guest that prints a letter wherever it is called.
fn talkative() -> Hostile {
    // The letter is put into the free part of the memory, a line end after it.
    let say = |letter: u8| {
        let bytes = u32::from(b'\n') << 8 | u32::from(letter);
        format!("(i32.store16 #5000 #{bytes}) (call $print #0 #5000 #2)")
    };
    Hostile {
        prime: say(b'p'),
        init: say(b'i'),
        run: format!("{} unreachable", say(b'c')),
        recover: say(b'r'),
        on_restore: say(b'o'),
        save: say(b's'),
        load: say(b'l'),
        check: say(b'k'),
        hooks: 3,
        ..Hostile::default()
    }
}

#[test]
fn s4_07_s4_17_whatever_a_guest_is_called_for_runs_on_its_daemons_thread() {
    let guest = deploy(&talkative().build()).unwrap();
    let plans = ["a", "b"].map(|name| {
        plan(name, &guest, |options| {
            options.on_crash = OnCrash::Ask;
            options.retries_max = 0;
        })
    });
    let looks = Arc::new(Looks::default());
    let tree = Tree::logging(plans.to_vec(), looks.clone());
    for name in ["a", "b"] {
        let _one = tree.committed(name, BUMP, json!({}));
        assert_eq!(tree.code(name, RUN, json!({})), Code::Unreachable.as_str());
        let next = deploy(&Hostile { upgrade: Some(2), ..talkative() }.build()).unwrap();
        tree.root.upgrade(name, next, REAL).unwrap();
    }
    drop(tree);
    let seen = looks.seen.lock().unwrap();
    for name in ["daemon-a", "daemon-b"] {
        let said = seen.iter().filter(|(_, thread)| thread == name);
        let said: String = said.map(|(line, _)| line.as_str()).collect();
        assert_eq!(said, "cikloprs", "{name}: {seen:?}");
    }
    assert_eq!(seen.len(), 2 * "cikloprs".len(), "on no other thread: {seen:?}");
}

#[test]
fn s4_13_all_memory_is_resident_when_guest_code_runs_for_the_first_time() {
    in_own_process(
        "host::threads::s4_13_all_memory_is_resident_when_guest_code_runs_for_the_first_time",
        || {
            let guest = deploy(&talkative().build()).unwrap();
            let budget: usize = 32 << 20;
            let daemons = 4;
            let plans = (0..daemons)
                .map(|n| plan(&format!("d{n}"), &guest, |options| options.budget_bytes = budget));
            let plans = plans.collect();
            let looks = Arc::new(Looks::default());
            let before = Holdings::now();
            let tree = Tree::logging(plans, looks.clone());
            let first = looks.first.lock().unwrap().take().unwrap();
            // Both images of each daemon, those that have not begun yet among them.
            let images = (2 * daemons * budget) as u64;
            let grown = first.resident_bytes - before.resident_bytes;
            assert!(grown >= images, "{grown} of {images} bytes were there");
            drop(tree);
        },
    );
}
