//! Evaluation of the operators of `op/linear.rs`.
//!
//! Matrix products are dot products of rows of the left matrix with rows of the transposed right one, or
//! combinations of rows of the right one where the left one is too short to be worth transposing for.
//! Floats are summed in `f64`, integers modulo 2⁶⁴, which any narrower type agrees with after wrapping.

use std::num::Wrapping;
use std::ops::{AddAssign, Mul};

use super::Cx;
use super::act::activate;
use super::einsum::einsum;
use super::strided::Walk;
use crate::error::EvalError;
use crate::op::{Gemm, Op};
use crate::tensor::{Data, Tensor};
use crate::types::DType;

pub(super) fn eval(op: &Op, cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    let dtype = cx.x(0).dtype();
    let shape = cx.out_shape(0)?;
    let y = match op {
        Op::MatMul(_) => matmul(cx.x(0), cx.x(1)).into_data(dtype),
        Op::Gemm(a) => gemm(a, cx).into_data(dtype),
        Op::Linear(a) => {
            let mut sums = linear(cx);
            sums.iter_mut().for_each(|sum| *sum = activate(a.act, *sum));
            Data::from_f64(dtype, sums)
        }
        Op::Einsum(a) => einsum(&a.equation, &cx.present().collect::<Vec<_>>(), &shape)?.into_data(dtype),
        _ => unreachable!("{} is of another family", op.name()),
    };
    Ok(vec![Tensor::new(shape, y)])
}

/// A number that sums are accumulated in.
pub(super) trait Sum: Copy + Default + AddAssign + Mul<Output = Self> {}

impl Sum for f64 {}
impl Sum for Wrapping<i64> {}

/// Sums of products before they are rounded to the element type.
pub(super) enum Sums {
    Float(Vec<f64>),
    Int(Vec<Wrapping<i64>>),
}

impl Sums {
    pub(super) fn into_data(self, dtype: DType) -> Data {
        match self {
            Sums::Float(sums) => Data::from_f64(dtype, sums),
            Sums::Int(sums) => Data::from_i64(dtype, sums.into_iter().map(|sum| sum.0)),
        }
    }
}

/// Integer elements to be summed modulo 2⁶⁴; `None` for floats.
pub(super) fn wrapping(tensor: &Tensor) -> Option<Vec<Wrapping<i64>>> {
    Some(tensor.data().to_i64()?.into_iter().map(Wrapping).collect())
}

/// `a[m, k] · bᵀ[n, k]`, row-major: the dot product of every row of `a` with every row of `b`.
pub(super) fn row_products<T: Copy + Into<S>, S: Sum>(a: &[T], b: &[T], m: usize, k: usize, n: usize) -> Vec<S> {
    if k == 0 {
        return vec![S::default(); m * n];
    }
    a.chunks_exact(k).flat_map(|row| b.chunks_exact(k).map(|column| dot(row, column))).collect()
}

/// Σ aᵢ·bᵢ, in eight partial sums that are independent of each other.
fn dot<T: Copy + Into<S>, S: Sum>(a: &[T], b: &[T]) -> S {
    const LANES: usize = 8;
    let mut lanes = [S::default(); LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut sum = S::default();
    for (&a, &b) in a_chunks.remainder().iter().zip(b_chunks.remainder()) {
        sum += a.into() * b.into();
    }
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a.into() * b.into();
        }
    }
    lanes.into_iter().for_each(|lane| sum += lane);
    sum
}

/// `a[m, k] · b[k, n]`, row-major: the rows of `b` combined with the elements of a row of `a` as factors.
fn combinations<T: Copy + Into<S>, S: Sum>(a: &[T], b: &[T], m: usize, k: usize, n: usize) -> Vec<S> {
    let mut y = vec![S::default(); m * n];
    if k == 0 || n == 0 {
        return y;
    }
    for (y, a) in y.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(n)) {
            let a = a.into();
            y.iter_mut().zip(b).for_each(|(y, &b)| *y += a * b.into());
        }
    }
    y
}

/// Every matrix of `rows × columns` in `x` transposed.
fn transposed<T: Copy>(x: &[T], rows: usize, columns: usize) -> Vec<T> {
    // Squares of this side keep both the reads and the writes in the cache.
    const SIDE: usize = 32;
    let mut y = x.to_vec();
    let size = rows * columns;
    if size == 0 {
        return y;
    }
    for (y, x) in y.chunks_exact_mut(size).zip(x.chunks_exact(size)) {
        for first_row in (0..rows).step_by(SIDE) {
            for first_column in (0..columns).step_by(SIDE) {
                for row in first_row..rows.min(first_row + SIDE) {
                    for column in first_column..columns.min(first_column + SIDE) {
                        y[column * rows + row] = x[row * columns + column];
                    }
                }
            }
        }
    }
    y
}

fn matmul(a: &Tensor, b: &Tensor) -> Sums {
    let product = Product::new(a.shape(), b.shape());
    match (a.as_f32(), b.as_f32()) {
        (Some(a), Some(b)) => Sums::Float(product.run(a, b)),
        _ => match (wrapping(a), wrapping(b)) {
            (Some(a), Some(b)) => Sums::Int(product.run(&a, &b)),
            _ => Sums::Float(product.run(&a.data().to_f64(), &b.data().to_f64())),
        },
    }
}

/// A batch of matrix products; vectors are matrices of one row or column.
pub(super) struct Product {
    rows: usize,
    inner: usize,
    columns: usize,
    /// Which matrices of `a` and `b` each product takes.
    batch: Vec<(usize, usize)>,
}

impl Product {
    /// The products of matrices of these shapes.
    pub(super) fn new(a: &[usize], b: &[usize]) -> Product {
        let (a, b) = (if let [inner] = a { &[1, *inner] } else { a }, if let [inner] = b { &[*inner, 1] } else { b });
        let ([batch_a @ .., rows, inner], [batch_b @ .., _, columns]) = (a, b) else {
            unreachable!("the type rule refuses scalars")
        };
        let rank = batch_a.len().max(batch_b.len());
        let extent = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |j| shape[j]);
        let mut batch = vec![(0, 0)];
        for i in 0..rank {
            let (in_a, in_b) = (extent(batch_a, i), extent(batch_b, i));
            let len = if in_a == 1 { in_b } else { in_a };
            let step = |at: usize, extent: usize, i: usize| at * extent + if extent == 1 { 0 } else { i };
            batch = batch
                .iter()
                .flat_map(|&(at_a, at_b)| (0..len).map(move |i| (step(at_a, in_a, i), step(at_b, in_b, i))))
                .collect();
        }
        Product { rows: *rows, inner: *inner, columns: *columns, batch }
    }

    /// Every element of every product.
    pub(super) fn run<T: Copy + Into<S>, S: Sum>(&self, a: &[T], b: &[T]) -> Vec<S> {
        let &Product { rows, inner, columns, ref batch } = self;
        // Transposing takes about as long as multiplying by a few rows.
        let few = rows < 8;
        let flipped;
        let b = if few {
            b
        } else {
            flipped = transposed(b, inner, columns);
            &flipped
        };
        let product = |&(at_a, at_b): &(usize, usize)| {
            let (a, b) = (&a[at_a * rows * inner..][..rows * inner], &b[at_b * inner * columns..][..inner * columns]);
            if few { combinations(a, b, rows, inner, columns) } else { row_products(a, b, rows, inner, columns) }
        };
        batch.iter().flat_map(product).collect()
    }
}

fn linear(cx: &Cx<'_>) -> Vec<f64> {
    let (x, w) = (cx.x(0), cx.x(1));
    let [out, inner] = w.shape() else { unreachable!("the type rule requires a matrix") };
    let rows: usize = x.shape()[..x.rank() - 1].iter().product();
    let mut sums = match (x.as_f32(), w.as_f32()) {
        (Some(x), Some(w)) => row_products(x, w, rows, *inner, *out),
        _ => row_products(&x.data().to_f64(), &w.data().to_f64(), rows, *inner, *out),
    };
    if let Some(b) = cx.get(2) {
        let b = b.data().to_f64();
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += b[i % out];
        }
    }
    sums
}

fn gemm(attrs: &Gemm, cx: &Cx<'_>) -> Sums {
    let (a, b) = (cx.x(0), cx.x(1));
    let oriented = |x: &Tensor, flip: bool| {
        let &[rows, columns] = x.shape() else { unreachable!("the type rule requires a matrix") };
        let shape = if flip { [columns, rows] } else { [rows, columns] };
        let order: Vec<usize> = (0..rows * columns).collect();
        let data = if flip { x.data().select(transposed(&order, rows, columns)) } else { x.data().clone() };
        Tensor::new(shape, data)
    };
    let (a, b) = (oriented(a, attrs.trans_a), oriented(b, attrs.trans_b));
    let shape = [a.shape()[0], b.shape()[1]];
    let c = cx.get(2).map(|c| (c, Walk::broadcast(&shape, [&shape, c.shape()])));
    match (matmul(&a, &b), c) {
        (Sums::Int(sums), None) if attrs.alpha == 1.0 => Sums::Int(sums),
        (Sums::Int(sums), Some((c, walk))) if attrs.alpha == 1.0 && attrs.beta == 1.0 => {
            let c = wrapping(c).expect("the type rule requires integers as in the product");
            Sums::Int(walk.zip(&sums, &c, |sum, c| sum + c))
        }
        (sums, c) => {
            let (alpha, beta) = (f64::from(attrs.alpha), f64::from(attrs.beta));
            let sums: Vec<f64> = match sums {
                Sums::Float(sums) => sums.into_iter().map(|sum| alpha * sum).collect(),
                Sums::Int(sums) => sums.into_iter().map(|sum| alpha * sum.0 as f64).collect(),
            };
            Sums::Float(match c {
                Some((c, walk)) => walk.zip(&sums, &c.data().to_f64(), |sum, c| sum + beta * c),
                None => sums,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::eval;
    use super::super::testing::{numbers, values};
    use super::*;
    use crate::op::{Act, Linear, MatMul};

    fn run(op: impl Into<Op>, operands: &[&Tensor]) -> Tensor {
        let operands: Vec<Option<&Tensor>> = operands.iter().copied().map(Some).collect();
        eval(&op.into(), &operands).expect("the operands fit").remove(0)
    }

    fn naive(a: &[f64], b: &[f64], m: usize, k: usize, n: usize) -> Vec<f64> {
        let at = |i: usize| (0..k).map(|l| a[i / n * k + l] * b[l * n + i % n]).sum();
        (0..m * n).map(at).collect()
    }

    #[test]
    fn matrices_multiply_by_the_formula() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (2, 37, 40), (40, 8, 33), (9, 37, 2), (9, 0, 2), (2, 0, 3), (0, 2, 3)] {
            for dtype in [DType::F32, DType::F64, DType::I64, DType::BF16] {
                let (a, b) = (numbers(dtype, &[m, k]), numbers(dtype, &[k, n]));
                let y = run(MatMul {}, &[&a, &b]);
                assert_eq!((y.dtype(), y.shape()), (dtype, &[m, n][..]));
                let expected = naive(&values(&a), &values(&b), m, k, n);
                assert_eq!(values(&y), values(&Tensor::new([m, n], Data::from_f64(dtype, expected))));
            }
        }
    }

    #[test]
    fn batches_broadcast() {
        let (a, b) = (numbers(DType::F64, &[2, 1, 3, 4]), numbers(DType::F64, &[5, 4, 2]));
        let y = run(MatMul {}, &[&a, &b]);
        assert_eq!(y.shape(), [2, 5, 3, 2]);
        let (av, bv, yv) = (values(&a), values(&b), values(&y));
        for i in 0..2 {
            for j in 0..5 {
                let expected = naive(&av[i * 12..][..12], &bv[j * 8..][..8], 3, 4, 2);
                assert_eq!(yv[(i * 5 + j) * 6..][..6], expected);
            }
        }
        let v = numbers(DType::F64, &[4]);
        assert_eq!(run(MatMul {}, &[&v, &b]).shape(), [5, 2]);
        assert_eq!(values(&run(MatMul {}, &[&v, &v])), [values(&v).iter().map(|x| x * x).sum::<f64>()]);
    }

    #[test]
    fn integers_wrap() {
        let a = Tensor::new([1, 1], Data::I32(vec![1 << 20]));
        assert_eq!(run(MatMul {}, &[&a, &a]), Tensor::new([1, 1], Data::I32(vec![0])));
        let a = Tensor::i64([1, 2], [i64::MAX, 1]);
        let b = Tensor::i64([2, 1], [1, 1]);
        assert_eq!(run(MatMul {}, &[&a, &b]), Tensor::i64([1, 1], [i64::MIN]));
    }

    #[test]
    fn gemm_scales_transposes_and_broadcasts() {
        let a = Tensor::f32([3, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let b = Tensor::f32([2, 3], [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]);
        let op = Gemm { alpha: 2.0, beta: 0.5, trans_a: true, trans_b: true };
        // aᵀ·bᵀ = [[6, 8], [8, 10]]
        for (c, y) in [
            (Tensor::f32([2], [2.0, 4.0]), [13.0, 18.0, 17.0, 22.0]),
            (Tensor::f32([2, 1], [2.0, 4.0]), [13.0, 17.0, 18.0, 22.0]),
            (Tensor::f32([], [2.0]), [13.0, 17.0, 17.0, 21.0]),
        ] {
            assert_eq!(run(op.clone(), &[&a, &b, &c]), Tensor::f32([2, 2], y));
        }
        let i = Tensor::i64([1, 1], [3]);
        assert_eq!(run(Gemm::default(), &[&i, &i, &i]), Tensor::i64([1, 1], [12]));
    }

    #[test]
    fn linear_adds_the_bias_and_activates() {
        let op = Linear { act: Act::Relu };
        let x = Tensor::f32([2, 1, 2], [1.0, 2.0, -1.0, -2.0]);
        let w = Tensor::f32([2, 2], [1.0, 1.0, 3.0, -1.0]);
        let b = Tensor::f32([2], [0.5, -0.5]);
        assert_eq!(run(op, &[&x, &w, &b]), Tensor::f32([2, 1, 2], [3.5, 0.5, 0.0, 0.0]));
    }
}
