//! `optc train` and `optc new` as processes: what is written, that a run which is killed goes on as if it had
//! not been, and that threads change nothing.

use std::process::{Command, Stdio};
use std::time::Duration;

use optc::data::write_npz;
use optc::ir::{Data, Tensor};

use super::{Bench, stderr};

/// Every kind of stage on a small model.
const RECIPE: &str = r#"
about = "a test"
[data]
scale = "1/255"
[[stage]]
do = "train"
epochs = 4
batch = 32
lr = 1e-2
shift = 1
[[stage]]
do = "prune"
sparsity = 0.75
scope = "global"
epochs = 4
batch = 32
lr = 1e-2
dropout = { scores = 0.25 }
distill = 0.25
[[stage]]
do = "cluster"
bits = 3
[[stage]]
do = "fine-tune"
epochs = 2
batch = 32
lr = 1e-3
optimizer = "momentum"
[[stage]]
do = "passes"
passes = "simplify,encode-weights"
[[stage]]
do = "evaluate"
max-error = 20
"#;

/// Pictures of one bright column among noise, which is the class: far enough from those of others for shifts.
fn data(bench: &Bench) {
    let mut state = 7u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let part = |count: usize, random: &mut dyn FnMut() -> u8| {
        let mut pixels = Vec::new();
        for i in 0..count {
            pixels.extend((0..64).map(|at| if at % 8 == 1 + 3 * (i % 3) { 160 + random() / 4 } else { random() / 3 }));
        }
        let labels = (0..count).map(|i| (i % 3) as i64).collect::<Vec<_>>();
        (Tensor::new([count, 8, 8], Data::U8(pixels)), Tensor::i64([count], labels))
    };
    let (x, y) = part(320, &mut random);
    let (x_test, y_test) = part(100, &mut random);
    let arrays = [("x_train", &x), ("y_train", &y), ("x_test", &x_test), ("y_test", &y_test)];
    bench.write("data.npz", &write_npz(arrays).expect("the arrays can be written"));
    bench.write("r.toml", RECIPE.as_bytes());
}

const TRAIN: [&str; 6] = ["train", "tiny.ir", "--data", "data.npz", "--recipe", "r.toml"];

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    TRAIN.iter().chain(more).copied().collect()
}

#[test]
fn a_recipe_makes_a_small_model_that_is_right() {
    let bench = Bench::new();
    data(&bench);
    let report = bench.json(&train(&["-o", "out", "--json", "--threads", "1"]));
    let stages = report["stages"].as_array().expect("stages are listed");
    let names: Vec<&str> = stages.iter().filter_map(|stage| stage["name"].as_str()).collect();
    assert_eq!(names, ["train", "prune", "cluster", "fine-tune", "passes", "evaluate"]);
    let number = |stage: usize, key: &str| stages[stage][key].as_f64().expect("a number");
    assert!(number(0, "error") < 10.0, "{report}");
    // A quarter of 1,316 weights are left, and what the normalisation has.
    assert!(number(1, "nonzero") <= 329.0 + 16.0, "{report}");
    assert!(number(3, "optc_bytes") < 0.2 * number(0, "optc_bytes"), "{report}");
    assert_eq!(report["epochs"].as_array().map(Vec::len), Some(10));
    for name in ["out/r.onnx", "out/r.optc", "out/best.onnx", "out/last.npz", "out/history.json", "out/history.svg"] {
        assert!(bench.path(name).is_file(), "{name}");
    }
    let inspected = bench.json(&["inspect", "out/r.optc", "--json"]);
    assert!(inspected.is_object());

    // The models know how their data are scaled.
    for model in ["out/r.onnx", "out/r.optc"] {
        let measured = bench.run(&["eval", model, "--data", "data.npz", "--json"]);
        assert!(stderr(&measured).contains("scale 1/255, mean 0, std 1"), "{}", stderr(&measured));
        let measured = bench.json(&["eval", model, "--data", "data.npz", "--json"]);
        let error = 100.0 * (1.0 - measured["top1"].as_f64().expect("a number"));
        assert!((error - number(5, "error")).abs() < 1e-9, "{model}: {measured}");
        let raw = bench.json(&["eval", model, "--data", "data.npz", "--json", "--scale", "1"]);
        assert!(raw["top1"] != measured["top1"], "{model}: {raw}");
    }

    // The same command again has nothing left to do; another recipe does not go on from here.
    let again = bench.json(&train(&["-o", "out", "--json"]));
    assert_eq!(again["stages"], report["stages"]);
    let other = bench.run(&train(&["-o", "out", "--seed", "5"]));
    assert_eq!(other.status.code(), Some(2));
    assert!(stderr(&other).contains("--fresh"), "{}", stderr(&other));

    // Another number of threads gives the same bytes.
    bench.ok(&train(&["-o", "two", "--threads", "2", "-q"]));
    assert_eq!(bench.read("two/r.optc"), bench.read("out/r.optc"));
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_weights() {
    let bench = Bench::new();
    data(&bench);
    bench.ok(&train(&["-o", "whole", "-q"]));
    let mut kills = 0;
    for wait in (10..).step_by(17) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_optc"));
        command.args(train(&["-o", "parts", "-q"])).current_dir(bench.dir.path());
        let mut child = command.stdout(Stdio::null()).spawn().expect("the command starts");
        std::thread::sleep(Duration::from_millis(wait));
        // SIGKILL, unless it has ended.
        child.kill().expect("a child can be killed");
        if child.wait().expect("a child can be waited for").success() {
            break;
        }
        kills += 1;
    }
    assert!(kills > 0, "no run was killed");
    for name in ["r.onnx", "r.optc", "history.json", "history.svg"] {
        assert_eq!(bench.read(&format!("parts/{name}")), bench.read(&format!("whole/{name}")), "{name}");
    }
}

#[test]
fn what_a_recipe_can_not_do_is_an_error_that_names_it() {
    let bench = Bench::new();
    data(&bench);
    let fails = |args: &[&str], message: &str| {
        let output = bench.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{args:?}: {}", stderr(&output));
    };
    fails(&["train", "--recipe", "nothing"], "there is no recipe nothing");
    fails(&["train", "--recipe", "r.toml", "--data", "data.npz"], "starts from a trained model");
    fails(&["train", "tiny.ir", "--recipe", "r.toml"], "--data");
    bench.write("bad.toml", b"[[stage]]\ndo = 'train'\nepochs = 'ten'\n");
    fails(&["train", "tiny.ir", "--recipe", "bad.toml", "--data", "data.npz"], "bad.toml:3: epochs");
    bench.write("limit.toml", b"[[stage]]\ndo = 'evaluate'\nmax-error = 1\n");
    fails(&["train", "tiny.ir", "--recipe", "limit.toml", "--data", "data.npz"], "above the limit of 1 %");
    bench.write("big.toml", b"[[stage]]\ndo = 'train'\nbatch = 1000\n");
    fails(&["train", "tiny.ir", "--recipe", "big.toml", "--data", "data.npz"], "320 samples");
    let list = bench.ok(&["train", "--recipe", "list"]);
    assert!(list.contains("lenet-5-tiny"), "{list}");
    assert!(bench.ok(&["train", "--recipe", "lenet-5", "--show"]).contains("[[stage]]"));
}

#[test]
fn new_networks_can_be_inspected() {
    let bench = Bench::new();
    assert!(bench.ok(&["new", "--list"]).contains("resnet-20"));
    let report = bench.json(&["new", "lenet-300-100", "-o", "m.onnx", "--json"]);
    assert_eq!(report["parameters"], 266_610);
    bench.ok(&["inspect", "m.onnx"]);
    assert_eq!(bench.run(&["new", "alexnet"]).status.code(), Some(2));
    assert_eq!(bench.run(&["new"]).status.code(), Some(2));
}
