//! Padding and resizing: linear along each axis, y = M·x, so that x̄ = Mᵀ·ȳ. M is what the operator makes of an
//! identity matrix.

use optc_ir::interp::eval;
use optc_ir::op::{AspectPolicy, CoordinateMode, Pad, PadMode, Resize};
use optc_ir::{DType, Data, Op, Tensor, ValueId};

use super::super::emit::Emit;
use super::super::error::TrainError;
use super::{Cx, Gradients};
use crate::rewrite::int_operand;

pub(super) fn rule(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let dx = match op {
        Op::Pad(pad) => self::pad(e, pad, cx, dy)?,
        Op::Resize(resize) => self::resize(e, resize, cx, dy)?,
        _ => unreachable!("{} is of another family", op.name()),
    };
    Ok(vec![Some(dx)])
}

/// `Mᵀ·dy` along an axis, M given by what `op` makes of the rows of an identity matrix of extent `n`.
fn transposed(
    e: &mut Emit<'_>,
    dy: ValueId,
    axis: usize,
    n: usize,
    op: &Op,
    operands: &[Option<&Tensor>],
) -> Result<ValueId, TrainError> {
    let identity = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 });
    // In double precision, so that M is rounded once.
    let identity = Tensor::new([n, n], Data::from_f64(DType::F64, identity));
    let operands: Vec<Option<&Tensor>> = std::iter::once(Some(&identity)).chain(operands.iter().copied()).collect();
    let rows = eval(op, &operands).map_err(|error| e.unsupported(error.to_string()))?;
    // Row i is what element i of x adds to y: the rows are Mᵀ.
    let (shape, data) = rows.into_iter().next().ok_or_else(|| e.unsupported("gives nothing"))?.into_parts();
    let dtype = e.dtype(dy)?;
    let matrix = e.constant("matrix", Tensor::new(shape, Data::from_f64(dtype, data.to_f64())));
    e.map_axis(dy, axis, matrix)
}

fn pad(e: &mut Emit<'_>, pad: &Pad, cx: &Cx<'_>, dy: ValueId) -> Result<ValueId, TrainError> {
    if cx.needs(2) {
        return Err(e.unsupported("has no gradient with respect to the value it pads with"));
    }
    let shape = e.shape(cx.x(e, 0))?;
    let rank = shape.len();
    let node = cx.node;
    let given = int_operand(e.graph, node, 1).ok_or_else(|| e.unsupported("its pads must be constant"))?;
    let axes = match e.graph.operand(node, 3) {
        Some(_) => int_operand(e.graph, node, 3).ok_or_else(|| e.unsupported("its axes must be constant"))?,
        None => (0..).take(rank).collect(),
    };
    let axes = optc_ir::op::infer::resolve_axes(&axes, rank).map_err(|error| e.unsupported(error.to_string()))?;
    let (begins, ends) = given.split_at(axes.len());
    if pad.mode == PadMode::Constant {
        let mut pads = vec![0i64; 2 * rank];
        for (i, &axis) in axes.iter().enumerate() {
            (pads[axis], pads[rank + axis]) = (-begins[i], -ends[i]);
        }
        let pads = e.constant("pads", Tensor::i64([2 * rank], pads));
        return e.op(Pad::default(), &[dy, pads]);
    }
    let mut dx = dy;
    for (i, &axis) in axes.iter().enumerate() {
        if (begins[i], ends[i]) != (0, 0) {
            let pads = Tensor::i64([4], [0, begins[i], 0, ends[i]]);
            dx = transposed(e, dx, axis, shape[axis], &pad.clone().into(), &[Some(&pads)])?;
        }
    }
    Ok(dx)
}

fn resize(e: &mut Emit<'_>, resize: &Resize, cx: &Cx<'_>, dy: ValueId) -> Result<ValueId, TrainError> {
    let (shape, out) = (e.shape(cx.x(e, 0))?, e.shape(dy)?);
    let rank = shape.len();
    if resize.coordinates == CoordinateMode::TfCropAndResize || resize.aspect != AspectPolicy::Stretch {
        return Err(e.unsupported("has no gradient with a region of interest or a kept aspect ratio"));
    }
    let axes = match &resize.axes {
        Some(axes) => optc_ir::op::infer::resolve_axes(axes, rank),
        None => Ok((0..rank).collect()),
    };
    let axes = axes.map_err(|error| e.unsupported(error.to_string()))?;
    let scales = match e.graph.constant_operand(cx.node, 2) {
        Some(scales) => scales.decode().data().to_f64(),
        None => Vec::new(),
    };
    let along = Op::from(Resize { axes: Some(vec![1]), ..resize.clone() });
    let mut dx = dy;
    for (i, &axis) in axes.iter().enumerate() {
        let scale = scales.get(i).copied();
        if shape[axis] == out[axis] && scale.is_none_or(|scale| scale == 1.0) {
            continue;
        }
        let (scale, size) = match scale {
            Some(scale) => (Some(Tensor::f32([1], [scale as f32])), None),
            None => (None, Some(Tensor::i64([1], [i64::try_from(out[axis]).unwrap_or(i64::MAX)]))),
        };
        dx = transposed(e, dx, axis, shape[axis], &along, &[None, scale.as_ref(), size.as_ref()])?;
    }
    Ok(dx)
}
