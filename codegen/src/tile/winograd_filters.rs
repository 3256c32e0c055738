//! The transformation of filters that are values, `G·g·Gᵀ`: the one of Winograd's that constants have behind them
//! when a graph is compiled.

use super::contract::Contract;
use super::program::{Bin, P, Program, Src, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, Schedule, offsets, signed};
use super::winograd::{G, PATCH};
use crate::target::Vectors;

/// Pointers of the kernel, in order.
const FROM: P = P(0);
const TO: P = P(1);

/// Elements of a filter along rows and columns.
const FILTER: usize = 3;

/// Elements of a filter.
pub(crate) const TAPS: usize = FILTER * FILTER;

/// Filters of a block of outputs lie channel by channel, element by element, the outputs of the block; they go to
/// where a contraction for every place reads them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filters {
    pub(crate) blocks: usize,
    pub(crate) channels: usize,
    /// Whether elements are in reverse order: the filters are those of a gradient.
    pub(crate) reversed: bool,
    /// Blocks of outputs that share a tile of the contraction.
    pub(crate) tile: usize,
    /// Bytes from the weights of one place to those of the next.
    pub(crate) place: i64,
}

impl Filters {
    /// The transformation for a contraction over places.
    pub(crate) fn new(contract: &Contract, reversed: bool) -> Filters {
        let place = signed((contract.position(1, 0, 0) - contract.position(0, 0, 0)) * 4);
        let (blocks, channels) = (contract.blocks(), contract.depth());
        Filters { blocks, channels, reversed, tile: contract.tiling.blocks.min(blocks), place }
    }

    /// Vectors of filters before the transformation.
    pub(crate) fn vectors(&self) -> usize {
        self.blocks * self.channels * TAPS
    }

    /// The schedule: tiles of blocks, blocks of a tile, channels.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(2);
        let program = schedule.program(self.program(vectors));
        let bytes = |vectors: usize| signed(vectors * VECTOR_BYTES);
        let block = bytes(self.channels * TAPS);
        let whole = self.blocks / self.tile;
        for (first, count, width) in [(0, whole, self.tile), (whole, 1, self.blocks % self.tile)] {
            if count * width == 0 {
                continue;
            }
            let tile = [block * signed(self.tile), bytes(self.tile * self.channels)];
            let axes = [
                Axis::new(count, tile),
                Axis::new(width, [block, bytes(1)]),
                Axis::new(self.channels, [bytes(TAPS), bytes(width)]),
            ];
            let start = offsets(tile.map(|step| step * signed(first)));
            schedule.parts.push(Part::new(axes, start, Nest::Call(program)));
        }
        schedule
    }

    /// One channel: rows of the filter become columns of the transformed one, then the others.
    fn program(&self, vectors: Vectors) -> Program {
        let mut w = Writer::new(2, vectors.registers());
        for (i, row) in G.iter().enumerate() {
            let along: Vec<V> = (0..FILTER).map(|j| self.sum(&mut w, row, j)).collect();
            for (j, column) in G.iter().enumerate() {
                let sum = w.take();
                let mut first = true;
                for (&v, &factor) in along.iter().zip(column).filter(|(_, factor)| **factor != 0.0) {
                    match first {
                        true => w.bin(Bin::Mul, sum, v, factor),
                        false => w.fma(sum, v, Src::Const(factor)),
                    }
                    first = false;
                }
                w.store(TO.at(self.place * signed(i * PATCH + j)), sum);
                w.drop(sum);
            }
            w.drop_all(&along);
        }
        w.finish()
    }

    /// `Σ_k row[k]·g[k][column]` in a new register.
    fn sum(&self, w: &mut Writer, row: &[f32; FILTER], column: usize) -> V {
        let (sum, factor) = (w.take(), w.take());
        w.set(sum, 0.0);
        for (k, &x) in row.iter().enumerate().filter(|(_, x)| **x != 0.0) {
            let tap = k * FILTER + column;
            let tap = if self.reversed { TAPS - 1 - tap } else { tap };
            w.set(factor, x);
            w.fma(sum, factor, Src::Mem(FROM.at(signed(tap * VECTOR_BYTES))));
        }
        w.drop(factor);
        sum
    }
}
