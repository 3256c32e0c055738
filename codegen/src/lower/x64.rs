//! Tile programs as x86-64 machine code: a vector is one register of 512 bits or two of 256.
//!
//! A function of the System V calling convention: pointers in the integer argument registers, nothing
//! returned. Numbers the code needs lie behind it and are reached relative to the instruction pointer, so the
//! bytes can be placed anywhere.

mod bits;
mod codes;
mod disassembly;
mod lanes;
mod lookup_bytes;
mod quads;
mod scatter;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
mod warm;

pub(crate) use disassembly::disassemble;
use iced_x86::{Code, Encoder, Instruction, MemoryOperand, Register};

use crate::tile::program::{FIRST_LOCAL, MAX_LOCALS};
use crate::tile::{Bin, Cmp, Inst, LANES, Mem, Program, Src, Un, V, VECTOR_BYTES};

/// What pointers arrive in, and behind them what a program keeps its own in, which the caller wants back.
const POINTERS: [Register; FIRST_LOCAL + MAX_LOCALS] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// Loop counters, the outermost first; from [`FIRST_SAVED`] on the caller wants them back.
const COUNTERS: [Register; 4] = [Register::RAX, Register::R10, Register::RBX, Register::RBP];
const FIRST_SAVED: usize = 2;

/// Scratch for masks, and for offsets.
const SCRATCH: Register = Register::R11D;
const SCRATCH_64: Register = Register::R11;

/// Registers of 256 bits that tile registers do not use.
const TEMPORARY: Register = Register::YMM15;
const TEMPORARY_2: Register = Register::YMM14;

/// Lowers a program to vectors of 512 bits if `wide`, else of 256.
pub(crate) fn lower(program: &Program, wide: bool) -> Vec<u8> {
    let mut asm = Assembler {
        encoder: Encoder::new(64),
        at: 0,
        pool: Vec::new(),
        fixups: Vec::new(),
        forward: Vec::new(),
        lines: Vec::new(),
        wide,
    };
    let counters = &COUNTERS[FIRST_SAVED..depth(&program.insts).max(FIRST_SAVED)];
    let locals = &POINTERS[FIRST_LOCAL..FIRST_LOCAL.max(last_pointer(&program.insts) + 1)];
    let saved = [counters, locals].concat();
    for &register in &saved {
        asm.emit(Instruction::with1(Code::Push_r64, register));
    }
    asm.prepare_quads(&program.insts);
    asm.block(&program.insts, 0);
    asm.emit(Ok(Instruction::with(Code::VEX_Vzeroupper)));
    for &register in saved.iter().rev() {
        asm.emit(Instruction::with1(Code::Pop_r64, register));
    }
    asm.emit(Ok(Instruction::with(Code::Retnq)));
    asm.finish()
}

/// Loops inside one another.
fn depth(insts: &[Inst]) -> usize {
    let deeper = |inst: &Inst| match inst {
        Inst::Loop(_, body) | Inst::Repeat(_, body) => 1 + depth(body),
        _ => 0,
    };
    insts.iter().map(deeper).max().unwrap_or(0)
}

/// The last pointer that is set.
fn last_pointer(insts: &[Inst]) -> usize {
    let of = |inst: &Inst| match inst {
        Inst::Follow { d, .. } => usize::from(d.0),
        Inst::Loop(_, body) | Inst::Repeat(_, body) => last_pointer(body),
        _ => 0,
    };
    insts.iter().map(of).max().unwrap_or(0)
}

struct Assembler {
    encoder: Encoder,
    /// Bytes written.
    at: usize,
    /// Numbers behind the code.
    pool: Vec<u32>,
    /// Displacements to be filled in: where they stand, where their instruction ends, and the index of the
    /// number in the pool.
    fixups: Vec<(usize, usize, usize)>,
    /// Jumps ahead: where their displacement stands, where their instruction ends, and where they lead.
    forward: Vec<(usize, usize, usize)>,
    /// Where numbers stand that count the lines of all code.
    lines: Vec<usize>,
    wide: bool,
}

/// The codes of one instruction: of 512 bits, and of 256.
struct Codes(Code, Code);

impl Assembler {
    fn emit(&mut self, instruction: Result<Instruction, iced_x86::IcedError>) {
        let instruction = instruction.expect("operands are of the kinds the code takes");
        self.at += self.encoder.encode(&instruction, self.at as u64).expect("every operand can be encoded");
    }

    /// Emits an instruction one operand of which is a number of the pool, `make`d from that operand.
    fn emit_pooled(
        &mut self,
        index: usize,
        broadcast: bool,
        make: impl FnOnce(MemoryOperand) -> Result<Instruction, iced_x86::IcedError>,
    ) {
        // The displacement is wrong by what only `finish` knows; any other number of 32 bits would do.
        let near = i64::try_from(self.at).expect("code is short");
        let operand = MemoryOperand::new(Register::RIP, Register::None, 1, near, 8, broadcast, Register::None);
        let start = self.at;
        self.emit(make(operand));
        let constants = self.encoder.get_constant_offsets();
        self.fixups.push((start + constants.displacement_offset(), self.at, index));
    }

    fn finish(mut self) -> Vec<u8> {
        let mut bytes = self.encoder.take_buffer();
        for (at, end, target) in self.forward {
            let distance = i32::try_from(target - end).expect("code is short");
            bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0xcc);
        let pool = bytes.len();
        for (at, end, index) in self.fixups {
            let distance = i32::try_from(pool + index * 4 - end).expect("code is short");
            bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        bytes.extend(self.pool.iter().flat_map(|word| word.to_le_bytes()));
        warm::fill_in(&mut bytes, &self.lines);
        bytes
    }

    /// The index of words in the pool, added if they are new.
    fn pooled(&mut self, words: &[u32]) -> usize {
        if let Some(known) = self.pool.windows(words.len()).position(|w| w == words) {
            return known;
        }
        self.pool.extend(words);
        self.pool.len() - words.len()
    }

    /// Machine registers of a vector.
    fn parts(&self) -> usize {
        if self.wide { 1 } else { 2 }
    }

    /// Lanes of a machine register.
    fn lanes(&self) -> usize {
        LANES / self.parts()
    }

    /// A part of a vector.
    fn reg(&self, v: V, part: usize) -> Register {
        let index = u32::from(v.0);
        if self.wide {
            return Register::ZMM0 + index;
        }
        Register::YMM0 + index * 2 + u32::try_from(part).expect("0 or 1")
    }

    /// The machine operand of a vector in memory, or of one number.
    fn mem(&self, mem: Mem, part: usize, broadcast: bool) -> MemoryOperand {
        let base = POINTERS[usize::from(mem.base.0)];
        let bytes = if broadcast { 0 } else { part * VECTOR_BYTES / 2 };
        let offset = i64::from(mem.offset) + i64::try_from(bytes).expect("32 at most");
        MemoryOperand::new(
            base,
            Register::None,
            1,
            offset,
            u32::from(offset != 0),
            broadcast && self.wide,
            Register::None,
        )
    }

    fn code(&self, codes: &Codes) -> Code {
        if self.wide { codes.0 } else { codes.1 }
    }

    fn block(&mut self, insts: &[Inst], depth: usize) {
        for inst in insts {
            self.inst(inst, depth);
        }
    }

    fn inst(&mut self, inst: &Inst, depth: usize) {
        match inst {
            Inst::Set(d, s) => self.set(*d, *s),
            Inst::LoadLanes(d, m, n) => self.load_lanes(*d, *m, usize::from(*n)),
            Inst::Store(m, v) => {
                let code = self.code(&Codes(Code::EVEX_Vmovups_zmmm512_k1z_zmm, Code::VEX_Vmovups_ymmm256_ymm));
                for part in 0..self.parts() {
                    let (to, from) = (self.mem(*m, part, false), self.reg(*v, part));
                    self.emit(Instruction::with2(code, to, from));
                }
            }
            Inst::StoreLanes(m, v, n) => self.store_lanes(*m, *v, usize::from(*n)),
            Inst::Bin(op, d, a, s) => self.three(&bin(*op), *d, *a, *s),
            Inst::Un(op, d, a) => self.un(*op, *d, *a),
            Inst::Fma(d, a, s) => {
                let codes =
                    Codes(Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256);
                self.three(&codes, *d, *a, *s);
            }
            Inst::MulAdd(d, a, s) => {
                let codes =
                    Codes(Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256);
                self.three(&codes, *d, *a, *s);
            }
            Inst::Select { d, cmp, a, s, x, y } => self.select(*d, *cmp, *a, *s, *x, *y),
            Inst::Swap(d, a, distance) => self.swap(*d, *a, *distance),
            Inst::Merge(d, s, n) => self.merge(*d, *s, usize::from(*n)),
            Inst::Interleave { d, a, b, width, high } => self.interleave(*d, *a, *b, *width, *high),
            Inst::Deinterleave { d, a, b, odd } => self.deinterleave(*d, *a, *b, *odd),
            Inst::StoreFour(m, v, four) => self.store_four(*m, *v, usize::from(*four)),
            Inst::Shr(d, a, n) => self.shr(*d, *a, i32::from(*n)),
            Inst::Lookup { d, index, low, high } => self.lookup(*d, *index, *low, *high),
            Inst::BitSelect { d, mask, x, y } => self.bit_select(*d, *mask, *x, *y),
            Inst::CountOnes(d, a) => self.count_ones(*d, *a),
            Inst::StoreBits(m, cmp, a) => self.store_bits(*m, *cmp, *a),
            Inst::Warm(p, bytes) => self.warm(*p, *bytes, depth),
            Inst::Scatter { to, at, v, lanes, .. } => self.scatter(*to, *at, *v, usize::from(*lanes)),
            Inst::LookupBytes(look) => self.lookup_bytes(look),
            Inst::LoadBytes(d, m) => {
                let codes = Codes(Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128, Code::VEX_Vpmovzxbd_ymm_xmmm64);
                self.load_bytes(&codes, *d, *m);
            }
            Inst::LoadSigned(d, m) => {
                let codes = Codes(Code::EVEX_Vpmovsxbd_zmm_k1z_xmmm128, Code::VEX_Vpmovsxbd_ymm_xmmm64);
                self.load_bytes(&codes, *d, *m);
            }
            Inst::LoadQuads(d, m) => self.load_quads(*d, *m),
            Inst::StoreBytes(m, v) => self.store_bytes(*m, *v),
            Inst::Dot4 { d, x, w } => self.dot4(*d, *x, *w),
            Inst::Advance(p, bytes) => {
                let register = POINTERS[usize::from(p.0)];
                let bytes = i32::try_from(*bytes).expect("a step within a tile is below 2 GiB");
                self.emit(Instruction::with2(Code::Add_rm64_imm32, register, bytes));
            }
            Inst::Follow { d, base, at, .. } => {
                let [d, base] = [d, base].map(|p| POINTERS[usize::from(p.0)]);
                let at = self.mem(*at, 0, false);
                self.emit(Instruction::with2(Code::Movsxd_r64_rm32, SCRATCH_64, at));
                let sum = MemoryOperand::with_base_index(base, SCRATCH_64);
                self.emit(Instruction::with2(Code::Lea_r64_m, d, sum));
            }
            Inst::Loop(count, body) => {
                let short = counter_32(COUNTERS[depth]);
                let count = u32::try_from(*count).expect("loops are short");
                self.emit(Instruction::with2(Code::Mov_r32_imm32, short, count));
                self.turns(short, body, depth);
            }
            Inst::Repeat(count, body) => {
                let short = counter_32(COUNTERS[depth]);
                let count = self.mem(*count, 0, false);
                self.emit(Instruction::with2(Code::Mov_r32_rm32, short, count));
                self.emit(Instruction::with2(Code::Test_rm32_r32, short, short));
                let here = self.at as u64;
                self.emit(Instruction::with_branch(Code::Je_rel32_64, here));
                let end = self.at;
                self.turns(short, body, depth);
                self.forward.push((end - 4, end, self.at));
            }
        }
    }

    /// The turns of a loop, its counter set.
    fn turns(&mut self, counter: Register, body: &[Inst], depth: usize) {
        let head = self.at;
        self.block(body, depth + 1);
        self.emit(Instruction::with2(Code::Sub_rm32_imm8, counter, 1));
        self.emit(Instruction::with_branch(Code::Jne_rel32_64, head as u64));
    }

    fn set(&mut self, d: V, s: Src) {
        for part in 0..self.parts() {
            let to = self.reg(d, part);
            let broadcast = self.code(&Codes(Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Code::VEX_Vbroadcastss_ymm_m32));
            match s {
                Src::Reg(v) if v == d => {}
                Src::Reg(v) => {
                    let code = self.code(&Codes(Code::EVEX_Vmovaps_zmm_k1z_zmmm512, Code::VEX_Vmovaps_ymm_ymmm256));
                    let from = self.reg(v, part);
                    self.emit(Instruction::with2(code, to, from));
                }
                Src::Mem(m) => {
                    let code = self.code(&Codes(Code::EVEX_Vmovups_zmm_k1z_zmmm512, Code::VEX_Vmovups_ymm_ymmm256));
                    let from = self.mem(m, part, false);
                    self.emit(Instruction::with2(code, to, from));
                }
                Src::Splat(m) => {
                    let mut from = self.mem(m, 0, true);
                    from.is_broadcast = false;
                    self.emit(Instruction::with2(broadcast, to, from));
                }
                Src::Const(x) if x.to_bits() == 0 => self.zero(to),
                Src::Const(x) => {
                    let index = self.pooled(&[x.to_bits()]);
                    self.emit_pooled(index, false, |from| Instruction::with2(broadcast, to, from));
                }
            }
        }
    }

    fn zero(&mut self, register: Register) {
        let code = self.code(&Codes(Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpxor_ymm_ymm_ymmm256));
        self.emit(Instruction::with3(code, register, register, register));
    }

    /// `code d, a, s` for every part.
    fn three(&mut self, codes: &Codes, d: V, a: V, s: Src) {
        let code = self.code(codes);
        match s {
            Src::Reg(s) => {
                for part in 0..self.parts() {
                    let (d, a, s) = (self.reg(d, part), self.reg(a, part), self.reg(s, part));
                    self.emit(Instruction::with3(code, d, a, s));
                }
            }
            Src::Mem(m) => {
                for part in 0..self.parts() {
                    let (d, a, s) = (self.reg(d, part), self.reg(a, part), self.mem(m, part, false));
                    self.emit(Instruction::with3(code, d, a, s));
                }
            }
            Src::Splat(m) if self.wide => {
                let (d, a, s) = (self.reg(d, 0), self.reg(a, 0), self.mem(m, 0, true));
                self.emit(Instruction::with3(code, d, a, s));
            }
            Src::Const(x) if self.wide => {
                let index = self.pooled(&[x.to_bits()]);
                let (d, a) = (self.reg(d, 0), self.reg(a, 0));
                self.emit_pooled(index, true, |s| Instruction::with3(code, d, a, s));
            }
            Src::Splat(_) | Src::Const(_) => {
                self.splat_temporary(s);
                for part in 0..2 {
                    let (d, a) = (self.reg(d, part), self.reg(a, part));
                    self.emit(Instruction::with3(code, d, a, TEMPORARY));
                }
            }
        }
    }

    /// A number in every lane of [`TEMPORARY`].
    fn splat_temporary(&mut self, s: Src) {
        match s {
            Src::Splat(m) => {
                let from = self.mem(m, 0, true);
                self.emit(Instruction::with2(Code::VEX_Vbroadcastss_ymm_m32, TEMPORARY, from));
            }
            Src::Const(x) => {
                let index = self.pooled(&[x.to_bits()]);
                self.emit_pooled(index, false, |from| {
                    Instruction::with2(Code::VEX_Vbroadcastss_ymm_m32, TEMPORARY, from)
                });
            }
            Src::Reg(_) | Src::Mem(_) => unreachable!("only single numbers are spread"),
        }
    }

    fn un(&mut self, op: Un, d: V, a: V) {
        match op {
            Un::Sqrt => self.two(&Codes(Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er, Code::VEX_Vsqrtps_ymm_ymmm256), d, a),
            Un::Round => self.round(d, a, 8),
            Un::Floor => self.round(d, a, 9),
            Un::Ceil => self.round(d, a, 10),
            Un::Abs => {
                let codes = Codes(Code::EVEX_Vandps_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vandps_ymm_ymm_ymmm256);
                self.three(&codes, d, a, Src::Const(f32::from_bits(0x7fff_ffff)));
            }
            Un::Neg => {
                let codes = Codes(Code::EVEX_Vxorps_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vxorps_ymm_ymm_ymmm256);
                self.three(&codes, d, a, Src::Const(-0.0));
            }
            Un::ToInt => {
                self.two(&Codes(Code::EVEX_Vcvtps2dq_zmm_k1z_zmmm512b32_er, Code::VEX_Vcvtps2dq_ymm_ymmm256), d, a);
            }
            Un::FromInt => {
                self.two(&Codes(Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er, Code::VEX_Vcvtdq2ps_ymm_ymmm256), d, a);
            }
            Un::Byte(n) => self.byte(d, a, n),
            Un::TransposeBytes => self.transpose_bytes(d, a),
            Un::Exp2 => {
                self.two(&Codes(Code::EVEX_Vcvtps2dq_zmm_k1z_zmmm512b32_er, Code::VEX_Vcvtps2dq_ymm_ymmm256), d, a);
                // 127 as an integer, the bias of exponents.
                let codes = Codes(Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpaddd_ymm_ymm_ymmm256);
                self.three(&codes, d, d, Src::Const(f32::from_bits(127)));
                let code = self.code(&Codes(Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpslld_ymm_ymm_imm8));
                for part in 0..self.parts() {
                    let d = self.reg(d, part);
                    self.emit(Instruction::with3(code, d, d, 23));
                }
            }
        }
    }

    /// `code d, a` for every part.
    fn two(&mut self, codes: &Codes, d: V, a: V) {
        let code = self.code(codes);
        for part in 0..self.parts() {
            let (d, a) = (self.reg(d, part), self.reg(a, part));
            self.emit(Instruction::with2(code, d, a));
        }
    }

    fn round(&mut self, d: V, a: V, mode: i32) {
        let codes = Codes(Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae, Code::VEX_Vroundps_ymm_ymmm256_imm8);
        self.with_immediate(&codes, d, a, mode);
    }

    /// `code d, a, immediate` for every part.
    fn with_immediate(&mut self, codes: &Codes, d: V, a: V, immediate: i32) {
        let code = self.code(codes);
        for part in 0..self.parts() {
            let (d, a) = (self.reg(d, part), self.reg(a, part));
            self.emit(Instruction::with3(code, d, a, immediate));
        }
    }

    fn select(&mut self, d: V, cmp: Cmp, a: V, s: Src, x: V, y: V) {
        let predicate = predicate(cmp);
        if self.wide {
            let (d, a, x, y) = (self.reg(d, 0), self.reg(a, 0), self.reg(x, 0), self.reg(y, 0));
            let compare = Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae;
            match s {
                Src::Reg(s) => {
                    let s = self.reg(s, 0);
                    self.emit(Instruction::with4(compare, Register::K2, a, s, predicate));
                }
                Src::Mem(m) | Src::Splat(m) => {
                    let s = self.mem(m, 0, matches!(s, Src::Splat(_)));
                    self.emit(Instruction::with4(compare, Register::K2, a, s, predicate));
                }
                Src::Const(number) => {
                    let index = self.pooled(&[number.to_bits()]);
                    self.emit_pooled(index, true, |s| Instruction::with4(compare, Register::K2, a, s, predicate));
                }
            }
            let mut blend = Instruction::with3(Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32, d, y, x);
            if let Ok(blend) = &mut blend {
                blend.set_op_mask(Register::K2);
            }
            self.emit(blend);
            return;
        }
        let compare = Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8;
        if matches!(s, Src::Splat(_) | Src::Const(_)) {
            self.splat_temporary(s);
        }
        for part in 0..2 {
            let first = self.reg(a, part);
            match s {
                Src::Reg(s) => {
                    let s = self.reg(s, part);
                    self.emit(Instruction::with4(compare, TEMPORARY_2, first, s, predicate));
                }
                Src::Mem(m) => {
                    let s = self.mem(m, part, false);
                    self.emit(Instruction::with4(compare, TEMPORARY_2, first, s, predicate));
                }
                Src::Splat(_) | Src::Const(_) => {
                    self.emit(Instruction::with4(compare, TEMPORARY_2, first, TEMPORARY, predicate));
                }
            }
            let (d, x, y) = (self.reg(d, part), self.reg(x, part), self.reg(y, part));
            self.emit(Instruction::with4(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, d, y, x, TEMPORARY_2));
        }
    }
}

/// The immediate of a comparison.
fn predicate(cmp: Cmp) -> i32 {
    match cmp {
        Cmp::Less => 0x11,
        Cmp::Greater => 0x1e,
        Cmp::Equal => 0x00,
    }
}

fn bin(op: Bin) -> Codes {
    match op {
        Bin::Add => Codes(Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vaddps_ymm_ymm_ymmm256),
        Bin::Sub => Codes(Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vsubps_ymm_ymm_ymmm256),
        Bin::Mul => Codes(Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vmulps_ymm_ymm_ymmm256),
        Bin::Div => Codes(Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vdivps_ymm_ymm_ymmm256),
        Bin::AddInt => Codes(Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpaddd_ymm_ymm_ymmm256),
        Bin::PackWords => Codes(Code::EVEX_Vpackssdw_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpackssdw_ymm_ymm_ymmm256),
        Bin::PackBytes => Codes(Code::EVEX_Vpackuswb_zmm_k1z_zmm_zmmm512, Code::VEX_Vpackuswb_ymm_ymm_ymmm256),
        Bin::Xor => Codes(Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpxor_ymm_ymm_ymmm256),
        Bin::Max => Codes(Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vmaxps_ymm_ymm_ymmm256),
        Bin::Min => Codes(Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vminps_ymm_ymm_ymmm256),
    }
}

/// The low half of a counter.
fn counter_32(counter: Register) -> Register {
    match counter {
        Register::RAX => Register::EAX,
        Register::R10 => Register::R10D,
        Register::RBX => Register::EBX,
        _ => Register::EBP,
    }
}
