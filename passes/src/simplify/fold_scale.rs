//! Folds elementwise arithmetic with per-channel constants into the layer before it, or the layer after it.
//!
//! `x·c`, `x/c`, `x + c`, `x − c`, `c − x` and `−x`, with `c` one number or one per channel, are maps
//! `k·x + d`. After a layer, `k·(w∗x + b) + d` is `(k·w)∗x + (k·b + d)`; before one, `w∗(k·x + d)` is
//! `(w·k)∗x + w∗d`.
//!
//! **Applies when** the layer (`conv`, `conv_transpose`, `linear`) has constant weights nobody else uses,
//! the node does not broadcast, and it is the only user of what it folds: before it, the layer must
//! have no activation; after it, a convolution that pads takes no shift, as zeros beyond the
//! border would be shifted too.
//!
//! Rounding only: products and sums are reassociated.

use optc_ir::op::{Binary, Unary};
use optc_ir::{Graph, NodeId, Op};

use super::affine::{Affine, absorb, per_channel};
use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};

/// The pass; see the module.
pub struct FoldScale;

impl Pass for FoldScale {
    fn name(&self) -> &'static str {
        "fold-scale"
    }

    fn effect(&self) -> Effect {
        Effect::Rounding
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            let Some((slot, kind)) = map_kind(graph, node) else { continue };
            let map =
                |graph: &Graph, rank, axis, channels| affine_of(graph, node, 1 - slot, kind, rank, axis, channels);
            match absorb(graph, node, slot, map) {
                Ok(layer) => cx.applied(graph, node, format_args!("folded into {}", graph.name(layer))),
                Err(reason) => cx.missed(graph, node, reason),
            }
        }
        Ok(())
    }
}

/// How the constant `c` makes a map.
#[derive(Clone, Copy)]
enum Kind {
    Times,
    Over,
    Plus,
    Minus,
    From,
    Negated,
}

/// What a node does to its operand in the slot returned, if that is an affine map by constants.
fn map_kind(graph: &Graph, node: NodeId) -> Option<(usize, Kind)> {
    let constant = |slot| graph.constant_operand(node, slot).is_some_and(|c| c.dtype().is_float());
    let (kind, reversed) = match graph.op(node) {
        Op::Unary(Unary::Neg) => return graph.ty(node).dtype()?.is_float().then_some((0, Kind::Negated)),
        Op::Binary(Binary::Mul) => (Kind::Times, Some(Kind::Times)),
        Op::Binary(Binary::Div) => (Kind::Over, None),
        Op::Binary(Binary::Add) => (Kind::Plus, Some(Kind::Plus)),
        Op::Binary(Binary::Sub) => (Kind::Minus, Some(Kind::From)),
        _ => return None,
    };
    match (constant(0), constant(1)) {
        (false, true) => Some((0, kind)),
        (true, false) => Some((1, reversed?)),
        _ => None,
    }
}

fn affine_of(
    graph: &Graph,
    node: NodeId,
    slot: usize,
    kind: Kind,
    rank: usize,
    axis: usize,
    channels: usize,
) -> Option<Affine> {
    let c = match kind {
        Kind::Negated => vec![0.0; channels],
        _ => per_channel(graph.constant_operand(node, slot)?, rank, axis, channels)?,
    };
    let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
    let negated: Vec<f64> = c.iter().map(|x| -x).collect();
    let map = match kind {
        Kind::Times => Affine { k: c, d: zeros },
        Kind::Over => Affine { k: c.iter().map(|x| 1.0 / x).collect(), d: zeros },
        Kind::Plus => Affine { k: ones, d: c },
        Kind::Minus => Affine { k: ones, d: negated },
        Kind::From => Affine { k: vec![-1.0; channels], d: c },
        Kind::Negated => Affine { k: vec![-1.0; channels], d: zeros },
    };
    map.k.iter().chain(&map.d).all(|x| x.is_finite()).then_some(map)
}
