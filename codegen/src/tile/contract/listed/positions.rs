//! Where blocks of outputs have weights.

use crate::tile::program::LANES;

/// For each group and block of outputs, the places of k at which some output of the block has a weight that is not
/// zero.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Positions {
    pub(crate) groups: usize,
    /// Outputs of a group.
    pub(crate) outputs: usize,
    pub(crate) depth: usize,
    /// One bit a place, block by block.
    bits: Vec<u64>,
}

/// Whether a place is among them.
pub(super) fn has(bits: &[u64], place: usize) -> bool {
    bits[place / 64] >> (place % 64) & 1 == 1
}

impl Positions {
    /// Of weights that lie output by output: `row` gives those of group and output, and the place of the first.
    pub(crate) fn of_rows<'w>(
        [groups, outputs, depth]: [usize; 3],
        row: impl Fn(usize, usize) -> (usize, &'w [f32]),
    ) -> Positions {
        let mut positions = Positions { groups, outputs, depth, bits: Vec::new() };
        for group in 0..groups {
            for first in (0..outputs).step_by(LANES) {
                let mut any = vec![0; depth];
                for output in first..outputs.min(first + LANES) {
                    let (at, weights) = row(group, output);
                    // The sign of a zero does not count.
                    any[at..at + weights.len()].iter_mut().zip(weights).for_each(|(any, w)| *any |= w.to_bits() << 1);
                }
                positions.push(&any);
            }
        }
        positions
    }

    /// Of weights that lie place by place, outputs next to each other.
    pub(crate) fn of_columns(outputs: usize, weights: &[f32]) -> Positions {
        let depth = weights.len() / outputs;
        let mut positions = Positions { groups: 1, outputs, depth, bits: Vec::new() };
        for first in (0..outputs).step_by(LANES) {
            let block = |k: usize| &weights[k * outputs + first..k * outputs + outputs.min(first + LANES)];
            let any = |k: usize| block(k).iter().fold(0, |any, w| any | w.to_bits() << 1);
            positions.push(&(0..depth).map(any).collect::<Vec<u32>>());
        }
        positions
    }

    /// Adds a block, of what is not zero at each place.
    fn push(&mut self, any: &[u32]) {
        let word = |places: &[u32]| places.iter().rev().fold(0, |word, &any| word << 1 | u64::from(any != 0));
        self.bits.extend(any.chunks(64).map(word));
    }

    /// Blocks of outputs of a group.
    pub(crate) fn blocks(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// The places of a run of blocks together, a bit each.
    pub(super) fn together(&self, group: usize, first: usize, blocks: usize) -> Vec<u64> {
        let words = self.depth.div_ceil(64);
        let start = (group * self.blocks() + first) * words;
        let mut all = vec![0; words];
        for block in self.bits[start..start + blocks * words].chunks_exact(words) {
            all.iter_mut().zip(block).for_each(|(all, word)| *all |= word);
        }
        all
    }

    /// Places in all lists, if so many blocks share one each.
    pub(crate) fn listed(&self, blocks: usize) -> usize {
        let mut count = 0;
        for group in 0..self.groups {
            for first in (0..self.blocks()).step_by(blocks) {
                let together = self.together(group, first, blocks.min(self.blocks() - first));
                count += together.iter().map(|word| word.count_ones() as usize).sum::<usize>();
            }
        }
        count
    }

    /// The share of places that blocks have.
    pub(crate) fn share(&self) -> f64 {
        self.listed(1) as f64 / (self.groups * self.blocks() * self.depth) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_any_output() {
        let (outputs, depth) = (19, 70);
        let mut weights = vec![0.0; outputs * depth];
        let there = [(0, 3), (15, 3), (15, 69), (16, 64), (18, 0)];
        there.iter().for_each(|&(o, k)| weights[o * depth + k] = -1.0);
        weights[depth + 5] = -0.0;
        let rows = Positions::of_rows([1, outputs, depth], |_, o| (0, &weights[o * depth..][..depth]));
        let transposed: Vec<f32> = (0..depth * outputs).map(|i| weights[i % outputs * depth + i / outputs]).collect();
        assert_eq!(rows, Positions::of_columns(outputs, &transposed));
        let list = |first, blocks| {
            let bits = rows.together(0, first, blocks);
            (0..depth).filter(|&k| has(&bits, k)).collect::<Vec<usize>>()
        };
        assert_eq!((list(0, 1), list(1, 1), list(0, 2)), (vec![3, 69], vec![0, 64], vec![0, 3, 64, 69]));
        assert_eq!((rows.listed(1), rows.listed(2), rows.share()), (4, 4, 4.0 / 140.0));
    }

    /// Groups that are computed as one have the places of their own channels alone.
    #[test]
    fn rows_begin_anywhere() {
        let row = [1.0, 0.0, 2.0];
        let positions = Positions::of_rows([2, 3, 9], |_, o| (3 * o, &row));
        assert_eq!((positions.blocks(), positions.listed(1)), (1, 2 * 6));
        assert!([0, 2, 3, 5, 6, 8].iter().all(|&k| has(&positions.together(1, 0, 1), k)));
    }
}
