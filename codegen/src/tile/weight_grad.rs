//! Gradients of weights: contractions over images and points, whose results are small.
//!
//! `dw[o, k] = Σ_{n,p} dy[n, p, o]·x[n, p, k]` for outputs o and places k of the window (channels and elements
//! of the kernel). Lanes are outputs: a tile holds a vector of sums for each of some k while the points of an
//! image go by; a vector of dy is loaded for each point, and elements of x are spread over all lanes. In a
//! depthwise layer lanes are channels of x too.
//!
//! Images are divided into slices, each with sums of its own; a sum of lanes adds them. How many there are depends on
//! shapes alone, so that results do not depend on the number of threads.
//!
//! Invariant: an outer iteration writes the sums of one slice and some blocks of outputs, and no other does.

use super::contract::Run;
use super::epilogue::Strides;
use super::program::{P, Program, Src, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, Schedule, offsets, segment_runs, signed};
use super::sweep::Plane;
use crate::target::Vectors;

/// Pointers of the kernel, in order.
const X: P = P(0);
const DY: P = P(1);
const SUMS: P = P(2);

/// Outer iterations there should be, so that threads can share them.
const UNITS: usize = 16;

/// Multiplications in one turn of a loop, about.
const MAX_CODE: usize = 96;

/// A gradient of weights with everything that is baked into its code. Sums lie block by block of outputs, k by
/// k in order of the runs, the outputs of the block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WeightGrad {
    pub(crate) images: usize,
    /// Blocks of outputs.
    pub(crate) blocks: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// The walk over k: what a tile holds is unrolled.
    pub(crate) runs: Vec<Run>,
    /// Steps of x from one image and point to the next; from one block of outputs to the next where lanes are
    /// channels of x.
    pub(crate) x: Strides,
    pub(crate) dy: Strides,
    /// Whether lanes are channels of x too.
    pub(crate) lanewise: bool,
    pub(crate) slices: usize,
}

/// The walk over k as loops around what a tile holds: of the innermost axes as many as `limit` allows, and of the
/// next one a part that divides it.
pub(crate) fn run(start: i64, axes: &[(usize, i64)], limit: usize) -> Run {
    let mut loops = axes.to_vec();
    let mut taps = vec![0];
    while let Some((count, step)) = loops.pop() {
        let room = limit / taps.len();
        let part = (1..=count.min(room.max(1))).rev().find(|part| count.is_multiple_of(*part)).unwrap_or(1);
        taps = (0..part).flat_map(|i| taps.iter().map(move |tap| signed(i) * step + tap)).collect();
        if part < count {
            loops.push((count / part, step * signed(part)));
            break;
        }
    }
    loops.retain(|&(count, _)| count > 1);
    Run { start, loops, taps }
}

impl WeightGrad {
    /// Slices for so many images and blocks of outputs.
    pub(crate) fn slices(images: usize, blocks: usize) -> usize {
        UNITS.div_ceil(blocks).min(images)
    }

    /// Values of k.
    pub(crate) fn depth(&self) -> usize {
        self.runs.iter().map(Run::len).sum()
    }

    /// Bytes of the sums of a slice.
    pub(crate) fn slice_bytes(&self) -> usize {
        self.blocks * self.depth() * VECTOR_BYTES
    }

    /// Multiplications, by blocks of whole lanes.
    pub(crate) fn macs(&self) -> usize {
        self.images * self.rows * self.columns * self.slice_bytes() / 4
    }

    /// The schedule: slices and blocks of outputs; within each, images, runs and tiles.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(3);
        let block_bytes = signed(self.depth() * VECTOR_BYTES);
        let clear = schedule.program(self.clear(vectors));
        let mut tiles = Vec::new();
        let mut at = 0;
        for run in &self.runs {
            let program = schedule.program(self.tile(vectors, &run.taps));
            let mut bytes = signed(run.taps.len() * VECTOR_BYTES);
            let mut axes = Vec::new();
            for &(count, step) in run.loops.iter().rev() {
                axes.push(Axis::new(count, [step, 0, bytes]));
                bytes *= signed(count);
            }
            tiles.push(Nest::Call(program).repeated(axes).at(offsets([run.start, 0, at])));
            at += bytes;
        }
        let tiles = Nest::Seq(tiles);
        let image = [self.x.image, self.dy.image, 0];
        let block = Axis::new(self.blocks, [self.x.block, self.dy.block, block_bytes]);
        let (mut from, mut slice) = (0, 0);
        for (count, images) in segment_runs(self.images, self.images.div_ceil(self.slices)) {
            let at = |images: usize, slices: usize| {
                let [x, dy, _] = image.map(|step| step * signed(images));
                [x, dy, signed(self.slice_bytes() * slices)]
            };
            let body = tiles.clone().repeated([Axis::new(images, image)]);
            let axes = [Axis::new(count, at(images, 1)), block];
            let nest = Nest::Seq(vec![Nest::Call(clear), body]);
            schedule.parts.push(Part::new(axes, offsets(at(from, slice)), nest));
            (from, slice) = (from + count * images, slice + count);
        }
        schedule
    }

    /// Sets the sums of a block to zero.
    fn clear(&self, vectors: Vectors) -> Program {
        let mut w = Writer::new(3, vectors.registers());
        let zero = w.take();
        w.set(zero, 0.0);
        w.repeat(self.depth(), |w| {
            w.store(SUMS.at(0), zero);
            w.advance(SUMS, signed(VECTOR_BYTES));
        });
        w.finish()
    }

    /// Adds the products of an image to the sums of some k.
    fn tile(&self, vectors: Vectors, taps: &[i64]) -> Program {
        let mut w = Writer::new(3, vectors.registers());
        let sums = w.take_all(taps.len());
        let place = |i: usize| SUMS.at(signed(i * VECTOR_BYTES));
        for (i, &sum) in sums.iter().enumerate() {
            w.load(sum, place(i));
        }
        let dy = w.take();
        let steps = [self.x, self.dy].map(|steps| [steps.row, steps.column]);
        Plane::new([self.rows, self.columns], &steps).sweep(&mut w, MAX_CODE / taps.len(), |w, point| {
            w.load(dy, DY.at(self.dy.column * signed(point)));
            for (&sum, tap) in sums.iter().zip(taps) {
                let x = X.at(self.x.column * signed(point) + tap);
                w.fma(sum, dy, if self.lanewise { Src::Mem(x) } else { Src::Splat(x) });
            }
        });
        for (i, &sum) in sums.iter().enumerate() {
            w.store(place(i), sum);
        }
        w.finish()
    }
}
