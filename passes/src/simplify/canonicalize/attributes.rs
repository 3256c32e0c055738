//! Attributes in their plain form: axes counted from the front, padding in numbers, nothing that is the
//! default anyway.

use optc_ir::op::infer::resolve_axis;
use optc_ir::op::{AutoPad, Op};
use optc_ir::{Graph, NodeId};

use crate::rewrite::{rank, shape, types_of};

/// The operator of a node with its attributes written plainly, if that differs and gives the same types.
pub(super) fn canonical(graph: &Graph, node: NodeId) -> Option<Op> {
    let old = graph.op(node);
    // A constant has no attributes, and comparing it with itself would take as long as it is large.
    if matches!(old, Op::Const(_)) {
        return None;
    }
    let mut op = old.clone();
    axes(graph, node, &mut op);
    padding(graph, node, &mut op);
    defaults(&mut op);
    if op == *old {
        return None;
    }
    let types = types_of(graph, &op, &graph.operands(node))?;
    let same = types.iter().enumerate().all(|(i, ty)| ty == graph.ty(node.result(i)));
    same.then_some(op)
}

fn axes(graph: &Graph, node: NodeId, op: &mut Op) {
    let Some(operand) = graph.operand(node, 0).and_then(|x| rank(graph, x)) else { return };
    let front = |axis: &mut i64, rank: usize| {
        if let Some(resolved) = resolve_axis(*axis, rank).ok().and_then(|a| i64::try_from(a).ok()) {
            *axis = resolved;
        }
    };
    match op {
        Op::Softmax(a) if !a.flatten => front(&mut a.axis, operand),
        Op::LogSoftmax(a) if !a.flatten => front(&mut a.axis, operand),
        Op::Concat(a) => front(&mut a.axis, operand),
        Op::Split(a) => front(&mut a.axis, operand),
        Op::Gather(a) => front(&mut a.axis, operand),
        Op::GatherElements(a) => front(&mut a.axis, operand),
        Op::ScatterElements(a) => front(&mut a.axis, operand),
        Op::ArgMax(a) => front(&mut a.axis, operand),
        Op::ArgMin(a) => front(&mut a.axis, operand),
        Op::TopK(a) => front(&mut a.axis, operand),
        Op::LayerNorm(a) => front(&mut a.axis, operand),
        Op::RmsNorm(a) => front(&mut a.axis, operand),
        Op::LpNorm(a) => front(&mut a.axis, operand),
        // An axis one past the last is allowed and stays.
        Op::Flatten(a) => front(&mut a.axis, operand),
        Op::Reduce(a) => a.attrs.axes.iter_mut().flatten().for_each(|axis| front(axis, operand)),
        Op::Squeeze(a) => a.axes.iter_mut().flatten().for_each(|axis| front(axis, operand)),
        Op::Unsqueeze(a) => {
            let result = operand + a.axes.len();
            a.axes.iter_mut().for_each(|axis| front(axis, result));
        }
        _ => {}
    }
}

/// Empties lists that say what an empty one does.
fn defaults(op: &mut Op) {
    let lists = match op {
        Op::Conv(a) => [&mut a.strides, &mut a.dilations, &mut a.pads],
        Op::ConvTranspose(a) => [&mut a.strides, &mut a.dilations, &mut a.pads],
        Op::MaxPool(a) => [&mut a.strides, &mut a.dilations, &mut a.pads],
        Op::AveragePool(a) => [&mut a.strides, &mut a.dilations, &mut a.pads],
        Op::LpPool(a) => [&mut a.strides, &mut a.dilations, &mut a.pads],
        _ => return,
    };
    for (list, default) in lists.into_iter().zip([1, 1, 0]) {
        if list.iter().all(|&n| n == default) {
            list.clear();
        }
    }
}

/// What padding is computed from: the window along each spatial axis.
struct Window<'a> {
    auto_pad: &'a mut AutoPad,
    pads: &'a mut Vec<usize>,
    kernel: Vec<usize>,
    strides: &'a [usize],
    dilations: &'a [usize],
}

fn padding(graph: &Graph, node: NodeId, op: &mut Op) {
    let kernel = |slot: usize| {
        let w = graph.operand(node, slot).and_then(|w| shape(graph, w)).and_then(|w| w.get(2..));
        w.and_then(|w| w.iter().map(|d| d.fixed()).collect::<Option<Vec<usize>>>()).unwrap_or_default()
    };
    let window = match op {
        Op::Conv(a) => Window {
            auto_pad: &mut a.auto_pad,
            pads: &mut a.pads,
            kernel: kernel(1),
            strides: &a.strides,
            dilations: &a.dilations,
        },
        Op::MaxPool(a) if !a.ceil => Window {
            auto_pad: &mut a.auto_pad,
            pads: &mut a.pads,
            kernel: a.kernel.clone(),
            strides: &a.strides,
            dilations: &a.dilations,
        },
        Op::AveragePool(a) if !a.ceil => Window {
            auto_pad: &mut a.auto_pad,
            pads: &mut a.pads,
            kernel: a.kernel.clone(),
            strides: &a.strides,
            dilations: &a.dilations,
        },
        _ => return,
    };
    let extents = graph.operand(node, 0).and_then(|x| shape(graph, x)).and_then(|x| x.get(2..)).unwrap_or_default();
    let extents: Option<Vec<usize>> = extents.iter().map(|d| d.fixed()).collect();
    let pads = match window.auto_pad {
        AutoPad::Explicit => return,
        AutoPad::Valid => Some(Vec::new()),
        AutoPad::SameUpper => extents.and_then(|x| same_pads(&x, &window, true)),
        AutoPad::SameLower => extents.and_then(|x| same_pads(&x, &window, false)),
    };
    if let Some(pads) = pads {
        *window.pads = pads;
        *window.auto_pad = AutoPad::Explicit;
    }
}

/// Padding with which the result has ⌈extent / stride⌉ elements along each axis; the odd element goes to
/// the end for `upper`.
fn same_pads(extents: &[usize], window: &Window<'_>, upper: bool) -> Option<Vec<usize>> {
    if extents.is_empty() || extents.len() != window.kernel.len() {
        return None;
    }
    let one = |list: &[usize], i: usize| list.get(i).copied().unwrap_or(1);
    let (mut begins, mut ends) = (Vec::new(), Vec::new());
    for (i, (&extent, &kernel)) in extents.iter().zip(&window.kernel).enumerate() {
        let (stride, dilation) = (one(window.strides, i), one(window.dilations, i));
        let steps = extent.div_ceil(stride.max(1)).checked_sub(1)?;
        let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        let total = steps.checked_mul(stride)?.checked_add(reach)?.saturating_sub(extent);
        let (small, large) = (total / 2, total - total / 2);
        begins.push(if upper { small } else { large });
        ends.push(if upper { large } else { small });
    }
    begins.extend(ends);
    Some(begins)
}
