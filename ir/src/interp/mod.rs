//! The interpreter: the specification of every operator.
//!
//! Loops as in the ONNX text, no unsafe code, sums accumulated in `f64`. It folds constants and judges
//! every other backend. [`eval`] runs the operator's type rule on the actual operands first, so the
//! functions in the family files see only operands that fit.

mod act;
mod conv;
mod einsum;
mod element;
mod elementwise;
mod grad;
mod linear;
mod norm;
mod pool;
mod quant;
mod reduce;
mod rnn;
mod shape;
mod strided;
#[cfg(test)]
mod testing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{EvalError, ExecError};
use crate::exec::{Backend, Executable, StepTime};
use crate::graph::{Graph, NodeId, ValueId};
use crate::op::Op;
use crate::op::infer::{self, MAX_CONTENTS, Operand, SymInt};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Symbol, Type};

/// The most elements a result of one evaluation may have.
pub const MAX_RESULT: usize = 1 << 31;

/// The operands of one evaluation, and the types its results will have.
pub(crate) struct Cx<'a> {
    operands: &'a [Option<&'a Tensor>],
    types: &'a [Type],
}

impl<'a> Cx<'a> {
    /// A required operand; the type rule has seen that it is there.
    fn x(&self, slot: usize) -> &'a Tensor {
        self.get(slot).expect("the type rule requires this operand")
    }

    /// An operand, if present.
    fn get(&self, slot: usize) -> Option<&'a Tensor> {
        self.operands.get(slot).copied().flatten()
    }

    /// All operands that are present.
    fn present(&self) -> impl Iterator<Item = &'a Tensor> + '_ {
        self.operands.iter().copied().flatten()
    }

    /// The extents of a result; an error if they depend on more than the type rule sees.
    fn out_shape(&self, result: usize) -> Result<Vec<usize>, EvalError> {
        let ty = self.types[result].as_tensor();
        ty.and_then(|ty| ty.fixed_shape())
            .ok_or_else(|| EvalError::Unsupported("a result whose shape the operands do not determine".to_owned()))
    }
}

/// Evaluates one operator.
///
/// # Errors
/// If the operands do not fit, an element is out of range, or there is no rule for the case.
pub fn eval(op: &Op, operands: &[Option<&Tensor>]) -> Result<Vec<Tensor>, EvalError> {
    let types: Vec<Option<Type>> = operands.iter().map(|t| t.map(|t| t.ty().into())).collect();
    let contents: Vec<Option<Vec<SymInt>>> = operands.iter().map(|t| t.and_then(small_ints)).collect();
    let described: Vec<Option<Operand<'_>>> = types
        .iter()
        .zip(&contents)
        .map(|(ty, contents)| ty.as_ref().map(|ty| Operand { ty, constant: None, contents: contents.as_deref() }))
        .collect();
    let types = infer::infer(op, &described)?;
    for ty in types.iter().filter_map(Type::as_tensor) {
        check_len(ty.numel().unwrap_or(0))?;
    }
    let cx = Cx { operands, types: &types };
    let results = match op {
        Op::Const(constant) => vec![constant.decode()],
        Op::Input(_) | Op::ConstHash(_) | Op::Return(_) | Op::Opaque(_) => {
            return Err(EvalError::Unsupported(op.name().to_owned()));
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
        | Op::BitShift(_) => elementwise::eval(op, &cx)?,
        Op::Conv(_) | Op::ConvTranspose(_) => conv::eval(op, &cx)?,
        Op::MatMul(_) | Op::Gemm(_) | Op::Linear(_) | Op::Einsum(_) => linear::eval(op, &cx)?,
        Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_) => rnn::eval(op, &cx)?,
        Op::BatchNorm(_)
        | Op::InstanceNorm(_)
        | Op::LayerNorm(_)
        | Op::GroupNorm(_)
        | Op::RmsNorm(_)
        | Op::Lrn(_)
        | Op::LpNorm(_)
        | Op::Softmax(_)
        | Op::LogSoftmax(_)
        | Op::Hardmax(_) => norm::eval(op, &cx)?,
        Op::MaxPool(_) | Op::AveragePool(_) | Op::LpPool(_) | Op::GlobalAveragePool(_) | Op::GlobalMaxPool(_) => {
            pool::eval(op, &cx)?
        }
        Op::Reduce(_) | Op::ArgMax(_) | Op::ArgMin(_) | Op::TopK(_) | Op::CumSum(_) => reduce::eval(op, &cx)?,
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
        | Op::Gather(_)
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
        | Op::Resize(_)
        | Op::DepthToSpace(_)
        | Op::SpaceToDepth(_)
        | Op::Trilu(_) => shape::eval(op, &cx)?,
        Op::QuantizeLinear(_)
        | Op::DequantizeLinear(_)
        | Op::DynamicQuantizeLinear(_)
        | Op::QLinearConv(_)
        | Op::QLinearMatMul(_)
        | Op::ConvInteger(_)
        | Op::MatMulInteger(_) => quant::eval(op, &cx)?,
        Op::ConvWeightGrad(_) | Op::MaxPoolGrad(_) | Op::BatchNormTrain(_) | Op::BatchNormGrad(_) | Op::ActGrad(_) => {
            grad::eval(op, &cx)?
        }
    };
    debug_assert!(results.len() == infer::result_count(op), "{} gave {} results", op.name(), results.len());
    Ok(results)
}

/// Refuses results beyond [`MAX_RESULT`] before they are allocated.
fn check_len(len: usize) -> Result<(), EvalError> {
    if len > MAX_RESULT {
        return Err(EvalError::Value(format!("a result of {len} elements is too large to compute")));
    }
    Ok(())
}

fn small_ints(tensor: &Tensor) -> Option<Vec<SymInt>> {
    if tensor.rank() > 1 || tensor.len() > MAX_CONTENTS {
        return None;
    }
    let unsigned = tensor.dtype() == DType::U64;
    // Unsigned elements beyond i64 come back negative: nothing is known of them.
    let known = |n: i64| if unsigned && n < 0 { SymInt::Any } else { SymInt::Int(n) };
    Some(tensor.data().to_i64()?.into_iter().map(known).collect())
}

/// The interpreter as a backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interp;

impl Backend for Interp {
    fn name(&self) -> &'static str {
        "interp"
    }

    fn compile(&self, graph: &Graph) -> Result<Box<dyn Executable>, ExecError> {
        let order = graph.topo_order();
        for &node in &order {
            if let Op::Opaque(_) | Op::ConstHash(_) = graph.op(node) {
                return Err(unsupported(graph, node));
            }
        }
        let constants = order
            .iter()
            .filter_map(|&node| graph.constant(node).map(|constant| (node, Arc::new(constant.decode()))))
            .collect();
        Ok(Box::new(Walk { graph: graph.clone(), order, constants }))
    }
}

fn unsupported(graph: &Graph, node: NodeId) -> ExecError {
    let (op, why) = match graph.op(node) {
        Op::Opaque(o) => (o.op_type.clone(), "the operator"),
        op => (op.name().to_owned(), "running a constant known only by its hash"),
    };
    ExecError::Node { node: graph.name(node).to_owned(), op, source: EvalError::Unsupported(why.to_owned()) }
}

/// A graph walked node by node, values freed after their last use.
struct Walk {
    graph: Graph,
    order: Vec<NodeId>,
    constants: HashMap<NodeId, Arc<Tensor>>,
}

impl Executable for Walk {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecError> {
        self.walk(inputs, |_, _| ())
    }

    fn profile(&mut self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Vec<StepTime>), ExecError> {
        let mut steps = Vec::new();
        let results = self.walk(inputs, |node, time| {
            let (node, layer) = (node.to_owned(), node.to_owned());
            let kernel = "interp".to_owned();
            steps.push(StepTime { node, layer, kernel, time, macs: 0, bytes: 0, weight_bytes: 0 });
        })?;
        Ok((results, steps))
    }
}

impl Walk {
    fn walk(
        &self,
        inputs: &[Tensor],
        mut timed: impl FnMut(&str, std::time::Duration),
    ) -> Result<Vec<Tensor>, ExecError> {
        check_inputs(&self.graph, inputs)?;
        let graph = &self.graph;
        let mut values: HashMap<ValueId, Arc<Tensor>> = HashMap::new();
        let mut uses_left: HashMap<ValueId, usize> = HashMap::new();
        for &node in &self.order {
            for value in graph.operands(node).into_iter().flatten() {
                *uses_left.entry(value).or_default() += 1;
            }
        }
        for (&node, input) in graph.inputs().iter().zip(inputs) {
            values.insert(node.into(), Arc::new(input.clone()));
        }
        for &node in &self.order {
            let op = graph.op(node);
            let operands = graph.operands(node);
            match op {
                Op::Input(_) | Op::Return(_) => continue,
                Op::Const(_) => {
                    values.insert(node.into(), self.constants[&node].clone());
                    continue;
                }
                _ => {}
            }
            let start = Instant::now();
            let results = {
                let tensors: Vec<Option<&Tensor>> =
                    operands.iter().map(|v| v.and_then(|v| values.get(&v)).map(|t| &**t)).collect();
                eval(op, &tensors).map_err(|source| ExecError::Node {
                    node: graph.name(node).to_owned(),
                    op: op.name().to_owned(),
                    source,
                })?
            };
            timed(graph.name(node), start.elapsed());
            for (i, tensor) in results.into_iter().enumerate() {
                values.insert(node.result(i), Arc::new(tensor));
            }
            for value in operands.into_iter().flatten() {
                let left = uses_left.get_mut(&value).expect("every use was counted");
                *left -= 1;
                if *left == 0 {
                    values.remove(&value);
                }
            }
        }
        Ok(graph.results().into_iter().map(|(_, value)| values[&value].as_ref().clone()).collect())
    }
}

/// Checks tensors against the inputs of a graph: count, element types, extents, and that a symbol stands
/// for one number. Returns what each symbol stands for.
///
/// # Errors
/// [`ExecError::Signature`] naming the input.
pub fn check_inputs(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<(Symbol, usize)>, ExecError> {
    if inputs.len() != graph.inputs().len() {
        let message = format!("{} inputs given, the graph takes {}", inputs.len(), graph.inputs().len());
        return Err(ExecError::Signature(message));
    }
    let mut bound: Vec<(Symbol, usize)> = Vec::new();
    for (&node, tensor) in graph.inputs().iter().zip(inputs) {
        let Type::Tensor(ty) = graph.ty(node) else { continue };
        let mut fits = ty.dtype == tensor.dtype() && ty.rank() == tensor.rank();
        for (dim, &n) in ty.shape.iter().zip(tensor.shape()) {
            match dim {
                Dim::Fixed(m) => fits &= *m == n,
                Dim::Sym(symbol) => match bound.iter().find(|(s, _)| s == symbol) {
                    Some(&(_, m)) => fits &= m == n,
                    None => bound.push((symbol.clone(), n)),
                },
                Dim::Any => {}
            }
        }
        if !fits {
            let message = format!("input {} has type {}, expected {ty}", graph.name(node), tensor.ty());
            return Err(ExecError::Signature(message));
        }
    }
    Ok(bound)
}
