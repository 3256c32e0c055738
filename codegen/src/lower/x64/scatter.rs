//! Stores of lanes to places of their own.

use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::lanes::{first, low};
use super::{Assembler, POINTERS, SCRATCH, SCRATCH_64, TEMPORARY, TEMPORARY_2};
use crate::tile::{Mem, V};

impl Assembler {
    pub(super) fn scatter(&mut self, to: Mem, at: V, v: V, lanes: usize) {
        let (base, offset) = (POINTERS[usize::from(to.base.0)], i64::from(to.offset));
        // The displacement, in one byte if it is small.
        let place = |index| MemoryOperand::new(base, index, 1, offset, 1, false, Register::None);
        if self.wide {
            self.mask(first(lanes));
            let (at, v) = (self.reg(at, 0), self.reg(v, 0));
            self.emit_masked(Instruction::with2(Code::EVEX_Vscatterdps_vm32z_k1_zmm, place(at), v), false);
            return;
        }
        for lane in 0..lanes {
            let (part, half, index) = (lane / 8, lane / 4 % 2, i32::try_from(lane % 4).expect("below 4"));
            let (mut at, mut v) = (self.reg(at, part), self.reg(v, part));
            if half == 1 {
                let [high_at, high_v] = [TEMPORARY, TEMPORARY_2].map(|to| low(to, Register::XMM0));
                if index == 0 {
                    let extract = Code::VEX_Vextractf128_xmmm128_ymm_imm8;
                    self.emit(Instruction::with3(extract, high_at, at, 1));
                    self.emit(Instruction::with3(extract, high_v, v, 1));
                }
                (at, v) = (TEMPORARY, TEMPORARY_2);
            }
            let (at, v) = (low(at, Register::XMM0), low(v, Register::XMM0));
            self.emit(Instruction::with3(Code::VEX_Vpextrd_rm32_xmm_imm8, SCRATCH, at, index));
            self.emit(Instruction::with2(Code::Movsxd_r64_rm32, SCRATCH_64, SCRATCH));
            self.emit(Instruction::with3(Code::VEX_Vextractps_rm32_xmm_imm8, place(SCRATCH_64), v, index));
        }
    }
}
