//! Writes the same thing in one way, so that other passes and kernels need to know only that one.
//!
//! | node | becomes |
//! |---|---|
//! | `sub(x, c)` | `add(x, −c)` |
//! | `div(x, c)` | `mul(x, 1/c)` |
//! | `add(c, x)`, `mul(c, x)` | the constant second |
//! | `add(x, 0)` | `x` |
//! | `sum(a, b)` | `add(a, b)` |
//! | `max(x, c)`, `min(x, c)` with a number | `clip`, or `relu` for 0 |
//! | `clip(clip(x))` | one `clip` |
//! | `reduce_mean`, `reduce_max` over all axes of an image, kept | `global_average_pool`, `global_max_pool` |
//! | `transpose` that moves only extents of 1 | `reshape` |
//! | `auto_pad` where the extents are known | `pads` |
//! | `strides` and `dilations` of ones, `pads` of zeros | none |
//! | a negative axis where the rank is known | the axis counted from the front |
//!
//! **Applies when** constants are floats (for arithmetic), the reciprocal is a normal number, and the type
//! says as much as before.
//!
//! Rounding: a product with a reciprocal differs from a quotient in the last place. All other rows are exact, but
//! for the sign of zero in a sum with 0.

mod attributes;

use optc_ir::op::{Binary, Clip, GlobalAveragePool, GlobalMaxPool, ReduceKind, SymInt, Unary, Variadic};
use optc_ir::{Constant, Data, Dim, Graph, NodeId, Op, Tensor};

use super::fold_shapes::target_of;
use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};
use crate::rewrite::{bypass, rank, rebuild, refines, reshape_in_place, scalar_operand, shape};

/// The pass; see the module.
pub struct Canonicalize;

impl Pass for Canonicalize {
    fn name(&self) -> &'static str {
        "canonicalize"
    }

    fn effect(&self) -> Effect {
        Effect::Rounding
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            let was = graph.op(node).name().to_owned();
            let text = match graph.op(node) {
                Op::Binary(_) => binary(graph, node),
                Op::Variadic(_) => variadic(graph, node),
                Op::Clip(_) => merge_clips(graph, node),
                Op::Reduce(_) => reduce(graph, node),
                Op::Transpose(_) => transpose(graph, node),
                _ => None,
            };
            if let Some(text) = text {
                cx.applied(graph, node, format_args!("{was} becomes {text}"));
            }
            if let Some(op) = attributes::canonical(graph, node) {
                graph.set_op(node, op);
                cx.applied(graph, node, "attributes written plainly");
            }
        }
        Ok(())
    }
}

/// A constant float operand.
fn float_operand(graph: &Graph, node: NodeId, slot: usize) -> Option<&Constant> {
    graph.constant_operand(node, slot).map(AsRef::as_ref).filter(|c| c.dtype().is_float())
}

fn map(constant: &Constant, f: impl Fn(f64) -> f64) -> Option<Constant> {
    let data = Data::from_f64(constant.dtype(), constant.decode().data().to_f64().into_iter().map(f));
    let plain = data.to_f64().iter().all(|x| x.is_finite() && (*x == 0.0 || x.is_normal()));
    plain.then(|| Constant::dense(Tensor::new(constant.shape(), data)))
}

fn binary(graph: &mut Graph, node: NodeId) -> Option<&'static str> {
    let Op::Binary(op) = *graph.op(node) else { return None };
    let (a, b) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
    match op {
        Binary::Add | Binary::Mul if graph.constant(a).is_some() && graph.constant(b).is_none() => {
            graph.set_operand(node, 0, Some(b));
            graph.set_operand(node, 1, Some(a));
            Some("the same with the constant second")
        }
        Binary::Add => {
            let zero = float_operand(graph, node, 1)?;
            if !zero.decode().data().to_f64().iter().all(|&x| x == 0.0) || zero.is_empty() {
                return None;
            }
            bypass(graph, node, a).then_some("its operand")
        }
        Binary::Sub | Binary::Div if graph.constant(a).is_none() => {
            let c = float_operand(graph, node, 1)?;
            let (new, constant) = match op {
                Binary::Sub => (Binary::Add, map(c, |x| -x)?),
                _ if c.decode().data().to_f64().contains(&0.0) => return None,
                _ => (Binary::Mul, map(c, |x| 1.0 / x)?),
            };
            // The type is the same in between, as it does not depend on the elements.
            graph.set_constant_operand(node, 1, constant);
            graph.set_op(node, Op::Binary(new));
            Some(if new == Binary::Add { "a sum" } else { "a product" })
        }
        _ => None,
    }
}

fn variadic(graph: &mut Graph, node: NodeId) -> Option<&'static str> {
    let Op::Variadic(op) = *graph.op(node) else { return None };
    if graph.operands(node).len() != 2 {
        return None;
    }
    if op == Variadic::Sum {
        graph.set_op(node, Op::Binary(Binary::Add));
        return Some("add");
    }
    let axes = rank(graph, node)?;
    let (slot, limit) = (0..2).find_map(|slot| Some((slot, scalar_operand(graph, node, slot, axes)?)))?;
    let x = graph.operand(node, 1 - slot)?;
    let dtype = graph.ty(node).dtype().filter(|dtype| dtype.is_float())?;
    if graph.constant(x).is_some() || limit.is_nan() || !refines(graph.ty(x), graph.ty(node)) {
        return None;
    }
    if op == Variadic::Max && limit.to_bits() == 0 {
        rebuild(graph, node, Op::Unary(Unary::Relu), &[Some(x)]);
        return Some("relu");
    }
    let scalar = Tensor::new(Vec::new(), Data::from_f64(dtype, [limit]));
    let suffix = match op {
        Variadic::Max => "min",
        Variadic::Min => "max",
        _ => return None,
    };
    let limit = Some(graph.add_tensor(&format!("{}.{suffix}", graph.name(node)), scalar).into());
    let operands = if op == Variadic::Max { [Some(x), limit, None] } else { [Some(x), None, limit] };
    rebuild(graph, node, Clip::default(), &operands);
    Some("clip")
}

/// A clip of a clip that nobody else uses: the tighter limits, if they leave anything between them.
fn merge_clips(graph: &mut Graph, node: NodeId) -> Option<&'static str> {
    let inner = graph.operand(node, 0)?;
    let is_clip = matches!(graph.op(inner.node), Op::Clip(_) | Op::Unary(Unary::Relu));
    if !is_clip || graph.sole_user(inner) != Some(node) {
        return None;
    }
    let is_relu = matches!(graph.op(inner.node), Op::Unary(Unary::Relu));
    let limit = |node: NodeId, slot: usize, missing: f64| match graph.operand(node, slot) {
        None => Some(missing),
        Some(_) => scalar_operand(graph, node, slot, 1),
    };
    let (lo, hi) = (limit(node, 1, f64::NEG_INFINITY)?, limit(node, 2, f64::INFINITY)?);
    let (inner_lo, inner_hi) = match is_relu {
        true => (0.0, f64::INFINITY),
        false => (limit(inner.node, 1, f64::NEG_INFINITY)?, limit(inner.node, 2, f64::INFINITY)?),
    };
    let (new_lo, new_hi) = (lo.max(inner_lo), hi.min(inner_hi));
    // Also false for NaN.
    if !(new_lo <= new_hi && lo <= hi && inner_lo <= inner_hi) {
        return None;
    }
    let dtype = graph.ty(node).dtype()?;
    let x = graph.operand(inner.node, 0)?;
    let (old_lo, old_hi) = (graph.operand(node, 1), graph.operand(node, 2));
    let mut limit = |new: f64, old: f64, value, suffix: &str| {
        if new == old {
            return value;
        }
        let scalar = Tensor::new(Vec::new(), Data::from_f64(dtype, [new]));
        Some(graph.add_tensor(&format!("{}.{suffix}", graph.name(node)), scalar).into())
    };
    let lo = limit(new_lo, lo, old_lo, "min");
    let hi = limit(new_hi, hi, old_hi, "max");
    rebuild(graph, node, Clip::default(), &[Some(x), lo, hi]);
    Some("one clip")
}

fn reduce(graph: &mut Graph, node: NodeId) -> Option<&'static str> {
    let Op::Reduce(reduce) = graph.op(node) else { return None };
    let (new, text): (Op, _) = match reduce.kind {
        ReduceKind::Mean => (GlobalAveragePool::default().into(), "global_average_pool"),
        ReduceKind::Max => (GlobalMaxPool::default().into(), "global_max_pool"),
        _ => return None,
    };
    let x = graph.operand(node, 0)?;
    let rank = rank(graph, x)?;
    let mut axes = reduce.attrs.axes.clone()?;
    let signed = i64::try_from(rank).ok()?;
    axes.iter_mut().filter(|axis| **axis < 0).for_each(|axis| *axis += signed);
    axes.sort_unstable();
    // Of three axes the last may as well be the features of a sequence.
    let spatial = rank > 3 && axes.iter().copied().eq(2..signed);
    if !spatial || !reduce.attrs.keepdims || !graph.ty(node).dtype()?.is_float() {
        return None;
    }
    graph.set_op(node, new);
    Some(text)
}

/// A transpose that keeps the order of all axes but those of extent 1.
fn transpose(graph: &mut Graph, node: NodeId) -> Option<&'static str> {
    let Op::Transpose(transpose) = graph.op(node) else { return None };
    let x = graph.operand(node, 0)?;
    let from = shape(graph, x)?;
    let moved = |axis: &&usize| from.get(**axis).is_some_and(|dim| *dim != Dim::Fixed(1));
    if transpose.perm.is_empty() || !transpose.perm.iter().filter(moved).is_sorted() {
        return None;
    }
    let extents: Vec<SymInt> = shape(graph, node)?.iter().map(SymInt::from).collect();
    if extents.contains(&SymInt::Int(0)) {
        return None;
    }
    let target = target_of(from, &extents)?;
    reshape_in_place(graph, node, x, target).then_some("reshape")
}
