//! Which small values are known while a model is read, so that an `If` can be decided.

use std::collections::HashMap;

use onnx_protobuf::{ModelProto, NodeProto};
use optc_ir::op::Op;
use optc_ir::{Data, Graph, NodeId, Tensor, ValueId};

use super::subgraph;

/// Larger values decide nothing.
const MAX_KNOWN: usize = 256;

/// Small values computed from constants and fixed shapes alone.
#[derive(Clone)]
pub(super) struct Known {
    /// Whether the model has an `If` at all.
    wanted: bool,
    values: HashMap<ValueId, Tensor>,
}

impl Known {
    pub(super) fn for_model(model: &ModelProto, nodes: &[NodeProto]) -> Known {
        fn has_if(node: &NodeProto) -> bool {
            node.op_type == "If" || subgraph::graphs(node).any(|graph| graph.node.iter().any(has_if))
        }
        let in_functions = model.functions.iter().flat_map(|function| &function.node);
        Known { wanted: nodes.iter().chain(in_functions).any(has_if), values: HashMap::new() }
    }

    /// Evaluates a node just added, if all it takes is known.
    pub(super) fn record(&mut self, graph: &Graph, node: NodeId) {
        let small = |result: usize| {
            let ty = graph.ty(node.result(result)).as_tensor();
            ty.and_then(|ty| ty.numel()).is_some_and(|len| len <= MAX_KNOWN)
        };
        let results = graph.result_count(node);
        if !self.wanted || !(0..results).all(small) {
            return;
        }
        if let Op::Size(_) = graph.op(node) {
            let extents = graph.operand(node, 0).and_then(|x| graph.ty(x).as_tensor()?.numel());
            if let Some(size) = extents.and_then(|n| i64::try_from(n).ok()) {
                self.values.insert(node.into(), Tensor::i64([], [size]));
            }
            return;
        }
        let operands = graph.operands(node);
        let known: Option<Vec<Option<Tensor>>> =
            operands.iter().map(|value| value.map_or(Some(None), |value| self.get(graph, value).map(Some))).collect();
        let Some(known) = known else { return };
        let known: Vec<Option<&Tensor>> = known.iter().map(Option::as_ref).collect();
        if let Ok(values) = optc_ir::interp::eval(graph.op(node), &known) {
            for (i, value) in values.into_iter().enumerate() {
                self.values.insert(node.result(i), value);
            }
        }
    }

    fn get(&self, graph: &Graph, value: ValueId) -> Option<Tensor> {
        if let Some(tensor) = self.values.get(&value) {
            return Some(tensor.clone());
        }
        if let Some(constant) = graph.constant(value) {
            return (constant.len() <= MAX_KNOWN).then(|| constant.decode());
        }
        let ty = graph.ty(value).as_tensor()?;
        let ints: Option<Vec<i64>> = graph.contents(value)?.iter().map(|i| i.int()).collect();
        let (shape, ints) = (ty.fixed_shape()?, ints?);
        (shape.iter().product::<usize>() == ints.len()).then(|| Tensor::new(shape, Data::from_i64(ty.dtype, ints)))
    }

    /// The truth of a condition, if it is known.
    pub(super) fn truth(&self, graph: &Graph, value: ValueId) -> Option<bool> {
        match self.get(graph, value)?.data() {
            Data::Bool(v) => match v.as_slice() {
                &[truth] => Some(truth),
                _ => None,
            },
            _ => None,
        }
    }
}
