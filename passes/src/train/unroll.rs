//! Recurrent layers as arithmetic, step by step: what backpropagation through time differentiates (Werbos 1990).
//!
//! The arithmetic is that of [`optc_ir::op::Rnn`], [`optc_ir::op::Gru`] and [`optc_ir::op::Lstm`]. A sequence of T
//! steps becomes T copies of the cell, so T must be known; the products with the inputs of all steps are one.

use optc_ir::op::{Activation, Clip, Concat, Direction, Elu, HardSigmoid, LeakyRelu, Split, ThresholdedRelu, Unary};
use optc_ir::{Graph, NodeId, Op, Tensor, ValueId};

use super::emit::Emit;
use super::error::TrainError;

/// Whether an operator is a recurrent layer.
pub(super) fn is_recurrent(op: &Op) -> bool {
    matches!(op, Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_))
}

/// Puts the arithmetic of a recurrent layer in its place; nothing reads the layer any more.
///
/// # Errors
/// [`TrainError::Node`] if extents are not known, or sequences may differ in length.
pub(super) fn unroll(graph: &mut Graph, node: NodeId) -> Result<(), TrainError> {
    let op = graph.op(node).clone();
    let mut e = Emit::gradient_of(graph, node);
    let (cell, activations, clip, direction, batch_first) = match &op {
        Op::Rnn(a) => (Cell::Rnn, a.resolved_activations(), a.clip, a.direction, a.batch_first),
        Op::Gru(a) => {
            let cell = Cell::Gru { linear_before_reset: a.linear_before_reset };
            (cell, a.resolved_activations(), a.clip, a.direction, a.batch_first)
        }
        Op::Lstm(a) => {
            let cell = Cell::Lstm { input_forget: a.input_forget };
            (cell, a.resolved_activations(), a.clip, a.direction, a.batch_first)
        }
        _ => unreachable!("only recurrent layers are unrolled"),
    };
    let activations = activations.map_err(|error| e.unsupported(error.to_string()))?;
    let layer = Layer { cell, activations, clip, direction, batch_first };
    let results = layer.emit(&mut e, node)?;
    for (i, result) in results.into_iter().enumerate() {
        graph.replace_uses(node.result(i), result);
    }
    Ok(())
}

/// What happens in one step.
#[derive(Clone, Copy)]
enum Cell {
    Rnn,
    Gru { linear_before_reset: bool },
    Lstm { input_forget: bool },
}

/// A layer of either kind.
struct Layer {
    cell: Cell,
    /// Of the forward or only direction, then of the other.
    activations: Vec<Activation>,
    /// Limits what activations of gates see.
    clip: Option<f32>,
    direction: Direction,
    batch_first: bool,
}

/// The parameters of one direction, and what its activations see.
struct Weights<'a> {
    /// `[hidden, hidden]` a gate, to be multiplied from the right.
    recurrent: Vec<ValueId>,
    /// `[hidden]` a gate, added to recurrent products.
    bias: Option<Vec<ValueId>>,
    /// `[hidden]` each, of the gates i, o and f.
    peepholes: Option<Vec<ValueId>>,
    activations: &'a [Activation],
    clip: Option<f32>,
}

impl Layer {
    /// The results of the layer: all states, the last ones, and the last cells.
    fn emit(&self, e: &mut Emit<'_>, node: NodeId) -> Result<Vec<ValueId>, TrainError> {
        let operand = |e: &Emit<'_>, slot: usize| e.graph.operand(node, slot);
        let required = |e: &Emit<'_>, slot: usize| operand(e, slot).expect("the type rule requires this operand");
        if operand(e, 4).is_some() {
            return Err(e.unsupported("sequences of lengths of their own have no gradient; leave the lengths out"));
        }
        let (x, w, r) = (required(e, 0), required(e, 1), required(e, 2));
        let x = if self.batch_first { e.transpose(x, &[1, 0, 2])? } else { x };
        let shape = e.shape(x)?;
        let (steps, batch, features) = (shape[0], shape[1], shape[2]);
        let (rows, hidden) = (e.shape(r)?[1], e.shape(r)?[2]);
        let directions = self.direction.count();
        if steps == 0 {
            return Err(e.unsupported("there are no steps"));
        }
        let x = e.reshape(x, &[steps * batch, features])?;
        let w = pieces(e, w, 0, directions)?;
        let r = pieces(e, r, 0, directions)?;
        let b = operand(e, 3).map(|b| pieces(e, b, 0, directions)).transpose()?;
        let p = operand(e, 7).map(|p| pieces(e, p, 0, directions)).transpose()?;
        let state_axis = usize::from(self.batch_first);
        let start = |e: &mut Emit<'_>, slot: usize| -> Result<Vec<ValueId>, TrainError> {
            match e.graph.operand(node, slot) {
                Some(state) => pieces(e, state, state_axis, directions),
                None => {
                    let dtype = e.dtype(x)?;
                    Ok(vec![e.constant("zeros", Tensor::zeros(dtype, [batch, hidden])); directions])
                }
            }
        };
        let (h, c) = (start(e, 5)?, start(e, 6)?);
        let per_direction = self.activations.len() / directions;
        let (mut all, mut last_states, mut last_cells) = (Vec::new(), Vec::new(), Vec::new());
        for d in 0..directions {
            let w = e.reshape(w[d], &[rows, features])?;
            let w = e.swap_last(w)?;
            let mut projected = e.matmul(x, w)?;
            let mut bias = None;
            if let Some(b) = &b {
                let halves = pieces(e, b[d], 1, 2)?;
                let own = e.reshape(halves[0], &[rows])?;
                projected = e.add(projected, own)?;
                let recurrent = e.reshape(halves[1], &[rows])?;
                bias = Some(pieces(e, recurrent, 0, rows / hidden)?);
            }
            let r = e.reshape(r[d], &[rows, hidden])?;
            let mut recurrent = Vec::new();
            for gate in pieces(e, r, 0, rows / hidden)? {
                recurrent.push(e.swap_last(gate)?);
            }
            let mut peepholes = None;
            if let Some(p) = &p {
                let p = e.reshape(p[d], &[3 * hidden])?;
                peepholes = Some(pieces(e, p, 0, 3)?);
            }
            let activations = &self.activations[d * per_direction..][..per_direction];
            let weights = Weights { recurrent, bias, peepholes, activations, clip: self.clip };
            let inputs = pieces(e, projected, 0, steps)?;
            let mut h = e.reshape(h[d], &[batch, hidden])?;
            let mut c = e.reshape(c[d], &[batch, hidden])?;
            let mut states = vec![h; steps];
            let backward = self.direction == Direction::Reverse || d == 1;
            for step in 0..steps {
                let t = if backward { steps - 1 - step } else { step };
                let gates = pieces(e, inputs[t], 1, rows / hidden)?;
                match self.cell {
                    Cell::Rnn => h = weights.rnn(e, &gates, h)?,
                    Cell::Gru { linear_before_reset } => h = weights.gru(e, &gates, h, linear_before_reset)?,
                    Cell::Lstm { input_forget } => (h, c) = weights.lstm(e, &gates, (h, c), input_forget)?,
                }
                states[t] = e.reshape(h, &[1, 1, batch, hidden])?;
            }
            all.push(e.op(Concat { axis: 0 }, &states)?);
            last_states.push(e.reshape(h, &[1, batch, hidden])?);
            last_cells.push(e.reshape(c, &[1, batch, hidden])?);
        }
        let mut joined = |parts: &[ValueId], axis: i64, perm: &[usize]| {
            let whole = e.op(Concat { axis }, parts)?;
            if self.batch_first { e.transpose(whole, perm) } else { Ok(whole) }
        };
        let mut results = vec![joined(&all, 1, &[2, 0, 1, 3])?, joined(&last_states, 0, &[1, 0, 2])?];
        if let Cell::Lstm { .. } = self.cell {
            results.push(joined(&last_cells, 0, &[1, 0, 2])?);
        }
        Ok(results)
    }
}

impl Weights<'_> {
    /// What gate g makes of its input `x` and the state: `x + h·Rᵀ + Rb`.
    fn gate(&self, e: &mut Emit<'_>, g: usize, x: ValueId, h: ValueId) -> Result<ValueId, TrainError> {
        let recurrent = self.recurrent(e, g, h)?;
        e.add(x, recurrent)
    }

    /// `h·Rᵀ + Rb` of gate g.
    fn recurrent(&self, e: &mut Emit<'_>, g: usize, h: ValueId) -> Result<ValueId, TrainError> {
        let product = e.matmul(h, self.recurrent[g])?;
        match &self.bias {
            Some(bias) => e.add(product, bias[g]),
            None => Ok(product),
        }
    }

    /// Activation i of a limited argument.
    fn activate(&self, e: &mut Emit<'_>, i: usize, x: ValueId) -> Result<ValueId, TrainError> {
        let x = match self.clip {
            Some(limit) => {
                let (lo, hi) = (e.scalar(x, -f64::from(limit))?, e.scalar(x, limit.into())?);
                e.op(Clip {}, &[x, lo, hi])?
            }
            None => x,
        };
        activation(e, self.activations[i], x)
    }

    /// `h = f(x·Wᵀ + Wb + h·Rᵀ + Rb)`
    fn rnn(&self, e: &mut Emit<'_>, x: &[ValueId], h: ValueId) -> Result<ValueId, TrainError> {
        let sum = self.gate(e, 0, x[0], h)?;
        self.activate(e, 0, sum)
    }

    /// `h = (1 − z)⊙g(…) + z⊙h`, gates z, r, h.
    fn gru(&self, e: &mut Emit<'_>, x: &[ValueId], h: ValueId, linear: bool) -> Result<ValueId, TrainError> {
        let (z, r) = (self.gate(e, 0, x[0], h)?, self.gate(e, 1, x[1], h)?);
        let (z, r) = (self.activate(e, 0, z)?, self.activate(e, 0, r)?);
        let candidate = if linear {
            let recurrent = self.recurrent(e, 2, h)?;
            e.mul(r, recurrent)?
        } else {
            let reset = e.mul(r, h)?;
            self.recurrent(e, 2, reset)?
        };
        let candidate = e.add(x[2], candidate)?;
        let new = self.activate(e, 1, candidate)?;
        // (1 − z)⊙g + z⊙h = g + z⊙(h − g)
        let change = e.sub(h, new)?;
        let change = e.mul(z, change)?;
        e.add(new, change)
    }

    /// `c = f⊙c + i⊙g(…)`, `h = o⊙h(c)`, gates i, o, f, c; peepholes let i and f see the old cell and o the new.
    fn lstm(
        &self,
        e: &mut Emit<'_>,
        x: &[ValueId],
        (h, c): (ValueId, ValueId),
        input_forget: bool,
    ) -> Result<(ValueId, ValueId), TrainError> {
        let seen = |e: &mut Emit<'_>, g: usize, c: ValueId| -> Result<ValueId, TrainError> {
            let mut sum = self.gate(e, g, x[g], h)?;
            if let Some(peepholes) = &self.peepholes {
                let peephole = e.mul(c, peepholes[g])?;
                sum = e.add(sum, peephole)?;
            }
            self.activate(e, 0, sum)
        };
        let input = seen(e, 0, c)?;
        let forget = if input_forget {
            let negated = e.scale(input, -1.0)?;
            e.shift(negated, 1.0)?
        } else {
            seen(e, 2, c)?
        };
        let new = self.gate(e, 3, x[3], h)?;
        let new = self.activate(e, 1, new)?;
        let (kept, added) = (e.mul(forget, c)?, e.mul(input, new)?);
        let c = e.add(kept, added)?;
        let output = seen(e, 1, c)?;
        let state = activation(e, self.activations[2], c)?;
        Ok((e.mul(output, state)?, c))
    }
}

/// Equal pieces of a value along an axis.
fn pieces(e: &mut Emit<'_>, x: ValueId, axis: usize, count: usize) -> Result<Vec<ValueId>, TrainError> {
    if count == 1 {
        return Ok(vec![x]);
    }
    let size = e.shape(x)?[axis] / count;
    let axis = i64::try_from(axis).expect("values have few axes");
    let node = e.node(Split { axis, sizes: vec![size; count] }, &[Some(x)])?;
    Ok((0..count).map(|i| node.result(i)).collect())
}

/// An activation of a recurrent layer.
fn activation(e: &mut Emit<'_>, activation: Activation, x: ValueId) -> Result<ValueId, TrainError> {
    match activation {
        Activation::Relu => e.unary(Unary::Relu, x),
        Activation::Tanh => e.unary(Unary::Tanh, x),
        Activation::Sigmoid => e.unary(Unary::Sigmoid, x),
        Activation::Softsign => e.unary(Unary::Softsign, x),
        Activation::Softplus => e.unary(Unary::Softplus, x),
        Activation::Affine { alpha, beta } => {
            let scaled = e.scale(x, alpha.into())?;
            e.shift(scaled, beta.into())
        }
        Activation::ScaledTanh { alpha, beta } => {
            let scaled = e.scale(x, beta.into())?;
            let tanh = e.unary(Unary::Tanh, scaled)?;
            e.scale(tanh, alpha.into())
        }
        Activation::LeakyRelu { alpha } => e.op(LeakyRelu { alpha }, &[x]),
        Activation::ThresholdedRelu { alpha } => e.op(ThresholdedRelu { alpha }, &[x]),
        Activation::HardSigmoid { alpha, beta } => e.op(HardSigmoid { alpha, beta }, &[x]),
        Activation::Elu { alpha } => e.op(Elu { alpha }, &[x]),
    }
}
