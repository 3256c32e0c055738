//! Matrix products.

use super::attr::attrs;
use super::conv::Act;
use super::einsum::Equation;
use super::expect;
use super::infer::{Args, broadcast};
use crate::error::TypeError;
use crate::types::{Dim, TensorType};

attrs! {
    /// Matrix product over the last two axes, batch axes broadcast, vectors as numpy's.
    pub struct MatMul {}

    /// `alpha·A·B + beta·C` on matrices; `C` broadcasts to the result.
    pub struct Gemm {
        /// Scale of the product.
        alpha: f32 = 1.0,
        /// Scale of `c`.
        beta: f32 = 1.0,
        /// Whether `a` is stored transposed.
        trans_a: bool = false,
        /// Whether `b` is stored transposed.
        trans_b: bool = false,
    }

    /// A fully connected layer over the last axis: `y[…, o] = b[o] + Σ x[…, i]·w[o, i]`, then the
    /// activation. `x` is `[…, I]`, `w` is `[O, I]`, `b` is `[O]`.
    pub struct Linear {
        /// Applied to the sum.
        act: Act = Act::None,
    }

    /// Sum of products by index letters, as numpy's `einsum`.
    pub struct Einsum {
        /// Such as `bij,bjk->bik`; an ellipsis stands for broadcast axes.
        equation: String = String::new(),
    }
}

impl MatMul {
    /// The result shape of a product of `a` and `b`, whatever the elements are.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn out_shape(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, TypeError> {
        let mismatch = |what: &str| TypeError::Shapes(format!("{} times {}: {what}", shape_text(a), shape_text(b)));
        let (Some((inner_a, rows)), Some(_)) = (a.split_last(), b.first()) else {
            return Err(mismatch("a scalar is not a matrix"));
        };
        let (inner_b, columns, batch_b) = match b {
            [inner] => (inner, None, &[][..]),
            [batch @ .., inner, columns] => (inner, Some(columns), batch),
            [] => return Err(mismatch("a scalar is not a matrix")),
        };
        if inner_a.differs(inner_b) {
            return Err(mismatch("the inner extents differ"));
        }
        let (rows, batch_a) = rows.split_last().map_or((None, rows), |(row, batch)| (Some(row), batch));
        let mut shape = broadcast(batch_a, batch_b)?;
        shape.extend(rows.into_iter().chain(columns).cloned());
        Ok(shape)
    }

    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let a = expect::number(args, 0)?;
        let b = expect::typed(args, 1, a.dtype)?;
        Ok(vec![TensorType { dtype: a.dtype, shape: MatMul::out_shape(&a.shape, &b.shape)? }])
    }
}

fn shape_text(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

impl Gemm {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let a = expect::number(args, 0)?;
        let b = expect::typed(args, 1, a.dtype)?;
        let [a0, a1] = a.shape.as_slice() else { return Err(args.expected(0, "a matrix")) };
        let [b0, b1] = b.shape.as_slice() else { return Err(args.expected(1, "a matrix")) };
        let (rows, inner_a) = if self.trans_a { (a1, a0) } else { (a0, a1) };
        let (inner_b, columns) = if self.trans_b { (b1, b0) } else { (b0, b1) };
        if inner_a.differs(inner_b) {
            return Err(args.expected(1, format!("{inner_a} as the extent that is summed over")));
        }
        let shape = vec![rows.clone(), columns.clone()];
        expect::broadcasts(args, 2, a.dtype, &shape)?;
        Ok(vec![TensorType { dtype: a.dtype, shape }])
    }
}

impl Linear {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        let w = expect::typed(args, 1, x.dtype)?;
        let Some((inner, outer)) = x.shape.split_last() else { return Err(args.expected(0, "at least one axis")) };
        let [out, w_inner] = w.shape.as_slice() else { return Err(args.expected(1, "a matrix")) };
        if inner.differs(w_inner) {
            return Err(args.expected(1, format!("a matrix of {inner} columns")));
        }
        expect::shaped(args, 2, x.dtype, std::slice::from_ref(out))?;
        let out = args.get_ty(2).map_or(out.clone(), |b| out.meet(&b.shape[0]));
        let shape = outer.iter().cloned().chain([out]).collect();
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
}

impl Einsum {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let dtype = expect::number(args, 0)?.dtype;
        let types: Vec<&TensorType> =
            (0..args.len()).map(|slot| expect::typed(args, slot, dtype)).collect::<Result<_, _>>()?;
        let ranks: Vec<usize> = types.iter().map(|ty| ty.rank()).collect();
        let shapes: Vec<&[Dim]> = types.iter().map(|ty| ty.shape.as_slice()).collect();
        let equation = Equation::parse(&self.equation, &ranks)?;
        let extents = equation.extents(&shapes)?;
        let shape = equation.result.iter().map(|&label| extents[label].clone()).collect();
        Ok(vec![TensorType { dtype, shape }])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{infer_op, shapes};
    use super::*;
    use crate::op::Op;

    #[test]
    fn matmul_is_numpys() {
        let op = Op::from(MatMul {});
        for (a, b, y) in [
            ("f32[n, 3]", "f32[3, m]", "f32[n, m]"),
            ("f32[3]", "f32[3]", "f32[]"),
            ("f32[3]", "f32[5, 3, 2]", "f32[5, 2]"),
            ("i32[5, 2, 3]", "i32[3]", "i32[5, 2]"),
            ("f16[b, 1, 2, k]", "f16[7, k, 4]", "f16[b, 7, 2, 4]"),
            ("f32[?, 2, ?]", "f32[3, 4]", "f32[?, 2, 4]"),
        ] {
            assert_eq!(shapes(&op, &[a, b]), [y], "{a} {b}");
        }
        for (a, b) in [
            ("f32[2, 3]", "f32[4, 2]"),
            ("f32[]", "f32[2, 2]"),
            ("f32[2, 2]", "f32[]"),
            ("f32[2, 2, 3]", "f32[3, 3, 2]"),
            ("f32[2, 2]", "f64[2, 2]"),
            ("bool[2, 2]", "bool[2, 2]"),
        ] {
            assert!(infer_op(&op, &[a, b]).is_err(), "{a} {b}");
        }
    }

    #[test]
    fn gemm_and_linear() {
        let op = Op::from(Gemm { trans_a: true, trans_b: true, ..Gemm::default() });
        assert_eq!(shapes(&op, &["f32[3, n]", "f32[4, 3]", "f32[4]"]), ["f32[n, 4]"]);
        assert_eq!(shapes(&op, &["f32[3, n]", "f32[4, 3]", "f32[1, 1]"]), ["f32[n, 4]"]);
        assert!(infer_op(&op, &["f32[3, 5]", "f32[4, 3]", "f32[3]"]).is_err());
        assert!(infer_op(&op, &["f32[3, 5]", "f32[4, 5]"]).is_err());
        assert!(infer_op(&op, &["f32[3, 5, 1]", "f32[4, 5]"]).is_err());
        let op = Op::from(Linear::default());
        assert_eq!(shapes(&op, &["f32[n, t, 3]", "f32[4, 3]", "f32[4]"]), ["f32[n, t, 4]"]);
        assert_eq!(shapes(&op, &["f32[3]", "f32[4, 3]"]), ["f32[4]"]);
        assert!(infer_op(&op, &["f32[n, 2]", "f32[4, 3]"]).is_err());
        assert!(infer_op(&op, &["f32[]", "f32[4, 3]"]).is_err());
        assert!(infer_op(&op, &["f32[n, 3]", "f32[4, 3]", "f32[3]"]).is_err());
    }

    #[test]
    fn einsum_takes_extents_by_letter() {
        let op = |equation: &str| Op::from(Einsum { equation: equation.into() });
        assert_eq!(shapes(&op("bij,bjk->bik"), &["f32[b, 2, j]", "f32[b, 3, 4]"]), ["f32[b, 2, 4]"]);
        assert_eq!(shapes(&op("...ii->...i"), &["f32[5, ?, 3, 3]"]), ["f32[5, ?, 3]"]);
        assert!(infer_op(&op("ij,jk"), &["f32[2, 3]", "f32[4, 5]"]).is_err());
        assert!(infer_op(&op("ij,jk"), &["f32[2, 3]"]).is_err());
    }
}
