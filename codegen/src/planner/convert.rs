//! Casts of integers and truth values to numbers.

use optc_ir::{NodeId, Op};

use super::Planner;
use crate::convert::{Convert, converts};
use crate::plan::{Home, StepKind};

impl Planner<'_> {
    /// A cast to `f32` of what lies outside the arena.
    pub(super) fn convert(&mut self, node: NodeId) -> Option<()> {
        let graph = self.graph;
        let Op::Cast(_) = graph.op(node) else { return None };
        let x = graph.operand(node, 0)?;
        let shape = self.f32_shape(node.into())?;
        if !converts(graph.ty(x).dtype()?) {
            return None;
        }
        let from = self.home(x);
        if matches!(from, Home::Place(..)) {
            return None;
        }
        let to = self.place_plain(node.into(), &shape).buffer;
        let kind = StepKind::Convert(Convert { from, to });
        self.step(node, kind);
        Some(())
    }
}
