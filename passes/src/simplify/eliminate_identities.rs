//! Removes nodes that give their operand back, bit by bit.
//!
//! | node | identity when |
//! |---|---|
//! | `identity` | always |
//! | `cast` | the type is the same |
//! | `reshape`, `expand` | the shape is the same |
//! | `transpose` | the permutation is |
//! | `mul`, `div`, `pow` | the other operand is all ones |
//! | `add`, `sub` | the other operand is all zeros: −0 for a sum of floats, +0 for a difference |
//! | `concat`, `split`, `max`, `min` | there is one piece |
//! | `slice` | the shape is the same and all steps are 1 |
//! | `pad`, `tile` | nothing is added |
//! | `max_pool` | windows and steps are 1, and the indices are not used |
//! | `reduce_max`, `reduce_min`, `reduce_prod` | reduced axes have extent 1 and stay |
//! | `clip` | there are no limits |
//! | `where` | the condition is constant |
//!
//! **Applies when** the type of the operand says as much as that of the result.
//!
//! Exact. A sum with +0 is none of these: it turns −0 into +0.

use optc_ir::op::{Binary, MaxPool, ReduceKind, Unary, Variadic, infer::resolve_axis};
use optc_ir::{Constant, Dim, Graph, NodeId, Op, ValueId};

use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};
use crate::rewrite::{bypass, int_operand, same_shape, shape};

/// The pass; see the module.
pub struct EliminateIdentities;

impl Pass for EliminateIdentities {
    fn name(&self) -> &'static str {
        "eliminate-identities"
    }

    fn effect(&self) -> Effect {
        Effect::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            let Some(same) = identical(graph, node) else { continue };
            if bypass(graph, node, same) {
                cx.applied(graph, node, format_args!("is {}", graph.name(same.node)));
            } else {
                cx.missed(graph, node, "the type of the operand says less than that of the result");
            }
        }
        Ok(())
    }
}

/// The operand a node gives back, if it does.
fn identical(graph: &Graph, node: NodeId) -> Option<ValueId> {
    let x = graph.operand(node, 0);
    let count = graph.operands(node).len();
    let first = |holds: bool| if holds { x } else { None };
    match graph.op(node) {
        Op::Unary(Unary::Identity) => x,
        Op::Cast(_) => first(graph.ty(node).dtype().is_some() && graph.ty(node).dtype() == graph.ty(x?).dtype()),
        Op::Reshape(_) | Op::Expand(_) => first(keeps_shape(graph, node)),
        Op::Transpose(transpose) => {
            let identity = transpose.perm.iter().enumerate().all(|(i, &p)| i == p);
            first(if transpose.perm.is_empty() { shape(graph, x?)?.len() < 2 } else { identity })
        }
        Op::Binary(Binary::Mul) => neutral(graph, node, 1.0).or_else(|| neutral_first(graph, node, 1.0)),
        Op::Binary(Binary::Div | Binary::Pow) => neutral(graph, node, 1.0),
        Op::Binary(Binary::Add) => neutral(graph, node, -0.0).or_else(|| neutral_first(graph, node, -0.0)),
        Op::Binary(Binary::Sub) => neutral(graph, node, 0.0),
        Op::Concat(_) | Op::Variadic(Variadic::Max | Variadic::Min) => first(count == 1),
        Op::Split(split) => first(split.sizes.len() == 1),
        Op::Slice(_) => {
            let steps = graph.operand(node, 4);
            let forward = steps.is_none() || int_operand(graph, node, 4)?.iter().all(|&step| step == 1);
            first(forward && keeps_shape(graph, node))
        }
        Op::Pad(_) => first(int_operand(graph, node, 1)?.iter().all(|&n| n == 0)),
        Op::Tile(_) => first(int_operand(graph, node, 1)?.iter().all(|&n| n == 1)),
        Op::MaxPool(pool) => first(is_trivial(pool) && graph.uses(node.result(1)).is_empty()),
        Op::Reduce(reduce) => {
            let exact = matches!(reduce.kind, ReduceKind::Max | ReduceKind::Min | ReduceKind::Prod);
            let shape = shape(graph, x?)?;
            let single = |axis: &i64| resolve_axis(*axis, shape.len()).is_ok_and(|a| shape[a].fixed() == Some(1));
            first(exact && reduce.attrs.keepdims && reduce.attrs.axes.as_ref()?.iter().all(single))
        }
        Op::Clip(_) => first(count == 1),
        Op::Where(_) => {
            let condition = graph.constant_operand(node, 0)?.decode().data().to_i64()?;
            let slot = match (condition.iter().all(|&c| c != 0), condition.iter().all(|&c| c == 0)) {
                (true, false) => 1,
                (false, true) => 2,
                _ => return None,
            };
            let picked = graph.operand(node, slot)?;
            same_shape(shape(graph, picked)?, shape(graph, node)?).then_some(picked)
        }
        _ => None,
    }
}

fn keeps_shape(graph: &Graph, node: NodeId) -> bool {
    let x = graph.operand(node, 0);
    match (x.and_then(|x| shape(graph, x)), shape(graph, node)) {
        (Some(x), Some(y)) => same_shape(x, y),
        _ => false,
    }
}

/// The first operand, if the second is a constant of nothing but `unit`, bit by bit, and does not broadcast
/// the first.
fn neutral(graph: &Graph, node: NodeId, unit: f64) -> Option<ValueId> {
    neutral_in(graph, node, 1, unit)
}

/// As [`neutral`], with the operands exchanged.
fn neutral_first(graph: &Graph, node: NodeId, unit: f64) -> Option<ValueId> {
    neutral_in(graph, node, 0, unit)
}

fn neutral_in(graph: &Graph, node: NodeId, slot: usize, unit: f64) -> Option<ValueId> {
    let x = graph.operand(node, 1 - slot)?;
    let constant = graph.constant_operand(node, slot)?;
    let keeps = graph.ty(x).dtype() == graph.ty(node).dtype() && !broadcasts(constant.shape(), shape(graph, x)?);
    (keeps && is_all(constant, unit)).then_some(x)
}

/// Whether combining a value with a constant may give it another shape.
fn broadcasts(constant: &[usize], x: &[Dim]) -> bool {
    let fits = |(&n, dim): (&usize, &Dim)| n == 1 || *dim == Dim::Fixed(n);
    constant.len() > x.len() || !constant.iter().rev().zip(x.iter().rev()).all(fits)
}

/// Whether every element is `value`; the sign of a zero counts for floats.
fn is_all(constant: &Constant, value: f64) -> bool {
    let tensor = constant.decode();
    match tensor.data().to_i64() {
        Some(ints) => !ints.is_empty() && ints.iter().all(|&x| x as f64 == value),
        None => !tensor.is_empty() && tensor.data().to_f64().iter().all(|x| x.to_bits() == value.to_bits()),
    }
}

fn is_trivial(pool: &MaxPool) -> bool {
    let ones = |list: &[usize]| list.iter().all(|&n| n == 1);
    ones(&pool.kernel) && ones(&pool.strides) && pool.pads.iter().all(|&n| n == 0)
}
