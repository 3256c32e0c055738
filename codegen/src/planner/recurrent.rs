//! Recurrent layers: the products of all inputs as one matrix product, then a kernel that walks the sequence.
//!
//! What has no kernel: peepholes, coupled input and forget gates, clipped gates, other activations, batches that
//! come first, sequences of several lengths, and GRUs that reset before the recurrent product.

use optc_ir::op::Direction;
use optc_ir::op::rnn::Activation;
use optc_ir::{NodeId, Op, ValueId};

use super::Planner;
use super::matrix::Product;
use crate::layout::{Layout, plain_strides};
use crate::plan::{Arg, Place};
use crate::tile::contract::Weights;
use crate::tile::copy::Copy;
use crate::tile::epilogue::Epilogue;
use crate::tile::fill::{Fill, Region};
use crate::tile::recurrent::{Cell, Recurrent};
use crate::tile::{VECTOR_BYTES, signed};

impl Planner<'_> {
    /// A recurrent layer.
    pub(super) fn recurrent(&mut self, node: NodeId) -> Option<()> {
        let graph = self.graph;
        let (cell, direction) = cell(graph.op(node))?;
        let operand = |slot: usize| graph.operand(node, slot);
        let (x, w, r) = (operand(0)?, operand(1)?, operand(2)?);
        let &[steps, batch, features] = self.f32_shape(x)?.as_slice() else { return None };
        let &[directions, _, hidden] = self.f32_shape(r)?.as_slice() else { return None };
        if operand(7).is_some() || !self.same_length(operand(4), steps) {
            return None;
        }
        let backward = match direction {
            Direction::Forward => vec![false],
            Direction::Reverse => vec![true],
            Direction::Bidirectional => vec![false, true],
        };
        let layer = Recurrent { cell, hidden, steps, batch, backward };
        let (w_all, r_all) = (self.f32_constant(w)?, self.f32_constant(r)?);
        let b_all = match operand(3) {
            Some(b) => Some(self.f32_constant(b)?),
            None => None,
        };
        let (w_all, r_all) = (w_all.as_f32()?, r_all.as_f32()?);
        let b_all = b_all.as_ref().and_then(|b| b.as_f32());
        let rows = cell.gates() * hidden;
        let bias = |direction: usize, half: usize, gate: usize, unit: usize| {
            b_all.map_or(0.0, |b| b[(2 * direction + half) * rows + gate * hidden + unit])
        };

        // The gates of all steps, as far as inputs decide them.
        let product = Product {
            batch: [1, 1],
            m: steps * batch,
            n: layer.gate_lanes(),
            k: features,
            a: [0; 4],
            c: [0, 0, signed(layer.gate_lanes() * 4)],
        };
        let (x_arg, walk) = self.matrix_rows(node, x, [product.m, product.k])?;
        let product = Product { a: [0, 0, walk[0], walk[1]], ..product };
        let contract = self.contract(&product, Weights::Packed, Epilogue { bias: true, ..Epilogue::default() });
        let weights = contract.pack(|_, lane, k| match layer.gate_of(lane) {
            Some((direction, gate, unit)) => w_all[(direction * rows + gate * hidden + unit) * features + k],
            None => 0.0,
        });
        let weights = weights.ok()?.numbers().to_vec();
        let biases: Vec<f32> = (0..layer.gate_lanes())
            .map(|lane| match layer.gate_of(lane) {
                // The recurrent bias of a GRU's candidate is reset with its product.
                Some((direction, 2, unit)) if cell == Cell::Gru => bias(direction, 0, 2, unit),
                Some((direction, gate, unit)) => bias(direction, 0, gate, unit) + bias(direction, 1, gate, unit),
                None => 0.0,
            })
            .collect();
        let recurrent = layer.pack(
            |direction, gate, unit, k| r_all[(direction * rows + gate * hidden + unit) * hidden + k],
            |direction, unit| bias(direction, 1, 2, unit),
        );
        let [weights, biases, recurrent] =
            [weights, biases, recurrent].map(|numbers| Arg::Constant(self.pack(&numbers), 0));
        let gates = Arg::Buffer(self.buffer(steps * batch * layer.gate_lanes() * 4), 0);
        self.kernel(node, contract, vec![x_arg, weights, gates, biases]);

        // States with a row before the first step and one after the last.
        let row = layer.row();
        let y = self.buffer((steps + 2) * row);
        let (plane, unit) = (batch * hidden * 4, [signed(hidden * 4), 4]);
        for (d, &backward) in layer.backward.iter().enumerate() {
            let first = if backward { steps + 1 } else { 0 };
            self.initial(node, operand(5), d, (y, first * row + d * plane), [batch, hidden], unit)?;
        }
        let states = Arg::Buffer(y, 0);
        let mut args = vec![gates, recurrent, states, states];
        let width = signed(layer.blocks() * VECTOR_BYTES);
        let cells = self.buffer(directions * batch * layer.blocks() * VECTOR_BYTES);
        if cell == Cell::Lstm {
            for d in 0..directions {
                let at = (cells, d * batch * layer.blocks() * VECTOR_BYTES);
                self.initial(node, operand(6), d, at, [batch, hidden], [width, 4])?;
            }
            args.push(Arg::Buffer(cells, 0));
            let strides = vec![signed(batch) * width, width, 4];
            self.see(node.result(2), cells, 0, strides)?;
        } else {
            args.push(states);
        }
        let backward = layer.backward.clone();
        self.kernel(node, layer, args);
        let strides = vec![signed(row), signed(plane), unit[0], unit[1]];
        self.see(node.result(0), y, row, strides)?;
        self.last_states(node, (y, row), &backward, [steps, batch, hidden])
    }

    /// The states after the last step of each direction.
    fn last_states(
        &mut self,
        node: NodeId,
        (y, row): (usize, usize),
        backward: &[bool],
        [steps, batch, hidden]: [usize; 3],
    ) -> Option<()> {
        let strides = plain_strides(&[backward.len(), batch, hidden]);
        let plane = batch * hidden * 4;
        let last = |d: usize| if backward[d] { row } else { steps * row } + d * plane;
        if let [_] = backward {
            return self.see(node.result(1), y, last(0), strides);
        }
        let layout = Layout::Strided { start: 0, strides: strides.clone() };
        let place = Place { buffer: self.buffer(backward.len() * plane), layout };
        for d in 0..backward.len() {
            let copy = Copy::new(&[batch, hidden], &strides[1..], &strides[1..]);
            self.kernel(node, copy, vec![Arg::Buffer(y, last(d)), Arg::Buffer(place.buffer, d * plane)]);
        }
        self.put(node.result(1), place);
        Some(())
    }

    /// Writes the initial states of a direction, zeros where there are none.
    fn initial(
        &mut self,
        node: NodeId,
        value: Option<ValueId>,
        direction: usize,
        (buffer, at): (usize, usize),
        shape: [usize; 2],
        to: [i64; 2],
    ) -> Option<()> {
        let Some(value) = value else {
            let region = Region { start: 0, shape: shape.to_vec(), strides: to.to_vec() };
            self.kernel(node, Fill { value: 0.0, regions: vec![region] }, vec![Arg::Buffer(buffer, at)]);
            return Some(());
        };
        let (from, strides) = self.strided(node, value)?;
        let moved = usize::try_from(strides[0]).ok()? * direction;
        let from = match from {
            Arg::Buffer(i, byte) => Arg::Buffer(i, byte + moved),
            Arg::Constant(i, byte) => Arg::Constant(i, byte + moved),
        };
        self.kernel(node, Copy::new(&shape, &strides[1..], &to), vec![from, Arg::Buffer(buffer, at)]);
        Some(())
    }

    /// Whether sequences are all as long as there are steps.
    fn same_length(&self, lengths: Option<ValueId>, steps: usize) -> bool {
        let Some(lengths) = lengths else { return true };
        let known = self.graph.constant(lengths).and_then(|constant| constant.decode().data().to_i64());
        known.is_some_and(|lengths| lengths.iter().all(|&n| n == signed(steps)))
    }
}

/// The cell and the direction of a layer that has a kernel.
fn cell(op: &Op) -> Option<(Cell, Direction)> {
    use Activation::{Sigmoid, Tanh};
    let (cell, direction, activations, usual): (_, _, _, &[Activation]) = match op {
        Op::Rnn(r) if !r.batch_first && r.clip.is_none() => {
            (Cell::Simple, r.direction, r.resolved_activations().ok()?, &[Tanh])
        }
        Op::Lstm(l) if !l.batch_first && l.clip.is_none() && !l.input_forget => {
            (Cell::Lstm, l.direction, l.resolved_activations().ok()?, &[Sigmoid, Tanh, Tanh])
        }
        Op::Gru(g) if !g.batch_first && g.clip.is_none() && g.linear_before_reset => {
            (Cell::Gru, g.direction, g.resolved_activations().ok()?, &[Sigmoid, Tanh])
        }
        _ => return None,
    };
    activations.chunks(usual.len()).all(|own| own == usual).then_some((cell, direction))
}
