//! Operators that put elements or slices where indices say. Updates apply in row-major order.

use super::super::Cx;
use super::super::element::{Number, zip_data, zip_numbers};
use super::gather::{slices, targets};
use crate::error::EvalError;
use crate::op::{ScatterElements, ScatterNd, ScatterReduction};
use crate::tensor::Tensor;

/// A copy of `x` with runs of `len` updates combined into it at `starts`.
fn combined<T: Copy>(x: &[T], starts: &[usize], len: usize, updates: &[T], f: impl Fn(T, T) -> T) -> Vec<T> {
    let mut y = x.to_vec();
    for (i, &start) in starts.iter().enumerate() {
        let run = &updates[i * len..(i + 1) * len];
        for (old, &new) in y[start..start + len].iter_mut().zip(run) {
            *old = f(*old, new);
        }
    }
    y
}

fn scatter(x: &Tensor, starts: &[usize], len: usize, updates: &Tensor, reduction: ScatterReduction) -> Tensor {
    macro_rules! by {
        ($f:expr) => {
            zip_numbers!((x.data(), updates.data()), x, u =>
                float combined(x, starts, len, u, $f), int combined(x, starts, len, u, $f))
        };
    }
    let data = match reduction {
        ScatterReduction::None => {
            zip_data!((x.data(), updates.data()), x, u => combined(x, starts, len, u, |_, new| new))
        }
        ScatterReduction::Add => by!(Number::plus),
        ScatterReduction::Mul => by!(Number::times),
        ScatterReduction::Max => by!(Number::larger),
        ScatterReduction::Min => by!(Number::smaller),
    };
    Tensor::new(x.shape(), data)
}

pub(super) fn elements(op: &ScatterElements, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let (x, indices) = (cx.x(0), cx.x(1));
    let targets = targets(x.shape(), indices, op.axis)?;
    Ok(scatter(x, &targets, 1, cx.x(2), op.reduction))
}

pub(super) fn nd(op: &ScatterNd, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    let x = cx.x(0);
    let (starts, len) = slices(x.shape(), cx.x(1), 0)?;
    Ok(scatter(x, &starts, len, cx.x(2), op.reduction))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::eval;
    use crate::op::Op;
    use crate::tensor::Data;

    fn run(op: impl Into<Op>, x: &Tensor, indices: &Tensor, updates: &Tensor) -> Result<Tensor, EvalError> {
        Ok(eval(&op.into(), &[Some(x), Some(indices), Some(updates)])?.remove(0))
    }

    #[test]
    fn elements_along_an_axis() {
        let x = Tensor::f32([1, 5], [1., 2., 3., 4., 5.]);
        let (indices, updates) = (Tensor::i64([1, 3], [1, -2, 1]), Tensor::f32([1, 3], [10., 20., 30.]));
        let run = |reduction| run(ScatterElements { axis: 1, reduction }, &x, &indices, &updates).unwrap();
        assert_eq!(run(ScatterReduction::None), Tensor::f32([1, 5], [1., 30., 3., 20., 5.]));
        assert_eq!(run(ScatterReduction::Add), Tensor::f32([1, 5], [1., 42., 3., 24., 5.]));
        assert_eq!(run(ScatterReduction::Mul), Tensor::f32([1, 5], [1., 600., 3., 80., 5.]));
        assert_eq!(run(ScatterReduction::Min), x);
    }

    #[test]
    fn slices_by_tuples() {
        let x = Tensor::i64([3, 2], [0; 6]);
        let (indices, updates) = (Tensor::i64([2, 1], [2, -2]), Tensor::i64([2, 2], [1, 2, 3, 4]));
        let y = run(ScatterNd::default(), &x, &indices, &updates).unwrap();
        assert_eq!(y, Tensor::i64([3, 2], [0, 0, 3, 4, 1, 2]));
        let wrong = Tensor::i64([2, 1], [3, 0]);
        assert!(matches!(run(ScatterNd::default(), &x, &wrong, &updates), Err(EvalError::Value(_))));
    }

    #[test]
    fn any_element_can_be_placed() {
        let x = Tensor::new([2], Data::Bool(vec![false, false]));
        let y = run(ScatterElements::default(), &x, &Tensor::i64([1], [1]), &Tensor::new([1], Data::Bool(vec![true])));
        assert_eq!(y.unwrap().data(), &Data::Bool(vec![false, true]));
    }
}
