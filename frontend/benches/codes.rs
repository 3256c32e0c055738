//! How long layers of coded weights take beside dense ones: `cargo bench --bench codes` prints microseconds of a
//! layer of 4096 inputs and outputs at one sample, the least and the median, and how many times faster than dense
//! weights the median is.
//!
//! Weights come from memory, since every model has more layers than caches hold; models take turns.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::Instant;

use optc::codegen::Jit;
use optc::ir::builder::GraphBuilder;
use optc::ir::op::Linear;
use optc::ir::{Backend, Constant, DType, Encoding, Executable, Graph, Op, Packed, QuantParams, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const WIDTH: usize = 4096;
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
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let median = |times: &[f64]| times[times.len() / 2];
    for (kind, of_kind) in KINDS.iter().zip(&times) {
        let ratio = median(&times[0]) / median(of_kind);
        println!("{:8} {:8.1} {:8.1} {ratio:6.2}×", kind.name, of_kind[0], median(of_kind));
    }
}
