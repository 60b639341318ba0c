//! The ways to have state without what it belongs to, and what is done to a data directory for it.

use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use super::{Place, SERVICE};

const CODES: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("codes");
const SETUPS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("setups");
const DAEMONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("daemons");
const RECORDS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("records");

/// One way to have state without what it belongs to.
pub(super) struct Way {
    pub(super) what: &'static str,
    /// What the first host runs, beside the counter, and what it is asked.
    pub(super) files: &'static [&'static str],
    pub(super) asked: &'static [&'static [&'static str]],
    /// What happens while no host runs.
    pub(super) then: fn(&Place),
    /// What the next host is started with, beside the counter.
    pub(super) next: &'static [&'static str],
    /// The daemon in question.
    pub(super) daemon: &'static str,
    /// Its state then, or none when it is not shown; and the code of the reason.
    pub(super) state: Option<&'static str>,
    pub(super) code: &'static str,
    /// What the log says of it.
    pub(super) said: &'static str,
    /// The verb that ends it, asked of that host.
    pub(super) end: &'static [&'static str],
    /// Its state after that; none when it is gone.
    pub(super) after: Option<&'static str>,
}

pub(super) const DEPOSIT: &[&str] = &["call", "ledger", "deposit", "account=ann", "amount=7"];
pub(super) const FORK: &[&str] = &["fork", "limits", "trial"];
pub(super) const FORK_LEDGER: &[&str] = &["fork", "ledger", "trial"];
pub(super) const UPGRADE: &[&str] = &["upgrade", "ledger", "next.wasm"];

fn nothing(_place: &Place) {}

fn lose_codes(place: &Place) {
    let tables = place.tables();
    let write = tables.begin_write().unwrap();
    write.open_table(CODES).unwrap().retain(|_, _| false).unwrap();
    write.commit().unwrap();
}

pub(super) fn keeps_code(place: &Place, digest: [u8; 32]) -> bool {
    let tables = place.tables();
    let read = tables.begin_read().unwrap();
    read.open_table(CODES).unwrap().get(digest).unwrap().is_some()
}

fn rot_setups(place: &Place) {
    let tables = place.tables();
    let write = tables.begin_write().unwrap();
    {
        let mut table = write.open_table(SETUPS).unwrap();
        let keys: Vec<u64> = table.iter().unwrap().map(|row| row.unwrap().0.value()).collect();
        assert!(!keys.is_empty());
        for key in keys {
            table.insert(key, &b"rotten"[..]).unwrap();
        }
    }
    write.commit().unwrap();
}

fn rot_name(place: &Place) {
    let tables = place.tables();
    let write = tables.begin_write().unwrap();
    write.open_table(DAEMONS).unwrap().insert("ledger", &b"rotten"[..]).unwrap();
    write.commit().unwrap();
}

/// Rots the first record of each daemon but the counter, which is the first.
fn rot_records(place: &Place) {
    // Whoever opens it to change something moves what is in the log into the tables.
    assert_eq!(place.host(&["rename", "nobody", "x"]).code, 1);
    let tables = place.tables();
    let write = tables.begin_write().unwrap();
    {
        let mut table = write.open_table(RECORDS).unwrap();
        let rows = table.range((2, 0)..).unwrap().map(|row| {
            let (key, value) = row.unwrap();
            (key.value(), value.value().to_vec())
        });
        let rows: Vec<_> = rows.collect();
        assert!(!rows.is_empty());
        for (key, mut record) in rows {
            let middle = record.len() / 2;
            record[middle] ^= 1;
            table.insert(key, record.as_slice()).unwrap();
        }
    }
    write.commit().unwrap();
}

pub(super) const WAYS: &[Way] = &[
    Way {
        what: "a copy whose resource is there again is no case at all",
        files: &["s.toml"],
        asked: &[FORK],
        then: nothing,
        next: &["s.toml"],
        daemon: "trial",
        state: Some("ready"),
        code: "",
        said: "",
        end: &["remove", "trial"],
        after: None,
    },
    Way {
        what: "a copy without its resource",
        files: &["s.toml"],
        asked: &[FORK],
        then: nothing,
        next: &[],
        daemon: "trial",
        state: Some("parked"),
        code: "E_RESOURCE_UNKNOWN",
        said: "limits/cache",
        end: &["remove", "trial"],
        after: None,
    },
    Way {
        what: "a daemon whose manifest has lost its resource",
        files: &["s.toml"],
        asked: &[],
        then: |place| {
            let text = "[service]\nname = \"limits\"\n[daemons.limits]\nguest = \"limits.wasm\"\n";
            std::fs::write(place.path("s.toml"), text).unwrap();
        },
        next: &["s.toml"],
        daemon: "limits",
        state: Some("parked"),
        code: "E_RESOURCE_UNKNOWN",
        said: "its guest needs cache",
        end: &["history", "limits"],
        after: Some("parked"),
    },
    Way {
        what: "a daemon that left the command line",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT],
        then: nothing,
        next: &[],
        daemon: "ledger",
        state: None,
        code: "",
        said: "has state here, but no guest file",
        end: &["remove", "ledger"],
        after: None,
    },
    Way {
        what: "a daemon without its file",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT],
        then: |place| std::fs::remove_file(place.path("ledger.wasm")).unwrap(),
        next: &["ledger.wasm"],
        daemon: "ledger",
        state: Some("ready"),
        code: "",
        said: "ledger.wasm is not there: started on the code that made its state",
        end: &["call", "ledger", "total"],
        after: Some("ready"),
    },
    Way {
        what: "a daemon of a manifest without its file",
        files: &["s.toml"],
        asked: &[],
        then: |place| std::fs::remove_file(place.path("limits.wasm")).unwrap(),
        next: &["s.toml"],
        daemon: "limits",
        state: Some("ready"),
        code: "",
        said: "limits.wasm is not there: started on the code that made its state",
        end: &["history", "limits"],
        after: Some("ready"),
    },
    Way {
        what: "a daemon whose file is older than its state",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT, UPGRADE],
        then: nothing,
        next: &["ledger.wasm"],
        daemon: "ledger",
        state: Some("ready"),
        code: "",
        said: "ledger.wasm is older than the state, which was upgraded",
        end: &["call", "ledger", "uses", "account=ann"],
        after: Some("ready"),
    },
    Way {
        what: "the same where an upgrade is asked for at each start",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT, UPGRADE],
        then: nothing,
        next: &["ledger.wasm", "--upgrade"],
        daemon: "ledger",
        state: Some("ready"),
        code: "",
        said: "ledger.wasm is older than the state, which was upgraded",
        end: &["call", "ledger", "uses", "account=bob"],
        after: Some("ready"),
    },
    Way {
        what: "a daemon whose file has code that never ran",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT],
        then: Place::put_next_ledger,
        next: &["ledger.wasm"],
        daemon: "ledger",
        state: Some("parked"),
        code: "E_CODE_CHANGED",
        said: "ledger.wasm has code that daemon `ledger` never ran",
        end: &["resume", "ledger"],
        after: Some("ready"),
    },
    Way {
        what: "a daemon whose file is no guest",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT],
        then: |place| std::fs::write(place.path("ledger.wasm"), "half of it").unwrap(),
        next: &["ledger.wasm"],
        daemon: "ledger",
        state: Some("parked"),
        code: "E_MODULE_INVALID",
        said: "ledger.wasm: ",
        end: &["resume", "ledger"],
        after: Some("ready"),
    },
    Way {
        what: "a daemon whose upgrade at the start fails",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT],
        then: |place| place.put("counter", "ledger"),
        next: &["ledger.wasm", "--upgrade"],
        daemon: "ledger",
        state: Some("parked"),
        code: "E_CODE_CHANGED",
        said: "the upgrade to ledger.wasm failed",
        end: &["resume", "ledger"],
        after: Some("ready"),
    },
    Way {
        what: "a copy whose code is lost",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT, FORK_LEDGER],
        then: lose_codes,
        next: &["ledger.wasm"],
        daemon: "trial",
        state: Some("parked"),
        code: "E_STORE_CORRUPT",
        said: "is not kept",
        end: &["remove", "trial"],
        after: None,
    },
    Way {
        what: "a copy of which nobody knows any more how it is run",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT, FORK_LEDGER],
        then: rot_setups,
        next: &["ledger.wasm"],
        daemon: "trial",
        state: Some("parked"),
        code: "E_STORE_CORRUPT",
        said: "how it is run is rotten",
        end: &["remove", "trial"],
        after: None,
    },
    Way {
        what: "a daemon whose records are rotten",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT],
        then: rot_records,
        next: &["ledger.wasm"],
        daemon: "ledger",
        state: Some("parked"),
        code: "E_STORE_CORRUPT",
        said: "parked",
        end: &["crashes", "ledger"],
        after: Some("parked"),
    },
    Way {
        what: "a daemon whose name is rotten",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT],
        then: rot_name,
        next: &["ledger.wasm"],
        daemon: "ledger",
        state: Some("parked"),
        code: "E_STORE_CORRUPT",
        said: "the list of daemons is rotten at `ledger`",
        end: &["ps"],
        after: Some("parked"),
    },
    Way {
        what: "a daemon whose budget its state does not fit",
        files: &["ledger.wasm"],
        asked: &[DEPOSIT],
        then: nothing,
        next: &["ledger.wasm", "--budget", "ledger=1MiB"],
        daemon: "ledger",
        state: Some("parked"),
        code: "E_MEM_LIMIT",
        said: "parked",
        end: &["snapshot", "ledger"],
        after: Some("parked"),
    },
    Way {
        what: "a daemon that is stateless now",
        files: &["s.toml"],
        asked: &[],
        then: |place| {
            let text = SERVICE.replace("uses =", "stateless = true\nuses =");
            std::fs::write(place.path("s.toml"), text).unwrap();
        },
        next: &["s.toml"],
        daemon: "limits",
        state: Some("ready"),
        code: "",
        said: "is stateless now: the state that it has here is left alone",
        end: &["ps"],
        after: Some("ready"),
    },
];
