//! Operators that keep channels apart: elementwise functions, normalisations, pools, reductions,
//! quantization.

use std::rc::Rc;

use optc_ir::op::{GroupNorm, Reduce, ReduceKind};
use optc_ir::{Dim, NodeId, Op};

use super::labels::{Axis, Labels};
use super::trace::{Contraction, Trace};
use crate::rewrite::int_operand;

const TIED: &str = "ties channels that can't go together";

/// The axis a possibly negative number means.
pub(super) fn resolve(axis: i64, rank: usize) -> Option<usize> {
    let signed = i64::try_from(rank).ok()?;
    usize::try_from(if axis < 0 { axis + signed } else { axis }).ok().filter(|&axis| axis < rank)
}

impl Trace<'_> {
    /// Ties the last axes of operands, as far as each has some, by the rules of broadcasting: an axis of extent
    /// 1 stands beside any and is tied to none. `operands` are slots with the number of axes that count.
    pub(super) fn broadcast_into(
        &mut self,
        node: NodeId,
        out: &mut [Rc<Axis>],
        operands: &[(usize, usize)],
    ) -> Option<()> {
        let rank = out.len();
        for (k, axis) in out.iter_mut().enumerate() {
            let mut known: Option<Rc<Axis>> = None;
            for &(slot, len) in operands {
                let Some(at) = (k + len).checked_sub(rank) else { continue };
                if self.dims(node, slot)?[at] == Dim::Fixed(1) {
                    continue;
                }
                let next = self.operand(node, slot)?[at].clone();
                match &known {
                    Some(first) => {
                        self.labels.tie(first, &next, Self::because(node, TIED));
                        if first.is_fixed() {
                            known = Some(next);
                        }
                    }
                    None => known = Some(next),
                }
            }
            *axis = known.unwrap_or_else(|| Axis::fixed(None));
        }
        Some(())
    }

    /// Ties an operand to axes it broadcasts to.
    pub(super) fn tie_broadcast(&mut self, node: NodeId, slot: usize, to: &[Rc<Axis>]) {
        let (Some(axes), Some(dims)) = (self.operand(node, slot), self.dims(node, slot)) else { return };
        for ((axis, dim), to) in axes.iter().zip(dims).rev().zip(to.iter().rev()) {
            if *dim != Dim::Fixed(1) {
                self.labels.tie(axis, to, Self::because(node, TIED));
            }
        }
    }

    /// Elementwise functions of any number of operands.
    pub(super) fn elementwise(&mut self, node: NodeId) -> Option<()> {
        let slots = 0..self.graph.operands(node).len();
        let present = slots.filter(|&slot| self.graph.operand(node, slot).is_some());
        let operands: Vec<(usize, usize)> =
            present.map(|slot| Some((slot, self.dims(node, slot)?.len()))).collect::<Option<_>>()?;
        let mut out = vec![Axis::fixed(None); self.shape(node.into())?.len()];
        self.broadcast_into(node, &mut out, &operands)?;
        self.set(node.into(), out);
        Some(())
    }

    /// Normalisations with parameters by channel, axis 1, that keep channels apart.
    pub(super) fn channel_norm(&mut self, node: NodeId) -> Option<()> {
        let xs = self.operand(node, 0)?;
        let channels = xs.get(1)?.clone();
        if matches!(self.graph.op(node), Op::InstanceNorm(_)) {
            self.freeze_all(&xs[2..], Self::because(node, "normalises over this axis"));
        }
        if self.shape(node.into())?[1] != Dim::Fixed(1) {
            for slot in 1..self.graph.operands(node).len() {
                let vector = self.operand(node, slot)?;
                self.labels.tie(&vector[0], &channels, Self::because(node, TIED));
            }
        }
        self.set(node.into(), xs);
        Some(())
    }

    pub(super) fn group_norm(&mut self, node: NodeId, norm: &GroupNorm) -> Option<()> {
        let xs = self.operand(node, 0)?;
        let count = self.dims(node, 0)?.get(1)?.fixed()?;
        let why = Self::because(node, TIED);
        let (groups, places) = self.labels.split(&xs[1], norm.groups, count / norm.groups, why);
        self.freeze_all(&xs[2..], Self::because(node, "normalises over this axis"));
        for slot in [1, 2] {
            let vector = self.operand(node, slot)?[0].clone();
            self.labels.tie(&vector, if norm.per_group { &groups } else { &xs[1] }, why);
        }
        // Without a whole group, the others of the group are normalised by other statistics.
        self.statistics.push((node, places));
        self.groups.insert(node, groups);
        self.set(node.into(), xs);
        Some(())
    }

    /// Normalisations over the axes from `axis` on, with parameters that broadcast to them.
    pub(super) fn layer_norm(&mut self, node: NodeId, axis: i64) -> Option<()> {
        let xs = self.operand(node, 0)?;
        let axis = resolve(axis, xs.len())?;
        for slot in 1..self.graph.operands(node).len() {
            self.tie_broadcast(node, slot, &xs);
        }
        self.statistics.extend(xs[axis..].iter().map(|axis| (node, axis.clone())));
        self.set(node.into(), xs);
        Some(())
    }

    /// Normalisations by a norm over one axis, or over all axes from it on. They sum squares or magnitudes, to
    /// which zeros add nothing, and give zeros back; that the root of a *mean* square counts them is made up for
    /// on removal.
    pub(super) fn scaled(&mut self, node: NodeId, axis: i64, onwards: bool) -> Option<()> {
        let xs = self.operand(node, 0)?;
        let axis = resolve(axis, xs.len())?;
        for slot in 1..self.graph.operands(node).len() {
            self.tie_broadcast(node, slot, &xs);
        }
        let end = if onwards { xs.len() } else { axis + 1 };
        for (axis, ends) in xs.iter().cloned().enumerate().take(end).skip(axis) {
            self.contractions.push(Contraction { node, slot: 0, axis, ends, groups: 1, partner: None });
        }
        self.set(node.into(), xs);
        Some(())
    }

    /// Operators that need one axis whole, or all axes from it on, and keep the others apart.
    pub(super) fn along(&mut self, node: NodeId, axis: i64, onwards: bool, reason: &'static str) -> Option<()> {
        let xs = self.operand(node, 0)?;
        let axis = resolve(axis, xs.len())?;
        let end = if onwards { xs.len() } else { axis + 1 };
        let why = Self::because(node, reason);
        self.freeze_all(&xs[axis..end], why);
        let mut out = xs;
        out[axis..end].fill(Axis::fixed(Some(why)));
        for result in (0..self.graph.result_count(node)).map(|i| node.result(i)) {
            self.set(result, out.clone());
        }
        Some(())
    }

    pub(super) fn cum_sum(&mut self, node: NodeId) -> Option<()> {
        let axis = *int_operand(self.graph, node, 1)?.first()?;
        self.along(node, axis, false, "sums along this axis")
    }

    pub(super) fn arg_reduce(&mut self, node: NodeId, axis: i64, keepdims: bool) -> Option<()> {
        let mut xs = self.operand(node, 0)?;
        let axis = resolve(axis, xs.len())?;
        let why = Self::because(node, "tells positions on this axis");
        self.freeze_all(&xs[axis..=axis], why);
        xs[axis] = Axis::fixed(Some(why));
        if !keepdims {
            xs.remove(axis);
        }
        self.set(node.into(), xs);
        Some(())
    }

    /// Reductions end groups. Zeros make no difference to sums, and means of numbers are made up for on removal;
    /// other reductions count them.
    pub(super) fn reduce(&mut self, node: NodeId, reduce: &Reduce) -> Option<()> {
        let xs = self.operand(node, 0)?;
        let mut axes = reduce.attrs.resolved(xs.len()).ok()?;
        axes.sort_unstable();
        let float = self.graph.ty(node).dtype().is_some_and(|dtype| dtype.is_float());
        let exact = match reduce.kind {
            ReduceKind::Sum | ReduceKind::L1 | ReduceKind::L2 | ReduceKind::SumSquare | ReduceKind::LogSum => true,
            ReduceKind::Mean => float,
            _ => false,
        };
        for &axis in &axes {
            let ends = xs[axis].clone();
            if !exact {
                self.statistics.push((node, ends.clone()));
            }
            self.contractions.push(Contraction { node, slot: 0, axis, ends, groups: 1, partner: None });
        }
        let keep = |(k, axis): (usize, Rc<Axis>)| match (axes.contains(&k), reduce.attrs.keepdims) {
            (false, _) => Some(axis),
            (true, true) => Some(Axis::fixed(None)),
            (true, false) => None,
        };
        self.set(node.into(), xs.into_iter().enumerate().filter_map(keep).collect());
        Some(())
    }

    pub(super) fn pool(&mut self, node: NodeId) -> Option<()> {
        let mut xs = self.operand(node, 0)?;
        let why = Self::because(node, "slides a window over this axis");
        self.freeze_all(&xs[2..], why);
        xs[2..].fill(Axis::fixed(Some(why)));
        if matches!(self.graph.op(node), Op::MaxPool(_)) && !self.graph.uses(node.result(1)).is_empty() {
            self.freeze_all(&xs[..2], Self::because(node, "tells positions that count the channels"));
        }
        for result in (0..self.graph.result_count(node)).map(|i| node.result(i)) {
            self.set(result, xs.clone());
        }
        Some(())
    }

    /// To and from codes: scales and zero points lie along one axis, or are single numbers.
    pub(super) fn quantize(&mut self, node: NodeId, axis: i64, block: usize) -> Option<()> {
        let xs = self.operand(node, 0)?;
        for slot in [1, 2] {
            let Some(dims) = self.dims(node, slot) else { continue };
            if dims.iter().all(|dim| *dim == Dim::Fixed(1)) {
                continue;
            }
            // Blocks of elements share a scale; taking some of a block away would move the others.
            if block != 0 || dims.len() != 1 {
                return None;
            }
            let vector = self.operand(node, slot)?[0].clone();
            self.labels.tie(&vector, &xs[resolve(axis, xs.len())?], Self::because(node, TIED));
        }
        self.set(node.into(), xs);
        Some(())
    }

    /// `[N, C·b², H, W]` to `[N, C, H·b, W·b]`: a channel goes with all the channels it is made of.
    pub(super) fn depth_to_space(&mut self, node: NodeId, d: &optc_ir::op::DepthToSpace) -> Option<()> {
        let xs = self.operand(node, 0)?;
        let channels = self.shape(node.into())?[1].fixed()?;
        let square = d.block * d.block;
        let why = Self::because(node, "moves channels to space");
        self.freeze_all(&xs[2..], why);
        let out = self.labels.fresh(channels);
        let whole = match d.order {
            optc_ir::op::DepthOrder::Dcr => Labels::merge(&Axis::fixed(None), square, &out, channels),
            optc_ir::op::DepthOrder::Crd => Labels::merge(&out, channels, &Axis::fixed(None), square),
        };
        self.labels.tie(&xs[1], &whole, why);
        let space = Axis::fixed(Some(why));
        self.set(node.into(), vec![xs[0].clone(), out, space.clone(), space]);
        Some(())
    }

    /// The inverse of `depth_to_space` in its `dcr` order.
    pub(super) fn space_to_depth(&mut self, node: NodeId, block: usize) -> Option<()> {
        let xs = self.operand(node, 0)?;
        let channels = self.dims(node, 0)?[1].fixed()?;
        let why = Self::because(node, "moves space to channels");
        self.freeze_all(&xs[2..], why);
        let out = Labels::merge(&Axis::fixed(None), block * block, &xs[1], channels);
        let space = Axis::fixed(Some(why));
        self.set(node.into(), vec![xs[0].clone(), out, space.clone(), space]);
        Some(())
    }
}
