//! Kernel choice and memory map, `tests/plans/<case>.ir`: the snapshot is the plan for AVX-512 on one thread,
//! whatever this host is; plans for all targets must be sound, and the code this host can run must agree with
//! the interpreter.

use std::time::{Duration, Instant};

use optc_codegen::{Jit, Plan, Target, Vectors, emit};
use optc_ir::{Backend, DType, Dim, Graph, Interp, Type};
use optc_tests::case::Case;
use optc_tests::compare::{Judge, compare, result_names, run};
use optc_tests::generate::random_graph;
use optc_tests::inputs::{InputSpec, random_inputs};
use optc_tests::{plan, snapshot};

include!(concat!(env!("OUT_DIR"), "/plans.rs"));

/// What snapshots show.
const SHOWN: Target = Target { vectors: Vectors::Avx512, threads: 1 };

fn check(folder: &str, name: &str) {
    let case = Case::load(folder, name);
    let text = check_case(&case).unwrap_or_else(|e| panic!("{folder}/{name}.ir: {e}"));
    snapshot(folder, name, &text);
}

fn check_case(case: &Case) -> Result<String, String> {
    let graph = case.graph()?;
    let inputs = random_inputs(&graph, &case.inputs()?, 0)?;
    plan::check(&graph, &inputs)?;
    let reference = run(&Interp, &graph, &inputs)?;
    for vectors in Vectors::ALL {
        let target = Target { vectors, threads: 1 };
        check_text(&Plan::new(&graph, &target).map_err(|e| e.to_string())?, &target)?;
        if vectors.run_here() {
            let actual = run(&Jit { target }, &graph, &inputs)?;
            compare(&result_names(&graph), &reference, &actual, Judge::Backend)
                .map_err(|e| format!("{vectors}: {e}"))?;
        }
    }
    Ok(Plan::new(&graph, &SHOWN).map_err(|e| e.to_string())?.to_string())
}

/// Every kernel has its text in every layer, and every byte of machine code is an instruction.
fn check_text(plan: &Plan, target: &Target) -> Result<(), String> {
    let clif = emit::clif(plan, target).map_err(|e| e.to_string())?;
    let asm = emit::asm(plan, target).map_err(|e| e.to_string())?;
    let is_kernel = |line: &str| line.starts_with("f32_") || line.starts_with("i8_");
    let kernels = emit::schedules(plan, target).lines().filter(|line| is_kernel(line)).count();
    for (layer, text) in [("clif", &clif), ("asm", &asm)] {
        let headings = text.lines().filter(|line| line.strip_prefix("; ").is_some_and(is_kernel)).count();
        if headings != kernels {
            return Err(format!("{headings} kernels instead of {kernels} in {layer}:\n{text}"));
        }
    }
    if asm.contains("(bad)") {
        return Err(format!("{}: not an instruction:\n{asm}", target.vectors));
    }
    Ok(())
}

/// A second of random graphs, beside the cases.
#[test]
fn plans_of_random_graphs_are_sound() {
    let start = Instant::now();
    for seed in 0.. {
        let graph = random_graph(seed);
        let inputs = random_inputs(&graph, &InputSpec::default(), seed).expect("all inputs are tensors");
        plan::check(&graph, &inputs).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{graph}"));
        if start.elapsed() >= Duration::from_secs(1) {
            break;
        }
    }
}

#[test]
fn an_open_dimension_is_named() {
    let mut graph = Graph::new("open");
    let x = graph.add_input("x", Type::tensor(DType::F32, [Dim::sym("N"), 4.into()]));
    graph.add_result("y", x.into());
    let error = Plan::new(&graph, &SHOWN).expect_err("N may be anything").to_string();
    assert_eq!(error, "input x: dimension N is open; bind it to an extent");
}

#[test]
fn code_for_another_machine_is_not_run() {
    let graph = Graph::new("empty");
    for vectors in Vectors::ALL {
        let compiled = Jit { target: Target { vectors, threads: 1 } }.compile(&graph);
        assert_eq!(compiled.is_ok(), vectors.run_here(), "{vectors}");
    }
}
