//! Merges chains of `reshape`, `flatten`, `squeeze` and `unsqueeze`.
//!
//! None of them moves an element, so only the last shape of a chain matters: the last node becomes one
//! `reshape` of what went into the first, or vanishes if the shape is what it was in the beginning.
//!
//! **Applies when** the final shape can be written as the constant target of a `reshape`: every extent is a
//! number, or the operand's own on the same axis, or the only unknown among positive numbers.
//!
//! Exact: elements keep their order.

use optc_ir::op::SymInt;
use optc_ir::{Graph, NodeId, Op, ValueId};

use super::fold_shapes::target_of;
use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};
use crate::rewrite::{bypass, reshape_in_place, same_shape, shape};

/// The pass; see the module.
pub struct CancelReshapes;

impl Pass for CancelReshapes {
    fn name(&self) -> &'static str {
        "cancel-reshapes"
    }

    fn effect(&self) -> Effect {
        Effect::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            let Some(inner) = reshaped(graph, node).map(|x| x.node) else { continue };
            let Some(x) = reshaped(graph, inner) else { continue };
            let (Some(from), Some(to)) = (shape(graph, x), shape(graph, node)) else { continue };
            if same_shape(from, to) && bypass(graph, node, x) {
                cx.applied(graph, node, format_args!("undoes {}", graph.name(inner)));
                continue;
            }
            if merge(graph, node, x) {
                cx.applied(graph, node, format_args!("merged with {}", graph.name(inner)));
            } else {
                cx.missed(graph, node, "the final shape has extents that only the run will tell");
            }
        }
        Ok(())
    }
}

/// The operand whose elements a node gives back in another shape.
fn reshaped(graph: &Graph, node: NodeId) -> Option<ValueId> {
    match graph.op(node) {
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => graph.operand(node, 0),
        _ => None,
    }
}

/// Makes a node one reshape of `x` to the type it has. Returns whether it did.
fn merge(graph: &mut Graph, node: NodeId, x: ValueId) -> bool {
    let (Some(from), Some(to)) = (shape(graph, x), shape(graph, node)) else { return false };
    let extents: Vec<SymInt> = to.iter().map(SymInt::from).collect();
    // In a target, 0 means a copy.
    let empty = extents.contains(&SymInt::Int(0));
    match target_of(from, &extents) {
        Some(target) if !empty => reshape_in_place(graph, node, x, target),
        _ => false,
    }
}
