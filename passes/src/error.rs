//! Errors of this crate.

use optc_ir::{ExecError, VerifyErrors};
use thiserror::Error;

use crate::data::DataError;

/// A pass that could not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum PassError {
    /// A node stands in the way.
    #[error("{pass}: node {node}: {message}")]
    Node {
        /// The pass.
        pass: &'static str,
        /// The node's name.
        node: String,
        /// What is wrong.
        message: String,
    },
    /// The graph as a whole, or the options, stand in the way.
    #[error("{pass}: {message}")]
    Graph {
        /// The pass.
        pass: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A graph that had to be run could not.
    #[error(transparent)]
    Exec(#[from] Box<ExecError>),
    /// Data that had to be read could not.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The pass broke the graph: a bug of the pass.
    #[error("{pass} left an invalid graph; this is a bug in the pass\n{errors}")]
    Broken {
        /// The pass.
        pass: &'static str,
        /// The invariants broken.
        errors: VerifyErrors,
    },
    /// The pass changed the signature: a bug of the pass.
    #[error("{pass} changed the signature of the graph; this is a bug in the pass")]
    Signature {
        /// The pass.
        pass: &'static str,
    },
    /// A pass moved the results further than it declared.
    #[error("{pass} claims to be {effect}, but result {result} moved by {error:.3e}")]
    Effect {
        /// The pass.
        pass: &'static str,
        /// What it declared.
        effect: crate::pass::Effect,
        /// The name of the result.
        result: String,
        /// The largest relative error.
        error: f64,
    },
}

impl From<ExecError> for PassError {
    fn from(error: ExecError) -> PassError {
        Box::new(error).into()
    }
}

/// A pipeline or an option that can't be understood.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{0}")]
pub struct OptionError(pub String);
