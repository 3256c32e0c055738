//! Runs plans: one arena, kernels and steps of the interpreter in order.

use std::borrow::Cow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use optc_ir::{EvalError, ExecError, Executable, Graph, Resident, StepTime, Tensor, TensorType, check_results, interp};

use crate::choice::{Choice, Selection};
use crate::exec::{Calls, Use, generate};
use crate::pack::Packed;
use crate::plan::{self, Arg, Plan, Step, StepKind};
use crate::planner::{self, Planned};
use crate::target::{Target, Vectors};
use crate::team::Team;
use crate::values::Values;
use crate::work::Work;

/// Plans kept for input shapes seen before.
const MAX_PLANS: usize = 16;

/// A graph compiled for each set of input shapes it meets.
pub(crate) struct JitExecutable {
    /// Its inputs alone where all their shapes are fixed.
    graph: Graph,
    target: Target,
    selection: Selection,
    /// Inputs that stay from run to run.
    residents: Vec<Resident>,
    team: Team,
    compiled: Vec<(Vec<Vec<usize>>, Compiled)>,
    packed: Packed,
}

/// A plan with its code and memory.
struct Compiled {
    plan: Plan,
    stages: Vec<Stage>,
    values: Values,
    /// What the last gather picked; its memory serves the next one.
    picks: Vec<usize>,
}

/// A run of steps of one kind.
enum Stage {
    /// Kernels, from this step on.
    Kernels(usize, Arc<Calls>),
    /// A step without a kernel: the interpreter's, or one that only moves elements.
    Host(usize),
}
impl Stage {
    /// Makes a stage of kernels, if there are any; step `end` is the first behind them.
    fn of_kernels(uses: &mut Vec<Use>, end: usize, team: &Team, stages: &mut Vec<Stage>) {
        if !uses.is_empty() {
            let first = end - uses.len();
            stages.push(Stage::Kernels(first, Arc::new(Calls::new(std::mem::take(uses), team))));
        }
    }
}
impl JitExecutable {
    pub(crate) fn new(graph: Graph, target: Target, selection: &Selection) -> Result<JitExecutable, ExecError> {
        JitExecutable::with_residents(graph, target, selection, &[])
    }

    /// With inputs that stay from run to run.
    pub(crate) fn with_residents(
        graph: Graph,
        target: Target,
        selection: &Selection,
        residents: &[Resident],
    ) -> Result<JitExecutable, ExecError> {
        if !target.vectors.run_here() {
            let (wanted, host) = (target.vectors, Vectors::of_host());
            return Err(ExecError::Backend(format!("this host can't run code for {wanted}; it has {host}")));
        }
        let team = Team::new(target.threads)?;
        let (residents, selection) = (residents.to_vec(), selection.clone());
        let (compiled, packed) = (Vec::new(), Packed::default());
        let mut executable =
            JitExecutable { graph: Graph::new(""), target, selection, residents, team, compiled, packed };
        let fixed = |&node| graph.ty(node).as_tensor().and_then(TensorType::fixed_shape);
        match graph.inputs().iter().map(fixed).collect::<Option<_>>() {
            Some(shapes) => {
                // The only plan there will ever be: of the graph nothing is needed but its inputs.
                for &input in graph.inputs() {
                    executable.graph.add_input(graph.name(input), graph.ty(input).clone());
                }
                executable.compile(graph, shapes)?;
            }
            None => executable.graph = graph,
        }
        Ok(executable)
    }

    /// Compiles a graph whose inputs have these shapes; the index of what comes of it.
    fn compile(&mut self, graph: Graph, shapes: Vec<Vec<usize>>) -> Result<usize, ExecError> {
        let planned = planner::plan(&graph, &self.target, &self.selection, &self.residents)?;
        // Constants that nobody else has go as they are packed.
        drop(graph);
        let compiled = Compiled::new(planned, (&self.target, &self.team), &mut self.packed)?;
        if self.compiled.len() == MAX_PLANS {
            self.compiled.remove(0);
        }
        self.compiled.push((shapes, compiled));
        Ok(self.compiled.len() - 1)
    }

    /// The index of the compiled form for inputs of these shapes and of the types of the graph.
    pub(crate) fn compiled_for(&mut self, shapes: &[Vec<usize>]) -> Result<usize, ExecError> {
        match self.compiled.iter().position(|(known, _)| known == shapes) {
            Some(index) => Ok(index),
            None => self.compile(plan::with_shapes(&self.graph, shapes)?, shapes.to_vec()),
        }
    }

    /// Stores an input of a compiled form.
    pub(crate) fn put(&mut self, index: usize, input: usize, value: &Tensor) {
        let Compiled { plan, values, .. } = &mut self.compiled[index].1;
        values.put(plan, &plan.inputs[input], Cow::Borrowed(value));
    }

    /// An input of a compiled form, as it is now.
    pub(crate) fn get(&self, index: usize, input: usize) -> Result<Tensor, ExecError> {
        let Compiled { plan, values, .. } = &self.compiled[index].1;
        Ok(values.get(plan, &plan.inputs[input])?.into_owned())
    }

    /// A result of a compiled form.
    pub(crate) fn result(&self, index: usize, output: usize) -> Result<Tensor, ExecError> {
        let Compiled { plan, values, .. } = &self.compiled[index].1;
        Ok(values.get(plan, &plan.results[output])?.into_owned())
    }

    /// Gives residents their next values, as far as they have not been computed in their places.
    pub(crate) fn carry(&mut self, index: usize) -> Result<(), ExecError> {
        let Compiled { plan, values, .. } = &mut self.compiled[index].1;
        plan.moves.iter().try_for_each(|(from, to)| values.carry(plan, from, to))
    }

    /// What computes layers of compressed weights in the form that was compiled last.
    pub(crate) fn choices(&self) -> &[Choice] {
        self.compiled.last().map_or(&[], |(_, compiled)| compiled.plan.choices())
    }

    /// Runs all steps of a compiled form.
    pub(crate) fn run_stages(&mut self, index: usize) -> Result<(), ExecError> {
        let compiled = &mut self.compiled[index].1;
        for i in 0..compiled.stages.len() {
            match &compiled.stages[i] {
                Stage::Kernels(_, calls) => calls.run(&self.team, false),
                Stage::Host(step) => compiled.on_host(*step)?,
            }
        }
        Ok(())
    }

    /// [`JitExecutable::run_stages`], timing each step.
    pub(crate) fn time_stages(&mut self, index: usize) -> Result<Vec<StepTime>, ExecError> {
        let compiled = &mut self.compiled[index].1;
        let mut times = Vec::new();
        for i in 0..compiled.stages.len() {
            match &compiled.stages[i] {
                Stage::Kernels(first, calls) => {
                    calls.run(&self.team, true);
                    let ends = calls.ends();
                    let begins = std::iter::once(Duration::ZERO).chain(ends.iter().copied());
                    for (call, (begin, &end)) in begins.zip(&ends).enumerate() {
                        times.push(compiled.step_time(first + call, end.saturating_sub(begin)));
                    }
                }
                Stage::Host(step) => {
                    let (step, start) = (*step, Instant::now());
                    compiled.on_host(step)?;
                    times.push(compiled.step_time(step, start.elapsed()));
                }
            }
        }
        Ok(times)
    }

    /// The index of the compiled form for these inputs.
    fn prepare(&mut self, inputs: &[Tensor]) -> Result<usize, ExecError> {
        let types = self.graph.inputs().iter().map(|&input| self.graph.ty(input).as_tensor().map(|ty| ty.dtype));
        let same_types = types.zip(inputs).all(|(ty, input)| ty.is_none_or(|dtype| dtype == input.dtype()));
        let same = |shapes: &[Vec<usize>]| shapes.iter().map(Vec::as_slice).eq(inputs.iter().map(Tensor::shape));
        if same_types && let Some(index) = self.compiled.iter().position(|(shapes, _)| same(shapes)) {
            return Ok(index);
        }
        interp::check_inputs(&self.graph, inputs)?;
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|t| t.shape().to_vec()).collect();
        self.compile(plan::with_shapes(&self.graph, &shapes)?, shapes)
    }

    /// Runs all steps; the index of the compiled form that has the results.
    fn run_steps(&mut self, inputs: &[Tensor]) -> Result<usize, ExecError> {
        let index = self.prepare(inputs)?;
        self.compiled[index].1.load(inputs);
        self.run_stages(index)?;
        Ok(index)
    }
}

impl Executable for JitExecutable {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecError> {
        let index = self.run_steps(inputs)?;
        self.compiled[index].1.results()
    }

    fn run_into(&mut self, inputs: &[Tensor], results: &mut [Tensor]) -> Result<(), ExecError> {
        let index = self.run_steps(inputs)?;
        let Compiled { plan, values, .. } = &self.compiled[index].1;
        check_results(plan.results.len(), results)?;
        plan.results.iter().zip(results).try_for_each(|(home, result)| values.get_into(plan, home, result))
    }

    fn profile(&mut self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Vec<StepTime>), ExecError> {
        let index = self.prepare(inputs)?;
        self.compiled[index].1.load(inputs);
        let times = self.time_stages(index)?;
        Ok((self.compiled[index].1.results()?, times))
    }
}

impl Compiled {
    fn new(planned: Planned, (target, team): (&Target, &Team), shared: &mut Packed) -> Result<Compiled, ExecError> {
        // Descriptions of code are larger than code: each is made when its turn comes.
        let works = planned.works().to_vec();
        let schedules = works.iter().map(|work| work.schedule(target.vectors));
        let (kernels, plan) = if target.threads > 1 {
            thread::scope(|scope| {
                let generating = scope.spawn(|| generate(schedules, target));
                let plan = planned.pack(shared);
                (generating.join().expect("code generation does not panic"), plan)
            })
        } else {
            (generate(schedules, target), planned.pack(shared))
        };
        let ((kernels, ranges), plan) = (kernels?, plan?);
        let mut values = Values::new(&plan)?;
        let arena_at = values.arena.address();
        let packed: Vec<usize> = plan.packed.iter().map(|memory| memory.read_address()).collect();
        let mut stages = Vec::new();
        let mut uses: Vec<Use> = Vec::new();
        for (i, step) in plan.steps.iter().enumerate() {
            match &step.kind {
                StepKind::Kernel { work, args, overlaps_next, .. } => {
                    let args = args
                        .iter()
                        .map(|arg| match arg {
                            Arg::Buffer(i, from) => arena_at + plan.buffers[*i].offset + from,
                            Arg::Constant(i, from) => packed[*i] + from,
                        })
                        .collect();
                    let (kernel, cycles) = (kernels[*work].clone(), plan.works[*work].cycles());
                    uses.push(Use { kernel, args, range: ranges[*work], cycles, barrier: !overlaps_next });
                }
                StepKind::Interp { .. } | StepKind::Gather(_) | StepKind::Convert(_) => {
                    Stage::of_kernels(&mut uses, i, team, &mut stages);
                    stages.push(Stage::Host(i));
                }
            }
        }
        Stage::of_kernels(&mut uses, plan.steps.len(), team, &mut stages);
        Ok(Compiled { plan, stages, values, picks: Vec::new() })
    }

    fn load(&mut self, inputs: &[Tensor]) {
        for (home, input) in self.plan.inputs.iter().zip(inputs) {
            self.values.put(&self.plan, home, Cow::Borrowed(input));
        }
    }

    fn results(&self) -> Result<Vec<Tensor>, ExecError> {
        self.plan.results.iter().map(|home| Ok(self.values.get(&self.plan, home)?.into_owned())).collect()
    }

    fn step_time(&self, step: usize, time: Duration) -> StepTime {
        let step = &self.plan.steps[step];
        let (kernel, macs, [bytes, weight_bytes]) = match &step.kind {
            StepKind::Kernel { work, args, .. } => {
                let work = &self.plan.works[*work];
                (work.to_string(), work.macs(), self.bytes(work, args))
            }
            StepKind::Interp { .. } => ("interp".to_owned(), 0, [0; 2]),
            StepKind::Gather(_) => ("gather".to_owned(), 0, [0; 2]),
            StepKind::Convert(_) => ("convert".to_owned(), 0, [0; 2]),
        };
        let (node, layer) = (step.node.clone(), step.layer.clone());
        StepTime { node, layer, kernel, time, macs, bytes, weight_bytes }
    }

    /// Does a step that has no kernel.
    fn on_host(&mut self, step: usize) -> Result<(), ExecError> {
        match &self.plan.steps[step].kind {
            StepKind::Interp { .. } => self.interpret(step),
            StepKind::Gather(_) => self.gather(step).map_err(|source| failed(&self.plan.steps[step], "gather", source)),
            StepKind::Convert(_) => self.convert(step),
            StepKind::Kernel { .. } => unreachable!("kernels are called, not stages of their own"),
        }
    }

    fn gather(&mut self, step: usize) -> Result<(), EvalError> {
        let Compiled { plan, values, picks, .. } = self;
        let StepKind::Gather(gather) = &plan.steps[step].kind else { unreachable!("only gathers come here") };
        let indices = values.get(plan, &gather.indices).expect("indices are in a slot or constant");
        gather.extents.picks(indices.data(), picks)?;
        drop(indices);
        let starts = gather.extents.starts(picks);
        let inner = gather.extents.inner;
        let to = plan.buffers[gather.to].offset / 4;
        let arena = values.arena.numbers_mut();
        match gather.from {
            Arg::Buffer(buffer, byte) => {
                let from = (plan.buffers[buffer].offset + byte) / 4;
                for (i, start) in starts.enumerate() {
                    arena.copy_within(from + start..from + start + inner, to + i * inner);
                }
            }
            Arg::Constant(constant, byte) => {
                let from = &plan.packed[constant].numbers()[byte / 4..];
                for (slice, start) in arena[to..].chunks_exact_mut(inner).zip(starts) {
                    slice.copy_from_slice(&from[start..start + inner]);
                }
            }
        }
        Ok(())
    }

    fn convert(&mut self, step: usize) -> Result<(), ExecError> {
        let Compiled { plan, values, .. } = self;
        let StepKind::Convert(convert) = &plan.steps[step].kind else { unreachable!("only conversions come here") };
        values.convert(plan, &convert.from, plan.buffers[convert.to].offset / 4)
    }

    fn interpret(&mut self, step: usize) -> Result<(), ExecError> {
        let Compiled { plan, values, .. } = self;
        let StepKind::Interp { op, operands, results } = &plan.steps[step].kind else {
            unreachable!("only interpreter steps come here")
        };
        let tensors: Vec<Option<Cow<'_, Tensor>>> = operands
            .iter()
            .map(|home| home.as_ref().map(|home| values.get(plan, home)).transpose())
            .collect::<Result<_, _>>()?;
        let tensors: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_deref).collect();
        let computed = interp::eval(op, &tensors).map_err(|source| failed(&plan.steps[step], op.name(), source))?;
        for (home, value) in results.iter().zip(computed) {
            values.put(plan, home, Cow::Owned(value));
        }
        Ok(())
    }

    /// Bytes of everything a kernel is given, and of the weights among it: the second argument of layers.
    fn bytes(&self, work: &Work, args: &[Arg]) -> [usize; 2] {
        let bytes = |arg: &Arg| match *arg {
            Arg::Buffer(i, _) => self.plan.buffers[i].bytes,
            Arg::Constant(i, _) => self.plan.packed[i].numbers().len() * 4,
        };
        let weights = args.get(1).filter(|arg| work.macs() > 0 && matches!(arg, Arg::Constant(..)));
        [args.iter().map(bytes).sum(), weights.map_or(0, bytes)]
    }
}

fn failed(step: &Step, op: &str, source: EvalError) -> ExecError {
    ExecError::Node { node: step.node.clone(), op: op.to_owned(), source }
}
