//! Observers: what watches a pipeline run, and may stop it.
//!
//! Observers change nothing. Text goes to a sink of the caller's; this crate does no input or output.

use optc_ir::Graph;

use crate::error::PassError;
use crate::pass::Pass;

/// A moment of a run, as observers see it.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// Counts the passes of the run from 1, those inside other passes one by one.
    pub index: usize,
    /// The pass.
    pub pass: &'a dyn Pass,
    /// The graph, before or after.
    pub graph: &'a Graph,
    /// Whether the pass changed the graph; false before it ran.
    pub changed: bool,
}

/// What to do with a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Run it.
    Run,
    /// Leave it out.
    Skip,
}

/// Watches a run.
pub trait Observer {
    /// Before a pass.
    fn before(&mut self, event: &Event<'_>) -> Step {
        let _ = event;
        Step::Run
    }

    /// After a pass that succeeded.
    ///
    /// # Errors
    /// If the run must not go on: the pass did not do what it claims.
    fn after(&mut self, event: &Event<'_>) -> Result<(), PassError> {
        let _ = event;
        Ok(())
    }
}
