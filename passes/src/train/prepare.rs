//! A model made ready for differentiation: extents bound, shapes constant, activations nodes of their own.

use optc_ir::op::{Act, Clip, Gelu, HardSigmoid, LeakyRelu, Unary};
use optc_ir::{Dim, Graph, Interp, NodeId, Op, Tensor, Type, ValueId};

use super::emit::Emit;
use super::error::TrainError;
use super::options::TrainOptions;
use crate::pass::{Pass, PassCx};
use crate::simplify::{FoldConstants, FoldShapes};

/// Binds the symbols of a model: the first axis of its inputs to the batch, the others as the options say.
///
/// # Errors
/// [`TrainError::Options`] if an input is made for another batch or an extent stays open, [`TrainError::Node`] if
/// a node does not fit the extents.
pub(super) fn bind(graph: &mut Graph, options: &TrainOptions) -> Result<(), TrainError> {
    let misfit = |(node, error): (String, optc_ir::TypeError)| TrainError::Node {
        node,
        op: "training".to_owned(),
        message: format!("does not fit a batch of {}: {error}", options.batch),
    };
    let mut symbols: Vec<(String, usize)> = options.bind.clone();
    for &input in graph.inputs() {
        if let Some(Dim::Sym(symbol)) = graph.ty(input).shape().and_then(|shape| shape.first()) {
            symbols.push((symbol.as_str().to_owned(), options.batch));
        }
    }
    let bindings: Vec<(&str, usize)> = symbols.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    graph.bind(&bindings).map_err(misfit)?;
    for input in graph.inputs().to_vec() {
        let Type::Tensor(mut ty) = graph.ty(input).clone() else { continue };
        if ty.shape.first() == Some(&Dim::Any) {
            ty.shape[0] = Dim::Fixed(options.batch);
            graph.set_input_type(input, ty.clone().into()).map_err(misfit)?;
        }
        let name = graph.name(input);
        if let Some(dim) = ty.shape.iter().find(|dim| dim.fixed().is_none()) {
            return Err(TrainError::Options(format!("input {name} is {ty}; say what {dim} stands for")));
        }
        if let Some(n) = ty.shape.first().and_then(Dim::fixed).filter(|&n| n != options.batch) {
            let batch = options.batch;
            return Err(TrainError::Options(format!("input {name} takes batches of {n}, not of {batch}")));
        }
    }
    Ok(())
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
    let mut copies: std::collections::HashMap<NodeId, NodeId> = std::collections::HashMap::new();
    let mut given: std::collections::HashMap<NodeId, ValueId> = std::collections::HashMap::new();
    given.extend(other.inputs().iter().copied().zip(inputs.iter().copied()));
    let placed = |value: ValueId, copies: &std::collections::HashMap<NodeId, NodeId>| -> Option<ValueId> {
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
