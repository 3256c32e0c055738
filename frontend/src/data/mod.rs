//! Data from files: arrays by name, samples that fit a model, labels, random inputs.
//!
//! What a file is follows from its first bytes, not from its name; `.gz` around any of them is undone.

mod augment;
mod batches;
mod idx;
mod images;
mod npy;
mod random;
mod samples;
mod scaling;
mod sets;

use std::io::Read;
use std::path::Path;

use optc_ir::{Graph, Tensor};
use thiserror::Error;

use crate::error::Error;
use crate::files;

pub use augment::Augment;
pub use batches::{Batch, Epoch};
pub use idx::read_idx;
pub use images::{Images, read_images};
pub use npy::{read_npy, read_npz, write_npy, write_npz};
pub use random::{Assumed, random_inputs};
pub use samples::Samples;
pub use scaling::Scaling;
pub use sets::{Held, LabelledSet, Part, locate};

/// The largest array file that is unpacked from `.gz`.
const MAX_UNPACKED: u64 = 1 << 34;

/// An array file that can't be read or written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ArrayError(String);

impl ArrayError {
    pub(crate) fn new(message: impl Into<String>) -> ArrayError {
        ArrayError(message.into())
    }
}

/// What a data file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrays {
    /// One array without a name: `.npy`, idx.
    One(Tensor),
    /// Named arrays: `.npz`.
    Named(Vec<(String, Tensor)>),
}

/// Reads a data file: `.npy`, `.npz` or idx, any of them under `.gz`.
///
/// # Errors
/// [`Error::Data`] naming the path.
pub fn read_arrays(path: &Path) -> Result<Arrays, Error> {
    let bytes = unpacked(path, files::read(path)?)?;
    let in_file = |e: ArrayError| Error::Data(format!("{}: {e}", path.display()));
    if npy::is_npy(&bytes) {
        read_npy(&bytes).map(Arrays::One)
    } else if npy::is_npz(&bytes) {
        read_npz(&bytes).map(Arrays::Named)
    } else if idx::is_idx(&bytes) {
        read_idx(&bytes).map(Arrays::One)
    } else {
        Err(ArrayError::new("not an .npy, .npz or idx file"))
    }
    .map_err(in_file)
}

/// What is in a `.gz`, or the bytes as they are.
fn unpacked(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(MAX_UNPACKED);
    let read = reader.read_to_end(&mut unpacked);
    read.map_err(|e| Error::Data(format!("{}: not a readable .gz: {e}", path.display())))?;
    Ok(unpacked)
}

/// The inputs of a model for one run, in signature order, by the names of an `.npz`. A file with one
/// nameless array serves a model with one input. Types and shapes must be the model's own.
///
/// # Errors
/// [`Error::Data`] naming the inputs that are missing, or the arrays that are no input.
pub fn read_inputs(path: &Path, graph: &Graph) -> Result<Vec<Tensor>, Error> {
    by_name(read_arrays(path)?, graph, &[]).map_err(|e| Error::Data(format!("{}: {e}", path.display())))
}

/// Puts arrays in signature order. Arrays named in `besides` may be there in addition.
fn by_name(arrays: Arrays, graph: &Graph, besides: &[&str]) -> Result<Vec<Tensor>, ArrayError> {
    let names: Vec<&str> = graph.inputs().iter().map(|&node| graph.name(node)).collect();
    let mut arrays = match arrays {
        Arrays::Named(arrays) => arrays,
        Arrays::One(tensor) => match names.as_slice() {
            [name] => vec![((*name).to_owned(), tensor)],
            _ => {
                let message = format!("one array given, the model takes {}: {}", names.len(), names.join(", "));
                return Err(ArrayError::new(format!("{message}; use an .npz with these names")));
            }
        },
    };
    let extra: Vec<&str> =
        arrays.iter().map(|(name, _)| name.as_str()).filter(|n| !names.contains(n) && !besides.contains(n)).collect();
    let missing: Vec<&str> = names.iter().copied().filter(|n| !arrays.iter().any(|(name, _)| name == n)).collect();
    let list = |what: &str, names: &[&str]| match names {
        [] => String::new(),
        names => format!("{what}: {}; ", names.join(", ")),
    };
    if !extra.is_empty() || !missing.is_empty() {
        let faults = list("missing", &missing) + &list("not an input", &extra);
        return Err(ArrayError::new(format!("{faults}the model takes {}", names.join(", "))));
    }
    let mut take = |name: &str| {
        let at = arrays.iter().position(|(n, _)| n == name).expect("no input is missing");
        arrays.swap_remove(at).1
    };
    Ok(names.iter().map(|name| take(name)).collect())
}

/// Reads class labels: integers, one a sample, in one array; of an `.npz` the array named `labels`,
/// `label` or `y`, or the only one.
///
/// # Errors
/// [`Error::Data`] if they are no labels.
pub fn read_labels(path: &Path) -> Result<Vec<u32>, Error> {
    let in_file = |e: ArrayError| Error::Data(format!("{}: {e}", path.display()));
    let tensor = match read_arrays(path)? {
        Arrays::One(tensor) => tensor,
        Arrays::Named(mut arrays) => {
            let at = match arrays.iter().position(|(name, _)| LABEL_NAMES.contains(&name.as_str())) {
                Some(at) => at,
                None if arrays.len() == 1 => 0,
                None => {
                    let names = LABEL_NAMES.join(", ");
                    return Err(in_file(ArrayError::new(format!("no array is named one of {names}"))));
                }
            };
            arrays.swap_remove(at).1
        }
    };
    labels_of(&tensor).map_err(in_file)
}

/// The names under which labels may stand in an `.npz`.
const LABEL_NAMES: &[&str] = &["labels", "label", "y"];

fn labels_of(tensor: &Tensor) -> Result<Vec<u32>, ArrayError> {
    if tensor.shape().iter().filter(|&&d| d != 1).count() > 1 {
        let message = format!("labels are one integer a sample, got an array of shape {:?}", tensor.shape());
        return Err(ArrayError::new(message));
    }
    let labels = tensor
        .data()
        .to_i64()
        .ok_or_else(|| ArrayError::new(format!("labels are integers, got elements of type {}", tensor.dtype())))?;
    let wrong = |x: i64| ArrayError::new(format!("label {x} is not a class index"));
    labels.into_iter().map(|x| u32::try_from(x).map_err(|_| wrong(x))).collect()
}

#[cfg(test)]
mod tests {
    use optc_ir::{DType, Type};

    use super::*;

    fn graph(inputs: &[&str]) -> Graph {
        let mut graph = Graph::new("g");
        for name in inputs {
            graph.add_input(name, Type::tensor(DType::F32, [1usize]));
        }
        graph
    }

    #[test]
    fn arrays_are_matched_by_name() {
        let named = |names: &[&str]| {
            let arrays = names.iter().enumerate();
            Arrays::Named(arrays.map(|(i, n)| ((*n).to_owned(), Tensor::i64([], [i as i64]))).collect())
        };
        let inputs = by_name(named(&["b", "a"]), &graph(&["a", "b"]), &[]).unwrap();
        assert_eq!(inputs, [Tensor::i64([], [1]), Tensor::i64([], [0])]);
        let error = by_name(named(&["a", "c"]), &graph(&["a", "b"]), &[]).unwrap_err();
        assert_eq!(error.to_string(), "missing: b; not an input: c; the model takes a, b");
        assert!(by_name(named(&["a", "y"]), &graph(&["a"]), LABEL_NAMES).is_ok());
        let error = by_name(Arrays::One(Tensor::i64([], [0])), &graph(&["a", "b"]), &[]).unwrap_err();
        assert!(error.to_string().contains("a, b"), "{error}");
    }

    #[test]
    fn labels_are_class_indices() {
        let column = Tensor::new([3, 1], optc_ir::Data::U8(vec![7, 2, 1]));
        assert_eq!(labels_of(&column).unwrap(), [7, 2, 1]);
        assert!(labels_of(&Tensor::i64([2], [1, -1])).is_err());
        assert!(labels_of(&Tensor::f32([1], [1.0])).is_err());
        assert!(labels_of(&Tensor::i64([2, 2], [0, 1, 1, 0])).is_err());
    }

    #[test]
    fn gzip_is_undone() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gz");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&write_npy(&Tensor::i64([1], [5]))).unwrap();
        std::fs::write(&path, gz.finish().unwrap()).unwrap();
        assert_eq!(read_arrays(&path).unwrap(), Arrays::One(Tensor::i64([1], [5])));
        assert!(read_arrays(&dir.path().join("absent")).unwrap_err().to_string().contains("absent"));
    }
}
