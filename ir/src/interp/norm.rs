//! Evaluation of the operators of `op/norm.rs`. Everything is computed in `f64` and rounded once.

use super::Cx;
use super::strided::Walk;
use crate::error::EvalError;
use crate::op::infer::resolve_axis;
use crate::op::{Lrn, Op};
use crate::tensor::{Data, Tensor};

pub(super) fn eval(op: &Op, cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    let x = cx.x(0);
    let shape = x.shape();
    let mut y = x.data().to_f64();
    match op {
        Op::BatchNorm(a) => batch_norm(&mut y, cx, a.eps.into()),
        Op::InstanceNorm(a) => {
            standardize(&mut y, product(&shape[2..]), a.eps.into());
            scale_channels(&mut y, cx, shape[1]);
        }
        Op::GroupNorm(a) => {
            let size = product(&shape[2..]) * (shape[1] / a.groups);
            standardize(&mut y, size, a.eps.into());
            scale_channels(&mut y, cx, if a.per_group { a.groups } else { shape[1] });
        }
        Op::LayerNorm(a) => {
            standardize(&mut y, product(&shape[resolve_axis(a.axis, x.rank())?..]), a.eps.into());
            scale_elements(&mut y, cx);
        }
        Op::RmsNorm(a) => {
            let size = product(&shape[resolve_axis(a.axis, x.rank())?..]);
            for lane in y.chunks_exact_mut(size.max(1)) {
                let mean = lane.iter().map(|x| x * x).sum::<f64>() / size as f64;
                let scale = 1.0 / (mean + f64::from(a.eps)).sqrt();
                lane.iter_mut().for_each(|x| *x *= scale);
            }
            scale_elements(&mut y, cx);
        }
        Op::Lrn(a) => local_response(a, &mut y, shape),
        Op::LpNorm(a) => along(&mut y, shape, a.axis, false, |lane| {
            let norm = match a.p {
                1 => lane.iter().map(|x| x.abs()).sum::<f64>(),
                _ => lane.iter().map(|x| x * x).sum::<f64>().sqrt(),
            };
            if norm != 0.0 {
                lane.iter_mut().for_each(|x| *x /= norm);
            }
        })?,
        Op::Softmax(a) => along(&mut y, shape, a.axis, a.flatten, |lane| {
            let max = maximum(lane);
            lane.iter_mut().for_each(|x| *x = (*x - max).exp());
            let sum: f64 = lane.iter().sum();
            lane.iter_mut().for_each(|x| *x /= sum);
        })?,
        Op::LogSoftmax(a) => along(&mut y, shape, a.axis, a.flatten, |lane| {
            let max = maximum(lane);
            let log_sum = lane.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
            lane.iter_mut().for_each(|x| *x = *x - max - log_sum);
        })?,
        Op::Hardmax(a) => along(&mut y, shape, a.axis, a.flatten, |lane| {
            let max = maximum(lane);
            let first = lane.iter().position(|&x| x == max);
            lane.fill(0.0);
            if let Some(first) = first {
                lane[first] = 1.0;
            }
        })?,
        _ => unreachable!("{} is of another family", op.name()),
    }
    Ok(vec![Tensor::new(shape, Data::from_f64(x.dtype(), y))])
}

fn product(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// NaN is ignored here; it spreads when it is subtracted from.
fn maximum(lane: &[f64]) -> f64 {
    lane.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Operand `slot` as `f64`, if present.
fn parameter(cx: &Cx<'_>, slot: usize) -> Option<Vec<f64>> {
    cx.get(slot).map(|tensor| tensor.data().to_f64())
}

/// `(x − μ)/√(σ² + eps)` for every `size` neighbouring elements, σ² the biased variance.
fn standardize(y: &mut [f64], size: usize, eps: f64) {
    for lane in y.chunks_exact_mut(size.max(1)) {
        let mean = lane.iter().sum::<f64>() / size as f64;
        let variance = lane.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / size as f64;
        let scale = 1.0 / (variance + eps).sqrt();
        lane.iter_mut().for_each(|x| *x = (*x - mean) * scale);
    }
}

fn batch_norm(y: &mut [f64], cx: &Cx<'_>, eps: f64) {
    let of = |slot| parameter(cx, slot).expect("the type rule requires all five operands");
    let (scale, b, mean, var) = (of(1), of(2), of(3), of(4));
    let shape = cx.x(0).shape();
    for (i, plane) in y.chunks_exact_mut(product(&shape[2..]).max(1)).enumerate() {
        let c = i % shape[1];
        let factor = scale[c] / (var[c] + eps).sqrt();
        plane.iter_mut().for_each(|x| *x = (*x - mean[c]) * factor + b[c]);
    }
}

/// Operands 1 and 2 as scale and offset of `parts` equal parts of each sample.
fn scale_channels(y: &mut [f64], cx: &Cx<'_>, parts: usize) {
    let (scale, b) = (parameter(cx, 1).unwrap_or_default(), parameter(cx, 2).unwrap_or_default());
    let sample = product(&cx.x(0).shape()[1..]);
    for (i, part) in y.chunks_exact_mut((sample / parts.max(1)).max(1)).enumerate() {
        let (scale, b) = (scale[i % parts], b[i % parts]);
        part.iter_mut().for_each(|x| *x = *x * scale + b);
    }
}

/// Operands 1 and, if present, 2 as scale and offset that broadcast to `y`.
fn scale_elements(y: &mut Vec<f64>, cx: &Cx<'_>) {
    let shape = cx.x(0).shape();
    for (slot, apply) in [(1, (|y, p| y * p) as fn(f64, f64) -> f64), (2, |y, p| y + p)] {
        let Some(parameter) = cx.get(slot) else { continue };
        *y = Walk::broadcast(shape, [shape, parameter.shape()]).zip(y, &parameter.data().to_f64(), apply);
    }
}

/// Runs `f` on every run of elements along an axis, or along it and all that follow.
fn along(
    y: &mut [f64],
    shape: &[usize],
    axis: i64,
    flatten: bool,
    mut f: impl FnMut(&mut [f64]),
) -> Result<(), EvalError> {
    let axis = resolve_axis(axis, shape.len())?;
    let (len, inner) = if flatten { (product(&shape[axis..]), 1) } else { (shape[axis], product(&shape[axis + 1..])) };
    let mut lane = vec![0.0; len];
    for block in y.chunks_exact_mut((len * inner).max(1)) {
        for i in 0..inner {
            lane.iter_mut().zip(block[i..].iter().step_by(inner)).for_each(|(to, from)| *to = *from);
            f(&mut lane);
            block[i..].iter_mut().step_by(inner).zip(&lane).for_each(|(to, from)| *to = *from);
        }
    }
    Ok(())
}

fn local_response(a: &Lrn, y: &mut [f64], shape: &[usize]) {
    let (channels, plane) = (shape[1], product(&shape[2..]));
    let scale = f64::from(a.alpha) / a.size as f64;
    // ONNX sums from c − ⌊(size − 1)/2⌋ to c + ⌈(size − 1)/2⌉.
    let (before, after) = ((a.size - 1) / 2, a.size / 2);
    for sample in y.chunks_exact_mut((channels * plane).max(1)) {
        let squares: Vec<f64> = sample.iter().map(|x| x * x).collect();
        for c in 0..channels {
            let window = c.saturating_sub(before)..channels.min(c.saturating_add(after).saturating_add(1));
            for i in 0..plane {
                let sum: f64 = window.clone().map(|c| squares[c * plane + i]).sum();
                sample[c * plane + i] /= (f64::from(a.bias) + scale * sum).powf(a.beta.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, numbers, values};
    use super::super::{self as interp};
    use super::*;
    use crate::op::{BatchNorm, GroupNorm, Hardmax, InstanceNorm, LayerNorm, LogSoftmax, LpNorm, RmsNorm, Softmax};
    use crate::types::DType;

    fn run(op: impl Into<Op>, operands: &[&Tensor]) -> Tensor {
        let operands: Vec<Option<&Tensor>> = operands.iter().copied().map(Some).collect();
        interp::eval(&op.into(), &operands).expect("the operands fit").remove(0)
    }

    #[test]
    fn stored_statistics_apply_per_channel() {
        let x = Tensor::f32([1, 2, 2], [1.0, 2.0, 3.0, 4.0]);
        let [scale, b, mean] = [[2.0, 1.0], [0.0, 10.0], [1.0, 3.0]].map(|v| Tensor::f32([2], v));
        let var = Tensor::new([2], Data::F64(vec![4.0, 0.25]));
        let y = run(BatchNorm { eps: 0.0 }, &[&x, &scale, &b, &mean, &var]);
        assert_eq!(y, Tensor::f32([1, 2, 2], [0.0, 1.0, 10.0, 12.0]));
    }

    #[test]
    fn group_statistics_span_channels() {
        let x = Tensor::f32([1, 4, 1], [1.0, 3.0, 10.0, 30.0]);
        let (scale, b) = (Tensor::f32([4], [1.0, 2.0, 3.0, 4.0]), Tensor::f32([4], [0.0, 0.0, 0.0, 1.0]));
        let op = GroupNorm { groups: 2, eps: 0.0, per_group: false };
        assert_eq!(run(op.clone(), &[&x, &scale, &b]), Tensor::f32([1, 4, 1], [-1.0, 2.0, -3.0, 5.0]));
        let (scale, b) = (Tensor::f32([2], [1.0, 2.0]), Tensor::f32([2], [0.0, 1.0]));
        let op = GroupNorm { per_group: true, ..op };
        assert_eq!(run(op, &[&x, &scale, &b]), Tensor::f32([1, 4, 1], [-1.0, 1.0, -1.0, 3.0]));
    }

    #[test]
    fn instance_and_layer_norm_agree_where_they_are_the_same() {
        let x = numbers(DType::F32, &[2, 3, 7]);
        let (one, zero) = (Tensor::f32([3], [1.0; 3]), Tensor::zeros(DType::F32, [3]));
        let instance = run(InstanceNorm { eps: 1e-3 }, &[&x, &one, &zero]);
        let layer = run(LayerNorm { axis: -1, eps: 1e-3 }, &[&x, &Tensor::f32([], [1.0])]);
        assert_eq!(instance, layer);
        let lane = &values(&layer)[..7];
        assert!(lane.iter().sum::<f64>().abs() < 1e-5);
        assert!((lane.iter().map(|x| x * x).sum::<f64>() / 7.0 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn scales_broadcast_over_the_axes_they_lack() {
        let x = Tensor::f32([2, 2], [3.0, 4.0, 6.0, 8.0]);
        let rms = RmsNorm { axis: -1, eps: 0.0 };
        let half = 12.5f64.sqrt();
        let y = run(rms.clone(), &[&x, &Tensor::f32([2], [1.0, 2.0])]);
        assert_near(&y, &[2, 2], &[3.0 / half, 8.0 / half, 3.0 / half, 8.0 / half], 1e-6);
        let y = run(rms, &[&x, &Tensor::f32([2, 1], [1.0, 2.0])]);
        assert_near(&y, &[2, 2], &[3.0 / half, 4.0 / half, 6.0 / half, 8.0 / half], 1e-6);
    }

    #[test]
    fn softmax_along_any_axis_or_flat() {
        let x = Tensor::f32([2, 2, 1], [0.0, 3.0f32.ln(), 1e30, 1e30]);
        let softmax = |axis, flatten| Softmax { axis, flatten };
        assert_near(&run(softmax(1, false), &[&x]), &[2, 2, 1], &[0.25, 0.75, 0.5, 0.5], 1e-6);
        assert_near(&run(softmax(0, false), &[&x]), &[2, 2, 1], &[0.0, 0.0, 1.0, 1.0], 1e-6);
        assert_near(&run(softmax(-1, false), &[&x]), &[2, 2, 1], &[1.0; 4], 1e-6);
        assert_near(&run(softmax(1, true), &[&x]), &[2, 2, 1], &[0.25, 0.75, 0.5, 0.5], 1e-6);
        assert_near(&run(softmax(0, true), &[&x]), &[2, 2, 1], &[0.0, 0.0, 0.5, 0.5], 1e-6);
        let log = run(LogSoftmax { axis: 1, flatten: false }, &[&x]);
        assert_near(&log, &[2, 2, 1], &[0.25f64.ln(), 0.75f64.ln(), 0.5f64.ln(), 0.5f64.ln()], 1e-6);
        assert_eq!(run(Hardmax { axis: 1, flatten: false }, &[&x]), Tensor::f32([2, 2, 1], [0.0, 1.0, 1.0, 0.0]));
        let nan = Tensor::f32([2], [f32::NAN, 1.0]);
        assert!(values(&run(softmax(0, false), &[&nan])).iter().all(|x| x.is_nan()));
        assert!(run(softmax(0, false), &[&Tensor::zeros(DType::F32, [0, 3])]).is_empty());
    }

    #[test]
    fn lp_norm_leaves_zeros_alone() {
        let x = Tensor::f32([3, 2], [3.0, 4.0, 0.0, 0.0, -1.0, 3.0]);
        assert_near(
            &run(LpNorm::default(), &[&x]),
            &[3, 2],
            &[0.6, 0.8, 0.0, 0.0, -0.1f64.sqrt(), 0.9f64.sqrt()],
            1e-6,
        );
        let y = run(LpNorm { axis: 0, p: 1 }, &[&x]);
        assert_near(&y, &[3, 2], &[0.75, 4.0 / 7.0, 0.0, 0.0, -0.25, 3.0 / 7.0], 1e-6);
    }

    #[test]
    fn local_response_sums_more_channels_after_than_before() {
        let x = Tensor::f32([1, 3, 1], [1.0, 2.0, 3.0]);
        let op = Lrn { alpha: 2.0, beta: 1.0, bias: 1.0, size: 2 };
        assert_near(&run(op.clone(), &[&x]), &[1, 3, 1], &[1.0 / 6.0, 2.0 / 14.0, 3.0 / 10.0], 1e-6);
        let y = run(Lrn { size: usize::MAX, alpha: 0.0, ..op }, &[&x]);
        assert_eq!(y, x);
    }
}
