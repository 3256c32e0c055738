//! Bytes that are looked up in tables of 128 or 256 numbers.

use iced_x86::{Code, Instruction, Register};

use super::Assembler;
use crate::tile::V;
use crate::tile::program::LookupBytes;

impl Assembler {
    /// Each byte of the numbers is looked up for all codes at once; then bytes of numbers come together, and pairs
    /// of them, four numbers of each 128 bits at a time.
    pub(super) fn lookup_bytes(&mut self, look: &LookupBytes) {
        let reg = |v: V| Register::ZMM0 + u32::from(v.0);
        let codes = reg(look.codes);
        let [first, third, second, fourth] = look.d.map(reg);
        let [low, low_2] = look.spare.map(reg);
        let of_a_byte = look.planes.len() / 4;
        let high = of_a_byte > 2;
        if high {
            // Codes from 128 on are those whose highest bit is set.
            self.emit(Instruction::with2(Code::EVEX_Vpmovb2m_kr_zmm, Register::K2, codes));
        }
        for (d, planes) in [first, second, third, fourth].into_iter().zip(look.planes.chunks_exact(of_a_byte)) {
            self.pick_bytes(d, codes, &planes[..2]);
            if high {
                self.pick_bytes(low, codes, &planes[2..]);
                let mut blend = Instruction::with3(Code::EVEX_Vpblendmb_zmm_k1z_zmm_zmmm512, d, d, low);
                if let Ok(blend) = &mut blend {
                    blend.set_op_mask(Register::K2);
                }
                self.emit(blend);
            }
        }
        let mut three = |code, d, a, b| self.emit(Instruction::with3(code, d, a, b));
        for (to, [even, odd]) in [(low, [first, second]), (low_2, [third, fourth])] {
            three(Code::EVEX_Vpunpcklbw_zmm_k1z_zmm_zmmm512, to, even, odd);
            three(Code::EVEX_Vpunpckhbw_zmm_k1z_zmm_zmmm512, even, even, odd);
        }
        let (lows, highs) = (Code::EVEX_Vpunpcklwd_zmm_k1z_zmm_zmmm512, Code::EVEX_Vpunpckhwd_zmm_k1z_zmm_zmmm512);
        three(lows, second, first, third);
        three(highs, fourth, first, third);
        three(lows, first, low, low_2);
        three(highs, third, low, low_2);
    }

    /// `d` = bytes of a table of 128 by the low 7 bits of codes.
    fn pick_bytes(&mut self, d: Register, codes: Register, planes: &[V]) {
        let [low, high] = [planes[0], planes[1]].map(|v| self.reg(v, 0));
        self.emit(Instruction::with2(Code::EVEX_Vmovaps_zmm_k1z_zmmm512, d, codes));
        self.emit(Instruction::with3(Code::EVEX_Vpermi2b_zmm_k1z_zmm_zmmm512, d, low, high));
    }
}
