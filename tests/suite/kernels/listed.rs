//! Layers whose weights are zero in whole blocks of outputs, or at the same places in all filters.

use optc_codegen::{Algorithm, Plan, SelectedJit, Selection, Target, Vectors};
use optc_ir::op::{Act, Binary, Conv, Gemm, Linear, MatMul};
use optc_ir::{Backend, Graph, Interp, Op, Tensor, ValueId};
use rand::Rng;

use super::{Net, TOLERANCE, agree};

/// Weights of which one place in `of` is left for each so many outputs together, none in the second block of them.
fn blocks(net: &mut Net, shape: &[usize], height: usize, of: usize) -> ValueId {
    let row: usize = shape[1..].iter().product();
    let mut weights = Vec::new();
    for block in 0..shape[0].div_ceil(height) {
        let kept: Vec<bool> = (0..row).map(|_| block != 1 && net.rng.random_range(0..of) == 0).collect();
        for _ in block * height..shape[0].min((block + 1) * height) {
            let weight = |&kept: &bool| if kept { net.rng.random_range(-2.0f32..2.0) } else { 0.0 };
            weights.extend(kept.iter().map(weight).collect::<Vec<f32>>());
        }
    }
    net.graph.add_tensor("w", Tensor::f32(shape, weights)).into()
}

fn finish(mut net: Net, y: ValueId) -> (Graph, Vec<Tensor>) {
    net.graph.add_result("y", y);
    (net.graph, net.inputs)
}

/// How many layers of a plan are computed by lists.
fn listed(graph: &Graph, target: &Target) -> usize {
    let plan = Plan::new(graph, target).expect("the graph can be planned").to_string();
    let kernels = plan.matches("f32_listed_").count();
    assert_eq!(plan.matches(": listed, ").count(), kernels, "choices name what is computed by lists\n{plan}");
    kernels
}

fn conv(pads: [usize; 4], strides: [usize; 2], dilations: [usize; 2], group: usize) -> Conv {
    Conv {
        pads: pads.to_vec(),
        strides: strides.to_vec(),
        dilations: dilations.to_vec(),
        group,
        act: Act::Relu,
        ..Conv::default()
    }
}

fn same(kernel: usize) -> Conv {
    conv([kernel / 2; 4], [1, 1], [1, 1], 1)
}

/// What it shows, a convolution, the shapes of its input and weights, outputs that keep the same places, and in how
/// many one is left.
type Layer = (&'static str, Conv, [usize; 4], [usize; 4], usize, usize);

fn layers() -> Vec<Layer> {
    let (plain, all) = ([1, 1], usize::MAX);
    let wide = [1, 64, 14, 14];
    vec![
        ("1×1", same(1), wide, [96, 64, 1, 1], 16, 8),
        ("1×1, all alike", same(1), wide, [96, 64, 1, 1], all, 8),
        ("1×1 of several images", same(1), [3, 64, 13, 11], [87, 64, 1, 1], 16, 8),
        ("1×1 in blocks of 32", same(1), [2, 128, 9, 9], [128, 128, 1, 1], 32, 8),
        ("3×3", same(3), wide, [64, 64, 3, 3], 16, 10),
        ("3×3, all alike", same(3), [2, 37, 17, 9], [61, 37, 3, 3], all, 10),
        ("valid", conv([0; 4], plain, plain, 1), [1, 32, 21, 19], [64, 32, 5, 5], 16, 8),
        ("more border than image", conv([3; 4], plain, plain, 1), [1, 64, 5, 5], [64, 64, 3, 3], 16, 8),
        ("uneven border", conv([1, 0, 2, 3], plain, plain, 1), wide, [64, 64, 3, 4], 16, 8),
        ("dilated", conv([2; 4], plain, [2, 2], 1), wide, [64, 64, 3, 3], 16, 8),
        ("of stride 2", conv([1; 4], [2, 2], plain, 1), [1, 64, 27, 28], [96, 64, 3, 3], 16, 8),
        ("1×1 of stride 2", conv([0; 4], [2, 2], plain, 1), [1, 64, 28, 27], [80, 64, 1, 1], 16, 8),
        ("of strides 3 and 1, dilated", conv([2, 1, 0, 3], [3, 1], [1, 2], 1), [2, 64, 29, 14], [64, 64, 3, 3], all, 8),
        ("groups of blocks", conv([1; 4], plain, plain, 2), [2, 64, 9, 9], [96, 32, 3, 3], 16, 6),
        ("groups within blocks", conv([1; 4], plain, plain, 4), [2, 32, 9, 9], [24, 8, 3, 3], 16, 1),
        ("few channels", conv([3; 4], [2, 2], plain, 1), [1, 3, 31, 33], [64, 3, 7, 7], all, 8),
        ("one row", conv([0, 1, 0, 1], plain, plain, 1), [1, 64, 1, 37], [64, 64, 1, 3], 16, 8),
        ("four pixels", same(3), [1, 128, 2, 2], [128, 128, 3, 3], 16, 8),
        ("two pixels", same(1), [1, 128, 1, 2], [64, 128, 1, 1], 16, 8),
        ("a pixel of many", conv([1; 4], [2, 2], plain, 1), [1, 128, 1, 1], [128, 128, 3, 3], 16, 20),
    ]
}

#[test]
fn convolutions() {
    for (what, conv, x, shape, height, of) in layers() {
        let mut net = Net::new("listed", 37);
        let input = net.random_input(&x);
        let (w, b) = (blocks(&mut net, &shape, height, of), net.dense(&shape[..1]));
        let y = net.add(conv, &[input, w, b]);
        let (graph, inputs) = finish(net, y);
        agree(what, &graph, &inputs);
        assert_eq!(listed(&graph, &Target::host(1)), 1, "{what}");
    }
}

/// Rows, outputs, features, outputs that keep the same places, and in how many one is left.
const MATRICES: [[usize; 5]; 8] = [
    [1, 300, 784, 16, 10],
    [1, 64, 67, usize::MAX, 4],
    [2, 37, 256, 16, 8],
    [3, 128, 97, 16, 8],
    [4, 96, 128, 16, 8],
    [7, 17, 131, usize::MAX, 5],
    [33, 128, 64, 16, 8],
    [49, 100, 96, 32, 8],
];

#[test]
fn matrices() {
    for [m, n, k, height, of] in MATRICES {
        let mut net = Net::new("listed", 37);
        let x = net.random_input(&[m, k]);
        let (w, b) = (blocks(&mut net, &[n, k], height, of), net.dense(&[n]));
        let hidden = net.add(Linear { act: Act::Gelu }, &[x, w, b]);
        // Of a matrix that lies feature by feature, outputs are columns.
        let narrow = net.dense(&[n, 1]);
        let first = net.add(MatMul {}, &[hidden, narrow]);
        let y = net.add(Op::Binary(Binary::Add), &[hidden, first]);
        let (graph, inputs) = finish(net, y);
        let what = format!("{m}×{n}×{k}, {height}");
        agree(&what, &graph, &inputs);
        assert_eq!(listed(&graph, &Target::host(1)), 1, "{what}");
    }
}

/// Weights that lie feature by feature, multiplied by a number.
#[test]
fn columns_of_matrices() {
    let mut net = Net::new("listed", 37);
    let x = net.random_input(&[5, 64]);
    let kept = |i: usize| if i / 48 / 8 == i % 48 / 16 * 2 { (i % 7) as f32 - 2.5 } else { 0.0 };
    let weights = Tensor::f32([64, 48], (0..64 * 48).map(kept).collect::<Vec<f32>>());
    let (w, b) = (net.graph.add_tensor("w", weights).into(), net.dense(&[48]));
    let y = net.add(Gemm { alpha: 0.5, beta: 2.0, ..Gemm::default() }, &[x, w, b]);
    let (graph, inputs) = finish(net, y);
    agree("columns", &graph, &inputs);
    assert_eq!(listed(&graph, &Target::host(1)), 1);
}

/// A residual network between dense layers: lists need no other layout than they do.
fn residual() -> (Graph, Vec<Tensor>) {
    let mut net = Net::new("listed", 37);
    let x = net.random_input(&[2, 3, 28, 28]);
    let w = net.dense(&[32, 3, 3, 3]);
    let mut x = net.add(same(3), &[x, w]);
    for height in [16, usize::MAX] {
        let (first, second) =
            (blocks(&mut net, &[32, 32, 3, 3], height, 9), blocks(&mut net, &[32, 32, 3, 3], height, 9));
        let hidden = net.add(same(3), &[x, first]);
        let last = net.add(Conv { act: Act::None, ..same(3) }, &[hidden, second]);
        let scale = net.dense(&[32, 1, 1]);
        let scaled = net.add(Op::Binary(Binary::Mul), &[last, scale]);
        x = net.add(Op::Binary(Binary::Add), &[scaled, x]);
    }
    let w = net.dense(&[16, 32, 1, 1]);
    let y = net.add(same(1), &[x, w]);
    finish(net, y)
}

#[test]
fn residual_networks() {
    let (graph, inputs) = residual();
    agree("residual", &graph, &inputs);
    let plan = Plan::new(&graph, &Target::host(1)).expect("the graph can be planned").to_string();
    assert!(listed(&graph, &Target::host(1)) == 4 && !plan.contains("transpose"), "{plan}");
    same_bits_by(Algorithm::Listed, "residual", &graph, &inputs);
}

/// Runs on all vectors that there are here and on one and two threads, everything that can be by one algorithm: all
/// must give the same bits, near those of the interpreter.
pub(super) fn same_bits_by(algorithm: Algorithm, what: &str, graph: &Graph, inputs: &[Tensor]) {
    let expected = Interp.compile(graph).unwrap().run(inputs).unwrap();
    let expected = expected[0].as_f32().unwrap();
    let scale = expected.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    let mut known: Option<Vec<u32>> = None;
    for vectors in Vectors::ALL.into_iter().filter(|vectors| vectors.run_here()) {
        for threads in [1, 2] {
            let (target, selection) = (Target { vectors, threads }, Selection::Always(algorithm));
            let plan = Plan::choose(graph, &shapes(inputs), &target, &selection).expect("the graph can be planned").0;
            assert!(plan.iter().any(|choice| choice.chosen == algorithm), "{what}: {vectors}");
            let results = SelectedJit { target, selection }.compile(graph).unwrap().run(inputs).unwrap();
            let got = results[0].as_f32().unwrap();
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * scale;
            assert!(got.iter().zip(expected).all(near), "{what}: {vectors} on {threads} threads is wrong");
            let bits: Vec<u32> = got.iter().map(|x| x.to_bits()).collect();
            assert!(known.is_none_or(|known| known == bits), "{what}: {vectors} on {threads} threads gives other bits");
            known = Some(bits);
        }
    }
}

fn shapes(inputs: &[Tensor]) -> Vec<Vec<usize>> {
    inputs.iter().map(|input| input.shape().to_vec()).collect()
}

#[test]
fn targets_give_the_same_bits() {
    for ([m, n, k], height) in [([1, 37, 96], 16), ([2, 64, 40], 16), ([9, 50, 33], usize::MAX)] {
        let mut net = Net::new("listed", 37);
        let x = net.random_input(&[m, k]);
        let (w, b) = (blocks(&mut net, &[n, k], height, 4), net.dense(&[n]));
        let y = net.add(Linear { act: Act::Silu }, &[x, w, b]);
        let (graph, inputs) = finish(net, y);
        same_bits_by(Algorithm::Listed, &format!("{m}×{n}×{k}"), &graph, &inputs);
    }
}
