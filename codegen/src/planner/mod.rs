//! Builds plans: folds what is already known, fuses elementwise chains into what feeds them, chooses layouts
//! and kernels, and leaves the rest to the interpreter.
//!
//! Layouts: images that convolutions and pools read and write lie in blocks of channels, with the border of
//! zeros their readers need; those that sparse convolutions read and write lie in planes; everything else lies in
//! order of its axes. Transposes, slices and reshapes are views where strides can say them. Conversions are steps
//! of the plan, made once a value.

mod batch_norm;
mod chain;
mod choose;
mod coded;
mod conv;
mod conv_transpose;
mod convert;
mod few_pixels;
mod fold;
mod gather;
mod gradients;
mod image;
mod listed;
mod map;
mod mask;
mod matrix;
mod movement;
mod norm;
mod picked;
mod places;
mod planar;
mod quantized;
mod recurrent;
mod resize;
mod rows;
mod select;
mod shares;
mod signs;
mod sparse;
mod sparse_matrix;
mod sparse_vectors;
mod sums;
mod values;
mod view;
mod winograd;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use optc_ir::{Constant, DType, EvalError, ExecError, Graph, NodeId, Op, Resident, Tensor, ValueId};

use crate::choice::{Algorithm, Choice, Modelled, Selection};
use crate::layout::Pitch;
use crate::memory::Memory;
use crate::pack::{self, Layout, Packed, Packing};
use crate::plan::{Arg, Buffer, Home, Place, Plan, Step, StepKind};
use crate::target::Target;
use crate::tile::contract::Picked;
use crate::tile::contract::listed::Positions;
use crate::tile::function::Function;
use crate::work::Work;
use chain::Chain;
use mask::Masked;
use select::Choices;

/// A plan under construction.
pub(crate) struct Planner<'g> {
    /// The graph, all inputs of known shape.
    graph: &'g Graph,
    target: Target,
    selection: &'g Selection,
    plan: Plan,
    packings: Vec<Packing>,
    /// Constants the interpreter reads.
    constants: Vec<Arc<Constant>>,
    /// Where each value lies, in every layout it has been asked for; the first is the one it was computed in.
    places: HashMap<ValueId, Vec<Place>>,
    /// Values in slots and constants for the interpreter.
    homes: HashMap<ValueId, Home>,
    /// Packed constants by node and a word for how they are packed.
    packed: HashMap<(NodeId, String), usize>,
    /// Buffers of values packed as weights, by a word for how they are packed.
    packed_values: HashMap<(ValueId, String), usize>,
    /// Borders that the readers of a value need.
    borders: HashMap<ValueId, [usize; 4]>,
    /// Convolutions that are computed as sparse products, and how.
    sparse: HashMap<NodeId, Algorithm>,
    /// Convolutions that are computed by lists, and where their blocks of outputs have weights.
    listed: HashMap<NodeId, Arc<Positions>>,
    /// Convolutions whose outputs pick what they multiply.
    picked: HashMap<NodeId, Picked>,
    /// How pixels lie in planes of these extents, where not simply one after the other.
    pitches: HashMap<[usize; 2], Pitch>,
    /// Borders that those readers of a value need that read it in planes.
    planar_borders: HashMap<ValueId, [usize; 4]>,
    /// Chains by the node that ends them.
    chains: HashMap<NodeId, Chain>,
    /// What is computed where another node of its chain ends: all nodes of chains but the ends.
    absorbed: HashMap<NodeId, NodeId>,
    /// Softmaxes that are planned with the sum they read.
    masks: HashMap<NodeId, Masked>,
    /// The residents that results take the places of.
    replaces: HashMap<ValueId, ValueId>,
    /// Layers that compute with codes, by the node that ends them.
    layers: HashMap<NodeId, quantized::Layer>,
    /// What becomes of numbers that are quantized and dequantized, by the node that dequantizes them.
    on_grid: HashMap<NodeId, (ValueId, Function)>,
    /// Where values lie that are kept as codes.
    codes: HashMap<ValueId, quantized::CodePlace>,
    /// Where they lie in planes of quads of channels.
    code_planes: HashMap<ValueId, quantized::PlanesPlace>,
    /// Borders that the readers of codes need.
    code_borders: HashMap<ValueId, [usize; 4]>,
    /// Products of codes whose grid is known only when the numbers are.
    dynamic: quantized::Dynamic,
    /// What computes layers of compressed weights.
    choices: Choices,
    /// How many weights of layers are not zero, by their constant.
    nonzeros: HashMap<NodeId, usize>,
    /// Weights that are not zero, or quads of them, of all layers whose weights are sparse.
    sparse_weights: usize,
    /// The first node of the chain that is being planned.
    layer: Option<NodeId>,
}

/// A plan without its constants, and what they are made of. It does not need the graph any more.
pub(crate) struct Planned {
    plan: Plan,
    packings: Vec<Packing>,
    constants: Vec<Arc<Constant>>,
}

impl Planned {
    /// The plan's kernels, to generate code from.
    pub(crate) fn works(&self) -> &[Work] {
        &self.plan.works
    }

    /// Takes the choices made.
    pub(crate) fn choices(self) -> (Vec<Choice>, Modelled) {
        (self.plan.choices, self.plan.modelled)
    }

    /// The whole plan, sharing what other plans have packed.
    ///
    /// # Errors
    /// If the machine has no room for the constants.
    pub(crate) fn pack(self, shared: &mut Packed) -> Result<Plan, ExecError> {
        let packed = shared.pack(self.packings)?;
        Ok(Plan { packed, constants: pack::tensors(self.constants), ..self.plan })
    }
}

/// Plans a graph whose input shapes are known. Some inputs stay from run to run, and results take their places.
pub(crate) fn plan(
    graph: &Graph,
    target: &Target,
    selection: &Selection,
    residents: &[Resident],
) -> Result<Planned, ExecError> {
    let quantized::Found { layers, absorbed, on_grid } = quantized::find(graph, target.vectors.multiply_codes());
    let folded = fold::fold(graph, &absorbed)?;
    let graph = folded.as_ref().unwrap_or(graph);
    let mut planner = Planner {
        graph,
        target: *target,
        selection,
        plan: Plan::default(),
        packings: Vec::new(),
        constants: Vec::new(),
        places: HashMap::new(),
        homes: HashMap::new(),
        packed: HashMap::new(),
        packed_values: HashMap::new(),
        borders: HashMap::new(),
        sparse: HashMap::new(),
        listed: HashMap::new(),
        picked: HashMap::new(),
        pitches: HashMap::new(),
        planar_borders: HashMap::new(),
        chains: HashMap::new(),
        absorbed,
        masks: HashMap::new(),
        replaces: HashMap::new(),
        layers,
        on_grid,
        codes: HashMap::new(),
        code_planes: HashMap::new(),
        code_borders: HashMap::new(),
        dynamic: quantized::Dynamic::default(),
        choices: Choices::default(),
        nonzeros: HashMap::new(),
        sparse_weights: 0,
        layer: None,
    };
    let results = graph.results();
    for resident in residents {
        if let Some((_, value)) = resident.output.and_then(|output| results.get(output)) {
            planner.replaces.insert(*value, graph.inputs()[resident.input].into());
        }
    }
    planner.find_dynamic();
    planner.find_masks();
    planner.find_chains();
    planner.find_sparse();
    planner.find_borders();
    planner.find_code_borders();
    for &input in graph.inputs() {
        let home = planner.new_home(input.into());
        planner.plan.inputs.push(home);
    }
    for node in order(graph, !residents.is_empty()) {
        planner.node(node)?;
    }
    for (_, value) in graph.results() {
        let home = planner.home(value);
        planner.plan.results.push(home);
    }
    let Planner { mut plan, packings, constants, choices, .. } = planner;
    (plan.choices, plan.modelled) = choices.finish(graph);
    plan.carry(residents);
    plan.assign_offsets();
    Ok(Planned { plan, packings, constants })
}

/// The nodes in the order they are planned. Those of a step that only lead to results through elementwise
/// functions, updates of parameters, come last: then nothing reads what they replace any more.
fn order(graph: &Graph, step: bool) -> Vec<NodeId> {
    let mut order = graph.topo_order();
    if step {
        let mut last: HashSet<NodeId> = HashSet::new();
        for &node in order.iter().rev() {
            let elementwise = matches!(graph.op(node), Op::Unary(_) | Op::Binary(_) | Op::Variadic(_));
            let ends = |user: &NodeId| last.contains(user) || matches!(graph.op(*user), Op::Return(_));
            let users = (0..graph.result_count(node)).flat_map(|i| graph.uses(node.result(i)));
            if elementwise && users.map(|(user, _)| user).all(|user| ends(&user)) {
                last.insert(node);
            }
        }
        order.sort_by_key(|node| last.contains(node));
    }
    order
}

impl Planner<'_> {
    fn node(&mut self, node: NodeId) -> Result<(), ExecError> {
        match self.graph.op(node) {
            Op::Input(_) | Op::Const(_) | Op::Return(_) => return Ok(()),
            Op::Opaque(opaque) => return Err(unsupported(self.graph, node, &opaque.op_type, "the operator")),
            Op::ConstHash(_) => {
                return Err(unsupported(self.graph, node, "const", "running a constant known only by its hash"));
            }
            _ => {}
        }
        if self.absorbed.contains_key(&node) {
            return Ok(());
        }
        if let Some(layer) = self.layers.remove(&node) {
            return self.code_layer(node, &layer);
        }
        if let Some(chain) = self.chains.remove(&node) {
            self.layer = Some(chain.start);
            let planned = self.chain(&chain);
            self.layer = None;
            if planned.is_none() {
                // Without a kernel for its beginning the rest is worth no chain either.
                for node in chain.nodes() {
                    self.single(node)?;
                }
            }
            return Ok(());
        }
        self.single(node)
    }

    /// One node by itself.
    fn single(&mut self, node: NodeId) -> Result<(), ExecError> {
        let alone = self.chain_of(node);
        if let Some(alone) = alone
            && self.chain(&alone).is_some()
        {
            return Ok(());
        }
        let families = [
            Planner::dequantize,
            Planner::dynamic_quantize,
            Planner::view,
            Planner::image,
            Planner::rows,
            Planner::gather,
            Planner::convert,
            Planner::recurrent,
            Planner::resize,
            Planner::movement,
            Planner::norm,
            Planner::gradient,
        ];
        if families.iter().any(|family| family(self, node).is_some()) {
            return Ok(());
        }
        self.interpret(node);
        Ok(())
    }

    fn interpret(&mut self, node: NodeId) {
        let operands = self.graph.operands(node);
        let operands = operands.into_iter().map(|v| v.map(|v| self.home(v))).collect();
        let results = (0..self.graph.result_count(node)).map(|i| self.new_home(node.result(i))).collect();
        let kind = StepKind::Interp { op: self.graph.op(node).clone(), operands, results };
        self.step(node, kind);
    }

    /// Appends a kernel step.
    fn kernel(&mut self, node: NodeId, work: impl Into<Work>, args: Vec<Arg>) {
        let work = work.into();
        let index = self.plan.works.iter().position(|w| *w == work).unwrap_or_else(|| {
            self.plan.works.push(work);
            self.plan.works.len() - 1
        });
        self.step(node, StepKind::Kernel { work: index, args, overlaps_next: false, in_place: None });
    }

    /// Appends a step.
    fn step(&mut self, node: NodeId, kind: StepKind) {
        let name = |node| self.graph.name(node).to_owned();
        let step = Step { node: name(node), layer: name(self.layer.unwrap_or(node)), kind };
        self.plan.steps.push(step);
    }

    /// Lets the result of the last step, argument `to`, take the place of argument `from`, if there is one.
    fn allow_in_place(&mut self, from: Option<usize>, to: usize) {
        if let Some(StepKind::Kernel { in_place, .. }) = self.plan.steps.last_mut().map(|step| &mut step.kind) {
            *in_place = from.map(|from| (from, to));
        }
    }

    /// Lets the next step begin before the last one has ended.
    fn overlap(&mut self) {
        if let Some(StepKind::Kernel { overlaps_next, .. }) = self.plan.steps.last_mut().map(|step| &mut step.kind) {
            *overlaps_next = true;
        }
    }

    /// The shape of an `f32` value, if it is one of known shape and has elements.
    fn f32_shape(&self, value: ValueId) -> Option<Vec<usize>> {
        let ty = self.graph.ty(value).as_tensor()?;
        let shape = ty.fixed_shape()?;
        (ty.dtype == DType::F32 && shape.iter().product::<usize>() > 0).then_some(shape)
    }

    /// The elements of a constant `f32` operand, where planning has to look at them.
    fn f32_constant(&self, value: ValueId) -> Option<Tensor> {
        let tensor = self.graph.constant(value)?.decode();
        tensor.as_f32()?;
        Some(tensor)
    }

    /// A new buffer.
    fn buffer(&mut self, bytes: usize) -> usize {
        self.plan.buffers.push(Buffer { bytes, offset: 0, first: usize::MAX, last: 0, kept: false });
        self.plan.buffers.len() - 1
    }

    /// Makes a buffer keep what is in it from run to run.
    fn keep(&mut self, buffer: usize) {
        self.plan.buffers[buffer].kept = true;
    }

    /// Adds numbers for kernels.
    fn pack(&mut self, numbers: &[f32]) -> usize {
        self.packings.push(Packing::Numbers(numbers.to_vec()));
        self.packings.len() - 1
    }

    /// An `f32` constant as `layout` will lay it out; `how` tells layouts of one constant apart.
    fn packed(
        &mut self,
        value: ValueId,
        how: String,
        layout: impl FnOnce(&[f32]) -> Result<Memory, ExecError> + 'static,
    ) -> Option<Arg> {
        let constant = self.graph.constant(value).filter(|constant| constant.dtype() == DType::F32)?;
        let index = *self.packed.entry((value.node, how)).or_insert_with_key(|(_, how)| {
            self.packings.push(Packing::Constant(constant.clone(), how.clone(), Layout::Elements(Box::new(layout))));
            self.packings.len() - 1
        });
        Some(Arg::Constant(index, 0))
    }

    /// The index of what `layout` will make of a constant that it has itself.
    fn packed_with(
        &mut self,
        key: (NodeId, String),
        constant: &Arc<Constant>,
        layout: impl FnOnce() -> Result<Memory, ExecError> + 'static,
    ) -> usize {
        *self.packed.entry(key).or_insert_with_key(|(_, how)| {
            self.packings.push(Packing::Known(constant.clone(), how.clone(), Box::new(layout)));
            self.packings.len() - 1
        })
    }

    /// Where the interpreter or the caller finds a value.
    fn home(&mut self, value: ValueId) -> Home {
        if let Some(place) = self.places.get(&value).and_then(|places| places.first()) {
            return Home::Place(place.clone(), self.f32_shape(value).unwrap_or_default());
        }
        if let Some(home) = self.homes.get(&value) {
            return home.clone();
        }
        let constant = self.graph.constant(value).expect("every value but constants has been placed");
        self.constants.push(constant.clone());
        let home = Home::Constant(self.constants.len() - 1);
        self.homes.insert(value, home.clone());
        home
    }

    /// A home for a value that the interpreter or the caller writes.
    fn new_home(&mut self, value: ValueId) -> Home {
        match self.f32_shape(value) {
            Some(shape) => Home::Place(self.place_plain(value, &shape), shape),
            None => {
                self.plan.slots += 1;
                let home = Home::Slot(self.plan.slots - 1);
                self.homes.insert(value, home.clone());
                home
            }
        }
    }
}

fn unsupported(graph: &Graph, node: NodeId, op: &str, what: &str) -> ExecError {
    let source = EvalError::Unsupported(what.to_owned());
    ExecError::Node { node: graph.name(node).to_owned(), op: op.to_owned(), source }
}
