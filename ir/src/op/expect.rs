//! Expectations that type rules share: an operand has a certain element type and shape, or there is a
//! [`TypeError`] that names it.

use super::infer::Args;
use crate::error::TypeError;
use crate::types::{DType, Dim, TensorType};

/// A required operand of floating-point elements.
pub(super) fn float<'a>(args: &Args<'a>, slot: usize) -> Result<&'a TensorType, TypeError> {
    let ty = args.ty(slot)?;
    if ty.dtype.is_float() { Ok(ty) } else { Err(args.expected(slot, "floating-point elements")) }
}

/// A required operand of floating-point or integer elements.
pub(super) fn number<'a>(args: &Args<'a>, slot: usize) -> Result<&'a TensorType, TypeError> {
    let ty = args.ty(slot)?;
    if ty.dtype == DType::Bool { Err(args.expected(slot, "numbers")) } else { Ok(ty) }
}

/// A required operand with elements of this type.
pub(super) fn typed<'a>(args: &Args<'a>, slot: usize, dtype: DType) -> Result<&'a TensorType, TypeError> {
    let ty = args.ty(slot)?;
    if ty.dtype == dtype { Ok(ty) } else { Err(args.expected(slot, format!("{dtype} elements"))) }
}

/// That operand `slot`, if present, has this element type and no extent that contradicts `shape`.
pub(super) fn shaped(args: &Args<'_>, slot: usize, dtype: DType, shape: &[Dim]) -> Result<(), TypeError> {
    let Some(ty) = args.get_ty(slot) else { return Ok(()) };
    if ty.dtype == dtype && fits(&ty.shape, shape) {
        return Ok(());
    }
    Err(args.expected(slot, TensorType::new(dtype, shape.iter().cloned()).to_string()))
}

/// Whether two shapes may be the same.
pub(super) fn fits(a: &[Dim], b: &[Dim]) -> bool {
    a.len() == b.len() && !a.iter().zip(b).any(|(a, b)| a.differs(b))
}

/// That operand `slot`, if present, has this element type and broadcasts to `shape` without widening it.
pub(super) fn broadcasts(args: &Args<'_>, slot: usize, dtype: DType, shape: &[Dim]) -> Result<(), TypeError> {
    let Some(ty) = args.get_ty(slot) else { return Ok(()) };
    let narrow = |(have, want): (&Dim, &Dim)| *have == Dim::Fixed(1) || !have.differs(want);
    if ty.dtype == dtype && ty.rank() <= shape.len() && ty.shape.iter().rev().zip(shape.iter().rev()).all(narrow) {
        return Ok(());
    }
    let wide = TensorType::new(dtype, shape.iter().cloned());
    Err(args.expected(slot, format!("a tensor that broadcasts to {wide}")))
}
