//! Weights that are values: packed by steps of the plan, once for all readers that want the same layout.
//!
//! A constant is packed before the first run, element by element; of a value the plan says which boxes of it go
//! where. What no box fills, outputs that are missing in their block and channels of other groups, is zero: it
//! lies in a buffer that is kept from run to run and that nothing else writes.

use std::ops::Range;

use optc_ir::{NodeId, ValueId};

use super::Planner;
use super::conv::Order;
use crate::memory::Memory;
use crate::plan::Arg;
use crate::tile::contract::Contract;
use crate::tile::copy::Copy;
use crate::tile::depthwise::Depthwise;
use crate::tile::{LANES, VECTOR_BYTES, signed};

/// Boxes that a value may be packed by.
const MAX_BOXES: usize = 64;

/// An axis of the walk over k: how many, how far k moves, and bytes the value moves.
type KAxis = (usize, usize, i64);

/// Weights of some outputs and some k, as a value holds them.
#[derive(Clone, Debug)]
pub(super) struct WeightBox {
    pub(super) outputs: Range<usize>,
    /// Bytes from the beginning of the value to the first of them.
    pub(super) from: i64,
    /// The first k.
    pub(super) k: usize,
    pub(super) axes: Vec<KAxis>,
}

/// How a value holds weights: bytes from one group and one output to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    pub(super) group: i64,
    pub(super) output: i64,
}

impl Order {
    /// The boxes of some of `all` channels: where k begins and how it moves. Channels lie `step` bytes apart in
    /// the value, and taps as their loops say.
    pub(super) fn boxes(
        self,
        range: Range<usize>,
        all: usize,
        step: i64,
        taps: &[(usize, i64)],
    ) -> Vec<(usize, i64, Vec<KAxis>)> {
        let count: usize = taps.iter().map(|(count, _)| count).product();
        let of_taps = |width: usize| {
            let mut k = count * width;
            taps.iter().map(move |&(count, step)| {
                k /= count;
                (count, k, step)
            })
        };
        if let Order::Plain { .. } = self {
            let axes = [(range.len(), count, step)].into_iter().chain(of_taps(1)).collect();
            return vec![(range.start * count, step * signed(range.start), axes)];
        }
        let mut boxes = Vec::new();
        let mut channel = range.start;
        while channel < range.end {
            let (block, within) = (channel / LANES, channel % LANES);
            let width = LANES.min(all - block * LANES);
            let whole = if within == 0 && width == LANES { (range.end - channel) / LANES } else { 0 };
            let lanes = if whole > 0 { LANES } else { (width - within).min(range.end - channel) };
            let blocks = (whole.max(1), count * LANES, step * signed(LANES));
            let axes = [blocks].into_iter().chain(of_taps(width)).chain([(lanes, 1, step)]).collect();
            boxes.push((block * count * LANES + within, step * signed(channel), axes));
            channel += whole.max(1) * lanes;
        }
        boxes
    }
}

impl Planner<'_> {
    /// One number an output: a constant, packed as it is, or a value in order.
    pub(super) fn vector(&mut self, node: NodeId, value: ValueId) -> Option<Arg> {
        match self.graph.constant(value) {
            Some(_) => self.packed(value, "plain".to_owned(), Memory::copy),
            None => self.plain(node, value),
        }
    }

    /// A value as a contraction packs its weights.
    pub(super) fn packed_value(
        &mut self,
        node: NodeId,
        value: ValueId,
        how: String,
        contract: &Contract,
        (steps, boxes): (Steps, Vec<WeightBox>),
    ) -> Option<Arg> {
        if let Some(&buffer) = self.packed_values.get(&(value, how.clone())) {
            return Some(Arg::Buffer(buffer, 0));
        }
        let all: Vec<(Copy, i64, usize)> =
            boxes.iter().flat_map(|piece| copies(contract, steps, piece)).collect();
        if all.len() > MAX_BOXES {
            return None;
        }
        let from = self.plain(node, value)?;
        let buffer = self.buffer(contract.packed_len() * 4);
        let filled: usize = all.iter().map(|(copy, ..)| copy.elements()).sum();
        if filled < contract.packed_len() {
            self.keep(buffer);
        }
        self.packed_values.insert((value, how), buffer);
        self.pack_by(node, from, buffer, all)
    }

    /// A value as a depthwise layer packs its weights; `taps` are the loops over its elements of a channel, of
    /// which there are `elements`, and `from` where the first one is.
    pub(super) fn packed_channels(
        &mut self,
        node: NodeId,
        value: ValueId,
        how: String,
        depthwise: &Depthwise,
        (channels, elements): (usize, usize),
        (start, taps): (i64, &[(usize, i64)]),
    ) -> Option<Arg> {
        if let Some(&buffer) = self.packed_values.get(&(value, how.clone())) {
            return Some(Arg::Buffer(buffer, 0));
        }
        let from = self.plain(node, value)?;
        let count: usize = taps.iter().map(|(count, _)| count).product();
        let buffer = self.buffer(depthwise.blocks * count * VECTOR_BYTES);
        let channel = signed(elements * 4);
        let (whole, rest) = (channels / LANES, channels % LANES);
        if rest > 0 {
            self.keep(buffer);
        }
        self.packed_values.insert((value, how), buffer);
        let mut all = Vec::new();
        for (first, blocks, lanes) in [(0, whole, LANES), (whole, 1, rest)] {
            if blocks * lanes == 0 {
                continue;
            }
            let extents: Vec<usize> =
                [blocks].into_iter().chain(taps.iter().map(|(count, _)| *count)).chain([lanes]).collect();
            let walk: Vec<i64> = [channel * signed(LANES)]
                .into_iter()
                .chain(taps.iter().map(|(_, step)| *step))
                .chain([channel])
                .collect();
            let mut to = vec![4];
            let mut bytes = signed(VECTOR_BYTES);
            for &extent in extents[..extents.len() - 1].iter().rev() {
                to.push(bytes);
                bytes *= signed(extent);
            }
            to.reverse();
            let copy = Copy::new(&extents, &walk, &to);
            all.push((copy, start + channel * signed(first * LANES), first * count * VECTOR_BYTES));
        }
        self.pack_by(node, from, buffer, all)
    }

    /// Appends copies into a buffer, each with where it begins in the value and in the buffer.
    pub(super) fn pack_by(&mut self, node: NodeId, from: Arg, buffer: usize, all: Vec<(Copy, i64, usize)>) -> Option<Arg> {
        let count = all.len();
        for (i, (copy, start, to)) in all.into_iter().enumerate() {
            let start = isize::try_from(start).ok()?;
            let from = match from {
                Arg::Buffer(i, at) => Arg::Buffer(i, at.checked_add_signed(start)?),
                Arg::Constant(i, at) => Arg::Constant(i, at.checked_add_signed(start)?),
            };
            self.kernel(node, copy, vec![from, Arg::Buffer(buffer, to)]);
            if i + 1 < count {
                self.overlap();
            }
        }
        Some(Arg::Buffer(buffer, 0))
    }
}

/// The copies that pack a box: one for each run of equal tiles of outputs. Each with where it begins in the value
/// and among the packed weights, in bytes.
fn copies(contract: &Contract, steps: Steps, piece: &WeightBox) -> Vec<(Copy, i64, usize)> {
    let depth = contract.depth();
    let mut copies = Vec::new();
    let mut output = piece.outputs.start;
    while output < piece.outputs.end {
        let (first, width) = contract.tile_of(output);
        let whole = if output == first && width == contract.tiling.blocks * LANES {
            (piece.outputs.end - output) / width
        } else {
            0
        };
        let lanes = if whole > 0 { width } else { (first + width).min(piece.outputs.end) - output };
        let tiles = whole.max(1);
        let group = contract.blocks() * LANES * depth * 4;
        let outer = [
            (contract.groups, steps.group, signed(group)),
            (tiles, steps.output * signed(width), signed(width * depth * 4)),
        ];
        let inner = piece.axes.iter().map(|&(count, k, step)| (count, step, signed(k * width * 4)));
        let axes: Vec<(usize, i64, i64)> =
            outer.into_iter().chain(inner).chain([(lanes, steps.output, 4)]).collect();
        let column = |pick: fn(&(usize, i64, i64)) -> i64| axes.iter().map(pick).collect::<Vec<i64>>();
        let extents: Vec<usize> = axes.iter().map(|axis| axis.0).collect();
        let copy = Copy::new(&extents, &column(|axis| axis.1), &column(|axis| axis.2));
        let from = piece.from + steps.output * signed(output - piece.outputs.start);
        copies.push((copy, from, contract.position(0, output, piece.k) * 4));
        output += tiles * lanes;
    }
    copies
}
