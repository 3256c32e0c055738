//! How much channels matter: a score for every unit of [`ChannelGroups`].
//!
//! A unit's score combines all that goes with it: the rows of every weight that makes the channel and, if asked
//! for, the columns of every weight that reads it.

use optc_ir::{Graph, NodeId, Op, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::activations::{Statistic, means};
use crate::analysis::channels::{AxisUnits, ChannelGroups};
use crate::error::PassError;
use crate::pass::PassCx;

/// What a score is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Criterion {
    /// `Σ|w|` (Li et al. 2017).
    #[default]
    L1,
    /// `√Σw²`.
    L2,
    /// The sum of distances to all filters of the layer: what lies in the middle can be spared (He et al. 2019).
    GeometricMedian,
    /// `Σ|γ|` of batch normalisations (Liu et al. 2017).
    BnScale,
    /// The mean of `|x|` on data, where the channel is read.
    Activation,
    /// The share of elements that are not zero on data, where the channel is read (Hu et al. 2016).
    Apoz,
    /// None; the baseline to beat.
    Random,
}

impl Criterion {
    /// Names as options.
    pub(super) const WORDS: [(&'static str, Criterion); 7] = [
        ("l1", Criterion::L1),
        ("l2", Criterion::L2),
        ("geometric-median", Criterion::GeometricMedian),
        ("bn-scale", Criterion::BnScale),
        ("activation", Criterion::Activation),
        ("apoz", Criterion::Apoz),
        ("random", Criterion::Random),
    ];

    pub(super) fn word(self) -> &'static str {
        Criterion::WORDS.iter().find(|(_, criterion)| *criterion == self).map_or("l1", |(word, _)| word)
    }

    /// Whether scores come from data.
    pub(super) fn is_measured(self) -> bool {
        matches!(self, Criterion::Activation | Criterion::Apoz)
    }

    /// Whether scores are made of the weights of filters, some of which a greedy ranking leaves out.
    pub(super) fn is_of_weights(self) -> bool {
        matches!(self, Criterion::L1 | Criterion::L2 | Criterion::GeometricMedian)
    }
}

/// What is scored, and how.
pub(super) struct Scorer<'a> {
    graph: &'a Graph,
    groups: &'a ChannelGroups,
    criterion: Criterion,
    consumers: bool,
    /// Scores that do not depend on what is removed; empty if they are made of weights.
    fixed: Vec<Option<f64>>,
}

impl<'a> Scorer<'a> {
    /// Measures what has to be measured, on at most `samples` samples. With `consumers` the weights that read a
    /// channel count, too.
    ///
    /// # Errors
    /// If the criterion needs data and there are none, or the graph can't be run on them.
    pub(super) fn new(
        pass: &'static str,
        (graph, groups): (&'a Graph, &'a ChannelGroups),
        (criterion, consumers): (Criterion, bool),
        samples: usize,
        cx: &PassCx<'_>,
    ) -> Result<Scorer<'a>, PassError> {
        let fixed = match criterion {
            Criterion::L1 | Criterion::L2 | Criterion::GeometricMedian => Vec::new(),
            Criterion::Random => {
                let mut rng = ChaCha8Rng::seed_from_u64(cx.seed);
                (0..groups.len()).map(|_| Some(rng.random_range(0.0..1.0))).collect()
            }
            Criterion::BnScale => scales(graph, groups),
            Criterion::Activation => means(pass, graph, groups, Statistic::Magnitude, samples, cx)?,
            Criterion::Apoz => means(pass, graph, groups, Statistic::NonZero, samples, cx)?,
        };
        Ok(Scorer { graph, groups, criterion, consumers, fixed })
    }

    /// The scores of all units: `None` where nothing measures one.
    ///
    /// Elements of weights that belong to units marked in `removed` are left out, for rankings layer by layer.
    pub(super) fn scores(&self, removed: &[bool]) -> Vec<Option<f64>> {
        if !self.criterion.is_of_weights() {
            return self.fixed.clone();
        }
        let (graph, groups) = (self.graph, self.groups);
        let mut scores = vec![None; groups.len()];
        let made = groups.groups.iter().flat_map(|group| group.producers.iter().copied());
        let mut members: Vec<(NodeId, usize, usize)> = made.collect();
        if self.consumers {
            let read = groups.contractions.iter().filter(|contraction| contraction.groups == 1);
            members.extend(read.filter_map(|c| c.partner.map(|(slot, axis)| (c.node, slot, axis))));
        }
        // A weight that makes channels of several groups is a producer of each, and counts once.
        members.sort_unstable();
        members.dedup();
        for (node, slot, axis) in members {
            let Some(value) = graph.operand(node, slot) else { continue };
            let axes = groups.axes(value);
            if axes[axis].is_fixed() {
                continue;
            }
            let Some(tensor) = weight(graph, node, slot) else { continue };
            let rows = rows(&tensor, axis, axes, removed);
            let of_rows: Vec<f64> = match self.criterion {
                Criterion::L1 => rows.iter().map(|row| row.iter().map(|w| w.abs()).sum()).collect(),
                Criterion::L2 => rows.iter().map(|row| row.iter().map(|w| w * w).sum()).collect(),
                _ => rows.iter().map(|row| rows.iter().map(|other| distance(row, other)).sum()).collect(),
            };
            add(&mut scores, &axes[axis], &of_rows);
        }
        if self.criterion == Criterion::L2 {
            scores.iter_mut().for_each(|score| *score = score.map(f64::sqrt));
        }
        scores
    }
}

/// `Σ|γ|` of the batch normalisations of each unit.
fn scales(graph: &Graph, groups: &ChannelGroups) -> Vec<Option<f64>> {
    let mut scores = vec![None; groups.len()];
    for node in graph.topo_order() {
        if matches!(graph.op(node), Op::BatchNorm(_))
            && let Some(scale) = weight(graph, node, 1)
            && let Some([axis]) = graph.operand(node, 1).map(|scale| groups.axes(scale))
        {
            add(&mut scores, axis, &scale.data().to_f64().iter().map(|x| x.abs()).collect::<Vec<_>>());
        }
    }
    scores
}

fn weight(graph: &Graph, node: NodeId, slot: usize) -> Option<Tensor> {
    let constant = graph.constant_operand(node, slot)?;
    constant.dtype().is_float().then(|| constant.decode())
}

fn add(scores: &mut [Option<f64>], axis: &AxisUnits, values: &[f64]) {
    for (i, value) in values.iter().enumerate() {
        for unit in axis.at(i) {
            *scores[unit.index()].get_or_insert(0.0) += value;
        }
    }
}

/// The elements of a weight by index of an axis, without those that are removed along another.
fn rows(tensor: &Tensor, axis: usize, axes: &[std::rc::Rc<AxisUnits>], removed: &[bool]) -> Vec<Vec<f64>> {
    let shape = tensor.shape();
    let gone = |k: usize, i: usize| k != axis && axes[k].at(i).iter().any(|unit| removed[unit.index()]);
    let gone: Vec<Vec<bool>> = (0..shape.len()).map(|k| (0..shape[k]).map(|i| gone(k, i)).collect()).collect();
    let mut rows = vec![Vec::with_capacity(tensor.len() / shape[axis].max(1)); shape[axis]];
    for (at, w) in tensor.data().to_f64().into_iter().enumerate() {
        let (mut rest, mut row, mut stays) = (at, 0, true);
        for k in (0..shape.len()).rev() {
            let i = rest % shape[k];
            rest /= shape[k];
            stays &= !gone[k][i];
            if k == axis {
                row = i;
            }
        }
        if stays {
            rows[row].push(w);
        }
    }
    rows
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt()
}
