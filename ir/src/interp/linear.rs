//! Evaluation of the operators of `op/linear.rs`.

use super::Cx;
use crate::error::EvalError;
use crate::op::Op;
use crate::tensor::Tensor;

pub(super) fn eval(op: &Op, _cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    Err(EvalError::Unsupported(op.name().to_owned()))
}
