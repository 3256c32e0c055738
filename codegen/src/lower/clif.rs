//! Tile programs as Cranelift IR: a vector is four registers of 128 bits. Runs on every host that Cranelift
//! supports, and gives the bits that the wider lowerings give.

mod bits;
mod codes;
mod quads;
mod scatter;
mod tables;

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlot, Type, Value, types};
use cranelift_frontend::{FunctionBuilder, Variable};

use crate::tile::program::{FIRST_LOCAL, MAX_LOCALS};
use crate::tile::{Bin, Cmp, Inst, LANES, Mem, P, Program, Src, Un, V};

/// What a vector is made of.
const PART: Type = types::F32X4;
const PART_LANES: usize = 4;
const PARTS: usize = LANES / PART_LANES;

/// Whether fused multiply-add is an instruction of the host, not a call.
pub(crate) type HasFma = bool;

/// Emits a program into a function whose parameters are its pointers; ends with the block open.
pub(crate) fn lower(b: &mut FunctionBuilder<'_>, pointers: &[Value], program: &Program, has_fma: HasFma) {
    let pointers = (0..FIRST_LOCAL + MAX_LOCALS)
        .map(|i| {
            let variable = b.declare_var(types::I64);
            if let Some(&value) = pointers.get(i) {
                b.def_var(variable, value);
            }
            variable
        })
        .collect();
    let mut lowering = Lowering { b, pointers, vectors: Vec::new(), table: None, has_fma };
    lowering.block(&program.insts);
}

struct Lowering<'a, 'f> {
    b: &'a mut FunctionBuilder<'f>,
    pointers: Vec<Variable>,
    /// By register, made when first met.
    vectors: Vec<Option<[Variable; PARTS]>>,
    /// Where tables are laid out.
    table: Option<StackSlot>,
    has_fma: HasFma,
}

impl Lowering<'_, '_> {
    fn block(&mut self, insts: &[Inst]) {
        for inst in insts {
            self.inst(inst);
        }
    }

    fn inst(&mut self, inst: &Inst) {
        match inst {
            Inst::Set(d, s) => self.each_of(*d, *s, |_, _, s| s),
            Inst::LoadLanes(d, m, n) => {
                let n = usize::from(*n);
                self.each(*d, |l, part| l.load_lanes(*m, part, n));
            }
            Inst::Store(m, v) => {
                for part in 0..PARTS {
                    let value = self.get(*v, part);
                    self.store(value, *m, part * 16);
                }
            }
            Inst::StoreLanes(m, v, n) => {
                for part in 0..PARTS {
                    let value = self.get(*v, part);
                    match usize::from(*n).saturating_sub(part * PART_LANES).min(PART_LANES) {
                        PART_LANES => self.store(value, *m, part * 16),
                        n => {
                            for lane in 0..n {
                                let index = u8::try_from(lane).expect("below 4");
                                let value = self.b.ins().extractlane(value, index);
                                self.store(value, *m, part * 16 + lane * 4);
                            }
                        }
                    }
                }
            }
            Inst::Bin(op, d, a, s) => self.each_of(*d, *s, |l, part, s| {
                let a = l.get(*a, part);
                l.bin(*op, a, s)
            }),
            Inst::Un(op, d, a) => self.each(*d, |l, part| {
                let a = l.get(*a, part);
                l.un(*op, a)
            }),
            Inst::Fma(d, a, s) => self.each_of(*d, *s, |l, part, s| {
                let (sum, a) = (l.get(*d, part), l.get(*a, part));
                l.fma(a, s, sum)
            }),
            Inst::MulAdd(d, a, s) => self.each_of(*d, *s, |l, part, s| {
                let (x, a) = (l.get(*d, part), l.get(*a, part));
                l.fma(x, a, s)
            }),
            Inst::Select { d, cmp, a, s, x, y } => self.each_of(*d, *s, |l, part, s| {
                let a = l.get(*a, part);
                let (x, y) = (l.get(*x, part), l.get(*y, part));
                let condition = match cmp {
                    Cmp::Less => FloatCC::LessThan,
                    Cmp::Greater => FloatCC::GreaterThan,
                    Cmp::Equal => FloatCC::Equal,
                };
                let holds = l.b.ins().fcmp(condition, a, s);
                l.choose(holds, x, y)
            }),
            Inst::Swap(d, a, distance) => self.swap(*d, *a, *distance),
            Inst::Merge(d, s, n) => {
                let n = usize::from(*n);
                self.each(*d, |l, part| {
                    let (kept, taken) = (l.get(*d, part), l.get(*s, part));
                    match n.saturating_sub(part * PART_LANES).min(PART_LANES) {
                        0 => taken,
                        PART_LANES => kept,
                        n => l.shuffle(kept, taken, std::array::from_fn(|i| if i < n { i } else { PART_LANES + i })),
                    }
                });
            }
            Inst::Interleave { d, a, b, width, high } => self.interleave(*d, *a, *b, *width, *high),
            Inst::Deinterleave { d, a, b, odd } => self.deinterleave(*d, [*a, *b], *odd),
            Inst::StoreFour(m, v, four) => {
                let value = self.get(*v, usize::from(*four));
                self.store(value, *m, 0);
            }
            Inst::Shr(d, a, n) => self.each_of(*d, *a, |l, _, a| l.shr(a, i64::from(*n))),
            Inst::Lookup { d, index, low, high } => {
                let table: Vec<V> = [*low].into_iter().chain(*high).collect();
                self.lookup(*d, *index, &table);
            }
            Inst::BitSelect { d, mask, x, y } => self.each(*d, |l, part| {
                let [mask, x, y] = [*mask, *x, *y].map(|v| l.get(v, part));
                l.b.ins().bitselect(mask, x, y)
            }),
            Inst::CountOnes(d, a) => self.each(*d, |l, part| {
                let a = l.get(*a, part);
                l.count_ones(a)
            }),
            Inst::StoreBits(m, cmp, a) => self.store_bits(*m, *cmp, *a),
            Inst::Warm(..) => {}
            Inst::Scatter { to, at, v, lanes, .. } => self.scatter(*to, *at, *v, usize::from(*lanes)),
            Inst::LookupBytes(_) => unreachable!("only wide vectors look up bytes"),
            Inst::LoadBytes(d, m) => self.load_bytes(*d, *m),
            Inst::LoadSigned(d, m) => self.load_signed(*d, *m),
            Inst::LoadQuads(d, m) => self.load_quads(*d, *m),
            Inst::StoreBytes(m, v) => self.store_bytes(*m, *v),
            Inst::Dot4 { d, x, w } => self.each_of(*d, *w, |l, part, w| {
                let (sum, x) = (l.get(*d, part), l.get(*x, part));
                l.dot4(sum, x, w)
            }),
            Inst::Advance(p, bytes) => {
                let at = self.pointer(*p);
                let moved = self.b.ins().iadd_imm_s(at, *bytes);
                self.b.def_var(self.pointers[usize::from(p.0)], moved);
            }
            Inst::Follow { d, base, at, .. } => {
                let offset = self.load(types::I32, *at, 0);
                let offset = self.b.ins().sextend(types::I64, offset);
                let base = self.pointer(*base);
                let at = self.b.ins().iadd(base, offset);
                self.b.def_var(self.pointers[usize::from(d.0)], at);
            }
            Inst::Loop(count, body) => {
                let count = i64::try_from(*count).expect("loops are short");
                let count = self.b.ins().iconst(types::I64, count);
                self.repeat(count, body);
            }
            Inst::Repeat(count, body) => {
                let count = self.load(types::I32, *count, 0);
                let count = self.b.ins().uextend(types::I64, count);
                let (some, exit) = (self.b.create_block(), self.b.create_block());
                self.b.ins().brif(count, some, &[], exit, &[]);
                self.b.switch_to_block(some);
                self.b.seal_block(some);
                self.repeat(count, body);
                self.b.ins().jump(exit, &[]);
                self.b.switch_to_block(exit);
                self.b.seal_block(exit);
            }
        }
    }

    /// Runs a body `count` times, at least once.
    fn repeat(&mut self, count: Value, body: &[Inst]) {
        let counter = self.b.declare_var(types::I64);
        self.b.def_var(counter, count);
        let (inside, exit) = (self.b.create_block(), self.b.create_block());
        self.b.ins().jump(inside, &[]);
        self.b.switch_to_block(inside);
        self.block(body);
        let left = self.b.use_var(counter);
        let left = self.b.ins().iadd_imm_s(left, -1);
        self.b.def_var(counter, left);
        self.b.ins().brif(left, inside, &[], exit, &[]);
        self.b.seal_block(inside);
        self.b.switch_to_block(exit);
        self.b.seal_block(exit);
    }

    /// Sets every part of a vector to what `part` gives for it; none is changed before all are computed.
    fn each(&mut self, d: V, mut part: impl FnMut(&mut Self, usize) -> Value) {
        let values: [Value; PARTS] = std::array::from_fn(|i| part(self, i));
        let variables = self.variables(d);
        for (variable, value) in variables.into_iter().zip(values) {
            self.b.def_var(variable, value);
        }
    }

    /// As [`Lowering::each`], given the part of an operand. A number is spread over lanes once for all parts,
    /// since nothing after this would find out that they are the same.
    fn each_of(&mut self, d: V, s: Src, mut part: impl FnMut(&mut Self, usize, Value) -> Value) {
        let spread = matches!(s, Src::Splat(_) | Src::Const(_)).then(|| self.source(s, 0));
        self.each(d, |l, i| {
            let s = spread.unwrap_or_else(|| l.source(s, i));
            part(l, i, s)
        });
    }

    fn variables(&mut self, v: V) -> [Variable; PARTS] {
        let index = usize::from(v.0);
        if self.vectors.len() <= index {
            self.vectors.resize(index + 1, None);
        }
        match self.vectors[index] {
            Some(variables) => variables,
            None => {
                let variables = std::array::from_fn(|_| self.b.declare_var(PART));
                self.vectors[index] = Some(variables);
                variables
            }
        }
    }

    fn get(&mut self, v: V, part: usize) -> Value {
        let variable = self.variables(v)[part];
        self.b.use_var(variable)
    }

    fn pointer(&mut self, p: P) -> Value {
        self.b.use_var(self.pointers[usize::from(p.0)])
    }

    fn source(&mut self, s: Src, part: usize) -> Value {
        match s {
            Src::Reg(v) => self.get(v, part),
            Src::Mem(m) => self.load(PART, m, part * 16),
            Src::Splat(m) => {
                let scalar = self.load(types::F32, m, 0);
                self.b.ins().splat(PART, scalar)
            }
            Src::Const(x) => self.number(x),
        }
    }

    fn number(&mut self, x: f32) -> Value {
        let scalar = self.b.ins().f32const(x);
        self.b.ins().splat(PART, scalar)
    }

    fn load(&mut self, ty: Type, m: Mem, bytes: usize) -> Value {
        let (at, offset) = (self.pointer(m.base), offset(m, bytes));
        self.b.ins().load(ty, flags(), at, offset)
    }

    fn store(&mut self, value: Value, m: Mem, bytes: usize) {
        let (at, offset) = (self.pointer(m.base), offset(m, bytes));
        self.b.ins().store(flags(), value, at, offset);
    }

    fn load_lanes(&mut self, m: Mem, part: usize, n: usize) -> Value {
        let n = n.saturating_sub(part * PART_LANES).min(PART_LANES);
        if n == PART_LANES {
            return self.load(PART, m, part * 16);
        }
        let mut value = self.number(0.0);
        for lane in 0..n {
            let scalar = self.load(types::F32, m, part * 16 + lane * 4);
            value = self.b.ins().insertlane(value, scalar, u8::try_from(lane).expect("below 4"));
        }
        value
    }

    fn fma(&mut self, x: Value, y: Value, z: Value) -> Value {
        if self.has_fma {
            return self.b.ins().fma(x, y, z);
        }
        let product = self.b.ins().fmul(x, y);
        self.b.ins().fadd(product, z)
    }

    fn bin(&mut self, op: Bin, a: Value, s: Value) -> Value {
        match op {
            Bin::Add => self.b.ins().fadd(a, s),
            Bin::Sub => self.b.ins().fsub(a, s),
            Bin::Mul => self.b.ins().fmul(a, s),
            Bin::Div => self.b.ins().fdiv(a, s),
            Bin::AddInt => {
                let (a, s) = (self.integers(a), self.integers(s));
                let sum = self.b.ins().iadd(a, s);
                self.b.ins().bitcast(PART, lane_order(), sum)
            }
            Bin::PackWords | Bin::PackBytes => self.pack_integers(op, a, s),
            Bin::Xor => self.b.ins().bxor(a, s),
            Bin::Max => {
                let greater = self.b.ins().fcmp(FloatCC::GreaterThan, a, s);
                self.choose(greater, a, s)
            }
            Bin::Min => {
                let less = self.b.ins().fcmp(FloatCC::LessThan, a, s);
                self.choose(less, a, s)
            }
        }
    }

    fn un(&mut self, op: Un, a: Value) -> Value {
        match op {
            Un::Sqrt => self.b.ins().sqrt(a),
            Un::Round => self.b.ins().nearest(a),
            Un::Floor => self.b.ins().floor(a),
            Un::Ceil => self.b.ins().ceil(a),
            Un::Abs => self.b.ins().fabs(a),
            Un::Neg => self.b.ins().fneg(a),
            Un::ToInt => {
                let nearest = self.b.ins().nearest(a);
                let n = self.b.ins().fcvt_to_sint_sat(types::I32X4, nearest);
                self.b.ins().bitcast(PART, lane_order(), n)
            }
            Un::FromInt => {
                let a = self.integers(a);
                self.b.ins().fcvt_from_sint(PART, a)
            }
            Un::Byte(n) => self.byte(a, n),
            Un::TransposeBytes => self.transpose_bytes(a),
            Un::Exp2 => {
                let n = self.b.ins().fcvt_to_sint_sat(types::I32X4, a);
                let bias = self.b.ins().iconst(types::I32, 127);
                let bias = self.b.ins().splat(types::I32X4, bias);
                let n = self.b.ins().iadd(n, bias);
                let bits = self.b.ins().ishl_imm_u(n, 23);
                self.b.ins().bitcast(PART, lane_order(), bits)
            }
        }
    }

    fn choose(&mut self, mask: Value, x: Value, y: Value) -> Value {
        let mask = self.b.ins().bitcast(PART, lane_order(), mask);
        self.b.ins().bitselect(mask, x, y)
    }

    fn swap(&mut self, d: V, a: V, distance: u8) {
        let parts: [Value; PARTS] = std::array::from_fn(|part| self.get(a, part));
        let distance = usize::from(distance);
        self.each(d, |l, part| {
            if distance >= PART_LANES {
                return parts[part ^ (distance / PART_LANES)];
            }
            l.shuffle(parts[part], parts[part], std::array::from_fn(|lane| lane ^ distance))
        });
    }

    fn interleave(&mut self, d: V, a: V, b: V, width: u8, high: bool) {
        let first = usize::from(high);
        self.each(d, |l, part| match width {
            1 | 2 => {
                let (a, b) = (l.get(a, part), l.get(b, part));
                let from = if width == 1 { [0, 4, 1, 5] } else { [0, 1, 4, 5] };
                l.shuffle(a, b, from.map(|lane| lane + 2 * first))
            }
            _ => l.get(if part < PARTS / 2 { a } else { b }, part % 2 * 2 + first),
        });
    }

    fn deinterleave(&mut self, d: V, from: [V; 2], odd: bool) {
        let first = usize::from(odd);
        self.each(d, |l, part| {
            let (source, at) = (from[part / (PARTS / 2)], part % (PARTS / 2) * 2);
            let (a, b) = (l.get(source, at), l.get(source, at + 1));
            l.shuffle(a, b, std::array::from_fn(|lane| 2 * lane + first))
        });
    }

    /// Lanes of `a`, numbered from 0, and of `b`, numbered from [`PART_LANES`].
    fn shuffle(&mut self, a: Value, b: Value, from: [usize; PART_LANES]) -> Value {
        let bytes: Vec<u8> = from
            .iter()
            .flat_map(|lane| (0..4).map(move |byte| u8::try_from(lane * 4 + byte).expect("below 32")))
            .collect();
        let mask = self.b.func.dfg.immediates.push(bytes.as_slice().into());
        let (a, b) =
            (self.b.ins().bitcast(types::I8X16, lane_order(), a), self.b.ins().bitcast(types::I8X16, lane_order(), b));
        let moved = self.b.ins().shuffle(a, b, mask);
        self.b.ins().bitcast(PART, lane_order(), moved)
    }
}

fn offset(m: Mem, bytes: usize) -> i32 {
    m.offset + i32::try_from(bytes).expect("within a vector")
}

/// Buffers hold `f32`, are in bounds, and need not be aligned for vectors.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

fn lane_order() -> MemFlagsData {
    MemFlagsData::new().with_endianness(cranelift_codegen::ir::Endianness::Little)
}
