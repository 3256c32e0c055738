//! `optc sensitivity`: what pruning each layer alone does to a model.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use optc_ir::Graph;
use optc_passes::analysis::Cost;
use optc_passes::compress::sensitivity::{Ranking, Sweep, Variant, sweep};
use optc_passes::{Analysis, Dataset, PassCx, Selection, Selector};
use serde::Serialize;

use super::args::{DataArgs, ExecArgs, TalkArgs};
use super::measure::{Answers, Runner};
use super::session::{self, Talk};
use crate::data::Samples;
use crate::error::Error;
use crate::files;
use crate::report::plot::{Line, Plot};
use crate::report::table::{Align, Table};
use crate::report::{percent, to_json};

/// What is taken away from a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The channels that matter least, with all that goes with them
    Filters,
    /// The smallest weights
    Magnitude,
}

/// Sensitivity.
#[derive(Debug, Args)]
#[command(
    long_about = "Prune each layer alone, by several ratios, and measure what that does: the accuracy if there are \
labels; how far results are from those of the model as it came otherwise (share of the same top-1 class, \
Kullback–Leibler divergence, mean squared error). Layers whose channels can only go together are pruned together, \
as they would be in earnest. The model is simplified first. A plot shows one line a layer.",
    after_help = "Example:\n  optc sensitivity net.onnx --data x.npy --labels y.npy --plot net.svg\n  \
optc sensitivity net.onnx --data x.npy --method magnitude --ratios 0.5,0.8,0.9 --json"
)]
pub struct SensitivityArgs {
    /// The model: .onnx, .optc or .ir
    pub model: PathBuf,
    /// What is pruned
    #[arg(long, value_name = "WHAT", default_value = "filters")]
    pub method: Method,
    /// By what channels are ranked; see `optc passes`, prune-filters
    #[arg(long, value_name = "CRITERION", default_value = "l1")]
    pub criterion: String,
    /// The fractions removed
    #[arg(long, value_name = "R,…", value_delimiter = ',', default_value = "0.1,0.3,0.5,0.7,0.9")]
    pub ratios: Vec<f64>,
    /// Write the curves to this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Prune these layers only: operators or names, with `*`, or `re:REGEX`
    #[arg(long, value_name = "LAYERS")]
    pub only: Option<String>,
    /// Leave these layers alone
    #[arg(long, value_name = "LAYERS")]
    pub protect: Option<String>,
    /// Where everything random starts from
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Data.
    #[command(flatten)]
    pub data: DataArgs,
    /// How to run.
    #[command(flatten)]
    pub exec: ExecArgs,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

#[derive(Serialize)]
struct Report {
    model: String,
    method: Method,
    #[serde(skip_serializing_if = "Option::is_none")]
    criterion: Option<String>,
    samples: usize,
    /// What the table and the plot show: `top1`, `agreement` or `mse`.
    metric: Metric,
    /// The model as it came.
    baseline: Scores,
    layers: Vec<LayerRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plot: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Metric {
    Top1,
    Agreement,
    Mse,
}

#[derive(Serialize)]
struct LayerRow {
    layer: String,
    /// Layers whose channels go with those of `layer`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    with: Vec<String>,
    /// Channels, or weights.
    total: usize,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    ratio: f64,
    kept: usize,
    /// Parameters that are left and not zero, and MACs, of the whole model.
    nonzero: usize,
    macs: u64,
    #[serde(flatten)]
    scores: Scores,
}

/// What is measured of a model.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Scores {
    #[serde(skip_serializing_if = "Option::is_none")]
    top1: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top5: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kl: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mse: Option<f64>,
}

impl Scores {
    fn get(&self, metric: Metric) -> f64 {
        let score = match metric {
            Metric::Top1 => self.top1,
            Metric::Agreement => self.agreement,
            Metric::Mse => self.mse,
        };
        score.unwrap_or(f64::NAN)
    }
}

pub(super) fn sensitivity(args: &SensitivityArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let method = match args.method {
        Method::Filters => Sweep::Filters(Ranking::parse(&args.criterion)?),
        Method::Magnitude => Sweep::Magnitude,
    };
    if let Some(ratio) = args.ratios.iter().find(|ratio| !(0.0..=1.0).contains(*ratio)) {
        return Err(Error::Usage(format!("--ratios {ratio}: fractions are within 0 and 1")));
    }
    let selector = |text: &Option<String>, flag: &str| {
        let parsed = text.as_deref().map(Selector::parse).transpose();
        parsed.map_err(|message| Error::Usage(format!("{flag} {message}")))
    };
    let selection = Selection { only: selector(&args.only, "--only")?, protect: selector(&args.protect, "--protect")? };
    let (mut model, _) = session::open(&args.model, &args.exec.bind, &talk)?;
    model.simplify(args.seed)?;
    model.graph.gc();
    let graph = model.graph;
    let samples = session::samples(&args.data, &graph, &talk)?
        .ok_or_else(|| Error::Usage("data is needed: --data FILE".to_owned()))?;
    // A batch runs on one thread, so that all of them are busy whatever the kernels do.
    let backend = session::backend(&args.exec, 1)?;
    let threads = session::threads(&args.exec)?;
    let hidden = indicatif::ProgressBar::hidden;
    let runner = || Runner { backend: &*backend, threads, batch: args.data.batch, progress: hidden() };
    let judge = Judge::new(&runner(), &graph, &samples)?;
    let baseline = judge.scores(&runner(), &graph)?;

    let progress = talk.progress(Some(0));
    let mut layers: Vec<LayerRow> = Vec::new();
    let mut cx = PassCx::new(&*backend);
    (cx.data, cx.seed) = (Some(&samples as &dyn Dataset), args.seed);
    let swept = sweep(&graph, method, &args.ratios, &selection, &mut cx, |variant: &Variant, pruned: &Graph| {
        progress.set_length(variant.count as u64);
        progress.set_position(variant.index as u64);
        progress.set_message(format!("{} −{}", variant.layer, percent(variant.ratio)));
        let total = Cost::of(pruned).total;
        let scores = judge.scores(&runner(), pruned)?;
        let point =
            Point { ratio: variant.ratio, kept: variant.kept, nonzero: total.nonzero, macs: total.macs, scores };
        if variant.index.is_multiple_of(args.ratios.len()) {
            let (layer, with, total) = (variant.layer.clone(), variant.with.clone(), variant.total);
            layers.push(LayerRow { layer, with, total, points: Vec::new() });
        }
        if let Some(row) = layers.last_mut() {
            row.points.push(point);
        }
        Ok::<(), Error>(())
    });
    progress.finish_and_clear();
    swept?;
    for remark in cx.take_remarks() {
        talk.detail(remark);
    }
    let mut report = Report {
        model: args.model.display().to_string(),
        method: args.method,
        criterion: (args.method == Method::Filters).then(|| args.criterion.clone()),
        samples: samples.len(),
        metric: match (baseline.top1, baseline.agreement) {
            (Some(_), _) => Metric::Top1,
            (None, Some(_)) => Metric::Agreement,
            (None, None) => Metric::Mse,
        },
        baseline,
        layers,
        plot: None,
    };
    if let Some(path) = &args.plot {
        write_plot(&report, path)?;
        report.plot = Some(path.display().to_string());
        talk.say(format_args!("wrote {}", path.display()));
    }
    let text = if talk.json { to_json(&report) } else { table(&report, &args.ratios, &talk) };
    session::print(text.as_bytes())
}

/// What variants are measured by.
struct Judge<'a> {
    samples: &'a Samples,
    /// The results of the model as it came, if there are no labels.
    answers: Option<Answers>,
}

impl Judge<'_> {
    fn new<'a>(runner: &Runner<'_>, graph: &Graph, samples: &'a Samples) -> Result<Judge<'a>, Error> {
        let answers = match samples.labels() {
            Some(_) => None,
            None => Some(runner.answers(graph, samples)?),
        };
        Ok(Judge { samples, answers })
    }

    fn scores(&self, runner: &Runner<'_>, graph: &Graph) -> Result<Scores, Error> {
        let Some(answers) = &self.answers else {
            let accuracy = runner.accuracy(graph, 0, self.samples)?;
            return Ok(Scores { top1: Some(accuracy.top1), top5: Some(accuracy.top5), ..Scores::default() });
        };
        let divergence = runner.divergence(answers, graph, self.samples)?;
        let (agreement, kl) = (divergence.agreement(), divergence.kl());
        Ok(Scores { agreement, kl, mse: Some(divergence.mse()), ..Scores::default() })
    }
}

fn number(metric: Metric, score: f64) -> String {
    match metric {
        Metric::Mse => format!("{score:.3e}"),
        _ => percent(score),
    }
}

fn table(report: &Report, ratios: &[f64], talk: &Talk) -> String {
    let what = match report.metric {
        Metric::Top1 => "top-1 accuracy",
        Metric::Agreement => "share of samples with the same top-1 class",
        Metric::Mse => "mean squared error",
    };
    let things = if report.method == Method::Filters { "channels" } else { "weights" };
    let heads: Vec<String> = ratios.iter().map(|&ratio| format!("−{}", percent(ratio))).collect();
    let mut columns = vec![("layer", Align::Left), (things, Align::Right)];
    columns.extend(heads.iter().map(|head| (head.as_str(), Align::Right)));
    let mut table = Table::new(talk.style, &columns);
    for row in &report.layers {
        let with = if row.with.is_empty() { String::new() } else { format!(" +{}", row.with.len()) };
        let scores = row.points.iter().map(|point| number(report.metric, point.scores.get(report.metric)));
        table.row([format!("{}{with}", row.layer), row.total.to_string()].into_iter().chain(scores));
    }
    let baseline = number(report.metric, report.baseline.get(report.metric));
    let samples = report.samples;
    let title = talk.style.bold(&report.model);
    format!("{title}\n\n{what}, {samples} samples; {baseline} as it came\n\n{}", table.render())
}

fn write_plot(report: &Report, path: &Path) -> Result<(), Error> {
    let scale = if report.metric == Metric::Mse { 1.0 } else { 100.0 };
    let y = |scores: &Scores| scale * scores.get(report.metric);
    let line = |row: &LayerRow| Line {
        name: row.layer.clone(),
        points: std::iter::once((0.0, y(&report.baseline)))
            .chain(row.points.iter().map(|point| (100.0 * point.ratio, y(&point.scores))))
            .collect(),
    };
    let plot = Plot {
        title: format!("Sensitivity of {}", report.model),
        x: match report.method {
            Method::Filters => "filters removed from one layer (%)",
            Method::Magnitude => "weights of one layer made zero (%)",
        },
        y: match report.metric {
            Metric::Top1 => "top-1 accuracy (%)",
            Metric::Agreement => "same top-1 class (%)",
            Metric::Mse => "mean squared error",
        },
        lines: report.layers.iter().map(line).collect(),
    };
    files::write(path, plot.svg().map_err(Error::Data)?.as_bytes())
}
