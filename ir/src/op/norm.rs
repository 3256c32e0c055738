//! Normalisations and softmax.

use super::attr::attrs;
use super::expect;
use super::infer::{Args, resolve_axis};
use crate::error::TypeError;
use crate::types::{Dim, TensorType};

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

    /// `x / ‖x‖ₚ` along an axis; 0 where the norm is 0.
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

/// The channels of `x` (`[N, C, …]`).
fn channels<'a>(args: &Args<'_>, x: &'a TensorType) -> Result<&'a [Dim], TypeError> {
    x.shape.get(1..2).ok_or_else(|| args.expected(0, "at least two axes"))
}

impl BatchNorm {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        let channels = channels(args, x)?;
        for slot in 1..5 {
            // Parameters may be of another floating-point type than x.
            let dtype = expect::float(args, slot)?.dtype;
            expect::shaped(args, slot, dtype, channels)?;
        }
        Ok(vec![x.clone()])
    }
}

impl InstanceNorm {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        let channels = channels(args, x)?;
        expect::shaped(args, 1, x.dtype, channels)?;
        expect::shaped(args, 2, x.dtype, channels)?;
        Ok(vec![x.clone()])
    }
}

impl LayerNorm {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        resolve_axis(self.axis, x.rank())?;
        expect::broadcasts(args, 1, x.dtype, &x.shape)?;
        expect::broadcasts(args, 2, x.dtype, &x.shape)?;
        Ok(vec![x.clone()])
    }
}

impl GroupNorm {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        let channels = channels(args, x)?;
        if self.groups == 0 || channels[0].fixed().is_some_and(|c| c % self.groups != 0) {
            let message = format!("{} channels do not fit {} groups", channels[0], self.groups);
            return Err(TypeError::Attribute(message));
        }
        let groups = [Dim::Fixed(self.groups)];
        let parameters = if self.per_group { &groups } else { channels };
        expect::shaped(args, 1, x.dtype, parameters)?;
        expect::shaped(args, 2, x.dtype, parameters)?;
        Ok(vec![x.clone()])
    }
}

impl RmsNorm {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        resolve_axis(self.axis, x.rank())?;
        expect::broadcasts(args, 1, x.dtype, &x.shape)?;
        Ok(vec![x.clone()])
    }
}

impl Lrn {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        channels(args, x)?;
        if self.size == 0 {
            return Err(TypeError::Attribute("size is 0".into()));
        }
        Ok(vec![x.clone()])
    }
}

impl LpNorm {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        if !matches!(self.p, 1 | 2) {
            return Err(TypeError::Attribute(format!("p is {}, expected 1 or 2", self.p)));
        }
        infer_along(args, self.axis)
    }
}

impl Softmax {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        infer_along(args, self.axis)
    }
}

impl LogSoftmax {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        infer_along(args, self.axis)
    }
}

impl Hardmax {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        infer_along(args, self.axis)
    }
}

/// The rule of operators along an axis that leave type and shape as they are.
fn infer_along(args: &Args<'_>, axis: i64) -> Result<Vec<TensorType>, TypeError> {
    let x = expect::float(args, 0)?;
    resolve_axis(axis, x.rank())?;
    Ok(vec![x.clone()])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{infer_op, shapes};
    use super::*;
    use crate::op::Op;

    #[test]
    fn parameters_have_one_element_a_channel() {
        let x = "f16[n, 4, h]";
        let batch = ["f32[4]"; 4];
        let operands = |x| [x].into_iter().chain(batch).collect::<Vec<_>>();
        assert_eq!(shapes(&BatchNorm::default().into(), &operands(x)), [x]);
        assert!(infer_op(&BatchNorm::default().into(), &operands("f16[n, 5, h]")).is_err());
        assert!(infer_op(&BatchNorm::default().into(), &operands("f16[4]")).is_err());
        let group = |groups, per_group| Op::from(GroupNorm { groups, per_group, ..GroupNorm::default() });
        assert_eq!(shapes(&group(2, false), &[x, "f16[4]", "f16[4]"]), [x]);
        assert_eq!(shapes(&group(2, true), &[x, "f16[2]", "f16[2]"]), [x]);
        assert!(infer_op(&group(2, true), &[x, "f16[4]", "f16[4]"]).is_err());
        assert!(infer_op(&group(3, false), &[x, "f16[4]", "f16[4]"]).is_err());
        assert!(infer_op(&group(0, false), &[x, "f16[4]", "f16[4]"]).is_err());
        assert!(infer_op(&InstanceNorm::default().into(), &[x, "f32[4]", "f16[4]"]).is_err());
    }

    #[test]
    fn scales_broadcast_and_axes_exist() {
        let x = "f32[n, t, 8]";
        let layer = |axis| Op::from(LayerNorm { axis, ..LayerNorm::default() });
        assert_eq!(shapes(&layer(-1), &[x, "f32[8]", "f32[8]"]), [x]);
        assert_eq!(shapes(&layer(1), &[x, "f32[t, 8]"]), [x]);
        assert!(infer_op(&layer(-4), &[x, "f32[8]"]).is_err());
        assert!(infer_op(&layer(-1), &[x, "f32[7]"]).is_err());
        assert!(infer_op(&layer(-1), &[x, "f32[1, 1, 1, 1]"]).is_err());
        assert!(infer_op(&Softmax { axis: i64::MIN, flatten: false }.into(), &[x]).is_err());
        assert!(infer_op(&Softmax::default().into(), &["f32[]"]).is_err());
        assert!(infer_op(&LpNorm { p: 3, ..LpNorm::default() }.into(), &[x]).is_err());
        assert!(infer_op(&Lrn { size: 0, ..Lrn::default() }.into(), &[x]).is_err());
    }
}
