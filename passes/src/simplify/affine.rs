//! Folding a per-channel affine map `k·y + d` into the layer before or after it.
//!
//! Shared by the passes that find such maps. All arithmetic is in `f64`, rounded once to the type of the
//! layer; nothing is changed unless every new weight is finite.

use std::ops::Range;
use std::sync::Arc;

use optc_ir::op::{Act, AutoPad, Conv};
use optc_ir::{Constant, Data, Graph, NodeId, Op, Tensor};

use crate::pass::PassCx;
use crate::rewrite::{self, bypass, detach, refines};

/// `k[c]·y + d[c]` for each channel `c`.
#[derive(Clone, Debug)]
pub(crate) struct Affine {
    pub(crate) k: Vec<f64>,
    pub(crate) d: Vec<f64>,
}

/// The map a node applies to its operand `slot`.
pub(crate) struct Candidate<F> {
    /// The operand mapped.
    pub(crate) slot: usize,
    /// `map(rank, axis, channels)` for channels on an axis; `None` if it differs along other axes.
    pub(crate) map: F,
}

/// Folds every node that `candidate` finds a map in into the layer before it, or the layer after it. Nodes
/// next to no layer are spoken of only if they are `unexpected` there.
pub(crate) fn fold_all<F: Fn(usize, usize, usize) -> Option<Affine>>(
    graph: &mut Graph,
    cx: &mut PassCx<'_>,
    unexpected: bool,
    candidate: impl Fn(&Graph, NodeId) -> Option<Candidate<F>>,
) {
    let order = graph.topo_order();
    let backwards: Vec<NodeId> = order.iter().copied().rev().collect();
    // Forwards, chains behind a layer vanish into it one by one; backwards, those before one. What was
    // declined the first time is tried again, as what stood in the way may have gone.
    for (nodes, last) in [(order, false), (backwards, true)] {
        for node in nodes {
            let Some(Candidate { slot, map }) = candidate(graph, node) else { continue };
            match absorb(graph, node, slot, map) {
                Ok(layer) => cx.applied(graph, node, format_args!("folded into {}", graph.name(layer))),
                Err(Some(reason)) if last => cx.missed(graph, node, reason),
                Err(None) if last && unexpected => cx.missed(graph, node, "no layer is next to it"),
                Err(_) => {}
            }
        }
    }
}

/// Folds the map a node applies to its operand `slot` into the layer before it or the layer after it,
/// which is returned, and bypasses the node.
///
/// # Errors
/// Why it can't be done, if there is a layer; the graph is unchanged then.
pub(crate) fn absorb(
    graph: &mut Graph,
    node: NodeId,
    slot: usize,
    map: impl Fn(usize, usize, usize) -> Option<Affine>,
) -> Result<NodeId, Option<String>> {
    let Some(x) = graph.operand(node, slot) else { return Err(None) };
    let Some(rank) = rewrite::rank(graph, x) else { return Err(None) };
    let on_axis = |graph: &Graph, layer: NodeId| {
        let axis = channel_axis(graph.op(layer), rank)?;
        let channels = rewrite::shape(graph, x)?.get(axis)?.fixed()?;
        Some(map(rank, axis, channels).ok_or("it is not the same for all elements of a channel".to_owned()))
    };
    let after = graph.sole_user(node.into()).filter(|&user| graph.operand(user, 0) == Some(node.into()));
    let (before, after) = (on_axis(graph, x.node), after.and_then(|user| Some((user, on_axis(graph, user)?))));
    if (before.is_some() || after.is_some()) && !refines(graph.ty(x), graph.ty(node)) {
        return Err(Some("its operand is broadcast".to_owned()));
    }
    let reason = match before {
        None => None,
        Some(_) if graph.sole_user(x) != Some(node) => Some(format!("{} has another user", graph.name(x.node))),
        Some(map) => match map.and_then(|map| fold_after(graph, x.node, &map)) {
            Ok(()) => {
                bypass(graph, node, x);
                return Ok(x.node);
            }
            Err(reason) => Some(reason),
        },
    };
    let Some((user, map)) = after else { return Err(reason) };
    map.and_then(|map| fold_before(graph, user, &map)).map_err(Some)?;
    graph.set_operand(user, 0, Some(x));
    detach(graph, node);
    Ok(user)
}

/// The axis of the channels of a layer, in its operand and its result of this rank.
fn channel_axis(op: &Op, rank: usize) -> Option<usize> {
    match op {
        Op::Conv(_) | Op::ConvTranspose(_) if rank > 2 => Some(1),
        Op::Linear(_) => rank.checked_sub(1),
        _ => None,
    }
}

/// Replaces `layer(x)` by `k·layer(x) + d`: weights times `k`, bias times `k` plus `d`.
///
/// # Errors
/// Why it can't be done; the graph is unchanged then.
fn fold_after(graph: &mut Graph, layer: NodeId, map: &Affine) -> Result<(), String> {
    let act = match graph.op(layer) {
        Op::Conv(conv) => conv.act,
        Op::ConvTranspose(conv) => conv.act,
        Op::Linear(linear) => linear.act,
        op => return Err(format!("{} is no layer with weights", op.name())),
    };
    if act != Act::None {
        return Err("the layer before has an activation".to_owned());
    }
    let weights = Weights::read(graph, layer)?;
    if weights.outputs() != Some(map.k.len()) {
        return Err("the number of channels differs".to_owned());
    }
    let old = weights.bias.clone().unwrap_or_else(|| vec![0.0; map.k.len()]);
    let bias: Vec<f64> = old.iter().zip(map.k.iter().zip(&map.d)).map(|(b, (k, d))| b * k + d).collect();
    let keep_bias = weights.bias.is_some() || bias.iter().any(|&b| b != 0.0);
    weights.scale(graph, Channels::Outputs, &map.k, keep_bias.then_some(bias))
}

/// Replaces `layer(k·x + d)` by `layer(x)`: weights times `k` of their input channel; `d` goes into the
/// bias through the weights, which zeros padded at the borders would not.
///
/// # Errors
/// Why it can't be done; the graph is unchanged then.
fn fold_before(graph: &mut Graph, layer: NodeId, map: &Affine) -> Result<(), String> {
    let shifts = map.d.iter().any(|&d| d != 0.0);
    match graph.op(layer) {
        Op::Conv(conv) if shifts && is_padded(conv) => {
            return Err("the layer after pads with zeros".to_owned());
        }
        Op::ConvTranspose(_) if shifts => return Err("a shift before a transposed convolution".to_owned()),
        _ => {}
    }
    let weights = Weights::read(graph, layer)?;
    if weights.inputs() != Some(map.k.len()) {
        return Err("the number of channels differs".to_owned());
    }
    let mut bias = weights.bias.clone();
    if shifts {
        let outputs = weights.outputs().ok_or("the weights have no channels")?;
        let sums = bias.get_or_insert_with(|| vec![0.0; outputs]);
        weights.for_each(|w, output, input| sums[output] += w * map.d[input]);
    }
    weights.scale(graph, Channels::Inputs, &map.k, bias)
}

fn is_padded(conv: &Conv) -> bool {
    match conv.auto_pad {
        AutoPad::Explicit => conv.pads.iter().any(|&p| p != 0),
        AutoPad::Valid => false,
        AutoPad::SameUpper | AutoPad::SameLower => true,
    }
}

/// A constant that is the same along all axes of a value of `rank` axes but `axis`, where it has `channels`
/// elements or one: those elements, one per channel.
pub(crate) fn per_channel(constant: &Constant, rank: usize, axis: usize, channels: usize) -> Option<Vec<f64>> {
    let shape = constant.shape();
    if !constant.dtype().is_float() || shape.len() > rank {
        return None;
    }
    let offset = rank - shape.len();
    let uniform = |(i, &n): (usize, &usize)| n == 1 || (i + offset == axis && n == channels);
    if !shape.iter().enumerate().all(uniform) {
        return None;
    }
    let elements = constant.decode().data().to_f64();
    match elements.as_slice() {
        [x] => Some(vec![*x; channels]),
        all => (all.len() == channels).then_some(elements),
    }
}

/// Weights and bias of a layer, seen as `outputs × inputs × window`.
struct Weights {
    layer: NodeId,
    elements: Arc<Constant>,
    bias: Option<Vec<f64>>,
    group: usize,
    /// Input channels come first, as in a transposed convolution.
    transposed: bool,
}

impl Weights {
    fn read(graph: &Graph, layer: NodeId) -> Result<Weights, String> {
        let (group, transposed) = match graph.op(layer) {
            Op::Conv(conv) => (conv.group, false),
            Op::ConvTranspose(conv) => (conv.group, true),
            Op::Linear(_) => (1, false),
            op => return Err(format!("{} is no layer with weights", op.name())),
        };
        let weight = graph.operand(layer, 1).ok_or("the layer has no weights")?;
        let constant = graph.constant(weight).ok_or("the weights are not constant")?;
        if graph.sole_user(weight) != Some(layer) {
            return Err("the weights have another user".to_owned());
        }
        if !constant.dtype().is_float() || constant.shape().len() < 2 || group == 0 {
            return Err("the weights are not a float matrix".to_owned());
        }
        let bias = match graph.operand(layer, 2) {
            None => None,
            Some(bias) => {
                let bias = graph.constant(bias).ok_or("the bias is not constant")?;
                Some(bias.decode().data().to_f64())
            }
        };
        Ok(Weights { layer, elements: constant.clone(), bias, group, transposed })
    }

    fn outputs(&self) -> Option<usize> {
        let shape = self.elements.shape();
        let outputs = if self.transposed { shape[1].checked_mul(self.group) } else { Some(shape[0]) };
        outputs.filter(|&n| n > 0 && self.bias.as_ref().is_none_or(|b| b.len() == n))
    }

    fn inputs(&self) -> Option<usize> {
        let shape = self.elements.shape();
        let inputs = if self.transposed { Some(shape[0]) } else { shape[1].checked_mul(self.group) };
        inputs.filter(|&n| n > 0 && n.is_multiple_of(self.group))
    }

    /// Calls `f(weight, output channel, input channel)` on each weight.
    fn for_each(&self, f: impl FnMut(f64, usize, usize)) {
        // Nearly all weights are these, and there may be many: they are read where they are.
        match self.elements.as_dense().and_then(Data::as_f32) {
            Some(elements) => self.walk(elements, f),
            None => self.walk(&self.elements.decode().data().to_f64(), f),
        }
    }

    fn walk<T: Copy + Into<f64>>(&self, elements: &[T], mut f: impl FnMut(f64, usize, usize)) {
        let shape = self.elements.shape();
        let (rows, columns) = (shape[0], shape[1]);
        let window: usize = shape[2..].iter().product();
        // Rows of one group are neighbours; a column counts within the group of its row.
        let rows_per_group = rows.div_ceil(self.group).max(1);
        let mut windows = elements.chunks_exact(window.max(1));
        for row in 0..rows {
            for column in 0..columns {
                let other = row / rows_per_group * columns + column;
                let (output, input) = if self.transposed { (other, row) } else { (row, other) };
                for &w in windows.next().unwrap_or_default() {
                    f(w.into(), output, input);
                }
            }
        }
    }

    /// Multiplies each weight by the factor of its channel and sets the bias. Weights that nobody else shares are
    /// changed where they are: they are nearly all of a model, and memory that is new costs as much as the rest.
    ///
    /// # Errors
    /// If a number would not be finite; the graph is unchanged then.
    fn scale(
        self,
        graph: &mut Graph,
        channels: Channels,
        factors: &[f64],
        bias: Option<Vec<f64>>,
    ) -> Result<(), String> {
        let dtype = self.elements.dtype();
        let infinite = || "the product would not be finite".to_owned();
        let finite = |data: &Data| data.to_f64().iter().all(|x| x.is_finite());
        let bias = bias.map(|b| Tensor::new([b.len()], Data::from_f64(dtype, b)));
        if bias.as_ref().is_some_and(|bias| !finite(bias.data())) {
            return Err(infinite());
        }
        let (layer, runs) = (self.layer, self.runs(channels));
        if let Some(elements) = self.elements.as_dense().and_then(Data::as_f32) {
            let product = |w: f32, factor: f64| (f64::from(w) * factor) as f32;
            let mut all_finite = true;
            runs.each(elements.len(), |channel, run| {
                let factor = factors[channel];
                all_finite &= elements[run].iter().fold(true, |all, &w| all & product(w, factor).is_finite());
            });
            if !all_finite {
                return Err(infinite());
            }
            drop(self);
            let changed = graph.change_constant_operand(layer, 1, |elements| {
                runs.each(elements.len(), |channel, run| {
                    let factor = factors[channel];
                    elements[run].iter_mut().for_each(|w| *w = product(*w, factor));
                });
            });
            if !changed {
                return Err("the weights have another user".to_owned());
            }
        } else {
            let mut elements = self.elements.decode().data().to_f64();
            runs.each(elements.len(), |channel, run| elements[run].iter_mut().for_each(|w| *w *= factors[channel]));
            let scaled = Data::from_f64(dtype, elements);
            if !finite(&scaled) {
                return Err(infinite());
            }
            let weight = Tensor::new(self.elements.shape(), scaled);
            graph.set_constant_operand(layer, 1, Constant::dense(weight));
        }
        if let Some(bias) = bias {
            graph.set_constant_operand(layer, 2, Constant::dense(bias));
        }
        Ok(())
    }

    /// Where the weights of each channel lie.
    fn runs(&self, channels: Channels) -> Runs {
        let shape = self.elements.shape();
        let (rows, columns) = (shape[0], shape[1]);
        let window: usize = shape[2..].iter().product();
        // Rows of one group are neighbours; a column counts within the group of its row.
        let rows_per_group = rows.div_ceil(self.group).max(1);
        let by_row = (channels == Channels::Inputs) == self.transposed;
        Runs { by_row, columns, window, rows_per_group }
    }
}

/// Which channels of a layer.
#[derive(Clone, Copy, PartialEq)]
enum Channels {
    Outputs,
    Inputs,
}

/// How weights, `rows × columns × window`, belong to channels.
struct Runs {
    /// One channel a row; one a column of each group otherwise.
    by_row: bool,
    columns: usize,
    window: usize,
    rows_per_group: usize,
}

impl Runs {
    /// Calls `visit` with each run of weights of one channel, in order.
    fn each(&self, len: usize, mut visit: impl FnMut(usize, Range<usize>)) {
        let length = if self.by_row { self.columns * self.window } else { self.window };
        for (i, from) in (0..len).step_by(length.max(1)).enumerate() {
            let channel = match self.by_row {
                true => i,
                false => i / self.columns / self.rows_per_group * self.columns + i % self.columns,
            };
            visit(channel, from..from + length);
        }
    }
}
