//! Inputs to measure on, as the passes see them.

use std::ops::Range;

use optc_ir::Tensor;
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

    /// The class of each sample, if the data is labelled.
    fn labels(&self) -> Option<&[u32]>;
}

/// Data that can't be read.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{0}")]
pub struct DataError(pub String);
