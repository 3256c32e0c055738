//! How fast single layers run whose weights are mostly zero: `cargo bench --bench sparse -- 1` prints, for one
//! thread, microseconds of each algorithm at each sparsity, and which share of this machine's multiply-adds that
//! is, counting products by weights that are not zero alone.
//!
//! Weights are zero at random places; where all filters of a layer have them (`shape`); in blocks of 16 outputs by one
//! place (`16x1`), or of 4 (`4x1`); or two or three in every four, or seven in every eight, channels (`2:4` and so on):
//! a word behind the number of threads asks for one pattern alone. Layers are hot: they run again and again, their x
//! and y in the caches. Conversions between layouts are not counted, since in a network neighbours share layouts.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::{Duration, Instant};

use optc::codegen::{Algorithm, Plan, SelectedJit, Selection, Target, peak};
use optc::ir::builder::GraphBuilder;
use optc::ir::op::Conv;
use optc::ir::{Backend, DType, Executable, Graph, Tensor};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Convolutions: outputs, channels, kernel, rows and columns of the image, images.
const LAYERS: [[usize; 5]; 5] =
    [[512, 512, 1, 14, 1], [256, 256, 3, 14, 1], [64, 64, 3, 56, 1], [512, 512, 3, 7, 1], [256, 256, 3, 14, 16]];

/// Layers of the patterns that are not at random; those of no image are matrices times one row.
const STRUCTURED: [[usize; 5]; 8] = [
    [512, 512, 1, 14, 1],
    [256, 256, 3, 14, 1],
    [64, 64, 3, 56, 1],
    [2048, 512, 1, 7, 1],
    [512, 512, 3, 7, 1],
    [3072, 768, 1, 12, 1],
    [1024, 1024, 1, 1, 0],
    [4096, 4096, 1, 1, 0],
];

const SPARSITIES: [f64; 5] = [0.6, 0.7, 0.8, 0.9, 0.95];

const FEWER: [f64; 3] = [0.5, 0.8, 0.9];

/// Where weights are zero.
#[derive(Clone, Copy)]
enum Pattern {
    Anywhere,
    /// At the same places for so many outputs.
    Blocks(usize),
    /// But for so many of so many channels.
    Of(usize, usize),
}

/// A pattern by name, its layers, and its sparsities.
type Table = (&'static str, Pattern, &'static [[usize; 5]], &'static [f64]);

const PATTERNS: [Table; 7] = [
    ("random", Pattern::Anywhere, &LAYERS, &SPARSITIES),
    ("shape", Pattern::Blocks(usize::MAX), &STRUCTURED, &FEWER),
    ("16x1", Pattern::Blocks(16), &STRUCTURED, &FEWER),
    ("4x1", Pattern::Blocks(4), &STRUCTURED, &FEWER),
    ("2:4", Pattern::Of(2, 4), &STRUCTURED, &[0.5]),
    ("1:4", Pattern::Of(1, 4), &STRUCTURED, &[0.75]),
    ("1:8", Pattern::Of(1, 8), &STRUCTURED, &[0.875]),
];

/// How long each algorithm is run.
const SO_LONG: Duration = Duration::from_millis(300);

impl Pattern {
    /// Whether each weight is there, by output, channel and element of the window.
    fn mask(self, [outputs, channels, taps]: [usize; 3], sparsity: f64, random: &mut ChaCha8Rng) -> Vec<bool> {
        let row = channels * taps;
        let mut mask = Vec::with_capacity(outputs * row);
        match self {
            Pattern::Anywhere => mask.extend((0..outputs * row).map(|_| !random.random_bool(sparsity))),
            Pattern::Blocks(height) => {
                while mask.len() < outputs * row {
                    let zeros = (row as f64 * sparsity).round() as usize;
                    let mut kept: Vec<bool> = (0..row).map(|place| place >= zeros).collect();
                    kept.shuffle(random);
                    (0..height.min(outputs)).for_each(|_| mask.extend(&kept));
                }
                mask.truncate(outputs * row);
            }
            Pattern::Of(kept, of) => {
                mask.resize(outputs * row, false);
                for (output, tap) in (0..outputs).flat_map(|o| (0..taps).map(move |tap| (o, tap))) {
                    for first in (0..channels).step_by(of) {
                        let mut group: Vec<usize> = (first..first + of).collect();
                        group.shuffle(random);
                        group[..kept].iter().for_each(|c| mask[output * row + c * taps + tap] = true);
                    }
                }
            }
        }
        mask
    }
}

/// The layer, and its weights that are not zero.
fn layer([outputs, channels, kernel, size, images]: [usize; 5], pattern: Pattern, sparsity: f64) -> (Graph, usize) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mask = pattern.mask([outputs, channels, kernel * kernel], sparsity, &mut random);
    let weights: Vec<f32> =
        mask.into_iter().map(|there| if there { random.random_range(-1.0..1.0) } else { 0.0 }).collect();
    let nonzeros = weights.iter().filter(|w| **w != 0.0).count();
    let graph = GraphBuilder::new("layer");
    let y = if images == 0 {
        let x = graph.input("x", DType::F32, [1, channels]);
        let w = graph.constant("w", Tensor::f32([outputs, channels], weights));
        x.linear(w, None).id()
    } else {
        let x = graph.input("x", DType::F32, [images, channels, size, size]);
        let w = graph.constant("w", Tensor::f32([outputs, channels, kernel, kernel], weights));
        x.conv(w, None, Conv { pads: vec![kernel / 2; 4], ..Conv::default() }).id()
    };
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
    let only = arguments.get(1);
    for (name, pattern, layers, sparsities) in PATTERNS {
        if only.is_none_or(|only| only == name) {
            for &extents in layers {
                let [outputs, channels, kernel, size, images] = extents;
                let (depth, points) = (channels * kernel * kernel, size * size);
                println!("{name}: {outputs}×{depth}×{points} (kernel {kernel}×{kernel}), {images} images");
                sparsities.iter().for_each(|&sparsity| compare(extents, (pattern, sparsity), (target, peak)));
            }
        }
    }
}

/// Prints what each algorithm takes for a layer.
fn compare(extents: [usize; 5], (pattern, sparsity): (Pattern, f64), (target, peak): (Target, f64)) {
    let [_, channels, _, size, images] = extents;
    let (graph, nonzeros) = layer(extents, pattern, sparsity);
    let shape = if images == 0 { vec![1, channels] } else { vec![images, channels, size, size] };
    let choices = Plan::choose(&graph, std::slice::from_ref(&shape), &target, &Selection::default());
    let (choices, _) = choices.expect("the layer can be planned");
    let [choice] = choices.as_slice() else { panic!("one layer has one choice") };
    let len = shape.iter().product();
    let inputs = [Tensor::f32(shape, (0..len).map(|i| (i % 13) as f32 - 6.0).collect::<Vec<f32>>())];
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
    let flops = 2.0 * (nonzeros * size * size * images.max(1)) as f64;
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
