//! Training steps: `tests/steps/<case>.ir` is a model whose step is written to its snapshot, and run by the JIT as
//! by the interpreter.

use optc_codegen::Jit;
use optc_ir::{Backend, DType, Data, Interp, Tensor};
use optc_passes::train::{Batch, Keep, Loss, LossTerm, Optimizer, Role, TrainOptions, Trainer, differentiate};
use optc_tests::case::{Case, round_trip};
use optc_tests::compare::{Judge, compare};
use optc_tests::inputs::{InputSpec, random_inputs};
use optc_tests::snapshot;

include!(concat!(env!("OUT_DIR"), "/steps.rs"));

/// Samples a step.
const BATCH: usize = 2;

fn options(case: &Case) -> Result<TrainOptions, String> {
    let loss = match case.get("loss").unwrap_or("cross-entropy") {
        "cross-entropy" => Loss::CrossEntropy { smoothing: 0.0 },
        "squared-error" => Loss::SquaredError,
        other => return Err(format!("loss: {other} is not known")),
    };
    let optimizer = match case.get("optimizer").unwrap_or("sgd") {
        "sgd" => Optimizer::Sgd { momentum: 0.9, nesterov: false },
        "adam" => Optimizer::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        other => return Err(format!("optimizer: {other} is not known")),
    };
    let kept = case.get("keep").unwrap_or_default();
    let keep = Keep { zeros: kept.contains("zeros"), clusters: kept.contains("clusters") };
    Ok(TrainOptions { batch: BATCH, losses: vec![LossTerm::of(loss)], optimizer, keep, ..TrainOptions::default() })
}

/// The state after three steps on one batch, and the losses.
fn train(case: &Case, backend: &dyn Backend) -> Result<Vec<(String, Tensor)>, String> {
    let (model, options) = (case.graph()?, options(case)?);
    let mut trainer = Trainer::new(&model, &options, backend).map_err(|e| e.to_string())?;
    let step = trainer.train_step().clone();
    let place = step.inputs.iter().position(|input| matches!(input.role, Role::Target(_))).ok_or("no target")?;
    let ty = step.graph.ty(step.graph.inputs()[place]).as_tensor().ok_or("a target of unknown type")?.clone();
    let shape = ty.fixed_shape().ok_or("a target of unknown extents")?;
    let len: usize = shape.iter().product();
    // Labels count up; values go up and down.
    let value = |i: usize| if ty.dtype == DType::I64 { (i % 2) as f64 } else { (i * 3 % 4) as f64 - 1.5 };
    let target = Tensor::new(shape, Data::from_f64(ty.dtype, (0..len).map(value)));
    let inputs = random_inputs(&model, &InputSpec::default(), 0)?;
    let batch = Batch { inputs, targets: vec![target] };
    let mut values = Vec::new();
    for i in 0..3 {
        let report = trainer.step(&batch).map_err(|e| e.to_string())?;
        values.push((format!("loss of step {i}"), Tensor::new([], Data::F32(vec![report.loss as f32]))));
    }
    values.extend(trainer.state().map_err(|e| e.to_string())?.0);
    Ok(values)
}

fn verdict(case: &Case) -> Result<String, String> {
    let (model, options) = (case.graph()?, options(case)?);
    let step = differentiate(&model, &options).map_err(|e| e.to_string())?;
    if differentiate(&model, &options).map_err(|e| e.to_string())?.graph != step.graph {
        return Err("the same model gives another step".to_owned());
    }
    round_trip(&step.graph)?;
    let (reference, actual) = (train(case, &Interp)?, train(case, &Jit::default())?);
    let names: Vec<&str> = reference.iter().map(|(name, _)| name.as_str()).collect();
    let tensors = |values: &[(String, Tensor)]| values.iter().map(|(_, tensor)| tensor.clone()).collect::<Vec<_>>();
    compare(&names, &tensors(&reference), &tensors(&actual), Judge::Backend)?;
    Ok(step.graph.to_string())
}

fn check(folder: &str, name: &str) {
    let case = Case::load(folder, name);
    let text = verdict(&case).unwrap_or_else(|e| panic!("{folder}/{name}.ir: {e}"));
    snapshot(folder, name, &text);
}
