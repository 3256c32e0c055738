//! Operators with weights: convolutions, matrix products, recurrent layers.
//!
//! What is summed over ends a group on the side of the weight: the input channels of a kernel belong to
//! whoever made them.

use std::rc::Rc;

use optc_ir::op::einsum::Equation;
use optc_ir::op::{Gemm, Gru, Lstm, Rnn};
use optc_ir::{Dim, Graph, NodeId, Op, ValueId};

use super::align::Sides;
use super::labels::{Axis, Labels};
use super::trace::{Contraction, Partner, Trace};

const TIED: &str = "ties channels that can't go together";

/// Whether a value is made of constants alone, by operators that decode or rearrange one.
fn is_weight(graph: &Graph, value: ValueId) -> bool {
    match graph.op(value.node) {
        Op::Const(_) => true,
        Op::DequantizeLinear(_) | Op::Cast(_) | Op::Transpose(_) | Op::Reshape(_) | Op::Unary(_) => {
            graph.operand(value.node, 0).is_some_and(|x| is_weight(graph, x))
        }
        _ => false,
    }
}

impl Trace<'_> {
    fn sum(&mut self, node: NodeId, (slot, axis): (usize, usize), ends: &Rc<Axis>, partner: Option<(usize, usize)>) {
        let partner = partner.map(|(slot, axis)| Partner { slot, axis, local: false });
        self.contractions.push(Contraction { node, slot, axis, ends: ends.clone(), groups: 1, partner });
    }

    /// Ties a vector of one element a channel, or none, to an axis.
    fn vector(&mut self, node: NodeId, slot: usize, axis: &Rc<Axis>) {
        if let (Some(vector), Some([dim])) = (self.operand(node, slot), self.dims(node, slot))
            && *dim != Dim::Fixed(1)
        {
            self.labels.tie(&vector[0], axis, Self::because(node, TIED));
        }
    }

    /// Convolutions of all kinds. With `g` groups, both sides are `g` parts: a part goes on both sides or on
    /// none, and within parts the same places go in every part.
    pub(super) fn convolution(&mut self, node: NodeId) -> Option<()> {
        let (group, transposed, [x, w], vectors): (_, _, _, &[usize]) = match self.graph.op(node) {
            Op::Conv(conv) => (conv.group, false, [0, 1], &[2]),
            Op::ConvTranspose(conv) => (conv.group, true, [0, 1], &[2]),
            Op::ConvInteger(conv) => (conv.group, false, [0, 1], &[3]),
            Op::QLinearConv(conv) => (conv.group, false, [0, 3], &[4, 5, 8]),
            _ => return None,
        };
        let (xs, ws) = (self.operand(node, x)?, self.operand(node, w)?);
        let extent = |slot, axis: usize| self.dims(node, slot)?.get(axis)?.fixed();
        let (w0, w1) = (extent(w, 0)?, extent(w, 1)?);
        let why = Self::because(node, TIED);
        let spatial = Self::because(node, "slides a window over this axis");
        self.freeze_all(xs[2..].iter().chain(&ws[2..]), spatial);
        let (input, output) = if transposed { (0, 1) } else { (1, 0) };
        let out = if group == 1 {
            self.labels.tie(&xs[1], &ws[input], why);
            self.sum(node, (x, 1), &ws[input], Some((w, input)));
            ws[output].clone()
        } else if let Some(sides) = self.alignment.sides(node) {
            self.aligned(node, group, &sides.clone(), [&xs[1], &ws[0]])
        } else {
            let per_group = if transposed { w0 / group } else { w1 };
            let (gx, places) = self.labels.split(&xs[1], group, per_group, why);
            let (gw, rows) = self.labels.split(&ws[0], group, w0 / group, why);
            self.labels.tie(&gx, &gw, why);
            self.labels.tie(&places, if transposed { &rows } else { &ws[1] }, why);
            let partner = Partner { slot: w, axis: input, local: !transposed };
            if !places.is_fixed() {
                let (ends, groups) = (places, group);
                self.contractions.push(Contraction { node, slot: x, axis: 1, ends, groups, partner: Some(partner) });
            }
            self.groups.insert(node, gw.clone());
            if transposed { Labels::merge(&gw, group, &ws[1], w1) } else { ws[0].clone() }
        };
        for &slot in vectors {
            self.vector(node, slot, &out);
        }
        self.producers.push((node, w, output));
        let rest = vec![Axis::fixed(Some(spatial)); xs.len() - 2];
        self.set(node.into(), [vec![xs[0].clone(), out], rest].concat());
        Some(())
    }

    /// A convolution by groups in which channels of different places in their groups go together, as many of every
    /// group: those of the same rank in `sides`, which tells the order within each group for input and output.
    /// Without an order nothing goes together. Gives the axis of the output channels.
    fn aligned(&mut self, node: NodeId, group: usize, sides: &Option<Sides>, [x, rows]: [&Rc<Axis>; 2]) -> Rc<Axis> {
        let why = Self::because(node, TIED);
        let mut ends = x.clone();
        if let Some(Sides { input, output }) = sides {
            let (gx, places) = self.labels.split(&x.select(input.iter().copied()), group, input.len() / group, why);
            let ranked = rows.select(output.iter().copied());
            let (gw, _) = self.labels.split(&ranked, group, output.len() / group, why);
            self.labels.tie(&gx, &gw, why);
            self.groups.insert(node, gw);
            let per_group = input.len() / group;
            let mut rank = vec![0; input.len()];
            input.iter().enumerate().for_each(|(at, &channel)| rank[channel] = at % per_group);
            ends = places.select(rank);
            self.ranked.insert(node, ends.clone());
        }
        self.contractions.push(Contraction { node, slot: 0, axis: 1, ends, groups: 1, partner: None });
        rows.clone()
    }

    pub(super) fn linear(&mut self, node: NodeId) -> Option<()> {
        let (mut xs, ws) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let last = xs.len().checked_sub(1)?;
        self.labels.tie(&xs[last], &ws[1], Self::because(node, TIED));
        self.sum(node, (0, last), &ws[1], Some((1, 1)));
        self.vector(node, 2, &ws[0]);
        self.producers.push((node, 1, 0));
        xs[last] = ws[0].clone();
        self.set(node.into(), xs);
        Some(())
    }

    pub(super) fn gemm(&mut self, node: NodeId, gemm: &Gemm) -> Option<()> {
        let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let (ka, kb) = (usize::from(!gemm.trans_a), usize::from(gemm.trans_b));
        self.labels.tie(&a[ka], &b[kb], Self::because(node, TIED));
        self.sum(node, (0, ka), &b[kb], Some((1, kb)));
        let out = vec![a[1 - ka].clone(), b[1 - kb].clone()];
        self.producers.push((node, 1, 1 - kb));
        self.set(node.into(), out);
        if self.operand(node, 2).is_some() {
            self.tie_broadcast(node, 2, &self.axes[&node.into()].clone());
        }
        Some(())
    }

    /// `[…, M, K]·[…, K, N]`, vectors as numpy's.
    pub(super) fn matmul(&mut self, node: NodeId) -> Option<()> {
        let slots = if matches!(self.graph.op(node), Op::QLinearMatMul(_)) { [0, 3] } else { [0, 1] };
        let (a, b) = (self.operand(node, slots[0])?, self.operand(node, slots[1])?);
        if !matches!(self.graph.op(node), Op::MatMul(_)) {
            // Scales and zero points by row or column are rare enough to leave alone.
            let vector = |slot: &usize| self.dims(node, *slot).is_some_and(|d| !d.is_empty() && d != [Dim::Fixed(1)]);
            let others: Vec<usize> = (0..8).filter(|slot| !slots.contains(slot)).collect();
            if others.iter().any(vector) {
                return None;
            }
        }
        let (ka, kb) = (a.len().checked_sub(1)?, b.len().saturating_sub(2));
        self.labels.tie(&a[ka], b.get(kb)?, Self::because(node, TIED));
        self.sum(node, (slots[0], ka), &b[kb], Some((slots[1], kb)));
        let rank = self.shape(node.into())?.len();
        let mut out = vec![Axis::fixed(None); rank];
        let tail = usize::from(a.len() > 1) + usize::from(b.len() > 1);
        let batch = rank - tail;
        self.broadcast_into(node, &mut out[..batch], &[(slots[0], a.len().saturating_sub(2)), (slots[1], kb)])?;
        if a.len() > 1 {
            out[batch] = a[ka - 1].clone();
        }
        if b.len() > 1 {
            out[rank - 1] = b[kb + 1].clone();
            if is_weight(self.graph, self.graph.operand(node, slots[1])?) {
                self.producers.push((node, slots[1], kb + 1));
            }
        }
        self.set(node.into(), out);
        Some(())
    }

    /// Letters are axes: equal letters go together, those the result lacks are summed over.
    pub(super) fn einsum(&mut self, node: NodeId, equation: &str) -> Option<()> {
        let count = self.graph.operands(node).len();
        let operands: Vec<_> = (0..count).map(|slot| self.operand(node, slot)).collect::<Option<_>>()?;
        let ranks: Vec<usize> = operands.iter().map(Vec::len).collect();
        let equation = Equation::parse(equation, &ranks).ok()?;
        let mut letters: Vec<Option<Rc<Axis>>> = vec![None; equation.labels];
        let mut uses: Vec<Vec<(usize, usize)>> = vec![Vec::new(); equation.labels];
        for (slot, labels) in equation.operands.iter().enumerate() {
            for (axis, &label) in labels.iter().enumerate() {
                if self.dims(node, slot)?[axis] == Dim::Fixed(1) {
                    continue;
                }
                uses[label].push((slot, axis));
                match &letters[label] {
                    Some(known) => self.labels.tie(&known.clone(), &operands[slot][axis], Self::because(node, TIED)),
                    None => letters[label] = Some(operands[slot][axis].clone()),
                }
            }
        }
        for label in (0..equation.labels).filter(|label| !equation.result.contains(label)) {
            let Some(letter) = letters[label].clone() else { continue };
            if let Some((&first, rest)) = uses[label].split_first() {
                self.sum(node, first, &letter, rest.first().copied());
            }
        }
        let out = equation.result.iter().map(|&label| letters[label].clone().unwrap_or_else(|| Axis::fixed(None)));
        self.set(node.into(), out.collect());
        Some(())
    }

    /// Recurrent layers: a hidden unit is a row of every gate, a column of the recurrent weights, and an
    /// element of every state, in each direction.
    pub(super) fn recurrent(&mut self, node: NodeId) -> Option<()> {
        let (hidden, gates) = match self.graph.op(node) {
            Op::Rnn(rnn) => (rnn.hidden_size, Rnn::GATES),
            Op::Gru(gru) => (gru.hidden_size, Gru::GATES),
            Op::Lstm(lstm) => (lstm.hidden_size, Lstm::GATES),
            _ => return None,
        };
        let (x, w, r) = (self.operand(node, 0)?, self.operand(node, 1)?, self.operand(node, 2)?);
        let why = Self::because(node, TIED);
        let steps = Self::because(node, "walks this axis");
        let units = self.labels.fresh(hidden);
        let times = |n: usize| units.select((0..n).flat_map(|_| 0..hidden));
        self.labels.tie(&w[1], &times(gates), why);
        self.labels.tie(&r[1], &times(gates), why);
        self.labels.tie(&r[2], &units, why);
        self.labels.tie(&x[2], &w[2], why);
        self.sum(node, (0, 2), &w[2], Some((1, 2)));
        self.sum(node, (2, 2), &units, None);
        self.freeze_all([&x[0], &x[1], &w[0], &r[0]], steps);
        // Bias, initial states and peepholes, where a layer has them.
        for (slot, times) in [(3, times(2 * gates)), (5, units.clone()), (6, units.clone()), (7, times(3))] {
            let Some(axes) = self.operand(node, slot) else { continue };
            let (last, others) = axes.split_last()?;
            self.freeze_all(others, steps);
            self.labels.tie(last, &times, why);
        }
        self.producers.push((node, 1, 1));
        self.producers.push((node, 2, 1));
        for result in (0..self.graph.result_count(node)).map(|i| node.result(i)) {
            let rank = self.shape(result)?.len();
            let mut axes = vec![Axis::fixed(Some(steps)); rank];
            *axes.last_mut()? = units.clone();
            self.set(result, axes);
        }
        Some(())
    }
}
