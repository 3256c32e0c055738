//! Layers with random weights.

use std::cell::{Cell, RefCell};

use optc_ir::builder::{GraphBuilder, Value};
use optc_ir::op::{Conv, Linear};
use optc_ir::{Graph, Tensor};
use rand::RngCore;
use rand_chacha::ChaCha8Rng;

/// The distribution of weights, uniform on `±limit`; biases start at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Init {
    /// limit = √(6 / inputs) (He et al. 2015), for rectified activations.
    #[default]
    He,
    /// limit = √(6 / (inputs + outputs)) (Glorot and Bengio 2010).
    Glorot,
}

/// Builds layers into a graph, and draws their weights in the order they are asked for.
pub(super) struct Layers {
    pub(super) g: GraphBuilder,
    init: Init,
    rng: RefCell<ChaCha8Rng>,
    convolutions: Cell<usize>,
    linear: Cell<usize>,
}

impl Layers {
    pub(super) fn new(name: &str, init: Init, rng: ChaCha8Rng) -> Layers {
        let count = || Cell::new(0);
        Layers { g: GraphBuilder::new(name), init, rng: RefCell::new(rng), convolutions: count(), linear: count() }
    }

    fn weights(&self, name: &str, shape: &[usize]) -> Value<'_> {
        let window: usize = shape[2..].iter().product();
        let (inputs, outputs) = (shape[1] * window, shape[0] * window);
        let fan = match self.init {
            Init::He => inputs,
            Init::Glorot => inputs + outputs,
        };
        let limit = (6.0 / fan as f64).sqrt();
        let mut rng = self.rng.borrow_mut();
        // 24 random bits make every float of the interval equally likely.
        let mut draw = || (f64::from(rng.next_u32() >> 8) / f64::from(1u32 << 23) - 1.0) * limit;
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw() as f32).collect();
        self.g.constant(name, Tensor::f32(shape, values))
    }

    fn filled(&self, name: &str, len: usize, value: f32) -> Value<'_> {
        self.g.constant(name, Tensor::f32([len], vec![value; len]))
    }

    /// A fully connected layer with a bias, `fc1`, `fc2` and so on.
    pub(super) fn linear<'g>(&'g self, x: Value<'g>, inputs: usize, outputs: usize) -> Value<'g> {
        let name = numbered("fc", &self.linear);
        let w = self.weights(&format!("{name}.w"), &[outputs, inputs]);
        let b = self.filled(&format!("{name}.b"), outputs, 0.0);
        x.with(Linear::default(), &[Some(w), Some(b)]).named(&name)
    }

    /// A convolution `[outputs, inputs, kernel, kernel]`, where `inputs` is that of one group, followed by its
    /// bias or by batch normalisation; `conv1`, `conv2` and so on.
    pub(super) fn conv<'g>(&'g self, x: Value<'g>, shape: [usize; 3], attrs: Conv, normalised: bool) -> Value<'g> {
        let name = numbered("conv", &self.convolutions);
        let [outputs, inputs, kernel] = shape;
        let w = self.weights(&format!("{name}.w"), &[outputs, inputs, kernel, kernel]);
        if normalised {
            return self.batch_norm(x.conv(w, None, attrs).named(&name), &name, outputs);
        }
        let b = self.filled(&format!("{name}.b"), outputs, 0.0);
        x.conv(w, Some(b), attrs).named(&name)
    }

    /// Batch normalisation of what a layer gives.
    pub(super) fn batch_norm<'g>(&'g self, x: Value<'g>, layer: &str, channels: usize) -> Value<'g> {
        let [scale, b, mean, var] = [("scale", 1.0), ("b", 0.0), ("mean", 0.0), ("var", 1.0)]
            .map(|(what, value)| self.filled(&format!("{layer}.bn.{what}"), channels, value));
        x.batch_norm(scale, b, mean, var).named(&format!("{layer}.bn"))
    }

    /// The graph that gives these scores.
    pub(super) fn finish(self, scores: optc_ir::ValueId) -> Graph {
        self.g.finish(&[("scores", scores)])
    }
}

fn numbered(kind: &str, count: &Cell<usize>) -> String {
    count.set(count.get() + 1);
    format!("{kind}{}", count.get())
}

/// A convolution of odd extent that keeps height and width, but for its stride.
pub(super) fn same(kernel: usize, stride: usize) -> Conv {
    Conv { strides: vec![stride; 2], pads: vec![kernel / 2; 4], ..Conv::default() }
}
