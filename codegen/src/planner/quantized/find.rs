//! Which nodes compute with codes: layers between a `dequantize_linear` and a `quantize_linear`.
//!
//! Quantizers write a model as arithmetic on numbers around which values are quantized and dequantized again. A value
//! that is quantized and only ever dequantized on the same grid is kept as codes, and what lies between the
//! dequantization of codes and the next quantization is one kernel: a product with weights that are codes, a sum, a
//! pool. A product that is quantized only to be added to something takes the sum in.

use std::collections::{HashMap, HashSet};

use optc_ir::op::{Binary, Unary, Variadic, infer};
use optc_ir::{DType, Graph, NodeId, Op, ValueId};

use super::product::{Product, product};
use crate::tile::function::Function;
use crate::tile::{LANES, pixels};

/// What codes stand for: `(code − zero)·scale`. Codes with sign are kept without it, 128 higher, and so is their zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Grid {
    pub(super) scale: f32,
    pub(super) zero: u8,
    signed: bool,
}

/// What computes a value that is kept as codes.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// A convolution or matrix product.
    Product(Box<Product>),
    /// Two values added, and functions of the sum, of numbers.
    Sum([ValueId; 2], Vec<Function>),
    /// A pool of the value.
    Pool(NodeId, ValueId),
    /// The mean of each plane.
    Mean(ValueId),
    /// Values joined along channels, all but the last of whole blocks.
    Concat(Vec<ValueId>),
    /// The same codes in another shape.
    View(ValueId),
    /// Numbers made codes; in pixels of four bytes if all that read them are convolutions over few channels.
    Quantize(ValueId, bool),
}

/// A layer, named by the `quantize_linear` that ends it.
#[derive(Clone, Debug)]
pub(in crate::planner) struct Layer {
    pub(super) body: Body,
    pub(super) grid: Grid,
    /// Nodes that nothing else needs.
    nodes: Vec<NodeId>,
}

/// What was found.
#[derive(Debug, Default)]
pub(in crate::planner) struct Found {
    pub(in crate::planner) layers: HashMap<NodeId, Layer>,
    /// Nodes that layers compute or decode themselves, and the layer that ends them.
    pub(in crate::planner) absorbed: HashMap<NodeId, NodeId>,
    /// Values that are quantized and dequantized for what computes with numbers, by their `dequantize_linear`: the
    /// numbers before, and what becomes of them.
    pub(in crate::planner) on_grid: HashMap<NodeId, (ValueId, Function)>,
}

impl Grid {
    /// The grid of a `quantize_linear` or `dequantize_linear`, if one constant grid of bytes is that of all elements.
    pub(super) fn of(graph: &Graph, node: NodeId) -> Option<Grid> {
        let codes = match graph.op(node) {
            Op::QuantizeLinear(_) => node.into(),
            Op::DequantizeLinear(_) => graph.operand(node, 0)?,
            _ => return None,
        };
        let signed = match graph.ty(codes).as_tensor()?.dtype {
            DType::U8 => false,
            DType::I8 => true,
            _ => return None,
        };
        let scale = graph.constant_operand(node, 1)?.decode();
        let &[scale] = scale.as_f32()? else { return None };
        let zero = match graph.operand(node, 2) {
            None => 0,
            Some(_) => match graph.constant_operand(node, 2)?.decode().data().to_i64()?[..] {
                [zero] => zero,
                _ => return None,
            },
        };
        let zero = u8::try_from(if signed { zero + 128 } else { zero }).ok()?;
        (scale.is_normal() && scale > 0.0).then_some(Grid { scale, zero, signed })
    }
}

impl Body {
    /// The values it reads as codes.
    fn reads(&self) -> Vec<ValueId> {
        match self {
            Body::Product(product) => product.reads(),
            Body::Sum(values, _) => values.to_vec(),
            Body::Concat(values) => values.clone(),
            Body::Pool(_, x) | Body::Mean(x) | Body::View(x) => vec![*x],
            Body::Quantize(..) => Vec::new(),
        }
    }
}

/// A shape as images: rows of a matrix, or of several, are images of one pixel.
pub(super) fn images(graph: &Graph, value: ValueId) -> Option<[usize; 4]> {
    let shape = graph.ty(value).as_tensor()?.fixed_shape()?;
    let images = match shape[..] {
        [n, c] => [n, c, 1, 1],
        [a, b, c] => [a * b, c, 1, 1],
        [n, c, h, w] => [n, c, h, w],
        _ => return None,
    };
    (!images.contains(&0)).then_some(images)
}

/// Finds the layers of a graph of known shapes, if there is code for `products` of codes; else only values on grids.
pub(in crate::planner) fn find(graph: &Graph, products: bool) -> Found {
    let order = graph.topo_order();
    let mut finder = Finder { graph, known: known(graph, &order), layers: HashMap::new() };
    for &node in &order {
        if products
            && let Op::QuantizeLinear(_) = graph.op(node)
            && let Some(layer) = finder.layer(node)
        {
            finder.layers.insert(node, layer);
        }
    }
    finder.drop_islands(&order);
    finder.narrow_pixels(&order);
    let Finder { layers, known, .. } = finder;
    let mut absorbed: HashMap<NodeId, NodeId> = HashMap::new();
    for &end in order.iter().filter(|node| layers.contains_key(node)) {
        absorbed.extend(layers[&end].nodes.iter().map(|&node| (node, end)));
    }
    // What is dequantized for layers alone is not.
    for &node in &order {
        let Op::DequantizeLinear(_) = graph.op(node) else { continue };
        let users = graph.uses(node.into());
        if let Some(&(first, _)) = users.first()
            && users.iter().all(|(user, _)| absorbed.contains_key(user))
        {
            absorbed.insert(node, absorbed[&first]);
        }
    }
    let mut on_grid = HashMap::new();
    for &node in order.iter().filter(|node| !layers.contains_key(node) && !known.contains(node)) {
        let Some((source, decoded)) = island(graph, node) else { continue };
        let grid = Grid::of(graph, node).expect("islands have one");
        let function = Function::OnGrid(grid.scale, grid.zero.into());
        absorbed.insert(node, decoded[0]);
        on_grid.extend(decoded.into_iter().map(|decoded| (decoded, (source, function))));
    }
    Found { layers, absorbed, on_grid }
}

/// The numbers that a `quantize_linear` quantizes, and the nodes that make numbers of them again, if nothing else reads
/// its result.
fn island(graph: &Graph, node: NodeId) -> Option<(ValueId, Vec<NodeId>)> {
    let Op::QuantizeLinear(_) = graph.op(node) else { return None };
    let grid = Grid::of(graph, node)?;
    let source = graph.operand(node, 0)?;
    let number = |value: ValueId| graph.ty(value).as_tensor().is_some_and(|ty| ty.dtype == DType::F32);
    let users: Vec<NodeId> = graph.uses(node.into()).into_iter().map(|(user, _)| user).collect();
    let decodes = |&user: &NodeId| {
        matches!(graph.op(user), Op::DequantizeLinear(_)) && Grid::of(graph, user) == Some(grid) && number(user.into())
    };
    let known = graph.ty(node).as_tensor()?.fixed_shape()?.iter().product::<usize>() > 0;
    let read = !users.is_empty() && users.iter().all(decodes);
    (known && read && number(source)).then_some((source, users))
}

/// Nodes whose results are known before any input is.
fn known(graph: &Graph, order: &[NodeId]) -> HashSet<NodeId> {
    let mut known: HashSet<NodeId> = HashSet::new();
    for &node in order {
        let constant = matches!(graph.op(node), Op::Const(_));
        let mut operands = graph.operands(node).into_iter().flatten().peekable();
        if constant || operands.peek().is_some() && operands.all(|value| known.contains(&value.node)) {
            known.insert(node);
        }
    }
    known
}

struct Finder<'g> {
    graph: &'g Graph,
    known: HashSet<NodeId>,
    layers: HashMap<NodeId, Layer>,
}

impl Finder<'_> {
    /// The layer that a `quantize_linear` ends, if its result can be kept as codes.
    fn layer(&mut self, end: NodeId) -> Option<Layer> {
        let graph = self.graph;
        let grid = Grid::of(graph, end)?;
        let source = graph.operand(end, 0)?;
        images(graph, source)?;
        (graph.ty(source).as_tensor()?.dtype == DType::F32).then_some(())?;
        let users = graph.uses(end.into());
        let decodes =
            |user: NodeId| matches!(graph.op(user), Op::DequantizeLinear(_)) && Grid::of(graph, user) == Some(grid);
        (!users.is_empty() && users.iter().all(|&(user, _)| decodes(user))).then_some(())?;
        let alone = self.body(end, grid).map(|(body, nodes)| Layer { body, grid, nodes });
        let quantize = || Layer { body: Body::Quantize(source, false), grid, nodes: Vec::new() };
        (!self.known.contains(&end)).then(|| alone.unwrap_or_else(quantize))
    }

    /// What computes the operand of a `quantize_linear` of codes, and its nodes.
    fn body(&mut self, end: NodeId, grid: Grid) -> Option<(Body, Vec<NodeId>)> {
        let graph = self.graph;
        let (mut value, mut user) = (graph.operand(end, 0)?, end);
        let (mut functions, mut nodes) = (Vec::new(), Vec::new());
        loop {
            (graph.sole_user(value) == Some(user)).then_some(())?;
            user = value.node;
            nodes.push(user);
            let Some((function, source)) = function(graph, user) else { break };
            functions.insert(0, function);
            value = source;
        }
        let node = user;
        let x = graph.operand(node, 0)?;
        let planar = graph.ty(x).as_tensor()?.shape.len() == 4;
        let body = match graph.op(node) {
            Op::Conv(_) | Op::Linear(_) | Op::Gemm(_) | Op::MatMul(_) => {
                let (codes, x_grid) = self.codes(x)?;
                Body::Product(Box::new(product(graph, node, (codes, x_grid), functions)?))
            }
            Op::Binary(Binary::Add) | Op::Variadic(Variadic::Sum) if graph.operands(node).len() == 2 => {
                return self.sum(node, functions, nodes);
            }
            Op::MaxPool(_) if functions.is_empty() && planar && graph.uses(node.result(1)).is_empty() => {
                Body::Pool(node, self.codes(x)?.0)
            }
            Op::AveragePool(pool) if functions.is_empty() && planar => {
                // The zero point of what is not there would have to count.
                let counts = pool.count_include_pad && pool.pads.iter().any(|&pad| pad > 0);
                (!counts && pool.auto_pad == optc_ir::op::AutoPad::Explicit).then_some(())?;
                Body::Pool(node, self.codes(x)?.0)
            }
            Op::Concat(concat) if functions.is_empty() => self.concat(node, concat.axis)?,
            Op::GlobalAveragePool(_) if functions.is_empty() && planar => Body::Mean(self.codes(x)?.0),
            Op::Flatten(_) | Op::Reshape(_) if functions.is_empty() => {
                let (codes, x_grid) = self.codes(x)?;
                let ([n, c, h, w], to) = (images(graph, codes)?, images(graph, node.into())?);
                (x_grid == grid && h * w == 1 && to == [n, c, 1, 1]).then_some(())?;
                Body::View(codes)
            }
            _ => return None,
        };
        Some((body, nodes))
    }

    /// The codes that a value is dequantized from, and their grid, if they are kept as codes.
    fn codes(&self, value: ValueId) -> Option<(ValueId, Grid)> {
        let Op::DequantizeLinear(_) = self.graph.op(value.node) else { return None };
        let codes = self.graph.operand(value.node, 0)?;
        Some((codes, self.layers.get(&codes.node)?.grid))
    }

    /// Values that are codes joined along channels, if none begins within a block of channels.
    fn concat(&self, node: NodeId, axis: i64) -> Option<Body> {
        let graph = self.graph;
        let rank = graph.ty(node).as_tensor()?.shape.len();
        let channels = if rank == 4 { 1 } else { rank - 1 };
        (infer::resolve_axis(axis, rank).ok()? == channels).then_some(())?;
        let operands = graph.operands(node).into_iter();
        let values: Vec<ValueId> = operands.map(|x| Some(self.codes(x?)?.0)).collect::<Option<_>>()?;
        let (_, first) = values.split_last()?;
        let whole = |&value: &ValueId| images(graph, value).is_some_and(|shape| shape[1].is_multiple_of(LANES));
        first.iter().all(whole).then_some(Body::Concat(values))
    }

    /// A sum of two values that are codes. What computes the second or the first takes it in, if it is a product that
    /// nothing else reads.
    fn sum(&mut self, node: NodeId, functions: Vec<Function>, mut nodes: Vec<NodeId>) -> Option<(Body, Vec<NodeId>)> {
        let graph = self.graph;
        let operands = [graph.operand(node, 0)?, graph.operand(node, 1)?];
        let values = [self.codes(operands[0])?.0, self.codes(operands[1])?.0];
        let shape = |value: ValueId| images(graph, value);
        (shape(values[0]) == shape(values[1])).then_some(())?;
        for own in [1, 0] {
            let other = values[1 - own];
            let read_once = graph.sole_user(operands[own]) == Some(node)
                && graph.sole_user(values[own]) == Some(operands[own].node)
                && other != values[own];
            let inner = values[own].node;
            let Some(layer) = self.layers.get(&inner).filter(|_| read_once) else { continue };
            let grid = layer.grid;
            let Body::Product(product) = &layer.body else { continue };
            let Some(product) = product.with_sum(grid, (other, self.layers[&other.node].grid), functions.clone())
            else {
                continue;
            };
            let layer = self.layers.remove(&inner).expect("it was there");
            nodes.extend(layer.nodes);
            nodes.extend([inner, operands[own].node]);
            return Some((Body::Product(Box::new(product)), nodes));
        }
        Some((Body::Sum(values, functions), nodes))
    }

    /// Takes out what is quantized only to be dequantized for something that does not compute with codes.
    fn drop_islands(&mut self, order: &[NodeId]) {
        let read: HashSet<ValueId> = self.in_order(order).flat_map(|(_, layer)| layer.body.reads()).collect();
        self.layers
            .retain(|&end, layer| !matches!(layer.body, Body::Quantize(..)) || read.contains(&ValueId::from(end)));
    }

    /// Lets images of few channels lie in narrow pixels where all that read them are convolutions that can.
    fn narrow_pixels(&mut self, order: &[NodeId]) {
        let (mut wide, mut inside) = (HashSet::new(), HashSet::new());
        for (_, layer) in self.in_order(order) {
            inside.extend(layer.nodes.iter().copied());
            match &layer.body {
                Body::Product(product) if product.takes_narrow_pixels(self.graph) => {
                    wide.extend(product.sum.as_ref().map(|sum| sum.other));
                }
                body => wide.extend(body.reads()),
            }
        }
        let graph = self.graph;
        for &end in order {
            let Some(Layer { body: Body::Quantize(_, narrow), .. }) = self.layers.get_mut(&end) else { continue };
            let few = images(graph, end.into()).is_some_and(|shape| shape[1] <= pixels::MAX_CHANNELS);
            let decoded = graph.uses(end.into()).into_iter().flat_map(|(user, _)| graph.uses(user.into()));
            let all_inside = decoded.into_iter().all(|(user, _)| inside.contains(&user));
            *narrow = few && all_inside && !wide.contains(&ValueId::from(end));
        }
    }

    fn in_order<'a>(&'a self, order: &'a [NodeId]) -> impl Iterator<Item = (NodeId, &'a Layer)> {
        order.iter().filter_map(|&node| Some((node, self.layers.get(&node)?)))
    }
}

/// A node as an elementwise function of its first operand.
fn function(graph: &Graph, node: NodeId) -> Option<(Function, ValueId)> {
    let x = graph.operand(node, 0)?;
    let number = |slot: usize, default: f32| match graph.operand(node, slot) {
        None => Some(default),
        Some(_) => graph.constant_operand(node, slot)?.decode().as_f32()?.first().copied(),
    };
    let function = match graph.op(node) {
        Op::Unary(Unary::Relu) => Function::Relu,
        Op::Unary(unary) => Function::of_unary(*unary)?,
        Op::LeakyRelu(l) => Function::LeakyRelu(l.alpha),
        Op::HardSigmoid(h) => Function::HardSigmoid(h.alpha, h.beta),
        Op::Clip(_) => Function::Clip(number(1, f32::NEG_INFINITY)?, number(2, f32::INFINITY)?),
        _ => return None,
    };
    Some((function, x))
}
