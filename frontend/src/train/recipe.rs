//! What a recipe says: the data, and stages one after the other.
//!
//! Keys are in kebab case, as the options of passes are. Every key that is left out has the default
//! documented here.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The name of the file, without its suffix.
    pub name: String,
    /// What it is for, in a line.
    pub about: String,
    /// The architecture it is for, if no model is given.
    pub model: Option<String>,
    /// Where everything random starts from, unless the command line says otherwise.
    pub seed: u64,
    /// How data becomes samples.
    pub data: DataSpec,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// How data becomes samples.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DataSpec {
    /// Factor on raw data.
    pub scale: Fraction,
    /// Subtracted from scaled data: one number, or one a channel.
    pub mean: Vec<f64>,
    /// Divided by: one number, or one a channel.
    pub std: Vec<f64>,
    /// The share of samples to test on where the data has no part for it.
    pub holdout: f64,
}

impl Default for DataSpec {
    fn default() -> DataSpec {
        DataSpec { scale: Fraction(1.0), mean: vec![0.0], std: vec![1.0], holdout: 0.1 }
    }
}

/// A number, or a text such as `1/255`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub struct Fraction(pub f64);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number, or a fraction such as \"1/255\"")]
enum NumberOrText {
    Number(f64),
    Text(String),
}

impl TryFrom<NumberOrText> for Fraction {
    type Error = String;

    fn try_from(value: NumberOrText) -> Result<Fraction, String> {
        match value {
            NumberOrText::Number(x) => Ok(Fraction(x)),
            NumberOrText::Text(text) => text.parse().map(|crate::cli::args::Number(x)| Fraction(x)),
        }
    }
}

/// A stage of a recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// The name: that of the recipe's `name` key, or what it does.
    pub name: String,
    /// The line of the recipe it begins at.
    pub line: usize,
    /// What it does.
    pub work: Work,
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// `train`: trains all weights. `retrain`: trains the weights that are not zero. `fine-tune`: trains the
    /// values that weights share.
    Train(Constraint, Training),
    /// `prune`: makes weights zero, little by little while training or all at once, and trains what is left.
    Prune(Prune, Training),
    /// `cluster`: makes the weights of each layer share few values.
    Cluster(Cluster),
    /// `filter-prune`: removes channels.
    FilterPrune(FilterPrune),
    /// `passes`: runs a pipeline.
    Passes(String),
    /// `evaluate`: measures, and fails if the error is above a limit.
    Evaluate(Evaluate),
}

/// What training keeps as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// Nothing.
    None,
    /// Zeros stay zeros.
    Zeros,
    /// Zeros stay zeros, and weights of a layer that are equal stay equal.
    Clusters,
}

/// How weights are trained.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Training {
    /// Times all samples are gone over.
    pub epochs: usize,
    /// Samples a step.
    pub batch: usize,
    /// How a gradient becomes a step.
    pub optimizer: Optimizer,
    /// The learning rate; the schedule scales it.
    pub lr: f64,
    /// Of momentum and Nesterov: how much of the last step goes on.
    pub momentum: f64,
    /// How the learning rate changes.
    pub schedule: LrSchedule,
    /// What is left of the learning rate at the end of a linear or cosine schedule.
    pub lr_end: f64,
    /// Epochs between two falls of a step schedule.
    pub lr_every: usize,
    /// What a step schedule multiplies by.
    pub lr_decay: f64,
    /// Epochs over which the learning rate rises from zero.
    pub warmup: f64,
    /// What is minimised.
    pub loss: Loss,
    /// The share of a label that is spread over all classes.
    pub smoothing: f64,
    /// The share of the loss that is the distance from the scores of the model the run began with (Hinton et al.
    /// 2015).
    pub distill: f64,
    /// What scores are divided by to distill them.
    pub temperature: f64,
    /// The factor of Σ|w|.
    pub l1: f64,
    /// The factor of Σw²/2.
    pub l2: f64,
    /// The share of inputs of each of these layers that is dropped.
    pub dropout: BTreeMap<String, f64>,
    /// Whether the share shrinks with the layer: `D·√(C_now / C_at_first)` (Han et al. 2015, section 3.2), C being
    /// weights that are not zero; at the beginning of a stage.
    pub adjust_dropout: bool,
    /// Pixels a picture may be shifted by along each axis.
    pub shift: usize,
    /// Whether pictures are mirrored half of the time.
    pub flip: bool,
}

impl Default for Training {
    fn default() -> Training {
        Training {
            epochs: 10,
            batch: 128,
            optimizer: Optimizer::Adam,
            lr: 1e-3,
            momentum: 0.9,
            schedule: LrSchedule::Cosine,
            lr_end: 0.01,
            lr_every: 10,
            lr_decay: 0.1,
            warmup: 0.0,
            loss: Loss::CrossEntropy,
            smoothing: 0.0,
            distill: 0.0,
            temperature: 4.0,
            l1: 0.0,
            l2: 0.0,
            dropout: BTreeMap::new(),
            adjust_dropout: true,
            shift: 0,
            flip: false,
        }
    }
}

/// How a gradient becomes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Gradient descent.
    Sgd,
    /// With momentum.
    Momentum,
    /// With Nesterov's momentum.
    Nesterov,
    /// Adam (Kingma and Ba 2015).
    Adam,
    /// Adam with decay apart from the gradient (Loshchilov and Hutter 2019).
    #[serde(rename = "adamw")]
    AdamW,
}

/// How the learning rate changes over a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LrSchedule {
    /// Not at all.
    Constant,
    /// In a straight line.
    Linear,
    /// As half a cosine.
    Cosine,
    /// By a factor after some epochs.
    Step,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// −log softmax of the right class.
    CrossEntropy,
    /// `max(0, 1 − t·y)²`, t = ±1 (Courbariaux et al. 2015).
    SquareHinge,
}

/// A number for all layers, or one for each of some.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a number, or a table of layers and numbers")]
pub enum PerLayer<T> {
    /// For all.
    All(T),
    /// For these; others are left alone.
    Each(BTreeMap<String, T>),
}

/// How many weights become zero, and when.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Prune {
    /// The share of weights that are zero in the end.
    pub sparsity: Option<PerLayer<f64>>,
    /// Instead: weights of magnitude below `q` standard deviations of their layer.
    pub q: Option<PerLayer<f64>>,
    /// What a share is of.
    pub scope: Scope,
    /// How the share grows.
    pub ramp: Ramp,
    /// The share of the epochs over which it grows; what is left is retraining.
    pub over: f64,
    /// Times an epoch at which weights become zero.
    pub rate: usize,
}

impl Default for Prune {
    fn default() -> Prune {
        Prune { sparsity: None, q: None, scope: Scope::Layer, ramp: Ramp::Cubic, over: 0.7, rate: 2 }
    }
}

/// What a share of weights is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Each layer.
    Layer,
    /// All layers together.
    Global,
}

/// How sparsity grows from that of the model to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ramp {
    /// At once.
    OneShot,
    /// In a straight line.
    Linear,
    /// `s − s·(1 − t)³`, fast at first (Zhu and Gupta 2017).
    Cubic,
}

/// How many values the weights of a layer share.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Cluster {
    /// Values a layer, zero among them.
    pub k: Option<PerLayer<usize>>,
    /// The same as its logarithm.
    pub bits: Option<PerLayer<usize>>,
    /// First centres: linear, density, random, or exact for the optimum.
    pub init: Option<String>,
    /// Whether biases share values, each vector its own, and weights stay as they are.
    pub only_biases: bool,
}

/// Which channels are removed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FilterPrune {
    /// The share of channels removed, of each layer.
    pub ratio: Option<PerLayer<f64>>,
    /// l1, l2, geometric-median, bn-scale or random.
    pub criterion: Option<String>,
    /// Whether weights of channels removed before are left out of the sums.
    pub greedy: bool,
}

/// A measurement.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Evaluate {
    /// The largest test error that is no failure, in percent.
    pub max_error: Option<f64>,
}
