//! Which constants of a model are parameters.
//!
//! A floating-point constant is one if a layer reads it as weight, bias or scale, perhaps through nodes that only
//! move its elements. Vectors that are added or multiplied behind a layer count too, which is how exporters write
//! biases; other constants of arithmetic (the scale of attention scores, a causal mask) do not.

use std::collections::HashSet;

use optc_ir::op::{Binary, Unary};
use optc_ir::{DType, Graph, NodeId, Op, ValueId};

use super::constraint::{Clusters, Form};
use super::error::TrainError;
use crate::selector::{Selection, Selector};

/// A constant that is trained.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The name of the constant.
    pub name: String,
    /// What it is to its layer.
    pub kind: ParameterKind,
    /// What of it may change.
    pub form: Form,
    pub(super) node: NodeId,
    pub(super) clusters: Option<Clusters>,
    /// Layers that read it.
    readers: Vec<NodeId>,
}

/// What a parameter is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Multiplied with whole vectors: kernels, matrices, embeddings.
    Weight,
    /// Added.
    Bias,
    /// Multiplied element by element: scales of normalisations, slopes.
    Scale,
}

impl Parameter {
    /// Whether a selector matches the constant or a layer that reads it. `graph` is the model.
    pub(super) fn matches(&self, graph: &Graph, selector: &Selector) -> bool {
        selector.matches_constant(graph, self.node, &self.readers)
    }
}

/// The parameters of a model that are selected, in order of age.
///
/// # Errors
/// [`TrainError::Options`] if the selection names what is not there, or selects nothing.
pub(super) fn parameters(graph: &Graph, selection: &Selection) -> Result<Vec<Parameter>, TrainError> {
    let unmatched = selection.unmatched(graph);
    if !unmatched.is_empty() {
        return Err(TrainError::Options(format!("no node matches {}", unmatched.join(", "))));
    }
    let behind = behind_layers(graph);
    let mut found = Vec::new();
    for node in graph.nodes() {
        let Op::Const(constant) = graph.op(node) else { continue };
        if !matches!(constant.dtype(), DType::F32 | DType::F64) || constant.is_empty() {
            continue;
        }
        let mut readers = Vec::new();
        let mut kind = None;
        visit(graph, node.into(), &behind, &mut |reader, role| {
            readers.push(reader);
            // What is a weight anywhere is a weight.
            kind = if role == ParameterKind::Weight { Some(role) } else { kind.or(Some(role)) };
        });
        let Some(kind) = kind else { continue };
        let name = graph.name(node).to_owned();
        let parameter = Parameter { name, kind, form: Form::Free, node, clusters: None, readers };
        let only = selection.only.as_ref().is_none_or(|only| parameter.matches(graph, only));
        if only && !selection.protect.as_ref().is_some_and(|protect| parameter.matches(graph, protect)) {
            found.push(parameter);
        }
    }
    if found.is_empty() {
        return Err(TrainError::Options("the model has no parameters to train, or none is selected".to_owned()));
    }
    Ok(found)
}

/// Calls `f` with each layer that reads a value as a parameter, and as what.
fn visit(graph: &Graph, value: ValueId, behind: &HashSet<ValueId>, f: &mut impl FnMut(NodeId, ParameterKind)) {
    for (user, slot) in graph.uses(value) {
        if let Some(kind) = role(graph, user, slot, value, behind) {
            f(user, kind);
        } else if slot == 0 && moves(graph.op(user)) {
            visit(graph, user.into(), behind, f);
        }
    }
}

fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Transpose(_)
            | Op::Reshape(_)
            | Op::Flatten(_)
            | Op::Squeeze(_)
            | Op::Unsqueeze(_)
            | Op::Expand(_)
            | Op::Unary(Unary::Identity)
    )
}

/// What operand `slot` is to an operator that has parameters.
fn role(graph: &Graph, node: NodeId, slot: usize, value: ValueId, behind: &HashSet<ValueId>) -> Option<ParameterKind> {
    use ParameterKind::{Bias, Scale, Weight};
    match (graph.op(node), slot) {
        (Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_), 1) => Some(Weight),
        (Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_), 2) => Some(Bias),
        (Op::Gemm(_), 0 | 1) | (Op::MatMul(_) | Op::Einsum(_), _) => Some(Weight),
        (Op::Gemm(_), 2) => Some(Bias),
        (Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_), 1 | 2) => Some(Weight),
        (Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_), 3) => Some(Bias),
        (Op::BatchNorm(_) | Op::InstanceNorm(_) | Op::LayerNorm(_) | Op::GroupNorm(_), 1) => Some(Scale),
        (Op::BatchNorm(_) | Op::InstanceNorm(_) | Op::LayerNorm(_) | Op::GroupNorm(_), 2) => Some(Bias),
        (Op::RmsNorm(_), 1) | (Op::Binary(Binary::PRelu), 1) => Some(Scale),
        (Op::Gather(_), 0) if graph.ty(value).shape().is_some_and(|shape| shape.len() >= 2) => Some(Weight),
        (Op::Binary(binary @ (Binary::Add | Binary::Mul)), _) => {
            let other = graph.operand(node, 1 - slot)?;
            if !behind.contains(&other) || !is_vector(graph, value) {
                return None;
            }
            Some(if *binary == Binary::Add { Bias } else { Scale })
        }
        _ => None,
    }
}

/// Whether one axis has all the elements, and there are several.
fn is_vector(graph: &Graph, value: ValueId) -> bool {
    let Some(shape) = graph.ty(value).as_tensor().and_then(|ty| ty.fixed_shape()) else { return false };
    shape.iter().filter(|&&n| n != 1).count() == 1
}

/// The values that come out of a layer with weights, directly or not.
fn behind_layers(graph: &Graph) -> HashSet<ValueId> {
    let mut behind = HashSet::new();
    for node in graph.topo_order() {
        let operands = graph.operands(node);
        let layer = operands.iter().enumerate().any(|(slot, v)| {
            v.is_some_and(|v| role(graph, node, slot, v, &HashSet::new()) == Some(ParameterKind::Weight))
        });
        if layer || operands.into_iter().flatten().any(|v| behind.contains(&v)) {
            behind.extend((0..graph.result_count(node)).map(|i| node.result(i)));
        }
    }
    behind
}

/// Gives each user its own copy of a vector that several share: exporters and common subexpressions merge vectors
/// that start equal, such as biases of zeros, and training must tell them apart. Matrices that are shared are so
/// by design (tied embeddings) and stay shared.
pub(super) fn untie(graph: &mut Graph) {
    let vectors: Vec<NodeId> = graph
        .nodes()
        .filter(|&node| graph.constant(node).is_some_and(|c| c.dtype().is_float() && c.shape().len() == 1))
        .collect();
    for node in vectors {
        let Some(constant) = graph.constant(node).cloned() else { continue };
        for (user, slot) in graph.uses(node.into()).into_iter().skip(1) {
            let name = graph.name(node).to_owned();
            let copy = graph.add_constant(&name, constant.clone());
            graph.set_operand(user, slot, Some(copy.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_ir::text;

    #[test]
    fn layers_say_what_is_a_parameter() {
        let graph = text::parse(
            "graph @g(%x: f32[2, 3]) -> (y: f32[2, 4]) {
               %mean = const f32[3] = [1, 2, 3]
               %w = const f32[3, 4] = splat(0.5)
               %b = const f32[4] = splat(0)
               %half = const f32[] = [0.5]
               %least = const f32[] = [0]
               %centred = add(%x, %mean) : f32[2, 3]
               %product = matmul(%centred, %w) : f32[2, 4]
               %biased = add(%product, %b) : f32[2, 4]
               %scaled = mul(%biased, %half) : f32[2, 4]
               %y = clip(%scaled, %least) : f32[2, 4]
               return %y
             }",
        )
        .unwrap();
        let names = |selection: &Selection| -> Vec<(String, ParameterKind)> {
            parameters(&graph, selection).unwrap().into_iter().map(|p| (p.name, p.kind)).collect()
        };
        let all = [("w".to_owned(), ParameterKind::Weight), ("b".to_owned(), ParameterKind::Bias)];
        assert_eq!(names(&Selection::default()), all);
        let only = |text: &str| Selection { only: Some(Selector::parse(text).unwrap()), protect: None };
        assert_eq!(names(&only("matmul")), all[..1]);
        assert_eq!(names(&only("b")), all[1..]);
        assert!(parameters(&graph, &only("mean")).is_err());
        assert!(parameters(&graph, &only("nothing")).unwrap_err().to_string().contains("no node matches nothing"));
    }

    #[test]
    fn shared_vectors_are_told_apart_and_shared_matrices_are_not() {
        let mut graph = text::parse(
            "graph @g(%x: f32[2, 4]) -> (y: f32[2, 4]) {
               %w = const f32[4, 4] = splat(0.5)
               %b = const f32[4] = splat(0)
               %a = linear(%x, %w, %b) : f32[2, 4]
               %y = linear(%a, %w, %b) : f32[2, 4]
               return %y
             }",
        )
        .unwrap();
        untie(&mut graph);
        let found = parameters(&graph, &Selection::default()).unwrap();
        assert_eq!(found.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["w", "b", "b_1"]);
    }
}
