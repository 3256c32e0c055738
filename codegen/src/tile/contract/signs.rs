//! Products of signs: x is −1, 0 or 1 as [`SignBits`](crate::tile::sign_bits::SignBits) packs it, weights are −1
//! or 1, a bit each, up to a factor of their output.
//!
//! A k is a word of 32 channels. What differs in sign is selected by the bits of the weights, of the words of x that
//! have its ones and its minus ones, and counted: `Σ x·w` is the number of elements of x that are not zero, less
//! twice that count. Elements that are zero, such as those of a border, are in neither word and are not counted, so
//! that sums are exact whatever x is.

use optc_ir::ExecError;

use super::Contract;
use super::coded::HEAD;
use crate::memory::Memory;
use crate::tile::epilogue::{Epilogue, W};
use crate::tile::program::{Bin, LANES, Mem, Src, Un, V, VECTOR_BYTES, Writer};
use crate::tile::schedule::signed;

/// Where the counts of a window are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Signs {
    /// Channels and elements of the window: weights of an output.
    pub(crate) weights: usize,
    /// From the first word of a pixel to its count, in bytes.
    pub(crate) count: i64,
    /// Rows and columns of the window, and the bytes from one to the next.
    pub(crate) window: [(usize, i64); 2],
}

impl Signs {
    /// Vectors of the head of a tile of so many blocks: zeros, then the factors of outputs.
    fn head(blocks: usize) -> usize {
        1 + blocks
    }

    /// Registers of a tile besides its sums.
    pub(super) fn registers(blocks: usize) -> usize {
        blocks + 3
    }

    /// Cycles of one k, counted as those of other weights are: bits are selected, counted and summed.
    pub(super) fn tile_cycles(blocks: usize, points: usize) -> f64 {
        let sums = 1.5 * (blocks * points) as f64;
        ((sums + points as f64 + 0.5 * blocks as f64) / 2.0).max(4.0) + 0.15
    }

    /// Cycles of a product of so many points, vectors of outputs and weights, a vector product counting as one.
    pub(crate) fn cycles(points: usize, vectors: usize, weights: usize) -> f64 {
        (points * vectors * weights) as f64 * 1.7 / 32.0
    }

    /// Begins a tile of so many blocks: weights begin with its head.
    pub(super) fn begin(w: &mut Writer, blocks: usize) {
        let head = signed(Signs::head(blocks) * VECTOR_BYTES);
        w.follow(HEAD, W, W.at(0), (0, head));
        w.advance(W, head);
    }

    /// Counts where signs differ, for the next k of a turn of a run, each with its place in x.
    pub(super) fn taps(
        w: &mut Writer,
        taps: &[i64],
        [blocks, points]: [usize; 2],
        sum: &impl Fn(usize, usize) -> V,
        x: &impl Fn(usize, i64) -> Mem,
    ) {
        for (i, &tap) in taps.iter().enumerate() {
            let weights = w.take_all(blocks);
            for (block, &v) in weights.iter().enumerate() {
                w.load(v, W.at(signed((i * blocks + block) * VECTOR_BYTES)));
            }
            for point in 0..points {
                let [ones, minus_ones, differ] = [w.take(), w.take(), w.take()];
                w.set(ones, Src::Splat(x(point, tap)));
                w.set(minus_ones, Src::Splat(x(point, tap + 4)));
                for (block, &weights) in weights.iter().enumerate() {
                    w.bit_select(differ, weights, minus_ones, ones);
                    w.count_ones(differ, differ);
                    w.bin(Bin::AddInt, sum(block, point), sum(block, point), differ);
                }
                w.drop_all(&[ones, minus_ones, differ]);
            }
            w.drop_all(&weights);
        }
        w.advance(W, signed(taps.len() * blocks * VECTOR_BYTES));
    }

    /// Makes sums of what was counted, block by block those of so many points.
    pub(super) fn end(
        self,
        w: &mut Writer,
        epilogue: &Epilogue,
        sums: &[V],
        points: usize,
        x: &impl Fn(usize, i64) -> Mem,
    ) {
        let [(rows, row), (columns, column)] = self.window;
        let (count, twice) = (w.take(), w.take());
        w.set(twice, -2.0);
        for point in 0..points {
            w.set(count, 0.0);
            for (r, c) in (0..rows).flat_map(|r| (0..columns).map(move |c| (signed(r), signed(c)))) {
                let place = x(point, r * row + c * column + self.count);
                w.bin(Bin::Add, count, count, Src::Splat(place));
            }
            for &sum in sums.iter().skip(point).step_by(points) {
                w.un(Un::FromInt, sum, sum);
                w.mul_add(sum, twice, count);
            }
        }
        for (block, sums) in sums.chunks_exact(points).enumerate() {
            w.load(count, HEAD.at(signed((1 + block) * VECTOR_BYTES)));
            epilogue.scale(w, sums, count, signed(block * VECTOR_BYTES));
        }
        w.drop_all(&[count, twice]);
    }
}

impl Contract {
    /// Vectors of a tile of so many blocks.
    pub(super) fn signs_tile(&self, blocks: usize) -> usize {
        Signs::head(blocks) + blocks * self.depth()
    }

    /// Lays weights out for the tiling: `bits` gives the word of group, output and k, a bit set for each weight that
    /// is not negative; `factor` what the sums of group and output are multiplied by.
    ///
    /// # Errors
    /// If the machine has no room for them.
    pub(crate) fn pack_signs(
        &self,
        bits: impl Fn(usize, usize, usize) -> u32,
        factor: impl Fn(usize, usize) -> f32,
    ) -> Result<Memory, ExecError> {
        let len = self.groups * self.tiles_of_group(|blocks| self.signs_tile(blocks)) * LANES;
        Memory::written(len, |packed| {
            for group in 0..self.groups {
                for (first, blocks, count) in self.block_groups() {
                    for tile in 0..count {
                        let from = (first + tile * blocks) * LANES;
                        let outputs = from..from + blocks * LANES;
                        packed.extend([0.0; LANES]);
                        packed.extend(outputs.clone().map(|o| if o < self.outputs { factor(group, o) } else { 0.0 }));
                        for k in 0..self.depth() {
                            let word = |o: usize| if o < self.outputs { bits(group, o, k) } else { 0 };
                            packed.extend(outputs.clone().map(|o| f32::from_bits(word(o))));
                        }
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
