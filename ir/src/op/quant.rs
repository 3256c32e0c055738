//! Quantized values and integer arithmetic on them.
//!
//! Codes are plain `u8`, `i8`, … tensors; scales and zero points are operands.

use super::attr::attrs;
use super::conv::AutoPad;
use crate::types::DType;

attrs! {
    /// `saturate(round_even(x/scale) + zero)`.
    pub struct QuantizeLinear {
        /// The axis of `scale` and `zero` if they are vectors (or blocked).
        axis: i64 = 1,
        /// Elements of the axis that share a scale; 0 is per tensor or per axis.
        block: usize = 0,
        /// Type of the codes where `zero` is missing.
        to: DType = DType::U8,
    }

    /// `(x − zero)·scale`, in the type of `scale`.
    pub struct DequantizeLinear {
        /// The axis of `scale` and `zero` if they are vectors (or blocked).
        axis: i64 = 1,
        /// Elements of the axis that share a scale; 0 is per tensor or per axis.
        block: usize = 0,
    }

    /// To u8 by the range of x, widened to hold zero. Results: codes, scale (f32), zero point (u8).
    pub struct DynamicQuantizeLinear {}

    /// Convolution of codes to codes: exact i32 sums, requantised. `b` is i32 with scale `x_scale·w_scale`.
    pub struct QLinearConv {
        /// Step of the window along each spatial axis.
        strides: Vec<usize> = vec![],
        /// Zero points added: all beginnings, then all ends.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring kernel elements.
        dilations: Vec<usize> = vec![],
        /// Channels are split into this many independent groups.
        group: usize = 1,
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
    }

    /// Matrix product of codes to codes: exact i32 sums, requantised.
    pub struct QLinearMatMul {}

    /// Convolution of codes, zero points taken off, to i32.
    pub struct ConvInteger {
        /// Step of the window along each spatial axis.
        strides: Vec<usize> = vec![],
        /// Zero points added: all beginnings, then all ends.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring kernel elements.
        dilations: Vec<usize> = vec![],
        /// Channels are split into this many independent groups.
        group: usize = 1,
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
    }

    /// Matrix product of codes, zero points taken off, to i32.
    pub struct MatMulInteger {}
}

// STUB-BEGIN
use super::infer::Args;
use crate::error::TypeError;
use crate::types::TensorType;
impl QuantizeLinear {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl DequantizeLinear {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl DynamicQuantizeLinear {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl QLinearConv {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl QLinearMatMul {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl ConvInteger {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl MatMulInteger {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
// STUB-END
