//! Reductions, arg-reductions and scans.

use super::attr::{attrs, words};
use super::infer::{Args, SymInt, resolve_axes, resolve_axis};
use crate::error::TypeError;
use crate::types::{DType, Dim, Shape, TensorType};

words! {
    /// What a reduction computes over its axes.
    pub enum ReduceKind {
        /// Σx
        Sum = "reduce_sum",
        /// Σx / n
        Mean = "reduce_mean",
        /// The largest.
        Max = "reduce_max",
        /// The smallest.
        Min = "reduce_min",
        /// Πx
        Prod = "reduce_prod",
        /// Σ|x|
        L1 = "reduce_l1",
        /// √Σx²
        L2 = "reduce_l2",
        /// log Σx
        LogSum = "reduce_log_sum",
        /// log Σeˣ
        LogSumExp = "reduce_log_sum_exp",
        /// Σx²
        SumSquare = "reduce_sum_square",
    }
}

/// A reduction over axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// What is computed.
    pub kind: ReduceKind,
    /// Over what.
    pub attrs: ReduceAttrs,
}

attrs! {
    /// What a reduction reduces over.
    pub struct ReduceAttrs {
        /// The axes; none given means all. An empty list reduces nothing: the elements are still
        /// transformed (squared, …) one by one.
        axes: Option<Vec<i64>> = None,
        /// Whether reduced axes stay, with extent 1.
        keepdims: bool = true,
    }

    /// Index of the maximum along an axis, as i64.
    pub struct ArgMax {
        /// The axis.
        axis: i64 = 0,
        /// Whether the axis stays, with extent 1.
        keepdims: bool = true,
        /// Whether the last of equal elements counts, not the first.
        last: bool = false,
    }

    /// Index of the minimum along an axis, as i64.
    pub struct ArgMin {
        /// The axis.
        axis: i64 = 0,
        /// Whether the axis stays, with extent 1.
        keepdims: bool = true,
        /// Whether the last of equal elements counts, not the first.
        last: bool = false,
    }

    /// The k largest or smallest along an axis, best first; equal elements in order of index.
    /// `k` is an i64 scalar. Results: values, indices as i64.
    pub struct TopK {
        /// The axis.
        axis: i64 = -1,
        /// Whether the largest.
        largest: bool = true,
        /// Whether in order (always is, here).
        sorted: bool = true,
    }

    /// Running sum along the axis given as a scalar operand.
    pub struct CumSum {
        /// Whether an element is left out of its own sum.
        exclusive: bool = false,
        /// Whether from the end.
        reverse: bool = false,
    }
}

/// The shape without some axes, or with extent 1 in their place.
fn reduced(shape: &[Dim], axes: &[usize], keepdims: bool) -> Shape {
    let axis = |(i, dim): (usize, &Dim)| match (axes.contains(&i), keepdims) {
        (false, _) => Some(dim.clone()),
        (true, true) => Some(Dim::Fixed(1)),
        (true, false) => None,
    };
    shape.iter().enumerate().filter_map(axis).collect()
}

impl ReduceAttrs {
    /// The axes reduced in a value of `rank` axes.
    ///
    /// # Errors
    /// If one does not exist or is given twice.
    pub fn resolved(&self, rank: usize) -> Result<Vec<usize>, TypeError> {
        self.axes.as_ref().map_or_else(|| Ok((0..rank).collect()), |axes| resolve_axes(axes, rank))
    }
}

impl Reduce {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = match self.kind {
            ReduceKind::Max | ReduceKind::Min if args.ty(0)?.dtype == DType::Bool => args.ty(0)?,
            _ => args.numeric(0)?,
        };
        let axes = self.attrs.resolved(x.rank())?;
        Ok(vec![TensorType { dtype: x.dtype, shape: reduced(&x.shape, &axes, self.attrs.keepdims) }])
    }
}

/// The rule of both arg-reductions.
fn infer_arg(args: &Args<'_>, axis: i64, keepdims: bool) -> Result<Vec<TensorType>, TypeError> {
    let x = args.numeric(0)?;
    let axis = resolve_axis(axis, x.rank())?;
    if x.shape[axis] == Dim::Fixed(0) {
        return Err(TypeError::Shapes(format!("axis {axis} of {x} is empty and has no extreme element")));
    }
    Ok(vec![TensorType { dtype: DType::I64, shape: reduced(&x.shape, &[axis], keepdims) }])
}

impl ArgMax {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        infer_arg(args, self.axis, self.keepdims)
    }
}

impl ArgMin {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        infer_arg(args, self.axis, self.keepdims)
    }
}

impl TopK {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.numeric(0)?;
        let axis = resolve_axis(self.axis, x.rank())?;
        let k = args.int_scalar(1)?;
        let mut shape = x.shape.clone();
        if k.int().is_some_and(|k| k < 0 || shape[axis].fixed().is_some_and(|n| k.unsigned_abs() > n as u64)) {
            return Err(TypeError::Shapes(format!("k does not fit axis {axis} of {x}")));
        }
        shape[axis] = k.dim();
        let indices = TensorType { dtype: DType::I64, shape: shape.clone() };
        Ok(vec![TensorType { dtype: x.dtype, shape }, indices])
    }
}

impl CumSum {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.numeric(0)?;
        if let SymInt::Int(axis) = args.int_scalar(1)? {
            resolve_axis(axis, x.rank())?;
        }
        Ok(vec![x.clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use crate::op::testing::{arg, int, types};

    fn reduce(axes: Option<Vec<i64>>, keepdims: bool) -> Result<String, TypeError> {
        let op = Op::Reduce(Reduce { kind: ReduceKind::Sum, attrs: ReduceAttrs { axes, keepdims } });
        types(op, &[arg(DType::F32, "N 3 ?")])
    }

    #[test]
    fn reductions_drop_or_keep_axes() {
        assert_eq!(reduce(None, true).unwrap(), "f32[1, 1, 1]");
        assert_eq!(reduce(None, false).unwrap(), "f32[]");
        assert_eq!(reduce(Some(vec![]), false).unwrap(), "f32[N, 3, ?]");
        assert_eq!(reduce(Some(vec![-2]), false).unwrap(), "f32[N, ?]");
        assert_eq!(reduce(Some(vec![2, 1]), true).unwrap(), "f32[N, 1, 1]");
        assert!(reduce(Some(vec![1, -2]), true).is_err());
        assert!(reduce(Some(vec![i64::MIN]), true).is_err());
        assert!(reduce(Some(vec![3]), true).is_err());
    }

    #[test]
    fn top_k_takes_a_known_k() {
        let run = |axis, k| types(TopK { axis, ..TopK::default() }, &[arg(DType::F32, "N 3 ?"), int(k)]);
        assert_eq!(run(1, "2").unwrap(), "f32[N, 2, ?] i64[N, 2, ?]");
        assert_eq!(run(0, "?").unwrap(), "f32[?, 3, ?] i64[?, 3, ?]");
        assert!(run(1, "4").is_err());
        assert!(run(1, "-1").is_err());
        assert!(run(1 << 62, "1").is_err());
    }

    #[test]
    fn arg_reductions_and_scans() {
        let run = |axis, keepdims, x| types(ArgMax { axis, keepdims, last: false }, &[arg(DType::F32, x)]);
        assert_eq!(run(-1, false, "N 3").unwrap(), "i64[N]");
        assert_eq!(run(0, true, "N 3").unwrap(), "i64[1, 3]");
        assert!(run(0, true, "0 3").is_err());
        assert!(run(2, true, "1 3").is_err());
        assert_eq!(types(CumSum::default(), &[arg(DType::F32, "N 3"), int("-2")]).unwrap(), "f32[N, 3]");
        assert!(types(CumSum::default(), &[arg(DType::F32, "N 3"), int("2")]).is_err());
    }
}
