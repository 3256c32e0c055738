//! ONNX models in and out.
//!
//! **Import** ([`import_file`], [`import_bytes`]) reads opsets 7 to 22 (newer ones as far as their operators
//! are unchanged, older ones carried) into an [`optc_ir::Graph`]. Whatever the IR can't say becomes an opaque
//! node that holds the ONNX node verbatim, so a valid model never fails to import. Functions of the model are
//! expanded, an `If` whose condition is known is replaced by the branch it takes, other graphs within nodes
//! are carried with the values they capture as operands.
//!
//! **Quantized models** have one form in the graph. Operators from codes to codes, ONNX's `QLinearConv` and
//! `QLinearMatMul` and those that onnxruntime's quantizer writes in its own domain `com.microsoft`, become
//! `dequantize_linear`, the operator on numbers and `quantize_linear`, and are written so; what only moves codes that
//! were just quantized does so, too. Products of codes that are sums of integers afterwards (`MatMulInteger`,
//! `ConvInteger`, with `DynamicQuantizeLinear` before them) are operators of the graph. In opsets before 13, whose
//! `DequantizeLinear` has one scale, a convolution of weights with a scale a channel is written as `QLinearConv` again.
//!
//! **Names.** Inputs and initializers keep theirs. A node is called as in the file if that name is unique and
//! no value's, and as its first output otherwise.
//!
//! **Export** ([`export`]) writes each operator in the form of the model's own opset and restores everything
//! the graph does not hold (opset imports, metadata, documentation, declared types, functions, names of inner
//! values) from [`optc_ir::graph::Origin`]. A graph that was not imported from ONNX is written for opset
//! [`DEFAULT_OPSET`] in version [`DEFAULT_IR_VERSION`] of the format. Operators that passes create and that
//! the opset lacks are written as several that it has.
//!
//! **Limits.** Sizes in a file are believed only after they are compared with the bytes that are there.
//! Groups of the wire format, deep nesting, functions that expand without bound and external data outside the
//! model's folder are refused.
#![deny(clippy::as_conversions)]

mod attrs;
mod constants;
mod error;
mod export;
mod external;
mod fold;
mod functions;
mod header;
mod import;
mod ops;
mod presence;
mod source;
mod split;
mod subgraph;
mod target;
mod tensor;
mod types;
mod wire;

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use onnx_protobuf::{Message, ModelProto};
use optc_ir::{Graph, Remark};

pub use error::{ExportError, ExportErrorKind, ImportError, ImportErrorKind};
pub use export::Exported;

/// The opset of models that were not imported from ONNX.
pub const DEFAULT_OPSET: i64 = 21;

/// The version of the format of models that were not imported from ONNX: the first that allows
/// [`DEFAULT_OPSET`].
pub const DEFAULT_IR_VERSION: i64 = 10;

/// The name of the format in a graph's origin.
const FORMAT: &str = "onnx";

/// A graph, and a note for each node that was carried unchanged.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph.
    pub graph: Graph,
    /// Which nodes the IR can't say, and why.
    pub remarks: Vec<Remark>,
}

/// What the metadata of a model say under a key (`metadata_props` of the format).
///
/// # Errors
/// If the header of the graph is damaged.
pub fn metadata(graph: &Graph, key: &str) -> Result<Option<String>, ExportError> {
    header::metadata(graph, key)
}

/// Puts an entry into the metadata of a model, in place of one with the same key.
///
/// # Errors
/// If the header of the graph is damaged.
pub fn set_metadata(graph: &mut Graph, key: &str, value: &str) -> Result<(), ExportError> {
    header::set_metadata(graph, key, value)
}

/// Imports the model in a file. External data must lie in the same folder or below.
///
/// # Errors
/// [`ImportError`] naming the file, and the node or tensor that is not sound.
pub fn import_file(path: &Path) -> Result<Graph, ImportError> {
    import_file_with_remarks(path).map(|imported| imported.graph)
}

/// [`import_file`], telling what was carried unchanged.
///
/// # Errors
/// As [`import_file`].
pub fn import_file_with_remarks(path: &Path) -> Result<Imported, ImportError> {
    let read = || {
        let file = File::open(path).map_err(ImportErrorKind::Io)?;
        let len = file.metadata().map_err(ImportErrorKind::Io)?.len();
        import_from(&mut BufReader::new(file), len, path.parent())
    };
    read().map_err(|error| ImportError { file: Some(path.to_owned()), ..error })
}

/// Imports a model from memory. External data is looked for in `folder`; without one it is an error.
///
/// # Errors
/// [`ImportError`] naming the node or tensor that is not sound.
pub fn import_bytes(bytes: &[u8], folder: Option<&Path>) -> Result<Graph, ImportError> {
    let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    import_from(&mut Cursor::new(bytes), len, folder).map(|imported| imported.graph)
}

/// Imports a model from so many bytes.
fn import_from(source: &mut (impl Read + Seek), len: u64, folder: Option<&Path>) -> Result<Imported, ImportError> {
    let (skeleton, mut payloads) = split::split(source, len)?;
    wire::check(&skeleton)?;
    let mut model = ModelProto::parse_from_bytes(&skeleton).map_err(|e| ImportErrorKind::Malformed(e.to_string()))?;
    drop(skeleton);
    external::load(&mut model, folder)?;
    let (graph, remarks) = import::import(model, &mut payloads)?;
    Ok(Imported { graph, remarks })
}

/// The ONNX model of a graph, all constants as dense initializers.
///
/// # Errors
/// [`ExportError`] naming the node that the model's opset can't say; or if the model exceeds 2 GiB.
pub fn export(graph: &Graph) -> Result<Vec<u8>, ExportError> {
    export::export(graph).map(Exported::into_bytes)
}

/// As [`export`], to be written piece by piece.
///
/// # Errors
/// As [`export`].
pub fn prepare_export(graph: &Graph) -> Result<Exported, ExportError> {
    export::export(graph)
}
