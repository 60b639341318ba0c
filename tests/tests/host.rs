//! The tests of the host as its users see it: one binary, because linking the engine takes long.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod host {
    mod allocations;
    mod bits;
    mod calls;
    pub(crate) mod chaos;
    mod codes;
    mod confining;
    mod crashes;
    mod crew;
    mod daemons;
    mod deploying;
    mod durable;
    mod faults;
    mod fitness;
    mod fuel;
    mod handles;
    mod http_calls;
    mod keyvalue;
    mod leases;
    mod leftovers;
    mod lineage;
    mod losing;
    mod model;
    mod names;
    mod outages;
    mod outputs;
    mod postgres;
    pub(crate) mod printing;
    mod provider_calls;
    mod readers;
    mod reading;
    mod reads_durable;
    mod redis;
    mod resources;
    mod sql;
    mod staged;
    mod stopping;
    mod storm;
    mod supervision;
    mod threads;
    mod tree;
    mod unknown;
    mod unstarted;
    mod upgrade;
    mod usage;
    mod values;
    mod wasi_calls;
    mod wasi_http;
}
