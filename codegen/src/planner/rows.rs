//! Functions of rows: softmax, normalisations, reductions over the last axes; and copies of strided values.

use optc_ir::op::{ReduceKind, infer::resolve_axis};
use optc_ir::{NodeId, Op, ValueId};

use super::Planner;
use crate::layout::{plain_strides, reshaped};
use crate::plan::Arg;
use crate::tile::copy::Copy;
use crate::tile::rows::{RowAxis, RowFunction, Rows};

impl Planner<'_> {
    /// A node that is a function of rows, or joins values along an axis.
    pub(super) fn rows(&mut self, node: NodeId) -> Option<()> {
        let graph = self.graph;
        let x = graph.operand(node, 0)?;
        let rank = self.f32_shape(x)?.len();
        match graph.op(node) {
            Op::Softmax(s) => {
                let axis = resolve_axis(s.axis, rank).ok()?;
                if axis != rank - 1 && !s.flatten {
                    return None;
                }
                self.row_function(node, x, RowFunction::Softmax { scale: 1.0, mask: false }, axis)
            }
            Op::LayerNorm(n) => {
                let bias = graph.operand(node, 2).is_some();
                let axis = resolve_axis(n.axis, rank).ok()?;
                self.row_function(node, x, RowFunction::LayerNorm { eps: n.eps, bias }, axis)
            }
            Op::RmsNorm(n) => {
                let axis = resolve_axis(n.axis, rank).ok()?;
                self.row_function(node, x, RowFunction::RmsNorm { eps: n.eps }, axis)
            }
            Op::Reduce(reduce) => {
                let function = match reduce.kind {
                    ReduceKind::Sum => RowFunction::Sum,
                    ReduceKind::Mean => RowFunction::Mean,
                    ReduceKind::Max => RowFunction::Max,
                    _ => return None,
                };
                let mut axes: Vec<usize> = match &reduce.attrs.axes {
                    None => (0..rank).collect(),
                    Some(axes) => axes.iter().map(|&a| resolve_axis(a, rank).ok()).collect::<Option<_>>()?,
                };
                axes.sort_unstable();
                let first = *axes.first()?;
                if !axes.into_iter().eq(first..rank) {
                    return None;
                }
                self.row_function(node, x, function, first)
            }
            Op::Concat(concat) => {
                let axis = resolve_axis(concat.axis, rank).ok()?;
                self.concat(node, axis)
            }
            _ => None,
        }
    }

    /// A function of the axes from `first` on together.
    fn row_function(&mut self, node: NodeId, x: ValueId, function: RowFunction, first: usize) -> Option<()> {
        let shape = self.f32_shape(x)?;
        let result = self.f32_shape(node.into())?;
        let (count, length) = (shape[..first].iter().product(), shape[first..].iter().product::<usize>());
        let mut parameters = Vec::new();
        if let RowFunction::LayerNorm { .. } | RowFunction::RmsNorm { .. } = function {
            for slot in 1..3 {
                if let Some(value) = self.graph.operand(node, slot) {
                    if self.f32_shape(value)? != shape[first..] {
                        return None;
                    }
                    parameters.push(self.plain(node, value)?);
                }
            }
        }
        let (mut arg, strides) = self.strided(node, x)?;
        let mut walk = reshaped(&shape, &strides, &[count, length]).filter(|walk| length == 1 || walk[1] == 4);
        if walk.is_none() {
            arg = self.plain(node, x)?;
            walk = Some(plain_strides(&[count, length]));
        }
        let one = matches!(function, RowFunction::Sum | RowFunction::Mean | RowFunction::Max);
        let place = self.place_plain(node.into(), &result);
        let y = if one { 4 } else { plain_strides(&[count, length])[0] };
        let rows = Rows { function, length, axes: vec![RowAxis { count, x: walk?[0], y, mask: 0 }] };
        let mut args = vec![arg];
        args.extend(parameters);
        args.push(Arg::Buffer(place.buffer, 0));
        self.kernel(node, rows, args);
        Some(())
    }

    fn concat(&mut self, node: NodeId, axis: usize) -> Option<()> {
        let shape = self.f32_shape(node.into())?;
        let operands: Vec<ValueId> = self.graph.operands(node).into_iter().collect::<Option<_>>()?;
        let shapes: Vec<Vec<usize>> = operands.iter().map(|&v| self.f32_shape(v)).collect::<Option<_>>()?;
        let sources: Vec<(Arg, Vec<i64>)> = operands.iter().map(|&v| self.strided(node, v)).collect::<Option<_>>()?;
        let place = self.place_plain(node.into(), &shape);
        let to = plain_strides(&shape);
        let mut at = 0;
        for ((arg, strides), own) in sources.into_iter().zip(shapes) {
            self.kernel(node, Copy::new(&own, &strides, &to), vec![arg, Arg::Buffer(place.buffer, at)]);
            at += own[axis] * usize::try_from(to[axis]).expect("strides of a plain layout are positive");
        }
        Some(())
    }
}
