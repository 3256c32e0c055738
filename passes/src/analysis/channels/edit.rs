//! What removal rewrites beside the elements of constants: attributes and operands that count channels, and means
//! over them.
//!
//! Of `C` channels let those that go be zero and `r·C` stay. A sum is the same without them, so a mean over those
//! that stay is `1/r` of what it was: it is multiplied by `r`. By the same, `x/√(mean x² + ε)` is
//! `r^−½·x/√(mean′ x² + ε/r)`, where `mean′` is over those that stay.

use std::collections::HashMap;

use optc_ir::op::{Binary, Gather, ReduceKind};
use optc_ir::{Constant, Data, Dim, Graph, NodeId, Op, Tensor, ValueId};

use super::movement::{element, slices};
use super::pointwise::resolve;
use super::remove::Cuts;
use crate::rewrite::int_operand;

/// What stays of an axis.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// The indices that stay, ascending.
    pub(super) kept: Vec<usize>,
    /// How many there were.
    pub(super) of: usize,
}

impl Cut {
    /// Where an index is afterwards, if it stays.
    fn rank(&self, index: usize) -> Option<usize> {
        self.kept.binary_search(&index).ok()
    }
}

/// The indices of an axis of this extent that stay.
fn whole(cut: Option<Cut>, extent: usize) -> Cut {
    cut.unwrap_or_else(|| Cut { kept: (0..extent).collect(), of: extent })
}

/// Rewrites a node of `new`, a copy of `old` whose constants are sliced already.
pub(super) fn rewrite(new: &mut Graph, old: &Graph, node: NodeId, cuts: &Cuts<'_>) {
    let out = cuts.of(node.into());
    let x = old.operand(node, 0);
    let changed = out.iter().any(Option::is_some);
    let mut op = old.op(node).clone();
    match &mut op {
        Op::Conv(conv) => conv.group = cuts.parts(node).unwrap_or(conv.group),
        Op::ConvTranspose(conv) => conv.group = cuts.parts(node).unwrap_or(conv.group),
        Op::QLinearConv(conv) => conv.group = cuts.parts(node).unwrap_or(conv.group),
        Op::ConvInteger(conv) => conv.group = cuts.parts(node).unwrap_or(conv.group),
        Op::GroupNorm(norm) => norm.groups = cuts.parts(node).unwrap_or(norm.groups),
        Op::Rnn(rnn) => rnn.hidden_size = last(&out).unwrap_or(rnn.hidden_size),
        Op::Gru(gru) => gru.hidden_size = last(&out).unwrap_or(gru.hidden_size),
        Op::Lstm(lstm) => lstm.hidden_size = last(&out).unwrap_or(lstm.hidden_size),
        Op::RmsNorm(norm) => {
            let ratio = x.and_then(|x| remaining(old, x, cuts, [norm.axis], true));
            if let Some(ratio) = ratio {
                // `x/√(m·r + ε) = 1/√r · x/√(m + ε/r)`, where m is the mean square of what stays.
                norm.eps = (f64::from(norm.eps) / ratio) as f32;
                scale_operand(new, node, 1, ratio.sqrt().recip());
            }
        }
        Op::Reduce(reduce) if reduce.kind == ReduceKind::Mean => {
            let axes = x.and_then(|x| reduce.attrs.resolved(old.ty(x).shape()?.len()).ok());
            let axes = axes.into_iter().flatten().filter_map(|axis| i64::try_from(axis).ok());
            let ratio = x.and_then(|x| remaining(old, x, cuts, axes, false));
            if let Some(ratio) = ratio {
                scale_result(new, node, ratio);
            }
            return;
        }
        Op::Split(split) => {
            let rank = out.len();
            let Some(axis) = resolve(split.axis, rank) else { return };
            for (i, size) in split.sizes.iter_mut().enumerate() {
                *size = cuts.axis(node.result(i), axis).map_or(*size, |cut| cut.kept.len());
            }
        }
        Op::Reshape(_) if changed => return entries(new, old, (node, 1), &out, 0),
        Op::ConstantOfShape(_) if changed => return entries(new, old, (node, 0), &out, 0),
        Op::Expand(_) if changed => {
            let rank = old.operand(node, 1).and_then(|s| old.ty(s).as_tensor()?.numel()).unwrap_or(0);
            return entries(new, old, (node, 1), &out, out.len().saturating_sub(rank));
        }
        Op::Resize(resize) if changed => {
            let axes = match &resize.axes {
                Some(axes) => axes.iter().filter_map(|&axis| resolve(axis, out.len())).collect(),
                None => (0..out.len()).collect::<Vec<_>>(),
            };
            let Some(sizes) = old.operand(node, 3) else { return };
            let counts: Vec<_> = axes.iter().map(|&axis| out[axis].as_ref().map(|cut| cut.kept.len())).collect();
            return set_entries(new, old, (node, 3), sizes, &counts);
        }
        Op::Pad(_) if changed => {
            if let Some(x) = x {
                pads(new, old, node, x, cuts);
            }
            return;
        }
        Op::Slice(_) => {
            if let Some(x) = x {
                slice(new, old, node, x, cuts);
            }
            return;
        }
        Op::Gather(gather) => {
            let axis = x.and_then(|x| resolve(gather.axis, old.ty(x).shape()?.len()));
            if let (Some(x), Some(axis)) = (x, axis) {
                indices(new, old, node, (x, axis), cuts);
            }
            return;
        }
        _ => return,
    }
    if op != *old.op(node) {
        new.set_op(node, op);
    }
}

/// How much of the elements stays along these axes, or along all from the first on, if any go. Those that go
/// were zero where the mean is taken, and a mean over fewer is larger by that.
fn remaining(
    old: &Graph,
    x: ValueId,
    cuts: &Cuts<'_>,
    axes: impl IntoIterator<Item = i64>,
    onwards: bool,
) -> Option<f64> {
    let rank = old.ty(x).shape()?.len();
    old.ty(x).dtype().filter(|dtype| dtype.is_float())?;
    let mut axes: Vec<usize> = axes.into_iter().filter_map(|axis| resolve(axis, rank)).collect();
    if onwards {
        axes = (*axes.first()?..rank).collect();
    }
    let share = |axis: usize| cuts.axis(x, axis).map(|cut| cut.kept.len() as f64 / cut.of as f64);
    let shares: Vec<f64> = axes.into_iter().filter_map(share).collect();
    (!shares.is_empty()).then(|| shares.iter().product())
}

/// Multiplies an operand by a number.
fn scale_operand(new: &mut Graph, node: NodeId, slot: usize, factor: f64) {
    let Some(value) = new.operand(node, slot) else { return };
    match new.constant(value) {
        Some(constant) => {
            let tensor = constant.decode();
            let scaled = tensor.data().to_f64().into_iter().map(|x| x * factor);
            let data = Data::from_f64(tensor.dtype(), scaled);
            new.set_constant_operand(node, slot, Constant::dense(Tensor::new(tensor.shape().to_vec(), data)));
        }
        None => {
            if let Some(scaled) = scaled(new, node, value, factor) {
                new.set_operand(node, slot, Some(scaled));
            }
        }
    }
}

/// Multiplies the result of a node by a number, for all who use it.
fn scale_result(new: &mut Graph, node: NodeId, factor: f64) {
    if let Some(scaled) = scaled(new, node, node.into(), factor) {
        new.replace_uses(node.into(), scaled);
    }
}

/// A value times a number, as a node named after the one that asks.
fn scaled(new: &mut Graph, node: NodeId, value: ValueId, factor: f64) -> Option<ValueId> {
    let dtype = new.ty(value).dtype()?;
    let name = format!("{}.scaled", new.name(node));
    let factor = new.add_tensor(&format!("{name}.factor"), Tensor::new([], Data::from_f64(dtype, [factor])));
    let product = new.add(&name, Op::Binary(Binary::Mul), &[Some(value), Some(factor.into())]).ok()?;
    Some(product.into())
}

fn last(out: &[Option<Cut>]) -> Option<usize> {
    Some(out.last()?.as_ref()?.kept.len())
}

/// The entries of a shape operand, whose first one is for result axis `first`.
fn entries(new: &mut Graph, old: &Graph, (node, slot): (NodeId, usize), out: &[Option<Cut>], first: usize) {
    let Some(shape) = old.operand(node, slot) else { return };
    let counts: Vec<_> = out[first..].iter().map(|cut| cut.as_ref().map(|cut| cut.kept.len())).collect();
    set_entries(new, old, (node, slot), shape, &counts);
}

/// Sets some elements of a vector of integers. Those that stand for an extent without naming it stay.
fn set_entries(new: &mut Graph, old: &Graph, (node, slot): (NodeId, usize), vector: ValueId, counts: &[Option<usize>]) {
    // Constants that others read, too, are copied along the way from the vector to the constant.
    let mut by_constant: HashMap<NodeId, Vec<(usize, usize)>> = HashMap::new();
    for (i, count) in counts.iter().enumerate() {
        let Some(count) = count else { continue };
        if let Some((constant, at)) = element(old, vector, i) {
            by_constant.entry(constant).or_default().push((at, *count));
        }
    }
    edit_vector(new, old, (node, slot), vector, &by_constant);
}

/// Makes operand `slot` of `node` a vector like `vector` with some elements of its constants replaced.
fn edit_vector(
    new: &mut Graph,
    old: &Graph,
    (node, slot): (NodeId, usize),
    vector: ValueId,
    edits: &HashMap<NodeId, Vec<(usize, usize)>>,
) {
    if let Some(constant) = old.constant(vector) {
        let Some(edits) = edits.get(&vector.node) else { return };
        let tensor = constant.decode();
        let Some(mut elements) = tensor.data().to_i64() else { return };
        for &(at, count) in edits {
            // -1 follows from the other extents, and 1 from an operand that is broadcast.
            if elements[at] != -1 && elements[at] != 1 {
                elements[at] = i64::try_from(count).expect("extents fit an i64");
            }
        }
        let data = Data::from_i64(tensor.dtype(), elements);
        let constant = Constant::dense(Tensor::new(tensor.shape().to_vec(), data));
        new.set_constant_operand(node, slot, constant);
        return;
    }
    // A vector put together at run time, of which others may read the old one.
    let parts = old.operands(vector.node);
    let touched = |part: &ValueId| {
        let len = old.ty(*part).as_tensor().and_then(|ty| ty.numel()).unwrap_or(0);
        (0..len).filter_map(|i| element(old, *part, i)).any(|(at, _)| edits.contains_key(&at))
    };
    if !parts.iter().flatten().any(touched) {
        return;
    }
    let operands = new.operands(vector.node);
    let op = new.op(vector.node).clone();
    let name = format!("{}.{}", new.name(node), new.name(vector.node));
    let Ok(copy) = new.add(&name, op, &operands) else { return };
    for (i, part) in parts.into_iter().enumerate() {
        if let Some(part) = part {
            edit_vector(new, old, (copy, i), part, edits);
        }
    }
    new.set_operand(node, slot, Some(copy.into()));
}

/// Fewer channels are added where some that were are removed.
fn pads(new: &mut Graph, old: &Graph, node: NodeId, x: ValueId, cuts: &Cuts<'_>) {
    let rank = old.ty(x).shape().map_or(0, <[Dim]>::len);
    let axes = match old.operand(node, 3) {
        Some(_) => int_operand(old, node, 3).unwrap_or_default(),
        None => (0..i64::try_from(rank).unwrap_or(0)).collect(),
    };
    let Some(mut pads) = int_operand(old, node, 1) else { return };
    let count = axes.len();
    for (i, axis) in axes.into_iter().enumerate() {
        let Some(axis) = resolve(axis, rank) else { continue };
        let (Some(cut), Ok(begin)) = (cuts.axis(node.into(), axis), usize::try_from(pads[i])) else { continue };
        let end = usize::try_from(pads[count + i]).map_or(cut.of, |end| cut.of - end);
        let within = |range: std::ops::Range<usize>| {
            i64::try_from(cut.kept.iter().filter(|i| range.contains(i)).count()).expect("extents fit an i64")
        };
        if pads[i] != 0 || pads[count + i] != 0 {
            (pads[i], pads[count + i]) = (within(0..begin), within(end..cut.of));
        }
    }
    set_ints(new, (node, 1), pads);
}

/// A vector of integers as an operand, in the type it had.
fn set_ints(new: &mut Graph, (node, slot): (NodeId, usize), ints: Vec<i64>) {
    let dtype = new.operand(node, slot).and_then(|v| new.ty(v).dtype()).unwrap_or(optc_ir::DType::I64);
    let constant = Constant::dense(Tensor::new([ints.len()], Data::from_i64(dtype, ints)));
    new.set_constant_operand(node, slot, constant);
}

/// A slice of what stays, picked one by one where that is no range any more.
fn slice(new: &mut Graph, old: &Graph, node: NodeId, x: ValueId, cuts: &Cuts<'_>) {
    let Some(ranges) = slices(old, node) else { return };
    let all = int_operand(old, node, 3).unwrap_or_else(|| {
        (0..i64::try_from(int_operand(old, node, 1).map_or(0, |starts| starts.len())).unwrap_or(0)).collect()
    });
    let rank = old.ty(x).shape().map_or(0, <[Dim]>::len);
    let (Some(mut starts), Some(mut ends)) = (int_operand(old, node, 1), int_operand(old, node, 2)) else { return };
    let mut steps = int_operand(old, node, 4).unwrap_or_else(|| vec![1; starts.len()]);
    let mut scattered: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut changed = false;
    for (axis, indices) in ranges {
        let Some(cut) = cuts.axis(x, axis) else { continue };
        changed = true;
        let i = all.iter().position(|&a| resolve(a, rank) == Some(axis)).expect("slices are of the axes listed");
        let places: Vec<usize> = indices.iter().filter_map(|&index| cut.rank(index)).collect();
        let signed = |at: usize| i64::try_from(at).expect("extents fit an i64");
        let step = match places.as_slice() {
            [a, b, ..] => signed(*b) - signed(*a),
            _ => 1,
        };
        let even = places.windows(2).all(|pair| signed(pair[1]) - signed(pair[0]) == step);
        match (places.first(), places.last()) {
            (Some(&first), Some(&end)) if even => {
                // A backward range that reaches the first element ends before it, which only a number beyond
                // the other end of any axis says.
                let end = signed(end) + step.signum();
                (starts[i], ends[i], steps[i]) = (signed(first), if end < 0 { i64::MIN } else { end }, step);
            }
            (None, _) => (starts[i], ends[i], steps[i]) = (0, 0, 1),
            _ => {
                (starts[i], ends[i], steps[i]) = (0, i64::MAX, 1);
                scattered.push((axis, places));
            }
        }
    }
    if !changed {
        return;
    }
    let stepped = new.operand(node, 4).is_some() || steps.iter().any(|&step| step != 1);
    set_ints(new, (node, 1), starts);
    set_ints(new, (node, 2), ends);
    if stepped {
        // Without axes the steps would stand for others.
        if new.operand(node, 3).is_none() {
            set_ints(new, (node, 3), all);
        }
        set_ints(new, (node, 4), steps);
    }
    for (axis, places) in scattered {
        let places: Vec<i64> = places.iter().map(|&at| i64::try_from(at).expect("extents fit an i64")).collect();
        let indices = new.add_tensor(&format!("{}.indices", old.name(node)), Tensor::i64([places.len()], places));
        let gather = Gather { axis: i64::try_from(axis).expect("ranks fit an i64") };
        let x = new.operand(node, 0);
        if let Ok(picked) = new.add(&format!("{}.picked", old.name(node)), gather, &[x, Some(indices.into())]) {
            new.set_operand(node, 0, Some(picked.into()));
        }
    }
}

/// Constant indices into an axis that lost some.
fn indices(new: &mut Graph, old: &Graph, node: NodeId, (x, axis): (ValueId, usize), cuts: &Cuts<'_>) {
    let Some(extent) = old.ty(x).shape().and_then(|shape| shape[axis].fixed()) else { return };
    let (source, picked) = (cuts.axis(x, axis), old.operand(node, 1));
    let (Some(ints), Some(picked)) = (int_operand(old, node, 1), picked) else { return };
    let rows = cuts.axis(picked, 0);
    if source.is_none() && rows.is_none() {
        return;
    }
    let source = whole(source, extent);
    let rows = whole(rows, ints.len());
    let signed = i64::try_from(extent).expect("extents fit an i64");
    let moved = rows.kept.iter().filter_map(|&row| {
        let index = if ints[row] < 0 { ints[row] + signed } else { ints[row] };
        source.rank(usize::try_from(index).ok()?)
    });
    let moved: Vec<i64> = moved.map(|at| i64::try_from(at).expect("extents fit an i64")).collect();
    let old_shape = old.ty(picked).as_tensor().map(|ty| ty.rank());
    let shape = if old_shape == Some(1) {
        vec![moved.len()]
    } else {
        old.ty(picked).as_tensor().and_then(|ty| ty.fixed_shape()).unwrap_or_default()
    };
    let dtype = old.ty(picked).dtype().unwrap_or(optc_ir::DType::I64);
    new.set_constant_operand(node, 1, Constant::dense(Tensor::new(shape, Data::from_i64(dtype, moved))));
}
