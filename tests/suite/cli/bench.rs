//! `optc bench --baseline` and `--tune`: what is paired with what, and what is said of the choice.

use super::{Bench, number, stderr};

/// The model with most weights made zero.
fn sparse(bench: &Bench) {
    bench.ok(&["tiny.ir", "-p", "simplify,prune-magnitude{sparsity=0.9}", "-o", "sparse.optc", "-q"]);
}

#[test]
fn a_baseline_stands_beside_each_layer() {
    let bench = Bench::new();
    sparse(&bench);
    let run = ["bench", "sparse.optc", "--bind", "N=2", "--iters", "3", "--threads", "1"];
    for baseline in ["tiny.ir", "dense"] {
        let report = bench.json(&[&run[..], &["--baseline", baseline, "--json"]].concat());
        let beside = &report["baseline"];
        assert_eq!(beside["model"], baseline);
        for key in ["min_ms", "median_ms", "speedup", "speedup_median", "peak_gflops", "peak_gb_s"] {
            assert!(number(beside, key) > 0.0, "{key}");
        }
        let layers = beside["layers"].as_array().expect("layers is a list");
        for name in ["conv", "scores"] {
            let layer = layers.iter().find(|layer| layer["name"] == name).unwrap_or_else(|| panic!("{name}: {beside}"));
            assert!(number(layer, "sparsity") > 0.85 && number(layer, "bits_per_weight") > 0.0, "{layer}");
            assert!(number(layer, "ms") > 0.0 && number(layer, "speedup") > 0.0, "{layer}");
            assert!(number(layer, "of_bound") > 0.0 && layer["bound"].is_string(), "{layer}");
            assert!(layer["kernels"].as_array().is_some_and(|kernels| !kernels.is_empty()), "{layer}");
        }
        assert!(layers.iter().all(|layer| layer["baseline_ms"].is_number() && layer["ms"].is_number()), "{beside}");
    }
    let text = bench.ok(&[&run[..], &["--baseline", "tiny.ir"]].concat());
    assert!(text.contains("Beside tiny.ir") && text.contains("whole run") && !text.contains("only in"), "{text}");
}

#[test]
fn choices_are_told_with_what_they_were_made_among() {
    let bench = Bench::new();
    sparse(&bench);
    let run = ["bench", "sparse.optc", "--bind", "N=2", "--iters", "1", "--threads", "1", "--profile", "--json"];
    for tune in [&[] as &[&str], &["--tune"]] {
        let report = bench.json(&[&run[..], tune].concat());
        let choices = report["choices"].as_array().expect("choices is a list");
        assert_eq!(choices.iter().map(|choice| &choice["name"]).collect::<Vec<_>>(), ["conv", "scores"]);
        for choice in choices {
            let candidates = choice["candidates"].as_array().expect("candidates is a list");
            assert!(candidates.iter().any(|c| c["algorithm"] == choice["algorithm"]), "{choice}");
            assert!(
                candidates.windows(2).all(|two| number(&two[0], "cycles") <= number(&two[1], "cycles")),
                "{choice}"
            );
            assert!(choice["reason"].is_string(), "{choice}");
        }
    }
    let output = bench.run(&["run", "sparse.optc", "--bind", "N=2", "--tune"]);
    assert!(stderr(&output).contains("tuned 2 layers"), "{}", stderr(&output));
    let output = bench.run(&["run", "tiny.ir", "--bind", "N=2", "--tune"]);
    assert!(stderr(&output).contains("nothing to tune"), "{}", stderr(&output));
}

#[test]
fn layers_without_a_partner_are_named() {
    let bench = Bench::new();
    let model = String::from_utf8(bench.read("tiny.ir")).expect("the model is text");
    bench.write("renamed.ir", model.replace("%scores", "%logits").as_bytes());
    bench.write("other.ir", model.replace("%x", "%image").as_bytes());
    let run = ["bench", "tiny.ir", "--bind", "N=1", "--iters", "1", "--threads", "1", "--baseline"];
    let text = bench.ok(&[&run[..], &["renamed.ir"]].concat());
    assert!(text.contains("only in the model, so compared with nothing: scores"), "{text}");
    assert!(text.contains("only in the baseline, so compared with nothing: logits"), "{text}");
    let message = bench.fails(2, &[&run[..], &["other.ir"]].concat());
    assert!(message.contains("--baseline other.ir: it takes the inputs image, the model takes x"), "{message}");
    let message = bench.fails(2, &[&run[..], &["dense", "--backend", "interp"]].concat());
    assert!(message.contains("no kernels to compare"), "{message}");
    let message = bench.fails(2, &["run", "tiny.ir", "--bind", "N=1", "--backend", "interp", "--tune"]);
    assert!(message.contains("computes every layer in one way"), "{message}");
}
