//! What can go wrong in training.

use optc_ir::{ExecError, TypeError, VerifyErrors};
use thiserror::Error;

use crate::data::DataError;
use crate::error::PassError;

/// A model that can't be trained as asked.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A node stands in the way.
    #[error("node {node} ({op}): {message}")]
    Node {
        /// Its name.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        message: String,
    },
    /// Options that contradict each other or the model.
    #[error("{0}")]
    Options(String),
    /// A batch that does not fit the step.
    #[error("{0}")]
    Batch(String),
    /// A state that is not of this training.
    #[error("state: {0}")]
    State(String),
    /// A loss that is no number any more.
    #[error("the loss is {loss} after step {step}; try a smaller learning rate or a clipped gradient")]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// An operator that its own gradient does not fit: a bug.
    #[error("gradient of node {node} ({op}): {source}")]
    Rule {
        /// Name of the node whose gradient it is.
        node: String,
        /// The operator that does not fit.
        op: String,
        /// What is wrong.
        source: TypeError,
    },
    /// A training graph that is not sound: a bug.
    #[error("the training graph is not sound: {0}")]
    Verify(#[from] VerifyErrors),
    /// The step can't be compiled or run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// Data that can't be read.
    #[error(transparent)]
    Data(#[from] DataError),
}
