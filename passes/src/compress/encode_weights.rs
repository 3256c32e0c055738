//! Keeps each constant in the smallest exact encoding.
//!
//! Dense, clustered where few values are shared, sparse where zeros are many, and sparse with clustered
//! values; a quantized constant stays on its grid if nothing is smaller. See
//! [`optc_ir::Constant::smallest`].
//!
//! **Applies to** every constant of at least 64 bytes.
//!
//! Exact: every encoding gives the same elements back, bit by bit.

use optc_ir::{Constant, Graph, Op};

use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};

/// Smaller constants have nothing to save.
const MIN_BYTES: usize = 64;

/// The pass; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct EncodeWeights;

impl Pass for EncodeWeights {
    fn name(&self) -> &'static str {
        "encode-weights"
    }

    fn effect(&self) -> Effect {
        Effect::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            let Op::Const(constant) = graph.op(node) else { continue };
            let before = constant.stored_bytes();
            if before < MIN_BYTES {
                continue;
            }
            let smallest = Constant::smallest(&constant.decode(), constant.grid());
            let after = smallest.stored_bytes();
            if after < before {
                let text = format!("{} instead of {}: {before} to {after} bytes", smallest.form(), constant.form());
                graph.set_op(node, Op::Const(smallest.into()));
                cx.applied(graph, node, text);
            }
        }
        Ok(())
    }
}
