//! This compiler, as a program that embeds it would run it.

use anyhow::Result;
use optc::ir::Tensor;
use optc::{CompileOptions, Compiled, Model};
use optc_peers::{Runtime, serve};

struct Optc {
    compiled: Compiled,
    inputs: Vec<Tensor>,
    results: Vec<Tensor>,
}

impl Runtime for Optc {
    fn run(&mut self) -> Result<()> {
        if self.results.is_empty() {
            self.results = self.compiled.run_in_order(&self.inputs)?;
            return Ok(());
        }
        Ok(self.compiled.run_into(&self.inputs, &mut self.results)?)
    }

    fn output(&self) -> Result<Tensor> {
        Ok(self.results[0].clone())
    }
}

fn main() -> Result<()> {
    serve(|mut args| {
        let mut model = Model::load(&args.model)?;
        // As the others are told: the shapes of the inputs before the model is compiled.
        for &input in model.graph.inputs().to_vec().iter() {
            let at = args.inputs.iter().position(|(name, _)| name == model.graph.name(input));
            let ty = args.inputs[at.ok_or_else(|| anyhow::anyhow!("an input is missing"))?].1.ty();
            // Rules that fail for these extents are reported once every input is set.
            let _ = model.graph.set_input_type(input, ty.into());
        }
        model.graph.infer_all().map_err(|(node, error)| anyhow::anyhow!("node {node}: {error}"))?;
        let order: Vec<String> = model.graph.inputs().iter().map(|&i| model.graph.name(i).to_owned()).collect();
        args.inputs.sort_by_key(|(name, _)| order.iter().position(|other| other == name));
        let compiled = model.compile(&CompileOptions { threads: args.threads, ..CompileOptions::default() })?;
        let inputs = args.inputs.into_iter().map(|(_, tensor)| tensor).collect();
        Ok(Optc { compiled, inputs, results: Vec::new() })
    })
}
