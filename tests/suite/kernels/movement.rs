//! Operators that only move elements.

use optc_ir::op::Gather;

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
