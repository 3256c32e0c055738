//! Random graphs through random pipelines, for two seconds or `OPTC_FUZZ_SECONDS`, from seed 0 or
//! `OPTC_FUZZ_SEED`. A failure names its seed.

use std::time::{Duration, Instant};

use optc_codegen::Jit;
use optc_ir::{Backend, Graph, Interp, Tensor, verify};
use optc_passes::{Effect, PASSES, PassError, PassManager, pipeline};
use optc_tests::case::round_trip;
use optc_tests::compare::{Judge, Leeway, compare_within, result_names, rounding_floor, run};
use optc_tests::generate::random_graph;
use optc_tests::inputs::{InputSpec, RandomData, random_inputs};
use optc_tests::plan;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random networks amplify rounding where trained ones don't: tolerances are this many times larger.
const SLACK: f64 = 100.0;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

#[test]
fn random_graphs_survive_random_pipelines() {
    let budget = Duration::from_secs(number("OPTC_FUZZ_SECONDS", 2));
    let start = Instant::now();
    for seed in number("OPTC_FUZZ_SEED", 0).. {
        if let Err(e) = survives(seed) {
            panic!("seed {seed}: {e}\n{}", random_graph(seed));
        }
        if start.elapsed() >= budget {
            break;
        }
    }
}

fn survives(seed: u64) -> Result<(), String> {
    let graph = random_graph(seed);
    verify::verify(&graph).map_err(|e| e.to_string())?;
    round_trip(&graph)?;
    let inputs = random_inputs(&graph, &InputSpec::default(), seed)?;
    let reference = results(&graph, &inputs)?;

    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let names: Vec<&str> = PASSES.iter().map(|info| info.name).collect();
    let passes: Vec<&str> = (0..rng.random_range(1..=4)).filter_map(|_| names.choose(&mut rng).copied()).collect();
    let text = passes.join(",");
    let fail = |e: String| format!("{text}: {e}");
    let data = RandomData::new(&graph, &InputSpec::default(), 4);
    let mut manager = PassManager::new(&Interp);
    if rng.random_bool(0.5) {
        manager.data = Some(&data);
    }
    let mut after = graph.clone();
    let report = match manager.run(&pipeline::parse(&text).map_err(|e| fail(e.to_string()))?, &mut after) {
        Ok(report) => report,
        // A pass may decline a graph or ask for data, but may not break its promises.
        Err(PassError::Graph { .. } | PassError::Node { .. }) => return Ok(()),
        Err(e) => return Err(fail(e.to_string())),
    };
    round_trip(&after).map_err(fail)?;
    // A pass may make the graph take smaller images.
    let inputs = match after.signature().inputs == graph.signature().inputs {
        true => inputs,
        false => random_inputs(&after, &InputSpec::default(), seed)?,
    };
    let moved = results(&after, &inputs).map_err(fail)?;
    match Judge::of(report.effect()) {
        Some(judge) => close(&graph, &inputs, &reference, &moved, judge)
            .map_err(|e| fail(format!("claims to be {}, but {e}\n{after}", report.effect()))),
        None => {
            let _: () = assert_eq!(report.effect(), Effect::Lossy);
            Ok(())
        }
    }
}

/// The results by the interpreter, after checks that the JIT lays values out soundly and agrees.
fn results(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let reference = run(&Interp, graph, inputs)?;
    plan::check(graph, inputs)?;
    let jit = Jit::default();
    let actual = run(&jit, graph, inputs)?;
    close(graph, inputs, &reference, &actual, Judge::Backend).map_err(|e| format!("{}: {e}\n{graph}", jit.name()))?;
    Ok(reference)
}

/// Compares results of a graph. What the table of tolerances refuses may still be rounding of larger values, which
/// is looked into only then.
fn close(
    graph: &Graph,
    inputs: &[Tensor],
    reference: &[Tensor],
    actual: &[Tensor],
    judge: Judge,
) -> Result<(), String> {
    let within = |floor| compare_within(&result_names(graph), reference, actual, judge, Leeway { slack: SLACK, floor });
    match within(0.0) {
        Err(_) if judge != Judge::Exact => within(rounding_floor(graph, inputs)?),
        judged => judged,
    }
}
