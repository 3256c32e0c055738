//! Pooling over windows of the spatial axes. `x` is `[N, C, spatial…]`.

use super::attr::attrs;
use super::conv::AutoPad;

attrs! {
    /// Maximum over windows. Results: the values, and their flat indices in `x` as i64.
    pub struct MaxPool {
        /// Extent of the window along each spatial axis.
        kernel: Vec<usize> = vec![],
        /// Step of the window; empty means ones.
        strides: Vec<usize> = vec![],
        /// Border added: all beginnings, then all ends; empty means zeros. It never wins.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring window elements; empty means ones.
        dilations: Vec<usize> = vec![],
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
        /// Whether a window that hangs over the end counts.
        ceil: bool = false,
        /// Whether the flat indices count the last spatial axes column-major.
        column_major: bool = false,
    }

    /// Mean over windows.
    pub struct AveragePool {
        /// Extent of the window along each spatial axis.
        kernel: Vec<usize> = vec![],
        /// Step of the window; empty means ones.
        strides: Vec<usize> = vec![],
        /// Border added: all beginnings, then all ends; empty means zeros.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring window elements; empty means ones.
        dilations: Vec<usize> = vec![],
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
        /// Whether a window that hangs over the end counts.
        ceil: bool = false,
        /// Whether the mean counts the elements of the border.
        count_include_pad: bool = false,
    }

    /// p-norm over windows.
    pub struct LpPool {
        /// Extent of the window along each spatial axis.
        kernel: Vec<usize> = vec![],
        /// Step of the window; empty means ones.
        strides: Vec<usize> = vec![],
        /// Zeros added: all beginnings, then all ends; empty means zeros.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring window elements; empty means ones.
        dilations: Vec<usize> = vec![],
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
        /// Whether a window that hangs over the end counts.
        ceil: bool = false,
        /// The exponent.
        p: usize = 2,
    }

    /// Mean over all spatial axes, kept with extent 1.
    pub struct GlobalAveragePool {}

    /// Maximum over all spatial axes, kept with extent 1.
    pub struct GlobalMaxPool {}
}

// STUB-BEGIN
use super::infer::Args;
use crate::error::TypeError;
use crate::types::TensorType;
impl MaxPool {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl AveragePool {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl LpPool {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl GlobalAveragePool {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl GlobalMaxPool {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
// STUB-END
