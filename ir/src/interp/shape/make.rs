//! Operators that make tensors from shapes, numbers and positions.

use super::super::element::{Element, map_data};
use super::super::{Cx, check_len};
use super::{around, ints};
use crate::error::EvalError;
use crate::op::infer::resolve_axis;
use crate::op::shape::make::{range_len, range_len_f64};
use crate::op::{ConstantOfShape, OneHot, ShapeOf};
use crate::tensor::{Data, Tensor};
use crate::with_elements;

pub(super) fn shape(op: &ShapeOf, x: &Tensor) -> Tensor {
    let extents: Vec<i64> = x.shape()[op.axes(x.rank())].iter().map(|&n| n as i64).collect();
    Tensor::i64([extents.len()], extents)
}

pub(super) fn filled(op: &ConstantOfShape, shape: &[usize]) -> Tensor {
    let len = shape.iter().product();
    Tensor::new(shape, Data::from_f64(op.dtype, std::iter::repeat_n(op.value, len)))
}

pub(super) fn range(cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let operands = [cx.x(0), cx.x(1), cx.x(2)];
    if let Some(x) = operands.iter().find(|x| x.len() != 1) {
        return Err(EvalError::Value(format!("a bound of {} elements", x.len())));
    }
    let dtype = operands[0].dtype();
    if dtype.is_float() {
        let [start, limit, delta] = operands.map(|x| x.data().to_f64()[0]);
        let len = range_len_f64(start, limit, delta)?;
        check_len(len)?;
        return Ok(Tensor::new([len], Data::from_f64(dtype, (0..len).map(|i| start + i as f64 * delta))));
    }
    let [start, limit, delta] = operands.map(|x| ints(x)[0]);
    let len = range_len(start, limit, delta)?;
    check_len(len)?;
    let at = |i: usize| start.wrapping_add(delta.wrapping_mul(i as i64));
    Ok(Tensor::new([len], Data::from_i64(dtype, (0..len).map(at))))
}

pub(super) fn one_hot(op: &OneHot, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    fn spread<T: Element>(values: &[T], hot: &[Option<usize>], (depth, inner): (usize, usize), len: usize) -> Vec<T> {
        let mut y = vec![values[0]; len];
        for (i, at) in hot.iter().enumerate() {
            if let Some(at) = at {
                y[(i / inner * depth + at) * inner + i % inner] = values[1];
            }
        }
        y
    }
    let (indices, values) = (cx.x(0), cx.x(2));
    let depth = match cx.x(1).data().to_f64().as_slice() {
        &[depth] if depth >= 1.0 => depth as usize,
        _ => return Err(EvalError::Value("the depth of a one-hot axis must be a positive number".to_owned())),
    };
    let axis = resolve_axis(op.axis, indices.rank() + 1)?;
    let mut shape = indices.shape().to_vec();
    shape.insert(axis, depth);
    let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
    check_len(len)?;
    if values.len() != 2 {
        return Err(EvalError::Value(format!("{} values instead of two", values.len())));
    }
    let (_, _, inner) = around(&shape, axis);
    // An index outside the axis leaves it cold.
    let hot: Vec<Option<usize>> = indices
        .data()
        .to_f64()
        .into_iter()
        .map(|index| {
            let at = if index < 0.0 { index + depth as f64 } else { index };
            (at >= 0.0 && at < depth as f64).then_some(at as usize)
        })
        .collect();
    let data = map_data!(values.data(), v => spread(v, &hot, (depth, inner), len));
    Ok(Tensor::new(shape, data))
}

pub(super) fn non_zero(x: &Tensor) -> Result<Tensor, EvalError> {
    let flags: Vec<bool> = match x.data() {
        Data::Bool(x) => x.clone(),
        data => with_elements!(data, v => v.iter().map(|&e| e != Default::default()).collect()),
    };
    let at: Vec<usize> = flags.iter().enumerate().filter(|(_, set)| **set).map(|(i, _)| i).collect();
    // A scalar counts as a vector of one element.
    let shape = if x.rank() == 0 { &[1] } else { x.shape() };
    check_len(at.len().saturating_mul(shape.len()))?;
    let mut indices = Vec::with_capacity(at.len() * shape.len());
    for axis in 0..shape.len() {
        let (_, n, inner) = around(shape, axis);
        indices.extend(at.iter().map(|i| (i / inner % n) as i64));
    }
    Ok(Tensor::i64([shape.len(), at.len()], indices))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::eval;
    use crate::op::*;
    use crate::types::DType;

    fn run(op: impl Into<Op>, operands: &[&Tensor]) -> Result<Tensor, EvalError> {
        let operands: Vec<_> = operands.iter().map(|&x| Some(x)).collect();
        Ok(eval(&op.into(), &operands)?.remove(0))
    }

    fn ints(v: &[i64]) -> Tensor {
        Tensor::i64([v.len()], v)
    }

    #[test]
    fn shapes_and_fills() {
        let x = Tensor::zeros(DType::F32, [2, 0, 4]);
        assert_eq!(run(ShapeOf::default(), &[&x]).unwrap(), ints(&[2, 0, 4]));
        assert_eq!(run(ShapeOf { start: -1, end: None }, &[&x]).unwrap(), ints(&[4]));
        assert_eq!(run(Size {}, &[&x]).unwrap(), Tensor::i64([], [0]));
        let fill = ConstantOfShape { dtype: DType::I32, value: -3.0 };
        assert_eq!(run(fill.clone(), &[&ints(&[2])]).unwrap().data(), &Data::I32(vec![-3, -3]));
        assert_eq!(run(fill.clone(), &[&ints(&[])]).unwrap().len(), 1);
        assert!(run(fill, &[&ints(&[1 << 32])]).is_err());
    }

    #[test]
    fn ranges() {
        let range = |a, b, c| run(Range {}, &[&Tensor::i64([], [a]), &Tensor::i64([], [b]), &Tensor::i64([1], [c])]);
        assert_eq!(range(10, 4, -4).unwrap(), ints(&[10, 6]));
        assert_eq!(range(3, 3, 1).unwrap(), ints(&[]));
        assert!(range(0, i64::MAX, 1).is_err());
        assert!(range(0, 5, 0).is_err());
        let range = |a, b, c| run(Range {}, &[&Tensor::f32([], [a]), &Tensor::f32([], [b]), &Tensor::f32([], [c])]);
        assert_eq!(range(1.0, 2.0, 0.25).unwrap(), Tensor::f32([4], [1.0, 1.25, 1.5, 1.75]));
        assert!(range(0.0, 1e30, 1.0).is_err());
        assert!(range(0.0, f32::NAN, 1.0).is_err());
        assert!(range(0.0, 1.0, 0.0).is_err());
    }

    #[test]
    fn one_hot() {
        let (depth, values) = (Tensor::i64([], [3]), Tensor::f32([2], [-1.0, 5.0]));
        let y = run(OneHot { axis: -1 }, &[&ints(&[1, -1, 3]), &depth, &values]).unwrap();
        assert_eq!(y, Tensor::f32([3, 3], [-1., 5., -1., -1., -1., 5., -1., -1., -1.]));
        let y = run(OneHot { axis: 0 }, &[&ints(&[1, 0]), &Tensor::f32([1], [2.0]), &values]).unwrap();
        assert_eq!(y, Tensor::f32([2, 2], [-1., 5., 5., -1.]));
        let huge = Tensor::f32([], [1e30]);
        assert!(run(OneHot { axis: 0 }, &[&ints(&[1, 0]), &huge, &values]).is_err());
        assert!(run(OneHot { axis: 0 }, &[&ints(&[1, 0]), &Tensor::f32([], [f32::NAN]), &values]).is_err());
    }

    #[test]
    fn non_zero() {
        let x = Tensor::new([2, 2], Data::Bool(vec![true, false, true, true]));
        assert_eq!(run(NonZero {}, &[&x]).unwrap(), Tensor::i64([2, 3], [0, 1, 1, 0, 0, 1]));
        assert_eq!(run(NonZero {}, &[&Tensor::f32([], [f32::NAN])]).unwrap(), Tensor::i64([1, 1], [0]));
        assert_eq!(run(NonZero {}, &[&Tensor::f32([], [-0.0])]).unwrap(), Tensor::i64([1, 0], []));
    }
}
