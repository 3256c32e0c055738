//! Makes matrix products with constant weights `linear` layers.
//!
//! `alpha·a·B + beta·c` and `a·B`, followed by `+ c` or not, are `linear(a, w, b)` with `w = alpha·Bᵀ` and
//! `b = beta·c`: one operator with its weights stored `[out, in]`, whatever the exporter wrote.
//!
//! **Applies when** `B` is a dense constant matrix nobody else uses, or the transpose of any constant matrix;
//! `a` is not transposed; and `c` is constant and the same for every row. The operands are floats.
//!
//! Rounding only: `alpha` and `beta` are multiplied into the weights.

use optc_ir::interp::eval;
use optc_ir::op::{Binary, Linear, Transpose};
use optc_ir::{Constant, Data, Graph, NodeId, Op, Tensor, ValueId};

use super::affine::{Affine, absorb, per_channel};
use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};
use crate::rewrite::{rank, rebuild};

/// The pass; see the module.
pub struct FuseLinear;

impl Pass for FuseLinear {
    fn name(&self) -> &'static str {
        "fuse-linear"
    }

    fn effect(&self) -> Effect {
        Effect::Rounding
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            let result = match graph.op(node) {
                Op::Gemm(_) => from_gemm(graph, node),
                Op::MatMul(_) if has_weights(graph, node) => from_matmul(graph, node),
                Op::Binary(Binary::Add) => {
                    add_bias(graph, cx, node);
                    continue;
                }
                _ => continue,
            };
            match result {
                Ok(()) => cx.applied(graph, node, "is a linear layer"),
                Err(reason) => cx.missed(graph, node, reason),
            }
        }
        Ok(())
    }
}

/// Whether the second operand is a constant matrix, or the transpose of one.
fn has_weights(graph: &Graph, node: NodeId) -> bool {
    let Some(b) = graph.operand(node, 1) else { return false };
    let is_matrix = rank(graph, b) == Some(2) && graph.ty(b).dtype().is_some_and(|d| d.is_float());
    let enough_axes = graph.operand(node, 0).and_then(|a| rank(graph, a)).is_some_and(|rank| rank >= 2);
    is_matrix && enough_axes && (graph.constant(b).is_some() || transposed_constant(graph, b).is_some())
}

/// The constant matrix that a value is the transpose of.
fn transposed_constant(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let Op::Transpose(Transpose { perm }) = graph.op(value.node) else { return None };
    let x = graph.operand(value.node, 0)?;
    let swaps = perm.is_empty() || perm == &[1, 0];
    (swaps && graph.constant(x)?.shape().len() == 2).then_some(x)
}

/// What becomes the weights of a layer.
enum Weights {
    /// A constant that is there already.
    Shared(ValueId),
    /// A new one.
    New(Constant),
}

/// `alpha` times the transpose of the operand in slot 1, or times the operand itself.
fn weights(graph: &Graph, node: NodeId, transpose: bool, alpha: f32) -> Result<Weights, String> {
    let b = graph.operand(node, 1).ok_or("there is no matrix")?;
    if alpha == 1.0
        && transpose
        && let Some(w) = transposed_constant(graph, b)
    {
        return Ok(Weights::Shared(w));
    }
    let constant = graph.constant(b).ok_or("the matrix is not constant")?;
    if !constant.dtype().is_float() {
        return Err("the operands are not floats".to_owned());
    }
    if alpha == 1.0 && !transpose {
        return Ok(Weights::Shared(b));
    }
    if graph.sole_user(b) != Some(node) {
        return Err("the matrix has another user".to_owned());
    }
    if constant.as_dense().is_none() {
        return Err("the matrix is encoded".to_owned());
    }
    let mut w = constant.decode();
    if transpose {
        let op = Transpose { perm: vec![1, 0] }.into();
        w = eval(&op, &[Some(&w)]).map_err(|e| e.to_string())?.remove(0);
    }
    if alpha != 1.0 {
        w = scaled(&w, f64::from(alpha))?;
    }
    Ok(Weights::New(Constant::dense(w)))
}

fn scaled(x: &Tensor, factor: f64) -> Result<Tensor, String> {
    let data = Data::from_f64(x.dtype(), x.data().to_f64().into_iter().map(|x| x * factor));
    let finite = data.to_f64().iter().all(|x| x.is_finite());
    finite.then(|| Tensor::new(x.shape(), data)).ok_or_else(|| "the product would not be finite".to_owned())
}

fn from_gemm(graph: &mut Graph, node: NodeId) -> Result<(), String> {
    let Op::Gemm(gemm) = graph.op(node) else { return Err("not a gemm".to_owned()) };
    let gemm = gemm.clone();
    let matrices = (0..2).all(|slot| graph.operand(node, slot).and_then(|v| rank(graph, v)) == Some(2));
    if !matrices {
        return Err("the rank of an operand is unknown".to_owned());
    }
    if gemm.trans_a {
        return Err("the first operand is transposed".to_owned());
    }
    let weights = weights(graph, node, !gemm.trans_b, gemm.alpha)?;
    let outputs = match &weights {
        Weights::Shared(w) => graph.constant(*w).map(|w| w.shape()[0]),
        Weights::New(w) => Some(w.shape()[0]),
    };
    let bias = match graph.operand(node, 2) {
        None => None,
        Some(c) => {
            let constant = graph.constant(c).ok_or("the summand is not constant")?;
            let outputs = outputs.ok_or("the matrix is not constant")?;
            let row = per_channel(constant, 2, 1, outputs).ok_or("the summand differs from row to row")?;
            let row = Tensor::new([outputs], Data::from_f64(constant.dtype(), row));
            let as_is = gemm.beta == 1.0 && constant.shape() == [outputs];
            Some(if as_is {
                Weights::Shared(c)
            } else {
                Weights::New(Constant::dense(scaled(&row, gemm.beta.into())?))
            })
        }
    };
    to_linear(graph, node, weights, bias);
    Ok(())
}

fn from_matmul(graph: &mut Graph, node: NodeId) -> Result<(), String> {
    let weights = weights(graph, node, true, 1.0)?;
    to_linear(graph, node, weights, None);
    Ok(())
}

fn to_linear(graph: &mut Graph, node: NodeId, weights: Weights, bias: Option<Weights>) {
    let w = place(graph, node, 1, weights, "w");
    let b = bias.map(|bias| place(graph, node, 2, bias, "b"));
    let x = graph.operand(node, 0);
    rebuild(graph, node, Linear::default(), &[x, Some(w), b]);
}

/// The value that holds weights: a constant only this node uses keeps its place and its name.
fn place(graph: &mut Graph, node: NodeId, slot: usize, weights: Weights, suffix: &str) -> ValueId {
    let new = match weights {
        Weights::Shared(value) => return value,
        Weights::New(constant) => constant,
    };
    match graph.operand(node, slot) {
        Some(old) if graph.constant(old).is_some() && graph.sole_user(old) == Some(node) => {
            graph.set_op(old.node, Op::Const(new.into()));
            old
        }
        _ => {
            let name = format!("{}.{suffix}", graph.name(node));
            graph.add_constant(&name, new).into()
        }
    }
}

/// Makes a constant added to a linear layer without a bias its bias.
fn add_bias(graph: &mut Graph, cx: &mut PassCx<'_>, node: NodeId) {
    for slot in 0..2 {
        let Some(x) = graph.operand(node, slot) else { continue };
        let bare = matches!(graph.op(x.node), Op::Linear(_)) && graph.operand(x.node, 2).is_none();
        if !bare || graph.constant_operand(node, 1 - slot).is_none() {
            continue;
        }
        let Some(constant) = graph.constant_operand(node, 1 - slot).cloned() else { continue };
        let map = |rank, axis, channels| {
            let d = per_channel(&constant, rank, axis, channels)?;
            Some(Affine { k: vec![1.0; channels], d })
        };
        match absorb(graph, node, slot, map) {
            Ok(layer) => cx.applied(graph, node, format_args!("is the bias of {}", graph.name(layer))),
            Err(reason) => cx.missed(graph, node, reason.unwrap_or_default()),
        }
        return;
    }
}
