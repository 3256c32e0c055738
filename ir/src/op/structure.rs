//! What makes a graph a graph: inputs, results, and what is carried without being understood.

use crate::types::{TensorType, Type};

/// A graph input.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Its declared type.
    pub ty: Type,
}

/// The results of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Return {
    /// Their names, in signature order.
    pub names: Vec<String>,
}

/// A constant whose elements a textual dump left out. Such a graph prints, compares and verifies,
/// but does not run.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstHash {
    /// Its type.
    pub ty: TensorType,
    /// The encoding as printed, empty if dense.
    pub encoding: String,
    /// Hash of the decoded elements.
    pub hash: u32,
    /// The trailing comment of the dump: counts and bytes.
    pub note: String,
}

/// A node of the source format, carried verbatim: an operator optc does not know, a custom domain,
/// control flow with its subgraphs, a constant of a type that is not ours.
///
/// A barrier to every pass. Its operands are its inputs and then whatever its subgraphs capture.
#[derive(Clone, Debug, PartialEq)]
pub struct Opaque {
    /// Operator domain; empty for the standard one.
    pub domain: String,
    /// Operator name in the source format.
    pub op_type: String,
    /// Result types, as far as the source file tells.
    pub results: Vec<Type>,
    /// The node in the source format's own bytes; only the frontend that wrote them reads them.
    pub payload: Vec<u8>,
}
