//! Runs pipelines, and holds every pass to its word.
//!
//! Around each pass: skipped if disabled or if an observer says so; run; unused nodes deleted; the graph
//! verified; the signature compared; observers told; time, sizes and remarks recorded. If a pass
//! fails, the graph is left as it was before that pass.

use std::time::{Duration, Instant};

use optc_ir::graph::Signature;
use optc_ir::verify::verify;
use optc_ir::{Backend, Graph, Remark, Type};

use crate::analysis::{Cost, Totals};
use crate::data::Dataset;
use crate::error::{OptionError, PassError};
use crate::observe::{Event, Observer, Step};
use crate::pass::{Effect, Nested, Pass, PassCx, Progress};
use crate::pipeline::Pipeline;
use crate::registry::PASSES;
use crate::rewrite::refines;

/// Runs pipelines.
///
/// ```
/// use optc_ir::{Graph, Interp};
/// use optc_passes::{PassManager, pipeline};
/// let mut graph = Graph::new("empty");
/// let report = PassManager::new(&Interp).run(&pipeline::parse("fuse")?, &mut graph).unwrap();
/// assert!(!report.changed());
/// # Ok::<(), optc_passes::OptionError>(())
/// ```
pub struct PassManager<'a> {
    /// Runs graphs for the passes that must.
    pub backend: &'a dyn Backend,
    /// Inputs to measure on, if the user gave some.
    pub data: Option<&'a dyn Dataset>,
    /// Where everything random starts from.
    pub seed: u64,
    /// Whether the graph is verified after each pass that changed it. On unless turned off.
    pub verify: bool,
    /// Told when a pass starts and how far it has come.
    pub progress: Option<&'a dyn Fn(&Progress<'_>)>,
    observers: Vec<Box<dyn Observer + 'a>>,
    disabled: Vec<String>,
}

/// What a pipeline did.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// The graph as it came.
    pub before: Totals,
    /// The graph as it went.
    pub after: Totals,
    /// The passes in the order they ran.
    pub passes: Vec<PassReport>,
    /// Wall time of everything, checks included.
    pub time: Duration,
}

/// What one pass did.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// The pass.
    pub name: &'static str,
    /// Its options that differ from the defaults.
    pub options: String,
    /// What it declares.
    pub effect: Effect,
    /// Wall time of the pass alone.
    pub time: Duration,
    /// Whether the graph changed.
    pub changed: bool,
    /// The graph before.
    pub before: Totals,
    /// The graph after.
    pub after: Totals,
    /// What it said, with what the passes in it said.
    pub remarks: Vec<Remark>,
    /// The passes it is made of, summed over the rounds; empty if it is not.
    pub nested: Vec<NestedReport>,
}

/// What a pass inside another did, in all rounds together.
#[derive(Clone, Debug)]
pub struct NestedReport {
    /// The pass.
    pub name: &'static str,
    /// How often it ran.
    pub runs: usize,
    /// How often it changed the graph.
    pub changes: usize,
    /// Wall time.
    pub time: Duration,
}

impl RunReport {
    /// Whether any pass changed the graph.
    pub fn changed(&self) -> bool {
        self.passes.iter().any(|pass| pass.changed)
    }

    /// The largest effect of the passes that changed the graph.
    pub fn effect(&self) -> Effect {
        let effects = self.passes.iter().filter(|pass| pass.changed).map(|pass| pass.effect);
        effects.max().unwrap_or(Effect::Exact)
    }
}

impl<'a> PassManager<'a> {
    /// A manager that verifies, observed by nobody.
    pub fn new(backend: &'a dyn Backend) -> PassManager<'a> {
        PassManager {
            backend,
            data: None,
            seed: 0,
            verify: true,
            progress: None,
            observers: Vec::new(),
            disabled: Vec::new(),
        }
    }

    /// Adds an observer.
    pub fn observe(&mut self, observer: impl Observer + 'a) {
        self.observers.push(Box::new(observer));
    }

    /// Skips every pass of this name.
    ///
    /// # Errors
    /// If there is no such pass; the message lists those there are.
    pub fn disable(&mut self, name: &str) -> Result<(), OptionError> {
        if !PASSES.iter().any(|info| info.name == name) {
            return Err(crate::pipeline::unknown_pass(name));
        }
        self.disabled.push(name.to_owned());
        Ok(())
    }

    /// Runs the passes in order.
    ///
    /// # Errors
    /// The first [`PassError`]; the graph is then as it was before the pass that failed.
    pub fn run(&mut self, pipeline: &Pipeline, graph: &mut Graph) -> Result<RunReport, PassError> {
        let start = Instant::now();
        let mut cx = PassCx::new(self.backend);
        (cx.data, cx.seed, cx.progress) = (self.data, self.seed, self.progress);
        let mut run = Run { manager: self, cx, index: 0 };
        let before = run.totals(graph);
        let mut passes = Vec::new();
        for pass in &pipeline.passes {
            passes.extend(run.record(&**pass, graph)?);
        }
        let after = run.totals(graph);
        Ok(RunReport { before, after, passes, time: start.elapsed() })
    }

    /// Runs the passes in order, keeping nothing of the graph before, so that weights which change are never in
    /// memory twice. A pass made of others is verified at its end alone. There are no reports, and observers are
    /// told nothing.
    ///
    /// # Errors
    /// The first [`PassError`]; the graph is half done then.
    pub fn run_in_place(&self, pipeline: &Pipeline, graph: &mut Graph) -> Result<(), PassError> {
        let mut cx = PassCx::new(self.backend);
        (cx.data, cx.seed, cx.progress) = (self.data, self.seed, self.progress);
        for pass in pipeline.passes.iter().filter(|pass| !self.is_disabled(&***pass)) {
            let (version, signature) = (graph.version(), graph.signature());
            pass.run(graph, &mut cx)?;
            if graph.version() != version {
                graph.gc();
                self.check(&**pass, &signature, graph)?;
            }
        }
        Ok(())
    }

    fn is_disabled(&self, pass: &dyn Pass) -> bool {
        self.disabled.iter().any(|name| name == pass.name())
    }

    /// Checks a graph that a pass changed.
    fn check(&self, pass: &dyn Pass, before: &Signature, graph: &Graph) -> Result<(), PassError> {
        if self.verify {
            verify(graph).map_err(|errors| PassError::Broken { pass: pass.name(), errors })?;
        }
        let after = graph.signature();
        let keeps = if pass.changes_types() { same_names(before, &after) } else { keeps_signature(before, &after) };
        if keeps { Ok(()) } else { Err(PassError::Signature { pass: pass.name() }) }
    }
}

/// One run of a pipeline.
struct Run<'m, 'a> {
    manager: &'m mut PassManager<'a>,
    cx: PassCx<'a>,
    /// Passes that ran or were stopped by an observer so far; those made of others do not count.
    index: usize,
}

/// Time of a pass alone, and whether it changed the graph.
#[derive(Clone, Copy, Default)]
struct Outcome {
    time: Duration,
    changed: bool,
}

impl Run<'_, '_> {
    fn totals(&mut self, graph: &Graph) -> Totals {
        self.cx.analysis::<Cost>(graph).total
    }

    /// A pass of the pipeline; `None` if it is disabled.
    fn record(&mut self, pass: &dyn Pass, graph: &mut Graph) -> Result<Option<PassReport>, PassError> {
        if self.manager.is_disabled(pass) {
            return Ok(None);
        }
        let before = self.totals(graph);
        let (outcome, nested) = match pass.nested() {
            Some(nested) => self.rounds(pass, nested, graph)?,
            None => (self.single(pass, graph)?, Vec::new()),
        };
        let after = self.totals(graph);
        Ok(Some(PassReport {
            name: pass.name(),
            options: pass.options(),
            effect: pass.effect(),
            time: outcome.time,
            changed: outcome.changed,
            before,
            after,
            remarks: self.cx.take_remarks(),
            nested,
        }))
    }

    /// Repeats a sequence until a round changes nothing.
    fn rounds(
        &mut self,
        pass: &dyn Pass,
        nested: Nested<'_>,
        graph: &mut Graph,
    ) -> Result<(Outcome, Vec<NestedReport>), PassError> {
        let mut total = Outcome::default();
        let mut reports: Vec<NestedReport> = Vec::new();
        let said_before = self.cx.remark_count();
        for round in 1..=nested.max_rounds {
            self.cx.forget_missed(said_before);
            let mut changed = false;
            for inner in nested.passes {
                if self.manager.is_disabled(&**inner) {
                    continue;
                }
                let outcome = match inner.nested() {
                    Some(deeper) => self.rounds(&**inner, deeper, graph)?.0,
                    None => self.single(&**inner, graph)?,
                };
                total.time += outcome.time;
                changed |= outcome.changed;
                let name = inner.name();
                let at = reports.iter().position(|r| r.name == name).unwrap_or_else(|| {
                    reports.push(NestedReport { name, runs: 0, changes: 0, time: Duration::ZERO });
                    reports.len() - 1
                });
                reports[at].runs += 1;
                reports[at].changes += usize::from(outcome.changed);
                reports[at].time += outcome.time;
            }
            total.changed |= changed;
            if !changed {
                break;
            }
            if round == nested.max_rounds && round > 1 {
                self.cx.enter(pass.name());
                self.cx.note_graph(format_args!("still changing after {round} rounds"));
            }
        }
        Ok((total, reports))
    }

    /// Runs one pass with everything around it.
    fn single(&mut self, pass: &dyn Pass, graph: &mut Graph) -> Result<Outcome, PassError> {
        self.index += 1;
        let index = self.index;
        let mut skip = false;
        for observer in &mut self.manager.observers {
            skip |= observer.before(&Event { index, pass, graph, changed: false }) == Step::Skip;
        }
        if skip {
            return Ok(Outcome::default());
        }
        let saved = graph.clone();
        self.cx.enter(pass.name());
        self.cx.step(0, 0, "");
        let start = Instant::now();
        let result = pass.run(graph, &mut self.cx);
        let changed = graph.version() != saved.version();
        if result.is_ok() && changed {
            graph.gc();
        }
        let time = start.elapsed();
        match result.and_then(|()| self.check(pass, &saved, graph, changed)) {
            Ok(()) => Ok(Outcome { time, changed }),
            Err(error) => {
                *graph = saved;
                Err(error)
            }
        }
    }

    fn check(&mut self, pass: &dyn Pass, before: &Graph, graph: &Graph, changed: bool) -> Result<(), PassError> {
        if changed {
            self.manager.check(pass, &before.signature(), graph)?;
        }
        let event = Event { index: self.index, pass, graph, changed };
        self.manager.observers.iter_mut().try_for_each(|observer| observer.after(&event))
    }
}

/// Whether the inputs are the same, and the results too but for dimensions that are better known now.
fn keeps_signature(before: &Signature, after: &Signature) -> bool {
    let same_result = |((a, old), (b, new)): (&(String, Type), &(String, Type))| a == b && refines(new, old);
    before.inputs == after.inputs
        && before.results.len() == after.results.len()
        && before.results.iter().zip(&after.results).all(same_result)
}

/// Whether inputs and results have the same names in the same order.
fn same_names(before: &Signature, after: &Signature) -> bool {
    let names = |values: &[(String, Type)]| values.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    names(&before.inputs) == names(&after.inputs) && names(&before.results) == names(&after.results)
}

#[cfg(test)]
mod tests;
