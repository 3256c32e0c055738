//! Reductions, arg-reductions and scans.

use super::attr::{attrs, words};

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

// STUB-BEGIN
use super::infer::Args;
use crate::error::TypeError;
use crate::types::TensorType;
impl Reduce {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl ArgMax {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl ArgMin {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl TopK {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl CumSum {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
// STUB-END
