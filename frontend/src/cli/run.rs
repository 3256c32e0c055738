//! `optc run`: one run of a model.

use std::path::Path;

use optc_ir::Tensor;
use serde::Serialize;

use super::args::RunArgs;
use super::session::{self, Talk};
use super::tuning;
use crate::compiled::Compiled;
use crate::data;
use crate::error::Error;
use crate::files;
use crate::report::table::{Align, Table};
use crate::report::to_json;

/// Elements of a result shown in the summary.
const SHOWN: usize = 4;

#[derive(Serialize)]
struct Report {
    backend: &'static str,
    output: Option<String>,
    results: Vec<ResultRow>,
}

#[derive(Serialize)]
struct ResultRow {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
    first: Vec<f64>,
}

pub(super) fn run(args: &RunArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    if let (Some(input), Some(output)) = (&args.input, &args.output)
        && files::same_file(input, output)
    {
        return Err(Error::Usage(format!("{}: refusing to overwrite the inputs", output.display())));
    }
    let (mut model, _) = session::open(&args.model, &args.exec.bind, &talk)?;
    let inputs = match &args.input {
        Some(path) => data::read_inputs(path, &model.graph)?,
        None => session::random_inputs(&model.graph, args.seed, &talk)?,
    };
    let options = session::options(&args.exec, &args.optimize)?;
    model.prepare(&options)?;
    let selection = tuning::select(&options, &model.graph, &inputs, &talk)?;
    let mut compiled = Compiled::new(model.graph, &*options.backend_with(selection))?;
    let results = compiled.run_in_order(&inputs)?;
    let names: Vec<&str> = compiled.signature().results.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(path) = &args.output {
        write(path, &names, &results)?;
    }
    let report = Report {
        backend: options.backend().name(),
        output: args.output.as_ref().map(|path| path.display().to_string()),
        results: names.iter().zip(&results).map(|(name, tensor)| summarize((*name).to_owned(), tensor)).collect(),
    };
    if talk.json {
        return session::print(to_json(&report).as_bytes());
    }
    match &args.output {
        Some(path) => {
            talk.say(format_args!("wrote {}", path.display()));
            Ok(())
        }
        None => session::print(table(&report, &talk).as_bytes()),
    }
}

/// Writes the results by name; a single result may go into an `.npy`.
fn write(path: &Path, names: &[&str], results: &[Tensor]) -> Result<(), Error> {
    let npy = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("npy"));
    let bytes = match (npy, results) {
        (true, [result]) => data::write_npy(result),
        (true, _) => {
            let path = path.display();
            return Err(Error::Usage(format!("{path}: the model has {} outputs, use an .npz", results.len())));
        }
        (false, _) => data::write_npz(names.iter().copied().zip(results))?,
    };
    files::write(path, &bytes)
}

fn summarize(name: String, tensor: &Tensor) -> ResultRow {
    let v = tensor.data().to_f64();
    let numbers = || v.iter().copied().filter(|x| !x.is_nan());
    ResultRow {
        name,
        dtype: tensor.dtype().name(),
        shape: tensor.shape().to_vec(),
        min: numbers().reduce(f64::min),
        max: numbers().reduce(f64::max),
        mean: (!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64),
        first: v.into_iter().take(SHOWN).collect(),
    }
}

fn table(report: &Report, talk: &Talk) -> String {
    let columns = [
        ("output", Align::Left),
        ("type", Align::Left),
        ("min", Align::Right),
        ("mean", Align::Right),
        ("max", Align::Right),
        ("first elements", Align::Left),
    ];
    let mut table = Table::new(talk.style, &columns);
    for row in &report.results {
        let number = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{x:.5}"));
        let shape: Vec<String> = row.shape.iter().map(ToString::to_string).collect();
        let first: Vec<String> = row.first.iter().map(|x| format!("{x:.5}")).collect();
        table.row([
            row.name.clone(),
            format!("{}[{}]", row.dtype, shape.join(", ")),
            number(row.min),
            number(row.mean),
            number(row.max),
            first.join(", "),
        ]);
    }
    table.render()
}
