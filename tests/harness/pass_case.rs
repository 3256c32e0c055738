//! What one case of a pass must survive, and the text that its snapshot holds.

use std::fmt::Write;

use optc_codegen::Jit;
use optc_ir::{Backend, Graph, Interp, verify};
use optc_passes::{Dataset, Effect, PassManager, PassReport, Pipeline, RunReport, pipeline};

use crate::case::{Case, round_trip};
use crate::compare::{Judge, compare, result_names, run};
use crate::diff::diff;
use crate::inputs::{InputSpec, RandomData, random_inputs};

/// Different inputs each case is run on.
const RUNS: u64 = 3;

/// Checks a case and gives the text to compare with its snapshot: the remarks and the difference.
///
/// The graph is verified before and after; both must read back from their text; the same pipeline
/// twice gives the same graph; results move no further than the passes declare; and the JIT agrees
/// with the interpreter on both graphs.
///
/// # Errors
/// What went wrong.
pub fn check(case: &Case, pass: &str) -> Result<String, String> {
    let before = case.graph()?;
    let spec = case.inputs()?;
    let text = case.get("run").ok_or("the head has no `// run: pipeline`")?;
    let (after, report) = transform(case, text, &before, &spec)?;
    let (again, _) = transform(case, text, &before, &spec)?;
    if again != after {
        return Err(format!("a second run gives another graph:\n{}", diff(&after.to_string(), &again.to_string())));
    }
    verify::verify(&after).map_err(|e| e.to_string())?;
    round_trip(&after)?;
    let of_pass = report.passes.iter().find(|report| report.name == pass).ok_or(format!("{pass} is not run"))?;
    match (case.name.ends_with("_negative"), of_pass.changed) {
        (true, true) => return Err(format!("{pass} changes the graph, but the case is named as negative")),
        (false, false) => return Err(format!("{pass} changes nothing, but the case is not named `…_negative`")),
        _ => {}
    }
    execute(case, &before, &after, &report, &spec)?;
    Ok(describe(&before, &after, &report))
}

fn parse(text: &str) -> Result<Pipeline, String> {
    pipeline::parse(text).map_err(|e| format!("run: {e}"))
}

fn transform(case: &Case, text: &str, before: &Graph, spec: &InputSpec) -> Result<(Graph, RunReport), String> {
    let samples = case.get("data").map(|n| n.parse().map_err(|_| format!("data: {n} is not a number of samples")));
    let data = samples.transpose()?.map(|samples| RandomData::new(before, spec, samples));
    let mut manager = PassManager::new(&Interp);
    manager.data = data.as_ref().map(|data| data as &dyn Dataset);
    let mut after = before.clone();
    let report = manager.run(&parse(text)?, &mut after).map_err(|e| e.to_string())?;
    Ok((after, report))
}

fn execute(case: &Case, before: &Graph, after: &Graph, report: &RunReport, spec: &InputSpec) -> Result<(), String> {
    if case.get("not-run").is_some() {
        return match run_both(before, spec, 0) {
            Ok(_) => Err("the head says `not-run`, but the graph runs".to_owned()),
            Err(_) => Ok(()),
        };
    }
    for seed in 0..RUNS {
        let reference = run_both(before, spec, seed).map_err(|e| format!("before: {e}"))?;
        let moved = run_both(after, spec, seed).map_err(|e| format!("after: {e}"))?;
        if let Some(judge) = Judge::of(report.effect()) {
            compare(&result_names(before), &reference, &moved, judge)
                .map_err(|e| format!("the pass claims to be {}, but {e}", report.effect()))?;
        }
    }
    Ok(())
}

/// The results by the interpreter, after a check that the JIT gives the same.
fn run_both(graph: &Graph, spec: &InputSpec, seed: u64) -> Result<Vec<optc_ir::Tensor>, String> {
    let inputs = random_inputs(graph, spec, seed)?;
    let reference = run(&Interp, graph, &inputs)?;
    let jit = Jit::default();
    let actual = run(&jit, graph, &inputs)?;
    compare(&result_names(graph), &reference, &actual, Judge::Backend).map_err(|e| format!("{}: {e}", jit.name()))?;
    Ok(reference)
}

/// Per pass what it is, what it said and what sizes it changed; then the difference of the graphs.
fn describe(before: &Graph, after: &Graph, report: &RunReport) -> String {
    let mut out = String::new();
    let mut write = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a String takes any text");
    for pass in &report.passes {
        let PassReport { name, options, effect, remarks, .. } = pass;
        let options = if options.is_empty() { String::new() } else { format!("{{{options}}}") };
        write(format_args!("{name}{options} ({effect})\n"));
        for remark in remarks {
            write(format_args!("  {remark}\n"));
        }
        let (old, new) = (&pass.before, &pass.after);
        if pass.changed && (*effect == Effect::Lossy || old.stored_bytes != new.stored_bytes) {
            write(format_args!("  parameters {} -> {}", old.params, new.params));
            write(format_args!(", nonzero {} -> {}", old.nonzero, new.nonzero));
            write(format_args!(", stored {} -> {} B\n", old.stored_bytes, new.stored_bytes));
        }
    }
    match diff(&before.to_string(), &after.to_string()).as_str() {
        "" => write(format_args!("unchanged\n")),
        diff => write(format_args!("{diff}")),
    }
    out
}
