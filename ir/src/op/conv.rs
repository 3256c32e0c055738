//! Convolutions.

use super::attr::{Attr, AttrValue, attrs, words};

words! {
    /// How borders are padded when not by explicit numbers.
    pub enum AutoPad {
        /// By the `pads` attribute.
        Explicit = "explicit",
        /// So that output = ⌈input / stride⌉; the odd element goes to the end.
        SameUpper = "same_upper",
        /// As `SameUpper`; the odd element goes to the beginning.
        SameLower = "same_lower",
        /// Not at all.
        Valid = "valid",
    }
}

/// An activation fused into the operator that feeds it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Act {
    /// None.
    #[default]
    None,
    /// max(0, x)
    Relu,
    /// min(max(x, lo), hi)
    Clip {
        /// Lower limit.
        lo: f32,
        /// Upper limit.
        hi: f32,
    },
    /// x where positive, alpha·x elsewhere
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// 1 / (1 + exp(−x))
    Sigmoid,
    /// tanh(x)
    Tanh,
    /// max(0, min(1, alpha·x + beta))
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// x·max(0, min(1, x/6 + 1/2))
    HardSwish,
    /// x·sigmoid(x)
    Silu,
    /// x·Φ(x) with the error function
    Gelu,
}

impl Act {
    fn word(self) -> &'static str {
        match self {
            Act::None => "none",
            Act::Relu => "relu",
            Act::Clip { .. } => "clip",
            Act::LeakyRelu { .. } => "leaky_relu",
            Act::Sigmoid => "sigmoid",
            Act::Tanh => "tanh",
            Act::HardSigmoid { .. } => "hard_sigmoid",
            Act::HardSwish => "hard_swish",
            Act::Silu => "silu",
            Act::Gelu => "gelu",
        }
    }
}

impl Attr for Act {
    const EXPECTS: &'static str = "an activation such as relu or clip(0, 6)";

    fn to_value(&self) -> AttrValue {
        let name = self.word().to_owned();
        match *self {
            Act::Clip { lo, hi } => AttrValue::Call(name, vec![lo.to_value(), hi.to_value()]),
            Act::LeakyRelu { alpha } => AttrValue::Call(name, vec![alpha.to_value()]),
            Act::HardSigmoid { alpha, beta } => AttrValue::Call(name, vec![alpha.to_value(), beta.to_value()]),
            _ => AttrValue::Word(name),
        }
    }

    fn from_value(value: &AttrValue) -> Option<Act> {
        Some(match value {
            AttrValue::Word(word) => match word.as_str() {
                "none" => Act::None,
                "relu" => Act::Relu,
                "sigmoid" => Act::Sigmoid,
                "tanh" => Act::Tanh,
                "hard_swish" => Act::HardSwish,
                "silu" => Act::Silu,
                "gelu" => Act::Gelu,
                _ => return None,
            },
            AttrValue::Call(word, args) => {
                let args: Vec<f32> = args.iter().map(f32::from_value).collect::<Option<_>>()?;
                match (word.as_str(), args.as_slice()) {
                    ("clip", &[lo, hi]) => Act::Clip { lo, hi },
                    ("leaky_relu", &[alpha]) => Act::LeakyRelu { alpha },
                    ("hard_sigmoid", &[alpha, beta]) => Act::HardSigmoid { alpha, beta },
                    _ => return None,
                }
            }
            _ => return None,
        })
    }
}

attrs! {
    /// Convolution: `y[n, o, …] = b[o] + Σ w[o, c, k…]·x[n, c, …·stride + k·dilation − pad]`, then the
    /// activation.
    ///
    /// `x` is `[N, C, spatial…]`, `w` is `[O, C/group, kernel…]`, `b` is `[O]`. Empty lists mean ones
    /// (strides, dilations) or zeros (pads).
    pub struct Conv {
        /// Step of the window along each spatial axis.
        strides: Vec<usize> = vec![],
        /// Zeros added: all beginnings, then all ends.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring kernel elements.
        dilations: Vec<usize> = vec![],
        /// Channels are split into this many independent groups.
        group: usize = 1,
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
        /// Applied to the sum.
        act: Act = Act::None,
    }

    /// Transposed convolution. `x` is `[N, C, spatial…]`, `w` is `[C, O/group, kernel…]`, `b` is `[O]`.
    pub struct ConvTranspose {
        /// Step of the window along each spatial axis of the result.
        strides: Vec<usize> = vec![],
        /// Elements cut from the full result: all beginnings, then all ends.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring kernel elements.
        dilations: Vec<usize> = vec![],
        /// Channels are split into this many independent groups.
        group: usize = 1,
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
        /// Elements added at the end of each spatial axis.
        output_padding: Vec<usize> = vec![],
        /// Spatial extents of the result, if given; pads follow from them.
        output_shape: Vec<usize> = vec![],
        /// Applied to the sum.
        act: Act = Act::None,
    }
}

// STUB-BEGIN
use super::infer::Args;
use crate::error::TypeError;
use crate::types::TensorType;
impl Conv {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl ConvTranspose {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
// STUB-END
