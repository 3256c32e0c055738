//! 3×3 convolutions of stride 1 by Winograd's minimal filtering: patches, products, tiles.

use optc_ir::op::window::WindowAxis;
use optc_ir::op::{Act, ConvTranspose};
use optc_ir::{NodeId, ValueId};

use super::Planner;
use super::chain::Chain;
use super::conv::{FEW_CHANNELS, Window, channel_runs, operand_like};
use crate::memory::Memory;
use crate::plan::Arg;
use crate::tile::contract::{Contract, Tiling, Weights};
use crate::tile::copy::Copy;
use crate::tile::epilogue::{Epilogue, Strides};
use crate::tile::winograd::{Grid, PATCH, PLACES, Patches, REGISTERS, TILE, Tiles, Transformed, filters};
use crate::tile::winograd_filters::{Filters, TAPS};
use crate::tile::{LANES, VECTOR_BYTES, signed};

/// Vector instructions that transform a patch, and a tile, of one block of channels: arithmetic and moves.
const PATCH_WORK: usize = 290;
const TILE_WORK: usize = 190;

/// Bytes of weights a processor reads from memory while it multiplies two vectors: filters grow four times.
const BYTES_PER_PRODUCT: usize = 4;

/// Bytes of transformed patches and sums that stay in the caches until they are read.
const TRANSFORMED: usize = 6 << 20;

/// How many images are transformed at a time: a divisor of all, so that one kernel does for all of them.
fn images_at_once(images: usize, grid: Grid, [from, to]: [usize; 2]) -> usize {
    let of_image = grid.rows * grid.columns * PLACES * (from + to) * VECTOR_BYTES;
    let room = (TRANSFORMED / of_image).max(1);
    (1..=room.min(images)).rev().find(|&n| images.is_multiple_of(n)).unwrap_or(1)
}

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
    /// The tiles of the convolution that a transposed one of stride 1 is, by filters that are a value; `None` for
    /// one that is not worth transforming, or can't be.
    pub(super) fn transposed_tiles(&self, node: NodeId, conv: &ConvTranspose) -> Option<(Window, Grid)> {
        let graph = self.graph;
        let (x, w) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
        let (input, output) = (self.f32_shape(x)?, self.f32_shape(node.into())?);
        let kernel = self.f32_shape(w)?;
        if graph.constant(w).is_some() {
            return None;
        }
        let window = conv.window(kernel[2..].iter().copied());
        let axes = window.transposed_axes(input.get(2..)?, &conv.output_padding, &conv.output_shape).ok()?;
        let &[rows, columns] = axes.as_slice() else { return None };
        let axis = |axis: WindowAxis| {
            let begin = (axis.kernel - 1).checked_sub(axis.begin)?;
            Some(WindowAxis { input: axis.out, out: axis.input, begin, ..axis })
        };
        let axes = [axis(rows)?, axis(columns)?];
        let window = Window { images: input[0], channels: [input[1], output[1]], axes };
        let grid = self.winograd_grid(conv.group, &window)?;
        Some((window, grid))
    }

    /// The tiles of a convolution that is worth transforming; `None` for one that is not, or can't be.
    pub(super) fn winograd_grid(&self, group: usize, window: &Window) -> Option<Grid> {
        self.transformed(group, window).map(|(grid, _)| grid)
    }

    /// The vector instructions of a convolution that is worth transforming.
    pub(super) fn winograd_cycles(&self, group: usize, window: &Window) -> Option<usize> {
        self.transformed(group, window).map(|(_, cycles)| cycles)
    }

    fn transformed(&self, group: usize, window: &Window) -> Option<(Grid, usize)> {
        let fits = window.axes.iter().all(|axis| (axis.kernel, axis.stride, axis.dilation) == (3, 1, 1));
        let [channels, outputs] = window.channels;
        if !fits || group != 1 || channels < FEW_CHANNELS || self.target.vectors.registers() < REGISTERS {
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

    /// A convolution by tiles, and the functions that follow it; `reversed` if it is a transposed one.
    pub(super) fn winograd(
        &mut self,
        chain: &Chain,
        act: Act,
        window: &Window,
        grid: Grid,
        reversed: bool,
    ) -> Option<()> {
        let node = chain.start;
        let (x, w) = (self.graph.operand(node, 0)?, self.graph.operand(node, 1)?);
        let (epilogue, operands) = self.image_epilogue(chain, act, window.output())?;
        let (buffer, image) = self.blocked(node, x, window.border_of_patches(grid))?;
        let blocks = [image.blocks(), window.channels[1].div_ceil(LANES)];
        let images = images_at_once(window.images, grid, blocks);
        let [from, to] = blocks.map(|blocks| Transformed { blocks, tiles: images * grid.rows * grid.columns });
        let (patches, sums) = (self.buffer(from.bytes()), self.buffer(to.bytes()));
        let contract = self.places(&from, &to, window.channels);
        let weights = if self.graph.constant(w).is_some() {
            self.packed_filters(w, &contract, window.channels)?
        } else {
            self.transformed_filters(node, w, &contract, window.channels, reversed)?
        };
        let (place, out) = self.place_blocked(chain.end, chain.end.into(), window.output());
        let transformation = Patches { images, grid, x: image.strides(), to: from };
        let [_, _, rows, columns] = window.output();
        let tiles = Tiles { images, rows, columns, grid, from: to, y: out.strides(), epilogue };
        for first in (0..window.images).step_by(images) {
            let at = |start: usize, image: i64| start + usize::try_from(image).expect("images lie forward") * first;
            let x = Arg::Buffer(buffer, at(window.origin(&image), image.strides().image));
            self.kernel(chain.end, transformation.clone(), vec![x, Arg::Buffer(patches, 0)]);
            self.kernel(chain.end, contract.clone(), vec![Arg::Buffer(patches, 0), weights, Arg::Buffer(sums, 0)]);
            let y = Arg::Buffer(place.buffer, at(out.start(), out.strides().image));
            let mut args = vec![Arg::Buffer(sums, 0), Arg::Buffer(sums, 0), y];
            let beside = operands.len() - tiles.epilogue.operands.len();
            args.extend(&operands[..beside]);
            for (arg, steps) in operands[beside..].iter().zip(&tiles.epilogue.operands) {
                args.push(match *arg {
                    Arg::Buffer(buffer, start) => Arg::Buffer(buffer, at(start, steps.image)),
                    constant @ Arg::Constant(..) => constant,
                });
            }
            let alike = operand_like(&out, &tiles.epilogue, &args).filter(|_| images == window.images);
            self.kernel(chain.end, tiles.clone(), args);
            self.allow_in_place(alike, 2);
        }
        Some(())
    }

    /// Constant filters, transformed ahead.
    fn packed_filters(&mut self, w: ValueId, contract: &Contract, [channels, outputs]: [usize; 2]) -> Option<Arg> {
        let packing = contract.clone();
        let how = format!("winograd {}", contract.tiling.blocks);
        self.packed(w, how, move |numbers| {
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
        })
    }

    /// Filters that are a value: steps put outputs next to each other, then transform them.
    fn transformed_filters(
        &mut self,
        node: NodeId,
        w: ValueId,
        contract: &Contract,
        [channels, outputs]: [usize; 2],
        reversed: bool,
    ) -> Option<Arg> {
        let how = format!("winograd {} {reversed}", contract.tiling.blocks);
        if let Some(&buffer) = self.packed_values.get(&(w, how.clone())) {
            return Some(Arg::Buffer(buffer, 0));
        }
        let from = self.plain(node, w)?;
        let filters = Filters::new(contract, reversed);
        let moved = self.buffer(filters.vectors() * VECTOR_BYTES);
        if !outputs.is_multiple_of(LANES) {
            self.keep(moved);
        }
        let filter = signed(TAPS * 4);
        let (output, channel) =
            if reversed { (filter, filter * signed(outputs)) } else { (filter * signed(channels), filter) };
        let bytes = |vectors: usize| signed(vectors * VECTOR_BYTES);
        let mut copies = Vec::new();
        let (whole, rest) = (outputs / LANES, outputs % LANES);
        for (first, blocks, lanes) in [(0, whole, LANES), (whole, 1, rest)] {
            if blocks * lanes > 0 {
                let extents = [blocks, channels, TAPS, lanes];
                let walk = [output * signed(LANES), channel, 4, output];
                let copy = Copy::new(&extents, &walk, &[bytes(channels * TAPS), bytes(TAPS), bytes(1), 4]);
                copies.push((copy, output * signed(first * LANES), first * channels * TAPS * VECTOR_BYTES));
            }
        }
        self.pack_by(node, from, moved, copies)?;
        let buffer = self.buffer(contract.packed_len() * 4);
        self.kernel(node, filters, vec![Arg::Buffer(moved, 0), Arg::Buffer(buffer, 0)]);
        self.packed_values.insert((w, how), buffer);
        Some(Arg::Buffer(buffer, 0))
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
