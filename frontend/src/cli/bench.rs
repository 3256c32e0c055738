//! `optc bench`: how fast a model runs.

use std::time::{Duration, Instant};

use optc_ir::{ExecError, Executable, StepTime, Tensor};
use serde::Serialize;

use super::args::BenchArgs;
use super::session::{self, Talk, ms};
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
    iters: usize,
    min_ms: f64,
    median_ms: f64,
    p95_ms: f64,
    load_ms: f64,
    compile_ms: f64,
    /// The first run, which binds open dimensions and warms caches.
    first_ms: f64,
    peak_rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<LayerRow>>,
}

#[derive(Serialize)]
struct LayerRow {
    name: String,
    kernel: String,
    /// Median over the profiled runs.
    ms: f64,
    /// Share of the sum over all layers.
    share: f64,
}

pub(super) fn bench(args: &BenchArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let (model, load) = session::open(&args.model, &args.exec.bind, &talk)?;
    let graph = model.graph;
    let inputs = match &args.input {
        Some(path) => data::read_inputs(path, &graph)?,
        None => session::random_inputs(&graph, args.seed, &talk)?,
    };
    if args.iters == Some(0) {
        return Err(Error::Usage("--iters 0: at least one run is needed".to_owned()));
    }
    let threads = session::threads(&args.exec)?;
    let backend = session::backend(&args.exec, threads)?;
    let start = Instant::now();
    let mut executable = backend.compile(&graph)?;
    let compile = start.elapsed();
    let first = time(&mut *executable, &inputs)?;
    for _ in 1..args.warmup {
        executable.run(&inputs)?;
    }
    let mut times = runs(args.iters, || time(&mut *executable, &inputs))?;
    times.sort_by(f64::total_cmp);
    let layers = match args.profile {
        true => Some(profile(&mut *executable, &inputs, times.len().min(MAX_PROFILED))?),
        false => None,
    };
    let report = Report {
        model: args.model.display().to_string(),
        backend: backend.name(),
        threads,
        iters: times.len(),
        min_ms: quantile(&times, 0.0),
        median_ms: quantile(&times, 0.5),
        p95_ms: quantile(&times, 0.95),
        load_ms: ms(load),
        compile_ms: ms(compile),
        first_ms: first,
        peak_rss_bytes: session::peak_rss_bytes(),
        layers,
    };
    let text = if talk.json { to_json(&report) } else { table(&report, &talk) };
    session::print(text.as_bytes())
}

/// Runs profiled at most; timing each step of each run adds up.
const MAX_PROFILED: usize = 20;

fn time(executable: &mut dyn Executable, inputs: &[Tensor]) -> Result<f64, ExecError> {
    let start = Instant::now();
    executable.run(inputs)?;
    Ok(ms(start.elapsed()))
}

/// As many runs as asked for, or as take a second.
fn runs(iters: Option<usize>, mut run: impl FnMut() -> Result<f64, ExecError>) -> Result<Vec<f64>, ExecError> {
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

/// The median time of each step, in the order of execution.
fn profile(executable: &mut dyn Executable, inputs: &[Tensor], runs: usize) -> Result<Vec<LayerRow>, ExecError> {
    let mut steps: Vec<(StepTime, Vec<f64>)> = Vec::new();
    for _ in 0..runs.max(1) {
        let (_, profiled) = executable.profile(inputs)?;
        for (i, step) in profiled.into_iter().enumerate() {
            let time = ms(step.time);
            match steps.get_mut(i) {
                Some((_, times)) => times.push(time),
                None => steps.push((step, vec![time])),
            }
        }
    }
    let mut rows: Vec<LayerRow> = steps
        .into_iter()
        .map(|(step, mut times)| {
            times.sort_by(f64::total_cmp);
            LayerRow { name: step.node, kernel: step.kernel, ms: quantile(&times, 0.5), share: 0.0 }
        })
        .collect();
    let sum: f64 = rows.iter().map(|row| row.ms).sum();
    for row in &mut rows {
        row.share = if sum > 0.0 { row.ms / sum } else { 0.0 };
    }
    Ok(rows)
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
    if let Some(layers) = &report.layers {
        let columns = [("layer", Align::Left), ("kernel", Align::Left), ("ms", Align::Right), ("share", Align::Right)];
        let mut table = Table::new(talk.style, &columns);
        for row in layers {
            table.row([row.name.clone(), row.kernel.clone(), format!("{:.4}", row.ms), percent(row.share)]);
        }
        text += "\n";
        text += &table.render();
    }
    text
}
