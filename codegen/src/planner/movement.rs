//! Operators that only move elements, and are no views: borders, repetitions, and channels to pixels and back.

use optc_ir::op::infer::resolve_axes;
use optc_ir::op::{DepthOrder, Pad, PadMode};
use optc_ir::{NodeId, Op, Tensor, interp};

use super::Planner;
use crate::layout::{permuted, plain_strides, reshaped};
use crate::plan::Arg;
use crate::tile::copy::Copy;
use crate::tile::fill::{Fill, Region};
use crate::tile::signed;

/// Boxes beyond which copies one by one would make a long plan.
const MAX_BOXES: usize = 64;

/// Elements of one axis in a row: where they stand in the result, where the first comes from, how far apart they
/// come from, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    to: usize,
    from: i64,
    step: i64,
    count: usize,
}

impl Planner<'_> {
    /// A pad, a repetition, or a move between channels and pixels.
    pub(super) fn movement(&mut self, node: NodeId) -> Option<()> {
        let graph = self.graph;
        match graph.op(node) {
            Op::Pad(pad) => self.pad(node, pad),
            Op::Tile(_) => self.tile(node),
            Op::DepthToSpace(op) => {
                let &[n, c, h, w] = self.f32_shape(graph.operand(node, 0)?)?.as_slice() else { return None };
                let (b, depth) = (op.block, c / (op.block * op.block));
                match op.order {
                    DepthOrder::Dcr => self.regrouped(node, &[n, b, b, depth, h, w], &[0, 3, 4, 1, 5, 2]),
                    DepthOrder::Crd => self.regrouped(node, &[n, depth, b, b, h, w], &[0, 1, 4, 2, 5, 3]),
                }
            }
            Op::SpaceToDepth(op) => {
                let &[n, c, h, w] = self.f32_shape(graph.operand(node, 0)?)?.as_slice() else { return None };
                let b = op.block;
                self.regrouped(node, &[n, c, h / b, b, w / b, b], &[0, 3, 5, 1, 2, 4])
            }
            _ => None,
        }
    }

    /// An operand as often along each axis as the result is longer.
    fn tile(&mut self, node: NodeId) -> Option<()> {
        let x = self.graph.operand(node, 0)?;
        let (own, shape) = (self.f32_shape(x)?, self.f32_shape(node.into())?);
        let (arg, strides) = self.strided(node, x)?;
        let place = self.place_plain(node.into(), &shape);
        let extents: Vec<usize> = shape.iter().zip(&own).flat_map(|(all, one)| [all / one, *one]).collect();
        let from: Vec<i64> = strides.iter().flat_map(|&stride| [0, stride]).collect();
        let copy = Copy::new(&extents, &from, &plain_strides(&extents));
        self.kernel(node, copy, vec![arg, Arg::Buffer(place.buffer, 0)]);
        Some(())
    }

    /// The elements of an operand seen as `split`, its axes permuted.
    fn regrouped(&mut self, node: NodeId, split: &[usize], order: &[usize]) -> Option<()> {
        let x = self.graph.operand(node, 0)?;
        let (arg, strides) = self.strided(node, x)?;
        let from = reshaped(&self.f32_shape(x)?, &strides, split)?;
        let shape = self.f32_shape(node.into())?;
        let moved: Vec<usize> = order.iter().map(|&axis| split[axis]).collect();
        let place = self.place_plain(node.into(), &shape);
        let copy = Copy::new(&moved, &permuted(&from, order), &plain_strides(&moved));
        self.kernel(node, copy, vec![arg, Arg::Buffer(place.buffer, 0)]);
        Some(())
    }

    /// A pad by constant numbers.
    fn pad(&mut self, node: NodeId, pad: &Pad) -> Option<()> {
        let graph = self.graph;
        let x = graph.operand(node, 0)?;
        let (own, shape) = (self.f32_shape(x)?, self.f32_shape(node.into())?);
        let ints = |slot: usize| graph.constant_operand(node, slot)?.decode().data().to_i64();
        let pads = ints(1)?;
        let axes = match graph.operand(node, 3) {
            Some(_) => resolve_axes(&ints(3)?, own.len()).ok()?,
            None => (0..own.len()).collect(),
        };
        let value = match graph.operand(node, 2) {
            Some(_) => *graph.constant_operand(node, 2)?.decode().as_f32()?.first()?,
            None => 0.0,
        };
        let mut pieces: Vec<Vec<Piece>> =
            own.iter().map(|&count| vec![Piece { to: 0, from: 0, step: 1, count }]).collect();
        for (i, &axis) in axes.iter().enumerate() {
            pieces[axis] = sources(pad.mode, own[axis], [pads[i], pads[axes.len() + i]])?;
        }
        // Every combination of pieces is a box.
        let boxes: usize = pieces.iter().map(Vec::len).product();
        if boxes > MAX_BOXES {
            return None;
        }
        let (arg, strides) = self.strided(node, x)?;
        let place = self.place_plain(node.into(), &shape);
        let to = plain_strides(&shape);
        if pad.mode == PadMode::Constant {
            let regions = around(&shape, &to, &pieces);
            if !regions.is_empty() {
                self.kernel(node, Fill { value, regions }, vec![Arg::Buffer(place.buffer, 0)]);
                self.overlap();
            }
        }
        for index in 0..boxes {
            let mut rest = index;
            let of_axis = |axis: &Vec<Piece>| {
                let piece = axis[rest % axis.len()];
                rest /= axis.len();
                piece
            };
            let own: Vec<Piece> = pieces.iter().map(of_axis).collect();
            let extents: Vec<usize> = own.iter().map(|piece| piece.count).collect();
            let read: Vec<i64> = own.iter().zip(&strides).map(|(piece, stride)| piece.step * stride).collect();
            let first: i64 = own.iter().zip(&strides).map(|(piece, stride)| piece.from * stride).sum();
            let written: i64 = own.iter().zip(&to).map(|(piece, stride)| signed(piece.to) * stride).sum();
            let moved = |arg: Arg, bytes: i64| {
                let bytes = isize::try_from(bytes).ok()?;
                Some(match arg {
                    Arg::Buffer(i, at) => Arg::Buffer(i, at.checked_add_signed(bytes)?),
                    Arg::Constant(i, at) => Arg::Constant(i, at.checked_add_signed(bytes)?),
                })
            };
            let args = vec![moved(arg, first)?, moved(Arg::Buffer(place.buffer, 0), written)?];
            self.kernel(node, Copy::new(&extents, &read, &to), args);
            if index + 1 < boxes {
                self.overlap();
            }
        }
        Some(())
    }
}

/// Where the elements of a padded axis of so many come from, the border of a constant left out: what the
/// interpreter makes of their numbers, in pieces.
fn sources(mode: PadMode, extent: usize, pads: [i64; 2]) -> Option<Vec<Piece>> {
    let numbers = Tensor::i64([extent], (0..signed(extent)).collect::<Vec<i64>>());
    let (pads, border) = (Tensor::i64([2], pads), Tensor::i64([], [-1]));
    let padded = interp::eval(&Pad { mode }.into(), &[Some(&numbers), Some(&pads), Some(&border)]).ok()?;
    let mut pieces: Vec<Piece> = Vec::new();
    for (to, from) in padded.first()?.data().to_i64()?.into_iter().enumerate().filter(|(_, from)| *from >= 0) {
        match pieces.last_mut() {
            Some(piece) if piece.count == 1 && piece.to + 1 == to => (piece.count, piece.step) = (2, from - piece.from),
            Some(piece) if piece.to + piece.count == to && piece.from + signed(piece.count) * piece.step == from => {
                piece.count += 1;
            }
            _ => pieces.push(Piece { to, from, step: 1, count: 1 }),
        }
    }
    (!pieces.is_empty()).then_some(pieces)
}

/// What is left of a box around its inner part, one piece an axis: before and behind it along each axis, within
/// it along those further out.
fn around(shape: &[usize], strides: &[i64], pieces: &[Vec<Piece>]) -> Vec<Region> {
    let (mut start, mut extents) = (0, shape.to_vec());
    let mut regions = Vec::new();
    for (axis, pieces) in pieces.iter().enumerate() {
        let Piece { to, count, .. } = pieces[0];
        for (first, count) in [(0, to), (to + count, shape[axis] - to - count)] {
            if count > 0 {
                let mut extents = extents.clone();
                extents[axis] = count;
                let start = start + signed(first) * strides[axis];
                regions.push(Region { start, shape: extents, strides: strides.to_vec() });
            }
        }
        start += signed(to) * strides[axis];
        extents[axis] = count;
    }
    regions
}
