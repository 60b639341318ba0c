//! A bare engine with wasmtime's pooling allocator: a Store, an instance of the same guest in it,
//! and both dropped again. The instance starts blank, runs no code of the guest, and has no limits.

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
};

use super::{MIB, component};

/// How the pool clears what an instance leaves behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Clearing {
    /// As it comes: gives all pages back to the kernel.
    Default,
    /// As fast as it can on this kernel: keeps pages, and asks the kernel which ones were written.
    Tuned,
}

/// Bytes at the start of a memory that are cleared by hand where the kernel can't say which pages
/// were written; tried from 0 to 2 MiB.
const KEPT_BYTES: usize = 64 << 10;

/// Makes instances of one guest.
pub struct Pooled {
    engine: Engine,
    pre: InstancePre<()>,
}

impl std::fmt::Debug for Pooled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pooled").finish_non_exhaustive()
    }
}

impl Pooled {
    /// Compiles the guest as it was built, with imports that trap when they are called.
    ///
    /// # Panics
    ///
    /// When the engine refuses it.
    #[must_use]
    pub fn new(guest: &str, clearing: Clearing) -> Self {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(4)
            .total_core_instances(40)
            .total_memories(4)
            .total_tables(40)
            .total_stacks(4)
            .table_elements(20_000)
            .max_core_instance_size(1 << 20)
            .max_component_instance_size(1 << 20);
        if clearing == Clearing::Tuned {
            let asks = PoolingAllocationConfig::is_pagemap_scan_available();
            let kept_bytes = if asks { 2 * MIB } else { KEPT_BYTES };
            pool.pagemap_scan(if asks { Enabled::Yes } else { Enabled::No })
                .linear_memory_keep_resident(kept_bytes)
                .table_keep_resident(kept_bytes);
        }
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).expect("an engine");
        let component = Component::new(&engine, component(guest)).expect("the guest compiles");
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component).expect("the imports can be defined");
        let pre = linker.instantiate_pre(&component).expect("the imports fit");
        Self { engine, pre }
    }

    /// One instance, from nothing to nothing.
    ///
    /// # Panics
    ///
    /// When the pool is exhausted, which can't be.
    pub fn once(&self) {
        let mut store = Store::new(&self.engine, ());
        self.pre.instantiate(&mut store).expect("an instance");
    }
}
