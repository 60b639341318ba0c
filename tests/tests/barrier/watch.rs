//! Watches a rewritten module from inside: before each write to the data memory it looks whether
//! the cards of all bytes are marked by then.
//!
//! Comparing images afterwards can't see a store of what was there already, nor a mark that comes
//! after its write. This sees both.

use std::convert::Infallible;

use host::pure::barrier::{Layout, OVERRUN};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, Function, FunctionSection, Instruction as I, MemArg, Module,
    TypeSection, ValType,
};
use wasmparser::{FunctionBody, FunctionSectionReader, Operator, Parser, TypeSectionReader};

/// Types of the values that stores write.
const VALUES: [ValType; 5] =
    [ValType::I32, ValType::I64, ValType::F32, ValType::F64, ValType::V128];

/// Offset in a control memory of the word where the watch notes the first address that it found
/// unmarked, plus one. The last bytes of the state area are never in use.
pub(super) fn note_offset(layout: &Layout) -> usize {
    usize::try_from(layout.state_offset).unwrap() + (64 << 10) - 8
}

/// The module with a look at the cards before each write. A module without a control memory has
/// nothing to look at.
pub(super) fn watched(module: &[u8], layout: &Layout) -> Vec<u8> {
    let mut watch = Watch::new(module, layout);
    let mut watched = Module::new();
    watch.parse_core_module(&mut watched, Parser::new(0), module).unwrap();
    watched.finish()
}

struct Watch {
    shift: u32,
    note: u64,
    /// Index of the control memory; 0 when there is no data memory to watch.
    control: u32,
    types: u32,
    functions: u32,
}

impl Watch {
    fn new(module: &[u8], layout: &Layout) -> Self {
        let (mut memories, mut types, mut functions) = (0, 0, 0);
        for payload in Parser::new(0).parse_all(module) {
            match payload.unwrap() {
                wasmparser::Payload::TypeSection(section) => types = section.count(),
                wasmparser::Payload::FunctionSection(section) => functions += section.count(),
                wasmparser::Payload::MemorySection(section) => memories += section.count(),
                wasmparser::Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import.unwrap().ty {
                            wasmparser::TypeRef::Func(_) => functions += 1,
                            wasmparser::TypeRef::Memory(_) => memories += 1,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let control = u32::from(memories == 2);
        let note = note_offset(layout) as u64;
        Self { shift: layout.card_shift, note, control, types, functions }
    }

    /// The function `(address) -> whether its byte counts as dirty`.
    fn is_dirty(&self) -> u32 {
        self.functions
    }

    /// The function that looks before a store of a value of this type.
    fn look(&self, ty: ValType) -> u32 {
        let position = VALUES.iter().position(|value| *value == ty).unwrap() as u32;
        self.functions + 1 + position
    }

    /// The function that looks before a bulk operation.
    fn look_at_range(&self) -> u32 {
        self.functions + 1 + VALUES.len() as u32
    }

    fn arg(&self, offset: u64) -> MemArg {
        MemArg { offset, align: 0, memory_index: self.control }
    }

    /// `(address: i64) -> i32`
    fn dirty_function(&self) -> Vec<I<'static>> {
        let card = [I::I64Const(i64::from(self.shift)), I::I64ShrU, I::I32WrapI64];
        let load = I::I32Load8U(self.arg(0));
        let mut code = vec![I::LocalGet(0)];
        code.extend(card.clone());
        code.push(load.clone());
        // The bytes after a dirty card belong to it. There is none before the first card.
        let overrun = i64::from(OVERRUN);
        code.extend([I::LocalGet(0), I::I64Const(overrun), I::I64Sub, I::I64Const(0)]);
        code.extend([I::LocalGet(0), I::I64Const(overrun), I::I64GeU, I::Select]);
        code.extend(card);
        code.extend([load, I::I32Or, I::End]);
        code
    }

    /// Notes the address in local `address` unless the byte there counts as dirty.
    fn note_unless_dirty(&self, address: u32) -> Vec<I<'static>> {
        vec![
            I::LocalGet(address),
            I::Call(self.is_dirty()),
            I::I32Eqz,
            I::If(BlockType::Empty),
            I::I32Const(0),
            I::LocalGet(address),
            I::I64Const(1),
            I::I64Add,
            I::I64Store(self.arg(self.note)),
            I::End,
        ]
    }

    /// Leaves the function when `end` (in a local) is beyond memory: then the write traps.
    fn leave_beyond_memory(end: u32, results: &[u32]) -> Vec<I<'static>> {
        let mut code = vec![I::LocalGet(end), I::MemorySize(0), I::I64ExtendI32U];
        code.extend([I::I64Const(16), I::I64Shl, I::I64GtU, I::If(BlockType::Empty)]);
        code.extend(results.iter().map(|result| I::LocalGet(*result)));
        code.extend([I::Return, I::End]);
        code
    }

    /// `(address: i32, value, offset: i64, bytes: i64) -> (address, value)`
    fn store_function(&self) -> Function {
        const FIRST: u32 = 4;
        const END: u32 = 5;
        let mut function = Function::new([(2, ValType::I64)]);
        let mut code = vec![I::LocalGet(0), I::I64ExtendI32U, I::LocalGet(2), I::I64Add];
        code.extend([I::LocalTee(FIRST), I::LocalGet(3), I::I64Add, I::LocalSet(END)]);
        code.extend(Self::leave_beyond_memory(END, &[0, 1]));
        code.extend(self.note_unless_dirty(FIRST));
        // What is written is shorter than a card: with both ends, all of it is dirty.
        code.extend([I::LocalGet(END), I::I64Const(1), I::I64Sub, I::LocalSet(END)]);
        code.extend(self.note_unless_dirty(END));
        code.extend([I::LocalGet(0), I::LocalGet(1), I::End]);
        append(&mut function, &code);
        function
    }

    /// `(destination: i32, x: i32, len: i32) -> (destination, x, len)`
    fn range_function(&self) -> Function {
        const AT: u32 = 3;
        const END: u32 = 4;
        const LAST: u32 = 5;
        let mut function = Function::new([(3, ValType::I64)]);
        let mut code = vec![I::LocalGet(0), I::I64ExtendI32U, I::LocalTee(AT)];
        code.extend([I::LocalGet(2), I::I64ExtendI32U, I::I64Add, I::LocalSet(END)]);
        code.extend(Self::leave_beyond_memory(END, &[0, 1, 2]));
        // Card by card: the first and the last byte that is written of each.
        code.extend([I::Block(BlockType::Empty), I::Loop(BlockType::Empty)]);
        code.extend([I::LocalGet(AT), I::LocalGet(END), I::I64GeU, I::BrIf(1)]);
        code.extend(self.note_unless_dirty(AT));
        let mask = (1_i64 << self.shift) - 1;
        code.extend([I::LocalGet(AT), I::I64Const(mask), I::I64Or, I::LocalSet(AT)]);
        code.extend([I::LocalGet(END), I::I64Const(1), I::I64Sub, I::LocalTee(LAST)]);
        code.extend([I::LocalGet(AT), I::LocalGet(LAST), I::LocalGet(AT), I::I64LtU]);
        code.extend([I::Select, I::LocalSet(LAST)]);
        code.extend(self.note_unless_dirty(LAST));
        code.extend([I::LocalGet(AT), I::I64Const(1), I::I64Add, I::LocalSet(AT), I::Br(0)]);
        code.extend([I::End, I::End, I::LocalGet(0), I::LocalGet(1), I::LocalGet(2), I::End]);
        append(&mut function, &code);
        function
    }

    /// What is put before an operator.
    fn before(&self, operator: &Operator<'_>) -> Vec<I<'static>> {
        if let Some((value, bytes, memarg)) = store_of(operator) {
            if memarg.memory != 0 {
                return Vec::new();
            }
            let offset = I::I64Const(memarg.offset as i64);
            return vec![offset, I::I64Const(bytes), I::Call(self.look(value))];
        }
        match operator {
            Operator::MemoryFill { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryInit { .. } => vec![I::Call(self.look_at_range())],
            _ => Vec::new(),
        }
    }
}

impl Reencode for Watch {
    type Error = Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_type_section(self, types, section)?;
        if self.control != 0 {
            types.ty().function([ValType::I64], [ValType::I32]);
            for value in VALUES {
                let parameters = [ValType::I32, value, ValType::I64, ValType::I64];
                types.ty().function(parameters, [ValType::I32, value]);
            }
            types.ty().function([ValType::I32; 3], [ValType::I32; 3]);
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_function_section(self, functions, section)?;
        if self.control != 0 {
            for added in 0..VALUES.len() as u32 + 2 {
                functions.function(self.types + added);
            }
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_code_section(self, code, section)?;
        if self.control != 0 {
            let mut dirty = Function::new([]);
            append(&mut dirty, &self.dirty_function());
            code.function(&dirty);
            for _ in VALUES {
                code.function(&self.store_function());
            }
            code.function(&self.range_function());
        }
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), Error<Infallible>> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            if self.control != 0 {
                append(&mut function, &self.before(&operator));
            }
            function.instruction(&self.instruction(operator)?);
        }
        code.function(&function);
        Ok(())
    }
}

fn append(function: &mut Function, code: &[I<'_>]) {
    for instruction in code {
        function.instruction(instruction);
    }
}

/// Type of the value, bytes and place of a store.
fn store_of<'a>(operator: &'a Operator<'_>) -> Option<(ValType, i64, &'a wasmparser::MemArg)> {
    Some(match operator {
        Operator::I32Store { memarg } => (ValType::I32, 4, memarg),
        Operator::I32Store8 { memarg } => (ValType::I32, 1, memarg),
        Operator::I32Store16 { memarg } => (ValType::I32, 2, memarg),
        Operator::I64Store { memarg } => (ValType::I64, 8, memarg),
        Operator::I64Store8 { memarg } => (ValType::I64, 1, memarg),
        Operator::I64Store16 { memarg } => (ValType::I64, 2, memarg),
        Operator::I64Store32 { memarg } => (ValType::I64, 4, memarg),
        Operator::F32Store { memarg } => (ValType::F32, 4, memarg),
        Operator::F64Store { memarg } => (ValType::F64, 8, memarg),
        Operator::V128Store { memarg } => (ValType::V128, 16, memarg),
        Operator::V128Store8Lane { memarg, .. } => (ValType::V128, 1, memarg),
        Operator::V128Store16Lane { memarg, .. } => (ValType::V128, 2, memarg),
        Operator::V128Store32Lane { memarg, .. } => (ValType::V128, 4, memarg),
        Operator::V128Store64Lane { memarg, .. } => (ValType::V128, 8, memarg),
        _ => return None,
    })
}
