//! `cluster-weights` by error bounds: the options, and how they are met.

use std::borrow::Cow;

use optc_ir::{Graph, Op};

use super::allocate::{Goal, allocate, parallel_map, relative_step};
use super::balance::balance;
use super::cluster_weights::{MAX_K, cell, replace};
use super::measure::{Drift, Yardstick};
use super::rate::{Cells, Layer};
use super::weights::{Role, Weight};
use crate::analysis::Cost;
use crate::error::{OptionError, PassError};
use crate::options::{Options, Written};
use crate::pass::PassCx;

/// A layer with at most this many distinct weights, each used four times on average, shares them already.
const SHARED: usize = 256;
/// Times a bound is tightened to make up for the error that balancing adds.
const MAX_ROUNDS: usize = 16;
/// The largest error tried on data.
const LOOSEST: f64 = 0.5;
/// Errors tried on data, in all.
const TRIALS: usize = 8;
/// Bytes of a container besides constants: of the file, and of a node. What small models have is mostly this.
const FILE_BYTES: usize = 200;
const NODE_BYTES: usize = 25;
/// Multiply-accumulates that a trial on data may take.
const TRIAL_MACS: u64 = 20_000_000_000;

/// How far weights may move.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bounds {
    /// What relative errors of all layers may add up to.
    bound: f64,
    /// How much smaller constants are to become even if that takes more than the bound.
    ratio: Option<f64>,
    /// What relative errors may add up to in that case.
    limit: f64,
    /// The most values a layer.
    max_k: usize,
    /// With data: the least share of samples whose top-1 class stays.
    agreement: f64,
    /// With data: the largest relative error of a result.
    drift: f64,
    /// With data: samples to run.
    samples: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            bound: 0.0165,
            ratio: Some(4.06),
            limit: 0.045,
            max_k: MAX_K,
            agreement: 0.99,
            drift: 0.05,
            samples: 64,
        }
    }
}

impl Bounds {
    /// The bounds, if an option speaks of them. A bound of one's own is final unless `ratio` is given, too.
    pub(super) fn from_options(options: &mut Options) -> Result<Option<Bounds>, OptionError> {
        let default = Bounds::default();
        let bound = options.take_within("bound", 1e-6, 1.0)?;
        let ratio: Option<f64> = options.take_within("ratio", 1.0, 1e6)?;
        let limit: Option<f64> = options.take_within("limit", 1e-6, 1.0)?;
        let max_k = options.take_within("max-k", 2, MAX_K)?;
        let agreement = options.take_within("agreement", 0.0, 1.0)?;
        let drift = options.take_within("drift", 0.0, f64::MAX)?;
        let samples = options.take_within("samples", 1, 1 << 20)?;
        let given = bound.is_some() || ratio.is_some() || limit.is_some() || max_k.is_some();
        if !given && agreement.is_none() && drift.is_none() && samples.is_none() {
            return Ok(None);
        }
        let (ratio, limit) = match (bound, ratio, limit) {
            (Some(bound), None, None) => (None, bound),
            (Some(_), None, Some(_)) => {
                return Err(options.invalid("limit", "is for a ratio that the bound does not reach; give ratio, too"));
            }
            (_, ratio, limit) => (ratio.or(default.ratio), limit.unwrap_or(default.limit.max(bound.unwrap_or(0.0)))),
        };
        let bound = bound.unwrap_or(default.bound.min(limit));
        if limit < bound {
            return Err(options.invalid("limit", "must be no less than bound"));
        }
        Ok(Some(Bounds {
            bound,
            ratio,
            limit,
            max_k: max_k.unwrap_or(default.max_k),
            agreement: agreement.unwrap_or(default.agreement),
            drift: drift.unwrap_or(default.drift),
            samples: samples.unwrap_or(default.samples),
        }))
    }

    /// The options that [`Bounds::from_options`] reads back.
    pub(super) fn written(&self) -> Written {
        let default = Bounds::default();
        let same = (self.bound, self.ratio, self.limit) == (default.bound, default.ratio, default.limit);
        let mut written = Written::default();
        if !same {
            written = written.option("bound", &self.bound, &f64::NAN);
            if let Some(ratio) = self.ratio {
                written = written.option("ratio", &ratio, &f64::NAN).option("limit", &self.limit, &f64::NAN);
            }
        }
        written
            .option("max-k", &self.max_k, &default.max_k)
            .option("agreement", &self.agreement, &default.agreement)
            .option("drift", &self.drift, &default.drift)
            .option("samples", &self.samples, &default.samples)
    }

    /// Shares values in the given weights, which are finite.
    pub(super) fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>, found: &[Weight]) -> Result<(), PassError> {
        let Some(task) = Task::new(graph, cx, found) else { return Ok(()) };
        let dense: f64 = task.weights.iter().map(|w| dense_bits(w)).sum();
        let others = 8.0 * stored_bytes(graph) as f64 - dense;
        let frame = 8.0 * (FILE_BYTES + NODE_BYTES * graph.len()) as f64;
        let budget = self.ratio.map_or(0.0, |ratio| ((dense + others) / ratio - others - frame).max(0.0));
        let goal = Goal { bound: self.bound, limit: self.limit, budget, max_cells: self.max_k };
        let Some(mut shared) = task.solve(goal) else {
            cx.note_graph(format_args!("no values within the bound of {} can be found", self.bound));
            return Ok(());
        };
        let mut basis = if shared.allowed > self.bound {
            let (ratio, limit) = (self.ratio.unwrap_or(1.0), self.limit);
            format!("more than {}, to be {ratio} times smaller, within {limit}", self.bound)
        } else {
            format!("within {}", self.bound)
        };
        if let Some(data) = cx.data.filter(|data| !data.is_empty()) {
            let macs = Cost::clone(&cx.analysis(graph)).total.macs;
            let samples = self.samples.min(usize::try_from(TRIAL_MACS / macs.max(1)).unwrap_or(usize::MAX)).max(1);
            let yardstick = Yardstick::new(cx.backend, graph, data, samples)?;
            let (best, drift) = self.search(graph, cx, &task, shared, &yardstick)?;
            let n = yardstick.samples();
            let classes =
                drift.agreement.map_or(String::new(), |a| format!("{:.1} % of top-1 classes agree, ", 100.0 * a));
            basis = format!("chosen on {n} samples: {classes}relative error of results {:.2e}", drift.error);
            shared = best;
        }
        let error = shared.error;
        task.apply(graph, shared, |graph, weight, text| match text {
            Ok(text) => cx.applied(graph, weight.layer(), text),
            Err(text) => cx.missed(graph, weight.layer(), text),
        });
        cx.note_graph(format_args!("relative errors of the layers add up to {error:.4}; {basis}"));
        Ok(())
    }

    /// The largest error of weights with which the results stay as they must, by doubling and halving, and what
    /// the results were.
    fn search(
        &self,
        graph: &Graph,
        cx: &PassCx<'_>,
        task: &Task<'_>,
        first: Shared,
        yardstick: &Yardstick<'_>,
    ) -> Result<(Shared, Drift), PassError> {
        let measure = |shared: &Shared| -> Result<Drift, PassError> {
            let mut candidate = graph.clone();
            task.apply(&mut candidate, shared.clone(), |_, _, _| ());
            yardstick.measure(cx.backend, &candidate)
        };
        let good = |drift: &Drift| drift.error <= self.drift && drift.agreement.is_none_or(|a| a >= self.agreement);
        // The largest error known to be good and the least known not to be.
        let (mut low, mut high): (Option<(Shared, Drift)>, Option<f64>) = (None, None);
        let drift = measure(&first)?;
        let mut least = (first.clone(), drift);
        if good(&drift) {
            low = Some((first, drift));
        } else {
            high = Some(first.error);
        }
        for _ in 1..TRIALS {
            let next = match (&low, high) {
                (Some((low, _)), Some(high)) => (low.error * high).sqrt(),
                (Some((low, _)), None) => 1.6 * low.error,
                (None, Some(high)) => high / 1.6,
                (None, None) => break,
            };
            if next > LOOSEST {
                break;
            }
            let goal = Goal { bound: next, limit: next, budget: 0.0, max_cells: self.max_k };
            let Some(shared) = task.solve(goal) else { break };
            let drift = measure(&shared)?;
            if good(&drift) {
                low = Some((shared, drift));
            } else {
                high = Some(next);
                if shared.error < least.0.error {
                    least = (shared, drift);
                }
            }
        }
        // Where nothing was good enough, the least error is the best there is.
        Ok(low.unwrap_or(least))
    }
}

fn dense_bits(weight: &Weight) -> f64 {
    (weight.constant.len() * weight.constant.dtype().bits()) as f64
}

/// Bytes of all constants as they are kept.
fn stored_bytes(graph: &Graph) -> usize {
    let bytes = |node| match graph.op(node) {
        Op::Const(constant) => constant.stored_bytes(),
        _ => 0,
    };
    graph.nodes().map(bytes).sum()
}

/// The weights to change.
struct Task<'a> {
    weights: Vec<&'a Weight>,
}

/// What the weights become.
#[derive(Clone, Debug)]
struct Shared {
    /// For each layer its cells, the cell of each weight, and the relative error.
    layers: Vec<Option<(Cells, Vec<u16>, f64)>>,
    /// The square root of the sum of squared relative errors.
    error: f64,
    /// The error that was aimed for.
    allowed: f64,
}

impl<'a> Task<'a> {
    /// The weights that do not share values yet; `None` if there are none.
    fn new(graph: &Graph, cx: &mut PassCx<'_>, found: &'a [Weight]) -> Option<Task<'a>> {
        let distinct = parallel_map(found, |weight| distinct(&weight.values()));
        let mut weights = Vec::new();
        for (weight, distinct) in found.iter().zip(distinct) {
            match distinct {
                Some(distinct) if 4 * distinct <= weight.constant.len() || distinct == 1 => {
                    cx.missed(graph, weight.layer(), format_args!("the weights share {distinct} values already"));
                }
                _ => weights.push(weight),
            }
        }
        (!weights.is_empty()).then_some(Task { weights })
    }

    fn solve(&self, mut goal: Goal) -> Option<Shared> {
        let total: usize = self.weights.iter().map(|weight| weight.constant.len()).sum();
        let step = relative_step(goal.bound, total);
        let layers = parallel_map(&self.weights, |w| Layer::new(&w.values(), w.constant.dtype().bits(), step));
        let Goal { bound, limit, .. } = goal;
        for _ in 0..MAX_ROUNDS {
            let plan = allocate(&layers, goal)?;
            let jobs: Vec<(&Weight, Option<Cells>)> = self.weights.iter().copied().zip(plan.cells).collect();
            let layers = parallel_map(&jobs, |(weight, cells)| cells.as_ref().map(|cells| share(weight, cells)));
            let error = layers.iter().flatten().map(|(_, _, e)| e * e).sum::<f64>().sqrt();
            let allowed = if plan.allowed > goal.bound { limit } else { bound };
            if error <= allowed {
                return Some(Shared { layers, error, allowed });
            }
            goal.bound *= 0.998 * (allowed / error).min(1.0);
            goal.limit *= 0.998 * (allowed / error).min(1.0);
        }
        None
    }

    /// Writes the weights, and tells for each layer what happened or why nothing did.
    fn apply(
        &self,
        graph: &mut Graph,
        shared: Shared,
        mut tell: impl FnMut(&Graph, &Weight, Result<String, &'static str>),
    ) {
        for (weight, layer) in self.weights.iter().zip(shared.layers) {
            let Some((cells, codes, error)) = layer else {
                tell(graph, weight, Err("sharing values would save nothing"));
                continue;
            };
            let (n, k) = (codes.len(), cells.values.len());
            let rate = cells.bits / n as f64;
            replace(graph, weight, codes.into_iter().map(|code| cells.values[usize::from(code)]).collect());
            let text = format!("{n} weights share {k} values: {rate:.2} bits a weight, relative error {error:.2e}");
            tell(graph, weight, Ok(text));
        }
    }
}

/// How many distinct values there are; `None` if more than [`SHARED`].
fn distinct(values: &[f32]) -> Option<usize> {
    let mut found: Vec<u32> = Vec::new();
    for value in values {
        if let Err(at) = found.binary_search(&value.to_bits()) {
            if found.len() == SHARED {
                return None;
            }
            found.insert(at, value.to_bits());
        }
    }
    Some(found.len())
}

/// The cells with the cell of each weight, errors balanced, and the relative error.
fn share(weight: &Weight, cells: &Cells) -> (Cells, Vec<u16>, f64) {
    let values: Cow<'_, [f32]> = weight.values();
    let code = |&x: &f32| u16::try_from(cell(&cells.lows, x)).expect("there are at most MAX_K cells");
    let mut codes: Vec<u16> = values.iter().map(code).collect();
    if let Role::Product(layout) = weight.role {
        balance(&values, weight.constant.shape(), layout, &cells.values, &mut codes);
    }
    let (mut error, mut norm) = (0.0, 0.0);
    for (&x, &code) in values.iter().zip(&codes) {
        error += (f64::from(x) - f64::from(cells.values[usize::from(code)])).powi(2);
        norm += f64::from(x).powi(2);
    }
    (cells.clone(), codes, if norm > 0.0 { (error / norm).sqrt() } else { 0.0 })
}
