//! Models from files and into files, whatever the format, and on to something that runs.

use std::path::Path;

use optc_ir::text::{PrintOptions, parse, print};
use optc_ir::{Dim, Graph, Interp, Remark, Type};
use optc_passes::{PassManager, pipeline};

use crate::compiled::{Algorithms, CompileOptions, Compiled};
use crate::data;
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

impl Model {
    /// Reads a model, telling the format by the contents of the file.
    ///
    /// # Errors
    /// [`Error`] naming the file, and within it the node or line at fault.
    pub fn load(path: impl AsRef<Path>) -> Result<Model, Error> {
        let path = path.as_ref();
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
                let text = String::from_utf8(files::read(path)?).map_err(|e| {
                    in_file(optc_ir::ParseError { line: 1, column: 1, message: format!("not text: {e}") })
                })?;
                (parse(&text).map_err(in_file)?, Vec::new())
            }
        };
        Ok(Model { graph, format, bytes, remarks })
    }

    /// Fixes open dimensions by their symbols.
    ///
    /// # Errors
    /// [`Error::Usage`] naming a symbol the model does not have, or the node that an extent does not suit.
    pub fn bind(&mut self, bindings: &[(String, usize)]) -> Result<(), Error> {
        if bindings.is_empty() {
            return Ok(());
        }
        let open = open_dims(&self.graph);
        for (dim, _) in bindings {
            if !open.contains(dim) {
                let known =
                    if open.is_empty() { "it has none".to_owned() } else { format!("they are {}", open.join(", ")) };
                return Err(Error::Usage(format!("the model has no open dimension {dim}; {known}")));
            }
        }
        let bindings: Vec<(&str, usize)> = bindings.iter().map(|(dim, n)| (dim.as_str(), *n)).collect();
        self.graph.bind(&bindings).map_err(|(node, error)| {
            let list: Vec<String> = bindings.iter().map(|(dim, n)| format!("{dim}={n}")).collect();
            Error::Usage(format!("binding {}: node {node}: {error}", list.join(",")))
        })
    }

    /// Makes the graph one of fewer nodes that computes the same function: the preset `fuse`. Nothing is kept of
    /// the graph before, so that weights which change are never in memory twice.
    ///
    /// # Errors
    /// [`Error::Pass`] naming the pass that failed or broke the graph, a bug of that pass; the graph is half done
    /// then.
    pub fn simplify(&mut self, seed: u64) -> Result<(), Error> {
        let mut manager = PassManager::new(&Interp);
        manager.seed = seed;
        let fuse = pipeline::preset("fuse").expect("the preset is there");
        Ok(manager.run_in_place(&fuse, &mut self.graph)?)
    }

    /// Makes the model one that runs, for these options. The model is gone then, and with it all constants in
    /// a form that does not serve to run it: clone it first to keep it.
    ///
    /// # Errors
    /// [`Error`] naming the dimension, pass or node at fault.
    pub fn compile(mut self, options: &CompileOptions) -> Result<Compiled, Error> {
        self.prepare(options)?;
        let selection = match options.algorithms {
            Algorithms::Tuned => {
                let (inputs, _) = data::random_inputs(&self.graph, options.seed)?;
                options.select(&self.graph, &inputs, &mut |_| {})?.0
            }
            Algorithms::Modelled | Algorithms::Dense => options.select(&self.graph, &[], &mut |_| {})?.0,
        };
        Compiled::new(self.graph, &*options.backend_with(selection))
    }

    /// Makes the graph the one that is run: dimensions bound, simplified if asked.
    pub(crate) fn prepare(&mut self, options: &CompileOptions) -> Result<(), Error> {
        self.bind(&options.bindings)?;
        if options.optimize { self.simplify(options.seed) } else { Ok(()) }
    }
}

/// The symbols among the extents of the inputs.
pub fn open_dims(graph: &Graph) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for &input in graph.inputs() {
        let Type::Tensor(ty) = graph.ty(input) else { continue };
        for dim in &ty.shape {
            if let Dim::Sym(symbol) = dim
                && !names.iter().any(|name| name == symbol.as_str())
            {
                names.push(symbol.as_str().to_owned());
            }
        }
    }
    names
}

/// Reads the graph of a model: ONNX, `.optc`, or the textual form.
///
/// # Errors
/// As [`Model::load`].
pub fn load(path: impl AsRef<Path>) -> Result<Graph, Error> {
    Model::load(path).map(|model| model.graph)
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
