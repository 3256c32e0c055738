//! Evaluation of `einsum`: for each element of the result, a sum over all labels that are not in it.

use super::linear::{Sum, Sums, wrapping};
use crate::error::EvalError;
use crate::op::einsum::Equation;
use crate::tensor::Tensor;
use crate::types::Dim;

pub(super) fn einsum(equation: &str, operands: &[&Tensor], shape: &[usize]) -> Result<Sums, EvalError> {
    let ranks: Vec<usize> = operands.iter().map(|x| x.rank()).collect();
    let equation = Equation::parse(equation, &ranks)?;
    let shapes: Vec<Vec<Dim>> = operands.iter().map(|x| x.shape().iter().copied().map(Dim::Fixed).collect()).collect();
    let shapes: Vec<&[Dim]> = shapes.iter().map(Vec::as_slice).collect();
    let extents = equation.extents(&shapes)?;
    let extent = |label: usize| extents[label].fixed().expect("the extents of tensors are fixed");

    let strides: Vec<Vec<usize>> =
        (0..equation.labels).map(|label| label_strides(&equation, operands, label)).collect();
    let axis = |label: usize| Axis { len: extent(label), strides: strides[label].clone() };
    let outer: Vec<Axis> = equation.result.iter().map(|&label| axis(label)).collect();
    let inner: Vec<Axis> = (0..equation.labels).filter(|label| !equation.result.contains(label)).map(axis).collect();
    debug_assert!(outer.iter().map(|axis| axis.len).eq(shape.iter().copied()));

    let ints: Option<Vec<_>> = operands.iter().map(|x| wrapping(x)).collect();
    Ok(match ints {
        Some(x) => Sums::Int(contract(&x, &outer, &inner, std::num::Wrapping(1))),
        None => {
            let x: Vec<Vec<f64>> = operands.iter().map(|x| x.data().to_f64()).collect();
            Sums::Float(contract(&x, &outer, &inner, 1.0))
        }
    })
}

/// One label: its extent, and how far a step along it leads in each operand.
struct Axis {
    len: usize,
    strides: Vec<usize>,
}

/// Axes of extent 1 broadcast: no step along them leads anywhere. A label twice in an operand steps
/// along both of its axes.
fn label_strides(equation: &Equation, operands: &[&Tensor], label: usize) -> Vec<usize> {
    let stride = |labels: &Vec<usize>, shape: &[usize]| {
        let mut total = 0;
        let mut step = 1;
        for (&of, &len) in labels.iter().zip(shape).rev() {
            total += if of == label && len != 1 { step } else { 0 };
            step *= len;
        }
        total
    };
    equation.operands.iter().zip(operands).map(|(labels, x)| stride(labels, x.shape())).collect()
}

fn contract<S: Sum>(x: &[Vec<S>], outer: &[Axis], inner: &[Axis], one: S) -> Vec<S> {
    let mut y = Vec::new();
    for_each(outer, &mut vec![0; x.len()], &mut |at| {
        let mut sum = S::default();
        for_each(inner, &mut at.to_vec(), &mut |at| {
            sum += x.iter().zip(at).fold(one, |product, (x, &i)| product * x[i]);
        });
        y.push(sum);
    });
    y
}

/// Calls `f` with the offsets into the operands for every combination of indices, the last axis fastest.
fn for_each(axes: &[Axis], at: &mut Vec<usize>, f: &mut dyn FnMut(&[usize])) {
    let Some((axis, rest)) = axes.split_first() else { return f(at) };
    let start = at.clone();
    for _ in 0..axis.len {
        for_each(rest, at, f);
        at.iter_mut().zip(&axis.strides).for_each(|(at, stride)| *at += stride);
    }
    at.clone_from(&start);
}

#[cfg(test)]
mod tests {
    use super::super::eval;
    use super::super::testing::{numbers, values};
    use super::*;
    use crate::op::{Einsum, MatMul};
    use crate::types::DType;

    fn run(equation: &str, operands: &[&Tensor]) -> Tensor {
        let op = Einsum { equation: equation.into() };
        let operands: Vec<Option<&Tensor>> = operands.iter().copied().map(Some).collect();
        eval(&op.into(), &operands).expect("the operands fit").remove(0)
    }

    #[test]
    fn products_agree_with_matmul() {
        for dtype in [DType::F32, DType::I32] {
            let (a, b) = (numbers(dtype, &[2, 3, 4]), numbers(dtype, &[2, 4, 5]));
            let expected = eval(&MatMul {}.into(), &[Some(&a), Some(&b)]).unwrap().remove(0);
            assert_eq!(run("bij,bjk->bik", &[&a, &b]), expected);
            assert_eq!(run("...ij,...jk", &[&a, &b]), expected);
        }
    }

    #[test]
    fn diagonals_transposes_and_outer_products() {
        let x = Tensor::f32([2, 2], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(run("ii", &[&x]), Tensor::f32([], [5.0]));
        assert_eq!(run("ii->i", &[&x]), Tensor::f32([2], [1.0, 4.0]));
        assert_eq!(run("ij->ji", &[&x]), Tensor::f32([2, 2], [1.0, 3.0, 2.0, 4.0]));
        assert_eq!(run("ij->", &[&x]), Tensor::f32([], [10.0]));
        let v = Tensor::f32([3], [1.0, 10.0, 100.0]);
        assert_eq!(
            values(&run("i,jk,k->ij", &[&v, &x, &Tensor::f32([2], [1.0, 1.0])])),
            [3.0, 7.0, 30.0, 70.0, 300.0, 700.0]
        );
    }

    #[test]
    fn axes_of_extent_one_broadcast() {
        let (a, b) = (Tensor::f32([1, 2], [1.0, 2.0]), Tensor::f32([3, 2], [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]));
        assert_eq!(run("ij,ij->i", &[&a, &b]), Tensor::f32([3], [3.0, 6.0, 9.0]));
        assert_eq!(
            run("i,i", &[&Tensor::zeros(DType::F32, [0]), &Tensor::zeros(DType::F32, [0])]),
            Tensor::f32([], [0.0])
        );
    }
}
