//! Quads of bytes in registers: what makes them of four vectors, and takes them apart.

use iced_x86::{Code, Instruction};

use super::codes::WITHIN;
use super::{Assembler, Codes};
use crate::tile::V;

impl Assembler {
    pub(super) fn byte(&mut self, d: V, a: V, n: u8) {
        // An index whose highest bit is set makes a zero.
        let order = std::array::from_fn(|lane: usize| 0x8080_8000 | (lane as u32 * 4 + u32::from(n)));
        self.shuffle_bytes(d, a, order);
    }

    pub(super) fn transpose_bytes(&mut self, d: V, a: V) {
        self.shuffle_bytes(d, a, WITHIN);
    }

    /// Bytes of every four lanes in this order.
    fn shuffle_bytes(&mut self, d: V, a: V, order: [u32; 4]) {
        let code = self.code(&Codes(Code::EVEX_Vpshufb_zmm_k1z_zmm_zmmm512, Code::VEX_Vpshufb_ymm_ymm_ymmm256));
        let order = self.pooled(&order.repeat(self.lanes() / 4));
        for part in 0..self.parts() {
            let (to, from) = (self.reg(d, part), self.reg(a, part));
            self.emit_pooled(order, false, |order| Instruction::with3(code, to, from, order));
        }
    }
}
