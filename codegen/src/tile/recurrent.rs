//! Recurrent layers: a whole sequence in one kernel.
//!
//! The products of the inputs with their weights, bias included, are computed beforehand for all steps: g. What
//! is left is a step after the other, with gates of the hidden units j and the state h of the step before:
//!
//! - LSTM: `i, o, f = σ(g + R·h)`, `c = f⊙c + i⊙tanh(g + R·h)`, `h = o⊙tanh(c)`
//! - simple: `h = tanh(g + R·h)`
//! - GRU: `z, r = σ(g + R·h)`, `n = tanh(g + r⊙(R·h + b))`, `h = n + z⊙(h − n)`
//!
//! Lanes are hidden units. The sums of all gates of a block of units stay in registers until its new state is
//! stored, so gates are never in memory. States of all steps lie in y, one row a step, and the state before the
//! first in the row that the walk begins at; a step reads the row before its own.
//!
//! Invariant: sums take their products in order of k, whatever the target, so all targets give the same bits.
//! Sequences of one kernel are independent; their steps are not, and stay within one program.

use super::function::Function;
use super::program::{Bin, LANES, P, Program, Src, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, Schedule, Steps, offsets, signed};
use super::walk;
use crate::target::Vectors;

/// What happens to the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// One gate, the new state.
    Simple,
    /// Gates i, o, f, c.
    Lstm,
    /// Gates z, r, h; the reset gate multiplies the recurrent product and its bias.
    Gru,
}

impl Cell {
    pub(crate) fn gates(self) -> usize {
        match self {
            Cell::Simple => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }

    /// The name in kernel names.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Cell::Simple => "rnn",
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
        }
    }

    /// Vectors of a bias before the recurrent weights of a block.
    fn biases(self) -> usize {
        usize::from(self == Cell::Gru)
    }
}

/// A recurrent layer with everything that is baked into its code.
///
/// Pointers: the gates g, `[step, sequence, direction, block, gate, lane]`; the weights as [`Recurrent::pack`]
/// laid them out; y, `[step, direction, sequence, unit]` with a row before the first step and one after the
/// last; where the states of the step before are read, which is y again; then of an LSTM the cells,
/// `[direction, sequence, block, lane]`, the initial ones before and the last ones after, and of others once more
/// y, for the state that is to be changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recurrent {
    pub(crate) cell: Cell,
    pub(crate) hidden: usize,
    pub(crate) steps: usize,
    /// Sequences.
    pub(crate) batch: usize,
    /// Of each direction, whether it walks from the last step to the first.
    pub(crate) backward: Vec<bool>,
}

/// Pointers of the kernel.
const GATES: P = P(0);
const WEIGHTS: P = P(1);
const Y: P = P(2);
const STATES: P = P(3);
/// The cells of an LSTM, or the states of others.
const CHANGED: P = P(4);

/// How many these are.
const POINTERS: usize = 5;

/// Values of k unrolled.
const UNROLL: usize = 8;

/// Sums that hide the latency of a multiplication.
const SUMS: usize = 8;

impl Recurrent {
    /// Blocks of hidden units.
    pub(crate) fn blocks(&self) -> usize {
        self.hidden.div_ceil(LANES)
    }

    /// Gates of one step of one sequence, missing units included.
    pub(crate) fn gate_lanes(&self) -> usize {
        self.backward.len() * self.blocks() * self.cell.gates() * LANES
    }

    /// The direction, gate and hidden unit of a lane of the gates; none where a block has no such unit.
    pub(crate) fn gate_of(&self, lane: usize) -> Option<(usize, usize, usize)> {
        let gates = self.cell.gates();
        let (vector, gate) = (lane / LANES / gates, lane / LANES % gates);
        let unit = vector % self.blocks() * LANES + lane % LANES;
        (unit < self.hidden).then_some((vector / self.blocks(), gate, unit))
    }

    /// Lays the recurrent weights out: direction, block, then a vector of the bias if there is one, then k, gate,
    /// lane. `weight` gives the weight of direction, gate, unit and k; `bias` that of direction and unit.
    pub(crate) fn pack(
        &self,
        weight: impl Fn(usize, usize, usize, usize) -> f32,
        bias: impl Fn(usize, usize) -> f32,
    ) -> Vec<f32> {
        let mut packed = Vec::new();
        for direction in 0..self.backward.len() {
            for block in 0..self.blocks() {
                let units = || (block * LANES..(block + 1) * LANES).map(|unit| (unit < self.hidden).then_some(unit));
                for _ in 0..self.cell.biases() {
                    packed.extend(units().map(|unit| unit.map_or(0.0, |unit| bias(direction, unit))));
                }
                for k in 0..self.hidden {
                    for gate in 0..self.cell.gates() {
                        packed.extend(units().map(|unit| unit.map_or(0.0, |unit| weight(direction, gate, unit, k))));
                    }
                }
            }
        }
        packed
    }

    /// Bytes of y from one step to the next.
    pub(crate) fn row(&self) -> usize {
        self.backward.len() * self.batch * self.hidden * 4
    }

    /// Multiplications by recurrent weights.
    pub(crate) fn macs(&self) -> usize {
        self.steps * self.batch * self.backward.len() * self.cell.gates() * self.hidden * self.hidden
    }

    /// Elements of all states.
    pub(crate) fn elements(&self) -> usize {
        self.steps * self.batch * self.backward.len() * self.hidden
    }

    /// The schedule: directions, sequences.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(POINTERS);
        let (gates, states) = (signed(self.gate_lanes() * 4), signed(self.hidden * 4));
        let cells = signed(self.blocks() * VECTOR_BYTES);
        for (direction, &backward) in self.backward.iter().enumerate() {
            let program = schedule.program(self.program(vectors, backward));
            let first = if backward { self.steps - 1 } else { 0 };
            let before = if backward { first + 2 } else { first };
            let (at, batch) = (signed(direction), signed(self.batch));
            let state = |row: usize| signed(row * self.row()) + states * batch * at;
            let (changed, next) = match self.cell {
                Cell::Lstm => (cells * batch * at, cells),
                Cell::Simple | Cell::Gru => (state(before), states),
            };
            let start = offsets([
                gates * batch * signed(first) + signed(self.blocks() * self.cell.gates() * VECTOR_BYTES) * at,
                signed(self.blocks() * self.block_bytes()) * at,
                state(first + 1),
                state(before),
                changed,
            ]);
            let sequences = Axis::new(self.batch, [gates, 0, states, states, next]);
            schedule.parts.push(Part::new([sequences], start, Nest::Call(program)));
        }
        schedule
    }

    /// Bytes of the weights of a block.
    fn block_bytes(&self) -> usize {
        (self.cell.biases() + self.hidden * self.cell.gates()) * VECTOR_BYTES
    }

    /// The program of one sequence in one direction.
    fn program(&self, vectors: Vectors, backward: bool) -> Program {
        let mut w = Writer::new(POINTERS, vectors.registers());
        // On other targets a register is several of the machine's: fewer sums hide the latency.
        let at_once = if vectors.is_wide() { SUMS.div_ceil(self.cell.gates()) } else { 1 };
        let way = if backward { -1 } else { 1 };
        w.repeat(self.steps, |w| {
            let whole = self.hidden / LANES;
            w.repeat(whole / at_once, |w| self.some_blocks(w, at_once, LANES));
            if !whole.is_multiple_of(at_once) {
                self.some_blocks(w, whole % at_once, LANES);
            }
            if !self.hidden.is_multiple_of(LANES) {
                self.some_blocks(w, 1, self.hidden % LANES);
            }
            let row = way * signed(self.row());
            let changed = if self.cell == Cell::Lstm { 0 } else { row };
            let step = offsets([way * signed(self.batch * self.gate_lanes() * 4), 0, row, row, changed]);
            let back = self.of_blocks(self.blocks()).map(|bytes| -bytes);
            walk::advance(w, walk::sum(step, back));
        });
        w.finish()
    }

    /// Bytes that pointers move along so many blocks.
    fn of_blocks(&self, count: usize) -> Steps {
        let vectors = |n: usize| signed(count * n * VECTOR_BYTES);
        offsets([vectors(self.cell.gates()), signed(count * self.block_bytes()), vectors(1), 0, vectors(1)])
    }

    /// The new states of a few blocks, the last of so many lanes; moves the pointers behind them.
    fn some_blocks(&self, w: &mut Writer, count: usize, lanes: usize) {
        let gates = self.cell.gates();
        let sums = w.take_all(count * gates);
        for (i, &sum) in sums.iter().enumerate() {
            // The candidate of a GRU takes its input after the reset gate.
            match (self.cell, i % gates) {
                (Cell::Gru, 2) => w.load(sum, WEIGHTS.at(self.weights(i / gates))),
                _ => w.load(sum, GATES.at(signed(i * VECTOR_BYTES))),
            }
        }
        self.products(w, &sums);
        for (block, sums) in sums.chunks_exact(gates).enumerate() {
            let lanes = if block == count - 1 { lanes } else { LANES };
            match self.cell {
                Cell::Simple => {
                    Function::Tanh.apply(w, sums, |_| Src::Const(0.0));
                    w.store_lanes(Y.at(signed(block * VECTOR_BYTES)), sums[0], lanes);
                }
                Cell::Lstm => Self::lstm(w, block, sums, lanes),
                Cell::Gru => Self::gru(w, block, sums, lanes),
            }
        }
        w.drop_all(&sums);
        walk::advance(w, self.of_blocks(count));
    }

    /// Bytes from the weights of the first block to those of another.
    fn weights(&self, block: usize) -> i64 {
        signed(block * self.block_bytes())
    }

    /// Adds the recurrent products to the sums of some blocks.
    fn products(&self, w: &mut Writer, sums: &[V]) {
        let hidden = self.hidden;
        let gates = self.cell.gates();
        let of_k = signed(gates * VECTOR_BYTES);
        let first = signed(self.cell.biases() * VECTOR_BYTES);
        let some = |w: &mut Writer, count: usize| {
            for k in 0..count {
                let state = w.take();
                w.set(state, Src::Splat(STATES.at(signed(k * 4))));
                for (i, &sum) in sums.iter().enumerate() {
                    let vector = signed(i % gates * VECTOR_BYTES);
                    let from = WEIGHTS.at(first + self.weights(i / gates) + of_k * signed(k) + vector);
                    w.fma(sum, state, Src::Mem(from));
                }
                w.drop(state);
            }
        };
        let groups = hidden / UNROLL;
        w.repeat(groups, |w| {
            some(w, UNROLL);
            w.advance(WEIGHTS, of_k * signed(UNROLL));
            w.advance(STATES, signed(UNROLL * 4));
        });
        some(w, hidden % UNROLL);
        let moved = signed(groups * UNROLL);
        w.advance(WEIGHTS, -of_k * moved);
        w.advance(STATES, -4 * moved);
    }

    /// The cells and states of a block, of its gates i, o, f, c.
    fn lstm(w: &mut Writer, block: usize, gates: &[V], lanes: usize) {
        let &[input, output, forget, new] = gates else { unreachable!("an LSTM has four gates") };
        let at = signed(block * VECTOR_BYTES);
        Function::Sigmoid.apply(w, &[input, output, forget], |_| Src::Const(0.0));
        Function::Tanh.apply(w, &[new], |_| Src::Const(0.0));
        w.bin(Bin::Mul, forget, forget, Src::Mem(CHANGED.at(at)));
        w.fma(forget, input, new);
        w.store(CHANGED.at(at), forget);
        Function::Tanh.apply(w, &[forget], |_| Src::Const(0.0));
        w.bin(Bin::Mul, output, output, forget);
        w.store_lanes(Y.at(at), output, lanes);
    }

    /// The states of a block, of its gates z, r, h.
    fn gru(w: &mut Writer, block: usize, gates: &[V], lanes: usize) {
        let &[update, reset, new] = gates else { unreachable!("a GRU has three gates") };
        let at = signed(block * VECTOR_BYTES);
        Function::Sigmoid.apply(w, &[update, reset], |_| Src::Const(0.0));
        w.mul_add(new, reset, Src::Mem(GATES.at(signed((3 * block + 2) * VECTOR_BYTES))));
        Function::Tanh.apply(w, &[new], |_| Src::Const(0.0));
        w.load_lanes(reset, CHANGED.at(at), lanes);
        w.bin(Bin::Sub, reset, reset, new);
        w.fma(new, update, reset);
        w.store_lanes(Y.at(at), new, lanes);
    }
}

#[cfg(test)]
mod tests;
