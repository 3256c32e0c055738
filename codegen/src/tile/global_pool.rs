//! Global pooling: the mean or the maximum over all pixels of every channel.
//!
//! `y[n, b] = mean` or `max` of `x[n, b, r, c]` over rows r and columns c; lanes are channels. Pixels of a row
//! go to a few partial results in turn, so that one need not wait for the one before it.
//!
//! Invariant: how many partial results there are and how they are combined does not depend on the target; so
//! all targets give the same bits.

use super::epilogue::{Recoding, Strides};
use super::pool::{Maximum, add};
use super::program::{Bin, P, Program, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, signed};
use crate::target::Vectors;

/// Pointers of the kernel.
const X: P = P(0);
const Y: P = P(1);

/// Partial sums of a mean.
const SUMS: usize = 4;

/// Partial maxima: two registers each, and one for the number they take, are all that AVX2 has.
const MAXIMA: usize = 3;

/// What is done with the pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Mean,
    /// The largest; NaN if any is.
    Max,
}

/// A global pooling with everything that is baked into its code.
///
/// Pointers: x, y.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GlobalPool {
    pub(crate) kind: Kind,
    pub(crate) images: usize,
    /// Blocks of channels.
    pub(crate) blocks: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) x: Strides,
    /// Steps of y, which has one pixel.
    pub(crate) y: Strides,
    /// What makes codes of the means, if x holds codes: bytes instead of numbers. Maxima are those of numbers.
    pub(crate) codes: Option<Recoding>,
}

impl GlobalPool {
    /// The schedule: images, blocks.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(2);
        let program = schedule.program(self.program(vectors));
        let axes = [
            Axis::new(self.images, [self.x.image, self.y.image]),
            Axis::new(self.blocks, [self.x.block, self.y.block]),
        ];
        schedule.parts.push(Part::new(axes, STAY, Nest::Call(program)));
        schedule
    }

    /// The program of one block of an image.
    fn program(&self, vectors: Vectors) -> Program {
        let mut w = Writer::new(2, vectors.registers());
        let result = match self.kind {
            Kind::Mean => {
                let sums = w.take_all(SUMS);
                sums.iter().for_each(|&sum| w.set(sum, 0.0));
                self.pixels(&mut w, SUMS, |w, i, pixel| add(w, sums[i], X.at(pixel), self.codes.is_some()));
                for distance in [2, 1] {
                    (0..distance).for_each(|i| w.bin(Bin::Add, sums[i], sums[i], sums[i + distance]));
                }
                w.bin(Bin::Div, sums[0], sums[0], (self.rows * self.columns) as f32);
                sums[0]
            }
            Kind::Max => {
                let maxima: [Maximum; MAXIMA] = std::array::from_fn(|_| Maximum::new(&mut w));
                self.pixels(&mut w, MAXIMA, |w, i, pixel| {
                    let x = w.take();
                    w.load(x, X.at(pixel));
                    maxima[i].update(w, x);
                    w.drop(x);
                });
                let [first, others @ ..] = maxima;
                others.into_iter().for_each(|other| first.merge(&mut w, other));
                first.finish(&mut w)
            }
        };
        match self.codes {
            Some(codes) => codes.store(&mut w, &[result], |_| Y.at(0)),
            None => w.store(Y.at(0), result),
        }
        w.finish()
    }

    /// Runs `pixel` for every pixel, with the index of its partial result and its bytes from X.
    fn pixels(&self, w: &mut Writer, partials: usize, pixel: impl Fn(&mut Writer, usize, i64)) {
        // Rows without a gap between them are one.
        let gapless = self.x.row == self.x.column * signed(self.columns);
        let (rows, columns) = if gapless { (1, self.rows * self.columns) } else { (self.rows, self.columns) };
        w.repeat(rows, |w| {
            let some = |w: &mut Writer, n: usize| (0..n).for_each(|i| pixel(w, i, self.x.column * signed(i)));
            w.repeat(columns / partials, |w| {
                some(w, partials);
                w.advance(X, self.x.column * signed(partials));
            });
            some(w, columns % partials);
            w.advance(X, self.x.row - self.x.column * signed(columns / partials * partials));
        });
    }
}

#[cfg(test)]
mod tests;
