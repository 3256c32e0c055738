//! The walk over a graph that ties its axes together.
//!
//! Every operator states what it does to the axes of its operands, in [`super::layers`],
//! [`super::pointwise`] or [`super::movement`]. One that states nothing is a barrier: all its operands stay as
//! they are.

use std::collections::HashMap;
use std::rc::Rc;

use optc_ir::op::Unary;
use optc_ir::{Dim, Graph, NodeId, Op, Type, ValueId};

use super::align::Alignment;
use super::labels::{Axis, Blocker, Labels};

/// The longest axis whose indices are told apart.
const MAX_EXTENT: usize = 1 << 17;

/// An axis that is summed over.
#[derive(Clone, Debug)]
pub(super) struct Contraction {
    /// Who sums.
    pub(super) node: NodeId,
    /// Which operand.
    pub(super) slot: usize,
    /// Which axis of it.
    pub(super) axis: usize,
    /// The labels that end here, by index within one of `groups` equal parts of the axis.
    pub(super) ends: Rc<Axis>,
    /// See `ends`.
    pub(super) groups: usize,
    /// Operand and axis that the summed one is multiplied with, index by index.
    pub(super) partner: Option<Partner>,
}

/// The other factor of a contraction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partner {
    /// Its operand slot.
    pub(super) slot: usize,
    /// Its axis.
    pub(super) axis: usize,
    /// Whether that axis is as long as one part of the summed axis, instead of the whole.
    pub(super) local: bool,
}

/// What the walk found out.
pub(super) struct Trace<'g> {
    pub(super) graph: &'g Graph,
    pub(super) labels: Labels,
    /// The axes of every value visited.
    pub(super) axes: HashMap<ValueId, Vec<Rc<Axis>>>,
    pub(super) contractions: Vec<Contraction>,
    /// Weights whose rows make channels: node, operand slot, axis.
    pub(super) producers: Vec<(NodeId, usize, usize)>,
    /// Axes over which a node takes statistics that change with their extent.
    pub(super) statistics: Vec<(NodeId, Rc<Axis>)>,
    /// The groups of grouped convolutions and normalisations.
    pub(super) groups: HashMap<NodeId, Rc<Axis>>,
    /// What goes together in convolutions by groups.
    pub(super) alignment: &'g Alignment,
    /// The labels of the places of the input channels of aligned convolutions.
    pub(super) ranked: HashMap<NodeId, Rc<Axis>>,
}

/// The operands that say how an operator works and hold no channels.
fn control(op: &Op) -> std::ops::Range<usize> {
    match op {
        Op::Reshape(_) | Op::Expand(_) | Op::Tile(_) | Op::TopK(_) | Op::CumSum(_) | Op::Trilu(_) => 1..2,
        Op::ConstantOfShape(_) => 0..1,
        Op::Clip(_) => 1..3,
        Op::Pad(_) | Op::Resize(_) => 1..4,
        Op::Slice(_) => 1..5,
        Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_) => 4..5,
        _ => 0..0,
    }
}

const UNKNOWN: &str = "has an operand of unknown rank";

impl<'g> Trace<'g> {
    /// Walks a graph.
    pub(super) fn of(graph: &'g Graph, alignment: &'g Alignment) -> Trace<'g> {
        let mut trace = Trace {
            graph,
            labels: Labels::default(),
            axes: HashMap::new(),
            contractions: Vec::new(),
            producers: Vec::new(),
            statistics: Vec::new(),
            groups: HashMap::new(),
            alignment,
            ranked: HashMap::new(),
        };
        for node in graph.topo_order() {
            trace.visit(node);
        }
        trace
    }

    fn visit(&mut self, node: NodeId) {
        let known = |value: &ValueId| matches!(self.graph.ty(*value), Type::Tensor(_));
        let results = || (0..self.graph.result_count(node)).map(|i| node.result(i));
        let ranked = self.graph.operands(node).iter().flatten().all(known) && results().all(|v| known(&v));
        if !ranked && !matches!(self.graph.op(node), Op::Return(_) | Op::Input(_) | Op::Opaque(_)) {
            return self.barrier(node, UNKNOWN);
        }
        match self.rule(node) {
            Some(()) => {
                for value in control(self.graph.op(node)).filter_map(|slot| self.graph.operand(node, slot)) {
                    self.freeze_value(value, Blocker { node, reason: "reads its parameters here" });
                }
            }
            None => self.barrier(node, "needs its operands whole"),
        }
        for value in results() {
            self.settle(node, value);
        }
    }

    /// What an operator does to the axes of its operands; `None` if it is a barrier.
    fn rule(&mut self, node: NodeId) -> Option<()> {
        let graph = self.graph;
        let op = graph.op(node);
        match op {
            Op::Const(constant) => {
                let fresh = |labels: &mut Labels, &n: &usize| match n {
                    0 | MAX_EXTENT.. => Axis::fixed(Some(Blocker { node, reason: "has an axis of that extent" })),
                    n => labels.fresh(n),
                };
                // Integers are indices and shapes, whose elements are no channels unless an operator says so.
                let axes = constant.shape().iter().map(|n| fresh(&mut self.labels, n)).collect();
                self.set(node.into(), axes);
            }
            Op::Input(_) => self.fix(node, "is an input of the graph"),
            Op::ConstHash(_) => self.fix(node, "is a constant without elements"),
            Op::Return(_) => {
                for value in graph.operands(node).into_iter().flatten() {
                    self.freeze_value(value, Blocker { node: value.node, reason: "is a result of the graph" });
                }
            }
            Op::Opaque(_) => self.barrier(node, "is carried without being understood"),
            Op::Conv(_) | Op::ConvTranspose(_) | Op::QLinearConv(_) | Op::ConvInteger(_) => self.convolution(node)?,
            Op::MatMul(_) | Op::MatMulInteger(_) | Op::QLinearMatMul(_) => self.matmul(node)?,
            Op::Gemm(gemm) => self.gemm(node, gemm)?,
            Op::Linear(_) => self.linear(node)?,
            Op::Einsum(einsum) => self.einsum(node, &einsum.equation)?,
            Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_) => self.recurrent(node)?,
            Op::BatchNorm(_) | Op::InstanceNorm(_) => self.channel_norm(node)?,
            Op::GroupNorm(norm) => self.group_norm(node, norm)?,
            Op::LayerNorm(norm) => self.layer_norm(node, norm.axis)?,
            Op::RmsNorm(norm) => self.scaled(node, norm.axis, true)?,
            Op::Softmax(s) => self.along(node, s.axis, s.flatten, "normalises over this axis")?,
            Op::LogSoftmax(s) => self.along(node, s.axis, s.flatten, "normalises over this axis")?,
            Op::Hardmax(s) => self.along(node, s.axis, s.flatten, "takes the maximum over this axis")?,
            Op::Lrn(_) => self.along(node, 1, false, "normalises over neighbouring channels")?,
            Op::LpNorm(norm) => self.scaled(node, norm.axis, false)?,
            Op::TopK(top) => self.along(node, top.axis, false, "orders this axis")?,
            Op::CumSum(_) => self.cum_sum(node)?,
            Op::ArgMax(a) => self.arg_reduce(node, a.axis, a.keepdims)?,
            Op::ArgMin(a) => self.arg_reduce(node, a.axis, a.keepdims)?,
            Op::Reduce(reduce) => self.reduce(node, reduce)?,
            Op::MaxPool(_) | Op::AveragePool(_) | Op::LpPool(_) | Op::GlobalAveragePool(_) | Op::GlobalMaxPool(_) => {
                self.pool(node)?
            }
            Op::QuantizeLinear(q) => self.quantize(node, q.axis, q.block)?,
            Op::DequantizeLinear(q) => self.quantize(node, q.axis, q.block)?,
            Op::Unary(Unary::Identity) | Op::Cast(_) => self.set(node.into(), self.operand(node, 0)?),
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
            | Op::Where(_)
            | Op::Mod(_)
            | Op::BitShift(_) => self.elementwise(node)?,
            Op::Reshape(_) => self.reshape(node)?,
            Op::Flatten(_) => self.regroup(node, |_, _| true)?,
            Op::Squeeze(_) | Op::Unsqueeze(_) => self.regroup(node, |_, _| true)?,
            Op::Transpose(transpose) => self.transpose(node, transpose)?,
            Op::Concat(concat) => self.concat(node, concat.axis)?,
            Op::Split(split) => self.split(node, split)?,
            Op::Slice(_) => self.slice(node)?,
            Op::Gather(gather) => self.gather(node, gather.axis)?,
            Op::Pad(pad) => self.pad(node, pad)?,
            Op::Expand(_) => self.expand(node)?,
            Op::ConstantOfShape(_) => self.constant_of_shape(node)?,
            Op::Tile(_) => self.tile(node)?,
            Op::Resize(resize) => self.resize(node, resize)?,
            Op::DepthToSpace(d) => self.depth_to_space(node, d)?,
            Op::SpaceToDepth(d) => self.space_to_depth(node, d.block)?,
            Op::Trilu(_) => self.trilu(node)?,
            Op::ShapeOf(shape) => self.shape_of(node, shape)?,
            Op::DynamicQuantizeLinear(_)
            | Op::GatherElements(_)
            | Op::GatherNd(_)
            | Op::ScatterElements(_)
            | Op::ScatterNd(_)
            | Op::Size(_)
            | Op::Range(_)
            | Op::OneHot(_)
            | Op::NonZero(_) => return None,
            // Training graphs are not compressed; the graphs that come of training are.
            Op::ConvWeightGrad(_)
            | Op::MaxPoolGrad(_)
            | Op::BatchNormTrain(_)
            | Op::BatchNormGrad(_)
            | Op::ActGrad(_) => return None,
        }
        Some(())
    }

    /// The first reason why an index of an axis must stay, if there is one.
    pub(super) fn blocker(&mut self, axis: &Axis) -> Option<Blocker> {
        let labels = self.labels.resolve_axis(axis).concat();
        labels.into_iter().find_map(|label| self.labels.blocker(label)).or(axis.cause())
    }

    // What rules are made of.

    /// A blocker at this node.
    pub(super) fn because(node: NodeId, reason: &'static str) -> Blocker {
        Blocker { node, reason }
    }

    /// The axes of an operand.
    pub(super) fn operand(&self, node: NodeId, slot: usize) -> Option<Vec<Rc<Axis>>> {
        self.axes.get(&self.graph.operand(node, slot)?).cloned()
    }

    /// The extents of an operand.
    pub(super) fn dims(&self, node: NodeId, slot: usize) -> Option<&'g [Dim]> {
        self.graph.ty(self.graph.operand(node, slot)?).shape()
    }

    /// The extents of a value.
    pub(super) fn shape(&self, value: ValueId) -> Option<&'g [Dim]> {
        self.graph.ty(value).shape()
    }

    /// States the axes of a result.
    pub(super) fn set(&mut self, value: ValueId, axes: Vec<Rc<Axis>>) {
        self.axes.insert(value, axes);
    }

    /// Keeps every channel of a value.
    pub(super) fn freeze_value(&mut self, value: ValueId, why: Blocker) {
        for axis in self.axes.get(&value).cloned().unwrap_or_default() {
            self.labels.freeze_axis(&axis, why);
        }
    }

    /// Keeps every channel of the axes in a range.
    pub(super) fn freeze_all<'a>(&mut self, axes: impl IntoIterator<Item = &'a Rc<Axis>>, why: Blocker) {
        for axis in axes {
            self.labels.freeze_axis(axis, why);
        }
    }

    /// Keeps every channel of all operands, and of all results.
    pub(super) fn barrier(&mut self, node: NodeId, reason: &'static str) {
        for value in self.graph.operands(node).into_iter().flatten() {
            self.freeze_value(value, Blocker { node, reason });
        }
        self.fix(node, reason);
    }

    /// Gives every result axes without labels.
    fn fix(&mut self, node: NodeId, reason: &'static str) {
        for value in (0..self.graph.result_count(node)).map(|i| node.result(i)) {
            let rank = self.shape(value).map_or(0, <[Dim]>::len);
            let axis = Axis::fixed(Some(Blocker { node, reason }));
            self.set(value, vec![axis; rank]);
        }
    }

    /// Holds a result to its type: every axis is there, labelled ones are as long as they should be, and an
    /// axis of one index keeps it.
    fn settle(&mut self, node: NodeId, value: ValueId) {
        let shape = self.shape(value).unwrap_or_default();
        let mut axes = self.axes.remove(&value).unwrap_or_default();
        let why = Blocker { node, reason: "would have an empty axis" };
        axes.resize(shape.len(), Axis::fixed(Some(why)));
        for (axis, dim) in axes.iter_mut().zip(shape) {
            let whole = axis.is_fixed() || dim.fixed() == Some(axis.len());
            if !whole || *dim == Dim::Fixed(1) {
                let why = if whole { why } else { Blocker { node, reason: "has an axis of unknown extent" } };
                self.labels.freeze_axis(axis, why);
                *axis = Axis::fixed(axis.cause().or(Some(why)));
            }
        }
        self.axes.insert(value, axes);
    }
}
