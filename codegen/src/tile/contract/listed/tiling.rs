//! The tiling of a contraction by lists, and what it costs.

use super::{Listed, Positions};
use crate::target::Target;
use crate::tile::contract::Tiling;
use crate::tile::program::{LANES, VECTOR_BYTES};
use crate::tile::schedule::segment_runs;

/// Most blocks that share a list.
const MAX_BLOCKS: usize = 4;

/// Bytes of x that the nearest cache keeps.
const NEAREST: usize = 24 << 10;

/// Cycles for each line of x that comes from further away.
const FAR: f64 = 1.6;

/// Cycles of a list's entry besides its products: its x is found, weights come near.
const ENTRY: f64 = 0.4;

/// Cycles of a load; where a vector is several registers, elements of x are still loaded once.
const LOAD: f64 = 0.9;

/// Products in the time from one of a sum to its next.
const LATENCY: f64 = 8.0;

/// Cycles of a tile, and of each of its sums, besides its products.
const TILE: f64 = 16.0;
const SUM: f64 = 2.5;

/// What a tile of points reads of x.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    /// Images.
    pub(crate) images: usize,
    /// Channels of a group.
    pub(crate) channels: usize,
    /// Rows and columns of points.
    pub(crate) points: [usize; 2],
    /// Along rows and columns the extent of a window, and its step.
    pub(crate) window: [(usize, usize); 2],
}

impl Footprint {
    /// Pixels that so many rows and columns of points see.
    fn pixels(&self, points: [usize; 2]) -> usize {
        let [rows, columns] = [0, 1].map(|axis| {
            let (extent, step) = self.window[axis];
            // Windows that leave gaps read no more than themselves.
            ((points[axis] - 1) * step + extent).min(points[axis] * extent)
        });
        rows * columns
    }
}

/// How a contraction by lists is tiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) tiling: Tiling,
    pub(crate) points_first: bool,
    /// Cycles, one being a vector multiplied and added.
    pub(crate) cycles: f64,
}

/// The tiling that takes the fewest cycles; `temporaries` registers are left to the epilogue, and `reading` says how
/// long constants of so many bytes take to come.
pub(crate) fn choose(
    positions: &Positions,
    target: &Target,
    footprint: &Footprint,
    temporaries: usize,
    reading: impl Fn(usize) -> f64,
) -> Choice {
    let [rows, columns] = footprint.points;
    let (registers, most) = (target.vectors.registers(), target.vectors.accumulators());
    let ways = Listed::ways(rows * columns);
    let tiling = Tiling { blocks: 1, rows: 1, columns: 1 };
    let mut best = Choice { tiling, points_first: false, cycles: f64::INFINITY };
    // Whose turn it is depends on the list.
    let most_blocks = if ways > 1 { 1 } else { MAX_BLOCKS };
    for blocks in 1..=positions.blocks().min(most).min(most_blocks) {
        let listed = positions.listed(blocks);
        for r in 1..=rows.min(4) {
            for c in 1..=columns.min(most / (blocks * r)) {
                let sums = blocks * r * c;
                let spare = if blocks == 1 { 1 } else { blocks + 1 };
                let needed = (sums * ways + spare).max(sums + temporaries);
                if needed > registers && sums > 1 {
                    continue;
                }
                let tiling = Tiling { blocks, rows: r, columns: c };
                let mut choice = cost(positions, listed, tiling, footprint, target);
                choice.cycles = choice.cycles.max(reading(listed * blocks * VECTOR_BYTES));
                // Ties go to fewer blocks: their lists are shorter.
                if choice.cycles < best.cycles * 0.995 {
                    best = choice;
                }
            }
        }
    }
    best
}

/// What a tiling costs whose tiles have so many entries in their lists.
fn cost(positions: &Positions, listed: usize, tiling: Tiling, footprint: &Footprint, target: &Target) -> Choice {
    let [rows, columns] = footprint.points;
    let tiles = positions.groups * positions.blocks().div_ceil(tiling.blocks);
    // Of a point's lines of x those that some list of a tile names.
    let lines = (footprint.channels.div_ceil(LANES)).min(listed.div_ceil(tiles));
    let ways = Listed::ways(rows * columns);
    let parts = target.vectors.parts() as f64;
    let bytes = |points| footprint.pixels(points) * footprint.channels * 4;
    let all_near = bytes(footprint.points) <= NEAREST;
    let near = bytes([tiling.rows, tiling.columns]) <= NEAREST;
    let mut total = 0.0;
    for (r_count, r) in [(rows / tiling.rows, tiling.rows), (1, rows % tiling.rows)] {
        for (c_count, c) in segment_runs(columns, tiling.columns) {
            if r == 0 {
                continue;
            }
            let (sums, points) = (tiling.blocks * r * c, r * c);
            let loads = if tiling.blocks == 1 || points == 1 { sums + 1 } else { tiling.blocks + points };
            let entry = (sums as f64).max(loads as f64 * LOAD / parts).max(LATENCY / parts / ways as f64) + ENTRY;
            let missing = (footprint.pixels([r, c]) * lines) as f64 * FAR;
            let far = match (all_near, near) {
                (true, _) => 0.0,
                (false, true) => missing * positions.groups as f64,
                (false, false) => missing * tiles as f64,
            };
            let tile = tiles as f64 * (TILE + SUM * (sums * ways) as f64);
            total += (r_count * c_count) as f64 * (listed as f64 * entry + tile + far);
        }
    }
    let mut units = tiles * rows.div_ceil(tiling.rows) * footprint.images;
    if rows == 1 {
        units *= columns.div_ceil(tiling.columns);
    }
    // The last round of units leaves threads without work.
    let idle = (units.div_ceil(target.threads) * target.threads) as f64 / units as f64;
    Choice { tiling, points_first: near && !all_near, cycles: total * footprint.images as f64 * idle }
}
