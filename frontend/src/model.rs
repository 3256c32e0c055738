//! Models from files and into files, whatever the format.

use std::path::Path;

use optc_ir::text::{PrintOptions, parse, print};
use optc_ir::{Graph, Remark};

use crate::error::Error;
use crate::files::{self, Format};
use crate::{onnx, pack};

/// The bytes of a file that tell its format.
const HEAD: u64 = 4096;

/// A model as it came from a file.
#[derive(Clone, Debug)]
pub struct Model {
    /// The graph.
    pub graph: Graph,
    /// The format of the file.
    pub format: Format,
    /// The size of the file.
    pub bytes: u64,
    /// What the importer has to say: which nodes it carried without knowing them, and why.
    pub remarks: Vec<Remark>,
}

/// Reads a model, telling the format by the contents of the file.
///
/// # Errors
/// [`Error`] naming the file, and within it the node or line at fault.
pub fn open(path: &Path) -> Result<Model, Error> {
    let head = files::read_head(path, HEAD)?;
    let bytes = std::fs::metadata(path).map_err(|source| Error::file(path, source))?.len();
    let format = Format::of_contents(&head, path);
    let (graph, remarks) = match format {
        Format::Onnx => {
            let imported = onnx::import_file_with_remarks(path)?;
            (imported.graph, imported.remarks)
        }
        Format::Optc => {
            let graph = pack::read(&files::read(path)?);
            (graph.map_err(|source| Error::Unpack { path: path.to_owned(), source })?, Vec::new())
        }
        Format::Ir => {
            let in_file = |source| Error::Text { path: path.to_owned(), source };
            let text = String::from_utf8(files::read(path)?)
                .map_err(|e| in_file(optc_ir::ParseError { line: 1, column: 1, message: format!("not text: {e}") }))?;
            (parse(&text).map_err(in_file)?, Vec::new())
        }
    };
    Ok(Model { graph, format, bytes, remarks })
}

/// Reads a model: ONNX, `.optc`, or the textual form.
///
/// # Errors
/// As [`open`].
pub fn load(path: impl AsRef<Path>) -> Result<Graph, Error> {
    open(path.as_ref()).map(|model| model.graph)
}

/// Writes a model in the format of the file's suffix: `.onnx`, `.optc` or `.ir`.
///
/// # Errors
/// [`Error`] if the suffix is none of these, the format can't say what the graph does, or the file can't
/// be written; then the file is as it was.
pub fn save(graph: &Graph, path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    let format = Format::of_path(path)
        .ok_or_else(|| Error::Usage(format!("{}: the suffix is none of .onnx, .optc, .ir", path.display())))?;
    files::write(path, &to_bytes(graph, format)?)
}

/// The bytes of a model file. Text is complete: it reads back as an equal graph.
///
/// # Errors
/// [`Error`] if the format can't say what the graph does.
pub fn to_bytes(graph: &Graph, format: Format) -> Result<Vec<u8>, Error> {
    Ok(match format {
        Format::Onnx => onnx::export(graph)?,
        Format::Optc => pack::write(graph, &pack::PackOptions::default())?.0,
        Format::Ir => print(graph, &PrintOptions::lossless()).into_bytes(),
    })
}
