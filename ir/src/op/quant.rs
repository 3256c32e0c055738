//! Quantized values and integer arithmetic on them.
//!
//! Codes are plain `u8`, `i8`, … tensors; scales and zero points are operands.

use super::attr::attrs;
use super::conv::{AutoPad, Convolution};
use super::infer::{Args, broadcast, resolve_axis};
use super::{MatMul, expect};
use crate::error::TypeError;
use crate::types::{DType, Dim, TensorType};

attrs! {
    /// `saturate(round_even(x/scale) + zero)`.
    pub struct QuantizeLinear {
        /// The axis of `scale` and `zero` if they are vectors (or blocked).
        axis: i64 = 1,
        /// Elements of the axis that share a scale; 0 is per tensor or per axis.
        block: usize = 0,
        /// Type of the codes where `zero` is missing.
        to: DType = DType::U8,
    }

    /// `(x − zero)·scale`, in the type of `scale`.
    pub struct DequantizeLinear {
        /// The axis of `scale` and `zero` if they are vectors (or blocked).
        axis: i64 = 1,
        /// Elements of the axis that share a scale; 0 is per tensor or per axis.
        block: usize = 0,
    }

    /// To u8 by the range of x, widened to hold zero. Results: codes, scale (f32), zero point (u8).
    pub struct DynamicQuantizeLinear {}

    /// Convolution of codes to codes: exact i32 sums, requantised. `b` is i32 with scale `x_scale·w_scale`.
    pub struct QLinearConv {
        /// Step of the window along each spatial axis.
        strides: Vec<usize> = vec![],
        /// Zero points added: all beginnings, then all ends.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring kernel elements.
        dilations: Vec<usize> = vec![],
        /// Channels are split into this many independent groups.
        group: usize = 1,
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
    }

    /// Matrix product of codes to codes: exact i32 sums, requantised.
    pub struct QLinearMatMul {}

    /// Convolution of codes, zero points taken off, to i32.
    pub struct ConvInteger {
        /// Step of the window along each spatial axis.
        strides: Vec<usize> = vec![],
        /// Zero points added: all beginnings, then all ends.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring kernel elements.
        dilations: Vec<usize> = vec![],
        /// Channels are split into this many independent groups.
        group: usize = 1,
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
    }

    /// Matrix product of codes, zero points taken off, to i32.
    pub struct MatMulInteger {}
}

/// Whether integers of this type are the codes of quantized values.
fn is_code(dtype: DType) -> bool {
    dtype.is_int() && dtype.bits() <= 16
}

/// Whether integers of this type are the codes that integer products take.
fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::U8 | DType::I8)
}

/// How the scales of a tensor lie beside its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grain {
    /// One scale.
    Tensor,
    /// One scale an index of the axis.
    Axis(usize),
    /// One scale for each run of this many elements along the axis.
    Block(usize, usize),
}

/// How scales of shape `scale` lie beside a tensor of shape `x`.
///
/// # Errors
/// If they do not fit.
pub(crate) fn grain(x: &[Dim], scale: &[Dim], axis: i64, block: usize) -> Result<Grain, TypeError> {
    if scale.is_empty() || (block == 0 && scale == [Dim::Fixed(1)]) {
        return Ok(Grain::Tensor);
    }
    let misfit = |what: String| TypeError::Shapes(format!("scales that do not fit: {what}"));
    let axis = resolve_axis(axis, x.len())?;
    if block == 0 {
        return match scale {
            [n] if !n.differs(&x[axis]) => Ok(Grain::Axis(axis)),
            [n] => Err(misfit(format!("{n} for axis {axis} of extent {}", x[axis]))),
            _ => Err(misfit(format!("{} axes without a block size", scale.len()))),
        };
    }
    if scale.len() != x.len() {
        return Err(misfit(format!("{} axes instead of {}", scale.len(), x.len())));
    }
    for (i, (have, n)) in scale.iter().zip(x).enumerate() {
        let want = match n {
            Dim::Fixed(n) if i == axis => Dim::Fixed(n.div_ceil(block)),
            _ if i == axis => Dim::Any,
            n => n.clone(),
        };
        if have.differs(&want) {
            return Err(misfit(format!("extent {have} of axis {i} instead of {want}")));
        }
    }
    Ok(Grain::Block(axis, block))
}

/// Checks the scale in slot 1 and the zero point in slot 2 against the tensor in slot 0. Of a whole tensor each
/// may be a scalar or a vector of one element.
fn check_grid(args: &Args<'_>, zero: DType, axis: i64, block: usize) -> Result<(), TypeError> {
    let scale = args.float(1)?;
    let whole = grain(&args.ty(0)?.shape, &scale.shape, axis, block)? == Grain::Tensor;
    match args.get_ty(2) {
        Some(ty) if whole && ty.shape.iter().all(|n| *n == Dim::Fixed(1)) && ty.shape.len() < 2 => {
            expect::shaped(args, 2, zero, &ty.shape)
        }
        _ => expect::shaped(args, 2, zero, &scale.shape),
    }
}

impl QuantizeLinear {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.typed(0, |d| d.is_float() || d == DType::I32, "floating-point or i32 elements")?;
        let to = match args.get_ty(2) {
            Some(_) => args.typed(2, is_code, "integers of at most 16 bits")?.dtype,
            None if is_code(self.to) => self.to,
            None => return Err(TypeError::Attribute(format!("{} is no type of codes", self.to))),
        };
        check_grid(args, to, self.axis, self.block)?;
        Ok(vec![TensorType { dtype: to, shape: x.shape.clone() }])
    }
}

impl DequantizeLinear {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.typed(0, |d| is_code(d) || d == DType::I32, "integers of at most 16 bits or i32")?;
        check_grid(args, x.dtype, self.axis, self.block)?;
        Ok(vec![TensorType { dtype: args.float(1)?.dtype, shape: x.shape.clone() }])
    }
}

impl DynamicQuantizeLinear {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::typed(args, 0, DType::F32)?;
        let codes = TensorType { dtype: DType::U8, shape: x.shape.clone() };
        let scalar = |dtype| TensorType { dtype, shape: Vec::new() };
        Ok(vec![codes, scalar(DType::F32), scalar(DType::U8)])
    }
}

/// The codes of an integer product in a slot.
fn bytes<'a>(args: &Args<'a>, slot: usize) -> Result<&'a TensorType, TypeError> {
    args.typed(slot, is_byte, "u8 or i8 elements")
}

/// Checks a scalar, or a vector of one element a channel.
fn per_channel(args: &Args<'_>, slot: usize, dtype: DType, channels: &Dim) -> Result<(), TypeError> {
    match args.get_ty(slot) {
        Some(ty) if ty.dtype == dtype && ty.shape.is_empty() => Ok(()),
        Some(ty) if ty.dtype == dtype && ty.shape == [Dim::Fixed(1)] => Ok(()),
        _ => expect::shaped(args, slot, dtype, std::slice::from_ref(channels)),
    }
}

/// Checks one number of this type.
fn one(args: &Args<'_>, slot: usize, dtype: DType) -> Result<(), TypeError> {
    if args.get(slot).is_some() {
        expect::typed(args, slot, dtype)?;
        args.scalar(slot)?;
    }
    Ok(())
}

impl QLinearConv {
    /// The attributes that decide the shape.
    pub fn convolution(&self) -> Convolution<'_> {
        Convolution {
            strides: &self.strides,
            pads: &self.pads,
            dilations: &self.dilations,
            group: self.group,
            auto_pad: self.auto_pad,
        }
    }

    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let (x, w) = (bytes(args, 0)?, bytes(args, 3)?);
        let shape = self.convolution().out_shape(&x.shape, &w.shape)?;
        one(args, 1, DType::F32)?;
        one(args, 2, x.dtype)?;
        per_channel(args, 4, DType::F32, &shape[1])?;
        per_channel(args, 5, w.dtype, &shape[1])?;
        one(args, 6, DType::F32)?;
        let dtype = bytes(args, 7)?.dtype;
        args.scalar(7)?;
        expect::shaped(args, 8, DType::I32, &shape[1..2])?;
        Ok(vec![TensorType { dtype, shape }])
    }
}

impl ConvInteger {
    /// The attributes that decide the shape.
    pub fn convolution(&self) -> Convolution<'_> {
        Convolution {
            strides: &self.strides,
            pads: &self.pads,
            dilations: &self.dilations,
            group: self.group,
            auto_pad: self.auto_pad,
        }
    }

    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let (x, w) = (bytes(args, 0)?, bytes(args, 1)?);
        let shape = self.convolution().out_shape(&x.shape, &w.shape)?;
        one(args, 2, x.dtype)?;
        if args.get(3).is_some() {
            per_channel(args, 3, w.dtype, &shape[1])?;
        }
        Ok(vec![TensorType { dtype: DType::I32, shape }])
    }
}

/// Checks the scale or zero point of a matrix: a scalar, one element a row of `a` or column of `b`, or a
/// tensor that broadcasts to the matrix and is constant along what is summed over.
fn matrix_param(args: &Args<'_>, slot: usize, dtype: DType, matrix: usize, left: bool) -> Result<(), TypeError> {
    let Some(ty) = args.get_ty(slot) else { return Ok(()) };
    expect::typed(args, slot, dtype)?;
    if ty.shape.iter().all(|n| *n == Dim::Fixed(1)) {
        return Ok(());
    }
    let shape = matrix_param_shape(&ty.shape, left);
    let x = &args.ty(matrix)?.shape;
    let summed = if left { shape.last() } else { shape.len().checked_sub(2).map(|i| &shape[i]) };
    let narrow = summed.is_none_or(|n| !n.differs(&Dim::Fixed(1)));
    if narrow && shape.len() <= x.len() && broadcast(&shape, x).is_ok_and(|both| expect::fits(&both, x)) {
        return Ok(());
    }
    Err(args.expected(slot, "a scalar, or one element a row of the left or column of the right matrix"))
}

/// The shape with which a scale or zero point broadcasts to its matrix: a vector for the left one holds an
/// element a row.
pub(crate) fn matrix_param_shape<D: Clone + From<usize>>(shape: &[D], left: bool) -> Vec<D> {
    match shape {
        [n] if left => vec![n.clone(), D::from(1)],
        shape => shape.to_vec(),
    }
}

impl MatMulInteger {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (bytes(args, 0)?, bytes(args, 1)?);
        matrix_param(args, 2, a.dtype, 0, true)?;
        matrix_param(args, 3, b.dtype, 1, false)?;
        Ok(vec![TensorType { dtype: DType::I32, shape: MatMul::out_shape(&a.shape, &b.shape)? }])
    }
}

impl QLinearMatMul {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (bytes(args, 0)?, bytes(args, 3)?);
        let scale = args.float(1)?.dtype;
        matrix_param(args, 1, scale, 0, true)?;
        matrix_param(args, 2, a.dtype, 0, true)?;
        matrix_param(args, 4, scale, 3, false)?;
        matrix_param(args, 5, b.dtype, 3, false)?;
        one(args, 6, scale)?;
        let dtype = bytes(args, 7)?.dtype;
        args.scalar(7)?;
        Ok(vec![TensorType { dtype, shape: MatMul::out_shape(&a.shape, &b.shape)? }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Arg, arg, types};
    use crate::types::DType::{F16, F32, I4, I8, I32, I64, U8};

    #[test]
    fn quantize() {
        let run = |op, scale, zero: &[Arg]| types(op, &[&[arg(F32, "N 6 4"), arg(F32, scale)], zero].concat());
        assert_eq!(run(QuantizeLinear::default(), "", &[]).unwrap(), "u8[N, 6, 4]");
        assert_eq!(run(QuantizeLinear::default(), "6", &[arg(I8, "6")]).unwrap(), "i8[N, 6, 4]");
        let op = |axis, block| QuantizeLinear { axis, block, to: I4 };
        assert_eq!(run(op(-1, 3), "N 6 2", &[]).unwrap(), "i4[N, 6, 4]");
        assert_eq!(run(op(0, 2), "? 6 4", &[]).unwrap(), "i4[N, 6, 4]");
        assert!(run(op(-1, 3), "N 6 3", &[]).is_err());
        assert!(run(op(3, 0), "4", &[]).is_err());
        assert!(run(op(1, 0), "5", &[]).is_err());
        assert!(run(op(1, 0), "6", &[arg(I8, "")]).is_err());
        assert_eq!(run(op(1, 0), "1", &[arg(I4, "")]).unwrap(), "i4[N, 6, 4]");
        assert_eq!(run(op(1, 0), "", &[arg(I4, "1")]).unwrap(), "i4[N, 6, 4]");
        assert!(run(op(1, 0), "6", &[arg(I64, "6")]).is_err());
        assert!(run(QuantizeLinear { to: F32, ..QuantizeLinear::default() }, "", &[]).is_err());
        assert!(run(op(1 << 62, usize::MAX), "N 6 1", &[]).is_err());
    }

    #[test]
    fn dequantize() {
        let run = |x, args: &[Arg]| types(DequantizeLinear::default(), &[&[arg(x, "N 6")], args].concat());
        assert_eq!(run(I8, &[arg(F16, "6"), arg(I8, "6")]).unwrap(), "f16[N, 6]");
        assert_eq!(run(I32, &[arg(F32, "")]).unwrap(), "f32[N, 6]");
        assert!(run(I8, &[arg(F32, ""), arg(U8, "")]).is_err());
        assert!(run(F32, &[arg(F32, "")]).is_err());
        assert_eq!(types(DynamicQuantizeLinear {}, &[arg(F32, "N")]).unwrap(), "u8[N] f32[] u8[]");
    }

    #[test]
    fn convolutions() {
        let x = || arg(U8, "N 3 8 8");
        let w = || arg(I8, "4 3 3 3");
        assert_eq!(types(ConvInteger::default(), &[x(), w(), arg(U8, ""), arg(I8, "4")]).unwrap(), "i32[N, 4, 6, 6]");
        assert!(types(ConvInteger::default(), &[x(), w(), arg(U8, ""), arg(I8, "3")]).is_err());
        assert!(types(ConvInteger::default(), &[x(), w(), arg(I8, "")]).is_err());
        let (s, b) = (|| arg(F32, ""), arg(I32, "4"));
        let args = [x(), s(), arg(U8, ""), w(), arg(F32, "4"), arg(I8, "4"), s(), arg(U8, ""), b];
        assert_eq!(types(QLinearConv::default(), &args).unwrap(), "u8[N, 4, 6, 6]");
        assert!(types(QLinearConv { group: 2, ..QLinearConv::default() }, &args).is_err());
    }

    #[test]
    fn products() {
        let run = |za, zb| types(MatMulInteger {}, &[arg(U8, "N 2 3"), arg(I8, "3 4"), arg(U8, za), arg(I8, zb)]);
        assert_eq!(run("", "4").unwrap(), "i32[N, 2, 4]");
        assert_eq!(run("2", "").unwrap(), "i32[N, 2, 4]");
        assert_eq!(run("N 2 1", "1 4").unwrap(), "i32[N, 2, 4]");
        assert!(run("3", "").is_err());
        assert!(run("", "3").is_err());
        assert!(run("2 3", "").is_err());
        let s = |shape| arg(F16, shape);
        let args = [arg(I8, "2 3"), s(""), arg(I8, ""), arg(I8, "3 4"), s("4"), arg(I8, "4"), s(""), arg(I8, "")];
        assert_eq!(types(QLinearMatMul {}, &args).unwrap(), "i8[2, 4]");
    }
}
