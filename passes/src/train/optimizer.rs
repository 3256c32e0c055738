//! How gradients become updates: the rules of the optimizers, written as operators.
//!
//! g is the gradient of a parameter w, η the learning rate, t the number of the step from 1. State is of the
//! type of w and starts at zero.

use optc_ir::ValueId;
use optc_ir::op::Unary;

use super::emit::Emit;
use super::error::TrainError;

/// The rule by which parameters follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Stochastic gradient descent: `v ← μ·v + g`, `w ← w − η·v` (Polyak 1964); with Nesterov's look ahead
    /// `w ← w − η·(g + μ·v)` (Sutskever et al. 2013, in the form of Bengio et al. 2013). Without momentum there
    /// is no state.
    Sgd {
        /// μ
        momentum: f32,
        /// Whether by Nesterov's rule.
        nesterov: bool,
    },
    /// `m ← β₁·m + (1 − β₁)·g`, `v ← β₂·v + (1 − β₂)·g²`, `w ← w − η·m̂/(√v̂ + ε)`, with `m̂ = m/(1 − β₁ᵗ)` and
    /// `v̂ = v/(1 − β₂ᵗ)` (Kingma and Ba 2015, algorithm 1). Weight decay is part of g.
    Adam {
        /// β₁
        beta1: f32,
        /// β₂
        beta2: f32,
        /// ε
        eps: f32,
    },
    /// As Adam, weight decay apart from the gradient: `w ← w − η·(m̂/(√v̂ + ε) + λ·w)` (Loshchilov and Hutter
    /// 2019, algorithm 2).
    AdamW {
        /// β₁
        beta1: f32,
        /// β₂
        beta2: f32,
        /// ε
        eps: f32,
    },
}

/// The scalars of a step that the host computes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalars {
    /// η
    pub(super) rate: ValueId,
    /// `1/(1 − β₁ᵗ)` and `1/(1 − β₂ᵗ)`, where the optimizer needs them.
    pub(super) corrections: Option<[ValueId; 2]>,
}

impl Optimizer {
    /// The names of what it keeps of each parameter.
    pub(super) fn state_names(&self) -> &'static [&'static str] {
        match self {
            Optimizer::Sgd { momentum, .. } if *momentum == 0.0 => &[],
            Optimizer::Sgd { .. } => &["momentum"],
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } => &["mean", "square"],
        }
    }

    /// β₁ and β₂, if it corrects for how its means start.
    pub(super) fn betas(&self) -> Option<[f64; 2]> {
        match *self {
            Optimizer::Sgd { .. } => None,
            Optimizer::Adam { beta1, beta2, .. } | Optimizer::AdamW { beta1, beta2, .. } => {
                Some([beta1.into(), beta2.into()])
            }
        }
    }

    /// Whether weight decay is kept out of the gradient.
    pub(super) fn decouples_decay(&self) -> bool {
        matches!(self, Optimizer::AdamW { .. })
    }

    /// What is taken from the parameter, but for η, and the next state.
    pub(super) fn update(
        &self,
        e: &mut Emit<'_>,
        g: ValueId,
        state: &[ValueId],
        scalars: &Scalars,
    ) -> Result<(ValueId, Vec<ValueId>), TrainError> {
        match (*self, state) {
            (Optimizer::Sgd { momentum, nesterov }, &[v]) => {
                let kept = e.scale(v, momentum.into())?;
                let v = e.add(kept, g)?;
                if !nesterov {
                    return Ok((v, vec![v]));
                }
                let ahead = e.scale(v, momentum.into())?;
                Ok((e.add(g, ahead)?, vec![v]))
            }
            (Optimizer::Adam { beta1, beta2, eps } | Optimizer::AdamW { beta1, beta2, eps }, &[m, v]) => {
                let Some([first, second]) = scalars.corrections else { return Ok((g, state.to_vec())) };
                let square = e.square(g)?;
                let m = average(e, m, g, beta1.into())?;
                let v = average(e, v, square, beta2.into())?;
                let m_hat = e.mul(m, first)?;
                let v_hat = e.mul(v, second)?;
                let root = e.unary(Unary::Sqrt, v_hat)?;
                let root = e.shift(root, eps.into())?;
                Ok((e.div(m_hat, root)?, vec![m, v]))
            }
            _ => Ok((g, Vec::new())),
        }
    }
}

/// `β·old + (1 − β)·new`
fn average(e: &mut Emit<'_>, old: ValueId, new: ValueId, beta: f64) -> Result<ValueId, TrainError> {
    let (old, new) = (e.scale(old, beta)?, e.scale(new, 1.0 - beta)?);
    e.add(old, new)
}
