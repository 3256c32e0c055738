//! A model made ready for differentiation: extents bound, shapes constant, activations nodes of their own.

use std::collections::HashMap;

use optc_ir::op::{Act, Clip, Gelu, HardSigmoid, LeakyRelu, Reshape, Unary};
use optc_ir::{Constant, Dim, Graph, Interp, NodeId, Op, Tensor, Type, TypeError, ValueId};

use super::emit::Emit;
use super::error::TrainError;
use super::options::TrainOptions;
use crate::pass::{Pass, PassCx};
use crate::rewrite::int_operand;
use crate::simplify::{FoldConstants, FoldShapes};

/// Gives a model that was exported for batches of one size another: the first extent of its inputs, and of every
/// reshape that names the old one where it could copy it. What the model computes of a sample stays the same.
///
/// # Errors
/// [`TrainError::Node`] naming the node that does not fit.
pub(super) fn rebatch(graph: &mut Graph, batch: usize) -> Result<(), TrainError> {
    let first = |graph: &Graph, value: ValueId| graph.ty(value).shape().and_then(|shape| shape.first()?.fixed());
    for input in graph.inputs().to_vec() {
        let (Some(old), Type::Tensor(mut ty)) = (first(graph, input.into()), graph.ty(input).clone()) else { continue };
        if old == batch {
            continue;
        }
        for node in graph.topo_order() {
            let Op::Reshape(Reshape { allowzero: false }) = graph.op(node) else { continue };
            let (Some(x), Some(mut shape)) = (graph.operand(node, 0), int_operand(graph, node, 1)) else { continue };
            if first(graph, x) == Some(old) && shape.first().is_some_and(|&n| usize::try_from(n) == Ok(old)) {
                shape[0] = 0;
                graph.set_constant_operand(node, 1, Constant::dense(Tensor::i64([shape.len()], shape)));
            }
        }
        ty.shape[0] = Dim::Fixed(batch);
        graph.set_input_type(input, ty.into()).map_err(|error| misfit(error, batch))?;
    }
    Ok(())
}

fn misfit((node, error): (String, TypeError), batch: usize) -> TrainError {
    TrainError::Node { node, op: "training".to_owned(), message: format!("does not fit a batch of {batch}: {error}") }
}

/// Binds the extents of a model: the first axis of its inputs to the batch, symbols as the options say.
///
/// # Errors
/// [`TrainError::Options`] if an extent stays open, [`TrainError::Node`] if a node does not fit the extents.
pub(super) fn bind(graph: &mut Graph, options: &TrainOptions) -> Result<(), TrainError> {
    let mut symbols: Vec<(String, usize)> = options.bind.clone();
    for &input in graph.inputs() {
        if let Some(Dim::Sym(symbol)) = graph.ty(input).shape().and_then(|shape| shape.first()) {
            symbols.push((symbol.as_str().to_owned(), options.batch));
        }
    }
    let bindings: Vec<(&str, usize)> = symbols.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    graph.bind(&bindings).map_err(|error| misfit(error, options.batch))?;
    for input in graph.inputs().to_vec() {
        let Type::Tensor(mut ty) = graph.ty(input).clone() else { continue };
        if ty.shape.first() == Some(&Dim::Any) {
            ty.shape[0] = Dim::Fixed(options.batch);
            graph.set_input_type(input, ty.clone().into()).map_err(|error| misfit(error, options.batch))?;
        }
        let name = graph.name(input);
        if let Some(dim) = ty.shape.iter().find(|dim| dim.fixed().is_none()) {
            let message = format!("input {name} is {ty}; bind {dim}, or export the model with its extents known");
            return Err(TrainError::Options(message));
        }
    }
    rebatch(graph, options.batch)
}

/// Turns shape arithmetic into constants, so that rules can read shapes, bounds and pads.
pub(super) fn fold_shapes(graph: &mut Graph) -> Result<(), TrainError> {
    let mut cx = PassCx::new(&Interp);
    FoldShapes.run(graph, &mut cx)?;
    FoldConstants::default().run(graph, &mut cx)?;
    graph.gc();
    Ok(())
}

/// Makes nodes of fused activations whose results hide what they are applied to.
pub(super) fn separate_activations(graph: &mut Graph) -> Result<(), TrainError> {
    for node in graph.topo_order() {
        let mut op = graph.op(node).clone();
        let act = match &mut op {
            Op::Conv(a) => &mut a.act,
            Op::ConvTranspose(a) => &mut a.act,
            Op::Linear(a) => &mut a.act,
            _ => continue,
        };
        if act.grad_by_result() {
            continue;
        }
        let (act, users) = (std::mem::replace(act, Act::None), graph.uses(node.into()));
        graph.set_op(node, op);
        let result = activation(graph, node, act)?;
        for (user, slot) in users {
            graph.set_operand(user, slot, Some(result));
        }
    }
    Ok(())
}

/// An activation as nodes of their own.
fn activation(graph: &mut Graph, node: NodeId, act: Act) -> Result<ValueId, TrainError> {
    let mut e = Emit::gradient_of(graph, node);
    let x = ValueId::from(node);
    match act {
        Act::None => Ok(x),
        Act::Relu => e.unary(Unary::Relu, x),
        Act::Sigmoid => e.unary(Unary::Sigmoid, x),
        Act::Tanh => e.unary(Unary::Tanh, x),
        Act::HardSwish => e.unary(Unary::HardSwish, x),
        Act::Silu => e.unary(Unary::Silu, x),
        Act::Gelu => e.op(Gelu { tanh: false }, &[x]),
        Act::LeakyRelu { alpha } => e.op(LeakyRelu { alpha }, &[x]),
        Act::HardSigmoid { alpha, beta } => e.op(HardSigmoid { alpha, beta }, &[x]),
        Act::Clip { lo, hi } => {
            let (lo, hi) = (e.scalar(x, lo.into())?, e.scalar(x, hi.into())?);
            e.op(Clip {}, &[x, lo, hi])
        }
    }
}

/// Copies the nodes of another graph, which reads `inputs` in place of its own; returns its results.
///
/// # Errors
/// [`TrainError::Node`] if an input does not fit.
pub(super) fn graft(graph: &mut Graph, other: &Graph, inputs: &[ValueId]) -> Result<Vec<ValueId>, TrainError> {
    let given: HashMap<NodeId, ValueId> = other.inputs().iter().copied().zip(inputs.iter().copied()).collect();
    let mut copies: HashMap<NodeId, NodeId> = HashMap::new();
    let placed = |value: ValueId, copies: &HashMap<NodeId, NodeId>| {
        given.get(&value.node).copied().or_else(|| Some(copies.get(&value.node)?.result(value.result.into())))
    };
    for node in other.topo_order() {
        let op = other.op(node);
        if matches!(op, Op::Input(_) | Op::Return(_)) {
            continue;
        }
        let operands: Vec<Option<ValueId>> =
            other.operands(node).into_iter().map(|v| v.and_then(|v| placed(v, &copies))).collect();
        let name = format!("teacher.{}", other.name(node));
        let copy = graph.add(&name, op.clone(), &operands).map_err(|error| TrainError::Node {
            node: name,
            op: op.name().to_owned(),
            message: format!("does not fit the inputs of the trained model: {error}"),
        })?;
        copies.insert(node, copy);
    }
    Ok(other.results().into_iter().filter_map(|(_, value)| placed(value, &copies)).collect())
}

/// The dense value of a constant.
pub(super) fn value_of(graph: &Graph, node: NodeId) -> Option<Tensor> {
    graph.constant(node).map(|constant| constant.decode())
}
