//! Resampling along one axis of images in blocks: every element of the result is a weighted sum of a few of
//! the operand.
//!
//! `y[n, b, i, j] = Σₖ w[i, k]·x[n, b, k, j]` for images n, blocks b, elements i of the axis and j of the other
//! axis; lanes are channels. Where taps lie and what they weigh is baked into the code: elements with the same
//! weights share a program.
//!
//! Invariant: sums take their taps in order, so all targets give the same bits.

use super::program::{P, Program, Src, Writer};
use super::schedule::{Axis, Nest, Part, Schedule, offsets, signed};
use crate::target::Vectors;

/// Pointers of the kernel.
const X: P = P(0);
const Y: P = P(1);

/// An element of the operand, and its weight.
pub(crate) type Tap = (usize, f32);

/// A resampling with everything that is baked into its code.
///
/// Pointers: x, y.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resample {
    /// Images and blocks: how many, and bytes of x and y from one to the next.
    pub(crate) outer: [(usize, [i64; 2]); 2],
    /// Bytes of x and y from one element of the axis to the next.
    pub(crate) along: [i64; 2],
    /// Elements of the other axis, and bytes of x and y from one to the next.
    pub(crate) across: (usize, [i64; 2]),
    /// The taps of each element of the result, at least one.
    pub(crate) taps: Vec<Vec<Tap>>,
}

impl Resample {
    /// Vectors of the result.
    pub(crate) fn vectors(&self) -> usize {
        self.outer[0].0 * self.outer[1].0 * self.across.0 * self.taps.len()
    }

    /// The schedule: elements of the axis, images, blocks; a program does the other axis.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(2);
        let [x, y] = self.along;
        for (i, taps) in self.taps.iter().enumerate() {
            let program = schedule.program(self.program(vectors, taps));
            let start = offsets([x * signed(taps[0].0), y * signed(i)]);
            let outer = self.outer.map(|(count, steps)| Axis::new(count, steps));
            schedule.parts.push(Part::new(outer, start, Nest::Call(program)));
        }
        schedule
    }

    /// The program of one element of the axis, x where its first tap reads.
    fn program(&self, vectors: Vectors, taps: &[Tap]) -> Program {
        let mut w = Writer::new(2, vectors.registers());
        let (count, [x, y]) = self.across;
        let (first, at) = (taps[0].0, |tap: usize| X.at(self.along[0] * (signed(tap) - signed(taps[0].0))));
        let (sum, tap) = (w.take(), w.take());
        w.repeat(count, |w| {
            w.load(sum, at(first));
            if taps[0].1 != 1.0 {
                w.bin(super::Bin::Mul, sum, sum, taps[0].1);
            }
            for &(element, weight) in &taps[1..] {
                w.load(tap, at(element));
                w.fma(sum, tap, Src::Const(weight));
            }
            w.store(Y.at(0), sum);
            w.advance(X, x);
            w.advance(Y, y);
        });
        w.finish()
    }
}

#[cfg(test)]
mod tests;
