//! Reductions repeat the gradient of their result along what they reduced, times the derivative of each term.

use optc_ir::op::infer::resolve_axis;
use optc_ir::op::{CumSum, Reduce, ReduceKind, ScatterElements, ScatterReduction, TopK, Unary};
use optc_ir::{Op, ValueId};

use super::super::emit::Emit;
use super::elementwise::equal;
use super::{Cx, Gradients};

pub(super) fn rule(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    match op {
        Op::Reduce(reduce) => self::reduce(e, reduce, cx, dy),
        Op::TopK(top) => top_k(e, top, cx, dy),
        // The gradient of a running sum runs the other way.
        Op::CumSum(sum) => {
            let axis = cx.x(e, 1);
            let back = CumSum { exclusive: sum.exclusive, reverse: !sum.reverse };
            Ok(vec![Some(e.op(back, &[dy, axis])?)])
        }
        _ => unreachable!("{} is of another family", op.name()),
    }
}

fn reduce(e: &mut Emit<'_>, reduce: &Reduce, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let x = cx.x(e, 0);
    let shape = e.shape(x)?;
    let axes = reduce.attrs.resolved(shape.len()).map_err(|error| e.unsupported(error.to_string()))?;
    let count: usize = axes.iter().map(|&axis| shape[axis]).product();
    let kept: Vec<usize> = shape.iter().enumerate().map(|(i, &n)| if axes.contains(&i) { 1 } else { n }).collect();
    let (dy, y) = (e.reshape(dy, &kept)?, e.reshape(cx.y(), &kept)?);
    let dx = match reduce.kind {
        ReduceKind::Sum => dy,
        ReduceKind::Mean => e.scale(dy, 1.0 / count.max(1) as f64)?,
        ReduceKind::L1 => {
            let sign = e.unary(Unary::Sign, x)?;
            e.mul(dy, sign)?
        }
        ReduceKind::L2 => {
            let norm = e.at_least(y, f64::from(f32::MIN_POSITIVE))?;
            let share = e.div(dy, norm)?;
            e.mul(x, share)?
        }
        ReduceKind::SumSquare => {
            let double = e.scale(dy, 2.0)?;
            e.mul(x, double)?
        }
        // (log Σx)′ = 1/Σx = e^−y
        ReduceKind::LogSum => {
            let sum = e.unary(Unary::Exp, y)?;
            e.div(dy, sum)?
        }
        ReduceKind::LogSumExp => {
            let less = e.sub(x, y)?;
            let share = e.unary(Unary::Exp, less)?;
            e.mul(dy, share)?
        }
        // Equal extremes share the gradient.
        ReduceKind::Max | ReduceKind::Min => {
            let dtype = e.dtype(dy)?;
            let best = equal(e, x, y, dtype)?;
            let ties = e.sum(best, &axes, true)?;
            let share = e.div(dy, ties)?;
            e.mul(best, share)?
        }
        // The product of the others: of the factors that are not zero, one itself taken out, unless another is zero.
        ReduceKind::Prod => {
            let dtype = e.dtype(x)?;
            let zero = e.scalar(x, 0.0)?;
            let is_zero = equal(e, x, zero, dtype)?;
            let factors = e.add(x, is_zero)?;
            let product = e.reduce(ReduceKind::Prod, factors, &axes, true)?;
            let others = e.div(product, factors)?;
            let zeros = e.sum(is_zero, &axes, true)?;
            let other_zeros = e.sub(zeros, is_zero)?;
            let counts = equal(e, other_zeros, zero, dtype)?;
            let derivative = e.mul(others, counts)?;
            e.mul(dy, derivative)?
        }
    };
    Ok(vec![Some(e.expand(dx, &shape)?)])
}

fn top_k(e: &mut Emit<'_>, top: &TopK, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let x = cx.x(e, 0);
    let axis = resolve_axis(top.axis, e.shape(x)?.len()).map_err(|error| e.unsupported(error.to_string()))?;
    let zeros = e.zeros_like(x)?;
    let scatter = ScatterElements { axis: i64::try_from(axis).unwrap_or(i64::MAX), reduction: ScatterReduction::Add };
    Ok(vec![Some(e.op(scatter, &[zeros, cx.node.result(1), dy])?)])
}
