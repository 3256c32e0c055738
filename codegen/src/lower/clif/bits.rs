//! Bits: lanes as words of 32 of them.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::{Lowering, PART, PART_LANES, PARTS, lane_order, offset};
use crate::tile::{Cmp, Mem, V};

impl Lowering<'_, '_> {
    /// Counts the bits of bytes, and sums those of the four bytes of each lane.
    pub(super) fn count_ones(&mut self, a: Value) -> Value {
        let bytes = self.b.ins().bitcast(types::I8X16, lane_order(), a);
        let counts = self.b.ins().popcnt(bytes);
        let counts = self.b.ins().bitcast(types::I32X4, lane_order(), counts);
        // Sums of four counts are 32 at most: no byte runs over.
        let mut sum = counts;
        for distance in [16, 8] {
            let other = self.b.ins().ushr_imm_u(sum, distance);
            sum = self.b.ins().iadd(sum, other);
        }
        let low = self.b.ins().iconst(types::I32, 0xff);
        let low = self.b.ins().splat(types::I32X4, low);
        let sum = self.b.ins().band(sum, low);
        self.b.ins().bitcast(PART, lane_order(), sum)
    }

    pub(super) fn store_bits(&mut self, m: Mem, cmp: Cmp, a: V) {
        let condition = match cmp {
            Cmp::Less => FloatCC::LessThan,
            Cmp::Greater => FloatCC::GreaterThan,
            Cmp::Equal => FloatCC::Equal,
        };
        let zero = self.number(0.0);
        let mut all = self.b.ins().iconst(types::I32, 0);
        for part in 0..PARTS {
            let a = self.get(a, part);
            let holds = self.b.ins().fcmp(condition, a, zero);
            let bits = self.b.ins().vhigh_bits(types::I32, holds);
            let place = u8::try_from(part * PART_LANES).expect("16 lanes");
            let bits = self.b.ins().ishl_imm_u(bits, i64::from(place));
            all = self.b.ins().bor(all, bits);
        }
        let at = self.pointer(m.base);
        self.b.ins().istore16(super::flags(), all, at, offset(m, 0));
    }
}
