//! 3×3 convolutions of stride 1 by Winograd's minimal filtering: patches, products, tiles.

use optc_ir::op::{Act, Conv};

use super::Planner;
use super::chain::Chain;
use super::conv::{FEW_CHANNELS, Window, channel_runs, operand_like};
use crate::memory::Memory;
use crate::plan::Arg;
use crate::tile::contract::{Contract, Tiling, Weights};
use crate::tile::epilogue::{Epilogue, Strides};
use crate::tile::winograd::{Grid, PATCH, PLACES, Patches, REGISTERS, TILE, Tiles, Transformed, filters};
use crate::tile::{LANES, VECTOR_BYTES, signed};

/// Vector instructions that transform a patch, and a tile, of one block of channels: arithmetic and moves.
const PATCH_WORK: usize = 290;
const TILE_WORK: usize = 190;

/// Bytes of weights a processor reads from memory while it multiplies two vectors: filters grow four times.
const BYTES_PER_PRODUCT: usize = 4;

/// Bytes of weights that stay in the cache from one run to the next, as a rule.
const CACHED: usize = 2 << 20;

impl Window {
    /// The border that patches reach into.
    pub(super) fn border_of_patches(&self, grid: Grid) -> [usize; 4] {
        let [rows, columns] = &self.axes;
        let end =
            |tiles: usize, input: usize, begin: usize| (tiles * TILE + PATCH - TILE).saturating_sub(input + begin);
        [
            rows.begin,
            columns.begin,
            end(grid.rows, rows.input, rows.begin),
            end(grid.columns, columns.input, columns.begin),
        ]
    }
}

impl Planner<'_> {
    /// The tiles of a convolution that is worth transforming; `None` for one that is not, or can't be.
    pub(super) fn winograd_grid(&self, conv: &Conv, window: &Window) -> Option<Grid> {
        self.transformed(conv, window).map(|(grid, _)| grid)
    }

    /// The vector instructions of a convolution that is worth transforming.
    pub(super) fn winograd_cycles(&self, conv: &Conv, window: &Window) -> Option<usize> {
        self.transformed(conv, window).map(|(_, cycles)| cycles)
    }

    fn transformed(&self, conv: &Conv, window: &Window) -> Option<(Grid, usize)> {
        let fits = window.axes.iter().all(|axis| (axis.kernel, axis.stride, axis.dilation) == (3, 1, 1));
        let [channels, outputs] = window.channels;
        if !fits || conv.group != 1 || channels < FEW_CHANNELS || self.target.vectors.registers() < REGISTERS {
            return None;
        }
        let [rows, columns] = window.axes.map(|axis| axis.out);
        let grid = Grid { rows: rows.div_ceil(TILE), columns: columns.div_ceil(TILE) };
        let tiles = window.images * grid.rows * grid.columns;
        let (from, to) = (channels.div_ceil(LANES), outputs.div_ceil(LANES));
        let weights = |taps: usize| {
            let bytes = taps * channels * to * VECTOR_BYTES;
            if bytes > CACHED { bytes / BYTES_PER_PRODUCT } else { 0 }
        };
        // A processor multiplies while it waits for weights.
        let plain = (window.images * rows * columns * 9 * channels * to).max(weights(9));
        let products = (tiles * PLACES * channels * to).max(weights(PLACES));
        let transformed = products + tiles * (from * PATCH_WORK + to * TILE_WORK);
        (transformed + transformed / 8 < plain).then_some((grid, transformed))
    }

    /// A convolution by tiles, and the functions that follow it.
    pub(super) fn winograd(&mut self, chain: &Chain, act: Act, window: &Window, grid: Grid) -> Option<()> {
        let node = chain.start;
        let (x, w) = (self.graph.operand(node, 0)?, self.graph.operand(node, 1)?);
        let [channels, outputs] = window.channels;
        let tiles = window.images * grid.rows * grid.columns;
        let (epilogue, mut operands) = self.image_epilogue(chain, act, window.output())?;
        let (buffer, image) = self.blocked(node, x, window.border_of_patches(grid))?;
        let from = Transformed { blocks: image.blocks(), tiles };
        let to = Transformed { blocks: outputs.div_ceil(LANES), tiles };
        let (patches, sums) = (self.buffer(from.bytes()), self.buffer(to.bytes()));
        let transformation = Patches { images: window.images, grid, x: image.strides(), to: from };
        let args = vec![Arg::Buffer(buffer, window.origin(&image)), Arg::Buffer(patches, 0)];
        self.kernel(chain.end, transformation, args);

        let contract = self.places(&from, &to, window.channels);
        let packing = contract.clone();
        let how = format!("winograd {}", contract.tiling.blocks);
        let weights = self.packed(w, how, move |numbers| {
            let mut packed = Memory::zeroed(packing.packed_len())?;
            let weights = packed.numbers_mut();
            let place = packing.position(1, 0, 0);
            // A block of outputs lies next to each other in each of the places.
            for block in (0..outputs).step_by(LANES) {
                let lanes = LANES.min(outputs - block);
                for c in 0..channels {
                    let mut g = [[0.0; LANES]; 9];
                    for lane in 0..lanes {
                        let filter = &numbers[((block + lane) * channels + c) * 9..][..9];
                        g.iter_mut().zip(filter).for_each(|(g, &weight)| g[lane] = weight);
                    }
                    let first = packing.position(0, block, c);
                    for (i, u) in filters(&g).iter().enumerate() {
                        weights[first + i * place..][..lanes].copy_from_slice(&u[..lanes]);
                    }
                }
            }
            Ok(packed)
        })?;
        self.kernel(chain.end, contract, vec![Arg::Buffer(patches, 0), weights, Arg::Buffer(sums, 0)]);

        let (place, out) = self.place_blocked(chain.end, chain.end.into(), window.output());
        let [images, _, rows, columns] = window.output();
        let tiles = Tiles { images, rows, columns, grid, from: to, y: out.strides(), epilogue };
        let mut args = vec![Arg::Buffer(sums, 0), Arg::Buffer(sums, 0), Arg::Buffer(place.buffer, out.start())];
        args.append(&mut operands);
        let alike = operand_like(&out, &tiles.epilogue, &args);
        self.kernel(chain.end, tiles, args);
        self.allow_in_place(alike, 2);
        Some(())
    }

    /// The products of all places of patches: a contraction over channels for each.
    fn places(&self, from: &Transformed, to: &Transformed, [channels, outputs]: [usize; 2]) -> Contract {
        let steps = |t: &Transformed| Strides {
            group: t.place(),
            block: t.block(),
            column: signed(VECTOR_BYTES),
            ..Strides::default()
        };
        let mut target = self.target;
        // Places are work for every thread already.
        target.threads = 1;
        Contract {
            images: 1,
            groups: PLACES,
            outputs,
            rows: 1,
            columns: from.tiles,
            runs: channel_runs(channels, from.block(), &[]),
            x: Strides { block: 0, ..steps(from) },
            y: steps(to),
            whole_blocks: true,
            weights: Weights::Packed,
            epilogue: Epilogue::default(),
            tiling: Tiling::choose(&target, [to.blocks, 1, from.tiles], 0),
        }
    }
}
