use super::*;
use crate::jit::testing::{all_vectors, numbers, run};

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// States before each step are given in a buffer of their own, so that every step can be checked alone.
fn check(cell: Cell, hidden: usize, steps: usize, batch: usize, backward: &[bool]) {
    let layer = Recurrent { cell, hidden, steps, batch, backward: backward.to_vec() };
    let (directions, gate_count) = (backward.len(), cell.gates());
    let small = |len: usize, seed: usize| numbers(len, seed).iter().map(|x| x / 8.0).collect::<Vec<f32>>();
    let gates = small(steps * batch * layer.gate_lanes(), 1);
    let r = small(directions * gate_count * hidden * hidden, 2);
    let bias = small(directions * hidden, 3);
    let weight =
        |d: usize, gate: usize, unit: usize, k: usize| r[((d * gate_count + gate) * hidden + unit) * hidden + k];
    let packed = layer.pack(weight, |d, unit| bias[d * hidden + unit]);
    let states = small((steps + 2) * layer.row() / 4, 4);
    let cells = small(directions * batch * layer.blocks() * LANES, 5);
    let changed = if cell == Cell::Lstm { &cells } else { &states };

    let mut results: Vec<[Vec<f32>; 2]> = Vec::new();
    for vectors in all_vectors() {
        let y = vec![0.0; states.len()];
        let mut buffers = vec![gates.clone(), packed.clone(), y, states.clone(), changed.clone()];
        run(vectors, &layer.schedule(vectors), &mut buffers);
        results.push([buffers[2].clone(), buffers[4].clone()]);
    }
    let bits = |result: &[Vec<f32>; 2]| result.concat().iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    assert!(results.windows(2).all(|pair| bits(&pair[0]) == bits(&pair[1])), "targets differ: {layer:?}");

    let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-4 * b.abs().max(1.0), "{layer:?}: {a} and {b}");
    for sequence in 0..directions * batch * hidden {
        let (d, n, unit) = (sequence / hidden / batch, sequence / hidden % batch, sequence % hidden);
        let mut c = cells[(d * batch + n) * layer.blocks() * LANES + unit];
        for step in 0..steps {
            let t = if backward[d] { steps - 1 - step } else { step };
            let state = |row: usize| ((row * directions + d) * batch + n) * hidden;
            let h = &states[state(if backward[d] { t + 2 } else { t })..][..hidden];
            let given = |gate: usize| {
                let lane = ((d * layer.blocks() + unit / LANES) * gate_count + gate) * LANES + unit % LANES;
                assert_eq!(layer.gate_of(lane), Some((d, gate, unit)));
                gates[(t * batch + n) * layer.gate_lanes() + lane]
            };
            let product = |gate: usize| (0..hidden).map(|k| weight(d, gate, unit, k) * h[k]).sum::<f32>();
            let sum = |gate: usize| given(gate) + product(gate);
            let y = results[0][0][state(t + 1) + unit];
            match cell {
                Cell::Simple => near(y, sum(0).tanh()),
                Cell::Lstm => {
                    c = sigmoid(sum(2)) * c + sigmoid(sum(0)) * sum(3).tanh();
                    near(y, sigmoid(sum(1)) * c.tanh());
                }
                Cell::Gru => {
                    let (z, r) = (sigmoid(sum(0)), sigmoid(sum(1)));
                    let new = (given(2) + r * (product(2) + bias[d * hidden + unit])).tanh();
                    near(y, (1.0 - z) * new + z * h[unit]);
                }
            }
        }
    }
}

#[test]
fn every_step_follows_its_formula() {
    for cell in [Cell::Simple, Cell::Lstm, Cell::Gru] {
        for hidden in [1, 7, 16, 17, 32, 50] {
            check(cell, hidden, 1, 1, &[false]);
            check(cell, hidden, 3, 2, &[true]);
            check(cell, hidden, 2, 3, &[false, true]);
        }
    }
}
