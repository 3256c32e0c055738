//! Random graphs: small networks of layers that exist in real ones, wired at random.
//!
//! Every graph is valid by construction, since an operator that does not fit its operands is not added.
//! There are no steps in the functions (rounding, comparison, indices of maxima), so that results that
//! should be close are close.

use std::sync::Arc;

use optc_ir::op::{
    Act, AveragePool, BatchNorm, Binary, Clip, Concat, Conv, ConvTranspose, Flatten, Gemm, GlobalAveragePool,
    LayerNorm, LeakyRelu, Linear, MatMul, MaxPool, Reduce, ReduceAttrs, ReduceKind, Reshape, Softmax, Split, Transpose,
    Unary, Unsqueeze, Variadic,
};
use optc_ir::{Constant, DType, Data, Dim, Form, Graph, Op, PatternForm, Tensor, TensorType, Type, ValueId};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Layers a graph has at most.
const MAX_LAYERS: usize = 12;

/// Values with more elements are not built upon.
const MAX_ELEMENTS: usize = 4096;

/// The graph of a seed.
pub fn random_graph(seed: u64) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut graph = Graph::new(format!("random_{seed}"));
    let batch = if rng.random_bool(0.5) { Dim::sym("N") } else { Dim::Fixed(rng.random_range(1..=3)) };
    let channels = rng.random_range(1..=6);
    let side = rng.random_range(1..=7);
    let image = [batch.clone(), channels.into(), side.into(), rng.random_range(1..=7).into()];
    let mut values = vec![graph.add_input("x", Type::tensor(DType::F32, image)).into()];
    if rng.random_bool(0.4) {
        let features = rng.random_range(1..=8);
        values.push(graph.add_input("v", Type::tensor(DType::F32, [batch, features.into()])).into());
    }
    let mut growth = Growth { rng, graph, values };
    for _ in 0..growth.rng.random_range(1..=MAX_LAYERS) {
        growth.layer();
    }
    growth.finish()
}

/// Whether the type rules hold whatever the batch is.
fn holds_for_any_batch(graph: &Graph) -> bool {
    [2, 3, 5].into_iter().all(|n| graph.clone().bind(&[("N", n)]).is_ok())
}

struct Growth {
    rng: ChaCha8Rng,
    graph: Graph,
    values: Vec<ValueId>,
}

impl Growth {
    /// Some values become results: always the last one, and others now and then, used or not.
    fn finish(mut self) -> Graph {
        let (last, others) = self.values.split_last().expect("there is an input");
        let mut results = vec![*last];
        results.extend(others.iter().filter(|_| self.rng.random_bool(0.1)));
        for (i, value) in results.into_iter().enumerate() {
            self.graph.add_result(&format!("y{i}"), value);
        }
        self.graph
    }

    fn ty(&self, value: ValueId) -> TensorType {
        self.graph.ty(value).as_tensor().cloned().expect("all values here are tensors")
    }

    /// The extents of a value where they are known, 1 elsewhere.
    fn extents(&self, value: ValueId) -> Vec<usize> {
        self.ty(value).shape.iter().map(|dim| dim.fixed().unwrap_or(1)).collect()
    }

    /// A random value, a recent one more likely.
    fn pick(&mut self) -> ValueId {
        let recent = self.values.len().saturating_sub(3);
        let from = if self.rng.random_bool(0.7) { recent } else { 0 };
        self.values[self.rng.random_range(from..self.values.len())]
    }

    /// Adds a node if it fits; its results may be built upon if they are small.
    fn add(&mut self, op: impl Into<Op>, operands: &[Option<ValueId>]) {
        let op = op.into();
        let name = op.name().to_owned();
        let before = self.graph.clone();
        if let Ok(node) = self.graph.add(&name, op, operands) {
            // A type rule lets an open dimension pass where only one number fits; such a graph runs for that
            // number alone, which no input made from the signature can know.
            if !holds_for_any_batch(&self.graph) {
                self.graph = before;
                return;
            }
            // A layer that gives several results may have one of them unused.
            for result in 0..self.graph.result_count(node) {
                let value = node.result(result);
                let small = self.extents(value).iter().product::<usize>() <= MAX_ELEMENTS;
                if self.ty(value).dtype == DType::F32 && small {
                    self.values.push(value);
                }
            }
        }
    }

    /// A constant as trained networks have them: some dense, some sparse, some of few values, a few encoded.
    fn weights(&mut self, name: &str, shape: &[usize], scale: f32) -> Option<ValueId> {
        let len = shape.iter().product();
        let kind = self.rng.random_range(0..4);
        let levels: Vec<f32> = (0..4).map(|_| self.rng.random_range(-scale..=scale)).collect();
        let element = |rng: &mut ChaCha8Rng| match kind {
            0 if rng.random_bool(0.7) => 0.0,
            1 => *levels.choose(rng).unwrap_or(&0.0),
            _ => rng.random_range(-scale..=scale),
        };
        let data: Vec<f32> = (0..len).map(|_| element(&mut self.rng)).collect();
        let tensor = Tensor::f32(shape, data);
        let form = match self.rng.random_range(0..6) {
            0 => Form::Sparse(PatternForm::Bitmap, Box::new(Form::Dense)),
            1 => Form::Sparse(PatternForm::Csr, Box::new(Form::Clustered)),
            2 => Form::Clustered,
            _ => Form::Dense,
        };
        let constant = Constant::encode(&tensor, &form).unwrap_or_else(|_| Constant::dense(tensor));
        Some(self.graph.add_constant(name, Arc::new(constant)).into())
    }

    fn act(&mut self) -> Act {
        *[Act::None, Act::None, Act::Relu, Act::Clip { lo: -0.5, hi: 0.5 }, Act::LeakyRelu { alpha: 0.1 }, Act::Sigmoid]
            .choose(&mut self.rng)
            .expect("the list is not empty")
    }

    fn layer(&mut self) {
        let x = self.pick();
        match self.ty(x).rank() {
            4 if self.rng.random_bool(0.6) => self.image_layer(x),
            2 if self.rng.random_bool(0.5) => self.matrix_layer(x),
            _ if self.rng.random_bool(0.5) => self.elementwise(x),
            _ => self.reshaping(x),
        }
    }

    fn image_layer(&mut self, x: ValueId) {
        let channels = self.extents(x)[1];
        let kernel: Vec<usize> = (0..2).map(|_| self.rng.random_range(1..=3)).collect();
        let strides: Vec<usize> = (0..2).map(|_| self.rng.random_range(1..=2)).collect();
        let pads: Vec<usize> = (0..4).map(|_| self.rng.random_range(0..=1)).collect();
        match self.rng.random_range(0..7) {
            0..=2 => {
                let divisors: Vec<usize> = (1..=channels).filter(|g| channels.is_multiple_of(*g)).collect();
                let group = *divisors.choose(&mut self.rng).unwrap_or(&1);
                let out = group * self.rng.random_range(1..=3);
                let w = self.weights("w", &[out, channels / group, kernel[0], kernel[1]], 0.5);
                let b = if self.rng.random_bool(0.5) { self.weights("b", &[out], 0.5) } else { None };
                let act = self.act();
                self.add(Conv { strides, pads, group, act, ..Conv::default() }, &[Some(x), w, b]);
            }
            3 => {
                let w = self.weights("w", &[channels, 2, kernel[0], kernel[1]], 0.5);
                self.add(ConvTranspose { strides, ..ConvTranspose::default() }, &[Some(x), w]);
            }
            4 => {
                let (scale, b) = (self.weights("scale", &[channels], 1.0), self.weights("shift", &[channels], 1.0));
                let mean = self.weights("mean", &[channels], 1.0);
                let var = Tensor::f32([channels], vec![self.rng.random_range(0.5..2.0); channels]);
                let var = Some(self.graph.add_tensor("var", var).into());
                self.add(BatchNorm::default(), &[Some(x), scale, b, mean, var]);
            }
            5 if self.rng.random_bool(0.5) => {
                self.add(MaxPool { kernel, strides, ..MaxPool::default() }, &[Some(x)]);
            }
            5 => self.add(AveragePool { kernel, strides, ..AveragePool::default() }, &[Some(x)]),
            _ => self.add(GlobalAveragePool {}, &[Some(x)]),
        }
    }

    fn matrix_layer(&mut self, x: ValueId) {
        let features = self.extents(x)[1];
        let out = self.rng.random_range(1..=8);
        match self.rng.random_range(0..5) {
            0 | 1 => {
                let w = self.weights("w", &[out, features], 0.5);
                let b = if self.rng.random_bool(0.5) { self.weights("b", &[out], 0.5) } else { None };
                let act = self.act();
                self.add(Linear { act }, &[Some(x), w, b]);
            }
            2 => {
                let w = self.weights("w", &[features, out], 0.5);
                self.add(MatMul {}, &[Some(x), w]);
            }
            3 => {
                let trans_b = self.rng.random_bool(0.5);
                let shape = if trans_b { [out, features] } else { [features, out] };
                let (w, c) = (self.weights("w", &shape, 0.5), self.weights("c", &[out], 0.5));
                self.add(Gemm { trans_b, alpha: 0.5, ..Gemm::default() }, &[Some(x), w, c]);
            }
            _ => {
                let (scale, b) = (self.weights("scale", &[features], 1.0), self.weights("shift", &[features], 1.0));
                // A large epsilon, as rows that are nearly constant would blow rounding up.
                self.add(LayerNorm { eps: 0.1, ..LayerNorm::default() }, &[Some(x), scale, b]);
            }
        }
    }

    fn elementwise(&mut self, x: ValueId) {
        match self.rng.random_range(0..6) {
            0 | 1 => {
                let smooth = [Unary::Relu, Unary::Abs, Unary::Neg, Unary::Tanh, Unary::Sigmoid, Unary::Identity];
                let op = *smooth.choose(&mut self.rng).expect("the list is not empty");
                self.add(Op::Unary(op), &[Some(x)]);
            }
            2 => {
                let same: Vec<ValueId> = self.values.iter().copied().filter(|&v| self.ty(v) == self.ty(x)).collect();
                let other = *same.choose(&mut self.rng).unwrap_or(&x);
                let op = *[Binary::Add, Binary::Sub, Binary::Mul].choose(&mut self.rng).unwrap_or(&Binary::Add);
                self.add(Op::Binary(op), &[Some(x), Some(other)]);
            }
            3 => {
                let mut shape = self.extents(x);
                shape.iter_mut().for_each(|n| *n = if self.rng.random_bool(0.5) { 1 } else { *n });
                shape.iter_mut().take(1).for_each(|n| *n = 1);
                let c = self.weights("c", &shape, 1.0);
                let op = *[Binary::Add, Binary::Sub, Binary::Mul].choose(&mut self.rng).unwrap_or(&Binary::Add);
                let operands = if self.rng.random_bool(0.5) { [Some(x), c] } else { [c, Some(x)] };
                self.add(Op::Binary(op), &operands);
            }
            4 => {
                let lo = Some(self.graph.add_tensor("lo", Tensor::f32([], [-0.5])).into());
                let hi = Some(self.graph.add_tensor("hi", Tensor::f32([], [0.75])).into());
                self.add(Clip {}, &[Some(x), lo, hi]);
            }
            _ if self.rng.random_bool(0.5) => self.add(LeakyRelu { alpha: 0.2 }, &[Some(x)]),
            _ => {
                let other = self.pick();
                let op =
                    *[Variadic::Max, Variadic::Sum, Variadic::Mean].choose(&mut self.rng).unwrap_or(&Variadic::Max);
                self.add(Op::Variadic(op), &[Some(x), Some(other)]);
            }
        }
    }

    fn reshaping(&mut self, x: ValueId) {
        let rank = self.ty(x).rank();
        let axis = i64::try_from(self.rng.random_range(0..rank.max(1))).unwrap_or(0);
        match self.rng.random_range(0..8) {
            0 => self.add(Flatten::default(), &[Some(x)]),
            1 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                perm.shuffle(&mut self.rng);
                self.add(Transpose { perm }, &[Some(x)]);
            }
            2 => {
                let other = self.pick();
                self.add(Concat { axis }, &[Some(x), Some(other)]);
            }
            3 => {
                let extent = self.ty(x).shape.get(usize::try_from(axis).unwrap_or(0)).and_then(Dim::fixed);
                if let Some(n) = extent {
                    let first = self.rng.random_range(0..=n);
                    self.add(Split { axis, sizes: vec![first, n - first] }, &[Some(x)]);
                }
            }
            4 => self.add(Softmax { axis, ..Softmax::default() }, &[Some(x)]),
            5 => {
                let attrs = ReduceAttrs { axes: Some(vec![axis]), keepdims: self.rng.random_bool(0.5) };
                self.add(Op::Reduce(Reduce { kind: ReduceKind::Mean, attrs }), &[Some(x)]);
            }
            6 => self.add(Unsqueeze { axes: vec![axis] }, &[Some(x)]),
            _ => {
                let shape = Tensor::new([2], Data::I64(vec![0, -1]));
                let shape = self.graph.add_tensor("shape", shape).into();
                self.add(Reshape::default(), &[Some(x), Some(shape)]);
            }
        }
    }
}
