//! Runs plans: one arena, kernels in order, ranges split over threads.
//!
//! Invariant: every address given to a kernel lies within the arena or the constant pool of the same
//! executable, with as many elements behind it as the planner laid out.
#![allow(unsafe_code, reason = "kernels read and write the arena through addresses")]

use std::time::{Duration, Instant};

use optc_ir::{ExecError, Executable, Graph, StepTime, Tensor, Type, interp};

use crate::jit::{Kernel, ModuleBuilder};
use crate::plan::{Arg, Home, Plan, StepKind};

/// Work of fewer elements than this is not worth handing to another thread.
const SPLIT_COST: usize = 1 << 15;

/// Plans kept for input shapes seen before.
const MAX_PLANS: usize = 16;

/// 64 bytes, aligned as a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A graph compiled for each set of input shapes it meets.
pub(crate) struct JitExecutable {
    graph: Graph,
    threads: Option<rayon::ThreadPool>,
    compiled: Vec<(Vec<Vec<usize>>, Compiled)>,
}

/// A plan with its code and memory.
struct Compiled {
    plan: Plan,
    kernels: Vec<Kernel>,
    /// Addresses of each step's buffers; empty for interpreter steps.
    args: Vec<Vec<usize>>,
    arena: Vec<Line>,
    _pool: Vec<Line>,
    slots: Vec<Option<Tensor>>,
}

impl JitExecutable {
    pub(crate) fn new(graph: Graph, threads: usize) -> Result<JitExecutable, ExecError> {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let threads = match threads {
            0 | 1 => None,
            n => Some(pool(n).map_err(|e| ExecError::Backend(format!("{n} threads can't be started: {e}")))?),
        };
        let mut executable = JitExecutable { graph, threads, compiled: Vec::new() };
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
        if let Some(i) = self.compiled.iter().position(|(known, _)| *known == shapes) {
            return Ok(i);
        }
        let mut graph = self.graph.clone();
        for (&input, shape) in self.graph.inputs().iter().zip(&shapes) {
            if let Type::Tensor(ty) = self.graph.ty(input) {
                let ty = Type::tensor(ty.dtype, shape.iter().copied());
                // Rules that fail for these extents are reported once every input is set.
                let _ = graph.set_input_type(input, ty);
            }
        }
        graph.infer_all().map_err(|(node, source)| ExecError::Node {
            op: "type".to_owned(),
            node,
            source: source.into(),
        })?;
        let compiled = Compiled::new(Plan::new(&graph)?)?;
        if self.compiled.len() == MAX_PLANS {
            self.compiled.remove(0);
        }
        self.compiled.push((shapes, compiled));
        Ok(self.compiled.len() - 1)
    }

    fn execute(
        &mut self,
        inputs: &[Tensor],
        timed: impl FnMut(&str, &str, Duration),
    ) -> Result<Vec<Tensor>, ExecError> {
        interp::check_inputs(&self.graph, inputs)?;
        let index = self.compile(inputs.iter().map(|t| t.shape().to_vec()).collect())?;
        self.compiled[index].1.run(inputs, self.threads.as_ref(), timed)
    }
}

impl Executable for JitExecutable {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecError> {
        self.execute(inputs, |_, _, _| ())
    }

    fn profile(&mut self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Vec<StepTime>), ExecError> {
        let mut steps = Vec::new();
        let results = self.execute(inputs, |node, kernel, time| {
            steps.push(StepTime { node: node.to_owned(), kernel: kernel.to_owned(), time });
        })?;
        Ok((results, steps))
    }
}

impl Compiled {
    fn new(plan: Plan) -> Result<Compiled, ExecError> {
        let mut module = ModuleBuilder::new()?;
        for work in &plan.works {
            module.define(|e| work.emit(e))?;
        }
        let kernels = module.finish()?;
        let mut arena = lines(plan.arena.div_ceil(64))?;
        let mut pool = lines(plan.pool.len().div_ceil(16))?;
        elements_mut(&mut pool)[..plan.pool.len()].copy_from_slice(&plan.pool);
        let (arena_at, pool_at) = (arena.as_mut_ptr().addr(), pool.as_mut_ptr().addr());
        // The addresses are exposed so that kernels may turn them back into pointers.
        let _ = (arena.as_mut_ptr().expose_provenance(), pool.as_mut_ptr().expose_provenance());
        let args = plan
            .steps
            .iter()
            .map(|step| match &step.kind {
                StepKind::Interp { .. } => Vec::new(),
                StepKind::Kernel { args, .. } => args
                    .iter()
                    .map(|arg| match arg {
                        Arg::Buffer(i, from) => arena_at + plan.buffers[*i].offset + from * 4,
                        Arg::Pool(from) => pool_at + from * 4,
                    })
                    .collect(),
            })
            .collect();
        let slots = vec![None; plan.slots];
        let plan = Plan { pool: Vec::new(), ..plan };
        Ok(Compiled { plan, kernels, args, arena, _pool: pool, slots })
    }

    fn run(
        &mut self,
        inputs: &[Tensor],
        threads: Option<&rayon::ThreadPool>,
        mut timed: impl FnMut(&str, &str, Duration),
    ) -> Result<Vec<Tensor>, ExecError> {
        for (i, input) in inputs.iter().enumerate() {
            self.put(self.plan.inputs[i], input.clone());
        }
        for i in 0..self.plan.steps.len() {
            let start = Instant::now();
            let kernel = match &self.plan.steps[i].kind {
                StepKind::Kernel { work, .. } => {
                    let work = *work;
                    self.call(i, work, threads);
                    self.plan.works[work].to_string()
                }
                StepKind::Interp { .. } => {
                    self.interpret(i)?;
                    "interp".to_owned()
                }
            };
            timed(&self.plan.steps[i].node, &kernel, start.elapsed());
        }
        self.plan.results.iter().map(|(home, shape)| self.get(*home, shape)).collect()
    }

    fn call(&self, step: usize, work: usize, threads: Option<&rayon::ThreadPool>) {
        let (kernel, args) = (&self.kernels[work], &self.args[step]);
        let (range, cost) = (self.plan.works[work].range(), self.plan.works[work].cost());
        match threads {
            Some(pool) if range > 1 && cost >= SPLIT_COST => {
                let parts = pool.current_num_threads().min(range);
                pool.scope(|scope| {
                    for part in 0..parts {
                        let (begin, end) = (range * part / parts, range * (part + 1) / parts);
                        scope.spawn(move |_| {
                            // SAFETY: as below; the parts write disjoint elements, since outer iterations do.
                            unsafe { kernel.call(args, begin, end) }
                        });
                    }
                });
            }
            // SAFETY: `args` are addresses into this executable's arena and pool, laid out by the planner for
            // this kernel; `&mut self` of `run` keeps other runs out of the arena.
            _ => unsafe { kernel.call(args, 0, range) },
        }
    }

    fn interpret(&mut self, step: usize) -> Result<(), ExecError> {
        let StepKind::Interp { op, operands, results } = &self.plan.steps[step].kind else {
            unreachable!("only interpreter steps come here")
        };
        let tensors: Vec<Option<Tensor>> = operands
            .iter()
            .map(|o| o.as_ref().map(|(home, shape)| self.get(*home, shape)).transpose())
            .collect::<Result<_, _>>()?;
        let tensors: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
        let values = interp::eval(op, &tensors).map_err(|source| ExecError::Node {
            node: self.plan.steps[step].node.clone(),
            op: op.name().to_owned(),
            source,
        })?;
        let results = results.clone();
        for (home, value) in results.into_iter().zip(values) {
            self.put(home, value);
        }
        Ok(())
    }

    fn put(&mut self, home: Home, tensor: Tensor) {
        match home {
            Home::Buffer(i) => {
                let from = self.plan.buffers[i].offset / 4;
                let elements = tensor.as_f32().expect("buffers hold f32 values");
                elements_mut(&mut self.arena)[from..from + elements.len()].copy_from_slice(elements);
            }
            Home::Slot(i) => self.slots[i] = Some(tensor),
            Home::Constant(_) => unreachable!("constants are not written"),
        }
    }

    /// A value as a tensor; one in a buffer in the shape asked for.
    fn get(&self, home: Home, shape: &[usize]) -> Result<Tensor, ExecError> {
        Ok(match home {
            Home::Buffer(i) => {
                let buffer = &self.plan.buffers[i];
                let from = buffer.offset / 4;
                let elements = elements(&self.arena)[from..from + buffer.len].to_vec();
                Tensor::f32(shape, elements)
            }
            Home::Slot(i) => {
                let value = self.slots[i].clone();
                value.ok_or_else(|| ExecError::Backend("a value is read before it is computed".to_owned()))?
            }
            Home::Constant(i) => self.plan.constants[i].as_ref().clone(),
        })
    }
}

/// Zeroed memory, or an error where the machine has none.
fn lines(count: usize) -> Result<Vec<Line>, ExecError> {
    let mut lines = Vec::new();
    let message = |_| ExecError::Backend(format!("{} bytes of memory refused", count.saturating_mul(64)));
    lines.try_reserve_exact(count).map_err(message)?;
    lines.resize(count, Line([0.0; 16]));
    Ok(lines)
}

fn elements(lines: &[Line]) -> &[f32] {
    // SAFETY: a `Line` is 16 `f32` without padding.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * 16) }
}

fn elements_mut(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: a `Line` is 16 `f32` without padding.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 16) }
}
