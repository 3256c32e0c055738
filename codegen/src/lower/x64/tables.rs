//! Codes: integers in lanes, and the tables they are looked up in.

use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::{Assembler, Codes, TEMPORARY, TEMPORARY_2};
use crate::tile::{Src, V};

/// Bytes below the stack pointer that a function which calls no other may use: the red zone of the System V
/// calling convention.
const BELOW_STACK: i64 = -32;

impl Assembler {
    pub(super) fn shr(&mut self, d: V, a: Src, n: i32) {
        let a = match a {
            Src::Reg(a) => a,
            Src::Mem(m) if self.wide => {
                let (d, a) = (self.reg(d, 0), self.mem(m, 0, false));
                self.emit(Instruction::with3(Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8, d, a, n));
                return;
            }
            a => {
                self.set(d, a);
                d
            }
        };
        let codes = Codes(Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpsrld_ymm_ymm_imm8);
        self.with_immediate(&codes, d, a, n);
    }

    pub(super) fn lookup(&mut self, d: V, index: V, low: V, high: Option<V>) {
        if self.wide {
            let (d, index, low) = (self.reg(d, 0), self.reg(index, 0), self.reg(low, 0));
            let Some(high) = high else {
                self.emit(Instruction::with3(Code::EVEX_Vpermps_zmm_k1z_zmm_zmmm512b32, d, index, low));
                return;
            };
            let high = self.reg(high, 0);
            self.emit(Instruction::with2(Code::EVEX_Vmovaps_zmm_k1z_zmmm512, d, index));
            self.emit(Instruction::with3(Code::EVEX_Vpermi2ps_zmm_k1z_zmm_zmmm512b32, d, low, high));
            return;
        }
        for part in 0..2 {
            let (d, index) = (self.reg(d, part), self.reg(index, part));
            let table = |v: V| [self.reg(v, 0), self.reg(v, 1)];
            let low = table(low);
            let Some(high) = high.map(table) else {
                self.sign(d, index, 3);
                self.pick(TEMPORARY, index, low[0]);
                self.pick(TEMPORARY_2, index, low[1]);
                self.blend(d, TEMPORARY, TEMPORARY_2, d);
                continue;
            };
            // There is no third temporary for what the eight upper lanes of both give.
            let kept = MemoryOperand::with_base_displ(Register::RSP, BELOW_STACK);
            self.sign(d, index, 4);
            self.pick(TEMPORARY, index, low[1]);
            self.pick(TEMPORARY_2, index, high[1]);
            self.blend(TEMPORARY, TEMPORARY, TEMPORARY_2, d);
            self.emit(Instruction::with2(Code::VEX_Vmovups_ymmm256_ymm, kept, TEMPORARY));
            self.pick(TEMPORARY, index, low[0]);
            self.pick(TEMPORARY_2, index, high[0]);
            self.blend(TEMPORARY, TEMPORARY, TEMPORARY_2, d);
            self.sign(d, index, 3);
            let blend = Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm;
            self.emit(Instruction::with4(blend, d, TEMPORARY, kept, d));
        }
    }

    /// Moves a bit of each integer of 256 bits to where its sign is.
    fn sign(&mut self, d: Register, a: Register, bit: i32) {
        self.emit(Instruction::with3(Code::VEX_Vpslld_ymm_ymm_imm8, d, a, 31 - bit));
    }

    /// Eight lanes of a table by the low 3 bits of each integer.
    fn pick(&mut self, d: Register, index: Register, table: Register) {
        self.emit(Instruction::with3(Code::VEX_Vpermps_ymm_ymm_ymmm256, d, index, table));
    }

    /// `b` where the sign of `mask` is set, `a` elsewhere.
    fn blend(&mut self, d: Register, a: Register, b: Register, mask: Register) {
        self.emit(Instruction::with4(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, d, a, b, mask));
    }
}
