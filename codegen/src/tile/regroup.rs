//! Quads of channels moved between blocks of four quads and planes of single ones, pixels in any rows.
//!
//! Sixteen pixels of a block are four vectors of four quads each; transposed, they are a vector of each of four planes.
//! Quads are moved as they are, whatever their bytes stand for.

use super::epilogue::Strides;
use super::program::{LANES, P, Program, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, offsets, signed};
use super::transpose::{interleave, transpose_fours};
use crate::target::Vectors;

/// Quads of a block, and vectors of sixteen of its pixels.
const FOUR: usize = 4;

/// A move with everything that is baked into its code.
///
/// Pointers: the first pixel in blocks and the first in planes, the one that is read before the one that is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Regroup {
    pub(crate) images: usize,
    /// Planes, of quads of channels.
    pub(crate) quads: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Where pixels of blocks lie, next to each other in rows.
    pub(crate) blocks: Strides,
    /// From one image, plane and row to the next.
    pub(crate) planes: [i64; 3],
    /// Which of them is written. Quads that fill the last block up have no meaning.
    pub(crate) to_planes: bool,
}

impl Regroup {
    /// Quads moved.
    pub(crate) fn elements(&self) -> usize {
        self.images * self.quads * self.rows * self.columns
    }

    /// The schedule: images, blocks, rows; a program does a row of a block.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(2);
        let [image, plane, row] = self.planes;
        // Rows one after the other in both are one.
        let pixels = signed(self.columns);
        let together = self.blocks.row == pixels * signed(FOUR * 4) && row == pixels * 4;
        let (rows, columns) = if together { (1, self.rows * self.columns) } else { (self.rows, self.columns) };
        let whole = self.quads / FOUR;
        for (first, count, quads) in [(0, whole, FOUR), (whole, 1, self.quads % FOUR)] {
            if count * quads == 0 {
                continue;
            }
            let nest = Nest::Call(schedule.program(self.program(vectors, quads, columns)));
            let axes = [
                Axis { count: self.images, steps: self.steps(self.blocks.image, image) },
                Axis { count, steps: self.steps(self.blocks.block, plane * signed(FOUR)) },
                Axis { count: rows, steps: self.steps(self.blocks.row, row) },
            ];
            let first = signed(first);
            let start = self.steps(self.blocks.block * first, plane * signed(FOUR) * first);
            schedule.parts.push(Part::new(axes, start, nest));
        }
        schedule
    }

    /// Steps of both pointers.
    fn steps(&self, blocks: i64, planes: i64) -> [i64; STAY.len()] {
        offsets(if self.to_planes { [blocks, planes] } else { [planes, blocks] })
    }

    /// So many pixels in a row of a block that has so many quads.
    fn program(&self, vectors: Vectors, quads: usize, pixels: usize) -> Program {
        let mut w = Writer::new(2, vectors.registers());
        w.repeat(pixels / LANES, |w| {
            self.tile(w, quads, LANES);
            let [from, to, ..] = self.steps(signed(FOUR * VECTOR_BYTES), signed(VECTOR_BYTES));
            w.advance_all(&[from, to]);
        });
        if !pixels.is_multiple_of(LANES) {
            self.tile(&mut w, quads, pixels % LANES);
        }
        w.finish()
    }

    fn tile(&self, w: &mut Writer, quads: usize, pixels: usize) {
        // Lanes of each vector of a block's pixels, and of each plane, that are there.
        let in_block = |i: usize| (pixels * FOUR).saturating_sub(i * LANES).min(LANES);
        let in_plane = |i: usize| if i < quads { pixels } else { 0 };
        let of_block = |p: P, i: usize| p.at(signed(i * VECTOR_BYTES));
        let of_plane = |p: P, i: usize| p.at(self.planes[1] * signed(i));
        let (from, to) = (P(0), P(1));
        let v = w.take_all(FOUR);
        for (i, &v) in v.iter().enumerate() {
            let (lanes, place) =
                if self.to_planes { (in_block(i), of_block(from, i)) } else { (in_plane(i), of_plane(from, i)) };
            if lanes == 0 {
                w.set(v, 0.0);
            } else {
                w.load_lanes(v, place, lanes);
            }
        }
        let v = if self.to_planes {
            let v = gather_fours(w, &v);
            transpose_fours(w, &v)
        } else {
            let v = transpose_fours(w, &v);
            gather_fours(w, &v)
        };
        for (i, &v) in v.iter().enumerate() {
            let (lanes, place) =
                if self.to_planes { (in_plane(i), of_plane(to, i)) } else { (in_block(i), of_block(to, i)) };
            if lanes > 0 {
                w.store_lanes(place, v, lanes);
            }
        }
        w.drop_all(&v);
    }
}

/// Fours of lanes of four registers transposed: the first of each, the second of each, and so on.
fn gather_fours(w: &mut Writer, v: &[V]) -> Vec<V> {
    let (even_first, odd_first) = interleave(w, v[0], v[1], 4);
    let (even_last, odd_last) = interleave(w, v[2], v[3], 4);
    let (first, third) = interleave(w, even_first, even_last, 4);
    let (second, fourth) = interleave(w, odd_first, odd_last, 4);
    vec![first, second, third, fourth]
}

#[cfg(test)]
mod tests;
