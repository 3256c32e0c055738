//! Matrix products.

use super::attr::attrs;
use super::conv::Act;

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

// STUB-BEGIN
use super::infer::Args;
use crate::error::TypeError;
use crate::types::TensorType;
impl MatMul {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Gemm {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Linear {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Einsum {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
// STUB-END
