//! Evaluates what depends on constants alone, now that shapes are known.

use std::collections::HashMap;

use optc_ir::{EvalError, ExecError, Graph, NodeId, Op, Tensor, Type, interp};

/// Constants folded while planning stay below this many elements.
const FOLD_LIMIT: usize = 1 << 22;

/// The graph with constants in place of all nodes of known value but those that others absorb. `None` if there is
/// nothing.
pub(super) fn fold(graph: &Graph, absorbed: &HashMap<NodeId, NodeId>) -> Result<Option<Graph>, ExecError> {
    let mut folded: Option<Graph> = None;
    for node in graph.topo_order() {
        let current = folded.as_ref().unwrap_or(graph);
        let op = current.op(node);
        let structural = matches!(op, Op::Input(_) | Op::Const(_) | Op::ConstHash(_) | Op::Return(_) | Op::Opaque(_));
        if structural || absorbed.contains_key(&node) || current.result_count(node) != 1 {
            continue;
        }
        let Some(tensor) = known(current, node) else { continue };
        let name = current.name(node).to_owned();
        let graph = folded.get_or_insert_with(|| graph.clone());
        let constant = graph.add_tensor(&name, tensor);
        graph.replace_uses(node.into(), constant.into());
    }
    if let Some(graph) = &mut folded {
        graph.gc();
        graph.infer_all().map_err(|(node, source)| ExecError::Node {
            op: String::new(),
            node,
            source: EvalError::Type(source),
        })?;
    }
    Ok(folded)
}

/// The value of a node, if it is known before any input is.
fn known(graph: &Graph, node: NodeId) -> Option<Tensor> {
    let Type::Tensor(ty) = graph.ty(node) else { return None };
    let shape = ty.fixed_shape()?;
    if let Some(contents) = graph.contents(node) {
        let ints: Option<Vec<i64>> = contents.iter().map(|c| c.int()).collect();
        if let Some(ints) = ints {
            return Some(Tensor::new(shape, optc_ir::Data::from_i64(ty.dtype, ints)));
        }
    }
    let operands = graph.operands(node);
    if ty.numel()? > FOLD_LIMIT || operands.iter().flatten().any(|&v| graph.constant(v).is_none()) {
        return None;
    }
    let tensors: Vec<Option<Tensor>> =
        operands.iter().map(|v| v.and_then(|v| graph.constant(v)).map(|c| c.decode())).collect();
    let tensors: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
    interp::eval(graph.op(node), &tensors).ok()?.pop()
}
