//! Channel groups: which channels of a network can be removed, and what goes with each.
//!
//! The unit of reasoning is an index of an axis of a value. Every operator says how the indices of its
//! operands and results belong together (elementwise: pairwise; flatten: a channel and its block; concat: by
//! offset; a head: all its features; …), and unification of those ties leaves classes that can
//! only go as a whole: the units. A residual stage has one unit per channel of all its convolutions.
//! Contractions end a unit: the weights that read a channel go with it, and nothing behind them does.
//!
//! Of a convolution by groups, channels at the same place of every group go together, or those of the same rank in
//! an order that an [`Alignment`] gives.
//!
//! Units that came out of the same axes are one [`Group`]. What can't be followed is never guessed: it blocks
//! the channels it touches, and the group says which node was the first to.
//!
//! The model is that of DepGraph (Fang et al. 2023) with indices instead of layers, so that concatenation,
//! slicing, shuffling, heads and flattening are the same rule. Removal is [`remove`].
//!
//! **Invariant:** removing any set of units that leaves every axis at least one index gives a graph of valid
//! types, and one that computes the same as before wherever the removed channels contributed zero, unless
//! [`ChannelGroups::statistics`] says otherwise.

mod align;
mod edit;
mod explain;
mod flow;
mod labels;
mod layers;
mod movement;
mod pointwise;
mod remove;
mod trace;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use optc_ir::{Graph, NodeId, Op, ValueId};

pub use align::{Alignment, Sides};
pub use explain::{Explanation, Limit, Place, Tie};
pub use flow::{Flow, unpadded};
pub use labels::Blocker;
pub(crate) use movement::{Segment, segments, slices};
pub use remove::{RemoveError, remove};

use crate::pass::Analysis;
use labels::{Axis, Label};
use trace::Trace;

/// A set of indices, of axes all over a graph, that can only be removed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(u32);

impl UnitId {
    /// Its place among [`ChannelGroups::units`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Gives every reader of a floating-point constant a constant of its own, with the same payload. Equal numbers
/// in one constant would tie the channels of layers that have nothing else in common.
pub fn unshare(graph: &mut Graph) {
    for node in graph.topo_order() {
        let Op::Const(constant) = graph.op(node) else { continue };
        if !constant.dtype().is_float() || constant.len() < 2 {
            continue;
        }
        let (constant, name) = (constant.clone(), graph.name(node).to_owned());
        for (user, slot) in graph.uses(node.into()).into_iter().skip(1) {
            let copy = graph.add_constant(&name, constant.clone());
            graph.set_operand(user, slot, Some(copy.into()));
        }
    }
}

/// Units that came out of the same axes: the channels of a stage, the heads of an attention layer.
#[derive(Clone, Debug)]
pub struct Group {
    /// Those that can be removed, in order of their indices.
    pub units: Vec<UnitId>,
    /// How many more channels there are that can't.
    pub kept: usize,
    /// The first reason why those can't, if there are any.
    pub blocker: Option<Blocker>,
    /// Weights whose rows make these channels: node, operand slot, axis.
    pub producers: Vec<Made>,
}

/// The units of each index of an axis. An index goes if any of its units does.
#[derive(Clone, Debug)]
pub struct AxisUnits {
    ends: Vec<u32>,
    units: Vec<UnitId>,
}

impl AxisUnits {
    /// The units of an index; none if it always stays.
    pub fn at(&self, index: usize) -> &[UnitId] {
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.units[start as usize..end as usize]
    }

    /// Whether no index can go. Such an axis does not know its extent.
    pub fn is_fixed(&self) -> bool {
        self.units.is_empty()
    }

    /// The extent of an axis that is not fixed.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no indices; as [`AxisUnits::is_fixed`].
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// The indices that stay without the units marked.
    pub(crate) fn kept(&self, removed: &[bool]) -> Vec<usize> {
        (0..self.len()).filter(|&i| !self.at(i).iter().any(|unit| removed[unit.index()])).collect()
    }
}

/// An axis that is summed over: where units end.
#[derive(Clone, Debug)]
pub struct Contraction {
    /// Who sums.
    pub node: NodeId,
    /// Which operand.
    pub slot: usize,
    /// Which axis of it.
    pub axis: usize,
    /// The units that end here, by index within one of `groups` equal parts of the axis.
    pub ends: Rc<AxisUnits>,
    /// See `ends`.
    pub groups: usize,
    /// The operand that the summed one is multiplied with, and its axis.
    pub partner: Option<(usize, usize)>,
    /// Whether the partner's axis is as long as one part, not as the whole.
    pub local: bool,
}

/// The analysis; see the module.
#[derive(Debug)]
pub struct ChannelGroups {
    /// The groups that have units or blocked channels, in topological order.
    pub groups: Vec<Group>,
    /// Where units end, in topological order.
    pub contractions: Vec<Contraction>,
    axes: HashMap<ValueId, Vec<Rc<AxisUnits>>>,
    /// Every different axis, to see that none is emptied.
    distinct: Vec<Rc<AxisUnits>>,
    /// The groups of grouped operators.
    parts: HashMap<NodeId, Rc<AxisUnits>>,
    group_of: Vec<u32>,
    statistics: Vec<Option<NodeId>>,
    /// Every weight whose rows could make channels, and the first reason why some of them must stay.
    makers: Vec<(Made, Option<Blocker>)>,
    /// Weights of convolutions by groups that are aligned, by their constant: the columns there are, and the units
    /// of the input channels, each of which is a column of the rows of its group.
    columns: HashMap<NodeId, (usize, Rc<AxisUnits>)>,
}

/// A weight whose rows make channels: node, operand slot, axis.
type Made = (NodeId, usize, usize);

impl ChannelGroups {
    /// How many units there are.
    pub fn len(&self) -> usize {
        self.group_of.len()
    }

    /// Whether nothing can be removed.
    pub fn is_empty(&self) -> bool {
        self.group_of.is_empty()
    }

    /// Every unit.
    pub fn units(&self) -> impl Iterator<Item = UnitId> + '_ {
        (0..u32::try_from(self.len()).expect("units are counted in u32")).map(UnitId)
    }

    /// The group of a unit, as a place among [`ChannelGroups::groups`].
    pub fn group_of(&self, unit: UnitId) -> usize {
        self.group_of[unit.index()] as usize
    }

    /// The units of the axes of a value.
    pub fn axes(&self, value: impl Into<ValueId>) -> &[Rc<AxisUnits>] {
        self.axes.get(&value.into()).map_or(&[], Vec::as_slice)
    }

    /// The groups of a grouped operator.
    pub(crate) fn parts(&self, node: NodeId) -> Option<&AxisUnits> {
        self.parts.get(&node).map(Rc::as_ref)
    }

    /// How many columns a weight has and the units of those of all groups of rows, if which go differs between them.
    pub(crate) fn columns(&self, constant: NodeId) -> Option<(usize, &AxisUnits)> {
        let (width, units) = self.columns.get(&constant)?;
        (!units.is_fixed() && *width > 0).then_some((*width, units))
    }

    /// The first node that takes statistics over channels of this unit (a mean, a layer normalisation), so
    /// that removing even zeros changes its results.
    pub fn statistics(&self, unit: UnitId) -> Option<NodeId> {
        self.statistics[unit.index()]
    }

    /// As many of these units as can go without emptying an axis: of one that would be, the index whose units
    /// come last in the list stays.
    pub fn spare(&self, units: &[UnitId]) -> Vec<UnitId> {
        let mut rank: HashMap<UnitId, usize> = HashMap::new();
        let mut removed = vec![false; self.len()];
        for (i, unit) in units.iter().enumerate() {
            rank.insert(*unit, i);
            removed[unit.index()] = true;
        }
        loop {
            let mut changed = false;
            for axis in &self.distinct {
                if !axis.kept(&removed).is_empty() {
                    continue;
                }
                let going = |i: usize| axis.at(i).iter().copied().filter(|unit| removed[unit.index()]);
                // An index returns when all its units do; the one whose first to go is latest is worth most.
                let least = |&i: &usize| going(i).filter_map(|unit| rank.get(&unit)).min();
                let Some(best) = (0..axis.len()).max_by_key(least) else { continue };
                let back: Vec<UnitId> = going(best).collect();
                back.iter().for_each(|unit| removed[unit.index()] = false);
                changed = true;
            }
            if !changed {
                break;
            }
        }
        units.iter().copied().filter(|unit| removed[unit.index()]).collect()
    }
}

impl Analysis for ChannelGroups {
    fn of(graph: &Graph) -> ChannelGroups {
        ChannelGroups::aligned(graph, &Alignment::default())
    }
}

impl ChannelGroups {
    /// The groups of a graph in which channels of convolutions by groups go together in an order of their own.
    pub fn aligned(graph: &Graph, alignment: &Alignment) -> ChannelGroups {
        let mut trace = Trace::of(graph, alignment);
        let order = graph.topo_order();
        let values =
            || order.iter().flat_map(|&node| (0..graph.result_count(node).max(1)).map(move |i| node.result(i)));
        let mut finish = Finish::default();
        // A label that no activation carries is none of a channel, but of a constant nobody cuts.
        for value in values().filter(|value| !matches!(graph.op(value.node), Op::Const(_))) {
            for axis in trace.axes.get(&value).cloned().unwrap_or_default() {
                finish.name(&mut trace, &axis);
            }
        }
        let mut axes = HashMap::new();
        for value in values() {
            let of_value: Vec<Rc<AxisUnits>> = trace
                .axes
                .get(&value)
                .cloned()
                .unwrap_or_default()
                .iter()
                .map(|a| finish.axis(&mut trace, a))
                .collect();
            axes.insert(value, of_value);
        }
        let contractions = std::mem::take(&mut trace.contractions);
        let contraction = |c: trace::Contraction| Contraction {
            node: c.node,
            slot: c.slot,
            axis: c.axis,
            ends: finish.axis(&mut trace, &c.ends),
            groups: c.groups,
            partner: c.partner.map(|partner| (partner.slot, partner.axis)),
            local: c.partner.is_some_and(|partner| partner.local),
        };
        let contractions = contractions.into_iter().map(contraction).collect();
        let mut parts = HashMap::new();
        for node in &order {
            if let Some(axis) = trace.groups.get(node).cloned() {
                parts.insert(*node, finish.axis(&mut trace, &axis));
            }
        }
        let mut columns = HashMap::new();
        for node in &order {
            if let (Some(axis), Some(w)) = (trace.ranked.get(node).cloned(), graph.operand(*node, 1)) {
                let width = graph.ty(w).shape().and_then(|shape| shape.get(1)?.fixed()).unwrap_or(0);
                columns.insert(w.node, (width, finish.axis(&mut trace, &axis)));
            }
        }
        let mut statistics = vec![None; finish.group_of.len()];
        for (node, axis) in std::mem::take(&mut trace.statistics) {
            for unit in &finish.axis(&mut trace, &axis).units {
                statistics[unit.index()].get_or_insert(node);
            }
        }
        let mut makers = Vec::new();
        for (node, slot, axis) in std::mem::take(&mut trace.producers) {
            let Some(value) = graph.operand(node, slot) else { continue };
            let labels = trace.axes.get(&value).and_then(|axes| axes.get(axis)).cloned();
            makers.push(((node, slot, axis), labels.and_then(|axis| trace.blocker(&axis))));
            let made: HashSet<u32> =
                axes[&value][axis].units.iter().map(|unit| finish.group_of[unit.index()]).collect();
            let mut made: Vec<u32> = made.into_iter().collect();
            made.sort_unstable();
            made.into_iter().for_each(|group| finish.groups[group as usize].producers.push((node, slot, axis)));
        }
        let Finish { groups, group_of, distinct, .. } = finish;
        ChannelGroups { groups, contractions, axes, distinct, parts, group_of, statistics, makers, columns }
    }
}

/// Turns labels into units.
#[derive(Default)]
struct Finish {
    groups: Vec<Group>,
    group_of: Vec<u32>,
    units: HashMap<Label, UnitId>,
    blocked: HashSet<Label>,
    families: HashMap<u32, u32>,
    made: HashMap<*const Axis, (Rc<Axis>, Rc<AxisUnits>)>,
    distinct: Vec<Rc<AxisUnits>>,
}

impl Finish {
    /// Makes units of the labels of an axis that is not known yet.
    fn name(&mut self, trace: &mut Trace<'_>, axis: &Axis) {
        for label in trace.labels.resolve_axis(axis).concat() {
            if self.units.contains_key(&label) || self.blocked.contains(&label) {
                continue;
            }
            let next = u32::try_from(self.groups.len()).expect("there are fewer groups than labels");
            let group = *self.families.entry(trace.labels.family(label)).or_insert(next);
            if group == next {
                self.groups.push(Group { units: Vec::new(), kept: 0, blocker: None, producers: Vec::new() });
            }
            let of = &mut self.groups[group as usize];
            match trace.labels.blocker(label) {
                Some(blocker) => {
                    of.kept += 1;
                    of.blocker.get_or_insert(blocker);
                    self.blocked.insert(label);
                }
                None => {
                    let unit = UnitId(u32::try_from(self.group_of.len()).expect("units are counted in u32"));
                    of.units.push(unit);
                    self.group_of.push(group);
                    self.units.insert(label, unit);
                }
            }
        }
    }

    fn axis(&mut self, trace: &mut Trace<'_>, axis: &Rc<Axis>) -> Rc<AxisUnits> {
        if let Some((_, made)) = self.made.get(&Rc::as_ptr(axis)) {
            return made.clone();
        }
        let (mut ends, mut units) = (Vec::new(), Vec::new());
        for list in trace.labels.resolve_axis(axis) {
            units.extend(list.iter().filter_map(|label| self.units.get(label)));
            ends.push(u32::try_from(units.len()).expect("units are counted in u32"));
        }
        if units.is_empty() {
            ends.clear();
        }
        let made = Rc::new(AxisUnits { ends, units });
        if !made.is_fixed() {
            self.distinct.push(made.clone());
        }
        // The axis is kept so that its address stays its own.
        self.made.insert(Rc::as_ptr(axis), (axis.clone(), made.clone()));
        made
    }
}
