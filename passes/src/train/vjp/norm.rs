//! Normalisations and softmax.
//!
//! With x̂ = (x − μ)·r, r = 1/√(σ² + ε) over a set of elements, and g the gradient of x̂, that of x is
//! `r·(g − mean(g) − x̂·mean(g·x̂))` (Ioffe and Szegedy 2015, section 3; Ba et al. 2016 for layers); without
//! centering, the first mean is absent.

use optc_ir::op::infer::resolve_axis;
use optc_ir::op::{BatchNormGrad, Lrn, ReduceKind, Unary};
use optc_ir::{Data, Op, Tensor, ValueId};

use super::super::emit::Emit;
use super::super::error::TrainError;
use super::{Cx, Gradients};

pub(super) fn rule(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let x = cx.x(e, 0);
    let shape = e.shape(x)?;
    let rank = shape.len();
    let axis = |e: &Emit<'_>, axis: i64| resolve_axis(axis, rank).map_err(|error| e.unsupported(error.to_string()));
    let along = |e: &Emit<'_>, first: i64, flatten: bool| -> Result<Vec<usize>, TrainError> {
        let first = axis(e, first)?;
        Ok(if flatten { (first..rank).collect() } else { vec![first] })
    };
    // One element a channel, lined up with axis 1.
    let channels = |n: usize| [1, n].into_iter().chain(std::iter::repeat_n(1, rank - 2)).collect::<Vec<_>>();
    match op {
        Op::BatchNorm(a) => batch_norm(e, a.eps.into(), cx, dy, &channels(shape[1])),
        Op::BatchNormTrain(_) => {
            if cx.of_results[1..].iter().any(Option::is_some) {
                return Err(e.unsupported("its statistics have no gradient of their own"));
            }
            let (scale, mean, inv_std) = (cx.x(e, 1), cx.node.result(3), cx.node.result(4));
            let node = e.node(BatchNormGrad {}, &[x, dy, scale, mean, inv_std].map(Some))?;
            Ok((0..3).map(|i| Some(node.result(i))).collect())
        }
        Op::InstanceNorm(a) => {
            let layout = Layout { view: shape.clone(), axes: (2..rank).collect(), channels: Some(channels(shape[1])) };
            normalized(e, cx, dy, &layout, a.eps.into(), true)
        }
        Op::GroupNorm(a) => {
            let rest = shape[2..].iter().product::<usize>() * (shape[1] / a.groups);
            let view = vec![shape[0], a.groups, rest];
            if a.per_group {
                return Err(e.unsupported("has no gradient with one scale a group; give each channel its own"));
            }
            let layout = Layout { view, axes: vec![2], channels: Some(channels(shape[1])) };
            normalized(e, cx, dy, &layout, a.eps.into(), true)
        }
        Op::LayerNorm(a) => {
            let axes = (axis(e, a.axis)?..rank).collect();
            normalized(e, cx, dy, &Layout { view: shape, axes, channels: None }, a.eps.into(), true)
        }
        Op::RmsNorm(a) => {
            let axes = (axis(e, a.axis)?..rank).collect();
            normalized(e, cx, dy, &Layout { view: shape, axes, channels: None }, a.eps.into(), false)
        }
        Op::Lrn(a) => Ok(vec![Some(local_response(e, a, cx, dy, &shape)?)]),
        Op::LpNorm(a) => {
            let axes = [axis(e, a.axis)?];
            let (kind, direction) = match a.p {
                1 => (ReduceKind::L1, e.unary(Unary::Sign, x)?),
                _ => (ReduceKind::L2, cx.y()),
            };
            let norm = e.reduce(kind, x, &axes, true)?;
            // A lane of zeros is left as it is, and stays so for small changes of it: it has no gradient.
            let norm = e.at_least(norm, f64::from(f32::MIN_POSITIVE))?;
            let product = e.mul(dy, cx.y())?;
            let sum = e.sum(product, &axes, true)?;
            let along = e.mul(direction, sum)?;
            let across = e.sub(dy, along)?;
            Ok(vec![Some(e.div(across, norm)?)])
        }
        // x̄ = y·(ȳ − Σȳ·y)
        Op::Softmax(a) => {
            let axes = along(e, a.axis, a.flatten)?;
            let product = e.mul(dy, cx.y())?;
            let sum = e.sum(product, &axes, true)?;
            let rest = e.sub(dy, sum)?;
            Ok(vec![Some(e.mul(rest, cx.y())?)])
        }
        // x̄ = ȳ − eʸ·Σȳ
        Op::LogSoftmax(a) => {
            let axes = along(e, a.axis, a.flatten)?;
            let sum = e.sum(dy, &axes, true)?;
            let softmax = e.unary(Unary::Exp, cx.y())?;
            let share = e.mul(softmax, sum)?;
            Ok(vec![Some(e.sub(dy, share)?)])
        }
        _ => unreachable!("{} is of another family", op.name()),
    }
}

/// `scale·(x − mean)/√(var + eps) + b` with statistics that stay.
fn batch_norm(e: &mut Emit<'_>, eps: f64, cx: &Cx<'_>, dy: ValueId, channels: &[usize]) -> Gradients {
    if cx.needs(3) || cx.needs(4) {
        return Err(e.unsupported("its stored statistics have no gradient; train with those of the batch"));
    }
    let dtype = e.dtype(dy)?;
    let rank = channels.len();
    let others: Vec<usize> = (0..rank).filter(|&axis| axis != 1).collect();
    let parameter = |e: &mut Emit<'_>, slot: usize| {
        let value = e.cast(cx.x(e, slot), dtype)?;
        e.reshape(value, channels)
    };
    let var = parameter(e, 4)?;
    let var = e.shift(var, eps)?;
    let std = e.unary(Unary::Sqrt, var)?;
    let dx = if cx.needs(0) {
        let scale = parameter(e, 1)?;
        let factor = e.div(scale, std)?;
        Some(e.mul(dy, factor)?)
    } else {
        None
    };
    let dscale = if cx.needs(1) {
        let mean = parameter(e, 3)?;
        let centred = e.sub(cx.x(e, 0), mean)?;
        let normal = e.div(centred, std)?;
        let product = e.mul(dy, normal)?;
        let sum = e.sum(product, &others, false)?;
        let to = e.dtype(cx.x(e, 1))?;
        Some(e.cast(sum, to)?)
    } else {
        None
    };
    let db = if cx.needs(2) {
        let sum = e.sum(dy, &others, false)?;
        let to = e.dtype(cx.x(e, 2))?;
        Some(e.cast(sum, to)?)
    } else {
        None
    };
    Ok(vec![dx, dscale, db])
}

/// How a normalisation sees its operands.
struct Layout {
    /// The shape in which statistics are taken.
    view: Vec<usize>,
    /// The axes of that shape they are taken over.
    axes: Vec<usize>,
    /// The shape in which scale and bias line up with x, if not in their own.
    channels: Option<Vec<usize>>,
}

/// `scale·x̂ + b`, see the module.
fn normalized(e: &mut Emit<'_>, cx: &Cx<'_>, dy: ValueId, layout: &Layout, eps: f64, centred: bool) -> Gradients {
    let Layout { view, axes, channels } = layout;
    let x = cx.x(e, 0);
    let shape = e.shape(x)?;
    let seen = e.reshape(x, view)?;
    let deviation = if centred {
        let mean = e.mean(seen, axes)?;
        e.sub(seen, mean)?
    } else {
        seen
    };
    let square = e.square(deviation)?;
    let variance = e.mean(square, axes)?;
    let variance = e.shift(variance, eps)?;
    let std = e.unary(Unary::Sqrt, variance)?;
    let normal = e.div(deviation, std)?;
    let dx = if cx.needs(0) {
        let scale = match channels {
            Some(channels) => e.reshape(cx.x(e, 1), channels)?,
            None => cx.x(e, 1),
        };
        let g = e.mul(dy, scale)?;
        let g = e.reshape(g, view)?;
        let product = e.mul(g, normal)?;
        let along = e.mean(product, axes)?;
        let along = e.mul(normal, along)?;
        let mut rest = e.sub(g, along)?;
        if centred {
            let mean = e.mean(g, axes)?;
            rest = e.sub(rest, mean)?;
        }
        let dx = e.div(rest, std)?;
        Some(e.reshape(dx, &shape)?)
    } else {
        None
    };
    let dscale = if cx.needs(1) {
        let normal = e.reshape(normal, &shape)?;
        let product = e.mul(dy, normal)?;
        Some(parameter_gradient(e, cx.x(e, 1), product, channels.as_deref())?)
    } else {
        None
    };
    let db = if cx.needs(2) { Some(parameter_gradient(e, cx.x(e, 2), dy, channels.as_deref())?) } else { None };
    Ok(vec![dx, dscale, db])
}

/// What broadcasting a parameter sums; `channels` is how it lines up with x, if not by its own shape.
fn parameter_gradient(
    e: &mut Emit<'_>,
    parameter: ValueId,
    gradient: ValueId,
    channels: Option<&[usize]>,
) -> Result<ValueId, TrainError> {
    let own = e.shape(parameter)?;
    let sum = e.unbroadcast(gradient, channels.unwrap_or(&own))?;
    e.reshape(sum, &own)
}

/// y = x·s^−β with s = bias + α/size·Σx² over neighbouring channels: x̄ = ȳ·s^−β − 2αβ/size·x·Σ(ȳ·y/s), the sum
/// over the channels in whose neighbourhood this one is (Krizhevsky et al. 2012, section 3.3, differentiated).
fn local_response(e: &mut Emit<'_>, a: &Lrn, cx: &Cx<'_>, dy: ValueId, shape: &[usize]) -> Result<ValueId, TrainError> {
    let (x, channels) = (cx.x(e, 0), shape[1]);
    let (before, after) = ((a.size - 1) / 2, a.size / 2);
    let near = |i: usize, j: usize| j + before >= i && j <= i.saturating_add(after);
    let matrix = |of: &dyn Fn(usize, usize) -> bool| -> Vec<f64> {
        (0..channels * channels).map(|k| f64::from(u8::from(of(k / channels, k % channels)))).collect()
    };
    let dtype = e.dtype(x)?;
    let band = Tensor::new([channels, channels], Data::from_f64(dtype, matrix(&near)));
    let reverse = Tensor::new([channels, channels], Data::from_f64(dtype, matrix(&|i, j| near(j, i))));
    let (band, reverse) = (e.constant("band", band), e.constant("band", reverse));
    let (alpha, beta) = (f64::from(a.alpha) / a.size as f64, f64::from(a.beta));
    let square = e.square(x)?;
    let sum = e.map_axis(square, 1, band)?;
    let sum = e.scale(sum, alpha)?;
    let s = e.shift(sum, a.bias.into())?;
    let exponent = e.scalar(x, -beta)?;
    let power = e.op(Op::Binary(optc_ir::op::Binary::Pow), &[s, exponent])?;
    let own = e.mul(dy, power)?;
    let product = e.mul(own, x)?;
    let ratio = e.div(product, s)?;
    let spread = e.map_axis(ratio, 1, reverse)?;
    let others = e.mul(x, spread)?;
    let others = e.scale(others, 2.0 * alpha * beta)?;
    e.sub(own, others)
}
