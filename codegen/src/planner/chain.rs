//! Chains: a node and the elementwise functions that follow it, computed in one kernel.
//!
//! A function joins the chain that feeds it if nothing else reads what it is fed. The chain is computed where
//! its last node stands, so that everything its functions read is there.

use optc_ir::op::{Act, Binary, Variadic};
use optc_ir::{Graph, NodeId, Op, ValueId};

use super::Planner;
use crate::tile::epilogue::{MAX_OPERANDS, Other};
use crate::tile::function::Function;

/// A node and the functions applied to its result.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) start: NodeId,
    /// What the functions are applied to if the start is one itself; else its result.
    pub(super) source: Option<ValueId>,
    pub(super) links: Vec<Link>,
    pub(super) end: NodeId,
}

/// One function of a chain.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) node: NodeId,
    pub(super) function: Function,
    pub(super) other: Beside,
}

/// What a function takes beside the running value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Beside {
    Nothing,
    Number(f32),
    Value(ValueId),
    /// One number a channel, axis 1 of the result.
    Channels(Vec<f32>),
}

/// Functions a chain may have.
const MAX_LINKS: usize = 8;

impl Chain {
    /// A node by itself, if it can begin a chain: a layer, or an elementwise function of its first operand that
    /// is not constant.
    pub(super) fn of(graph: &Graph, node: NodeId) -> Option<Chain> {
        let op = graph.op(node);
        let layer = matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_) | Op::MatMul(_) | Op::Gemm(_));
        if layer || matches!(op, Op::BatchNormTrain(_)) {
            return Some(Chain { start: node, source: None, links: Vec::new(), end: node });
        }
        let operands = graph.operands(node);
        let source = match op {
            Op::ActGrad(_) => operands[1]?,
            _ => operands.into_iter().flatten().find(|&v| graph.constant(v).is_none())?,
        };
        Some(Chain { start: node, source: Some(source), links: functions(graph, node, source)?, end: node })
    }

    /// All nodes, in order.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        let mut nodes = vec![self.start];
        nodes.extend(self.links.iter().map(|link| link.node));
        nodes.dedup();
        nodes
    }

    /// An activation and the functions of the links, as they stand in an epilogue. `add` makes what a function
    /// reads beside the running value the next operand.
    pub(super) fn steps(&self, act: Act, mut add: impl FnMut(&Beside) -> Option<()>) -> Option<Vec<(Function, Other)>> {
        let mut steps: Vec<_> = Function::of_act(act).into_iter().map(|function| (function, Other::None)).collect();
        let mut operands = 0;
        for Link { function, other, .. } in &self.links {
            let other = match other {
                Beside::Nothing => Other::None,
                Beside::Number(x) => Other::Number(*x),
                beside => {
                    add(beside)?;
                    operands += 1;
                    Other::Vector(operands - 1)
                }
            };
            steps.push((*function, other));
        }
        Some(steps)
    }

    /// Values read beside the running one.
    fn values(&self) -> usize {
        let buffer = |link: &&Link| matches!(link.other, Beside::Value(_) | Beside::Channels(_));
        self.links.iter().filter(buffer).count()
    }
}

impl Planner<'_> {
    /// Finds the chains of the graph.
    pub(super) fn find_chains(&mut self) {
        let graph = self.graph;
        for node in graph.topo_order() {
            if self.absorbed.contains_key(&node) || self.chains.contains_key(&node) {
                continue;
            }
            let Some(mut chain) = self.chain_of(node) else { continue };
            while let Some(longer) = self.longer(&chain) {
                chain = longer;
            }
            if chain.end == chain.start {
                continue;
            }
            for node in chain.nodes() {
                self.absorbed.insert(node, chain.end);
            }
            self.absorbed.remove(&chain.end);
            self.chains.insert(chain.end, chain);
        }
    }

    /// A node by itself, if it can begin a chain.
    pub(super) fn chain_of(&self, node: NodeId) -> Option<Chain> {
        if self.dynamic.scales(node) {
            return Some(Chain { start: node, source: None, links: Vec::new(), end: node });
        }
        let Some(&(source, function)) = self.on_grid.get(&node) else { return Chain::of(self.graph, node) };
        let links = vec![Link { node, function, other: Beside::Nothing }];
        Some(Chain { start: node, source: Some(source), links, end: node })
    }

    /// The node that alone dequantizes what a node quantizes, if that is all there is to it.
    fn dequantized(&self, node: NodeId) -> Option<NodeId> {
        let Op::QuantizeLinear(_) = self.graph.op(node) else { return None };
        self.graph.sole_user(node.into()).filter(|user| self.on_grid.contains_key(user))
    }

    /// The chain with the one node that reads its result, if that node is a function of the same shape and no
    /// other chain's.
    fn longer(&self, chain: &Chain) -> Option<Chain> {
        let graph = self.graph;
        let value = chain.end.into();
        let user = graph.sole_user(value)?;
        let decoded = self.dequantized(user);
        let user = decoded.unwrap_or(user);
        if self.absorbed.contains_key(&user) || self.chains.contains_key(&user) {
            return None;
        }
        let shape = self.f32_shape(value)?;
        if self.f32_shape(user.into())? != shape {
            return None;
        }
        let links = match decoded {
            Some(_) => vec![Link { node: user, function: self.on_grid.get(&user)?.1, other: Beside::Nothing }],
            None => functions(graph, user, value)?,
        };
        for link in &links {
            if let Beside::Value(other) = link.other
                && (other == value || !self.fits(&shape, other))
            {
                return None;
            }
        }
        let mut longer = chain.clone();
        longer.links.extend(links);
        longer.end = user;
        // The factors of dynamically quantized products are an operand, too.
        let operands = longer.values() + usize::from(self.dynamic.scales(chain.start));
        (longer.links.len() <= MAX_LINKS && operands <= MAX_OPERANDS).then_some(longer)
    }

    /// Whether every kernel that begins a chain can read a value beside its result: one of the same shape, or a
    /// constant along the last axis or along channels.
    fn fits(&self, shape: &[usize], other: ValueId) -> bool {
        let Some(other_shape) = self.f32_shape(other) else { return false };
        if other_shape == shape {
            return true;
        }
        let Some(constant) = self.graph.constant(other) else { return false };
        let along = if shape.len() >= 3 { 1 } else { shape.len() - 1 };
        let extents = constant.shape();
        let lead = shape.len().saturating_sub(extents.len());
        let at = |axis: usize| if axis < lead { 1 } else { extents[axis - lead] };
        extents.len() <= shape.len() && (0..shape.len()).all(|axis| at(axis) == 1 || axis == along)
            || extents.len() == 1 && extents[0] == shape[shape.len() - 1]
    }
}

/// A node as functions of one of its operands; `None` if it is not elementwise or there is no code for it.
fn functions(graph: &Graph, node: NodeId, value: ValueId) -> Option<Vec<Link>> {
    let link = |function, other| Link { node, function, other };
    let number = |slot: usize, default: f32| match graph.operand(node, slot) {
        None => Some(default),
        Some(_) => graph.constant_operand(node, slot)?.decode().as_f32()?.first().copied(),
    };
    let operands = graph.operands(node);
    if let Op::ActGrad(grad) = graph.op(node) {
        // What the derivative follows from stands beside the gradient.
        let v = operands[0].filter(|&v| v != value && operands[1] == Some(value))?;
        return Some(vec![link(Function::ActGrad(grad.act), Beside::Value(v))]);
    }
    let position = operands.iter().position(|&v| v == Some(value))?;
    let both = operands.len() == 2 && operands[0] == operands[1];
    Some(match graph.op(node) {
        Op::Unary(unary) => vec![link(Function::of_unary(*unary)?, Beside::Nothing)],
        Op::LeakyRelu(l) => vec![link(Function::LeakyRelu(l.alpha), Beside::Nothing)],
        Op::HardSigmoid(h) => vec![link(Function::HardSigmoid(h.alpha, h.beta), Beside::Nothing)],
        Op::Elu(e) => vec![link(Function::Elu(e.alpha), Beside::Nothing)],
        Op::Selu(s) => {
            vec![link(Function::Elu(s.alpha), Beside::Nothing), link(Function::Mul, Beside::Number(s.gamma))]
        }
        Op::ThresholdedRelu(t) => vec![link(Function::ThresholdedRelu(t.alpha), Beside::Nothing)],
        Op::Gelu(g) => vec![link(if g.tanh { Function::GeluTanh } else { Function::Gelu }, Beside::Nothing)],
        Op::Clip(_) if position == 0 => {
            let (lo, hi) = (number(1, f32::NEG_INFINITY)?, number(2, f32::INFINITY)?);
            vec![link(Function::Clip(lo, hi), Beside::Nothing)]
        }
        Op::Binary(Binary::Mul) if both => vec![link(Function::Square, Beside::Nothing)],
        Op::Binary(Binary::Pow) if position == 0 => {
            let functions: &[Function] = match single(graph, operands[1]?)? {
                2.0 => &[Function::Square],
                3.0 => &[Function::Cube],
                4.0 => &[Function::Square, Function::Square],
                0.5 => &[Function::Sqrt],
                -0.5 => &[Function::Sqrt, Function::Reciprocal],
                -1.0 => &[Function::Reciprocal],
                _ => return None,
            };
            functions.iter().map(|&function| link(function, Beside::Nothing)).collect()
        }
        Op::Binary(binary) if !both => {
            let function = Function::of_binary(*binary, position == 1)?;
            vec![link(function, beside(graph, operands[1 - position]?))]
        }
        Op::Variadic(Variadic::Mean) if operands.len() == 2 && !both => {
            let other = beside(graph, operands[1 - position]?);
            vec![link(Function::Add, other), link(Function::Mul, Beside::Number(0.5))]
        }
        Op::Variadic(variadic) if operands.len() == 2 && !both => {
            vec![link(Function::of_variadic(*variadic)?, beside(graph, operands[1 - position]?))]
        }
        Op::BatchNorm(norm) if position == 0 => {
            let parameter = |slot: usize| Some(graph.constant_operand(node, slot)?.decode().as_f32()?.to_vec());
            let (scale, bias, mean, var) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
            let factor: Vec<f32> = scale.iter().zip(&var).map(|(s, v)| s / (v + norm.eps).sqrt()).collect();
            let offset = (0..bias.len()).map(|i| bias[i] - mean[i] * factor[i]).collect();
            vec![link(Function::Mul, Beside::Channels(factor)), link(Function::Add, Beside::Channels(offset))]
        }
        _ => return None,
    })
}

fn beside(graph: &Graph, other: ValueId) -> Beside {
    single(graph, other).map_or(Beside::Value(other), Beside::Number)
}

/// A constant of one element.
fn single(graph: &Graph, value: ValueId) -> Option<f32> {
    let constant = graph.constant(value)?;
    if constant.len() != 1 {
        return None;
    }
    constant.decode().as_f32()?.first().copied()
}
