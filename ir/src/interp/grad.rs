//! Evaluation of the operators of `op/grad.rs`.

use super::Cx;
use super::act::{act_derivative, act_derivative_by_result};
use super::conv::Nest;
use super::pool::max_pool_grad;
use crate::error::EvalError;
use crate::op::{ActGrad, BatchNormTrain, ConvWeightGrad, Op};
use crate::tensor::{Data, Tensor};

pub(super) fn eval(op: &Op, cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    let results = match op {
        Op::ConvWeightGrad(a) => vec![conv_weight_grad(a, cx)?],
        Op::MaxPoolGrad(a) => {
            let x = cx.x(0);
            vec![max_pool_grad(x, cx.x(1), &a.window().axes(&x.shape()[2..])?)]
        }
        Op::BatchNormTrain(a) => batch_norm_train(a, cx),
        Op::BatchNormGrad(_) => batch_norm_grad(cx),
        Op::ActGrad(a) => vec![act_grad(a, cx)],
        _ => unreachable!("{} is of another family", op.name()),
    };
    let dtype = cx.x(0).dtype();
    let tensor = |(i, values)| Ok(Tensor::new(cx.out_shape(i)?, Data::from_f64(dtype, values)));
    results.into_iter().enumerate().map(tensor).collect()
}

fn conv_weight_grad(a: &ConvWeightGrad, cx: &Cx<'_>) -> Result<Vec<f64>, EvalError> {
    let (x, dy) = (cx.x(0), cx.x(1));
    let axes = a.convolution().window(a.kernel.iter().copied()).axes(&x.shape()[2..])?;
    let nest = Nest::conv(x.shape(), &cx.out_shape(0)?, a.group, &axes);
    Ok(match (x.as_f32(), dy.as_f32()) {
        (Some(x), Some(dy)) => nest.weight_sums(x, dy),
        _ => nest.weight_sums(&x.data().to_f64(), &dy.data().to_f64()),
    })
}

/// Calls `f` with the channel and the range of elements of every plane of `x`.
fn planes(x: &Tensor, mut f: impl FnMut(usize, std::ops::Range<usize>)) {
    let channels = x.shape()[1];
    let size: usize = x.shape()[2..].iter().product();
    for plane in 0..x.shape()[0] * channels {
        f(plane % channels, plane * size..(plane + 1) * size);
    }
}

/// Sums over everything but channels.
fn sums(x: &Tensor, term: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; x.shape()[1]];
    planes(x, |c, range| sums[c] += range.map(|i| term(c, i)).sum::<f64>());
    sums
}

/// Elements in one channel; 1 where there are none, so that means of nothing are zero.
fn per_channel(x: &Tensor) -> f64 {
    x.len().checked_div(x.shape()[1]).unwrap_or(0).max(1) as f64
}

/// The operand as `f64`.
fn parameter(cx: &Cx<'_>, slot: usize) -> Vec<f64> {
    cx.x(slot).data().to_f64()
}

fn batch_norm_train(a: &BatchNormTrain, cx: &Cx<'_>) -> Vec<Vec<f64>> {
    let x = cx.x(0);
    let (scale, b) = (parameter(cx, 1), parameter(cx, 2));
    let (values, count) = (x.data().to_f64(), per_channel(x));
    let mean: Vec<f64> = sums(x, |_, i| values[i]).into_iter().map(|sum| sum / count).collect();
    let var = sums(x, |c, i| (values[i] - mean[c]).powi(2));
    let var: Vec<f64> = var.into_iter().map(|sum| sum / count).collect();
    let inv_std: Vec<f64> = var.iter().map(|var| 1.0 / (var + f64::from(a.eps)).sqrt()).collect();
    let mut y = vec![0.0; x.len()];
    planes(x, |c, range| {
        for i in range {
            y[i] = (values[i] - mean[c]) * (inv_std[c] * scale[c]) + b[c];
        }
    });
    let keep = f64::from(a.momentum);
    let running = |slot: usize, batch: &[f64]| {
        parameter(cx, slot).iter().zip(batch).map(|(old, new)| old * keep + new * (1.0 - keep)).collect()
    };
    vec![y, running(3, &mean), running(4, &var), mean, inv_std]
}

fn batch_norm_grad(cx: &Cx<'_>) -> Vec<Vec<f64>> {
    let x = cx.x(0);
    let (values, dy, count) = (x.data().to_f64(), parameter(cx, 1), per_channel(x));
    let (scale, mean, inv_std) = (parameter(cx, 2), parameter(cx, 3), parameter(cx, 4));
    let normal = |c: usize, i: usize| (values[i] - mean[c]) * inv_std[c];
    let dbias = sums(x, |_, i| dy[i]);
    let dscale = sums(x, |c, i| dy[i] * normal(c, i));
    let mut dx = vec![0.0; x.len()];
    planes(x, |c, range| {
        for i in range {
            dx[i] = scale[c] * inv_std[c] * (dy[i] - (dbias[c] + normal(c, i) * dscale[c]) / count);
        }
    });
    vec![dx, dscale, dbias]
}

fn act_grad(a: &ActGrad, cx: &Cx<'_>) -> Vec<f64> {
    let derivative = if a.act.grad_by_result() { act_derivative_by_result } else { act_derivative };
    parameter(cx, 0).into_iter().zip(parameter(cx, 1)).map(|(v, dy)| dy * derivative(a.act, v)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::act::activate;
    use super::super::testing::{assert_near, numbers, values};
    use super::super::{self as interp};
    use super::*;
    use crate::op::{Act, BatchNormGrad, Conv, MaxPoolGrad};
    use crate::types::DType;

    fn run(op: impl Into<Op>, operands: &[&Tensor]) -> Vec<Tensor> {
        let operands: Vec<Option<&Tensor>> = operands.iter().copied().map(Some).collect();
        interp::eval(&op.into(), &operands).expect("the operands fit")
    }

    #[test]
    fn the_gradient_of_a_kernel_is_the_adjoint_of_the_convolution() {
        // ⟨conv_w(x), dy⟩ = ⟨w, conv_weight_grad(x, dy)⟩ for every w, since the convolution is linear in w.
        let conv = |strides: &[usize], pads: &[usize], dilations: &[usize], group| Conv {
            strides: strides.to_vec(),
            pads: pads.to_vec(),
            dilations: dilations.to_vec(),
            group,
            ..Conv::default()
        };
        let cases: [(Conv, &[usize], &[usize]); 5] = [
            (conv(&[], &[], &[], 1), &[2, 3, 5, 6], &[4, 3, 3, 2]),
            (conv(&[], &[], &[], 1), &[2, 3, 5, 6], &[4, 3, 1, 1]),
            (conv(&[2, 3], &[1, 0, 2, 1], &[1, 2], 2), &[2, 4, 7, 8], &[6, 2, 3, 2]),
            (conv(&[2], &[1, 1], &[], 4), &[3, 4, 9], &[4, 1, 3]),
            (conv(&[1, 2, 1], &[0, 1, 0, 0, 1, 0], &[], 1), &[1, 2, 2, 5, 3], &[3, 2, 1, 2, 2]),
        ];
        for (conv, x, w) in cases {
            for dtype in [DType::F32, DType::F64] {
                let (x, w) = (numbers(dtype, x), numbers(dtype, w));
                let y = run(conv.clone(), &[&x, &w]).remove(0);
                let dy = numbers(dtype, y.shape());
                let grad = ConvWeightGrad {
                    kernel: w.shape()[2..].to_vec(),
                    strides: conv.strides.clone(),
                    pads: conv.pads.clone(),
                    dilations: conv.dilations.clone(),
                    group: conv.group,
                };
                let dw = run(grad, &[&x, &dy]).remove(0);
                assert_eq!(dw.shape(), w.shape());
                let dot = |a: &Tensor, b: &Tensor| values(a).iter().zip(values(b)).map(|(a, b)| a * b).sum::<f64>();
                assert_eq!(dot(&y, &dy), dot(&w, &dw), "{conv:?}");
            }
        }
    }

    #[test]
    fn the_first_maximum_takes_the_gradient() {
        let x = Tensor::f32([1, 1, 5], [1.0, 4.0, 4.0, 0.0, 9.0]);
        let pool = MaxPoolGrad { kernel: vec![3], ..MaxPoolGrad::default() };
        let dx = run(pool, &[&x, &Tensor::f32([1, 1, 3], [1.0, 10.0, 100.0])]);
        assert_eq!(dx[0], Tensor::f32([1, 1, 5], [0.0, 11.0, 0.0, 0.0, 100.0]));
        let pool = MaxPoolGrad { kernel: vec![2], strides: vec![2], ceil: true, ..MaxPoolGrad::default() };
        let dx = run(pool, &[&x, &Tensor::f32([1, 1, 3], [1.0, 10.0, 100.0])]);
        assert_eq!(dx[0], Tensor::f32([1, 1, 5], [0.0, 1.0, 10.0, 0.0, 100.0]));
    }

    #[test]
    fn batch_statistics_and_their_running_means() {
        let x = Tensor::f32([2, 2, 2], [1.0, 3.0, 5.0, 5.0, 1.0, 3.0, 5.0, 9.0]);
        let (scale, b) = (Tensor::f32([2], [2.0, 1.0]), Tensor::f32([2], [0.5, 0.0]));
        let (mean, var) = (Tensor::f32([2], [1.0, 0.0]), Tensor::f32([2], [1.0, 1.0]));
        let train = BatchNormTrain { eps: 1.0, momentum: 0.75 };
        let y = run(train, &[&x, &scale, &b, &mean, &var]);
        // Channel 0 holds 1, 3, 1, 3: mean 2, variance 1; channel 1 holds 5, 5, 5, 9: mean 6, variance 3.
        let half = 0.5f64.sqrt();
        assert_near(&y[1], &[2], &[1.25, 1.5], 1e-6);
        assert_near(&y[2], &[2], &[1.0, 1.5], 1e-6);
        assert_near(&y[3], &[2], &[2.0, 6.0], 1e-6);
        assert_near(&y[4], &[2], &[half, 0.5], 1e-6);
        let first = [0.5 - 2.0 * half, 0.5 + 2.0 * half, -0.5, -0.5];
        let second = [first[0], first[1], -0.5, 1.5];
        assert_near(&y[0], &[2, 2, 2], &[first, second].concat(), 1e-6);

        let dy = numbers(DType::F32, &[2, 2, 2]);
        let grads = run(BatchNormGrad {}, &[&x, &dy, &scale, &y[3], &y[4]]);
        let of = |c: usize| [4 * (c / 2), 4 * (c / 2) + 1].map(|i| i + 2 * (c % 2));
        let dy_of = |c: usize| [of(c), of(c + 2)].concat().into_iter().map(|i| values(&dy)[i]).sum::<f64>();
        assert_near(&grads[2], &[2], &[dy_of(0), dy_of(1)], 1e-5);
        // Adding a number to a channel moves nothing, so the gradient of a channel sums to zero.
        let dx = values(&grads[0]);
        assert!((dx[0] + dx[1] + dx[4] + dx[5]).abs() < 1e-5 && (dx[2] + dx[3] + dx[6] + dx[7]).abs() < 1e-5);
    }

    #[test]
    fn derivatives_of_activations_are_limits_of_differences() {
        let acts = [
            Act::None,
            Act::Relu,
            Act::Clip { lo: -0.5, hi: 1.5 },
            Act::LeakyRelu { alpha: 0.1 },
            Act::LeakyRelu { alpha: -0.1 },
            Act::Sigmoid,
            Act::Tanh,
            Act::HardSigmoid { alpha: 0.3, beta: 0.5 },
            Act::HardSwish,
            Act::Silu,
            Act::Gelu,
        ];
        for act in acts {
            for x in [-4.0, -1.3, -0.2, 0.4, 1.2, 2.8, 5.0] {
                let v = if act.grad_by_result() { activate(act, x) } else { x };
                let v = Tensor::new([1], Data::F64(vec![v]));
                let grad = run(ActGrad { act }, &[&v, &Tensor::new([1], Data::F64(vec![2.0]))]);
                let h = 1e-6;
                let expected = (activate(act, x + h) - activate(act, x - h)) / h;
                assert_near(&grad[0], &[1], &[expected], 1e-8);
            }
        }
        let corner = run(ActGrad { act: Act::Relu }, &[&Tensor::f32([1], [0.0]), &Tensor::f32([1], [1.0])]);
        assert_eq!(corner[0], Tensor::f32([1], [0.0]));
    }

    #[test]
    fn nothing_has_no_gradient() {
        let x = Tensor::zeros(DType::F32, [0, 2, 3]);
        let dy = Tensor::zeros(DType::F32, [0, 4, 2]);
        let dw = run(ConvWeightGrad { kernel: vec![2], ..ConvWeightGrad::default() }, &[&x, &dy]);
        assert_eq!(dw[0], Tensor::zeros(DType::F32, [4, 2, 2]));
        let ones = Tensor::f32([2], [1.0, 1.0]);
        let y = run(BatchNormTrain::default(), &[&x, &ones, &ones, &ones, &ones]);
        assert_eq!(y[0].shape(), [0, 2, 3]);
    }
}
