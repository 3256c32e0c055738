//! Evaluation of the operators of `op/elementwise.rs`.
//!
//! Floats are computed in `f64` and rounded once, integers exactly and wrapping.

mod binary;
mod cast;

use super::Cx;
use super::act::{gelu, sigmoid, softplus};
use super::element::{Float, Int, Number, map_data, map_floats, map_ints, map_numbers, zip_data, zip_numbers};
use super::strided::Walk;
use crate::error::EvalError;
use crate::op::{Op, Unary, Variadic};
use crate::tensor::{Data, Tensor};

pub(super) fn eval(op: &Op, cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    let shape = cx.out_shape(0)?;
    let x = cx.x(0).data();
    let data = match op {
        Op::Unary(unary) => self::unary(*unary, x),
        Op::Binary(op) => binary::eval(*op, cx.x(0), cx.x(1), &shape)?,
        Op::Variadic(op) => variadic(*op, &cx.present().collect::<Vec<_>>(), &shape),
        Op::LeakyRelu(a) => {
            let alpha = f64::from(a.alpha);
            float(x, |x| if x < 0.0 { alpha * x } else { x })
        }
        Op::Elu(a) => {
            let alpha = f64::from(a.alpha);
            float(x, |x| if x < 0.0 { alpha * x.exp_m1() } else { x })
        }
        Op::Celu(a) => {
            let alpha = f64::from(a.alpha);
            float(x, |x| if x < 0.0 { alpha * (x / alpha).exp_m1() } else { x })
        }
        Op::Selu(a) => {
            let (alpha, gamma) = (f64::from(a.alpha), f64::from(a.gamma));
            float(x, |x| gamma * if x < 0.0 { alpha * x.exp_m1() } else { x })
        }
        Op::HardSigmoid(a) => {
            let (alpha, beta) = (f64::from(a.alpha), f64::from(a.beta));
            float(x, |x| (alpha * x + beta).clamp(0.0, 1.0))
        }
        Op::ThresholdedRelu(a) => {
            let alpha = f64::from(a.alpha);
            float(x, |x| if x > alpha { x } else { 0.0 })
        }
        Op::Shrink(a) => {
            let (bias, lambd) = (f64::from(a.bias), f64::from(a.lambd));
            let shrink = |x: f64| match x {
                x if x < -lambd => x + bias,
                x if x > lambd => x - bias,
                _ => 0.0,
            };
            if x.dtype().is_float() {
                float(x, shrink)
            } else {
                Data::from_f64(x.dtype(), x.to_f64().into_iter().map(shrink))
            }
        }
        Op::Gelu(a) if a.tanh => float(x, gelu_tanh),
        Op::Gelu(_) => float(x, gelu),
        Op::IsInf(a) => {
            let (negative, positive) = (a.negative, a.positive);
            test(x, |x| (positive && x == f64::INFINITY) || (negative && x == f64::NEG_INFINITY))
        }
        Op::Clip(_) => clip(x, cx.get(1), cx.get(2))?,
        Op::Cast(a) => cast::eval(x, a.to),
        Op::Where(_) => select(cx, &shape),
        Op::Mod(a) => binary::modulo(a.fmod, cx.x(0), cx.x(1), &shape)?,
        Op::BitShift(a) => binary::shift(a.left, cx.x(0), cx.x(1), &shape),
        _ => unreachable!("the dispatcher sends elementwise operators only"),
    };
    Ok(vec![Tensor::new(shape, data)])
}

/// A function of floats.
fn float(x: &Data, f: impl Fn(f64) -> f64) -> Data {
    fn map<T: Float>(x: &[T], f: impl Fn(f64) -> f64) -> Vec<T> {
        x.iter().map(|&x| T::narrow(f(x.wide()))).collect()
    }
    map_floats!(x, x => map(x, f))
}

/// A property of floats.
fn test(x: &Data, f: impl Fn(f64) -> bool) -> Data {
    Data::Bool(match x {
        Data::F64(x) => x.iter().map(|&x| f(x)).collect(),
        Data::F32(x) => x.iter().map(|&x| f(x.into())).collect(),
        Data::F16(x) => x.iter().map(|&x| f(x.into())).collect(),
        Data::BF16(x) => x.iter().map(|&x| f(x.into())).collect(),
        _ => unreachable!("the type rule admits floats only"),
    })
}

/// A function of numbers: one for floats, one for integers.
macro_rules! number {
    ($x:expr, $float:expr, $int:expr) => {
        map_numbers!($x, x =>
            float x.iter().map(|&x| Float::narrow($float(x.wide()))).collect(),
            int x.iter().map(|&x| $int(x)).collect())
    };
}

fn unary(op: Unary, x: &Data) -> Data {
    match op {
        Unary::Identity => x.clone(),
        Unary::Abs => number!(x, f64::abs, Int::abs),
        Unary::Neg => number!(x, |x: f64| -x, Int::neg),
        Unary::Sign => number!(x, |x: f64| if x == 0.0 || x.is_nan() { x } else { x.signum() }, Int::sign),
        // NaN stays.
        Unary::Relu => number!(x, |x: f64| if x <= 0.0 { 0.0 } else { x }, |x| Int::narrow(Int::wide(x).max(0))),
        Unary::Floor => float(x, f64::floor),
        Unary::Ceil => float(x, f64::ceil),
        Unary::Round => float(x, f64::round_ties_even),
        Unary::Sqrt => float(x, f64::sqrt),
        Unary::Reciprocal => float(x, f64::recip),
        Unary::Exp => float(x, f64::exp),
        Unary::Log => float(x, f64::ln),
        Unary::Sin => float(x, f64::sin),
        Unary::Cos => float(x, f64::cos),
        Unary::Tan => float(x, f64::tan),
        Unary::Asin => float(x, f64::asin),
        Unary::Acos => float(x, f64::acos),
        Unary::Atan => float(x, f64::atan),
        Unary::Sinh => float(x, f64::sinh),
        Unary::Cosh => float(x, f64::cosh),
        Unary::Tanh => float(x, f64::tanh),
        Unary::Asinh => float(x, f64::asinh),
        Unary::Acosh => float(x, f64::acosh),
        Unary::Atanh => float(x, f64::atanh),
        Unary::Erf => float(x, libm::erf),
        Unary::Sigmoid => float(x, sigmoid),
        Unary::Silu => float(x, |x| x * sigmoid(x)),
        Unary::Softplus => float(x, softplus),
        Unary::Softsign => float(x, |x| x / (1.0 + x.abs())),
        Unary::Mish => float(x, |x| x * softplus(x).tanh()),
        Unary::HardSwish => float(x, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        Unary::Not => match x {
            Data::Bool(x) => Data::Bool(x.iter().map(|x| !x).collect()),
            _ => unreachable!("the type rule admits booleans only"),
        },
        Unary::BitwiseNot => map_ints!(x, x => x.iter().map(|x| !x).collect()),
        Unary::IsNan => test(x, f64::is_nan),
    }
}

/// x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
fn gelu_tanh(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

fn variadic(op: Variadic, operands: &[&Tensor], shape: &[usize]) -> Data {
    let (first, rest) = operands.split_first().expect("the type rule requires an operand");
    let spread = map_data!(first.data(), x => Walk::broadcast(shape, [first.shape()]).copy(x));
    if matches!(op, Variadic::Sum | Variadic::Mean) && spread.dtype().is_float() {
        let mut sums = spread.to_f64();
        for x in rest {
            sums = Walk::broadcast(shape, [shape, x.shape()]).zip(&sums, &x.data().to_f64(), |a, b| a + b);
        }
        let count = if op == Variadic::Mean { operands.len() as f64 } else { 1.0 };
        return Data::from_f64(spread.dtype(), sums.into_iter().map(|sum| sum / count));
    }
    rest.iter().fold(spread, |known, x| {
        let walk = Walk::broadcast(shape, [shape, x.shape()]);
        match op {
            Variadic::Max => zip_numbers!((&known, x.data()), a, b =>
                float walk.zip(a, b, Number::larger), int walk.zip(a, b, Number::larger)),
            Variadic::Min => zip_numbers!((&known, x.data()), a, b =>
                float walk.zip(a, b, Number::smaller), int walk.zip(a, b, Number::smaller)),
            Variadic::Sum | Variadic::Mean => zip_numbers!((&known, x.data()), a, b =>
                float walk.zip(a, b, Number::plus), int walk.zip(a, b, Number::plus)),
        }
    })
}

fn clip(x: &Data, min: Option<&Tensor>, max: Option<&Tensor>) -> Result<Data, EvalError> {
    for limit in [min, max].into_iter().flatten() {
        if limit.len() != 1 {
            return Err(EvalError::Value(format!("a limit of {} elements", limit.len())));
        }
    }
    // Where the limits cross, the upper one wins. NaN is left as it is.
    let clipped = match min {
        Some(min) => zip_numbers!((x, min.data()), x, m =>
            float x.iter().map(|&x| if x < m[0] { m[0] } else { x }).collect(),
            int x.iter().map(|&x| x.max(m[0])).collect()),
        None => x.clone(),
    };
    Ok(match max {
        Some(max) => zip_numbers!((&clipped, max.data()), x, m =>
            float x.iter().map(|&x| if x > m[0] { m[0] } else { x }).collect(),
            int x.iter().map(|&x| x.min(m[0])).collect()),
        None => clipped,
    })
}

fn select(cx: &Cx<'_>, shape: &[usize]) -> Data {
    let (condition, a, b) = (cx.x(0), cx.x(1), cx.x(2));
    let Data::Bool(c) = condition.data() else { unreachable!("the type rule admits booleans only") };
    let walk = Walk::broadcast(shape, [condition.shape(), a.shape(), b.shape()]);
    zip_data!((a.data(), b.data()), a, b => walk.zip((c, a, b), |c, a, b| if c { a } else { b }))
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::error::EvalError;
    use crate::interp::eval;
    use crate::op::*;
    use crate::types::DType;

    fn run(op: impl Into<Op>, operands: &[&Tensor]) -> Result<Tensor, EvalError> {
        let operands: Vec<_> = operands.iter().map(|&x| Some(x)).collect();
        Ok(eval(&op.into(), &operands)?.remove(0))
    }

    fn vector(v: &[f32]) -> Tensor {
        Tensor::f32([v.len()], v)
    }

    fn near(op: impl Into<Op>, x: &[f32], expected: &[f32]) {
        let y = run(op, &[&vector(x)]).unwrap();
        for (y, e) in y.as_f32().unwrap().iter().zip(expected) {
            assert!((y - e).abs() <= 1e-6 * e.abs().max(1.0), "{y} instead of {e}");
        }
    }

    #[test]
    fn functions() {
        near(Op::Unary(Unary::Erf), &[0.0, 0.5, -2.0], &[0.0, 0.520_499_9, -0.995_322_3]);
        near(Op::Unary(Unary::Round), &[0.5, 1.5, 2.5, -0.5], &[0.0, 2.0, 2.0, -0.0]);
        near(Op::Unary(Unary::Softplus), &[-100.0, 0.0, 100.0], &[0.0, std::f32::consts::LN_2, 100.0]);
        near(Op::Unary(Unary::Mish), &[1.0, -100.0], &[0.865_098_4, 0.0]);
        near(Op::Unary(Unary::HardSwish), &[-4.0, 1.0, 4.0], &[0.0, 0.666_666_7, 4.0]);
        near(Op::Unary(Unary::Sigmoid), &[-1000.0, 0.0, 1000.0], &[0.0, 0.5, 1.0]);
        near(Gelu::default(), &[-1.0, 1.0], &[-0.158_655_26, 0.841_344_8]);
        near(Gelu { tanh: true }, &[-1.0, 1.0], &[-0.158_808, 0.841_192]);
        near(LeakyRelu { alpha: 0.1 }, &[-1.0, 2.0], &[-0.1, 2.0]);
        near(Elu { alpha: 2.0 }, &[-1.0, 1.0], &[-1.264_241_1, 1.0]);
        near(Celu { alpha: 2.0 }, &[-1.0, 1.0], &[-0.786_938_7, 1.0]);
        near(Selu::default(), &[-1.0, 1.0], &[-1.111_330_7, 1.050_701]);
        near(HardSigmoid::default(), &[-5.0, 1.0, 5.0], &[0.0, 0.7, 1.0]);
        near(ThresholdedRelu::default(), &[1.0, 1.5], &[0.0, 1.5]);
        near(Shrink { bias: 0.5, lambd: 1.0 }, &[-2.0, -1.0, 0.5, 2.0], &[-1.5, 0.0, 0.0, 1.5]);
    }

    #[test]
    fn not_a_number_stays() {
        for op in [Unary::Relu, Unary::Sign, Unary::HardSwish, Unary::Softplus, Unary::Abs] {
            let y = run(Op::Unary(op), &[&vector(&[f32::NAN])]).unwrap();
            assert!(y.as_f32().unwrap()[0].is_nan(), "{op:?}");
        }
        for op in [Variadic::Max, Variadic::Min] {
            let (nan, one) = (vector(&[f32::NAN, 1.0]), vector(&[1.0, f32::NAN]));
            let y = run(Op::Variadic(op), &[&nan, &one]).unwrap();
            assert!(y.as_f32().unwrap().iter().all(|y| y.is_nan()));
        }
        let y = run(Clip {}, &[&vector(&[f32::NAN]), &Tensor::f32([], [0.0]), &Tensor::f32([], [1.0])]).unwrap();
        assert!(y.as_f32().unwrap()[0].is_nan());
    }

    #[test]
    fn integers_are_exact() {
        let x = Tensor::i64([3], [i64::MIN, -3, i64::MAX - 1]);
        assert_eq!(run(Op::Unary(Unary::Abs), &[&x]).unwrap(), Tensor::i64([3], [i64::MIN, 3, i64::MAX - 1]));
        assert_eq!(run(Op::Unary(Unary::Sign), &[&x]).unwrap(), Tensor::i64([3], [-1, -1, 1]));
        assert_eq!(run(Op::Unary(Unary::BitwiseNot), &[&x]).unwrap(), Tensor::i64([3], [i64::MAX, 2, i64::MIN + 1]));
        assert_eq!(run(Op::Unary(Unary::Relu), &[&x]).unwrap(), Tensor::i64([3], [0, 0, i64::MAX - 1]));
        let y = Tensor::i64([1], [3]);
        assert_eq!(
            run(Op::Variadic(Variadic::Sum), &[&x, &y]).unwrap(),
            Tensor::i64([3], [i64::MIN + 3, 0, i64::MIN + 1])
        );
    }

    #[test]
    fn limits() {
        let (x, lo, hi) = (vector(&[-2.0, 0.5, 2.0]), Tensor::f32([], [-1.0]), Tensor::f32([1], [1.0]));
        assert_eq!(run(Clip {}, &[&x, &lo, &hi]).unwrap(), vector(&[-1.0, 0.5, 1.0]));
        assert_eq!(run(Clip {}, &[&x, &hi, &lo.clone()]).unwrap(), vector(&[-1.0, -1.0, -1.0]));
        assert_eq!(eval(&Clip {}.into(), &[Some(&x), None, Some(&lo)]).unwrap(), [vector(&[-2.0, -1.0, -1.0])]);
    }

    #[test]
    fn sums_and_choices() {
        let (a, b) = (Tensor::f32([2, 1], [1.0, 2.0]), vector(&[10.0, 20.0]));
        assert_eq!(run(Op::Variadic(Variadic::Mean), &[&a, &b]).unwrap(), Tensor::f32([2, 2], [5.5, 10.5, 6.0, 11.0]));
        let c = Tensor::new([2], Data::Bool(vec![true, false]));
        assert_eq!(run(Where {}, &[&c, &a, &b]).unwrap(), Tensor::f32([2, 2], [1.0, 20.0, 2.0, 20.0]));
        let half = Tensor::new([2], Data::F16(vec![f16::from_f32(2048.0), f16::from_f32(1.0)]));
        let sum = run(Op::Variadic(Variadic::Sum), &[&half, &half, &half]).unwrap();
        assert_eq!(sum.data().to_f64(), [6144.0, 3.0]);
    }

    #[test]
    fn infinities() {
        let x = vector(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0]);
        let y = run(IsInf { negative: false, positive: true }, &[&x]).unwrap();
        assert_eq!(y.data(), &Data::Bool(vec![true, false, false, false]));
        let y = run(Op::Unary(Unary::IsNan), &[&x]).unwrap();
        assert_eq!(y.data(), &Data::Bool(vec![false, false, true, false]));
    }

    #[test]
    fn absurd_results_are_refused() {
        let (x, shape) = (vector(&[1.0]), Tensor::i64([2], [1 << 20, 1 << 20]));
        assert!(run(Expand {}, &[&x, &shape]).is_err());
        let nibbles = Tensor::zeros(DType::I4, [2]);
        assert!(run(Op::Binary(Binary::Add), &[&nibbles, &nibbles]).is_err());
    }
}
