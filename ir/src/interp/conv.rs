//! Evaluation of the operators of `op/conv.rs`.
//!
//! Both directions are one loop nest: for each element of the kernel, a strided run of `x` times that
//! element is added to a strided run of `y`. The innermost axis is such a run, so it vectorises.

use super::Cx;
use super::act::activate;
use crate::error::EvalError;
use crate::op::window::WindowAxis;
use crate::op::{Conv, ConvTranspose, Op};
use crate::tensor::{Data, Tensor};

pub(super) fn eval(op: &Op, cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    let (sums, act) = match op {
        Op::Conv(a) => (conv(a, cx)?, a.act),
        Op::ConvTranspose(a) => (conv_transpose(a, cx)?, a.act),
        _ => unreachable!("{} is of another family", op.name()),
    };
    let y = Data::from_f64(cx.x(0).dtype(), sums.into_iter().map(|sum| activate(act, sum)));
    Ok(vec![Tensor::new(cx.out_shape(0)?, y)])
}

fn conv(a: &Conv, cx: &Cx<'_>) -> Result<Vec<f64>, EvalError> {
    let (x, w) = (cx.x(0), cx.x(1));
    let axes = a.convolution().window(w.shape()[2..].iter().copied()).axes(&x.shape()[2..])?;
    let nest = Nest::conv(x.shape(), w.shape(), a.group, &axes);
    Ok(tensor_sums(&nest, cx))
}

fn conv_transpose(a: &ConvTranspose, cx: &Cx<'_>) -> Result<Vec<f64>, EvalError> {
    let (x, w) = (cx.x(0), cx.x(1));
    let axes = a.window(w.shape()[2..].iter().copied()).transposed_axes(
        &x.shape()[2..],
        &a.output_padding,
        &a.output_shape,
    )?;
    let nest = Nest::conv_transpose(x.shape(), w.shape(), a.group, &axes);
    Ok(tensor_sums(&nest, cx))
}

fn tensor_sums(nest: &Nest, cx: &Cx<'_>) -> Vec<f64> {
    let (x, w) = (cx.x(0), cx.x(1));
    let b = cx.get(2).map(|b| b.data().to_f64());
    match (x.as_f32(), w.as_f32()) {
        (Some(x), Some(w)) => nest.sums(x, w, b.as_deref()),
        _ => nest.sums(&x.data().to_f64(), &w.data().to_f64(), b.as_deref()),
    }
}

/// The loops of one convolution of known shape.
pub(super) struct Nest {
    batch: usize,
    group: usize,
    /// Channels of `x` in a group.
    inputs: usize,
    /// Channels of `y` in a group.
    outputs: usize,
    /// Whether `w` is `[inputs, outputs]` within a group instead of `[outputs, inputs]`.
    inputs_first: bool,
    axes: Vec<Axis>,
    x_plane: usize,
    y_plane: usize,
    w_plane: usize,
}

/// One spatial axis. Extents are those of everything within it, in elements.
struct Axis {
    taps: Vec<Tap>,
    x_step: usize,
    y_step: usize,
    x_size: usize,
    y_size: usize,
    w_size: usize,
}

/// What one kernel element connects: `count` elements of `x` from `x` on with as many of `y` from `y` on.
struct Tap {
    count: usize,
    x: usize,
    y: usize,
}

impl Nest {
    /// The loops of a convolution of `x` with `w`; all shapes fit.
    pub(super) fn conv(x: &[usize], w: &[usize], group: usize, axes: &[WindowAxis]) -> Nest {
        let (inputs, outputs) = (w[1], w[0] / group);
        Nest::new(x[0], group, inputs, outputs, false, axes)
    }

    fn conv_transpose(x: &[usize], w: &[usize], group: usize, axes: &[WindowAxis]) -> Nest {
        let (inputs, outputs) = (w[0] / group, w[1]);
        Nest::new(x[0], group, inputs, outputs, true, axes)
    }

    /// With `transposed`, `x` lies at the positions of the window and `y` at what it slides over.
    fn new(batch: usize, group: usize, inputs: usize, outputs: usize, transposed: bool, axes: &[WindowAxis]) -> Nest {
        let flat;
        let axes = if axes.iter().all(WindowAxis::is_identity) {
            let len = axes.iter().map(|axis| axis.input).product();
            flat = [WindowAxis { input: len, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0, out: len }];
            &flat
        } else {
            axes
        };
        let (mut x_size, mut y_size, mut w_size) = (1, 1, 1);
        let mut nest = Vec::with_capacity(axes.len());
        for axis in axes.iter().rev() {
            let taps = (0..axis.kernel).map(|k| {
                let (positions, read) = axis.positions(k);
                let (x, y) = if transposed { (positions.start, read) } else { (read, positions.start) };
                Tap { count: positions.len(), x, y }
            });
            let (x_step, y_step) = if transposed { (1, axis.stride) } else { (axis.stride, 1) };
            nest.push(Axis { taps: taps.collect(), x_step, y_step, x_size, y_size, w_size });
            let (x_len, y_len) = if transposed { (axis.out, axis.input) } else { (axis.input, axis.out) };
            (x_size, y_size, w_size) = (x_size * x_len, y_size * y_len, w_size * axis.kernel);
        }
        nest.reverse();
        Nest {
            batch,
            group,
            inputs,
            outputs,
            inputs_first: transposed,
            axes: nest,
            x_plane: x_size,
            y_plane: y_size,
            w_plane: w_size,
        }
    }

    /// `b[o] + Σ w·x` for every element of the result.
    pub(super) fn sums<T: Copy + Into<f64>>(&self, x: &[T], w: &[T], b: Option<&[f64]>) -> Vec<f64> {
        let channels = self.group * self.outputs;
        let mut y = vec![0.0; self.batch * channels * self.y_plane];
        for n in 0..self.batch {
            for o in 0..channels {
                let plane = &mut y[(n * channels + o) * self.y_plane..][..self.y_plane];
                plane.fill(b.map_or(0.0, |b| b[o]));
                let first = o / self.outputs * self.inputs;
                for c in first..first + self.inputs {
                    let x = &x[(n * self.group * self.inputs + c) * self.x_plane..][..self.x_plane];
                    let kernel = if self.inputs_first {
                        c * self.outputs + o % self.outputs
                    } else {
                        o * self.inputs + (c - first)
                    };
                    accumulate(&self.axes, &w[kernel * self.w_plane..][..self.w_plane], x, plane);
                }
            }
        }
        y
    }

    /// `Σ x·dy` for every element of the kernel, over samples and window positions.
    pub(super) fn weight_sums<T: Copy + Into<f64>>(&self, x: &[T], dy: &[T]) -> Vec<f64> {
        let channels = self.group * self.outputs;
        let mut w = vec![0.0; channels * self.inputs * self.w_plane];
        for n in 0..self.batch {
            for (i, w) in w.chunks_exact_mut(self.w_plane).enumerate() {
                let (o, c) = (i / self.inputs, i % self.inputs);
                let c = o / self.outputs * self.inputs + c;
                let dy = &dy[(n * channels + o) * self.y_plane..][..self.y_plane];
                let x = &x[(n * self.group * self.inputs + c) * self.x_plane..][..self.x_plane];
                correlate(&self.axes, w, x, dy);
            }
        }
        w
    }
}

fn correlate<T: Copy + Into<f64>>(axes: &[Axis], w: &mut [f64], x: &[T], y: &[T]) {
    let Some((axis, inner)) = axes.split_first() else { return };
    for (tap, w) in axis.taps.iter().zip(w.chunks_exact_mut(axis.w_size)) {
        if inner.is_empty() {
            let (x, y) = (x[tap.x..].iter().step_by(axis.x_step), y[tap.y..].iter().step_by(axis.y_step));
            w[0] += x.zip(y).take(tap.count).map(|(&x, &y)| x.into() * y.into()).sum::<f64>();
            continue;
        }
        for i in 0..tap.count {
            let x = &x[(tap.x + i * axis.x_step) * axis.x_size..];
            let y = &y[(tap.y + i * axis.y_step) * axis.y_size..];
            correlate(inner, w, x, y);
        }
    }
}

fn accumulate<T: Copy + Into<f64>>(axes: &[Axis], w: &[T], x: &[T], y: &mut [f64]) {
    let Some((axis, inner)) = axes.split_first() else { return };
    for (tap, w) in axis.taps.iter().zip(w.chunks_exact(axis.w_size)) {
        if inner.is_empty() {
            let w = w[0].into();
            let (x, y) = (&x[tap.x..], &mut y[tap.y..]);
            if (axis.x_step, axis.y_step) == (1, 1) {
                for (y, &x) in y[..tap.count].iter_mut().zip(&x[..tap.count]) {
                    *y += w * x.into();
                }
            } else {
                let x = x.iter().step_by(axis.x_step);
                for (y, &x) in y.iter_mut().step_by(axis.y_step).zip(x).take(tap.count) {
                    *y += w * x.into();
                }
            }
            continue;
        }
        for i in 0..tap.count {
            let x = &x[(tap.x + i * axis.x_step) * axis.x_size..];
            let y = &mut y[(tap.y + i * axis.y_step) * axis.y_size..];
            accumulate(inner, w, x, y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::eval;
    use super::super::testing::{numbers, values};
    use super::*;
    use crate::op::{Act, AutoPad};
    use crate::types::DType;

    /// The formula of the documentation, element by element, for any two spatial axes.
    fn naive(a: &Conv, x: &Tensor, w: &Tensor) -> Vec<f64> {
        let (xs, ws) = (x.shape(), w.shape());
        let axes = a.convolution().window(ws[2..].iter().copied()).axes(&xs[2..]).unwrap();
        let (xv, wv) = (x.data().to_f64(), w.data().to_f64());
        let per_group = ws[0] / a.group;
        let mut y = Vec::new();
        for n in 0..xs[0] {
            for o in 0..ws[0] {
                for oy in 0..axes[0].out {
                    for ox in 0..axes[1].out {
                        let mut sum = 0.0;
                        for c in 0..ws[1] {
                            for ky in 0..ws[2] {
                                for kx in 0..ws[3] {
                                    let iy = (oy * axes[0].stride + ky * axes[0].dilation).checked_sub(axes[0].begin);
                                    let ix = (ox * axes[1].stride + kx * axes[1].dilation).checked_sub(axes[1].begin);
                                    let (Some(iy), Some(ix)) = (iy, ix) else { continue };
                                    if iy < xs[2] && ix < xs[3] {
                                        let c_in = o / per_group * ws[1] + c;
                                        sum += xv[((n * xs[1] + c_in) * xs[2] + iy) * xs[3] + ix]
                                            * wv[((o * ws[1] + c) * ws[2] + ky) * ws[3] + kx];
                                    }
                                }
                            }
                        }
                        y.push(sum);
                    }
                }
            }
        }
        y
    }

    #[test]
    fn convolutions_follow_the_formula() {
        let cases = [
            (Conv::default(), [2, 3, 5, 6], [4, 3, 3, 2]),
            (Conv::default(), [1, 3, 5, 6], [4, 3, 1, 1]),
            (Conv { pads: vec![1, 2, 0, 3], ..Conv::default() }, [1, 2, 4, 5], [3, 2, 3, 3]),
            (Conv { strides: vec![2, 3], pads: vec![1; 4], ..Conv::default() }, [1, 2, 7, 8], [2, 2, 3, 3]),
            (Conv { dilations: vec![2, 1], pads: vec![5; 4], ..Conv::default() }, [1, 1, 3, 3], [2, 1, 3, 2]),
            (Conv { group: 4, pads: vec![1; 4], ..Conv::default() }, [2, 4, 4, 4], [4, 1, 3, 3]),
            (Conv { group: 2, auto_pad: AutoPad::SameLower, ..Conv::default() }, [1, 4, 4, 5], [6, 2, 2, 4]),
        ];
        for (a, x, w) in cases {
            for dtype in [DType::F32, DType::F64] {
                let (x, w) = (numbers(dtype, &x), numbers(dtype, &w));
                let y = eval(&a.clone().into(), &[Some(&x), Some(&w)]).unwrap().remove(0);
                assert_eq!(values(&y), naive(&a, &x, &w), "{a:?}");
            }
        }
    }

    #[test]
    fn one_and_three_axes_bias_and_activation() {
        let a = Conv { act: Act::Clip { lo: 0.0, hi: 6.0 }, ..Conv::default() };
        let x = Tensor::f32([1, 1, 4], [1.0, 2.0, 3.0, 4.0]);
        let w = Tensor::f32([2, 1, 2], [1.0, 1.0, -1.0, 0.0]);
        let b = Tensor::f32([2], [0.5, 3.0]);
        let y = eval(&a.into(), &[Some(&x), Some(&w), Some(&b)]).unwrap().remove(0);
        assert_eq!(y, Tensor::f32([1, 2, 3], [3.5, 5.5, 6.0, 2.0, 1.0, 0.0]));

        let x = Tensor::f32([1, 1, 2, 2, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let w = Tensor::f32([1, 1, 2, 1, 2], [1.0, 10.0, 100.0, 1000.0]);
        let y = eval(&Conv::default().into(), &[Some(&x), Some(&w)]).unwrap().remove(0);
        assert_eq!(y, Tensor::f32([1, 1, 1, 2, 1], [6521.0, 8743.0]));
    }

    #[test]
    fn transposed_convolution_is_the_gradient_of_convolution() {
        // ⟨conv(u), v⟩ = ⟨u, conv_transpose(v)⟩ defines the transpose; a conv kernel [O, C/g, …] serves
        // the transpose as [C', O'/g, …] unchanged.
        let (strides, pads, dilations) = (vec![2, 1], vec![1, 0, 1, 1], vec![1, 2]);
        let conv = Conv {
            strides: strides.clone(),
            pads: pads.clone(),
            dilations: dilations.clone(),
            group: 2,
            ..Conv::default()
        };
        let transpose = ConvTranspose { strides, pads, dilations, group: 2, ..ConvTranspose::default() };
        let (u, w) = (numbers(DType::F64, &[2, 4, 7, 6]), numbers(DType::F64, &[6, 2, 3, 2]));
        let cu = eval(&conv.into(), &[Some(&u), Some(&w)]).unwrap().remove(0);
        let v = numbers(DType::F64, cu.shape());
        let tv = eval(&transpose.into(), &[Some(&v), Some(&w)]).unwrap().remove(0);
        assert_eq!(tv.shape(), u.shape());
        let dot = |a: &Tensor, b: &Tensor| values(a).iter().zip(values(b)).map(|(a, b)| a * b).sum::<f64>();
        assert_eq!(dot(&cu, &v), dot(&u, &tv));
    }

    #[test]
    fn transposed_convolution_pads_its_result_with_the_bias() {
        let a = ConvTranspose { strides: vec![3], output_padding: vec![1], ..ConvTranspose::default() };
        let (x, w) = (Tensor::f32([1, 1, 2], [1.0, 2.0]), Tensor::f32([1, 1, 2], [1.0, 10.0]));
        let b = Tensor::f32([1], [0.5]);
        let y = eval(&a.into(), &[Some(&x), Some(&w), Some(&b)]).unwrap().remove(0);
        assert_eq!(y, Tensor::f32([1, 1, 6], [1.5, 10.5, 0.5, 2.5, 20.5, 0.5]));
    }

    #[test]
    fn empty_batches_and_channels_give_empty_results_or_the_bias() {
        let a = Op::from(Conv { pads: vec![1; 2], ..Conv::default() });
        let run = |x: &[usize], w: &[usize]| {
            let (x, w) = (Tensor::zeros(DType::F32, x), Tensor::zeros(DType::F32, w));
            eval(&a, &[Some(&x), Some(&w)]).map(|mut y| y.remove(0))
        };
        assert_eq!(run(&[0, 2, 4], &[3, 2, 3]).unwrap().shape(), [0, 3, 4]);
        assert_eq!(run(&[1, 2, 4], &[0, 2, 3]).unwrap().shape(), [1, 0, 4]);
        assert_eq!(run(&[1, 0, 4], &[2, 0, 3]).unwrap(), Tensor::zeros(DType::F32, [1, 2, 4]));
        assert!(run(&[1, 2, 0], &[3, 2, 3]).is_err());
    }
}
