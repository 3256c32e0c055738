//! How long layers of coded weights take beside dense ones: `cargo bench --bench codes` prints microseconds of a
//! layer, the least and the median, and how many times faster than with dense weights it is, again by least and
//! median times.
//!
//! First layers of 4096 inputs and outputs at one sample, whose weights come from memory, since every model has more
//! layers than caches hold; then one such layer over and over, whose codes may stay in the last cache; then a layer of
//! 4096 inputs and 512 outputs at 196 samples, without and with inputs that are signs, some of them zero or none, and
//! which part of the measured peak of products of signs the last ones reach. Models take turns.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::Instant;

use optc::codegen::{Jit, Target, peak};
use optc::ir::builder::GraphBuilder;
use optc::ir::op::{Binary, Linear, Unary};
use optc::ir::{Backend, Constant, DType, Encoding, Executable, Graph, Op, Packed, QuantParams, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const WIDTH: usize = 4096;
const SAMPLES: usize = 196;
const OUTPUTS: usize = 512;
const ROUNDS: usize = 9;

/// Weights of a kind: how they are kept, and layers that have more of them than caches hold.
struct Kind {
    name: &'static str,
    encoding: fn(&mut ChaCha8Rng) -> Encoding,
    layers: usize,
}

const KINDS: &[Kind] = &[
    Kind { name: "dense", encoding: dense, layers: 3 },
    Kind { name: "8 bits", encoding: |rng| grid(rng, 8, 0.0002, 128.0, 0..256), layers: 5 },
    Kind { name: "256 values", encoding: |rng| codebook(rng, 256, 0.0), layers: 5 },
    Kind { name: "100 values", encoding: |rng| codebook(rng, 100, 0.0), layers: 5 },
    Kind { name: "90 % zeros", encoding: sparse, layers: 8 },
    Kind { name: "90 % zeros, 256 values", encoding: |rng| codebook(rng, 256, 0.9), layers: 14 },
    Kind { name: "90 % zeros, 100 values", encoding: |rng| codebook(rng, 100, 0.9), layers: 14 },
    Kind { name: "90 % zeros, 32 values", encoding: |rng| codebook(rng, 32, 0.9), layers: 14 },
    Kind { name: "4 bits", encoding: |rng| grid(rng, 4, 0.02, 8.0, 0..16), layers: 8 },
    Kind { name: "ternary", encoding: |rng| grid(rng, 2, 0.02, 2.0, 1..4), layers: 16 },
    Kind { name: "binary", encoding: |rng| grid(rng, 1, 0.02, 0.5, 0..2), layers: 28 },
];

fn dense(rng: &mut ChaCha8Rng) -> Encoding {
    let numbers: Vec<f32> = (0..WIDTH * WIDTH).map(|_| rng.random_range(-0.02..0.02)).collect();
    Encoding::Dense(Tensor::f32([WIDTH * WIDTH], numbers).into_parts().1)
}

/// Codes of a grid, each as likely as the others.
fn grid(rng: &mut ChaCha8Rng, bits: u8, scale: f32, zero: f32, codes: std::ops::Range<u32>) -> Encoding {
    let codes: Vec<u32> = (0..WIDTH * WIDTH).map(|_| rng.random_range(codes.clone())).collect();
    let params = QuantParams { bits, axis: None, scales: vec![scale], zeros: vec![zero] };
    Encoding::Quantized { params, codes: Packed::pack(bits, &codes) }
}

/// Numbers, nine of ten of which are zero.
fn sparse(rng: &mut ChaCha8Rng) -> Encoding {
    let number = |_| if rng.random_bool(0.9) { 0.0 } else { rng.random_range(-0.02..0.02) };
    let numbers: Vec<f32> = (0..WIDTH * WIDTH).map(number).collect();
    Encoding::Dense(Tensor::f32([WIDTH * WIDTH], numbers).into_parts().1)
}

/// Values of a codebook: zero, this share of all, and the others as likely as each other.
fn codebook(rng: &mut ChaCha8Rng, values: u32, zeros: f64) -> Encoding {
    let mut codebook: Vec<f32> = (0..values).map(|i| 0.02 * (i as f32 / values as f32 - 0.45)).collect();
    let zero = values * 9 / 20;
    codebook[zero as usize] = 0.0;
    let code = |_| if rng.random_bool(zeros) { zero } else { rng.random_range(0..values) };
    let codes: Vec<u32> = (0..WIDTH * WIDTH).map(code).collect();
    let codebook = Tensor::f32([codebook.len()], codebook).into_parts().1;
    let bits = u8::try_from(values.next_power_of_two().ilog2()).expect("few bits");
    Encoding::Clustered { codebook, codes: Packed::pack(bits, &codes) }
}

fn model(kind: &Kind, layers: usize) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let graph = GraphBuilder::new("layers");
    let mut y = graph.input("x", DType::F32, [1, WIDTH]);
    for _ in 0..layers {
        let weights = Constant::new(vec![WIDTH, WIDTH], DType::F32, (kind.encoding)(&mut rng)).expect("codes fit");
        y = y.with(Linear::default(), &[Some(graph.op(Op::Const(weights.into()), &[])), None]);
    }
    let y = y.id();
    graph.finish(&[("y", y)])
}

/// What layers for many samples are given.
#[derive(Clone, Copy)]
enum Input {
    Numbers,
    /// The signs of numbers, a seventeenth of which are zero.
    Signs,
    /// The signs of numbers none of which is zero.
    SignsAlone,
}

/// One layer for many samples.
fn product(kind: &Kind, input: Input) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let graph = GraphBuilder::new("product");
    let x = graph.input("x", DType::F32, [SAMPLES, WIDTH]);
    let x = match input {
        Input::Numbers => x,
        Input::Signs => x.unary(Unary::Sign),
        Input::SignsAlone => x.binary(Binary::Add, graph.constant("half", Tensor::f32([1], [0.5]))).unary(Unary::Sign),
    };
    let weights = match (kind.encoding)(&mut rng) {
        Encoding::Quantized { params, codes } => {
            let codes = Packed::from_codes(params.bits, codes.iter().take(OUTPUTS * WIDTH));
            Constant::new(vec![OUTPUTS, WIDTH], DType::F32, Encoding::Quantized { params, codes }).expect("codes fit")
        }
        _ => {
            let weights: Vec<f32> = (0..OUTPUTS * WIDTH).map(|_| rng.random_range(-0.02..0.02)).collect();
            Constant::dense(Tensor::f32([OUTPUTS, WIDTH], weights))
        }
    };
    let y = x.linear(graph.op(Op::Const(weights.into()), &[]), None).id();
    graph.finish(&[("y", y)])
}

/// Prints the times of kinds, the first of which the others are compared with.
fn print(names: &[String], mut times: Vec<Vec<f64>>) -> Vec<f64> {
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let median = |times: &[f64]| times[times.len() / 2];
    for (name, of_kind) in names.iter().zip(&times) {
        let [least, middle] = [times[0][0] / of_kind[0], median(&times[0]) / median(of_kind)];
        println!("{name:24} {:8.1} {:8.1} {least:6.2}× {middle:6.2}×", of_kind[0], median(of_kind));
    }
    times.iter().map(|times| times[0]).collect()
}

/// Times models of so many layers each, by turns.
fn layers(of_kind: impl Fn(&Kind) -> usize) {
    let x: Vec<f32> = (0..WIDTH).map(|i| (i % 17) as f32 - 8.0).collect();
    let x = Tensor::f32([1, WIDTH], x);
    let compile = |kind| Jit::new(1).compile_owned(model(kind, of_kind(kind))).expect("the model compiles");
    let mut models: Vec<Box<dyn Executable>> = KINDS.iter().map(compile).collect();
    let mut times = vec![Vec::new(); KINDS.len()];
    for _ in 0..ROUNDS {
        for ((kind, model), times) in KINDS.iter().zip(&mut models).zip(&mut times) {
            // What ran before has left nothing of the model in caches.
            model.run(std::slice::from_ref(&x)).expect("the model runs");
            let start = Instant::now();
            model.run(std::slice::from_ref(&x)).expect("the model runs");
            times.push(start.elapsed().as_secs_f64() * 1e6 / of_kind(kind) as f64);
        }
    }
    print(&KINDS.iter().map(|kind| kind.name.to_owned()).collect::<Vec<_>>(), times);
}

fn main() {
    println!("weights from memory");
    layers(|kind| kind.layers);
    println!("one layer");
    layers(|_| 1);
    println!("{SAMPLES} samples");
    let x: Vec<f32> = (0..SAMPLES * WIDTH).map(|i| (i * 7 % 17) as f32 - 8.0).collect();
    let x = Tensor::f32([SAMPLES, WIDTH], x);
    let binary = &KINDS[KINDS.len() - 1];
    let numbers = [&KINDS[0], &KINDS[KINDS.len() - 2], binary].map(|kind| (kind, Input::Numbers));
    let signs = [(binary, Input::Signs), (binary, Input::SignsAlone)];
    let kinds: Vec<(&Kind, Input)> = numbers.into_iter().chain(signs).collect();
    let mut models: Vec<Box<dyn Executable>> = Vec::new();
    for (kind, input) in &kinds {
        models.push(Jit::new(1).compile_owned(product(kind, *input)).expect("the model compiles"));
    }
    let mut names = vec![String::new(); kinds.len()];
    let mut times = vec![Vec::new(); kinds.len()];
    for _ in 0..ROUNDS {
        for (i, model) in models.iter_mut().enumerate() {
            let (_, steps) = model.profile(std::slice::from_ref(&x)).expect("the model runs");
            // What packs signs is another step.
            let layer = steps.last().expect("a layer is a step");
            names[i] = layer.kernel.clone();
            times[i].push(layer.time.as_secs_f64() * 1e6);
        }
    }
    let least = print(&names, times);
    let operations = (2 * SAMPLES * WIDTH * OUTPUTS) as f64;
    let peak = peak::measure_signs(&Target::host(1)).expect("the host has what it is asked for");
    for (name, least) in ["some zeros", "no zeros"].iter().zip(&least[numbers.len()..]) {
        let reached = operations / least / 1e3;
        println!("{name}: {reached:.0} GOP/s of {peak:.0}: {:.0} %", 100.0 * reached / peak);
    }
}
