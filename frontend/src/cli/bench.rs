//! `optc bench`: how fast a model runs.

use std::time::{Duration, Instant};

use optc_codegen::{Target, peak};
use optc_ir::{StepTime, Tensor};
use serde::Serialize;

use super::args::BenchArgs;
use super::baseline::{Baseline, Other};
use super::choices::{self, ChoiceRow, choices_of};
use super::session::{self, Talk, ms};
use super::tuning;
use crate::compiled::{BackendKind, CompileOptions, Compiled};
use crate::data;
use crate::error::Error;
use crate::measure::quantile;
use crate::report::table::{Align, Table};
use crate::report::{percent, to_json};

/// Without a number of runs given: how long to run, and the bounds of their number.
const TIME: Duration = Duration::from_secs(1);
const MIN_RUNS: usize = 5;
const MAX_RUNS: usize = 1000;

#[derive(Serialize)]
struct Report {
    model: String,
    backend: &'static str,
    threads: usize,
    optimized: bool,
    iters: usize,
    min_ms: f64,
    median_ms: f64,
    p95_ms: f64,
    load_ms: f64,
    /// Simplifying the graph included.
    compile_ms: f64,
    /// The first run, which binds open dimensions and warms caches.
    first_ms: f64,
    peak_rss_bytes: Option<u64>,
    #[serde(flatten)]
    profile: Option<Profile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Baseline>,
    /// What computes each layer of compressed weights; only with a profile or a baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<Vec<ChoiceRow>>,
}

/// Where the time goes.
#[derive(Serialize)]
struct Profile {
    /// What the threads together reach in multiply-adds alone.
    peak_gflops: f64,
    /// What the fastest run reached.
    gflops: f64,
    of_peak: f64,
    layers: Vec<LayerRow>,
}

#[derive(Serialize)]
struct LayerRow {
    name: String,
    kernel: String,
    /// Median over the profiled runs.
    ms: f64,
    /// Share of the sum over all layers.
    share: f64,
    /// Absent where the kernel multiplies nothing that counts.
    gflops: Option<f64>,
    of_peak: Option<f64>,
    /// Of operands and results, where that is known.
    bytes: usize,
}

pub(super) fn bench(args: &BenchArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let (mut model, load) = session::open(&args.model, &args.exec.bind, &talk)?;
    let inputs = match &args.input {
        Some(path) => data::read_inputs(path, &model.graph)?,
        None => session::random_inputs(&model.graph, args.seed, &talk)?,
    };
    if args.iters == Some(0) {
        return Err(Error::Usage("--iters 0: at least one run is needed".to_owned()));
    }
    let options = session::options(&args.exec, &args.optimize)?;
    let start = Instant::now();
    model.prepare(&options)?;
    let mut compile = start.elapsed();
    let selection = tuning::select(&options, &model.graph, &inputs, &talk)?;
    let choices = (args.profile || args.baseline.is_some()) && options.backend == BackendKind::Jit;
    let choices = choices.then(|| choices_of(&model.graph, &inputs, &options, &selection)).transpose()?;
    let mut other = match &args.baseline {
        Some(baseline) => Some(Other::new(baseline, &model.graph, &inputs, &options, (&args.exec, &talk))?),
        None => None,
    };
    let start = Instant::now();
    let mut compiled = Compiled::new(model.graph, &*options.backend_with(selection))?;
    compile += start.elapsed();
    let start = Instant::now();
    let mut results = compiled.run_in_order(&inputs)?;
    let first = start.elapsed();
    for _ in 1..args.warmup {
        compiled.run_into(&inputs, &mut results)?;
        other.as_mut().map_or(Ok(()), Other::warm)?;
    }
    let mut times = runs(args.iters, || {
        let start = Instant::now();
        compiled.run_into(&inputs, &mut results)?;
        let time = ms(start.elapsed());
        other.as_mut().map_or(Ok(()), |other| other.run(time))?;
        Ok(time)
    })?;
    times.sort_by(f64::total_cmp);
    let peak_rss_bytes = session::peak_rss_bytes();
    let profile = match args.profile {
        true => Some(profile(&mut compiled, &inputs, &times, &options)?),
        false => None,
    };
    let baseline = other.map(|other| other.compare(&mut compiled, &inputs, &options)).transpose()?;
    let report = Report {
        model: args.model.display().to_string(),
        backend: options.backend().name(),
        threads: options.threads,
        optimized: options.optimize,
        iters: times.len(),
        min_ms: quantile(&times, 0.0),
        median_ms: quantile(&times, 0.5),
        p95_ms: quantile(&times, 0.95),
        load_ms: ms(load),
        compile_ms: ms(compile),
        first_ms: ms(first),
        peak_rss_bytes,
        profile,
        baseline,
        choices,
    };
    let text = if talk.json { to_json(&report) } else { table(&report, &talk) };
    session::print(text.as_bytes())
}

/// Runs profiled at most; timing each step of each run adds up.
pub(super) const MAX_PROFILED: usize = 20;

/// As many runs as asked for, or as take a second.
fn runs(iters: Option<usize>, mut run: impl FnMut() -> Result<f64, Error>) -> Result<Vec<f64>, Error> {
    let start = Instant::now();
    let mut times = Vec::new();
    let enough = |done: usize| match iters {
        Some(iters) => done >= iters,
        None => done >= MAX_RUNS || (done >= MIN_RUNS && start.elapsed() >= TIME),
    };
    while !enough(times.len()) {
        times.push(run()?);
    }
    Ok(times)
}

/// GFLOP/s of so many multiply-adds in so many milliseconds.
fn gflops(macs: usize, ms: f64) -> f64 {
    2.0 * macs as f64 / (ms * 1e6)
}

/// The median time of each step in the order of execution, beside what this machine can do.
fn profile(
    compiled: &mut Compiled,
    inputs: &[Tensor],
    times: &[f64],
    options: &CompileOptions,
) -> Result<Profile, Error> {
    let peak = peak::measure(&Target { vectors: options.target, threads: options.threads })?;
    let mut steps: Vec<(StepTime, Vec<f64>)> = Vec::new();
    for _ in 0..times.len().min(MAX_PROFILED) {
        for (i, step) in compiled.profile(inputs)?.into_iter().enumerate() {
            let time = ms(step.time);
            match steps.get_mut(i) {
                Some((_, times)) => times.push(time),
                None => steps.push((step, vec![time])),
            }
        }
    }
    let macs: usize = steps.iter().map(|(step, _)| step.macs).sum();
    let mut rows: Vec<LayerRow> = steps
        .into_iter()
        .map(|(step, mut times)| {
            times.sort_by(f64::total_cmp);
            let ms = quantile(&times, 0.5);
            let gflops = (step.macs > 0 && ms > 0.0).then(|| gflops(step.macs, ms));
            let of_peak = gflops.map(|gflops| gflops / peak);
            LayerRow { name: step.node, kernel: step.kernel, ms, share: 0.0, gflops, of_peak, bytes: step.bytes }
        })
        .collect();
    let sum: f64 = rows.iter().map(|row| row.ms).sum();
    for row in &mut rows {
        row.share = if sum > 0.0 { row.ms / sum } else { 0.0 };
    }
    let reached = gflops(macs, quantile(times, 0.0));
    Ok(Profile { peak_gflops: peak, gflops: reached, of_peak: reached / peak, layers: rows })
}

fn table(report: &Report, talk: &Talk) -> String {
    let mut text = format!(
        "{}: {} on {} thread{}, {} runs\n\n",
        report.model,
        report.backend,
        report.threads,
        if report.threads == 1 { "" } else { "s" },
        report.iters
    );
    let columns =
        ["min", "median", "p95", "first run", "load", "compile", "peak memory"].map(|title| (title, Align::Right));
    let mut summary = Table::new(talk.style, &columns);
    let times = [report.min_ms, report.median_ms, report.p95_ms, report.first_ms, report.load_ms, report.compile_ms];
    let memory = report.peak_rss_bytes.map_or("–".to_owned(), crate::report::bytes);
    summary.row(times.iter().map(|ms| format!("{ms:.3} ms")).chain([memory]));
    text += &summary.render();
    if let Some(profile) = &report.profile {
        let columns = [
            ("layer", Align::Left),
            ("kernel", Align::Left),
            ("ms", Align::Right),
            ("share", Align::Right),
            ("GFLOP/s", Align::Right),
            ("of peak", Align::Right),
            ("moved", Align::Right),
        ];
        let mut table = Table::new(talk.style, &columns);
        for row in &profile.layers {
            table.row([
                row.name.clone(),
                row.kernel.clone(),
                format!("{:.4}", row.ms),
                percent(row.share),
                row.gflops.map_or(String::new(), |x| format!("{x:.1}")),
                row.of_peak.map_or(String::new(), percent),
                if row.bytes > 0 { crate::report::bytes(row.bytes as u64) } else { String::new() },
            ]);
        }
        let (reached, peak, share) = (profile.gflops, profile.peak_gflops, percent(profile.of_peak));
        text += "\n";
        text += &table.render();
        text += &format!("\nmodel: {reached:.1} GFLOP/s, {share} of {peak:.1} in multiply-adds alone\n");
    }
    if let Some(baseline) = &report.baseline {
        text += &baseline.table(talk);
    }
    if let Some(choices) = report.choices.as_ref().filter(|choices| !choices.is_empty()) {
        text += &choices::table(choices, talk);
    }
    text
}
