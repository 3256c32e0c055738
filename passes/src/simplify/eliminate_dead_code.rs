//! Deletes nodes no result depends on.
//!
//! The manager does the same after every pass that changed the graph; this one is for graphs that come
//! with dead nodes and for seeing what was dead.
//!
//! **Applies when** no chain of uses leads from the node to `return`. Inputs stay: they are the
//! signature.
//!
//! Exact: what is deleted has no effect.

use optc_ir::Graph;

use crate::error::PassError;
use crate::pass::{Effect, Pass, PassCx};

/// The pass; see the module.
pub struct EliminateDeadCode;

impl Pass for EliminateDeadCode {
    fn name(&self) -> &'static str {
        "eliminate-dead-code"
    }

    fn effect(&self) -> Effect {
        Effect::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        match graph.gc() {
            0 => {}
            1 => cx.note_graph("deleted 1 node"),
            n => cx.note_graph(format_args!("deleted {n} nodes")),
        }
        Ok(())
    }
}
