//! The plan: which kernel computes which node, in what order, and where every value lies.
//!
//! Plain data, made for one set of input shapes and one machine. Invariant: two buffers overlap in the arena
//! only if one is dead before the other is written ([`Plan::check`]).

use std::fmt;
use std::sync::Arc;

use optc_ir::{Dim, ExecError, Graph, Op, Tensor, Type};

use crate::choice::{Choice, Modelled, Selection};
use crate::convert::Convert;
use crate::gather::Gather;
use crate::layout::Layout;
use crate::memory::{ALIGN, Memory};
use crate::pack::Packed;
use crate::planner::{self, Planned};
use crate::target::Target;
use crate::tile::signed;
use crate::work::Work;

/// A piece of the arena.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Buffer {
    pub(crate) bytes: usize,
    /// Byte offset in the arena.
    pub(crate) offset: usize,
    /// The step that first writes it; inputs are written before step 0.
    pub(crate) first: usize,
    /// The last step that touches it; results live on after the last step.
    pub(crate) last: usize,
    /// Whether it keeps what is in it from run to run, zeros in the beginning.
    pub(crate) kept: bool,
}

/// A value in a buffer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) buffer: usize,
    pub(crate) layout: Layout,
}

/// Where the interpreter and the caller find a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Home {
    /// In the arena, as `f32` of this shape.
    Place(Place, Vec<usize>),
    /// In a slot that holds a tensor of any type and of a shape known only when it is written.
    Slot(usize),
    /// A constant that the interpreter reads.
    Constant(usize),
}

/// What a kernel is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arg {
    /// A buffer, from this byte on.
    Buffer(usize, usize),
    /// A packed constant, from this byte on.
    Constant(usize, usize),
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The node it computes, or a part of which.
    pub(crate) node: String,
    /// The first of the nodes that are computed with it: the one that has weights, if one has.
    pub(crate) layer: String,
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
        /// Whether the next step may begin before this one has ended: they touch different memory.
        overlaps_next: bool,
        /// An argument that the result, another argument, may take the place of: the kernel walks both alike and
        /// reads each element before it writes it.
        in_place: Option<(usize, usize)>,
    },
    /// Evaluates an operator that has no kernel in the interpreter.
    Interp {
        /// The operator.
        op: Op,
        /// Its operands.
        operands: Vec<Option<Home>>,
        /// Its results.
        results: Vec<Home>,
    },
    /// Moves slices that integers pick.
    Gather(Gather),
    /// Makes numbers of integers or truth values.
    Convert(Convert),
}

/// Everything the executor needs besides code.
#[derive(Debug, Default)]
pub struct Plan {
    /// Steps in order.
    pub(crate) steps: Vec<Step>,
    /// Distinct kernels.
    pub(crate) works: Vec<Work>,
    /// Buffers of the arena.
    pub(crate) buffers: Vec<Buffer>,
    /// Constants packed for kernels.
    pub(crate) packed: Vec<Arc<Memory>>,
    /// Constants the interpreter reads.
    pub(crate) constants: Vec<Tensor>,
    /// The number of slots.
    pub(crate) slots: usize,
    /// Where inputs go, in signature order.
    pub(crate) inputs: Vec<Home>,
    /// Where results come from, in signature order.
    pub(crate) results: Vec<Home>,
    /// What is moved when a run is over: results that take the places of residents.
    pub(crate) moves: Vec<(Home, Home)>,
    /// Bytes of the arena.
    pub(crate) arena: usize,
    /// What computes layers of compressed weights, and what it costs.
    pub(crate) choices: Vec<Choice>,
    pub(crate) modelled: Modelled,
}

impl Plan {
    /// Plans a graph whose input shapes are known.
    ///
    /// # Errors
    /// If an input has an open dimension, or a node can't be run at all: it is opaque.
    pub fn new(graph: &Graph, target: &Target) -> Result<Plan, ExecError> {
        Plan::selected(graph, target, &Selection::default())
    }

    /// [`Plan::new`], somebody else choosing algorithms.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn selected(graph: &Graph, target: &Target, selection: &Selection) -> Result<Plan, ExecError> {
        planned(graph, target, selection)?.pack(&mut Packed::default())
    }

    /// What would compute each layer of compressed weights for inputs of these shapes, in the order of the graph,
    /// and what the cost model says of all together: as a plan says it, without packing constants.
    ///
    /// # Errors
    /// As [`Plan::for_shapes`].
    pub fn choose(
        graph: &Graph,
        shapes: &[Vec<usize>],
        target: &Target,
        selection: &Selection,
    ) -> Result<(Vec<Choice>, Modelled), ExecError> {
        Ok(planned(&with_shapes(graph, shapes)?, target, selection)?.choices())
    }

    /// What computes each layer of compressed weights, in the order of the graph.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// What the cost model says of all layers that had a choice.
    pub fn modelled(&self) -> Modelled {
        self.modelled
    }

    /// Plans a graph for inputs of these shapes, in signature order.
    ///
    /// # Errors
    /// As [`Plan::new`], and if a type rule fails for these shapes.
    pub fn for_shapes(graph: &Graph, shapes: &[Vec<usize>], target: &Target) -> Result<Plan, ExecError> {
        Plan::new(&with_shapes(graph, shapes)?, target)
    }

    /// Gives every buffer its life and its place: first fit, in order of first use.
    pub(crate) fn assign_offsets(&mut self) {
        let end = self.steps.len();
        for buffer in &mut self.buffers {
            (buffer.first, buffer.last) = if buffer.kept { (0, end) } else { (usize::MAX, 0) };
        }
        let buffers = &mut self.buffers;
        let mut touch = |i: usize, step: usize| {
            let buffer = &mut buffers[i];
            buffer.first = buffer.first.min(step);
            buffer.last = buffer.last.max(step);
        };
        let homes = self.inputs.iter().map(|h| (h, 0)).chain(self.results.iter().map(|h| (h, end)));
        for (home, step) in homes {
            if let Home::Place(place, _) = home {
                touch(place.buffer, step);
            }
        }
        for (step, Step { kind, .. }) in self.steps.iter().enumerate() {
            match kind {
                StepKind::Kernel { args, overlaps_next, .. } => {
                    for arg in args {
                        if let Arg::Buffer(i, _) = arg {
                            touch(*i, step);
                            // What the next step writes must not take the place of what this one still uses.
                            touch(*i, step + usize::from(*overlaps_next));
                        }
                    }
                }
                StepKind::Interp { operands, results, .. } => {
                    for home in operands.iter().flatten().chain(results) {
                        if let Home::Place(place, _) = home {
                            touch(place.buffer, step);
                        }
                    }
                }
                StepKind::Gather(gather) => {
                    if let Arg::Buffer(from, _) = gather.from {
                        touch(from, step);
                    }
                    touch(gather.to, step);
                }
                StepKind::Convert(convert) => touch(convert.to, step),
            }
        }
        let mut order: Vec<usize> = (0..self.buffers.len()).filter(|&i| self.buffers[i].first != usize::MAX).collect();
        order.sort_by_key(|&i| (self.buffers[i].first, i));
        let mut placed: Vec<usize> = Vec::new();
        for i in order {
            if let Some(j) = self.replaced_by(i) {
                self.buffers[i].offset = self.buffers[j].offset;
                placed.push(i);
                continue;
            }
            let (first, last, size) = (self.buffers[i].first, self.buffers[i].last, room(self.buffers[i].bytes));
            let mut busy: Vec<(usize, usize)> = placed
                .iter()
                .map(|&j| &self.buffers[j])
                .filter(|b| b.first <= last && first <= b.last)
                .map(|b| (b.offset, b.offset + room(b.bytes)))
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

    /// The buffer that a buffer may take the place of: its first step reads the other one, for the last time,
    /// element by element as it writes.
    fn replaced_by(&self, i: usize) -> Option<usize> {
        let buffer = &self.buffers[i];
        if buffer.kept {
            return None;
        }
        let StepKind::Kernel { args, in_place: Some((from, to)), .. } = &self.steps.get(buffer.first)?.kind else {
            return None;
        };
        match (args.get(*from)?, args.get(*to)?) {
            (Arg::Buffer(j, _), Arg::Buffer(result, _)) if *result == i => {
                let replaced = &self.buffers[*j];
                let once = args.iter().filter(|arg| matches!(arg, Arg::Buffer(other, _) if other == j)).count() == 1;
                (once && replaced.last == buffer.first && replaced.bytes == buffer.bytes).then_some(*j)
            }
            _ => None,
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
                let in_space = a.offset < b.offset + room(b.bytes) && b.offset < a.offset + room(a.bytes);
                let replaced = self.replaced_by(i) == Some(j) || self.replaced_by(j) == Some(i);
                if in_time && in_space && a.bytes > 0 && b.bytes > 0 && !(replaced && a.offset == b.offset) {
                    clashes.push((j, i));
                }
            }
        }
        clashes
    }

    /// What kernels would touch outside of what they are given, and values that do not fit their buffers, each
    /// in words; empty in a correct plan. Kernels may read the vector that the last element of a buffer is in,
    /// but not write it.
    pub fn check_reach(&self, target: &Target) -> Vec<String> {
        let reaches: Vec<_> = self.works.iter().map(|work| work.schedule(target.vectors)).collect();
        let reaches: Vec<_> = reaches.iter().map(|schedule| (schedule.pointers, schedule.reach())).collect();
        let mut wrong = Vec::new();
        for Step { node, kind, .. } in &self.steps {
            let StepKind::Kernel { work, args, .. } = kind else { continue };
            let (pointers, reach) = &reaches[*work];
            let mut fail = |what: String| wrong.push(format!("{node}: {}: {what}", self.works[*work]));
            if *pointers != args.len() {
                fail(format!("takes {pointers} buffers, is given {}", args.len()));
                continue;
            }
            for (i, arg) in args.iter().enumerate() {
                let (from, readable, writable) = match *arg {
                    Arg::Buffer(buffer, from) => (from, room(self.buffers[buffer].bytes), self.buffers[buffer].bytes),
                    Arg::Constant(constant, from) => (from, self.packed[constant].numbers().len() * 4, 0),
                };
                for (verb, span, bytes) in [("reads", reach.reads[i], readable), ("writes", reach.writes[i], writable)]
                {
                    let (first, behind) = span.unwrap_or((0, 0));
                    let (first, behind) = (first + signed(from), behind + signed(from));
                    if span.is_some() && (first < 0 || behind > signed(bytes)) {
                        fail(format!("{verb} bytes {first}..{behind} of argument {i}, which has {bytes}"));
                    }
                }
            }
        }
        for home in self.homes() {
            if let Home::Place(place, shape) = home {
                let (first, behind) = place.layout.span(shape);
                let bytes = self.buffers[place.buffer].bytes;
                if first < 0 || behind > signed(bytes) {
                    wrong.push(format!("a value of {shape:?} lies in bytes {first}..{behind} of a buffer of {bytes}"));
                }
            }
        }
        wrong
    }

    /// Every place where the interpreter or the caller finds a value.
    fn homes(&self) -> impl Iterator<Item = &Home> {
        let of_steps = self.steps.iter().flat_map(|step| match &step.kind {
            StepKind::Interp { operands, results, .. } => operands.iter().flatten().chain(results).collect(),
            StepKind::Gather(gather) => vec![&gather.indices],
            StepKind::Convert(convert) => vec![&convert.from],
            StepKind::Kernel { .. } => Vec::new(),
        });
        self.inputs.iter().chain(&self.results).chain(of_steps)
    }

    /// Bytes of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.arena
    }

    /// Bytes of all buffers, if each had its own.
    pub fn buffer_bytes(&self) -> usize {
        self.buffers.iter().filter(|b| b.first != usize::MAX).map(|b| room(b.bytes)).sum()
    }
}

fn planned(graph: &Graph, target: &Target, selection: &Selection) -> Result<Planned, ExecError> {
    for &input in graph.inputs() {
        if let Some(open) = open_dim(graph.ty(input)) {
            let name = graph.name(input);
            return Err(ExecError::Signature(format!("input {name}: {open} is open; bind it to an extent")));
        }
    }
    planner::plan(graph, target, selection, &[])
}

/// The graph with inputs of these shapes.
///
/// # Errors
/// If a type rule fails for them.
pub(crate) fn with_shapes(graph: &Graph, shapes: &[Vec<usize>]) -> Result<Graph, ExecError> {
    let mut fixed = graph.clone();
    for (&input, shape) in graph.inputs().iter().zip(shapes) {
        if let Type::Tensor(ty) = graph.ty(input) {
            let ty = Type::tensor(ty.dtype, shape.iter().copied());
            // Rules that fail for these extents are reported once every input is set.
            let _ = fixed.set_input_type(input, ty);
        }
    }
    fixed.infer_all().map_err(|(node, source)| ExecError::Node {
        op: "type".to_owned(),
        node,
        source: source.into(),
    })?;
    Ok(fixed)
}

/// The first open dimension of an input, in words.
fn open_dim(ty: &Type) -> Option<String> {
    let Type::Tensor(ty) = ty else { return Some("its type".to_owned()) };
    ty.shape.iter().enumerate().find_map(|(axis, dim)| match dim {
        Dim::Fixed(_) => None,
        Dim::Sym(symbol) => Some(format!("dimension {}", symbol.as_str())),
        Dim::Any => Some(format!("axis {axis}")),
    })
}

/// What a buffer takes: whole cache lines, and one more, since kernels may read the vector that its last
/// element is in.
fn room(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN) + ALIGN
}

/// One line a step: the node, the kernel, where its operands and results lie. Then one line for each layer of
/// compressed weights: what computes it, and why.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packed: usize = self.packed.iter().map(|m| m.numbers().len() * 4).sum();
        writeln!(f, "arena {} B, constants {packed} B, {} kernels", self.arena, self.works.len())?;
        let place = |home: &Home| match home {
            Home::Place(place, _) => {
                let layout = match &place.layout {
                    Layout::Strided { .. } => "",
                    Layout::Blocked(_) => " blocked",
                    Layout::Planar(_) => " planar",
                };
                format!("@{}{layout}", self.buffers[place.buffer].offset)
            }
            Home::Slot(i) => format!("slot{i}"),
            Home::Constant(i) => format!("const{i}"),
        };
        let argument = |arg: &Arg| match arg {
            Arg::Buffer(i, from) => format!("@{}", self.buffers[*i].offset + from),
            Arg::Constant(i, 0) => format!("packed{i}"),
            Arg::Constant(i, from) => format!("packed{i}+{from}"),
        };
        for step in &self.steps {
            match &step.kind {
                StepKind::Kernel { work, args, .. } => {
                    let args: Vec<String> = args.iter().map(argument).collect();
                    let work = &self.works[*work];
                    writeln!(f, "{}: {work}({}) {}", step.node, args.join(", "), work.shape())?;
                }
                StepKind::Interp { op, operands, results } => {
                    let operands: Vec<String> =
                        operands.iter().map(|o| o.as_ref().map_or("_".to_owned(), place)).collect();
                    let results: Vec<String> = results.iter().map(place).collect();
                    let (operands, results) = (operands.join(", "), results.join(", "));
                    writeln!(f, "{}: interp {}({operands}) -> {results}", step.node, op.name())?;
                }
                StepKind::Gather(gather) => {
                    let (from, indices) = (argument(&gather.from), place(&gather.indices));
                    writeln!(f, "{}: gather({from}, {indices}) -> @{}", step.node, self.buffers[gather.to].offset)?;
                }
                StepKind::Convert(convert) => {
                    let (from, to) = (place(&convert.from), self.buffers[convert.to].offset);
                    writeln!(f, "{}: convert({from}) -> @{to}", step.node)?;
                }
            }
        }
        if !self.choices.is_empty() {
            writeln!(f, "choices")?;
        }
        self.choices.iter().try_for_each(|choice| writeln!(f, "{choice}"))
    }
}

#[cfg(test)]
mod tests {
    use optc_ir::text;

    use super::*;
    use crate::target::Vectors;

    /// The checks find what they are there to find.
    #[test]
    fn broken_plans_are_found_out() {
        let text = "graph @g(%x: f32[1, 16, 4, 4]) -> (y: f32[1, 16, 4, 4]) {
  %w = const f32[16, 16, 3, 3] = splat(0.5)
  %y = conv(%x, %w) {pads=[1, 1, 1, 1]}
  %relu = relu(%y)
  return %relu
}";
        let graph = text::parse(text).unwrap();
        for vectors in Vectors::ALL {
            let target = Target { vectors, threads: 1 };
            let plan = || Plan::new(&graph, &target).unwrap();
            assert_eq!((plan().check(), plan().check_reach(&target)), (Vec::new(), Vec::new()));
            for i in 0..plan().buffers.len() {
                let mut small = plan();
                small.buffers[i].bytes -= 128;
                assert!(!small.check_reach(&target).is_empty(), "buffer {i} has room to spare\n{small}");
                let mut moved = plan();
                moved.buffers[i].offset = moved.buffers[(i + 1) % moved.buffers.len()].offset;
                (moved.buffers[i].first, moved.buffers[i].last) = (0, moved.steps.len());
                assert!(!moved.check().is_empty(), "buffer {i} may lie anywhere\n{moved}");
            }
            let last = plan().steps.len() - 1;
            let StepKind::Kernel { work, args, .. } = &plan().steps[last].kind else { unreachable!("a kernel") };
            let reach = plan().works[*work].schedule(vectors).reach();
            // An argument that a kernel leaves alone may be anywhere.
            let touched = |&i: &usize| reach.reads[i].or(reach.writes[i]).is_some();
            for i in (0..args.len()).filter(touched) {
                for by in [-1024, 4096] {
                    let mut shifted = plan();
                    let StepKind::Kernel { args, .. } = &mut shifted.steps[last].kind else { unreachable!("a kernel") };
                    let (Arg::Buffer(_, from) | Arg::Constant(_, from)) = &mut args[i];
                    let Some(at) = from.checked_add_signed(by) else { continue };
                    *from = at;
                    assert!(!shifted.check_reach(&target).is_empty(), "argument {i} may begin anywhere\n{shifted}");
                }
            }
        }
    }
}
