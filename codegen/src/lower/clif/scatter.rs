//! Stores of lanes to places of their own.

use cranelift_codegen::ir::{InstBuilder, types};

use super::{Lowering, PART_LANES, flags};
use crate::tile::{Mem, V};

impl Lowering<'_, '_> {
    pub(super) fn scatter(&mut self, to: Mem, at: V, v: V, lanes: usize) {
        let base = self.pointer(to.base);
        for lane in 0..lanes {
            let (part, lane) = (lane / PART_LANES, u8::try_from(lane % PART_LANES).expect("below 4"));
            let (at, value) = (self.get(at, part), self.get(v, part));
            let at = self.integers(at);
            let offset = self.b.ins().extractlane(at, lane);
            let offset = self.b.ins().sextend(types::I64, offset);
            let place = self.b.ins().iadd(base, offset);
            let value = self.b.ins().extractlane(value, lane);
            self.b.ins().store(flags(), value, place, to.offset);
        }
    }
}
