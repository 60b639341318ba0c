//! Follows a function body operator by operator, and knows at each place which marks were made on
//! every path to it.
//!
//! Marks are never taken back while a function runs, so what has to be shown is only that a mark
//! *dominates* a store and stands for the bytes of it. WebAssembly's control flow is structured,
//! which makes that a stack discipline: marks made inside a block count after it only if no branch
//! leaves the block before them.
//!
//! Locals are followed as [`Sum`]s. Where paths meet, a local keeps its value if it is the same on
//! all of them; at the head of a loop, all locals that the loop assigns are unknown.

use wasmparser::{
    BlockType, ContType, FrameKind, FuncType, ModuleArity, Operator, RefType, SubType,
};

use super::source::{Source, index};
use super::values::{Sum, Values};
use super::{OVERRUN, RewriteError};

/// Marks that are looked at, newest first, for one that covers a store.
const MARKS_SEARCHED: usize = 16;

/// A value on the operand stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    pub(super) value: Sum,
    /// The local that it was read from.
    pub(super) local: Option<u32>,
}

/// A mark that was made on every path to the present place.
#[derive(Clone, Copy, Debug)]
struct Mark {
    address: Sum,
    /// Bytes from the address on that it stands for.
    bytes: i64,
    /// True when the address is known to be far from 2^32, because a store to it did not trap.
    proven: bool,
}

#[derive(Debug)]
struct Frame {
    kind: FrameKind,
    ty: BlockType,
    /// Operands below the frame's own.
    height: usize,
    /// Marks made before the frame.
    marks_before: usize,
    /// Marks made before every branch to the end.
    marks_at_branches: usize,
    /// Locals as all branches to the end agree on them; `None` for those they don't.
    branches: Option<Vec<Option<Sum>>>,
    /// Locals at the beginning of an `if`, for its other arm.
    before: Option<Vec<Sum>>,
    /// True when the frame begins in code that is never reached.
    dead: bool,
}

/// Follows a function for as long as that is worth the work.
///
/// Once it has taken too many steps, what was known is dropped, not kept aside: then there is
/// nothing that an answer could come from, and every store gets its own mark.
pub(super) struct Flow<'w, 's>(Option<Facts<'w, 's>>);

impl<'w, 's> Flow<'w, 's> {
    /// At the beginning of a function with this many parameters and locals in all. It is followed
    /// for `steps_max` steps.
    pub(super) fn new(
        source: &'w Source<'s>,
        ty: u32,
        locals: u32,
        steps_max: usize,
    ) -> Result<Self, RewriteError> {
        let facts = Facts::new(source, ty, locals, steps_max)?;
        Ok(Self(Some(facts).filter(|facts| !facts.exhausted)))
    }

    /// What is known here, if the function is still followed.
    pub(super) fn facts(&mut self) -> Option<&mut Facts<'w, 's>> {
        self.0.as_mut()
    }

    /// True when the next operator is known to be never reached.
    pub(super) fn is_dead(&self) -> bool {
        self.0.as_ref().is_some_and(|facts| facts.dead)
    }

    /// Follows one operator. `assigned` answers which locals the loop that begins here assigns.
    pub(super) fn step(
        &mut self,
        operator: &Operator<'_>,
        assigned: impl FnOnce() -> Vec<u32>,
    ) -> Result<(), RewriteError> {
        let Some(facts) = &mut self.0 else { return Ok(()) };
        facts.step(operator, assigned)?;
        if facts.exhausted {
            self.0 = None;
        }
        Ok(())
    }
}

/// What is known at one place of a function body.
pub(super) struct Facts<'w, 's> {
    source: &'w Source<'s>,
    values: Values,
    stack: Vec<Operand>,
    locals: Vec<Sum>,
    frames: Vec<Frame>,
    marks: Vec<Mark>,
    dead: bool,
    /// Steps that are left. One is an operator, an operand or a local that is looked at.
    steps_left: usize,
    /// True when it took more steps than there were.
    exhausted: bool,
}

impl<'w, 's> Facts<'w, 's> {
    fn new(
        source: &'w Source<'s>,
        ty: u32,
        locals: u32,
        steps_max: usize,
    ) -> Result<Self, RewriteError> {
        let parameters = source.ty(ty)?.params().len();
        let mut values = Values::default();
        let locals = (0..usize::try_from(locals).map_err(RewriteError::bug)?)
            .map(|local| if local < parameters { values.fresh() } else { Sum::constant(0) })
            .collect();
        let mut facts = Self {
            source,
            values,
            stack: Vec::new(),
            locals,
            frames: Vec::new(),
            marks: Vec::new(),
            dead: false,
            steps_left: steps_max,
            exhausted: false,
        };
        facts.charge(facts.locals.len());
        facts.enter(FrameKind::Block, BlockType::FuncType(ty), 0);
        Ok(facts)
    }

    /// Counts steps. A single operator ends early when there are none left: what is incomplete
    /// after that is dropped with the rest.
    fn charge(&mut self, steps: usize) {
        match self.steps_left.checked_sub(steps) {
            Some(left) => self.steps_left = left,
            None => self.exhausted = true,
        }
    }

    /// The operand at a depth of the stack, the top being 0.
    pub(super) fn operand(&mut self, depth: usize) -> Operand {
        let floor = self.frames.last().map_or(0, |frame| frame.height);
        let position = self.stack.len().checked_sub(depth + 1);
        let operand = position
            .filter(|position| *position >= floor)
            .and_then(|position| self.stack.get(position));
        match operand {
            Some(operand) => *operand,
            None => Operand { value: self.values.fresh(), local: None },
        }
    }

    /// A local that holds this operand now.
    pub(super) fn local_of(&self, operand: &Operand) -> Option<u32> {
        let local = operand.local?;
        let position = usize::try_from(local).ok()?;
        (self.locals.get(position)? == &operand.value).then_some(local)
    }

    /// True when a mark stands for `bytes` bytes at `base + offset`.
    pub(super) fn is_marked(&mut self, base: &Sum, offset: u32, bytes: u32) -> bool {
        let Some(address) = base.add(&Sum::constant(offset.cast_signed()), 1) else { return false };
        let bytes = i64::from(bytes);
        self.marks.iter().rev().take(MARKS_SEARCHED).any(|mark| {
            if mark.address == *base {
                // The sum of base and offset has 33 bits: the store traps rather than wrap around.
                return i64::from(offset) + bytes <= mark.bytes;
            }
            let distance = self.values.distance(&mark.address, &address);
            mark.proven
                && distance
                    .is_some_and(|(least, greatest)| 0 <= least && greatest + bytes <= mark.bytes)
        })
    }

    /// Notes that the card of `base + offset` is marked and that a store there follows.
    pub(super) fn mark(&mut self, base: &Sum, offset: u32) {
        if let Some(address) = base.add(&Sum::constant(offset.cast_signed()), 1) {
            self.marks.push(Mark { address, bytes: i64::from(OVERRUN), proven: true });
        }
    }

    fn step(
        &mut self,
        operator: &Operator<'_>,
        assigned: impl FnOnce() -> Vec<u32>,
    ) -> Result<(), RewriteError> {
        self.charge(1);
        match *operator {
            Operator::Block { blockty } => self.open(FrameKind::Block, blockty),
            Operator::Loop { blockty } => {
                self.open(FrameKind::Loop, blockty);
                if !self.dead {
                    for local in assigned() {
                        self.charge(1);
                        let fresh = self.values.fresh();
                        self.assign(local, fresh);
                    }
                }
            }
            Operator::If { blockty } => {
                self.pop();
                self.open(FrameKind::If, blockty);
                self.charge(self.locals.len());
                let before = (!self.dead).then(|| self.locals.clone());
                if let Some(frame) = self.frames.last_mut() {
                    frame.before = before;
                }
            }
            Operator::Else => {
                self.charge(self.locals.len());
                self.other_arm();
            }
            Operator::End => self.close()?,
            Operator::Br { relative_depth } => {
                self.branch(relative_depth);
                self.die();
            }
            Operator::BrIf { relative_depth } => {
                self.pop();
                self.branch(relative_depth);
            }
            Operator::BrTable { ref targets } => {
                for target in targets.targets() {
                    self.branch(target?);
                }
                self.branch(targets.default());
                self.die();
            }
            Operator::Return | Operator::Unreachable => self.die(),
            _ => self.compute(operator)?,
        }
        Ok(())
    }

    /// Follows an operator that isn't control flow.
    fn compute(&mut self, operator: &Operator<'_>) -> Result<(), RewriteError> {
        if self.dead {
            return Ok(());
        }
        match *operator {
            Operator::LocalGet { local_index } => {
                let value = self.local(local_index);
                self.stack.push(Operand { value, local: Some(local_index) });
            }
            Operator::LocalSet { local_index } => {
                let operand = self.pop();
                self.assign(local_index, operand.value);
            }
            Operator::LocalTee { local_index } => {
                let Operand { value, .. } = self.pop();
                self.assign(local_index, value);
                self.stack.push(Operand { value, local: Some(local_index) });
            }
            Operator::I32Const { value } => self.push(Sum::constant(value)),
            Operator::I32Add => self.binary(|left, right| left.add(right, 1)),
            Operator::I32Sub => self.binary(|left, right| left.add(right, -1)),
            Operator::I32Mul => self.binary(|left, right| {
                let factor = right.as_constant().map(|factor| left.times(factor));
                factor.or_else(|| left.as_constant().map(|factor| right.times(factor)))
            }),
            Operator::I32Shl => self.binary(|left, right| {
                let factor = 1_i32.checked_shl(u32::try_from(right.as_constant()?).ok()?)?;
                Some(left.times(factor))
            }),
            Operator::I32And => {
                let (right, left) = (self.pop().value, self.pop().value);
                let mask = right.as_constant().or_else(|| left.as_constant());
                let value = self.values.fresh_up_to(mask.map_or(-1, i64::from));
                self.push(value);
            }
            _ => {
                let (pops, pushes) = operator
                    .operator_arity(self)
                    .ok_or_else(|| RewriteError::bug("an operator of unknown type"))?;
                for _ in 0..pops {
                    self.charge(1);
                    self.pop();
                }
                let is_truth = is_comparison(operator);
                for _ in 0..pushes {
                    self.charge(1);
                    let value =
                        if is_truth { self.values.fresh_up_to(1) } else { self.values.fresh() };
                    self.push(value);
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, value: Sum) {
        self.stack.push(Operand { value, local: None });
    }

    fn push_unknown(&mut self, count: u32) {
        for _ in 0..count {
            self.charge(1);
            let value = self.values.fresh();
            self.push(value);
        }
    }

    fn pop(&mut self) -> Operand {
        let operand = self.operand(0);
        let floor = self.frames.last().map_or(0, |frame| frame.height);
        if self.stack.len() > floor {
            self.stack.pop();
        }
        operand
    }

    fn binary(&mut self, operation: impl FnOnce(&Sum, &Sum) -> Option<Sum>) {
        let (right, left) = (self.pop().value, self.pop().value);
        let value = operation(&left, &right).unwrap_or_else(|| self.values.fresh());
        self.push(value);
    }

    fn local(&mut self, local: u32) -> Sum {
        let known = usize::try_from(local).ok().and_then(|local| self.locals.get(local));
        known.copied().unwrap_or_else(|| self.values.fresh())
    }

    fn assign(&mut self, local: u32, value: Sum) {
        let known = usize::try_from(local).ok().and_then(|local| self.locals.get_mut(local));
        if let Some(known) = known {
            *known = value;
        }
    }

    fn open(&mut self, kind: FrameKind, ty: BlockType) {
        let parameters = self.block_type_arity(ty).map_or(0, |(parameters, _)| parameters);
        for _ in 0..parameters {
            self.charge(1);
            self.pop();
        }
        self.enter(kind, ty, parameters);
    }

    fn enter(&mut self, kind: FrameKind, ty: BlockType, parameters: u32) {
        self.frames.push(Frame {
            kind,
            ty,
            height: self.stack.len(),
            marks_before: self.marks.len(),
            marks_at_branches: usize::MAX,
            branches: None,
            before: None,
            dead: self.dead,
        });
        self.push_unknown(parameters);
    }

    /// Notes that a branch to the frame at `depth` may leave from here.
    fn branch(&mut self, depth: u32) {
        if self.dead || self.exhausted {
            return;
        }
        let position = usize::try_from(depth)
            .ok()
            .and_then(|depth| self.frames.len().checked_sub(depth.saturating_add(1)));
        let Some(frame) = position.and_then(|position| self.frames.get_mut(position)) else {
            return;
        };
        // A branch to a loop goes to its head, where what the loop assigns is unknown anyway.
        if frame.kind == FrameKind::Loop {
            return;
        }
        frame.marks_at_branches = frame.marks_at_branches.min(self.marks.len());
        meet(&mut frame.branches, &self.locals);
        self.charge(self.locals.len());
    }

    fn die(&mut self) {
        self.dead = true;
    }

    fn other_arm(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        if !self.dead {
            // The first arm's end is one more branch to the end.
            frame.marks_at_branches = frame.marks_at_branches.min(self.marks.len());
            meet(&mut frame.branches, &self.locals);
        }
        frame.kind = FrameKind::Else;
        self.dead = frame.dead;
        if let Some(before) = frame.before.take() {
            self.locals = before;
        }
        let (marks, height, ty) = (frame.marks_before, frame.height, frame.ty);
        self.forget_marks(marks);
        self.stack.truncate(height);
        let parameters = self.block_type_arity(ty).map_or(0, |(parameters, _)| parameters);
        self.push_unknown(parameters);
    }

    fn close(&mut self) -> Result<(), RewriteError> {
        let Some(mut frame) = self.frames.pop() else {
            return Err(RewriteError::bug("an end without a beginning"));
        };
        if let (FrameKind::If, Some(before)) = (frame.kind, &frame.before) {
            // Without another arm, the condition's being false is one more branch to the end.
            frame.marks_at_branches = frame.marks_at_branches.min(frame.marks_before);
            meet(&mut frame.branches, before);
        }
        if let Some(mut met) = frame.branches.take() {
            self.charge(self.locals.len());
            if !self.dead {
                frame.marks_at_branches = frame.marks_at_branches.min(self.marks.len());
                let mut all = Some(met);
                meet(&mut all, &self.locals);
                met = all.unwrap_or_default();
            }
            let values = &mut self.values;
            self.locals =
                met.into_iter().map(|sum| sum.unwrap_or_else(|| values.fresh())).collect();
            self.forget_marks(frame.marks_at_branches);
            self.dead = frame.dead;
        }
        self.stack.truncate(frame.height);
        let results = self.block_type_arity(frame.ty).map_or(0, |(_, results)| results);
        self.push_unknown(results);
        Ok(())
    }

    /// Keeps the oldest marks only.
    fn forget_marks(&mut self, count: usize) {
        if count >= self.marks.len() {
            return;
        }
        self.marks.truncate(count);
        // What branches to outer ends have in common is gone as well: other marks take its place.
        self.charge(self.frames.len());
        for frame in &mut self.frames {
            if frame.marks_at_branches != usize::MAX {
                frame.marks_at_branches = frame.marks_at_branches.min(count);
            }
        }
    }
}

/// Keeps of `known` what `locals` agree with; all of them when they are the first.
fn meet(known: &mut Option<Vec<Option<Sum>>>, locals: &[Sum]) {
    match known {
        None => *known = Some(locals.iter().copied().map(Some).collect()),
        Some(known) => {
            for (known, local) in known.iter_mut().zip(locals) {
                if known.as_ref() != Some(local) {
                    *known = None;
                }
            }
        }
    }
}

fn is_comparison(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::I32Eqz
            | Operator::I32Eq
            | Operator::I32Ne
            | Operator::I32LtS
            | Operator::I32LtU
            | Operator::I32GtS
            | Operator::I32GtU
            | Operator::I32LeS
            | Operator::I32LeU
            | Operator::I32GeS
            | Operator::I32GeU
            | Operator::I64Eqz
            | Operator::I64Eq
            | Operator::I64Ne
            | Operator::I64LtS
            | Operator::I64LtU
            | Operator::I64GtS
            | Operator::I64GtU
            | Operator::I64LeS
            | Operator::I64LeU
            | Operator::I64GeS
            | Operator::I64GeU
            | Operator::F32Eq
            | Operator::F32Ne
            | Operator::F32Lt
            | Operator::F32Gt
            | Operator::F32Le
            | Operator::F32Ge
            | Operator::F64Eq
            | Operator::F64Ne
            | Operator::F64Lt
            | Operator::F64Gt
            | Operator::F64Le
            | Operator::F64Ge
    )
}

impl ModuleArity for Facts<'_, '_> {
    fn sub_type_at(&self, ty: u32) -> Option<&SubType> {
        self.source.sub_types.get(usize::try_from(ty).ok()?)
    }

    fn tag_type_arity(&self, _at: u32) -> Option<(u32, u32)> {
        None
    }

    fn type_index_of_function(&self, function: u32) -> Option<u32> {
        self.source.functions.get(usize::try_from(function).ok()?).copied()
    }

    fn func_type_of_cont_type(&self, _ty: &ContType) -> Option<&FuncType> {
        None
    }

    fn sub_type_of_ref_type(&self, _ty: &RefType) -> Option<&SubType> {
        None
    }

    fn control_stack_height(&self) -> u32 {
        index(self.frames.len()).unwrap_or(u32::MAX)
    }

    fn label_block(&self, depth: u32) -> Option<(BlockType, FrameKind)> {
        let depth = usize::try_from(depth).ok()?.checked_add(1)?;
        let frame = self.frames.get(self.frames.len().checked_sub(depth)?)?;
        Some((frame.ty, frame.kind))
    }
}
