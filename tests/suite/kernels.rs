//! Every kernel of the JIT against the interpreter, over a table of configurations that visits the edges: one
//! element, primes, a tile and one more or less, borders wider than the plane, several samples and groups.

mod coded;
mod codes;
mod dynamic;
mod gradients;
mod listed;
mod movement;
mod picked;
mod recurrent;
mod resize;
mod sparse;
mod sparse_codes;
mod steps;
mod transposed;

use optc_codegen::{Jit, Plan, Target, Vectors};
use optc_ir::op::{
    Act, AveragePool, Binary, Clip, Conv, ConvTranspose, Elu, Gelu, Gemm, GlobalAveragePool, GlobalMaxPool, GroupNorm,
    HardSigmoid, InstanceNorm, LayerNorm, LeakyRelu, Linear, Lrn, MatMul, MaxPool, Reduce, ReduceAttrs, ReduceKind,
    Selu, Softmax, ThresholdedRelu, Unary, Variadic,
};
use optc_ir::{Backend, DType, Graph, Interp, NodeId, Op, Tensor, Type, ValueId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Relative to the largest magnitude of a result.
const TOLERANCE: f32 = 1e-4;

fn random(rng: &mut ChaCha8Rng, shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    Tensor::f32(shape, (0..len).map(|_| rng.random_range(-2.0f32..2.0)).collect::<Vec<_>>())
}

/// A graph under construction, and what it is given.
struct Net {
    graph: Graph,
    rng: ChaCha8Rng,
    inputs: Vec<Tensor>,
}

impl Net {
    fn new(name: &str, seed: u64) -> Net {
        Net { graph: Graph::new(name), rng: ChaCha8Rng::seed_from_u64(seed), inputs: Vec::new() }
    }

    fn input(&mut self, tensor: Tensor) -> ValueId {
        let ty = Type::tensor(DType::F32, tensor.shape().iter().copied());
        self.inputs.push(tensor);
        self.graph.add_input("x", ty).into()
    }

    fn random_input(&mut self, shape: &[usize]) -> ValueId {
        let tensor = random(&mut self.rng, shape);
        self.input(tensor)
    }

    fn dense(&mut self, shape: &[usize]) -> ValueId {
        let tensor = random(&mut self.rng, shape);
        self.graph.add_tensor("w", tensor).into()
    }

    fn add(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> ValueId {
        let operands: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
        self.graph.add("node", op, &operands).expect("the operands fit the operator").into()
    }
}

/// Builds a graph of one node: operand 0 is an input, the others are constants unless `dynamic`.
fn single(op: impl Into<Op>, shapes: &[&[usize]], dynamic: bool, rng: &mut ChaCha8Rng) -> (Graph, Vec<Tensor>) {
    let mut graph = Graph::new("kernel");
    let mut inputs = Vec::new();
    let mut operands: Vec<Option<ValueId>> = Vec::new();
    for (i, &shape) in shapes.iter().enumerate() {
        let tensor = random(rng, shape);
        let name = format!("x{i}");
        if i == 0 || dynamic {
            operands.push(Some(graph.add_input(&name, Type::tensor(DType::F32, shape.iter().copied())).into()));
            inputs.push(tensor);
        } else {
            operands.push(Some(graph.add_tensor(&name, tensor).into()));
        }
    }
    let node = graph.add("y", op, &operands).expect("the configuration fits the operator");
    graph.add_result("y", node.into());
    (graph, inputs)
}

/// Runs on all vectors that there are here and on one and two threads: all must give the same bits.
fn same_bits(what: &str, graph: &Graph, inputs: &[Tensor]) {
    same_bits_of(&Vectors::ALL, what, graph, inputs);
}

/// The same of some vectors.
fn same_bits_of(some: &[Vectors], what: &str, graph: &Graph, inputs: &[Tensor]) {
    let mut known: Option<Vec<u32>> = None;
    for &vectors in some.iter().filter(|vectors| vectors.run_here()) {
        for threads in [1, 2] {
            let target = Target { vectors, threads };
            let results = Jit { target }.compile(graph).unwrap().run(inputs).unwrap();
            let bits: Vec<u32> = results[0].as_f32().unwrap().iter().map(|x| x.to_bits()).collect();
            if let Some(known) = &known {
                let other = known.iter().zip(&bits).position(|(a, b)| a != b);
                assert_eq!(other, None, "{what}: {vectors} on {threads} threads gives other bits");
            }
            known = Some(bits);
        }
    }
}

/// Runs both backends; the plan must use kernels alone.
fn agree(what: &str, graph: &Graph, inputs: &[Tensor]) {
    let plan = Plan::new(graph, &Target::host(1)).expect("the graph can be planned");
    assert!(!plan.to_string().contains("interp "), "{what}: no kernel\n{plan}");
    assert!(plan.check().is_empty(), "{what}: buffers overlap\n{plan}");
    let expected = Interp.compile(graph).unwrap().run(inputs).unwrap();
    for threads in [1, 2] {
        let got = Jit::new(threads).compile(graph).unwrap().run(inputs).unwrap();
        for (expected, got) in expected.iter().zip(&got) {
            assert_eq!(expected.shape(), got.shape(), "{what}");
            let (a, b) = (expected.as_f32().unwrap(), got.as_f32().unwrap());
            let scale = a.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                assert!((x - y).abs() <= TOLERANCE * scale, "{what}, {threads} threads, element {i}: {x} and {y}");
            }
        }
    }
}

fn check(what: &str, op: impl Into<Op>, shapes: &[&[usize]]) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (graph, inputs) = single(op, shapes, false, &mut rng);
    agree(what, &graph, &inputs);
}

#[test]
fn convolutions() {
    let acts = [
        Act::None,
        Act::Relu,
        Act::Clip { lo: 0.0, hi: 6.0 },
        Act::LeakyRelu { alpha: 0.1 },
        Act::Sigmoid,
        Act::Tanh,
        Act::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Act::HardSwish,
        Act::Silu,
        Act::Gelu,
    ];
    let mut case = 0;
    for (n, c, o, group) in [(1, 1, 1, 1), (1, 3, 5, 1), (2, 4, 13, 1), (1, 6, 8, 2), (2, 4, 4, 4), (1, 3, 6, 3)] {
        for (h, w) in [(1, 1), (5, 7), (13, 12), (8, 17)] {
            for (kernel, stride, dilation, pad) in
                [(1, 1, 1, 0), (3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (5, 3, 1, 4)]
            {
                let conv = Conv {
                    strides: vec![stride; 2],
                    pads: vec![pad, pad, pad, pad],
                    dilations: vec![dilation; 2],
                    group,
                    act: acts[case % acts.len()],
                    ..Conv::default()
                };
                case += 1;
                let weights = [o, c / group, kernel, kernel];
                let what = format!("{n}×{c}×{h}×{w} → {o}, {conv:?}");
                check(&what, conv.clone(), &[&[n, c, h, w], &weights, &[o]]);
                check(&what, conv, &[&[n, c, h, w], &weights]);
            }
        }
    }
    check("one axis", Conv { pads: vec![1, 1], ..Conv::default() }, &[&[2, 3, 9], &[4, 3, 3], &[4]]);
    check("uneven border", Conv { pads: vec![0, 2, 1, 0], ..Conv::default() }, &[&[1, 2, 6, 6], &[3, 2, 3, 3], &[3]]);
}

/// Groups that fill blocks of channels are walked one by one, and so is what stands beside their results.
#[test]
fn beside_groups() {
    let ops: [Op; 2] = [
        Conv { group: 3, pads: vec![1; 4], ..Conv::default() }.into(),
        ConvTranspose { group: 3, pads: vec![1; 4], ..ConvTranspose::default() }.into(),
    ];
    for op in ops {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut graph = Graph::new("groups");
        let [x, image] = ["x", "image"].map(|name| graph.add_input(name, Type::tensor(DType::F32, [2, 96, 5, 6])));
        let [w, b, scale] =
            [&[96, 32, 3, 3][..], &[96], &[96, 1, 1]].map(|shape| graph.add_tensor("w", random(&mut rng, shape)));
        let mut add = |op: Op, operands: &[NodeId]| {
            let operands: Vec<Option<ValueId>> = operands.iter().map(|&node| Some(node.into())).collect();
            graph.add("node", op, &operands).expect("the operands fit the operator")
        };
        let y = add(op, &[x, w, b]);
        let y = add(Op::Binary(Binary::Mul), &[y, scale]);
        let y = add(Op::Binary(Binary::Add), &[y, image]);
        graph.add_result("y", y.into());
        let inputs = [0, 1].map(|_| random(&mut rng, &[2, 96, 5, 6]));
        agree("beside groups", &graph, &inputs);
        same_bits("beside groups", &graph, &inputs);
    }
}

#[test]
fn products() {
    for m in [1, 3, 4, 5, 16] {
        for n in [1, 4, 11, 12, 13, 37] {
            for k in [1, 7, 32] {
                let what = format!("{m}×{n}×{k}");
                check(&what, Linear { act: Act::Relu }, &[&[m, k], &[n, k], &[n]]);
                check(&what, Linear::default(), &[&[1, m, k], &[n, k]]);
                check(&what, MatMul {}, &[&[m, k], &[k, n]]);
                let gemm = Gemm { alpha: 0.5, beta: 2.0, trans_b: true, ..Gemm::default() };
                check(&what, gemm, &[&[m, k], &[n, k], &[n]]);
                let mut rng = ChaCha8Rng::seed_from_u64(8);
                let (graph, inputs) = single(MatMul {}, &[&[2, 3, m, k], &[2, 3, k, n]], true, &mut rng);
                agree(&what, &graph, &inputs);
            }
        }
    }
}

#[test]
fn pools() {
    for (h, w) in [(3, 3), (7, 13), (16, 9)] {
        for (kernel, stride, pad) in [(2, 2, 0), (3, 1, 1), (3, 2, 1)] {
            let what = format!("{h}×{w}, kernel {kernel}, stride {stride}, pad {pad}");
            let (kernel, strides, pads) = (vec![kernel; 2], vec![stride; 2], vec![pad; 4]);
            for ceil in [false, true] {
                let max = MaxPool {
                    kernel: kernel.clone(),
                    strides: strides.clone(),
                    pads: pads.clone(),
                    ceil,
                    ..MaxPool::default()
                };
                let mut rng = ChaCha8Rng::seed_from_u64(9);
                let (graph, inputs) = single(max, &[&[2, 3, h, w]], false, &mut rng);
                agree(&what, &graph, &inputs);
                let average = AveragePool {
                    kernel: kernel.clone(),
                    strides: strides.clone(),
                    pads: pads.clone(),
                    ceil,
                    count_include_pad: !ceil,
                    ..AveragePool::default()
                };
                check(&what, average, &[&[2, 3, h, w]]);
            }
        }
    }
    check("global average", GlobalAveragePool {}, &[&[2, 5, 7, 7]]);
    check("global max", GlobalMaxPool {}, &[&[2, 5, 3, 11]]);
}

#[test]
fn rows() {
    for n in [1, 3, 4, 5, 64, 131] {
        let what = format!("{n} elements");
        check(&what, Softmax::default(), &[&[3, n]]);
        check(&what, LayerNorm::default(), &[&[2, 3, n], &[n], &[n]]);
        check(&what, LayerNorm::default(), &[&[2, 3, n], &[n]]);
        for axis in [0, 1] {
            check(&what, Softmax { axis, flatten: false }, &[&[3, 5, n]]);
        }
        for kind in [
            ReduceKind::Sum,
            ReduceKind::Mean,
            ReduceKind::Max,
            ReduceKind::Min,
            ReduceKind::L1,
            ReduceKind::L2,
            ReduceKind::SumSquare,
        ] {
            for (axes, keepdims) in [
                (Some(vec![-1]), true),
                (Some(vec![1, 2]), false),
                (Some(vec![1]), false),
                (Some(vec![0, 2]), true),
                (None, false),
            ] {
                check(&what, Op::Reduce(Reduce { kind, attrs: ReduceAttrs { axes, keepdims } }), &[&[2, 3, n]]);
            }
        }
    }
}

#[test]
fn norms_of_channels() {
    for (shape, channels) in [(&[1, 1, 1][..], 1), (&[2, 6, 17], 6), (&[3, 4, 5, 7], 4), (&[1, 18, 4, 4], 18)] {
        let what = format!("{shape:?}");
        check(&what, InstanceNorm::default(), &[shape, &[channels], &[channels]]);
        for groups in [1, 2] {
            if channels % groups == 0 {
                let norm = GroupNorm { groups, ..GroupNorm::default() };
                check(&what, norm.clone(), &[shape, &[channels], &[channels]]);
                check(&what, GroupNorm { per_group: true, ..norm }, &[shape, &[groups], &[groups]]);
            }
        }
        for size in [1, 2, 3, 5] {
            check(&what, Lrn { alpha: 0.7, bias: 2.0, size, ..Lrn::default() }, &[shape]);
        }
    }
}

#[test]
fn elementwise() {
    for shape in [&[1][..], &[3], &[4, 5], &[2, 3, 4, 5], &[131]] {
        for &u in Unary::ALL {
            let supported = matches!(
                u,
                Unary::Abs
                    | Unary::Neg
                    | Unary::Floor
                    | Unary::Ceil
                    | Unary::Round
                    | Unary::Exp
                    | Unary::Erf
                    | Unary::Relu
                    | Unary::Sigmoid
                    | Unary::Tanh
                    | Unary::HardSwish
                    | Unary::Silu
                    | Unary::Softsign
                    | Unary::Sign
            );
            if supported {
                check(u.word(), Op::Unary(u), &[shape]);
            }
        }
        check("leaky_relu", LeakyRelu { alpha: 0.3 }, &[shape]);
        check("hard_sigmoid", HardSigmoid::default(), &[shape]);
        check("elu", Elu { alpha: 0.7 }, &[shape]);
        check("selu", Selu::default(), &[shape]);
        check("thresholded_relu", ThresholdedRelu { alpha: 0.3 }, &[shape]);
        check("gelu", Gelu::default(), &[shape]);
        check("clip", Clip {}, &[shape]);
    }
    let pairs: [(&[usize], &[usize]); 7] = [
        (&[2, 3, 4, 5], &[2, 3, 4, 5]),
        (&[2, 3, 4, 5], &[5]),
        (&[2, 3, 4, 5], &[3, 1, 1]),
        (&[2, 1, 4, 1], &[3, 1, 5]),
        (&[7], &[1]),
        (&[1, 3, 1, 1], &[1, 3, 8, 9]),
        (&[1], &[2, 2]),
    ];
    for (a, b) in pairs {
        for op in [Binary::Add, Binary::Sub, Binary::Mul] {
            let mut rng = ChaCha8Rng::seed_from_u64(10);
            let (graph, inputs) = single(Op::Binary(op), &[a, b], true, &mut rng);
            agree(op.word(), &graph, &inputs);
        }
        for op in [Variadic::Max, Variadic::Min, Variadic::Sum, Variadic::Mean] {
            let mut rng = ChaCha8Rng::seed_from_u64(11);
            let (graph, inputs) = single(Op::Variadic(op), &[a, b], true, &mut rng);
            agree(op.word(), &graph, &inputs);
        }
    }
}

/// Powers that products, roots and quotients make.
#[test]
fn powers() {
    for exponent in [-1.0, -0.5, 0.5, 2.0, 3.0, 4.0] {
        let mut graph = Graph::new("power");
        let x = graph.add_input("x", Type::tensor(DType::F32, [33]));
        let exponent = graph.add_tensor("exponent", Tensor::f32([], [exponent]));
        let y = graph.add("y", Op::Binary(Binary::Pow), &[Some(x.into()), Some(exponent.into())]).unwrap();
        graph.add_result("y", y.into());
        let positive: Vec<f32> = (1..=33).map(|i| i as f32 / 16.0).collect();
        agree("power", &graph, &[Tensor::f32([33], positive)]);
    }
}

/// Extremes of the range where approximations of `exp` and `tanh` go wrong first.
#[test]
fn special_values() {
    let values = [
        0.0,
        -0.0,
        1e-30,
        -1e-6,
        0.25,
        -0.49,
        0.51,
        7.9,
        -9.0,
        30.0,
        -87.0,
        88.0,
        89.0,
        -104.0,
        1e30,
        f32::NEG_INFINITY,
    ];
    for u in [Unary::Exp, Unary::Tanh, Unary::Sigmoid, Unary::Erf] {
        let mut graph = Graph::new("special");
        let x = graph.add_input("x", Type::tensor(DType::F32, [values.len()]));
        let y = graph.add("y", Op::Unary(u), &[Some(x.into())]).unwrap();
        graph.add_result("y", y.into());
        let input = [Tensor::f32([values.len()], values)];
        let expected = Interp.compile(&graph).unwrap().run(&input).unwrap();
        let got = Jit::default().compile(&graph).unwrap().run(&input).unwrap();
        for ((x, e), g) in values.iter().zip(expected[0].as_f32().unwrap()).zip(got[0].as_f32().unwrap()) {
            let close = e == g || (e - g).abs() <= 2e-6 * e.abs().max(1e-30) || (e - g).abs() < 1e-37;
            assert!(close || (u == Unary::Erf && (e - g).abs() < 1e-6), "{}({x}) = {e}, not {g}", u.word());
        }
    }
}

/// One executable serves several sets of input shapes.
#[test]
fn open_dimensions() {
    let mut graph = Graph::new("open");
    let shape = [optc_ir::Dim::sym("N"), 3.into(), optc_ir::Dim::sym("H"), 8.into()];
    let x = graph.add_input("x", Type::tensor(DType::F32, shape));
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let w = graph.add_tensor("w", random(&mut rng, &[4, 3, 3, 3]));
    let conv = Conv { pads: vec![1; 4], ..Conv::default() };
    let y = graph.add("y", conv, &[Some(x.into()), Some(w.into())]).unwrap();
    graph.add_result("y", y.into());
    let mut jit = Jit::default().compile(&graph).unwrap();
    let mut interp = Interp.compile(&graph).unwrap();
    for shape in [[1, 3, 5, 8], [2, 3, 9, 8], [1, 3, 5, 8]] {
        let input = [random(&mut rng, &shape)];
        let (a, b) = (interp.run(&input).unwrap(), jit.run(&input).unwrap());
        assert_eq!(a[0].shape(), b[0].shape());
        for (x, y) in a[0].as_f32().unwrap().iter().zip(b[0].as_f32().unwrap()) {
            assert!((x - y).abs() < 1e-3, "{x} and {y}");
        }
    }
}

/// 3×3 convolutions large enough to be transformed, groups that fill blocks, and what follows in one kernel.
#[test]
fn wide_convolutions() {
    let mut plans = String::new();
    for (case, (n, c, o, group)) in
        [(1, 16, 32, 1), (2, 24, 16, 1), (1, 20, 20, 1), (1, 64, 64, 2)].into_iter().enumerate()
    {
        for (h, w) in [(5, 7), (13, 12), (16, 16), (3, 30)] {
            let acts = [Act::Relu, Act::Gelu, Act::None, Act::HardSwish];
            let conv = Conv { pads: vec![1; 4], group, act: acts[case % acts.len()], ..Conv::default() };
            let what = format!("{n}×{c}×{h}×{w} → {o} in {group} groups");
            check(&what, conv.clone(), &[&[n, c, h, w], &[o, c / group, 3, 3], &[o]]);

            let mut rng = ChaCha8Rng::seed_from_u64(21);
            let mut graph = Graph::new("residual");
            let x = graph.add_input("x", Type::tensor(DType::F32, [n, c, h, w]));
            let constant = |graph: &mut Graph, rng: &mut _, name: &str, shape: &[usize]| {
                graph.add_tensor(name, random(rng, shape))
            };
            let (w1, w2) = (
                constant(&mut graph, &mut rng, "w1", &[o, c / group, 3, 3]),
                constant(&mut graph, &mut rng, "w2", &[o, o, 1, 1]),
            );
            let scale = constant(&mut graph, &mut rng, "scale", &[o, 1, 1]);
            let first = graph.add("first", conv, &[Some(x.into()), Some(w1.into())]).unwrap();
            let second = graph.add("second", Conv::default(), &[Some(first.into()), Some(w2.into())]).unwrap();
            let scaled =
                graph.add("scaled", Op::Binary(Binary::Mul), &[Some(second.into()), Some(scale.into())]).unwrap();
            let sum = graph.add("sum", Op::Binary(Binary::Add), &[Some(first.into()), Some(scaled.into())]).unwrap();
            let relu = graph.add("relu", Op::Unary(Unary::Relu), &[Some(sum.into())]).unwrap();
            let half = graph.add("half", Op::Unary(Unary::Sigmoid), &[Some(relu.into())]).unwrap();
            let gated = graph.add("gated", Op::Binary(Binary::Mul), &[Some(half.into()), Some(relu.into())]).unwrap();
            graph.add_result("y", gated.into());
            agree(&what, &graph, &[random(&mut rng, &[n, c, h, w])]);
            plans += &Plan::new(&graph, &Target::host(1)).unwrap().to_string();
        }
    }
    let wide = Target::host(1).vectors == Vectors::Avx512;
    assert_eq!(plans.contains("winograd"), wide, "transformed where there are registers for it\n{plans}");
}

/// Scores, scaled and masked, between two products.
#[test]
fn attention() {
    let masks: [&[usize]; 6] = [&[2, 1, 1, 19], &[19], &[2, 3, 7, 19], &[7, 19], &[1, 3, 1, 19], &[1]];
    for (case, mask) in masks.into_iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(13);
        let mut graph = Graph::new("attention");
        let mut inputs = Vec::new();
        let mut input = |graph: &mut Graph, name: &str, shape: &[usize]| -> Option<ValueId> {
            inputs.push(random(&mut rng, shape));
            Some(graph.add_input(name, Type::tensor(DType::F32, shape.iter().copied())).into())
        };
        let q = input(&mut graph, "q", &[2, 3, 7, 5]);
        let k = input(&mut graph, "k", &[2, 3, 5, 19]);
        let v = input(&mut graph, "v", &[2, 3, 19, 6]);
        let mask = input(&mut graph, "mask", mask);
        let c = graph.add_tensor("c", Tensor::f32([], [8.0]));
        let scores = graph.add("scores", MatMul {}, &[q, k]).unwrap();
        let scaled = graph.add("scaled", Op::Binary(Binary::Div), &[Some(scores.into()), Some(c.into())]).unwrap();
        let operands = if case % 2 == 0 { [Some(scaled.into()), mask] } else { [mask, Some(scaled.into())] };
        let masked = graph.add("masked", Op::Binary(Binary::Add), &operands).unwrap();
        let shares = graph.add("shares", Softmax::default(), &[Some(masked.into())]).unwrap();
        let y = graph.add("y", MatMul {}, &[Some(shares.into()), v]).unwrap();
        graph.add_result("y", y.into());
        agree(&format!("mask {case}"), &graph, &inputs);
    }
}

/// A layer of every family, at sizes that leave tiles cut.
fn layers() -> Vec<(&'static str, Graph, Vec<Tensor>)> {
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let conv = |stride: usize, group: usize, act| Conv {
        strides: vec![stride; 2],
        pads: vec![1; 4],
        group,
        act,
        ..Conv::default()
    };
    let pool = MaxPool { kernel: vec![3; 2], strides: vec![2; 2], pads: vec![1; 4], ..MaxPool::default() };
    let average = AveragePool { kernel: vec![3; 2], pads: vec![1; 4], ..AveragePool::default() };
    let mut of = |what, op: Op, shapes: &[&[usize]], dynamic| {
        let (graph, inputs) = single(op, shapes, dynamic, &mut rng);
        (what, graph, inputs)
    };
    vec![
        of("conv", conv(1, 1, Act::Silu).into(), &[&[2, 20, 11, 13], &[37, 20, 5, 3], &[37]], false),
        of("stem", conv(2, 1, Act::Relu).into(), &[&[1, 3, 21, 19], &[24, 3, 3, 3], &[24]], false),
        of("depthwise", conv(1, 33, Act::HardSwish).into(), &[&[1, 33, 12, 13], &[33, 1, 3, 3], &[33]], false),
        of("strided depthwise", conv(2, 16, Act::None).into(), &[&[1, 16, 15, 15], &[16, 1, 3, 3]], false),
        of("linear", Linear { act: Act::Gelu }.into(), &[&[7, 45], &[83, 45], &[83]], false),
        of("row times matrix", Linear::default().into(), &[&[1, 301], &[70, 301], &[70]], false),
        of("products", MatMul {}.into(), &[&[2, 3, 9, 17], &[2, 3, 17, 21]], true),
        of("max pool", pool.into(), &[&[1, 20, 15, 14]], false),
        of("average pool", average.into(), &[&[1, 20, 9, 10]], false),
        of("global average pool", GlobalAveragePool {}.into(), &[&[2, 20, 7, 9]], false),
        of("global max pool", GlobalMaxPool {}.into(), &[&[2, 20, 7, 9]], false),
        of("softmax", Softmax { axis: -1, ..Softmax::default() }.into(), &[&[5, 333]], false),
        of("layer norm", LayerNorm::default().into(), &[&[3, 4, 77], &[77], &[77]], false),
        of("tanh", Op::Unary(Unary::Tanh), &[&[3, 5, 67]], false),
        of("erf", Op::Unary(Unary::Erf), &[&[1000]], false),
        of("broadcast", Op::Binary(Binary::Mul), &[&[2, 1, 4, 1], &[3, 1, 5]], true),
    ]
}

/// Tiles differ from target to target, and with the number of threads, but every element is computed by the same
/// operations in the same order. Only wide vectors transform 3×3 convolutions, which makes other sums of them:
/// none is here.
#[test]
fn targets_give_the_same_bits() {
    for (what, graph, inputs) in layers() {
        same_bits(what, &graph, &inputs);
    }
}
