//! Operators that only move elements.

use optc_ir::op::{DepthOrder, DepthToSpace, Gather, Pad, PadMode, SpaceToDepth, Tile};

use super::*;

/// A gather from an input or a constant by indices that are an input or a constant.
fn gather(axis: i64, shape: &[usize], indices: Tensor, constant: [bool; 2]) {
    let mut rng = ChaCha8Rng::seed_from_u64(20);
    let mut graph = Graph::new("gather");
    let mut inputs = Vec::new();
    let mut operands = Vec::new();
    for (name, tensor, constant) in [("x", random(&mut rng, shape), constant[0]), ("indices", indices, constant[1])] {
        if constant {
            operands.push(Some(graph.add_tensor(name, tensor).into()));
        } else {
            operands.push(Some(graph.add_input(name, tensor.ty()).into()));
            inputs.push(tensor);
        }
    }
    let node = graph.add("y", Gather { axis }, &operands).expect("the indices fit");
    graph.add_result("y", node.into());
    agree(&format!("axis {axis} of {shape:?}, constant {constant:?}"), &graph, &inputs);
}

#[test]
fn gathers() {
    for constant in [[false, false], [true, false], [false, true]] {
        gather(0, &[7, 5], Tensor::i64([3], [6, -7, 2]), constant);
        gather(0, &[7, 16], Tensor::i64([2, 2], [0, 1, 1, 6]), constant);
        gather(1, &[2, 5, 3], Tensor::i64([2], [-1, 0]), constant);
        gather(-1, &[2, 3, 17], Tensor::i64([4], [3, 3, 16, 0]), constant);
        gather(1, &[2, 5, 3], Tensor::i64([], [4]), constant);
        gather(1, &[2, 9, 3], Tensor::i64([3], [1, 4, 7]), constant);
        gather(0, &[1], Tensor::i64([1], [0]), constant);
    }
}

/// What the interpreter refuses is refused.
#[test]
fn gathers_check_their_indices() {
    let mut graph = Graph::new("gather");
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let x = graph.add_tensor("x", random(&mut rng, &[4, 3]));
    let indices = graph.add_input("indices", Type::tensor(DType::I64, [2]));
    let node = graph.add("y", Gather { axis: 0 }, &[Some(x.into()), Some(indices.into())]).unwrap();
    graph.add_result("y", node.into());
    let mut jit = Jit::default().compile(&graph).unwrap();
    assert!(jit.run(&[Tensor::i64([2], [0, 4])]).is_err());
    assert!(jit.run(&[Tensor::i64([2], [-5, 0])]).is_err());
    assert!(jit.run(&[Tensor::i64([2], [-4, 3])]).is_ok());
}

/// A pad by constants.
fn pad(mode: PadMode, shape: &[usize], pads: &[i64], value: Option<f32>, axes: Option<&[i64]>) {
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    let mut graph = Graph::new("pad");
    let x = graph.add_input("x", Type::tensor(DType::F32, shape.iter().copied()));
    let amounts = graph.add_tensor("pads", Tensor::i64([pads.len()], pads));
    let value = value.map(|value| graph.add_tensor("value", Tensor::f32([], [value])).into());
    let axes = axes.map(|axes| graph.add_tensor("axes", Tensor::i64([axes.len()], axes)).into());
    let operands = [Some(x.into()), Some(amounts.into()), value, axes];
    let y = graph.add("y", Pad { mode }, &operands).expect("the pads fit");
    graph.add_result("y", y.into());
    agree(&format!("{mode:?} {pads:?} of {shape:?}"), &graph, &[random(&mut rng, shape)]);
}

#[test]
fn pads() {
    for mode in [PadMode::Constant, PadMode::Reflect, PadMode::Edge, PadMode::Wrap] {
        pad(mode, &[7], &[2, 3], None, None);
        pad(mode, &[1, 17], &[0, 1, 0, 16], None, None);
        pad(mode, &[2, 3, 5, 4], &[0, 0, 1, 2, 0, 0, 3, 1], Some(1.5), None);
        pad(mode, &[2, 3, 5, 4], &[2, 1, 0, 3], Some(-1.0), Some(&[-1, 2]));
        pad(mode, &[4, 6], &[-1, 2, 0, -3], None, None);
        pad(mode, &[3, 4], &[0, 0, 0, 0], None, None);
    }
    pad(PadMode::Reflect, &[3], &[7, 9], None, None);
    pad(PadMode::Constant, &[2, 1, 1], &[1, 0, 16, 0, 15, 1], None, None);
}

#[test]
fn channels_and_pixels() {
    for block in [1, 2, 3] {
        for (depth, h, w) in [(1, 1, 1), (3, 4, 5), (17, 2, 16)] {
            let shape = [2, depth * block * block, h, w];
            for order in [DepthOrder::Dcr, DepthOrder::Crd] {
                check(&format!("{order:?} {block} of {shape:?}"), DepthToSpace { block, order }, &[&shape]);
            }
            let shape = [2, depth, h * block, w * block];
            check(&format!("{block} of {shape:?}"), SpaceToDepth { block }, &[&shape]);
        }
    }
}

#[test]
fn repetitions() {
    for (shape, repeats) in [(&[1][..], &[7][..]), (&[5], &[3]), (&[2, 3], &[2, 1]), (&[2, 1, 17], &[1, 4, 3])] {
        let mut rng = ChaCha8Rng::seed_from_u64(24);
        let mut graph = Graph::new("tile");
        let x = graph.add_input("x", Type::tensor(DType::F32, shape.iter().copied()));
        let counts = graph.add_tensor("repeats", Tensor::i64([repeats.len()], repeats));
        let y = graph.add("y", Tile {}, &[Some(x.into()), Some(counts.into())]).expect("the repeats fit");
        graph.add_result("y", y.into());
        agree(&format!("{repeats:?} times {shape:?}"), &graph, &[random(&mut rng, shape)]);
    }
}
