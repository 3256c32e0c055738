//! `optc train`: trains and compresses a model by a recipe.

use std::cell::RefCell;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::args::{ExecArgs, OptimizeArgs, TalkArgs};
use super::session::{self, Talk};
use crate::architectures::{self, NewOptions};
use crate::error::Error;
use crate::report::table::{Align, Style, Table};
use crate::report::{bytes, count, percent, to_json};
use crate::train::{self, Event, History, RECIPES, Recipe, Run, StageRow, TrainingData};

/// Train.
#[derive(Debug, Args)]
#[command(
    long_about = "Train and compress a model by a recipe: stages one after the other, each of which trains \
(train, retrain, fine-tune), makes weights zero (prune, filter-prune), makes them share values (cluster), runs \
any passes (passes), or measures (evaluate). The folder of --output gets the model as .onnx and .optc, a history \
as JSON and as a curve, the best model so far, and a checkpoint after every epoch: a run that was stopped goes on \
from there when the same command is given again, and ends with the same weights.

A recipe is a TOML file:

  about = \"LeNet-5, a tenth of its weights, 5 bits each\"
  model = \"lenet-5\"          # built if no model is given; see optc new --list
  [data]
  scale = \"1/255\"            # and mean, std: what the model gets is (x·scale − mean) / std
  [[stage]]
  do = \"train\"               # all weights
  epochs = 8
  lr = 1e-3                  # optimizer, schedule, batch, l1, l2, dropout, shift, flip, …
  [[stage]]
  do = \"prune\"               # the smallest become zero, a little at a time, while the rest is trained
  sparsity = 0.9             # or q = 1.5: below so many standard deviations
  scope = \"global\"
  epochs = 10
  [[stage]]
  do = \"cluster\"             # k-means in every layer
  bits = 5
  [[stage]]
  do = \"fine-tune\"           # trains the shared values
  epochs = 2
  [[stage]]
  do = \"passes\"              # a pipeline, as for -p
  passes = \"simplify,encode-weights\"

A data set is a folder as it is published (MNIST, CIFAR-10, CIFAR-100), a folder of pictures in subfolders by \
class, or an .npz with labels. Where it has no part to test on, a tenth is held back.",
    after_help = "Examples:\n  optc train --data mnist --recipe lenet-5 -o dense\n  \
optc train dense/lenet-5.onnx --data mnist --recipe lenet-5-tiny -o tiny\n  \
optc train --recipe list                       the recipes that come with optc\n  \
optc train --recipe lenet-5-tiny --show        the text of one, to start from"
)]
pub struct TrainArgs {
    /// The model: .onnx, .optc or .ir [default: the recipe's architecture, with random weights]
    pub model: Option<PathBuf>,
    /// What to train on: a folder or an .npz
    #[arg(long, value_name = "FILE|DIR")]
    pub data: Option<PathBuf>,
    /// What to test on, if it is apart
    #[arg(long, value_name = "FILE|DIR")]
    pub test: Option<PathBuf>,
    /// A file, the name of a recipe that comes with optc, or `list`
    #[arg(long, value_name = "FILE|NAME")]
    pub recipe: String,
    /// Print the recipe and do nothing
    #[arg(long)]
    pub show: bool,
    /// The folder to write to [default: the name of the recipe]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Where everything random starts from; the same seed gives the same weights [default: the recipe's, 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Begin anew even if the folder has a checkpoint
    #[arg(long)]
    pub fresh: bool,
    /// How to run.
    #[command(flatten)]
    pub exec: ExecArgs,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    history: History,
    outputs: Vec<String>,
}

pub(super) fn train(args: &TrainArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    if args.recipe == "list" {
        return list(&talk);
    }
    if args.show {
        return show(&args.recipe);
    }
    let recipe = train::find(&args.recipe)?;
    let seed = args.seed.unwrap_or(recipe.seed);
    let graph = match (&args.model, &recipe.model) {
        (Some(path), _) => session::open(path, &args.exec.bind, &talk)?.0.graph,
        (None, Some(name)) => architectures::build(name, &NewOptions { seed, ..NewOptions::default() })?,
        (None, None) => {
            return Err(Error::Usage(format!("recipe {} starts from a trained model: give one", recipe.name)));
        }
    };
    let path = args.data.as_ref().ok_or_else(|| Error::Usage("data is needed: --data FILE|DIR".to_owned()))?;
    let data = TrainingData::read(path, args.test.as_deref(), &graph, &recipe, seed)?;
    let (train, test) = data.counts();
    talk.say(format_args!("{train} samples to train on, {test} to test on"));
    let folder = args.output.clone().unwrap_or_else(|| PathBuf::from(&recipe.name));
    std::fs::create_dir_all(&folder).map_err(|source| Error::file(&folder, source))?;
    let options = session::options(&args.exec, &OptimizeArgs { no_optimize: true, tune: false })?;
    let backend = options.backend();
    let watch = Watch::new(&recipe, talk);
    let listener = |event: &Event<'_>| watch.event(event);
    let run = Run { recipe: &recipe, data, backend: &*backend, seed, folder: &folder, listener: &listener };
    let outcome = run.run(graph, args.fresh);
    watch.bar.borrow().finish_and_clear();
    let outcome = outcome?;
    let outputs = outcome.files.iter().map(|path| path.display().to_string()).collect();
    let report = Report { history: outcome.history, outputs };
    let text = if talk.json { to_json(&report) } else { tables(&report, talk.style) };
    session::print(text.as_bytes())
}

fn tables(report: &Report, style: Style) -> String {
    let columns = [
        ("stage", Align::Left),
        ("test error", Align::Right),
        ("parameters", Align::Right),
        ("not zero", Align::Right),
        (".optc", Align::Right),
    ];
    let mut table = Table::new(style, &columns);
    for StageRow { name, error, params, nonzero, optc_bytes } in &report.history.stages {
        table.row([
            name.clone(),
            format!("{error:.2} %"),
            count(*params as u64),
            count(*nonzero as u64),
            bytes(*optc_bytes as u64),
        ]);
    }
    let wrote: String = report.outputs.iter().map(|path| format!("wrote {path}\n")).collect();
    format!("{}\n{wrote}", table.render())
}

/// Draws what happens on standard error: a bar on a terminal, a line an epoch in any case.
struct Watch {
    stages: usize,
    talk: Talk,
    bar: RefCell<ProgressBar>,
}

impl Watch {
    fn new(recipe: &Recipe, talk: Talk) -> Watch {
        Watch { stages: recipe.stages.len(), talk, bar: RefCell::new(ProgressBar::hidden()) }
    }

    fn event(&self, event: &Event<'_>) {
        let bar = self.bar.borrow().clone();
        let say = |text: String| bar.suspend(|| self.talk.say(text));
        match *event {
            Event::Resumed { stage, epoch } => {
                say(format!("going on from the checkpoint: stage {}, after epoch {epoch}", stage + 1));
            }
            Event::Begun { steps } => {
                let next = self.talk.progress(Some(steps as u64));
                let template = "{prefix} {wide_bar} {pos}/{len}  loss {msg}  {eta} left";
                next.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
                self.bar.replace(next);
            }
            Event::Stage { index, stage } => {
                bar.set_prefix(format!("{}/{} {}", index + 1, self.stages, stage.name));
            }
            Event::Step(loss) => {
                bar.set_message(format!("{loss:.4}"));
                bar.inc(1);
            }
            Event::Epoch(row) => say(format!(
                "epoch {:3}   loss {:.4}   test error {:5.2} %   zeros {}",
                row.epoch,
                row.loss,
                row.error,
                percent(row.sparsity)
            )),
            Event::Done(row) => {
                let (error, size) = (row.error, bytes(row.optc_bytes as u64));
                say(format!(
                    "{}: test error {error:.2} %, {} weights, .optc {size}",
                    row.name,
                    count(row.nonzero as u64)
                ));
            }
        }
    }
}

fn show(name: &str) -> Result<(), Error> {
    match RECIPES.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => session::print(text.as_bytes()),
        None => {
            train::find(name)?;
            session::print(&crate::files::read(std::path::Path::new(name))?)
        }
    }
}

fn list(talk: &Talk) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        about: String,
    }
    let row = |(name, _): &(&'static str, &str)| train::find(name).map(|recipe| Row { name, about: recipe.about });
    let rows: Vec<Row> = RECIPES.iter().map(row).collect::<Result<_, _>>()?;
    if talk.json {
        return session::print(to_json(&rows).as_bytes());
    }
    let mut table = Table::new(talk.style, &[("recipe", Align::Left), ("what it does", Align::Left)]);
    rows.iter().for_each(|row| table.row([row.name, &row.about]));
    session::print(table.render().as_bytes())
}
