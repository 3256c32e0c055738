//! Compiles a model and runs it on zeros: `cargo run --release --example run -- model.onnx`.

use optc::ir::Tensor;
use optc::{CompileOptions, Error, Model};

fn main() -> Result<(), Error> {
    let path = std::env::args().nth(1).ok_or_else(|| Error::Usage("run MODEL".to_owned()))?;
    let mut compiled = Model::load(path)?.compile(&CompileOptions { threads: 1, ..CompileOptions::default() })?;
    let mut inputs = Vec::new();
    for (name, ty) in &compiled.signature().inputs {
        let fixed = ty.as_tensor().and_then(|ty| Some((ty.dtype, ty.fixed_shape()?)));
        let (dtype, shape) = fixed.ok_or_else(|| Error::Usage(format!("input {name} has an open shape: bind it")))?;
        inputs.push(Tensor::zeros(dtype, shape));
    }

    let names: Vec<String> = compiled.signature().inputs.iter().map(|(name, _)| name.clone()).collect();
    let named: Vec<(&str, Tensor)> = names.iter().map(String::as_str).zip(inputs.iter().cloned()).collect();
    let outputs = compiled.run(&named)?;
    for (name, tensor) in outputs.iter() {
        eprintln!("{name}: {}", tensor.ty());
    }

    // A program that runs again and again gives the same tensors back each time.
    let mut results: Vec<Tensor> = outputs.into_iter().map(|(_, tensor)| tensor).collect();
    for _ in 0..100 {
        compiled.run_into(&inputs, &mut results)?;
    }
    Ok(())
}
