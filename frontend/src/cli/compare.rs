//! `optc compare`: how far two models are apart.

use optc_ir::Graph;
use optc_passes::Dataset;
use serde::Serialize;

use super::args::CompareArgs;
use super::measure::Runner;
use super::session::{self, Talk};
use crate::data::{Arrays, Samples, Scaling};
use crate::error::Error;
use crate::report::{OutputDistance, distance_table, to_json};

#[derive(Serialize)]
struct Report {
    a: String,
    b: String,
    samples: usize,
    random_inputs: bool,
    backend: &'static str,
    outputs: Vec<OutputDistance>,
}

pub(super) fn compare(args: &CompareArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let (a, _) = session::open(&args.a, &args.exec.bind, &talk)?;
    let (b, _) = session::open(&args.b, &args.exec.bind, &talk)?;
    let (a, b) = (a.graph, b.graph);
    same_inputs(&a, &b)?;
    let samples = match session::samples(&args.data, &a, &talk)? {
        Some(samples) => samples,
        None => {
            let inputs = session::random_inputs(&a, args.seed, &talk)?;
            let names = a.inputs().iter().map(|&node| a.name(node).to_owned());
            Samples::new(Arrays::Named(names.zip(inputs).collect()), &a, Scaling::default())?
        }
    };
    let threads = session::threads(&args.exec)?;
    // A batch runs on one thread, so that all of them are busy whatever the kernels do.
    let backend = session::backend(&args.exec, 1)?;
    let progress = talk.progress(Some(samples.len() as u64));
    let runner = Runner { backend: &*backend, threads, batch: args.data.batch, progress };
    let report = Report {
        a: args.a.display().to_string(),
        b: args.b.display().to_string(),
        samples: samples.len(),
        random_inputs: args.data.data.is_none(),
        backend: backend.name(),
        outputs: runner.distances(&a, &b, &samples)?,
    };
    let text = match talk.json {
        true => to_json(&report),
        false => distance_table(&report.outputs, talk.style),
    };
    session::print(text.as_bytes())
}

/// Both models take the same inputs in the same order.
fn same_inputs(a: &Graph, b: &Graph) -> Result<(), Error> {
    let names = |graph: &Graph| graph.inputs().iter().map(|&n| graph.name(n).to_owned()).collect::<Vec<_>>();
    let (a, b) = (names(a), names(b));
    if a == b {
        return Ok(());
    }
    let (a, b) = (a.join(", "), b.join(", "));
    Err(Error::Data(format!("the models take different inputs: the first {a}; the second {b}")))
}
