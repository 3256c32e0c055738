//! Reverse-mode differentiation of a graph, as more graph.
//!
//! For a scalar L, the gradient of a value v is v̄ = ∂L/∂v, of the type of v. Walking the nodes backwards, each
//! node turns the gradients of its results into contributions to those of its operands by its rule in
//! [`super::vjp`] (a vector-Jacobian product: `x̄ += (∂y/∂x)ᵀ·ȳ`), and a value that several nodes read sums what
//! they contribute (Griewank and Walther, "Evaluating Derivatives", 2008, section 3.2).
//!
//! Only what lies between the values asked for and L is visited: the image a network reads gets no gradient,
//! and neither does anything before the first trained layer.

use std::collections::{HashMap, HashSet};

use optc_ir::{Graph, NodeId, Op, ValueId};

use super::emit::Emit;
use super::error::TrainError;
use super::unroll::{is_recurrent, unroll};
use super::vjp;

/// The gradients of the scalar `loss` with respect to each of `wanted`, added to the graph; `None` where the
/// loss does not depend on the value, or only through functions whose derivative is zero.
///
/// Values behind a wanted value get gradients only if they are wanted themselves. Recurrent layers on the way are
/// replaced by their arithmetic, step by step.
///
/// # Errors
/// [`TrainError::Node`] naming the node on the way that has no gradient, or whose shape is not known.
pub fn gradients(graph: &mut Graph, loss: ValueId, wanted: &[ValueId]) -> Result<Vec<Option<ValueId>>, TrainError> {
    let mut order = graph.topo_order();
    let mut depends = dependents(graph, &order, wanted);
    let recurrent: Vec<NodeId> = order.iter().copied().filter(|&node| is_recurrent(graph.op(node))).collect();
    for &node in &recurrent {
        if graph.operands(node).into_iter().flatten().any(|v| depends.contains(&v)) {
            unroll(graph, node)?;
        }
    }
    if !recurrent.is_empty() {
        order = graph.topo_order();
        depends = dependents(graph, &order, wanted);
    }
    let mut found: HashMap<ValueId, Vec<ValueId>> = HashMap::new();
    let mut emit = Emit::new(graph, "loss");
    let seed = emit.scalar(loss, 1.0)?;
    let shape = emit.shape(loss)?;
    let seed = emit.expand(seed, &shape)?;
    found.insert(loss, vec![seed]);
    for &node in order.iter().rev() {
        if matches!(graph.op(node), Op::Return(_) | Op::Input(_) | Op::Const(_)) {
            continue;
        }
        let operands = graph.operands(node);
        let needed: Vec<bool> = operands.iter().map(|v| v.is_some_and(|v| depends.contains(&v))).collect();
        let results = graph.result_count(node);
        let touched = (0..results).any(|i| found.contains_key(&node.result(i)));
        if !touched || !needed.contains(&true) {
            continue;
        }
        let mut of_results = Vec::with_capacity(results);
        for i in 0..results {
            of_results.push(total(graph, node.result(i), &mut found)?);
        }
        let mut emit = Emit::gradient_of(graph, node);
        let contributions = vjp::rule(&mut emit, node, &of_results, &needed)?;
        for ((operand, contribution), needed) in operands.into_iter().zip(contributions).zip(needed) {
            if let (Some(operand), Some(gradient), true) = (operand, contribution, needed) {
                found.entry(operand).or_default().push(gradient);
            }
        }
    }
    wanted.iter().map(|&value| total(graph, value, &mut found)).collect()
}

/// The values that depend on a wanted one, itself included, and are floating-point numbers.
fn dependents(graph: &Graph, order: &[NodeId], wanted: &[ValueId]) -> HashSet<ValueId> {
    let mut depends: HashSet<ValueId> = wanted.iter().copied().collect();
    for &node in order {
        if !graph.operands(node).into_iter().flatten().any(|v| depends.contains(&v)) {
            continue;
        }
        let results = (0..graph.result_count(node)).map(|i| node.result(i));
        depends.extend(results.filter(|&v| graph.ty(v).dtype().is_none_or(|d| d.is_float())));
    }
    depends
}

/// The sum of the contributions to a value, which it is from then on.
fn total(
    graph: &mut Graph,
    value: ValueId,
    found: &mut HashMap<ValueId, Vec<ValueId>>,
) -> Result<Option<ValueId>, TrainError> {
    let Some(parts) = found.get(&value) else { return Ok(None) };
    let parts = parts.clone();
    let mut emit = Emit::gradient_of(graph, value.node);
    let mut sum = parts[0];
    for &part in &parts[1..] {
        sum = emit.add(sum, part)?;
    }
    found.insert(value, vec![sum]);
    Ok(Some(sum))
}
