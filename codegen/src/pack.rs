//! Packing: constants in the form that kernels read.
//!
//! Planning only says how each constant is to be laid out. Packing comes after it, when the graph may be gone:
//! then each constant is let go as soon as it has been packed, so that weights are never all in memory twice.
//! Where the graph stays, since it is planned for several sets of shapes, its plans share what they pack alike.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use optc_ir::{Constant, ExecError, Tensor};

use crate::memory::Memory;

/// Makes memory of what it is given.
type Pack<T> = Box<dyn FnOnce(&T) -> Result<Memory, ExecError>>;

/// Lays out a constant.
pub(crate) enum Layout {
    /// Its elements.
    Elements(Pack<[f32]>),
    /// Whatever its encoding holds.
    Encoded(Pack<Constant>),
}

/// Numbers for kernels.
pub(crate) enum Packing {
    /// As they are.
    Numbers(Vec<f32>),
    /// An `f32` constant, laid out. The word tells layouts of one constant apart.
    Constant(Arc<Constant>, String, Layout),
    /// What is made of a constant of any type, by what knows it.
    Known(Arc<Constant>, String, Box<dyn FnOnce() -> Result<Memory, ExecError>>),
}

/// What has been packed for plans that are still there.
#[derive(Default)]
pub(crate) struct Packed {
    /// By the address of the constant, which is no other's as long as the reference to it lasts.
    known: HashMap<(usize, String), (Weak<Constant>, Weak<Memory>)>,
}

impl Packed {
    /// Packs everything, in order, but for what is there already. One thread does it all: allocators give each
    /// thread memory of its own, and what one of them frees others would not take again.
    ///
    /// # Errors
    /// If the machine has no room for it.
    pub(crate) fn pack(&mut self, packings: Vec<Packing>) -> Result<Vec<Arc<Memory>>, ExecError> {
        self.known.retain(|_, (_, memory)| memory.strong_count() > 0);
        packings.into_iter().map(|packing| self.one(packing)).collect()
    }

    fn one(&mut self, packing: Packing) -> Result<Arc<Memory>, ExecError> {
        let (constant, how, layout) = match packing {
            Packing::Numbers(numbers) => return Ok(Arc::new(Memory::copy(&numbers)?)),
            Packing::Constant(constant, how, layout) => (constant, how, layout),
            Packing::Known(constant, how, layout) => (constant, how, Layout::Encoded(Box::new(move |_| layout()))),
        };
        let key = (Arc::as_ptr(&constant).addr(), how);
        if let Some(memory) = self.known.get(&key).and_then(|(_, memory)| memory.upgrade()) {
            return Ok(memory);
        }
        let memory = match layout {
            Layout::Encoded(layout) => layout(&constant),
            Layout::Elements(layout) => with_numbers(&constant, layout).expect("the planner packs f32 constants"),
        };
        let memory = Arc::new(memory?);
        self.known.insert(key, (Arc::downgrade(&constant), Arc::downgrade(&memory)));
        Ok(memory)
    }
}

/// What comes of the elements of a constant, which are copied only if they are encoded; `None` if they are not `f32`.
pub(crate) fn with_numbers<T>(constant: &Constant, f: impl FnOnce(&[f32]) -> T) -> Option<T> {
    match constant.as_dense() {
        Some(elements) => elements.as_f32().map(f),
        None => constant.decode().as_f32().map(f),
    }
}

/// The tensors of constants, copied only if somebody else has them too.
pub(crate) fn tensors(constants: Vec<Arc<Constant>>) -> Vec<Tensor> {
    let tensor = |constant| Arc::try_unwrap(constant).map_or_else(|shared| shared.decode(), Constant::into_tensor);
    constants.into_iter().map(tensor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_alike_is_packed_once() {
        let constant = |x: f32| Arc::new(Constant::dense(Tensor::f32([2], [x, 2.0])));
        let packing = |constant: &Arc<Constant>, how: &str| {
            vec![Packing::Constant(constant.clone(), how.to_owned(), Layout::Elements(Box::new(Memory::copy)))]
        };
        let (a, b) = (constant(1.0), constant(1.0));
        let mut packed = Packed::default();
        let mut pack = |constant: &Arc<Constant>, how| packed.pack(packing(constant, how)).unwrap().remove(0);
        let first = pack(&a, "plain");
        assert!(Arc::ptr_eq(&first, &pack(&a, "plain")), "the same");
        assert!(!Arc::ptr_eq(&first, &pack(&a, "otherwise")), "another layout");
        assert!(!Arc::ptr_eq(&first, &pack(&b, "plain")), "another constant");
        let gone = Arc::downgrade(&first);
        drop(first);
        assert!(gone.upgrade().is_none(), "nobody else keeps it");
        assert_eq!(pack(&a, "plain").numbers()[..2], [1.0, 2.0]);
    }
}
