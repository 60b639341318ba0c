//! Makes modules that store a lot, in the shapes that the barrier treats specially: runs of stores
//! to one base, bases a constant apart, loops that walk, branches out of blocks that mark, many
//! branches of many locals, operands that lie around while other code runs.

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataCountSection, DataSection, ExportKind, ExportSection,
    Function, FunctionSection, GlobalSection, GlobalType, Instruction as I, MemArg, MemorySection,
    MemoryType, Module, TypeSection, ValType,
};

/// Exported functions of a generated module, named `f0`, `f1` and so on.
pub(super) const FUNCTIONS: u32 = 3;

/// What the code of a function can reach.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    /// Statements of its body at most.
    pub(super) statements: u32,
    /// Functions `(i32, i32) -> i32`.
    pub(super) functions: Vec<u32>,
    /// Functions `(i32, i32)` of the host, which write to where their last parameter points.
    pub(super) hosts: Vec<u32>,
    /// Elements of tables that hold functions of either kind.
    pub(super) elements: Vec<Element>,
    /// Mutable globals.
    pub(super) globals: Vec<(u32, ValType)>,
    /// Immutable numeric globals.
    pub(super) constants: Vec<(u32, ValType)>,
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            statements: 90,
            functions: Vec::new(),
            hosts: Vec::new(),
            elements: Vec::new(),
            globals: Vec::new(),
            constants: Vec::new(),
        }
    }
}

/// An element of a table that holds a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    pub(super) table: u32,
    pub(super) index: u32,
    /// One of the kinds of functions: their types are 0 and 1, in any module.
    pub(super) is_host: bool,
}

/// The kinds of functions, as types 0 and 1.
pub(super) fn types() -> TypeSection {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32; 2], [ValType::I32]);
    types.ty().function([ValType::I32; 2], []);
    types
}

/// A function of type 0 with a body from the dice.
pub(super) fn function(dice: &mut Dice, reach: &Reach) -> Function {
    Writer::new(dice, reach).function()
}

/// Locals by type: the first two are parameters.
const I32: [u32; 6] = [0, 1, 2, 3, 4, 5];
const I64: u32 = 6;
const F32: u32 = 7;
const F64: u32 = 8;
const V128: u32 = 9;
/// Counters of loops, one per nesting.
const COUNTERS: u32 = 10;
const NESTING_MAX: u32 = 4;

/// Numbers from a seed: xorshift.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 33) % u64::from(sides)) as u32
    }

    pub(super) fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.roll(items.len() as u32) as usize]
    }
}

/// A module from a seed.
pub(super) fn module(seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut module = Module::new();
    module.section(&types());
    let mut functions = FunctionSection::new();
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    for function in 0..FUNCTIONS {
        functions.function(0);
        exports.export(&format!("f{function}"), ExportKind::Func, function);
    }
    module.section(&functions);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 2,
        maximum: Some(4),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    module.section(&memories);
    let mut globals = GlobalSection::new();
    for val_type in [ValType::I32, ValType::I64] {
        let ty = GlobalType { val_type, mutable: true, shared: false };
        let start = if val_type == ValType::I32 {
            ConstExpr::i32_const(0x8000)
        } else {
            ConstExpr::i64_const(-7)
        };
        globals.global(ty, &start);
    }
    module.section(&globals);
    module.section(&exports);
    module.section(&DataCountSection { count: 2 });
    let mut code = CodeSection::new();
    for number in 0..FUNCTIONS {
        let globals = vec![(0, ValType::I32), (1, ValType::I64)];
        let reach = Reach { functions: (0..number).collect(), globals, ..Reach::default() };
        code.function(&function(&mut dice, &reach));
    }
    module.section(&code);
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(4090), *b"active segment over two cards");
    data.passive(*b"passive segment that is copied by memory.init");
    module.section(&data);
    module.finish()
}

struct Writer<'d> {
    dice: &'d mut Dice,
    reach: &'d Reach,
    code: Vec<I<'static>>,
    /// Open blocks: true for those that a branch forward may leave.
    open: Vec<bool>,
    loops: u32,
    budget: u32,
}

impl<'d> Writer<'d> {
    fn new(dice: &'d mut Dice, reach: &'d Reach) -> Self {
        Self { dice, reach, code: Vec::new(), open: Vec::new(), loops: 0, budget: reach.statements }
    }

    fn function(mut self) -> Function {
        let mut locals = vec![(4, ValType::I32), (1, ValType::I64), (1, ValType::F32)];
        locals.extend([(1, ValType::F64), (1, ValType::V128), (NESTING_MAX, ValType::I32)]);
        // Locals that only cost those who compare them where branches meet.
        locals.push((self.dice.of(&[0, 0, 0, 30, 300]), ValType::I32));
        let mut function = Function::new(locals);
        // Most addresses start well within memory: what traps at once tests little.
        for local in I32 {
            let constant = self.dice.roll(0x1000) as i32 + 2000;
            self.code.extend([I::LocalGet(local % 2), I::I32Const(0xffff), I::I32And]);
            self.code.extend([I::I32Const(constant), I::I32Add]);
            let exact = local < 2 && self.dice.roll(8) == 0;
            self.code.push(if exact { I::Drop } else { I::LocalSet(local) });
        }
        self.statements();
        let result = self.dice.of(&I32);
        self.code.extend([I::LocalGet(result), I::End]);
        for instruction in &self.code {
            function.instruction(instruction);
        }
        function
    }

    fn statements(&mut self) {
        for _ in 0..=self.dice.roll(7) {
            if self.budget == 0 {
                return;
            }
            self.budget -= 1;
            self.statement();
        }
    }

    fn statement(&mut self) {
        match self.dice.roll(28) {
            0..=8 => self.store(),
            9..=12 => self.assign(),
            13 | 14 if self.open.len() < 6 => self.conditional(),
            15 | 16 if self.open.len() < 6 => self.block(),
            17..=19 if self.loops < NESTING_MAX => self.counted_loop(),
            20 => self.bulk(),
            21 => self.global(),
            22 => self.leave(),
            23 => self.rare(),
            24 => self.call(),
            25 => self.host_call(),
            26 => self.many_branches(),
            27 => self.operands_below(),
            _ => self.run_of_stores(),
        }
    }

    /// An address: mostly within memory, sometimes at its edges or at those of the address space.
    fn address(&mut self) {
        let local = self.dice.of(&I32);
        match self.dice.roll(10) {
            0..=3 => self.code.push(I::LocalGet(local)),
            4 => {
                let constant = self.constant();
                self.code.extend([I::LocalGet(local), I::I32Const(constant), I::I32Add]);
            }
            5 => {
                let constant = self.dice.roll(20) as i32 * 8;
                self.code.extend([I::LocalGet(local), I::I32Const(constant), I::I32Sub]);
            }
            6 => {
                let other = self.dice.of(&I32);
                let factor = self.dice.roll(140) as i32 - 10;
                self.code.extend([I::LocalGet(local), I::LocalGet(other), I::LocalGet(local)]);
                self.code.extend([I::I32LtU, I::I32Const(factor), I::I32Mul, I::I32Add]);
            }
            7 => {
                let constant = self.dice.roll(0x2_0000) as i32;
                self.code.push(I::I32Const(constant));
            }
            8 => {
                let other = self.dice.of(&I32);
                self.code.extend([I::LocalGet(local), I::LocalGet(other), I::I32Const(15)]);
                self.code.extend([I::I32And, I::I32Const(4), I::I32Mul, I::I32Add]);
            }
            _ => self.code.extend([I::LocalGet(local), I::I32Const(0xfff8), I::I32And]),
        }
    }

    fn constant(&mut self) -> i32 {
        let near = self.dice.roll(300) as i32 - 150;
        let edge = self.dice.of(&[0xffff, 0x1_ffff, 0x1_0000, -1, -16, i32::MIN]);
        if self.dice.roll(50) == 0 { edge } else { near }
    }

    fn offset(&mut self) -> u64 {
        match self.dice.roll(60) {
            0..=29 => u64::from(self.dice.roll(16)) * 8,
            30..=55 => u64::from(self.dice.roll(300)),
            56..=58 => u64::from(self.dice.roll(0x8000)),
            _ => self.dice.of(&[0xffff_fff0, 0x8000_0000, 0xfff8, 4095]),
        }
    }

    fn store(&mut self) {
        self.address();
        let memarg = MemArg { offset: self.offset(), align: 0, memory_index: 0 };
        self.store_at(memarg);
    }

    /// Writes a value and a store, the address being on the stack.
    fn store_at(&mut self, arg: MemArg) {
        let local = self.dice.of(&I32);
        let lane = self.dice.roll(2) as u8;
        let kinds = [
            (local, I::I32Store(arg)),
            (local, I::I32Store8(arg)),
            (local, I::I32Store16(arg)),
            (I64, I::I64Store(arg)),
            (I64, I::I64Store8(arg)),
            (I64, I::I64Store16(arg)),
            (I64, I::I64Store32(arg)),
            (F32, I::F32Store(arg)),
            (F64, I::F64Store(arg)),
            (V128, I::V128Store(arg)),
            (V128, I::V128Store8Lane { memarg: arg, lane }),
            (V128, I::V128Store16Lane { memarg: arg, lane }),
            (V128, I::V128Store32Lane { memarg: arg, lane }),
            (V128, I::V128Store64Lane { memarg: arg, lane }),
        ];
        let (value, store) = kinds[self.dice.roll(kinds.len() as u32) as usize].clone();
        self.code.push(I::LocalGet(value));
        if value == local && self.dice.roll(3) == 0 {
            // The address may have been read from this local, before.
            let constant = self.constant();
            self.code.extend([I::I32Const(constant), I::I32Add, I::LocalTee(local)]);
        }
        self.code.push(store);
    }

    fn run_of_stores(&mut self) {
        let base = self.dice.of(&I32);
        for _ in 0..=self.dice.roll(5) {
            self.code.push(I::LocalGet(base));
            let memarg = MemArg { offset: self.offset(), align: 0, memory_index: 0 };
            self.store_at(memarg);
        }
    }

    fn assign(&mut self) {
        let to = self.dice.of(&I32);
        match self.dice.roll(8) {
            0 => {
                self.code.extend([I::LocalGet(to), I::I64ExtendI32U, I::LocalGet(I64), I::I64Add]);
                self.code.push(I::LocalSet(I64));
            }
            1 => self.code.extend([I::LocalGet(to), I::F64ConvertI32U, I::LocalSet(F64)]),
            2 => self.code.extend([I::LocalGet(to), I::F32ConvertI32S, I::LocalSet(F32)]),
            3 => self.code.extend([I::LocalGet(to), I::I8x16Splat, I::LocalSet(V128)]),
            4 => {
                let memarg = MemArg { offset: 0, align: 2, memory_index: 0 };
                let at = self.dice.roll(0x4000) as i32;
                self.code.extend([I::I32Const(at), I::I32Load(memarg)]);
                self.code.extend([I::I32Const(0x1_fff8), I::I32And, I::LocalSet(to)]);
            }
            _ => {
                self.address();
                let tee = self.dice.roll(3) == 0;
                let drop = [I::LocalTee(to), I::Drop];
                if tee { self.code.extend(drop) } else { self.code.push(I::LocalSet(to)) }
            }
        }
    }

    fn condition(&mut self) {
        let (left, right) = (self.dice.of(&I32), self.dice.of(&I32));
        self.code.extend([I::LocalGet(left), I::LocalGet(right)]);
        let compare = [I::I32LtU, I::I32Eq, I::I32GtS, I::I32And];
        self.code.push(compare[self.dice.roll(4) as usize].clone());
    }

    fn conditional(&mut self) {
        self.condition();
        self.code.push(I::If(BlockType::Empty));
        self.open.push(true);
        self.statements();
        if self.dice.roll(2) == 0 {
            self.code.push(I::Else);
            self.statements();
        }
        self.code.push(I::End);
        self.open.pop();
    }

    fn block(&mut self) {
        self.code.push(I::Block(BlockType::Empty));
        self.open.push(true);
        self.statements();
        self.code.push(I::End);
        self.open.pop();
    }

    /// A loop of a few turns whose bases walk.
    fn counted_loop(&mut self) {
        let counter = COUNTERS + self.loops;
        let turns = self.dice.roll(40) as i32 + 1;
        self.code.extend([I::I32Const(turns), I::LocalSet(counter), I::Loop(BlockType::Empty)]);
        self.loops += 1;
        self.open.push(false);
        self.statements();
        let walker = self.dice.of(&I32);
        let step = self.dice.of(&[1, 4, 8, 16, 64, -8, 200]);
        self.code.push(I::LocalGet(walker));
        self.store_at(MemArg { offset: 0, align: 0, memory_index: 0 });
        self.code.extend([I::LocalGet(walker), I::I32Const(step), I::I32Add, I::LocalSet(walker)]);
        self.code.extend([I::LocalGet(counter), I::I32Const(1), I::I32Sub, I::LocalTee(counter)]);
        // Two ways to turn: a conditional branch at the end, or an `if` around an unconditional
        // one.
        if self.dice.roll(2) == 0 {
            self.code.push(I::BrIf(0));
        } else {
            self.code.extend([I::If(BlockType::Empty), I::Br(1), I::End]);
        }
        self.statements();
        self.code.push(I::End);
        self.open.pop();
        self.loops -= 1;
    }

    fn bulk(&mut self) {
        self.address();
        let len = match self.dice.roll(4) {
            0 => self.dice.roll(0x3000) as i32,
            1 => self.dice.of(&[0, 128, 129, 4096, 0x2_0000, -1]),
            _ => self.dice.roll(140) as i32,
        };
        let (dst_mem, src_mem) = (0, 0);
        match self.dice.roll(3) {
            0 => {
                let value = self.dice.of(&I32);
                self.code.extend([I::LocalGet(value), I::I32Const(len), I::MemoryFill(0)]);
            }
            1 => {
                self.address();
                self.code.extend([I::I32Const(len), I::MemoryCopy { src_mem, dst_mem }]);
            }
            _ => {
                let data_index = self.dice.roll(2);
                self.code.extend([I::I32Const(1), I::I32Const(len.min(44))]);
                self.code.push(I::MemoryInit { mem: 0, data_index });
            }
        }
    }

    fn global(&mut self) {
        let is_constant = !self.reach.constants.is_empty() && self.dice.roll(4) == 0;
        let globals = if is_constant { &self.reach.constants } else { &self.reach.globals };
        if globals.is_empty() {
            return;
        }
        let (global, ty) = self.dice.of(globals);
        let local = match ty {
            ValType::I64 => I64,
            ValType::F32 => F32,
            ValType::F64 => F64,
            ValType::V128 => V128,
            _ => self.dice.of(&I32),
        };
        if is_constant || self.dice.roll(2) == 0 {
            self.code.extend([I::GlobalGet(global), I::LocalSet(local)]);
        } else {
            self.code.extend([I::LocalGet(local), I::GlobalSet(global)]);
        }
    }

    /// A call of another function, by its name or through a table.
    fn call(&mut self) {
        let (left, right) = (self.dice.of(&I32), self.dice.of(&I32));
        let call = match self.element(false) {
            Some(element) => self.call_element(element),
            None if self.reach.functions.is_empty() => return,
            None => vec![I::Call(self.dice.of(&self.reach.functions))],
        };
        self.code.extend([I::LocalGet(left), I::LocalGet(right)]);
        self.code.extend(call);
        self.code.push(I::LocalSet(right));
    }

    /// A call of the host that writes a result to memory, mostly where that can be.
    fn host_call(&mut self) {
        let (seed, area) = (self.dice.of(&I32), self.dice.of(&I32));
        let call = match self.element(true) {
            Some(element) => self.call_element(element),
            None if self.reach.hosts.is_empty() => return,
            None => vec![I::Call(self.dice.of(&self.reach.hosts))],
        };
        self.code.extend([I::LocalGet(seed), I::I32Const(63), I::I32And]);
        match self.dice.roll(8) {
            0 => self.address(),
            1 => self.code.push(I::I32Const(self.dice.of(&[4088, 65_528, 131_064, 0]))),
            _ => self.code.extend([I::LocalGet(area), I::I32Const(0xfff8), I::I32And]),
        }
        self.code.extend(call);
    }

    /// An element of this kind, or none in half of the cases where there is another way.
    fn element(&mut self, is_host: bool) -> Option<Element> {
        let others = if is_host { &self.reach.hosts } else { &self.reach.functions };
        let elements = self.reach.elements.iter().filter(|element| element.is_host == is_host);
        let elements: Vec<Element> = elements.copied().collect();
        if elements.is_empty() || (!others.is_empty() && self.dice.roll(2) == 0) {
            return None;
        }
        Some(self.dice.of(&elements))
    }

    fn call_element(&self, element: Element) -> Vec<I<'static>> {
        let (type_index, table_index) = (u32::from(element.is_host), element.table);
        let index = element.index as i32;
        vec![I::I32Const(index), I::CallIndirect { type_index, table_index }]
    }

    /// Branches out of one block, each of which compares all locals.
    fn many_branches(&mut self) {
        self.code.push(I::Block(BlockType::Empty));
        for _ in 0..=self.dice.roll(12) {
            self.condition();
            self.code.extend([I::I32Const(0x7fff_0000), I::I32And, I::BrIf(0)]);
        }
        self.code.push(I::End);
    }

    /// Statements over operands of before: where the barrier loses count, these lie on top.
    fn operands_below(&mut self) {
        let count = self.dice.roll(3) + 1;
        for _ in 0..count {
            self.address();
        }
        // A branch out of here leaves them behind.
        self.statements();
        for _ in 0..count {
            self.code.push(I::Drop);
        }
    }

    /// Leaves an open block, conditionally or not.
    fn leave(&mut self) {
        let targets: Vec<u32> = (0..self.open.len())
            .filter(|depth| self.open[self.open.len() - 1 - depth])
            .map(|depth| depth as u32)
            .collect();
        let Some(&target) = targets.get(self.dice.roll(targets.len() as u32 + 1) as usize) else {
            return;
        };
        self.condition();
        match self.dice.roll(6) {
            0 => self.code.extend([I::Drop, I::Br(target)]),
            1 => self.code.push(I::BrTable([target, targets[0]].to_vec().into(), target)),
            _ => self.code.push(I::BrIf(target)),
        }
    }

    fn rare(&mut self) {
        let left = self.dice.of(&I32);
        match self.dice.roll(6) {
            0 => self.code.extend([I::I32Const(1), I::MemoryGrow(0), I::LocalSet(left)]),
            2 => {
                self.condition();
                self.code.extend([I::If(BlockType::Empty), I::Unreachable, I::End]);
            }
            _ => self.store(),
        }
    }
}
