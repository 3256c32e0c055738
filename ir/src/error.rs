//! Errors of this crate: what is wrong, and where.

use thiserror::Error;

/// Operands or attributes that do not fit an operator.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TypeError {
    /// A required operand is absent.
    #[error("operand {slot} ({name}) is missing")]
    Missing {
        /// Position of the operand.
        slot: usize,
        /// Its name.
        name: String,
    },
    /// More operands than the operator takes.
    #[error("{got} operands given, at most {max} taken")]
    TooMany {
        /// How many there are.
        got: usize,
        /// How many there may be.
        max: usize,
    },
    /// An operand of a wrong type.
    #[error("operand {slot} ({name}) has type {got}, expected {expected}")]
    Operand {
        /// Position of the operand.
        slot: usize,
        /// Its name.
        name: String,
        /// Its type.
        got: String,
        /// What it should be.
        expected: String,
    },
    /// Shapes that do not go together.
    #[error("{0}")]
    Shapes(String),
    /// An attribute that does not fit.
    #[error("{0}")]
    Attribute(String),
    /// A result beyond any memory.
    #[error("a result of type {0} is too large")]
    TooLarge(String),
}

/// A textual graph that can't be read.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, or what was expected.
    pub message: String,
}

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("%{node}: {message}\n    {line}")]
pub struct VerifyError {
    /// The node's name.
    pub node: String,
    /// Its printed line.
    pub line: String,
    /// What is wrong.
    pub message: String,
}

/// Every invariant a graph breaks.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct VerifyErrors(pub Vec<VerifyError>);

/// Parts that do not make a constant, or values an encoding can't hold exactly.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ConstantError {
    /// Lengths, codes or indices contradict each other.
    #[error("malformed constant: {0}")]
    Malformed(String),
    /// The encoding does not give these values back.
    #[error("the values can't be encoded exactly as {0}")]
    Inexact(String),
}

/// One operator that can't be evaluated on these operands.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The operands do not fit the operator.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// No rule for this operator, element type or attribute.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// An element is out of its range, such as an index.
    #[error("{0}")]
    Value(String),
}

/// A graph that can't be compiled or run.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ExecError {
    /// A node that can't be run.
    #[error("node {node} ({op}): {source}")]
    Node {
        /// The node's name.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        source: EvalError,
    },
    /// Inputs that do not fit the signature.
    #[error("{0}")]
    Signature(String),
    /// The backend failed: a bug, or the machine refused memory.
    #[error("{0}")]
    Backend(String),
}
