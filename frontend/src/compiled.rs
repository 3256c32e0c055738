//! Models that run: what to compile for, and tensors by the names of the model's inputs and outputs.

use std::ops::Index;
use std::time::Duration;

use clap::ValueEnum;
use optc_codegen::tune::{self, Tuned};
use optc_codegen::{Algorithm, SelectedJit, Selection, Target, Vectors};
use optc_ir::graph::Signature;
use optc_ir::{Backend, ExecError, Executable, Graph, Interp, StepTime, Tensor};

use crate::error::Error;

/// What a model is compiled for. [`CompileOptions::default`] suits this host: machine code, all cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileOptions {
    /// What runs the model.
    pub backend: BackendKind,
    /// Threads a run is split over.
    pub threads: usize,
    /// The instructions machine code may use.
    pub target: Vectors,
    /// Whether the graph is simplified first. Results may move as far as another order of additions.
    pub optimize: bool,
    /// Extents of open dimensions. Those left open are compiled for when a run first tells them.
    pub bindings: Vec<(String, usize)>,
    /// Who says how layers of compressed weights are computed.
    pub algorithms: Algorithms,
    /// Where everything random in a pass starts from, and inputs that are measured with.
    pub seed: u64,
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions {
            backend: BackendKind::Jit,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            target: Vectors::of_host(),
            optimize: true,
            bindings: Vec::new(),
            algorithms: Algorithms::Modelled,
            seed: 0,
        }
    }
}

/// How long is measured in tuning, besides the time to compile the model a few times.
const TUNING: Duration = Duration::from_secs(4);

impl CompileOptions {
    /// What machine code is generated for.
    pub fn target(&self) -> Target {
        Target { vectors: self.target, threads: self.threads.max(1) }
    }

    /// The backend, set up. It does not measure: without a graph, [`Algorithms::Tuned`] is what the cost model
    /// says.
    pub fn backend(&self) -> Box<dyn Backend> {
        self.backend_with(match self.algorithms {
            Algorithms::Modelled | Algorithms::Tuned => Selection::Modelled,
            Algorithms::Dense => Selection::Always(Algorithm::Dense),
        })
    }

    /// The backend, for a selection of algorithms.
    pub(crate) fn backend_with(&self, selection: Selection) -> Box<dyn Backend> {
        match self.backend {
            BackendKind::Interp => Box::new(Interp),
            BackendKind::Jit => Box::new(SelectedJit { target: self.target(), selection }),
        }
    }

    /// The selection of algorithms for a graph that is ready to run; if that takes measuring, on these inputs.
    /// `progress` is told what is being done, then comes what tuning says.
    ///
    /// # Errors
    /// [`Error::Exec`] if tuning can't compile or run the graph.
    pub(crate) fn select(
        &self,
        graph: &Graph,
        inputs: &[Tensor],
        progress: &mut dyn FnMut(&str),
    ) -> Result<(Selection, Option<Tuned>), Error> {
        Ok(match (self.backend, self.algorithms) {
            (BackendKind::Jit, Algorithms::Tuned) => {
                let tuned = tune::tune(graph, &self.target(), inputs, TUNING, progress)?;
                (tuned.selection.clone(), Some(tuned))
            }
            (BackendKind::Jit, Algorithms::Dense) => (Selection::Always(Algorithm::Dense), None),
            (BackendKind::Interp, _) | (BackendKind::Jit, Algorithms::Modelled) => (Selection::Modelled, None),
        })
    }
}

/// Who says how layers of compressed weights are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithms {
    /// The cost model, at once.
    #[default]
    Modelled,
    /// Measurements on this host: compiling takes some seconds longer, and may choose otherwise the next time.
    /// Open dimensions are taken as [`crate::data::random_inputs`] takes them.
    Tuned,
    /// All are computed as if their weights were dense.
    Dense,
}

/// The ways to run a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendKind {
    /// The interpreter: slow, literal, the reference
    Interp,
    /// Machine code for this host
    Jit,
}

/// A model ready to run.
pub struct Compiled {
    executable: Box<dyn Executable>,
    signature: Signature,
}

impl Compiled {
    /// A graph made ready by a backend.
    pub(crate) fn new(graph: Graph, backend: &dyn Backend) -> Result<Compiled, Error> {
        let signature = graph.signature();
        Ok(Compiled { executable: backend.compile_owned(graph)?, signature })
    }

    /// Names and types of inputs and outputs, in order.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Runs on one tensor for each input, in any order.
    ///
    /// # Errors
    /// [`Error::Exec`] naming an input that is missing, unknown or does not fit, or the node that failed.
    pub fn run(&mut self, inputs: &[(&str, Tensor)]) -> Result<Outputs, Error> {
        let known = &self.signature.inputs;
        let list = || known.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        for (i, (name, _)) in inputs.iter().enumerate() {
            let wrong = |what: &str| ExecError::Signature(format!("input {name} {what}; the model takes {}", list()));
            if !known.iter().any(|(other, _)| other == name) {
                return Err(wrong("is none of the model's").into());
            }
            if inputs[..i].iter().any(|(other, _)| other == name) {
                return Err(wrong("is given twice").into());
            }
        }
        let tensor = |name: &String| match inputs.iter().find(|(other, _)| other == name) {
            Some((_, tensor)) => Ok(tensor.clone()),
            None => Err(ExecError::Signature(format!("input {name} is missing; the model takes {}", list()))),
        };
        let inputs = known.iter().map(|(name, _)| tensor(name)).collect::<Result<Vec<Tensor>, _>>()?;
        let results = self.executable.run(&inputs)?;
        let names = self.signature.results.iter().map(|(name, _)| name.clone());
        Ok(Outputs(names.zip(results).collect()))
    }

    /// Runs on tensors in the order of the signature, into those of an earlier run: where shapes stay the same
    /// and every node has a kernel, a run takes no new memory.
    ///
    /// # Errors
    /// [`Error::Exec`] naming an input that does not fit or the node that failed.
    pub fn run_into(&mut self, inputs: &[Tensor], outputs: &mut [Tensor]) -> Result<(), Error> {
        Ok(self.executable.run_into(inputs, outputs)?)
    }

    /// Runs on tensors in the order of the signature.
    ///
    /// # Errors
    /// As [`Compiled::run_into`].
    pub fn run_in_order(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        Ok(self.executable.run(inputs)?)
    }

    /// The time of each step of a run.
    ///
    /// # Errors
    /// As [`Compiled::run_into`].
    pub fn profile(&mut self, inputs: &[Tensor]) -> Result<Vec<StepTime>, Error> {
        Ok(self.executable.profile(inputs)?.1)
    }
}

/// What a run gives, in the order of the signature and by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs(Vec<(String, Tensor)>);

impl Outputs {
    /// The output of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, tensor)| tensor)
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

impl IntoIterator for Outputs {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// # Panics
/// If there is no output of this name.
impl Index<&str> for Outputs {
    type Output = Tensor;

    fn index(&self, name: &str) -> &Tensor {
        self.get(name).unwrap_or_else(|| panic!("the model has no output {name}"))
    }
}
