//! Makes layer normalisation written out as arithmetic one `layer_norm`.
//!
//! With `d = x − mean(x)` over the last axes, `d / √(mean(d²) + ε)`, times a scale and plus a bias if constants of
//! the right shape follow, is `layer_norm(x, scale, bias)`. The square may be a power or a product, the
//! quotient a product with a reciprocal.
//!
//! **Applies when** nothing else uses the values in between, ε is a constant number, and the extents of the last
//! axes are known if there is no scale.
//!
//! Rounding: the statistics are not rounded in between.

use optc_ir::op::infer::resolve_axis;
use optc_ir::op::{Binary, LayerNorm, ReduceKind, Unary};
use optc_ir::{DType, Data, Graph, NodeId, Op, Tensor, ValueId};

use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};
use crate::rewrite::{rank, rebuild, refines, scalar_operand, shape};

/// The pass; see the module.
pub struct FuseLayerNorm;

impl Pass for FuseLayerNorm {
    fn name(&self) -> &'static str {
        "fuse-layer-norm"
    }

    fn effect(&self) -> Effect {
        Effect::Rounding
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            let Some(norm) = Normalised::find(graph, node) else { continue };
            match norm.fuse(graph, node) {
                Ok(last) => cx.applied(graph, last, "is a layer norm"),
                Err(reason) => cx.missed(graph, node, reason),
            }
        }
        Ok(())
    }
}

/// A value normalised over its axes from `axis` on.
struct Normalised {
    x: ValueId,
    axis: usize,
    eps: f32,
}

impl Normalised {
    /// Whether a node is the quotient of a difference from the mean and the standard deviation.
    fn find(graph: &Graph, node: NodeId) -> Option<Normalised> {
        let (a, b) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
        match graph.op(node) {
            Op::Binary(Binary::Div) => Normalised::of(graph, node, a, b),
            Op::Binary(Binary::Mul) => {
                let inverse = |value: ValueId| {
                    let is_inverse = matches!(graph.op(value.node), Op::Unary(Unary::Reciprocal));
                    graph.operand(value.node, 0).filter(|_| is_inverse && is_used_by(graph, value, &[node]))
                };
                match (inverse(a), inverse(b)) {
                    (None, Some(root)) => Normalised::of(graph, b.node, a, root),
                    (Some(root), None) => Normalised::of(graph, a.node, b, root),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// `divisor` is who divides by the root: the quotient, or the reciprocal.
    fn of(graph: &Graph, divisor: NodeId, difference: ValueId, root: ValueId) -> Option<Normalised> {
        let sqrt = matches!(graph.op(root.node), Op::Unary(Unary::Sqrt)) && is_used_by(graph, root, &[divisor]);
        let sum = graph.operand(root.node, 0).filter(|sum| sqrt && is_used_by(graph, *sum, &[root.node]))?;
        if !matches!(graph.op(sum.node), Op::Binary(Binary::Add)) {
            return None;
        }
        let (slot, eps) = (0..2).find_map(|slot| Some((slot, scalar_operand(graph, sum.node, slot, 1)?)))?;
        let variance = graph.operand(sum.node, 1 - slot).filter(|v| is_used_by(graph, *v, &[sum.node]))?;
        let (square, axis) = mean_from(graph, variance)?;
        if !is_used_by(graph, square, &[variance.node]) || !is_square(graph, square.node, difference) {
            return None;
        }
        // The mean and the difference have no users beyond these.
        let quotient = graph.uses(difference).into_iter().map(|(user, _)| user).filter(|user| *user != square.node);
        let alone = quotient.count() == 1 && matches!(graph.op(difference.node), Op::Binary(Binary::Sub));
        let (x, mean) = (graph.operand(difference.node, 0)?, graph.operand(difference.node, 1)?);
        let (of, mean_axis) = mean_from(graph, mean)?;
        let eps_narrow = eps as f32;
        let fits = alone
            && of == x
            && mean_axis == axis
            && is_used_by(graph, mean, &[difference.node])
            && f64::from(eps_narrow) == eps
            && eps >= 0.0;
        fits.then_some(Normalised { x, axis, eps: eps_narrow })
    }

    /// Turns the last node of the pattern, which is returned, into the layer norm.
    fn fuse(&self, graph: &mut Graph, node: NodeId) -> Result<NodeId, &'static str> {
        let (mut last, mut scale, mut bias) = (node, None, None);
        if let Some((user, c)) = self.parameter(graph, last, Binary::Mul) {
            (last, scale) = (user, Some(c));
            if let Some((user, c)) = self.parameter(graph, last, Binary::Add) {
                (last, bias) = (user, Some(c));
            }
        }
        if !refines(graph.ty(self.x), graph.ty(last)) {
            return Err("the type of the operand says less than that of the result");
        }
        let scale = match scale {
            Some(scale) => scale,
            None => self.ones(graph, node).ok_or("the extents of the normalised axes are unknown")?,
        };
        let axis = i64::try_from(self.axis).unwrap_or(i64::MAX);
        rebuild(graph, last, LayerNorm { axis, eps: self.eps }, &[Some(self.x), Some(scale), bias]);
        Ok(last)
    }

    /// The only user of a node, if that is this operator with a constant of the shape of the normalised axes.
    fn parameter(&self, graph: &Graph, node: NodeId, op: Binary) -> Option<(NodeId, ValueId)> {
        let user = graph.sole_user(node.into()).filter(|user| *graph.op(*user) == Op::Binary(op))?;
        let slot = (0..2).find(|slot| graph.operand(user, *slot) != Some(node.into()))?;
        let c = graph.operand(user, slot)?;
        let normalised = shape(graph, self.x)?.get(self.axis..)?;
        let extents = normalised.iter().map(|d| d.fixed()).collect::<Option<Vec<usize>>>()?;
        (graph.constant(c)?.shape() == extents).then_some((user, c))
    }

    fn ones(&self, graph: &mut Graph, node: NodeId) -> Option<ValueId> {
        let ty = graph.ty(self.x).as_tensor()?;
        let extents = ty.shape.get(self.axis..)?.iter().map(|d| d.fixed()).collect::<Option<Vec<usize>>>()?;
        let dtype: DType = ty.dtype;
        let len = extents.iter().product();
        let ones = Tensor::new(extents, Data::from_f64(dtype, std::iter::repeat_n(1.0, len)));
        Some(graph.add_tensor(&format!("{}.scale", graph.name(node)), ones).into())
    }
}

/// What a value is the mean of over its last axes, kept, and from which axis on.
fn mean_from(graph: &Graph, value: ValueId) -> Option<(ValueId, usize)> {
    let x = graph.operand(value.node, 0)?;
    let rank = rank(graph, x)?;
    let first = match graph.op(value.node) {
        Op::Reduce(reduce) if reduce.kind == ReduceKind::Mean && reduce.attrs.keepdims => {
            let axes = reduce.attrs.axes.as_ref()?.iter().map(|axis| resolve_axis(*axis, rank).ok());
            let mut axes: Vec<usize> = axes.collect::<Option<_>>()?;
            axes.sort_unstable();
            let first = *axes.first()?;
            axes.iter().copied().eq(first..rank).then_some(first)?
        }
        Op::GlobalAveragePool(_) if rank > 2 => 2,
        _ => return None,
    };
    graph.ty(x).dtype()?.is_float().then_some((x, first))
}

fn is_square(graph: &Graph, node: NodeId, of: ValueId) -> bool {
    let operand = |slot| graph.operand(node, slot) == Some(of);
    match graph.op(node) {
        Op::Binary(Binary::Mul) => operand(0) && operand(1),
        Op::Binary(Binary::Pow) => operand(0) && scalar_operand(graph, node, 1, 1) == Some(2.0),
        _ => false,
    }
}

fn is_used_by(graph: &Graph, value: ValueId, users: &[NodeId]) -> bool {
    graph.uses(value).into_iter().all(|(user, _)| users.contains(&user))
}
