//! Rules of the operators that make tensors from shapes and numbers.

use super::{ConstantOfShape, Range, ShapeOf, Size};
use crate::error::TypeError;
use crate::op::infer::{Args, SymInt};
use crate::types::{DType, Dim, TensorType, Type};

impl ShapeOf {
    /// The axes of a value of `rank` axes it tells.
    pub fn axes(&self, rank: usize) -> std::ops::Range<usize> {
        let signed = i64::try_from(rank).unwrap_or(i64::MAX);
        let clamp = |axis: i64| {
            let axis = if axis < 0 { axis.saturating_add(signed) } else { axis };
            usize::try_from(axis).unwrap_or(0).min(rank)
        };
        let start = clamp(self.start);
        start..self.end.map_or(rank, clamp).max(start)
    }

    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        Ok(vec![TensorType::new(DType::I64, [self.axes(args.ty(0)?.rank()).len()])])
    }
}

impl Size {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        args.ty(0)?;
        Ok(vec![TensorType { dtype: DType::I64, shape: Vec::new() }])
    }
}

impl ConstantOfShape {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<Type>, TypeError> {
        let Some(shape) = args.int_vector(0)? else { return Ok(vec![Type::Unknown]) };
        if shape.iter().any(|n| n.int().is_some_and(|n| n < 0)) {
            return Err(TypeError::Shapes("an extent is negative".to_owned()));
        }
        Ok(vec![Type::tensor(self.dtype, shape.iter().map(SymInt::dim))])
    }
}

/// How many of `start, start + delta, …` come before `limit`.
///
/// # Errors
/// If `delta` is zero.
pub(crate) fn range_len(start: i64, limit: i64, delta: i64) -> Result<usize, TypeError> {
    let (start, limit, delta) = (i128::from(start), i128::from(limit), i128::from(delta));
    if delta == 0 {
        return Err(TypeError::Shapes("the delta of a range is zero".to_owned()));
    }
    let (span, step) = if delta > 0 { (limit - start, delta) } else { (start - limit, -delta) };
    let count = if span > 0 { (span + step - 1) / step } else { 0 };
    usize::try_from(count).map_err(|_| TypeError::Shapes("a range is too long".to_owned()))
}

/// As [`range_len`], for floats.
///
/// # Errors
/// If `delta` is zero or the length no number.
pub(crate) fn range_len_f64(start: f64, limit: f64, delta: f64) -> Result<usize, TypeError> {
    let count = ((limit - start) / delta).ceil();
    // A quotient beyond any size saturates and is refused as too large.
    if delta == 0.0 || count.is_nan() {
        Err(TypeError::Shapes(format!("a range from {start} to {limit} by {delta}")))
    } else {
        Ok(count.max(0.0) as usize)
    }
}

impl Range {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let dtype = args.numeric(0)?.dtype;
        for slot in 0..3 {
            args.same_dtype(slot, 0)?;
            args.scalar(slot)?;
        }
        let len = if dtype.is_float() {
            let number = |slot: usize| args.get(slot)?.constant?.decode().data().to_f64().first().copied();
            match (number(0), number(1), number(2)) {
                (Some(start), Some(limit), Some(delta)) => Dim::Fixed(range_len_f64(start, limit, delta)?),
                _ => Dim::Any,
            }
        } else {
            match (args.int_scalar(0)?, args.int_scalar(1)?, args.int_scalar(2)?) {
                (SymInt::Int(start), SymInt::Int(limit), SymInt::Int(delta)) => {
                    Dim::Fixed(range_len(start, limit, delta)?)
                }
                (SymInt::Int(0), SymInt::Sym(limit), SymInt::Int(1)) => Dim::Sym(limit),
                (_, _, SymInt::Int(0)) => return Err(TypeError::Shapes("the delta of a range is zero".to_owned())),
                _ => Dim::Any,
            }
        };
        Ok(vec![TensorType { dtype, shape: vec![len] }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{arg, constant, int, ints, types};
    use crate::tensor::Tensor;

    #[test]
    fn shape_and_size() {
        let run = |start, end| types(ShapeOf { start, end }, &[arg(DType::F32, "N 3 ?")]).unwrap();
        assert_eq!(run(0, None), "i64[3]");
        assert_eq!(run(-1, None), "i64[1]");
        assert_eq!(run(-9, Some(2)), "i64[2]");
        assert_eq!(run(2, Some(1)), "i64[0]");
        assert_eq!(run(i64::MAX, Some(i64::MIN)), "i64[0]");
        assert_eq!(types(Size {}, &[arg(DType::F32, "N")]).unwrap(), "i64[]");
    }

    #[test]
    fn filled() {
        let run = |shape| types(ConstantOfShape::default(), &[shape]);
        assert_eq!(run(ints("N 3 ?")).unwrap(), "f32[N, 3, ?]");
        assert_eq!(run(ints("")).unwrap(), "f32[]");
        assert_eq!(run(arg(DType::I64, "K")).unwrap(), "?");
        assert!(run(ints("-1")).is_err());
        assert!(run(ints("4611686018427387904 4611686018427387904")).is_err());
    }

    #[test]
    fn ranges() {
        let run = |start, limit, delta| types(Range {}, &[int(start), int(limit), int(delta)]);
        assert_eq!(run("0", "N", "1").unwrap(), "i64[N]");
        assert_eq!(run("1", "N", "1").unwrap(), "i64[?]");
        assert_eq!(run("10", "4", "-4").unwrap(), "i64[2]");
        assert_eq!(run("4", "10", "-4").unwrap(), "i64[0]");
        assert!(run("0", "5", "0").is_err());
        assert!(run("-9223372036854775808", "9223372036854775807", "1").is_err());
        let float = |x: f32| constant(Tensor::f32([], [x]));
        assert_eq!(types(Range {}, &[float(1.0), float(5.0), float(2.0)]).unwrap(), "f32[2]");
        assert_eq!(types(Range {}, &[float(1.0), float(5.5), float(2.0)]).unwrap(), "f32[3]");
        assert!(types(Range {}, &[float(1.0), float(f32::NAN), float(2.0)]).is_err());
        assert!(types(Range {}, &[float(0.0), float(f32::INFINITY), float(1.0)]).is_err());
    }
}
