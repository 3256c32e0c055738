//! Quantized layers: codes between a dequantization and the next quantization.
//!
//! Kernels round differently than the interpreter, which adds products of numbers one by one: a result may be the next
//! code where the number lies between two. That must be rare, and on all targets the same.

use optc_codegen::{Plan, SelectedJit, Selection, Target, Vectors};
use optc_ir::op::{
    Act, AveragePool, Binary, Concat, Conv, DequantizeLinear, Flatten, Gemm, GlobalAveragePool, MatMul, MaxPool,
    QuantizeLinear, Unary,
};
use optc_ir::{Backend, DType, Data, Interp, Op, Tensor, ValueId};
use rand::Rng;

use super::Net;

/// A grid of codes.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    scale: f32,
    zero: i64,
    dtype: DType,
}

pub(super) const fn unsigned(scale: f32, zero: i64) -> Grid {
    Grid { scale, zero, dtype: DType::U8 }
}

pub(super) const fn signed(scale: f32, zero: i64) -> Grid {
    Grid { scale, zero, dtype: DType::I8 }
}

impl Net {
    pub(super) fn integers(&mut self, shape: &[usize], dtype: DType, ints: Vec<i64>) -> ValueId {
        self.graph.add_tensor("c", Tensor::new(shape, Data::from_i64(dtype, ints))).into()
    }

    /// Quantized and dequantized again.
    pub(super) fn codes(&mut self, x: ValueId, grid: Grid) -> ValueId {
        let scale = self.graph.add_tensor("scale", Tensor::f32([], [grid.scale])).into();
        let zero = self.integers(&[], grid.dtype, vec![grid.zero]);
        let codes = self.add(QuantizeLinear::default(), &[x, scale, zero]);
        self.add(DequantizeLinear::default(), &[codes, scale, zero])
    }

    pub(super) fn quantized_input(&mut self, shape: &[usize], grid: Grid) -> ValueId {
        let x = self.random_input(shape);
        self.codes(x, grid)
    }

    /// Weights of random codes, a scale an output, along the first axis or the last.
    fn weights_of_codes(&mut self, shape: &[usize], axis: usize) -> ValueId {
        let len = shape.iter().product();
        let codes = (0..len).map(|_| self.rng.random_range(-128i64..128)).collect();
        let scales: Vec<f32> = (0..shape[axis]).map(|_| self.rng.random_range(0.002f32..0.02)).collect();
        let codes = self.integers(shape, DType::I8, codes);
        let zeros = self.integers(&shape[axis..=axis], DType::I8, vec![0; shape[axis]]);
        let scales = self.graph.add_tensor("scales", Tensor::f32([shape[axis]], scales)).into();
        self.add(DequantizeLinear { axis: axis as i64, block: 0 }, &[codes, scales, zeros])
    }

    /// Ends the graph with a value that is codes, and compares.
    pub(super) fn check(self, what: &str, y: ValueId, grid: Grid, kernel: &str) {
        self.check_selected(what, y, grid, (kernel, &Selection::Modelled));
    }

    /// The same where layers are computed as selected. Only wide vectors have kernels with patterns in their code.
    pub(super) fn check_selected(
        mut self,
        what: &str,
        y: ValueId,
        grid: Grid,
        (kernel, selection): (&str, &Selection),
    ) {
        self.graph.add_result("y", y);
        let plan = Plan::selected(&self.graph, &Target::host(1), selection).expect("the graph can be planned");
        let text = plan.to_string();
        let vectors = Target::host(1).vectors;
        let has_kernel = vectors.multiply_codes() && (vectors == Vectors::Avx512 || !kernel.contains("jit"));
        let known = !has_kernel || text.contains(kernel);
        assert!(known && !text.contains("interp "), "{what}: no {kernel}\n{plan}");
        assert!(plan.check().is_empty(), "{what}: buffers overlap\n{plan}");
        assert!(plan.check_reach(&Target::host(1)).is_empty(), "{what}: {:?}", plan.check_reach(&Target::host(1)));
        let expected = Interp.compile(&self.graph).unwrap().run(&self.inputs).unwrap();
        let expected = expected[0].as_f32().unwrap();
        let mut known: Option<Vec<f32>> = None;
        for vectors in Vectors::ALL.into_iter().filter(|vectors| vectors.run_here()) {
            for threads in [1, 2] {
                let jit = SelectedJit { target: Target { vectors, threads }, selection: selection.clone() };
                let got = jit.compile(&self.graph).unwrap();
                let got = { got }.run(&self.inputs).unwrap();
                let got = got[0].as_f32().unwrap().to_vec();
                let steps: Vec<f32> = expected.iter().zip(&got).map(|(x, y)| (x - y).abs() / grid.scale).collect();
                let most = steps.iter().copied().fold(0.0, f32::max);
                let other = steps.iter().filter(|&&step| step > 0.5).count();
                assert!(most < 1.01, "{what}: {vectors}: codes differ by {most}");
                assert!(other <= 1 + steps.len() / 100, "{what}: {vectors}: {other} of {} codes differ", steps.len());
                if !vectors.multiply_codes() {
                    continue;
                }
                if let Some(known) = &known {
                    assert_eq!(known, &got, "{what}: {vectors} on {threads} threads gives other codes");
                }
                known = Some(got);
            }
        }
    }
}

#[test]
fn convolutions_of_codes() {
    let acts = [Act::None, Act::Relu, Act::Clip { lo: 0.0, hi: 6.0 }, Act::HardSwish, Act::LeakyRelu { alpha: 0.1 }];
    let mut case = 0;
    for (n, c, o, group) in [(1, 1, 1, 1), (1, 3, 5, 1), (2, 20, 33, 1), (1, 32, 64, 2), (1, 6, 8, 2), (2, 18, 18, 18)]
    {
        for (h, w) in [(1, 1), (5, 7), (13, 12)] {
            for (kernel, stride, dilation, pad) in [(1, 1, 1, 0), (3, 1, 1, 1), (3, 2, 1, 1), (5, 1, 1, 2)] {
                let act = acts[case % acts.len()];
                let mut net = Net::new("codes", 5);
                let x = net.quantized_input(
                    &[n, c, h, w],
                    if case % 2 == 0 { unsigned(0.016, 120) } else { signed(0.016, -5) },
                );
                let weights = net.weights_of_codes(&[o, c / group, kernel, kernel], 0);
                let conv = Conv {
                    strides: vec![stride; 2],
                    pads: vec![pad; 4],
                    dilations: vec![dilation; 2],
                    group,
                    act,
                    ..Conv::default()
                };
                let what = format!("{n}×{c}×{h}×{w} → {o}, {conv:?}");
                let y = if case % 3 == 0 {
                    net.add(conv, &[x, weights])
                } else {
                    let bias = net.dense(&[o]);
                    net.add(conv, &[x, weights, bias])
                };
                let grid = if act == Act::Relu { unsigned(0.05, 0) } else { unsigned(0.05, 100) };
                let y = net.codes(y, grid);
                net.check(&what, y, grid, if group == c && c > 1 { "i8_dwconv" } else { "i8_conv" });
                case += 1;
            }
        }
    }
}

#[test]
fn sums_of_codes() {
    for (shape, act) in [([1, 20, 5, 6], false), ([2, 7, 1, 3], true)] {
        let mut net = Net::new("codes", 5);
        let (a, b) =
            (net.quantized_input(&shape, unsigned(0.016, 120)), net.quantized_input(&shape, unsigned(0.02, 90)));
        let mut y = net.add(Op::Binary(Binary::Add), &[a, b]);
        if act {
            y = net.add(Op::Unary(Unary::Relu), &[y]);
        }
        let grid = unsigned(0.03, if act { 0 } else { 110 });
        let y = net.codes(y, grid);
        net.check(&format!("{shape:?}"), y, grid, "i8_add");
    }
    // What a product is quantized to is rounded before it is added.
    let mut net = Net::new("codes", 5);
    let x = net.quantized_input(&[1, 24, 9, 7], unsigned(0.016, 120));
    let weights = net.weights_of_codes(&[24, 24, 3, 3], 0);
    let y = net.add(Conv { pads: vec![1; 4], ..Conv::default() }, &[x, weights]);
    let y = net.codes(y, signed(0.1, 4));
    let y = net.add(Op::Binary(Binary::Add), &[y, x]);
    let grid = unsigned(0.11, 77);
    let y = net.codes(y, grid);
    net.check("a product that takes a sum in", y, grid, "i8_conv");
}

#[test]
fn pools_of_codes() {
    // Powers of two, so that means half way between two codes are just that.
    let grid = unsigned(0.015625, 120);
    for to in [grid, unsigned(0.0078125, 50)] {
        let ops: [(Op, &str); 3] = [
            (
                MaxPool { kernel: vec![3, 3], strides: vec![2, 2], pads: vec![1; 4], ..MaxPool::default() }.into(),
                "i8_max",
            ),
            (AveragePool { kernel: vec![2, 3], pads: vec![0, 1, 1, 1], ..AveragePool::default() }.into(), "i8_average"),
            (GlobalAveragePool {}.into(), "i8_global"),
        ];
        for (op, kernel) in ops {
            let mut net = Net::new("codes", 5);
            let x = net.quantized_input(&[2, 20, 9, 8], grid);
            let what = format!("{op:?}");
            let y = net.add(op, &[x]);
            let y = net.codes(y, to);
            net.check(&what, y, to, kernel);
        }
    }
}

#[test]
fn matrices_of_codes() {
    let grid = unsigned(0.05, 128);
    for (m, k, n) in [(1, 1, 1), (1, 64, 10), (3, 37, 17), (20, 130, 50)] {
        let mut net = Net::new("codes", 5);
        let x = net.quantized_input(&[m, k], unsigned(0.016, 120));
        let (weights, bias) = (net.weights_of_codes(&[n, k], 0), net.dense(&[n]));
        let y = net.add(Gemm { trans_b: true, ..Gemm::default() }, &[x, weights, bias]);
        let y = net.codes(y, grid);
        net.check(&format!("{m}×{k}×{n}, transposed"), y, grid, "i8_gemm");
        let mut net = Net::new("codes", 5);
        let x = net.quantized_input(&[m, k], signed(0.016, 7));
        let weights = net.weights_of_codes(&[k, n], 1);
        let y = net.add(MatMul {}, &[x, weights]);
        let y = net.codes(y, grid);
        net.check(&format!("{m}×{k}×{n}"), y, grid, "i8_gemm");
    }
}

/// Several matrices are one; results that numbers are computed with become numbers.
#[test]
fn stacks_of_matrices_of_codes() {
    let grid = unsigned(0.05, 128);
    for width in [16, 21] {
        let mut net = Net::new("codes", 5);
        let x = net.quantized_input(&[2, 5, 24], unsigned(0.016, 120));
        let weights = net.weights_of_codes(&[24, width], 1);
        let y = net.add(MatMul {}, &[x, weights]);
        let y = net.codes(y, grid);
        let y = net.add(Op::Unary(Unary::Abs), &[y]);
        let y = net.codes(y, grid);
        net.check(&format!("{width} columns"), y, grid, "i8_gemm");
    }
}

/// What nothing computes with as codes is rounded where it is, in the chain it is part of.
#[test]
fn numbers_on_a_grid() {
    for grid in [unsigned(0.0625, 120), signed(0.25, -3)] {
        let mut net = Net::new("codes", 5);
        let x = net.quantized_input(&[3, 37], grid);
        let y = net.add(Op::Unary(Unary::Abs), &[x]);
        let y = net.codes(y, grid);
        net.check("a chain", y, grid, "f32_on_grid_abs_on_grid");
    }
}

/// Codes of one pixel are a row of a matrix as they lie.
#[test]
fn views_of_codes() {
    let grid = unsigned(0.015625, 120);
    let mut net = Net::new("codes", 5);
    let x = net.quantized_input(&[3, 21, 2, 2], grid);
    let y = net.add(GlobalAveragePool {}, &[x]);
    let y = net.codes(y, grid);
    let y = net.add(Flatten::default(), &[y]);
    let y = net.codes(y, grid);
    let weights = net.weights_of_codes(&[9, 21], 0);
    let y = net.add(Gemm { trans_b: true, ..Gemm::default() }, &[y, weights]);
    let y = net.codes(y, unsigned(0.02, 128));
    net.check("pooled", y, unsigned(0.02, 128), "i8_gemm");
}

/// Codes of the grid of the result are moved, others requantized; within a block of channels numbers are joined.
#[test]
fn joined_codes() {
    let grid = unsigned(0.016, 120);
    let all: [(&[usize], usize, [usize; 3], &str); 4] = [
        (&[2, 3, 5], 1, [16, 32, 5], "i8_requantize"),
        (&[2, 1, 1], 1, [32, 16, 16], "i8_requantize"),
        (&[5], 1, [16, 16, 7], "i8_requantize"),
        (&[1, 4, 4], 1, [5, 16, 16], "f32_copy"),
    ];
    for (others, axis, channels, kernel) in all {
        let mut net = Net::new("codes", 5);
        let grids = [grid, unsigned(0.0213, 100), signed(0.016, -8)];
        let shape = |channels: usize| [&others[..axis], &[channels], &others[axis..]].concat();
        let values: Vec<ValueId> =
            channels.iter().zip(grids).map(|(&c, grid)| net.quantized_input(&shape(c), grid)).collect();
        let y = net.add(Concat { axis: 1 }, &values);
        let y = net.codes(y, grid);
        net.check(&format!("{channels:?} × {others:?}"), y, grid, kernel);
    }
}
