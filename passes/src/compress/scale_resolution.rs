//! Makes a network take smaller images: the resolution multiplier of MobileNets (Howard et al. 2017, section 3.4).
//!
//! The spatial extents of every input that is an image become `rho` times what they were, to the nearest multiple
//! of `round-to`, and at least that. All extents that follow become smaller, and costs fall with about `rho²`;
//! parameters stay. A pool whose window covered its whole image still does.
//!
//! **Applies to** inputs that reach the window of a convolution or a pool, or a resize, with the axes that these
//! slide over, where their extents are known. It is all or nothing: where one node needs an extent as it was (a
//! layer that reads all of an image as features, a shape that names extents, a table of positions), nothing changes
//! and the remark names that node. Before `simplify` more graphs allow it, as that writes shapes that are computed
//! from the image as constants.
//!
//! Lossy: the function changes, and with it the types of the inputs and of results that are images.

use std::collections::BTreeSet;

use optc_ir::op::AutoPad;
use optc_ir::{Dim, Graph, NodeId, Op, Type, ValueId};

use crate::analysis::channels::{Segment, segments, slices};
use crate::error::{OptionError, PassError};
use crate::options::{Options, Written};
use crate::pass::{Effect, Pass, PassCx};

/// The factor unless told otherwise.
const RHO: f64 = 0.75;

/// The pass; see the module.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleResolution {
    rho: f64,
    round_to: usize,
}

impl ScaleResolution {
    /// Reads `rho` and `round-to`.
    ///
    /// # Errors
    /// If an option is out of range.
    pub fn from_options(options: &mut Options) -> Result<ScaleResolution, OptionError> {
        Ok(ScaleResolution {
            rho: options.take_within("rho", 0.0, 1.0)?.unwrap_or(RHO),
            round_to: options.take_within("round-to", 1, 1 << 16)?.unwrap_or(1),
        })
    }

    fn scaled(&self, extent: usize) -> usize {
        let steps = (self.rho * extent as f64 / self.round_to as f64).round().max(1.0);
        // Never larger than it was.
        (steps as usize).saturating_mul(self.round_to).min(extent)
    }

    /// Gives an image its new extents. Returns whether there were any to change.
    fn shrink(&self, graph: &mut Graph, input: NodeId, axes: &BTreeSet<usize>) -> bool {
        let Type::Tensor(mut ty) = graph.ty(input).clone() else { return false };
        let before = ty.clone();
        for &axis in axes {
            if let Some(Dim::Fixed(n)) = ty.shape.get(axis) {
                ty.shape[axis] = Dim::Fixed(self.scaled(*n));
            }
        }
        let changed = ty != before;
        if changed {
            graph.set_op(input, Op::Input(optc_ir::op::Input { ty: Type::Tensor(ty) }));
        }
        changed
    }
}

impl Pass for ScaleResolution {
    fn name(&self) -> &'static str {
        "scale-resolution"
    }

    fn effect(&self) -> Effect {
        Effect::Lossy
    }

    fn changes_types(&self) -> bool {
        true
    }

    fn options(&self) -> String {
        Written::default().option("rho", &self.rho, &RHO).option("round-to", &self.round_to, &1).finish()
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let mut work = graph.clone();
        let mut images = Vec::new();
        for input in graph.inputs().to_vec() {
            let axes = image_axes(graph, input);
            let open = axes.iter().any(|&axis| graph.ty(input).shape().is_some_and(|s| s[axis].fixed().is_none()));
            if open {
                cx.missed(graph, input, "has open extents: bind them, or give smaller images");
            }
            if self.shrink(&mut work, input, &axes) {
                images.push(input);
            }
        }
        if images.is_empty() {
            return Ok(());
        }
        if cx.data.is_some() {
            let message =
                "the data are of the extents that the inputs have now: scale in a run without data".to_owned();
            return Err(PassError::Graph { pass: self.name(), message });
        }
        if let Err((node, message)) = infer(&mut work, graph) {
            cx.missed(graph, node, message);
            return Ok(());
        }
        let order = graph.topo_order();
        if let Some((node, reason)) = order.iter().find_map(|&node| Some((node, barrier(graph, &work, node)?))) {
            cx.missed(graph, node, reason);
            return Ok(());
        }
        for &input in &images {
            cx.applied(graph, input, format_args!("{} -> {}", graph.ty(input), work.ty(input)));
        }
        *graph = work;
        Ok(())
    }
}

/// The axes of an input over which windows slide.
fn image_axes(graph: &Graph, input: NodeId) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let rank = graph.ty(input).shape().map_or(0, <[Dim]>::len);
    // Values that hold the same elements, and the axis of the input that each of their axes is.
    let mut open: Vec<(ValueId, Vec<usize>)> = vec![(input.into(), (0..rank).collect())];
    let mut seen: BTreeSet<ValueId> = BTreeSet::new();
    while let Some((value, axes)) = open.pop() {
        if !seen.insert(value) {
            continue;
        }
        for (user, slot) in graph.uses(value) {
            match graph.op(user) {
                Op::Conv(_)
                | Op::ConvTranspose(_)
                | Op::ConvInteger(_)
                | Op::QLinearConv(_)
                | Op::MaxPool(_)
                | Op::AveragePool(_)
                | Op::LpPool(_)
                | Op::GlobalAveragePool(_)
                | Op::GlobalMaxPool(_)
                | Op::Resize(_)
                | Op::DepthToSpace(_)
                | Op::SpaceToDepth(_)
                    if slot == 0 =>
                {
                    found.extend(axes.iter().skip(2));
                }
                Op::Transpose(transpose) => {
                    if let Ok(perm) = transpose.resolved(axes.len()) {
                        open.push((user.into(), perm.into_iter().map(|k| axes[k]).collect()));
                    }
                }
                _ if graph.ty(user).shape().map(<[Dim]>::len) == Some(axes.len()) && !is_view(graph.op(user)) => {
                    open.push((user.into(), axes.clone()));
                }
                _ => {}
            }
        }
    }
    found
}

/// Operators whose results may have as many axes as their operand, but not the same.
fn is_view(op: &Op) -> bool {
    matches!(op, Op::Reshape(_) | Op::Flatten(_) | Op::Linear(_) | Op::MatMul(_) | Op::Gemm(_) | Op::Opaque(_))
}

/// Infers all types, with windows of pools that covered their whole image made to cover it again.
fn infer(work: &mut Graph, old: &Graph) -> Result<(), (NodeId, String)> {
    loop {
        let Err((name, error)) = work.infer_all() else { return Ok(()) };
        let node = work.nodes().find(|&node| work.name(node) == name).unwrap_or(work.ret());
        if !cover(work, old, node) {
            return Err((node, format!("does not fit smaller images: {error}")));
        }
    }
}

/// Makes the window of a pool cover its whole image if it did before. Returns whether that changed it.
fn cover(work: &mut Graph, old: &Graph, node: NodeId) -> bool {
    let (Some(before), Some(x)) = (old.operand(node, 0), work.operand(node, 0)) else { return false };
    let extents = |graph: &Graph, value: ValueId| -> Option<Vec<usize>> {
        graph.ty(value).shape()?.get(2..)?.iter().map(Dim::fixed).collect()
    };
    let (Some(before), Some(now)) = (extents(old, before), extents(work, x)) else { return false };
    let mut op = work.op(node).clone();
    let (kernel, pads, auto_pad) = match &mut op {
        Op::MaxPool(pool) => (&mut pool.kernel, &pool.pads, pool.auto_pad),
        Op::AveragePool(pool) => (&mut pool.kernel, &pool.pads, pool.auto_pad),
        Op::LpPool(pool) => (&mut pool.kernel, &pool.pads, pool.auto_pad),
        _ => return false,
    };
    let unpadded = pads.iter().all(|&pad| pad == 0) && matches!(auto_pad, AutoPad::Explicit | AutoPad::Valid);
    if *kernel != before || *kernel == now || !unpadded {
        return false;
    }
    *kernel = now;
    work.set_op(node, op);
    true
}

/// Why a node does something else on smaller images, although its types fit.
fn barrier(old: &Graph, new: &Graph, node: NodeId) -> Option<&'static str> {
    let changed = |value: ValueId| -> Vec<usize> {
        let (Some(a), Some(b)) = (old.ty(value).shape(), new.ty(value).shape()) else { return Vec::new() };
        (0..a.len().min(b.len())).filter(|&k| !a[k].same(&b[k])).collect()
    };
    let operands = old.operands(node);
    let touched = |slot: usize| old.operand(node, slot).map(changed).unwrap_or_default();
    let any = operands.iter().flatten().any(|&value| !changed(value).is_empty());
    if !any {
        return None;
    }
    let known = |graph: &Graph| {
        let value =
            |i| graph.ty(node.result(i)).shape().map_or(0, |s| s.iter().filter(|d| d.fixed().is_some()).count());
        (0..graph.result_count(node)).map(value).sum::<usize>()
    };
    let constant = |slot: usize| old.operand(node, slot).is_some_and(|value| old.constant(value).is_some());
    match old.op(node) {
        Op::Opaque(_) => Some("is carried without being understood, and its operand would shrink"),
        Op::Reshape(_) if constant(1) => reshape_barrier(old, new, node, &touched(0)),
        Op::Expand(_) if constant(1) => Some("expands to a shape that names the extents of the image"),
        Op::Resize(_) if constant(3) => Some("resizes to extents that do not follow from the image"),
        Op::Slice(_) => {
            let ranges = slices(old, node).unwrap_or_default();
            let whole = |&(axis, ref indices): &(usize, Vec<usize>)| {
                let extent = old.ty(operands[0]?).shape()?[axis].fixed()?;
                let step = indices.get(1).zip(indices.first()).map_or(1, |(b, a)| b.saturating_sub(*a).max(1));
                Some(indices.first().is_some_and(|&first| first < step) && indices.last()? + step >= extent)
            };
            let cut =
                ranges.iter().filter(|(axis, _)| touched(0).contains(axis)).any(|range| whole(range) != Some(true));
            cut.then_some("cuts the image at fixed places")
        }
        Op::Gather(_) | Op::GatherNd(_) | Op::GatherElements(_) | Op::ScatterNd(_) | Op::ScatterElements(_)
            if !touched(0).is_empty() && constant(1) =>
        {
            Some("picks fixed places of the image")
        }
        op if is_elementwise(op) => {
            // A constant that has the old extents fits no other, unless one of them is 1 now.
            let rank = old.ty(node).shape()?.len();
            let shrunk: BTreeSet<usize> = operands
                .iter()
                .flatten()
                .flat_map(|&value| {
                    let from = rank - old.ty(value).shape().map_or(0, <[Dim]>::len);
                    changed(value).into_iter().map(move |k| k + from)
                })
                .collect();
            let stays = |&value: &ValueId| {
                let Some(shape) = old.ty(value).shape() else { return false };
                let from = rank - shape.len();
                let moved = changed(value);
                (0..shape.len())
                    .any(|k| shape[k] != Dim::Fixed(1) && shrunk.contains(&(k + from)) && !moved.contains(&k))
            };
            operands.iter().flatten().any(stays).then_some("combines the image with numbers for every place of it")
        }
        _ if known(new) < known(old) => Some("has extents that nobody knows for smaller images"),
        _ => None,
    }
}

fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::Binary(_) | Op::Variadic(_) | Op::Where(_) | Op::Mod(_) | Op::BitShift(_))
}

/// A reshape fits if all extents that change stand for `-1`, beside others that do not.
fn reshape_barrier(old: &Graph, new: &Graph, node: NodeId, touched: &[usize]) -> Option<&'static str> {
    const REASON: &str = "reshapes to a shape that names the extents of the image";
    let (from, to) = (old.ty(old.operand(node, 0)?).shape()?, old.ty(node).shape()?);
    let after = new.ty(node).shape()?;
    if to.len() != after.len() {
        return Some(REASON);
    }
    let parts = segments(from, to);
    let part = |k: usize| parts.iter().find(|Segment { to, .. }| to.contains(&k));
    let wrong = (0..to.len()).filter(|&k| !to[k].same(&after[k])).any(|k| match part(k) {
        Some(part) => !part.from.clone().any(|axis| touched.contains(&axis)),
        None => true,
    });
    // What changes must come out somewhere.
    let lost = parts.iter().any(|part| {
        let shrinks = part.from.clone().any(|axis| touched.contains(&axis));
        shrinks && part.to.clone().all(|k| to[k].same(&after[k]))
    });
    (wrong || lost).then_some(REASON)
}
