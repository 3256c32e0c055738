//! rten.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use optc::ir::{Data, Tensor};
use optc_peers::{Runtime, serve};
use rten::{Model, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::prelude::*;

struct Rten {
    model: Model,
    inputs: Vec<(NodeId, Value)>,
    outputs: Vec<NodeId>,
    pool: Arc<ThreadPool>,
    results: Vec<Value>,
}

impl Runtime for Rten {
    fn run(&mut self) -> Result<()> {
        let inputs = self.inputs.iter().map(|(id, value)| (*id, ValueOrView::from(value))).collect();
        let options = RunOptions::default().with_thread_pool(Some(self.pool.clone()));
        self.results = self.model.run(inputs, &self.outputs, Some(options))?;
        Ok(())
    }

    fn output(&self) -> Result<Tensor> {
        let value = self.results.first().context("there is no output")?.clone();
        let tensor: rten_tensor::Tensor<f32> = value.try_into()?;
        Ok(Tensor::f32(tensor.shape(), tensor.to_vec()))
    }
}

fn main() -> Result<()> {
    serve(|args| {
        let model = Model::load_file(&args.model)?;
        let mut inputs = Vec::new();
        for (name, tensor) in &args.inputs {
            let shape = tensor.shape();
            let value: Value = match tensor.data() {
                Data::F32(v) => rten_tensor::Tensor::from_data(shape, v.clone()).into(),
                // Its integers have 32 bits.
                Data::I64(v) => {
                    let narrow = v.iter().map(|&x| i32::try_from(x)).collect::<Result<Vec<i32>, _>>()?;
                    rten_tensor::Tensor::from_data(shape, narrow).into()
                }
                other => bail!("input {name} is of type {}", other.dtype()),
            };
            inputs.push((model.node_id(name)?, value));
        }
        let outputs = model.output_ids().to_vec();
        let pool = Arc::new(ThreadPool::with_num_threads(args.threads));
        Ok(Rten { model, inputs, outputs, pool, results: Vec::new() })
    })
}
