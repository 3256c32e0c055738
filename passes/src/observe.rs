//! Observers: what watches a pipeline run, and may stop it.
//!
//! Observers change nothing. What they have to say goes to a sink of the caller's; this crate does no
//! input or output.

use optc_ir::Graph;
use optc_ir::text::{PrintOptions, print};

use crate::error::PassError;
use crate::pass::Pass;

pub use crate::differential::{Check, Differential};

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

/// When [`DumpIr`] speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// After every pass.
    Always,
    /// After every pass that changed the graph.
    Changed,
    /// After the pass of this name.
    Pass(String),
}

/// Hands the text of the graph to `sink(index, pass, text)`. Index 0 with an empty name is the graph
/// before the first pass.
pub struct DumpIr<F> {
    when: When,
    started: bool,
    sink: F,
}

impl<F: FnMut(usize, &str, &str)> DumpIr<F> {
    /// An observer that speaks at these times.
    pub fn new(when: When, sink: F) -> DumpIr<F> {
        DumpIr { when, started: false, sink }
    }
}

impl<F: FnMut(usize, &str, &str)> Observer for DumpIr<F> {
    fn before(&mut self, event: &Event<'_>) -> Step {
        if !self.started && !matches!(self.when, When::Pass(_)) {
            (self.sink)(0, "", &print(event.graph, &PrintOptions::default()));
        }
        self.started = true;
        Step::Run
    }

    fn after(&mut self, event: &Event<'_>) -> Result<(), PassError> {
        let speaks = match &self.when {
            When::Always => true,
            When::Changed => event.changed,
            When::Pass(name) => event.pass.name() == name,
        };
        if speaks {
            (self.sink)(event.index, event.pass.name(), &print(event.graph, &PrintOptions::default()));
        }
        Ok(())
    }
}

/// Leaves out every pass after the first `limit`, and tells `sink(index, pass, ran)` of each: halving
/// `limit` finds the pass that goes wrong.
pub struct StopAfter<F> {
    limit: usize,
    sink: F,
}

impl<F: FnMut(usize, &str, bool)> StopAfter<F> {
    /// An observer that lets `limit` passes run.
    pub fn new(limit: usize, sink: F) -> StopAfter<F> {
        StopAfter { limit, sink }
    }
}

impl<F: FnMut(usize, &str, bool)> Observer for StopAfter<F> {
    fn before(&mut self, event: &Event<'_>) -> Step {
        let run = event.index <= self.limit;
        (self.sink)(event.index, event.pass.name(), run);
        if run { Step::Run } else { Step::Skip }
    }
}
