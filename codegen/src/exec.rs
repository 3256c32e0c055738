//! Runs plans: one arena, kernels in order, ranges split over threads.
//!
//! Kernels between two interpreter steps are one job of the team: every thread walks them all, does its share
//! of each, and waits for the others where the next kernel reads what they write.
//!
//! Invariant: every address given to a kernel lies within the arena or the packed constants of the same
//! executable, with as many bytes behind it as the planner laid out.
#![allow(unsafe_code, reason = "kernels read and write the arena through addresses")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use optc_ir::{ExecError, Executable, Graph, StepTime, Tensor, interp};

use crate::jit::{Kernel, ModuleBuilder};
use crate::memory::Memory;
use crate::plan::{Arg, Home, Plan, StepKind};
use crate::target::{Target, Vectors};
use crate::team::{Job, Team, wait_until};
use crate::transfer::{read, write};

/// Work of fewer cycles than this is done by one thread: others would be woken for less than it costs.
const SPLIT_CYCLES: usize = 3000;

/// Plans kept for input shapes seen before.
const MAX_PLANS: usize = 16;

/// A graph compiled for each set of input shapes it meets.
pub(crate) struct JitExecutable {
    graph: Graph,
    target: Target,
    team: Team,
    compiled: Vec<(Vec<Vec<usize>>, Compiled)>,
}

/// A plan with its code and memory.
struct Compiled {
    plan: Plan,
    stages: Vec<Stage>,
    arena: Memory,
    slots: Vec<Option<Tensor>>,
}

/// A run of steps of one kind.
enum Stage {
    /// Kernels, from this step on.
    Kernels(usize, Arc<Calls>),
    /// An interpreter step.
    Interp(usize),
}

/// Kernels one after the other.
struct Calls {
    calls: Vec<Call>,
    threads: usize,
    /// The calls to do: all, or one when each is timed.
    from: AtomicUsize,
    to: AtomicUsize,
    /// Arrivals at barriers since the beginning.
    arrived: AtomicUsize,
}

struct Call {
    kernel: Kernel,
    args: Vec<usize>,
    range: usize,
    /// Whether the range is split.
    parallel: bool,
    /// Whether all threads wait for each other after it.
    barrier: bool,
}

impl Calls {
    fn set(&self, from: usize, to: usize) {
        self.from.store(from, Ordering::Relaxed);
        self.to.store(to, Ordering::Relaxed);
    }

    /// Waits until every thread has come here; arrivals of one barrier fill one multiple of the threads.
    fn meet(&self) {
        let arrival = self.arrived.fetch_add(1, Ordering::AcqRel);
        let all = (arrival / self.threads + 1) * self.threads;
        wait_until(|| self.arrived.load(Ordering::Acquire) >= all);
    }
}

impl Job for Calls {
    fn work(&self, thread: usize) {
        let (from, to) = (self.from.load(Ordering::Relaxed), self.to.load(Ordering::Relaxed));
        for (i, call) in self.calls[from..to].iter().enumerate() {
            let (begin, end) = match (call.parallel, thread) {
                (true, _) => (call.range * thread / self.threads, call.range * (thread + 1) / self.threads),
                (false, 0) => (0, call.range),
                (false, _) => (0, 0),
            };
            if begin < end {
                // SAFETY: the planner gave every buffer the bytes its kernel walks, at addresses within the
                // arena and the constants that the executable owns; parts of a range write disjoint elements.
                unsafe { call.kernel.call(&call.args, begin, end) };
            }
            if call.barrier && self.threads > 1 && i + 1 < to - from {
                self.meet();
            }
        }
    }
}

impl JitExecutable {
    pub(crate) fn new(graph: Graph, target: Target) -> Result<JitExecutable, ExecError> {
        if !target.vectors.run_here() {
            let (wanted, host) = (target.vectors, Vectors::of_host());
            return Err(ExecError::Backend(format!("this host can't run code for {wanted}; it has {host}")));
        }
        let team = Team::new(target.threads)?;
        let mut executable = JitExecutable { graph, target, team, compiled: Vec::new() };
        if let Some(shapes) = executable.signature() {
            executable.compile(shapes)?;
        }
        Ok(executable)
    }

    /// The input shapes, if the graph has no open ones.
    fn signature(&self) -> Option<Vec<Vec<usize>>> {
        let ty = |&node| self.graph.ty(node).as_tensor().and_then(optc_ir::TensorType::fixed_shape);
        self.graph.inputs().iter().map(ty).collect()
    }

    /// The index of the compiled form for these input shapes.
    fn compile(&mut self, shapes: Vec<Vec<usize>>) -> Result<usize, ExecError> {
        let plan = Plan::for_shapes(&self.graph, &shapes, &self.target)?;
        let compiled = Compiled::new(plan, &self.target)?;
        if self.compiled.len() == MAX_PLANS {
            self.compiled.remove(0);
        }
        self.compiled.push((shapes, compiled));
        Ok(self.compiled.len() - 1)
    }

    /// The index of the compiled form for these inputs.
    fn prepare(&mut self, inputs: &[Tensor]) -> Result<usize, ExecError> {
        interp::check_inputs(&self.graph, inputs)?;
        let same = |shapes: &[Vec<usize>]| shapes.iter().zip(inputs).all(|(shape, input)| shape == input.shape());
        match self.compiled.iter().position(|(shapes, _)| same(shapes)) {
            Some(index) => Ok(index),
            None => self.compile(inputs.iter().map(|t| t.shape().to_vec()).collect()),
        }
    }
}

impl Executable for JitExecutable {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecError> {
        let index = self.prepare(inputs)?;
        let compiled = &mut self.compiled[index].1;
        compiled.load(inputs);
        for i in 0..compiled.stages.len() {
            match &compiled.stages[i] {
                Stage::Kernels(_, calls) => {
                    calls.set(0, calls.calls.len());
                    self.team.run(calls.clone());
                }
                Stage::Interp(step) => compiled.interpret(*step)?,
            }
        }
        compiled.results()
    }

    fn profile(&mut self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Vec<StepTime>), ExecError> {
        let index = self.prepare(inputs)?;
        let compiled = &mut self.compiled[index].1;
        compiled.load(inputs);
        let mut times = Vec::new();
        for i in 0..compiled.stages.len() {
            match &compiled.stages[i] {
                Stage::Kernels(first, calls) => {
                    for call in 0..calls.calls.len() {
                        calls.set(call, call + 1);
                        let start = Instant::now();
                        self.team.run(calls.clone());
                        times.push(compiled.step_time(first + call, start.elapsed()));
                    }
                }
                Stage::Interp(step) => {
                    let (step, start) = (*step, Instant::now());
                    compiled.interpret(step)?;
                    times.push(compiled.step_time(step, start.elapsed()));
                }
            }
        }
        Ok((compiled.results()?, times))
    }
}

impl Compiled {
    fn new(mut plan: Plan, target: &Target) -> Result<Compiled, ExecError> {
        let mut module = ModuleBuilder::new(target.vectors)?;
        let mut ranges = Vec::new();
        for work in &plan.works {
            let schedule = work.schedule(target.vectors);
            ranges.push(schedule.range());
            module.define_schedule(&schedule)?;
        }
        let kernels = module.finish()?;
        let mut arena = Memory::zeroed(plan.arena / 4)?;
        let arena_at = arena.address();
        let packed: Vec<usize> = plan.packed.iter_mut().map(Memory::address).collect();
        let mut stages = Vec::new();
        let mut calls: Vec<Call> = Vec::new();
        for (i, step) in plan.steps.iter().enumerate() {
            match &step.kind {
                StepKind::Kernel { work, args, overlaps_next } => {
                    let args = args
                        .iter()
                        .map(|arg| match arg {
                            Arg::Buffer(i, from) => arena_at + plan.buffers[*i].offset + from,
                            Arg::Constant(i, from) => packed[*i] + from,
                        })
                        .collect();
                    let parallel =
                        target.threads > 1 && ranges[*work] > 1 && plan.works[*work].cycles() >= SPLIT_CYCLES;
                    calls.push(Call {
                        kernel: kernels[*work].clone(),
                        args,
                        range: ranges[*work],
                        parallel,
                        barrier: !overlaps_next,
                    });
                }
                StepKind::Interp { .. } => {
                    finish(&mut stages, &mut calls, i, target.threads);
                    stages.push(Stage::Interp(i));
                }
            }
        }
        finish(&mut stages, &mut calls, plan.steps.len(), target.threads);
        let slots = vec![None; plan.slots];
        Ok(Compiled { plan, stages, arena, slots })
    }

    fn load(&mut self, inputs: &[Tensor]) {
        for (i, input) in inputs.iter().enumerate() {
            let home = self.plan.inputs[i].clone();
            self.put(&home, input.clone());
        }
    }

    fn results(&self) -> Result<Vec<Tensor>, ExecError> {
        self.plan.results.iter().map(|home| self.get(home)).collect()
    }

    fn step_time(&self, step: usize, time: Duration) -> StepTime {
        let step = &self.plan.steps[step];
        let (kernel, macs) = match &step.kind {
            StepKind::Kernel { work, .. } => {
                let work = &self.plan.works[*work];
                (work.to_string(), work.macs())
            }
            StepKind::Interp { .. } => ("interp".to_owned(), 0),
        };
        StepTime { node: step.node.clone(), kernel, time, macs }
    }

    fn interpret(&mut self, step: usize) -> Result<(), ExecError> {
        let StepKind::Interp { op, operands, results } = &self.plan.steps[step].kind else {
            unreachable!("only interpreter steps come here")
        };
        let tensors: Vec<Option<Tensor>> = operands
            .iter()
            .map(|home| home.as_ref().map(|home| self.get(home)).transpose())
            .collect::<Result<_, _>>()?;
        let tensors: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
        let values = interp::eval(op, &tensors).map_err(|source| ExecError::Node {
            node: self.plan.steps[step].node.clone(),
            op: op.name().to_owned(),
            source,
        })?;
        let results = results.clone();
        for (home, value) in results.iter().zip(values) {
            self.put(home, value);
        }
        Ok(())
    }

    fn put(&mut self, home: &Home, tensor: Tensor) {
        match home {
            Home::Place(place, shape) => {
                let from = self.plan.buffers[place.buffer].offset / 4;
                let elements = tensor.as_f32().expect("buffers hold f32 values");
                write(&mut self.arena.numbers_mut()[from..], &place.layout, shape, elements);
            }
            Home::Slot(i) => self.slots[*i] = Some(tensor),
            Home::Constant(_) => unreachable!("constants are not written"),
        }
    }

    /// A value as a tensor.
    fn get(&self, home: &Home) -> Result<Tensor, ExecError> {
        Ok(match home {
            Home::Place(place, shape) => {
                let from = self.plan.buffers[place.buffer].offset / 4;
                Tensor::f32(shape.as_slice(), read(&self.arena.numbers()[from..], &place.layout, shape))
            }
            Home::Slot(i) => {
                let value = self.slots[*i].clone();
                value.ok_or_else(|| ExecError::Backend("a value is read before it is computed".to_owned()))?
            }
            Home::Constant(i) => self.plan.constants[*i].as_ref().clone(),
        })
    }
}

/// Ends a run of kernels before step `end`.
fn finish(stages: &mut Vec<Stage>, calls: &mut Vec<Call>, end: usize, threads: usize) {
    if calls.is_empty() {
        return;
    }
    let mut calls = std::mem::take(calls);
    let mut shared = false;
    for i in 0..calls.len() {
        // Where one thread does both a kernel and the next, and no other is still at work, it waits for no one.
        shared |= calls[i].parallel;
        calls[i].barrier &= shared || calls.get(i + 1).is_some_and(|next| next.parallel);
        shared &= !calls[i].barrier;
    }
    let first = end - calls.len();
    let to = AtomicUsize::new(calls.len());
    let calls = Calls { calls, threads, from: AtomicUsize::new(0), to, arrived: AtomicUsize::new(0) };
    stages.push(Stage::Kernels(first, Arc::new(calls)));
}
