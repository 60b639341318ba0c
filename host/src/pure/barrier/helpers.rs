//! The functions that are added to a module.

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{BlockType, Function, Instruction as I, MemArg, ValType};
use wasmparser::DataKind;

use super::plan::{Plan, ReallocWrapper};
use super::source::{Source, index};
use super::{OVERRUN, RewriteError, Site};

/// The instructions that mark the card of the address in `local`, plus `offset`.
pub(super) fn mark_card(plan: &Plan<'_>, local: u32, offset: u32) -> Vec<I<'static>> {
    let mut code = vec![I::LocalGet(local)];
    if offset != 0 {
        code.extend([I::I32Const(offset.cast_signed()), I::I32Add]);
    }
    code.extend([
        I::I32Const(plan.common.options.card_shift.cast_signed()),
        I::I32ShrU,
        I::I32Const(1),
        I::I32Store8(card_arg(plan)),
    ]);
    code
}

/// The instructions that mark the card of a constant address.
pub(super) fn mark_constant(plan: &Plan<'_>, base: i32, offset: u32) -> Vec<I<'static>> {
    let address = base.cast_unsigned().wrapping_add(offset);
    let card = u64::from(address >> plan.common.options.card_shift);
    vec![I::I32Const(0), I::I32Const(1), I::I32Store8(MemArg { offset: card, ..card_arg(plan) })]
}

/// The instructions that mark the result area at the address in `local`.
pub(super) fn mark_result_area(plan: &Plan<'_>, local: u32) -> Vec<I<'static>> {
    let bytes = plan.common.result_area_bytes;
    if !plan.marks(Site::ResultArea) {
        return Vec::new();
    }
    if bytes <= OVERRUN {
        return mark_card(plan, local, 0);
    }
    vec![I::LocalGet(local), I::I32Const(bytes.cast_signed()), I::Call(plan.mark_range)]
}

fn card_arg(plan: &Plan<'_>) -> MemArg {
    MemArg { offset: 0, align: 0, memory_index: plan.control }
}

/// `(start, len)`: marks all cards of the range, as far as there is memory. The rest of a range
/// beyond memory is never written: the operation traps.
pub(super) fn mark_range(plan: &Plan<'_>) -> Function {
    const START: u32 = 0;
    const LEN: u32 = 1;
    const END: u32 = 2;
    const LIMIT: u32 = 3;
    let shift = plan.common.options.card_shift;
    let mut function = Function::new([(2, ValType::I64)]);
    // 33 bits: the end of a range may be the end of the address space.
    let mut code = vec![I::LocalGet(START), I::I64ExtendI32U];
    code.extend([I::LocalGet(LEN), I::I64ExtendI32U, I::I64Add, I::LocalSet(END)]);
    if plan.has_memory {
        code.extend([I::MemorySize(0), I::I64ExtendI32U, I::I64Const(16), I::I64Shl]);
    } else {
        code.push(I::I64Const(1 << 32));
    }
    code.extend([I::LocalSet(LIMIT), I::LocalGet(END), I::LocalGet(LIMIT)]);
    code.extend([I::LocalGet(END), I::LocalGet(LIMIT), I::I64LtU, I::Select, I::LocalTee(END)]);
    code.extend([I::LocalGet(START), I::I64ExtendI32U, I::I64LeU]);
    code.extend([I::If(BlockType::Empty), I::Return, I::End]);
    // From here on START is the card at hand and LEN the last card.
    code.extend([I::LocalGet(END), I::I64Const(1), I::I64Sub, I::I64Const(i64::from(shift))]);
    code.extend([I::I64ShrU, I::I32WrapI64, I::LocalSet(LEN)]);
    code.extend([I::LocalGet(START), I::I32Const(shift.cast_signed()), I::I32ShrU]);
    code.extend([I::LocalSet(START), I::Loop(BlockType::Empty)]);
    code.extend([I::LocalGet(START), I::I32Const(1), I::I32Store8(card_arg(plan))]);
    code.extend([I::LocalGet(START), I::LocalGet(LEN), I::I32LtU, I::If(BlockType::Empty)]);
    code.extend([I::LocalGet(START), I::I32Const(1), I::I32Add, I::LocalSet(START), I::Br(1)]);
    code.extend([I::End, I::End, I::End]);
    append(&mut function, &code);
    function
}

/// Runs once in the life of a state: initial values of the moved globals, active data segments, the
/// guest's own start function. A restored state area says that it has run.
pub(super) fn guarded_start(
    plan: &Plan<'_>,
    source: &Source<'_>,
) -> Result<Function, RewriteError> {
    let mut reencoder = plan;
    let mut function = Function::new([(1, ValType::I32)]);
    let started = plan.started();
    append(&mut function, &[I::I32Const(0), I::I32Load(started), I::If(BlockType::Empty)]);
    append(&mut function, &[I::Return, I::End]);
    append(&mut function, &[I::I32Const(0), I::I32Const(1), I::I32Store(started)]);
    let imported = usize::try_from(source.imported_globals).map_err(RewriteError::bug)?;
    for (global, moved) in source.globals.iter().zip(plan.globals.iter().skip(imported)) {
        let Some(moved) = moved else { continue };
        function.instruction(&I::I32Const(0));
        const_expr(&mut function, &mut reencoder, &global.init_expr)?;
        function.instruction(&plan.store(*moved));
    }
    for (segment, data) in source.data.iter().enumerate() {
        let DataKind::Active { offset_expr, .. } = &data.kind else { continue };
        const_expr(&mut function, &mut reencoder, offset_expr)?;
        function.instruction(&I::LocalSet(0));
        let len = index(data.data.len())?.cast_signed();
        if plan.marks(Site::ActiveSegment) {
            append(&mut function, &[I::LocalGet(0), I::I32Const(len), I::Call(plan.mark_range)]);
        }
        append(&mut function, &[I::LocalGet(0), I::I32Const(0), I::I32Const(len)]);
        function.instruction(&I::MemoryInit { mem: 0, data_index: index(segment)? });
    }
    if let Some(start) = source.start {
        function.instruction(&I::Call(plan.function(start)));
    }
    function.instruction(&I::End);
    Ok(function)
}

/// Marks the result area, which its last parameter points to, and calls the import.
pub(super) fn import_wrapper(
    plan: &Plan<'_>,
    source: &Source<'_>,
    import: u32,
) -> Result<Function, RewriteError> {
    let ty = source.ty(source.function_type(import)?)?;
    let parameters = index(ty.params().len())?;
    let mut function = Function::new([]);
    if let Some(last) = parameters.checked_sub(1) {
        append(&mut function, &mark_result_area(plan, last));
    }
    for parameter in 0..parameters {
        function.instruction(&I::LocalGet(parameter));
    }
    append(&mut function, &[I::Call(import), I::End]);
    Ok(function)
}

/// Calls the guest's `realloc` and marks what it returned: the host writes there next.
pub(super) fn realloc_wrapper(plan: &Plan<'_>, realloc: &ReallocWrapper) -> Function {
    const NEW_BYTES: u32 = 3;
    const RESULT: u32 = 4;
    let mut function = Function::new([(1, ValType::I32)]);
    for parameter in 0..=NEW_BYTES {
        function.instruction(&I::LocalGet(parameter));
    }
    append(&mut function, &[I::Call(realloc.inner), I::LocalTee(RESULT)]);
    if plan.marks(Site::Realloc) {
        append(&mut function, &[I::LocalGet(NEW_BYTES), I::Call(plan.mark_range)]);
        function.instruction(&I::LocalGet(RESULT));
    }
    function.instruction(&I::End);
    function
}

fn append(function: &mut Function, code: &[I<'_>]) {
    for instruction in code {
        function.instruction(instruction);
    }
}

fn const_expr(
    function: &mut Function,
    reencoder: &mut &Plan<'_>,
    expression: &wasmparser::ConstExpr<'_>,
) -> Result<(), RewriteError> {
    let mut operators = expression.get_operators_reader();
    while !operators.is_end_then_eof() {
        function.instruction(&reencoder.instruction(operators.read()?)?);
    }
    Ok(())
}
