//! Evaluation of the operators of `op/shape.rs`.

mod gather;
mod layout;
mod make;
mod pad;
mod resize;
mod scatter;

use super::Cx;
use crate::error::EvalError;
use crate::op::Op;
use crate::tensor::Tensor;

pub(super) fn eval(op: &Op, cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    let x = cx.x(0);
    Ok(match op {
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => {
            vec![x.clone().reshaped(cx.out_shape(0)?)]
        }
        Op::Transpose(a) => vec![layout::transposed(x, &a.resolved(x.rank())?)],
        Op::Concat(a) => vec![layout::concat(a, cx)?],
        Op::Split(a) => layout::split(a, x)?,
        Op::Slice(_) => vec![layout::slice(cx)?],
        Op::Expand(_) => vec![layout::expanded(x, &cx.out_shape(0)?)],
        Op::Tile(_) => vec![layout::tile(cx)?],
        Op::DepthToSpace(a) => vec![layout::depth_to_space(a, x)],
        Op::SpaceToDepth(a) => vec![layout::space_to_depth(a, x)],
        Op::Trilu(a) => vec![layout::trilu(a, cx)?],
        Op::Pad(a) => vec![pad::eval(a, cx)?],
        Op::Gather(a) => vec![gather::gather(a, cx)?],
        Op::GatherElements(a) => vec![gather::elements(a, cx)?],
        Op::GatherNd(a) => vec![gather::nd(a, cx)?],
        Op::ScatterElements(a) => vec![scatter::elements(a, cx)?],
        Op::ScatterNd(a) => vec![scatter::nd(a, cx)?],
        Op::ShapeOf(a) => vec![make::shape(a, x)],
        Op::Size(_) => vec![Tensor::i64([], [x.len() as i64])],
        Op::ConstantOfShape(a) => vec![make::filled(a, &cx.out_shape(0)?)],
        Op::Range(_) => vec![make::range(cx)?],
        Op::OneHot(a) => vec![make::one_hot(a, cx)?],
        Op::NonZero(_) => vec![make::non_zero(x)?],
        Op::Resize(a) => vec![resize::eval(a, cx)?],
        _ => unreachable!("the dispatcher sends shape operators only"),
    })
}

/// The elements of an integer operand.
fn ints(x: &Tensor) -> Vec<i64> {
    x.data().to_i64().expect("the type rule admits integers only")
}

/// The one element of an integer operand.
fn int(x: &Tensor) -> Result<i64, EvalError> {
    match ints(x).as_slice() {
        [n] => Ok(*n),
        many => Err(EvalError::Value(format!("{} elements instead of one", many.len()))),
    }
}

/// The position an index names on an axis of extent `n`; negative ones count from the end.
fn position(index: i64, n: usize) -> Result<usize, EvalError> {
    let from_start = if index < 0 { index.saturating_add(i64::try_from(n).unwrap_or(i64::MAX)) } else { index };
    let position = usize::try_from(from_start).ok().filter(|&i| i < n);
    position.ok_or_else(|| EvalError::Value(format!("index {index} is out of range for an axis of extent {n}")))
}

/// The number of elements before an axis, along it, and in one of its slices.
fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// Rebuilds an axis of `n` slices of `inner` elements: slice `i` of the result is slice `from[i]` of the
/// operand, or filled.
fn rebuilt<T: Copy>(x: &[T], (n, inner): (usize, usize), from: &[Option<usize>], fill: T) -> Vec<T> {
    let outer = x.len().checked_div(n * inner).unwrap_or(0);
    let mut y = Vec::with_capacity(outer * from.len() * inner);
    for block in 0..outer {
        let block = &x[block * n * inner..(block + 1) * n * inner];
        for at in from {
            match at {
                Some(i) => y.extend_from_slice(&block[i * inner..(i + 1) * inner]),
                None => y.extend(std::iter::repeat_n(fill, inner)),
            }
        }
    }
    y
}
