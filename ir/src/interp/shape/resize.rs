//! Interpolation, axis by axis: each element of a resized axis is a weighted sum of neighbours on it.
//!
//! Formulas are those of the ONNX reference (`onnx/reference/ops/op_resize.py`). A coordinate lies above
//! `base` and at most one beyond it, so the element on its left is preferred.

use super::super::element::zip_data;
use super::super::{Cx, check_len};
use super::{around, ints, rebuilt};
use crate::error::EvalError;
use crate::op::shape::resize::{AxisPlan, Target};
use crate::op::{CoordinateMode, NearestMode, Resize, ResizeMode};
use crate::tensor::{Data, Tensor};
use crate::types::DType;

/// What an element of a resized axis is made of.
enum Tap {
    /// Outside the region of interest.
    Outside,
    /// Elements of the axis from `start` on, which may lie beyond its ends and then stand for the
    /// elements there, with their weights.
    Sum { start: i64, weights: Vec<f64> },
}

/// One axis to resize.
struct Axis<'a> {
    op: &'a Resize,
    /// Extent of the operand.
    n: usize,
    plan: AxisPlan,
    /// The region of interest, in parts of the extent.
    roi: (f64, f64),
}

impl Axis<'_> {
    /// The coordinate in the operand of element `i` of the result; `None` outside the region of interest.
    fn coordinate(&self, i: usize) -> Option<f64> {
        let (x, n, scale) = (i as f64, self.n as f64, self.plan.scale);
        // The extent before it was rounded.
        let len = scale * n;
        let half_pixel = (x + 0.5) / scale - 0.5;
        Some(match self.op.coordinates {
            CoordinateMode::HalfPixel => half_pixel,
            CoordinateMode::HalfPixelSymmetric => {
                let adjustment = self.plan.len as f64 / len;
                n / 2.0 * (1.0 - adjustment) + half_pixel
            }
            CoordinateMode::PytorchHalfPixel if len == 1.0 => -0.5,
            CoordinateMode::PytorchHalfPixel => half_pixel,
            CoordinateMode::AlignCorners if len == 1.0 => 0.0,
            CoordinateMode::AlignCorners => x * (n - 1.0) / (len - 1.0),
            CoordinateMode::Asymmetric => x / scale,
            CoordinateMode::TfCropAndResize => {
                let (start, end) = self.roi;
                let at = match len {
                    1.0 => (end - start) * (n - 1.0) / 2.0,
                    _ => x * (end - start) * (n - 1.0) / (len - 1.0),
                };
                let at = at + start * (n - 1.0);
                return (0.0..=n - 1.0).contains(&at).then_some(at);
            }
        })
    }

    fn tap(&self, i: usize) -> Tap {
        let Some(x) = self.coordinate(i) else { return Tap::Outside };
        // Coordinates further out than this all mean the element at the end.
        let x = x.clamp(-2.0, self.n as f64 + 1.0);
        let base = x.ceil() - 1.0;
        let ratio = x - base;
        let (start, mut weights) = self.weights(ratio);
        let start = base as i64 + start;
        if self.op.exclude_outside {
            for (k, weight) in weights.iter_mut().enumerate() {
                if !(0..self.n as i64).contains(&(start + k as i64)) {
                    *weight = 0.0;
                }
            }
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        Tap::Sum { start, weights }
    }

    /// The weights around a coordinate `ratio` beyond `base`, and where they start from there.
    fn weights(&self, ratio: f64) -> (i64, Vec<f64>) {
        let a = f64::from(self.op.cubic_coeff);
        let cubic = |x: f64| {
            let x = x.abs();
            match x {
                ..=1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
                ..2.0 => ((x - 5.0) * x + 8.0) * x * a - 4.0 * a,
                _ => 0.0,
            }
        };
        let linear = |x: f64| (1.0 - x.abs()).max(0.0);
        let (radius, kernel): (f64, &dyn Fn(f64) -> f64) = match self.op.mode {
            ResizeMode::Nearest => {
                let right = match self.op.nearest {
                    _ if ratio == 1.0 => true,
                    NearestMode::RoundPreferFloor => ratio > 0.5,
                    NearestMode::RoundPreferCeil => ratio >= 0.5,
                    NearestMode::Floor => false,
                    NearestMode::Ceil => true,
                };
                return (right.into(), vec![1.0]);
            }
            ResizeMode::Linear => (1.0, &linear),
            ResizeMode::Cubic => (2.0, &cubic),
        };
        // The filter widens when shrinking, so that no element is skipped.
        let scale = if self.op.antialias { self.plan.scale.min(1.0) } else { 1.0 };
        let start = (-radius / scale).floor() as i64 + 1;
        let weights: Vec<f64> = (start..2 - start).map(|k| kernel(scale * (k as f64 - ratio))).collect();
        let sum: f64 = if self.op.antialias { weights.iter().sum() } else { 1.0 };
        (start, weights.into_iter().map(|weight| weight / sum).collect())
    }

    fn is_identity(&self) -> bool {
        self.plan.scale == 1.0 && self.plan.len == self.n && self.op.coordinates != CoordinateMode::TfCropAndResize
    }
}

pub(super) fn eval(op: &Resize, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let x = cx.x(0);
    let present = |slot: usize| cx.get(slot).filter(|t| !t.is_empty());
    let target = match (present(2), present(3)) {
        (Some(scales), None) => Target::Scales(scales.data().to_f64().into_iter().map(|s| s as f32).collect()),
        (None, Some(sizes)) => Target::Sizes(ints(sizes)),
        // A value without axes has neither scales nor sizes.
        _ if x.rank() == 0 => return Ok(x.clone()),
        _ => return Err(EvalError::Value("exactly one of scales and sizes must be given".to_owned())),
    };
    let axes = op.resolved(x.rank())?;
    let extents: Vec<usize> = axes.iter().map(|&axis| x.shape()[axis]).collect();
    let plans = op.plan(&extents, &target)?;
    let roi = match present(1) {
        Some(roi) if op.coordinates == CoordinateMode::TfCropAndResize => roi.data().to_f64(),
        _ => [vec![0.0; axes.len()], vec![1.0; axes.len()]].concat(),
    };
    if roi.len() != 2 * axes.len() {
        return Err(EvalError::Value(format!("a region of interest of {} numbers", roi.len())));
    }
    let mut shape = x.shape().to_vec();
    let mut steps: Vec<(usize, Axis<'_>)> = Vec::new();
    for (k, (&axis, plan)) in axes.iter().zip(plans).enumerate() {
        shape[axis] = plan.len;
        let step = Axis { op, n: extents[k], plan, roi: (roi[k], roi[axes.len() + k]) };
        if !step.is_identity() {
            steps.push((axis, step));
        }
    }
    check_len(shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX))?;
    if shape.contains(&0) {
        return Ok(Tensor::zeros(x.dtype(), shape));
    }
    // Axes that shrink come first, so that no intermediate exceeds the larger of operand and result.
    steps.sort_by_key(|(_, step)| step.plan.len > step.n);
    let data = match op.mode {
        ResizeMode::Nearest => nearest(x, &steps),
        _ => interpolated(x, &steps),
    };
    Ok(Tensor::new(shape, data))
}

fn nearest(x: &Tensor, steps: &[(usize, Axis<'_>)]) -> Data {
    let (mut extents, mut data) = (x.shape().to_vec(), x.data().clone());
    for (axis, step) in steps {
        let from: Vec<Option<usize>> = (0..step.plan.len)
            .map(|i| match step.tap(i) {
                Tap::Outside => None,
                Tap::Sum { start, .. } => Some(inside(start, step.n)),
            })
            .collect();
        let (_, n, inner) = around(&extents, *axis);
        let fill = Data::from_f64(data.dtype(), [f64::from(step.op.extrapolation)]);
        data = zip_data!((&data, &fill), v, fill => rebuilt(v, (n, inner), &from, fill[0]));
        extents[*axis] = step.plan.len;
    }
    data
}

fn interpolated(x: &Tensor, steps: &[(usize, Axis<'_>)]) -> Data {
    let (mut extents, mut data) = (x.shape().to_vec(), x.data().to_f64());
    for (axis, step) in steps {
        let (outer, n, inner) = around(&extents, *axis);
        let taps: Vec<Tap> = (0..step.plan.len).map(|i| step.tap(i)).collect();
        let mut y = vec![0.0; outer * taps.len() * inner];
        for (row, tap) in
            y.chunks_exact_mut(inner).zip((0..outer).flat_map(|block| taps.iter().map(move |t| (block, t))))
        {
            let (block, tap) = tap;
            match tap {
                Tap::Outside => row.fill(step.op.extrapolation.into()),
                Tap::Sum { start, weights } => {
                    for (k, &weight) in weights.iter().enumerate() {
                        let from = (block * n + inside(start + k as i64, n)) * inner;
                        for (y, x) in row.iter_mut().zip(&data[from..from + inner]) {
                            *y += weight * x;
                        }
                    }
                }
            }
        }
        data = y;
        extents[*axis] = step.plan.len;
    }
    narrowed(x.dtype(), data)
}

/// The element of an axis that a position on it or beyond its ends stands for.
fn inside(position: i64, n: usize) -> usize {
    position.clamp(0, n as i64 - 1) as usize
}

/// Integers by truncation, limited to their range: cubic interpolation overshoots.
fn narrowed(dtype: DType, data: Vec<f64>) -> Data {
    if dtype.is_float() {
        return Data::from_f64(dtype, data);
    }
    let bits = dtype.bits() as i32 - i32::from(dtype.is_signed());
    let (low, high) = (if dtype.is_signed() { -2f64.powi(bits) } else { 0.0 }, 2f64.powi(bits) - 1.0);
    Data::from_f64(dtype, data.into_iter().map(|x| x.clamp(low, high)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::eval as eval_op;
    use crate::interp::testing::assert_near;
    use crate::op::AspectPolicy;

    fn square() -> Tensor {
        Tensor::f32([1, 1, 2, 2], [1., 2., 3., 4.])
    }

    fn by_scales(op: Resize, x: &Tensor, scales: &[f32]) -> Tensor {
        let scales = Tensor::f32([scales.len()], scales);
        eval_op(&op.into(), &[Some(x), None, Some(&scales)]).unwrap().remove(0)
    }

    fn by_sizes(op: Resize, x: &Tensor, sizes: &[i64]) -> Tensor {
        let sizes = Tensor::i64([sizes.len()], sizes);
        eval_op(&op.into(), &[Some(x), None, None, Some(&sizes)]).unwrap().remove(0)
    }

    #[test]
    fn nearest_by_scales() {
        let y = by_scales(Resize::default(), &square(), &[1.0, 1.0, 2.0, 3.0]);
        let rows = [[1., 1., 1., 2., 2., 2.], [3., 3., 3., 4., 4., 4.]];
        assert_eq!(y, Tensor::f32([1, 1, 4, 6], [rows[0], rows[0], rows[1], rows[1]].concat()));
    }

    #[test]
    fn linear() {
        let op = |coordinates| Resize { mode: ResizeMode::Linear, coordinates, ..Resize::default() };
        let y = by_scales(op(CoordinateMode::HalfPixel), &square(), &[1.0, 1.0, 1.0, 2.0]);
        assert_near(&y, &[1, 1, 2, 4], &[1., 1.25, 1.75, 2., 3., 3.25, 3.75, 4.], 1e-6);
        let y = by_scales(op(CoordinateMode::AlignCorners), &square(), &[1.0, 1.0, 1.0, 2.0]);
        assert_near(&y, &[1, 1, 2, 4], &[1., 4. / 3., 5. / 3., 2., 3., 10. / 3., 11. / 3., 4.], 1e-6);
        let y = by_scales(op(CoordinateMode::Asymmetric), &square(), &[1.0, 1.0, 1.0, 2.0]);
        assert_near(&y, &[1, 1, 2, 4], &[1., 1.5, 2., 2., 3., 3.5, 4., 4.], 1e-6);
    }

    #[test]
    fn cubic_with_and_without_outside() {
        let x = Tensor::f32([4], [0., 1., 2., 3.]);
        let op = |exclude_outside| Resize { mode: ResizeMode::Cubic, exclude_outside, ..Resize::default() };
        // A cubic kernel with coefficient −3/4 at distances 1.75, 0.75, 0.25 and 1.25.
        let y = by_scales(op(false), &x, &[2.0]);
        assert_eq!(y.shape(), [8]);
        let w = [-0.035_156_25, 0.261_718_75, 0.878_906_25, -0.105_468_75];
        let at = |i: usize| w[0] * i as f64 + w[1] * (i + 1) as f64 + w[2] * (i + 2) as f64 + w[3] * (i + 3) as f64;
        assert_near(&Tensor::f32([1], [y.as_f32().unwrap()[4]]), &[1], &[at(0)], 1e-6);
        let inner = by_scales(op(true), &x, &[2.0]);
        assert!((inner.as_f32().unwrap()[0] - y.as_f32().unwrap()[0]).abs() > 1e-3);
    }

    #[test]
    fn antialias_averages() {
        let x = Tensor::f32([4], [1., 2., 3., 4.]);
        let op = Resize { mode: ResizeMode::Linear, antialias: true, ..Resize::default() };
        let y = by_scales(op, &x, &[0.5]);
        // Triangles of radius 2 at 0.5 and 2.5: weights 1, 3, 3, 1 eighths, ends repeated.
        assert_near(&y, &[2], &[(1. + 3. + 6. + 3.) / 8., (2. + 9. + 12. + 4.) / 8.], 1e-6);
    }

    #[test]
    fn policies_and_axes() {
        let op = |aspect| Resize { aspect, axes: Some(vec![3, 2]), ..Resize::default() };
        let x = Tensor::f32([1, 1, 2, 4], [1., 2., 3., 4., 5., 6., 7., 8.]);
        assert_eq!(by_sizes(op(AspectPolicy::Stretch), &x, &[2, 2]).shape(), [1, 1, 2, 2]);
        assert_eq!(by_sizes(op(AspectPolicy::NotLarger), &x, &[2, 2]).shape(), [1, 1, 1, 2]);
        assert_eq!(by_sizes(op(AspectPolicy::NotSmaller), &x, &[2, 2]).shape(), [1, 1, 2, 4]);
    }

    #[test]
    fn regions_of_interest() {
        let x = Tensor::f32([4], [1., 2., 3., 4.]);
        let op = Resize {
            mode: ResizeMode::Linear,
            coordinates: CoordinateMode::TfCropAndResize,
            extrapolation: 9.0,
            ..Resize::default()
        };
        let (roi, sizes) = (Tensor::f32([2], [1.0 / 3.0, 5.0 / 3.0]), Tensor::i64([1], [3]));
        let y = eval_op(&op.into(), &[Some(&x), Some(&roi), None, Some(&sizes)]).unwrap();
        assert_near(&y[0], &[3], &[2., 4., 9.], 1e-6);
    }

    #[test]
    fn other_types() {
        let bytes = Tensor::new([2], Data::U8(vec![0, 255]));
        let y = by_scales(Resize { mode: ResizeMode::Cubic, ..Resize::default() }, &bytes, &[2.0]);
        assert_eq!(y.data().to_i64().unwrap()[3], 255);
        let flags = Tensor::new([2], Data::Bool(vec![true, false]));
        let y = by_scales(Resize::default(), &flags, &[2.0]);
        assert_eq!(y.data(), &Data::Bool(vec![true, true, false, false]));
    }

    #[test]
    fn absurd_targets_are_refused() {
        let run = |x: &Tensor, scales: &[f32]| {
            let scales = Tensor::f32([scales.len()], scales);
            eval_op(&Resize::default().into(), &[Some(x), None, Some(&scales)])
        };
        let x = Tensor::f32([2], [1., 2.]);
        for wrong in [f32::NAN, -1.0, 0.0, 1e30, 1e11] {
            assert!(run(&x, &[wrong]).is_err(), "{wrong}");
        }
        assert!(run(&x, &[1.0, 1.0]).is_err());
        assert_eq!(run(&x, &[0.1]).unwrap()[0].shape(), [0]);
    }
}
