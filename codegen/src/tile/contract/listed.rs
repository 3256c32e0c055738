//! Contractions that read some k alone: those at which a tile of outputs has weights, named by a list.
//!
//! Lists are for whole blocks of outputs: of layers whose filters all keep the same weights, or whose weights are
//! zero block by block. Lanes, layouts and epilogues are those of dense contractions; only the walk over k is data:
//! for each k of a tile, how many bytes from a point its x stands, and the weights of the tile.
//!
//! A stream holds everything: a table of tiles, then the lists, each once for neighbours that share it, then the
//! weights.
//!
//! Invariant: every sum takes its products in order of k, whatever the tiling; or by turns with others where there are
//! few points, and then each block of outputs has a list of its own. So all targets give the same bits.

mod positions;
mod tiling;

use optc_ir::ExecError;

pub(crate) use self::positions::Positions;
pub(crate) use self::tiling::{Choice, Footprint, choose};
use super::{Contract, Weights, multiply};
use crate::memory::Memory;
use crate::tile::epilogue::{W, X};
use crate::tile::program::{Bin, FIRST_LOCAL, LANES, P, Src, V, VECTOR_BYTES, Writer};
use crate::tile::schedule::signed;

/// Words of the table for each tile: where its weights are, where its list is, in bytes from the entry; how often the
/// loop over its list turns. The last is for nothing.
const ENTRY_WORDS: usize = 4;
const WEIGHTS: i64 = 0;
const LIST: i64 = 4;
const TURNS: i64 = 8;

const WORD: i64 = 4;

/// What is baked into the code of a contraction by lists.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Listed {
    /// Weights that are not zero.
    pub(crate) nonzeros: usize,
    /// Words of the stream.
    pub(crate) words: usize,
    /// The least and the greatest offset of x.
    pub(crate) span: (i64, i64),
    /// Sums that each result is made of: products for few points would wait for each other.
    pub(crate) ways: usize,
    /// Whether all tiles of outputs are computed for a tile of points before the next, whose x then stays near.
    pub(crate) points_first: bool,
}

/// What the tiles of a contraction read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lists {
    /// The k of each tile, group by group, ascending.
    tiles: Vec<Vec<usize>>,
    /// How many bytes from a point the x of each k stands.
    offsets: Vec<i32>,
}

impl Listed {
    /// Sums for each result, of so many points in all. It does not depend on the target, as sums do.
    pub(crate) fn ways(points: usize) -> usize {
        match points {
            1 => 4,
            2..4 => 2,
            _ => 1,
        }
    }

    /// From one tile of outputs to the next, in bytes of the table.
    pub(super) const TILE: i64 = WORD * ENTRY_WORDS as i64;

    /// The products of a tile; `sums` have begun, and `x` says where a point stands.
    pub(super) fn products(self, w: &mut Writer, [blocks, points]: [usize; 2], sums: &[V], x: &impl Fn(usize) -> i64) {
        let [list, weights, element] = [0, 1, 2].map(|i| P::of(FIRST_LOCAL + i));
        let stream = (0, signed(self.words) * WORD);
        let others: Vec<Vec<V>> = (1..self.ways).map(|_| w.take_all(sums.len())).collect();
        others.iter().flatten().for_each(|&sum| w.set(sum, 0.0));
        let (from, to) = (0..points).map(x).fold((0, 0), |(from, to), at| (at.min(from), at.max(to)));
        let x_span = (self.span.0 + from, self.span.1 + to + WORD);
        w.follow(list, W, W.at(LIST), stream);
        w.follow(weights, W, W.at(WEIGHTS), stream);
        w.repeat_as(W.at(TURNS), |w| {
            for (way, sums) in [sums].into_iter().chain(others.iter().map(Vec::as_slice)).enumerate() {
                w.follow(element, X, list.at(WORD * signed(way)), x_span);
                let place = |block: usize| weights.at(signed((way * blocks + block) * VECTOR_BYTES));
                if points == 1 {
                    let v = w.take();
                    w.set(v, Src::Splat(element.at(x(0))));
                    sums.iter().enumerate().for_each(|(block, &sum)| w.fma(sum, v, Src::Mem(place(block))));
                    w.drop(v);
                    continue;
                }
                let vectors = w.take_all(blocks);
                vectors.iter().enumerate().for_each(|(block, &v)| w.load(v, place(block)));
                let sum = |block: usize, point: usize| sums[block * points + point];
                multiply(w, &vectors, points, &sum, &|point| element.at(x(point)));
                w.drop_all(&vectors);
            }
            w.advance(list, WORD * signed(self.ways));
            w.advance(weights, signed(self.ways * blocks * VECTOR_BYTES));
        });
        for others in &others {
            sums.iter().zip(others).for_each(|(&sum, &other)| w.bin(Bin::Add, sum, sum, other));
        }
        others.iter().for_each(|others| w.drop_all(others));
    }
}

impl Contract {
    /// The same by lists, which `positions` says: of each k there, the place is `places[k]`. Weights are constants.
    /// `None` if x is too large for lists.
    pub(crate) fn by_lists(
        self,
        positions: &Positions,
        places: &[usize],
        nonzeros: usize,
        choice: Choice,
    ) -> Option<(Contract, Lists)> {
        let offsets = self.offsets().into_iter().map(|offset| i32::try_from(offset).ok()).collect::<Option<_>>()?;
        let mut contract = Contract { tiling: choice.tiling, ..self };
        let tile_of_blocks = |group: usize, first: usize, blocks: usize| {
            let together = positions.together(group, first, blocks);
            (0..places.len()).filter(|&k| positions::has(&together, places[k])).collect()
        };
        let mut tiles: Vec<Vec<usize>> = Vec::new();
        for group in 0..contract.groups {
            for (first, blocks, count) in contract.block_groups() {
                tiles.extend((0..count).map(|tile| tile_of_blocks(group, first + tile * blocks, blocks)));
            }
        }
        let lists = Lists { tiles, offsets };
        let of_lists = || lists.tiles.iter().flatten().map(|&k| i64::from(lists.offsets[k]));
        let listed = Listed {
            nonzeros,
            words: 0,
            span: (of_lists().min().unwrap_or(0), of_lists().max().unwrap_or(0)),
            ways: Listed::ways(contract.rows * contract.columns),
            points_first: choice.points_first,
        };
        let words = lists.layout(&contract, listed.ways).words;
        i32::try_from(words * 4).ok()?;
        contract.weights = Weights::Listed(Listed { words, ..listed });
        Some((contract, lists))
    }

    /// How many bytes from a point the x of each k stands.
    fn offsets(&self) -> Vec<i64> {
        let mut all = Vec::with_capacity(self.depth());
        for run in &self.runs {
            let mut starts = vec![run.start];
            for &(count, step) in &run.loops {
                starts = starts.iter().flat_map(|at| (0..count).map(move |i| at + signed(i) * step)).collect();
            }
            all.extend(starts.iter().flat_map(|at| run.taps.iter().map(move |tap| at + tap)));
        }
        all
    }

    /// Lays weights out as the lists want them: `weight` gives that of group, output and k.
    ///
    /// # Errors
    /// If the machine has no room for them.
    pub(crate) fn pack_lists(
        &self,
        lists: &Lists,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Result<Memory, ExecError> {
        let Weights::Listed(listed) = self.weights else { unreachable!("only contractions by lists have lists") };
        let layout = lists.layout(self, listed.ways);
        let integer = |n: usize| f32::from_bits(i32::try_from(n).expect("a stream is below 2 GiB").cast_unsigned());
        let offset = |k: usize| f32::from_bits(lists.offsets[k].cast_unsigned());
        let mut tiles = self.tiles();
        // Behind the stream is room for what a program may think it reads, wherever its entry is.
        Memory::written(layout.words + layout.tiles.len() * ENTRY_WORDS, |stream| {
            let start = stream.len();
            for (tile, (list, weights)) in layout.tiles.iter().enumerate() {
                let entry = tile * ENTRY_WORDS;
                let turns = lists.tiles[tile].len().div_ceil(listed.ways);
                stream.extend([(weights - entry) * 4, (list - entry) * 4, turns, 0].map(integer));
            }
            for (tile, (list, _)) in layout.tiles.iter().enumerate() {
                if stream.len() - start == *list {
                    let ks = padded(&lists.tiles[tile], listed.ways);
                    stream.extend(ks.map(|(k, _)| offset(k)));
                }
            }
            stream.resize(start + layout.weights, 0.0);
            for list in &lists.tiles {
                let (group, first, blocks) = tiles.next().expect("every tile has a list");
                for (k, is_there) in padded(list, listed.ways) {
                    let outputs = first * LANES..(first + blocks) * LANES;
                    let of = |o: usize| if is_there && o < self.outputs { weight(group, o, k) } else { 0.0 };
                    stream.extend(outputs.map(of));
                }
            }
        })
    }

    /// All tiles of outputs: their group, first block and blocks.
    fn tiles(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let groups = self.block_groups();
        (0..self.groups).flat_map(move |group| {
            let tiles = groups.clone().into_iter();
            tiles.flat_map(move |(first, blocks, count)| (0..count).map(move |i| (group, first + i * blocks, blocks)))
        })
    }
}

/// A list up to whole turns: what is there, then its last k again, without weights.
fn padded(list: &[usize], ways: usize) -> impl Iterator<Item = (usize, bool)> {
    let missing = list.len().next_multiple_of(ways) - list.len();
    let last = list.last().map(|&k| (k, false));
    list.iter().map(|&k| (k, true)).chain(last.into_iter().cycle().take(missing))
}

/// Where everything stands in a stream, in words.
struct Layout {
    /// The list and the weights of each tile.
    tiles: Vec<(usize, usize)>,
    /// Where weights begin.
    weights: usize,
    words: usize,
}

impl Lists {
    fn layout(&self, contract: &Contract, ways: usize) -> Layout {
        let mut at = self.tiles.len() * ENTRY_WORDS;
        let mut lists: Vec<usize> = Vec::with_capacity(self.tiles.len());
        for (i, list) in self.tiles.iter().enumerate() {
            let same = i.checked_sub(1).filter(|&before| self.tiles[before] == *list);
            lists.push(same.map_or(at, |before| lists[before]));
            if same.is_none() {
                at += list.len().next_multiple_of(ways);
            }
        }
        let weights = at.next_multiple_of(LANES);
        at = weights;
        let mut tiles = Vec::with_capacity(lists.len());
        for ((list, ks), (_, _, blocks)) in lists.into_iter().zip(&self.tiles).zip(contract.tiles()) {
            tiles.push((list, at));
            at += ks.len().next_multiple_of(ways) * blocks * LANES;
        }
        Layout { tiles, weights, words: at }
    }
}

#[cfg(test)]
mod tests;
