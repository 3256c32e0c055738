//! Values that are others seen differently: reshapes, transposes, slices, broadcasts. Nothing moves unless
//! strides can't say it.

use optc_ir::op::{Unary, infer::resolve_axis};
use optc_ir::{NodeId, Op, ValueId};

use super::Planner;
use crate::layout::{Layout, permuted, plain_strides, reshaped};
use crate::plan::{Arg, Place};
use crate::tile::signed;

impl Planner<'_> {
    /// A node that is a view of its operand.
    pub(super) fn view(&mut self, node: NodeId) -> Option<()> {
        let graph = self.graph;
        let x = graph.operand(node, 0)?;
        let shape = self.f32_shape(node.into());
        match graph.op(node) {
            Op::Unary(Unary::Identity) => {
                let places = self.places.get(&x)?.clone();
                self.places.insert(node.into(), places);
                Some(())
            }
            Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => self.reshape(node, x, &shape?),
            Op::Transpose(transpose) => {
                let (buffer, start, strides) = self.viewed(node, x)?;
                let reversed: Vec<usize> = (0..strides.len()).rev().collect();
                let perm = if transpose.perm.is_empty() { &reversed } else { &transpose.perm };
                self.see(node.into(), buffer, start, permuted(&strides, perm))
            }
            Op::Expand(_) => {
                let (buffer, start, strides) = self.viewed(node, x)?;
                let own = self.f32_shape(x)?;
                let walk = super::map::broadcast(&own, &strides, shape?.len());
                self.see(node.into(), buffer, start, walk)
            }
            Op::Split(split) => {
                let (buffer, mut start, strides) = self.viewed(node, x)?;
                let axis = resolve_axis(split.axis, strides.len()).ok()?;
                let pieces: Option<Vec<Vec<usize>>> =
                    (0..graph.result_count(node)).map(|i| self.f32_shape(node.result(i))).collect();
                for (i, piece) in pieces?.into_iter().enumerate() {
                    self.see(node.result(i), buffer, start, strides.clone())?;
                    start = start.checked_add_signed(isize::try_from(strides[axis]).ok()? * piece[axis] as isize)?;
                }
                Some(())
            }
            Op::Slice(_) => self.slice(node, x),
            _ => None,
        }
    }

    /// The place of a value with strides; a constant has none.
    fn viewed(&mut self, node: NodeId, x: ValueId) -> Option<(usize, usize, Vec<i64>)> {
        match self.strided(node, x)? {
            (Arg::Buffer(buffer, start), strides) => Some((buffer, start, strides)),
            (Arg::Constant(..), _) => None,
        }
    }

    pub(super) fn see(&mut self, value: ValueId, buffer: usize, start: usize, strides: Vec<i64>) -> Option<()> {
        self.put(value, Place { buffer, layout: Layout::Strided { start, strides } });
        Some(())
    }

    fn reshape(&mut self, node: NodeId, x: ValueId, shape: &[usize]) -> Option<()> {
        let own = self.f32_shape(x)?;
        let (buffer, start, strides) = self.viewed(node, x)?;
        if let Some(strides) = reshaped(&own, &strides, shape) {
            return self.see(node.into(), buffer, start, strides);
        }
        let Arg::Buffer(buffer, start) = self.plain(node, x)? else { return None };
        self.see(node.into(), buffer, start, plain_strides(shape))
    }

    /// A slice whose limits are constant and whose steps are positive.
    fn slice(&mut self, node: NodeId, x: ValueId) -> Option<()> {
        let own = self.f32_shape(x)?;
        let shape = self.f32_shape(node.into())?;
        let ints = |slot: usize| self.graph.constant_operand(node, slot)?.decode().data().to_i64();
        let starts = ints(1)?;
        let count = i64::try_from(starts.len()).ok()?;
        let axes = if self.graph.operand(node, 3).is_some() { ints(3)? } else { (0..count).collect() };
        let steps = if self.graph.operand(node, 4).is_some() { ints(4)? } else { vec![1; starts.len()] };
        let (buffer, mut at, mut strides) = self.viewed(node, x)?;
        for ((&start, &axis), &step) in starts.iter().zip(&axes).zip(&steps) {
            let axis = resolve_axis(axis, own.len()).ok()?;
            if step < 1 || shape[axis] == 0 {
                return None;
            }
            let extent = signed(own[axis]);
            let first = if start < 0 { (start + extent).max(0) } else { start.min(extent) };
            at = at.checked_add_signed(isize::try_from(first * strides[axis]).ok()?)?;
            strides[axis] *= step;
        }
        self.see(node.into(), buffer, at, strides)
    }
}
