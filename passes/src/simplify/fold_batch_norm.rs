//! Folds an inference-mode `batch_norm` into the layer before it, or the layer after it.
//!
//! With `k = scale / √(var + ε)` and `d = b − mean·k` per channel, the normalisation is `k·y + d`. After a
//! layer, `k·(w∗x + c) + d` is `(k·w)∗x + (k·c + d)`; before one, `w∗(k·x + d)` is `(w·k)∗x + w∗d`.
//!
//! **Applies when** all parameters are constant and the layer (`conv`, `conv_transpose`, or `linear` on
//! matrices) is the only user of what it folds: before it, the layer must have no activation; after
//! it, a convolution must not pad, as zeros beyond the border would be shifted too.
//!
//! Rounding only: products and sums are reassociated.

use optc_ir::{Graph, NodeId, Op};

use super::affine::{Affine, Candidate, fold_all};
use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};

/// The pass; see the module.
pub struct FoldBatchNorm;

impl Pass for FoldBatchNorm {
    fn name(&self) -> &'static str {
        "fold-batch-norm"
    }

    fn effect(&self) -> Effect {
        Effect::Rounding
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for bn in graph.topo_order() {
            if let Op::BatchNorm(attrs) = graph.op(bn)
                && affine_of(graph, bn, attrs.eps).is_none()
            {
                cx.missed(graph, bn, "a parameter is not a finite constant");
            }
        }
        fold_all(graph, cx, true, |graph, bn| {
            let Op::BatchNorm(attrs) = graph.op(bn) else { return None };
            let whole = affine_of(graph, bn, attrs.eps)?;
            // A linear layer has its channels on the last axis, which is axis 1 for matrices only.
            let map = move |_, axis, channels| (axis == 1 && channels == whole.k.len()).then(|| whole.clone());
            Some(Candidate { slot: 0, map })
        });
        Ok(())
    }
}

fn affine_of(graph: &Graph, bn: NodeId, eps: f32) -> Option<Affine> {
    let vector = |slot| {
        let elements = graph.constant_operand(bn, slot)?.decode().data().to_f64();
        elements.iter().all(|x| x.is_finite()).then_some(elements)
    };
    let (scale, b, mean, var) = (vector(1)?, vector(2)?, vector(3)?, vector(4)?);
    let k: Vec<f64> = scale.iter().zip(&var).map(|(s, v)| s / (v + f64::from(eps)).sqrt()).collect();
    let d: Vec<f64> = b.iter().zip(mean.iter().zip(&k)).map(|(b, (m, k))| b - m * k).collect();
    (k.len() == d.len() && k.iter().chain(&d).all(|x| x.is_finite())).then_some(Affine { k, d })
}
