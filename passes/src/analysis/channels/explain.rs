//! What a group of channels consists of: who makes it, who reads it, what holds it together, what limits it.

use std::collections::{BTreeMap, BTreeSet};

use optc_ir::{Dim, Graph, NodeId, Op, ValueId};

use super::{AxisUnits, Blocker, ChannelGroups, Group};

/// A place where the channels of a group lie along an axis of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whose operand.
    pub node: NodeId,
    /// Which operand.
    pub slot: usize,
    /// Which axis of it.
    pub axis: usize,
    /// How many indices of that axis one channel is: more than one where it was flattened with others, or where
    /// it is all of a head.
    pub indices: usize,
}

/// What holds channels of several values together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tie {
    /// The node that does.
    pub node: NodeId,
    /// How, as the end of a sentence that begins with its name.
    pub reason: &'static str,
}

/// What limits which channels of a group may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// The channels of that group are heads, or parts of a grouped convolution, and those of this one the places
    /// within them.
    Within(usize),
    /// A convolution or normalisation by groups loses whole parts, or as many channels of every part.
    Parts(NodeId, usize),
    /// The node takes statistics over the channels, so that the others change when one goes.
    Statistics(NodeId),
}

/// All there is to say of a group; see the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Weights whose rows make the channels.
    pub made_by: Vec<Place>,
    /// Who sums over the channels.
    pub read_by: Vec<Place>,
    /// What ties channels of several values together.
    pub tied_by: Vec<Tie>,
    /// Other nodes that the channels run through.
    pub through: Vec<NodeId>,
    /// What limits which may go.
    pub limits: Vec<Limit>,
}

impl ChannelGroups {
    /// The groups that have channels along an axis.
    pub fn groups_of(&self, axis: &AxisUnits) -> BTreeSet<usize> {
        axis.units.iter().map(|&unit| self.group_of(unit)).collect()
    }

    /// The groups whose channels a node gives: those along the axes of its results.
    pub fn given_by(&self, graph: &Graph, node: NodeId) -> BTreeSet<usize> {
        let results = (0..graph.result_count(node)).map(|i| node.result(i));
        results.flat_map(|value| self.axes(value).iter().flat_map(|axis| self.groups_of(axis))).collect()
    }

    /// The groups whose channels end at a node, which sums over them.
    pub fn ended_by(&self, node: NodeId) -> BTreeSet<usize> {
        let here = self.contractions.iter().filter(|contraction| contraction.node == node);
        here.flat_map(|contraction| self.groups_of(&contraction.ends)).collect()
    }

    /// What a group consists of.
    pub fn explain(&self, graph: &Graph, group: usize) -> Explanation {
        let has = |axis: &AxisUnits| axis.units.iter().any(|&unit| self.group_of(unit) == group);
        let carries = |value: ValueId| self.axes(value).iter().any(|axis| has(axis));
        let mut explanation = Explanation::default();
        let mut named: BTreeSet<NodeId> = BTreeSet::new();
        for &(node, slot, axis) in &self.groups[group].producers {
            let indices = graph.operand(node, slot).map_or(1, |w| self.indices(&self.axes(w)[axis], group));
            explanation.made_by.push(Place { node, slot, axis, indices });
            named.insert(node);
        }
        for contraction in self.contractions.iter().filter(|contraction| has(&contraction.ends)) {
            let (node, slot, axis) = (contraction.node, contraction.slot, contraction.axis);
            let indices = self.indices(&contraction.ends, group);
            explanation.read_by.push(Place { node, slot, axis, indices });
        }
        for node in graph.topo_order() {
            if matches!(graph.op(node), Op::Const(_) | Op::Return(_) | Op::Input(_)) {
                continue;
            }
            let data = graph.operands(node).into_iter().flatten().filter(|&v| graph.constant(v).is_none());
            let carrying = data.filter(|&value| carries(value)).count();
            let results = (0..graph.result_count(node)).map(|i| node.result(i)).any(&carries);
            let summed = self.contractions.iter().any(|c| c.node == node && c.partner.is_some() && has(&c.ends));
            if let Some(reason) = tie(graph, node, carrying, results, summed) {
                explanation.tied_by.push(Tie { node, reason });
            } else if results && carrying > 0 && !named.contains(&node) {
                explanation.through.push(node);
            }
            if let Some(parts) = self.parts(node)
                && results
                && !parts.is_fixed()
                && !depthwise(graph, node, parts.len())
            {
                explanation.limits.push(Limit::Parts(node, parts.len()));
            }
        }
        explanation.limits.extend(self.outer(graph).get(&group).into_iter().flatten().map(|&of| Limit::Within(of)));
        let counting: BTreeSet<NodeId> =
            self.groups[group].units.iter().filter_map(|&unit| self.statistics(unit)).collect();
        explanation.limits.extend(counting.into_iter().map(Limit::Statistics));
        explanation.limits.sort();
        explanation
    }

    /// Why `prune-filters` leaves a group alone; `None` if it does not.
    pub fn obstacle(&self, graph: &Graph, group: usize) -> Option<String> {
        let Group { units, blocker, producers, .. } = &self.groups[group];
        let Some(&(made, slot, _)) = producers.first() else {
            return Some("no weights make these channels".to_owned());
        };
        let blocked = blocker.map(|blocker| format!("{} {}", graph.name(blocker.node), blocker.reason));
        if units.is_empty() {
            return blocked;
        }
        if units.len() < 2 {
            return Some("one channel must stay".to_owned());
        }
        if let Some(other) = self.instead(graph).get(&group) {
            return Some(format!("group {other} is pruned instead, with which these make up axes"));
        }
        let constant = graph.constant_operand(made, slot).is_some_and(|weight| weight.dtype().is_float());
        (!constant).then(|| format!("the weights of {} are no constant of floating-point numbers", graph.name(made)))
    }

    /// Layers with weights none of whose channels can go, and why that is; `None` for those that have one channel.
    pub fn fixed_layers(&self, graph: &Graph) -> Vec<(NodeId, Option<Blocker>)> {
        let fixed = |&(node, slot, axis): &(NodeId, usize, usize)| {
            graph.operand(node, slot).is_some_and(|weight| self.axes(weight)[axis].is_fixed())
        };
        let single = |&(node, slot, axis): &(NodeId, usize, usize)| {
            let shape = graph.operand(node, slot).and_then(|weight| graph.ty(weight).shape());
            shape.is_some_and(|shape| shape[axis] == Dim::Fixed(1))
        };
        let mut layers: Vec<(NodeId, Option<Blocker>)> = Vec::new();
        for &(made, blocker) in &self.makers {
            let node = made.0;
            let blocker = blocker.filter(|_| !single(&made));
            if fixed(&made) && !layers.iter().any(|(known, _)| *known == node) {
                layers.push((node, blocker));
            }
        }
        layers
    }

    /// How many indices of an axis the unit of a group has that has most there.
    fn indices(&self, axis: &AxisUnits, group: usize) -> usize {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for unit in axis.units.iter().filter(|&&unit| self.group_of(unit) == group) {
            *counts.entry(unit.index()).or_default() += 1;
        }
        counts.into_values().max().unwrap_or(0)
    }

    /// Groups that are not pruned, and one that is in the place of each. Where axes are made of two groups, as of
    /// heads and the places within them, taking a fraction of both would take that fraction twice. Of heads and
    /// places whole heads go. Of the parts of a convolution and the places within them, what there is more of.
    pub fn instead(&self, graph: &Graph) -> BTreeMap<usize, usize> {
        let outer = self.outer(graph);
        let convolutions = self.parts.iter().filter(|(node, _)| matches!(graph.op(**node), Op::Conv(_)));
        let parts: BTreeSet<usize> = convolutions.flat_map(|(_, axis)| self.groups_of(axis)).collect();
        let units = |group: usize| self.groups[group].units.len();
        let mut inners: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (&inner, outers) in &outer {
            outers.iter().for_each(|&outer| inners.entry(outer).or_default().push(inner));
        }
        let coarse = |group: &usize| {
            let finer = |inner: &usize| units(*inner) > units(*group);
            parts.contains(group) && !outer.contains_key(group) && inners[group].iter().all(finer)
        };
        let mut instead = BTreeMap::new();
        for (&group, within) in &inners {
            if coarse(&group) {
                instead.insert(group, within[0]);
            }
        }
        for (&inner, outers) in &outer {
            if let Some(&stays) = outers.iter().find(|group| !coarse(group)) {
                instead.insert(inner, stays);
            }
        }
        instead
    }

    /// For each group of places within heads, or within the parts of a grouped convolution, the groups of those
    /// heads and parts.
    fn outer(&self, graph: &Graph) -> BTreeMap<usize, BTreeSet<usize>> {
        let mut outer: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for &(node, slot, axis) in self.groups.iter().flat_map(|group| &group.producers) {
            let Some(axis) = graph.operand(node, slot).map(|weight| &self.axes(weight)[axis]) else { continue };
            for i in 0..axis.len() {
                let Some((&first, rest)) = axis.at(i).split_first() else { continue };
                let first = self.group_of(first);
                for inner in rest.iter().map(|&unit| self.group_of(unit)).filter(|&inner| inner != first) {
                    outer.entry(inner).or_default().insert(first);
                }
            }
        }
        outer
    }
}

/// Whether each part of a grouped operator is one channel, which no two parts share.
fn depthwise(graph: &Graph, node: NodeId, parts: usize) -> bool {
    let channels = graph.operand(node, 0).and_then(|x| graph.ty(x).shape()?.get(1)?.fixed());
    channels == Some(parts)
}

/// Whether a node ties channels of a group together, and how.
fn tie(graph: &Graph, node: NodeId, carrying: usize, results: bool, summed: bool) -> Option<&'static str> {
    let grouped = match graph.op(node) {
        Op::Conv(conv) => conv.group,
        Op::ConvTranspose(conv) => conv.group,
        Op::QLinearConv(conv) => conv.group,
        Op::ConvInteger(conv) => conv.group,
        _ => 1,
    };
    match graph.op(node) {
        _ if grouped > 1 && carrying > 0 && results => Some("convolves each channel, or part of them, by itself"),
        Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_) if results => Some("has every hidden unit in all of its gates"),
        _ if carrying < 2 => None,
        Op::Concat(_) => Some("joins them, with further axes that go together"),
        Op::MatMul(_) | Op::Einsum(_) | Op::Gemm(_) if summed => Some("multiplies them index by index"),
        Op::MatMul(_) | Op::Einsum(_) => Some("goes through them side by side"),
        _ => Some("combines them element by element"),
    }
}
