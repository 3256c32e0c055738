//! The tables of Han et al. 2015 and 2016 for MNIST, from nothing: trains LeNet-300-100 and LeNet-5, prunes and
//! compresses them by the recipes that come with optc, and prints what came out beside what the papers say. Then
//! draws the test error over the size for pruning alone, sharing alone, and both.
//!
//! ```sh
//! cargo run --release --example reproduce_mnist -- MNIST_FOLDER OUTPUT_FOLDER [seed]
//! ```
//!
//! A run that was stopped goes on where it was.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

use optc::architectures::{NewOptions, build};
use optc::train::{self, Event, History, Recipe, Run, TrainingData};
use optc::{CompileOptions, load};
use plotters::prelude::*;

/// What a recipe starts from, its name, and what the paper has: test error, weights that are not zero, and bytes.
type Row = (Option<&'static str>, &'static str, &'static str);

const ROWS: [Row; 8] = [
    (None, "lenet-300-100", "1.64 %, 267 K, 1,070 kB"),
    (Some("lenet-300-100"), "lenet-300-100-pruned", "1.59 %, 22 K"),
    (Some("lenet-300-100-pruned"), "lenet-300-100-deep", "1.58 %, 27 kB"),
    (Some("lenet-300-100"), "lenet-300-100-tiny", "-"),
    (None, "lenet-5", "0.80 %, 431 K, 1,720 kB"),
    (Some("lenet-5"), "lenet-5-pruned", "0.77 %, 36 K"),
    (Some("lenet-5-pruned"), "lenet-5-deep", "0.74 %, 44 kB"),
    (Some("lenet-5"), "lenet-5-tiny", "-"),
];

/// Sizes in kilobytes, and test errors in percent at these sizes.
type Curve = Vec<(f64, f64)>;

/// Shares of weights that are left, for the curves.
const DENSITIES: [f64; 6] = [0.3, 0.12, 0.08, 0.05, 0.03, 0.015];
/// Values a layer shares, for the curves.
const VALUES: [usize; 5] = [64, 16, 8, 4, 2];

struct Session {
    data: PathBuf,
    out: PathBuf,
    seed: u64,
}

impl Session {
    /// Runs a recipe on the result of another, or on a new model.
    fn run(&self, recipe: &Recipe, from: Option<&str>) -> Result<History, Box<dyn Error>> {
        let graph = match (from, &recipe.model) {
            (Some(from), _) => load(self.out.join(from).join(format!("{from}.onnx")))?,
            (None, Some(model)) => build(model, &NewOptions { seed: self.seed, ..NewOptions::default() })?,
            (None, None) => return Err(format!("recipe {} needs a model", recipe.name).into()),
        };
        let folder = self.out.join(&recipe.name);
        std::fs::create_dir_all(&folder)?;
        let backend = CompileOptions::default().backend();
        let listener = |event: &Event<'_>| {
            if let Event::Epoch(row) = event {
                say(&format!("{}: epoch {}, loss {:.4}, error {:.2} %", recipe.name, row.epoch, row.loss, row.error));
            }
        };
        let data = TrainingData::read(&self.data, None, &graph, recipe, self.seed)?;
        let run = Run { recipe, data, backend: &*backend, seed: self.seed, folder: &folder, listener: &listener };
        Ok(run.run(graph, false)?.history)
    }

    /// Kilobytes and error in percent of the last stage of a recipe given as text, from the dense reference.
    fn point(&self, name: &str, stages: &str) -> Result<(f64, f64), Box<dyn Error>> {
        let text = format!("about = \"a point of a curve\"\n[data]\nscale = \"1/255\"\n{stages}");
        let history = self.run(&train::parse(&text, name, name)?, Some("lenet-300-100"))?;
        let last = history.stages.last().ok_or("a recipe has stages")?;
        Ok((last.optc_bytes as f64 / 1000.0, last.error))
    }

    fn curves(&self) -> Result<[Curve; 3], Box<dyn Error>> {
        let prune = |density: f64| {
            format!(
                "[[stage]]\ndo = 'prune'\nsparsity = {}\nscope = 'global'\nepochs = 6\nlr = 1.5e-3\nshift = 1\n",
                1.0 - density
            )
        };
        let share = |k: usize| {
            format!(
                "[[stage]]\ndo = 'cluster'\nk = {k}\ninit = 'exact'\n\
                 [[stage]]\ndo = 'fine-tune'\nepochs = 1\nlr = 2e-4\nshift = 1\n"
            )
        };
        let mut pruned = Vec::new();
        let mut both = Vec::new();
        for density in DENSITIES {
            pruned.push(self.point(&format!("curve-pruned-{density}"), &prune(density))?);
            both.push(self.point(&format!("curve-both-{density}"), &(prune(density) + &share(16)))?);
        }
        let shared: Result<_, _> =
            VALUES.iter().map(|&k| self.point(&format!("curve-shared-{k}"), &share(k))).collect();
        Ok([pruned, shared?, both])
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(data), Some(out)) = (args.next(), args.next()) else {
        return Err("usage: reproduce_mnist MNIST_FOLDER OUTPUT_FOLDER [seed]".into());
    };
    let seed = args.next().map(|seed| seed.parse()).transpose()?.unwrap_or(0);
    let session = Session { data: data.into(), out: out.into(), seed };
    let mut table = format!("{:<22} {:>10} {:>10} {:>10}   the paper\n", "", "error", "not zero", ".optc");
    for (from, name, paper) in ROWS {
        let history = session.run(&train::find(name)?, from)?;
        let last = history.stages.last().ok_or("a recipe has stages")?;
        let kilobytes = last.optc_bytes as f64 / 1000.0;
        table += &format!("{name:<22} {:>8.2} % {:>10} {kilobytes:>7.2} kB   {paper}\n", last.error, last.nonzero);
    }
    draw(&session.out.join("error_over_size.svg"), &session.curves()?)?;
    Ok(std::io::stdout().write_all(table.as_bytes())?)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Error over size, the latter logarithmic.
fn draw(path: &Path, curves: &[Curve; 3]) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, (900, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("LeNet-300-100 on MNIST", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((4f64..1100f64).log_scale(), 1f64..6f64)?;
    chart.configure_mesh().x_desc("size of the .optc, kB").y_desc("test error, %").draw()?;
    for ((points, name), color) in curves.iter().zip(["pruned", "shared", "pruned and shared"]).zip([RED, BLUE, BLACK])
    {
        let mut points: Vec<(f64, f64)> = points.iter().map(|&(size, error)| (size, error.min(6.0))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart
            .draw_series(LineSeries::new(points.iter().copied(), &color).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    area.present()?;
    Ok(())
}
