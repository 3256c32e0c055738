//! Borders: each axis in turn is rebuilt from a table that says where its slices come from.

use super::super::Cx;
use super::super::element::{Element, map_data};
use super::{around, ints, rebuilt};
use crate::error::EvalError;
use crate::op::infer::resolve_axes;
use crate::op::{Pad, PadMode};
use crate::tensor::Tensor;

/// Where the slices of a padded axis of extent `n` come from. Negative pads cut first; the border is made
/// of what is left.
fn sources(mode: PadMode, n: usize, begin: i64, end: i64, len: usize) -> Result<Vec<Option<usize>>, EvalError> {
    let cut = |pad: i64| usize::try_from(pad.saturating_neg()).unwrap_or(0);
    let kept = n.saturating_sub(cut(begin)).saturating_sub(cut(end));
    if kept == 0 && len > 0 && mode != PadMode::Constant {
        return Err(EvalError::Value(format!("{} padding of an axis without elements", mode.word())));
    }
    let (kept, first) = (kept as i64, cut(begin) as i64);
    let source = |i: usize| {
        let at = i as i64 - begin.max(0);
        let at = match mode {
            PadMode::Constant if !(0..kept).contains(&at) => return None,
            PadMode::Constant => at,
            PadMode::Edge => at.clamp(0, kept - 1),
            PadMode::Wrap => at.rem_euclid(kept),
            // Forth and back without repeating the border elements.
            PadMode::Reflect if kept == 1 => 0,
            PadMode::Reflect => {
                let at = at.rem_euclid(2 * (kept - 1));
                at.min(2 * (kept - 1) - at)
            }
        };
        Some((first + at) as usize)
    };
    Ok((0..len).map(source).collect())
}

pub(super) fn eval(op: &Pad, cx: &Cx<'_>) -> Result<Tensor, EvalError> {
    fn fill<T: Element + Default>(_: &[T], value: Option<&Tensor>) -> T {
        value.and_then(|value| T::slice(value.data()).first().copied()).unwrap_or_default()
    }
    let (x, shape) = (cx.x(0), cx.out_shape(0)?);
    let pads = ints(cx.x(1));
    let axes = cx.get(3).map_or_else(|| Ok((0..x.rank()).collect()), |axes| resolve_axes(&ints(axes), x.rank()))?;
    let tables = axes
        .iter()
        .enumerate()
        .map(|(i, &axis)| {
            let (begin, end) = (pads[i], pads[axes.len() + i]);
            Ok((axis, sources(op.mode, x.shape()[axis], begin, end, shape[axis])?))
        })
        .collect::<Result<Vec<_>, EvalError>>()?;
    if shape.contains(&0) {
        return Ok(Tensor::zeros(x.dtype(), shape));
    }
    if x.is_empty() {
        let data = map_data!(x.data(), v => vec![fill(v, cx.get(2)); shape.iter().product()]);
        return Ok(Tensor::new(shape, data));
    }
    let (mut extents, mut data) = (x.shape().to_vec(), x.data().clone());
    // Axes that shrink come first, so that no intermediate exceeds the larger of operand and result.
    let (shrinking, growing): (Vec<_>, Vec<_>) =
        tables.into_iter().partition(|(axis, _)| shape[*axis] < extents[*axis]);
    for (axis, table) in shrinking.into_iter().chain(growing) {
        if shape[axis] == extents[axis] && table.iter().enumerate().all(|(i, at)| *at == Some(i)) {
            continue;
        }
        let (_, n, inner) = around(&extents, axis);
        data = map_data!(&data, v => rebuilt(v, (n, inner), &table, fill(v, cx.get(2))));
        extents[axis] = shape[axis];
    }
    Ok(Tensor::new(shape, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::eval as eval_op;

    fn run(mode: PadMode, x: &[i64], begin: i64, end: i64) -> Result<Vec<i64>, EvalError> {
        let (x, pads) = (Tensor::i64([x.len()], x), Tensor::i64([2], [begin, end]));
        let y = eval_op(&Pad { mode }.into(), &[Some(&x), Some(&pads)])?;
        Ok(y[0].data().to_i64().unwrap())
    }

    #[test]
    fn modes() {
        let x = [1, 2, 3];
        assert_eq!(run(PadMode::Constant, &x, 1, 2).unwrap(), [0, 1, 2, 3, 0, 0]);
        assert_eq!(run(PadMode::Edge, &x, 2, 1).unwrap(), [1, 1, 1, 2, 3, 3]);
        assert_eq!(run(PadMode::Reflect, &x, 2, 2).unwrap(), [3, 2, 1, 2, 3, 2, 1]);
        assert_eq!(run(PadMode::Reflect, &x, 5, 0).unwrap(), [2, 1, 2, 3, 2, 1, 2, 3]);
        assert_eq!(run(PadMode::Reflect, &[7], 2, 1).unwrap(), [7, 7, 7, 7]);
        assert_eq!(run(PadMode::Wrap, &x, 4, 1).unwrap(), [3, 1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn negative_pads_cut() {
        assert_eq!(run(PadMode::Constant, &[1, 2, 3, 4], -1, 1).unwrap(), [2, 3, 4, 0]);
        assert_eq!(run(PadMode::Edge, &[1, 2, 3, 4], -1, 2).unwrap(), [2, 3, 4, 4, 4]);
        assert_eq!(run(PadMode::Constant, &[1, 2], -1, -1).unwrap(), [0i64; 0]);
        assert!(run(PadMode::Constant, &[1, 2], -3, 5).is_err());
    }

    #[test]
    fn axes_and_values() {
        let (x, value) = (Tensor::f32([1, 2], [1., 2.]), Tensor::f32([], [9.]));
        let (pads, axes) = (Tensor::i64([2], [1, 0]), Tensor::i64([1], [-2]));
        let y = eval_op(&Pad::default().into(), &[Some(&x), Some(&pads), Some(&value), Some(&axes)]).unwrap();
        assert_eq!(y, [Tensor::f32([2, 2], [9., 9., 1., 2.])]);
    }

    #[test]
    fn nothing_to_pad_with() {
        assert_eq!(run(PadMode::Constant, &[], 1, 1).unwrap(), [0, 0]);
        assert!(run(PadMode::Edge, &[], 1, 0).is_err());
        assert!(run(PadMode::Constant, &[1], i64::MAX, i64::MAX).is_err());
        assert!(run(PadMode::Wrap, &[1], 1 << 40, 0).is_err());
    }
}
