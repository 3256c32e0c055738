//! Turns shape arithmetic into constants.
//!
//! The type rules carry what is known of small integer values from `shape` through `gather`, `concat`,
//! `add` and their like. A value of which every element is known is a constant. A `reshape` whose target
//! holds dynamic extents often needs none of them: a target extent that is the operand's own on the same
//! axis is written 0, also where it has no name but is read off the operand, and one unknown among numbers is
//! written −1.
//!
//! **Applies when** every element is known, or every target extent can be written so.
//!
//! Exact: the same integers arrive.

use optc_ir::op::SymInt;
use optc_ir::{DType, Data, Dim, Graph, NodeId, Op, Tensor, ValueId};

use crate::analysis::channels::slices;
use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};
use crate::rewrite::{int_operand, replace_by_constant, reshape_in_place, shape};

/// The pass; see the module.
pub struct FoldShapes;

impl Pass for FoldShapes {
    fn name(&self) -> &'static str {
        "fold-shapes"
    }

    fn effect(&self) -> Effect {
        Effect::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            let foreign = matches!(graph.op(node), Op::Const(_) | Op::ConstHash(_) | Op::Input(_) | Op::Opaque(_));
            if foreign || graph.result_count(node) == 0 {
                continue;
            }
            if let Some(tensor) = known_elements(graph, node) {
                replace_by_constant(graph, node.into(), tensor);
                cx.applied(graph, node, "all elements are known");
            } else if let Some((x, target)) = known_target(graph, node) {
                if reshape_in_place(graph, node, x, target) {
                    cx.applied(graph, node, "the target shape needs no dynamic extents");
                } else {
                    cx.missed(graph, node, "less would be known of its shape");
                }
            }
        }
        Ok(())
    }
}

fn known_elements(graph: &Graph, node: NodeId) -> Option<Tensor> {
    if graph.uses(node.into()).is_empty() {
        return None;
    }
    let ty = graph.ty(node).as_tensor()?;
    let elements: Vec<i64> = graph.contents(node)?.iter().map(SymInt::int).collect::<Option<_>>()?;
    let shape = ty.fixed_shape()?;
    if !ty.dtype.is_int() || ty.numel()? != elements.len() {
        return None;
    }
    let data = Data::from_i64(ty.dtype, elements.iter().copied());
    (data.to_i64()? == elements).then(|| Tensor::new(shape, data))
}

/// The operand and, in numbers, the target of a reshape whose target is not constant yet.
fn known_target(graph: &Graph, node: NodeId) -> Option<(ValueId, Vec<i64>)> {
    let Op::Reshape(reshape) = graph.op(node) else { return None };
    let target = graph.operand(node, 1)?;
    if graph.constant(target).is_some() || reshape.allowzero || graph.ty(target).dtype() != Some(DType::I64) {
        return None;
    }
    let x = graph.operand(node, 0)?;
    let (from, to) = (shape(graph, x)?, graph.contents(target)?);
    // An extent of the operand itself is copied even if it has no name.
    let own = |k: usize| k < from.len() && origin(graph, target, k) == Some((x, k));
    let copied = |(k, n): (usize, &SymInt)| if n.int().is_none() && own(k) { SymInt::Int(0) } else { n.clone() };
    let target =
        target_of(from, to).or_else(|| target_of(from, &to.iter().enumerate().map(copied).collect::<Vec<_>>()));
    Some((x, target?))
}

/// The value whose extent along the axis given an element of a vector of integers is.
fn origin(graph: &Graph, vector: ValueId, index: usize) -> Option<(ValueId, usize)> {
    let x = graph.operand(vector.node, 0);
    match graph.op(vector.node) {
        Op::ShapeOf(of) => {
            let x = x?;
            Some((x, of.axes(shape(graph, x)?.len()).start + index))
        }
        Op::Concat(_) => {
            let mut at = index;
            for part in graph.operands(vector.node).into_iter().flatten() {
                let len = graph.ty(part).as_tensor()?.numel()?;
                if at < len {
                    return origin(graph, part, at);
                }
                at -= len;
            }
            None
        }
        Op::Cast(_) | Op::Unsqueeze(_) | Op::Squeeze(_) => origin(graph, x?, index),
        Op::Gather(_) => {
            let picked = *int_operand(graph, vector.node, 1)?.get(index)?;
            let len = i64::try_from(graph.ty(x?).as_tensor()?.numel()?).ok()?;
            origin(graph, x?, usize::try_from(if picked < 0 { picked + len } else { picked }).ok()?)
        }
        Op::Slice(_) => {
            let (_, indices) = slices(graph, vector.node)?.into_iter().next()?;
            origin(graph, x?, *indices.get(index)?)
        }
        _ => None,
    }
}

/// Numbers that make a `reshape` of a value of shape `from` give the extents `to`: 0 where an extent is
/// copied from the same axis, −1 for one unknown among positive numbers.
pub(super) fn target_of(from: &[Dim], to: &[SymInt]) -> Option<Vec<i64>> {
    let copied = |i: usize, n: &SymInt| match (n, from.get(i)) {
        (SymInt::Int(n), _) => Some(*n),
        (SymInt::Sym(s), Some(Dim::Sym(d))) if s == d => Some(0),
        _ => None,
    };
    let target: Vec<Option<i64>> = to.iter().enumerate().map(|(i, n)| copied(i, n)).collect();
    let unknown = target.iter().filter(|n| n.is_none()).count();
    let positive = target.iter().flatten().all(|&n| n > 0);
    match unknown {
        0 => target.into_iter().collect(),
        1 if positive => Some(target.into_iter().map(|n| n.unwrap_or(-1)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_ir::Symbol;

    #[test]
    fn targets_in_numbers() {
        let n = || SymInt::Sym(Symbol::new("N"));
        let from = [Dim::sym("N"), Dim::Fixed(4), Dim::Any];
        assert_eq!(target_of(&from, &[n(), SymInt::Int(-1)]), Some(vec![0, -1]));
        assert_eq!(target_of(&from, &[SymInt::Int(4), n()]), Some(vec![4, -1]));
        assert_eq!(target_of(&from, &[SymInt::Any, SymInt::Int(2), SymInt::Int(3)]), Some(vec![-1, 2, 3]));
        assert_eq!(target_of(&from, &[SymInt::Int(-1), n()]), None, "two unknowns");
        assert_eq!(target_of(&from, &[n(), SymInt::Any]), None, "the copied extent may be zero");
    }
}
