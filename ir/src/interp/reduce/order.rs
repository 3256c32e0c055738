//! Operators that compare elements along an axis. NaN counts as larger than every number.

use std::cmp::Ordering;

use half::{bf16, f16};

use super::super::{Cx, check_len};
use crate::error::EvalError;
use crate::op::TopK;
use crate::op::infer::resolve_axis;
use crate::tensor::{Data, Tensor};
use crate::with_elements;

/// A total order of elements, equal for 0 and −0.
trait Ranked: Copy {
    fn rank(self, other: Self) -> Ordering;
}

macro_rules! ranked {
    (float $($ty:ty)*) => {$(
        impl Ranked for $ty {
            fn rank(self, other: $ty) -> Ordering {
                self.partial_cmp(&other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
            }
        }
    )*};
    (int $($ty:ty)*) => {$(
        impl Ranked for $ty {
            fn rank(self, other: $ty) -> Ordering {
                self.cmp(&other)
            }
        }
    )*};
}

ranked! { float f64 f32 f16 bf16 }
ranked! { int i64 i32 i16 i8 u64 u32 u16 u8 bool }

/// The elements before an axis, along it, and in one of its slices.
fn around(x: &Tensor, axis: usize) -> (usize, usize, usize) {
    (x.shape()[..axis].iter().product(), x.shape()[axis], x.shape()[axis + 1..].iter().product())
}

pub(super) fn extreme_index(cx: &Cx<'_>, axis: i64, largest: bool, last: bool) -> Result<Tensor, EvalError> {
    fn search<T: Ranked>(
        x: &[T],
        (outer, n, inner): (usize, usize, usize),
        wins: impl Fn(Ordering) -> bool,
    ) -> Vec<i64> {
        let best = |lane: usize| {
            let first = lane / inner * n * inner + lane % inner;
            (1..n).fold(0, |best, i| if wins(x[first + i * inner].rank(x[first + best * inner])) { i } else { best })
        };
        (0..outer * inner).map(|lane| best(lane) as i64).collect()
    }
    let x = cx.x(0);
    let sizes = around(x, resolve_axis(axis, x.rank())?);
    let better = if largest { Ordering::Greater } else { Ordering::Less };
    let wins = |order: Ordering| order == better || (last && order == Ordering::Equal);
    let indices = with_elements!(x.data(), v => search(v, sizes, wins));
    Ok(Tensor::i64(cx.out_shape(0)?, indices))
}

pub(super) fn top_k(op: &TopK, cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    /// Positions of the best `k` elements of each lane, lane after lane.
    fn select<T: Ranked>(x: &[T], (outer, n, inner): (usize, usize, usize), k: usize, largest: bool) -> Vec<usize> {
        let mut best = Vec::with_capacity(outer * inner * k);
        let mut lane: Vec<usize> = Vec::with_capacity(n);
        for at in 0..outer * inner {
            let first = at / inner * n * inner + at % inner;
            lane.clear();
            lane.extend(0..n);
            // The sort is stable: equal elements stay in order of index.
            lane.sort_by(|&i, &j| {
                let order = x[first + i * inner].rank(x[first + j * inner]);
                if largest { order.reverse() } else { order }
            });
            best.extend_from_slice(&lane[..k]);
        }
        best
    }
    let x = cx.x(0);
    let axis = resolve_axis(op.axis, x.rank())?;
    let (outer, n, inner) = around(x, axis);
    let k = match cx.x(1).data().to_i64().as_deref() {
        Some(&[k]) => usize::try_from(k).ok().filter(|&k| k <= n),
        _ => None,
    };
    let k = k.ok_or_else(|| EvalError::Value(format!("k is not a number up to {n}")))?;
    let mut shape = x.shape().to_vec();
    shape[axis] = k;
    check_len(shape.iter().product())?;
    let best = with_elements!(x.data(), v => select(v, (outer, n, inner), k, op.largest));
    let lane_of = |i: usize| (i / (k * inner) * inner + i % inner, i / inner % k);
    let at = |i: usize| {
        let (lane, place) = lane_of(i);
        best[lane * k + place]
    };
    let len = outer * k * inner;
    let indices: Vec<i64> = (0..len).map(|i| at(i) as i64).collect();
    let values: Data = x.data().select((0..len).map(|i| (i / (k * inner) * n + at(i)) * inner + i % inner));
    Ok(vec![Tensor::new(shape.clone(), values), Tensor::i64(shape, indices)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::eval;
    use crate::op::{ArgMax, ArgMin, Op};

    #[test]
    fn extremes() {
        let x = Tensor::f32([2, 3], [1., 3., 3., -1., 5., -1.]);
        let run = |op: Op| eval(&op, &[Some(&x)]).unwrap()[0].data().to_i64().unwrap();
        let max = |axis, last| run(ArgMax { axis, keepdims: false, last }.into());
        assert_eq!(max(1, false), [1, 1]);
        assert_eq!(max(1, true), [2, 1]);
        assert_eq!(max(0, false), [0, 1, 0]);
        assert_eq!(run(ArgMin { axis: -1, keepdims: true, last: false }.into()), [0, 0]);
        assert_eq!(run(ArgMin { axis: -1, keepdims: true, last: true }.into()), [0, 2]);
        let x = Tensor::f32([3], [1., f32::NAN, 2.]);
        let y = eval(&ArgMax::default().into(), &[Some(&x)]).unwrap();
        assert_eq!(y, [Tensor::i64([1], [1])]);
    }

    fn top(x: &Tensor, axis: i64, k: i64, largest: bool) -> Result<Vec<Tensor>, EvalError> {
        let k = Tensor::i64([1], [k]);
        eval(&TopK { axis, largest, sorted: true }.into(), &[Some(x), Some(&k)])
    }

    #[test]
    fn best_first_and_equal_ones_in_order() {
        let x = Tensor::i64([2, 4], [3, 7, 3, 7, 0, -1, 5, 2]);
        let y = top(&x, 1, 3, true).unwrap();
        assert_eq!(y, [Tensor::i64([2, 3], [7, 7, 3, 5, 2, 0]), Tensor::i64([2, 3], [1, 3, 0, 2, 3, 0])]);
        let y = top(&x, 0, 1, false).unwrap();
        assert_eq!(y, [Tensor::i64([1, 4], [0, -1, 3, 2]), Tensor::i64([1, 4], [1, 1, 0, 1])]);
        assert_eq!(top(&x, 0, 0, true).unwrap()[0].shape(), [0, 4]);
    }

    #[test]
    fn k_must_fit() {
        let x = Tensor::f32([3], [1., f32::NAN, 2.]);
        assert!(top(&x, 0, 4, true).is_err());
        assert!(top(&x, 0, -1, true).is_err());
        assert_eq!(top(&x, 0, 2, true).unwrap()[1], Tensor::i64([2], [1, 2]));
    }
}
