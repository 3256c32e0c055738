//! External data: tensors whose bytes lie in other files of the model's folder.
//!
//! A location is a path relative to that folder that stays in it, symbolic links resolved. Offset and length
//! are checked against the file before anything is read, and no file is read more often than a sound model
//! needs, so that memory stays in proportion to what lies on disk.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use onnx_protobuf::tensor_proto::DataLocation;
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use protobuf::EnumOrUnknown;

use super::error::{ImportError, ImportErrorKind};
use super::{tensor, types};

/// How many times the size of an external file may be read from it: weights may be shared.
const MAX_REREADS: u64 = 8;

/// Loads every external tensor of a model into the model.
///
/// # Errors
/// If a location leaves the folder, or a file is absent or too short.
pub(super) fn load(model: &mut ModelProto, folder: Option<&Path>) -> Result<(), ImportError> {
    let mut loader = Loader { folder, read: HashMap::new() };
    if let Some(graph) = model.graph.as_mut() {
        loader.graph(graph)?;
    }
    for function in &mut model.functions {
        for attr in &mut function.attribute_proto {
            loader.attribute(attr)?;
        }
        for node in &mut function.node {
            loader.node(node)?;
        }
    }
    for training in &mut model.training_info {
        for graph in training.initialization.as_mut().into_iter().chain(training.algorithm.as_mut()) {
            loader.graph(graph)?;
        }
    }
    Ok(())
}

struct Loader<'a> {
    folder: Option<&'a Path>,
    read: HashMap<PathBuf, u64>,
}

impl Loader<'_> {
    fn graph(&mut self, graph: &mut GraphProto) -> Result<(), ImportError> {
        for tensor in &mut graph.initializer {
            self.tensor(tensor)?;
        }
        for sparse in &mut graph.sparse_initializer {
            for tensor in sparse.values.as_mut().into_iter().chain(sparse.indices.as_mut()) {
                self.tensor(tensor)?;
            }
        }
        graph.node.iter_mut().try_for_each(|node| self.node(node))
    }

    /// An error names the innermost node around a tensor, which often has no name of its own.
    fn node(&mut self, node: &mut NodeProto) -> Result<(), ImportError> {
        let NodeProto { attribute, name, output, op_type, .. } = node;
        attribute.iter_mut().try_for_each(|attr| self.attribute(attr)).map_err(|mut error| {
            if error.node.is_none() {
                error.node =
                    Some(if name.is_empty() { output.first().cloned().unwrap_or_default() } else { name.clone() });
                error.op_type.clone_from(op_type);
            }
            error
        })
    }

    fn attribute(&mut self, attr: &mut AttributeProto) -> Result<(), ImportError> {
        for tensor in attr.t.as_mut().into_iter().chain(&mut attr.tensors) {
            self.tensor(tensor)?;
        }
        for sparse in attr.sparse_tensor.as_mut().into_iter().chain(&mut attr.sparse_tensors) {
            for tensor in sparse.values.as_mut().into_iter().chain(sparse.indices.as_mut()) {
                self.tensor(tensor)?;
            }
        }
        for graph in attr.g.as_mut().into_iter().chain(&mut attr.graphs) {
            self.graph(graph)?;
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &mut TensorProto) -> Result<(), ImportErrorKind> {
        if tensor.data_location.enum_value_or_default() != DataLocation::EXTERNAL {
            return Ok(());
        }
        tensor.raw_data = self.bytes(tensor).map_err(|message| {
            let name = if tensor.name.is_empty() { "(unnamed)" } else { &tensor.name };
            ImportErrorKind::External { name: name.to_owned(), message }
        })?;
        tensor.external_data.clear();
        tensor.data_location = EnumOrUnknown::default();
        Ok(())
    }

    fn bytes(&mut self, tensor: &TensorProto) -> Result<Vec<u8>, String> {
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text.trim().parse::<u64>().map(Some).map_err(|_| format!("{key} {text:?} is not a number")),
        };
        let location = entry("location").ok_or("no location is given")?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let path = self.resolve(location)?;
        let size = fs::metadata(&path).map_err(|e| format!("{location}: {e}"))?.len();
        let available = size
            .checked_sub(offset)
            .ok_or_else(|| format!("offset {offset} is beyond the end of {location} ({size} bytes)"))?;
        let needed = match types::dtype(tensor.data_type) {
            Some(dtype) => {
                let (_, len) = tensor::shape(&tensor.dims)?;
                let needed = u64::try_from(dtype.bytes(len)).unwrap_or(u64::MAX);
                if length.is_some_and(|length| length != needed) {
                    return Err(format!("length {} is given, the shape needs {needed}", length.unwrap_or(0)));
                }
                needed
            }
            None => length.unwrap_or(available),
        };
        if needed > available {
            return Err(format!("{needed} bytes at offset {offset} exceed {location} ({size} bytes)"));
        }
        let read = self.read.entry(path.clone()).or_default();
        *read = read.saturating_add(needed);
        if *read > size.saturating_mul(MAX_REREADS) {
            return Err(format!("{location} is used more than {MAX_REREADS} times over"));
        }
        let io = |e: std::io::Error| format!("{location}: {e}");
        let mut file = File::open(&path).map_err(io)?;
        file.seek(SeekFrom::Start(offset)).map_err(io)?;
        let mut bytes = vec![0; usize::try_from(needed).map_err(|_| "the tensor is too large".to_owned())?];
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }

    /// The file a location names, if that lies in the model's folder.
    fn resolve(&self, location: &str) -> Result<PathBuf, String> {
        let folder = self.folder.ok_or("the model has no folder, it was read from memory")?;
        let relative = Path::new(location);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !plain {
            return Err(format!("location {location:?} is not a path within the model's folder"));
        }
        let io = |e: std::io::Error| format!("{location}: {e}");
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let folder = folder.canonicalize().map_err(io)?;
        let path = folder.join(relative).canonicalize().map_err(io)?;
        if !path.starts_with(&folder) {
            return Err(format!("location {location:?} leads out of the model's folder"));
        }
        if !fs::metadata(&path).map_err(io)?.is_file() {
            return Err(format!("{location} is not a file"));
        }
        Ok(path)
    }
}
