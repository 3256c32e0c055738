//! Computes equal things once.
//!
//! Two nodes are equal if their operators, attributes and operands are; two constants, if their type,
//! encoding and every bit are. The older one stays. Operands of commutative operators are compared
//! without regard to their order.
//!
//! **Applies when** the type of the older node says as much as that of the younger. Opaque nodes are never
//! equal: nothing says they have no effects.
//!
//! Exact.

use std::collections::HashMap;

use optc_ir::op::Binary;
use optc_ir::{Constant, Encoding, Graph, NodeId, Op, ValueId};

use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};
use crate::rewrite::{detach, refines};

/// The pass; see the module.
pub struct EliminateCommonSubexpressions;

impl Pass for EliminateCommonSubexpressions {
    fn name(&self) -> &'static str {
        "eliminate-common-subexpressions"
    }

    fn effect(&self) -> Effect {
        Effect::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let mut known: HashMap<Key, Vec<NodeId>> = HashMap::new();
        for node in graph.topo_order() {
            let Some(key) = key(graph, node) else { continue };
            let candidates = known.entry(key).or_default();
            let same = candidates.iter().copied().find(|&older| stands_for(graph, older, node));
            let Some(older) = same else {
                candidates.push(node);
                continue;
            };
            for i in 0..graph.result_count(node) {
                graph.replace_uses(node.result(i), older.result(i));
            }
            detach(graph, node);
            cx.applied(graph, node, format_args!("is {}", graph.name(older)));
        }
        Ok(())
    }
}

/// What equal nodes have in common. Equal keys say nothing yet of the elements of constants.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    op: String,
    attributes: String,
    operands: Vec<Option<ValueId>>,
}

fn key(graph: &Graph, node: NodeId) -> Option<Key> {
    let op = graph.op(node);
    let mut operands = graph.operands(node);
    let attributes = match op {
        Op::Input(_) | Op::ConstHash(_) | Op::Return(_) | Op::Opaque(_) => return None,
        // A value nobody uses, such as what this pass has detached, is not worth comparing.
        _ if (0..graph.result_count(node)).all(|i| graph.uses(node.result(i)).is_empty()) => return None,
        Op::Const(constant) => format!("{} {}", constant.ty(), fingerprint(constant)),
        Op::Binary(binary) => {
            if is_commutative(*binary) {
                operands.sort();
            }
            String::new()
        }
        op => format!("{:?}", op.fields()),
    };
    Some(Key { op: op.name().to_owned(), attributes, operands })
}

/// Tells most constants of one shape apart without reading all of them.
fn fingerprint(constant: &Constant) -> String {
    match constant.encoding() {
        Encoding::Dense(data) => {
            let step = (data.len() / 8).max(1);
            format!("{:?}", data.select((0..data.len()).step_by(step).take(8)).to_f64())
        }
        _ => constant.stored_bytes().to_string(),
    }
}

fn is_commutative(op: Binary) -> bool {
    matches!(
        op,
        Binary::Add
            | Binary::Mul
            | Binary::And
            | Binary::Or
            | Binary::Xor
            | Binary::BitwiseAnd
            | Binary::BitwiseOr
            | Binary::BitwiseXor
            | Binary::Equal
    )
}

/// Whether `older` can take the place of `node`, whose key is equal.
fn stands_for(graph: &Graph, older: NodeId, node: NodeId) -> bool {
    if let (Some(a), Some(b)) = (graph.constant(older), graph.constant(node)) {
        return a == b;
    }
    (0..graph.result_count(node)).all(|i| refines(graph.ty(older.result(i)), graph.ty(node.result(i))))
}
