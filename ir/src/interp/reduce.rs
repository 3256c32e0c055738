//! Evaluation of the operators of `op/reduce.rs`.

mod order;

use super::Cx;
use super::element::{Float, Int, Number, map_floats, map_ints, map_numbers};
use super::strided::{Walk, strides};
use crate::error::EvalError;
use crate::op::infer::resolve_axis;
use crate::op::{CumSum, Op, Reduce, ReduceKind};
use crate::tensor::{Data, Tensor};

pub(super) fn eval(op: &Op, cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    Ok(match op {
        Op::Reduce(a) => vec![reduce(a, cx)?],
        Op::ArgMax(a) => vec![order::extreme_index(cx, a.axis, true, a.last)?],
        Op::ArgMin(a) => vec![order::extreme_index(cx, a.axis, false, a.last)?],
        Op::TopK(a) => order::top_k(a, cx)?,
        Op::CumSum(a) => vec![cum_sum(a, cx)?],
        _ => unreachable!("the dispatcher sends reductions only"),
    })
}

/// Folds the elements into one accumulator a result element, in row-major order.
fn fold<T: Copy, A: Copy>(x: &[T], layout: &Layout, start: A, f: impl Fn(A, T) -> A) -> Vec<A> {
    let mut totals = vec![start; layout.results];
    layout.walk.rows(|[from, to], len, &[_, step]| {
        let row = &x[from..from + len];
        match step {
            0 => totals[to] = row.iter().fold(totals[to], |total, &x| f(total, x)),
            1 => totals[to..to + len].iter_mut().zip(row).for_each(|(total, &x)| *total = f(*total, x)),
            step => {
                for (i, &x) in row.iter().enumerate() {
                    let at = to + i * step as usize;
                    totals[at] = f(totals[at], x);
                }
            }
        }
    });
    totals
}

/// Which result element each element goes into.
struct Layout {
    walk: Walk<2>,
    results: usize,
    /// Elements that go into each result.
    count: usize,
}

impl Layout {
    fn new(shape: &[usize], axes: &[usize]) -> Layout {
        let kept: Vec<usize> = (0..shape.len()).map(|i| if axes.contains(&i) { 1 } else { shape[i] }).collect();
        let mut to = strides(&kept);
        axes.iter().for_each(|&axis| to[axis] = 0);
        Layout {
            walk: Walk::new(shape, [0, 0], [&strides(shape), &to]),
            results: kept.iter().product(),
            count: axes.iter().map(|&axis| shape[axis]).product(),
        }
    }
}

fn reduce(op: &Reduce, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let (x, shape) = (cx.x(0), cx.out_shape(0)?);
    let layout = Layout::new(x.shape(), &op.attrs.resolved(x.rank())?);
    let data = match (op.kind, x.data()) {
        (ReduceKind::Max, Data::Bool(x)) => Data::Bool(fold(x, &layout, false, |a, b| a | b)),
        (ReduceKind::Min, Data::Bool(x)) => Data::Bool(fold(x, &layout, true, |a, b| a & b)),
        (kind, data) if data.dtype().is_float() => map_floats!(data, x => floats(kind, x, &layout)),
        (ReduceKind::Mean, _) if layout.count == 0 && layout.results > 0 => {
            return Err(EvalError::Value("the mean of no integers".to_owned()));
        }
        (kind, data) => map_ints!(data, x => ints(kind, x, &layout)),
    };
    Ok(Tensor::new(shape, data))
}

fn floats<T: Float>(kind: ReduceKind, x: &[T], layout: &Layout) -> Vec<T> {
    let sum = |f: fn(f64) -> f64| fold(x, layout, 0.0, |total, x: T| total + f(x.wide()));
    let largest = || fold(x, layout, f64::NEG_INFINITY, |a, x| x.wide().larger(a));
    let mut totals = match kind {
        ReduceKind::Sum | ReduceKind::Mean | ReduceKind::LogSum => sum(|x| x),
        ReduceKind::L1 => sum(f64::abs),
        ReduceKind::L2 | ReduceKind::SumSquare => sum(|x| x * x),
        ReduceKind::Prod => fold(x, layout, 1.0, |total, x| total * x.wide()),
        ReduceKind::Max => largest(),
        ReduceKind::Min => fold(x, layout, f64::INFINITY, |a, x| x.wide().smaller(a)),
        ReduceKind::LogSumExp => log_sum_exp(x, layout, &largest()),
    };
    match kind {
        ReduceKind::Mean => totals.iter_mut().for_each(|t| *t /= layout.count as f64),
        ReduceKind::L2 => totals.iter_mut().for_each(|t| *t = t.sqrt()),
        ReduceKind::LogSum => totals.iter_mut().for_each(|t| *t = t.ln()),
        _ => {}
    }
    totals.into_iter().map(T::narrow).collect()
}

/// m + log Σe^(x − m), m the maximum: no exponential overflows.
fn log_sum_exp<T: Float>(x: &[T], layout: &Layout, largest: &[f64]) -> Vec<f64> {
    // Infinite maxima are their own result; they must not be subtracted from themselves.
    let shift: Vec<f64> = largest.iter().map(|m| if m.is_finite() { *m } else { 0.0 }).collect();
    let mut sums = vec![0.0; layout.results];
    layout.walk.rows(|[from, to], len, &[_, step]| {
        for (i, x) in x[from..from + len].iter().enumerate() {
            let at = to + i * step as usize;
            sums[at] += (x.wide() - shift[at]).exp();
        }
    });
    sums.iter().zip(shift).map(|(sum, shift)| shift + sum.ln()).collect()
}

/// Reductions of integers, exact in 128 bits until they wrap into the type. Roots, logarithms and means
/// are truncated.
fn ints<T: Int + Default>(kind: ReduceKind, x: &[T], layout: &Layout) -> Vec<T> {
    let total = |start: i128, f: fn(i128, i128) -> i128| fold(x, layout, start, |a, x: T| f(a, x.wide()));
    let sum = || total(0, |a, x| a + x);
    let real = |f: &dyn Fn(f64) -> f64, totals: Vec<i128>| {
        totals.into_iter().map(|t| f(t as f64) as i128).collect::<Vec<i128>>()
    };
    let totals = match kind {
        ReduceKind::Sum => sum(),
        ReduceKind::Mean => sum().into_iter().map(|t| t / layout.count as i128).collect(),
        ReduceKind::L1 => total(0, |a, x| a + x.abs()),
        ReduceKind::SumSquare => total(0, |a, x| a.wrapping_add(x * x)),
        ReduceKind::L2 => real(&f64::sqrt, total(0, |a, x| a.saturating_add(x * x))),
        ReduceKind::LogSum => real(&f64::ln, sum()),
        ReduceKind::LogSumExp => {
            let wide: Vec<f64> = x.iter().map(|x| x.wide() as f64).collect();
            floats(kind, &wide, layout).into_iter().map(|t| t as i128).collect()
        }
        ReduceKind::Prod => total(1, i128::wrapping_mul),
        // The extreme of no elements is the other end of the type's range.
        ReduceKind::Max => total(lowest::<T>(), i128::max),
        ReduceKind::Min => total(highest::<T>(), i128::min),
    };
    totals.into_iter().map(T::narrow).collect()
}

fn lowest<T: Int>() -> i128 {
    let unsigned = T::narrow(-1).wide() > 0;
    if unsigned { 0 } else { -highest::<T>() - 1 }
}

fn highest<T: Int>() -> i128 {
    let all_ones = T::narrow(-1).wide();
    // A signed type has all bits but the sign.
    if all_ones > 0 { all_ones } else { (1 << (8 * size_of::<T>() - 1)) - 1 }
}

fn cum_sum(op: &CumSum, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    fn scan<T: Copy, A: Copy>(
        op: &CumSum,
        x: &[T],
        (n, inner): (usize, usize),
        zero: A,
        add: impl Fn(A, T) -> A,
        done: impl Fn(A) -> T,
    ) -> Vec<T> {
        let mut y = x.to_vec();
        for block in (0..x.len()).step_by((n * inner).max(1)) {
            for column in 0..inner {
                let mut total = zero;
                for i in 0..n {
                    let at = block + if op.reverse { n - 1 - i } else { i } * inner + column;
                    let before = total;
                    total = add(total, x[at]);
                    y[at] = done(if op.exclusive { before } else { total });
                }
            }
        }
        y
    }
    let x = cx.x(0);
    let axes = cx.x(1).data().to_i64().expect("the type rule admits integers only");
    let [axis] = axes[..] else {
        return Err(EvalError::Value(format!("{} axes instead of one", axes.len())));
    };
    let axis = resolve_axis(axis, x.rank())?;
    let sizes = (x.shape()[axis], x.shape()[axis + 1..].iter().product());
    let data = map_numbers!(x.data(), x =>
        float scan(op, x, sizes, 0.0, |total, x| total + x.wide(), Float::narrow),
        int scan(op, x, sizes, 0, Int::add, |total| total));
    Ok(Tensor::new(x.shape(), data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::eval;
    use crate::interp::testing::assert_near;
    use crate::op::ReduceAttrs;
    use crate::types::DType;

    fn run(kind: ReduceKind, x: &Tensor, axes: Option<Vec<i64>>) -> Result<Tensor, EvalError> {
        let op = Op::Reduce(Reduce { kind, attrs: ReduceAttrs { axes, keepdims: false } });
        Ok(eval(&op, &[Some(x)])?.remove(0))
    }

    #[test]
    fn every_kind() {
        let x = Tensor::f32([2, 3], [1., -2., 3., 4., 5., -6.]);
        for (kind, expected) in [
            (ReduceKind::Sum, [2., 3.]),
            (ReduceKind::Mean, [2. / 3., 1.]),
            (ReduceKind::Max, [3., 5.]),
            (ReduceKind::Min, [-2., -6.]),
            (ReduceKind::Prod, [-6., -120.]),
            (ReduceKind::L1, [6., 15.]),
            (ReduceKind::L2, [14f64.sqrt(), 77f64.sqrt()]),
            (ReduceKind::LogSum, [2f64.ln(), 3f64.ln()]),
            (ReduceKind::LogSumExp, [3.132_845_1, 5.313_273_9]),
            (ReduceKind::SumSquare, [14., 77.]),
        ] {
            assert_near(&run(kind, &x, Some(vec![1])).unwrap(), &[2], &expected, 1e-6);
        }
    }

    #[test]
    fn axes() {
        let x = Tensor::i64([2, 2, 2], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(run(ReduceKind::Sum, &x, Some(vec![0])).unwrap(), Tensor::i64([2, 2], [6, 8, 10, 12]));
        assert_eq!(run(ReduceKind::Sum, &x, Some(vec![1])).unwrap(), Tensor::i64([2, 2], [4, 6, 12, 14]));
        assert_eq!(run(ReduceKind::Sum, &x, Some(vec![0, -1])).unwrap(), Tensor::i64([2], [14, 22]));
        assert_eq!(run(ReduceKind::Sum, &x, None).unwrap(), Tensor::i64([], [36]));
        assert_eq!(run(ReduceKind::SumSquare, &x, Some(vec![])).unwrap().data().to_i64().unwrap()[2], 9);
    }

    #[test]
    fn no_elements() {
        let x = Tensor::zeros(DType::F32, [2, 0]);
        let of = |kind| run(kind, &x, Some(vec![1])).unwrap().as_f32().unwrap()[0];
        assert_eq!(of(ReduceKind::Sum), 0.0);
        assert_eq!(of(ReduceKind::Prod), 1.0);
        assert_eq!(of(ReduceKind::Max), f32::NEG_INFINITY);
        assert_eq!(of(ReduceKind::Min), f32::INFINITY);
        assert_eq!(of(ReduceKind::LogSum), f32::NEG_INFINITY);
        assert_eq!(of(ReduceKind::LogSumExp), f32::NEG_INFINITY);
        assert!(of(ReduceKind::Mean).is_nan());
        let x = Tensor::zeros(DType::I8, [0]);
        assert_eq!(run(ReduceKind::Max, &x, None).unwrap().data(), &Data::I8(vec![i8::MIN]));
        assert_eq!(
            run(ReduceKind::Min, &Tensor::zeros(DType::U64, [0]), None).unwrap().data(),
            &Data::U64(vec![u64::MAX])
        );
        assert!(run(ReduceKind::Mean, &x, None).is_err());
    }

    #[test]
    fn extremes_keep_nan_and_infinity() {
        let x = Tensor::f32([3], [1.0, f32::NAN, 2.0]);
        assert!(run(ReduceKind::Max, &x, None).unwrap().as_f32().unwrap()[0].is_nan());
        assert!(run(ReduceKind::Min, &x, None).unwrap().as_f32().unwrap()[0].is_nan());
        let x = Tensor::f32([2], [f32::INFINITY, 1.0]);
        assert_eq!(run(ReduceKind::LogSumExp, &x, None).unwrap(), Tensor::f32([], [f32::INFINITY]));
        let x = Tensor::f32([2], [f32::NEG_INFINITY; 2]);
        assert_eq!(run(ReduceKind::LogSumExp, &x, None).unwrap(), Tensor::f32([], [f32::NEG_INFINITY]));
        let x = Tensor::f32([2], [1000.0; 2]);
        assert_near(&run(ReduceKind::LogSumExp, &x, None).unwrap(), &[], &[1000.0 + 2f64.ln()], 1e-4);
    }

    #[test]
    fn integers_wrap_only_at_the_end() {
        let x = Tensor::new([3], Data::U8(vec![200, 100, 3]));
        assert_eq!(run(ReduceKind::Sum, &x, None).unwrap().data(), &Data::U8(vec![47]));
        assert_eq!(run(ReduceKind::Mean, &x, None).unwrap().data(), &Data::U8(vec![101]));
        assert_eq!(run(ReduceKind::Max, &x, None).unwrap().data(), &Data::U8(vec![200]));
        let x = Tensor::i64([2], [i64::MIN, i64::MIN]);
        assert_eq!(run(ReduceKind::SumSquare, &x, None).unwrap(), Tensor::i64([], [0]));
        assert_eq!(run(ReduceKind::L2, &Tensor::i64([2], [3, 4]), None).unwrap(), Tensor::i64([], [5]));
        let flags = Tensor::new([2], Data::Bool(vec![true, false]));
        assert_eq!(run(ReduceKind::Min, &flags, None).unwrap().data(), &Data::Bool(vec![false]));
    }

    #[test]
    fn running_sums() {
        let run = |exclusive, reverse, axis| {
            let x = Tensor::f32([2, 3], [1., 2., 3., 4., 5., 6.]);
            let op = CumSum { exclusive, reverse }.into();
            eval(&op, &[Some(&x), Some(&Tensor::i64([], [axis]))]).unwrap()[0].as_f32().unwrap().to_vec()
        };
        assert_eq!(run(false, false, 1), [1., 3., 6., 4., 9., 15.]);
        assert_eq!(run(false, false, -2), [1., 2., 3., 5., 7., 9.]);
        assert_eq!(run(true, false, 1), [0., 1., 3., 0., 4., 9.]);
        assert_eq!(run(true, true, 1), [5., 3., 0., 11., 6., 0.]);
        let bytes = Tensor::new([2], Data::U8(vec![200, 100]));
        let y = eval(&CumSum::default().into(), &[Some(&bytes), Some(&Tensor::i64([], [0]))]).unwrap();
        assert_eq!(y[0].data(), &Data::U8(vec![200, 44]));
    }
}
