//! The tables of Han et al. 2015 and 2016 for MNIST, from nothing: trains LeNet-300-100 and LeNet-5, prunes and
//! compresses them by the recipes that come with optc, and prints what came out beside what the papers say. Then
//! draws two of their figures: the test error over the size for pruning alone, sharing alone, and both; and the test
//! error over the weights that are left for L1 and L2, before and after retraining.
//!
//! ```sh
//! cargo run --release --example reproduce_mnist -- MNIST_FOLDER OUTPUT_FOLDER [seed]
//! ```
//!
//! A run that was stopped goes on where it was.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use optc::architectures::{NewOptions, build};
use optc::passes::Analysis;
use optc::passes::analysis::Cost;
use optc::train::{self, Event, History, Recipe, Run, TrainingData};
use optc::{CompileOptions, load};

mod curves;

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

    /// Test error in percent, weights that are not zero, and bytes of the file that a recipe wrote.
    fn measure(&self, recipe: &Recipe) -> Result<(f64, usize, u64), Box<dyn Error>> {
        let file = self.out.join(&recipe.name).join(format!("{}.optc", recipe.name));
        let graph = load(&file)?;
        let data = TrainingData::read(&self.data, None, &graph, recipe, self.seed)?;
        let error = data.error(&graph, &*CompileOptions::default().backend())?;
        Ok((error, Cost::of(&graph).total.nonzero, std::fs::metadata(&file)?.len()))
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
        let recipe = train::find(name)?;
        session.run(&recipe, from)?;
        let (error, nonzero, bytes) = session.measure(&recipe)?;
        let kilobytes = bytes as f64 / 1000.0;
        table += &format!("{name:<22} {error:>8.2} % {nonzero:>10} {kilobytes:>7.2} kB   {paper}\n");
    }
    curves::size(&session)?;
    curves::regularisation(&session)?;
    Ok(std::io::stdout().write_all(table.as_bytes())?)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
