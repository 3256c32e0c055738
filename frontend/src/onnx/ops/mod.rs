//! The operator table: each family's file translates in both directions.
//!
//! Import refuses, with a reason, whatever the IR can't say; such a node is carried unchanged. Export
//! writes the form of the model's opset, several nodes where that opset lacks the operator.

mod codes;
mod contrib;
mod conv;
mod elementwise;
mod index;
mod layout;
mod linear;
mod norm;
mod pool;
mod quant;
mod quant_old;
mod reduce;
mod resize;
mod rnn;

use optc_ir::Op;

use super::attrs::Refusal;
use super::error::ExportError;
use super::source::{Mapped, Source};
use super::target::Target;

/// The domain of onnxruntime's own operators.
pub(super) const CONTRIB: &str = "com.microsoft";

/// Translates a node of the standard domain, or of [`CONTRIB`].
///
/// # Errors
/// The reason why the IR can't say it.
pub(super) fn import(s: Source<'_>) -> Result<Mapped, Refusal> {
    if s.domain == CONTRIB {
        return contrib::import(s);
    }
    let moved = codes::Moved::of(&s);
    let mapped = standard(s)?;
    Ok(match moved {
        Some(moved) => moved.on_numbers(mapped),
        None => mapped,
    })
}

fn standard(s: Source<'_>) -> Result<Mapped, Refusal> {
    match s.op_type {
        "Conv" | "ConvTranspose" | "ConvInteger" | "QLinearConv" => conv::import(s),
        "MatMul" | "Gemm" | "Einsum" => linear::import(s),
        "BatchNormalization"
        | "InstanceNormalization"
        | "LayerNormalization"
        | "GroupNormalization"
        | "RMSNormalization"
        | "LRN"
        | "LpNormalization"
        | "Softmax"
        | "LogSoftmax"
        | "Hardmax" => norm::import(s),
        "MaxPool" | "AveragePool" | "LpPool" | "GlobalAveragePool" | "GlobalMaxPool" => pool::import(s),
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2"
        | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceSumSquare" | "ArgMax" | "ArgMin" | "TopK" | "CumSum" => {
            reduce::import(s)
        }
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Concat" | "Split" | "Slice" | "Pad"
        | "Expand" | "Tile" | "DepthToSpace" | "SpaceToDepth" => layout::import(s),
        "Gather" | "GatherElements" | "GatherND" | "Scatter" | "ScatterElements" | "ScatterND" | "Shape" | "Size"
        | "ConstantOfShape" | "Range" | "OneHot" | "NonZero" | "Trilu" => index::import(s),
        "Resize" | "Upsample" => resize::import(s),
        "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" | "QLinearMatMul" | "MatMulInteger" => {
            quant::import(s)
        }
        "RNN" | "GRU" | "LSTM" => rnn::import(s),
        _ => elementwise::import(s),
    }
}

/// Writes a node in the form of the target's opset.
///
/// # Errors
/// If that opset can't say it.
pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    match op {
        Op::Input(_) | Op::Const(_) | Op::ConstHash(_) | Op::Return(_) | Op::Opaque(_) => {
            Err(t.inexpressible("not an operator"))
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
        | Op::IsInf(_)
        | Op::Clip(_)
        | Op::Cast(_)
        | Op::Where(_)
        | Op::Mod(_)
        | Op::BitShift(_) => elementwise::export(op, t),
        Op::Conv(_) | Op::ConvTranspose(_) | Op::QLinearConv(_) | Op::ConvInteger(_) => conv::export(op, t),
        Op::MatMul(_) | Op::Gemm(_) | Op::Linear(_) | Op::Einsum(_) => linear::export(op, t),
        Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_) => rnn::export(op, t),
        Op::BatchNorm(_)
        | Op::InstanceNorm(_)
        | Op::LayerNorm(_)
        | Op::GroupNorm(_)
        | Op::RmsNorm(_)
        | Op::Lrn(_)
        | Op::LpNorm(_)
        | Op::Softmax(_)
        | Op::LogSoftmax(_)
        | Op::Hardmax(_) => norm::export(op, t),
        Op::MaxPool(_) | Op::AveragePool(_) | Op::LpPool(_) | Op::GlobalAveragePool(_) | Op::GlobalMaxPool(_) => {
            pool::export(op, t)
        }
        Op::Reduce(_) | Op::ArgMax(_) | Op::ArgMin(_) | Op::TopK(_) | Op::CumSum(_) => reduce::export(op, t),
        Op::Reshape(_)
        | Op::Flatten(_)
        | Op::Squeeze(_)
        | Op::Unsqueeze(_)
        | Op::Transpose(_)
        | Op::Concat(_)
        | Op::Split(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Expand(_)
        | Op::Tile(_)
        | Op::DepthToSpace(_)
        | Op::SpaceToDepth(_) => layout::export(op, t),
        Op::Gather(_)
        | Op::GatherElements(_)
        | Op::GatherNd(_)
        | Op::ScatterElements(_)
        | Op::ScatterNd(_)
        | Op::ShapeOf(_)
        | Op::Size(_)
        | Op::ConstantOfShape(_)
        | Op::Range(_)
        | Op::OneHot(_)
        | Op::NonZero(_)
        | Op::Trilu(_) => index::export(op, t),
        Op::Resize(_) => resize::export(op, t),
        Op::QuantizeLinear(_)
        | Op::DequantizeLinear(_)
        | Op::DynamicQuantizeLinear(_)
        | Op::QLinearMatMul(_)
        | Op::MatMulInteger(_) => quant::export(op, t),
        Op::ConvWeightGrad(_) | Op::MaxPoolGrad(_) | Op::BatchNormTrain(_) | Op::BatchNormGrad(_) | Op::ActGrad(_) => {
            Err(t.inexpressible("an operator of training graphs, which ONNX has not"))
        }
    }
}
