//! Convolutions. With y = w ∗ x, x̄ is the transposed convolution of ȳ by the same kernel, and w̄ correlates x
//! with ȳ (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, section 4).

use optc_ir::op::window::WindowAxis;
use optc_ir::op::{Act, AutoPad, Conv, ConvTranspose, ConvWeightGrad};
use optc_ir::{Op, TypeError, ValueId};

use super::super::emit::Emit;
use super::super::error::TrainError;
use super::{Cx, Gradients};

pub(super) fn rule(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    match op {
        Op::Conv(conv) => self::conv(e, conv, cx, dy),
        Op::ConvTranspose(conv) => conv_transpose(e, conv, cx, dy),
        _ => unreachable!("{} is of another family", op.name()),
    }
}

/// The gradient before an activation that is fused into the node.
///
/// # Errors
/// If the result does not say the derivative; such activations are separated before differentiation.
pub(super) fn before_act(e: &mut Emit<'_>, act: Act, cx: &Cx<'_>, dy: ValueId) -> Result<ValueId, TrainError> {
    match act {
        Act::None => Ok(dy),
        act if act.grad_by_result() => e.act_grad(act, cx.y(), dy),
        _ => Err(e.unsupported("its activation hides what it is applied to; keep it a node of its own")),
    }
}

/// A window that was placed already must have been placeable.
fn placed(e: &Emit<'_>, axes: Result<Vec<WindowAxis>, TypeError>) -> Result<Vec<WindowAxis>, TrainError> {
    axes.map_err(|error| e.unsupported(error.to_string()))
}

/// Where a window slides, as lists of attributes with the pads worked out.
pub(super) struct Placement {
    pub(super) strides: Vec<usize>,
    pub(super) pads: Vec<usize>,
    pub(super) dilations: Vec<usize>,
}

impl Placement {
    pub(super) fn of(axes: &[WindowAxis]) -> Placement {
        let begins = axes.iter().map(|axis| axis.begin);
        Placement {
            strides: unless_all(1, axes.iter().map(|axis| axis.stride)),
            pads: unless_all(0, begins.chain(axes.iter().map(|axis| axis.end))),
            dilations: unless_all(1, axes.iter().map(|axis| axis.dilation)),
        }
    }
}

/// The numbers, or nothing if all are the one that an absent list means.
fn unless_all(absent: usize, numbers: impl Iterator<Item = usize>) -> Vec<usize> {
    let numbers: Vec<usize> = numbers.collect();
    if numbers.iter().all(|&n| n == absent) { Vec::new() } else { numbers }
}

/// The transposed convolution whose result, for an operand at the positions of the window, lies at what the
/// window slides over.
pub(super) fn adjoint(axes: &[WindowAxis], group: usize) -> ConvTranspose {
    let Placement { strides, dilations, .. } = Placement::of(axes);
    // The full result reaches from the front border to the end of the last window. What is beyond the operand
    // is cut, and what the windows leave over is added.
    let reach = |axis: &WindowAxis| {
        let full = axis.out.saturating_sub(1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
        (full.saturating_sub(axis.begin + axis.input), (axis.begin + axis.input).saturating_sub(full))
    };
    let begins = axes.iter().map(|axis| axis.begin);
    ConvTranspose {
        strides,
        pads: unless_all(0, begins.chain(axes.iter().map(|axis| reach(axis).0))),
        dilations,
        group,
        output_padding: unless_all(0, axes.iter().map(|axis| reach(axis).1)),
        ..ConvTranspose::default()
    }
}

/// Sums over everything but channels.
fn bias(e: &mut Emit<'_>, dz: ValueId) -> Result<ValueId, TrainError> {
    let rank = e.ty(dz)?.rank();
    let axes: Vec<usize> = (0..rank).filter(|&axis| axis != 1).collect();
    e.sum(dz, &axes, false)
}

fn conv(e: &mut Emit<'_>, conv: &Conv, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let (x, w) = (cx.x(e, 0), cx.x(e, 1));
    let (x_shape, w_shape) = (e.shape(x)?, e.shape(w)?);
    let kernel = w_shape[2..].to_vec();
    let axes = placed(e, conv.convolution().window(kernel.iter().copied()).axes(&x_shape[2..]))?;
    let dz = before_act(e, conv.act, cx, dy)?;
    let dx = if cx.needs(0) { Some(e.op(adjoint(&axes, conv.group), &[dz, w])?) } else { None };
    let dw = if cx.needs(1) {
        let Placement { strides, pads, dilations } = Placement::of(&axes);
        Some(e.op(ConvWeightGrad { kernel, strides, pads, dilations, group: conv.group }, &[x, dz])?)
    } else {
        None
    };
    let db = if cx.needs(2) { Some(bias(e, dz)?) } else { None };
    Ok(vec![dx, dw, db])
}

fn conv_transpose(e: &mut Emit<'_>, conv: &ConvTranspose, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let (x, w) = (cx.x(e, 0), cx.x(e, 1));
    let (x_shape, w_shape) = (e.shape(x)?, e.shape(w)?);
    let kernel = w_shape[2..].to_vec();
    let window = conv.window(kernel.iter().copied());
    let axes = placed(e, window.transposed_axes(&x_shape[2..], &conv.output_padding, &conv.output_shape))?;
    for axis in &axes {
        let span = (axis.kernel - 1) * axis.dilation + 1;
        if (axis.input + axis.begin + axis.end).saturating_sub(span) / axis.stride + 1 != axis.out {
            return Err(e.unsupported("its output padding holds whole windows; make it less than the stride"));
        }
    }
    let Placement { strides, pads, dilations } = Placement::of(&axes);
    let dz = before_act(e, conv.act, cx, dy)?;
    let dx = if cx.needs(0) {
        let (strides, pads, dilations) = (strides.clone(), pads.clone(), dilations.clone());
        let (group, auto_pad, act) = (conv.group, AutoPad::Explicit, Act::None);
        Some(e.op(Conv { strides, pads, dilations, group, auto_pad, act }, &[dz, w])?)
    } else {
        None
    };
    // The roles of operand and result are exchanged.
    let dw = if cx.needs(1) {
        Some(e.op(ConvWeightGrad { kernel, strides, pads, dilations, group: conv.group }, &[dz, x])?)
    } else {
        None
    };
    let db = if cx.needs(2) { Some(bias(e, dz)?) } else { None };
    Ok(vec![dx, dw, db])
}
