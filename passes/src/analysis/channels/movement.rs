//! Operators that move elements: views, joins, cuts, repetitions.
//!
//! Where a constant operand says how (a shape, pads, indices), removal rewrites that operand; what comes from
//! anywhere else is fixed.

use std::rc::Rc;

use optc_ir::op::{Pad, PadMode, Resize, ShapeOf, Split, Transpose};
use optc_ir::{Dim, Graph, NodeId, Op, ValueId};

use super::labels::{Axis, Labels};
use super::pointwise::resolve;
use super::trace::Trace;
use crate::rewrite::int_operand;

const TIED: &str = "ties channels that can't go together";

/// Beyond this many elements, regrouped axes are not followed.
const MAX_REGROUPED: usize = 1 << 20;

/// Neighbouring axes on both sides of a reshape that hold the same elements.
pub(crate) struct Segment {
    pub(crate) from: std::ops::Range<usize>,
    pub(crate) to: std::ops::Range<usize>,
}

/// The shortest segments from the end, as far as extents tell; then from the start. What lies between is
/// left out. Equal products of the last extents mean equal positions, whatever comes before, and the same
/// holds for the first extents since both sides have as many elements.
pub(crate) fn segments(from: &[Dim], to: &[Dim]) -> Vec<Segment> {
    let mut found = Vec::new();
    let (mut a, mut b) = (0, 0);
    let (mut i, mut j) = (from.len(), to.len());
    while let Some((m, n)) = shortest(from[..i].iter().rev(), to[..j].iter().rev()) {
        found.push(Segment { from: i - m..i, to: j - n..j });
        (i, j) = (i - m, j - n);
    }
    while let Some((m, n)) = shortest(from[a..i].iter(), to[b..j].iter()) {
        found.push(Segment { from: a..a + m, to: b..b + n });
        (a, b) = (a + m, b + n);
    }
    found
}

/// How many extents of each side multiply to the same.
fn shortest<'a>(
    mut from: impl Iterator<Item = &'a Dim>,
    mut to: impl Iterator<Item = &'a Dim>,
) -> Option<(usize, usize)> {
    let (x, y) = match (from.next(), to.next()) {
        (Some(x), Some(y)) => (x, y),
        (Some(Dim::Fixed(1)), None) => return Some((1, 0)),
        (None, Some(Dim::Fixed(1))) => return Some((0, 1)),
        _ => return None,
    };
    match (x, y) {
        (Dim::Sym(_), _) if x.same(y) => return Some((1, 1)),
        (Dim::Fixed(1), Dim::Sym(_) | Dim::Any) => return Some((1, 0)),
        (Dim::Sym(_) | Dim::Any, Dim::Fixed(1)) => return Some((0, 1)),
        _ => {}
    }
    let (mut p, mut q, mut m, mut n) = (x.fixed()?, y.fixed()?, 1, 1);
    while p != q {
        if p < q {
            p = p.checked_mul(from.next()?.fixed()?)?;
            m += 1;
        } else {
            q = q.checked_mul(to.next()?.fixed()?)?;
            n += 1;
        }
    }
    Some((m, n))
}

/// Where element `index` of a vector of integers is kept: a constant, and the element of it.
pub(super) fn element(graph: &Graph, vector: ValueId, index: usize) -> Option<(NodeId, usize)> {
    if graph.constant(vector).is_some() {
        return Some((vector.node, index));
    }
    match graph.op(vector.node) {
        Op::Concat(_) => {
            let mut at = index;
            for part in graph.operands(vector.node).into_iter().flatten() {
                let len = graph.ty(part).as_tensor()?.numel()?;
                if at < len {
                    return element(graph, part, at);
                }
                at -= len;
            }
            None
        }
        Op::Cast(_) | Op::Unsqueeze(_) | Op::Squeeze(_) | Op::Reshape(_) => {
            element(graph, graph.operand(vector.node, 0)?, index)
        }
        _ => None,
    }
}

/// What `start:end:step` keeps of an axis of extent `n`, by numpy's rule.
pub(super) fn range(n: usize, start: i64, end: i64, step: i64) -> Option<Vec<usize>> {
    let n = i128::try_from(n).ok()?;
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let clamp = |at: i64| {
        let at = i128::from(at);
        (if at < 0 { at + n } else { at }).clamp(low, high.max(low))
    };
    // A backward range starts within the axis.
    let (mut at, end) = (if step < 0 { clamp(start).max(0).min(n - 1) } else { clamp(start) }, clamp(end));
    let mut indices = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        indices.push(usize::try_from(at).ok()?);
        at += i128::from(step);
    }
    Some(indices)
}

/// What a `slice` keeps of each axis it cuts; `None` if that is not constant.
pub(crate) fn slices(graph: &Graph, node: NodeId) -> Option<Vec<(usize, Vec<usize>)>> {
    let shape = graph.ty(graph.operand(node, 0)?).shape()?;
    let (starts, ends) = (int_operand(graph, node, 1)?, int_operand(graph, node, 2)?);
    let axes = match graph.operand(node, 3) {
        Some(_) => int_operand(graph, node, 3)?,
        None => (0..i64::try_from(starts.len()).ok()?).collect(),
    };
    let steps = match graph.operand(node, 4) {
        Some(_) => int_operand(graph, node, 4)?,
        None => vec![1; starts.len()],
    };
    let mut found = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = resolve(axis, shape.len())?;
        // An axis of open extent has no channels to follow.
        if let Dim::Fixed(n) = shape[axis] {
            found.push((axis, range(n, *starts.get(i)?, *ends.get(i)?, *steps.get(i)?)?));
        }
    }
    Some(found)
}

/// The elements of a vector of so many integers that its users read; `None` if that may be all.
fn picked(graph: &Graph, vector: ValueId, len: usize) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for (user, slot) in graph.uses(vector) {
        match graph.op(user) {
            Op::Cast(_) => all.extend(picked(graph, user.into(), len)?),
            Op::Gather(_) if slot == 0 => {
                all.extend(int_operand(graph, user, 1)?.into_iter().filter_map(|i| resolve(i, len)));
            }
            Op::Slice(_) if slot == 0 => all.extend(slices(graph, user)?.into_iter().flat_map(|(_, picked)| picked)),
            _ => return None,
        }
    }
    Some(all)
}

impl Trace<'_> {
    /// Views: the same elements under other axes. `editable` says whether the extent of a result axis, given by
    /// its number, can be changed.
    pub(super) fn regroup(&mut self, node: NodeId, editable: impl Fn(&Graph, usize) -> bool) -> Option<()> {
        let (xs, from, to) = (self.operand(node, 0)?, self.dims(node, 0)?, self.shape(node.into())?);
        if from.iter().chain(to).any(|dim| *dim == Dim::Fixed(0)) {
            return None;
        }
        let why = Self::because(node, "regroups axes that do not divide alike");
        let mut out = vec![Axis::fixed(Some(why)); to.len()];
        let mut followed = vec![false; xs.len()];
        for Segment { from: source, to: target } in segments(from, to) {
            followed[source.clone()].fill(true);
            if source.len() == 1 && target.len() == 1 {
                out[target.start] = xs[source.start].clone();
                continue;
            }
            let extents: Option<Vec<usize>> = from[source.clone()].iter().map(Dim::fixed).collect();
            let Some(extents) = extents else { continue };
            if extents.iter().product::<usize>() > MAX_REGROUPED {
                self.freeze_all(&xs[source], why);
                continue;
            }
            let mut whole = (Axis::fixed(None), 1);
            for (axis, &n) in xs[source].iter().zip(&extents) {
                whole = (Labels::merge(&whole.0, whole.1, axis, n), whole.1 * n);
            }
            for k in target.clone() {
                let n = to[k].fixed()?;
                let (outer, rest) = self.labels.split(&whole.0, n, whole.1 / n, why);
                out[k] = outer;
                whole = (rest, whole.1 / n);
            }
        }
        for (axis, _) in xs.iter().zip(followed).filter(|(_, followed)| !followed) {
            self.labels.freeze_axis(axis, why);
        }
        let fixed = Self::because(node, "has a shape that is computed elsewhere");
        for (k, axis) in out.iter_mut().enumerate() {
            if !axis.is_fixed() && to[k] != Dim::Fixed(1) && !editable(self.graph, k) {
                self.labels.freeze_axis(axis, fixed);
                *axis = Axis::fixed(Some(fixed));
            }
        }
        self.set(node.into(), out);
        Some(())
    }

    pub(super) fn reshape(&mut self, node: NodeId) -> Option<()> {
        let shape = self.graph.operand(node, 1)?;
        self.regroup(node, |graph, k| element(graph, shape, k).is_some())
    }

    pub(super) fn transpose(&mut self, node: NodeId, transpose: &Transpose) -> Option<()> {
        let xs = self.operand(node, 0)?;
        let perm = transpose.resolved(xs.len()).ok()?;
        self.set(node.into(), perm.into_iter().map(|k| xs[k].clone()).collect());
        Some(())
    }

    /// On its axis every operand keeps channels of its own; the other axes go together.
    pub(super) fn concat(&mut self, node: NodeId, axis: i64) -> Option<()> {
        let count = self.graph.operands(node).len();
        let operands: Vec<_> = (0..count).map(|slot| self.operand(node, slot)).collect::<Option<_>>()?;
        let axis = resolve(axis, operands.first()?.len())?;
        let mut out = operands[0].clone();
        for (k, known) in out.iter_mut().enumerate().filter(|(k, _)| *k != axis) {
            for other in &operands[1..] {
                self.labels.tie(known, &other[k], Self::because(node, TIED));
                if known.is_fixed() {
                    *known = other[k].clone();
                }
            }
        }
        let extents: Option<Vec<usize>> = (0..count).map(|slot| self.dims(node, slot)?[axis].fixed()).collect();
        let pieces = operands.iter().map(|axes| &axes[axis]);
        out[axis] = match extents {
            Some(extents) => {
                let cause = pieces.clone().find_map(|piece| piece.cause());
                Axis::new(pieces.zip(&extents).flat_map(|(piece, &n)| (0..n).map(|i| piece.at(i))), cause)
            }
            None => {
                let why = Self::because(node, "joins axes of unknown extent");
                self.freeze_all(pieces.collect::<Vec<_>>(), why);
                Axis::fixed(Some(why))
            }
        };
        self.set(node.into(), out);
        Some(())
    }

    pub(super) fn split(&mut self, node: NodeId, split: &Split) -> Option<()> {
        let xs = self.operand(node, 0)?;
        let axis = resolve(split.axis, xs.len())?;
        let mut start = 0;
        for (i, &size) in split.sizes.iter().enumerate() {
            let mut out = xs.clone();
            out[axis] = xs[axis].select(start..start + size);
            self.set(node.result(i), out);
            start += size;
        }
        Some(())
    }

    pub(super) fn slice(&mut self, node: NodeId) -> Option<()> {
        let mut out = self.operand(node, 0)?;
        match slices(self.graph, node) {
            Some(ranges) => ranges.into_iter().for_each(|(axis, indices)| out[axis] = out[axis].select(indices)),
            None => {
                // Where it cuts comes with the input, but on which axes it does is known.
                let why = Self::because(node, "cuts this axis at places that are computed");
                for axis in int_operand(self.graph, node, 3)? {
                    let axis = resolve(axis, out.len())?;
                    self.labels.freeze_axis(&out[axis], why);
                    out[axis] = Axis::fixed(Some(why));
                }
            }
        }
        self.set(node.into(), out);
        Some(())
    }

    /// With constant indices a selection; with others the axis stays whole.
    pub(super) fn gather(&mut self, node: NodeId, axis: i64) -> Option<()> {
        let (xs, picked) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let axis = resolve(axis, xs.len())?;
        let why = Self::because(node, "picks from this axis by index");
        let n = self.dims(node, 0)?[axis].fixed();
        let known = int_operand(self.graph, node, 1).zip(n).and_then(|(indices, n)| {
            let signed = i64::try_from(n).ok()?;
            let wrap = |i: i64| usize::try_from(if i < 0 { i + signed } else { i }).ok().filter(|&i| i < n);
            indices.into_iter().map(wrap).collect::<Option<Vec<usize>>>()
        });
        let middle = match known {
            Some(indices) if picked.len() == 1 => {
                let selected = xs[axis].select(indices);
                if self.dims(node, 1)? != [Dim::Fixed(1)] {
                    self.labels.tie(&picked[0], &selected, why);
                }
                vec![selected]
            }
            known => {
                let whole = known.is_none();
                let at = known.unwrap_or_default();
                let stays = if whole { xs[axis].clone() } else { xs[axis].select(at) };
                self.labels.freeze_axis(&stays, why);
                self.freeze_all(&picked, why);
                vec![Axis::fixed(Some(why)); picked.len()]
            }
        };
        self.set(node.into(), [&xs[..axis], &middle, &xs[axis + 1..]].concat());
        Some(())
    }

    /// Channels added by constant padding may go like any others.
    pub(super) fn pad(&mut self, node: NodeId, pad: &Pad) -> Option<()> {
        let (mut out, dims) = (self.operand(node, 0)?, self.dims(node, 0)?);
        let pads = int_operand(self.graph, node, 1)?;
        let axes = match self.graph.operand(node, 3) {
            Some(_) => int_operand(self.graph, node, 3)?,
            None => (0..i64::try_from(out.len()).ok()?).collect(),
        };
        for (i, &axis) in axes.iter().enumerate() {
            let axis = resolve(axis, out.len())?;
            let (begin, end) = (*pads.get(i)?, *pads.get(axes.len() + i)?);
            if (begin, end) == (0, 0) {
                continue;
            }
            let why = Self::because(node, "pads this axis");
            let constant = pad.mode == PadMode::Constant;
            out[axis] = match (usize::try_from(begin), usize::try_from(end), dims[axis].fixed()) {
                (Ok(begin), Ok(end), Some(n)) if constant && !out[axis].is_fixed() => {
                    let added = self.labels.fresh(begin + end);
                    let at = |k: usize| added.at(k).to_vec();
                    let inner = (0..n).map(|k| out[axis].at(k).to_vec());
                    let lists = (0..begin).map(at).chain(inner).chain((begin..begin + end).map(at));
                    Axis::new(lists.collect::<Vec<_>>(), Some(why))
                }
                _ => {
                    self.labels.freeze_axis(&out[axis], why);
                    Axis::fixed(Some(why))
                }
            };
        }
        self.set(node.into(), out);
        Some(())
    }

    /// An axis that is repeated to a constant extent has channels of its own.
    pub(super) fn expand(&mut self, node: NodeId) -> Option<()> {
        let (xs, from, to) = (self.operand(node, 0)?, self.dims(node, 0)?, self.shape(node.into())?);
        let shape = self.graph.operand(node, 1)?;
        let entries = self.graph.ty(shape).as_tensor()?.numel()?;
        let why = Self::because(node, "has a shape that is computed elsewhere");
        let mut out = vec![Axis::fixed(Some(why)); to.len()];
        for (k, axis) in out.iter_mut().enumerate() {
            let source = (k + xs.len()).checked_sub(to.len());
            let entry = (k + entries).checked_sub(to.len());
            let editable = entry.is_none_or(|entry| element(self.graph, shape, entry).is_some());
            match (source, to[k].fixed()) {
                (Some(at), _) if from[at] != Dim::Fixed(1) => {
                    *axis = xs[at].clone();
                    if !editable {
                        self.labels.freeze_axis(axis, why);
                    }
                }
                (_, Some(n)) if editable && entry.is_some() && n < MAX_REGROUPED => *axis = self.labels.fresh(n),
                _ => {}
            }
        }
        self.set(node.into(), out);
        Some(())
    }

    /// Extents that a constant names may shrink, as every element is the same.
    pub(super) fn constant_of_shape(&mut self, node: NodeId) -> Option<()> {
        let shape = self.graph.operand(node, 0)?;
        let to = self.shape(node.into())?;
        let why = Self::because(node, "has a shape that is computed elsewhere");
        let mut out = vec![Axis::fixed(Some(why)); to.len()];
        for (k, axis) in out.iter_mut().enumerate() {
            if let Some(n) = to[k].fixed()
                && n < MAX_REGROUPED
                && element(self.graph, shape, k).is_some()
            {
                *axis = self.labels.fresh(n);
            }
        }
        self.set(node.into(), out);
        Some(())
    }

    pub(super) fn tile(&mut self, node: NodeId) -> Option<()> {
        let (xs, dims) = (self.operand(node, 0)?, self.dims(node, 0)?);
        let repeats = int_operand(self.graph, node, 1)?;
        let mut out = Vec::with_capacity(xs.len());
        for ((axis, dim), &times) in xs.iter().zip(dims).zip(&repeats) {
            let (n, times) = (dim.fixed().unwrap_or(0), usize::try_from(times).ok()?);
            out.push(axis.select((0..times).flat_map(|_| 0..n)));
        }
        self.set(node.into(), out);
        Some(())
    }

    /// Interpolation keeps apart the axes it does not resize.
    pub(super) fn resize(&mut self, node: NodeId, resize: &Resize) -> Option<()> {
        let (mut out, from, to) = (self.operand(node, 0)?, self.dims(node, 0)?, self.shape(node.into())?);
        let axes = match &resize.axes {
            Some(axes) => axes.iter().map(|&axis| resolve(axis, out.len())).collect::<Option<Vec<_>>>()?,
            None => (0..out.len()).collect(),
        };
        let why = Self::because(node, "resizes this axis");
        let scales = self.graph.constant_operand(node, 2).map(|scales| scales.decode().data().to_f64());
        let unscaled = |i: usize| scales.as_ref().and_then(|scales| scales.get(i)).is_none_or(|&scale| scale == 1.0);
        let sizes = self.graph.operand(node, 3).filter(|v| self.graph.ty(*v).shape() != Some(&[Dim::Fixed(0)]));
        for (i, &axis) in axes.iter().enumerate() {
            let kept = from[axis].same(&to[axis]) && unscaled(i);
            let editable = sizes.is_none_or(|sizes| element(self.graph, sizes, i).is_some());
            // A crop moves elements even where the extent stays.
            let crops = resize.coordinates == optc_ir::op::CoordinateMode::TfCropAndResize;
            let stretch = resize.aspect == optc_ir::op::AspectPolicy::Stretch;
            if !kept || !editable || crops || !stretch {
                self.labels.freeze_axis(&out[axis], why);
                out[axis] = Axis::fixed(Some(why));
            }
        }
        self.set(node.into(), out);
        Some(())
    }

    pub(super) fn trilu(&mut self, node: NodeId) -> Option<()> {
        let mut out = self.operand(node, 0)?;
        let first = out.len().checked_sub(2)?;
        let why = Self::because(node, "cuts along the diagonal of this axis");
        self.freeze_all(&out[first..], why);
        out[first..].fill(Axis::fixed(Some(why)));
        self.set(node.into(), out);
        Some(())
    }

    /// What is told of an extent would change. Users that pick other extents do not mind.
    pub(super) fn shape_of(&mut self, node: NodeId, shape: &ShapeOf) -> Option<()> {
        let xs = self.operand(node, 0)?;
        let told = shape.axes(xs.len());
        let axes = picked(self.graph, node.into(), told.len()).unwrap_or_else(|| (0..told.len()).collect());
        let why = Self::because(node, "tells this extent");
        for axis in axes {
            let axis: Rc<Axis> = xs[told.start + axis].clone();
            self.labels.freeze_axis(&axis, why);
        }
        self.set(node.into(), vec![Axis::fixed(Some(why))]);
        Some(())
    }
}
