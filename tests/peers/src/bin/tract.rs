//! tract.

use anyhow::{Context, Result, bail};
use optc::ir;
use optc_peers::{Runtime, serve};
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

struct Tract<F> {
    execute: F,
    inputs: TVec<TValue>,
    results: TVec<TValue>,
}

impl<F: FnMut(TVec<TValue>) -> Result<TVec<TValue>>> Runtime for Tract<F> {
    fn run(&mut self) -> Result<()> {
        self.results = (self.execute)(self.inputs.clone())?;
        Ok(())
    }

    fn output(&self) -> Result<ir::Tensor> {
        let value = self.results.first().context("there is no output")?.clone();
        let tensor = value.into_tensor().cast_to::<f32>()?.into_owned();
        let elements: Vec<f32> = tensor.to_plain_array_view::<f32>()?.iter().copied().collect();
        Ok(ir::Tensor::f32(tensor.shape(), elements))
    }
}

fn main() -> Result<()> {
    serve(|args| {
        if args.threads > 1 {
            set_default_executor(Executor::multithread(args.threads));
        }
        let mut model = tract_onnx::onnx().model_for_path(&args.model)?;
        let names: Vec<String> =
            model.input_outlets()?.iter().map(|outlet| model.node(outlet.node).name.clone()).collect();
        let mut inputs: TVec<TValue> = TVec::new();
        for (i, name) in names.iter().enumerate() {
            let (_, given) = args.inputs.iter().find(|(n, _)| n == name).context("an input is missing")?;
            let tensor: Tensor = match given.data() {
                ir::Data::F32(v) => Tensor::from_shape(given.shape(), v)?,
                ir::Data::I64(v) => Tensor::from_shape(given.shape(), v)?,
                other => bail!("input {name} is of type {}", other.dtype()),
            };
            model = model.with_input_fact(i, InferenceFact::dt_shape(tensor.datum_type(), given.shape()))?;
            inputs.push(tensor.into_tvalue());
        }
        let model = model.into_optimized()?.into_runnable()?;
        Ok(Tract { execute: move |inputs| model.run(inputs), inputs, results: TVec::new() })
    })
}
