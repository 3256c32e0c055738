//! Kernels of training steps: weights that are values, gradients, statistics of batches.

use optc_codegen::{Jit, Plan, Target, Vectors};
use optc_ir::op::{
    Act, ActGrad, BatchNormGrad, BatchNormTrain, Binary, Conv, ConvTranspose, ConvWeightGrad, Gemm, Linear, LogSoftmax,
    MatMul, MaxPoolGrad, Reduce, ReduceAttrs, ReduceKind, Unary,
};
use optc_ir::{Backend, DType, Graph, Interp, Op, Tensor, Type, ValueId};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{TOLERANCE, agree, random, single};

/// A node all of whose operands are inputs.
fn check(what: &str, op: impl Into<Op>, shapes: &[&[usize]]) {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (graph, inputs) = single(op, shapes, true, &mut rng);
    agree_everywhere(what, &graph, &inputs);
}

/// Code for every target this host runs, against the interpreter.
fn agree_everywhere(what: &str, graph: &Graph, inputs: &[Tensor]) {
    agree(what, graph, inputs);
    let expected = Interp.compile(graph).unwrap().run(inputs).unwrap();
    for vectors in Vectors::ALL.into_iter().filter(|vectors| vectors.run_here()) {
        let target = Target { vectors, threads: 1 };
        let wrong = Plan::new(graph, &target).unwrap().check_reach(&target);
        assert!(wrong.is_empty(), "{what}, {vectors}: {wrong:?}");
        let got = Jit { target }.compile(graph).unwrap().run(inputs).unwrap();
        for (expected, got) in expected.iter().zip(&got) {
            let (a, b) = (expected.as_f32().unwrap(), got.as_f32().unwrap());
            let scale = a.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
            let far = a.iter().zip(b).position(|(x, y)| (x - y).abs() > TOLERANCE * scale);
            assert_eq!(far, None, "{what}, {vectors}");
        }
    }
}

/// A convolution's shape: images, channels, outputs, groups, and the plane.
type Layer = ([usize; 4], [usize; 2]);

const LAYERS: [Layer; 9] = [
    ([1, 1, 1, 1], [1, 1]),
    ([2, 3, 5, 1], [5, 7]),
    ([3, 17, 33, 1], [6, 5]),
    ([2, 16, 16, 1], [9, 8]),
    ([1, 40, 50, 1], [4, 4]),
    ([2, 6, 8, 2], [7, 5]),
    ([2, 32, 64, 2], [5, 5]),
    ([2, 18, 18, 18], [8, 7]),
    ([5, 4, 4, 4], [6, 6]),
];

/// Kernel, stride, dilation and border.
const WINDOWS: [(usize, usize, usize, usize); 6] =
    [(1, 1, 1, 0), (1, 2, 1, 0), (3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (5, 3, 1, 2)];

#[test]
fn convolutions_of_values() {
    for ([n, c, o, group], [h, w]) in LAYERS {
        for (kernel, stride, dilation, pad) in WINDOWS {
            if (kernel - 1) * dilation >= h.min(w) + 2 * pad {
                continue;
            }
            let what = format!("{n}×{c}×{h}×{w} → {o}, {group} groups, {kernel} {stride} {dilation} {pad}");
            let (strides, pads, dilations) = (vec![stride; 2], vec![pad; 4], vec![dilation; 2]);
            let conv = Conv {
                strides: strides.clone(),
                pads: pads.clone(),
                dilations: dilations.clone(),
                group,
                ..Conv::default()
            };
            let weights = [o, c / group, kernel, kernel];
            check(&what, Conv { act: Act::Relu, ..conv }, &[&[n, c, h, w], &weights, &[o]]);

            let out = |n: usize| (n + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1;
            let y = [n, o, out(h), out(w)];
            let grad = ConvWeightGrad {
                kernel: vec![kernel; 2],
                strides: strides.clone(),
                pads: pads.clone(),
                dilations: dilations.clone(),
                group,
            };
            check(&format!("weights of {what}"), grad, &[&[n, c, h, w], &y]);

            let rest = |n: usize| (n + 2 * pad - (kernel - 1) * dilation - 1) % stride;
            let output_padding = vec![rest(h), rest(w)];
            let transposed = ConvTranspose { strides, pads, dilations, group, output_padding, ..Default::default() };
            check(&format!("input of {what}"), transposed, &[&y, &weights]);
        }
    }
    let one_axis = ConvWeightGrad { kernel: vec![3], pads: vec![1, 1], ..ConvWeightGrad::default() };
    check("one axis", one_axis, &[&[2, 3, 9], &[2, 4, 9]]);
}

#[test]
fn products_of_values() {
    for m in [1, 5, 16, 29] {
        for n in [1, 12, 16, 37] {
            for k in [1, 7, 32] {
                let what = format!("{m}×{n}×{k}");
                check(&what, Linear { act: Act::Relu }, &[&[m, k], &[n, k], &[n]]);
                check(&what, MatMul {}, &[&[m, k], &[k, n]]);
                for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
                    let a = if trans_a { [k, m] } else { [m, k] };
                    let b = if trans_b { [n, k] } else { [k, n] };
                    check(&what, Gemm { trans_a, trans_b, ..Gemm::default() }, &[&a, &b, &[n]]);
                    check(&what, Gemm { trans_a, trans_b, alpha: 0.5, ..Gemm::default() }, &[&a, &b]);
                }
            }
        }
    }
}

#[test]
fn maxima() {
    for (h, w) in [(3, 3), (7, 13), (16, 8)] {
        for (kernel, stride, pad) in [(2, 2, 0), (3, 1, 1), (3, 2, 1), (2, 3, 0)] {
            for ceil in [false, true] {
                let what = format!("{h}×{w}, kernel {kernel}, stride {stride}, pad {pad}");
                let grad = MaxPoolGrad {
                    kernel: vec![kernel; 2],
                    strides: vec![stride; 2],
                    pads: vec![pad; 4],
                    ceil,
                    ..MaxPoolGrad::default()
                };
                let out = |n: usize| {
                    let room = n + 2 * pad - kernel;
                    let count = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
                    // A window may not begin behind the input and its front border.
                    if ceil && (count - 1) * stride >= n + pad { count - 1 } else { count }
                };
                let mut rng = ChaCha8Rng::seed_from_u64(12);
                let (graph, mut inputs) = single(grad, &[&[2, 18, h, w], &[2, 18, out(h), out(w)]], true, &mut rng);
                agree_everywhere(&what, &graph, &inputs);
                // Several equal maxima.
                let rounded = inputs[0].as_f32().unwrap().iter().map(|x| x.round()).collect::<Vec<f32>>();
                inputs[0] = Tensor::f32([2, 18, h, w], rounded);
                agree_everywhere(&what, &graph, &inputs);
            }
        }
    }
}

#[test]
fn activations() {
    for act in [
        Act::Relu,
        Act::Clip { lo: -0.5, hi: 1.5 },
        Act::Clip { lo: 0.0, hi: f32::INFINITY },
        Act::LeakyRelu { alpha: 0.1 },
        Act::LeakyRelu { alpha: -0.1 },
        Act::Sigmoid,
        Act::Tanh,
        Act::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Act::HardSwish,
        Act::Silu,
        Act::Gelu,
    ] {
        for shape in [&[3, 37][..], &[2, 18, 5, 3]] {
            check(&format!("{act:?}"), ActGrad { act }, &[shape, shape]);
        }
    }
}

#[test]
fn statistics_of_batches() {
    for shape in [&[1, 1, 1, 1][..], &[2, 3, 4, 5], &[5, 16, 3, 3], &[4, 37, 7], &[3, 20, 9, 8]] {
        let what = format!("{shape:?}");
        let vector = &[shape[1]][..];
        check_results(&what, BatchNormTrain::default(), &[shape, vector, vector, vector, vector]);
        check_results(&what, BatchNormGrad {}, &[shape, shape, vector, vector, vector]);
    }
}

#[test]
fn logarithms_of_shares() {
    for n in [1, 3, 10, 16, 33, 131] {
        for axis in [0, 1] {
            check(&format!("{n} along {axis}"), LogSoftmax { axis, flatten: false }, &[&[5, n]]);
        }
    }
}

/// A node all of whose operands are inputs and all of whose results are results.
fn check_results(what: &str, op: impl Into<Op>, shapes: &[&[usize]]) {
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let mut graph = Graph::new("results");
    let mut operands: Vec<Option<ValueId>> = Vec::new();
    for (i, &shape) in shapes.iter().enumerate() {
        operands.push(Some(graph.add_input(&format!("x{i}"), Type::tensor(DType::F32, shape.iter().copied())).into()));
    }
    let node = graph.add("y", op, &operands).expect("the configuration fits the operator");
    for i in 0..graph.result_count(node) {
        graph.add_result(&format!("y{i}"), node.result(i));
    }
    let inputs: Vec<Tensor> = shapes.iter().map(|shape| random(&mut rng, shape)).collect();
    agree_everywhere(what, &graph, &inputs);
}

#[test]
fn sums_that_leave_an_axis() {
    for shape in [&[1, 3, 4, 5][..], &[5, 20, 3, 4], &[6, 37], &[3, 2, 33]] {
        for kind in [ReduceKind::Sum, ReduceKind::Mean] {
            for keepdims in [false, true] {
                let axes = (0..shape.len() as i64).filter(|&axis| axis != if shape.len() == 2 { 1 } else { 2 });
                let attrs = ReduceAttrs { axes: Some(axes.collect()), keepdims };
                check(&format!("{shape:?}"), Op::Reduce(Reduce { kind, attrs }), &[shape]);
            }
        }
    }
    // Over all but channels of an image that lies in blocks.
    let mut graph = Graph::new("bias");
    let x = graph.add_input("x", Type::tensor(DType::F32, [3, 20, 5, 6]));
    let w = graph.add_input("w", Type::tensor(DType::F32, [20, 20, 3, 3]));
    let conv = graph.add("conv", Conv::default(), &[Some(x.into()), Some(w.into())]).unwrap();
    let relu = graph.add("relu", Op::Unary(Unary::Relu), &[Some(conv.into())]).unwrap();
    let double = graph.add("double", Op::Binary(Binary::Add), &[Some(relu.into()), Some(conv.into())]).unwrap();
    graph.add_result("double", double.into());
    for keepdims in [false, true] {
        let attrs = ReduceAttrs { axes: Some(vec![0, 2, 3]), keepdims };
        let name = format!("sum{keepdims}");
        let sum =
            graph.add(&name, Op::Reduce(Reduce { kind: ReduceKind::Sum, attrs }), &[Some(double.into())]).unwrap();
        graph.add_result(&name, sum.into());
    }
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    agree_everywhere("blocks", &graph, &[random(&mut rng, &[3, 20, 5, 6]), random(&mut rng, &[20, 20, 3, 3])]);
}
