//! One training step as a graph.

use optc_ir::op::{BatchNormTrain, Return};
use optc_ir::{Graph, Interp, NodeId, Op, Resident, Tensor, TensorType, ValueId, verify};

use super::autodiff::gradients;
use super::constraint::{Form, constrain};
use super::emit::Emit;
use super::error::TrainError;
use super::loss::{Loss, Wanted};
use super::optimizer::Scalars;
use super::options::{BatchNormMode, TrainOptions};
use super::parameter::{Parameter, parameters, untie};
use super::prepare::{bind, fold_shapes, graft, separate_activations, value_of};
use super::regularize::{Regularizer, group_gradient, group_proximal, l1_gradient, l1_proximal, l2_gradient};
use crate::pass::{Pass, PassCx};
use crate::pipeline::{MAX_ROUNDS, simplify};

/// A graph that computes one step of training.
///
/// Its results are `loss`, the weighted sum of the losses; the losses one by one, `loss.0`, `loss.1`, …, if there
/// are several; `gradient_norm` if gradients are clipped; and then the next value of each input that changes,
/// `name.next`.
#[derive(Clone, Debug)]
pub struct TrainStep {
    /// The graph.
    pub graph: Graph,
    /// What each of its inputs is, in signature order.
    pub inputs: Vec<StepInput>,
    /// The inputs that stay inside from step to step: parameters, state, running statistics, masks.
    pub residents: Vec<Resident>,
    /// What residents start from, by place in the signature.
    pub initial: Vec<(usize, Tensor)>,
    /// The parameters, those with [`Role::Parameter`] of their index.
    pub parameters: Vec<Parameter>,
    /// Type and rate of every place that drops, those with [`Role::Dropout`] of their index.
    pub dropout: Vec<(TensorType, f32)>,
    /// The number of results that are losses.
    pub losses: usize,
    /// The constants of the model that running statistics come from, and the inputs that hold them.
    pub(super) statistics: Vec<(NodeId, usize)>,
}

/// An input of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepInput {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
}

/// What an input of a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An input of the model, by its place there.
    Data(usize),
    /// What a loss compares with, by its place among the losses.
    Target(usize),
    /// A parameter.
    Parameter(usize),
    /// What the optimizer keeps of a parameter.
    State(usize),
    /// The mask of a parameter: 0 where it stays zero.
    Mask(usize),
    /// A running statistic of a batch normalisation.
    Statistic,
    /// The factors of a place that drops.
    Dropout(usize),
    /// The learning rate.
    Rate,
    /// `1/(1 − βᵗ)` of the first or second β of the optimizer.
    Correction(usize),
}

/// The graph of one training step of a model.
///
/// The order of inputs is: those of the model, parameters (each followed by its mask, if it has one), running
/// statistics, dropout, targets, learning rate, corrections, optimizer state.
///
/// # Errors
/// [`TrainError`] if the options do not fit the model, or naming the node that has no gradient.
pub fn differentiate(model: &Graph, options: &TrainOptions) -> Result<TrainStep, TrainError> {
    options.check()?;
    let mut model = model.clone();
    untie(&mut model);
    options.check_selectors(&model)?;
    let mut builder = Builder::new(&model, options)?;
    builder.add_parameters()?;
    fold_shapes(&mut builder.graph)?;
    separate_activations(&mut builder.graph)?;
    builder.normalize_by_batch()?;
    builder.add_dropout()?;
    let loss = builder.add_losses()?;
    builder.add_updates(loss)?;
    builder.finish()
}

impl TrainOptions {
    /// # Errors
    /// [`TrainError::Options`] for numbers out of range.
    fn check(&self) -> Result<(), TrainError> {
        let wrong = |message: &str| Err(TrainError::Options(message.to_owned()));
        if self.batch == 0 {
            return wrong("the batch is empty");
        }
        if self.losses.is_empty() {
            return wrong("there is no loss");
        }
        if self.dropout.iter().any(|rule| !(0.0..1.0).contains(&rule.rate)) {
            return wrong("a dropout rate must be at least 0 and less than 1");
        }
        if self.clip_norm.is_some_and(|norm| norm.is_nan() || norm <= 0.0) {
            return wrong("the largest norm of gradients must be positive");
        }
        if self.losses.iter().any(|term| !term.weight.is_finite() || term.weight == 0.0) {
            return wrong("the weight of a loss must be a number other than 0");
        }
        for term in &self.losses {
            match term.loss {
                Loss::Distill { temperature } if temperature.is_nan() || temperature <= 0.0 => {
                    return wrong("a temperature must be positive");
                }
                Loss::Distill { .. } if self.teacher.is_none() => return wrong("distillation needs a teacher"),
                Loss::CrossEntropy { smoothing } if !(0.0..1.0).contains(&smoothing) => {
                    return wrong("label smoothing must be at least 0 and less than 1");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// # Errors
    /// [`TrainError::Options`] for names that nothing in the model has: most likely typing errors.
    fn check_selectors(&self, model: &Graph) -> Result<(), TrainError> {
        let lassos = self.group_lasso.iter().map(|lasso| &lasso.regularizer);
        let regularizers = self.weight_decay.iter().chain(&self.l1).chain(lassos);
        let selectors = (self.dropout.iter().map(|rule| &rule.before))
            .chain(self.rates.iter().map(|(selector, _)| selector))
            .chain(regularizers.filter_map(|regularizer| regularizer.on.as_ref()));
        let unmatched: Vec<&str> = selectors.flat_map(|selector| selector.unmatched(model)).collect();
        if unmatched.is_empty() {
            return Ok(());
        }
        Err(TrainError::Options(format!("no node matches {}", unmatched.join(", "))))
    }
}

/// A step graph under construction.
struct Builder<'a> {
    model: &'a Graph,
    options: &'a TrainOptions,
    graph: Graph,
    inputs: Vec<StepInput>,
    residents: Vec<Resident>,
    initial: Vec<(usize, Tensor)>,
    parameters: Vec<Parameter>,
    /// By parameter: what is trained, its mask, and what layers read.
    trained: Vec<Trained>,
    dropout: Vec<(TensorType, f32)>,
    statistics: Vec<(NodeId, usize)>,
    /// Results to be: values that are reported, and the next values of residents.
    reported: Vec<(String, ValueId)>,
    next: Vec<(usize, ValueId)>,
}

struct Trained {
    value: ValueId,
    mask: Option<ValueId>,
    read: ValueId,
}

impl<'a> Builder<'a> {
    fn new(model: &'a Graph, options: &'a TrainOptions) -> Result<Builder<'a>, TrainError> {
        let mut graph = model.clone();
        graph.origin = None;
        graph.name = format!("{}.train", model.name);
        bind(&mut graph, options)?;
        let input = |(i, &node)| StepInput { name: graph.name(node).to_owned(), role: Role::Data(i) };
        let inputs = graph.inputs().iter().enumerate().map(input).collect();
        Ok(Builder {
            model,
            options,
            graph,
            inputs,
            residents: Vec::new(),
            initial: Vec::new(),
            parameters: parameters(model, &options.parameters)?,
            trained: Vec::new(),
            dropout: Vec::new(),
            statistics: Vec::new(),
            reported: Vec::new(),
            next: Vec::new(),
        })
    }

    /// Adds an input and returns its value and its place.
    fn input(&mut self, name: &str, ty: TensorType, role: Role) -> (ValueId, usize) {
        let node = self.graph.add_input(name, ty);
        self.inputs.push(StepInput { name: self.graph.name(node).to_owned(), role });
        (node.into(), self.inputs.len() - 1)
    }

    /// Adds an input that stays inside, starting from a value.
    fn resident(&mut self, name: &str, initial: Tensor, role: Role) -> (ValueId, usize) {
        let (value, at) = self.input(name, initial.ty(), role);
        self.residents.push(Resident { input: at, output: None });
        self.initial.push((at, initial));
        (value, at)
    }

    /// The value of a constant, which gives its name away to the input that takes its place.
    fn take_constant(&mut self, node: NodeId) -> Result<(String, Tensor), TrainError> {
        let name = self.graph.name(node).to_owned();
        let value = value_of(&self.graph, node).ok_or_else(|| TrainError::Node {
            node: name.clone(),
            op: "const".to_owned(),
            message: "has no elements to start from".to_owned(),
        })?;
        self.graph.set_name(node, &format!("{name}.initial"));
        Ok((name, value))
    }

    fn add_parameters(&mut self) -> Result<(), TrainError> {
        for i in 0..self.parameters.len() {
            let node = self.parameters[i].node;
            let (name, constant) = self.take_constant(node)?;
            constrain(&mut self.parameters[i], &constant, self.options.keep);
            let start = self.parameters[i].trained(&constant);
            let mask = self.parameters[i].mask(&start, self.options.keep);
            let (value, _) = self.resident(&name, start, Role::Parameter(i));
            let mask = mask.map(|mask| self.resident(&format!("{name}.mask"), mask, Role::Mask(i)).0);
            let mut e = Emit::new(&mut self.graph, &name);
            let read = self.parameters[i].emit(&mut e, value, constant.shape())?;
            self.graph.replace_uses(node.into(), read);
            self.trained.push(Trained { value, mask, read });
        }
        self.graph.gc();
        Ok(())
    }

    /// Makes batch normalisations take the statistics of the batch.
    fn normalize_by_batch(&mut self) -> Result<(), TrainError> {
        if self.options.batch_norm == BatchNormMode::Frozen {
            return Ok(());
        }
        for node in self.graph.topo_order() {
            let Op::BatchNorm(norm) = self.graph.op(node) else { continue };
            let eps = norm.eps;
            let operands: Vec<ValueId> = self.graph.operands(node).into_iter().flatten().collect();
            let &[x, scale, b, mean, var] = operands.as_slice() else { continue };
            if self.graph.constant(mean).is_none() || self.graph.constant(var).is_none() {
                continue;
            }
            let mut running = [mean; 2];
            let mut places = [0; 2];
            for (k, statistic) in [mean, var].into_iter().enumerate() {
                let (name, value) = self.take_constant(statistic.node)?;
                // Where the model computes a statistic by arithmetic, folding it has left a constant of that name.
                let origin = self.model.nodes().find(|&node| self.model.name(node) == name);
                (running[k], places[k]) = self.resident(&name, value, Role::Statistic);
                self.statistics.extend(origin.map(|origin| (origin, places[k])));
            }
            let mut e = Emit::gradient_of(&mut self.graph, node);
            let op = BatchNormTrain { eps, momentum: self.options.momentum };
            let trained = e.node(op, &[x, scale, b, running[0], running[1]].map(Some))?;
            self.graph.replace_uses(node.into(), trained.into());
            self.next.push((places[0], trained.result(1)));
            self.next.push((places[1], trained.result(2)));
        }
        Ok(())
    }

    fn add_dropout(&mut self) -> Result<(), TrainError> {
        for rule in &self.options.dropout {
            for chosen in self.model.topo_order() {
                let structural = matches!(self.model.op(chosen), Op::Const(_) | Op::Input(_) | Op::Return(_));
                if structural || !rule.before.matches(self.model, chosen) {
                    continue;
                }
                // Folding shapes may have taken ids away and given them to others, but names stay.
                let name = self.model.name(chosen);
                let Some(node) = self.graph.nodes().find(|&node| self.graph.name(node) == name) else { continue };
                let Some(x) = self.graph.operand(node, 0) else { continue };
                let e = Emit::gradient_of(&mut self.graph, node);
                let ty = TensorType::new(e.dtype(x)?, e.shape(x)?);
                let name = format!("{name}.dropout");
                let (factors, _) = self.input(&name, ty.clone(), Role::Dropout(self.dropout.len()));
                self.dropout.push((ty, rule.rate));
                let dropped = Emit::gradient_of(&mut self.graph, node).mul(x, factors)?;
                self.graph.set_operand(node, 0, Some(dropped));
            }
        }
        Ok(())
    }

    /// Adds the losses; returns their weighted sum.
    fn add_losses(&mut self) -> Result<ValueId, TrainError> {
        let results: Vec<(String, ValueId)> =
            self.graph.results().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let taught = match &self.options.teacher {
            Some(teacher) => self.teach(teacher)?,
            None => Vec::new(),
        };
        let mut terms = Vec::new();
        for (i, term) in self.options.losses.iter().enumerate() {
            let at = match &term.output {
                None => 0,
                Some(name) => results
                    .iter()
                    .position(|(result, _)| result == name)
                    .ok_or_else(|| TrainError::Options(format!("the model has no result {name} to take a loss of")))?,
            };
            let Some((_, result)) = results.get(at) else {
                return Err(TrainError::Options("the model has no result to take a loss of".to_owned()));
            };
            let first = Emit::gradient_of(&mut self.graph, result.node).shape(*result)?.first().copied();
            if first != Some(self.options.batch) {
                let (name, batch) = (&results[at].0, self.options.batch);
                let message = format!("result {name} has not one row a sample of a batch of {batch}");
                return Err(TrainError::Options(message));
            }
            let wanted = term.loss.wants(&Emit::gradient_of(&mut self.graph, result.node), *result)?;
            let suffix = if self.options.losses.len() > 1 { format!(".{i}") } else { String::new() };
            let target = match wanted {
                Wanted::Labels(ty) => self.input(&format!("labels{suffix}"), ty, Role::Target(i)).0,
                Wanted::Values(ty) => self.input(&format!("target{suffix}"), ty, Role::Target(i)).0,
                Wanted::Teacher => *taught
                    .get(at)
                    .ok_or_else(|| TrainError::Options(format!("the teacher has no result {at} to learn from")))?,
            };
            let mut e = Emit::new(&mut self.graph, &format!("loss{suffix}"));
            terms.push((term.loss.emit(&mut e, *result, target)?, f64::from(term.weight)));
        }
        let mut e = Emit::new(&mut self.graph, "loss");
        let mut total = e.scale(terms[0].0, terms[0].1)?;
        for &(term, weight) in &terms[1..] {
            let weighted = e.scale(term, weight)?;
            total = e.add(total, weighted)?;
        }
        self.reported.push(("loss".to_owned(), total));
        if terms.len() > 1 {
            self.reported.extend(terms.iter().enumerate().map(|(i, term)| (format!("loss.{i}"), term.0)));
        }
        Ok(total)
    }

    /// The results of the teacher on the same inputs.
    fn teach(&mut self, teacher: &Graph) -> Result<Vec<ValueId>, TrainError> {
        let mut teacher = teacher.clone();
        if teacher.inputs().len() != self.model.inputs().len() {
            return Err(TrainError::Options("the teacher takes other inputs than the model".to_owned()));
        }
        bind(&mut teacher, self.options)?;
        let inputs: Vec<ValueId> =
            self.graph.inputs()[..teacher.inputs().len()].iter().map(|&node| node.into()).collect();
        graft(&mut self.graph, &teacher, &inputs)
    }

    fn add_updates(&mut self, loss: ValueId) -> Result<(), TrainError> {
        let read: Vec<ValueId> = self.trained.iter().map(|trained| trained.read).collect();
        let found = gradients(&mut self.graph, loss, &read)?;
        let dtype = Emit::new(&mut self.graph, "loss").dtype(loss)?;
        let scalar = TensorType { dtype, shape: Vec::new() };
        let (rate, _) = self.input("learning_rate", scalar.clone(), Role::Rate);
        let corrections = self.options.optimizer.betas().map(|_| {
            [0, 1].map(|k| self.input(&format!("correction.{}", k + 1), scalar.clone(), Role::Correction(k)).0)
        });
        let scalars = Scalars { rate, corrections };
        let mut wanted = Vec::new();
        for (i, gradient) in found.into_iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let (parameter, trained) = (&self.parameters[i], &self.trained[i]);
            let mut e = Emit::new(&mut self.graph, &parameter.name);
            let gradient = parameter.pull_back(&mut e, trained.value, gradient)?;
            // A masked element gets no gradient, counts in no norm, and leaves its state at zero.
            let gradient = match trained.mask {
                Some(mask) => e.mul(gradient, mask)?,
                None => gradient,
            };
            wanted.push((i, gradient));
        }
        if wanted.is_empty() {
            return Err(TrainError::Options("the losses depend on no parameter that is trained".to_owned()));
        }
        if let Some(norm) = self.options.clip_norm {
            self.clip(&mut wanted, norm.into())?;
        }
        for (i, gradient) in wanted {
            self.update(i, gradient, &scalars)?;
        }
        Ok(())
    }

    /// Scales all gradients by `min(1, norm/‖g‖)`, ‖g‖ the norm of all of them together.
    fn clip(&mut self, gradients: &mut [(usize, ValueId)], norm: f64) -> Result<(), TrainError> {
        let mut sum = None;
        for &(i, gradient) in gradients.iter() {
            let mut e = Emit::new(&mut self.graph, &self.parameters[i].name);
            let square = e.square(gradient)?;
            let part = e.sum_all(square)?;
            sum = Some(match sum {
                Some(sum) => e.add(sum, part)?,
                None => part,
            });
        }
        let Some(sum) = sum else { return Ok(()) };
        let mut e = Emit::new(&mut self.graph, "gradient_norm");
        let length = e.unary(optc_ir::op::Unary::Sqrt, sum)?;
        let least = e.at_least(length, norm)?;
        let limit = e.scalar(length, norm)?;
        let factor = e.div(limit, least)?;
        for (_, gradient) in gradients {
            *gradient = e.mul(*gradient, factor)?;
        }
        self.reported.push(("gradient_norm".to_owned(), length));
        Ok(())
    }

    /// Adds what gives a parameter and its state their next values.
    fn update(&mut self, i: usize, mut g: ValueId, scalars: &Scalars) -> Result<(), TrainError> {
        let options = self.options;
        let parameter = &self.parameters[i];
        let (name, model) = (parameter.name.clone(), self.model);
        let w = self.trained[i].value;
        let applies = |of: &Option<Regularizer>| of.clone().filter(|r| r.applies(model, parameter));
        let (decay, l1) = (applies(&options.weight_decay), applies(&options.l1));
        let lasso: Vec<_> =
            options.group_lasso.iter().filter(|lasso| lasso.regularizer.applies(model, parameter)).collect();
        if !lasso.is_empty() && matches!(parameter.form, Form::Clusters { .. }) {
            let message = "group lasso speaks of single weights, but those of this one are shared";
            return Err(TrainError::Node { node: name, op: "const".to_owned(), message: message.to_owned() });
        }
        let factor = options.rates.iter().find(|(selector, _)| parameter.matches(model, selector));
        let factor = factor.map_or(1.0, |(_, factor)| f64::from(*factor));
        let decoupled = options.optimizer.decouples_decay();
        let names = options.optimizer.state_names();
        let ty = Emit::new(&mut self.graph, &name).ty(w)?.clone();
        let zeros = Tensor::zeros(ty.dtype, ty.fixed_shape().unwrap_or_default());
        let state: Vec<(ValueId, usize)> = names
            .iter()
            .map(|state| self.resident(&format!("{name}.{state}"), zeros.clone(), Role::State(i)))
            .collect();

        let mut e = Emit::new(&mut self.graph, &name);
        if let Some(decay) = decay.as_ref().filter(|_| !decoupled) {
            let term = l2_gradient(&mut e, w, decay.strength)?;
            g = e.add(g, term)?;
        }
        if let Some(l1) = l1.as_ref().filter(|l1| !l1.proximal) {
            let term = l1_gradient(&mut e, w, l1.strength)?;
            g = e.add(g, term)?;
        }
        for lasso in lasso.iter().filter(|lasso| !lasso.regularizer.proximal) {
            let term = group_gradient(&mut e, w, lasso)?;
            g = e.add(g, term)?;
        }
        let values: Vec<ValueId> = state.iter().map(|(value, _)| *value).collect();
        let (mut change, next) = options.optimizer.update(&mut e, g, &values, scalars)?;
        if let Some(decay) = decay.as_ref().filter(|_| decoupled) {
            let term = l2_gradient(&mut e, w, decay.strength)?;
            change = e.add(change, term)?;
        }
        let rate = e.cast(scalars.rate, ty.dtype)?;
        let rate = e.scale(rate, factor)?;
        let change = e.mul(change, rate)?;
        let mut w = e.sub(w, change)?;
        if let Some(l1) = l1.as_ref().filter(|l1| l1.proximal) {
            w = l1_proximal(&mut e, w, rate, l1.strength)?;
        }
        for lasso in lasso.iter().filter(|lasso| lasso.regularizer.proximal) {
            w = group_proximal(&mut e, w, rate, lasso)?;
        }
        let place = self.inputs.iter().position(|input| input.role == Role::Parameter(i));
        self.next.extend(place.map(|place| (place, w)));
        self.next.extend(state.iter().map(|(_, place)| *place).zip(next));
        Ok(())
    }

    fn finish(mut self) -> Result<TrainStep, TrainError> {
        let ret = self.graph.ret();
        for slot in (0..self.graph.operands(ret).len()).rev() {
            self.graph.set_operand(ret, slot, None);
        }
        self.graph.set_op(ret, Op::Return(Return { names: Vec::new() }));
        for (name, value) in &self.reported {
            self.graph.add_result(name, *value);
        }
        self.next.sort_by_key(|(place, _)| *place);
        for (k, (place, value)) in self.next.iter().enumerate() {
            self.graph.add_result(&format!("{}.next", self.inputs[*place].name), *value);
            if let Some(resident) = self.residents.iter_mut().find(|resident| resident.input == *place) {
                resident.output = Some(self.reported.len() + k);
            }
        }
        self.graph.gc();
        simplify(MAX_ROUNDS).run(&mut self.graph, &mut PassCx::new(&Interp))?;
        verify::verify(&self.graph)?;
        let losses = if self.options.losses.len() > 1 { self.options.losses.len() + 1 } else { 1 };
        Ok(TrainStep {
            graph: self.graph,
            inputs: self.inputs,
            residents: self.residents,
            initial: self.initial,
            parameters: self.parameters,
            dropout: self.dropout,
            losses,
            statistics: self.statistics,
        })
    }
}
