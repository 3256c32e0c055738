//! Codes: integers in lanes, and the tables they are looked up in.

use cranelift_codegen::ir::{InstBuilder, StackSlot, StackSlotData, StackSlotKind, Value, types};

use super::{Lowering, PART, PART_LANES, PARTS, lane_order};
use crate::tile::{LANES, V, VECTOR_BYTES};

impl Lowering<'_, '_> {
    /// Lanes as integers.
    pub(super) fn integers(&mut self, a: Value) -> Value {
        self.b.ins().bitcast(types::I32X4, lane_order(), a)
    }

    pub(super) fn shr(&mut self, a: Value, n: i64) -> Value {
        let a = self.integers(a);
        let a = self.b.ins().ushr_imm_u(a, n);
        self.b.ins().bitcast(PART, lane_order(), a)
    }

    /// Vectors of 128 bits are no tables: they are laid out on the stack, and lanes read one by one.
    pub(super) fn lookup(&mut self, d: V, index: V, table: &[V]) {
        let slot = self.table_slot();
        for (i, &v) in table.iter().enumerate() {
            for part in 0..PARTS {
                let value = self.get(v, part);
                let at = i32::try_from(i * VECTOR_BYTES + part * 16).expect("within the table");
                self.b.ins().stack_store(types::I64, value, slot, at);
            }
        }
        let start = self.b.ins().stack_addr(types::I64, slot, 0);
        let last = i64::try_from(table.len() * LANES - 1).expect("within the table");
        self.each(d, |l, part| {
            let index = l.get(index, part);
            let index = l.integers(index);
            let mut found = l.number(0.0);
            for lane in 0..PART_LANES {
                let lane = u8::try_from(lane).expect("below 4");
                let code = l.b.ins().extractlane(index, lane);
                let code = l.b.ins().band_imm_u(code, last);
                let code = l.b.ins().uextend(types::I64, code);
                let offset = l.b.ins().ishl_imm_u(code, 2);
                let at = l.b.ins().iadd(start, offset);
                let number = l.b.ins().load(types::F32, super::flags(), at, 0);
                found = l.b.ins().insertlane(found, number, lane);
            }
            found
        });
    }

    /// Room on the stack for the largest table, the same for all lookups.
    fn table_slot(&mut self) -> StackSlot {
        let b = &mut *self.b;
        *self.table.get_or_insert_with(|| {
            let size = u32::try_from(2 * VECTOR_BYTES).expect("few bytes");
            b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, size, 4))
        })
    }
}
