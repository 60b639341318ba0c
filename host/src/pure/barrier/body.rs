//! Rewrites one function body.

use std::collections::BTreeMap;

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{BlockType, Encode, Function, Instruction as I, ValType};
use wasmparser::{FunctionBody, Operator};

use super::flow::Flow;
use super::helpers::{mark_card, mark_constant, mark_result_area};
use super::plan::Plan;
use super::source::{Source, index};
use super::unroll::{Step, unroll};
use super::{OVERRUN, RewriteError, Site};
use crate::pure::admission::{Place, Refusal};

/// Bytes of a rewritten body. What takes more was made to: marks and copies make real code less
/// than twice as long, and a body is bounded before.
const CODE_BYTES_MAX: u64 = 4 << 20;

/// Rewrites the body of `function`.
pub(super) fn rewrite(
    source: &Source<'_>,
    plan: &Plan<'_>,
    function: u32,
    body: &FunctionBody<'_>,
) -> Result<Function, RewriteError> {
    let mut locals = Vec::new();
    let mut count = index(source.ty(source.function_type(function)?)?.params().len())?;
    for group in body.get_locals_reader()? {
        let (many, ty) = group?;
        locals.push((many, (&mut &*plan).val_type(ty)?));
        count = count.checked_add(many).ok_or_else(|| RewriteError::bug("too many locals"))?;
    }
    let mut steps = read(body)?;
    if plan.common.options.unroll {
        steps = unroll(steps, |operator| store_of(operator).is_some());
    }
    let loops = Loops::new(&steps);
    let steps_max = plan.common.options.flow_steps_max;
    let flow = Flow::new(source, source.function_type(function)?, count, steps_max)?;
    let mut writer = Writer { source, plan, code: Vec::new(), scratch: Scratch::new(count), flow };
    for (position, step) in steps.iter().enumerate() {
        writer.operator(step)?;
        writer.flow.step(&step.operator, || loops.assigned(position))?;
    }
    let found = u64::from(index(writer.code.len())?);
    if found > CODE_BYTES_MAX {
        let what = "bytes of code with the write barrier";
        let place = Place { function: Some(function), ..Place::at(body.range().start) };
        return Err(Refusal::CompileLimit { what, found, limit: CODE_BYTES_MAX, place }.into());
    }
    locals.extend(writer.scratch.locals.iter().map(|&ty| (1, ty)));
    let mut function = Function::new(locals);
    function.raw(writer.code);
    Ok(function)
}

/// The operators of a body with their bytes.
fn read<'a>(body: &FunctionBody<'a>) -> Result<Vec<Step<'a>>, RewriteError> {
    let mut operators = body.get_operators_reader()?;
    let bytes = body.as_bytes();
    let start = body.range().start;
    let mut steps = Vec::new();
    while !operators.eof() {
        let from = operators.original_position();
        let operator = operators.read()?;
        let to = operators.original_position();
        let range = from.checked_sub(start).zip(to.checked_sub(start));
        let raw = range.and_then(|(from, to)| bytes.get(from..to));
        steps.push(Step { operator, raw });
    }
    Ok(steps)
}

/// Which locals each loop assigns.
struct Loops {
    /// For each loop, its head and its end.
    ends: BTreeMap<usize, usize>,
    /// Places of assignments, ascending, with the local.
    assignments: Vec<(usize, u32)>,
}

impl Loops {
    fn new(steps: &[Step<'_>]) -> Self {
        let mut ends = BTreeMap::new();
        let mut assignments = Vec::new();
        let mut open = Vec::new();
        for (position, step) in steps.iter().enumerate() {
            match step.operator {
                Operator::Loop { .. } => open.push(Some(position)),
                Operator::Block { .. } | Operator::If { .. } => open.push(None),
                Operator::End => {
                    if let Some(Some(head)) = open.pop() {
                        ends.insert(head, position);
                    }
                }
                Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                    assignments.push((position, local_index));
                }
                _ => {}
            }
        }
        Self { ends, assignments }
    }

    /// The locals that the loop which begins at `head` assigns.
    fn assigned(&self, head: usize) -> Vec<u32> {
        let Some(&end) = self.ends.get(&head) else { return Vec::new() };
        let from = self.assignments.partition_point(|(position, _)| *position < head);
        let to = self.assignments.partition_point(|(position, _)| *position < end);
        let inside = self.assignments.get(from..to).unwrap_or_default();
        inside.iter().map(|(_, local)| *local).collect()
    }
}

/// Locals that are added to a function, to hold operands while a mark is made.
struct Scratch {
    first: u32,
    locals: Vec<ValType>,
}

impl Scratch {
    fn new(first: u32) -> Self {
        Self { first, locals: Vec::new() }
    }

    /// The `nth` scratch local of this type.
    fn local(&mut self, ty: ValType, nth: usize) -> Result<u32, RewriteError> {
        loop {
            let mut known = self.locals.iter().enumerate().filter(|(_, known)| **known == ty);
            if let Some((position, _)) = known.nth(nth) {
                return Ok(self.first + index(position)?);
            }
            self.locals.push(ty);
        }
    }
}

/// A store, as far as its mark is concerned.
struct Store {
    site: Site,
    value: ValType,
    bytes: u32,
    offset: u64,
}

/// Where the base of a store's address is at hand.
enum Base {
    /// Nowhere, for another mark stands for what the store writes.
    Marked,
    Constant(i32),
    Local(u32),
    /// Only on the stack, under the value.
    Stack,
}

struct Writer<'w, 'p, 'o, 's> {
    source: &'w Source<'s>,
    plan: &'p Plan<'o>,
    code: Vec<u8>,
    scratch: Scratch,
    flow: Flow<'w, 's>,
}

impl Writer<'_, '_, '_, '_> {
    fn operator(&mut self, step: &Step<'_>) -> Result<(), RewriteError> {
        let operator = &step.operator;
        if let Some(store) = store_of(operator) {
            self.store(&store)?;
            return self.copy(step);
        }
        match operator {
            Operator::MemoryFill { .. } => self.bulk(Site::MemoryFill, operator),
            Operator::MemoryCopy { .. } => self.bulk(Site::MemoryCopy, operator),
            Operator::MemoryInit { .. } => self.bulk(Site::MemoryInit, operator),
            Operator::GlobalGet { global_index } => self.global_get(*global_index, step),
            Operator::GlobalSet { global_index } => self.global_set(*global_index, step),
            Operator::CallIndirect { type_index, .. } => self.call_indirect(*type_index, step),
            Operator::Unreachable => {
                if self.plan.common.options.trap_by_grow && !self.flow.is_dead() {
                    self.push(&[I::I32Const(-1), I::MemoryGrow(self.plan.control), I::Drop]);
                }
                self.copy(step)
            }
            Operator::Call { .. } | Operator::RefFunc { .. } => self.reencode(operator),
            _ => self.copy(step),
        }
    }

    fn push(&mut self, code: &[I<'_>]) {
        for instruction in code {
            instruction.encode(&mut self.code);
        }
    }

    /// Writes an operator as it is.
    fn copy(&mut self, step: &Step<'_>) -> Result<(), RewriteError> {
        match step.raw {
            Some(raw) => self.code.extend_from_slice(raw),
            None => self.reencode(&step.operator)?,
        }
        Ok(())
    }

    /// Writes an operator whose indices may change.
    fn reencode(&mut self, operator: &Operator<'_>) -> Result<(), RewriteError> {
        let instruction = (&mut &*self.plan).instruction(operator.clone())?;
        instruction.encode(&mut self.code);
        Ok(())
    }

    /// Marks what a store is going to write. On the stack: address, value.
    fn store(&mut self, store: &Store) -> Result<(), RewriteError> {
        if !self.plan.marks(store.site) || self.flow.is_dead() {
            return Ok(());
        }
        let offset = u32::try_from(store.offset).map_err(RewriteError::bug)?;
        let base = self.base(offset, store.bytes);
        // The card of the base stands for the bytes after it, too.
        let near = offset.checked_add(store.bytes).is_some_and(|end| end <= OVERRUN);
        let offset = if near { 0 } else { offset };
        let mark = match base {
            Base::Marked => return Ok(()),
            Base::Constant(base) => mark_constant(self.plan, base, offset),
            Base::Local(local) => mark_card(self.plan, local, offset),
            Base::Stack => {
                let address = self.scratch.local(ValType::I32, 0)?;
                let nth = usize::from(store.value == ValType::I32);
                let value = self.scratch.local(store.value, nth)?;
                self.push(&[I::LocalSet(value), I::LocalTee(address), I::LocalGet(value)]);
                mark_card(self.plan, address, offset)
            }
        };
        self.push(&mark);
        if let Some(facts) = self.flow.facts() {
            let base = facts.operand(1);
            facts.mark(&base.value, offset);
        }
        Ok(())
    }

    /// Where the base of a store is at hand. On the stack: address, value.
    fn base(&mut self, offset: u32, bytes: u32) -> Base {
        let share = self.plan.common.options.share_marks;
        let Some(facts) = self.flow.facts().filter(|_| share) else { return Base::Stack };
        let base = facts.operand(1);
        if facts.is_marked(&base.value, offset, bytes) {
            return Base::Marked;
        }
        match (base.value.as_constant(), facts.local_of(&base)) {
            (Some(base), _) => Base::Constant(base),
            (None, Some(local)) => Base::Local(local),
            (None, None) => Base::Stack,
        }
    }

    /// Marks the range of a bulk operation. On the stack: destination, a value or source, length.
    fn bulk(&mut self, site: Site, operator: &Operator<'_>) -> Result<(), RewriteError> {
        if self.plan.marks(site) && !self.flow.is_dead() {
            let destination = self.scratch.local(ValType::I32, 0)?;
            let source = self.scratch.local(ValType::I32, 1)?;
            let len = self.scratch.local(ValType::I32, 2)?;
            self.push(&[I::LocalSet(len), I::LocalSet(source), I::LocalTee(destination)]);
            self.push(&[I::LocalGet(source), I::LocalGet(len)]);
            // Most are short: then the first card stands for all of it.
            let first_is_marked = self.flow.facts().is_some_and(|facts| {
                let to = facts.operand(2).value;
                facts.is_marked(&to, 0, OVERRUN)
            });
            if !first_is_marked {
                let mark = mark_card(self.plan, destination, 0);
                self.push(&mark);
            }
            let overrun = I::I32Const(OVERRUN.cast_signed());
            self.push(&[I::LocalGet(len), overrun, I::I32GtU, I::If(BlockType::Empty)]);
            self.push(&[I::LocalGet(destination), I::LocalGet(len)]);
            self.push(&[I::Call(self.plan.mark_range), I::End]);
            if let Some(facts) = self.flow.facts() {
                let to = facts.operand(2).value;
                facts.mark(&to, 0);
            }
        }
        self.reencode(operator)
    }

    fn global_get(&mut self, global: u32, step: &Step<'_>) -> Result<(), RewriteError> {
        match self.plan.moved(global)? {
            Some(moved) => self.push(&[I::I32Const(0), self.plan.load(moved)]),
            None => self.copy(step)?,
        }
        Ok(())
    }

    fn global_set(&mut self, global: u32, step: &Step<'_>) -> Result<(), RewriteError> {
        let Some(moved) = self.plan.moved(global)? else {
            return self.copy(step);
        };
        let ty = (&mut &*self.plan).val_type(moved.ty)?;
        let value = self.scratch.local(ty, 0)?;
        self.push(&[I::LocalSet(value), I::I32Const(0), I::LocalGet(value)]);
        self.push(&[self.plan.store(moved)]);
        Ok(())
    }

    /// A function of the host may have come to a table by another module. On the stack: the
    /// parameters, the index into the table.
    fn call_indirect(&mut self, ty: u32, step: &Step<'_>) -> Result<(), RewriteError> {
        let common = &self.plan.common;
        if self.source.has_foreign_functions
            && common.result_area_bytes > 0
            && self.source.may_take_result_area(ty)?
        {
            let area = self.scratch.local(ValType::I32, 0)?;
            let element = self.scratch.local(ValType::I32, 1)?;
            self.push(&[I::LocalSet(element), I::LocalTee(area), I::LocalGet(element)]);
            let mark = mark_result_area(self.plan, area);
            self.push(&mark);
        }
        self.copy(step)
    }
}

fn store_of(operator: &Operator<'_>) -> Option<Store> {
    let (site, value, bytes, memarg) = match operator {
        Operator::I32Store { memarg } => (Site::I32Store, ValType::I32, 4, memarg),
        Operator::I32Store8 { memarg } => (Site::I32Store8, ValType::I32, 1, memarg),
        Operator::I32Store16 { memarg } => (Site::I32Store16, ValType::I32, 2, memarg),
        Operator::I64Store { memarg } => (Site::I64Store, ValType::I64, 8, memarg),
        Operator::I64Store8 { memarg } => (Site::I64Store8, ValType::I64, 1, memarg),
        Operator::I64Store16 { memarg } => (Site::I64Store16, ValType::I64, 2, memarg),
        Operator::I64Store32 { memarg } => (Site::I64Store32, ValType::I64, 4, memarg),
        Operator::F32Store { memarg } => (Site::F32Store, ValType::F32, 4, memarg),
        Operator::F64Store { memarg } => (Site::F64Store, ValType::F64, 8, memarg),
        Operator::V128Store { memarg } => (Site::V128Store, ValType::V128, 16, memarg),
        Operator::V128Store8Lane { memarg, .. } => (Site::V128Store8Lane, ValType::V128, 1, memarg),
        Operator::V128Store16Lane { memarg, .. } => {
            (Site::V128Store16Lane, ValType::V128, 2, memarg)
        }
        Operator::V128Store32Lane { memarg, .. } => {
            (Site::V128Store32Lane, ValType::V128, 4, memarg)
        }
        Operator::V128Store64Lane { memarg, .. } => {
            (Site::V128Store64Lane, ValType::V128, 8, memarg)
        }
        _ => return None,
    };
    Some(Store { site, value, bytes, offset: memarg.offset })
}
