//! Recurrent layers.
//!
//! `x` is `[T, N, I]`, `w` is `[D, G·H, I]`, `r` is `[D, G·H, H]`, `b` is `[D, 2·G·H]`, states are
//! `[D, N, H]`; D directions, H hidden units, G gates. With `batch_first`, `x` is `[N, T, I]` and states
//! are `[N, D, H]`. The first result is `[T, D, N, H]` (`[N, T, D, H]`), then come the final states.

use super::attr::{attrs, words};
use super::expect;
use super::infer::Args;
use crate::error::TypeError;
use crate::types::{DType, Dim, TensorType};

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
        /// Limits the inputs of f and g to ±clip; the cell state, which h sees, is left alone.
        clip: Option<f32> = None,
        /// Whether the forget gate is 1 − the input gate.
        input_forget: bool = false,
    }
}

/// An activation of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// max(0, x)
    Relu,
    /// tanh(x)
    Tanh,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// alpha·x + beta
    Affine {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// x where positive, alpha·x elsewhere
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// x where x ≥ alpha, zero elsewhere
    ThresholdedRelu {
        /// Threshold.
        alpha: f32,
    },
    /// alpha·tanh(beta·x)
    ScaledTanh {
        /// Scale of the result.
        alpha: f32,
        /// Scale of the argument.
        beta: f32,
    },
    /// max(0, min(1, alpha·x + beta))
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// x where positive, alpha·(eˣ − 1) elsewhere
    Elu {
        /// Limit below zero, negated.
        alpha: f32,
    },
    /// x / (1 + |x|)
    Softsign,
    /// log(1 + eˣ)
    Softplus,
}

/// What the attributes of the three layers have in common.
struct Layer<'a> {
    gates: usize,
    hidden_size: usize,
    direction: Direction,
    batch_first: bool,
    activations: &'a [String],
    alpha: &'a [f32],
    beta: &'a [f32],
    /// What stands for an empty list of activations, for one direction.
    default: &'static [Activation],
    clip: Option<f32>,
}

impl Layer<'_> {
    /// The activations of every direction in turn. Parameters are dealt out in order to the activations
    /// that take one; the others have the defaults of the operators of the same name.
    fn activations(&self) -> Result<Vec<Activation>, TypeError> {
        let directions = self.direction.count();
        if self.activations.is_empty() {
            return Ok(self.default.repeat(directions));
        }
        let (got, expected) = (self.activations.len(), directions * self.default.len());
        if got != expected {
            return Err(TypeError::Attribute(format!("{got} activations, expected {expected}")));
        }
        let (mut alphas, mut betas) = (self.alpha.iter().copied(), self.beta.iter().copied());
        let mut resolved = Vec::with_capacity(expected);
        for name in self.activations {
            let mut alpha = |default: f32| alphas.next().unwrap_or(default);
            let mut beta = |default: f32| betas.next().unwrap_or(default);
            resolved.push(match name.to_ascii_lowercase().as_str() {
                "relu" => Activation::Relu,
                "tanh" => Activation::Tanh,
                "sigmoid" => Activation::Sigmoid,
                "affine" => Activation::Affine { alpha: alpha(1.0), beta: beta(0.0) },
                "leakyrelu" => Activation::LeakyRelu { alpha: alpha(0.01) },
                "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha(1.0) },
                "scaledtanh" => Activation::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
                "hardsigmoid" => Activation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
                "elu" => Activation::Elu { alpha: alpha(1.0) },
                "softsign" => Activation::Softsign,
                "softplus" => Activation::Softplus,
                _ => return Err(TypeError::Attribute(format!("activation {name:?} is unknown"))),
            });
        }
        Ok(resolved)
    }

    /// The types of all states and of `finals` final states.
    fn infer(&self, args: &Args<'_>, finals: usize) -> Result<Vec<TensorType>, TypeError> {
        self.activations()?;
        if self.clip.is_some_and(|clip| clip.is_nan() || clip < 0.0) {
            return Err(TypeError::Attribute("clip is not a number above zero".into()));
        }
        let x = expect::float(args, 0)?;
        let dtype = x.dtype;
        let [first, second, features] = x.shape.as_slice() else { return Err(args.expected(0, "three axes")) };
        let (steps, batch) = if self.batch_first { (second, first) } else { (first, second) };
        let scaled = |factor: usize| {
            let product = self.hidden_size.checked_mul(factor).filter(|&n| n > 0).map(Dim::Fixed);
            product.ok_or_else(|| TypeError::Attribute(format!("hidden_size is {}", self.hidden_size)))
        };
        let (hidden, directions) = (scaled(1)?, Dim::Fixed(self.direction.count()));
        expect::shaped(args, 1, dtype, &[directions.clone(), scaled(self.gates)?, features.clone()])?;
        expect::shaped(args, 2, dtype, &[directions.clone(), scaled(self.gates)?, hidden.clone()])?;
        expect::shaped(args, 3, dtype, &[directions.clone(), scaled(2 * self.gates)?])?;
        expect::shaped(args, 4, DType::I32, std::slice::from_ref(batch))?;
        let state = if self.batch_first {
            [batch.clone(), directions.clone(), hidden.clone()]
        } else {
            [directions.clone(), batch.clone(), hidden.clone()]
        };
        expect::shaped(args, 5, dtype, &state)?;
        if finals > 1 {
            expect::shaped(args, 6, dtype, &state)?;
            expect::shaped(args, 7, dtype, &[directions.clone(), scaled(3)?])?;
        }
        let all = if self.batch_first {
            [batch.clone(), steps.clone(), directions, hidden]
        } else {
            [steps.clone(), directions, batch.clone(), hidden]
        };
        let mut types = vec![TensorType::new(dtype, all)];
        types.extend((0..finals).map(|_| TensorType::new(dtype, state.clone())));
        Ok(types)
    }
}

macro_rules! layers {
    ($($name:ident $gates:literal $finals:literal [$($default:ident)*],)*) => {$(
        impl $name {
            /// Gates of a hidden unit.
            pub const GATES: usize = $gates;

            fn layer(&self) -> Layer<'_> {
                Layer {
                    gates: $gates,
                    hidden_size: self.hidden_size,
                    direction: self.direction,
                    batch_first: self.batch_first,
                    activations: &self.activations,
                    alpha: &self.activation_alpha,
                    beta: &self.activation_beta,
                    default: &[$(Activation::$default),*],
                    clip: self.clip,
                }
            }

            /// The activations of the forward or only direction, then those of the other.
            ///
            /// # Errors
            /// If their number is wrong or a name is unknown.
            pub fn resolved_activations(&self) -> Result<Vec<Activation>, TypeError> {
                self.layer().activations()
            }

            pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
                self.layer().infer(args, $finals)
            }
        }
    )*};
}

layers! {
    Rnn 1 1 [Tanh],
    Gru 3 1 [Sigmoid Tanh],
    Lstm 4 2 [Sigmoid Tanh Tanh],
}

#[cfg(test)]
mod tests {
    use super::super::testing::{infer_op, shapes};
    use super::*;
    use crate::op::Op;

    #[test]
    fn states_have_the_shapes_of_the_layout() {
        let lstm = Lstm { hidden_size: 5, direction: Direction::Bidirectional, ..Lstm::default() };
        let operands =
            ["f32[t, n, 3]", "f32[2, 20, 3]", "f32[2, 20, 5]", "f32[2, 40]", "", "f32[2, n, 5]", "", "f32[2, 15]"];
        assert_eq!(shapes(&lstm.clone().into(), &operands), ["f32[t, 2, n, 5]", "f32[2, n, 5]", "f32[2, n, 5]"]);
        let operands = ["f32[n, t, 3]", "f32[2, 20, 3]", "f32[2, 20, 5]", "", "i32[n]", "f32[n, 2, 5]"];
        let lstm = Lstm { batch_first: true, ..lstm };
        assert_eq!(shapes(&lstm.into(), &operands), ["f32[n, t, 2, 5]", "f32[n, 2, 5]", "f32[n, 2, 5]"]);
        let gru = Gru { hidden_size: 5, ..Gru::default() };
        assert_eq!(
            shapes(&gru.into(), &["f32[7, ?, 3]", "f32[1, 15, 3]", "f32[1, 15, 5]"]),
            ["f32[7, 1, ?, 5]", "f32[1, ?, 5]"]
        );
    }

    #[test]
    fn parameters_go_to_the_activations_that_take_them() {
        let gru = Gru {
            direction: Direction::Bidirectional,
            activations: ["Tanh", "affine", "HARDSIGMOID", "LeakyRelu"].map(String::from).to_vec(),
            activation_alpha: vec![2.0, 3.0],
            activation_beta: vec![4.0],
            ..Gru::default()
        };
        let expected = [
            Activation::Tanh,
            Activation::Affine { alpha: 2.0, beta: 4.0 },
            Activation::HardSigmoid { alpha: 3.0, beta: 0.5 },
            Activation::LeakyRelu { alpha: 0.01 },
        ];
        assert_eq!(gru.resolved_activations().unwrap(), expected);
        assert_eq!(Rnn::default().resolved_activations().unwrap(), [Activation::Tanh]);
    }

    #[test]
    fn contradictions_are_errors() {
        let rnn = |hidden_size| Rnn { hidden_size, ..Rnn::default() };
        let operands = ["f32[7, 2, 3]", "f32[1, 5, 3]", "f32[1, 5, 5]"];
        assert!(infer_op(&rnn(5).into(), &operands).is_ok());
        let with =
            |activations: &[&str]| Rnn { activations: activations.iter().map(|&a| a.into()).collect(), ..rnn(5) };
        for op in [
            rnn(0),
            rnn(4),
            rnn(usize::MAX),
            Rnn { direction: Direction::Bidirectional, ..rnn(5) },
            Rnn { clip: Some(f32::NAN), ..rnn(5) },
            with(&["Swish"]),
            with(&["Tanh", "Tanh"]),
        ] {
            assert!(infer_op(&Op::from(op.clone()), &operands).is_err(), "{op:?}");
        }
        assert!(infer_op(&rnn(5).into(), &["f32[7, 2]", operands[1], operands[2]]).is_err());
        assert!(infer_op(&rnn(5).into(), &["f32[7, 2, 4]", operands[1], operands[2]]).is_err());
        assert!(infer_op(&rnn(5).into(), &[operands[0], operands[1], operands[2], "", "i64[2]"]).is_err());
    }
}
