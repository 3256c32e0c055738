//! What training makes small, written as operators on the model's results.

use optc_ir::op::{LogSoftmax, OneHot, Unary};
use optc_ir::{DType, Data, Op, Tensor, TensorType, ValueId};

use super::emit::Emit;
use super::error::TrainError;

/// How far a result of a model is from what it should be.
///
/// Scores have their classes along axis 1. If a result is a softmax, the scores are what it is taken of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// The mean over samples of `−Σ t·log softmax(z)`, t being 1 at the label. With smoothing ε, `1 − ε` of t
    /// stays there and ε is spread evenly over all classes (Szegedy et al. 2016, section 7). Target: labels,
    /// i64, the shape of the scores without axis 1.
    CrossEntropy {
        /// ε
        smoothing: f32,
    },
    /// The mean over all elements of (y − t)². Target: a tensor of the result's type.
    SquaredError,
    /// The mean over all scores of max(0, 1 − t·z)², t being 1 at the label and −1 elsewhere: the L2-SVM (Tang
    /// 2013; Courbariaux et al. 2015, section 3). Target: labels as above.
    SquareHinge,
    /// The mean over samples of `T²·Σ p·(log p − log q)`, p and q the softmax of the teacher's and of the model's
    /// scores divided by T (Hinton et al. 2015, section 2.1). No target; needs a teacher.
    Distill {
        /// T
        temperature: f32,
    },
}

/// One term of what is made small.
#[derive(Clone, Debug, PartialEq)]
pub struct LossTerm {
    /// The loss.
    pub loss: Loss,
    /// What it is multiplied by in the sum.
    pub weight: f32,
    /// The name of the result it is taken of; none given means the first.
    pub output: Option<String>,
}

impl LossTerm {
    /// A loss on the first result, of weight 1.
    pub fn of(loss: Loss) -> LossTerm {
        LossTerm { loss, weight: 1.0, output: None }
    }
}

/// What a loss compares with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    /// Labels of this type.
    Labels(TensorType),
    /// A tensor of this type.
    Values(TensorType),
    /// The result of the teacher at the same place.
    Teacher,
}

impl Loss {
    /// What a loss of `result` compares with.
    pub(super) fn wants(&self, e: &Emit<'_>, result: ValueId) -> Result<Wanted, TrainError> {
        let shape = e.shape(result)?;
        match self {
            Loss::SquaredError => Ok(Wanted::Values(TensorType::new(e.dtype(result)?, shape))),
            Loss::Distill { .. } => Ok(Wanted::Teacher),
            Loss::CrossEntropy { .. } | Loss::SquareHinge => {
                if shape.len() < 2 {
                    return Err(e.unsupported("its result has no axis 1 for classes"));
                }
                let labels = shape.iter().enumerate().filter(|(i, _)| *i != 1).map(|(_, &n)| n);
                Ok(Wanted::Labels(TensorType::new(DType::I64, labels)))
            }
        }
    }

    /// The loss of `result` against `target`, as a scalar.
    pub(super) fn emit(&self, e: &mut Emit<'_>, result: ValueId, target: ValueId) -> Result<ValueId, TrainError> {
        match *self {
            Loss::SquaredError => {
                let difference = e.sub(result, target)?;
                let square = e.square(difference)?;
                mean_all(e, square)
            }
            Loss::CrossEntropy { smoothing } => {
                let scores = scores(e, result);
                let classes = e.shape(scores)?[1] as f64;
                let spread = f64::from(smoothing) / classes;
                let wanted = one_hot(e, scores, target, spread, 1.0 - f64::from(smoothing) + spread)?;
                let log = e.op(LogSoftmax { axis: 1, flatten: false }, &[scores])?;
                let product = e.mul(wanted, log)?;
                let sum = e.sum_all(product)?;
                let samples: usize = e.shape(target)?.iter().product();
                e.scale(sum, -1.0 / samples.max(1) as f64)
            }
            Loss::SquareHinge => {
                let scores = scores(e, result);
                let sign = one_hot(e, scores, target, -1.0, 1.0)?;
                let margin = e.mul(sign, scores)?;
                let negative = e.unary(Unary::Neg, margin)?;
                let short = e.shift(negative, 1.0)?;
                let short = e.unary(Unary::Relu, short)?;
                let square = e.square(short)?;
                mean_all(e, square)
            }
            Loss::Distill { temperature } => {
                let softened = |e: &mut Emit<'_>, result: ValueId| {
                    let scores = scores(e, result);
                    let scaled = e.scale(scores, 1.0 / f64::from(temperature))?;
                    e.op(LogSoftmax { axis: 1, flatten: false }, &[scaled])
                };
                let (log_q, log_p) = (softened(e, result)?, softened(e, target)?);
                let p = e.unary(Unary::Exp, log_p)?;
                let difference = e.sub(log_p, log_q)?;
                let product = e.mul(p, difference)?;
                let sum = e.sum_all(product)?;
                let shape = e.shape(log_q)?;
                let samples = shape.iter().product::<usize>() / shape[1].max(1);
                e.scale(sum, f64::from(temperature).powi(2) / samples.max(1) as f64)
            }
        }
    }
}

fn mean_all(e: &mut Emit<'_>, x: ValueId) -> Result<ValueId, TrainError> {
    let count: usize = e.shape(x)?.iter().product();
    let sum = e.sum_all(x)?;
    e.scale(sum, 1.0 / count.max(1) as f64)
}

/// What a softmax over classes is taken of; the value itself if it is none.
fn scores(e: &Emit<'_>, result: ValueId) -> ValueId {
    let (axis, flatten) = match e.graph.op(result.node) {
        Op::Softmax(a) => (a.axis, a.flatten),
        Op::LogSoftmax(a) => (a.axis, a.flatten),
        _ => return result,
    };
    let rank = e.graph.ty(result).shape().map_or(0, <[_]>::len);
    let over_classes = optc_ir::op::infer::resolve_axis(axis, rank).is_ok_and(|axis| axis == 1);
    match e.graph.operand(result.node, 0) {
        Some(x) if over_classes && (!flatten || rank == 2) => x,
        _ => result,
    }
}

/// `on` at the labels and `off` elsewhere, in the type of the scores.
fn one_hot(e: &mut Emit<'_>, scores: ValueId, labels: ValueId, off: f64, on: f64) -> Result<ValueId, TrainError> {
    let (dtype, classes) = (e.dtype(scores)?, e.shape(scores)?[1]);
    let depth = e.constant("classes", Tensor::i64([], [i64::try_from(classes).unwrap_or(i64::MAX)]));
    let values = e.constant("off_on", Tensor::new([2], Data::from_f64(dtype, [off, on])));
    e.op(OneHot { axis: 1 }, &[labels, depth, values])
}
