//! Removes channels that make no difference: those that are zero wherever they are read, those that nobody
//! reads, and those that are one number that their readers can take into their bias.
//!
//! A layer that reads a channel of constant value `k` with weights `w` adds `k·Σw` to each of its outputs,
//! which its bias can do as well. That holds where every output sees all of `w`: not at the zeros around a
//! padded convolution, unless `k` is zero.
//!
//! **Applies when**, at each place a unit ([`ChannelGroups`]) is summed over, its values or the weights they
//! meet are zero, or can be absorbed, and no node takes statistics over it that depend on how many channels there
//! are in another way than a mean or a root mean square does, which removal makes up for. At least one channel of every axis
//! stays. Removal shows further channels that nobody reads, so it is repeated until there are none.
//!
//! Structural masks (filters of zeros) become a smaller network; zero weights of no structure are left alone.
//!
//! Rounding only: sums lose terms that are zero, or add them elsewhere.

use std::collections::{BTreeMap, HashSet};

use optc_ir::op::Binary;
use optc_ir::{Constant, Data, Graph, NodeId, Op, Tensor};

use crate::analysis::channels::{ChannelGroups, Contraction, Flow, UnitId, remove, unpadded, unshare};
use crate::error::PassError;
use crate::pass::{Analysis, Effect, Pass, PassCx};

/// Removals in a row. Each shows dead channels at most one layer further.
const MAX_ROUNDS: usize = 64;

/// The pass; see the module.
pub struct EliminateDeadChannels;

impl Pass for EliminateDeadChannels {
    fn name(&self) -> &'static str {
        "eliminate-dead-channels"
    }

    fn effect(&self) -> Effect {
        Effect::Rounding
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        if !may_have_dead_channels(graph) {
            return Ok(());
        }
        // Worked on aside, as a graph in which nothing is dead must stay the very same.
        let mut work = graph.clone();
        unshare(&mut work);
        for round in 0..MAX_ROUNDS {
            let groups = ChannelGroups::of(&work);
            let verdict = Verdict::of(&work, &groups);
            let dead: Vec<UnitId> = groups.units().filter(|&unit| verdict.is_dead(&groups, unit)).collect();
            let dead = groups.spare(&dead);
            if round == 0 {
                report_stays(&work, &groups, &verdict, cx);
            }
            if dead.is_empty() {
                break;
            }
            let biases = verdict.biases(&work, &groups, &dead);
            report(&work, &groups, &dead, cx);
            remove(&mut work, &groups, &dead)
                .map_err(|e| PassError::Graph { pass: self.name(), message: e.to_string() })?;
            for (layer, bias) in biases {
                work.set_constant_operand(layer, 2, bias);
            }
            work.gc();
            *graph = work.clone();
        }
        Ok(())
    }
}

/// Whether channels can be dead at all: those of a trained network without masks are not, and finding channel
/// groups takes long where there are many. Dead channels begin with weights that are zero for a whole channel,
/// with a factor of zero, or with a node that drops channels.
fn may_have_dead_channels(graph: &Graph) -> bool {
    graph.nodes().any(|node| {
        let constant = |slot: usize| graph.constant_operand(node, slot);
        let zero_factor = |slot: usize| constant(slot).is_some_and(|c| c.nonzeros() < c.len());
        match graph.op(node) {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_) | Op::Gemm(_) | Op::MatMul(_) => {
                [0, 1].into_iter().filter_map(constant).any(|weights| has_zero_slice(weights))
            }
            Op::BatchNorm(_) | Op::InstanceNorm(_) | Op::GroupNorm(_) | Op::LayerNorm(_) | Op::RmsNorm(_) => {
                zero_factor(1)
            }
            Op::Binary(Binary::Mul) => zero_factor(0) || zero_factor(1),
            Op::Gather(_) => constant(1).is_some(),
            Op::Slice(_) | Op::Split(_) | Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_) | Op::DequantizeLinear(_) => true,
            _ => false,
        }
    })
}

/// Whether weights may be zero for a whole index of their first or second axis; those of more than a matrix or
/// of a kernel are not looked into.
fn has_zero_slice(weights: &Constant) -> bool {
    let (&[rows, columns], kernel) = match weights.shape().split_first_chunk::<2>() {
        Some(split) => split,
        None => return true,
    };
    let decoded;
    let elements = match weights.as_dense().and_then(Data::as_f32) {
        Some(elements) => elements,
        None => {
            decoded = weights.decode();
            match decoded.as_f32() {
                Some(elements) => elements,
                None => return true,
            }
        }
    };
    let inner: usize = kernel.iter().product();
    let zero = |slice: &[f32]| slice.iter().all(|&w| w == 0.0);
    if columns * inner == 0 || elements.chunks_exact(columns * inner).any(zero) {
        return true;
    }
    let mut dead: Vec<usize> = (0..columns).collect();
    for row in 0..rows {
        if dead.is_empty() {
            break;
        }
        dead.retain(|column| zero(&elements[(row * columns + column) * inner..][..inner]));
    }
    !dead.is_empty()
}

/// What each place a unit is summed over says of it.
struct Verdict<'g> {
    flow: Flow<'g>,
    /// Units that make a difference.
    needed: Vec<bool>,
    /// Units that are constant, but where zeros are padded: the layer that pads.
    bordered: BTreeMap<UnitId, NodeId>,
}

impl<'g> Verdict<'g> {
    fn of(graph: &'g Graph, groups: &'g ChannelGroups) -> Verdict<'g> {
        let flow = Flow::of(graph, groups);
        let mut verdict = Verdict { flow, needed: vec![false; groups.len()], bordered: BTreeMap::new() };
        for contraction in &groups.contractions {
            let absorbs = absorbs(graph, contraction);
            for i in 0..contraction.ends.len() {
                let value = verdict.value(graph, contraction, i);
                if value == Some(0.0) || (value.is_some() && absorbs == Absorbs::Yes) {
                    continue;
                }
                for &unit in contraction.ends.at(i) {
                    if value.is_some() && absorbs == Absorbs::Within && !verdict.needed[unit.index()] {
                        verdict.bordered.insert(unit, contraction.node);
                    } else {
                        verdict.bordered.remove(&unit);
                        verdict.needed[unit.index()] = true;
                    }
                }
            }
        }
        verdict
    }

    fn is_dead(&self, groups: &ChannelGroups, unit: UnitId) -> bool {
        let needed = self.needed[unit.index()] || self.bordered.contains_key(&unit);
        !needed && groups.statistics(unit).is_none()
    }

    /// What index `i` of a contraction contributes: zero if nothing, the value of the channel if that is known.
    fn value(&self, graph: &Graph, contraction: &Contraction, i: usize) -> Option<f64> {
        let x = graph.operand(contraction.node, contraction.slot)?;
        let part = contraction.ends.len();
        let of_group = |group: usize| self.flow.at(x, contraction.axis, group * part + i);
        let first = of_group(0);
        if first == Some(0.0) && (1..contraction.groups).all(|group| of_group(group) == first) {
            return first;
        }
        if let Some((slot, axis)) = contraction.partner
            && let Some(w) = graph.operand(contraction.node, slot)
        {
            let indices = if contraction.local { i..i + 1 } else { 0..contraction.groups };
            let place = |k: usize| if contraction.local { k } else { k * part + i };
            if indices.into_iter().all(|k| self.flow.at(w, axis, place(k)) == Some(0.0)) {
                return Some(0.0);
            }
        }
        first.filter(|_| contraction.groups == 1)
    }

    /// The biases of the layers that read constant channels, as they must be after these units are removed.
    fn biases(&self, graph: &Graph, groups: &ChannelGroups, dead: &[UnitId]) -> Vec<(NodeId, Constant)> {
        let mut removed = vec![false; groups.len()];
        dead.iter().for_each(|unit| removed[unit.index()] = true);
        let mut biases = Vec::new();
        for contraction in &groups.contractions {
            if absorbs(graph, contraction) != Absorbs::Yes {
                continue;
            }
            let gone = (0..contraction.ends.len())
                .filter(|&i| contraction.ends.at(i).iter().any(|unit| removed[unit.index()]))
                .filter_map(|i| Some((i, self.value(graph, contraction, i).filter(|&x| x != 0.0)?)));
            let gone: Vec<(usize, f64)> = gone.collect();
            let Some(weight) = graph.constant_operand(contraction.node, 1) else { continue };
            if gone.is_empty() {
                continue;
            }
            let w = weight.decode();
            let (outputs, inputs) = (w.shape()[0], w.shape()[1]);
            let window: usize = w.shape()[2..].iter().product();
            let elements = w.data().to_f64();
            let old = graph.constant_operand(contraction.node, 2).map(|bias| bias.decode().data().to_f64());
            let mut bias = old.unwrap_or_else(|| vec![0.0; outputs]);
            for (output, sum) in bias.iter_mut().enumerate() {
                for &(input, x) in &gone {
                    let at = (output * inputs + input) * window;
                    *sum += x * elements[at..at + window].iter().sum::<f64>();
                }
            }
            let axis = groups.axes(graph.operand(contraction.node, 1).expect("the weight was just read"))[0].clone();
            let kept = if axis.is_fixed() { (0..outputs).collect() } else { axis.kept(&removed) };
            let data = Data::from_f64(weight.dtype(), kept.iter().map(|&output| bias[output]));
            biases.push((contraction.node, Constant::dense(Tensor::new([kept.len()], data))));
        }
        biases
    }
}

/// Whether the bias of a layer can stand for a constant channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absorbs {
    Yes,
    /// Everywhere but at padded borders.
    Within,
    No,
}

fn absorbs(graph: &Graph, contraction: &Contraction) -> Absorbs {
    let node = contraction.node;
    let constant = |slot| graph.operand(node, slot).is_none() || graph.constant_operand(node, slot).is_some();
    if contraction.slot != 0 || contraction.groups != 1 || !constant(1) || !constant(2) {
        return Absorbs::No;
    }
    match graph.op(node) {
        Op::Linear(_) => Absorbs::Yes,
        Op::Conv(conv) if unpadded(conv) => Absorbs::Yes,
        Op::Conv(_) => Absorbs::Within,
        _ => Absorbs::No,
    }
}

/// Says of each group how many of its channels make no difference of their own but stay, and why.
fn report_stays(graph: &Graph, groups: &ChannelGroups, verdict: &Verdict<'_>, cx: &mut PassCx<'_>) {
    let mut counts: BTreeMap<(usize, NodeId, bool), usize> = BTreeMap::new();
    for unit in groups.units().filter(|unit| !verdict.needed[unit.index()]) {
        let why = match (verdict.bordered.get(&unit), groups.statistics(unit)) {
            (Some(&node), _) => (groups.group_of(unit), node, true),
            (None, Some(node)) => (groups.group_of(unit), node, false),
            (None, None) => continue,
        };
        *counts.entry(why).or_default() += 1;
    }
    for ((group, node, pads), count) in counts {
        let made = groups.groups[group].producers.first().map_or(node, |producer| producer.0);
        let (by, what) = (graph.name(node), if pads { "constant" } else { "dead" });
        let does = if pads { "pads them with zeros" } else { "takes statistics over them" };
        cx.missed(graph, made, format_args!("{count} {what} channels stay, as {by} {does}"));
    }
}

fn report(before: &Graph, groups: &ChannelGroups, dead: &[UnitId], cx: &mut PassCx<'_>) {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    dead.iter().for_each(|&unit| *counts.entry(groups.group_of(unit)).or_default() += 1);
    let mut named: HashSet<NodeId> = HashSet::new();
    for (group, count) in counts {
        let group = &groups.groups[group];
        let Some(&(node, ..)) = group.producers.first() else { continue };
        let total = group.units.len() + group.kept;
        let others = if named.insert(node) { "channels" } else { "further channels" };
        cx.applied(before, node, format_args!("removed {count} of {total} {others}"));
    }
}
