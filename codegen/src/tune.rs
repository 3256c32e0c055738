//! Tuning: what computes each layer of compressed weights fastest on this host, by measuring.
//!
//! The graph is compiled once for each algorithm, every layer that the algorithm can compute computed by it, and
//! these are run in turns; a layer's time is that of its steps together, conversions it needs included: the least,
//! or the median of runs on several threads, since a thread that was kept from running sees in no time what others
//! did meanwhile.
//! The planner then chooses by these times instead of modelled ones. Last, whole runs of what the cost model
//! chose, what was measured to be best and what is dense throughout are measured in turns too, so that tuning never
//! makes a model slower.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use optc_ir::{ExecError, Executable, Graph, Tensor};

use crate::choice::{Algorithm, Measured, Selection};
use crate::executable::JitExecutable;
use crate::peak;
use crate::plan::{Plan, with_shapes};
use crate::target::Target;
use crate::tile::LANES;

/// Runs of each form, at least and at most.
const RUNS: std::ops::RangeInclusive<usize> = 3..=20;

/// What came of tuning.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// What to plan with.
    pub selection: Selection,
    /// Layers that more than one algorithm can compute.
    pub layers: usize,
    /// The least time of a run as the cost model chooses, as measured to be best, and dense throughout; nothing
    /// where there was nothing to choose.
    pub times: Option<[Duration; 3]>,
}

/// Measures what can compute each layer of compressed weights of a graph on these inputs, and chooses. It takes so
/// long, and the time to compile the graph a few times; `progress` is told what is being done.
///
/// # Errors
/// If the graph can't be compiled for this target on this host, or fails to run on these inputs.
pub fn tune(
    graph: &Graph,
    target: &Target,
    inputs: &[Tensor],
    so_long: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<Tuned, ExecError> {
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape().to_vec()).collect();
    let (choices, _) = Plan::choose(graph, &shapes, target, &Selection::Modelled)?;
    let graph = with_shapes(graph, &shapes)?;
    let compile = |selection: Selection| {
        let mut executable = JitExecutable::new(graph.clone(), *target, &selection)?;
        executable.run(inputs)?;
        Ok::<_, ExecError>((selection, executable))
    };
    let open = choices.iter().filter(|choice| choice.candidates.len() > 1);
    let mut algorithms: Vec<Algorithm> = open.clone().flat_map(|c| c.candidates.iter().map(|c| c.algorithm)).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    let layers = open.count();
    if layers == 0 {
        return Ok(Tuned { selection: Selection::Modelled, layers, times: None });
    }
    let mut forms = Vec::new();
    for &algorithm in &algorithms {
        progress(&format!("compiling {layers} layers as {algorithm}"));
        forms.push(compile(Selection::Always(algorithm))?);
    }
    let second = cycles_a_second(target)?;
    let mut samples: BTreeMap<(String, Algorithm), Vec<f64>> = BTreeMap::new();
    in_turns(&mut forms, so_long / 2, |run, (_, executable)| {
        progress(&format!("measuring {layers} layers, round {}", run + 1));
        let mut times: BTreeMap<String, Duration> = BTreeMap::new();
        for step in executable.profile(inputs)?.1 {
            *times.entry(step.layer).or_default() += step.time;
        }
        for choice in executable.choices() {
            if let Some(time) = times.get(&choice.layer) {
                let layer = (choice.layer.clone(), choice.chosen);
                samples.entry(layer).or_default().push(time.as_secs_f64() * second);
            }
        }
        Ok(())
    })?;
    let mut measured = Measured::default();
    for ((layer, algorithm), mut cycles) in samples {
        cycles.sort_by(f64::total_cmp);
        let one = if target.threads > 1 { cycles.len() / 2 } else { 0 };
        measured.add(&layer, algorithm, cycles[one]);
    }
    // The first of all algorithms is the dense one, which can compute every layer.
    let dense = forms.swap_remove(0);
    drop(forms);
    let mut whole =
        vec![compile(Selection::Modelled)?, compile(Selection::Measured(std::sync::Arc::new(measured)))?, dense];
    let mut times = [Duration::MAX; 3];
    in_turns(&mut whole, so_long / 2, |run, (selection, executable)| {
        progress(&format!("measuring whole runs, round {}", run + 1));
        let start = Instant::now();
        executable.run(inputs)?;
        let time = match selection {
            Selection::Modelled => &mut times[0],
            Selection::Measured(_) => &mut times[1],
            Selection::Always(_) => &mut times[2],
        };
        *time = start.elapsed().min(*time);
        Ok(())
    })?;
    let best = (0..whole.len()).min_by_key(|&i| times[i]).unwrap_or(0);
    let (selection, _) = whole.swap_remove(best);
    Ok(Tuned { selection, layers, times: Some(times) })
}

/// Vectors that the threads of a target together multiply and add in a second: the cost model's cycles.
fn cycles_a_second(target: &Target) -> Result<f64, ExecError> {
    Ok(peak::measure(target)? * 1e9 / (2 * LANES) as f64)
}

/// Does something with each of several in turns, as often as it may be and time allows.
fn in_turns<T>(
    all: &mut [T],
    so_long: Duration,
    mut run: impl FnMut(usize, &mut T) -> Result<(), ExecError>,
) -> Result<(), ExecError> {
    let start = Instant::now();
    for turn in 0..*RUNS.end() {
        if turn >= *RUNS.start() && start.elapsed() > so_long {
            break;
        }
        all.iter_mut().try_for_each(|one| run(turn, one))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use optc_ir::text;

    use super::*;
    use crate::target::Vectors;

    /// Whatever is fastest, it is one of the candidates, and what was measured is what is planned with.
    #[test]
    fn layers_are_measured_by_each_algorithm() {
        let zeros = "0, ".repeat(30);
        let text = format!(
            "graph @g(%x: f32[1, 8, 16, 16]) -> (y: f32[1, 8, 16, 16]) {{
  %w = const f32[8, 8, 1, 1] = [{zeros}0.5, -1, {zeros}2, 3]
  %y = conv(%x, %w)
  %relu = relu(%y)
  return %relu
}}"
        );
        let graph = text::parse(&text).unwrap();
        let target = Target { vectors: Vectors::of_host(), threads: 1 };
        let inputs = [Tensor::f32([1, 8, 16, 16], vec![1.0; 2048])];
        let mut said = Vec::new();
        let tuned =
            tune(&graph, &target, &inputs, Duration::from_millis(1), &mut |text| said.push(text.to_owned())).unwrap();
        assert_eq!(tuned.layers, 1);
        assert!(tuned.times.unwrap().iter().all(|time| *time < Duration::MAX) && !said.is_empty());
        let choose = || Plan::choose(&graph, &[vec![1, 8, 16, 16]], &target, &tuned.selection).unwrap().0;
        let (choices, again) = (choose(), choose());
        assert_eq!((choices.len(), &choices), (1, &again));
        if let Selection::Measured(measured) = &tuned.selection {
            for candidate in &choices[0].candidates {
                assert_eq!(measured.cycles("y", candidate.algorithm), Some(candidate.cycles));
            }
        }
    }

    #[test]
    fn nothing_is_measured_without_a_choice() {
        let text = "graph @g(%x: f32[4]) -> (y: f32[4]) {\n  %y = relu(%x)\n  return %y\n}";
        let inputs = [Tensor::f32([4], vec![1.0; 4])];
        let mut quiet = |_: &str| panic!("there is nothing to do");
        let graph = text::parse(text).unwrap();
        let tuned = tune(&graph, &Target::host(1), &inputs, Duration::ZERO, &mut quiet).unwrap();
        assert_eq!((tuned.layers, tuned.times), (0, None));
        assert_eq!(tuned.selection, Selection::Modelled);
    }
}
