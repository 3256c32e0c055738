//! Depthwise convolution of codes: every channel has a filter of its own, and sums are exact.
//!
//! `y[n, b, r, c] = epilogue(bias[b] + Σ x[n, b, r·stride + i·dilation, c·stride + j]·w[b, i, j])` as in
//! [`super::depthwise`], of bytes; lanes are channels. Four neighbouring pixels are 64 bytes, which one load makes quads
//! of: a kernel row of up to four columns is one product a channel. Quads are loaded once for all kernel rows that meet
//! them within a tile.
//!
//! Windows may read up to three pixels behind the last they see, which are multiplied by zeros.

use optc_ir::ExecError;

use super::depthwise::rows_in_turn;
use super::epilogue::{Epilogue, Strides, W, X, Y};
use super::program::{Inst, LANES, Program, QUAD_REGISTERS, Src, V, VECTOR_BYTES, Writer};
use super::schedule::{Schedule, Steps, segment_runs, signed};
use crate::memory::Memory;
use crate::target::Vectors;

/// Columns of a kernel in a quad.
pub(crate) const QUAD: usize = 4;

/// Most rows of a tile.
const MAX_ROWS: usize = 4;

/// Weights that are kept in registers at most.
const MAX_RESIDENT: usize = 10;

/// Products of vectors that a program should have at least, so that calling it costs little.
const GRAIN: usize = 1000;

/// A depthwise convolution with everything that is baked into its code.
///
/// Pointers: x, w as [`DepthwiseCodes::pack`] laid it out, y, the bias if there is one, operands of the epilogue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DepthwiseCodes {
    pub(crate) images: usize,
    /// Blocks of channels.
    pub(crate) blocks: usize,
    /// Rows of the result.
    pub(crate) rows: usize,
    /// Columns of the result.
    pub(crate) columns: usize,
    /// Rows and columns of the kernel.
    pub(crate) kernel: [usize; 2],
    /// Bytes of x from one kernel row to the next.
    pub(crate) tap: i64,
    /// Steps of x from one pixel of the result to the next.
    pub(crate) x: Strides,
    pub(crate) y: Strides,
    pub(crate) epilogue: Epilogue,
}

impl DepthwiseCodes {
    /// Quads of a kernel row.
    fn quads(&self) -> usize {
        self.kernel[1].div_ceil(QUAD)
    }

    /// Vectors of weights of a block.
    fn vectors(&self) -> usize {
        self.kernel[0] * self.quads()
    }

    /// Lays weights out: block by block, by kernel rows, quad by quad, the channels of the block; what is missing is
    /// zero. `weight` gives the weight of a channel, kernel row and kernel column.
    ///
    /// # Errors
    /// If the machine has no room for them.
    pub(crate) fn pack(
        &self,
        weight: impl Fn(usize, usize, usize) -> i8,
        channels: usize,
    ) -> Result<Memory, ExecError> {
        Memory::written(self.blocks * self.vectors() * LANES, |packed| {
            for (block, row, quad) in indices(self.blocks, self.kernel[0], self.quads()) {
                let of_lane = |channel: usize| {
                    let bytes = [0, 1, 2, 3].map(|i| match quad * QUAD + i {
                        column if channel < channels && column < self.kernel[1] => weight(channel, row, column),
                        _ => 0,
                    });
                    f32::from_bits(u32::from_le_bytes(bytes.map(i8::cast_unsigned)))
                };
                packed.extend((block * LANES..(block + 1) * LANES).map(of_lane));
            }
        })
    }

    /// The schedule: images, blocks, tiles of rows; a program does all columns of its rows.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let tile = self.rows.min(MAX_ROWS).min(self.room(vectors));
        let of_tile = self.columns * self.vectors() * tile;
        let rows = (GRAIN.div_ceil(of_tile.max(1)) * tile).min(self.rows).max(1);
        let along = |step: &dyn Fn(Strides) -> i64, blocks| self.along(step, blocks);
        let shape = [self.images, self.blocks, self.rows];
        rows_in_turn(&self.epilogue, shape, rows, along, |rows| self.program(vectors, rows))
    }

    /// Steps of x, y and the operands by what `step` says of each, and so many blocks of weights and bias.
    fn along(&self, step: impl Fn(Strides) -> i64, blocks: usize) -> Steps {
        let (weights, bias) = (blocks * self.vectors() * VECTOR_BYTES, blocks * VECTOR_BYTES);
        self.epilogue.along([self.x, self.y], step, signed(weights), signed(bias))
    }

    /// Registers that a program has.
    fn registers(vectors: Vectors) -> usize {
        vectors.registers() - if vectors.is_wide() { QUAD_REGISTERS } else { 0 }
    }

    /// Whether weights stay in registers.
    fn resident(&self, vectors: Vectors) -> bool {
        vectors.is_wide() && self.vectors() <= MAX_RESIDENT
    }

    /// Sums that fit into registers.
    fn room(&self, vectors: Vectors) -> usize {
        let weights = if self.resident(vectors) { self.vectors() } else { 0 };
        let others = weights + self.epilogue.temporaries().max(1);
        (Self::registers(vectors) - others).min(vectors.accumulators())
    }

    /// The program of so many rows of one block.
    fn program(&self, vectors: Vectors, rows: usize) -> Program {
        let mut w = Writer::new(self.epilogue.pointers(), Self::registers(vectors));
        let resident = if self.resident(vectors) { w.take_all(self.vectors()) } else { Vec::new() };
        resident.iter().enumerate().for_each(|(i, &v)| w.load(v, W.at(signed(i * VECTOR_BYTES))));
        let room = self.room(vectors);
        for (count, rows) in segment_runs(rows, rows.min(MAX_ROWS).min(room)) {
            w.repeat(count, |w| {
                for (count, columns) in segment_runs(self.columns, room / rows) {
                    w.repeat(count, |w| {
                        self.tile(w, &resident, [rows, columns]);
                        w.advance_all(&self.along(|s| s.column * signed(columns), 0));
                    });
                }
                w.advance_all(&self.along(|s| s.row * signed(rows) - s.column * signed(self.columns), 0));
            });
        }
        w.finish()
    }

    /// One tile at where the pointers are.
    fn tile(&self, w: &mut Writer, resident: &[V], [rows, columns]: [usize; 2]) {
        let sums = w.take_all(rows * columns);
        self.epilogue.begin(w, &sums, 0);
        let mut meetings: Vec<(i64, usize, usize)> = Vec::new();
        for row in 0..rows {
            meetings.extend((0..self.kernel[0]).map(|i| (signed(row) * self.x.row + signed(i) * self.tap, row, i)));
        }
        // By places of x, each of which may meet several rows of sums, every one its kernel rows in order.
        meetings.sort_by_key(|&(place, ..)| place);
        for met in meetings.chunk_by(|a, b| a.0 == b.0) {
            for (column, quad) in (0..columns).flat_map(|c| (0..self.quads()).map(move |q| (c, q))) {
                let x = w.take();
                let at = met[0].0 + signed(column) * self.x.column + signed(quad * QUAD * LANES);
                w.push(Inst::LoadQuads(x, X.at(at)));
                for &(_, row, i) in met {
                    let weight = i * self.quads() + quad;
                    let place = || Src::Mem(W.at(signed(weight * VECTOR_BYTES)));
                    let weights = resident.get(weight).map_or_else(place, |&v| Src::Reg(v));
                    w.dot4(sums[row * columns + column], x, weights);
                }
                w.drop(x);
            }
        }
        let at = |s: Strides, i: usize| s.row * signed(i / columns) + s.column * signed(i % columns);
        self.epilogue.apply(w, &sums, at, |_| LANES);
        self.epilogue.store(w, &sums, |i| Y.at(at(self.y, i)), |_| LANES);
        w.drop_all(&sums);
    }
}

/// All indices of a box, the last fastest.
fn indices(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}

#[cfg(test)]
mod tests;
