//! Operators that pick or put elements by index. What was picked several times sums its gradients.

use optc_ir::op::infer::resolve_axis;
use optc_ir::op::{Gather, GatherElements, GatherNd, Pad, ScatterElements, ScatterNd, ScatterReduction, Unsqueeze};
use optc_ir::{Op, Tensor, ValueId};

use super::super::emit::Emit;
use super::super::error::TrainError;
use super::{Cx, Gradients};
use crate::rewrite::int_operand;

pub(super) fn rule(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    match op {
        Op::Slice(_) => Ok(vec![Some(slice(e, cx, dy)?)]),
        Op::Gather(a) => Ok(vec![Some(gather(e, a, cx, dy)?)]),
        Op::GatherElements(a) => {
            let zeros = e.zeros_like(cx.x(e, 0))?;
            let put = ScatterElements { axis: a.axis, reduction: ScatterReduction::Add };
            Ok(vec![Some(e.op(put, &[zeros, cx.x(e, 1), dy])?)])
        }
        Op::GatherNd(a) => {
            if a.batch_dims != 0 {
                return Err(e.unsupported("has no gradient with batch axes"));
            }
            let zeros = e.zeros_like(cx.x(e, 0))?;
            let put = ScatterNd { reduction: ScatterReduction::Add };
            Ok(vec![Some(e.op(put, &[zeros, cx.x(e, 1), dy])?)])
        }
        Op::ScatterElements(a) => {
            let indices = cx.x(e, 1);
            let dx = match a.reduction {
                ScatterReduction::Add => dy,
                ScatterReduction::None => {
                    let zeros = e.zeros_like(cx.x(e, 2))?;
                    e.op(ScatterElements { axis: a.axis, reduction: ScatterReduction::None }, &[dy, indices, zeros])?
                }
                _ => return Err(e.unsupported("has a gradient only where updates replace or add")),
            };
            let du = e.op(GatherElements { axis: a.axis }, &[dy, indices])?;
            Ok(vec![Some(dx), None, Some(du)])
        }
        Op::ScatterNd(a) => {
            let indices = cx.x(e, 1);
            let dx = match a.reduction {
                ScatterReduction::Add => dy,
                ScatterReduction::None => {
                    let zeros = e.zeros_like(cx.x(e, 2))?;
                    e.op(ScatterNd { reduction: ScatterReduction::None }, &[dy, indices, zeros])?
                }
                _ => return Err(e.unsupported("has a gradient only where updates replace or add")),
            };
            let du = e.op(GatherNd { batch_dims: 0 }, &[dy, indices])?;
            Ok(vec![Some(dx), None, Some(du)])
        }
        _ => unreachable!("{} is of another family", op.name()),
    }
}

/// The transpose of picking slices along an axis: they are added where they came from.
fn put_slices(
    e: &mut Emit<'_>,
    shape: &[usize],
    axis: usize,
    indices: ValueId,
    dy: ValueId,
) -> Result<ValueId, TrainError> {
    let index_rank = e.ty(indices)?.rank();
    let rank = e.ty(dy)?.rank();
    // The index axes first, then what was before the axis, then what was behind it.
    let perm: Vec<usize> = (axis..axis + index_rank).chain(0..axis).chain(axis + index_rank..rank).collect();
    let updates = e.transpose(dy, &perm)?;
    let last = i64::try_from(index_rank).unwrap_or(i64::MAX);
    let tuples = e.op(Unsqueeze { axes: vec![last] }, &[indices])?;
    let mut moved = vec![shape[axis]];
    moved.extend(shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, &n)| n));
    let dtype = e.dtype(dy)?;
    let zeros = e.constant("zeros", Tensor::zeros(dtype, moved));
    let put = e.op(ScatterNd { reduction: ScatterReduction::Add }, &[zeros, tuples, updates])?;
    let back: Vec<usize> = (1..=axis).chain([0]).chain(axis + 1..shape.len()).collect();
    e.transpose(put, &back)
}

fn gather(e: &mut Emit<'_>, a: &Gather, cx: &Cx<'_>, dy: ValueId) -> Result<ValueId, TrainError> {
    let shape = e.shape(cx.x(e, 0))?;
    let axis = resolve_axis(a.axis, shape.len()).map_err(|error| e.unsupported(error.to_string()))?;
    put_slices(e, &shape, axis, cx.x(e, 1), dy)
}

/// Zeros around what was cut out, or, with a step, slices put back one by one.
fn slice(e: &mut Emit<'_>, cx: &Cx<'_>, dy: ValueId) -> Result<ValueId, TrainError> {
    let shape = e.shape(cx.x(e, 0))?;
    let rank = shape.len();
    let node = cx.node;
    let ints = |e: &Emit<'_>, slot: usize| {
        int_operand(e.graph, node, slot).ok_or_else(|| e.unsupported("its bounds must be constant"))
    };
    let (starts, out) = (ints(e, 1)?, e.shape(dy)?);
    let axes = match e.graph.operand(node, 3) {
        Some(_) => ints(e, 3)?,
        None => (0..).take(starts.len()).collect(),
    };
    let steps = match e.graph.operand(node, 4) {
        Some(_) => ints(e, 4)?,
        None => vec![1; starts.len()],
    };
    let mut dx = dy;
    let (mut pads, mut padded) = (vec![0i64; 2 * rank], false);
    for ((axis, start), step) in axes.iter().zip(starts).zip(steps) {
        let axis = resolve_axis(*axis, rank).map_err(|error| e.unsupported(error.to_string()))?;
        let (n, count) = (i64::try_from(shape[axis]).unwrap_or(i64::MAX), i64::try_from(out[axis]).unwrap_or(0));
        // As in numpy: counted from the end if negative, then limited to where a walk can start.
        let start = if start < 0 { start.saturating_add(n) } else { start };
        let start = if step > 0 { start.clamp(0, n) } else { start.clamp(-1, n - 1) };
        if step == 1 {
            (pads[axis], pads[rank + axis]) = (start, n - start - count);
            padded |= count != n;
            continue;
        }
        let indices: Vec<i64> = (0..count).map(|i| start + i * step).collect();
        let indices = e.constant("indices", Tensor::i64([indices.len()], indices));
        let mut now = e.shape(dx)?;
        now[axis] = shape[axis];
        dx = put_slices(e, &now, axis, indices, dx)?;
    }
    if padded {
        let pads = e.constant("pads", Tensor::i64([2 * rank], pads));
        dx = e.op(Pad::default(), &[dx, pads])?;
    }
    Ok(dx)
}
