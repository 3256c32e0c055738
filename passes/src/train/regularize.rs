//! Terms of the loss that speak of weights alone, as gradients or as proximal steps.

use optc_ir::op::{ReduceKind, Unary};
use optc_ir::{Graph, ValueId};

use super::emit::Emit;
use super::error::TrainError;
use super::parameter::{Parameter, ParameterKind};
use crate::selector::Selector;

/// A norm of weights, made small.
#[derive(Clone, Debug)]
pub struct Regularizer {
    /// λ, what the term is multiplied by.
    pub strength: f32,
    /// The parameters it speaks of, by name or by layer; none given means weights, but no biases and no scales
    /// of normalisations.
    pub on: Option<Selector>,
    /// Whether it is applied as a proximal step after the update, which makes exact zeros, instead of as a
    /// subgradient. Of no meaning for weight decay.
    pub proximal: bool,
}

impl Regularizer {
    /// A subgradient on weights.
    pub fn new(strength: f32) -> Regularizer {
        Regularizer { strength, on: None, proximal: false }
    }

    pub(super) fn applies(&self, graph: &Graph, parameter: &Parameter) -> bool {
        match &self.on {
            None => parameter.kind == ParameterKind::Weight,
            Some(selector) => parameter.matches(graph, selector),
        }
    }
}

/// `λ·Σ_g ‖w_g‖₂` over groups of weights, which makes whole groups zero (Yuan and Lin 2006; Wen et al. 2016).
#[derive(Clone, Debug)]
pub struct GroupLasso {
    /// What a group is.
    pub groups: GroupAxes,
    /// λ and where; see [`Regularizer`].
    pub regularizer: Regularizer,
}

/// Which weights form a group, `W[n, c, m, k]` being those of a convolution and `W[n, c]` of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupAxes {
    /// `W[n, …]`: filters, and rows of a linear layer.
    Filters,
    /// `W[:, c, …]`: channels, and columns of a linear layer.
    Channels,
    /// `W[:, c, m, k]`: shape fibres.
    Shapes,
    /// The whole layer.
    Layer,
}

impl GroupAxes {
    /// The axes a group's norm is taken over.
    fn within(self, rank: usize) -> Vec<usize> {
        match self {
            GroupAxes::Filters => (1..rank).collect(),
            GroupAxes::Channels => (0..rank).filter(|&axis| axis != 1).collect(),
            GroupAxes::Shapes => vec![0],
            GroupAxes::Layer => (0..rank).collect(),
        }
    }
}

/// Below this, the norm of a group has no direction to push in.
const LEAST_NORM: f64 = 1e-12;

/// λ·w, the gradient of λ/2·Σw².
pub(super) fn l2_gradient(e: &mut Emit<'_>, w: ValueId, strength: f32) -> Result<ValueId, TrainError> {
    e.scale(w, strength.into())
}

/// λ·sign(w), a subgradient of λ·Σ|w|.
pub(super) fn l1_gradient(e: &mut Emit<'_>, w: ValueId, strength: f32) -> Result<ValueId, TrainError> {
    let sign = e.unary(Unary::Sign, w)?;
    e.scale(sign, strength.into())
}

/// λ·w/‖w_g‖, a subgradient of λ·Σ‖w_g‖₂ (Wen et al. 2016, equation 2).
pub(super) fn group_gradient(e: &mut Emit<'_>, w: ValueId, lasso: &GroupLasso) -> Result<ValueId, TrainError> {
    let norm = group_norm(e, w, lasso.groups)?;
    let scaled = e.scale(w, lasso.regularizer.strength.into())?;
    e.div(scaled, norm)
}

/// `sign(w)·max(0, |w| − η·λ)`, the proximal operator of η·λ·Σ|w| (Parikh and Boyd 2014, section 6.5.2).
pub(super) fn l1_proximal(e: &mut Emit<'_>, w: ValueId, rate: ValueId, strength: f32) -> Result<ValueId, TrainError> {
    let threshold = e.scale(rate, strength.into())?;
    let (size, sign) = (e.unary(Unary::Abs, w)?, e.unary(Unary::Sign, w)?);
    let less = e.sub(size, threshold)?;
    let less = e.unary(Unary::Relu, less)?;
    e.mul(sign, less)
}

/// `w·max(0, 1 − η·λ/‖w_g‖)`, the proximal operator of η·λ·Σ‖w_g‖₂ (Parikh and Boyd 2014, section 6.5.4).
pub(super) fn group_proximal(
    e: &mut Emit<'_>,
    w: ValueId,
    rate: ValueId,
    lasso: &GroupLasso,
) -> Result<ValueId, TrainError> {
    let norm = group_norm(e, w, lasso.groups)?;
    let threshold = e.scale(rate, -f64::from(lasso.regularizer.strength))?;
    let share = e.div(threshold, norm)?;
    let kept = e.shift(share, 1.0)?;
    let kept = e.unary(Unary::Relu, kept)?;
    e.mul(w, kept)
}

fn group_norm(e: &mut Emit<'_>, w: ValueId, groups: GroupAxes) -> Result<ValueId, TrainError> {
    let rank = e.ty(w)?.rank();
    let square = e.reduce(ReduceKind::SumSquare, w, &groups.within(rank), true)?;
    let norm = e.unary(Unary::Sqrt, square)?;
    e.at_least(norm, LEAST_NORM)
}
