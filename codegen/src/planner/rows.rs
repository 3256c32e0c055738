//! Functions of rows: softmax, normalisations, reductions; and joins of strided values.

use optc_ir::op::{Reduce, ReduceKind, infer::resolve_axis};
use optc_ir::{NodeId, Op, ValueId};

use super::Planner;
use crate::layout::{inverse, permuted, plain_strides, reshaped};
use crate::plan::Arg;
use crate::tile::copy::Copy;
use crate::tile::rows::{RowAxis, RowFunction, Rows};

/// A value as rows: the axes that they run along come last.
struct AsRows {
    arg: Arg,
    count: usize,
    length: usize,
    /// Bytes from one row to the next.
    step: i64,
    /// The axes, those of the rows last, and their extents.
    order: Vec<usize>,
    extents: Vec<usize>,
}

impl Planner<'_> {
    /// A node that is a function of rows, or joins values along an axis.
    pub(super) fn rows(&mut self, node: NodeId) -> Option<()> {
        let graph = self.graph;
        let x = graph.operand(node, 0)?;
        let rank = self.f32_shape(x)?.len();
        match graph.op(node) {
            Op::Softmax(s) => {
                if let Some(masked) = self.masks.remove(&node) {
                    if self.masked_softmax(node, masked).is_some() {
                        return Some(());
                    }
                    self.single(masked.sum).ok()?;
                }
                let axis = resolve_axis(s.axis, rank).ok()?;
                let axes = if s.flatten { (axis..rank).collect() } else { vec![axis] };
                self.row_function(node, x, RowFunction::Softmax { scale: 1.0, mask: false }, &axes)
            }
            Op::LogSoftmax(s) => {
                let axis = resolve_axis(s.axis, rank).ok()?;
                let axes = if s.flatten { (axis..rank).collect() } else { vec![axis] };
                self.row_function(node, x, RowFunction::LogSoftmax, &axes)
            }
            Op::LayerNorm(n) => {
                let bias = graph.operand(node, 2).is_some();
                let axis = resolve_axis(n.axis, rank).ok()?;
                self.row_function(
                    node,
                    x,
                    RowFunction::LayerNorm { eps: n.eps, bias },
                    &(axis..rank).collect::<Vec<_>>(),
                )
            }
            Op::RmsNorm(n) => {
                let axis = resolve_axis(n.axis, rank).ok()?;
                self.row_function(node, x, RowFunction::RmsNorm { eps: n.eps }, &(axis..rank).collect::<Vec<_>>())
            }
            Op::Reduce(reduce) => {
                if self.lane_sums(node, reduce).is_some() {
                    return Some(());
                }
                let function = match reduce.kind {
                    ReduceKind::Sum => RowFunction::Sum,
                    ReduceKind::Mean => RowFunction::Mean,
                    ReduceKind::Max => RowFunction::Max,
                    ReduceKind::Min => RowFunction::Min,
                    ReduceKind::L1 => RowFunction::L1,
                    ReduceKind::L2 => RowFunction::L2,
                    ReduceKind::SumSquare => RowFunction::SumSquare,
                    ReduceKind::Prod | ReduceKind::LogSum | ReduceKind::LogSumExp => return None,
                };
                let axes = reduced_axes(reduce, rank)?;
                if axes.is_empty() {
                    return None;
                }
                self.row_function(node, x, function, &axes)
            }
            Op::Concat(concat) => {
                let axis = resolve_axis(concat.axis, rank).ok()?;
                self.concat(node, axis)
            }
            _ => None,
        }
    }

    /// A function of some axes together.
    fn row_function(&mut self, node: NodeId, x: ValueId, function: RowFunction, axes: &[usize]) -> Option<()> {
        let result = self.f32_shape(node.into())?;
        let mut parameters = Vec::new();
        if let RowFunction::LayerNorm { .. } | RowFunction::RmsNorm { .. } = function {
            let shape = self.f32_shape(x)?;
            for slot in 1..3 {
                if let Some(value) = self.graph.operand(node, slot) {
                    if self.f32_shape(value)? != shape[axes[0]..] {
                        return None;
                    }
                    parameters.push(self.plain(node, value)?);
                }
            }
        }
        let rows = self.as_rows(node, x, axes)?;
        let AsRows { count, length, .. } = rows;
        let (buffer, y) = if function.is_number() {
            (self.place_plain(node.into(), &result).buffer, 4)
        } else {
            let buffer = self.buffer(count * length * 4);
            self.see(node.into(), buffer, 0, permuted(&plain_strides(&rows.extents), &inverse(&rows.order)))?;
            (buffer, plain_strides(&[count, length])[0])
        };
        let work = Rows { function, length, axes: vec![RowAxis { count, x: rows.step, y, mask: 0 }] };
        let args = [vec![rows.arg], parameters, vec![Arg::Buffer(buffer, 0)]].concat();
        self.kernel(node, work, args);
        Some(())
    }

    /// A value with these axes last and next to each other: as it lies, or a copy.
    fn as_rows(&mut self, node: NodeId, x: ValueId, axes: &[usize]) -> Option<AsRows> {
        let shape = self.f32_shape(x)?;
        let mut order: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
        let outer = order.len();
        order.extend((0..shape.len()).filter(|axis| axes.contains(axis)));
        let extents: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        let (count, length) = (extents[..outer].iter().product(), extents[outer..].iter().product());
        let (mut arg, strides) = self.strided(node, x)?;
        let strides = permuted(&strides, &order);
        let mut walk = reshaped(&extents, &strides, &[count, length]).filter(|walk| length == 1 || walk[1] == 4);
        if walk.is_none() {
            arg = if order.is_sorted() {
                self.plain(node, x)?
            } else {
                let copy = Arg::Buffer(self.buffer(count * length * 4), 0);
                self.kernel(node, Copy::new(&extents, &strides, &plain_strides(&extents)), vec![arg, copy]);
                copy
            };
            walk = Some(plain_strides(&[count, length]));
        }
        Some(AsRows { arg, count, length, step: walk?[0], order, extents })
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

/// The axes of a reduction, counted from the front.
pub(super) fn reduced_axes(reduce: &Reduce, rank: usize) -> Option<Vec<usize>> {
    match &reduce.attrs.axes {
        None => Some((0..rank).collect()),
        Some(axes) => axes.iter().map(|&axis| resolve_axis(axis, rank).ok()).collect(),
    }
}
