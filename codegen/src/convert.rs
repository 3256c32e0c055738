//! Integers and truth values as `f32` numbers: where a model goes from indices and conditions to arithmetic.
//!
//! `y = x`, rounded to the nearest `f32`; a truth value is 0 or 1. Kernels know `f32` alone, so the elements are
//! read where the interpreter keeps them and written where kernels find them, without a tensor in between.

use optc_ir::{DType, Data};

use crate::plan::Home;

/// A conversion in a plan. The result lies in order of its axes.
#[derive(Clone, Debug)]
pub(crate) struct Convert {
    pub(crate) from: Home,
    /// The buffer of the result.
    pub(crate) to: usize,
}

/// Whether [`convert`] knows the elements.
pub(crate) fn converts(dtype: DType) -> bool {
    matches!(dtype, DType::I64 | DType::I32 | DType::U8 | DType::Bool)
}

/// Writes elements of a type that [`converts`] as numbers.
pub(crate) fn convert(from: &Data, to: &mut [f32]) {
    fn each<T: Copy>(from: &[T], to: &mut [f32], number: impl Fn(T) -> f32) {
        to.iter_mut().zip(from).for_each(|(to, &x)| *to = number(x));
    }
    match from {
        Data::I64(v) => each(v, to, |x| x as f32),
        Data::I32(v) => each(v, to, |x| x as f32),
        Data::U8(v) => each(v, to, f32::from),
        Data::Bool(v) => each(v, to, |x| f32::from(u8::from(x))),
        other => unreachable!("the planner converts no {}", other.dtype()),
    }
}
