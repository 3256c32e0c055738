//! Moves between lanes, and loads and stores of some of them.

use iced_x86::Register::{XMM0, YMM0};
use iced_x86::{Code, IcedError, Instruction, Register};

use super::{Assembler, Codes, SCRATCH, TEMPORARY};
use crate::tile::{Mem, Src, V};

impl Assembler {
    pub(super) fn swap(&mut self, d: V, a: V, distance: u8) {
        let within = Codes(Code::EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpermilps_ymm_ymmm256_imm8);
        match distance {
            1 => self.with_immediate(&within, d, a, 0xb1),
            2 => self.with_immediate(&within, d, a, 0x4e),
            4 | 8 if self.wide => {
                let order = if distance == 8 { 0x4e } else { 0xb1 };
                let (d, a) = (self.reg(d, 0), self.reg(a, 0));
                let code = Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8;
                self.emit(Instruction::with4(code, d, a, a, order));
            }
            4 => {
                for part in 0..2 {
                    let (d, a) = (self.reg(d, part), self.reg(a, part));
                    self.emit(Instruction::with4(Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, d, a, a, 1));
                }
            }
            8 => {
                let code = Code::VEX_Vmovaps_ymm_ymmm256;
                let (low, high) = (self.reg(a, 0), self.reg(a, 1));
                let (to_low, to_high) = (self.reg(d, 0), self.reg(d, 1));
                self.emit(Instruction::with2(code, TEMPORARY, low));
                self.emit(Instruction::with2(code, to_low, high));
                self.emit(Instruction::with2(code, to_high, TEMPORARY));
            }
            _ => unreachable!("lanes are swapped at distances 1, 2, 4 and 8"),
        }
    }

    pub(super) fn merge(&mut self, d: V, s: V, n: usize) {
        if self.wide {
            self.mask(0xffff & !first(n));
            let (to, from) = (self.reg(d, 0), self.reg(s, 0));
            self.emit_masked(Instruction::with2(Code::EVEX_Vmovaps_zmm_k1z_zmmm512, to, from), false);
            return;
        }
        for part in 0..2 {
            let kept = n.saturating_sub(part * self.lanes()).min(self.lanes());
            if kept < self.lanes() {
                let (to, from) = (self.reg(d, part), self.reg(s, part));
                let taken = 0xff & !first(kept);
                self.emit(Instruction::with4(Code::VEX_Vblendps_ymm_ymm_ymmm256_imm8, to, to, from, taken));
            }
        }
    }

    pub(super) fn interleave(&mut self, d: V, a: V, b: V, width: u8, high: bool) {
        let codes = match (width, high) {
            (1, false) => Codes(Code::EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vunpcklps_ymm_ymm_ymmm256),
            (1, true) => Codes(Code::EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vunpckhps_ymm_ymm_ymmm256),
            (2, false) => Codes(Code::EVEX_Vunpcklpd_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vunpcklpd_ymm_ymm_ymmm256),
            (2, true) => Codes(Code::EVEX_Vunpckhpd_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vunpckhpd_ymm_ymm_ymmm256),
            (4, _) => return self.interleave_fours(d, a, b, high),
            _ => unreachable!("lanes are interleaved in widths of 1, 2 and 4"),
        };
        self.three(&codes, d, a, Src::Reg(b));
    }

    fn interleave_fours(&mut self, d: V, a: V, b: V, high: bool) {
        if self.wide {
            let (d, a, b) = (self.reg(d, 0), self.reg(a, 0), self.reg(b, 0));
            let order = if high { 0xdd } else { 0x88 };
            self.emit(Instruction::with4(Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8, d, a, b, order));
            return;
        }
        // The first half comes of `a` alone and the second of `b` alone: what is read last is written last.
        for part in if d == b { [1, 0] } else { [0, 1] } {
            let from = if part == 0 { a } else { b };
            let (to, low, upper) = (self.reg(d, part), self.reg(from, 0), self.reg(from, 1));
            let order = if high { 0x31 } else { 0x20 };
            self.emit(Instruction::with4(Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, to, low, upper, order));
        }
    }

    pub(super) fn deinterleave(&mut self, d: V, a: V, b: V, odd: bool) {
        if self.wide {
            // Lanes of both registers, numbered through.
            let lanes: Vec<u32> = (0..16).map(|lane| 2 * lane + u32::from(odd)).collect();
            let index = self.pooled(&lanes);
            let (d, a, b) = (self.reg(d, 0), self.reg(a, 0), self.reg(b, 0));
            let load = Code::EVEX_Vmovups_zmm_k1z_zmmm512;
            self.emit_pooled(index, false, |from| Instruction::with2(load, d, from));
            self.emit(Instruction::with3(Code::EVEX_Vpermi2ps_zmm_k1z_zmm_zmmm512b32, d, a, b));
            return;
        }
        for (part, from) in [a, b].into_iter().enumerate() {
            let (to, low, upper) = (self.reg(d, part), self.reg(from, 0), self.reg(from, 1));
            let wanted = if odd { 0xdd } else { 0x88 };
            self.emit(Instruction::with4(Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8, to, low, upper, wanted));
            // Twos of both are by turns.
            self.emit(Instruction::with3(Code::VEX_Vpermq_ymm_ymmm256_imm8, to, to, 0xd8));
        }
    }

    pub(super) fn store_four(&mut self, m: Mem, v: V, four: usize) {
        let (to, index) = (self.mem(m, 0, false), i32::try_from(four).expect("below 4"));
        let store = match (self.wide, index) {
            (true, 0) => Instruction::with2(Code::EVEX_Vmovups_xmmm128_k1z_xmm, to, low(self.reg(v, 0), XMM0)),
            (true, _) => Instruction::with3(Code::EVEX_Vextractf32x4_xmmm128_k1z_zmm_imm8, to, self.reg(v, 0), index),
            (false, 0 | 2) => Instruction::with2(Code::VEX_Vmovups_xmmm128_xmm, to, low(self.reg(v, four / 2), XMM0)),
            (false, _) => {
                Instruction::with3(Code::VEX_Vextractf128_xmmm128_ymm_imm8, to, self.reg(v, four / 2), index % 2)
            }
        };
        self.emit(store);
    }

    /// Sets `k1` to the lanes whose bits are set.
    pub(super) fn mask(&mut self, lanes: u32) {
        self.emit(Instruction::with2(Code::Mov_r32_imm32, SCRATCH, lanes));
        self.emit(Instruction::with2(Code::VEX_Kmovw_kr_r32, Register::K1, SCRATCH));
    }

    /// Emits an instruction that acts on the lanes of `k1` alone; the others become zero or stay.
    pub(super) fn emit_masked(&mut self, instruction: Result<Instruction, IcedError>, zero: bool) {
        self.emit(instruction.map(|mut instruction| {
            instruction.set_op_mask(Register::K1);
            instruction.set_zeroing_masking(zero);
            instruction
        }));
    }

    /// Puts a mask of the first `n` lanes of 256 bits into [`TEMPORARY`].
    fn mask_temporary(&mut self, n: usize) {
        let words: Vec<u32> = (0..8).map(|i| if i < n { u32::MAX } else { 0 }).collect();
        let index = self.pooled(&words);
        self.emit_pooled(index, false, |from| Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, TEMPORARY, from));
    }

    pub(super) fn load_lanes(&mut self, d: V, m: Mem, n: usize) {
        if self.wide {
            let (to, from) = (self.reg(d, 0), self.mem(m, 0, false));
            // Narrow loads clear the rest of the register and need no mask.
            let narrow = match n {
                1 => Some((Code::EVEX_Vmovss_xmm_k1z_m32, XMM0)),
                2 => Some((Code::EVEX_Vmovsd_xmm_k1z_m64, XMM0)),
                4 => Some((Code::EVEX_Vmovups_xmm_k1z_xmmm128, XMM0)),
                8 => Some((Code::EVEX_Vmovups_ymm_k1z_ymmm256, YMM0)),
                _ => None,
            };
            if let Some((code, family)) = narrow {
                self.emit(Instruction::with2(code, low(to, family), from));
                return;
            }
            self.mask(first(n));
            self.emit_masked(Instruction::with2(Code::EVEX_Vmovups_zmm_k1z_zmmm512, to, from), true);
            return;
        }
        for part in 0..2 {
            let (to, from) = (self.reg(d, part), self.mem(m, part, false));
            match n.saturating_sub(part * self.lanes()).min(self.lanes()) {
                0 => self.zero(to),
                1 => self.emit(Instruction::with2(Code::VEX_Vmovss_xmm_m32, low(to, XMM0), from)),
                4 => self.emit(Instruction::with2(Code::VEX_Vmovups_xmm_xmmm128, low(to, XMM0), from)),
                8 => self.emit(Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, to, from)),
                n => {
                    self.mask_temporary(n);
                    self.emit(Instruction::with3(Code::VEX_Vmaskmovps_ymm_ymm_m256, to, TEMPORARY, from));
                }
            }
        }
    }

    pub(super) fn store_lanes(&mut self, m: Mem, v: V, n: usize) {
        if self.wide {
            let (to, from) = (self.mem(m, 0, false), self.reg(v, 0));
            let narrow = match n {
                1 => Some((Code::EVEX_Vmovss_m32_k1_xmm, XMM0)),
                2 => Some((Code::EVEX_Vmovsd_m64_k1_xmm, XMM0)),
                4 => Some((Code::EVEX_Vmovups_xmmm128_k1z_xmm, XMM0)),
                8 => Some((Code::EVEX_Vmovups_ymmm256_k1z_ymm, YMM0)),
                _ => None,
            };
            if let Some((code, family)) = narrow {
                self.emit(Instruction::with2(code, to, low(from, family)));
                return;
            }
            self.mask(first(n));
            self.emit_masked(Instruction::with2(Code::EVEX_Vmovups_zmmm512_k1z_zmm, to, from), false);
            return;
        }
        for part in 0..2 {
            let (to, from) = (self.mem(m, part, false), self.reg(v, part));
            match n.saturating_sub(part * self.lanes()).min(self.lanes()) {
                0 => {}
                1 => self.emit(Instruction::with2(Code::VEX_Vmovss_m32_xmm, to, low(from, XMM0))),
                4 => self.emit(Instruction::with2(Code::VEX_Vmovups_xmmm128_xmm, to, low(from, XMM0))),
                8 => self.emit(Instruction::with2(Code::VEX_Vmovups_ymmm256_ymm, to, from)),
                n => {
                    self.mask_temporary(n);
                    self.emit(Instruction::with3(Code::VEX_Vmaskmovps_m256_ymm_ymm, to, TEMPORARY, from));
                }
            }
        }
    }
}

/// The bits of the first `n` lanes.
pub(super) fn first(n: usize) -> u32 {
    (1 << n) - 1
}

/// The low part of a register, of the family that begins with `family`.
pub(super) fn low(register: Register, family: Register) -> Register {
    family + u32::try_from(register.number()).expect("below 32")
}
