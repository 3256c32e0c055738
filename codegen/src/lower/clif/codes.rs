//! Bytes: loads and stores of them, and their products.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::{Lowering, PART, PARTS, lane_order};
use crate::tile::{LANES, Mem, V};

impl Lowering<'_, '_> {
    pub(super) fn load_bytes(&mut self, d: V, m: Mem) {
        let bytes = self.load(types::I8X16, m, 0);
        let words = [self.b.ins().uwiden_low(bytes), self.b.ins().uwiden_high(bytes)];
        self.each(d, |l, part| {
            let words = words[part / 2];
            let lanes = if part % 2 == 0 { l.b.ins().uwiden_low(words) } else { l.b.ins().uwiden_high(words) };
            l.b.ins().bitcast(PART, lane_order(), lanes)
        });
    }

    pub(super) fn load_signed(&mut self, d: V, m: Mem) {
        let bytes = self.load(types::I8X16, m, 0);
        let words = [self.b.ins().swiden_low(bytes), self.b.ins().swiden_high(bytes)];
        self.each(d, |l, part| {
            let words = words[part / 2];
            let lanes = if part % 2 == 0 { l.b.ins().swiden_low(words) } else { l.b.ins().swiden_high(words) };
            l.b.ins().bitcast(PART, lane_order(), lanes)
        });
    }

    pub(super) fn store_bytes(&mut self, m: Mem, v: V) {
        let most = self.b.ins().iconst(types::I32, 255);
        let most = self.b.ins().splat(types::I32X4, most);
        let lanes: [Value; PARTS] = std::array::from_fn(|part| {
            let lanes = self.get(v, part);
            let lanes = self.b.ins().bitcast(types::I32X4, lane_order(), lanes);
            self.b.ins().umin(lanes, most)
        });
        let low = self.b.ins().snarrow(lanes[0], lanes[1]);
        let high = self.b.ins().snarrow(lanes[2], lanes[3]);
        let bytes = self.b.ins().unarrow(low, high);
        self.store(bytes, m, 0);
    }

    pub(super) fn load_quads(&mut self, d: V, m: Mem) {
        let pixels: [Value; 4] = std::array::from_fn(|pixel| self.load(types::I8X16, m, pixel * LANES));
        // Bytes of the first two pixels by turns, and of the other two, of the first or last eight channels.
        let mut pairs = |first: usize, half: usize| {
            let order = std::array::from_fn(|i| half * 8 + i / 2 + i % 2 * 16);
            self.shuffle_bytes(pixels[first], pixels[first + 1], order)
        };
        let pairs = [0, 1].map(|half| [pairs(0, half), pairs(2, half)]);
        self.each(d, |l, part| {
            let [a, b] = pairs[part / 2];
            let first = part % 2 * 8;
            let order = std::array::from_fn(|i| first + i / 4 * 2 + i % 2 + i / 2 % 2 * 16);
            let quads = l.shuffle_bytes(a, b, order);
            l.b.ins().bitcast(PART, lane_order(), quads)
        });
    }

    /// `sum` and the products of a part: no product leaves 16 bits, and no pair of them 32.
    pub(super) fn dot4(&mut self, sum: Value, x: Value, w: Value) -> Value {
        let [x, w] = [x, w].map(|v| self.b.ins().bitcast(types::I8X16, lane_order(), v));
        let (x_low, w_low) = (self.b.ins().uwiden_low(x), self.b.ins().swiden_low(w));
        let (x_high, w_high) = (self.b.ins().uwiden_high(x), self.b.ins().swiden_high(w));
        let products = [self.b.ins().imul(x_low, w_low), self.b.ins().imul(x_high, w_high)];
        let pairs = products.map(|words| {
            let (first, second) = (self.b.ins().swiden_low(words), self.b.ins().swiden_high(words));
            self.b.ins().iadd_pairwise(first, second)
        });
        let products = self.b.ins().iadd_pairwise(pairs[0], pairs[1]);
        let sum = self.b.ins().bitcast(types::I32X4, lane_order(), sum);
        let sum = self.b.ins().iadd(sum, products);
        self.b.ins().bitcast(PART, lane_order(), sum)
    }

    /// Bytes of `a`, numbered from 0, and of `b`, numbered from 16.
    pub(super) fn shuffle_bytes(&mut self, a: Value, b: Value, from: [usize; 16]) -> Value {
        let bytes = from.map(|byte| u8::try_from(byte).expect("below 32"));
        let mask = self.b.func.dfg.immediates.push(bytes.as_slice().into());
        self.b.ins().shuffle(a, b, mask)
    }
}
