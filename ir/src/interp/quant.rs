//! Evaluation of the operators of `op/quant.rs`.
//!
//! Codes less zero points have at most 9 bits, so their products and the sums of any tensor that fits
//! into memory are exact in `f64`. Scales are applied in single precision, as onnxruntime does: a code
//! that differs by one where a value lies between two would not be a rounding error but another code.

use super::Cx;
use super::conv::Nest;
use super::linear::Product;
use super::strided::Walk;
use crate::error::EvalError;
use crate::op::quant::{Grain, grain, matrix_param_shape};
use crate::op::{DequantizeLinear, Op, QuantizeLinear};
use crate::tensor::{Data, Tensor};
use crate::types::{DType, Dim};

pub(super) fn eval(op: &Op, cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    Ok(match op {
        Op::QuantizeLinear(a) => vec![quantize(a, cx)?],
        Op::DequantizeLinear(a) => vec![dequantize(a, cx)?],
        Op::DynamicQuantizeLinear(_) => quantize_by_range(cx.x(0)),
        Op::ConvInteger(a) => {
            let axes = a.convolution().window(cx.x(1).shape()[2..].iter().copied()).axes(&cx.x(0).shape()[2..])?;
            let (x, w) = (cx.x(0), cx.x(1));
            let nest = Nest::conv(x.shape(), w.shape(), a.group, &axes);
            let sums = nest.sums(&centred(x, cx.get(2), &[]), &per_channel(w, cx.get(3)), None);
            vec![Tensor::new(cx.out_shape(0)?, wrapped(sums))]
        }
        Op::QLinearConv(a) => {
            let (x, w) = (cx.x(0), cx.x(3));
            let axes = a.convolution().window(w.shape()[2..].iter().copied()).axes(&x.shape()[2..])?;
            let nest = Nest::conv(x.shape(), w.shape(), a.group, &axes);
            let bias = cx.get(8).map(|b| b.data().to_f64());
            let sums = nest.sums(&centred(x, cx.get(2), &[]), &per_channel(w, cx.get(5)), bias.as_deref());
            let shape = cx.out_shape(0)?;
            let w_scale = cx.x(4);
            let w_scale = w_scale.clone().reshaped([&[w_scale.len()][..], &vec![1; shape.len() - 2]].concat());
            vec![requantized(cx, sums, shape, (cx.x(1), &w_scale))?]
        }
        Op::MatMulInteger(_) => {
            let sums = product(cx.x(0), cx.get(2), cx.x(1), cx.get(3));
            vec![Tensor::new(cx.out_shape(0)?, wrapped(sums))]
        }
        Op::QLinearMatMul(_) => {
            let (a, b) = (cx.x(0), cx.x(3));
            let sums = product(a, cx.get(2), b, cx.get(5));
            let shape = cx.out_shape(0)?;
            let a_scale = cx.x(1).clone().reshaped(matrix_param_shape(cx.x(1).shape(), true));
            // The axis a vector operand has not is not in the result either.
            let a_scale = if b.rank() == 1 { without_axis(&a_scale, 0) } else { a_scale };
            let b_scale = if a.rank() == 1 { without_axis(cx.x(4), 1) } else { cx.x(4).clone() };
            vec![requantized(cx, sums, shape, (&a_scale, &b_scale))?]
        }
        _ => unreachable!("the dispatcher sends quantized operators only"),
    })
}

/// A scale without its axis of extent 1, counted from the last, where it has one.
fn without_axis(x: &Tensor, from_last: usize) -> Tensor {
    let mut shape = x.shape().to_vec();
    match shape.len().checked_sub(from_last + 1) {
        Some(axis) if shape[axis] == 1 => {
            shape.remove(axis);
            x.clone().reshaped(shape)
        }
        _ => x.clone(),
    }
}

/// A stretch of elements and the scales that belong to them.
struct Run {
    start: usize,
    len: usize,
    scale: usize,
    /// 0 if the run has one scale, 1 if it has one an element.
    step: usize,
}

/// The elements of a tensor in runs that lie evenly beside the scales.
fn runs(shape: &[usize], grain: Grain) -> Vec<Run> {
    let len: usize = shape.iter().product();
    let (axis, block) = match grain {
        Grain::Tensor => return vec![Run { start: 0, len, scale: 0, step: 0 }],
        Grain::Axis(axis) => (axis, 1),
        Grain::Block(axis, block) => (axis, block),
    };
    let (n, inner): (usize, usize) = (shape[axis], shape[axis + 1..].iter().product());
    let blocks = n.div_ceil(block);
    (0..len.checked_div(inner).unwrap_or(0))
        .map(|row| {
            let (outer, at) = (row / n, row % n);
            let (scale, step) = match grain {
                Grain::Block(..) => ((outer * blocks + at / block) * inner, 1),
                _ => (at, 0),
            };
            Run { start: row * inner, len: inner, scale, step }
        })
        .collect()
}

/// Applies `f` to each element, its scale and its zero point.
fn scaled<T>(cx: &Cx<'_>, axis: i64, block: usize, f: impl Fn(f64, f64, f64) -> T) -> Result<Vec<T>, EvalError> {
    let (x, scale) = (cx.x(0), cx.x(1));
    let dims = |shape: &[usize]| shape.iter().copied().map(Dim::Fixed).collect::<Vec<_>>();
    let grain = grain(&dims(x.shape()), &dims(scale.shape()), axis, block)?;
    let (elements, scales) = (x.data().to_f64(), scale.data().to_f64());
    let zeros = cx.get(2).map_or_else(|| vec![0.0; scales.len()], |zero| zero.data().to_f64());
    let mut y = Vec::with_capacity(elements.len());
    for run in runs(x.shape(), grain) {
        let row = elements[run.start..run.start + run.len].iter().enumerate();
        y.extend(row.map(|(i, &x)| {
            let at = run.scale + i * run.step;
            f(x, scales[at], zeros[at])
        }));
    }
    Ok(y)
}

/// The limits of a type of codes.
fn limits(dtype: DType) -> (f64, f64) {
    let bits = dtype.bits() as i32;
    if dtype.is_signed() { (-2f64.powi(bits - 1), 2f64.powi(bits - 1) - 1.0) } else { (0.0, 2f64.powi(bits) - 1.0) }
}

/// `saturate(round_even(x) + zero)`; NaN gives the code of zero.
fn code(x: f64, zero: f64, (low, high): (f64, f64)) -> f64 {
    let x = if x.is_nan() { 0.0 } else { x };
    (x.round_ties_even() + zero).clamp(low, high)
}

fn quantize(op: &QuantizeLinear, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let dtype = cx.get(2).map_or(op.to, Tensor::dtype);
    let limits = limits(dtype);
    let codes = match cx.x(0).dtype() {
        DType::F64 => scaled(cx, op.axis, op.block, |x, scale, zero| code(x / scale, zero, limits))?,
        _ => scaled(cx, op.axis, op.block, |x, scale, zero| code((x as f32 / scale as f32).into(), zero, limits))?,
    };
    Ok(Tensor::new(cx.x(0).shape(), Data::from_f64(dtype, codes)))
}

fn dequantize(op: &DequantizeLinear, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let dtype = cx.x(1).dtype();
    let values = match dtype {
        DType::F64 => scaled(cx, op.axis, op.block, |x, scale, zero| (x - zero) * scale)?,
        _ => scaled(cx, op.axis, op.block, |x, scale, zero| f64::from((x - zero) as f32 * scale as f32))?,
    };
    Ok(Tensor::new(cx.x(0).shape(), Data::from_f64(dtype, values)))
}

fn quantize_by_range(x: &Tensor) -> Vec<Tensor> {
    let elements = x.as_f32().expect("the type rule admits f32 only");
    let low = elements.iter().copied().fold(0f32, f32::min);
    let high = elements.iter().copied().fold(0f32, f32::max);
    let scale = if low == high { 1.0 } else { (high - low) / 255.0 };
    let zero = code((-low / scale).into(), 0.0, (0.0, 255.0));
    let codes: Vec<u8> = elements.iter().map(|x| code((x / scale).into(), zero, (0.0, 255.0)) as u8).collect();
    vec![Tensor::new(x.shape(), Data::U8(codes)), Tensor::f32([], [scale]), Tensor::new([], Data::U8(vec![zero as u8]))]
}

/// Codes less their zero points. A vector of zero points lies along the axis after `rest` axes: these
/// are appended to its shape.
fn centred(x: &Tensor, zero: Option<&Tensor>, rest: &[usize]) -> Vec<f32> {
    let codes = x.data().to_f64();
    let Some(zero) = zero else { return codes.into_iter().map(|x| x as f32).collect() };
    // One zero point may come as a vector, which is no matter of axes.
    let shape = if zero.len() == 1 { Vec::new() } else { [zero.shape(), rest].concat() };
    let walk = Walk::broadcast(x.shape(), [x.shape(), &shape]);
    walk.zip(&codes, &zero.data().to_f64(), |x, zero| (x - zero) as f32)
}

/// The codes of a kernel less the zero points of its result channels.
fn per_channel(w: &Tensor, zero: Option<&Tensor>) -> Vec<f32> {
    centred(w, zero, &vec![1; w.rank() - 1])
}

/// The exact matrix product of codes less zero points.
fn product(a: &Tensor, a_zero: Option<&Tensor>, b: &Tensor, b_zero: Option<&Tensor>) -> Vec<f64> {
    let rows = if a_zero.is_some_and(|zero| zero.rank() == 1) { &[1][..] } else { &[] };
    let (x, y) = (centred(a, a_zero, rows), centred(b, b_zero, &[]));
    Product::new(a.shape(), b.shape()).run(&x, &y)
}

/// Sums in `i32`, wrapping.
fn wrapped(sums: Vec<f64>) -> Data {
    Data::from_f64(DType::I32, sums)
}

/// Sums as codes of the grid in operands 6 and 7, by scales that broadcast to them.
fn requantized(
    cx: &Cx<'_>,
    sums: Vec<f64>,
    shape: Vec<usize>,
    (left, right): (&Tensor, &Tensor),
) -> Result<Tensor, EvalError> {
    let (scale, zero) = (cx.x(6).data().to_f64(), cx.x(7));
    let (&[scale], &[zero_code]) = (scale.as_slice(), zero.data().to_f64().as_slice()) else {
        return Err(EvalError::Value("the result needs one scale and one zero point".to_owned()));
    };
    let spread = |x: &Tensor| {
        let shape_of = if x.len() == 1 { &[][..] } else { x.shape() };
        Walk::broadcast(&shape, [shape_of]).copy(&x.data().to_f64())
    };
    let limits = limits(zero.dtype());
    let codes = sums.into_iter().zip(spread(left)).zip(spread(right)).map(|((sum, left), right)| {
        let factor = left as f32 * right as f32 / scale as f32;
        // Sums are i32 and wrap as such before they are scaled.
        code((sum as i64 as i32 as f32 * factor).into(), zero_code, limits)
    });
    let data = Data::from_f64(zero.dtype(), codes);
    Ok(Tensor::new(shape, data))
}

#[cfg(test)]
mod tests {
    use super::super::testing::assert_near;
    use super::*;
    use crate::interp::eval as eval_op;
    use crate::op::*;

    fn run(op: impl Into<Op>, operands: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
        let operands: Vec<_> = operands.iter().map(|&x| Some(x)).collect();
        eval_op(&op.into(), &operands)
    }

    fn f32s(v: &[f32]) -> Tensor {
        Tensor::f32([v.len()], v)
    }

    fn scale(s: f32) -> Tensor {
        Tensor::f32([], [s])
    }

    fn u8s(shape: &[usize], v: &[u8]) -> Tensor {
        Tensor::new(shape, Data::U8(v.to_vec()))
    }

    fn i8s(shape: &[usize], v: &[i8]) -> Tensor {
        Tensor::new(shape, Data::I8(v.to_vec()))
    }

    #[test]
    fn codes_round_to_even_and_saturate() {
        let x = f32s(&[0.0, 1.0, 3.0, 5.0, 1000.0, -254.0, -1000.0, f32::NAN]);
        let y = run(QuantizeLinear::default(), &[&x, &scale(2.0), &u8s(&[], &[128])]).unwrap();
        assert_eq!(y, [u8s(&[8], &[128, 128, 130, 130, 255, 1, 0, 128])]);
        let op = QuantizeLinear { to: DType::I4, ..QuantizeLinear::default() };
        let y = run(op, &[&f32s(&[-9.0, -0.5, 1.5, 9.0]), &scale(1.0)]).unwrap();
        assert_eq!(y[0].data(), &Data::I4(vec![-8, 0, 2, 7]));
    }

    #[test]
    fn scales_lie_along_axes_and_blocks() {
        let x = Tensor::f32([2, 3], [1., 2., 3., 4., 5., 6.]);
        let op = QuantizeLinear { axis: 0, ..QuantizeLinear::default() };
        assert_eq!(run(op, &[&x, &f32s(&[1.0, 2.0])]).unwrap(), [u8s(&[2, 3], &[1, 2, 3, 2, 2, 3])]);
        let op = QuantizeLinear { axis: -1, block: 2, ..QuantizeLinear::default() };
        let scales = Tensor::f32([2, 2], [1.0, 3.0, 0.5, 2.0]);
        assert_eq!(run(op, &[&x, &scales]).unwrap(), [u8s(&[2, 3], &[1, 2, 1, 8, 10, 3])]);
        let op = DequantizeLinear { axis: 0, block: 1 };
        let (codes, scales) = (i8s(&[2, 1], &[-3, 4]), Tensor::f32([2, 1], [0.5, 2.0]));
        assert_eq!(run(op, &[&codes, &scales, &i8s(&[2, 1], &[1, 0])]).unwrap(), [Tensor::f32([2, 1], [-2.0, 8.0])]);
    }

    #[test]
    fn ranges_decide_the_grid() {
        let y = run(DynamicQuantizeLinear {}, &[&f32s(&[0., 2., -3., -2.5, 1.34, 0.5])]).unwrap();
        assert_eq!(y[0], u8s(&[6], &[153, 255, 0, 26, 221, 179]));
        assert_near(&y[1], &[], &[0.019_607_844], 1e-9);
        assert_eq!(y[2], u8s(&[], &[153]));
        let y = run(DynamicQuantizeLinear {}, &[&f32s(&[0.0, 0.0])]).unwrap();
        assert_eq!(y, [u8s(&[2], &[0, 0]), scale(1.0), u8s(&[], &[0])]);
        run(DynamicQuantizeLinear {}, &[&f32s(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY])]).unwrap();
    }

    #[test]
    fn integer_convolution_borders_are_zero_points() {
        let x = u8s(&[1, 1, 3, 3], &[2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let w = u8s(&[1, 1, 2, 2], &[1; 4]);
        let one = u8s(&[], &[1]);
        let y = run(ConvInteger::default(), &[&x, &w, &one]).unwrap();
        assert_eq!(y[0].data(), &Data::I32(vec![12, 16, 24, 28]));
        let y = run(ConvInteger { pads: vec![1, 1, 1, 1], ..ConvInteger::default() }, &[&x, &w, &one]).unwrap();
        assert_eq!(y[0].data(), &Data::I32(vec![1, 3, 5, 3, 5, 12, 16, 9, 11, 24, 28, 15, 7, 15, 17, 9]));
    }

    #[test]
    fn convolution_of_codes_scales_each_channel() {
        let x = u8s(&[1, 1, 1, 2], &[130, 126]);
        let w = i8s(&[2, 1, 1, 1], &[10, -20]);
        let b = Tensor::new([2], Data::I32(vec![4, 0]));
        let (zeros, scales) = (i8s(&[2], &[0, 5]), f32s(&[0.5, 0.25]));
        let operands = [&x, &scale(1.0), &u8s(&[], &[128]), &w, &scales, &zeros, &scale(2.0), &u8s(&[], &[100]), &b];
        let y = run(QLinearConv::default(), &operands).unwrap();
        // (2·10 + 4)/4, (−2·10 + 4)/4, then 2·(−25)/8 = −6.25 and 6.25.
        assert_eq!(y, [u8s(&[1, 2, 1, 2], &[106, 96, 94, 106])]);
    }

    #[test]
    fn products_take_zero_points_off() {
        let (a, b) = (u8s(&[2, 2], &[11, 7, 3, 10]), u8s(&[2, 2], &[1, 4, 2, 5]));
        let y = run(MatMulInteger {}, &[&a, &b, &u8s(&[], &[12]), &u8s(&[], &[0])]).unwrap();
        assert_eq!(y[0].data(), &Data::I32(vec![-11, -29, -13, -46]));
        let y = run(MatMulInteger {}, &[&a, &b, &u8s(&[2], &[11, 3]), &u8s(&[2], &[1, 4])]).unwrap();
        assert_eq!(y[0].data(), &Data::I32(vec![-4, -4, 7, 7]));
        let v = u8s(&[2], &[1, 2]);
        let y = run(MatMulInteger {}, &[&v, &b, &u8s(&[1], &[1])]).unwrap();
        assert_eq!(y[0].data(), &Data::I32(vec![2, 5]));
    }

    #[test]
    fn products_of_codes() {
        let a = i8s(&[2, 2], &[1, 2, 3, 4]);
        let b = i8s(&[2, 2], &[1, 0, 0, 1]);
        let zero = i8s(&[], &[0]);
        let scales = f32s(&[1.0, 2.0]);
        let y = run(QLinearMatMul {}, &[&a, &scale(1.0), &zero, &b, &scales, &i8s(&[2], &[0, 0]), &scale(0.5), &zero]);
        assert_eq!(y.unwrap(), [i8s(&[2, 2], &[2, 8, 6, 16])]);
        let y = run(QLinearMatMul {}, &[&a, &scales, &i8s(&[2], &[0, 0]), &b, &scale(1.0), &zero, &scale(0.5), &zero]);
        assert_eq!(y.unwrap(), [i8s(&[2, 2], &[2, 4, 12, 16])]);
        let v = i8s(&[2], &[1, 1]);
        let y = run(QLinearMatMul {}, &[&a, &scales, &i8s(&[2], &[0, 0]), &v, &scale(1.0), &zero, &scale(0.5), &zero]);
        assert_eq!(y.unwrap(), [i8s(&[2], &[6, 28])]);
    }
}
