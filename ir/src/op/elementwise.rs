//! Elementwise operators.

use super::attr::{attrs, words};
use crate::types::DType;

words! {
    /// Elementwise functions of one operand without parameters.
    pub enum Unary {
        /// x, untouched.
        Identity = "identity",
        /// |x|
        Abs = "abs",
        /// −x
        Neg = "neg",
        /// −1, 0 or 1
        Sign = "sign",
        /// Towards −∞.
        Floor = "floor",
        /// Towards +∞.
        Ceil = "ceil",
        /// To nearest, ties to even.
        Round = "round",
        /// √x
        Sqrt = "sqrt",
        /// 1/x
        Reciprocal = "reciprocal",
        /// eˣ
        Exp = "exp",
        /// Natural logarithm.
        Log = "log",
        /// Sine.
        Sin = "sin",
        /// Cosine.
        Cos = "cos",
        /// Tangent.
        Tan = "tan",
        /// Inverse sine.
        Asin = "asin",
        /// Inverse cosine.
        Acos = "acos",
        /// Inverse tangent.
        Atan = "atan",
        /// Hyperbolic sine.
        Sinh = "sinh",
        /// Hyperbolic cosine.
        Cosh = "cosh",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// Inverse hyperbolic sine.
        Asinh = "asinh",
        /// Inverse hyperbolic cosine.
        Acosh = "acosh",
        /// Inverse hyperbolic tangent.
        Atanh = "atanh",
        /// Error function.
        Erf = "erf",
        /// max(0, x)
        Relu = "relu",
        /// 1 / (1 + e⁻ˣ)
        Sigmoid = "sigmoid",
        /// x·sigmoid(x)
        Silu = "silu",
        /// log(1 + eˣ)
        Softplus = "softplus",
        /// x / (1 + |x|)
        Softsign = "softsign",
        /// x·tanh(softplus(x))
        Mish = "mish",
        /// x·max(0, min(1, x/6 + 1/2))
        HardSwish = "hard_swish",
        /// Logical negation.
        Not = "not",
        /// Bitwise complement.
        BitwiseNot = "bitwise_not",
        /// Whether an element is not a number.
        IsNan = "is_nan",
    }

    /// Elementwise functions of two operands, broadcast as numpy's.
    pub enum Binary {
        /// a + b
        Add = "add",
        /// a − b
        Sub = "sub",
        /// a·b
        Mul = "mul",
        /// a / b; integers truncate
        Div = "div",
        /// aᵇ, in the type of a
        Pow = "pow",
        /// a where positive, a·b elsewhere
        PRelu = "prelu",
        /// Logical and.
        And = "and",
        /// Logical or.
        Or = "or",
        /// Logical exclusive or.
        Xor = "xor",
        /// Bitwise and.
        BitwiseAnd = "bitwise_and",
        /// Bitwise or.
        BitwiseOr = "bitwise_or",
        /// Bitwise exclusive or.
        BitwiseXor = "bitwise_xor",
        /// a = b
        Equal = "equal",
        /// a < b
        Less = "less",
        /// a ≤ b
        LessOrEqual = "less_or_equal",
        /// a > b
        Greater = "greater",
        /// a ≥ b
        GreaterOrEqual = "greater_or_equal",
    }

    /// Elementwise functions of any number of operands, broadcast.
    pub enum Variadic {
        /// The largest; NaN if any is.
        Max = "max",
        /// The smallest; NaN if any is.
        Min = "min",
        /// The sum.
        Sum = "sum",
        /// The mean.
        Mean = "mean",
    }
}

attrs! {
    /// x where positive, alpha·x elsewhere.
    pub struct LeakyRelu {
        /// Slope below zero.
        alpha: f32 = 0.01,
    }

    /// x where positive, alpha·(exp(x) − 1) elsewhere.
    pub struct Elu {
        /// Limit below zero, negated.
        alpha: f32 = 1.0,
    }

    /// max(0, x) + min(0, alpha·(exp(x/alpha) − 1)).
    pub struct Celu {
        /// Limit below zero, negated.
        alpha: f32 = 1.0,
    }

    /// gamma·x where positive, gamma·alpha·(exp(x) − 1) elsewhere.
    pub struct Selu {
        /// Limit below zero, negated and without gamma.
        alpha: f32 = 1.673_263_2,
        /// Scale.
        gamma: f32 = 1.050_701,
    }

    /// max(0, min(1, alpha·x + beta)).
    pub struct HardSigmoid {
        /// Slope.
        alpha: f32 = 0.2,
        /// Offset.
        beta: f32 = 0.5,
    }

    /// x where x > alpha, zero elsewhere.
    pub struct ThresholdedRelu {
        /// Threshold.
        alpha: f32 = 1.0,
    }

    /// x − bias where x > lambd, x + bias where x < −lambd, zero between.
    pub struct Shrink {
        /// Taken off beyond the threshold.
        bias: f32 = 0.0,
        /// Threshold.
        lambd: f32 = 0.5,
    }

    /// x·Φ(x).
    pub struct Gelu {
        /// Whether by the tanh approximation instead of the error function.
        tanh: bool = false,
    }

    /// Whether an element is infinite.
    pub struct IsInf {
        /// Whether −∞ counts.
        negative: bool = true,
        /// Whether +∞ counts.
        positive: bool = true,
    }

    /// Limits elements to [min, max]. Both limits are scalars; a missing one does not limit.
    pub struct Clip {}

    /// Converts the element type: to integers by truncation.
    pub struct Cast {
        /// The new element type.
        to: DType = DType::F32,
    }

    /// a where the condition holds, b elsewhere; all three broadcast.
    pub struct Where {}

    /// Remainder of a / b.
    pub struct Mod {
        /// Whether the sign is that of a (C's `fmod`) instead of b's.
        fmod: bool = false,
    }

    /// Shifts unsigned integers.
    pub struct BitShift {
        /// Whether towards the high bits.
        left: bool = false,
    }
}

// STUB-BEGIN
use super::infer::Args;
use crate::error::TypeError;
use crate::types::TensorType;
impl IsInf {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Clip {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Cast {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Where {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Mod {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl BitShift {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Unary {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Binary {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
impl Variadic {
    pub(super) fn infer(&self, _args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Err(TypeError::Attribute("rule not written".into()))
    }
}
pub(super) fn infer_same(args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
    Ok(vec![args.ty(0)?.clone()])
}
// STUB-END
