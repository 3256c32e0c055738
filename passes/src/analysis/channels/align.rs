//! Which channels of a convolution by groups go together: by default those at the same place of every group, and
//! for rankings those of the same rank.
//!
//! A group of the convolution reads its own channels, so that the sets which go may differ from group to group as
//! long as they are as large. With the channels of each group in the order of their importance, those that matter
//! least go together.

use std::collections::BTreeMap;

use optc_ir::{Graph, NodeId, Op};

use super::ChannelGroups;

/// The channels of a convolution by groups, group after group, those of each in an order of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sides {
    /// Of the input.
    pub input: Vec<usize>,
    /// Of the output.
    pub output: Vec<usize>,
}

/// Orders of channels, by convolution. One that is not listed goes by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alignment(BTreeMap<NodeId, Option<Sides>>);

impl Alignment {
    /// Whether every convolution goes by place.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn sides(&self, node: NodeId) -> Option<&Option<Sides>> {
        self.0.get(&node)
    }

    /// Nothing goes together: channels found that way can be told apart and scored, but not removed.
    fn free(graph: &Graph) -> Alignment {
        Alignment(
            graph.topo_order().into_iter().filter(|&node| grouped(graph, node).is_some()).map(|n| (n, None)).collect(),
        )
    }

    /// Orders every convolution by groups whose channels are single ones by `score`, of a list of channels as
    /// [`ChannelGroups`] has them. Empty if that would keep more channels from being removed than order by place.
    pub fn by<E>(
        graph: &Graph,
        by_place: &ChannelGroups,
        score: impl FnOnce(&ChannelGroups) -> Result<Vec<Option<f64>>, E>,
    ) -> Result<Alignment, E> {
        let free = Alignment::free(graph);
        if free.is_empty() {
            return Ok(free);
        }
        let groups = ChannelGroups::aligned(graph, &free);
        let scores = score(&groups)?;
        let mut alignment = Alignment::default();
        for &node in free.0.keys() {
            let Some((count, x, w)) = grouped(graph, node) else { continue };
            let side = |axis: &super::AxisUnits, len: usize| -> Option<Vec<usize>> {
                let single = |i: usize| match axis.at(i) {
                    &[unit] => scores[unit.index()],
                    _ => None,
                };
                let of: Vec<f64> = (0..len).map(single).collect::<Option<_>>()?;
                let mut order: Vec<usize> = (0..len).collect();
                let per_group = len / count;
                order.sort_by(|&a, &b| {
                    (a / per_group).cmp(&(b / per_group)).then(of[a].total_cmp(&of[b])).then(a.cmp(&b))
                });
                Some(order)
            };
            let extent = |value, axis: usize| graph.ty(value).shape().and_then(|shape| shape.get(axis)?.fixed());
            let (Some(inputs), Some(outputs)) = (extent(x, 1), extent(w, 0)) else { continue };
            let input = side(&groups.axes(x)[1], inputs).unwrap_or_else(|| (0..inputs).collect());
            let output = side(&groups.axes(w)[0], outputs).unwrap_or_else(|| (0..outputs).collect());
            alignment.0.insert(node, Some(Sides { input, output }));
        }
        let aligned = ChannelGroups::aligned(graph, &alignment);
        let kept = |groups: &ChannelGroups| groups.groups.iter().map(|group| group.kept).sum::<usize>();
        let worse = aligned.len() < by_place.len() || kept(&aligned) > kept(by_place);
        Ok(if worse { Alignment::default() } else { alignment })
    }

    /// Every convolution by groups in an order that `order` gives for a number of channels in a number of groups.
    pub fn with(graph: &Graph, mut order: impl FnMut(usize, usize) -> Vec<usize>) -> Alignment {
        let mut alignment = Alignment::default();
        for node in graph.topo_order() {
            let Some((count, x, w)) = grouped(graph, node) else { continue };
            let extent = |value, axis: usize| graph.ty(value).shape().and_then(|shape| shape.get(axis)?.fixed());
            let (Some(inputs), Some(outputs)) = (extent(x, 1), extent(w, 0)) else { continue };
            let sides = Sides { input: order(inputs, count), output: order(outputs, count) };
            alignment.0.insert(node, Some(sides));
        }
        alignment
    }
}

/// The groups, the input and the weight of a convolution whose groups have more than one channel on both sides, and
/// whose weight is a constant of its own.
fn grouped(graph: &Graph, node: NodeId) -> Option<(usize, optc_ir::ValueId, optc_ir::ValueId)> {
    let Op::Conv(conv) = graph.op(node) else { return None };
    let (x, w) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
    let &[rows, columns, ..] = graph.constant(w)?.shape() else { return None };
    let own = graph.sole_user(w) == Some(node);
    (conv.group > 1 && columns > 1 && rows > conv.group && own).then_some((conv.group, x, w))
}
