//! Layers whose weights have few values, and those whose inputs are signs as well.

use optc_codegen::{Plan, Target, Vectors};
use optc_ir::op::{Act, Binary, Conv, Gemm, Linear, MatMul, MaxPool, Unary};
use optc_ir::{Constant, Form, Op, QuantParams, Tensor, ValueId};
use rand::Rng;

use super::{Net, agree, random, same_bits_of};

impl Net {
    /// An input, some elements of which are zero.
    fn input_with_zeros(&mut self, shape: &[usize]) -> ValueId {
        let numbers: Vec<f32> = random(&mut self.rng, shape).as_f32().expect("numbers").to_vec();
        let numbers = numbers.into_iter().map(|x| if x.abs() < 0.2 { 0.0 } else { x }).collect::<Vec<f32>>();
        self.input(Tensor::f32(shape, numbers))
    }

    /// Weights that are each one of some values.
    fn weights_of(&mut self, shape: &[usize], values: &[f32]) -> Tensor {
        let len = shape.iter().product();
        let of = |_| values[self.rng.random_range(0..values.len())];
        Tensor::f32(shape, (0..len).map(of).collect::<Vec<f32>>())
    }

    fn constant(&mut self, tensor: &Tensor, form: &Form) -> ValueId {
        let constant = Constant::encode(tensor, form).expect("the form fits the tensor");
        self.graph.add_constant("w", constant).into()
    }

    /// Compares with the interpreter and across targets; the plan must have a kernel whose name begins so.
    fn check_kernel(mut self, y: ValueId, kernel: &str) {
        self.graph.add_result("y", y);
        let target = Target::host(1);
        let plan = Plan::new(&self.graph, &target).unwrap().to_string();
        let known = match kernel.split('_').next() {
            Some("xnor") => target.vectors.multiply_codes(),
            Some("c8") => target.vectors == Vectors::Avx512,
            _ => true,
        };
        assert!(plan.contains(&format!(": {kernel}")) || !known, "no {kernel}\n{plan}");
        agree(kernel, &self.graph, &self.inputs);
        let alike: Vec<Vectors> = Vectors::ALL.into_iter().filter(|vectors| vectors.multiply_codes()).collect();
        same_bits_of(&alike, kernel, &self.graph, &self.inputs);
    }
}

/// So many values, on both sides of zero.
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 - count as f32 * 0.4) * 0.3 + 0.01).collect()
}

#[test]
fn layers_of_few_values() {
    for (count, kernel) in [(2, "b1"), (3, "t2"), (4, "c2"), (5, "c4"), (16, "c4"), (17, "c5"), (32, "c5")] {
        for (m, n, k) in [(1, 64, 257), (1, 129, 64), (3, 200, 211)] {
            // Words of many values gain nothing but bytes.
            if m > 1 && count > 4 {
                continue;
            }
            for form in [Form::Dense, Form::Clustered] {
                let mut net = Net::new("coded", 17);
                let (x, w) = (net.input_with_zeros(&[m, k]), net.weights_of(&[n, k], &values(count)));
                let (w, b) = (net.constant(&w, &form), net.dense(&[n]));
                let y = net.add(Linear { act: Act::Relu }, &[x, w, b]);
                let z = net.dense(&[n]);
                let y = net.add(Op::Binary(Binary::Add), &[y, z]);
                net.check_kernel(y, kernel);
            }
        }
    }
}

/// Weights that caches do not hold, as bytes that are looked up; other targets, which look none up, compute the same
/// sums.
#[test]
fn large_layers_of_more_values() {
    let (n, k) = (700, 801);
    for (count, form) in [33, 64, 65, 128, 129, 256].into_iter().zip([Form::Dense, Form::Clustered].iter().cycle()) {
        let mut net = Net::new("coded", 17);
        let (x, w) = (net.input_with_zeros(&[1, k]), net.weights_of(&[n, k], &values(count)));
        let (w, b) = (net.constant(&w, form), net.dense(&[n]));
        let y = net.add(Linear { act: Act::Relu }, &[x, w, b]);
        net.check_kernel(y, "c8_gemv");
    }
}

/// Bytes that are whole numbers times a scale are only widened; zeros between numbers make them values of a table.
#[test]
fn large_layers_on_grids_of_bytes() {
    let (n, k) = (700, 801);
    for (axis, zero, kernel) in [(None, 128.0, "q8"), (Some(1), 100.0, "q8"), (None, 90.5, "c8")] {
        let mut net = Net::new("coded", 17);
        let scales: Vec<f32> = (0..if axis.is_some() { n } else { 1 }).map(|o| 0.01 + o as f32 * 1e-4).collect();
        let params = QuantParams { bits: 8, axis, zeros: vec![zero; scales.len()], scales };
        let range = if axis.is_some() { 0..100 } else { 0..256 };
        let numbers: Vec<f32> = (0..n * k)
            .map(|i| params.value(if axis.is_some() { i % n } else { 0 }, net.rng.random_range(range.clone())))
            .collect();
        let x = net.input_with_zeros(&[1, k]);
        let w = net.constant(&Tensor::f32([k, n], numbers), &Form::Quantized(params));
        let c = net.dense(&[n]);
        let y = net.add(Gemm { alpha: 0.5, beta: 2.0, ..Gemm::default() }, &[x, w, c]);
        net.check_kernel(y, kernel);
    }
}

#[test]
fn matrices_of_every_orientation() {
    let mut net = Net::new("coded", 17);
    let (x, w) = (net.input_with_zeros(&[2, 1, 100]), net.weights_of(&[100, 70], &values(2)));
    let w = net.constant(&w, &Form::Clustered);
    let y = net.add(MatMul {}, &[x, w]);
    net.check_kernel(y, "b1");
    let mut net = Net::new("coded", 17);
    let (x, w) = (net.input_with_zeros(&[1, 100]), net.weights_of(&[100, 70], &values(9)));
    let (w, c) = (net.constant(&w, &Form::Dense), net.dense(&[70]));
    let y = net.add(Gemm { alpha: 0.5, beta: 2.0, ..Gemm::default() }, &[x, w, c]);
    net.check_kernel(y, "c4");
}

/// Grids of one scale and of one for each output.
#[test]
fn layers_on_grids() {
    for (bits, codes, zero, kernel) in
        [(1, 0..2, 0.5, "b1"), (2, 1..4, 2.0, "t2"), (2, 0..4, 2.0, "c2"), (4, 0..16, 8.0, "c4")]
    {
        for axis in [None, Some(0)] {
            let (n, k) = (70, 100);
            let mut net = Net::new("coded", 17);
            let scales: Vec<f32> = (0..if axis.is_some() { n } else { 1 }).map(|o| 0.1 + o as f32 * 0.01).collect();
            let params = QuantParams { bits, axis, zeros: vec![zero; scales.len()], scales };
            let numbers: Vec<f32> = (0..n * k)
                .map(|i| params.value(if axis.is_some() { i / k } else { 0 }, net.rng.random_range(codes.clone())))
                .collect();
            let x = net.input_with_zeros(&[1, k]);
            let w = net.constant(&Tensor::f32([n, k], numbers), &Form::Quantized(params));
            let b = net.dense(&[n]);
            let y = net.add(Linear::default(), &[x, w, b]);
            net.check_kernel(y, kernel);
        }
    }
}

/// One magnitude for each output, in numbers that nobody encoded.
#[test]
fn layers_of_one_magnitude_an_output() {
    for (signs, kernel) in [(&[-1.0, 1.0][..], "b1"), (&[-1.0, 0.0, 1.0][..], "t2")] {
        let mut net = Net::new("coded", 17);
        let (n, k) = (90, 100);
        let (x, signs) = (net.input_with_zeros(&[1, k]), net.weights_of(&[n, k], signs));
        let signs = signs.as_f32().unwrap().iter().enumerate();
        let w = Tensor::f32([n, k], signs.map(|(i, sign)| sign * (0.1 + (i / k) as f32)).collect::<Vec<f32>>());
        let w = net.constant(&w, &Form::Dense);
        let y = net.add(Linear::default(), &[x, w]);
        net.check_kernel(y, kernel);
    }
}

/// Windows meet borders, and codes end with the channels of a block.
#[test]
fn convolutions_of_few_values() {
    for (count, kernel) in [(2, "b1"), (3, "t2")] {
        for (channels, outputs, group) in [(48, 256, 1), (70, 257, 1), (64, 512, 2)] {
            for (window, stride, dilation, pad) in [(1, 1, 1, 0), (3, 2, 1, 1), (3, 1, 2, 2)] {
                let mut net = Net::new("coded", 17);
                let x = net.input_with_zeros(&[1, channels, 4, 5]);
                let w = net.weights_of(&[outputs, channels / group, window, window], &values(count));
                let (w, b) = (net.constant(&w, &Form::Clustered), net.dense(&[outputs]));
                let conv = Conv {
                    strides: vec![stride; 2],
                    pads: vec![pad; 4],
                    dilations: vec![dilation; 2],
                    group,
                    act: Act::Relu,
                    ..Conv::default()
                };
                let y = net.add(conv, &[x, w, b]);
                let z = net.dense(&[outputs, 1, 1]);
                let y = net.add(Op::Binary(Binary::Add), &[y, z]);
                net.check_kernel(y, &format!("{kernel}_"));
            }
        }
    }
}

/// Zeros among the inputs belong to no sign.
#[test]
fn products_of_signs() {
    for (m, n, k) in [(1, 64, 257), (7, 100, 96), (33, 17, 300)] {
        let mut net = Net::new("coded", 17);
        let (x, w) = (net.input_with_zeros(&[m, k]), net.weights_of(&[n, k], &[-0.3, 0.3]));
        let sign = net.add(Op::Unary(Unary::Sign), &[x]);
        let (w, b) = (net.constant(&w, &Form::Clustered), net.dense(&[n]));
        let y = net.add(Linear { act: Act::Relu }, &[sign, w, b]);
        net.check_kernel(y, "xnor_ge");
    }
    let mut net = Net::new("coded", 17);
    let (x, w) = (net.input_with_zeros(&[3, 100]), net.weights_of(&[100, 50], &[-0.3, 0.3]));
    let sign = net.add(Op::Unary(Unary::Sign), &[x]);
    let w = net.constant(&w, &Form::Dense);
    let y = net.add(MatMul {}, &[sign, w]);
    net.check_kernel(y, "xnor_ge");
}

/// Borders are zeros, which are no signs either.
#[test]
fn convolutions_of_signs() {
    for (channels, outputs) in [(32, 16), (70, 33), (300, 20)] {
        for (kernel, stride, dilation, pad) in [(1, 1, 1, 0), (3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (5, 2, 1, 3)] {
            let mut net = Net::new("coded", 17);
            let x = net.input_with_zeros(&[2, channels, 7, 9]);
            let x = net.add(Op::Unary(Unary::Sign), &[x]);
            let w = net.weights_of(&[outputs, channels, kernel, kernel], &[-1.0, 1.0]);
            let row = channels * kernel * kernel;
            let scaled = w.as_f32().unwrap().iter().enumerate().map(|(i, x)| x * (1.0 + (i / row) as f32 * 0.1));
            let w = Tensor::f32(w.shape(), scaled.collect::<Vec<f32>>());
            let (w, b) = (net.constant(&w, &Form::Dense), net.dense(&[outputs]));
            let conv = Conv {
                strides: vec![stride; 2],
                pads: vec![pad; 4],
                dilations: vec![dilation; 2],
                act: Act::Relu,
                ..Conv::default()
            };
            let y = net.add(conv, &[x, w, b]);
            net.check_kernel(y, "xnor_");
        }
    }
}

/// A small network of signs: pools keep them, and layers share what is packed.
#[test]
fn networks_of_signs() {
    let mut net = Net::new("coded", 17);
    let x = net.input_with_zeros(&[1, 40, 8, 8]);
    let x = net.add(Op::Unary(Unary::Sign), &[x]);
    let w = net.weights_of(&[64, 40, 3, 3], &[-0.1, 0.1]);
    let w = net.constant(&w, &Form::Clustered);
    let conv = Conv { pads: vec![1; 4], ..Conv::default() };
    let y = net.add(conv.clone(), &[x, w]);
    let y = net.add(Op::Unary(Unary::Sign), &[y]);
    let y = net.add(MaxPool { kernel: vec![2, 2], strides: vec![2, 2], ..MaxPool::default() }, &[y]);
    let w = net.weights_of(&[64, 64, 3, 3], &[-0.1, 0.1]);
    let w = net.constant(&w, &Form::Clustered);
    let z = net.add(conv, &[y, w]);
    let w = net.weights_of(&[64, 64, 1, 1], &[-0.2, 0.2]);
    let w = net.constant(&w, &Form::Clustered);
    let y = net.add(Conv::default(), &[y, w]);
    let y = net.add(Op::Binary(Binary::Add), &[y, z]);
    net.check_kernel(y, "xnor_");
}
