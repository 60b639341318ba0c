//! The world that a component must be made for: what it may import and must export.

use wasmparser::{ComponentImport, ComponentTypeRef, TypeBounds};

use super::{Refusal, printable};

/// What a component may import and must export.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Names that it must export.
    pub exports: &'static [&'static str],
    /// Interfaces that it may import. `None` allows all, which is only fit for tests of the
    /// barrier.
    pub imports: Option<&'static [Interface]>,
}

/// An interface, or all interfaces of a package, that a guest may import.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Its name without version, like `wasi:io/streams`, or a package, like `wasi:io/`.
    pub name: &'static str,
    /// What its version starts with, like `0.2.`.
    pub version: &'static str,
}

impl World {
    /// The world `bulkhead:guest/guest@0.1`, with WASI 0.2 for standard libraries that want it.
    pub const GUEST: Self = Self {
        exports: &[
            "describe",
            "prime",
            "init",
            "call",
            "recover",
            "on-restore",
            "save",
            "load",
            "check",
        ],
        imports: Some(&[
            Interface { name: "bulkhead:guest/types", version: "0.1." },
            Interface { name: "bulkhead:guest/log", version: "0.1." },
            Interface { name: "bulkhead:guest/clock", version: "0.1." },
            Interface { name: "bulkhead:guest/entropy", version: "0.1." },
            Interface { name: "bulkhead:guest/context", version: "0.1." },
            Interface { name: "bulkhead:guest/handover", version: "0.1." },
            Interface { name: "bulkhead:guest/outputs", version: "0.1." },
            Interface { name: "bulkhead:guest/resources", version: "0.1." },
            Interface { name: "bulkhead:guest/calls", version: "0.1." },
            Interface { name: "bulkhead:guest/redis", version: "0.1." },
            Interface { name: "bulkhead:guest/sql", version: "0.1." },
            Interface { name: "bulkhead:guest/files", version: "0.1." },
            Interface { name: "bulkhead:guest/http", version: "0.1." },
            Interface { name: "bulkhead:guest/staged", version: "0.1." },
            Interface { name: "wasi:config/", version: "0.2.0-rc.1" },
            Interface { name: "wasi:http/", version: "0.2." },
            Interface { name: "wasi:keyvalue/", version: "0.2.0-draft" },
            Interface { name: "wasi:cli/", version: "0.2." },
            Interface { name: "wasi:clocks/", version: "0.2." },
            Interface { name: "wasi:filesystem/", version: "0.2." },
            Interface { name: "wasi:io/", version: "0.2." },
            Interface { name: "wasi:random/", version: "0.2." },
            Interface { name: "wasi:sockets/", version: "0.2." },
        ]),
    };

    /// Any world, for tests and benchmarks of the barrier.
    pub const ANY: Self = Self { exports: &[], imports: None };

    /// Refuses an import that this world doesn't have.
    pub(super) fn check_import(&self, import: &ComponentImport<'_>) -> Result<(), Refusal> {
        let Some(interfaces) = self.imports else { return Ok(()) };
        let unknown = || Refusal::ImportUnknown { name: printable(import.name.name) };
        match import.ty {
            // The world's own types appear as imports that are equal to a type of an interface.
            ComponentTypeRef::Type(TypeBounds::Eq(_)) => return Ok(()),
            ComponentTypeRef::Instance(_) => {}
            _ => return Err(unknown()),
        }
        let (name, version) = import.name.name.split_once('@').unwrap_or((import.name.name, ""));
        let interface = interfaces
            .iter()
            .find(|interface| match interface.name.strip_suffix('/') {
                Some(_) => name.starts_with(interface.name),
                None => name == interface.name,
            })
            .ok_or_else(unknown)?;
        if version.starts_with(interface.version) {
            return Ok(());
        }
        Err(Refusal::World {
            message: format!(
                "it imports `{}`, this host has version {}x",
                printable(import.name.name),
                interface.version
            ),
        })
    }

    /// Refuses a component that lacks an export of this world.
    pub(super) fn check_exports(&self, exports: &[String]) -> Result<(), Refusal> {
        for &name in self.exports {
            if !exports.iter().any(|export| export == name) {
                return Err(Refusal::World { message: format!("it doesn't export `{name}`") });
            }
        }
        Ok(())
    }
}
