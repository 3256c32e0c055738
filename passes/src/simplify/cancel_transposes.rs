//! Cancels transposes, also across elementwise nodes between them.
//!
//! Two transposes in a row are one, with the composed permutation, or none. Elementwise nodes do not care
//! about the order of axes: a region of them whose operands come through transposes `p` and whose
//! results go through inverse ones is computed without any, its constants transposed instead. Where a
//! value enters or leaves the region otherwise, one transpose is put there.
//!
//! **Applies when** fewer transposes are left than before.
//!
//! Exact: the same numbers are computed in another order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use optc_ir::interp::eval;
use optc_ir::op::Transpose;
use optc_ir::{Constant, Graph, NodeId, Op, ValueId};

use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};
use crate::rewrite::{bypass, detach, rank};

/// The pass; see the module.
pub struct CancelTransposes;

impl Pass for CancelTransposes {
    fn name(&self) -> &'static str {
        "cancel-transposes"
    }

    fn effect(&self) -> Effect {
        Effect::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            compose(graph, cx, node);
        }
        for node in graph.topo_order() {
            if permutation(graph, node).is_some()
                && let Some(region) = Region::behind(graph, node).filter(|region| region.gain > 0)
            {
                let gain = region.gain;
                region.rewrite(graph);
                cx.applied(graph, node, format_args!("moved through elementwise nodes; {gain} transposes fewer"));
            }
        }
        Ok(())
    }
}

/// The permutation of a transpose: axis `i` of the result is axis `perm[i]` of the operand.
fn permutation(graph: &Graph, node: NodeId) -> Option<Vec<usize>> {
    let Op::Transpose(transpose) = graph.op(node) else { return None };
    let rank = rank(graph, graph.operand(node, 0)?)?;
    if transpose.perm.is_empty() { Some((0..rank).rev().collect()) } else { Some(transpose.perm.clone()) }
}

fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    for (i, &p) in perm.iter().enumerate() {
        inverse[p] = i;
    }
    inverse
}

/// Merges a transpose with one that feeds it.
fn compose(graph: &mut Graph, cx: &mut PassCx<'_>, node: NodeId) {
    let Some(outer) = permutation(graph, node) else { return };
    let Some(inner_node) = graph.operand(node, 0).map(|x| x.node) else { return };
    let (Some(inner), Some(x)) = (permutation(graph, inner_node), graph.operand(inner_node, 0)) else { return };
    let perm: Vec<usize> = outer.iter().map(|&i| inner[i]).collect();
    if perm.iter().enumerate().all(|(i, &p)| i == p) {
        if bypass(graph, node, x) {
            cx.applied(graph, node, format_args!("undoes {}", graph.name(inner_node)));
        }
    } else {
        graph.set_operand(node, 0, Some(x));
        graph.set_op(node, Transpose { perm });
        cx.applied(graph, node, format_args!("merged with {}", graph.name(inner_node)));
    }
}

/// Whether every element of the result depends on the elements of the operands at the same place only.
fn is_elementwise(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Variadic(_)
            | Op::LeakyRelu(_)
            | Op::Elu(_)
            | Op::Celu(_)
            | Op::Selu(_)
            | Op::HardSigmoid(_)
            | Op::ThresholdedRelu(_)
            | Op::Shrink(_)
            | Op::Gelu(_)
            | Op::IsInf(_)
            | Op::Clip(_)
            | Op::Cast(_)
            | Op::Where(_)
            | Op::Mod(_)
            | Op::BitShift(_)
    )
}

/// Connected elementwise nodes behind a transpose, and what crossing their border costs.
struct Region {
    perm: Vec<usize>,
    nodes: BTreeSet<NodeId>,
    /// Values that enter, and what they become.
    entries: BTreeMap<ValueId, Entry>,
    /// Transposes that leave and vanish.
    exits: BTreeSet<NodeId>,
    /// Transposes fewer afterwards.
    gain: isize,
}

/// What stands for a value that enters a region.
enum Entry {
    /// The operand of the transpose it comes from.
    Before(ValueId),
    /// The constant with its axes permuted.
    Permuted(Constant),
    /// Itself: a single element.
    Same,
    /// Itself through a new inverse transpose.
    Transposed,
}

/// Nodes a region may have: it is searched again from every transpose.
const MAX_REGION: usize = 256;

/// Elements of a constant that is transposed: it may have other users, who keep the original.
const MAX_CONSTANT: usize = 1 << 16;

impl Region {
    /// The region that the users of a transpose belong to.
    fn behind(graph: &Graph, transpose: NodeId) -> Option<Region> {
        let perm = permutation(graph, transpose)?;
        let mut region =
            Region { perm, nodes: BTreeSet::new(), entries: BTreeMap::new(), exits: BTreeSet::new(), gain: 0 };
        let mut pending: Vec<NodeId> = users(graph, transpose);
        while let Some(node) = pending.pop() {
            if region.nodes.contains(&node) || !region.fits(graph, node) {
                continue;
            }
            if region.nodes.len() == MAX_REGION {
                return None;
            }
            region.nodes.insert(node);
            pending.extend(users(graph, node));
            pending.extend(graph.operands(node).into_iter().flatten().map(|value| value.node));
        }
        if region.nodes.is_empty() {
            return None;
        }
        region.weigh(graph)?;
        Some(region)
    }

    /// Whether a node can be computed with its axes in another order: all its operands have the axes of
    /// its result, or are constants or scalars.
    fn fits(&self, graph: &Graph, node: NodeId) -> bool {
        let full = |value: ValueId| {
            let rank = rank(graph, value);
            rank == Some(self.perm.len()) || rank == Some(0) || graph.constant(value).is_some()
        };
        is_elementwise(graph.op(node))
            && rank(graph, node) == Some(self.perm.len())
            && graph.operands(node).into_iter().flatten().all(full)
    }

    /// Sorts what enters and leaves, and counts transposes.
    fn weigh(&mut self, graph: &Graph) -> Option<()> {
        let inverse = inverse(&self.perm);
        for &node in &self.nodes {
            for value in graph.operands(node).into_iter().flatten() {
                if self.nodes.contains(&value.node) || self.entries.contains_key(&value) {
                    continue;
                }
                let single = |constant: &Arc<Constant>| constant.len() == 1;
                let entry = if rank(graph, value) == Some(0) || graph.constant(value).is_some_and(single) {
                    Entry::Same
                } else if let Some(constant) = graph.constant(value) {
                    Entry::Permuted(self.permute(constant, &inverse)?)
                } else if permutation(graph, value.node).as_ref() == Some(&self.perm) {
                    let inside = |user: &NodeId| self.nodes.contains(user);
                    self.gain += isize::from(users(graph, value.node).iter().all(inside));
                    let x = graph.operand(value.node, 0)?;
                    if self.nodes.contains(&x.node) {
                        // What the transpose would be replaced by changes its own axes.
                        return None;
                    }
                    Entry::Before(x)
                } else {
                    self.gain -= 1;
                    Entry::Transposed
                };
                self.entries.insert(value, entry);
            }
            let mut leaves = false;
            for user in users(graph, node) {
                if permutation(graph, user).as_ref() == Some(&inverse) {
                    self.exits.insert(user);
                } else {
                    leaves |= !self.nodes.contains(&user);
                }
            }
            self.gain -= isize::from(leaves);
        }
        self.gain += isize::try_from(self.exits.len()).unwrap_or(isize::MAX);
        Some(())
    }

    /// A constant as the region will see it: axes permuted, after leading ones to make it full.
    fn permute(&self, constant: &Constant, inverse: &[usize]) -> Option<Constant> {
        let missing = self.perm.len().checked_sub(constant.shape().len())?;
        if constant.len() > MAX_CONSTANT || constant.as_dense().is_none() {
            return None;
        }
        let mut shape = vec![1; missing];
        shape.extend(constant.shape());
        let full = constant.decode().reshaped(shape);
        let results = eval(&Transpose { perm: inverse.to_vec() }.into(), &[Some(&full)]).ok()?;
        results.into_iter().next().map(Constant::dense)
    }

    fn rewrite(self, graph: &mut Graph) {
        let inverse = inverse(&self.perm);
        // Values that leave otherwise are transposed back for whoever is outside.
        for &node in &self.nodes {
            let outside = |user: &NodeId| !self.nodes.contains(user) && !self.exits.contains(user);
            let leaving: Vec<(NodeId, usize)> =
                graph.uses(node.into()).into_iter().filter(|(user, _)| outside(user)).collect();
            if leaving.is_empty() {
                continue;
            }
            let name = format!("{}.transposed", graph.name(node));
            let operands = [Some(ValueId::from(node))];
            let back = graph.add(&name, Transpose { perm: self.perm.clone() }, &operands);
            let back = back.expect("the permutation has the rank of the region");
            for (user, slot) in leaving {
                graph.set_operand(user, slot, Some(back.into()));
            }
        }
        let mut replaced: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        for (value, entry) in self.entries {
            let name = format!("{}.transposed", graph.name(value.node));
            let new = match entry {
                Entry::Same => continue,
                Entry::Before(x) => x,
                Entry::Permuted(constant) => graph.add_constant(&name, constant).into(),
                Entry::Transposed => {
                    let added = graph.add(&name, Transpose { perm: inverse.clone() }, &[Some(value)]);
                    added.expect("the permutation has the rank of the region").into()
                }
            };
            replaced.insert(value, new);
        }
        for &node in &self.nodes {
            for (slot, operand) in graph.operands(node).into_iter().enumerate() {
                if let Some(new) = operand.and_then(|value| replaced.get(&value)) {
                    graph.set_operand(node, slot, Some(*new));
                }
            }
        }
        // The type of an exit is that of the new order by now, so it can't be compared any more.
        for exit in self.exits {
            if let Some(value) = graph.operand(exit, 0) {
                graph.replace_uses(exit.into(), value);
                detach(graph, exit);
            }
        }
    }
}

fn users(graph: &Graph, node: NodeId) -> Vec<NodeId> {
    let mut users: Vec<NodeId> = graph.uses(node.into()).into_iter().map(|(user, _)| user).collect();
    users.dedup();
    users
}
