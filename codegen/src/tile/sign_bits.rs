//! Signs as bits: numbers that are −1, 0 or 1, packed for products with weights that are signs too.
//!
//! A pixel (or a row of a matrix) becomes pairs of words, one for each 32 of its channels in order: the first has a
//! bit set for each channel that is 1, the second for each that is −1. Behind them stands an `f32`: how many
//! channels are not zero. Of a pixel with NaN it is NaN, and so is what is computed of it.

use super::epilogue::Strides;
use super::program::{Bin, Cmp, LANES, P, Program, Un, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, offsets, signed};
use crate::target::Vectors;

/// Channels of a word.
pub(crate) const WORD: usize = 32;

/// Bytes of a pair of words.
pub(crate) const PAIR_BYTES: usize = 8;

/// Where a pixel's pairs of words end and its count begins, in bytes.
pub(crate) fn count_at(channels: usize) -> usize {
    channels.div_ceil(WORD) * PAIR_BYTES
}

/// Bytes of a pixel.
pub(crate) fn pixel_bytes(channels: usize) -> usize {
    count_at(channels) + 4
}

/// The numbers that are packed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SignBits {
    pub(crate) images: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) channels: usize,
    /// Steps of the numbers; channels of a block lie next to each other.
    pub(crate) x: Strides,
    /// Steps of the bits from image to image, row to row, and pixel to pixel.
    pub(crate) y: Strides,
}

const X: P = P(0);
const Y: P = P(1);

impl SignBits {
    /// Numbers packed.
    pub(crate) fn elements(&self) -> usize {
        self.images * self.rows * self.columns * self.channels
    }

    /// The schedule: rows of images, or where there is but one, its pixels.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(2);
        let call = Nest::Call(schedule.program(self.pixel(vectors)));
        let images = Axis { count: self.images, steps: offsets([self.x.image, self.y.image]) };
        let rows = Axis { count: self.rows, steps: offsets([self.x.row, self.y.row]) };
        let columns = Axis { count: self.columns, steps: offsets([self.x.column, self.y.column]) };
        if self.rows == 1 {
            schedule.parts.push(Part::new([images, columns], STAY, call));
        } else {
            schedule.parts.push(Part::new([images, rows], STAY, call.repeated([columns])));
        }
        schedule
    }

    /// The program of a pixel.
    fn pixel(&self, vectors: Vectors) -> Program {
        let mut w = Writer::new(2, vectors.registers());
        let (count, v) = (w.take(), w.take());
        w.set(count, 0.0);
        let half = |w: &mut Writer, half: usize, lanes: usize| {
            let bits = signed(half * LANES / 8);
            if lanes == 0 {
                w.set(v, 0.0);
            } else {
                w.load_lanes(v, X.at(self.x.block * signed(half)), lanes);
            }
            w.store_bits(Y.at(bits), Cmp::Greater, v);
            w.store_bits(Y.at(4 + bits), Cmp::Less, v);
            w.un(Un::Abs, v, v);
            w.bin(Bin::Add, count, count, v);
        };
        w.repeat(self.channels / WORD, |w| {
            half(w, 0, LANES);
            half(w, 1, LANES);
            w.advance_all(&[2 * self.x.block, signed(PAIR_BYTES)]);
        });
        let rest = self.channels % WORD;
        if rest > 0 {
            half(&mut w, 0, rest.min(LANES));
            half(&mut w, 1, rest.saturating_sub(LANES));
            w.advance(Y, signed(PAIR_BYTES));
        }
        w.reduce(Bin::Add, count);
        w.store_lanes(Y.at(0), count, 1);
        w.finish()
    }
}

const _: () = assert!(WORD == 2 * LANES && VECTOR_BYTES == 4 * LANES, "a word is two vectors of numbers");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::testing::result;

    #[test]
    fn signs_of_every_tail() {
        for channels in [1, 15, 16, 17, 32, 33, 70] {
            for (rows, columns) in [(1, 3), (2, 5)] {
                let (block, pixel) = (signed(VECTOR_BYTES * rows * columns), signed(VECTOR_BYTES));
                let bits = signed(pixel_bytes(channels));
                let signs = SignBits {
                    images: 1,
                    rows,
                    columns,
                    channels,
                    x: Strides { block, row: signed(columns) * pixel, column: pixel, ..Strides::default() },
                    y: Strides { row: signed(columns) * bits, column: bits, ..Strides::default() },
                };
                let sign = |pixel: usize, c: usize| ((pixel + c * c) % 3) as f32 - 1.0;
                let pixels = rows * columns;
                let mut x = vec![f32::NAN; channels.div_ceil(LANES) * LANES * pixels];
                for pixel in 0..pixels {
                    for c in 0..channels {
                        x[(c / LANES * pixels + pixel) * LANES + c % LANES] = sign(pixel, c);
                    }
                }
                let words = pixel_bytes(channels) / 4;
                let y = result(&signs, |vectors| signs.schedule(vectors), &[x], pixels * words);
                for (pixel, y) in y.chunks_exact(words).enumerate() {
                    let (pairs, count) = (&y[..words - 1], y[words - 1]);
                    let bit = |c: usize, half: usize| pairs[c / WORD * 2 + half].to_bits() >> (c % WORD) & 1;
                    for c in 0..pairs.len() / 2 * WORD {
                        let expected = if c < channels { sign(pixel, c) } else { 0.0 };
                        assert_eq!(bit(c, 0) as f32 - bit(c, 1) as f32, expected, "{signs:?}, channel {c}");
                    }
                    assert_eq!(count, (0..channels).map(|c| sign(pixel, c).abs()).sum::<f32>());
                }
            }
        }
    }
}
