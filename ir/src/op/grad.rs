//! Operators of training graphs: gradients that no other operator says, and batch normalisation as it is
//! trained. `x` is `[N, C, spatial…]` throughout.
//!
//! The gradient of a value is that of a loss with respect to it, and has its type. Inference graphs hold none of
//! these operators and ONNX knows none of them; most gradients are written with the operators there are (that of
//! a convolution with respect to its input is a `conv_transpose`).

use super::attr::attrs;
use super::conv::{Act, AutoPad, Convolution};
use super::expect;
use super::infer::Args;
use super::window::Window;
use crate::error::TypeError;
use crate::types::{Dim, TensorType};

attrs! {
    /// The gradient of a convolution with respect to its kernel: `dw[o, c, k…] = Σ_n Σ_p dy[n, o, p…]·x[n, c,
    /// p…·stride + k·dilation − pad]`, `x` the operand of the convolution, `dy` the gradient of its result.
    ///
    /// The result is `[O, C/group, kernel…]`.
    pub struct ConvWeightGrad {
        /// Extent of the kernel along each spatial axis.
        kernel: Vec<usize> = vec![],
        /// Step of the window along each spatial axis; empty means ones.
        strides: Vec<usize> = vec![],
        /// Zeros added: all beginnings, then all ends; empty means zeros.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring kernel elements; empty means ones.
        dilations: Vec<usize> = vec![],
        /// Channels are split into this many independent groups.
        group: usize = 1,
    }

    /// The gradient of a maximum over windows: each element of `dy` is added to where in `x` the maximum of its
    /// window is, the first in row-major order if there are several.
    pub struct MaxPoolGrad {
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
    }

    /// Batch normalisation by the statistics of the batch itself (Ioffe and Szegedy 2015): `y = scale·(x − μ)·s +
    /// b` with μ and σ² over all axes but that of channels and `s = 1/√(σ² + eps)`; σ² is the mean square
    /// deviation.
    ///
    /// Results: `y`; the running statistics after this batch, `mean·momentum + μ·(1 − momentum)` and likewise of
    /// `var` and σ², as ONNX's training mode has them; μ; `s`. All operands are of one element type.
    pub struct BatchNormTrain {
        /// Added to the variance.
        eps: f32 = 1e-5,
        /// What the running statistics keep of their former value.
        momentum: f32 = 0.9,
    }

    /// The gradients of `batch_norm_train`: with `x̂ = (x − mean)·inv_std` and M elements a channel, `dbias = Σdy`,
    /// `dscale = Σdy·x̂` and `dx = scale·inv_std·(dy − dbias/M − x̂·dscale/M)`.
    ///
    /// `mean` and `inv_std` are those of the batch. Results: `dx`, `dscale`, `dbias`.
    pub struct BatchNormGrad {}

    /// The gradient of an activation: `dy·act′`.
    ///
    /// `v` is the *result* of the activation where that says what the derivative is ([`Act::grad_by_result`]), and
    /// its operand elsewhere. At the corners of an activation the derivative is that of the flat side.
    pub struct ActGrad {
        /// The activation.
        act: Act = Act::Relu,
    }
}

impl Act {
    /// Whether the derivative follows from the activation's result: of all but hard-swish, SiLU and GELU, whose
    /// results come from two places, and of a leaky ReLU of negative slope, whose result hides the sign.
    pub fn grad_by_result(self) -> bool {
        match self {
            Act::HardSwish | Act::Silu | Act::Gelu => false,
            Act::LeakyRelu { alpha } => alpha >= 0.0,
            Act::None | Act::Relu | Act::Clip { .. } | Act::Sigmoid | Act::Tanh | Act::HardSigmoid { .. } => true,
        }
    }
}

impl ConvWeightGrad {
    /// The attributes that decide how the kernel is placed.
    pub fn convolution(&self) -> Convolution<'_> {
        Convolution {
            strides: &self.strides,
            pads: &self.pads,
            dilations: &self.dilations,
            group: self.group,
            auto_pad: AutoPad::Explicit,
        }
    }

    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        let dy = expect::typed(args, 1, x.dtype)?;
        let (Some(channels), Some(outputs)) = (x.shape.get(1), dy.shape.get(1)) else {
            return Err(TypeError::Shapes(format!("x {x} and dy {dy}, expected at least 3 axes each")));
        };
        let per_group = match channels.fixed() {
            Some(c) => c.checked_div(self.group).map(Dim::Fixed),
            None if self.group == 1 => Some(channels.clone()),
            None => Some(Dim::Any),
        };
        let per_group = per_group.ok_or_else(|| TypeError::Attribute("group is 0".into()))?;
        let kernel = self.kernel.iter().copied().map(Dim::Fixed);
        let w: Vec<Dim> = [outputs.clone(), per_group].into_iter().chain(kernel).collect();
        let y = self.convolution().out_shape(&x.shape, &w)?;
        expect::shaped(args, 1, x.dtype, &y)?;
        Ok(vec![TensorType { dtype: x.dtype, shape: w }])
    }
}

impl MaxPoolGrad {
    /// The window; its `axes` place it on `x`.
    pub fn window(&self) -> Window<'_> {
        Window {
            kernel: self.kernel.iter().copied().map(Dim::Fixed).collect(),
            strides: &self.strides,
            pads: &self.pads,
            dilations: &self.dilations,
            auto_pad: self.auto_pad,
            ceil: self.ceil,
        }
    }

    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        let y = super::pool::pooled(x, &self.window())?;
        expect::typed(args, 1, x.dtype)?;
        expect::shaped(args, 1, x.dtype, &y)?;
        Ok(vec![x.clone()])
    }
}

/// The type of a vector of one element a channel, after a check that the operands from `first` on have it.
fn per_channel(args: &Args<'_>, x: &TensorType, first: usize) -> Result<TensorType, TypeError> {
    let Some(channels) = x.shape.get(1..2) else { return Err(args.expected(0, "at least two axes")) };
    for slot in first..args.len() {
        expect::shaped(args, slot, x.dtype, channels)?;
    }
    Ok(TensorType { dtype: x.dtype, shape: channels.to_vec() })
}

impl BatchNormTrain {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        let vector = per_channel(args, x, 1)?;
        Ok([x.clone()].into_iter().chain(std::iter::repeat_n(vector, 4)).collect())
    }
}

impl BatchNormGrad {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        expect::shaped(args, 1, x.dtype, &x.shape)?;
        let vector = per_channel(args, x, 2)?;
        Ok(vec![x.clone(), vector.clone(), vector])
    }
}

impl ActGrad {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let v = expect::float(args, 0)?;
        expect::shaped(args, 1, v.dtype, &v.shape)?;
        Ok(vec![v.clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{infer_op, shapes};
    use super::*;
    use crate::op::Op;

    #[test]
    fn a_kernel_has_the_channels_of_its_group() {
        let grad = |group: usize| {
            let pads = vec![1; 4];
            Op::from(ConvWeightGrad { kernel: vec![3, 3], strides: vec![2, 2], pads, group, ..Default::default() })
        };
        assert_eq!(shapes(&grad(1), &["f32[n, 4, 8, 7]", "f32[n, 6, 4, 4]"]), ["f32[6, 4, 3, 3]"]);
        assert_eq!(shapes(&grad(2), &["f32[n, 4, 8, 7]", "f32[n, 6, 4, 4]"]), ["f32[6, 2, 3, 3]"]);
        assert_eq!(shapes(&grad(4), &["f64[n, 4, h, w]", "f64[n, 4, ?, ?]"]), ["f64[4, 1, 3, 3]"]);
        for (group, x, dy) in [
            (0, "f32[1, 4, 8, 7]", "f32[1, 6, 4, 4]"),
            (3, "f32[1, 4, 8, 7]", "f32[1, 6, 4, 4]"),
            (1, "f32[1, 4, 8, 7]", "f32[1, 6, 4, 3]"),
            (1, "f32[2, 4, 8, 7]", "f32[1, 6, 4, 4]"),
            (1, "f32[1, 4, 8, 7]", "f64[1, 6, 4, 4]"),
            (1, "f32[1, 4, 8, 7]", "f32[1]"),
            (1, "i32[1, 4, 8, 7]", "i32[1, 6, 4, 4]"),
        ] {
            assert!(infer_op(&grad(group), &[x, dy]).is_err(), "{group} {x} {dy}");
        }
    }

    #[test]
    fn gradients_have_the_type_of_what_they_belong_to() {
        let pool = Op::from(MaxPoolGrad { kernel: vec![2, 2], strides: vec![2, 2], ..MaxPoolGrad::default() });
        assert_eq!(shapes(&pool, &["f32[n, 3, 5, 4]", "f32[n, 3, 2, 2]"]), ["f32[n, 3, 5, 4]"]);
        assert!(infer_op(&pool, &["f32[n, 3, 5, 4]", "f32[n, 3, 3, 2]"]).is_err());
        let act = Op::from(ActGrad { act: Act::Relu });
        assert_eq!(shapes(&act, &["f32[n, 3]", "f32[n, 3]"]), ["f32[n, 3]"]);
        assert!(infer_op(&act, &["f32[n, 3]", "f32[n, 2]"]).is_err());
    }

    #[test]
    fn statistics_have_one_element_a_channel() {
        let x = "f32[n, 4, h]";
        let vectors = ["f32[4]"; 4];
        let operands: Vec<&str> = [x].into_iter().chain(vectors).collect();
        let train = Op::from(BatchNormTrain::default());
        assert_eq!(shapes(&train, &operands), [x, "f32[4]", "f32[4]", "f32[4]", "f32[4]"]);
        assert!(infer_op(&train, &["f32[n, 4, h]", "f32[4]", "f32[4]", "f32[3]", "f32[4]"]).is_err());
        let grad = Op::from(BatchNormGrad {});
        assert_eq!(shapes(&grad, &[x, x, "f32[4]", "f32[4]", "f32[4]"]), [x, "f32[4]", "f32[4]"]);
        assert!(infer_op(&grad, &[x, "f32[n, 5, h]", "f32[4]", "f32[4]", "f32[4]"]).is_err());
    }
}
