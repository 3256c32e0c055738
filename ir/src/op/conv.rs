//! Convolutions.

use super::attr::{Attr, AttrValue, attrs, words};
use super::expect;
use super::infer::Args;
use super::window::Window;
use crate::error::TypeError;
use crate::types::{Dim, TensorType};

words! {
    /// How borders are padded when not by explicit numbers.
    pub enum AutoPad {
        /// By the `pads` attribute.
        Explicit = "explicit",
        /// So that output = ⌈input / stride⌉; the odd element goes to the end, and nothing is cut where the
        /// window is shorter than its step.
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

/// What decides the shape of a convolution, whatever its elements are.
#[derive(Clone, Copy, Debug)]
pub struct Convolution<'a> {
    /// Step of the window along each spatial axis; empty means ones.
    pub strides: &'a [usize],
    /// Border added: all beginnings, then all ends; empty means zeros.
    pub pads: &'a [usize],
    /// Distance of neighbouring kernel elements; empty means ones.
    pub dilations: &'a [usize],
    /// Channels are split into this many independent groups.
    pub group: usize,
    /// Takes the place of `pads` unless `explicit`.
    pub auto_pad: AutoPad,
}

impl<'a> Convolution<'a> {
    /// The shape of the result for operand `x` (`[N, C, spatial…]`) and kernel `w`
    /// (`[O, C/group, kernel…]`).
    ///
    /// # Errors
    /// If the attributes do not fit these shapes.
    pub fn out_shape(&self, x: &[Dim], w: &[Dim]) -> Result<Vec<Dim>, TypeError> {
        check_ranks(x, w)?;
        check_group(self.group)?;
        let channels = w[1].fixed().map_or(Dim::Any, |c| c.checked_mul(self.group).map_or(Dim::Any, Dim::Fixed));
        if x[1].differs(&channels) || !divides(self.group, &x[1]) {
            let (c, per_group, group) = (&x[1], &w[1], self.group);
            let message = format!("{c} channels do not fit {group} groups and a kernel of {per_group} channels");
            return Err(TypeError::Shapes(message));
        }
        if !divides(self.group, &w[0]) {
            let message = format!("{} result channels do not fit {} groups", w[0], self.group);
            return Err(TypeError::Shapes(message));
        }
        let spatial = self.window(w[2..].iter().cloned()).out_shape(&x[2..])?;
        Ok([x[0].clone(), w[0].clone()].into_iter().chain(spatial).collect())
    }

    /// The window of the kernel with these spatial extents.
    pub fn window(&self, kernel: impl IntoIterator<Item = impl Into<Dim>>) -> Window<'a> {
        Window {
            kernel: kernel.into_iter().map(Into::into).collect(),
            strides: self.strides,
            pads: self.pads,
            dilations: self.dilations,
            auto_pad: self.auto_pad,
            ceil: false,
        }
    }
}

fn check_ranks(x: &[Dim], w: &[Dim]) -> Result<(), TypeError> {
    if x.len() >= 3 && w.len() == x.len() {
        return Ok(());
    }
    let (x, w) = (x.len(), w.len());
    Err(TypeError::Shapes(format!("x of {x} axes and w of {w}, expected as many, at least 3")))
}

fn check_group(group: usize) -> Result<(), TypeError> {
    if group > 0 { Ok(()) } else { Err(TypeError::Attribute("group is 0".into())) }
}

fn divides(group: usize, channels: &Dim) -> bool {
    channels.fixed().is_none_or(|c| c % group == 0)
}

impl Conv {
    /// The attributes that decide the shape.
    pub fn convolution(&self) -> Convolution<'_> {
        Convolution {
            strides: &self.strides,
            pads: &self.pads,
            dilations: &self.dilations,
            group: self.group,
            auto_pad: self.auto_pad,
        }
    }

    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        let w = expect::typed(args, 1, x.dtype)?;
        let mut shape = self.convolution().out_shape(&x.shape, &w.shape)?;
        expect::shaped(args, 2, x.dtype, &shape[1..2])?;
        if let Some(b) = args.get_ty(2) {
            shape[1] = shape[1].meet(&b.shape[0]);
        }
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
}

impl ConvTranspose {
    /// The window of the kernel with these spatial extents; its `transposed_axes` place it.
    pub fn window(&self, kernel: impl IntoIterator<Item = impl Into<Dim>>) -> Window<'_> {
        Window {
            kernel: kernel.into_iter().map(Into::into).collect(),
            strides: &self.strides,
            pads: &self.pads,
            dilations: &self.dilations,
            auto_pad: self.auto_pad,
            ceil: false,
        }
    }

    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        let w = expect::typed(args, 1, x.dtype)?;
        check_ranks(&x.shape, &w.shape)?;
        check_group(self.group)?;
        let channels = x.shape[1].meet(&w.shape[0]);
        if x.shape[1].differs(&w.shape[0]) || !divides(self.group, &channels) {
            let (c, k, group) = (&x.shape[1], &w.shape[0], self.group);
            let message = format!("{c} channels do not fit {group} groups and a kernel of {k} channels");
            return Err(TypeError::Shapes(message));
        }
        let out = match w.shape[1].fixed() {
            Some(o) => o
                .checked_mul(self.group)
                .map(Dim::Fixed)
                .ok_or_else(|| TypeError::Attribute(format!("{} groups of {o} channels are too many", self.group)))?,
            None if self.group == 1 => w.shape[1].clone(),
            None => Dim::Any,
        };
        expect::shaped(args, 2, x.dtype, std::slice::from_ref(&out))?;
        let out = args.get_ty(2).map_or(out.clone(), |b| out.meet(&b.shape[0]));
        let window = self.window(w.shape[2..].iter().cloned());
        let spatial = window.transposed_shape(&x.shape[2..], &self.output_padding, &self.output_shape)?;
        let shape = [x.shape[0].clone(), out].into_iter().chain(spatial).collect();
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{infer_op, shapes};
    use super::*;
    use crate::op::Op;

    #[test]
    fn conv_keeps_symbols_the_window_keeps() {
        let conv = Conv { pads: vec![1; 4], ..Conv::default() };
        assert_eq!(shapes(&conv.clone().into(), &["f32[n, 3, h, 7]", "f32[16, 3, 3, 3]"]), ["f32[n, 16, h, 7]"]);
        let strided = Conv { strides: vec![2, 2], ..conv };
        assert_eq!(shapes(&strided.into(), &["f32[n, 3, h, 7]", "f32[16, 3, 3, 3]"]), ["f32[n, 16, ?, 4]"]);
    }

    #[test]
    fn conv_takes_any_number_of_spatial_axes_and_unknown_channels() {
        let conv = Op::from(Conv::default());
        assert_eq!(shapes(&conv, &["f16[1, ?, 5]", "f16[?, 2, 3]", "f16[4]"]), ["f16[1, 4, 3]"]);
        assert_eq!(shapes(&conv, &["f64[1, 2, 5, 5, 5]", "f64[4, 2, 1, 3, 5]"]), ["f64[1, 4, 5, 3, 1]"]);
        assert!(infer_op(&conv, &["f32[1, 2]", "f32[4, 2]"]).is_err());
        assert!(infer_op(&conv, &["i32[1, 2, 5]", "i32[4, 2, 3]"]).is_err());
    }

    #[test]
    fn contradictions_are_errors() {
        let grouped = |group: usize| Op::from(Conv { group, ..Conv::default() });
        assert_eq!(shapes(&grouped(2), &["f32[1, 4, 5]", "f32[6, 2, 1]"]), ["f32[1, 6, 5]"]);
        for (group, x, w) in [
            (0, "f32[1, 4, 5]", "f32[6, 2, 1]"),
            (1, "f32[1, 4, 5]", "f32[6, 2, 1]"),
            (4, "f32[1, 4, 5]", "f32[6, 1, 1]"),
            (usize::MAX, "f32[1, 4, 5]", "f32[6, 2, 1]"),
            (1, "f32[1, 4, 5]", "f32[6, 4, 6]"),
            (1, "f32[1, 4, 5]", "f64[6, 4, 1]"),
            (1, "f32[1, 4, 5]", "f32[6, 4, 1, 1]"),
        ] {
            assert!(infer_op(&grouped(group), &[x, w]).is_err(), "{group} {x} {w}");
        }
        assert!(infer_op(&grouped(1), &["f32[1, 4, 5]", "f32[6, 4, 1]", "f32[5]"]).is_err());
    }

    #[test]
    fn transposed_convolution_multiplies_its_groups() {
        let conv = ConvTranspose { strides: vec![2], group: 2, ..ConvTranspose::default() };
        assert_eq!(shapes(&conv.clone().into(), &["f32[n, 4, 5]", "f32[4, 3, 2]"]), ["f32[n, 6, 10]"]);
        assert_eq!(shapes(&conv.clone().into(), &["f32[n, 4, l]", "f32[4, 3, 2]"]), ["f32[n, 6, ?]"]);
        for group in [0, 3, usize::MAX] {
            let conv = Op::from(ConvTranspose { group, ..conv.clone() });
            assert!(infer_op(&conv, &["f32[1, 4, 5]", "f32[4, 3, 2]"]).is_err(), "{group}");
        }
    }
}
