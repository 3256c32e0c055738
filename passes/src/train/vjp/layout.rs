//! Operators that arrange elements anew: their gradients arrange them back, and sum what was repeated.

use optc_ir::op::infer::resolve_axis;
use optc_ir::op::{Concat, DepthOrder, Split, Transpose, Trilu};
use optc_ir::{Op, Tensor, ValueId};

use super::super::emit::Emit;
use super::super::error::TrainError;
use super::{Cx, Gradients};

pub(super) fn rule(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let x = cx.x(e, 0);
    let shape = if matches!(op, Op::Concat(_)) { Vec::new() } else { e.shape(x)? };
    let dx = match op {
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => e.reshape(dy, &shape)?,
        Op::Transpose(a) => {
            let back = inverse(e, a, shape.len())?;
            e.transpose(dy, &back)?
        }
        Op::Concat(a) => return concat(e, a, cx, dy),
        Op::Expand(_) => e.unbroadcast(dy, &shape)?,
        Op::Tile(_) => tile(e, &shape, dy)?,
        Op::DepthToSpace(a) => {
            let [n, c, h, w] = four(e, &shape)?;
            let (b, out) = (a.block, c / (a.block * a.block));
            // Where each axis of `[n, out, h, b, w, b]` goes.
            let (view, perm) = match a.order {
                DepthOrder::Dcr => ([n, out, h, b, w, b], [0, 3, 5, 1, 2, 4]),
                DepthOrder::Crd => ([n, out, h, b, w, b], [0, 1, 3, 5, 2, 4]),
            };
            rearranged(e, dy, &view, &perm, &shape)?
        }
        Op::SpaceToDepth(a) => {
            let [n, c, h, w] = four(e, &shape)?;
            let b = a.block;
            rearranged(e, dy, &[n, b, b, c, h / b, w / b], &[0, 3, 4, 1, 5, 2], &shape)?
        }
        Op::Trilu(a) => {
            let operands = [Some(dy), e.graph.operand(cx.node, 1)];
            e.node(Trilu { upper: a.upper }, &operands)?.into()
        }
        _ => unreachable!("{} is of another family", op.name()),
    };
    Ok(vec![Some(dx)])
}

fn rearranged(
    e: &mut Emit<'_>,
    dy: ValueId,
    view: &[usize],
    perm: &[usize],
    shape: &[usize],
) -> Result<ValueId, TrainError> {
    let parts = e.reshape(dy, view)?;
    let moved = e.transpose(parts, perm)?;
    e.reshape(moved, shape)
}

fn four(e: &Emit<'_>, shape: &[usize]) -> Result<[usize; 4], TrainError> {
    shape.try_into().map_err(|_| e.unsupported("expected four axes"))
}

fn inverse(e: &Emit<'_>, a: &Transpose, rank: usize) -> Result<Vec<usize>, TrainError> {
    let perm = a.resolved(rank).map_err(|error| e.unsupported(error.to_string()))?;
    let mut back = vec![0; rank];
    perm.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    Ok(back)
}

fn concat(e: &mut Emit<'_>, a: &Concat, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let count = cx.needed.len();
    let rank = e.ty(dy)?.rank();
    let axis = resolve_axis(a.axis, rank).map_err(|error| e.unsupported(error.to_string()))?;
    let sizes = (0..count).map(|slot| Ok(e.shape(cx.x(e, slot))?[axis])).collect::<Result<Vec<_>, TrainError>>()?;
    let pieces = e.node(Split { axis: a.axis, sizes }, &[Some(dy)])?;
    Ok((0..count).map(|slot| Some(pieces.result(slot))).collect())
}

/// The pieces joined again; those nobody reads have a gradient of zeros.
pub(super) fn split(e: &mut Emit<'_>, cx: &Cx<'_>, a: &Split) -> Gradients {
    let mut pieces = Vec::with_capacity(a.sizes.len());
    for (i, gradient) in cx.of_results.iter().enumerate() {
        pieces.push(match gradient {
            Some(gradient) => *gradient,
            None => e.zeros_like(cx.node.result(i))?,
        });
    }
    Ok(vec![Some(e.op(Concat { axis: a.axis }, &pieces)?)])
}

fn tile(e: &mut Emit<'_>, shape: &[usize], dy: ValueId) -> Result<ValueId, TrainError> {
    let wide = e.shape(dy)?;
    if wide.contains(&0) {
        let dtype = e.dtype(dy)?;
        return Ok(e.constant("zeros", Tensor::zeros(dtype, shape)));
    }
    let view: Vec<usize> = wide.iter().zip(shape).flat_map(|(&wide, &n)| [wide / n, n]).collect();
    let axes: Vec<usize> = (0..shape.len()).map(|axis| 2 * axis).collect();
    let parts = e.reshape(dy, &view)?;
    e.sum(parts, &axes, false)
}
