//! Quantized layers whose weights are mostly zero.

use optc_codegen::{Algorithm, Plan, Selection, Target, Vectors};
use optc_ir::op::{Act, Binary, Conv, DequantizeLinear, GlobalAveragePool, Linear, MatMul, MaxPool};
use optc_ir::{DType, Op, Tensor, ValueId};
use rand::Rng;

use super::Net;
use super::codes::{signed, unsigned};

/// The forms of a sparse product, wherever they can be had, and what their kernels are called: with the pattern in the
/// code, and driven by data.
const FORMS: [(Selection, &str); 2] =
    [(Selection::Always(Algorithm::SpmmUnrolled), "i8_spmm_jit"), (Selection::Always(Algorithm::Spmm), "i8_spmm_")];

impl Net {
    /// Weights of codes of which one in ten is not zero, none of the first output, along the first axis or the last.
    fn sparse_weights_of_codes(&mut self, shape: &[usize], axis: usize) -> ValueId {
        let len: usize = shape.iter().product();
        let inner: usize = shape[axis + 1..].iter().product();
        let output = |i: usize| i / inner % shape[axis];
        let code = |i: usize| match self.rng.random_range(0..10) {
            0 if output(i) > 0 => self.rng.random_range(-128i64..128),
            _ => 0,
        };
        let codes = (0..len).map(code).collect();
        // Powers of two: sums of products of numbers are exact where those of what they are multiplied by are.
        let scales: Vec<f32> = (0..shape[axis]).map(|_| 2.0f32.powi(-self.rng.random_range(6..9))).collect();
        let codes = self.integers(shape, DType::I8, codes);
        let scales = self.graph.add_tensor("scales", Tensor::f32([shape[axis]], scales)).into();
        self.add(DequantizeLinear { axis: axis as i64, block: 0 }, &[codes, scales])
    }
}

/// A convolution of such padding, stride, dilation and groups.
fn conv(pads: [usize; 4], strides: [usize; 2], dilations: [usize; 2], group: usize) -> Conv {
    Conv { pads: pads.to_vec(), strides: strides.to_vec(), dilations: dilations.to_vec(), group, ..Conv::default() }
}

/// A convolution by itself, by all forms that have a kernel for so few positions.
fn check((case, conv, x, weights): (usize, Conv, [usize; 4], [usize; 4]), few: bool, kernel: Option<&str>) {
    for (selection, own) in &FORMS[usize::from(few)..] {
        let mut conv = conv.clone();
        conv.act = [Act::None, Act::Relu, Act::Clip { lo: 0.0, hi: 6.0 }, Act::HardSwish][case % 4];
        let mut net = Net::new("codes", 5);
        let grid = if case.is_multiple_of(2) { unsigned(0.016, 120) } else { signed(0.016, -5) };
        let from = net.quantized_input(&x, grid);
        let what = format!("{x:?}, {weights:?}, {conv:?}");
        let act = conv.act;
        let of_codes = net.sparse_weights_of_codes(&weights, 0);
        let y = if case.is_multiple_of(3) {
            net.add(conv, &[from, of_codes])
        } else {
            let bias = net.dense(&weights[..1]);
            net.add(conv, &[from, of_codes, bias])
        };
        let grid = if act == Act::Relu { unsigned(0.02, 0) } else { unsigned(0.02, 100) };
        let y = net.codes(y, grid);
        net.check_selected(&what, y, grid, (kernel.unwrap_or(own), selection));
    }
}

#[test]
fn convolutions_of_sparse_codes() {
    let plain = [1, 1];
    let one = conv([0; 4], plain, plain, 1);
    let cases = [
        (one.clone(), [1, 1, 7, 13], [1, 1, 1, 1]),
        (one.clone(), [2, 37, 8, 8], [61, 37, 1, 1]),
        (one, [3, 64, 13, 11], [28, 64, 1, 1]),
        (conv([1; 4], plain, plain, 1), [1, 18, 8, 9], [30, 18, 3, 3]),
        (conv([1, 0, 2, 3], plain, plain, 1), [2, 32, 9, 9], [29, 32, 3, 4]),
        (conv([2; 4], plain, [2, 2], 1), [1, 32, 14, 14], [64, 32, 3, 3]),
        (conv([1; 4], [2, 2], plain, 1), [1, 33, 27, 28], [96, 33, 3, 3]),
        (conv([0; 4], [2, 2], plain, 1), [2, 64, 16, 17], [50, 64, 1, 1]),
        (conv([2, 1, 0, 3], [3, 1], [1, 2], 1), [1, 20, 29, 14], [24, 20, 3, 3]),
        (conv([3; 4], [2, 2], plain, 1), [1, 3, 31, 32], [16, 3, 7, 7]),
        (conv([1; 4], plain, plain, 3), [1, 24, 9, 9], [18, 8, 3, 3]),
    ];
    for (case, (conv, x, weights)) in cases.into_iter().enumerate() {
        check((case, conv, x, weights), false, None);
    }
    // Quads of channels would be of two groups.
    check((3, conv([1; 4], plain, plain, 3), [1, 18, 9, 9], [12, 6, 3, 3]), false, Some("i8_conv"));
}

#[test]
fn few_positions_of_sparse_codes() {
    for (case, (pad, x, weights)) in
        [(0, [1, 20, 1, 1], [17, 20, 1, 1]), (1, [2, 36, 1, 2], [5, 36, 3, 3]), (1, [1, 16, 4, 4], [33, 16, 3, 3])]
            .into_iter()
            .enumerate()
    {
        check((case, conv([pad; 4], [1, 1], [1, 1], 1), x, weights), true, None);
    }
}

/// Layers between which codes lie in planes, with borders of zero points: the value of a sum is read by windows, by
/// single pixels, every other pixel and the sum, and at the ends by what works in blocks of channels.
#[test]
fn stages_of_sparse_codes() {
    for (extents, channels) in [([14, 14], 64), ([9, 17], 36)] {
        let mut net = Net::new("codes", 5);
        let grid = unsigned(0.015625, 90);
        let x = net.quantized_input(&[2, channels, extents[0] * 2, extents[1] * 2], grid);
        let pool = MaxPool { kernel: vec![2, 2], strides: vec![2, 2], ..MaxPool::default() };
        let x = net.add(pool, &[x]);
        let x = net.codes(x, grid);
        let layer = |net: &mut Net, x, outputs, kernel, strides| {
            let weights = net.sparse_weights_of_codes(&[outputs, channels, kernel, kernel], 0);
            let y = net.add(conv([kernel / 2; 4], strides, [1, 1], 1), &[x, weights]);
            net.codes(y, grid)
        };
        let a = layer(&mut net, x, channels, 1, [1, 1]);
        let b = layer(&mut net, a, channels, 3, [1, 1]);
        let sum = net.add(Op::Binary(Binary::Add), &[b, x]);
        let sum = net.codes(sum, unsigned(0.03125, 77));
        let c = layer(&mut net, sum, channels, 3, [2, 2]);
        let d = layer(&mut net, sum, channels, 1, [2, 2]);
        let sum = net.add(Op::Binary(Binary::Add), &[c, d]);
        let sum = net.codes(sum, grid);
        let mean = net.add(GlobalAveragePool {}, &[sum]);
        let grid = unsigned(0.0078125, 120);
        let y = net.codes(mean, grid);
        net.check(&format!("{extents:?} of {channels}"), y, grid, "i8_spmm_jit");
    }
}

#[test]
fn matrices_of_sparse_codes() {
    let grid = unsigned(0.05, 128);
    let shapes = [(vec![49, 64], 28), (vec![67, 37], 50), (vec![2, 64, 130], 33)];
    for ((shape, n), (selection, kernel)) in shapes.iter().flat_map(|case| FORMS.iter().map(move |form| (case, form))) {
        let (n, k) = (*n, shape[shape.len() - 1]);
        let mut net = Net::new("codes", 5);
        let x = net.quantized_input(shape, unsigned(0.016, 120));
        let weights = net.sparse_weights_of_codes(&[k, n], 1);
        let y = net.add(MatMul {}, &[x, weights]);
        let y = net.codes(y, grid);
        let (weights, bias) = (net.sparse_weights_of_codes(&[16, n], 0), net.dense(&[16]));
        let y = net.add(Linear::default(), &[y, weights, bias]);
        let y = net.codes(y, grid);
        net.check_selected(&format!("{shape:?} by {n}"), y, grid, (kernel, selection));
    }
}

/// Few positions are not worth the code of all weights, nor are weights that are not mostly zero.
#[test]
fn what_is_not_sparse_enough_is_dense() {
    let plan = |extent: usize, sparse: bool| {
        let mut net = Net::new("codes", 5);
        let x = net.quantized_input(&[1, 64, extent, extent], unsigned(0.016, 120));
        let weights = if sparse {
            net.sparse_weights_of_codes(&[64, 64, 1, 1], 0)
        } else {
            let codes = (0..64 * 64).map(|_| net.rng.random_range(1i64..128)).collect();
            let codes = net.integers(&[64, 64, 1, 1], DType::I8, codes);
            let scale = net.graph.add_tensor("scale", Tensor::f32([], [0.01])).into();
            net.add(DequantizeLinear::default(), &[codes, scale])
        };
        let y = net.add(Conv::default(), &[x, weights]);
        let y = net.codes(y, unsigned(0.02, 128));
        net.graph.add_result("y", y);
        let target = Target { vectors: Vectors::Avx512, threads: 1 };
        Plan::new(&net.graph, &target).expect("the graph can be planned").to_string()
    };
    assert!(plan(28, true).contains("i8_spmm_jit") && plan(28, false).contains("i8_conv"));
    assert!(plan(3, true).contains("i8_conv"));
}
