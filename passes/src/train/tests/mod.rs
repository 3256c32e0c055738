//! Training in the interpreter, on tasks small enough to know what must come out.

mod formulas;
mod keeping;
mod learning;

use std::ops::Range;

use optc_ir::{Graph, Tensor, text};

use crate::data::{DataError, Dataset};

/// Labelled samples in memory.
struct Samples {
    inputs: Tensor,
    labels: Vec<u32>,
}

impl Dataset for Samples {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn batch(&self, samples: Range<usize>) -> Result<Vec<Tensor>, DataError> {
        let each = self.inputs.len() / self.labels.len();
        let mut shape = self.inputs.shape().to_vec();
        shape[0] = samples.len();
        let data = self.inputs.data().select(samples.start * each..samples.end * each);
        Ok(vec![Tensor::new(shape, data)])
    }

    fn labels(&self) -> Option<&[u32]> {
        Some(&self.labels)
    }
}

fn parse(source: &str) -> Graph {
    text::parse(source).unwrap_or_else(|e| panic!("{e}"))
}

/// The decoded elements of a constant.
fn constant(graph: &Graph, name: &str) -> Vec<f64> {
    let node = graph.nodes().find(|&node| graph.name(node) == name).expect("there is such a node");
    graph.constant(node).expect("it is a constant").decode().data().to_f64()
}

/// Two layers on points of the plane.
fn mlp() -> Graph {
    parse(
        "graph @mlp(%x: f32[N, 2]) -> (scores: f32[N, 2]) {
           %w1 = const f32[16, 2] = normal(seed=1, std=0.7)
           %b1 = const f32[16] = splat(0)
           %w2 = const f32[2, 16] = normal(seed=2, std=0.35)
           %b2 = const f32[2] = splat(0)
           %hidden = linear(%x, %w1, %b1) : f32[N, 16]
           %act = relu(%hidden) : f32[N, 16]
           %scores = linear(%act, %w2, %b2) : f32[N, 2]
           return %scores
         }",
    )
}
