//! Masks of attention: what is added to scores before their softmax is added within its kernel.
//!
//! The sum is planned with the softmax that alone reads it, so that scores go by once. What scales scores stays
//! with whatever computes them.

use optc_ir::op::Binary;
use optc_ir::op::infer::resolve_axis;
use optc_ir::{NodeId, Op, ValueId};

use super::Planner;
use super::map::broadcast;
use crate::layout::plain_strides;
use crate::plan::Arg;
use crate::tile::rows::{RowAxis, RowFunction, Rows};

/// The operands of a sum that only a softmax reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Masked {
    /// The sum.
    pub(super) sum: NodeId,
    scores: ValueId,
    /// Broadcast to the shape of the scores; rows are whole.
    mask: ValueId,
}

impl Planner<'_> {
    /// Finds the sums that are planned with a softmax over their last axis.
    pub(super) fn find_masks(&mut self) {
        for node in self.graph.topo_order() {
            if let Some(masked) = self.masked(node) {
                self.absorbed.insert(masked.sum, node);
                self.masks.insert(node, masked);
            }
        }
    }

    fn masked(&self, node: NodeId) -> Option<Masked> {
        let graph = self.graph;
        let Op::Softmax(softmax) = graph.op(node) else { return None };
        let shape = self.f32_shape(node.into())?;
        if resolve_axis(softmax.axis, shape.len()).ok()? != shape.len() - 1 {
            return None;
        }
        let sum = graph.operand(node, 0)?;
        if !matches!(graph.op(sum.node), Op::Binary(Binary::Add)) || graph.sole_user(sum) != Some(node) {
            return None;
        }
        let operands = [graph.operand(sum.node, 0)?, graph.operand(sum.node, 1)?];
        let [a, b] = [self.f32_shape(operands[0])?, self.f32_shape(operands[1])?];
        let [scores, mask] = match (a == shape, b == shape) {
            // Constants and smaller operands are masks.
            (true, true) if graph.constant(operands[0]).is_some() => [operands[1], operands[0]],
            (true, _) => operands,
            (false, true) => [operands[1], operands[0]],
            _ => return None,
        };
        let rows_are_whole = self.f32_shape(mask)?.last() == shape.last();
        (rows_are_whole && graph.constant(scores).is_none()).then_some(Masked { sum: sum.node, scores, mask })
    }

    /// The softmax of a masked sum.
    pub(super) fn masked_softmax(&mut self, node: NodeId, masked: Masked) -> Option<()> {
        let shape = self.f32_shape(node.into())?;
        let (x_arg, x) = self.contiguous(node, masked.scores)?;
        let (mask_arg, mask) = self.contiguous(node, masked.mask)?;
        let (&length, outer) = shape.split_last()?;
        // An operand with one element for a whole row is no row.
        if length > 1 && [x.last(), mask.last()] != [Some(&4); 2] {
            return None;
        }
        let mask = broadcast(&self.f32_shape(masked.mask)?, &mask, shape.len());
        let y = plain_strides(&shape);
        let axes = (0..outer.len()).map(|i| RowAxis { count: outer[i], x: x[i], y: y[i], mask: mask[i] }).collect();
        let place = self.place_plain(node.into(), &shape);
        let rows = Rows { function: RowFunction::Softmax { scale: 1.0, mask: true }, length, axes };
        self.kernel(node, rows, vec![x_arg, mask_arg, Arg::Buffer(place.buffer, 0)]);
        Some(())
    }
}
