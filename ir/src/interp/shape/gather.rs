//! Operators that pick elements or slices by index.

use super::super::Cx;
use super::super::element::map_data;
use super::super::strided::{Walk, strides};
use super::{around, ints, position, rebuilt};
use crate::error::EvalError;
use crate::op::infer::resolve_axis;
use crate::op::{Gather, GatherElements, GatherNd};
use crate::tensor::Tensor;

pub(super) fn gather(op: &Gather, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let (x, shape) = (cx.x(0), cx.out_shape(0)?);
    let axis = resolve_axis(op.axis, x.rank())?;
    let (_, n, inner) = around(x.shape(), axis);
    let from = ints(cx.x(1)).into_iter().map(|i| position(i, n).map(Some)).collect::<Result<Vec<_>, _>>()?;
    let data = map_data!(x.data(), x => rebuilt(x, (n, inner), &from, Default::default()));
    Ok(Tensor::new(shape, data))
}

/// Where each element of `indices` points in a tensor of shape `x`: its own position with that along
/// `axis` replaced.
pub(super) fn targets(x: &[usize], indices: &Tensor, axis: i64) -> Result<Vec<usize>, EvalError> {
    let axis = resolve_axis(axis, x.len())?;
    let mut steps = strides(x);
    let (n, stride) = (x[axis], std::mem::take(&mut steps[axis]) as usize);
    let along = ints(indices).into_iter().map(|i| position(i, n)).collect::<Result<Vec<_>, _>>()?;
    let mut along = along.into_iter();
    let mut targets = Vec::with_capacity(indices.len());
    Walk::new(indices.shape(), [0], [&steps]).rows(|[start], len, &[step]| {
        let row = along.by_ref().take(len).enumerate();
        // Walks over dense tensors never go backwards.
        targets.extend(row.map(|(i, at)| start + i * step as usize + at * stride));
    });
    Ok(targets)
}

pub(super) fn elements(op: &GatherElements, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let (x, indices) = (cx.x(0), cx.x(1));
    let targets = targets(x.shape(), indices, op.axis)?;
    Ok(Tensor::new(indices.shape(), x.data().select(targets)))
}

/// Where the slice each tuple of indices names begins in a tensor of shape `x`, and how long slices are.
pub(super) fn slices(x: &[usize], indices: &Tensor, batch_dims: usize) -> Result<(Vec<usize>, usize), EvalError> {
    let (&tuple, outer) = indices.shape().split_last().expect("the type rule requires an axis");
    let (batch, rest) = x.split_at(batch_dims);
    let (indexed, slice) = rest.split_at(tuple);
    let steps = strides(rest);
    let (batches, tuples): (usize, usize) = (batch.iter().product(), outer.iter().product());
    let (per_batch, size): (usize, usize) = (tuples.checked_div(batches).unwrap_or(0), rest.iter().product());
    let elements = ints(indices);
    let start = |t: usize| {
        let tuple = &elements[t * tuple..(t + 1) * tuple];
        let base = t.checked_div(per_batch).unwrap_or(0) * size;
        tuple
            .iter()
            .zip(indexed)
            .zip(&steps)
            .try_fold(base, |at, ((&index, &n), &step)| Ok(at + position(index, n)? * step as usize))
    };
    Ok(((0..tuples).map(start).collect::<Result<_, EvalError>>()?, slice.iter().product()))
}

pub(super) fn nd(op: &GatherNd, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let x = cx.x(0);
    let shape = cx.out_shape(0)?;
    let (starts, len) = slices(x.shape(), cx.x(1), op.batch_dims)?;
    let data = map_data!(x.data(), x => starts.iter().flat_map(|&at| x[at..at + len].iter().copied()).collect());
    Ok(Tensor::new(shape, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::eval;
    use crate::op::Op;

    fn run(op: impl Into<Op>, x: &Tensor, indices: &Tensor) -> Result<Tensor, EvalError> {
        Ok(eval(&op.into(), &[Some(x), Some(indices)])?.remove(0))
    }

    fn counting(shape: &[usize]) -> Tensor {
        Tensor::i64(shape, (0..shape.iter().product::<usize>() as i64).collect::<Vec<_>>())
    }

    #[test]
    fn slices_along_an_axis() {
        let x = counting(&[2, 3]);
        let y = run(Gather { axis: 1 }, &x, &Tensor::i64([2, 1], [-1, 0])).unwrap();
        assert_eq!(y, Tensor::i64([2, 2, 1], [2, 0, 5, 3]));
        assert_eq!(run(Gather { axis: 0 }, &x, &Tensor::i64([], [1])).unwrap(), Tensor::i64([3], [3, 4, 5]));
        for wrong in [3, -4, i64::MIN, i64::MAX] {
            assert!(matches!(run(Gather { axis: 1 }, &x, &Tensor::i64([], [wrong])), Err(EvalError::Value(_))));
        }
        assert_eq!(run(Gather { axis: 0 }, &x, &Tensor::i64([0], [])).unwrap().shape(), [0, 3]);
        let empty = Tensor::i64([2, 0], []);
        assert_eq!(run(Gather { axis: 0 }, &empty, &Tensor::i64([2], [0, 1])).unwrap().shape(), [2, 0]);
    }

    #[test]
    fn elements_along_an_axis() {
        let x = counting(&[2, 3]);
        let y = run(GatherElements { axis: 1 }, &x, &Tensor::i64([2, 2], [2, 0, -1, 1])).unwrap();
        assert_eq!(y, Tensor::i64([2, 2], [2, 0, 5, 4]));
        let y = run(GatherElements { axis: 0 }, &x, &Tensor::i64([1, 2], [1, 0])).unwrap();
        assert_eq!(y, Tensor::i64([1, 2], [3, 1]));
        assert!(run(GatherElements { axis: 0 }, &x, &Tensor::i64([1, 2], [2, 0])).is_err());
    }

    #[test]
    fn slices_by_tuples() {
        let x = counting(&[2, 2, 2]);
        let y = run(GatherNd::default(), &x, &Tensor::i64([2, 2], [0, 1, 1, -2])).unwrap();
        assert_eq!(y, Tensor::i64([2, 2], [2, 3, 4, 5]));
        let y = run(GatherNd { batch_dims: 1 }, &x, &Tensor::i64([2, 1], [1, 0])).unwrap();
        assert_eq!(y, Tensor::i64([2, 2], [2, 3, 4, 5]));
        assert!(run(GatherNd::default(), &x, &Tensor::i64([1, 2], [0, 2])).is_err());
        assert_eq!(run(GatherNd::default(), &x, &Tensor::i64([0, 2], [])).unwrap().shape(), [0, 2]);
    }
}
