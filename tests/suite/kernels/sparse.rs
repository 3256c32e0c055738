//! Layers whose weights are mostly zero.

use optc_codegen::{Algorithm, Plan, SelectedJit, Selection, Target, Vectors};
use optc_ir::op::{Act, Binary, Conv, GlobalAveragePool, Linear, MatMul, MaxPool, Unary};
use optc_ir::{Backend, Graph, Interp, Op, Tensor, ValueId};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Net, agree, same_bits};

/// Weights of which one in ten is not zero, none of the first row.
fn sparse(rng: &mut ChaCha8Rng, shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    let row = len / shape[0];
    let weight = |i: usize| if i >= row && rng.random_range(0..10) == 0 { rng.random_range(-2.0f32..2.0) } else { 0.0 };
    Tensor::f32(shape, (0..len).map(weight).collect::<Vec<_>>())
}

impl Net {
    fn sparse_weights(&mut self, shape: &[usize]) -> ValueId {
        let tensor = sparse(&mut self.rng, shape);
        self.graph.add_tensor("w", tensor).into()
    }

    /// A convolution with sparse weights and a bias.
    fn conv(&mut self, conv: Conv, x: ValueId, weights: &[usize]) -> ValueId {
        let (w, b) = (self.sparse_weights(weights), self.dense(&weights[..1]));
        self.add(conv, &[x, w, b])
    }

    fn finish(mut self, y: ValueId) -> (Graph, Vec<Tensor>) {
        self.graph.add_result("y", y);
        (self.graph, self.inputs)
    }
}

/// A convolution of such padding, stride and dilation.
fn conv(pads: [usize; 4], strides: [usize; 2], dilations: [usize; 2]) -> Conv {
    Conv { pads: pads.to_vec(), strides: strides.to_vec(), dilations: dilations.to_vec(), ..Conv::default() }
}

fn same(kernel: usize) -> Conv {
    conv([kernel / 2; 4], [1, 1], [1, 1])
}

/// How many steps of a plan are kernels of a name that begins so.
fn kernels(graph: &Graph, target: &Target, name: &str) -> usize {
    Plan::new(graph, target).expect("the graph can be planned").to_string().matches(name).count()
}

/// How many steps of a plan are products of sparse matrices.
fn products(graph: &Graph) -> usize {
    kernels(graph, &Target::host(1), "f32_spm")
}

/// What it shows, a convolution, the shapes of its input and weights, and whether a sparse product is faster.
type Layer = (&'static str, Conv, [usize; 4], [usize; 4], bool);

/// The convolutions of the table, each a layer of its own.
fn layers() -> Vec<Layer> {
    let plain = [1, 1];
    let wide = [1, 64, 14, 14];
    vec![
        ("1×1", same(1), wide, [96, 64, 1, 1], true),
        ("1×1 of several images", same(1), [3, 64, 13, 11], [96, 64, 1, 1], true),
        ("3×3", same(3), wide, [64, 64, 3, 3], true),
        ("3×3 of several images", same(3), [2, 48, 17, 9], [61, 48, 3, 3], true),
        ("valid", conv([0; 4], plain, plain), [1, 32, 21, 19], [64, 32, 5, 5], true),
        ("more border than image", conv([3; 4], plain, plain), [1, 64, 5, 5], [64, 64, 3, 3], true),
        ("uneven border", conv([1, 0, 2, 3], plain, plain), wide, [64, 64, 3, 4], true),
        ("dilated", conv([2; 4], plain, [2, 2]), wide, [64, 64, 3, 3], true),
        ("of stride 2", conv([1; 4], [2, 2], plain), [1, 64, 27, 28], [96, 64, 3, 3], true),
        ("1×1 of stride 2", conv([0; 4], [2, 2], plain), [1, 64, 28, 27], [256, 64, 1, 1], true),
        ("of strides 3 and 1, dilated", conv([2, 1, 0, 3], [3, 1], [1, 2]), [2, 64, 29, 14], [64, 64, 3, 3], true),
        ("3×3 of two times sixteen images", same(3), [32, 48, 5, 4], [61, 48, 3, 3], true),
        ("of stride 2, of sixteen images", conv([1; 4], [2, 2], plain), [16, 64, 7, 8], [96, 64, 3, 3], true),
        ("valid, of sixteen images", conv([0; 4], plain, plain), [16, 64, 6, 6], [96, 64, 3, 3], true),
        ("four pixels", same(3), [1, 128, 2, 2], [128, 128, 3, 3], true),
        ("nine pixels, a dilation", conv([2; 4], plain, [2, 2]), [1, 64, 3, 3], [100, 64, 3, 3], true),
        ("sixteen pixels of stride 2", conv([1; 4], [2, 2], plain), [1, 64, 7, 8], [64, 64, 3, 3], true),
        ("four pixels of uneven channels", same(3), [1, 37, 2, 2], [61, 37, 3, 3], true),
        ("one pixel of stride 2", conv([1; 4], [2, 2], plain), [1, 128, 1, 1], [128, 128, 3, 3], true),
        ("too small", same(1), [1, 3, 4, 4], [5, 3, 1, 1], false),
    ]
}

#[test]
fn convolutions() {
    for (what, conv, x, weights, expected) in layers() {
        for act in [Act::None, Act::Silu] {
            let mut net = Net::new("sparse", 31);
            let input = net.random_input(&x);
            let y = net.conv(Conv { act, ..conv.clone() }, input, &weights);
            let (graph, inputs) = net.finish(y);
            agree(what, &graph, &inputs);
            assert_eq!(products(&graph) > 0, expected, "{what}");
        }
    }
}

/// What is not sparse enough stays as it was.
#[test]
fn dense_weights() {
    let mut net = Net::new("sparse", 31);
    let x = net.random_input(&[1, 64, 14, 14]);
    let w = net.dense(&[64, 64, 3, 3]);
    let y = net.add(same(3), &[x, w]);
    let (graph, inputs) = net.finish(y);
    agree("dense", &graph, &inputs);
    assert_eq!(products(&graph), 0);
}

/// All weights are zero: what is left is the bias.
#[test]
fn no_weights() {
    let mut net = Net::new("sparse", 31);
    let x = net.random_input(&[1, 64, 14, 14]);
    let w = net.graph.add_tensor("w", Tensor::f32([64, 64, 1, 1], vec![0.0; 64 * 64])).into();
    let b = net.dense(&[64]);
    let y = net.add(same(1), &[x, w, b]);
    let (graph, inputs) = net.finish(y);
    agree("no weights", &graph, &inputs);
    let expected = Interp.compile(&graph).unwrap().run(&inputs).unwrap();
    for algorithm in [Algorithm::Spmm, Algorithm::SpmmUnrolled, Algorithm::Listed] {
        let jit = SelectedJit { target: Target::host(1), selection: Selection::Always(algorithm) };
        assert_eq!(jit.compile(&graph).unwrap().run(&inputs).unwrap(), expected, "{algorithm}");
    }
}

/// Two stages of a residual network between dense layers: sums, a stride, pools, and a result that two read.
fn residual(images: usize, extent: usize) -> (Graph, Vec<Tensor>) {
    let mut net = Net::new("sparse", 31);
    let x = net.random_input(&[images, 3, extent, extent]);
    let w = net.dense(&[32, 3, 3, 3]);
    let mut x = net.add(Conv { act: Act::Relu, ..same(3) }, &[x, w]);
    for _ in 0..2 {
        let first = net.conv(Conv { act: Act::Relu, ..same(3) }, x, &[32, 32, 3, 3]);
        let second = net.conv(same(3), first, &[32, 32, 3, 3]);
        let sum = net.add(Op::Binary(Binary::Add), &[second, x]);
        x = net.add(Op::Unary(Unary::Relu), &[sum]);
    }
    let first = net.conv(Conv { act: Act::Relu, ..conv([1; 4], [2, 2], [1, 1]) }, x, &[64, 32, 3, 3]);
    let second = net.conv(same(3), first, &[64, 64, 3, 3]);
    let down = net.conv(conv([0; 4], [2, 2], [1, 1]), x, &[64, 32, 1, 1]);
    let scale = net.dense(&[64, 1, 1]);
    let scaled = net.add(Op::Binary(Binary::Mul), &[second, scale]);
    let sum = net.add(Op::Binary(Binary::Add), &[scaled, down]);
    let pool = MaxPool { kernel: vec![2; 2], strides: vec![2; 2], ..MaxPool::default() };
    let pooled = net.add(pool, &[sum]);
    let last = net.conv(same(1), pooled, &[64, 64, 1, 1]);
    let y = net.add(GlobalAveragePool {}, &[last]);
    net.finish(y)
}

#[test]
fn residual_networks() {
    for (images, extent) in [(2, 28), (32, 8)] {
        let (graph, inputs) = residual(images, extent);
        agree("residual", &graph, &inputs);
        assert!(products(&graph) >= 6, "most layers are sparse products");
    }
}

/// Sums that are kept in the result while weights go by, and what is added to them at last.
#[test]
fn deep_layers() {
    let mut net = Net::new("sparse", 31);
    let x = net.random_input(&[1, 64, 14, 14]);
    let first = net.conv(Conv { act: Act::Relu, ..same(1) }, x, &[64, 64, 1, 1]);
    let wide = net.conv(Conv { act: Act::Relu, ..same(1) }, first, &[128, 64, 1, 1]);
    let narrow = net.conv(same(3), wide, &[64, 128, 3, 3]);
    let y = net.add(Op::Binary(Binary::Add), &[narrow, first]);
    let (graph, inputs) = net.finish(y);
    agree("deep", &graph, &inputs);
    assert_eq!(products(&graph), 3);
}

/// Matrices, also one after the other with a sum and a function between.
fn matrices() -> (Graph, Vec<Tensor>) {
    let mut net = Net::new("sparse", 31);
    let x = net.random_input(&[2, 33, 128]);
    let (w, b) = (net.sparse_weights(&[256, 128]), net.dense(&[256]));
    let wide = net.add(Linear { act: Act::Gelu }, &[x, w, b]);
    let w = net.sparse_weights(&[256, 128]);
    let narrow = net.add(MatMul {}, &[wide, w]);
    let b = net.dense(&[128]);
    let biased = net.add(Op::Binary(Binary::Add), &[narrow, b]);
    let y = net.add(Op::Binary(Binary::Add), &[biased, x]);
    net.finish(y)
}

#[test]
fn matrices_of_rows() {
    let (graph, inputs) = matrices();
    agree("matrices", &graph, &inputs);
    assert_eq!(products(&graph), 2);
}

/// Makes weights few values: zero and `values` others.
fn shared(weights: &Tensor, values: usize) -> Tensor {
    let step = |w: f32| if w == 0.0 { 0.0 } else { ((w + 2.0) / 4.0 * values as f32).floor() + 0.5 };
    let kept: Vec<f32> = weights.as_f32().expect("weights are numbers").iter().map(|&w| step(w)).collect();
    Tensor::f32(weights.shape(), kept)
}

/// Rows, outputs and features, and how many values weights share; all where none is given.
const FEW_ROWS: [([usize; 3], Option<usize>); 8] = [
    ([1, 300, 784], None),
    ([1, 100, 300], Some(16)),
    ([1, 67, 131], Some(31)),
    ([1, 64, 256], Some(40)),
    ([2, 128, 97], None),
    ([3, 33, 128], Some(5)),
    ([4, 97, 64], None),
    ([1, 128, 32], None),
];

#[test]
fn few_rows() {
    for ([m, n, k], values) in FEW_ROWS {
        let what = format!("{m}×{n}×{k} {values:?}");
        let mut net = Net::new("sparse", 31);
        let x = net.random_input(&[m, k]);
        let mut weights = sparse(&mut net.rng, &[n, k]);
        if let Some(values) = values {
            weights = shared(&weights, values);
        }
        let (w, b) = (net.graph.add_tensor("w", weights).into(), net.dense(&[n]));
        let hidden = net.add(Linear { act: Act::Gelu }, &[x, w, b]);
        let (scale, last) = (net.dense(&[1, n]), net.sparse_weights(&[n, 2 * n]));
        let scaled = net.add(Op::Binary(Binary::Mul), &[hidden, scale]);
        let y = net.add(MatMul {}, &[scaled, last]);
        let (graph, inputs) = net.finish(y);
        agree(&what, &graph, &inputs);
        let target = Target { vectors: Vectors::Avx512, threads: 2 };
        let coded = values.is_some_and(|values| values < 32);
        assert_eq!(kernels(&graph, &target, "c5_spmv_16x32"), usize::from(coded), "{what}");
        // The second layer has half as many weights for each output.
        let expected = if n > 33 { 2 } else { 1 };
        assert_eq!(kernels(&graph, &target, "spmv_16x32"), expected, "{what}");
    }
}

/// Weights of more values, which caches do not hold, are bytes where these are looked up.
#[test]
fn few_rows_of_bytes() {
    for (values, functions) in [(100, false), (200, true)] {
        let mut net = Net::new("sparse", 31);
        let (n, k) = (1500, 1900);
        let x = net.random_input(&[1, k]);
        let weights = shared(&sparse(&mut net.rng, &[n, k]), values);
        let (w, b) = (net.graph.add_tensor("w", weights).into(), net.dense(&[n]));
        let mut y = net.add(Linear { act: Act::Relu }, &[x, w, b]);
        if functions {
            let scale = net.dense(&[1, n]);
            y = net.add(Op::Binary(Binary::Mul), &[y, scale]);
        }
        let (graph, inputs) = net.finish(y);
        let what = format!("{values} values");
        agree(&what, &graph, &inputs);
        for (vectors, kernel) in [(Vectors::Avx512, "c8_spmv"), (Vectors::Avx2, "f32_spmv")] {
            assert_eq!(kernels(&graph, &Target { vectors, threads: 1 }, kernel), 1, "{what}, {vectors}");
        }
        same_bits(&what, &graph, &inputs);
    }
}

/// Lookups lane by lane take longer than products, and more rows than a few are lanes themselves.
#[test]
fn few_rows_by_other_kernels() {
    for (vectors, m, expected) in
        [(Vectors::Avx512, 1, 1), (Vectors::Avx2, 1, 1), (Vectors::Clif, 1, 0), (Vectors::Avx512, 5, 0)]
    {
        let mut net = Net::new("sparse", 31);
        let x = net.random_input(&[m, 784]);
        let w = net.sparse_weights(&[300, 784]);
        let b = net.dense(&[300]);
        let y = net.add(Linear { act: Act::None }, &[x, w, b]);
        let (graph, _) = net.finish(y);
        assert_eq!(kernels(&graph, &Target { vectors, threads: 1 }, "spmv_16x32"), expected, "{vectors}, {m} rows");
    }
}

/// Convolutions that see all of their image, and of which nothing is left but channels.
#[test]
fn one_pixel() {
    for (what, images, channels, kernel) in [("all of an image", 1, 24, 3), ("gates", 2, 96, 1)] {
        let mut net = Net::new("sparse", 31);
        let x = net.random_input(&[images, channels, kernel, kernel]);
        let y = net.conv(Conv { act: Act::Relu, ..conv([0; 4], [1, 1], [1, 1]) }, x, &[64, channels, kernel, kernel]);
        let scale = net.dense(&[64, 1, 1]);
        let scaled = net.add(Op::Binary(Binary::Mul), &[y, scale]);
        let y = net.conv(same(1), scaled, &[128, 64, 1, 1]);
        let (graph, inputs) = net.finish(y);
        agree(what, &graph, &inputs);
        let target = Target { vectors: Vectors::Avx512, threads: 1 };
        assert_eq!(kernels(&graph, &target, "f32_spmv"), 2, "{what}");
    }
}

#[test]
fn targets_give_the_same_bits() {
    for (what, (graph, inputs)) in [("residual", residual(2, 28)), ("matrices", matrices())] {
        same_bits(what, &graph, &inputs);
    }
}
