//! The gradient rule of every operator, a file a family.
//!
//! A rule gets the gradients ȳ of the results of a node, where there are any, and adds to the graph what gives
//! the gradients of those operands that are needed. Where a function has corners, its derivative there is that
//! of one side, which is a subgradient of the convex ones.

mod conv;
mod elementwise;
mod index;
mod layout;
mod linear;
mod norm;
mod pool;
mod reduce;
mod resample;

use optc_ir::{NodeId, Op, ValueId};

use super::emit::Emit;
use super::error::TrainError;

/// One gradient an operand slot, `None` where it is zero or not needed.
type Gradients = Result<Vec<Option<ValueId>>, TrainError>;

/// A node whose rule runs.
struct Cx<'a> {
    node: NodeId,
    /// The gradients of its results.
    of_results: &'a [Option<ValueId>],
    /// Which operands need a gradient.
    needed: &'a [bool],
}

impl Cx<'_> {
    fn needs(&self, slot: usize) -> bool {
        self.needed.get(slot).copied().unwrap_or(false)
    }

    /// The value in an operand slot that the type rule requires.
    fn x(&self, e: &Emit<'_>, slot: usize) -> ValueId {
        e.graph.operand(self.node, slot).expect("the type rule requires this operand")
    }

    /// The first result.
    fn y(&self) -> ValueId {
        self.node.into()
    }
}

/// The gradients of the operands of a node.
///
/// # Errors
/// [`TrainError::Node`] if there is no rule for the case.
pub(super) fn rule(e: &mut Emit<'_>, node: NodeId, of_results: &[Option<ValueId>], needed: &[bool]) -> Gradients {
    let cx = Cx { node, of_results, needed };
    let op = e.graph.op(node).clone();
    // Every rule but those of operators with several results speaks of the first alone.
    let Some(dy) = of_results.first().copied().flatten() else {
        return match &op {
            Op::Split(split) => layout::split(e, &cx, split),
            _ => Err(e.unsupported("only its first result has a gradient")),
        };
    };
    match &op {
        Op::Input(_) | Op::Const(_) | Op::ConstHash(_) | Op::Return(_) => Ok(Vec::new()),
        Op::Opaque(opaque) => {
            Err(e.unsupported(format!("operator {} is not known and has no gradient", opaque.op_type)))
        }
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Variadic(_)
        | Op::LeakyRelu(_)
        | Op::Elu(_)
        | Op::Celu(_)
        | Op::Selu(_)
        | Op::HardSigmoid(_)
        | Op::ThresholdedRelu(_)
        | Op::Shrink(_)
        | Op::Gelu(_)
        | Op::Clip(_)
        | Op::Cast(_)
        | Op::Where(_)
        | Op::Mod(_) => elementwise::rule(e, &op, &cx, dy),
        Op::Conv(_) | Op::ConvTranspose(_) => conv::rule(e, &op, &cx, dy),
        Op::MatMul(_) | Op::Gemm(_) | Op::Linear(_) | Op::Einsum(_) => linear::rule(e, &op, &cx, dy),
        Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_) => unreachable!("recurrent layers are unrolled before"),
        Op::BatchNorm(_)
        | Op::BatchNormTrain(_)
        | Op::InstanceNorm(_)
        | Op::LayerNorm(_)
        | Op::GroupNorm(_)
        | Op::RmsNorm(_)
        | Op::Lrn(_)
        | Op::LpNorm(_)
        | Op::Softmax(_)
        | Op::LogSoftmax(_) => norm::rule(e, &op, &cx, dy),
        Op::MaxPool(_) | Op::AveragePool(_) | Op::LpPool(_) | Op::GlobalAveragePool(_) | Op::GlobalMaxPool(_) => {
            pool::rule(e, &op, &cx, dy)
        }
        Op::Reduce(_) | Op::TopK(_) | Op::CumSum(_) => reduce::rule(e, &op, &cx, dy),
        Op::Split(split) => layout::split(e, &cx, split),
        Op::Reshape(_)
        | Op::Flatten(_)
        | Op::Squeeze(_)
        | Op::Unsqueeze(_)
        | Op::Transpose(_)
        | Op::Concat(_)
        | Op::Expand(_)
        | Op::Tile(_)
        | Op::DepthToSpace(_)
        | Op::SpaceToDepth(_)
        | Op::Trilu(_) => layout::rule(e, &op, &cx, dy),
        Op::Slice(_)
        | Op::Gather(_)
        | Op::GatherElements(_)
        | Op::GatherNd(_)
        | Op::ScatterElements(_)
        | Op::ScatterNd(_) => index::rule(e, &op, &cx, dy),
        Op::Pad(_) | Op::Resize(_) => resample::rule(e, &op, &cx, dy),
        // Constant between jumps, or not numbers at all: the derivative is zero wherever there is one.
        Op::Hardmax(_)
        | Op::IsInf(_)
        | Op::BitShift(_)
        | Op::ArgMax(_)
        | Op::ArgMin(_)
        | Op::ShapeOf(_)
        | Op::Size(_)
        | Op::ConstantOfShape(_)
        | Op::NonZero(_) => Ok(Vec::new()),
        Op::Range(_)
        | Op::OneHot(_)
        | Op::QuantizeLinear(_)
        | Op::DequantizeLinear(_)
        | Op::DynamicQuantizeLinear(_)
        | Op::QLinearConv(_)
        | Op::QLinearMatMul(_)
        | Op::ConvInteger(_)
        | Op::MatMulInteger(_)
        | Op::ConvWeightGrad(_)
        | Op::MaxPoolGrad(_)
        | Op::BatchNormGrad(_)
        | Op::ActGrad(_) => Err(e.unsupported("has no gradient; leave what is before it out of training")),
    }
}
