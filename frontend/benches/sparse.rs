//! How fast single layers run whose weights are mostly zero: `cargo bench --bench sparse -- 1` prints, for one
//! thread, microseconds of each algorithm at each sparsity, and which share of this machine's multiply-adds that
//! is, counting products by weights that are not zero alone.
//!
//! Weights are zero at random places. Layers are hot: they run again and again, their x and y in the caches.
//! Conversions between layouts are not counted, since in a network neighbours share layouts.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::{Duration, Instant};

use optc::codegen::{Algorithm, Plan, SelectedJit, Selection, Target, peak};
use optc::ir::builder::GraphBuilder;
use optc::ir::op::Conv;
use optc::ir::{Backend, DType, Executable, Graph, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Convolutions: outputs, channels, kernel, rows and columns of the image, images.
const LAYERS: [[usize; 5]; 5] =
    [[512, 512, 1, 14, 1], [256, 256, 3, 14, 1], [64, 64, 3, 56, 1], [512, 512, 3, 7, 1], [256, 256, 3, 14, 16]];

const SPARSITIES: [f64; 5] = [0.6, 0.7, 0.8, 0.9, 0.95];

/// How long each algorithm is run.
const SO_LONG: Duration = Duration::from_millis(300);

/// The layer, and its weights that are not zero.
fn layer([outputs, channels, kernel, size, images]: [usize; 5], sparsity: f64) -> (Graph, usize) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let shape = [outputs, channels, kernel, kernel];
    let mut weight = |_| if random.random_bool(sparsity) { 0.0 } else { random.random_range(-1.0..1.0) };
    let weights: Vec<f32> = (0..shape.iter().product()).map(&mut weight).collect();
    let nonzeros = weights.iter().filter(|w| **w != 0.0).count();
    let graph = GraphBuilder::new("layer");
    let x = graph.input("x", DType::F32, [images, channels, size, size]);
    let w = graph.constant("w", Tensor::f32(shape, weights));
    let y = x.conv(w, None, Conv { pads: vec![kernel / 2; 4], ..Conv::default() });
    let y = y.id();
    (graph.finish(&[("y", y)]), nonzeros)
}

/// The time of the kernels that compute the layer.
fn time(executable: &mut dyn Executable, inputs: &[Tensor]) -> Duration {
    let (_, steps) = executable.profile(inputs).expect("the layer runs");
    let counts = |kernel: &str| ["fill", "copy", "transpose"].iter().all(|word| !kernel.contains(word));
    steps.iter().filter(|step| counts(&step.kernel)).map(|step| step.time).sum()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let threads = arguments.first().and_then(|n| n.parse().ok()).unwrap_or(1);
    let target = Target::host(threads);
    let peak = peak::measure(&target).expect("the host multiplies");
    println!("{threads} threads, {peak:.1} GFLOP/s; chosen algorithms are marked");
    for extents @ [outputs, channels, kernel, size, images] in LAYERS {
        println!(
            "{outputs}×{}×{} (kernel {kernel}×{kernel}), {images} images",
            channels * kernel * kernel,
            size * size
        );
        for sparsity in SPARSITIES {
            let (graph, nonzeros) = layer(extents, sparsity);
            let shapes = [vec![images, channels, size, size]];
            let choices = Plan::choose(&graph, &shapes, &target, &Selection::default());
            let (choices, _) = choices.expect("the layer can be planned");
            let [choice] = choices.as_slice() else { panic!("one layer has one choice") };
            let x: Vec<f32> = (0..images * channels * size * size).map(|i| (i % 13) as f32 - 6.0).collect();
            let inputs = [Tensor::f32([images, channels, size, size], x)];
            let compile = |algorithm: Algorithm| {
                let jit = SelectedJit { target, selection: Selection::Always(algorithm) };
                (algorithm, jit.compile(&graph).expect("the layer can be compiled"), Duration::MAX)
            };
            let mut forms: Vec<_> = choice.candidates.iter().map(|candidate| compile(candidate.algorithm)).collect();
            forms.sort_by_key(|(algorithm, ..)| *algorithm);
            let start = Instant::now();
            while start.elapsed() < SO_LONG * u32::try_from(forms.len()).expect("few algorithms") {
                for (_, executable, least) in &mut forms {
                    *least = time(&mut **executable, &inputs).min(*least);
                }
            }
            let flops = 2.0 * (nonzeros * size * size * images) as f64;
            let figures: Vec<String> = forms
                .iter()
                .map(|(algorithm, _, least)| {
                    let mark = if *algorithm == choice.chosen { '*' } else { ' ' };
                    let cycles = choice.cycles(*algorithm).unwrap_or(f64::NAN);
                    let modelled = cycles * 32.0 / peak / 1e3;
                    let share = flops / least.as_secs_f64() / 1e9 / peak;
                    format!(
                        "{mark}{algorithm} {:.1} µs {:.1} % (model {modelled:.0})",
                        least.as_secs_f64() * 1e6,
                        100.0 * share
                    )
                })
                .collect();
            println!("  {:.0} %: {}", 100.0 * sparsity, figures.join("  "));
        }
    }
}
