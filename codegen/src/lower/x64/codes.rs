//! Bytes: loads and stores of them, and their products.

use iced_x86::Register::{XMM0, ZMM30, ZMM31};
use iced_x86::{Code, Instruction, Register};

use super::lanes::low;
use super::{Assembler, Codes, TEMPORARY, TEMPORARY_2};
use crate::tile::{Inst, LANES, Mem, Src, V};

/// What [`Assembler::load_quads`] finds in registers of 512 bits: the order of fours of bytes, and within them.
const ORDER_OF_FOURS: Register = ZMM31;
const ORDER_WITHIN: Register = ZMM30;

/// Within 16 bytes, four from each of four pixels: byte after byte of each in turn.
pub(super) const WITHIN: [u32; 4] = [0x0c08_0400, 0x0d09_0501, 0x0e0a_0602, 0x0f0b_0703];

impl Assembler {
    /// Loads bytes by an instruction that widens them.
    pub(super) fn load_bytes(&mut self, codes: &Codes, d: V, m: Mem) {
        let code = self.code(codes);
        for part in 0..self.parts() {
            let (to, from) = (self.reg(d, part), self.bytes(m, part * LANES / 2));
            self.emit(Instruction::with2(code, to, from));
        }
    }

    pub(super) fn store_bytes(&mut self, m: Mem, v: V) {
        let to = self.bytes(m, 0);
        if self.wide {
            let from = self.reg(v, 0);
            self.emit(Instruction::with2(Code::EVEX_Vpmovusdb_xmmm128_k1z_zmm, to, from));
            return;
        }
        let limit = self.pooled(&[255; 8]);
        for (part, temporary) in [TEMPORARY, TEMPORARY_2].into_iter().enumerate() {
            let from = self.reg(v, part);
            self.emit_pooled(limit, false, |limit| {
                Instruction::with3(Code::VEX_Vpminud_ymm_ymm_ymmm256, temporary, from, limit)
            });
        }
        let (words, bytes) = (Code::VEX_Vpackusdw_ymm_ymm_ymmm256, Code::VEX_Vpackuswb_ymm_ymm_ymmm256);
        self.emit(Instruction::with3(words, TEMPORARY, TEMPORARY, TEMPORARY_2));
        self.emit(Instruction::with3(bytes, TEMPORARY, TEMPORARY, TEMPORARY));
        // Both halves of the result hold four bytes of either part.
        let order = self.pooled(&[0, 4, 1, 5, 0, 4, 1, 5]);
        self.emit_pooled(order, false, |order| Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, TEMPORARY_2, order));
        self.emit(Instruction::with3(Code::VEX_Vpermd_ymm_ymm_ymmm256, TEMPORARY, TEMPORARY_2, TEMPORARY));
        self.emit(Instruction::with2(Code::VEX_Vmovups_xmmm128_xmm, to, low(TEMPORARY, XMM0)));
    }

    pub(super) fn dot4(&mut self, d: V, x: V, w: Src) {
        if self.wide {
            let code = Code::EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32;
            return self.three(&Codes(code, code), d, x, w);
        }
        // Products of words are exact, those of bytes in pairs would saturate: odd bytes and even ones by turns.
        let even = self.pooled(&[0x00ff_00ff; 8]);
        for part in 0..2 {
            let (sum, x) = (self.reg(d, part), self.reg(x, part));
            for odd in [true, false] {
                let w = match w {
                    Src::Reg(w) => self.reg(w, part),
                    Src::Mem(m) => {
                        let from = self.mem(m, part, false);
                        self.emit(Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, TEMPORARY, from));
                        TEMPORARY
                    }
                    Src::Splat(m) => {
                        let from = self.mem(m, 0, true);
                        self.emit(Instruction::with2(Code::VEX_Vbroadcastss_ymm_m32, TEMPORARY, from));
                        TEMPORARY
                    }
                    Src::Const(_) => unreachable!("weights are in memory"),
                };
                if odd {
                    self.shift(Code::VEX_Vpsraw_ymm_ymm_imm8, TEMPORARY, w);
                    self.shift(Code::VEX_Vpsrlw_ymm_ymm_imm8, TEMPORARY_2, x);
                } else {
                    self.shift(Code::VEX_Vpsllw_ymm_ymm_imm8, TEMPORARY, w);
                    self.shift(Code::VEX_Vpsraw_ymm_ymm_imm8, TEMPORARY, TEMPORARY);
                    self.emit_pooled(even, false, |even| {
                        Instruction::with3(Code::VEX_Vpand_ymm_ymm_ymmm256, TEMPORARY_2, x, even)
                    });
                }
                let pairs = Code::VEX_Vpmaddwd_ymm_ymm_ymmm256;
                self.emit(Instruction::with3(pairs, TEMPORARY, TEMPORARY, TEMPORARY_2));
                self.emit(Instruction::with3(Code::VEX_Vpaddd_ymm_ymm_ymmm256, sum, sum, TEMPORARY));
            }
        }
    }

    /// Shifts words by a byte.
    fn shift(&mut self, code: Code, to: Register, from: Register) {
        self.emit(Instruction::with3(code, to, from, 8));
    }

    /// Puts what loads of quads need into registers, if there are any.
    pub(super) fn prepare_quads(&mut self, insts: &[Inst]) {
        if !self.wide || !has_quads(insts) {
            return;
        }
        let fours: Vec<u32> = (0..4).flat_map(|four| (0..4).map(move |pixel| pixel * 4 + four)).collect();
        for (register, words) in [(ORDER_OF_FOURS, fours), (ORDER_WITHIN, WITHIN.repeat(4))] {
            let index = self.pooled(&words);
            self.emit_pooled(index, false, |from| {
                Instruction::with2(Code::EVEX_Vmovups_zmm_k1z_zmmm512, register, from)
            });
        }
    }

    pub(super) fn load_quads(&mut self, d: V, m: Mem) {
        if self.wide {
            let (to, from) = (self.reg(d, 0), self.bytes(m, 0));
            self.emit(Instruction::with3(Code::EVEX_Vpermd_zmm_k1z_zmm_zmmm512b32, to, ORDER_OF_FOURS, from));
            self.emit(Instruction::with3(Code::EVEX_Vpshufb_zmm_k1z_zmm_zmmm512, to, to, ORDER_WITHIN));
            return;
        }
        let (order, within) = (self.pooled(&[0, 4, 1, 5, 2, 6, 3, 7]), self.pooled(&WITHIN.repeat(2)));
        for part in 0..2 {
            // Pixels 0 and 1, then 2 and 3: fours of bytes of the first and third, then of the second and fourth.
            let (to, first, second) = (self.reg(d, part), self.bytes(m, 0), self.bytes(m, 2 * LANES));
            self.emit(Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, TEMPORARY, first));
            let code =
                if part == 0 { Code::VEX_Vpunpckldq_ymm_ymm_ymmm256 } else { Code::VEX_Vpunpckhdq_ymm_ymm_ymmm256 };
            self.emit(Instruction::with3(code, TEMPORARY, TEMPORARY, second));
            self.emit_pooled(order, false, |order| {
                Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, TEMPORARY_2, order)
            });
            self.emit(Instruction::with3(Code::VEX_Vpermd_ymm_ymm_ymmm256, TEMPORARY, TEMPORARY_2, TEMPORARY));
            self.emit_pooled(within, false, |within| {
                Instruction::with3(Code::VEX_Vpshufb_ymm_ymm_ymmm256, to, TEMPORARY, within)
            });
        }
    }

    /// Bytes in memory.
    fn bytes(&self, m: Mem, offset: usize) -> iced_x86::MemoryOperand {
        let offset = m.offset + i32::try_from(offset).expect("within a vector");
        self.mem(Mem { offset, ..m }, 0, false)
    }
}

fn has_quads(insts: &[Inst]) -> bool {
    insts.iter().any(|inst| match inst {
        Inst::LoadQuads(..) => true,
        Inst::Loop(_, body) | Inst::Repeat(_, body) => has_quads(body),
        _ => false,
    })
}
