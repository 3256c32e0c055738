//! Errors of reading and writing ONNX: the user's names first, then what is wrong.

use std::fmt;
use std::path::PathBuf;

use optc_ir::TypeError;
use thiserror::Error;

/// A model that can't be imported.
#[derive(Debug, Error)]
#[error("{}{}{kind}", Prefix(.file.as_deref().map(std::path::Path::display)), NodePrefix(.node.as_deref(), .op_type))]
#[non_exhaustive]
pub struct ImportError {
    /// The file, if the model came from one.
    pub file: Option<PathBuf>,
    /// Name of the node at fault, if one is; its first output where it has no name.
    pub node: Option<String>,
    /// Operator of that node.
    pub op_type: String,
    /// What is wrong.
    #[source]
    pub kind: ImportErrorKind,
}

/// What is wrong with a model.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportErrorKind {
    /// A file can't be read.
    #[error("can't be read: {0}")]
    Io(std::io::Error),
    /// The bytes are not the protocol buffer they should be.
    #[error("not an ONNX model: {0}")]
    Malformed(String),
    /// There is no graph in the model.
    #[error("the model holds no graph")]
    NoGraph,
    /// A tensor contradicts itself.
    #[error("tensor {name}: {message}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// External data that is absent, too short or outside the model's folder.
    #[error("external data of tensor {name}: {message}")]
    External {
        /// Name of the tensor.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A declared type that no value can have.
    #[error("value {name}: {message}")]
    Value {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A value is used that nothing defines before.
    #[error("value {0} is not defined before its use")]
    Undefined(String),
    /// Two definitions of one name.
    #[error("value {0} is defined twice")]
    Redefined(String),
    /// A function that can't be expanded.
    #[error("function {name}: {message}")]
    Function {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A size beyond what any sound model has.
    #[error("{0}")]
    Limit(String),
    /// The operands do not fit a node that has to be imported as it is.
    #[error(transparent)]
    Type(#[from] TypeError),
}

impl From<ImportErrorKind> for ImportError {
    fn from(kind: ImportErrorKind) -> ImportError {
        ImportError { file: None, node: None, op_type: String::new(), kind }
    }
}

/// A graph that can't be written as an ONNX model of its opset.
#[derive(Debug, Error)]
#[error("{}{kind}", NodePrefix(.node.as_deref(), .op))]
#[non_exhaustive]
pub struct ExportError {
    /// Name of the node at fault, if one is.
    pub node: Option<String>,
    /// Operator of that node.
    pub op: String,
    /// What is wrong.
    #[source]
    pub kind: ExportErrorKind,
}

/// Why a graph can't be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportErrorKind {
    /// The operator, or this form of it, came into ONNX later than the model's opset.
    #[error("{what} needs opset {need}, the model imports opset {have}")]
    Opset {
        /// The operator or attribute.
        what: String,
        /// The first opset that has it.
        need: i64,
        /// The opset of the model.
        have: i64,
    },
    /// ONNX has no form for this.
    #[error("{0}")]
    Inexpressible(String),
    /// The origin that the importer left in the graph is damaged.
    #[error("the origin of the graph is damaged: {0}")]
    Origin(String),
    /// The message would exceed what a protocol buffer may hold.
    #[error("the model would take {0} bytes, a protocol buffer holds at most 2147483647")]
    TooLarge(u64),
}

impl From<ExportErrorKind> for ExportError {
    fn from(kind: ExportErrorKind) -> ExportError {
        ExportError { node: None, op: String::new(), kind }
    }
}

struct Prefix<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Prefix<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |part| write!(f, "{part}: "))
    }
}

struct NodePrefix<'a>(Option<&'a str>, &'a str);

impl fmt::Display for NodePrefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |node| write!(f, "node {node} ({}): ", self.1))
    }
}
