//! How fast the container codes, how close to the entropy, and how fast it loads.
//!
//! `cargo bench -p optc --bench container`. Rates are of symbols, and of the constants kept as dense
//! `f32`; the best of several runs. `taskset -c 0` in front of it gives the rates of one thread.
//! `cargo bench -p optc --bench container -- MODEL…` reads models instead, ONNX or `.optc`.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::sync::Arc;
use std::time::Instant;

use optc::ir::constant::width;
use optc::ir::{Constant, DType, Data, Encoding, Form, Graph, Packed, PatternForm, Tensor};
use optc::pack::entropy::{self, Method};
use optc::pack::{PackOptions, read, write};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Codes of normal numbers on `k` evenly spaced levels that reach to four standard deviations.
fn normal_codes(rng: &mut ChaCha8Rng, len: usize, k: usize) -> Vec<u8> {
    let one = |_| {
        let x = (0..6).map(|_| rng.random::<f32>()).sum::<f32>() * 2f32.sqrt() - 3.0 * 2f32.sqrt();
        ((x / 8.0 + 0.5) * k as f32).clamp(0.0, k as f32 - 1.0) as u8
    };
    (0..len).map(one).collect()
}

/// Seconds of the fastest of several runs.
fn best<T>(mut f: impl FnMut() -> T) -> f64 {
    let time = |_| {
        let start = Instant::now();
        std::hint::black_box(f());
        start.elapsed().as_secs_f64()
    };
    (0..5).map(time).fold(f64::INFINITY, f64::min)
}

fn coders(rng: &mut ChaCha8Rng) {
    const LEN: usize = 1 << 22;
    println!(
        "{:>8} {:>8} {:>12} {:>12} {:>14} {:>14}",
        "k", "coder", "bits/symbol", "of entropy", "write Msym/s", "read Msym/s"
    );
    for k in [4, 16, 64, 256] {
        let symbols = normal_codes(rng, LEN, k);
        for method in [Method::Packed, Method::Huffman, Method::Ans12, Method::Ans16] {
            let mut bytes = Vec::new();
            let report = entropy::write(&symbols, k, Some(method), &mut bytes);
            let write = best(|| entropy::write(&symbols, k, Some(method), &mut Vec::new()));
            let read = best(|| entropy::read(&bytes, k, LEN));
            let bits = 8.0 * bytes.len() as f64;
            println!(
                "{k:>8} {:>8} {:>12.4} {:>11.2}% {:>14.0} {:>14.0}",
                format!("{method:?}").to_lowercase(),
                bits / LEN as f64,
                100.0 * bits / report.entropy_bits,
                LEN as f64 / write / 1e6,
                LEN as f64 / read / 1e6
            );
        }
    }
}

/// Layers of these many weights, and nothing else.
fn graph(rng: &mut ChaCha8Rng, layers: &[usize], constant: impl Fn(&mut ChaCha8Rng, usize) -> Constant) -> Graph {
    let mut graph = Graph::new("layers");
    for (i, &len) in layers.iter().enumerate() {
        let node = graph.add_constant(&format!("layers.{i}.weight"), constant(rng, len));
        graph.add_result(&format!("{i}"), node.into());
    }
    graph
}

fn clustered(rng: &mut ChaCha8Rng, len: usize, k: usize) -> Constant {
    let mut codes = normal_codes(rng, len, k);
    // Every entry of a codebook is used.
    codes.iter_mut().zip(0..k).for_each(|(code, i)| *code = i as u8);
    let codebook = Data::F32((0..k).map(|i| (i as f32 + 0.5) / k as f32 - 0.5).collect());
    let codes = Packed::from_codes(width(k - 1), codes.into_iter().map(u32::from));
    Constant::new(vec![len], DType::F32, Encoding::Clustered { codebook, codes }).expect("every code is used")
}

fn sparse(rng: &mut ChaCha8Rng, len: usize, density: f64) -> Constant {
    let codes = normal_codes(rng, len, 32);
    let value = |code: u8| if rng.random_bool(density) { f32::from(code) - 15.5 } else { 0.0 };
    let tensor = Tensor::f32([len], codes.into_iter().map(value).collect::<Vec<_>>());
    let form = Form::Sparse(PatternForm::Bitmap, Box::new(Form::Clustered));
    Constant::encode(&tensor, &form).expect("bitmap and table hold everything")
}

fn dense(rng: &mut ChaCha8Rng, len: usize) -> Constant {
    let one = |_| (0..6).map(|_| rng.random::<f32>()).sum::<f32>() - 3.0;
    Constant::dense(Tensor::f32([len], (0..len).map(one).collect::<Vec<_>>()))
}

fn containers(rng: &mut ChaCha8Rng) {
    // As many weights as MobileNetV2 and a small transformer have.
    let mut mobile = vec![1_280_000];
    mobile.extend([864, 288, 9_216, 24_576, 61_440, 153_600, 92_160, 55_296, 307_200, 409_600].repeat(2));
    let mut transformer = vec![30_522 * 384];
    transformer.extend([384 * 384, 384 * 384, 384 * 384, 384 * 384, 384 * 1536, 384 * 1536].repeat(6));
    println!();
    println!(
        "{:>12} {:>18} {:>9} {:>9} {:>10} {:>10} {:>11} {:>11} {:>11}",
        "model", "encoding", "dense MB", "file MB", "of entropy", "write MB/s", "read MB/s", "decode MB/s", "both MB/s"
    );
    for (name, layers) in [("mobilenet", &mobile), ("transformer", &transformer)] {
        /// Makes a constant of so many elements.
        type Make<'a> = &'a dyn Fn(&mut ChaCha8Rng, usize) -> Constant;
        let encodings: [(&str, Make<'_>); 5] = [
            ("clustered k=256", &|rng, len| clustered(rng, len, 256)),
            ("clustered k=16", &|rng, len| clustered(rng, len, 16)),
            ("sparse 10 %", &|rng, len| sparse(rng, len, 0.1)),
            ("sparse 50 %", &|rng, len| sparse(rng, len, 0.5)),
            ("dense", &|rng, len| dense(rng, len)),
        ];
        for (encoding, constant) in encodings {
            let graph = graph(rng, layers, constant);
            let options = PackOptions::default();
            let (bytes, report) = write(&graph, &options).expect("the graph is valid");
            let entropy: f64 =
                report.constants.iter().map(|c| (c.codes.entropy_bits + c.positions.entropy_bits) / 8.0).sum();
            let coded: usize = report.constants.iter().map(|c| c.codes.bytes + c.positions.bytes).sum();
            let decode = |graph: &Graph| {
                let constants = graph.nodes().filter_map(|node| graph.constant(node));
                constants.map(|constant| constant.decode().len()).sum::<usize>()
            };
            let mb = report.dense_bytes() as f64 / 1e6;
            println!(
                "{name:>12} {encoding:>18} {mb:>9.1} {:>9.2} {:>9.2}% {:>10.0} {:>11.0} {:>11.0} {:>11.0}",
                bytes.len() as f64 / 1e6,
                100.0 * coded as f64 / entropy,
                mb / best(|| write(&graph, &options)),
                mb / best(|| read(&bytes)),
                mb / best(|| decode(&graph)),
                mb / best(|| read(&bytes).map(|graph| decode(&graph))),
            );
        }
    }
}

/// Reads files as the command line does, and decodes their constants.
fn models(paths: &[String]) {
    println!("{:>9} {:>9} {:>8} {:>10} {:>11}  model", "dense MB", "file MB", "read ms", "decode ms", "both MB/s");
    for path in paths {
        let load = || optc::load(path).unwrap_or_else(|e| panic!("{e}"));
        let graph = load();
        let floats = |constant: &Arc<Constant>| if constant.dtype().is_float() { constant.len() } else { 0 };
        let constants: Vec<_> = graph.nodes().filter_map(|node| graph.constant(node)).collect();
        let mb = 4.0 * constants.iter().map(|c| floats(c)).sum::<usize>() as f64 / 1e6;
        let file = std::fs::metadata(path).map_or(0, |data| data.len()) as f64 / 1e6;
        let (read, decode) =
            (best(load), best(|| constants.iter().map(|constant| constant.decode().len()).sum::<usize>()));
        let (read_ms, decode_ms, both) = (1e3 * read, 1e3 * decode, mb / (read + decode));
        println!("{mb:>9.1} {file:>9.2} {read_ms:>8.1} {decode_ms:>10.1} {both:>11.0}  {path}");
    }
}

fn main() {
    // Cargo itself adds `--bench`.
    let paths: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if !paths.is_empty() {
        return models(&paths);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    coders(&mut rng);
    containers(&mut rng);
}
