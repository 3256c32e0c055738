//! How long training steps take: `cargo bench --bench training -- lenet5 20` prints milliseconds of a step, one
//! a line; with `--profile` what each kernel took, with `--rounds` it does so many steps for every line it reads.
//!
//! A step is forward and backward pass and update, by SGD with momentum on the mean cross-entropy of a batch of
//! 128 samples. `tests/scripts/compare_training.py` compares with PyTorch.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::io::{BufRead, Write};
use std::time::Instant;

use optc::codegen::Jit;
use optc::ir::builder::{GraphBuilder, Value};
use optc::ir::op::{Conv, MaxPool, Pad, Reduce, ReduceAttrs, ReduceKind};
use optc::ir::{Backend, DType, Graph, Op, StepExecutable, Tensor};
use optc::passes::train::{Role, TrainOptions, differentiate};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 128;

/// A network under construction, with the numbers its weights start from.
struct Net<'g> {
    graph: &'g GraphBuilder,
    random: ChaCha8Rng,
}

impl<'g> Net<'g> {
    /// Weights of He et al. 2015: uniform, of variance 2 a value that is summed.
    fn weights(&mut self, shape: &[usize]) -> Value<'g> {
        let inputs: usize = shape[1..].iter().product();
        let limit = (6.0 / inputs as f32).sqrt();
        let count = shape.iter().product();
        let numbers: Vec<f32> = (0..count).map(|_| self.random.random_range(-limit..limit)).collect();
        self.graph.constant("w", Tensor::f32(shape, numbers))
    }

    fn vector(&mut self, count: usize, x: f32) -> Value<'g> {
        self.graph.constant("v", Tensor::f32([count], vec![x; count]))
    }

    fn conv(&mut self, x: Value<'g>, [outputs, channels, kernel]: [usize; 3], stride: usize, bias: bool) -> Value<'g> {
        let w = self.weights(&[outputs, channels, kernel, kernel]);
        let b = bias.then(|| self.vector(outputs, 0.0));
        let pad = if bias { 0 } else { kernel / 2 };
        x.conv(w, b, Conv { strides: vec![stride; 2], pads: vec![pad; 4], ..Conv::default() })
    }

    fn linear(&mut self, x: Value<'g>, [outputs, inputs]: [usize; 2]) -> Value<'g> {
        let w = self.weights(&[outputs, inputs]);
        let b = self.vector(outputs, 0.0);
        x.linear(w, Some(b))
    }

    fn norm(&mut self, x: Value<'g>, channels: usize) -> Value<'g> {
        let [scale, b, mean, var] = [1.0, 0.0, 0.0, 1.0].map(|number| self.vector(channels, number));
        x.batch_norm(scale, b, mean, var)
    }

    /// A block of He et al. 2016, section 4.2; where the shape changes, the shortcut drops pixels and adds
    /// channels of zeros.
    fn block(&mut self, x: Value<'g>, [from, to, stride]: [usize; 3]) -> Value<'g> {
        let y = self.conv(x, [to, from, 3], stride, false);
        let y = self.norm(y, to).relu();
        let y = self.conv(y, [to, to, 3], 1, false);
        let y = self.norm(y, to);
        let shortcut = if from == to {
            x
        } else {
            // Every other pixel, as the maximum of one.
            let x = x.max_pool(MaxPool { kernel: vec![1, 1], strides: vec![2, 2], ..MaxPool::default() });
            let more = i64::try_from(to - from).expect("few channels") / 2;
            let pads = Tensor::i64([8], vec![0, more, 0, 0, 0, more, 0, 0]);
            x.with(Pad::default(), &[Some(self.graph.constant("pads", pads))])
        };
        y.add(shortcut).relu()
    }
}

/// Caffe's LeNet-5 for MNIST.
fn lenet5() -> Graph {
    let graph = GraphBuilder::new("lenet5");
    let mut net = Net { graph: &graph, random: ChaCha8Rng::seed_from_u64(1) };
    let pool = || MaxPool { kernel: vec![2, 2], strides: vec![2, 2], ..MaxPool::default() };
    let x = graph.input("x", DType::F32, [BATCH, 1, 28, 28]);
    let y = net.conv(x, [20, 1, 5], 1, true).max_pool(pool());
    let y = net.conv(y, [50, 20, 5], 1, true).max_pool(pool()).flatten();
    let y = net.linear(y, [500, 800]).relu();
    let y = net.linear(y, [10, 500]).id();
    graph.finish(&[("y", y)])
}

/// LeNet-300-100.
fn lenet300() -> Graph {
    let graph = GraphBuilder::new("lenet300");
    let mut net = Net { graph: &graph, random: ChaCha8Rng::seed_from_u64(1) };
    let x = graph.input("x", DType::F32, [BATCH, 784]);
    let y = net.linear(x, [300, 784]).relu();
    let y = net.linear(y, [100, 300]).relu();
    let y = net.linear(y, [10, 100]).id();
    graph.finish(&[("y", y)])
}

/// ResNet-20 for CIFAR-10.
fn resnet20() -> Graph {
    let graph = GraphBuilder::new("resnet20");
    let mut net = Net { graph: &graph, random: ChaCha8Rng::seed_from_u64(1) };
    let x = graph.input("x", DType::F32, [BATCH, 3, 32, 32]);
    let y = net.conv(x, [16, 3, 3], 1, false);
    let mut y = net.norm(y, 16).relu();
    for (from, to) in [(16, 16), (16, 32), (32, 64)] {
        y = net.block(y, [from, to, to / from]);
        y = net.block(y, [to, to, 1]);
        y = net.block(y, [to, to, 1]);
    }
    let attrs = ReduceAttrs { axes: Some(vec![2, 3]), keepdims: false };
    let y = y.with(Op::Reduce(Reduce { kind: ReduceKind::Mean, attrs }), &[]);
    let y = net.linear(y, [10, 64]).id();
    graph.finish(&[("y", y)])
}

/// A compiled step and what it is given.
struct Bench {
    step: Box<dyn StepExecutable>,
    inputs: Vec<Tensor>,
}

impl Bench {
    fn new(model: &Graph, backend: &dyn Backend) -> Bench {
        let options = TrainOptions { batch: BATCH, ..TrainOptions::default() };
        let step = differentiate(model, &options).expect("the model can be differentiated");
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mut inputs = Vec::new();
        for (input, &node) in step.inputs.iter().zip(step.graph.inputs()) {
            let shape = step.graph.ty(node).as_tensor().and_then(|ty| ty.fixed_shape()).unwrap_or_default();
            let count: usize = shape.iter().product();
            match input.role {
                Role::Data(_) => {
                    let numbers: Vec<f32> = (0..count).map(|_| random.random_range(-1.0..1.0)).collect();
                    inputs.push(Tensor::f32(shape, numbers));
                }
                Role::Target(_) => {
                    let labels: Vec<i64> = (0..count).map(|_| random.random_range(0..10)).collect();
                    inputs.push(Tensor::i64(shape, labels));
                }
                Role::Rate => inputs.push(Tensor::f32([], [0.001])),
                _ => {}
            }
        }
        let mut compiled = backend.compile_step(step.graph, &step.residents).expect("the step can be compiled");
        for (input, value) in &step.initial {
            compiled.set(*input, value).expect("values fit their parameters");
        }
        Bench { step: compiled, inputs }
    }

    /// Milliseconds of a step.
    fn time(&mut self) -> f64 {
        let start = Instant::now();
        let results = self.step.run(&self.inputs).expect("the step runs");
        let elapsed = start.elapsed().as_secs_f64() * 1e3;
        let loss = results[0].as_f32().map_or(f32::NAN, |loss| loss[0]);
        assert!(loss.is_finite(), "the loss is {loss}");
        elapsed
    }
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut flag = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map(|at| arguments.remove(at)).is_some()
    };
    let (profile, rounds, plan) = (flag("--profile"), flag("--rounds"), flag("--plan"));
    let model = match arguments.first().map_or("lenet5", String::as_str) {
        "lenet300" => lenet300(),
        "resnet20" => resnet20(),
        _ => lenet5(),
    };
    let number = |at: usize, default: usize| arguments.get(at).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (count, threads) = (number(1, 10), number(2, 2));
    let backend = Jit::new(threads);
    if plan {
        let options = TrainOptions { batch: BATCH, ..TrainOptions::default() };
        let step = differentiate(&model, &options).expect("the model can be differentiated");
        println!("{}", step.graph);
        println!("{}", optc::codegen::Plan::new(&step.graph, &backend.target).expect("the step can be planned"));
        return;
    }
    let mut bench = Bench::new(&model, &backend);
    bench.time();
    if profile {
        let (_, first) = bench.step.profile(&bench.inputs).expect("the step runs");
        let mut least = first;
        for _ in 1..count {
            let (_, times) = bench.step.profile(&bench.inputs).expect("the step runs");
            for (least, now) in least.iter_mut().zip(times) {
                least.time = least.time.min(now.time);
            }
        }
        for step in least {
            let micros = step.time.as_secs_f64() * 1e6;
            let (gflops, gbytes) = (step.macs as f64 * 2e-3 / micros, step.bytes as f64 * 1e-3 / micros);
            println!("{micros:9.1} µs {gflops:7.1} GFLOP/s {gbytes:6.1} GB/s  {:28} {}", step.kernel, step.node);
        }
        return;
    }
    let mut lines = std::io::stdin().lock().lines();
    loop {
        let times: Vec<String> = (0..count).map(|_| format!("{:.4}", bench.time())).collect();
        println!("{}", times.join(if rounds { " " } else { "\n" }));
        std::io::stdout().flush().expect("somebody reads this");
        if !rounds || lines.next().is_none() {
            return;
        }
    }
}
