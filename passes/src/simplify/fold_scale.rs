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

use super::affine::{Affine, Candidate, fold_all, per_channel};
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
        fold_all(graph, cx, false, |graph, node| {
            let (slot, kind) = map_kind(graph, node)?;
            let constant = graph.constant_operand(node, 1 - slot).cloned();
            let map = move |rank, axis, channels| {
                let c = match &constant {
                    Some(constant) => per_channel(constant, rank, axis, channels)?,
                    None => vec![0.0; channels],
                };
                affine_of(kind, c)
            };
            Some(Candidate { slot, map })
        });
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

/// The map that the constants `c`, one per channel, make.
fn affine_of(kind: Kind, c: Vec<f64>) -> Option<Affine> {
    let same = |x: f64| vec![x; c.len()];
    let each = |f: fn(f64) -> f64| c.iter().map(|&x| f(x)).collect();
    let map = match kind {
        Kind::Times => Affine { d: same(0.0), k: c },
        Kind::Over => Affine { k: each(|x| 1.0 / x), d: same(0.0) },
        Kind::Plus => Affine { k: same(1.0), d: c },
        Kind::Minus => Affine { k: same(1.0), d: each(|x| -x) },
        Kind::From => Affine { k: same(-1.0), d: c },
        Kind::Negated => Affine { k: same(-1.0), d: same(0.0) },
    };
    map.k.iter().chain(&map.d).all(|x| x.is_finite()).then_some(map)
}
