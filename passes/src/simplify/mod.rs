//! Passes that make a graph smaller without changing its function.

mod affine;
mod eliminate_dead_code;
mod fold_batch_norm;

pub use eliminate_dead_code::EliminateDeadCode;
pub use fold_batch_norm::FoldBatchNorm;
