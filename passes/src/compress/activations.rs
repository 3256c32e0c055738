//! Scores of channels from data: what they are where they are read.
//!
//! Statistics are taken by the graph itself, to which they are added as results, one vector a value: so they
//! are computed by whatever runs the graph, and no activation has to be kept.

use std::collections::BTreeSet;

use optc_ir::op::{Reduce, ReduceAttrs, ReduceKind, Unary};
use optc_ir::{Graph, NodeId, Op, ValueId};

use super::measure::batches;
use crate::analysis::channels::ChannelGroups;
use crate::error::PassError;
use crate::pass::PassCx;

/// What is averaged over elements and samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statistic {
    /// `|x|`.
    Magnitude,
    /// 1 where `x ≠ 0`, 0 where it is: the opposite of the average percentage of zeros.
    NonZero,
}

/// The mean of a statistic over the elements of each unit wherever it is read, and over the first samples of the
/// data, at most `samples`; `None` for units that nobody reads as floating-point numbers.
///
/// # Errors
/// If there are no data, or the graph can't be run on them.
pub(super) fn means(
    pass: &'static str,
    graph: &Graph,
    groups: &ChannelGroups,
    statistic: Statistic,
    samples: usize,
    cx: &PassCx<'_>,
) -> Result<Vec<Option<f64>>, PassError> {
    let fail = |message: &str| PassError::Graph { pass, message: message.to_owned() };
    let data = cx.data.ok_or_else(|| fail("this criterion is measured: data is needed"))?;
    let mut open = graph.clone();
    let results = graph.results().len();
    let mut seen: BTreeSet<(NodeId, u16, usize)> = BTreeSet::new();
    let mut read = Vec::new();
    for contraction in &groups.contractions {
        let Some(value) = graph.operand(contraction.node, contraction.slot) else { continue };
        let measurable = graph.ty(value).dtype().is_some_and(|dtype| dtype.is_float());
        if contraction.ends.is_fixed() || !measurable || graph.constant(value).is_some() {
            continue;
        }
        if seen.insert((value.node, value.result, contraction.axis)) {
            let mean = add_mean(&mut open, value, contraction.axis, statistic).map_err(|e| fail(&e))?;
            open.add_result(&format!("statistic {}", read.len()), mean);
            read.push(contraction);
        }
    }
    let batches = batches(graph, data, samples);
    if batches.is_empty() {
        return Err(fail("there are too few samples to measure on"));
    }
    let mut sums = vec![0.0; groups.len()];
    let mut counts = vec![0usize; groups.len()];
    let mut executable = cx.backend.compile(&open)?;
    for (i, batch) in batches.iter().enumerate() {
        cx.step(i, batches.len(), "activations");
        let outputs = executable.run(&data.batch(batch.clone())?)?;
        for (contraction, mean) in read.iter().zip(&outputs[results..]) {
            let part = contraction.ends.len();
            for (k, mean) in mean.data().to_f64().into_iter().enumerate() {
                for unit in contraction.ends.at(k % part) {
                    sums[unit.index()] += mean * batch.len() as f64;
                    counts[unit.index()] += batch.len();
                }
            }
        }
    }
    Ok(sums.iter().zip(counts).map(|(sum, count)| (count > 0).then(|| sum / count as f64)).collect())
}

/// A vector of the mean of a statistic by index of an axis.
fn add_mean(graph: &mut Graph, value: ValueId, axis: usize, statistic: Statistic) -> Result<ValueId, String> {
    let name = format!("{}.statistic", graph.name(value.node));
    let mut add = |op: Op, of: ValueId| graph.add(&name, op, &[Some(of)]).map(ValueId::from).map_err(|e| e.to_string());
    let mut value = add(Op::Unary(Unary::Abs), value)?;
    if statistic == Statistic::NonZero {
        value = add(Op::Unary(Unary::Sign), value)?;
    }
    let rank = graph.ty(value).shape().map_or(0, <[_]>::len);
    let axes = (0..rank).filter(|&k| k != axis).filter_map(|k| i64::try_from(k).ok()).collect();
    let attrs = ReduceAttrs { axes: Some(axes), keepdims: false };
    let mean = Op::Reduce(Reduce { kind: ReduceKind::Mean, attrs });
    graph.add(&name, mean, &[Some(value)]).map(ValueId::from).map_err(|e| e.to_string())
}
