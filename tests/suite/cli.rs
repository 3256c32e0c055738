//! The command as a process: exit codes, messages, the JSON programs rely on, what is written and what
//! is left alone.

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/train.rs"]
mod train;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use optc::data::{self, Arrays};
use optc::ir::{DType, Data, Tensor};
use optc_codegen::Vectors;
use serde_json::Value;
use tempfile::TempDir;

/// A classifier of 8×8 images into five classes, with a batch left open.
const MODEL: &str = "\
graph @tiny(%x: f32[N, 1, 8, 8]) -> (scores: f32[N, 5]) {
  %conv.w = const f32[4, 1, 3, 3] = normal(seed=1, std=0.5)
  %bn.scale = const f32[4] = uniform(seed=2, lo=0.5, hi=1.5)
  %bn.b = const f32[4] = uniform(seed=3, lo=-0.1, hi=0.1)
  %bn.mean = const f32[4] = uniform(seed=4, lo=-0.1, hi=0.1)
  %bn.var = const f32[4] = uniform(seed=5, lo=0.5, hi=1)
  %fc.w = const f32[256, 5] = normal(seed=6, std=0.2)
  %conv = conv(%x, %conv.w) {pads=[1, 1, 1, 1]} : f32[N, 4, 8, 8]
  %bn = batch_norm(%conv, %bn.scale, %bn.b, %bn.mean, %bn.var) : f32[N, 4, 8, 8]
  %relu = relu(%bn) : f32[N, 4, 8, 8]
  %flat = flatten(%relu) : f32[N, 256]
  %scores = matmul(%flat, %fc.w) : f32[N, 5]
  return %scores
}
";

/// A folder of its own for each test, with the model in it.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { dir: tempfile::tempdir().expect("a temporary folder can be made") };
        bench.write("tiny.ir", MODEL.as_bytes());
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("the folder can be written");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).expect("the folder is there");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry is there").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_optc"));
        command.args(args).current_dir(self.dir.path()).env_remove("NO_COLOR");
        command.output().expect("the command starts")
    }

    /// Standard output of a run that must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}\n{}", output.status, stderr(&output));
        String::from_utf8(output.stdout).expect("reports are UTF-8")
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(args);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}\n{text}"))
    }

    /// The message of a run that must fail with this code, having written nothing.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let before = self.names();
        let output = self.run(args);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
        assert!(output.stdout.is_empty(), "{args:?} printed {}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(self.names(), before, "{args:?} wrote something");
        assert!(!message.contains("panicked"), "{message}");
        message
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn images(count: usize) -> Tensor {
    let pixels = (0..count * 64).map(|i| ((i * 7919 + i / 64 * 31) % 256) as u8).collect();
    Tensor::new([count, 8, 8], Data::U8(pixels))
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {value}"))
}

#[test]
fn compile_writes_both_forms_beside_the_model_and_reports_the_contract() {
    let bench = Bench::new();
    let report = bench.json(&["tiny.ir", "-O", "compress", "--json"]);
    assert_eq!(bench.names(), ["tiny.ir", "tiny.opt.onnx", "tiny.optc"]);
    for side in ["input", "output"] {
        for key in ["bytes", "params", "nonzero", "macs", "stored_bits", "energy_pj"] {
            assert!(number(&report[side], key) > 0.0, "{side}.{key}");
        }
    }
    assert_eq!(number(&report["output"], "bytes"), bench.read("tiny.optc").len() as f64);
    assert_eq!(report["outputs"], serde_json::json!(["./tiny.optc", "./tiny.opt.onnx"]));
    let passes = report["passes"].as_array().expect("passes is a list");
    assert!(!passes.is_empty());
    for pass in passes {
        for key in ["name", "ms", "nodes", "params", "nonzero", "stored_bytes", "remarks"] {
            assert!(!pass[key].is_null(), "{key} is missing in {pass}");
        }
    }
    let layers = report["layers"].as_array().expect("layers is a list");
    let fields = [
        "name",
        "op",
        "shape",
        "params",
        "nonzero",
        "macs",
        "stored_bytes",
        "encoding",
        "entropy_bits",
        "energy_pj",
        "coded_bytes",
    ];
    for layer in layers {
        for key in fields {
            assert!(!layer[key].is_null(), "{key} is missing in {layer}");
        }
    }
    assert!(layers.iter().any(|layer| layer["name"] == "conv"));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let bench = Bench::new();
    bench.ok(&["tiny.ir", "-o", "a/", "--seed", "3"]);
    bench.ok(&["tiny.ir", "-o", "b/", "--seed", "3", "--threads", "1"]);
    for name in ["tiny.optc", "tiny.opt.onnx"] {
        assert_eq!(bench.read(&format!("a/{name}")), bench.read(&format!("b/{name}")), "{name}");
    }
}

#[test]
fn an_output_is_what_its_suffix_says() {
    let bench = Bench::new();
    for (name, start) in [("x.ir", &b"graph @tiny"[..]), ("x.dot", b"digraph"), ("x.json", b"{"), ("x.onnx", &[8])] {
        bench.ok(&["tiny.ir", "-O", "fuse", "-o", name]);
        assert!(bench.read(name).starts_with(start), "{name}");
    }
    let report: Value = serde_json::from_slice(&bench.read("x.json")).expect("the report is JSON");
    assert_eq!(report["outputs"], serde_json::json!(["x.json"]));
}

#[test]
fn text_goes_to_standard_output_and_reads_back() {
    let bench = Bench::new();
    let text = bench.ok(&["tiny.ir", "-O", "fuse", "--emit", "ir"]);
    assert!(text.starts_with("graph @tiny") && text.trim_end().ends_with('}'), "{text}");
    assert!(text.contains("act=relu"), "{text}");
    assert_eq!(bench.names(), ["tiny.ir"]);
    assert_eq!(bench.ok(&["tiny.ir", "-O", "fuse", "--emit", "ir", "-o", "-", "-q"]), text);
}

#[test]
fn the_model_is_never_overwritten() {
    let bench = Bench::new();
    bench.ok(&["tiny.ir", "-O", "none", "-o", "m.onnx"]);
    for model in ["tiny.ir", "m.onnx"] {
        let before = bench.read(model);
        let message = bench.fails(2, &[model, "-O", "fuse", "-o", model]);
        assert!(message.contains(model) && message.contains("overwrite"), "{message}");
        assert_eq!(bench.read(model), before);
    }
    bench.ok(&["m.onnx", "-O", "none", "-o", "m.optc"]);
    let before = bench.read("m.optc");
    bench.ok(&["m.optc", "-O", "fuse"]);
    assert_eq!(bench.read("m.optc"), before, "the default output of m.optc is another file");
    assert!(bench.names().contains(&"m.opt.optc".to_owned()));
}

#[test]
fn wrong_usage_is_2() {
    let bench = Bench::new();
    for args in [
        &[][..],
        &["tiny.ir", "-O", "everything"],
        &["tiny.ir", "-O", "fuse", "-p", "simplify"],
        &["tiny.ir", "-p", "no-such-pass"],
        &["tiny.ir", "-p", "simplify{no-such-option=1}"],
        &["tiny.ir", "--disable", "no-such-pass"],
        &["tiny.ir", "--bind", "M=1"],
        &["tiny.ir", "-o", "x.txt"],
        &["tiny.ir", "--threads", "0"],
        &["absent.onnx", "-O", "compress"],
        &["inspect"],
        &["eval", "tiny.ir"],
        &["run", "tiny.ir", "--input", "absent.npz"],
        &["unpack", "tiny.ir"],
    ] {
        bench.fails(2, args);
    }
    assert!(bench.fails(2, &["absent.onnx"]).contains("absent.onnx"));
    let message = bench.fails(2, &["tiny.ir", "-p", "no-such-pass"]);
    assert!(message.contains("no-such-pass") && message.contains("simplify"), "{message}");
    assert!(bench.fails(2, &["tiny.ir", "--bind", "M=1"]).contains("they are N"));
}

#[test]
fn invalid_models_are_3() {
    let bench = Bench::new();
    bench.ok(&["tiny.ir", "-O", "none"]);
    let (onnx, optc) = (bench.read("tiny.opt.onnx"), bench.read("tiny.optc"));
    bench.write("cut.onnx", &onnx[..onnx.len() / 2]);
    bench.write("cut.optc", &optc[..optc.len() / 2]);
    let mut flipped = optc.clone();
    *flipped.last_mut().expect("the file is not empty") ^= 1;
    bench.write("flipped.optc", &flipped);
    bench.write("wrong.ir", MODEL.replace("matmul(%flat", "matmul(%nothing").as_bytes());
    bench.write("noise.onnx", b"this is not a model");
    for name in ["cut.onnx", "cut.optc", "flipped.optc", "wrong.ir", "noise.onnx"] {
        for args in [&[name, "-O", "compress"][..], &["inspect", name], &["run", name]] {
            let message = bench.fails(3, args);
            assert!(message.contains(name), "{message}");
        }
    }
    assert!(bench.fails(3, &["inspect", "wrong.ir"]).contains("line "));
}

#[test]
fn run_takes_and_gives_arrays_by_name() {
    let bench = Bench::new();
    let x = Tensor::zeros(DType::F32, [2, 1, 8, 8]);
    bench.write("x.npz", &data::write_npz([("x", &x)]).expect("the archive can be written"));
    bench.ok(&["tiny.ir", "-O", "none"]);
    for (model, backend) in [("tiny.opt.onnx", "interp"), ("tiny.optc", "jit"), ("tiny.ir", "jit")] {
        bench.ok(&["run", model, "--input", "x.npz", "--output", "y.npz", "--backend", backend]);
        let Arrays::Named(arrays) = data::read_arrays(&bench.path("y.npz")).expect("the archive reads") else {
            panic!("an .npz has names")
        };
        assert_eq!(arrays.len(), 1);
        assert_eq!((arrays[0].0.as_str(), arrays[0].1.shape()), ("scores", &[2, 5][..]));
    }
    bench.write("wrong.npz", &data::write_npz([("y", &x)]).expect("the archive can be written"));
    let message = bench.fails(2, &["run", "tiny.ir", "--input", "wrong.npz"]);
    assert!(message.contains("missing: x") && message.contains("not an input: y"), "{message}");
    let big = Tensor::zeros(DType::F32, [2, 1, 9, 8]);
    bench.write("big.npz", &data::write_npz([("x", &big)]).expect("the archive can be written"));
    assert!(bench.fails(2, &["run", "tiny.ir", "--input", "big.npz"]).contains("f32[2, 1, 9, 8]"));
}

/// The class the model gives each image.
fn classes(bench: &Bench, images: &Tensor) -> Vec<i64> {
    let pixels = images.data().to_f64().into_iter().map(|x| x as f32).collect::<Vec<_>>();
    let x = Tensor::f32([images.shape()[0], 1, 8, 8], pixels);
    bench.write("x.npz", &data::write_npz([("x", &x)]).expect("the archive can be written"));
    bench.ok(&["run", "tiny.ir", "--input", "x.npz", "--output", "y.npy", "--backend", "interp"]);
    let Arrays::One(scores) = data::read_arrays(&bench.path("y.npy")).expect("the array reads") else {
        panic!("an .npy has no names")
    };
    let rows = scores.as_f32().expect("scores are f32").chunks(5);
    rows.map(|row| (0..5).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("there are five") as i64).collect()
}

#[test]
fn eval_counts_what_is_right() {
    let bench = Bench::new();
    let images = images(11);
    let mut labels = classes(&bench, &images);
    labels[3] = (labels[3] + 1) % 5;
    bench.write("images.npy", &data::write_npy(&images));
    bench.write("labels.npy", &data::write_npy(&Tensor::i64([11], labels)));
    let args = ["eval", "tiny.ir", "--data", "images.npy", "--labels", "labels.npy", "--json", "--batch", "4"];
    let report = bench.json(&args);
    assert_eq!(number(&report, "count"), 11.0);
    assert!((number(&report, "top1") - 10.0 / 11.0).abs() < 1e-9, "{report}");
    assert_eq!(number(&report, "top5"), 1.0);
    let half = bench.json(&[
        "eval",
        "tiny.ir",
        "--data",
        "images.npy",
        "--labels",
        "labels.npy",
        "--json",
        "--scale",
        "1/255",
    ]);
    assert_eq!(number(&half, "count"), 11.0);
    assert!(bench.fails(2, &["eval", "tiny.ir", "--data", "images.npy"]).contains("--labels"));
    bench.write("few.npy", &data::write_npy(&Tensor::i64([2], [0, 1])));
    let message = bench.fails(2, &["eval", "tiny.ir", "--data", "images.npy", "--labels", "few.npy"]);
    assert!(message.contains("2 labels for 11 samples"), "{message}");
}

#[test]
fn compare_finds_what_differs() {
    let bench = Bench::new();
    bench.write("images.npy", &data::write_npy(&images(5)));
    bench.write("other.ir", MODEL.replace("seed=6", "seed=7").as_bytes());
    let same = bench.json(&["compare", "tiny.ir", "tiny.ir", "--data", "images.npy", "--json"]);
    let row = &same["outputs"][0];
    assert_eq!(row["name"], "scores");
    assert_eq!((number(row, "max_abs"), number(row, "max_rel"), number(row, "top1_agreement")), (0.0, 0.0, 1.0));
    assert!((number(row, "cosine") - 1.0).abs() < 1e-9);
    let other = bench.json(&["compare", "tiny.ir", "other.ir", "--data", "images.npy", "--json"]);
    assert!(number(&other["outputs"][0], "max_abs") > 1.0 && number(&other["outputs"][0], "cosine") < 0.99);
    let random = bench.run(&["compare", "tiny.ir", "tiny.ir"]);
    assert!(random.status.success() && stderr(&random).contains("random inputs"), "{}", stderr(&random));
}

#[test]
fn compile_measures_on_data() {
    let bench = Bench::new();
    bench.write("images.npy", &data::write_npy(&images(6)));
    let report = bench.json(&["tiny.ir", "-O", "compress", "--data", "images.npy", "--json"]);
    let measured = &report["measured"];
    assert_eq!(number(measured, "samples"), 6.0);
    assert!(number(&measured["outputs"][0], "cosine") > 0.9, "{measured}");
    assert!(measured["before"].is_null());
}

#[test]
fn bench_times_runs_and_layers() {
    let bench = Bench::new();
    let report =
        bench.json(&["bench", "tiny.ir", "--iters", "3", "--threads", "1", "--bind", "N=2", "--profile", "--json"]);
    for key in ["min_ms", "median_ms", "p95_ms", "load_ms", "compile_ms"] {
        assert!(number(&report, key) > 0.0, "{key}");
    }
    assert!(report.get("peak_rss_bytes").is_some());
    assert!(number(&report, "min_ms") <= number(&report, "median_ms"));
    let layers = report["layers"].as_array().expect("layers is a list");
    assert!(layers.iter().any(|layer| layer["name"] == "conv" && layer["kernel"].is_string()), "{report}");
}

#[test]
fn inspect_tells_what_is_there() {
    let bench = Bench::new();
    let report = bench.json(&["inspect", "tiny.ir", "--json"]);
    assert_eq!(report["ops"]["conv"], 1);
    assert_eq!(number(&report, "params"), (36 + 4 * 4 + 1280) as f64);
    assert_eq!(number(&report, "macs"), (36 * 64 + 1280) as f64);
    assert_eq!(report["dynamic_dims"], serde_json::json!(["N"]));
    assert_eq!(report["opaque_nodes"], serde_json::json!([]));
    assert_eq!(report["inputs"][0]["type"], "f32[N, 1, 8, 8]");
    assert_eq!(report["dtypes"]["f32"]["constants"], 6);
    assert!(number(&report, "entropy_bits") > 0.0 && number(&report, "sparsity") == 0.0);
}

#[test]
fn explain_names_what_goes_together_and_what_stands_in_the_way() {
    let bench = Bench::new();
    let report = bench.json(&["explain", "tiny.ir", "--json"]);
    let group = &report["groups"][0];
    assert_eq!((&group["channels"], &group["removable"], &group["prunable"]), (&4.into(), &4.into(), &true.into()));
    assert_eq!(group["made_by"][0]["node"], "conv");
    // A channel is 64 features of the classifier.
    assert_eq!((&group["read_by"][0]["node"], &group["read_by"][0]["indices"]), (&"scores".into(), &64.into()));
    assert_eq!(report["fixed_layers"][0]["reason"], "scores is a result of the graph");
    let page = bench.ok(&["explain", "tiny.ir", "--node", "scores"]);
    assert!(page.contains("None of its channels can be removed: scores is a result of the graph."), "{page}");
    assert!(page.contains("reads group 0: 4 channels, 4 can be removed"), "{page}");
    let as_is = bench.json(&["explain", "tiny.ir", "--as-is", "--node", "bn", "--json"]);
    assert_eq!(as_is["groups"][0]["through"].as_array().map(Vec::len), Some(3), "{as_is}");
    assert!(bench.fails(2, &["explain", "tiny.ir", "--node", "bn"]).contains("--as-is"));
}

#[test]
fn sensitivity_prunes_each_layer_alone() {
    let bench = Bench::new();
    bench.write("x.npy", &data::write_npy(&images(20)));
    let args = ["sensitivity", "tiny.ir", "--data", "x.npy", "--ratios", "0,0.5,0.75"];
    let report = bench.json(&[&args[..], &["--plot", "s.svg", "--json"]].concat());
    assert_eq!(report["metric"], "agreement");
    let points = report["layers"][0]["points"].as_array().expect("there are points");
    let kept: Vec<_> = points.iter().map(|point| point["kept"].as_u64()).collect();
    assert_eq!(kept, [Some(4), Some(2), Some(1)]);
    assert_eq!((number(&points[0], "agreement"), number(&points[0], "mse")), (1.0, 0.0));
    assert!(number(&points[2], "mse") > 0.0 && number(&points[2], "kl") > 0.0);
    assert!(number(&points[2], "macs") < number(&points[1], "macs"));
    let svg = String::from_utf8(bench.read("s.svg")).expect("a picture is text");
    assert!(svg.contains("filters removed from one layer (%)") && svg.contains("conv"), "{svg}");
    let magnitude = bench.json(&[&args[..], &["--method", "magnitude", "--json"]].concat());
    let layers: Vec<_> = magnitude["layers"].as_array().into_iter().flatten().map(|row| &row["layer"]).collect();
    assert_eq!(layers, ["conv", "scores"]);
    // With labels that are what the model says, accuracy is agreement.
    let labels = classes(&bench, &images(20));
    bench.write("y.npy", &data::write_npy(&Tensor::i64([20], labels)));
    let labelled = bench.json(&[&args[..], &["--labels", "y.npy", "--json"]].concat());
    assert_eq!(number(&labelled["baseline"], "top1"), 1.0);
    let point = &labelled["layers"][0]["points"][2];
    assert_eq!(number(point, "top1"), number(&points[2], "agreement"));
    assert!(bench.fails(2, &["sensitivity", "tiny.ir"]).contains("--data"));
    assert!(bench.fails(2, &[&args[..4], &["--criterion", "best"]].concat()).contains("geometric-median"));
}

#[test]
fn check_writes_nothing_and_predicts_the_size() {
    let bench = Bench::new();
    let predicted = bench.json(&["check", "tiny.ir", "-O", "compress", "--json"]);
    assert_eq!(bench.names(), ["tiny.ir"]);
    assert_eq!(predicted["outputs"], serde_json::json!([]));
    let report = bench.json(&["tiny.ir", "-O", "compress", "--json"]);
    assert_eq!(predicted["output"]["bytes"], report["output"]["bytes"]);
    assert!(predicted["passes"].as_array().expect("passes is a list").iter().any(|pass| pass["changed"] == true));
}

#[test]
fn unpack_gives_a_model_with_identical_values() {
    let bench = Bench::new();
    bench.write("images.npy", &data::write_npy(&images(3)));
    bench.ok(&["tiny.ir", "-O", "compress"]);
    bench.ok(&["unpack", "tiny.optc"]);
    assert!(bench.names().contains(&"tiny.unpacked.onnx".to_owned()));
    let args = ["compare", "tiny.optc", "tiny.unpacked.onnx", "--data", "images.npy", "--backend", "interp", "--json"];
    assert_eq!(number(&bench.json(&args)["outputs"][0], "max_abs"), 0.0);
}

#[test]
fn the_compiler_shows_what_it_does() {
    let bench = Bench::new();
    let fuse = |flags: &[&str]| {
        let output = bench.run(&[&["tiny.ir", "-O", "fuse", "-o", "x.onnx"], flags].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(fuse(&["--print-ir-after=fold-batch-norm"]).contains("graph @tiny"));
    let diff = fuse(&["--print-ir-after-change"]);
    assert!(diff.lines().any(|line| line.starts_with("-  %bn = ")), "{diff}");
    assert!(fuse(&["--time-passes"]).contains("fold-batch-norm"));
    assert!(fuse(&["--stop-after", "0"]).contains("left out"));
    fuse(&["--dump-ir", "dump"]);
    let dumped = fs::read_dir(bench.path("dump")).expect("the folder is made");
    let names: Vec<String> =
        dumped.map(|e| e.expect("an entry is there").file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|n| n == "00-input.ir"), "{names:?}");
    assert!(names.iter().any(|n| n.ends_with("-fold-batch-norm.ir")), "{names:?}");
    let checked = bench.json(&["tiny.ir", "-O", "fuse", "--check", "--json"]);
    assert!(!checked["checks"].as_array().expect("checks is a list").is_empty());
}

#[test]
fn kernels_are_shown_for_any_target() {
    let bench = Bench::new();
    let emit = |kind: &str, cpu: &str| {
        bench.ok(&["tiny.ir", "-O", "fuse", "--emit", kind, "--bind", "N=2", "--threads", "1", "--target-cpu", cpu])
    };
    for (cpu, register) in [("icelake", "zmm"), ("x86-64-v4", "zmm"), ("x86-64-v3", "ymm"), ("clif", "")] {
        assert!(emit("plan", cpu).contains("conv: f32_conv_"), "{}", emit("plan", cpu));
        assert!(emit("schedule", cpu).contains("program 0"));
        assert!(emit("clif", cpu).contains("function u0:0("));
        assert_eq!(emit("clif", cpu).contains("f32x4"), cpu == "clif");
        let asm = emit("asm", cpu);
        assert!(asm.contains("; f32_conv_") && asm.contains(register), "{asm}");
    }
    assert_eq!(bench.names(), ["tiny.ir"]);
    bench.ok(&["tiny.ir", "-O", "fuse", "--emit", "plan,asm", "--bind", "N=1", "-o", "code/"]);
    assert!(bench.read("code/tiny.plan").starts_with(b"arena ") && !bench.read("code/tiny.asm").is_empty());
    bench.ok(&["tiny.ir", "-O", "fuse", "--bind", "N=1", "-o", "x.schedule"]);
    let message = bench.fails(2, &["tiny.ir", "-O", "fuse", "--emit", "plan"]);
    assert!(message.contains("open are N") && message.contains("--bind 'N=1'"), "{message}");
    let message = bench.fails(2, &["run", "tiny.ir", "--target-cpu", "sse2"]);
    assert!(message.contains("native, icelake, x86-64-v4, x86-64-v3, clif"), "{message}");
}

#[test]
fn models_run_on_every_target_the_host_has() {
    let bench = Bench::new();
    bench.write("images.npy", &data::write_npy(&images(3)));
    let args = ["compare", "tiny.ir", "tiny.ir", "--data", "images.npy", "--json", "--target-cpu"];
    for vectors in Vectors::ALL {
        let cpu = vectors.to_string();
        let args = [&args[..], &[&cpu]].concat();
        if vectors.run_here() {
            assert_eq!(number(&bench.json(&args)["outputs"][0], "max_abs"), 0.0, "{cpu}");
        } else {
            assert!(bench.fails(2, &args).contains("this host can't run such code"), "{cpu}");
        }
    }
    bench.json(&["bench", "tiny.ir", "--iters", "2", "--target-cpu", "clif", "--json"]);
}

#[test]
fn protected_layers_keep_their_weights() {
    let bench = Bench::new();
    let report = bench.json(&["tiny.ir", "-p", "prune-magnitude{sparsity=0.5}", "--protect", "conv", "--json"]);
    let layer = |name: &str| {
        let layers = report["layers"].as_array().expect("layers is a list");
        layers.iter().find(|layer| layer["name"] == name).unwrap_or_else(|| panic!("no layer {name}")).clone()
    };
    assert_eq!(layer("conv")["nonzero"], layer("conv")["params"]);
    assert!(number(&layer("scores"), "nonzero") < number(&layer("scores"), "params"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    use std::io::Read;
    use std::process::Stdio;
    let bench = Bench::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_optc"))
        .args(["tiny.ir", "-O", "none", "--emit", "ir"])
        .current_dir(bench.dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("stderr is piped").read_to_string(&mut said).expect("it is text");
    assert!(child.wait().expect("the command ends").success(), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn tables_are_plain_text_where_nobody_looks() {
    let bench = Bench::new();
    let text = bench.ok(&["tiny.ir", "-O", "compress"]);
    for part in ["before", "after", "Layers", "Bytes by encoding", "Passes", "wrote"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains('\x1b'), "no colours outside a terminal");
    for args in [&["passes"][..], &["ops"], &["inspect", "tiny.ir"], &["--help"], &["run", "--help"]] {
        assert!(!bench.ok(args).is_empty(), "{args:?}");
    }
    assert!(bench.ok(&["passes", "--markdown"]).starts_with("| pass |"));
}

#[test]
fn nothing_is_left_beside_an_output_that_can_not_be_written() {
    let bench = Bench::new();
    bench.write("file", b"x");
    bench.fails(2, &["tiny.ir", "-O", "none", "-o", "file/out.onnx"]);
    assert_eq!(bench.read("file"), b"x");
}
