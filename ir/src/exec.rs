//! What it takes to run a graph. `ir` implements it with the interpreter, `codegen` with the JIT;
//! passes that must run a model know only this.

use std::time::Duration;

use crate::error::ExecError;
use crate::graph::Graph;
use crate::step::{MovedStep, StepLayout};
use crate::tensor::Tensor;

/// A way to run graphs.
pub trait Backend: Sync {
    /// The name on the command line: `interp`, `jit`.
    fn name(&self) -> &'static str;

    /// Prepares a graph to run. Symbolic dimensions may still be open: they are bound by each run.
    ///
    /// # Errors
    /// [`ExecError`] naming the node that can't be run.
    fn compile(&self, graph: &Graph) -> Result<Box<dyn Executable>, ExecError>;

    /// As [`Backend::compile`], of a graph nobody else needs: the backend may let each constant go as soon as it
    /// has its own form of it, so that they are never in memory twice.
    ///
    /// # Errors
    /// As [`Backend::compile`].
    fn compile_owned(&self, graph: Graph) -> Result<Box<dyn Executable>, ExecError> {
        self.compile(&graph)
    }

    /// Prepares a graph to run many times in a row, some of its inputs staying inside from run to run: the
    /// parameters and the optimizer's state of a training step. A backend may keep them in its own memory and
    /// layout; this form of it runs [`Backend::compile_owned`]'s executable and moves tensors.
    ///
    /// # Errors
    /// As [`Backend::compile`], and if `residents` names inputs or results that do not exist, one twice, or a
    /// result whose type is not the input's.
    fn compile_step(&self, graph: Graph, residents: &[Resident]) -> Result<Box<dyn StepExecutable>, ExecError> {
        let layout = StepLayout::new(&graph, residents)?;
        Ok(Box::new(MovedStep::new(layout, self.compile_owned(graph)?)))
    }
}

/// A graph ready to run.
pub trait Executable: Send {
    /// Runs on one tensor per graph input, in signature order, and returns the results in signature
    /// order.
    ///
    /// # Errors
    /// [`ExecError`] if an input does not fit the signature or a node fails.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecError>;

    /// [`Executable::run`] into the tensors of an earlier run. Their memory is used again where element types
    /// and sizes are the same, so that runs in a row need no new memory.
    ///
    /// # Errors
    /// As [`Executable::run`], and if there are not as many tensors as results.
    fn run_into(&mut self, inputs: &[Tensor], results: &mut [Tensor]) -> Result<(), ExecError> {
        let values = self.run(inputs)?;
        check_results(values.len(), results)?;
        results.iter_mut().zip(values).for_each(|(result, value)| *result = value);
        Ok(())
    }

    /// [`Executable::run`], timing each step.
    ///
    /// # Errors
    /// As [`Executable::run`].
    fn profile(&mut self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Vec<StepTime>), ExecError>;
}

/// An input of a graph that stays inside a [`StepExecutable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Which input, by its place in the signature.
    pub input: usize,
    /// The result that takes its place after each run, by its place in the signature; the input stays as it is
    /// where there is none.
    pub output: Option<usize>,
}

/// A graph ready to run many times, some of whose inputs stay inside; see [`Backend::compile_step`].
///
/// Until [`StepExecutable::set`] has given every resident a value, runs are errors.
pub trait StepExecutable: Send {
    /// Runs on the inputs that are not resident, in signature order, and returns the results that become no
    /// resident's next value, in signature order. Residents have their next values afterwards; those they had if
    /// the run fails.
    ///
    /// # Errors
    /// [`ExecError`] if an input does not fit the signature, a resident has no value, or a node fails.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecError>;

    /// [`StepExecutable::run`], timing each step.
    ///
    /// # Errors
    /// As [`StepExecutable::run`].
    fn profile(&mut self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Vec<StepTime>), ExecError>;

    /// Gives a resident its value. `input` is its place in the signature of the graph.
    ///
    /// # Errors
    /// [`ExecError::Signature`] if that input is not resident or the value is not of its type.
    fn set(&mut self, input: usize, value: &Tensor) -> Result<(), ExecError>;

    /// The value of a resident now. `input` is its place in the signature of the graph.
    ///
    /// # Errors
    /// [`ExecError::Signature`] if that input is not resident or has no value yet; [`ExecError::Backend`] if it
    /// can't be brought back.
    fn get(&self, input: usize) -> Result<Tensor, ExecError>;
}

/// Checks that there is a tensor for each of so many results.
///
/// # Errors
/// [`ExecError::Signature`] if there is not.
pub fn check_results(count: usize, results: &[Tensor]) -> Result<(), ExecError> {
    if results.len() == count {
        return Ok(());
    }
    Err(ExecError::Signature(format!("{} tensors given for {count} results", results.len())))
}

/// The time one step of an executable took.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// The node the step computes.
    pub node: String,
    /// The first of the nodes that are computed together with it: the one that has weights, if one has.
    pub layer: String,
    /// The kernel that computed it: `f32_conv_4x4`, or `interp` where the interpreter stepped in.
    pub kernel: String,
    /// Wall time.
    pub time: Duration,
    /// Multiplications the kernel does, those by zeros included; 0 where it only moves or maps numbers.
    pub macs: usize,
    /// Bytes of the operands and results it is given; 0 where that is not known.
    pub bytes: usize,
    /// Those of a layer's constant weights, in the form in which the kernel reads them.
    pub weight_bytes: usize,
}
