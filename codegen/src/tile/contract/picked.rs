//! Contractions whose outputs have weights for few of every sixteen k: those of N:M sparsity, such as two in every
//! four.
//!
//! A window is sixteen k whose x lie next to each other, in a register for each point of a tile. For each slot of a
//! window, every lane picks the element of x that its next weight is for, and multiplies it; so no more products are
//! computed than some output has weights. What lies where is as in dense contractions.
//!
//! Where a lane has no weight for a slot, it multiplies some element of x by zero.

use optc_ir::ExecError;

use super::Contract;
use crate::memory::Memory;
use crate::tile::epilogue::W;
use crate::tile::program::{LANES, Mem, Src, V, VECTOR_BYTES, Writer};
use crate::tile::schedule::signed;

/// Elements of a window.
pub(crate) const WINDOW: usize = LANES;

/// Bits of a place in a window, and places in a lane of a vector.
const BITS: usize = 4;
const PLACES: usize = 32 / BITS;

/// Cycles to pick an element and multiply it, for each point and vector of outputs.
const PICK: f64 = 1.42;

/// Cycles to begin and end a sum.
const SUM: f64 = 3.0;

/// How many weights outputs have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Picked {
    /// Weights that are not zero.
    pub(crate) nonzeros: usize,
    /// Slots of a window: the most weights that an output has in one.
    pub(crate) slots: usize,
}

impl Picked {
    /// Vectors of a window's weights: places, then weights.
    fn vectors(self) -> usize {
        self.slots.div_ceil(PLACES) + self.slots
    }

    /// Registers of a tile besides its sums: windows, places, weights, and what was picked.
    pub(super) fn registers(points: usize) -> usize {
        points + 3
    }

    /// Cycles of one k, counted as those of other weights are.
    pub(super) fn tile_cycles(self, points: usize) -> f64 {
        let slot = (PICK * points as f64 + 1.0).max(8.0);
        (self.slots as f64 * slot + points as f64) / WINDOW as f64 / 2.0
    }

    /// Cycles of a product of so many points, vectors of outputs and windows, a vector product counting as one.
    pub(crate) fn cycles(self, points: usize, vectors: usize, windows: usize) -> f64 {
        (points * vectors) as f64 * (windows as f64 * (self.slots as f64 * PICK + 0.8) + SUM)
    }

    /// Bytes of the weights of so many vectors of outputs and windows.
    pub(crate) fn bytes(self, vectors: usize, windows: usize) -> usize {
        vectors * windows * self.vectors() * VECTOR_BYTES
    }

    /// The slots of a window that begins with the first of some taps, for a tile of one block.
    pub(super) fn window(self, w: &mut Writer, taps: &[i64], sums: &[V], x: &impl Fn(usize, i64) -> Mem) {
        let windows = w.take_all(sums.len());
        for (point, &window) in windows.iter().enumerate() {
            w.load_lanes(window, x(point, taps[0]), taps.len());
        }
        let [places, weights, picked] = [w.take(), w.take(), w.take()];
        let vector = |i: usize| W.at(signed(i * VECTOR_BYTES));
        let heads = self.slots.div_ceil(PLACES);
        for slot in 0..self.slots {
            match slot % PLACES {
                0 => w.load(places, vector(slot / PLACES)),
                _ => w.shr(places, places, BITS),
            }
            w.load(weights, vector(heads + slot));
            for (&sum, &window) in sums.iter().zip(&windows) {
                w.lookup(picked, places, &[window]);
                w.fma(sum, picked, Src::Reg(weights));
            }
        }
        w.drop_all(&[places, weights, picked]);
        w.drop_all(&windows);
        w.advance(W, signed(self.vectors() * VECTOR_BYTES));
    }
}

/// The most weights that rows have in a window, if it is at most so many; `windows` gives those of each window.
pub(crate) fn slots(windows: impl Iterator<Item = usize>, most: usize) -> Option<usize> {
    let mut slots = 0;
    for count in windows {
        slots = count.max(slots);
        if slots > most {
            return None;
        }
    }
    Some(slots)
}

impl Contract {
    /// Windows that the walk over k goes through.
    fn windows(&self) -> usize {
        self.runs.iter().map(|run| run.len() / run.taps.len()).sum()
    }

    /// Vectors of a tile of one block.
    pub(super) fn picked_tile(&self, picked: Picked) -> usize {
        self.windows() * picked.vectors()
    }

    /// Lays weights out: `weight` gives that of group, output and k.
    ///
    /// # Errors
    /// If the machine has no room for them.
    pub(crate) fn pack_picked(
        &self,
        picked: Picked,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Result<Memory, ExecError> {
        let heads = picked.slots.div_ceil(PLACES);
        let len = self.groups * self.blocks() * self.picked_tile(picked) * LANES;
        Memory::written(len, |packed| {
            for (group, block) in (0..self.groups).flat_map(|g| (0..self.blocks()).map(move |block| (g, block))) {
                let mut k = 0;
                for run in &self.runs {
                    for _ in 0..run.len() / run.taps.len() {
                        let start = packed.len();
                        packed.resize(start + picked.vectors() * LANES, 0.0);
                        for (lane, output) in (block * LANES..self.outputs.min((block + 1) * LANES)).enumerate() {
                            let there = (0..run.taps.len()).map(|i| (i, weight(group, output, k + i)));
                            let there = there.filter(|(_, weight)| *weight != 0.0);
                            let mut places = vec![0; heads];
                            for (slot, (i, weight)) in there.enumerate() {
                                debug_assert!(slot < picked.slots, "a window has as many slots as weights");
                                places[slot / PLACES] |= (i as u32) << (slot % PLACES * BITS);
                                packed[start + (heads + slot) * LANES + lane] = weight;
                            }
                            for (head, places) in places.into_iter().enumerate() {
                                packed[start + head * LANES + lane] = f32::from_bits(places);
                            }
                        }
                        k += run.taps.len();
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
