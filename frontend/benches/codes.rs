//! How long layers of coded weights take beside dense ones: `cargo bench --bench codes` prints microseconds of a
//! layer, the least and the median, and how many times faster than with dense weights it is, again by least and
//! median times.
//!
//! First layers of 4096 inputs and outputs at one sample, whose weights come from memory, since every model has more
//! layers than caches hold; then a layer of 4096 inputs and 512 outputs at 196 samples, without and with inputs that
//! are signs, and which part of the measured peak of products of signs the last one reaches. Models take turns.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::Instant;

use optc::codegen::{Jit, Target, peak};
use optc::ir::builder::GraphBuilder;
use optc::ir::op::{Linear, Unary};
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

fn model(kind: &Kind) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let graph = GraphBuilder::new("layers");
    let mut y = graph.input("x", DType::F32, [1, WIDTH]);
    for _ in 0..kind.layers {
        let weights = Constant::new(vec![WIDTH, WIDTH], DType::F32, (kind.encoding)(&mut rng)).expect("codes fit");
        y = y.with(Linear::default(), &[Some(graph.op(Op::Const(weights.into()), &[])), None]);
    }
    let y = y.id();
    graph.finish(&[("y", y)])
}

/// One layer for many samples, whose input may be made signs.
fn product(kind: &Kind, signs: bool) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let graph = GraphBuilder::new("product");
    let x = graph.input("x", DType::F32, [SAMPLES, WIDTH]);
    let x = if signs { x.unary(Unary::Sign) } else { x };
    let Encoding::Quantized { params, codes } = (kind.encoding)(&mut rng) else {
        let weights: Vec<f32> = (0..OUTPUTS * WIDTH).map(|_| rng.random_range(-0.02..0.02)).collect();
        let y = x.linear(graph.constant("w", Tensor::f32([OUTPUTS, WIDTH], weights)), None).id();
        return graph.finish(&[("y", y)]);
    };
    let codes = Packed::from_codes(params.bits, codes.iter().take(OUTPUTS * WIDTH));
    let weights = Encoding::Quantized { params, codes };
    let weights = Constant::new(vec![OUTPUTS, WIDTH], DType::F32, weights).expect("codes fit");
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

fn main() {
    let x: Vec<f32> = (0..WIDTH).map(|i| (i % 17) as f32 - 8.0).collect();
    let x = Tensor::f32([1, WIDTH], x);
    let mut models: Vec<Box<dyn Executable>> = Vec::new();
    for kind in KINDS {
        models.push(Jit::new(1).compile_owned(model(kind)).expect("the model compiles"));
    }
    let mut times = vec![Vec::new(); KINDS.len()];
    for _ in 0..ROUNDS {
        for ((kind, model), times) in KINDS.iter().zip(&mut models).zip(&mut times) {
            let start = Instant::now();
            model.run(std::slice::from_ref(&x)).expect("the model runs");
            times.push(start.elapsed().as_secs_f64() * 1e6 / kind.layers as f64);
        }
    }
    print(&KINDS.iter().map(|kind| kind.name.to_owned()).collect::<Vec<_>>(), times);
    drop(models);

    let x: Vec<f32> = (0..SAMPLES * WIDTH).map(|i| (i * 7 % 17) as f32 - 8.0).collect();
    let x = Tensor::f32([SAMPLES, WIDTH], x);
    let signs = [false, false, false, false, true];
    let kinds: Vec<&Kind> = KINDS.iter().chain(KINDS.last()).collect();
    let mut models: Vec<Box<dyn Executable>> = Vec::new();
    for (kind, &signs) in kinds.iter().zip(&signs) {
        models.push(Jit::new(1).compile_owned(product(kind, signs)).expect("the model compiles"));
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
    let reached = operations / least[kinds.len() - 1] / 1e3;
    let peak = peak::measure_signs(&Target::host(1)).expect("the host has what it is asked for");
    println!("{reached:.0} GOP/s of {peak:.0}: {:.0} %", 100.0 * reached / peak);
}
