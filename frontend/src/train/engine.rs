//! From what a recipe says to what the training engine and the passes are told.

use optc_ir::Graph;
use optc_passes::Analysis;
use optc_passes::analysis::Cost;
use optc_passes::selector::Selector;
use optc_passes::train::{
    Course, DropoutRule, Keep, Loss, LossTerm, Optimizer, Regularizer, Schedule, TrainOptions, adjusted_rate,
};

use super::recipe::{self, Cluster, Constraint, FilterPrune, LrSchedule, PerLayer, Prune, Ramp, Scope, Training};
use crate::error::Error;

/// How a stage trains a graph. `original` are the connections each layer had at first, `teacher` is the model
/// the run began with.
///
/// # Errors
/// [`Error::Usage`] naming a layer that is not there.
pub(super) fn options(
    training: &Training,
    constraint: Constraint,
    graph: &Graph,
    original: &[(String, usize)],
    teacher: &Graph,
    steps_an_epoch: u64,
    seed: u64,
) -> Result<TrainOptions, Error> {
    let steps = |epochs: f64| (epochs * steps_an_epoch as f64).round() as u64;
    let total = steps(training.epochs as f64);
    let end = training.lr * training.lr_end;
    let course = match training.schedule {
        LrSchedule::Constant => Course::Constant,
        LrSchedule::Linear => Course::Linear { steps: total, end },
        LrSchedule::Cosine => Course::Cosine { steps: total, end },
        LrSchedule::Step => Course::Step { every: steps(training.lr_every.max(1) as f64), factor: training.lr_decay },
    };
    let optimizer = match training.optimizer {
        recipe::Optimizer::Sgd => Optimizer::Sgd { momentum: 0.0, nesterov: false },
        recipe::Optimizer::Momentum => Optimizer::Sgd { momentum: training.momentum as f32, nesterov: false },
        recipe::Optimizer::Nesterov => Optimizer::Sgd { momentum: training.momentum as f32, nesterov: true },
        recipe::Optimizer::Adam => Optimizer::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        recipe::Optimizer::AdamW => Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
    };
    let loss = match training.loss {
        recipe::Loss::CrossEntropy => Loss::CrossEntropy { smoothing: training.smoothing as f32 },
        recipe::Loss::SquareHinge => Loss::SquareHinge,
    };
    let share = training.distill as f32;
    let distill =
        LossTerm { weight: share, ..LossTerm::of(Loss::Distill { temperature: training.temperature as f32 }) };
    let mut losses = vec![LossTerm { weight: 1.0 - share, ..LossTerm::of(loss) }, distill];
    losses.retain(|term| term.weight > 0.0);
    let teacher = (share > 0.0).then(|| teacher.clone());
    let regularizer = |strength: f64| (strength > 0.0).then(|| Regularizer::new(strength as f32));
    Ok(TrainOptions {
        batch: training.batch,
        seed,
        losses,
        teacher,
        optimizer,
        schedule: Schedule { rate: training.lr, warm_up: steps(training.warmup), course },
        weight_decay: regularizer(training.l2),
        l1: regularizer(training.l1),
        dropout: dropout(training, graph, original)?,
        keep: Keep { zeros: constraint != Constraint::None, clusters: constraint == Constraint::Clusters },
        ..TrainOptions::default()
    })
}

/// Weights that are not zero in each layer.
pub(super) fn connections(graph: &Graph) -> Vec<(String, usize)> {
    let cost = Cost::of(graph);
    cost.layers.iter().map(|layer| (layer.name.clone(), layer.nonzero)).collect()
}

fn dropout(training: &Training, graph: &Graph, original: &[(String, usize)]) -> Result<Vec<DropoutRule>, Error> {
    let now = connections(graph);
    let of = |list: &[(String, usize)], layer: &str| list.iter().find(|(name, _)| name == layer).map(|(_, n)| *n);
    let mut rules = Vec::new();
    for (layer, &rate) in &training.dropout {
        let before = Selector::parse(layer).map_err(|e| Error::Usage(format!("dropout: {layer}: {e}")))?;
        if !graph.nodes().any(|node| before.matches(graph, node)) {
            return Err(Error::Usage(format!("dropout: the model has no layer {layer}")));
        }
        let rate = match (of(&now, layer), of(original, layer)) {
            (Some(now), Some(original)) if training.adjust_dropout => adjusted_rate(rate as f32, now, original),
            _ => rate as f32,
        };
        rules.push(DropoutRule { before, rate });
    }
    Ok(rules)
}

/// The part of the sparsity that a ramp has reached at `t`, from 0 to 1.
pub(super) fn ramp(ramp: Ramp, t: f64) -> f64 {
    let t = t.clamp(0.0, 1.0);
    match ramp {
        Ramp::OneShot => 1.0,
        Ramp::Linear => t,
        Ramp::Cubic => 1.0 - (1.0 - t).powi(3),
    }
}

impl Prune {
    /// The passes that prune at `t` of the ramp, from 0 to 1, of a model that had the sparsity `from` at 0.
    pub(super) fn pipeline(&self, t: f64, from: f64) -> String {
        let part = ramp(self.ramp, t);
        let scope = if self.scope == Scope::Global { ", scope=global" } else { "" };
        match (&self.sparsity, &self.q) {
            (Some(sparsity), _) => each(sparsity, |&s| {
                let now = if s > from { from + (s - from) * part } else { s };
                format!("prune-magnitude{{sparsity={now}{scope}")
            }),
            (None, Some(q)) => each(q, |&q| format!("prune-magnitude{{q={}", q * part)),
            (None, None) => String::new(),
        }
    }
}

impl Cluster {
    /// The passes that cluster.
    pub(super) fn pipeline(&self) -> String {
        let init = self.init.as_ref().map(|init| format!(", init={init}")).unwrap_or_default();
        let biases = if self.only_biases { ", biases=true" } else { "" };
        match (&self.k, &self.bits) {
            (Some(k), _) => each(k, |k| format!("cluster-weights{{k={k}{init}{biases}")),
            (None, Some(bits)) => each(bits, |bits| format!("cluster-weights{{bits={bits}{init}{biases}")),
            (None, None) => String::new(),
        }
    }
}

impl FilterPrune {
    /// The passes that remove channels.
    pub(super) fn pipeline(&self) -> String {
        let criterion = self.criterion.as_ref().map(|c| format!(", criterion={c}")).unwrap_or_default();
        let greedy = if self.greedy { ", greedy=true" } else { "" };
        let default = PerLayer::All(0.5);
        let ratio = self.ratio.as_ref().unwrap_or(&default);
        each(ratio, |ratio| format!("prune-filters{{ratio={ratio}{criterion}{greedy}"))
    }
}

/// A pass for all layers, or one for each of some; `open` is its text up to the closing brace.
fn each<T>(numbers: &PerLayer<T>, open: impl Fn(&T) -> String) -> String {
    match numbers {
        PerLayer::All(number) => open(number) + "}",
        PerLayer::Each(map) => {
            let passes = map.iter().map(|(layer, number)| format!("{}, only={}}}", open(number), quoted(layer)));
            passes.collect::<Vec<_>>().join(",")
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn stages_become_pipelines_that_parse() {
        let layers = PerLayer::Each(BTreeMap::from([("a \"b\"".to_owned(), 0.5), ("conv".to_owned(), 0.25)]));
        let prune = Prune { sparsity: Some(layers), ramp: Ramp::Cubic, ..Prune::default() };
        let text = prune.pipeline(0.5, 0.0);
        assert_eq!(
            text,
            r#"prune-magnitude{sparsity=0.4375, only="a \"b\""},prune-magnitude{sparsity=0.21875, only="conv"}"#
        );
        optc_passes::pipeline::parse(&text).unwrap();
        let cluster = Cluster { bits: Some(PerLayer::All(4)), only_biases: true, ..Cluster::default() };
        assert_eq!(cluster.pipeline(), "cluster-weights{bits=4, biases=true}");
        optc_passes::pipeline::parse(&cluster.pipeline()).unwrap();
        optc_passes::pipeline::parse(&FilterPrune::default().pipeline()).unwrap();
    }

    #[test]
    fn ramps_begin_and_end_where_they_should() {
        for kind in [Ramp::Linear, Ramp::Cubic] {
            assert_eq!((ramp(kind, 0.0), ramp(kind, 1.0)), (0.0, 1.0));
        }
        assert_eq!(ramp(Ramp::OneShot, 0.1), 1.0);
    }
}
