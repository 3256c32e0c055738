//! `optc eval`: the accuracy of a classifier.

use optc_codegen::Selection;
use optc_passes::Dataset;
use serde::Serialize;

use super::args::EvalArgs;
use super::measure::Runner;
use super::session::{self, Talk, ms};
use super::tuning;
use crate::compiled::CompileOptions;
use crate::error::Error;
use crate::report::to_json;

#[derive(Serialize)]
struct Report {
    model: String,
    top1: f64,
    top5: f64,
    count: usize,
    backend: &'static str,
    ms: f64,
}

pub(super) fn eval(args: &EvalArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let (mut model, _) = session::open(&args.model, &args.exec.bind, &talk)?;
    let options = session::options(&args.exec, &args.optimize)?;
    let threads = options.threads;
    model.prepare(&options)?;
    let graph = model.graph;
    let output = match &args.output {
        None => 0,
        Some(name) => graph.results().iter().position(|(n, _)| n == name).ok_or_else(|| {
            let known: Vec<&str> = graph.results().iter().map(|(n, _)| *n).collect();
            Error::Usage(format!("the model has no output {name}; it has {}", known.join(", ")))
        })?,
    };
    if graph.results().is_empty() {
        return Err(Error::Usage("the model has no outputs".to_owned()));
    }
    let samples = session::samples(&args.data, &graph, &talk)?
        .ok_or_else(|| Error::Usage("data is needed: --data FILE --labels FILE".to_owned()))?;
    // A batch runs on one thread, so that all of them are busy whatever the kernels do.
    let options = CompileOptions { threads: 1, ..options };
    let selection = match samples.batches(args.data.batch).first() {
        Some(batch) => tuning::select(&options, &graph, &samples.padded_batch(batch.clone())?, &talk)?,
        None => Selection::Modelled,
    };
    let backend = options.backend_with(selection);
    let progress = talk.progress(Some(samples.len() as u64));
    let start = std::time::Instant::now();
    let accuracy =
        Runner { backend: &*backend, threads, batch: args.data.batch, progress }.accuracy(&graph, output, &samples)?;
    let report = Report {
        model: args.model.display().to_string(),
        top1: accuracy.top1,
        top5: accuracy.top5,
        count: accuracy.count,
        backend: backend.name(),
        ms: ms(start.elapsed()),
    };
    if talk.json {
        return session::print(to_json(&report).as_bytes());
    }
    let (top1, top5) = (100.0 * report.top1, 100.0 * report.top5);
    let text = format!("top-1 {top1:.2} %   top-5 {top5:.2} %   of {} samples\n", report.count);
    session::print(text.as_bytes())
}
