//! Recurrent layers.

use optc_ir::Op;

use super::super::emit::Emit;
use super::{Cx, Gradients};

/// Recurrent layers have no rule of their own.
pub(super) fn rule(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>) -> Gradients {
    let _ = (op, cx);
    Err(e.unsupported("recurrent layers can't be trained; leave what is before them out of training"))
}
