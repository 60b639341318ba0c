//! From a file to a guest that can be started: admitted, rewritten, compiled, described.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use super::bindings::{
    WitContract, WitDeclaration, WitDescription, WitHooks, WitNeed, WitReactions,
};
use super::compile::CompileError;
use super::crash::Caught;
use super::engine::{Sandbox, Ticker};
use super::instance::{Environment, Instance, StartCause};
use super::prepare::Prepared;
use super::state::{CallContext, NoLog, StoreState};
use crate::base::error::{Blame, Code, Fault, printable};
use crate::base::ids::{Generation, RequestId};
use crate::base::limits::{
    ARGUMENTS_MAX, BUDGET_MAX_BYTES, CARD_SHIFT, CONTRACTS_MAX, DESCRIPTION_BYTES_MAX,
    MESSAGE_BYTES_MAX, RESOURCES_MAX, WASM_PAGE_BYTES,
};
use crate::mechanisms::memory::{ControlShape, Images, ImagesError, Shape};
use crate::pure::admission::ImportedInterface;
use crate::pure::barrier::{self, Layout, MemoryRole};
use crate::pure::contract::{
    Argument, Contract, DescriptionError, Schema, SchemaError, check_contracts,
};
use crate::pure::pace::CpuShare;
use crate::pure::setting::is_name;
use crate::pure::size::show_bytes;

/// Bytes that `describe` may use beyond the guest's initial memory: schemas are built in it.
const DESCRIBE_EXTRA_BYTES: usize = 16 << 20;

/// A deployed guest: compiled code and what is known of it. Shared by all its instances.
pub struct Guest {
    pub(super) pre: InstancePre<StoreState>,
    pub(super) layout: Layout,
    pub(super) exports: Exports,
    contracts: Vec<Contract>,
    hooks: Hooks,
    upgrade: Option<u32>,
    facts: GuestFacts,
    code: Arc<[u8]>,
    /// Without it no deadline would end its calls.
    _ticker: Arc<Ticker>,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// The functions of the world, found once.
pub(super) struct Exports {
    pub(super) describe: ComponentExportIndex,
    pub(super) prime: ComponentExportIndex,
    pub(super) init: ComponentExportIndex,
    pub(super) call: ComponentExportIndex,
    pub(super) recover: ComponentExportIndex,
    pub(super) on_restore: ComponentExportIndex,
    pub(super) save: ComponentExportIndex,
    pub(super) load: ComponentExportIndex,
    pub(super) check: ComponentExportIndex,
    /// Those that a guest may be without.
    pub(super) declare: Option<ComponentExportIndex>,
    pub(super) on_stale: Option<ComponentExportIndex>,
    pub(super) shutdown: Option<ComponentExportIndex>,
}

/// Which hooks of the guest do something.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Hooks {
    /// It has a `recover` of its own.
    pub recover: bool,
    /// It wants to be told of restarts.
    pub on_restore: bool,
    /// It answers for transactions that the death of a resource cancelled.
    pub on_stale: bool,
    /// It has a last transaction.
    pub shutdown: bool,
}

/// What `host inspect` shows of a guest's file.
#[derive(Clone, Debug)]
pub struct GuestFacts {
    /// BLAKE3 of the file.
    pub digest: blake3::Hash,
    /// Bytes of the file.
    pub file_bytes: usize,
    /// Bytes after the write barrier was put in.
    pub rewritten_bytes: usize,
    /// Imported interfaces and their functions.
    pub imports: Vec<ImportedInterface>,
    /// Core modules.
    pub core_modules: usize,
    /// Functions of all core modules.
    pub functions: usize,
    /// Bytes of the memory at the first start.
    pub memory_minimum_bytes: u64,
    /// Most bytes that the guest itself allows its memory.
    pub memory_maximum_bytes: Option<u64>,
    /// Bytes of data segments.
    pub data_bytes: u64,
}

/// A file can't become a guest.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Admission refused it.
    #[error("{}", .0.message)]
    Refused(Fault),
    /// The write barrier failed on it.
    #[error("{0}")]
    Barrier(String),
    /// The compiler failed on it.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// An import or export has another type than the world's.
    #[error("{0}")]
    World(String),
    /// Its description can't be used.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// `describe` crashed.
    #[error("`describe` failed: {}", .0.message)]
    Describe(Caught),
    /// No memory for the instance that describes it.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// Its initial memory doesn't fit the daemon's budget.
    #[error(
        "the guest starts with {} of memory, the budget is {}",
        show_bytes(*.needs), show_bytes(*.budget)
    )]
    Memory {
        /// What it starts with, in bytes.
        needs: usize,
        /// The daemon's budget, in bytes.
        budget: usize,
    },
}

impl From<&DeployError> for Fault {
    fn from(error: &DeployError) -> Self {
        let code = match error {
            DeployError::Refused(fault) => return fault.clone(),
            DeployError::Barrier(_) => Code::HostBug,
            DeployError::Compile(CompileError::Refused(_)) => Code::ModuleInvalid,
            DeployError::Compile(CompileError::Limit(_)) => Code::CompileLimit,
            DeployError::Compile(CompileError::Stopped) => Code::Stopping,
            DeployError::Compile(_) => Code::Engine,
            DeployError::World(_) => Code::World,
            DeployError::Description(_) => Code::ContractInvalid,
            DeployError::Describe(caught) => caught.code,
            DeployError::Images(_) => Code::NoMemory,
            // The budget is what the operator gave it.
            DeployError::Memory { .. } => {
                return Self::new(Code::MemoryLimit, error.to_string()).blamed_on(Blame::Operator);
            }
        };
        Self::new(code, error.to_string())
    }
}

impl Guest {
    /// What it offers.
    #[must_use]
    pub fn contracts(&self) -> &[Contract] {
        &self.contracts
    }

    /// The contract of that name.
    #[must_use]
    pub fn contract(&self, name: &str) -> Option<&Contract> {
        self.contracts.iter().find(|contract| contract.name == name)
    }

    /// The contract at that place.
    #[must_use]
    pub fn contract_at(&self, index: u32) -> Option<&Contract> {
        self.contracts.get(usize::try_from(index).unwrap_or(usize::MAX))
    }

    /// Which hooks do something.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.hooks
    }

    /// The version in which it hands its state over to other code; none when it can't.
    #[must_use]
    pub fn upgrade(&self) -> Option<u32> {
        self.upgrade
    }

    /// What is known of its file.
    #[must_use]
    pub fn facts(&self) -> &GuestFacts {
        &self.facts
    }

    /// The file that it was made of.
    #[must_use]
    pub fn code(&self) -> &Arc<[u8]> {
        &self.code
    }

    /// Bytes of each control memory.
    pub(super) fn control_bytes(&self) -> usize {
        usize::try_from(self.layout.control_pages).unwrap_or(0).saturating_mul(WASM_PAGE_BYTES)
    }

    /// The memories that a daemon of it needs.
    #[must_use]
    pub fn shape(&self) -> Shape {
        shape(&self.layout)
    }
}

fn shape(layout: &Layout) -> Shape {
    let controls = layout
        .memories
        .iter()
        .filter_map(|role| match role {
            MemoryRole::Data => None,
            MemoryRole::Control { state_bytes, .. } => Some(ControlShape {
                state_bytes: usize::try_from(*state_bytes).unwrap_or(usize::MAX),
            }),
        })
        .collect();
    let control_bytes = layout.control_pages.saturating_mul(WASM_PAGE_BYTES as u64);
    Shape {
        card_shift: layout.card_shift,
        control_bytes: usize::try_from(control_bytes).unwrap_or(usize::MAX),
        state_offset: usize::try_from(layout.state_offset).unwrap_or(usize::MAX),
        controls,
    }
}

impl Sandbox {
    /// Makes a guest of a file's bytes: admits, rewrites, compiles and describes it.
    ///
    /// # Errors
    ///
    /// [`DeployError`]; as a [`Fault`] it has a stable code.
    pub fn deploy(&self, bytes: &[u8]) -> Result<Arc<Guest>, DeployError> {
        self.deploy_within(bytes, usize::MAX)
    }

    /// The same for a daemon of this budget. A guest whose memory doesn't fit it is refused before
    /// anything is mapped for it.
    ///
    /// # Errors
    ///
    /// As [`Sandbox::deploy`].
    pub fn deploy_within(
        &self,
        bytes: &[u8],
        budget_bytes: usize,
    ) -> Result<Arc<Guest>, DeployError> {
        let (prepared, component) = self.build(bytes)?;
        let (facts, layout) = facts(bytes, prepared);
        let needs = usize::try_from(facts.memory_minimum_bytes).unwrap_or(usize::MAX);
        if needs > budget_bytes {
            return Err(DeployError::Memory { needs, budget: budget_bytes });
        }
        let exports = exports(&component)?;
        let pre = self.linker.instantiate_pre(&component).map_err(|error| {
            DeployError::World(printable(&format!("{error:#}"), MESSAGE_BYTES_MAX))
        })?;
        let (contracts, hooks) = (Vec::new(), Hooks::default());
        let (upgrade, code, _ticker) = (None, bytes.into(), self.ticker.clone());
        let mut guest =
            Guest { pre, layout, exports, contracts, hooks, upgrade, facts, code, _ticker };
        let undescribed = Arc::new(guest);
        let (description, declaration) = describe(&undescribed)?;
        guest = Arc::into_inner(undescribed).ok_or_else(|| {
            DeployError::Barrier("the described guest is still in use".to_owned())
        })?;
        let reacts = |reaction, export: Option<_>| {
            export.is_some()
                && declaration.as_ref().is_some_and(|its| its.reactions.contains(reaction))
        };
        guest.hooks = Hooks {
            recover: description.hooks.contains(WitHooks::RECOVER),
            on_restore: description.hooks.contains(WitHooks::ON_RESTORE),
            on_stale: reacts(WitReactions::ON_STALE, guest.exports.on_stale),
            shutdown: reacts(WitReactions::SHUTDOWN, guest.exports.shutdown),
        };
        guest.upgrade = description.upgrade;
        guest.contracts = contracts_of(description)?;
        for need in declaration.into_iter().flat_map(|declaration| declaration.needs) {
            add_need(&mut guest.contracts, need)?;
        }
        Ok(Arc::new(guest))
    }
}

fn facts(file: &[u8], prepared: Prepared) -> (GuestFacts, Layout) {
    let facts = GuestFacts {
        digest: blake3::hash(file),
        file_bytes: file.len(),
        rewritten_bytes: prepared.rewritten_bytes,
        imports: prepared.imports,
        core_modules: prepared.core_modules,
        functions: prepared.functions,
        memory_minimum_bytes: prepared.memory_minimum_bytes,
        memory_maximum_bytes: prepared.memory_maximum_bytes,
        data_bytes: prepared.data_bytes,
    };
    (facts, prepared.layout)
}

fn exports(component: &Component) -> Result<Exports, DeployError> {
    let find = |name: &str| {
        component
            .get_export_index(None, name)
            .ok_or_else(|| DeployError::World(format!("it does not export `{name}`")))
    };
    Ok(Exports {
        describe: find("describe")?,
        prime: find("prime")?,
        init: find("init")?,
        call: find("call")?,
        recover: find("recover")?,
        on_restore: find("on-restore")?,
        save: find("save")?,
        load: find("load")?,
        check: find("check")?,
        declare: component.get_export_index(None, "declare"),
        on_stale: component.get_export_index(None, "on-stale"),
        shutdown: component.get_export_index(None, "shutdown"),
    })
}

/// Runs `describe` in an instance that is thrown away.
fn describe(guest: &Arc<Guest>) -> Result<(WitDescription, Option<WitDeclaration>), DeployError> {
    let minimum = usize::try_from(guest.layout.data_minimum_bytes).unwrap_or(usize::MAX);
    // One whose memory is about as large as memories can be has less room to grow.
    let budget = minimum.saturating_add(DESCRIBE_EXTRA_BYTES).min(BUDGET_MAX_BYTES);
    let budget = budget.next_multiple_of(WASM_PAGE_BYTES);
    let mut images = Images::untouched(budget, &shape(&guest.layout))?;
    let environment =
        Environment::new(Arc::new(NoLog), Arc::default(), [0; 32], CpuShare::FULL, budget);
    let context =
        CallContext { request: RequestId(0), correlation: None, attempt: 1, unix_nanos: 0 };
    let mut instance =
        Instance::unstarted(guest, &mut images, environment, Generation::FIRST, &context).map_err(
            |error| match error.cause {
                StartCause::Crashed(caught) => DeployError::Describe(caught),
                StartCause::Rejected(rejection) => DeployError::World(rejection.message),
            },
        )?;
    let description = instance.describe(&context).map_err(undescribed)?;
    Ok((description, instance.declare(&context).map_err(undescribed)?))
}

fn undescribed(caught: Caught) -> DeployError {
    match caught.code {
        // The function is there, but with another type.
        Code::OtherTrap | Code::HostcallArgs => DeployError::World(caught.message),
        _ => DeployError::Describe(caught),
    }
}

/// Tells a contract what it needs.
fn add_need(contracts: &mut [Contract], need: WitNeed) -> Result<(), DescriptionError> {
    let WitNeed { contract, name } = need;
    let found = contracts.iter_mut().find(|found| found.name == contract);
    match found.filter(|found| is_name(&name) && found.needs.len() < RESOURCES_MAX) {
        Some(found) => found.needs.push(name),
        None => {
            let (contract, name) = (printable(&contract, 64), printable(&name, 64));
            return Err(DescriptionError::Need { contract, name });
        }
    }
    Ok(())
}

fn contracts_of(description: WitDescription) -> Result<Vec<Contract>, DescriptionError> {
    check_size(&description)?;
    let contracts = (0..)
        .zip(description.contracts)
        .map(|(index, wit)| contract(index, wit))
        .collect::<Result<Vec<_>, _>>()?;
    check_contracts(&contracts)?;
    Ok(contracts)
}

/// Before anything is made of it.
fn check_size(description: &WitDescription) -> Result<(), DescriptionError> {
    let contracts = &description.contracts;
    if contracts.len() > CONTRACTS_MAX {
        return Err(DescriptionError::Count(contracts.len()));
    }
    let mut bytes: usize = 0;
    for contract in contracts {
        let count = contract.arguments.len();
        if count > ARGUMENTS_MAX {
            let contract = printable(&contract.name, 64);
            return Err(DescriptionError::Arguments { contract, count });
        }
        let texts = [&contract.name, &contract.documentation, &contract.result];
        let arguments = contract.arguments.iter().flat_map(|its| [&its.name, &its.schema]);
        let its = texts.into_iter().chain(arguments).map(String::len);
        bytes = its.fold(bytes, usize::saturating_add);
    }
    if bytes > DESCRIPTION_BYTES_MAX {
        return Err(DescriptionError::TooLong(bytes));
    }
    Ok(())
}

fn contract(index: u32, wit: WitContract) -> Result<Contract, DescriptionError> {
    let name = wit.name;
    let schema_error = |of: String, error: SchemaError| DescriptionError::Schema { of, error };
    let mut arguments = Vec::new();
    for argument in wit.arguments {
        let schema = Schema::parse(&argument.schema).map_err(|error| {
            schema_error(printable(&format!("{name}, argument {}", argument.name), 200), error)
        })?;
        arguments.push(Argument { name: argument.name, required: argument.required, schema });
    }
    let result = Schema::parse(&wit.result)
        .map_err(|error| schema_error(printable(&format!("{name}, result"), 200), error))?;
    Ok(Contract {
        index,
        name,
        documentation: wit.documentation,
        read_only: wit.read_only,
        needs: Vec::new(),
        arguments,
        result,
    })
}

// Describing maps images of its own; they follow the same cards as a daemon's.
const _: () = assert!(CARD_SHIFT >= barrier::CARD_SHIFT_MIN);
const _: () = assert!(CARD_SHIFT <= barrier::CARD_SHIFT_MAX);
