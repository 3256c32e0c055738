//! Every gradient rule against central differences in the interpreter, in double precision: one test a file,
//! `tests/grad/<case>.ir`, a graph of known extents.
//!
//! The loss is a random weighting of all floating-point results. It is differentiated with respect to every
//! floating-point input but those listed as `// fixed:`; those listed as `// zero:` must have no gradient at all.
//! A case with `// refused: message` must be an error.

use optc_ir::op::{Binary, Reduce, ReduceAttrs, ReduceKind, Return};
use optc_ir::{Backend, Graph, Interp, Op, Tensor, ValueId, verify};
use optc_passes::train::gradients;
use optc_passes::{Pass, PassCx, pipeline};
use optc_tests::case::Case;
use optc_tests::inputs::{random_inputs, random_tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

include!(concat!(env!("OUT_DIR"), "/grad.rs"));

/// How far inputs are moved to each side.
const STEP: f64 = 1e-5;

/// The largest difference between a gradient and its estimate, relative to the largest of the estimates or 1.
const TOLERANCE: f64 = 1e-6;

/// Adds the random weighting of all results.
fn add_loss(graph: &mut Graph) -> Result<ValueId, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let results: Vec<ValueId> = graph.results().into_iter().map(|(_, value)| value).collect();
    let mut loss: Option<ValueId> = None;
    for value in results {
        let ty = graph.ty(value).as_tensor().ok_or("a result of unknown type")?.clone();
        if !ty.dtype.is_float() {
            continue;
        }
        let shape = ty.fixed_shape().ok_or("a result of unknown extents")?;
        let weights = random_tensor(&mut rng, ty.dtype, &shape, (-1.0, 1.0));
        let weights = graph.add_tensor("weights", weights);
        let sum = Reduce { kind: ReduceKind::Sum, attrs: ReduceAttrs { axes: None, keepdims: false } };
        let mut add = |name: &str, op: Op, operands: &[ValueId]| -> Result<ValueId, String> {
            let operands: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
            Ok(graph.add(name, op, &operands).map_err(|e| e.to_string())?.into())
        };
        let weighted = add("weighted", Op::Binary(Binary::Mul), &[value, weights.into()])?;
        let part = add("part", Op::Reduce(sum), &[weighted])?;
        loss = Some(match loss {
            Some(loss) => add("loss", Op::Binary(Binary::Add), &[loss, part])?,
            None => part,
        });
    }
    loss.ok_or("no result is of floating-point numbers".to_owned())
}

/// The graph with these results in place of its own.
fn with_results(graph: &Graph, results: &[ValueId]) -> Graph {
    let mut graph = graph.clone();
    let ret = graph.ret();
    for slot in (0..graph.operands(ret).len()).rev() {
        graph.set_operand(ret, slot, None);
    }
    graph.set_op(ret, Op::Return(Return { names: Vec::new() }));
    for (i, value) in results.iter().enumerate() {
        graph.add_result(&format!("result{i}"), *value);
    }
    graph.gc();
    graph
}

fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Vec<f64>>, String> {
    let mut executable = Interp.compile(graph).map_err(|e| e.to_string())?;
    let results = executable.run(inputs).map_err(|e| e.to_string())?;
    Ok(results.iter().map(|result| result.data().to_f64()).collect())
}

/// The derivative of the loss with respect to each element of an input, estimated.
fn estimate(graph: &Graph, inputs: &[Tensor], at: usize) -> Result<Vec<f64>, String> {
    let mut executable = Interp.compile(graph).map_err(|e| e.to_string())?;
    let values = inputs[at].data().to_f64();
    let mut loss_at = |i: usize, moved: f64| -> Result<f64, String> {
        let mut values = values.clone();
        values[i] = moved;
        let mut inputs = inputs.to_vec();
        inputs[at] = Tensor::new(inputs[at].shape(), optc_ir::Data::F64(values));
        let results = executable.run(&inputs).map_err(|e| e.to_string())?;
        results[0].data().to_f64().first().copied().ok_or("an empty loss".to_owned())
    };
    (0..values.len())
        .map(|i| Ok((loss_at(i, values[i] + STEP)? - loss_at(i, values[i] - STEP)?) / (2.0 * STEP)))
        .collect()
}

fn listed<'a>(case: &'a Case, key: &str) -> Vec<&'a str> {
    case.get(key).into_iter().flat_map(|names| names.split(',')).map(str::trim).collect()
}

fn compare(name: &str, estimated: &[f64], actual: &[f64]) -> Result<(), String> {
    let largest = estimated.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
    for (i, (estimated, actual)) in estimated.iter().zip(actual).enumerate() {
        let difference = (estimated - actual).abs() / largest;
        if difference.is_nan() || difference > TOLERANCE {
            return Err(format!("element {i} of the gradient of {name} is {actual}, but differences give {estimated}"));
        }
    }
    Ok(())
}

fn verdict(case: &Case) -> Result<(), String> {
    let graph = case.graph()?;
    let inputs = random_inputs(&graph, &case.inputs()?, 1)?;
    let (fixed, zero) = (listed(case, "fixed"), listed(case, "zero"));
    let is_wanted = |&at: &usize| {
        let input = graph.inputs()[at];
        graph.ty(input).dtype().is_some_and(|d| d.is_float()) && !fixed.contains(&graph.name(input))
    };
    let places: Vec<usize> = (0..inputs.len()).filter(is_wanted).collect();
    let wanted: Vec<ValueId> = places.iter().map(|&at| graph.inputs()[at].into()).collect();
    let mut full = graph.clone();
    let loss = add_loss(&mut full)?;
    let forward = with_results(&full, &[loss]);
    let found = match (gradients(&mut full, loss, &wanted), case.get("refused")) {
        (Err(error), Some(message)) if error.to_string() == message => return Ok(()),
        (Err(error), _) => return Err(error.to_string()),
        (Ok(_), Some(_)) => return Err("the gradient is not refused".to_owned()),
        (Ok(found), None) => found,
    };
    for (&value, gradient) in wanted.iter().zip(&found) {
        let name = full.name(value.node);
        match gradient {
            Some(_) if zero.contains(&name) => return Err(format!("{name} has a gradient")),
            None if !zero.contains(&name) => return Err(format!("{name} has no gradient")),
            Some(gradient) if full.ty(*gradient) != full.ty(value) => {
                return Err(format!("{name} is {}, its gradient {}", full.ty(value), full.ty(*gradient)));
            }
            _ => {}
        }
    }
    let present: Vec<ValueId> = found.iter().flatten().copied().collect();
    let backward = with_results(&full, &present);
    verify::verify(&backward).map_err(|e| e.to_string())?;
    let mut simplified = backward.clone();
    pipeline::simplify(8).run(&mut simplified, &mut PassCx::new(&Interp)).map_err(|e| e.to_string())?;
    verify::verify(&simplified).map_err(|e| e.to_string())?;
    let (exact, simple) = (run(&backward, &inputs)?, run(&simplified, &inputs)?);
    let mut results = exact.iter().zip(&simple);
    for (&at, gradient) in places.iter().zip(&found) {
        let name = graph.name(graph.inputs()[at]);
        let estimated = estimate(&forward, &inputs, at)?;
        let zeros = vec![0.0; estimated.len()];
        let (exact, simple) = match gradient {
            Some(_) => results.next().ok_or("a result is missing")?,
            None => (&zeros, &zeros),
        };
        compare(name, &estimated, exact)?;
        compare(name, &estimated, simple).map_err(|e| format!("simplified: {e}"))?;
    }
    Ok(())
}

fn check(folder: &str, name: &str) {
    let case = Case::load(folder, name);
    verdict(&case).unwrap_or_else(|e| panic!("{folder}/{name}.ir: {e}"));
}
