//! Moves zeros padded before a convolution into its own padding.
//!
//! **Applies when** a `pad` with constant zeros, never negative and only along spatial axes, feeds one `conv` whose
//! own padding is in numbers.
//!
//! Exact: the same zeros are read.

use optc_ir::op::{AutoPad, Conv, PadMode};
use optc_ir::{Graph, NodeId, Op};

use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};
use crate::rewrite::{detach, int_operand, rank, refines, scalar_operand, types_of};

/// The pass; see the module.
pub struct FoldPad;

impl Pass for FoldPad {
    fn name(&self) -> &'static str {
        "fold-pad"
    }

    fn effect(&self) -> Effect {
        Effect::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for conv in graph.topo_order() {
            let Op::Conv(attrs) = graph.op(conv) else { continue };
            let attrs = attrs.clone();
            let Some(pad) = graph.operand(conv, 0).map(|x| x.node) else { continue };
            if !matches!(graph.op(pad), Op::Pad(_)) {
                continue;
            }
            match fold(graph, pad, conv, attrs) {
                Ok(()) => cx.applied(graph, pad, format_args!("folded into {}", graph.name(conv))),
                Err(reason) => cx.missed(graph, pad, reason),
            }
        }
        Ok(())
    }
}

fn fold(graph: &mut Graph, pad: NodeId, conv: NodeId, attrs: Conv) -> Result<(), &'static str> {
    if graph.sole_user(pad.into()) != Some(conv) {
        return Err("it has another user");
    }
    let pads = spatial_pads(graph, pad).ok_or("it pads with something else than zeros along spatial axes")?;
    let own = match attrs.auto_pad {
        AutoPad::Explicit if !attrs.pads.is_empty() => attrs.pads.clone(),
        AutoPad::Explicit | AutoPad::Valid => vec![0; pads.len()],
        AutoPad::SameUpper | AutoPad::SameLower => return Err("the convolution pads by the extent of its operand"),
    };
    let sum: Option<Vec<usize>> = own.iter().zip(&pads).map(|(a, b)| a.checked_add(*b)).collect();
    let sum = sum.filter(|sum| sum.len() == pads.len()).ok_or("the padding does not fit the convolution")?;
    let mut operands = graph.operands(conv);
    if let Some(x) = operands.first_mut() {
        *x = graph.operand(pad, 0);
    }
    let op = Op::from(Conv { pads: sum, auto_pad: AutoPad::Explicit, ..attrs });
    match types_of(graph, &op, &operands).as_deref() {
        Some([ty]) if refines(ty, graph.ty(conv)) => {}
        _ => return Err("less would be known of the result"),
    }
    graph.set_operand(conv, 0, graph.operand(pad, 0));
    graph.set_op(conv, op);
    detach(graph, pad);
    Ok(())
}

/// What a `pad` adds along the spatial axes, all beginnings, then all ends; `None` if it does anything else.
fn spatial_pads(graph: &Graph, pad: NodeId) -> Option<Vec<usize>> {
    let Op::Pad(attrs) = graph.op(pad) else { return None };
    let rank = rank(graph, graph.operand(pad, 0)?)?;
    let zero = graph.operand(pad, 2).is_none() || scalar_operand(graph, pad, 2, 1)? == 0.0;
    if attrs.mode != PadMode::Constant || !zero || rank < 3 {
        return None;
    }
    let pads = int_operand(graph, pad, 1)?;
    let signed = i64::try_from(rank).ok()?;
    let axes = match graph.operand(pad, 3) {
        None => (0..signed).collect(),
        Some(_) => int_operand(graph, pad, 3)?,
    };
    if pads.len() != 2 * axes.len() {
        return None;
    }
    let mut spatial = vec![0usize; 2 * (rank - 2)];
    for (i, axis) in axes.iter().enumerate() {
        let axis = usize::try_from(if *axis < 0 { axis + signed } else { *axis }).ok().filter(|a| *a < rank)?;
        for (amount, offset) in [(pads[i], 0), (pads[axes.len() + i], rank - 2)] {
            let amount = usize::try_from(amount).ok()?;
            match axis.checked_sub(2) {
                Some(at) => spatial[at + offset] = amount,
                None if amount == 0 => {}
                None => return None,
            }
        }
    }
    Some(spatial)
}
