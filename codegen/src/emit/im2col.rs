//! Lays out the windows of a convolution as the columns of a matrix, so that the convolution is a product.
//!
//! Row `(c, kh, kw)`, column `(oh, ow)` holds `x[c, oh·stride + kh·dilation − pad, …]`, zero in the border.
//! The outer range counts channels.

use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Value, types};

use super::{Emitter, tiles};

/// A two-dimensional window over planes, baked into code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Window {
    /// Height and width of an input plane.
    pub(crate) input: [usize; 2],
    /// Height and width of an output plane.
    pub(crate) output: [usize; 2],
    /// Height and width of the kernel.
    pub(crate) kernel: [usize; 2],
    /// Steps.
    pub(crate) stride: [usize; 2],
    /// Distances of kernel elements.
    pub(crate) dilation: [usize; 2],
    /// Border before the first row and column.
    pub(crate) pad: [usize; 2],
}

impl Window {
    /// Output columns for which kernel column `kw` reads inside the plane: a range.
    pub(crate) fn inside(&self, kw: usize) -> (usize, usize) {
        let shift = kw * self.dilation[1];
        let (stride, pad) = (self.stride[1], self.pad[1]);
        let first = pad.saturating_sub(shift).div_ceil(stride);
        // The last input column is reached at ow·stride + shift − pad ≤ width − 1.
        let end = (self.input[1] + pad).saturating_sub(shift).div_ceil(stride);
        (first.min(self.output[1]), end.clamp(first.min(self.output[1]), self.output[1]))
    }

    /// Whether the windows are the plane itself.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0] && self.input == self.output
    }
}

/// Emits the layout of one sample. Buffers: planes, matrix.
pub(crate) fn emit(e: &mut Emitter<'_>, w: &Window) {
    let (x, y) = (e.buffer(0), e.buffer(1));
    let (begin, end) = (e.begin, e.end);
    let pixels = w.output[0] * w.output[1];
    let taps = w.kernel[0] * w.kernel[1];
    e.for_range(begin, end, 1, |e, c| {
        let plane = e.offset(x, c, w.input[0] * w.input[1] * 4);
        let rows = e.offset(y, c, taps * pixels * 4);
        for kh in 0..w.kernel[0] {
            for kw in 0..w.kernel[1] {
                let row = e.add(rows, (kh * w.kernel[1] + kw) * pixels * 4);
                tap(e, w, plane, row, kh, kw);
            }
        }
    });
}

/// One row of the matrix.
fn tap(e: &mut Emitter<'_>, w: &Window, plane: Value, row: Value, kh: usize, kw: usize) {
    let (lo, hi) = w.inside(kw);
    e.for_count(w.output[0], 1, |e, oh| {
        let line = e.offset(row, oh, w.output[1] * 4);
        let shifted = e.scale(oh, w.stride[0]);
        let shifted = e.add(shifted, kh * w.dilation[0]);
        let pad = i64::try_from(w.pad[0]).expect("sizes are below 2^40");
        let ih = e.b.ins().iadd_imm_s(shifted, -pad);
        // As an unsigned number a negative row lies beyond the plane.
        let height = e.int(w.input[0]);
        let inside = e.b.ins().icmp(IntCC::UnsignedLessThan, ih, height);
        let zero = e.int(0);
        let (from, to) = (e.int(lo), e.int(hi));
        // A row of the border is all zeros: the inner range collapses to nothing at its end.
        let from = e.b.ins().select(inside, from, zero);
        let to = e.b.ins().select(inside, to, zero);
        let source = e.offset(plane, ih, w.input[1] * 4);
        zeros(e, line, zero, from);
        copy(e, w, source, line, kw, from, to);
        let width = e.int(w.output[1]);
        zeros(e, line, to, width);
    });
}

fn zeros(e: &mut Emitter<'_>, line: Value, from: Value, to: Value) {
    let zero = e.float(types::F32, 0.0);
    e.for_range(from, to, 1, |e, ow| {
        let at = e.offset(line, ow, 4);
        e.store(zero, at, 0);
    });
}

fn copy(e: &mut Emitter<'_>, w: &Window, source: Value, line: Value, kw: usize, from: Value, to: Value) {
    let (lo, hi) = w.inside(kw);
    if hi == lo {
        return;
    }
    let first = lo * w.stride[1] + kw * w.dilation[1] - w.pad[1];
    if w.stride[1] != 1 {
        e.for_range(from, to, 1, |e, ow| {
            let column = e.scale(ow, w.stride[1]);
            let shift = i64::try_from(kw * w.dilation[1]).expect("sizes are below 2^40")
                - i64::try_from(w.pad[1]).expect("sizes are below 2^40");
            let column = e.b.ins().iadd_imm_s(column, shift);
            let (from, to) = (e.offset(source, column, 4), e.offset(line, ow, 4));
            let value = e.load(types::F32, from, 0);
            e.store(value, to, 0);
        });
        return;
    }
    // Columns lo..hi, or none at all where the row is border: one test, then straight tiles.
    let some = e.b.ins().icmp(IntCC::UnsignedLessThan, from, to);
    e.choose(some, &[], |e| {
        let (from, to) = (e.add(source, first * 4), e.add(line, lo * 4));
        for tile in tiles(hi - lo, 4) {
            e.for_count(tile.count, 1, |e, i| {
                let (from, to) = (e.offset(from, i, tile.width() * 4), e.offset(to, i, tile.width() * 4));
                for v in 0..tile.registers() {
                    let value = e.load(tile.ty(), from, tile.start * 4 + v * tile.stride());
                    e.store(value, to, tile.start * 4 + v * tile.stride());
                }
            });
        }
        Vec::new()
    });
}
