//! Recurrent layers.

use optc_ir::op::rnn::Direction;
use optc_ir::op::{Gru, Lstm, Rnn};

use super::*;

/// A layer over `[steps, batch, features]` with constant weights, with and without bias and initial states; all
/// results are compared.
fn layer(gates: usize, op: impl Fn(usize, Direction) -> Op, finals: usize) {
    let directions = [Direction::Forward, Direction::Reverse, Direction::Bidirectional];
    for (steps, batch, features, hidden) in
        [(1, 1, 1, 1), (3, 2, 5, 16), (2, 1, 16, 17), (5, 3, 7, 33), (4, 1, 3, 64), (2, 2, 9, 131)]
    {
        for (case, direction) in directions.into_iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(22);
            let d = direction.count();
            let mut graph = Graph::new("recurrent");
            let mut small = |shape: &[usize]| {
                let tensor = random(&mut rng, shape);
                let scale = (shape[shape.len() - 1] as f32).sqrt();
                Tensor::f32(shape, tensor.as_f32().unwrap().iter().map(|x| x / scale).collect::<Vec<f32>>())
            };
            let x = small(&[steps, batch, features]);
            let mut inputs = vec![x];
            let x = graph.add_input("x", inputs[0].ty());
            let w = graph.add_tensor("w", small(&[d, gates * hidden, features]));
            let r = graph.add_tensor("r", small(&[d, gates * hidden, hidden]));
            let mut operands: Vec<Option<ValueId>> = vec![Some(x.into()), Some(w.into()), Some(r.into())];
            // Each direction leaves something else out.
            if case != 0 {
                let b = graph.add_tensor("b", small(&[d, 2 * gates * hidden]));
                operands.extend([Some(b.into()), None]);
            } else {
                operands.extend([None, None]);
            }
            if case != 1 {
                for i in 0..finals {
                    let state = small(&[d, batch, hidden]);
                    let name = format!("state{i}");
                    if i == 0 {
                        operands.push(Some(graph.add_input(&name, state.ty()).into()));
                        inputs.push(state);
                    } else {
                        operands.push(Some(graph.add_tensor(&name, state).into()));
                    }
                }
            }
            let node = graph.add("y", op(hidden, direction), &operands).expect("the operands fit");
            for i in 0..=finals {
                graph.add_result(&format!("y{i}"), node.result(i));
            }
            agree(&format!("{steps}×{batch}×{features} → {hidden}, {direction:?}"), &graph, &inputs);
        }
    }
}

#[test]
fn lstms() {
    layer(4, |hidden_size, direction| Lstm { hidden_size, direction, ..Lstm::default() }.into(), 2);
}

#[test]
fn grus() {
    let gru = |hidden_size, direction| Gru { hidden_size, direction, linear_before_reset: true, ..Gru::default() };
    layer(3, |hidden_size, direction| gru(hidden_size, direction).into(), 1);
}

#[test]
fn simple_layers() {
    layer(1, |hidden_size, direction| Rnn { hidden_size, direction, ..Rnn::default() }.into(), 1);
}
