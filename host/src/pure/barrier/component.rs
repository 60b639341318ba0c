//! Puts a rewritten component together.

use wasm_encoder::{Component, ComponentSectionId, RawSection};
use wasmparser::{Parser, Payload};

use super::plan::Common;
use super::{
    BARRIER_VERSION, CARD_SHIFT_MAX, CARD_SHIFT_MIN, Layout, MemoryRole, Options, PAGE_BYTES,
    RewriteError, Rewritten, module,
};
use crate::pure::admission::{Admitted, CoreModule, MemoryBytes, ModuleUse, Wiring};

pub(super) fn rewrite(
    admitted: &Admitted<'_>,
    options: &Options,
) -> Result<Rewritten, RewriteError> {
    let bytes = admitted.bytes;
    let (modules, layout) =
        rewrite_modules(bytes, &admitted.modules, admitted.memory, &admitted.wiring, options)?;
    let mut modules = modules.into_iter();
    let mut component = Component::new();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match &payload {
            Payload::End(_) => {
                depth = depth.saturating_sub(1);
                continue;
            }
            Payload::ModuleSection { .. } if depth == 0 => {
                depth += 1;
                let module = modules.next().ok_or_else(|| RewriteError::bug("a module is lost"))?;
                let id = ComponentSectionId::CoreModule.into();
                component.section(&RawSection { id, data: &module });
                continue;
            }
            _ => {}
        }
        let outermost = depth == 0;
        if let Payload::ModuleSection { .. } | Payload::ComponentSection { .. } = &payload {
            depth += 1;
        }
        // Custom sections are for tools and people; the names that backtraces show are in modules.
        let dropped = matches!(payload, Payload::CustomSection(_));
        if let Some((id, range)) = payload.as_section()
            && outermost
            && !dropped
        {
            let data =
                bytes.get(range).ok_or_else(|| RewriteError::bug("a section out of bounds"))?;
            component.section(&RawSection { id, data });
        }
    }
    Ok(Rewritten { component: component.finish(), layout })
}

/// Rewrites the core modules, which lie in `bytes`, in their order.
pub(super) fn rewrite_modules(
    bytes: &[u8],
    modules: &[CoreModule],
    memory: MemoryBytes,
    wiring: &Wiring,
    options: &Options,
) -> Result<(Vec<Vec<u8>>, Layout), RewriteError> {
    if !(CARD_SHIFT_MIN..=CARD_SHIFT_MAX).contains(&options.card_shift) {
        return Err(RewriteError::bug("the card shift is out of bounds"));
    }
    let card_pages = (1_u64 << (32 - options.card_shift)) / PAGE_BYTES;
    // One page is the state area. A page more sets it apart from a data memory of the same size.
    let same = memory.maximum == Some((card_pages + 1) * PAGE_BYTES);
    let control_pages = card_pages + 1 + u64::from(same);
    let common = Common { options, control_pages, result_area_bytes: wiring.result_area_bytes };

    let mut rewritten = Vec::new();
    let mut roles = Vec::new();
    for (module, usage) in modules.iter().zip(&wiring.uses) {
        let code = bytes
            .get(module.range.clone())
            .ok_or_else(|| RewriteError::bug("a module out of bounds"))?;
        let mut memories = Vec::new();
        if module.memory.is_some() {
            memories.push(MemoryRole::Data);
        }
        if needs_barrier(module, usage) {
            let (code, state_bytes) = module::rewrite(code, usage, common)?;
            memories.push(MemoryRole::Control { module: module.index, state_bytes });
            rewritten.push(code);
        } else {
            rewritten.push(module::strip(code)?);
        }
        roles.push(memories);
    }
    let mut memories = Vec::new();
    for &module in &wiring.instantiated {
        memories.extend(super::source::item(&roles, module)?.iter().copied());
    }
    let layout = Layout {
        version: BARRIER_VERSION,
        card_shift: options.card_shift,
        memories,
        data_minimum_bytes: memory.minimum,
        data_maximum_bytes: memory.maximum,
        control_pages,
        state_offset: common.state_offset(),
    };
    Ok((rewritten, layout))
}

/// A module can do without when it has no state, is never entered by the host, and only passes on
/// calls of modules that have marked what the callee may write: the shims of wit-component.
fn needs_barrier(module: &CoreModule, usage: &ModuleUse) -> bool {
    module.memory.is_some()
        || module.imports_memory
        || module.mutable_globals > 0
        || module.has_start
        || usage.entered
        || !module.only_forwards
}
