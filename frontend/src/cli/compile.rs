//! `optc MODEL …` and `optc check MODEL …`: the passes run, the results written or only weighed.

use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use optc_ir::{Backend, Graph, Interp};
use optc_passes::analysis::Cost;
use optc_passes::pass::Progress;
use optc_passes::pipeline::Pipeline;
use optc_passes::{Analysis, Dataset, PassManager, RunReport};

use super::args::{CheckArgs, CompileArgs, DataArgs, DebugArgs, Emit, ExecArgs, PipelineArgs};
use super::measure::Runner;
use super::outputs::{self, Rendered, Target};
use super::session::{self, Talk, ms};
use super::watch::Watch;
use crate::error::Error;
use crate::pack::PackReport;
use crate::report::{self, CheckRow, CompileReport, Measured, OutputFile, Ratios, Sizes};

/// Compiles a model and writes the results.
pub(super) fn compile(args: &CompileArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let model = args.model.as_deref().ok_or_else(|| Error::Usage("no model given".to_owned()))?;
    let targets = outputs::resolve(model, args.output.as_deref(), &args.emit, args.talk.json)?;
    let job = Job { model, pipeline: &args.pipeline, data: &args.data, exec: &args.exec, debug: &args.debug, talk };
    let done = job.run()?;

    let mut files = Vec::new();
    let mut packed = None;
    let wants_report = |target: &&Target| target.emit == Emit::Report;
    for target in targets.iter().filter(|target| !wants_report(target)) {
        let (rendered, report) = outputs::render(target.emit, &done.graph, &done.target)?;
        packed = report.or(packed);
        files.push(outputs::write(target, &rendered)?);
    }
    let mut report = done.report(&job, files, packed.as_ref());
    report.outputs = report.files.iter().filter(|file| file.path != "-").map(|file| file.path.clone()).collect();
    for target in targets.iter().filter(wants_report) {
        // The report can't hold its own size, but it can name itself.
        report.outputs.extend(target.path.as_ref().map(|path| path.display().to_string()));
        let json = Rendered::Bytes(report::to_json(&report).into_bytes());
        let file = outputs::write(target, &json)?;
        report.files.push(file);
    }
    if targets.iter().any(|target| target.path.is_none()) {
        let (a, b) = (report::bytes(report.input.stored_bits / 8), report::bytes(report.output.stored_bits / 8));
        talk.say(format_args!("{}: constants {a} before, {b} after", report.model));
        return Ok(());
    }
    job.print(&report)
}

/// Does everything but writing.
pub(super) fn check(args: &CheckArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let model = args.model.as_path();
    let targets = outputs::resolve(model, None, &[], false)?;
    let job = Job { model, pipeline: &args.pipeline, data: &args.data, exec: &args.exec, debug: &args.debug, talk };
    let done = job.run()?;
    let mut files = Vec::new();
    let mut packed = None;
    for target in &targets {
        let (rendered, report) = outputs::render(target.emit, &done.graph, &done.target)?;
        packed = report.or(packed);
        let path = target.path.as_ref().map_or("-".to_owned(), |path| path.display().to_string());
        files.push(OutputFile { path, format: target.emit.name(), bytes: rendered.size() });
    }
    job.print(&done.report(&job, files, packed.as_ref()))
}

/// What is asked for.
struct Job<'a> {
    model: &'a Path,
    pipeline: &'a PipelineArgs,
    data: &'a DataArgs,
    exec: &'a ExecArgs,
    debug: &'a DebugArgs,
    talk: Talk,
}

/// What came of it.
struct Done {
    start: Instant,
    load: Duration,
    input_bytes: u64,
    pipeline: String,
    before: Cost,
    graph: Graph,
    /// What code for the graph would be generated for.
    target: optc_codegen::Target,
    run: RunReport,
    checks: Vec<CheckRow>,
    measured: Option<Measured>,
}

impl Job<'_> {
    fn run(&self) -> Result<Done, Error> {
        let start = Instant::now();
        let pipeline = session::pipeline(self.pipeline, &self.talk)?;
        let (model, load) = session::open(self.model, &self.exec.bind, &self.talk)?;
        let mut graph = model.graph;
        let samples = session::samples(self.data, &graph, &self.talk)?;
        let before = Cost::of(&graph);
        // Only a comparison needs the original once the passes have run.
        let original = samples.is_some().then(|| graph.clone());
        let threads = session::threads(self.exec)?;
        let target = session::target(self.exec, threads);
        let backend: Box<dyn Backend> = match samples.is_some() {
            true => session::backend(self.exec, threads)?,
            // Without data no machine code is run, so that it may be for another machine.
            false => Box::new(Interp),
        };
        let progress = self.talk.progress(None);
        let watch = Watch::default();
        let run = {
            let tell = |p: &Progress<'_>| show(&progress, p);
            let mut manager = PassManager::new(&*backend);
            manager.seed = self.pipeline.seed;
            manager.data = samples.as_ref().map(|samples| samples as &dyn Dataset);
            manager.progress = Some(&tell);
            watch.attach(&mut manager, self.debug, self.pipeline.seed)?;
            for name in &self.pipeline.disable {
                manager.disable(name)?;
            }
            manager.run(&pipeline, &mut graph)
        };
        progress.finish_and_clear();
        let run = run?;
        let checks = watch.finish()?;
        if self.debug.time_passes {
            time_passes(&run);
        }
        let measured = match (&original, &samples) {
            (Some(original), Some(samples)) => {
                // A batch runs on one thread, so that all of them are busy whatever the kernels do.
                let backend = session::backend(self.exec, 1)?;
                let progress = self.talk.progress(Some(2 * samples.len() as u64));
                let runner = Runner { backend: &*backend, threads, batch: self.data.batch, progress };
                let accuracy = |graph: &Graph| match samples.labels() {
                    Some(_) => runner.accuracy(graph, 0, samples).map(Some),
                    None => Ok(None),
                };
                Some(Measured {
                    samples: samples.len(),
                    backend: backend.name(),
                    outputs: runner.distances(original, &graph, samples)?,
                    before: accuracy(original)?,
                    after: accuracy(&graph)?,
                })
            }
            _ => None,
        };
        let input_bytes = model.bytes;
        let pipeline = describe(&pipeline, self.pipeline);
        Ok(Done { start, load, input_bytes, pipeline, before, graph, target, run, checks, measured })
    }

    fn print(&self, report: &CompileReport) -> Result<(), Error> {
        let text = match self.talk.json {
            true => report::to_json(report),
            false => report::compile_report(report, self.talk.style, self.talk.verbose()),
        };
        session::print(text.as_bytes())
    }
}

impl Done {
    fn report(self, job: &Job<'_>, files: Vec<OutputFile>, packed: Option<&PackReport>) -> CompileReport {
        let after = Cost::of(&self.graph);
        let coded = packed.map(report::coded_bytes);
        let sizes = |cost: &Cost, bytes: u64| Sizes {
            bytes,
            params: cost.total.params,
            nonzero: cost.total.nonzero,
            macs: cost.total.macs,
            stored_bits: cost.total.stored_bits,
            energy_pj: cost.total.energy_pj,
        };
        let models = files.iter().filter(|file| matches!(file.format, "optc" | "onnx"));
        let optc = files.iter().find(|file| file.format == "optc").map(|file| file.bytes);
        let output_bytes = optc.or_else(|| models.map(|file| file.bytes).min()).unwrap_or(0);
        let (input, output) = (sizes(&self.before, self.input_bytes), sizes(&after, output_bytes));
        let over = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
        let dense_f32_bytes = 4 * input.params as u64;
        let weight_bytes = packed.map_or(output.stored_bits / 8, |packed| packed.weight_bytes() as u64);
        let passes = report::summarize_passes(&self.run);
        CompileReport {
            model: job.model.display().to_string(),
            pipeline: self.pipeline,
            seed: job.pipeline.seed,
            input,
            output,
            ratios: Ratios {
                file: over(input.bytes, output.bytes),
                weights: over(dense_f32_bytes, weight_bytes),
                dense_f32_bytes,
                weight_bytes,
            },
            outputs: Vec::new(),
            files,
            skipped: report::skipped(&passes),
            passes,
            layers: report::compile_layers(&self.before, &self.graph, &after, coded.as_ref()),
            encodings: report::encodings(&self.graph, coded.as_ref()),
            storage: packed.map(|packed| report::storage(&self.graph, packed)).unwrap_or_default(),
            checks: self.checks,
            measured: self.measured,
            open_dims: self.before.symbols.clone(),
            load_ms: ms(self.load),
            total_ms: ms(self.start.elapsed()),
            peak_rss_bytes: session::peak_rss_bytes(),
        }
    }
}

/// The pipeline as text, without what was disabled.
fn describe(pipeline: &Pipeline, args: &PipelineArgs) -> String {
    let off = if args.disable.is_empty() { String::new() } else { format!(" without {}", args.disable.join(", ")) };
    format!("{pipeline}{off}")
}

fn show(bar: &ProgressBar, p: &Progress<'_>) {
    let steps = if p.total > 0 { format!(" {}/{}", p.done, p.total) } else { String::new() };
    bar.set_message(format!("{}{steps} {}", p.pass, p.what));
}

fn time_passes(run: &RunReport) {
    session::to_stderr("      ms  pass");
    for pass in &run.passes {
        session::to_stderr(format_args!("{:8.2}  {}", ms(pass.time), pass.name));
        for nested in &pass.nested {
            session::to_stderr(format_args!("{:8.2}    {} ({} runs)", ms(nested.time), nested.name, nested.runs));
        }
    }
    let passes: Duration = run.passes.iter().map(|pass| pass.time).sum();
    session::to_stderr(format_args!(
        "{:8.2}  all passes; {:.2} with verification and checks",
        ms(passes),
        ms(run.time)
    ));
}
