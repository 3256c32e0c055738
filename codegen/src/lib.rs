//! The JIT of optc: turns graphs into machine code for this host.
//!
//! `select` chooses kernels node by node, [`plan`] lays values out in one arena, `emit` writes the kernels as
//! Cranelift IR, `jit` links them, and the executor runs them in order, splitting each over threads. A graph
//! with open dimensions is compiled once for each set of input shapes. What has no kernel runs in the
//! interpreter, as a step of the plan that says so.
//!
//! Invariant: a plan is for one machine and one set of shapes; it is never written to a file.

mod emit;
mod exec;
mod jit;
pub mod plan;
mod planner;
mod select;
mod work;

use optc_ir::{Backend, ExecError, Executable, Graph};

pub use plan::Plan;

/// The JIT as a backend.
#[derive(Clone, Copy, Debug)]
pub struct Jit {
    /// Threads a kernel is split over.
    pub threads: usize,
}

impl Default for Jit {
    fn default() -> Jit {
        Jit { threads: 1 }
    }
}

impl Backend for Jit {
    fn name(&self) -> &'static str {
        "jit"
    }

    fn compile(&self, graph: &Graph) -> Result<Box<dyn Executable>, ExecError> {
        Ok(Box::new(exec::JitExecutable::new(graph.clone(), self.threads)?))
    }
}
