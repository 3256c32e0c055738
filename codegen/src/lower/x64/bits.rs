//! Bits: lanes as words of 32 of them.

use iced_x86::{Code, Instruction, Register};

use super::{Assembler, SCRATCH, TEMPORARY, TEMPORARY_2, predicate};
use crate::tile::{Cmp, Mem, V};

/// The truth table of "where the first is set the second, else the third".
const SELECT: i32 = 0xca;

/// How many bits each number of four bits has set.
const ONES: [u32; 4] = [0x0201_0100, 0x0302_0201, 0x0302_0201, 0x0403_0302];

impl Assembler {
    pub(super) fn bit_select(&mut self, d: V, mask: V, x: V, y: V) {
        if self.wide {
            let [d, mask, x, y] = [d, mask, x, y].map(|v| self.reg(v, 0));
            if d != mask {
                self.emit(Instruction::with2(Code::EVEX_Vmovaps_zmm_k1z_zmmm512, d, mask));
            }
            self.emit(Instruction::with4(Code::EVEX_Vpternlogd_zmm_k1z_zmm_zmmm512b32_imm8, d, x, y, SELECT));
            return;
        }
        for part in 0..2 {
            let [d, mask, x, y] = [d, mask, x, y].map(|v| self.reg(v, part));
            self.emit(Instruction::with3(Code::VEX_Vpand_ymm_ymm_ymmm256, TEMPORARY, mask, x));
            self.emit(Instruction::with3(Code::VEX_Vpandn_ymm_ymm_ymmm256, TEMPORARY_2, mask, y));
            self.emit(Instruction::with3(Code::VEX_Vpor_ymm_ymm_ymmm256, d, TEMPORARY, TEMPORARY_2));
        }
    }

    pub(super) fn count_ones(&mut self, d: V, a: V) {
        if self.wide {
            let (d, a) = (self.reg(d, 0), self.reg(a, 0));
            self.emit(Instruction::with2(Code::EVEX_Vpopcntd_zmm_k1z_zmmm512b32, d, a));
            return;
        }
        // Numbers of four bits are looked up; then bytes and pairs of bytes are summed.
        let [low, one, pair] = [0x0f0f_0f0f, 0x0101_0101, 0x0001_0001].map(|word| self.pooled(&[word; 8]));
        let ones = self.pooled(&[ONES, ONES].concat());
        let and = Code::VEX_Vpand_ymm_ymm_ymmm256;
        let look = Code::VEX_Vpshufb_ymm_ymm_ymmm256;
        for part in 0..2 {
            let (d, a) = (self.reg(d, part), self.reg(a, part));
            self.emit(Instruction::with3(Code::VEX_Vpsrld_ymm_ymm_imm8, TEMPORARY_2, a, 4));
            self.emit_pooled(low, false, |low| Instruction::with3(and, TEMPORARY_2, TEMPORARY_2, low));
            self.emit_pooled(low, false, |low| Instruction::with3(and, d, a, low));
            self.emit_pooled(ones, false, |from| Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, TEMPORARY, from));
            self.emit(Instruction::with3(look, TEMPORARY_2, TEMPORARY, TEMPORARY_2));
            self.emit(Instruction::with3(look, d, TEMPORARY, d));
            self.emit(Instruction::with3(Code::VEX_Vpaddb_ymm_ymm_ymmm256, d, d, TEMPORARY_2));
            self.emit_pooled(one, false, |one| Instruction::with3(Code::VEX_Vpmaddubsw_ymm_ymm_ymmm256, d, d, one));
            self.emit_pooled(pair, false, |pair| Instruction::with3(Code::VEX_Vpmaddwd_ymm_ymm_ymmm256, d, d, pair));
        }
    }

    pub(super) fn store_bits(&mut self, m: Mem, cmp: Cmp, a: V) {
        let zero = self.pooled(&[0; 8]);
        if self.wide {
            let (to, a) = (self.mem(m, 0, false), self.reg(a, 0));
            let compare = Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae;
            self.emit_pooled(zero, true, |zero| Instruction::with4(compare, Register::K2, a, zero, predicate(cmp)));
            self.emit(Instruction::with2(Code::VEX_Kmovw_m16_kr, to, Register::K2));
            return;
        }
        for part in 0..2 {
            let mut to = self.mem(m, 0, false);
            to.displacement += i64::try_from(part).expect("0 or 1");
            to.displ_size = 1;
            let a = self.reg(a, part);
            let compare = Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8;
            self.emit_pooled(zero, false, |zero| Instruction::with4(compare, TEMPORARY, a, zero, predicate(cmp)));
            self.emit(Instruction::with2(Code::VEX_Vmovmskps_r32_ymm, SCRATCH, TEMPORARY));
            self.emit(Instruction::with2(Code::Mov_rm8_r8, to, Register::R11L));
        }
    }
}
