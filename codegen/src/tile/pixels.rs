//! Codes of images of up to three channels, a pixel in four bytes: what convolutions of few channels read.
//!
//! `y[n, h, w, c] = limit(round(x[n, c, h, w] / scale) + zero)`; the bytes of channels that are missing are 0. Lanes are
//! pixels.

use super::function::{Function, zero_for_nan};
use super::program::{Bin, LANES, P, Program, Src, Un, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, signed};
use crate::target::Vectors;

/// Pointers of the kernel.
const X: P = P(0);
const Y: P = P(1);

/// Channels whose codes a number holds exactly.
pub(crate) const MAX_CHANNELS: usize = 3;

/// Bytes of a pixel.
pub(crate) const PIXEL: usize = 4;

/// Images of numbers made codes, with everything that is baked into its code.
///
/// Pointers: x, y.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pixels {
    pub(crate) images: usize,
    pub(crate) channels: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Bytes of x from one image, channel and row to the next; columns lie next to each other.
    pub(crate) x: [i64; 3],
    /// Bytes of y from one image and row to the next; columns lie next to each other.
    pub(crate) y: [i64; 2],
    pub(crate) scale: f32,
    pub(crate) zero: u8,
}

impl Pixels {
    /// The schedule: images, rows; a program does a row.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(2);
        let program = schedule.program(self.program(vectors));
        let axes = [Axis::new(self.images, [self.x[0], self.y[0]]), Axis::new(self.rows, [self.x[2], self.y[1]])];
        schedule.parts.push(Part::new(axes, STAY, Nest::Call(program)));
        schedule
    }

    fn program(&self, vectors: Vectors) -> Program {
        let mut w = Writer::new(2, vectors.registers());
        let vector = signed(LANES * 4);
        w.repeat(self.columns / LANES, |w| {
            self.vector(w, LANES);
            w.advance_all(&[vector, vector]);
        });
        if !self.columns.is_multiple_of(LANES) {
            self.vector(&mut w, self.columns % LANES);
        }
        w.finish()
    }

    /// So many pixels, from where the pointers are.
    fn vector(&self, w: &mut Writer, lanes: usize) {
        let zero = f32::from(self.zero);
        let pixels = w.take();
        w.set(pixels, 0.0);
        let mut place = 1.0;
        for channel in 0..self.channels {
            let v = w.take();
            w.load_lanes(v, X.at(self.x[1] * signed(channel)), lanes);
            w.bin(Bin::Div, v, v, self.scale);
            zero_for_nan(w, &[v]);
            w.un(Un::Round, v, v);
            w.bin(Bin::Add, v, v, zero);
            Function::Clip(0.0, 255.0).apply(w, &[v], |_| Src::Const(0.0));
            w.fma(pixels, v, place);
            place *= 256.0;
            w.drop(v);
        }
        w.un(Un::ToInt, pixels, pixels);
        w.store_lanes(Y.at(0), pixels, lanes);
        w.drop(pixels);
    }
}

#[cfg(test)]
mod tests;
