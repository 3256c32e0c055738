//! Sums along all axes but that of lanes.
//!
//! `y[o, l] = Σᵢ x[o, i, l]`: lanes l lie next to each other in both. So are the channels of images in blocks
//! summed over pixels, columns of a matrix over its rows, and partial results over what made them.
//!
//! Invariant: elements go to partial sums in turn, as many as the extents say, so all targets give the same
//! bits.

use super::program::{Bin, LANES, MAX_DEPTH, P, Program, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, Schedule, offsets, signed};
use crate::target::Vectors;

/// Pointers of the kernel, in order.
const X: P = P(0);
const Y: P = P(1);

/// Partial sums: an addition waits for the one before it.
const PARTIAL: usize = 4;

/// Sums with everything that is baked into their code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LaneSums {
    /// Axes that stay, besides that of lanes.
    pub(crate) outer: Vec<Axis>,
    /// Elements along the axis of lanes.
    pub(crate) lanes: usize,
    /// From one vector of lanes to the next, in x; in y they follow each other.
    pub(crate) block: i64,
    /// What is summed over, the outermost first: extents, and steps of x.
    pub(crate) inner: Vec<(usize, i64)>,
    /// What every sum is multiplied by.
    pub(crate) factor: f32,
}

impl LaneSums {
    /// Elements read.
    pub(crate) fn elements(&self) -> usize {
        let outer: usize = self.outer.iter().map(|axis| axis.count).product();
        outer * self.lanes * self.inner.iter().map(|(count, _)| count).product::<usize>()
    }

    /// Whether there is code for so many axes.
    pub(crate) fn fits(axes: usize) -> bool {
        axes <= MAX_DEPTH
    }

    /// The schedule: whole vectors, then the rest of the lanes.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(2);
        let whole = self.lanes / LANES;
        for (first, count, lanes) in [(0, whole, LANES), (whole, 1, self.lanes % LANES)] {
            if count == 0 || lanes == 0 {
                continue;
            }
            let program = schedule.program(self.program(vectors, lanes));
            let block = [self.block, signed(VECTOR_BYTES)];
            let axes = self.outer.iter().copied().chain([Axis::new(count, block)]);
            let start = offsets(block.map(|step| step * signed(first)));
            schedule.parts.push(Part::new(axes, start, Nest::Call(program)));
        }
        schedule
    }

    fn program(&self, vectors: Vectors, lanes: usize) -> Program {
        let mut w = Writer::new(2, vectors.registers());
        let partial = w.take_all(PARTIAL);
        partial.iter().for_each(|&sum| w.set(sum, 0.0));
        let (last, outer) = match self.inner.split_last() {
            Some((&last, outer)) => (last, outer),
            None => ((1, 0), &[][..]),
        };
        let v = w.take();
        loops(&mut w, outer, &mut |w| {
            let take = |w: &mut Writer, i: usize| {
                w.load_lanes(v, X.at(last.1 * signed(i)), lanes);
                w.bin(Bin::Add, partial[i % PARTIAL], partial[i % PARTIAL], v);
            };
            let (turns, rest) = (last.0 / PARTIAL, last.0 % PARTIAL);
            w.repeat(turns, |w| {
                (0..PARTIAL).for_each(|i| take(w, i));
                w.advance(X, last.1 * signed(PARTIAL));
            });
            (0..rest).for_each(|i| take(w, i));
            w.advance(X, -last.1 * signed(turns * PARTIAL));
        });
        let [a, b, c, d] = partial[..] else { unreachable!("there are four") };
        w.bin(Bin::Add, a, a, b);
        w.bin(Bin::Add, c, c, d);
        w.bin(Bin::Add, a, a, c);
        if self.factor != 1.0 {
            w.bin(Bin::Mul, a, a, self.factor);
        }
        w.store_lanes(Y.at(0), a, lanes);
        w.finish()
    }
}

/// Loops that move x.
fn loops(w: &mut Writer, axes: &[(usize, i64)], body: &mut impl FnMut(&mut Writer)) {
    let Some((&(count, step), inner)) = axes.split_first() else { return body(w) };
    w.repeat(count, |w| {
        loops(w, inner, body);
        w.advance(X, step);
    });
    w.advance(X, -step * signed(count));
}
