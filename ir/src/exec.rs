//! What it takes to run a graph. `ir` implements it with the interpreter, `codegen` with the JIT;
//! passes that must run a model know only this.

use std::time::Duration;

use crate::error::ExecError;
use crate::graph::Graph;
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
    /// The kernel that computed it: `f32_conv_4x4`, or `interp` where the interpreter stepped in.
    pub kernel: String,
    /// Wall time.
    pub time: Duration,
    /// Multiplications the kernel does, those by zeros included; 0 where it only moves or maps numbers.
    pub macs: usize,
    /// Bytes of the operands and results it is given; 0 where that is not known.
    pub bytes: usize,
}
