//! What to train, towards what, and how.

use optc_ir::Graph;

use super::loss::{Loss, LossTerm};
use super::optimizer::Optimizer;
use super::regularize::{GroupLasso, Regularizer};
use super::schedule::Schedule;
use crate::selector::{Selection, Selector};

/// How to train a model.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Samples a step.
    pub batch: usize,
    /// Where everything random starts from.
    pub seed: u64,
    /// What is made small: the weighted sum of these.
    pub losses: Vec<LossTerm>,
    /// The model that a [`Loss::Distill`] term learns from, with the inputs of the trained one.
    pub teacher: Option<Graph>,
    /// How gradients become updates.
    pub optimizer: Optimizer,
    /// The learning rate of each step.
    pub schedule: Schedule,
    /// Learning rates of parameters selected by name or by their layer, as multiples of the schedule's. The
    /// first selector that matches counts.
    pub rates: Vec<(Selector, f32)>,
    /// Gradients are scaled down so that the norm of all of them together is at most this (Pascanu et al. 2013).
    pub clip_norm: Option<f32>,
    /// λ of λ/2·Σw². Decoupled from the gradient with [`Optimizer::AdamW`].
    pub weight_decay: Option<Regularizer>,
    /// λ of λ·Σ|w|.
    pub l1: Option<Regularizer>,
    /// λ·Σ‖w_g‖₂ over groups of weights.
    pub group_lasso: Vec<GroupLasso>,
    /// Where inputs of layers are dropped at random.
    pub dropout: Vec<DropoutRule>,
    /// What retraining leaves as it is.
    pub keep: Keep,
    /// Which statistics batch normalisations use.
    pub batch_norm: BatchNormMode,
    /// What running statistics keep of their former value at each step.
    pub momentum: f32,
    /// Which parameters are trained, by name or by their layer; all by default.
    pub parameters: Selection,
    /// What symbols of the model other than the batch stand for while it is trained.
    pub bind: Vec<(String, usize)>,
}

impl Default for TrainOptions {
    /// Cross-entropy on the first result, stochastic gradient descent with momentum at a constant rate of 0.01,
    /// batches of 64, nothing else.
    fn default() -> TrainOptions {
        TrainOptions {
            batch: 64,
            seed: 0,
            losses: vec![LossTerm::of(Loss::CrossEntropy { smoothing: 0.0 })],
            teacher: None,
            optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: false },
            schedule: Schedule::constant(0.01),
            rates: Vec::new(),
            clip_norm: None,
            weight_decay: None,
            l1: None,
            group_lasso: Vec::new(),
            dropout: Vec::new(),
            keep: Keep::default(),
            batch_norm: BatchNormMode::Train,
            momentum: 0.9,
            parameters: Selection::default(),
            bind: Vec::new(),
        }
    }
}

/// What retraining leaves as it is; read off the values, since zeros are the mask and equal values are the
/// clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Weights that are zero stay zero.
    pub zeros: bool,
    /// Weights of a layer that are equal stay equal: what is trained are the shared values (Han et al. 2016).
    pub clusters: bool,
}

/// Which statistics batch normalisations use during training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchNormMode {
    /// Those of the batch, and the running ones follow.
    Train,
    /// The running ones, which stay. Scale and bias are still trained.
    Frozen,
}

/// Inputs of layers that are dropped at random (Srivastava et al. 2014).
///
/// A dropout of an imported model, which does nothing at inference, is an `identity` node of its name.
#[derive(Clone, Debug)]
pub struct DropoutRule {
    /// The nodes whose first operand is dropped.
    pub before: Selector,
    /// The probability that an element is dropped; those kept are divided by the probability that they are.
    pub rate: f32,
}
