//! Packing: constants in the form that kernels read.
//!
//! Planning only says how each constant is to be laid out. Packing comes after it, when the graph may be gone:
//! then each constant is let go as soon as it has been packed, so that weights are never all in memory twice.

use std::sync::Arc;

use optc_ir::{Constant, Data, ExecError, Tensor};

use crate::memory::Memory;

/// Lays out the elements of a constant.
type Layout = Box<dyn FnOnce(&[f32]) -> Result<Memory, ExecError>>;

/// Numbers for kernels.
pub(crate) enum Packing {
    /// As they are.
    Numbers(Vec<f32>),
    /// The elements of an `f32` constant, laid out.
    Constant(Arc<Constant>, Layout),
}

impl Packing {
    fn pack(self) -> Result<Memory, ExecError> {
        match self {
            Packing::Numbers(numbers) => Memory::copy(&numbers),
            Packing::Constant(constant, layout) => match constant.as_dense().and_then(Data::as_f32) {
                Some(numbers) => layout(numbers),
                None => layout(constant.decode().as_f32().expect("the planner packs f32 constants")),
            },
        }
    }
}

/// Packs everything, in order. One thread does it all: allocators give each thread memory of its own, and what
/// one of them frees others would not take again.
///
/// # Errors
/// If the machine has no room for it.
pub(crate) fn pack(packings: Vec<Packing>) -> Result<Vec<Memory>, ExecError> {
    packings.into_iter().map(Packing::pack).collect()
}

/// The tensors of constants, copied only if somebody else has them too.
pub(crate) fn tensors(constants: Vec<Arc<Constant>>) -> Vec<Tensor> {
    let tensor = |constant| Arc::try_unwrap(constant).map_or_else(|shared| shared.decode(), Constant::into_tensor);
    constants.into_iter().map(tensor).collect()
}
