//! Elementwise operators.

use super::Op;
use super::attr::{attrs, words};
use super::infer::{Args, broadcast, is_numeric};
use crate::error::TypeError;
use crate::types::{DType, TensorType};

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

impl Unary {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let ty = match self {
            Unary::Identity => args.ty(0)?,
            Unary::Abs | Unary::Sign => args.numeric(0)?,
            Unary::Neg | Unary::Relu => args.typed(0, |d| is_numeric(d) && d.is_signed(), "a signed numeric type")?,
            Unary::Not => args.typed(0, |d| d == DType::Bool, "elements of type bool")?,
            Unary::BitwiseNot => args.typed(0, is_wide_int, "an integer type of at least 8 bits")?,
            _ => args.float(0)?,
        };
        let dtype = if *self == Unary::IsNan { DType::Bool } else { ty.dtype };
        Ok(vec![TensorType { dtype, shape: ty.shape.clone() }])
    }
}

impl Binary {
    /// Whether the result is `bool` whatever the operands are.
    fn compares(self) -> bool {
        use Binary::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        matches!(self, Equal | Less | LessOrEqual | Greater | GreaterOrEqual)
    }

    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let a = match self {
            Binary::And | Binary::Or | Binary::Xor => args.typed(0, |d| d == DType::Bool, "elements of type bool")?,
            Binary::BitwiseAnd | Binary::BitwiseOr | Binary::BitwiseXor => {
                args.typed(0, is_wide_int, "an integer type of at least 8 bits")?
            }
            Binary::Equal => args.ty(0)?,
            _ => args.numeric(0)?,
        };
        let b = if *self == Binary::Pow { args.numeric(1)? } else { args.same_dtype(1, 0)? };
        let shape = broadcast(&a.shape, &b.shape)?;
        let shape = if *self == Binary::PRelu {
            // The slope broadcasts to x, never the other way.
            if shape.len() > a.rank() || shape.iter().zip(&a.shape).any(|(both, x)| both.differs(x)) {
                return Err(args.expected(1, format!("a shape that broadcasts to that of {a}")));
            }
            a.shape.clone()
        } else {
            shape
        };
        let dtype = if self.compares() { DType::Bool } else { a.dtype };
        Ok(vec![TensorType { dtype, shape }])
    }
}

impl Variadic {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let first = if *self == Variadic::Mean { args.float(0)? } else { args.numeric(0)? };
        let shape = (1..args.len())
            .try_fold(first.shape.clone(), |shape, slot| broadcast(&shape, &args.same_dtype(slot, 0)?.shape))?;
        Ok(vec![TensorType { dtype: first.dtype, shape }])
    }
}

/// The rule of the activations with parameters: a float of the same shape.
pub(super) fn infer_same(args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
    let ty = if matches!(args.op(), Op::Shrink(_)) { args.numeric(0)? } else { args.float(0)? };
    Ok(vec![ty.clone()])
}

impl IsInf {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Ok(vec![TensorType { dtype: DType::Bool, shape: args.float(0)?.shape.clone() }])
    }
}

impl Clip {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let ty = args.numeric(0)?;
        for slot in [1, 2] {
            if args.get(slot).is_some() {
                args.same_dtype(slot, 0)?;
                args.scalar(slot)?;
            }
        }
        Ok(vec![ty.clone()])
    }
}

impl Cast {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Ok(vec![TensorType { dtype: self.to, shape: args.ty(0)?.shape.clone() }])
    }
}

impl Where {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let condition = args.typed(0, |d| d == DType::Bool, "elements of type bool")?;
        let (a, b) = (args.ty(1)?, args.same_dtype(2, 1)?);
        let shape = broadcast(&broadcast(&condition.shape, &a.shape)?, &b.shape)?;
        Ok(vec![TensorType { dtype: a.dtype, shape }])
    }
}

impl Mod {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (args.numeric(0)?, args.same_dtype(1, 0)?);
        if a.dtype.is_float() && !self.fmod {
            return Err(TypeError::Attribute("the remainder of floating-point numbers needs fmod".to_owned()));
        }
        Ok(vec![TensorType { dtype: a.dtype, shape: broadcast(&a.shape, &b.shape)? }])
    }
}

impl BitShift {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let unsigned = |d: DType| is_wide_int(d) && !d.is_signed();
        let a = args.typed(0, unsigned, "an unsigned integer type of at least 8 bits")?;
        let b = args.same_dtype(1, 0)?;
        Ok(vec![TensorType { dtype: a.dtype, shape: broadcast(&a.shape, &b.shape)? }])
    }
}

fn is_wide_int(dtype: DType) -> bool {
    dtype.is_int() && is_numeric(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{arg, types};
    use crate::types::DType::{Bool, F32, I4, I32, I64, U8};

    #[test]
    fn unary_types() {
        let run = |op, dtype| types(Op::Unary(op), &[arg(dtype, "N 3")]);
        assert_eq!(run(Unary::Exp, F32).unwrap(), "f32[N, 3]");
        assert_eq!(run(Unary::IsNan, F32).unwrap(), "bool[N, 3]");
        assert_eq!(run(Unary::Identity, I4).unwrap(), "i4[N, 3]");
        assert_eq!(run(Unary::Neg, I32).unwrap(), "i32[N, 3]");
        assert!(run(Unary::Neg, U8).is_err());
        assert!(run(Unary::Exp, I32).is_err());
        assert!(run(Unary::Abs, I4).is_err());
        assert!(run(Unary::Not, I32).is_err());
        let message = run(Unary::Not, I32).unwrap_err().to_string();
        assert_eq!(message, "operand 0 (x) has type i32[N, 3], expected elements of type bool");
    }

    #[test]
    fn binary_types_broadcast() {
        let run = |op, (a, x), (b, y)| types(Op::Binary(op), &[arg(a, x), arg(b, y)]);
        assert_eq!(run(Binary::Add, (F32, "N 1 3"), (F32, "4 1")).unwrap(), "f32[N, 4, 3]");
        assert_eq!(run(Binary::Less, (F32, "N"), (F32, "N")).unwrap(), "bool[N]");
        assert_eq!(run(Binary::Add, (F32, "N"), (F32, "M")).unwrap(), "f32[?]");
        assert_eq!(run(Binary::Pow, (F32, "2"), (I64, "")).unwrap(), "f32[2]");
        assert_eq!(run(Binary::PRelu, (F32, "N 3 4"), (F32, "3 1")).unwrap(), "f32[N, 3, 4]");
        assert!(run(Binary::Add, (F32, "2"), (I64, "2")).is_err());
        assert!(run(Binary::Add, (F32, "2"), (F32, "3")).is_err());
        assert!(run(Binary::Add, (Bool, "2"), (Bool, "2")).is_err());
        assert!(run(Binary::PRelu, (F32, "3 1"), (F32, "3 4")).is_err());
        assert!(run(Binary::PRelu, (F32, "3"), (F32, "1 3")).is_err());
        assert!(run(Binary::BitwiseAnd, (F32, "2"), (F32, "2")).is_err());
    }

    #[test]
    fn the_others() {
        assert_eq!(types(Op::Variadic(Variadic::Max), &["N 1", "3", "1"].map(|s| arg(F32, s))).unwrap(), "f32[N, 3]");
        assert!(types(Op::Variadic(Variadic::Mean), &[arg(I32, "2")]).is_err());
        assert_eq!(types(Where {}, &[arg(Bool, "N 1"), arg(I64, "3"), arg(I64, "")]).unwrap(), "i64[N, 3]");
        assert!(types(Where {}, &[arg(U8, "1"), arg(I64, "3"), arg(I64, "")]).is_err());
        assert_eq!(types(Clip {}, &[arg(F32, "N"), arg(F32, ""), arg(F32, "1")]).unwrap(), "f32[N]");
        assert!(types(Clip {}, &[arg(F32, "N"), arg(F32, "2")]).is_err());
        assert!(types(Mod::default(), &[arg(F32, "N"), arg(F32, "")]).is_err());
        assert_eq!(types(Mod { fmod: true }, &[arg(F32, "N"), arg(F32, "")]).unwrap(), "f32[N]");
        assert!(types(BitShift::default(), &[arg(I64, "1"), arg(I64, "1")]).is_err());
        assert_eq!(types(Cast { to: U8 }, &[arg(F32, "N")]).unwrap(), "u8[N]");
        assert!(types(LeakyRelu::default(), &[arg(I32, "N")]).is_err());
    }
}
