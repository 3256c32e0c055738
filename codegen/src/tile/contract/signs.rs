//! Products of signs: x is −1, 0 or 1 as [`SignBits`](crate::tile::sign_bits::SignBits) packs it, weights are −1
//! or 1, a bit each, up to a factor of their output.
//!
//! A k is a word of 32 channels. Where signs differ is counted: `Σ x·w` is the number of elements of x that are not
//! zero, less twice that count. If no element that a tile reads is zero, signs differ where the bits of the weights
//! differ from the word that has the ones of x: three instructions, the last two of which count and sum. Else bits of
//! the weights select of the words of x that have its ones and its minus ones; elements that are zero, such as those
//! of a border, are in neither word and are not counted, so that sums are exact whatever x is.

use optc_ir::ExecError;

use super::Contract;
use super::coded::HEAD;
use crate::memory::Memory;
use crate::target::Vectors;
use crate::tile::epilogue::{Epilogue, W, Y};
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

/// Registers of targets that have code of its own for tiles without zeros.
const MANY_REGISTERS: usize = 32;

/// How it is found where signs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differ {
    /// Where bits do: no element of x is zero.
    Bits,
    /// Where weights select a bit.
    Selected,
}

impl Signs {
    /// Vectors of the head of a tile of so many blocks: zeros, then the factors of outputs.
    fn head(blocks: usize) -> usize {
        1 + blocks
    }

    /// Registers of a tile besides its sums.
    pub(super) fn registers(vectors: Vectors, blocks: usize) -> usize {
        blocks + if has_both(vectors) { 4 } else { 3 }
    }

    /// Cycles of one k, counted as those of other weights are.
    pub(super) fn tile_cycles(blocks: usize, points: usize) -> f64 {
        let sums = 1.5 * (blocks * points) as f64;
        ((sums + 0.5 * (points + blocks) as f64) / 2.0).max(4.0) + 0.15
    }

    /// Cycles of a product of so many points, vectors of outputs and weights, a vector product counting as one.
    pub(crate) fn cycles(points: usize, vectors: usize, weights: usize) -> f64 {
        (points * vectors * weights) as f64 * 1.6 / 32.0
    }

    /// Begins a tile of so many blocks: weights begin with its head.
    pub(super) fn begin(w: &mut Writer, blocks: usize) {
        let head = signed(Signs::head(blocks) * VECTOR_BYTES);
        w.follow(HEAD, W, W.at(0), (0, head));
        w.advance(W, head);
    }

    /// Counts where signs differ. `walk` goes over all k of the tile and back again: it is given what counts those of
    /// a turn of a run, each with its place in x. Until results are stored, what counts them is chosen by a number in
    /// the place of the first.
    pub(super) fn count(
        &self,
        w: &mut Writer,
        vectors: Vectors,
        tile: [usize; 2],
        sum: &impl Fn(usize, usize) -> V,
        x: &impl Fn(usize, i64) -> Mem,
        walk: &impl Fn(&mut Writer, &mut dyn FnMut(&mut Writer, &[i64])),
    ) {
        let count = |w: &mut Writer, differ| walk(w, &mut |w, taps| taps_of(w, differ, taps, tile, sum, x));
        if !has_both(vectors) {
            return count(w, Differ::Selected);
        }
        let (selected, other) = (w.take(), w.take());
        self.find_zeros(w, [selected, other], tile[1], x);
        w.set(other, 1.0);
        w.bin(Bin::Sub, other, other, selected);
        for (chosen, differ) in [(other, Differ::Bits), (selected, Differ::Selected)] {
            w.un(Un::ToInt, chosen, chosen);
            w.store_lanes(Y.at(0), chosen, 1);
            w.drop(chosen);
            w.repeat_as(Y.at(0), |w| count(w, differ));
        }
    }

    /// Makes the first register 1 if an element of x that the tile reads is zero, else 0.
    fn find_zeros(&self, w: &mut Writer, [zeros, count]: [V; 2], points: usize, x: &impl Fn(usize, i64) -> Mem) {
        w.set(zeros, self.weights as f32);
        for point in 0..points {
            self.load_count(w, count, point, x);
            // Counts that are NaN make results NaN, however others are found.
            w.bin(Bin::Min, zeros, count, zeros);
        }
        w.set(count, self.weights as f32);
        w.bin(Bin::Sub, count, count, zeros);
        w.bin(Bin::Min, zeros, count, 1.0);
    }

    /// How many elements of x at a point are not zero.
    fn load_count(&self, w: &mut Writer, count: V, point: usize, x: &impl Fn(usize, i64) -> Mem) {
        let [(rows, row), (columns, column)] = self.window;
        w.set(count, 0.0);
        for (r, c) in (0..rows).flat_map(|r| (0..columns).map(move |c| (signed(r), signed(c)))) {
            w.bin(Bin::Add, count, count, Src::Splat(x(point, r * row + c * column + self.count)));
        }
    }

    /// Makes sums of what was counted, block by block those of so many points.
    pub(super) fn end(
        &self,
        w: &mut Writer,
        epilogue: &Epilogue,
        sums: &[V],
        points: usize,
        x: &impl Fn(usize, i64) -> Mem,
    ) {
        let (count, twice) = (w.take(), w.take());
        w.set(twice, -2.0);
        for point in 0..points {
            self.load_count(w, count, point, x);
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

/// Whether tiles without zeros have code of their own.
fn has_both(vectors: Vectors) -> bool {
    vectors.registers() >= MANY_REGISTERS
}

/// Counts where signs differ, for the next k, each with its place in x.
fn taps_of(
    w: &mut Writer,
    differ: Differ,
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
            let (ones, minus_ones) = (Src::Splat(x(point, tap)), Src::Splat(x(point, tap + 4)));
            let words = (differ == Differ::Selected).then(|| [ones, minus_ones].map(|word| spread(w, word)));
            let count = w.take();
            for (block, &weights) in weights.iter().enumerate() {
                match words {
                    // Operands in memory are spread at no cost.
                    None => w.bin(Bin::Xor, count, weights, ones),
                    Some([ones, minus_ones]) => w.bit_select(count, weights, minus_ones, ones),
                }
                w.count_ones(count, count);
                w.bin(Bin::AddInt, sum(block, point), sum(block, point), count);
            }
            w.drop(count);
            words.iter().for_each(|words| w.drop_all(words));
        }
        w.drop_all(&weights);
    }
    w.advance(W, signed(taps.len() * blocks * VECTOR_BYTES));
}

/// A word in all lanes of a register.
fn spread(w: &mut Writer, word: Src) -> V {
    let v = w.take();
    w.set(v, word);
    v
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
