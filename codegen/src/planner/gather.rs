//! Gathers: views where the indices are constant and evenly spaced, else slices moved at run time.

use optc_ir::op::OneHot;
use optc_ir::op::infer::resolve_axis;
use optc_ir::{DType, NodeId, Op, ValueId};

use super::Planner;
use crate::gather::{Extents, Gather};
use crate::plan::{Arg, Home, StepKind};

/// Classes beyond which a table of one-hot vectors would be too large.
const MAX_DEPTH: usize = 1024;

impl Planner<'_> {
    /// A gather of `f32` slices.
    pub(super) fn gather(&mut self, node: NodeId) -> Option<()> {
        let graph = self.graph;
        let gather = match graph.op(node) {
            Op::Gather(gather) => gather,
            Op::OneHot(one_hot) => return self.one_hot(node, one_hot),
            _ => return None,
        };
        let (x, indices) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
        let shape = self.f32_shape(x)?;
        self.f32_shape(node.into())?;
        let axis = resolve_axis(gather.axis, shape.len()).ok()?;
        if let Some(constant) = graph.constant(indices)
            && let Some(picks) = constant.decode().data().to_i64()
            && self.evenly_spaced(node, x, axis, constant.shape().len(), &picks).is_some()
        {
            return Some(());
        }
        let from = self.plain(node, x)?;
        let indices = self.home(indices);
        // A float would have been placed in the arena; the type rule admits none.
        if matches!(indices, Home::Place(..)) {
            return None;
        }
        let result = self.f32_shape(node.into())?;
        let to = self.place_plain(node.into(), &result).buffer;
        let extents = Extents {
            outer: shape[..axis].iter().product(),
            axis: shape[axis],
            inner: shape[axis + 1..].iter().product(),
            beyond: None,
        };
        let kind = StepKind::Gather(Gather { from, indices, to, extents });
        self.step(node, kind);
        Some(())
    }

    /// One-hot vectors along the last axis, of constant values.
    fn one_hot(&mut self, node: NodeId, one_hot: &OneHot) -> Option<()> {
        let graph = self.graph;
        let result = self.f32_shape(node.into())?;
        let (&depth, outer) = result.split_last()?;
        if resolve_axis(one_hot.axis, result.len()).ok()? != outer.len() || depth > MAX_DEPTH {
            return None;
        }
        let values = self.f32_constant(graph.operand(node, 2)?)?;
        let &[off, on] = values.as_f32()? else { return None };
        let integers = graph.ty(graph.operand(node, 0)?).as_tensor()?.dtype == DType::I64;
        let Home::Slot(slot) = self.home(graph.operand(node, 0)?) else { return None };
        if !integers {
            return None;
        }
        let table: Vec<f32> =
            (0..=depth).flat_map(|i| (0..depth).map(move |j| if i == j { on } else { off })).collect();
        let from = Arg::Constant(self.pack(&table), 0);
        let to = self.place_plain(node.into(), &result).buffer;
        let extents = Extents { outer: 1, axis: depth, inner: depth, beyond: Some(depth) };
        let kind = StepKind::Gather(Gather { from, indices: Home::Slot(slot), to, extents });
        self.step(node, kind);
        Some(())
    }

    /// Picks of one axis (or of one element) at equal distances are a view.
    fn evenly_spaced(&mut self, node: NodeId, x: ValueId, axis: usize, rank: usize, picks: &[i64]) -> Option<()> {
        let shape = self.f32_shape(x)?;
        let extent = i64::try_from(shape[axis]).ok()?;
        let picks: Vec<i64> = picks.iter().map(|&i| if i < 0 { i + extent } else { i }).collect();
        let (&first, rest) = picks.split_first()?;
        let step = rest.first().map_or(1, |second| second - first);
        let even = picks.windows(2).all(|pair| pair[1] - pair[0] == step);
        if rank > 1 || !even || step < 1 || !picks.iter().all(|pick| (0..extent).contains(pick)) {
            return None;
        }
        let (Arg::Buffer(buffer, start), mut strides) = self.strided(node, x)? else { return None };
        let start = start.checked_add_signed(isize::try_from(first * strides[axis]).ok()?)?;
        match rank {
            0 => {
                strides.remove(axis);
            }
            _ => strides[axis] *= step,
        }
        self.see(node.into(), buffer, start, strides)
    }
}
