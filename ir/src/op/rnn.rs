//! Recurrent layers.
//!
//! `x` is `[T, N, I]`, `w` is `[D, G·H, I]`, `r` is `[D, G·H, H]`, `b` is `[D, 2·G·H]`, states are
//! `[D, N, H]`; D directions, H hidden units, G gates. With `batch_first`, `x` is `[N, T, I]` and states
//! are `[N, D, H]`. The first result is `[T, D, N, H]` (`[N, T, D, H]`), then come the final states.

use super::attr::{attrs, words};

words! {
    /// The order in which a recurrent layer walks the sequence.
    pub enum Direction {
        /// First to last.
        Forward = "forward",
        /// Last to first.
        Reverse = "reverse",
        /// Both, as two directions.
        Bidirectional = "bidirectional",
    }
}

impl Direction {
    /// 2 if bidirectional, 1 otherwise.
    pub fn count(self) -> usize {
        if self == Direction::Bidirectional { 2 } else { 1 }
    }
}

attrs! {
    /// Simple recurrent layer: `h = f(x·Wᵀ + h·Rᵀ + Wb + Rb)`. Results: all states, last state.
    pub struct Rnn {
        /// Hidden units.
        hidden_size: usize = 0,
        /// Order of the walk.
        direction: Direction = Direction::Forward,
        /// Whether the batch axis comes first.
        batch_first: bool = false,
        /// Activation of each direction, by ONNX name in any case; empty: Tanh.
        activations: Vec<String> = vec![],
        /// Parameters of the activations that have one.
        activation_alpha: Vec<f32> = vec![],
        /// Second parameters.
        activation_beta: Vec<f32> = vec![],
        /// Limits the inputs of activations to ±clip.
        clip: Option<f32> = None,
    }

    /// Gated recurrent layer, gates z, r, h. Results: all states, last state.
    pub struct Gru {
        /// Hidden units.
        hidden_size: usize = 0,
        /// Order of the walk.
        direction: Direction = Direction::Forward,
        /// Whether the batch axis comes first.
        batch_first: bool = false,
        /// Activations f, g of each direction, by ONNX name in any case; empty: Sigmoid, Tanh.
        activations: Vec<String> = vec![],
        /// Parameters of the activations that have one.
        activation_alpha: Vec<f32> = vec![],
        /// Second parameters.
        activation_beta: Vec<f32> = vec![],
        /// Limits the inputs of activations to ±clip.
        clip: Option<f32> = None,
        /// Whether the reset gate multiplies after the recurrent product.
        linear_before_reset: bool = false,
    }

    /// Long short-term memory layer, gates i, o, f, c; `p` holds peepholes `[D, 3·H]`.
    /// Results: all states, last state, last cell.
    pub struct Lstm {
        /// Hidden units.
        hidden_size: usize = 0,
        /// Order of the walk.
        direction: Direction = Direction::Forward,
        /// Whether the batch axis comes first.
        batch_first: bool = false,
        /// Activations f, g, h of each direction, by ONNX name in any case; empty: Sigmoid, Tanh, Tanh.
        activations: Vec<String> = vec![],
        /// Parameters of the activations that have one.
        activation_alpha: Vec<f32> = vec![],
        /// Second parameters.
        activation_beta: Vec<f32> = vec![],
        /// Limits the inputs of activations to ±clip.
        clip: Option<f32> = None,
        /// Whether the forget gate is 1 − the input gate.
        input_forget: bool = false,
    }
}

// STUB-BEGIN
use super::infer::Args;
use crate::error::TypeError;
use crate::types::TensorType;
impl Rnn {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Gru {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Lstm {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
// STUB-END
