//! Normalisations and softmax.

use super::attr::attrs;

attrs! {
    /// Inference form: `scale·(x − mean)/√(var + eps) + b` per channel (axis 1).
    pub struct BatchNorm {
        /// Added to the variance.
        eps: f32 = 1e-5,
    }

    /// `scale·(x − μ)/√(σ² + eps) + b`, statistics per sample and channel over the spatial axes.
    pub struct InstanceNorm {
        /// Added to the variance.
        eps: f32 = 1e-5,
    }

    /// `scale·(x − μ)/√(σ² + eps) + b`, statistics over the axes from `axis` on.
    pub struct LayerNorm {
        /// First normalised axis.
        axis: i64 = -1,
        /// Added to the variance.
        eps: f32 = 1e-5,
    }

    /// As instance normalisation, statistics per sample and group of neighbouring channels.
    pub struct GroupNorm {
        /// Number of groups.
        groups: usize = 1,
        /// Added to the variance.
        eps: f32 = 1e-5,
        /// Whether `scale` and `b` hold one element a group (opset 18) instead of one a channel.
        per_group: bool = false,
    }

    /// `scale·x/√(mean(x²) + eps)` over the axes from `axis` on.
    pub struct RmsNorm {
        /// First normalised axis.
        axis: i64 = -1,
        /// Added to the mean square.
        eps: f32 = 1e-5,
    }

    /// `x / (bias + alpha/size·Σx²)^beta`, the sum over `size` neighbouring channels.
    pub struct Lrn {
        /// Scale of the sum.
        alpha: f32 = 1e-4,
        /// Exponent.
        beta: f32 = 0.75,
        /// Offset.
        bias: f32 = 1.0,
        /// Channels summed.
        size: usize = 1,
    }

    /// `x / ‖x‖ₚ` along an axis.
    pub struct LpNorm {
        /// The axis.
        axis: i64 = -1,
        /// 1 or 2.
        p: i64 = 2,
    }

    /// `exp(x) / Σexp(x)` along an axis.
    pub struct Softmax {
        /// The axis.
        axis: i64 = -1,
        /// Whether over all axes from `axis` on together (the form before opset 13).
        flatten: bool = false,
    }

    /// `x − log Σexp(x)` along an axis.
    pub struct LogSoftmax {
        /// The axis.
        axis: i64 = -1,
        /// Whether over all axes from `axis` on together (the form before opset 13).
        flatten: bool = false,
    }

    /// One at the first maximum along an axis, zero elsewhere.
    pub struct Hardmax {
        /// The axis.
        axis: i64 = -1,
        /// Whether over all axes from `axis` on together (the form before opset 13).
        flatten: bool = false,
    }
}

// STUB-BEGIN
use super::infer::Args;
use crate::error::TypeError;
use crate::types::TensorType;
impl BatchNorm {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl InstanceNorm {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl LayerNorm {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl GroupNorm {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl RmsNorm {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Lrn {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl LpNorm {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Softmax {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl LogSoftmax {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Hardmax {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
// STUB-END
