//! Builds plans: folds what is already known, asks `select` for kernels node by node, and leaves the rest to
//! the interpreter.

use std::collections::HashMap;
use std::sync::Arc;

use optc_ir::{DType, EvalError, ExecError, Graph, NodeId, Op, Tensor, Type, ValueId, interp};

use crate::plan::{ALIGN, Arg, Buffer, Home, Plan, Step, StepKind};
use crate::select::{self, Lowering};
use crate::work::Work;

/// Constants folded while planning stay below this many elements.
const FOLD_LIMIT: usize = 1 << 22;

/// A plan under construction; `select` fills it node by node.
pub(crate) struct Planner<'g> {
    /// The graph, all inputs of known shape.
    pub(crate) graph: &'g Graph,
    plan: Plan,
    homes: HashMap<ValueId, Home>,
    packed: HashMap<(NodeId, u8), usize>,
}

/// Plans a graph whose input shapes are known.
pub(crate) fn plan(graph: &Graph) -> Result<Plan, ExecError> {
    let folded = fold(graph)?;
    let graph = folded.as_ref().unwrap_or(graph);
    let mut planner = Planner { graph, plan: Plan::default(), homes: HashMap::new(), packed: HashMap::new() };
    for &input in graph.inputs() {
        let home = planner.place(input.into());
        planner.plan.inputs.push(home);
    }
    for node in graph.topo_order() {
        planner.node(node)?;
    }
    for (_, value) in graph.results() {
        let home = planner.home(value);
        planner.plan.results.push((home, fixed_shape(graph, value).unwrap_or_default()));
    }
    let mut plan = planner.plan;
    plan.assign_offsets();
    Ok(plan)
}

fn fixed_shape(graph: &Graph, value: ValueId) -> Option<Vec<usize>> {
    graph.ty(value).as_tensor()?.fixed_shape()
}

impl Planner<'_> {
    /// The shape of an `f32` value, if it is one of known shape and has elements.
    pub(crate) fn f32_shape(&self, value: ValueId) -> Option<Vec<usize>> {
        let ty = self.graph.ty(value).as_tensor()?;
        let shape = ty.fixed_shape()?;
        (ty.dtype == DType::F32 && shape.iter().product::<usize>() > 0).then_some(shape)
    }

    /// The elements of a constant `f32` operand.
    pub(crate) fn f32_constant(&self, value: ValueId) -> Option<Vec<f32>> {
        let constant = self.graph.constant(value)?;
        constant.decode().as_f32().map(<[f32]>::to_vec)
    }

    /// A scratch buffer of so many elements.
    pub(crate) fn scratch(&mut self, len: usize) -> usize {
        self.plan.buffers.push(Buffer { len, offset: 0, first: usize::MAX, last: 0 });
        self.plan.buffers.len() - 1
    }

    /// Decides where a value will lie.
    pub(crate) fn place(&mut self, value: ValueId) -> Home {
        let home = match self.f32_shape(value) {
            Some(shape) => Home::Buffer(self.scratch(shape.iter().product())),
            None => {
                self.plan.slots += 1;
                Home::Slot(self.plan.slots - 1)
            }
        };
        self.homes.insert(value, home);
        home
    }

    /// The buffer of an operand of a kernel: its own, or its place in the constant pool.
    pub(crate) fn arg(&mut self, value: ValueId) -> Arg {
        match self.homes.get(&value) {
            Some(Home::Buffer(buffer)) => Arg::Buffer(*buffer, 0),
            _ => self.pooled(value, 0, |elements| elements),
        }
    }

    /// The place of a constant in the pool after `pack` has laid it out; `layout` tells layouts of one constant
    /// apart.
    ///
    /// # Panics
    /// If the value is not an `f32` constant: select asks only for those.
    pub(crate) fn pooled(&mut self, value: ValueId, layout: u8, pack: impl FnOnce(Vec<f32>) -> Vec<f32>) -> Arg {
        if let Some(&offset) = self.packed.get(&(value.node, layout)) {
            return Arg::Pool(offset);
        }
        let elements = self.f32_constant(value).expect("kernels read buffers and f32 constants");
        let packed = pack(elements);
        let offset = self.pool(packed);
        self.packed.insert((value.node, layout), offset);
        Arg::Pool(offset)
    }

    /// Adds elements to the constant pool.
    pub(crate) fn pool(&mut self, elements: Vec<f32>) -> usize {
        let offset = self.plan.pool.len().next_multiple_of(ALIGN / 4);
        self.plan.pool.resize(offset, 0.0);
        self.plan.pool.extend(elements);
        offset
    }

    /// Appends a kernel step.
    pub(crate) fn kernel(&mut self, node: NodeId, work: Work, args: Vec<Arg>) {
        let index = self.plan.works.iter().position(|w| *w == work).unwrap_or_else(|| {
            self.plan.works.push(work);
            self.plan.works.len() - 1
        });
        let node = self.graph.name(node).to_owned();
        self.plan.steps.push(Step { node, kind: StepKind::Kernel { work: index, args } });
    }

    /// Where a value lies, for the interpreter or the caller.
    fn home(&mut self, value: ValueId) -> Home {
        if let Some(&home) = self.homes.get(&value) {
            return home;
        }
        let constant = self.graph.constant(value).expect("every value but constants has been placed");
        self.plan.constants.push(Arc::new(constant.decode()));
        let home = Home::Constant(self.plan.constants.len() - 1);
        self.homes.insert(value, home);
        home
    }

    fn node(&mut self, node: NodeId) -> Result<(), ExecError> {
        match self.graph.op(node) {
            Op::Input(_) | Op::Const(_) | Op::Return(_) => return Ok(()),
            Op::Opaque(opaque) => return Err(unsupported(self.graph, node, &opaque.op_type, "the operator")),
            Op::ConstHash(_) => {
                return Err(unsupported(self.graph, node, "const", "running a constant known only by its hash"));
            }
            _ => {}
        }
        match select::lower(self, node) {
            Lowering::Kernels => return Ok(()),
            Lowering::Alias(source) => {
                if let Some(&Home::Buffer(buffer)) = self.homes.get(&source) {
                    self.alias(node.into(), buffer);
                    return Ok(());
                }
            }
            Lowering::None => {}
        }
        let operands = self.graph.operands(node);
        let operands = operands
            .into_iter()
            .map(|v| v.map(|v| (self.home(v), fixed_shape(self.graph, v).unwrap_or_default())))
            .collect();
        let results = (0..self.graph.result_count(node)).map(|i| self.place(node.result(i))).collect();
        let kind = StepKind::Interp { op: self.graph.op(node).clone(), operands, results };
        self.plan.steps.push(Step { node: self.graph.name(node).to_owned(), kind });
        Ok(())
    }

    /// Gives a value the buffer of another: the same elements in another shape.
    fn alias(&mut self, value: ValueId, buffer: usize) {
        self.homes.insert(value, Home::Buffer(buffer));
    }
}

fn unsupported(graph: &Graph, node: NodeId, op: &str, what: &str) -> ExecError {
    let source = EvalError::Unsupported(what.to_owned());
    ExecError::Node { node: graph.name(node).to_owned(), op: op.to_owned(), source }
}

/// Evaluates what depends on constants alone, now that shapes are known. `None` if there is nothing.
fn fold(graph: &Graph) -> Result<Option<Graph>, ExecError> {
    let mut folded: Option<Graph> = None;
    for node in graph.topo_order() {
        let current = folded.as_ref().unwrap_or(graph);
        let op = current.op(node);
        let structural = matches!(op, Op::Input(_) | Op::Const(_) | Op::ConstHash(_) | Op::Return(_) | Op::Opaque(_));
        if structural || current.result_count(node) != 1 {
            continue;
        }
        let Some(tensor) = known(current, node) else { continue };
        let name = current.name(node).to_owned();
        let graph = folded.get_or_insert_with(|| graph.clone());
        let constant = graph.add_tensor(&name, tensor);
        graph.replace_uses(node.into(), constant.into());
    }
    if let Some(graph) = &mut folded {
        graph.gc();
        graph.infer_all().map_err(|(node, source)| ExecError::Node {
            op: String::new(),
            node,
            source: EvalError::Type(source),
        })?;
    }
    Ok(folded)
}

/// The value of a node, if it is known before any input is.
fn known(graph: &Graph, node: NodeId) -> Option<Tensor> {
    let Type::Tensor(ty) = graph.ty(node) else { return None };
    let shape = ty.fixed_shape()?;
    if let Some(contents) = graph.contents(node) {
        let ints: Option<Vec<i64>> = contents.iter().map(|c| c.int()).collect();
        if let Some(ints) = ints {
            return Some(Tensor::new(shape, optc_ir::Data::from_i64(ty.dtype, ints)));
        }
    }
    let operands = graph.operands(node);
    if ty.numel()? > FOLD_LIMIT || operands.iter().flatten().any(|&v| graph.constant(v).is_none()) {
        return None;
    }
    let tensors: Vec<Option<Tensor>> =
        operands.iter().map(|v| v.and_then(|v| graph.constant(v)).map(|c| c.decode())).collect();
    let tensors: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
    interp::eval(graph.op(node), &tensors).ok()?.pop()
}
