//! Fuses activations into the layer that feeds them.
//!
//! First, activations written out as arithmetic (`x·sigmoid(x)`, `x·clip(x + 3, 0, 6)/6`, the error function form
//! of `gelu`, …; see `activation_patterns.rs`) become the operators they are. Then `relu`, `clip`, `leaky_relu`,
//! `sigmoid`, `tanh`, `hard_sigmoid`, `hard_swish`, `silu` and `gelu` behind a `conv`, `conv_transpose` or
//! `linear` become its `act`.
//!
//! **Applies when** the activation is the only user of a layer without one; the limits of a `clip` are
//! constants; constants of patterns are what they should be to the precision of the element type.
//!
//! Rounding: fused, the activation is applied before the sum is rounded.

use optc_ir::op::{Act, Binary, Unary};
use optc_ir::{Graph, NodeId, Op};

use super::activation_patterns::recognise;
use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};
use crate::rewrite::{bypass, rebuild, refines, scalar_operand};

/// The pass; see the module.
pub struct FuseActivation;

impl Pass for FuseActivation {
    fn name(&self) -> &'static str {
        "fuse-activation"
    }

    fn effect(&self) -> Effect {
        Effect::Rounding
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            if let Some((op, x)) = recognise(graph, node)
                && refines(graph.ty(x), graph.ty(node))
            {
                cx.applied(graph, node, format_args!("is {}", op.name()));
                rebuild(graph, node, op, &[Some(x)]);
            }
        }
        for node in graph.topo_order() {
            fuse(graph, cx, node);
        }
        Ok(())
    }
}

fn fuse(graph: &mut Graph, cx: &mut PassCx<'_>, node: NodeId) {
    let Some(x) = graph.operand(node, 0) else { return };
    let layer = x.node;
    let act = match layer_act(graph.op(layer)) {
        None => return,
        Some(act) => act,
    };
    let Some(new) = activation(graph, node) else {
        if matches!(graph.op(node), Op::Clip(_)) {
            cx.missed(graph, node, "its limits are not constants");
        }
        return;
    };
    if act != Act::None {
        cx.missed(graph, node, format_args!("{} has an activation", graph.name(layer)));
    } else if graph.sole_user(x) != Some(node) {
        cx.missed(graph, node, format_args!("{} has another user", graph.name(layer)));
    } else if bypass(graph, node, x) {
        let op = match graph.op(layer).clone() {
            Op::Conv(conv) => optc_ir::op::Conv { act: new, ..conv }.into(),
            Op::ConvTranspose(conv) => optc_ir::op::ConvTranspose { act: new, ..conv }.into(),
            Op::Linear(_) => optc_ir::op::Linear { act: new }.into(),
            other => other,
        };
        graph.set_op(layer, op);
        cx.applied(graph, node, format_args!("fused into {}", graph.name(layer)));
    }
}

/// The activation of a layer, if the node is one.
fn layer_act(op: &Op) -> Option<Act> {
    match op {
        Op::Conv(conv) => Some(conv.act),
        Op::ConvTranspose(conv) => Some(conv.act),
        Op::Linear(linear) => Some(linear.act),
        _ => None,
    }
}

/// The activation a node is, as an attribute of a layer.
fn activation(graph: &Graph, node: NodeId) -> Option<Act> {
    Some(match graph.op(node) {
        Op::Unary(Unary::Relu) => Act::Relu,
        Op::Unary(Unary::Sigmoid) => Act::Sigmoid,
        Op::Unary(Unary::Tanh) => Act::Tanh,
        Op::Unary(Unary::HardSwish) => Act::HardSwish,
        Op::Unary(Unary::Silu) => Act::Silu,
        Op::Gelu(gelu) if !gelu.tanh => Act::Gelu,
        Op::LeakyRelu(leaky) => Act::LeakyRelu { alpha: leaky.alpha },
        Op::HardSigmoid(h) => Act::HardSigmoid { alpha: h.alpha, beta: h.beta },
        Op::Binary(Binary::PRelu) => Act::LeakyRelu { alpha: number(graph, node, 1)? },
        Op::Clip(_) => {
            let limit = |slot: usize, missing: f32| match graph.operand(node, slot) {
                None => Some(missing),
                Some(_) => number(graph, node, slot),
            };
            let (lo, hi) = (limit(1, f32::NEG_INFINITY)?, limit(2, f32::INFINITY)?);
            if lo == 0.0 && hi == f32::INFINITY { Act::Relu } else { Act::Clip { lo, hi } }
        }
        _ => return None,
    })
}

/// A constant operand of one element that an attribute can hold.
fn number(graph: &Graph, node: NodeId, slot: usize) -> Option<f32> {
    let x = scalar_operand(graph, node, slot, usize::MAX)?;
    let narrow = x as f32;
    (f64::from(narrow) == x).then_some(narrow)
}
