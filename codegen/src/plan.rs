//! The plan: which kernel computes which node, in what order, and where every value lies.
//!
//! Plain data, made for one set of input shapes. Invariant: two buffers overlap in the arena only if one is
//! dead before the other is written ([`Plan::check`]).

use std::fmt;
use std::sync::Arc;

use optc_ir::{ExecError, Graph, Op, Tensor};

use crate::planner;
use crate::work::Work;

/// Alignment of buffers in the arena, in bytes: a cache line.
pub(crate) const ALIGN: usize = 64;

/// A piece of the arena.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Buffer {
    /// Elements (`f32`).
    pub(crate) len: usize,
    /// Byte offset in the arena.
    pub(crate) offset: usize,
    /// The step that first writes it; inputs are written before step 0.
    pub(crate) first: usize,
    /// The last step that touches it; results live on after the last step.
    pub(crate) last: usize,
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// In a buffer of the arena, as `f32`.
    Buffer(usize),
    /// In a slot that holds a tensor of any type and of a shape known only when it is written.
    Slot(usize),
    /// A constant that the interpreter reads.
    Constant(usize),
}

/// What a kernel is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arg {
    /// A buffer, from this element on.
    Buffer(usize, usize),
    /// The constant pool, from this element on.
    Pool(usize),
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The node it computes, or a part of which.
    pub(crate) node: String,
    /// What it does.
    pub(crate) kind: StepKind,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(crate) enum StepKind {
    /// Calls a kernel.
    Kernel {
        /// Index into [`Plan::works`].
        work: usize,
        /// Its buffers.
        args: Vec<Arg>,
    },
    /// Evaluates an operator that has no kernel in the interpreter.
    Interp {
        /// The operator.
        op: Op,
        /// Its operands: where they lie, and in what shape if in a buffer.
        operands: Vec<Option<(Home, Vec<usize>)>>,
        /// Its results.
        results: Vec<Home>,
    },
}

/// Everything the executor needs besides code.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Steps in order.
    pub(crate) steps: Vec<Step>,
    /// Distinct kernels.
    pub(crate) works: Vec<Work>,
    /// Buffers of the arena.
    pub(crate) buffers: Vec<Buffer>,
    /// Constants packed for kernels.
    pub(crate) pool: Vec<f32>,
    /// Constants the interpreter reads.
    pub(crate) constants: Vec<Arc<Tensor>>,
    /// The number of slots.
    pub(crate) slots: usize,
    /// Where inputs go, in signature order.
    pub(crate) inputs: Vec<Home>,
    /// Where results come from, in signature order.
    pub(crate) results: Vec<(Home, Vec<usize>)>,
    /// Bytes of the arena.
    pub(crate) arena: usize,
}

impl Plan {
    /// Plans a graph whose input shapes are known.
    ///
    /// # Errors
    /// If a node can't be run at all: it is opaque.
    pub fn new(graph: &Graph) -> Result<Plan, ExecError> {
        planner::plan(graph)
    }

    /// Gives every buffer its life and its place: first fit, in order of first use.
    pub(crate) fn assign_offsets(&mut self) {
        for buffer in &mut self.buffers {
            (buffer.first, buffer.last) = (usize::MAX, 0);
        }
        let end = self.steps.len();
        let mut touch = |i: usize, step: usize| {
            let buffer = &mut self.buffers[i];
            buffer.first = buffer.first.min(step);
            buffer.last = buffer.last.max(step);
        };
        let homes = self.inputs.iter().map(|h| (h, 0)).chain(self.results.iter().map(|(h, _)| (h, end)));
        for (home, step) in homes {
            if let Home::Buffer(i) = home {
                touch(*i, step);
            }
        }
        for (step, Step { kind, .. }) in self.steps.iter().enumerate() {
            match kind {
                StepKind::Kernel { args, .. } => {
                    for arg in args {
                        if let Arg::Buffer(i, _) = arg {
                            touch(*i, step);
                        }
                    }
                }
                StepKind::Interp { operands, results, .. } => {
                    for home in operands.iter().flatten().map(|(home, _)| home).chain(results) {
                        if let Home::Buffer(i) = home {
                            touch(*i, step);
                        }
                    }
                }
            }
        }
        let mut order: Vec<usize> = (0..self.buffers.len()).filter(|&i| self.buffers[i].first != usize::MAX).collect();
        order.sort_by_key(|&i| (self.buffers[i].first, i));
        let mut placed: Vec<usize> = Vec::new();
        for i in order {
            let (first, last, size) = (self.buffers[i].first, self.buffers[i].last, bytes(self.buffers[i].len));
            let mut busy: Vec<(usize, usize)> = placed
                .iter()
                .map(|&j| &self.buffers[j])
                .filter(|b| b.first <= last && first <= b.last)
                .map(|b| (b.offset, b.offset + bytes(b.len)))
                .collect();
            busy.sort_unstable();
            let mut offset = 0;
            for (from, to) in busy {
                if offset + size <= from {
                    break;
                }
                offset = offset.max(to);
            }
            self.buffers[i].offset = offset;
            self.arena = self.arena.max(offset + size);
            placed.push(i);
        }
    }

    /// The pairs of buffers that overlap in space and in time; empty in a correct plan.
    pub fn check(&self) -> Vec<(usize, usize)> {
        let live: Vec<usize> = (0..self.buffers.len()).filter(|&i| self.buffers[i].first != usize::MAX).collect();
        let mut clashes = Vec::new();
        for (n, &i) in live.iter().enumerate() {
            for &j in &live[..n] {
                let (a, b) = (&self.buffers[i], &self.buffers[j]);
                let in_time = a.first <= b.last && b.first <= a.last;
                let in_space = a.offset < b.offset + bytes(b.len) && b.offset < a.offset + bytes(a.len);
                if in_time && in_space && a.len > 0 && b.len > 0 {
                    clashes.push((j, i));
                }
            }
        }
        clashes
    }
}

fn bytes(len: usize) -> usize {
    (len * 4).next_multiple_of(ALIGN)
}

/// One line a step: the node, the kernel, where its operands and results lie.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "arena {} B, constants {} B, {} kernels", self.arena, self.pool.len() * 4, self.works.len())?;
        let place = |home: &Home| match home {
            Home::Buffer(i) => format!("@{}+{}", self.buffers[*i].offset, self.buffers[*i].len * 4),
            Home::Slot(i) => format!("slot{i}"),
            Home::Constant(i) => format!("const{i}"),
        };
        for step in &self.steps {
            match &step.kind {
                StepKind::Kernel { work, args } => {
                    let args: Vec<String> = args
                        .iter()
                        .map(|arg| match arg {
                            Arg::Buffer(i, from) => format!("@{}", self.buffers[*i].offset + from * 4),
                            Arg::Pool(from) => format!("pool+{}", from * 4),
                        })
                        .collect();
                    let work = &self.works[*work];
                    writeln!(f, "{}: {work}({}) over {}", step.node, args.join(", "), work.range())?;
                }
                StepKind::Interp { op, operands, results } => {
                    let operands: Vec<String> =
                        operands.iter().map(|o| o.as_ref().map_or("_".to_owned(), |(home, _)| place(home))).collect();
                    let results: Vec<String> = results.iter().map(place).collect();
                    let (operands, results) = (operands.join(", "), results.join(", "));
                    writeln!(f, "{}: interp {}({operands}) -> {results}", step.node, op.name())?;
                }
            }
        }
        Ok(())
    }
}
