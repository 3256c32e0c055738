//! The loop around a training step.

use std::sync::Arc;

use optc_ir::{Backend, Constant, DType, Data, Graph, Op, StepExecutable, Tensor};

use super::dropout;
use super::error::TrainError;
use super::loss::Loss;
use super::options::TrainOptions;
use super::parameter::{Parameter, untie};
use super::prepare::rebatch;
use super::step::{Role, TrainStep, differentiate};
use crate::data::Dataset;
use crate::rewrite::replace_by_constant;

/// A model in training: its step, compiled, with parameters and state inside.
pub struct Trainer<'a> {
    model: Graph,
    options: TrainOptions,
    backend: &'a dyn Backend,
    step: TrainStep,
    executable: Box<dyn StepExecutable>,
    /// Steps done.
    done: u64,
}

/// What one step learns from.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// A tensor an input of the model, in signature order.
    pub inputs: Vec<Tensor>,
    /// A tensor a loss that compares with one, in the order of the losses: labels as i64, or values.
    pub targets: Vec<Tensor>,
}

/// What one step reports.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLoss {
    /// The number of the step, from 1.
    pub step: u64,
    /// The weighted sum of the losses, on this batch and before the update; without regularizers.
    pub loss: f64,
    /// The losses one by one, without their weights.
    pub terms: Vec<f64>,
    /// The norm of all gradients together before they were clipped, if they are.
    pub gradient_norm: Option<f64>,
    /// The learning rate.
    pub learning_rate: f64,
}

/// How well a classifier does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Samples seen.
    pub samples: usize,
    /// Samples whose label has the highest score.
    pub correct: usize,
}

impl Evaluation {
    /// The share of correct answers; 0 without samples.
    pub fn accuracy(&self) -> f64 {
        if self.samples == 0 { 0.0 } else { self.correct as f64 / self.samples as f64 }
    }
}

/// Everything that training goes on from, as named tensors: parameters, their masks, optimizer state and running
/// statistics by the names of the step's inputs, and under [`TrainState::STEP`] and [`TrainState::SEED`] the
/// number of steps done and the seed, of which all random numbers are functions.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState(pub Vec<(String, Tensor)>);

impl TrainState {
    /// The name of the number of steps done, an i64 scalar.
    pub const STEP: &str = "train:step";
    /// The name of the seed, a u64 scalar.
    pub const SEED: &str = "train:seed";

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor)
    }
}

impl<'a> Trainer<'a> {
    /// Differentiates a model and compiles its step.
    ///
    /// # Errors
    /// As [`differentiate`], and if the backend can't compile the step.
    pub fn new(model: &Graph, options: &TrainOptions, backend: &'a dyn Backend) -> Result<Trainer<'a>, TrainError> {
        let mut model = model.clone();
        untie(&mut model);
        let step = differentiate(&model, options)?;
        let mut executable = backend.compile_step(step.graph.clone(), &step.residents)?;
        for (place, value) in &step.initial {
            executable.set(*place, value)?;
        }
        Ok(Trainer { model, options: options.clone(), backend, step, executable, done: 0 })
    }

    /// The step: its graph, its inputs.
    pub fn train_step(&self) -> &TrainStep {
        &self.step
    }

    /// The parameters that are trained.
    pub fn parameters(&self) -> &[Parameter] {
        &self.step.parameters
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.done
    }

    /// Samples a step takes.
    pub fn batch_size(&self) -> usize {
        self.options.batch
    }

    /// Learns from a batch.
    ///
    /// # Errors
    /// [`TrainError::Batch`] if the batch does not fit; [`TrainError::Diverged`] if the loss is no finite number,
    /// after an update that is then of no use; [`TrainError::Exec`] if the step fails.
    pub fn step(&mut self, batch: &Batch) -> Result<StepLoss, TrainError> {
        let rate = self.options.schedule.at(self.done);
        let inputs = self.inputs(batch, rate)?;
        let results = self.executable.run(&inputs)?;
        self.done += 1;
        let mut numbers = results.iter().map(|result| result.data().to_f64().first().copied().unwrap_or(f64::NAN));
        let loss = numbers.next().unwrap_or(f64::NAN);
        let terms: Vec<f64> = match self.step.losses {
            1 => vec![loss / f64::from(self.options.losses[0].weight)],
            count => numbers.by_ref().take(count - 1).collect(),
        };
        let gradient_norm = numbers.next();
        if !loss.is_finite() {
            return Err(TrainError::Diverged { step: self.done, loss });
        }
        Ok(StepLoss { step: self.done, loss, terms, gradient_norm, learning_rate: rate })
    }

    /// The inputs of the next step that are not resident, in signature order.
    fn inputs(&self, batch: &Batch, rate: f64) -> Result<Vec<Tensor>, TrainError> {
        let missing = |name: &str| TrainError::Batch(format!("the batch has no tensor for {name}"));
        let mut targets = batch.targets.iter();
        let mut inputs = Vec::new();
        for (place, input) in self.step.inputs.iter().enumerate() {
            let scalar = |x: f64| {
                let dtype = self.step.graph.ty(self.step.graph.inputs()[place]).dtype().unwrap_or(DType::F32);
                Tensor::new([], Data::from_f64(dtype, [x]))
            };
            inputs.push(match input.role {
                Role::Data(i) => batch.inputs.get(i).ok_or_else(|| missing(&input.name))?.clone(),
                Role::Target(_) => targets.next().ok_or_else(|| missing(&input.name))?.clone(),
                Role::Dropout(i) => {
                    let (ty, drop_rate) = &self.step.dropout[i];
                    dropout::mask(ty, *drop_rate, self.options.seed, i as u64, self.done)
                }
                Role::Rate => scalar(rate),
                Role::Correction(k) => {
                    let beta = self.options.optimizer.betas().map_or(0.0, |betas| betas[k]);
                    // Powers beyond i32 are zero in any case.
                    let power = beta.powi(i32::try_from(self.done + 1).unwrap_or(i32::MAX));
                    scalar(1.0 / (1.0 - power))
                }
                Role::Parameter(_) | Role::State(_) | Role::Mask(_) | Role::Statistic => continue,
            });
        }
        if batch.inputs.len() != self.model.inputs().len() || targets.next().is_some() {
            let (inputs, targets) = (batch.inputs.len(), batch.targets.len());
            return Err(TrainError::Batch(format!("{inputs} inputs and {targets} targets are not what a step takes")));
        }
        Ok(inputs)
    }

    /// The batch of these samples of a dataset, for losses that compare with its labels.
    ///
    /// # Errors
    /// [`TrainError::Batch`] if there are no labels but a loss needs them, or a loss needs other targets.
    pub fn batch(&self, data: &dyn Dataset, samples: &[usize]) -> Result<Batch, TrainError> {
        let inputs = data.select(samples)?;
        let mut targets = Vec::new();
        for term in &self.options.losses {
            match term.loss {
                Loss::Distill { .. } => {}
                Loss::SquaredError => {
                    return Err(TrainError::Batch("labels are no targets of a squared error".to_owned()));
                }
                Loss::CrossEntropy { .. } | Loss::SquareHinge => {
                    let labels = data.labels().ok_or_else(|| TrainError::Batch("the data has no labels".to_owned()))?;
                    let of = |&sample: &usize| labels.get(sample).map(|&label| i64::from(label));
                    let chosen: Option<Vec<i64>> = samples.iter().map(of).collect();
                    let chosen = chosen.ok_or_else(|| TrainError::Batch("a sample has no label".to_owned()))?;
                    targets.push(Tensor::i64([chosen.len()], chosen));
                }
            }
        }
        Ok(Batch { inputs, targets })
    }

    /// The model with its trained values as constants.
    ///
    /// # Errors
    /// If the backend can't give a value back.
    pub fn graph(&self) -> Result<Graph, TrainError> {
        let mut graph = self.model.clone();
        for (place, input) in self.step.inputs.iter().enumerate() {
            if let Role::Parameter(i) = input.role {
                let parameter = &self.step.parameters[i];
                let shape = graph.constant(parameter.node).map_or(Vec::new(), |constant| constant.shape().to_vec());
                let value = parameter.constant(&shape, self.executable.get(place)?);
                graph.set_op(parameter.node, Op::Const(Arc::new(Constant::dense(value))));
            }
        }
        for &(node, place) in &self.step.statistics {
            replace_by_constant(&mut graph, node.into(), self.executable.get(place)?);
        }
        Ok(graph)
    }

    /// Everything training goes on from.
    ///
    /// # Errors
    /// If the backend can't give a value back.
    pub fn state(&self) -> Result<TrainState, TrainError> {
        let mut tensors = Vec::with_capacity(self.step.residents.len() + 2);
        for resident in &self.step.residents {
            let name = self.step.inputs[resident.input].name.clone();
            tensors.push((name, self.executable.get(resident.input)?));
        }
        let done = i64::try_from(self.done).unwrap_or(i64::MAX);
        tensors.push((TrainState::STEP.to_owned(), Tensor::i64([], [done])));
        tensors.push((TrainState::SEED.to_owned(), Tensor::new([], Data::U64(vec![self.options.seed]))));
        Ok(TrainState(tensors))
    }

    /// Goes on from a state of the same model and options.
    ///
    /// # Errors
    /// [`TrainError::State`] if a tensor is missing or of another type; nothing is changed then.
    pub fn restore(&mut self, state: &TrainState) -> Result<(), TrainError> {
        let number = |name: &str| {
            let tensor = state.get(name).filter(|tensor| tensor.len() == 1);
            tensor.and_then(|tensor| tensor.data().to_i64()).and_then(|v| v.first().copied())
        };
        let missing = |name: &str| TrainError::State(format!("there is no {name}"));
        let done = number(TrainState::STEP).ok_or_else(|| missing(TrainState::STEP))?;
        let seed = number(TrainState::SEED).ok_or_else(|| missing(TrainState::SEED))?;
        let mut values = Vec::with_capacity(self.step.residents.len());
        for resident in &self.step.residents {
            let input = &self.step.inputs[resident.input];
            let value = state.get(&input.name).ok_or_else(|| missing(&input.name))?;
            let ty = self.step.graph.ty(self.step.graph.inputs()[resident.input]);
            if optc_ir::Type::from(value.ty()) != *ty {
                let got = value.ty();
                return Err(TrainError::State(format!("{} is {got}, but the model has {ty}", input.name)));
            }
            values.push((resident.input, value));
        }
        let done = u64::try_from(done).map_err(|_| TrainError::State(format!("{done} steps were done")))?;
        for (place, value) in values {
            self.executable.set(place, value)?;
        }
        self.done = done;
        // The bits of a seed, whatever its sign came out as.
        self.options.seed = seed as u64;
        Ok(())
    }

    /// Replaces the values of a parameter that keeps its zeros, and makes its zeros those of the new values:
    /// pruning during training. What the optimizer keeps of elements that become zero is forgotten.
    ///
    /// # Errors
    /// [`TrainError::Options`] if there is no such parameter, it keeps no zeros, or its values are shared;
    /// [`TrainError::Exec`] if the values are not of its type.
    pub fn set_parameter(&mut self, name: &str, value: &Tensor) -> Result<(), TrainError> {
        let wrong = |what: &str| TrainError::Options(format!("parameter {name} {what}"));
        let at = self.step.parameters.iter().position(|parameter| parameter.name == name);
        let at = at.ok_or_else(|| wrong("is not trained"))?;
        let parameter = &self.step.parameters[at];
        if parameter.clusters.is_some() {
            return Err(wrong("has shared values"));
        }
        let mask = parameter.mask(value, self.options.keep).ok_or_else(|| wrong("keeps no zeros"))?;
        let place = |role: Role| self.step.inputs.iter().position(|input| input.role == role);
        let (own, masked) = (place(Role::Parameter(at)), place(Role::Mask(at)));
        let (Some(own), Some(masked)) = (own, masked) else { return Err(wrong("keeps no zeros")) };
        self.executable.set(own, value)?;
        self.executable.set(masked, &mask)?;
        for (place, input) in self.step.inputs.iter().enumerate() {
            if input.role == Role::State(at) {
                let old = self.executable.get(place)?;
                let kept = old.data().to_f64().into_iter().zip(mask.data().to_f64()).map(|(old, mask)| old * mask);
                let kept = Tensor::new(old.shape(), Data::from_f64(old.dtype(), kept));
                self.executable.set(place, &kept)?;
            }
        }
        Ok(())
    }

    /// Measures the model as it is now on labelled data, its batch normalisations by their running statistics.
    ///
    /// # Errors
    /// [`TrainError::Batch`] if the data has no labels; [`TrainError::Exec`] if the model can't be run.
    pub fn evaluate(&self, data: &dyn Dataset) -> Result<Evaluation, TrainError> {
        let labels = data.labels().ok_or_else(|| TrainError::Batch("the data has no labels".to_owned()))?;
        let mut graph = self.graph()?;
        // A model made for single samples is measured in batches, if it can be.
        let mut wide = graph.clone();
        if data.len() >= self.options.batch && rebatch(&mut wide, self.options.batch).is_ok() {
            graph = wide;
        }
        let fixed = graph.fixed_batch();
        let batch = fixed.unwrap_or(self.options.batch);
        if batch == 0 || fixed.is_some_and(|n| n > data.len()) {
            return Err(TrainError::Batch(format!("{} samples do not fill a batch of {batch}", data.len())));
        }
        let mut executable = self.backend.compile_owned(graph)?;
        let (mut samples, mut correct) = (0, 0);
        while samples < data.len() {
            // A model of a fixed batch sees some samples of its last batch again, which are not counted again.
            let end = (samples + batch).min(data.len());
            let start = if fixed.is_some() { end - batch } else { samples };
            let results = executable.run(&data.batch(start..end)?)?;
            let Some(scores) = results.first() else {
                return Err(TrainError::Batch("the model has no result".to_owned()));
            };
            let rows = scores.shape().first().copied().unwrap_or(0);
            if rows != end - start || scores.is_empty() {
                return Err(TrainError::Batch(format!("scores of shape {:?} for {batch} samples", scores.shape())));
            }
            let scores = scores.data().to_f64();
            for (row, sample) in scores.chunks_exact(scores.len() / rows).zip(start..end).skip(samples - start) {
                let best = (0..row.len()).reduce(|best, k| if row[k] > row[best] { k } else { best });
                correct += usize::from(best == labels.get(sample).and_then(|&label| usize::try_from(label).ok()));
            }
            samples = end;
        }
        Ok(Evaluation { samples, correct })
    }
}
