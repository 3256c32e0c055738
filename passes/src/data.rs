//! Inputs to measure on, as the passes see them.

use std::ops::Range;

use optc_ir::interp::eval;
use optc_ir::op::Concat;
use optc_ir::{Op, Tensor};
use thiserror::Error;

/// Samples to run a model on. Formats are the frontend's business.
pub trait Dataset: Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples of a range as one batch: a tensor per graph input, in signature order.
    ///
    /// # Errors
    /// [`DataError`] if they can't be read.
    fn batch(&self, samples: Range<usize>) -> Result<Vec<Tensor>, DataError>;

    /// These samples as one batch, in this order.
    ///
    /// # Errors
    /// [`DataError`] if they can't be read, or are of different types.
    fn select(&self, samples: &[usize]) -> Result<Vec<Tensor>, DataError> {
        let single = |&sample: &usize| self.batch(sample..sample + 1);
        join(samples.iter().map(single).collect::<Result<_, _>>()?)
    }

    /// The class of each sample, if the data is labelled.
    fn labels(&self) -> Option<&[u32]>;
}

/// Batches one after the other as one: tensors joined along their first axis.
fn join(batches: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>, DataError> {
    let Some(first) = batches.first() else { return Err(DataError("a batch of no samples".to_owned())) };
    (0..first.len())
        .map(|i| {
            let parts: Vec<&Tensor> = batches.iter().filter_map(|batch| batch.get(i)).collect();
            let concat = Op::from(Concat { axis: 0 });
            let joined = eval(&concat, &parts.into_iter().map(Some).collect::<Vec<_>>());
            joined.map_err(|e| DataError(e.to_string()))?.pop().ok_or_else(|| DataError("nothing".to_owned()))
        })
        .collect()
}

/// Data that can't be read.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{0}")]
pub struct DataError(pub String);
