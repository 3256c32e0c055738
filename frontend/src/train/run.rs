//! Runs the stages of a recipe, from the beginning or from the last checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use optc_ir::{Backend, Constant, Graph, Op, Tensor};
use optc_passes::analysis::Cost;
use optc_passes::train::{self as training, Trainer};
use optc_passes::{Analysis, PassManager, pipeline};

use super::checkpoint::{Checkpoint, Position};
use super::engine;
use super::history::{EpochRow, History, StageRow};
use super::recipe::{Constraint, Prune, Ramp, Recipe, Stage, Training, Work};
use crate::data::{Augment, Epoch, LabelledSet, Samples, Scaling};
use crate::error::Error;
use crate::files::{self, Format};
use crate::measure::Accuracy;
use crate::{model, pack};

/// What a run needs besides the model.
pub struct Run<'a> {
    /// What to do.
    pub recipe: &'a Recipe,
    /// Samples, and which of them are for what.
    pub data: TrainingData,
    /// Runs graphs.
    pub backend: &'a dyn Backend,
    /// Where everything random starts from.
    pub seed: u64,
    /// Where checkpoints and results go.
    pub folder: &'a Path,
    /// Told what happens.
    pub listener: &'a dyn Fn(&Event<'_>),
}

/// What happens in a run.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A checkpoint is gone on from.
    Resumed {
        /// The stage, from 0.
        stage: usize,
        /// Epochs of it that are done.
        epoch: usize,
    },
    /// So many steps of training are to be done, those of all stages.
    Begun {
        /// Steps.
        steps: usize,
    },
    /// A stage begins.
    Stage {
        /// The stage, from 0.
        index: usize,
        /// The stage.
        stage: &'a Stage,
    },
    /// A step of training is done, with this loss.
    Step(f64),
    /// An epoch is done.
    Epoch(&'a EpochRow),
    /// A stage is done.
    Done(&'a StageRow),
}

/// Samples to train on and to test on.
#[derive(Debug)]
pub struct TrainingData {
    train: LabelledSet,
    samples: Vec<usize>,
    /// The other part, if the data has one.
    test: Option<LabelledSet>,
    held: Vec<usize>,
    scaling: Scaling,
}

impl TrainingData {
    /// Reads the parts of a data set. Without a part to test on, some samples are held back.
    ///
    /// # Errors
    /// [`Error::Data`] if a part can't be read or does not fit the model.
    pub fn read(
        path: &Path,
        test: Option<&Path>,
        graph: &Graph,
        recipe: &Recipe,
        seed: u64,
    ) -> Result<TrainingData, Error> {
        let spec = &recipe.data;
        let scaling = Scaling { scale: spec.scale.0, mean: spec.mean.clone(), std: spec.std.clone() };
        let (train, found) = crate::data::locate(path)?;
        let test = match test {
            Some(path) => {
                let (first, second) = crate::data::locate(path)?;
                Some(second.unwrap_or(first))
            }
            None => found,
        };
        let train = LabelledSet::read(&train, graph, &scaling)?;
        let test = test.map(|part| LabelledSet::read(&part, graph, &scaling)).transpose()?;
        let (samples, held) = match &test {
            Some(test) => ((0..train.len()).collect(), (0..test.len()).collect()),
            None => {
                let held = train.split(spec.holdout, seed)?;
                (held.train, held.test)
            }
        };
        Ok(TrainingData { train, samples, test, held, scaling })
    }

    /// How many samples there are to train on, and to test on.
    pub fn counts(&self) -> (usize, usize) {
        (self.samples.len(), self.held.len())
    }

    /// The test error of a model in percent.
    ///
    /// # Errors
    /// If the model can't be run, or its first result is no score a class.
    pub fn error(&self, graph: &Graph, backend: &dyn Backend) -> Result<f64, Error> {
        let set = self.test.as_ref().unwrap_or(&self.train);
        let fixed = graph.fixed_batch();
        let batch = fixed.unwrap_or(TEST_BATCH).max(1);
        let mut executable = backend.compile(graph)?;
        let mut total = Accuracy::default();
        for indices in self.held.chunks(batch) {
            let labels: Vec<u32> = indices.iter().map(|&i| set.labels()[i]).collect();
            // A model of a fixed batch sees the last sample again until the batch is full.
            let mut filled = indices.to_vec();
            filled.resize(fixed.unwrap_or(indices.len()), *indices.last().expect("a chunk is not empty"));
            let results = executable.run(&set.pick(&filled)?)?;
            let scores = results.first().ok_or_else(|| Error::Usage("the model has no outputs".to_owned()))?;
            total.add(scores, &labels).map_err(Error::Data)?;
        }
        Ok(100.0 * (total.count - total.top1) as f64 / total.count.max(1) as f64)
    }
}

/// Samples run at once to test.
const TEST_BATCH: usize = 200;

/// The file of the checkpoint.
pub const CHECKPOINT: &str = "last.npz";

/// What a run made.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub history: History,
    /// The model, every constant in its smallest encoding.
    pub graph: Graph,
    /// The files written.
    pub files: Vec<PathBuf>,
}

impl Run<'_> {
    /// Does what the recipe says to a model, and writes `NAME.onnx`, `NAME.optc`, `history.json` and
    /// `history.svg` to the folder.
    ///
    /// # Errors
    /// [`Error`]; the last checkpoint is still there.
    pub fn run(&self, mut graph: Graph, fresh: bool) -> Result<Outcome, Error> {
        let identity = self.identity(&graph)?;
        self.data.scaling.record(&mut graph)?;
        let teacher = graph.clone();
        let path = self.folder.join(CHECKPOINT);
        let found = if fresh { None } else { Checkpoint::read(&path)? };
        if let Some(other) = found.as_ref().filter(|found| found.position.run != identity) {
            let (recipe, seed) = (&other.position.history.recipe, other.position.history.seed);
            return Err(Error::Usage(format!(
                "{}: is of another run (recipe {recipe}, seed {seed}) or another model; give another folder, or --fresh",
                path.display()
            )));
        }
        let mut checkpoint = match found {
            Some(found) => {
                let Position { stage, epoch, .. } = found.position;
                (self.listener)(&Event::Resumed { stage, epoch });
                found
            }
            None => Checkpoint {
                position: Position {
                    run: identity,
                    stage: 0,
                    epoch: 0,
                    original: engine::connections(&graph),
                    best: None,
                    history: History { recipe: self.recipe.name.clone(), seed: self.seed, ..History::default() },
                },
                graph,
                state: None,
            },
        };
        (self.listener)(&Event::Begun { steps: self.steps_left(&checkpoint.position)? });
        for (index, stage) in self.recipe.stages.iter().enumerate().skip(checkpoint.position.stage) {
            self.stage(index, stage, &teacher, &mut checkpoint).map_err(|error| self.at(stage, error))?;
            checkpoint.position.stage = index + 1;
            (checkpoint.position.epoch, checkpoint.position.best, checkpoint.state) = (0, None, None);
            checkpoint.write(&path)?;
        }
        self.finish(checkpoint)
    }

    /// What tells a run from others: the recipe, the seed and the model.
    fn identity(&self, graph: &Graph) -> Result<String, Error> {
        let bytes = model::to_bytes(graph, Format::Ir)?;
        let hash = xxhash_rust::xxh3::xxh3_64(&[format!("{:?}", self.recipe).as_bytes(), &bytes].concat());
        Ok(format!("{} {} {hash:016x}", self.recipe.name, self.seed))
    }

    /// An error with the stage it happened in.
    fn at(&self, stage: &Stage, error: Error) -> Error {
        match error {
            Error::Usage(message) => {
                Error::Usage(format!("recipe {}, line {}: {}: {message}", self.recipe.name, stage.line, stage.name))
            }
            other => other,
        }
    }

    fn stage(&self, index: usize, stage: &Stage, teacher: &Graph, checkpoint: &mut Checkpoint) -> Result<(), Error> {
        (self.listener)(&Event::Stage { index, stage });
        match &stage.work {
            Work::Train(constraint, training) => self.train(index, training, *constraint, None, teacher, checkpoint)?,
            Work::Prune(prune, training) => {
                self.train(index, training, Constraint::Zeros, Some(prune), teacher, checkpoint)?;
            }
            Work::Cluster(cluster) => self.passes(&cluster.pipeline(), &mut checkpoint.graph)?,
            Work::FilterPrune(prune) => self.passes(&prune.pipeline(), &mut checkpoint.graph)?,
            Work::Passes(text) => self.passes(text, &mut checkpoint.graph)?,
            Work::Evaluate(_) => {}
        }
        let row = self.measure(&stage.name, &checkpoint.graph)?;
        (self.listener)(&Event::Done(&row));
        if let Work::Evaluate(evaluate) = &stage.work
            && let Some(limit) = evaluate.max_error.filter(|&limit| row.error > limit)
        {
            return Err(Error::Usage(format!("the test error is {:.2} %, above the limit of {limit} %", row.error)));
        }
        checkpoint.position.history.stages.push(row);
        Ok(())
    }

    fn measure(&self, name: &str, graph: &Graph) -> Result<StageRow, Error> {
        let total = Cost::of(graph).total;
        let mut encoded = graph.clone();
        self.passes("simplify,encode-weights", &mut encoded)?;
        Ok(StageRow {
            name: name.to_owned(),
            error: self.data.error(graph, self.backend)?,
            params: total.params,
            nonzero: total.nonzero,
            optc_bytes: pack::write(&encoded, &pack::PackOptions::default())?.0.len(),
        })
    }

    fn passes(&self, text: &str, graph: &mut Graph) -> Result<(), Error> {
        let mut manager = PassManager::new(self.backend);
        manager.seed = self.seed;
        manager.run(&pipeline::parse(text)?, graph)?;
        Ok(())
    }

    /// Steps of training from a position to the end.
    fn steps_left(&self, position: &Position) -> Result<usize, Error> {
        let mut steps = 0;
        for (index, stage) in self.recipe.stages.iter().enumerate().skip(position.stage) {
            if let Work::Train(_, training) | Work::Prune(_, training) = &stage.work {
                let done = if index == position.stage { position.epoch } else { 0 };
                let an_epoch = self.steps_an_epoch(training).map_err(|error| self.at(stage, error))?;
                steps += training.epochs.saturating_sub(done) * an_epoch;
            }
        }
        Ok(steps)
    }

    fn steps_an_epoch(&self, training: &Training) -> Result<usize, Error> {
        match self.data.samples.len() / training.batch {
            0 => Err(Error::Usage(format!(
                "batch = {}: there are {} samples to train on",
                training.batch,
                self.data.samples.len()
            ))),
            steps => Ok(steps),
        }
    }

    /// Trains from the checkpoint to the end of the stage, and leaves the trained model in it.
    fn train(
        &self,
        index: usize,
        training: &Training,
        constraint: Constraint,
        prune: Option<&Prune>,
        teacher: &Graph,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), Error> {
        let steps = self.steps_an_epoch(training)?;
        // Stages differ in what is random, even if they are written alike.
        let seed = self.seed.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let original = &checkpoint.position.original;
        let options = engine::options(training, constraint, &checkpoint.graph, original, teacher, steps as u64, seed)?;
        let mut trainer = Trainer::new(&checkpoint.graph, &options, self.backend)?;
        if let Some(state) = &checkpoint.state {
            trainer.restore(state)?;
        }
        let total = steps * training.epochs;
        let border = Samples::zero(&self.data.scaling);
        let from = sparsity(&checkpoint.graph);
        for number in checkpoint.position.epoch..training.epochs {
            let epoch = Epoch {
                samples: &self.data.samples,
                batch: training.batch,
                augment: Augment { shift: training.shift, flip: training.flip },
                border: &border,
                seed,
                number: number as u64,
            };
            let mut sum = 0.0;
            epoch.for_each(&self.data.train, 0, |step, batch| {
                let due = prune.and_then(|prune| Some((prune, due(prune, number * steps + step, steps, total)?)));
                if let Some((prune, t)) = due {
                    self.prune(&prune.pipeline(t, from), &mut trainer)?;
                }
                let labels: Vec<i64> = batch.labels.iter().map(|&label| label.into()).collect();
                // Of nothing but distances from a teacher, a step takes no labels.
                let targets =
                    if training.distill < 1.0 { vec![Tensor::i64([labels.len()], labels)] } else { Vec::new() };
                let loss = trainer.step(&training::Batch { inputs: batch.inputs, targets })?.loss;
                sum += loss;
                (self.listener)(&Event::Step(loss));
                Ok(())
            })?;
            let graph = trainer.graph()?;
            let cost = Cost::of(&graph).total;
            let row = EpochRow {
                stage: index,
                epoch: number + 1,
                loss: sum / steps as f64,
                error: self.data.error(&graph, self.backend)?,
                sparsity: 1.0 - cost.nonzero as f64 / cost.params.max(1) as f64,
            };
            (self.listener)(&Event::Epoch(&row));
            let ramped = prune.is_none_or(|prune| (number + 1) as f64 >= prune.over * training.epochs as f64);
            if ramped && checkpoint.position.best.is_none_or(|best| row.error < best) {
                checkpoint.position.best = Some(row.error);
                files::write(&self.folder.join("best.onnx"), &model::to_bytes(&graph, Format::Onnx)?)?;
            }
            checkpoint.position.history.epochs.push(row);
            checkpoint.position.epoch = number + 1;
            checkpoint.state = Some(trainer.state()?);
            checkpoint.write(&self.folder.join(CHECKPOINT))?;
            self.write_history(&checkpoint.position.history)?;
        }
        checkpoint.graph = trainer.graph()?;
        Ok(())
    }

    /// Makes more weights zero.
    fn prune(&self, passes: &str, trainer: &mut Trainer<'_>) -> Result<(), Error> {
        let mut graph = trainer.graph()?;
        let before = graph.clone();
        self.passes(passes, &mut graph)?;
        for node in before.nodes() {
            let (Some(old), Some(new)) = (before.constant(node), constant_named(&graph, before.name(node))) else {
                continue;
            };
            if old != new {
                trainer.set_parameter(before.name(node), &new.decode())?;
            }
        }
        Ok(())
    }

    fn write_history(&self, history: &History) -> Result<(), Error> {
        files::write(&self.folder.join("history.json"), crate::report::to_json(history).as_bytes())?;
        files::write(&self.folder.join("history.svg"), history.svg()?.as_bytes())
    }

    fn finish(&self, checkpoint: Checkpoint) -> Result<Outcome, Error> {
        let mut graph = checkpoint.graph;
        self.passes("encode-weights", &mut graph)?;
        let history = checkpoint.position.history;
        self.write_history(&history)?;
        let stem = self.folder.join(&self.recipe.name);
        let mut written = Vec::new();
        for format in [Format::Onnx, Format::Optc] {
            let path = PathBuf::from(format!("{}.{}", stem.display(), format.suffix()));
            files::write(&path, &model::to_bytes(&graph, format)?)?;
            written.push(path);
        }
        Ok(Outcome { history, graph, files: written })
    }
}

/// How far a ramp is at a step, from 0 to 1, if weights become zero at it.
fn due(prune: &Prune, step: usize, steps_an_epoch: usize, total: usize) -> Option<f64> {
    if prune.ramp == Ramp::OneShot {
        return (step == 0).then_some(1.0);
    }
    let every = (steps_an_epoch / prune.rate).max(1);
    let ramp = (prune.over * total as f64) as usize;
    let last = (ramp / every * every).max(1).min(total - 1);
    match step {
        _ if step == last => Some(1.0),
        _ if step > 0 && step < last && step.is_multiple_of(every) => Some(step as f64 / ramp as f64),
        _ => None,
    }
}

/// The share of weights, biases not counted, that are zero.
fn sparsity(graph: &Graph) -> f64 {
    let weights = graph.nodes().filter_map(|node| graph.constant(node));
    let weights = weights.filter(|c| c.dtype().is_float() && c.shape().len() > 1);
    let (mut zeros, mut all) = (0, 0);
    for constant in weights {
        all += constant.len();
        zeros += constant.len() - constant.nonzeros();
    }
    zeros as f64 / all.max(1) as f64
}

fn constant_named<'g>(graph: &'g Graph, name: &str) -> Option<&'g Arc<Constant>> {
    let node = graph.nodes().find(|&node| graph.name(node) == name && matches!(graph.op(node), Op::Const(_)))?;
    graph.constant(node)
}
