//! Operators that arrange all elements anew.

use super::super::Cx;
use super::super::element::{Element, map_data};
use super::super::strided::{Walk, strides};
use super::{around, int, ints};
use crate::error::EvalError;
use crate::op::infer::{resolve_axes, resolve_axis};
use crate::op::shape::slice::strided;
use crate::op::{Concat, DepthOrder, DepthToSpace, SpaceToDepth, Split, Trilu};
use crate::tensor::{Data, Tensor};

/// A tensor seen through other strides.
fn viewed(x: &Tensor, shape: Vec<usize>, base: isize, strides: &[isize]) -> Tensor {
    let walk = Walk::new(&shape, [base], [strides]);
    let data = map_data!(x.data(), x => walk.copy(x));
    Tensor::new(shape, data)
}

pub(super) fn transposed(x: &Tensor, perm: &[usize]) -> Tensor {
    let old = strides(x.shape());
    let new: Vec<isize> = perm.iter().map(|&axis| old[axis]).collect();
    viewed(x, perm.iter().map(|&axis| x.shape()[axis]).collect(), 0, &new)
}

pub(super) fn expanded(x: &Tensor, shape: &[usize]) -> Tensor {
    let walk = Walk::broadcast(shape, [x.shape()]);
    let data = map_data!(x.data(), x => walk.copy(x));
    Tensor::new(shape, data)
}

pub(super) fn concat(op: &Concat, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    fn join<T: Element>(_: &[T], operands: &[&Tensor], axis: usize, len: usize) -> Vec<T> {
        let mut y = Vec::with_capacity(len);
        let outer = around(operands[0].shape(), axis).0;
        for block in 0..outer {
            for x in operands {
                let (_, n, inner) = around(x.shape(), axis);
                y.extend_from_slice(&T::slice(x.data())[block * n * inner..(block + 1) * n * inner]);
            }
        }
        y
    }
    let operands: Vec<&Tensor> = cx.present().collect();
    let shape = cx.out_shape(0)?;
    let axis = resolve_axis(op.axis, shape.len())?;
    let len = shape.iter().product();
    let data = map_data!(operands[0].data(), x => join(x, &operands, axis, len));
    Ok(Tensor::new(shape, data))
}

pub(super) fn split(op: &Split, x: &Tensor) -> Result<Vec<Tensor>, EvalError> {
    let axis = resolve_axis(op.axis, x.rank())?;
    let steps = strides(x.shape());
    let mut start = 0;
    let piece = |&size: &usize| {
        let mut shape = x.shape().to_vec();
        shape[axis] = size;
        let base = start * steps[axis];
        start += size as isize;
        viewed(x, shape, base, &steps)
    };
    Ok(op.sizes.iter().map(piece).collect())
}

pub(super) fn slice(cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let x = cx.x(0);
    let (starts, ends) = (ints(cx.x(1)), ints(cx.x(2)));
    let axes = match cx.get(3) {
        Some(axes) => resolve_axes(&ints(axes), x.rank())?,
        None => (0..starts.len()).collect(),
    };
    let steps = cx.get(4).map_or_else(|| vec![1; starts.len()], ints);
    let (mut shape, mut strides, mut base) = (x.shape().to_vec(), strides(x.shape()), 0);
    for (i, axis) in axes.into_iter().enumerate() {
        let range = strided(shape[axis], starts[i], ends[i], steps[i]);
        shape[axis] = range.count;
        if range.count > 0 {
            base += range.start as isize * strides[axis];
        }
        // A single element is never stepped away from, however large the step.
        strides[axis] = if range.count > 1 { strides[axis] * range.step as isize } else { 0 };
    }
    Ok(viewed(x, shape, base, &strides))
}

pub(super) fn tile(cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let (x, shape) = (cx.x(0), cx.out_shape(0)?);
    // Each axis becomes two: the repetitions, which do not move, and the axis itself.
    let mut pairs = Vec::with_capacity(2 * shape.len());
    let mut steps = Vec::with_capacity(2 * shape.len());
    for ((&n, &total), stride) in x.shape().iter().zip(&shape).zip(strides(x.shape())) {
        pairs.extend([total.checked_div(n).unwrap_or(0), n]);
        steps.extend([0, stride]);
    }
    Ok(viewed(x, pairs, 0, &steps).reshaped(shape))
}

/// Splits axes, permutes them and joins them again.
fn regrouped(x: &Tensor, split: &[usize], perm: &[usize], joined: [usize; 4]) -> Tensor {
    transposed(&x.clone().reshaped(split), perm).reshaped(joined)
}

pub(super) fn depth_to_space(op: &DepthToSpace, x: &Tensor) -> Tensor {
    let &[n, c, h, w] = x.shape() else { unreachable!("the type rule requires four axes") };
    let b = op.block;
    let depth = c / (b * b);
    let joined = [n, depth, h * b, w * b];
    match op.order {
        DepthOrder::Dcr => regrouped(x, &[n, b, b, depth, h, w], &[0, 3, 4, 1, 5, 2], joined),
        DepthOrder::Crd => regrouped(x, &[n, depth, b, b, h, w], &[0, 1, 4, 2, 5, 3], joined),
    }
}

pub(super) fn space_to_depth(op: &SpaceToDepth, x: &Tensor) -> Tensor {
    let &[n, c, h, w] = x.shape() else { unreachable!("the type rule requires four axes") };
    let b = op.block;
    regrouped(x, &[n, c, h / b, b, w / b, b], &[0, 3, 5, 1, 2, 4], [n, c * b * b, h / b, w / b])
}

pub(super) fn trilu(op: &Trilu, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    fn cut<T: Copy + Default>(x: &[T], (rows, columns): (usize, usize), keep: impl Fn(usize, usize) -> bool) -> Vec<T> {
        let row = |i: usize| (i / columns) % rows;
        x.iter().enumerate().map(|(i, &x)| if keep(row(i), i % columns) { x } else { T::default() }).collect()
    }
    let x = cx.x(0);
    let k = i128::from(cx.get(1).map_or(Ok(0), int)?);
    let (_, rows, columns) = around(x.shape(), x.rank() - 2);
    let keep = |row: usize, column: usize| {
        let diagonal = column as i128 - row as i128;
        if op.upper { diagonal >= k } else { diagonal <= k }
    };
    let data: Data = map_data!(x.data(), x => cut(x, (rows, columns), keep));
    Ok(Tensor::new(x.shape(), data))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::numbers;
    use super::*;
    use crate::interp::eval;
    use crate::op::*;
    use crate::types::DType;

    fn run(op: impl Into<Op>, operands: &[&Tensor]) -> Vec<Tensor> {
        let operands: Vec<_> = operands.iter().map(|&x| Some(x)).collect();
        eval(&op.into(), &operands).unwrap()
    }

    fn counting(shape: &[usize]) -> Tensor {
        Tensor::i64(shape, (0..shape.iter().product::<usize>() as i64).collect::<Vec<_>>())
    }

    fn ints(v: &[i64]) -> Tensor {
        Tensor::i64([v.len()], v)
    }

    #[test]
    fn views_work_for_every_type() {
        for &dtype in DType::ALL {
            let x = numbers(dtype, &[2, 3, 1]);
            let y = run(Transpose { perm: vec![1, 2, 0] }, &[&x]).remove(0);
            assert_eq!(y, Tensor::new([3, 1, 2], x.data().select([0, 3, 1, 4, 2, 5])));
            assert_eq!(run(Transpose { perm: vec![2, 0, 1] }, &[&y]), std::slice::from_ref(&x));
            assert_eq!(run(Reshape::default(), &[&x, &ints(&[-1])])[0].shape(), [6]);
            assert_eq!(run(Concat { axis: 0 }, &[&x, &x])[0].data(), &x.data().select((0..6).chain(0..6)));
        }
    }

    #[test]
    fn transposes() {
        let x = counting(&[2, 3]);
        assert_eq!(run(Transpose::default(), &[&x]), [Tensor::i64([3, 2], [0, 3, 1, 4, 2, 5])]);
        let x = counting(&[2, 2, 2]);
        let y = run(Transpose { perm: vec![0, 2, 1] }, &[&x]);
        assert_eq!(y, [Tensor::i64([2, 2, 2], [0, 2, 1, 3, 4, 6, 5, 7])]);
        assert_eq!(run(Transpose::default(), &[&Tensor::zeros(DType::F32, [0, 3])])[0].shape(), [3, 0]);
    }

    #[test]
    fn joins_and_cuts() {
        let (a, b) = (counting(&[2, 1]), counting(&[2, 2]));
        let joined = run(Concat { axis: -1 }, &[&a, &b]);
        assert_eq!(joined, [Tensor::i64([2, 3], [0, 0, 1, 1, 2, 3])]);
        let pieces = run(Split { axis: 1, sizes: vec![1, 0, 2] }, &[&joined[0]]);
        assert_eq!(pieces, [a, Tensor::i64([2, 0], []), b]);
    }

    #[test]
    fn slices() {
        let x = counting(&[4, 4]);
        let run =
            |s: &[i64], e: &[i64], a: &[i64], p: &[i64]| run(Slice {}, &[&x, &ints(s), &ints(e), &ints(a), &ints(p)]);
        assert_eq!(run(&[1, -1], &[3, i64::MIN], &[0, 1], &[1, -2]), [Tensor::i64([2, 2], [7, 5, 11, 9])]);
        assert_eq!(run(&[0], &[9], &[1], &[i64::MAX]), [Tensor::i64([4, 1], [0, 4, 8, 12])]);
        assert_eq!(run(&[9], &[9], &[1], &[1]), [Tensor::i64([4, 0], [])]);
        assert_eq!(run(&[-1], &[i64::MIN], &[-2], &[i64::MIN]), [Tensor::i64([1, 4], [12, 13, 14, 15])]);
    }

    #[test]
    fn repeats() {
        let x = counting(&[2, 2]);
        let y = run(Tile {}, &[&x, &ints(&[1, 2])]);
        assert_eq!(y, [Tensor::i64([2, 4], [0, 1, 0, 1, 2, 3, 2, 3])]);
        assert_eq!(run(Tile {}, &[&x, &ints(&[0, 2])])[0].shape(), [0, 4]);
        assert_eq!(run(Tile {}, &[&Tensor::i64([0, 1], []), &ints(&[3, 2])])[0].shape(), [0, 2]);
        assert_eq!(
            run(Expand {}, &[&counting(&[2, 1]), &ints(&[2, 1, 2])]),
            [Tensor::i64([2, 2, 2], [0, 0, 1, 1, 0, 0, 1, 1])]
        );
    }

    #[test]
    fn blocks() {
        let x = counting(&[1, 8, 1, 1]);
        let dcr = run(DepthToSpace { block: 2, order: DepthOrder::Dcr }, &[&x]);
        assert_eq!(dcr, [Tensor::i64([1, 2, 2, 2], [0, 2, 4, 6, 1, 3, 5, 7])]);
        let crd = run(DepthToSpace { block: 2, order: DepthOrder::Crd }, &[&x]);
        assert_eq!(crd, [Tensor::i64([1, 2, 2, 2], [0, 1, 2, 3, 4, 5, 6, 7])]);
        assert_eq!(run(SpaceToDepth { block: 2 }, &[&dcr[0]]), [x]);
    }

    #[test]
    fn triangles() {
        let x = Tensor::i64([3, 3], [1; 9]);
        let run = |upper, k| run(Trilu { upper }, &[&x, &Tensor::i64([], [k])]).remove(0).data().to_i64().unwrap();
        assert_eq!(run(true, 1), [0, 1, 1, 0, 0, 1, 0, 0, 0]);
        assert_eq!(run(false, 0), [1, 0, 0, 1, 1, 0, 1, 1, 1]);
        assert_eq!(run(true, i64::MIN), [1; 9]);
        assert_eq!(run(true, i64::MAX), [0; 9]);
    }
}
