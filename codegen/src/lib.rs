//! The JIT of optc: turns graphs into machine code for this host.
//!
//! `planner` chooses kernels and layouts and lays values out in one arena: the [`plan`]. A kernel is data
//! first, tile programs and a schedule that walks buffers with them (`tile`); `lower` makes machine code of it,
//! `jit` links it, and the executor runs kernels in order, splitting each over threads. A graph with open
//! dimensions is compiled once for each set of input shapes. What has no kernel runs in the interpreter, as a
//! step of the plan that says so.
//!
//! Cranelift generates all control code and portable kernels; AVX2 and AVX-512 tile programs are assembled
//! here and linked into the same Cranelift module, because Cranelift has no vectors wider than 128 bits.
//! [`emit`] shows each step as text, for any target.
//!
//! Layers of compressed weights may be computed in several ways: [`choice`] is what there is to choose from and what
//! is said of it, `planner/choose.rs` the cost model, [`tune`] measures instead, and a [`SelectedJit`] runs what
//! somebody else has chosen.
//!
//! Invariant: a plan is for one machine and one set of shapes; it is never written to a file.

mod carry;
pub mod choice;
mod convert;
pub mod emit;
mod exec;
mod executable;
mod gather;
mod jit;
mod layout;
mod lower;
mod memory;
mod pack;
pub mod peak;
pub mod plan;
mod planner;
mod step;
pub mod target;
mod team;
mod tile;
mod transfer;
pub mod tune;
mod values;
mod work;

use optc_ir::{Backend, ExecError, Executable, Graph, Resident, StepExecutable};

pub use choice::{Algorithm, Choice, Selection};
pub use plan::Plan;
pub use target::{Target, UnknownVectors, Vectors};

/// The JIT as a backend.
#[derive(Clone, Copy, Debug)]
pub struct Jit {
    /// What code is generated for.
    pub target: Target,
}

/// The JIT, somebody else than the cost model choosing algorithms.
#[derive(Clone, Debug)]
pub struct SelectedJit {
    /// What code is generated for.
    pub target: Target,
    /// Who chooses.
    pub selection: Selection,
}

impl Jit {
    /// A JIT for this host that splits kernels over so many threads.
    pub fn new(threads: usize) -> Jit {
        Jit { target: Target::host(threads) }
    }
}

impl Default for Jit {
    fn default() -> Jit {
        Jit::new(1)
    }
}

impl Backend for Jit {
    fn name(&self) -> &'static str {
        "jit"
    }

    fn compile(&self, graph: &Graph) -> Result<Box<dyn Executable>, ExecError> {
        self.compile_owned(graph.clone())
    }

    fn compile_owned(&self, graph: Graph) -> Result<Box<dyn Executable>, ExecError> {
        SelectedJit { target: self.target, selection: Selection::default() }.compile_owned(graph)
    }

    fn compile_step(&self, graph: Graph, residents: &[Resident]) -> Result<Box<dyn StepExecutable>, ExecError> {
        SelectedJit { target: self.target, selection: Selection::default() }.compile_step(graph, residents)
    }
}

impl Backend for SelectedJit {
    fn name(&self) -> &'static str {
        "jit"
    }

    fn compile(&self, graph: &Graph) -> Result<Box<dyn Executable>, ExecError> {
        self.compile_owned(graph.clone())
    }

    fn compile_owned(&self, graph: Graph) -> Result<Box<dyn Executable>, ExecError> {
        Ok(Box::new(executable::JitExecutable::new(graph, self.target, &self.selection)?))
    }

    fn compile_step(&self, graph: Graph, residents: &[Resident]) -> Result<Box<dyn StepExecutable>, ExecError> {
        Ok(Box::new(step::JitStep::new(graph, residents, self.target, &self.selection)?))
    }
}
