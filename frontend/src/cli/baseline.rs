//! What compression gains, layer by layer: a model beside its baseline, both run in turns.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use optc_codegen::{Algorithm, Selection, peak};
use optc_ir::{Graph, Op, StepTime, Tensor};
use serde::Serialize;

use super::args::ExecArgs;
use super::bench::MAX_PROFILED;
use super::session::{self, Talk, ms};
use crate::compiled::{BackendKind, CompileOptions, Compiled};
use crate::error::Error;
use crate::measure::quantile;
use crate::report::percent;
use crate::report::table::{Align, Table};

/// The baseline that is the model itself, computed densely.
const DENSE: &str = "dense";

/// A model beside its baseline. Times are in milliseconds: the least of all runs; of layers on several threads the
/// median, since a thread that was kept from running sees in no time what others did meanwhile.
#[derive(Serialize)]
pub(super) struct Baseline {
    model: String,
    min_ms: f64,
    median_ms: f64,
    /// How many times faster the model is than the baseline: by least times, and the median over runs in turns.
    speedup: f64,
    speedup_median: f64,
    /// What the threads together reach: in multiply-adds alone, and in reading memory.
    peak_gflops: f64,
    peak_gb_s: f64,
    layers: Vec<LayerRow>,
    /// Least time of the model's own run, in the same turns.
    #[serde(skip)]
    own_ms: f64,
}

/// A layer, in one model or both.
#[derive(Serialize)]
struct LayerRow {
    name: String,
    /// Absent where the baseline has no layer of this name; the same of `ms` and the model.
    baseline_ms: Option<f64>,
    ms: Option<f64>,
    speedup: Option<f64>,
    kernels: Vec<String>,
    baseline_kernels: Vec<String>,
    sparsity: Option<f64>,
    bits_per_weight: Option<f64>,
    /// What bounds it, `fma` or `mem`, and how near to that it comes; absent where it multiplies nothing.
    bound: Option<&'static str>,
    of_bound: Option<f64>,
}

/// The baseline, compiled.
pub(super) struct Other {
    name: String,
    compiled: Compiled,
    inputs: Vec<Tensor>,
    results: Vec<Tensor>,
    /// Weights of the layers of the model, and those that are not zero.
    weights: HashMap<String, (usize, usize)>,
    /// Times of the model and of the baseline in each turn.
    times: Vec<[f64; 2]>,
}

impl Other {
    /// The baseline of a model that is ready to run on these inputs.
    ///
    /// # Errors
    /// [`Error`] if the baseline can't be read or compiled, or takes other inputs.
    pub(super) fn new(
        baseline: &Path,
        graph: &Graph,
        inputs: &[Tensor],
        options: &CompileOptions,
        (exec, talk): (&ExecArgs, &Talk),
    ) -> Result<Other, Error> {
        if options.backend == BackendKind::Interp {
            return Err(Error::Usage("--baseline: the interpreter has no kernels to compare".to_owned()));
        }
        let (other, inputs, selection) = if baseline == Path::new(DENSE) {
            (graph.clone(), inputs.to_vec(), Selection::Always(Algorithm::Dense))
        } else {
            let (mut model, _) = session::open(baseline, &exec.bind, talk)?;
            let inputs = inputs_by_name(baseline, (graph, inputs), &model.graph)?;
            model.prepare(options)?;
            (model.graph, inputs, Selection::Modelled)
        };
        let mut compiled = Compiled::new(other, &*options.backend_with(selection))?;
        let results = compiled.run_in_order(&inputs)?;
        let name = baseline.display().to_string();
        Ok(Other { name, compiled, inputs, results, weights: weights(graph), times: Vec::new() })
    }

    /// A run that does not count.
    pub(super) fn warm(&mut self) -> Result<(), Error> {
        self.compiled.run_into(&self.inputs, &mut self.results)
    }

    /// A run in turn with one of the model, which took so many milliseconds.
    pub(super) fn run(&mut self, model_ms: f64) -> Result<(), Error> {
        let start = Instant::now();
        self.compiled.run_into(&self.inputs, &mut self.results)?;
        self.times.push([model_ms, ms(start.elapsed())]);
        Ok(())
    }

    /// Profiles both in turns and puts them side by side.
    pub(super) fn compare(
        mut self,
        model: &mut Compiled,
        inputs: &[Tensor],
        options: &CompileOptions,
    ) -> Result<Baseline, Error> {
        let (peak_gflops, peak_gb_s) = (peak::measure(&options.target())?, peak::bandwidth(&options.target())?);
        let (mut own, mut others) = (Layers::default(), Layers::default());
        for _ in 0..self.times.len().min(MAX_PROFILED) {
            own.add(model.profile(inputs)?);
            others.add(self.compiled.profile(&self.inputs)?);
        }
        own.finish(options.threads);
        others.finish(options.threads);
        let mut layers = Vec::new();
        let mut partners: HashMap<&str, &Layer> = others.0.iter().map(|layer| (layer.name.as_str(), layer)).collect();
        for layer in &own.0 {
            let partner = partners.remove(layer.name.as_str());
            layers.push(row(Some(layer), partner, self.weights.get(&layer.name), [peak_gflops, peak_gb_s]));
        }
        for layer in others.0.iter().filter(|layer| partners.contains_key(layer.name.as_str())) {
            layers.push(row(None, Some(layer), None, [peak_gflops, peak_gb_s]));
        }
        let sorted = |of: fn(&[f64; 2]) -> f64| {
            let mut numbers: Vec<f64> = self.times.iter().map(of).collect();
            numbers.sort_by(f64::total_cmp);
            numbers
        };
        let (own, other, ratios) = (sorted(|t| t[0]), sorted(|t| t[1]), sorted(|t| t[1] / t[0]));
        let [own_ms, min_ms] = [&own, &other].map(|times| quantile(times, 0.0));
        Ok(Baseline {
            model: self.name,
            min_ms,
            median_ms: quantile(&other, 0.5),
            speedup: min_ms / own_ms,
            speedup_median: quantile(&ratios, 0.5),
            peak_gflops,
            peak_gb_s,
            layers,
            own_ms,
        })
    }
}

/// The inputs that another graph takes, by the names of this one's.
fn inputs_by_name(path: &Path, (graph, inputs): (&Graph, &[Tensor]), other: &Graph) -> Result<Vec<Tensor>, Error> {
    let names = |graph: &Graph| graph.inputs().iter().map(|&i| graph.name(i).to_owned()).collect::<Vec<String>>();
    let (own, wanted) = (names(graph), names(other));
    let tensor = |name: &String| own.iter().position(|other| other == name).map(|i| inputs[i].clone());
    wanted.iter().map(tensor).collect::<Option<Vec<Tensor>>>().filter(|found| found.len() == own.len()).ok_or_else(
        || {
            let (path, own, wanted) = (path.display(), own.join(", "), wanted.join(", "));
            Error::Usage(format!("--baseline {path}: it takes the inputs {wanted}, the model takes {own}"))
        },
    )
}

/// How many weights each layer has, and how many are not zero.
fn weights(graph: &Graph) -> HashMap<String, (usize, usize)> {
    let of = |node| {
        let layer =
            matches!(graph.op(node), Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_) | Op::MatMul(_) | Op::Gemm(_));
        let constant = graph.constant_operand(node, 1).filter(|_| layer)?;
        Some((graph.name(node).to_owned(), (constant.len(), constant.nonzeros())))
    };
    graph.topo_order().into_iter().filter_map(of).collect()
}

/// The steps of a layer, in several runs.
struct Layer {
    name: String,
    /// The time of all together, in each run; then the one that counts.
    times: Vec<f64>,
    ms: f64,
    kernels: Vec<String>,
    macs: usize,
    /// Of the steps that multiply.
    bytes: usize,
    weight_bytes: usize,
    /// Whether products by zeros are among those counted.
    dense: bool,
}

/// The layers of a model in the order in which they are first computed.
#[derive(Default)]
struct Layers(Vec<Layer>);

impl Layers {
    /// Adds a run.
    fn add(&mut self, steps: Vec<StepTime>) {
        let mut run: Vec<Layer> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for step in steps {
            let place = *places.entry(step.layer).or_insert_with_key(|name| {
                let (name, kernels) = (name.clone(), Vec::new());
                let (times, ms) = (Vec::new(), 0.0);
                run.push(Layer { name, times, ms, kernels, macs: 0, bytes: 0, weight_bytes: 0, dense: true });
                run.len() - 1
            });
            let layer = &mut run[place];
            layer.ms += ms(step.time);
            if step.macs > 0 {
                layer.macs += step.macs;
                layer.bytes += step.bytes;
                layer.weight_bytes += step.weight_bytes;
                layer.dense &= !["spmm", "spmv", "listed"].iter().any(|sparse| step.kernel.contains(sparse));
            }
            if !layer.kernels.contains(&step.kernel) {
                layer.kernels.push(step.kernel);
            }
        }
        if self.0.is_empty() {
            self.0 = run;
            self.0.iter_mut().for_each(|layer| layer.times.push(layer.ms));
        } else {
            self.0.iter_mut().zip(run).for_each(|(layer, now)| layer.times.push(now.ms));
        }
    }

    /// Decides which of the times counts, after the last run.
    fn finish(&mut self, threads: usize) {
        for layer in &mut self.0 {
            layer.times.sort_by(f64::total_cmp);
            layer.ms = quantile(&layer.times, if threads > 1 { 0.5 } else { 0.0 });
        }
    }
}

/// A layer beside its partner; its weights, how many there are and how many are not zero; what the machine reaches.
fn row(
    own: Option<&Layer>,
    other: Option<&Layer>,
    weights: Option<&(usize, usize)>,
    [gflops, gb_s]: [f64; 2],
) -> LayerRow {
    let density = weights.map(|&(len, nonzeros)| nonzeros as f64 / len.max(1) as f64);
    let bound = own.filter(|layer| layer.macs > 0 && layer.ms > 0.0).map(|layer| {
        let useful = layer.macs as f64 * density.filter(|_| layer.dense).unwrap_or(1.0);
        let (fma, mem) = (2.0 * useful / gflops / 1e6, layer.bytes as f64 / gb_s / 1e6);
        if fma >= mem { ("fma", fma / layer.ms) } else { ("mem", mem / layer.ms) }
    });
    let times = own.zip(other).filter(|(own, _)| own.ms > 0.0);
    let kernels = |layer: Option<&Layer>| layer.map_or(Vec::new(), |layer| layer.kernels.clone());
    let constants = own.map(|layer| layer.weight_bytes).filter(|bytes| *bytes > 0);
    LayerRow {
        name: own.or(other).map_or(String::new(), |layer| layer.name.clone()),
        baseline_ms: other.map(|layer| layer.ms),
        ms: own.map(|layer| layer.ms),
        speedup: times.map(|(own, other)| other.ms / own.ms),
        kernels: kernels(own),
        baseline_kernels: kernels(other),
        sparsity: density.map(|density| 1.0 - density),
        bits_per_weight: weights.zip(constants).map(|((len, _), bytes)| 8.0 * bytes as f64 / *len as f64),
        bound: bound.map(|(bound, _)| bound),
        of_bound: bound.map(|(_, share)| share),
    }
}

impl Baseline {
    /// The comparison for people.
    pub(super) fn table(&self, talk: &Talk) -> String {
        let columns = [
            ("layer", Align::Left),
            ("baseline", Align::Right),
            ("ms", Align::Right),
            ("speed-up", Align::Right),
            ("kernels", Align::Left),
            ("zeros", Align::Right),
            ("bits/weight", Align::Right),
            ("of bound", Align::Right),
        ];
        let mut table = Table::new(talk.style, &columns);
        let number = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{x:.4}"));
        for row in &self.layers {
            let kernels = if row.ms.is_some() { &row.kernels } else { &row.baseline_kernels };
            let text = |x: Option<f64>, digits: usize| x.map_or(String::new(), |x| format!("{x:.digits$}"));
            table.row([
                row.name.clone(),
                number(row.baseline_ms),
                number(row.ms),
                row.speedup.map_or(String::new(), |x| format!("{x:.2}×")),
                kernels.join(" "),
                row.sparsity.map_or(String::new(), percent),
                text(row.bits_per_weight, 2),
                row.bound.zip(row.of_bound).map_or(String::new(), |(what, share)| format!("{} {what}", percent(share))),
            ]);
        }
        table.row([
            "whole run".to_owned(),
            format!("{:.4}", self.min_ms),
            format!("{:.4}", self.own_ms),
            format!("{:.2}×", self.speedup),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ]);
        let mut text = format!("\nBeside {}, in turns\n{}", self.model, table.render());
        text += &format!(
            "\nfma: {:.1} GFLOP/s in multiply-adds alone; mem: {:.1} GB/s; median speed-up of runs in turns {:.2}×\n",
            self.peak_gflops, self.peak_gb_s, self.speedup_median
        );
        let alone = |own: bool| {
            let only = self.layers.iter().filter(|row| if own { row.baseline_ms.is_none() } else { row.ms.is_none() });
            only.map(|row| row.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        for (whose, names) in [("the model", alone(true)), ("the baseline", alone(false))] {
            if !names.is_empty() {
                text += &format!("only in {whose}, so compared with nothing: {names}\n");
            }
        }
        text
    }
}
