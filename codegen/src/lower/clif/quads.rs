//! Quads of bytes in registers: what makes them of four vectors, and takes them apart.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::{Lowering, PART, lane_order};
use crate::tile::Bin;

impl Lowering<'_, '_> {
    pub(super) fn byte(&mut self, a: Value, n: u8) -> Value {
        let a = self.integers(a);
        let shifted = self.b.ins().ushr_imm_u(a, i64::from(n) * 8);
        let low = self.b.ins().iconst(types::I32, 255);
        let low = self.b.ins().splat(types::I32X4, low);
        let byte = self.b.ins().band(shifted, low);
        self.b.ins().bitcast(PART, lane_order(), byte)
    }

    pub(super) fn transpose_bytes(&mut self, a: Value) -> Value {
        let bytes = self.b.ins().bitcast(types::I8X16, lane_order(), a);
        let transposed = self.shuffle_bytes(bytes, bytes, std::array::from_fn(|i| i % 4 * 4 + i / 4));
        self.b.ins().bitcast(PART, lane_order(), transposed)
    }

    /// Integers of a part and of another made half as wide.
    pub(super) fn pack_integers(&mut self, op: Bin, a: Value, s: Value) -> Value {
        let of = if op == Bin::PackWords { types::I32X4 } else { types::I16X8 };
        let [a, s] = [a, s].map(|v| self.b.ins().bitcast(of, lane_order(), v));
        let packed = if op == Bin::PackWords { self.b.ins().snarrow(a, s) } else { self.b.ins().unarrow(a, s) };
        self.b.ins().bitcast(PART, lane_order(), packed)
    }
}
