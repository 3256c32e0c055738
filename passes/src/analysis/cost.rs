//! What a graph costs: parameters, multiply-accumulates, bytes, energy.
//!
//! Everything follows from types and from the sizes constants report of themselves; nothing is run. A
//! dimension nobody has fixed counts as 1, and [`Cost::symbols`] says which those were. Products with a
//! zero weight count as MACs like any other: whether they can be skipped is the kernel's business.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use optc_ir::op::Unary;
use optc_ir::{Constant, Dim, Graph, NodeId, Op, Type, ValueId};

use crate::pass::Analysis;

/// Energy of one `f32` multiplication and addition, in pJ at 45 nm (Horowitz, ISSCC 2014).
const FLOAT_MAC_PJ: f64 = 3.7 + 0.9;
/// Energy of one `i32` multiplication and addition, in pJ.
const INT_MAC_PJ: f64 = 3.1 + 0.1;
/// Energy of moving 32 bits to or from a small on-chip SRAM, in pJ.
const SRAM_PJ: f64 = 5.0;
/// Energy of moving 32 bits from DRAM, in pJ.
const DRAM_PJ: f64 = 640.0;

/// Conversions and reorderings followed between a constant and the node that computes with it.
const MAX_CHAIN: usize = 8;

/// The cost of one run of a graph, by layer and in total.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Every node that owns parameters, multiplies, or carries foreign bytes; in topological order.
    pub layers: Vec<LayerCost>,
    /// The whole graph. Nodes and bytes that belong to no layer count here too.
    pub total: Totals,
    /// The dimensions that counted as 1 because they are known only at run time: names of symbols in
    /// order of appearance, `?` for nameless ones.
    pub symbols: Vec<String>,
}

/// The cost of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCost {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The name of its operator.
    pub op: String,
    /// The type of its first result.
    pub output: Type,
    /// The constants it owns. A constant with several users belongs to the first; one that reaches its
    /// user through a dequantization, cast or reordering belongs to that user.
    pub constants: Vec<NodeId>,
    /// Elements of the constants it owns that are weights or biases. Shapes, indices, limits, scalar
    /// factors, and scales and zero points of quantized values are not parameters.
    pub params: usize,
    /// Parameters that are not zero.
    pub nonzero: usize,
    /// Multiply-accumulates of products of matrices and convolutions. Elementwise work is not counted.
    pub macs: u64,
    /// Bytes of all constants it owns, as they are kept now.
    pub stored_bytes: usize,
    /// Estimated energy of one run, see [`Totals::energy_pj`].
    pub energy_pj: f64,
}

/// Sums over a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Nodes, inputs, constants and `return` included.
    pub nodes: usize,
    /// See [`LayerCost::params`].
    pub params: usize,
    /// See [`LayerCost::nonzero`].
    pub nonzero: usize,
    /// See [`LayerCost::macs`].
    pub macs: u64,
    /// Bytes of every constant in the graph as it is kept now, each payload once.
    pub stored_bytes: usize,
    /// The same in bits.
    pub stored_bits: u64,
    /// `macs · (multiplication + addition) + stored bits/32 · DRAM access + activation bits/32 · SRAM
    /// access`, summed over layers, in pJ at 45 nm: 3.7 + 0.9 for products of floats, 3.1 + 0.1 for
    /// products of integers, 640 for 32 bits from DRAM, 5 for 32 bits of SRAM. A layer reads its
    /// constants from DRAM once as they are stored, and its other operands and results through SRAM
    /// once. Table: Horowitz, "Computing's energy problem", ISSCC 2014.
    pub energy_pj: f64,
}

impl Analysis for Cost {
    fn of(graph: &Graph) -> Cost {
        let order = graph.topo_order();
        let mut symbols = Vec::new();
        let mut owned = owned_constants(graph, &order);
        let mut seen: HashSet<*const Constant> = HashSet::new();
        let mut layers = Vec::new();
        let mut total = Totals { nodes: graph.len(), ..Totals::default() };
        for &node in &order {
            if let Op::Const(constant) = graph.op(node) {
                if seen.insert(Arc::as_ptr(constant)) {
                    total.stored_bytes += constant.stored_bytes();
                }
                continue;
            }
            let owned = owned.remove(&node).unwrap_or_default();
            let layer = layer(graph, node, &owned, &mut symbols);
            if let Op::Opaque(opaque) = graph.op(node) {
                total.stored_bytes += opaque.payload.len();
            }
            if layer.params == 0 && layer.macs == 0 && !matches!(graph.op(node), Op::Opaque(_)) {
                continue;
            }
            total.params += layer.params;
            total.nonzero += layer.nonzero;
            total.macs = total.macs.saturating_add(layer.macs);
            total.energy_pj += layer.energy_pj;
            layers.push(layer);
        }
        total.stored_bits = 8 * total.stored_bytes as u64;
        Cost { layers, total, symbols }
    }
}

/// A constant, and the operand slot by which its owner reads it (the slot of the chain's first node if
/// it comes through one).
struct Owned {
    constant: NodeId,
    reader: NodeId,
    slot: usize,
}

/// The constants by owner, in order of age.
fn owned_constants(graph: &Graph, order: &[NodeId]) -> HashMap<NodeId, Vec<Owned>> {
    let position: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &node)| (node, i)).collect();
    let first_use =
        |value: ValueId| graph.uses(value).into_iter().min_by_key(|(user, slot)| (position.get(user).copied(), *slot));
    let mut owned: HashMap<NodeId, Vec<Owned>> = HashMap::new();
    for &node in order {
        if !matches!(graph.op(node), Op::Const(_)) {
            continue;
        }
        let Some((reader, slot)) = first_use(node.into()) else { continue };
        let mut owner = reader;
        for _ in 0..MAX_CHAIN {
            match first_use(owner.into()) {
                Some((next, _)) if moves_constant(graph, owner) && !matches!(graph.op(next), Op::Return(_)) => {
                    owner = next;
                }
                _ => break,
            }
        }
        owned.entry(owner).or_default().push(Owned { constant: node, reader, slot });
    }
    owned
}

/// Whether a node only reorders, converts or dequantizes constants on their way to the node that
/// computes with them.
fn moves_constant(graph: &Graph, node: NodeId) -> bool {
    // Weights come through a few such nodes at most; the limit keeps a long chain from costing a walk
    // for each of its nodes.
    let mut at = node;
    for _ in 0..MAX_CHAIN {
        if !is_mover(graph.op(at)) {
            return false;
        }
        match graph.operand(at, 0) {
            Some(value) if graph.constant(value).is_some() => return true,
            Some(value) => at = value.node,
            None => return false,
        }
    }
    false
}

/// Operators that only reorder or convert elements.
fn is_mover(op: &Op) -> bool {
    matches!(
        op,
        Op::DequantizeLinear(_)
            | Op::Cast(_)
            | Op::Transpose(_)
            | Op::Reshape(_)
            | Op::Squeeze(_)
            | Op::Unsqueeze(_)
            | Op::Unary(Unary::Identity)
    )
}

fn layer(graph: &Graph, node: NodeId, owned: &[Owned], symbols: &mut Vec<String>) -> LayerCost {
    let op = graph.op(node);
    let (mut params, mut nonzero, mut stored_bytes) = (0, 0, 0);
    for Owned { constant, reader, slot } in owned {
        let Some(payload) = graph.constant(*constant) else { continue };
        stored_bytes += payload.stored_bytes();
        if is_parameter(graph.op(*reader), *slot, payload) {
            params += payload.len();
            nonzero += payload.nonzeros();
        }
    }
    if let Op::Opaque(opaque) = op {
        stored_bytes += opaque.payload.len();
    }
    let macs = macs(graph, node, symbols);
    let mac_pj = if computes_in_integers(op) { INT_MAC_PJ } else { FLOAT_MAC_PJ };
    let mut moved_bits = 0.0;
    let operands = graph.operands(node).into_iter().flatten();
    let activations = operands.filter(|value| graph.constant(*value).is_none());
    for value in activations.chain((0..graph.result_count(node)).map(|i| node.result(i))) {
        if let Type::Tensor(ty) = graph.ty(value) {
            moved_bits += product(&ty.shape, symbols) as f64 * ty.dtype.bits() as f64;
        }
    }
    let energy_pj = macs as f64 * mac_pj + stored_bytes as f64 * 8.0 / 32.0 * DRAM_PJ + moved_bits / 32.0 * SRAM_PJ;
    LayerCost {
        node,
        name: graph.name(node).to_owned(),
        op: op.name().to_owned(),
        output: if graph.result_count(node) > 0 { graph.ty(node).clone() } else { Type::Unknown },
        constants: owned.iter().map(|o| o.constant).collect(),
        params,
        nonzero,
        macs,
        stored_bytes,
        energy_pj,
    }
}

/// Whether the constant in operand `slot` of an operator holds weights or biases.
fn is_parameter(op: &Op, slot: usize, constant: &Constant) -> bool {
    match op {
        Op::DequantizeLinear(_) => slot == 0,
        Op::ConvInteger(_) | Op::MatMulInteger(_) => slot < 2,
        Op::QLinearConv(_) => slot == 3 || slot == 8,
        Op::QLinearMatMul(_) => slot == 0 || slot == 3,
        Op::Clip(_)
        | Op::Pad(_)
        | Op::Resize(_)
        | Op::Range(_)
        | Op::OneHot(_)
        | Op::ConstantOfShape(_)
        | Op::QuantizeLinear(_) => false,
        _ => constant.dtype().is_float() && !constant.shape().is_empty(),
    }
}

fn computes_in_integers(op: &Op) -> bool {
    matches!(op, Op::ConvInteger(_) | Op::MatMulInteger(_) | Op::QLinearConv(_) | Op::QLinearMatMul(_))
}

/// Multiply-accumulates of a node; zero for operators that multiply no matrices.
pub(crate) fn macs(graph: &Graph, node: NodeId, symbols: &mut Vec<String>) -> u64 {
    let shape = |slot: usize| graph.operand(node, slot).and_then(|v| graph.ty(v).shape());
    let out = |symbols: &mut Vec<String>| graph.ty(node).shape().map_or(0, |shape| product(shape, symbols));
    match graph.op(node) {
        // Every output element is a sum over the window and the channels of its group.
        Op::Conv(_) | Op::ConvInteger(_) => window(shape(1), symbols).saturating_mul(out(symbols)),
        Op::QLinearConv(_) => window(shape(3), symbols).saturating_mul(out(symbols)),
        // Every element of `dy` meets the window and the channels of its group, as in the convolution.
        Op::ConvWeightGrad(_) => {
            let window = graph.ty(node).shape().map_or(0, |w| product(w.get(1..).unwrap_or_default(), symbols));
            window.saturating_mul(shape(1).map_or(0, |dy| product(dy, symbols)))
        }
        // Every input element is spread over the window and the channels of its group.
        Op::ConvTranspose(_) => {
            let spread = window(shape(1), symbols);
            spread.saturating_mul(shape(0).map_or(0, |x| product(x, symbols)))
        }
        Op::MatMul(_) | Op::MatMulInteger(_) | Op::QLinearMatMul(_) | Op::Linear(_) => {
            inner(shape(0).and_then(|a| a.last()), symbols).saturating_mul(out(symbols))
        }
        Op::Gemm(gemm) => {
            let axis = usize::from(!gemm.trans_a);
            inner(shape(0).and_then(|a| a.get(axis)), symbols).saturating_mul(out(symbols))
        }
        Op::Einsum(einsum) => einsum_macs(&einsum.equation, &graph.operands(node), graph, symbols),
        Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_) => {
            // `w` and `r` hold one row per gate and hidden unit, applied to each step of each sample.
            let steps = shape(0).map_or(0, |x| product(x.get(..2).unwrap_or_default(), symbols));
            let rows = shape(1).map_or(0, |w| product(w, symbols)) + shape(2).map_or(0, |r| product(r, symbols));
            steps.saturating_mul(rows)
        }
        _ => 0,
    }
}

/// The product of all extents but the first: the window of a convolution's weight.
fn window(weight: Option<&[Dim]>, symbols: &mut Vec<String>) -> u64 {
    weight.map_or(0, |w| product(w.get(1..).unwrap_or_default(), symbols))
}

fn inner(dim: Option<&Dim>, symbols: &mut Vec<String>) -> u64 {
    dim.map_or(0, |dim| extent(dim, symbols))
}

/// The product over every index letter, which is what a single nest of loops would do; operands under an
/// ellipsis count by the result. One operand alone is a sum or a transposition, no product.
fn einsum_macs(equation: &str, operands: &[Option<ValueId>], graph: &Graph, symbols: &mut Vec<String>) -> u64 {
    if operands.len() < 2 {
        return 0;
    }
    let terms = equation.split("->").next().unwrap_or_default().split(',');
    let mut extents: Vec<(char, u64)> = Vec::new();
    let mut batch: u64 = 1;
    for (term, operand) in terms.zip(operands) {
        let Some(shape) = operand.and_then(|v| graph.ty(v).shape()) else { return 0 };
        let term: String = term.chars().filter(|c| !c.is_whitespace()).collect();
        let (head, tail) = term.split_once("...").unwrap_or((&term, ""));
        let hidden = shape.len().saturating_sub(head.chars().count() + tail.chars().count());
        let split = head.chars().count().min(shape.len());
        batch = batch.max(product(shape.get(split..split + hidden).unwrap_or_default(), symbols));
        let labelled = head.chars().zip(&shape[..split]);
        let rest = tail.chars().zip(shape.get(split + hidden..).unwrap_or_default());
        for (letter, dim) in labelled.chain(rest) {
            let n = extent(dim, symbols);
            match extents.iter_mut().find(|(known, _)| *known == letter) {
                Some((_, known)) => *known = n.max(*known),
                None => extents.push((letter, n)),
            }
        }
    }
    extents.iter().fold(batch, |product, &(_, n)| product.saturating_mul(n))
}

fn product(shape: &[Dim], symbols: &mut Vec<String>) -> u64 {
    shape.iter().fold(1, |product: u64, dim| product.saturating_mul(extent(dim, symbols)))
}

/// The extent; 1 with a note if only the run will tell.
fn extent(dim: &Dim, symbols: &mut Vec<String>) -> u64 {
    if let Dim::Fixed(n) = dim {
        return *n as u64;
    }
    let name = match dim {
        Dim::Sym(symbol) => symbol.as_str(),
        _ => "?",
    };
    if !symbols.iter().any(|known| known == name) {
        symbols.push(name.to_owned());
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_ir::op::{Conv, ConvTranspose, DequantizeLinear, Einsum, Gemm, Linear, MatMul};
    use optc_ir::{DType, Data, Tensor, TensorType};

    fn zeros(graph: &mut Graph, name: &str, shape: &[usize]) -> Option<ValueId> {
        Some(graph.add_tensor(name, Tensor::zeros(DType::F32, shape)).into())
    }

    fn input(graph: &mut Graph, shape: &[usize]) -> Option<ValueId> {
        Some(graph.add_input("x", TensorType::new(DType::F32, shape.iter().copied())).into())
    }

    /// The only layer of a graph of one operator on constant zeros, with `x` of the first shape.
    fn only(op: impl Into<Op>, x: &[usize], constants: &[&[usize]]) -> LayerCost {
        let mut graph = Graph::new("g");
        let mut operands = vec![input(&mut graph, x)];
        operands.extend(constants.iter().map(|shape| zeros(&mut graph, "c", shape)));
        let node = graph.add("y", op, &operands).unwrap();
        graph.add_result("y", node.into());
        let cost = Cost::of(&graph);
        assert_eq!(cost.layers.len(), 1);
        assert_eq!(cost.total.macs, cost.layers[0].macs);
        cost.layers.into_iter().next().unwrap()
    }

    #[test]
    fn products_count_as_papers_count_them() {
        // MobileNets, table 3: 14 × 14 × 512 to 512 with 3 × 3 kernels, whole, depthwise and pointwise.
        let pads = vec![1; 4];
        let x = [1, 512, 14, 14];
        let whole = only(Conv { pads: pads.clone(), ..Conv::default() }, &x, &[&[512, 512, 3, 3]]);
        assert_eq!((whole.macs, whole.params), (462_422_016, 2_359_296));
        let depthwise = only(Conv { pads, group: 512, ..Conv::default() }, &x, &[&[512, 1, 3, 3]]);
        let pointwise = only(Conv::default(), &x, &[&[512, 512, 1, 1]]);
        assert_eq!((depthwise.macs + pointwise.macs, depthwise.params + pointwise.params), (52_283_392, 266_752));

        let strided = Conv { strides: vec![2, 2], ..Conv::default() };
        assert_eq!(only(strided, &[1, 3, 9, 9], &[&[8, 3, 3, 3], &[8]]).macs, 8 * 16 * 27);
        let transposed = ConvTranspose { strides: vec![2, 2], ..ConvTranspose::default() };
        assert_eq!(only(transposed, &[1, 6, 5, 5], &[&[6, 4, 2, 2]]).macs, 25 * 6 * 4 * 4);
        assert_eq!(only(MatMul {}, &[2, 5, 7], &[&[7, 3]]).macs, 2 * 5 * 7 * 3);
        assert_eq!(only(Gemm { trans_a: true, ..Gemm::default() }, &[7, 5], &[&[7, 3]]).macs, 5 * 7 * 3);
        assert_eq!(only(Linear::default(), &[4, 7], &[&[3, 7], &[3]]).params, 24);
        let einsum = |equation: &str| Einsum { equation: equation.to_owned() };
        assert_eq!(only(einsum("bij,jk->bik"), &[2, 5, 7], &[&[7, 3]]).macs, 2 * 5 * 7 * 3);
        assert_eq!(only(einsum("...ij,jk"), &[2, 4, 5, 7], &[&[7, 3]]).macs, 8 * 5 * 7 * 3);
    }

    #[test]
    fn open_dimensions_count_as_one_and_are_named() {
        let mut graph = Graph::new("g");
        let x = graph.add_input("x", Type::tensor(DType::F32, [Dim::sym("batch"), Dim::Fixed(4)]));
        let w = zeros(&mut graph, "w", &[4, 3]);
        let node = graph.add("y", MatMul {}, &[Some(x.into()), w]).unwrap();
        graph.add_result("y", node.into());
        let cost = Cost::of(&graph);
        assert_eq!(cost.total.macs, 12);
        assert_eq!(cost.symbols, ["batch"]);
    }

    #[test]
    fn constants_count_once_and_belong_to_the_layer_that_computes() {
        let mut graph = Graph::new("g");
        let x = input(&mut graph, &[2, 4]);
        let codes = Some(graph.add_tensor("codes", Tensor::new([4, 4], Data::I8(vec![1; 16]))).into());
        let scale = Some(graph.add_tensor("scale", Tensor::f32([], [0.5])).into());
        let w = graph.add("w", DequantizeLinear::default(), &[codes, scale]).unwrap();
        let first = graph.add("first", MatMul {}, &[x, Some(w.into())]).unwrap();
        let second = graph.add("second", MatMul {}, &[Some(first.into()), Some(w.into())]).unwrap();
        graph.add_result("y", second.into());
        let cost = Cost::of(&graph);
        let owned: Vec<(&str, usize, usize)> =
            cost.layers.iter().map(|l| (l.name.as_str(), l.params, l.stored_bytes)).collect();
        assert_eq!(owned, [("first", 16, 20), ("second", 0, 0)]);
        assert_eq!(cost.total.stored_bytes, 20);
        assert_eq!(cost.total.stored_bits, 160);
        assert_eq!(cost.total.nonzero, 16);
        // 64 products, 20 bytes from DRAM; x and w in, the result and w in, both results out.
        let activations = [8 + 16, 8, 8 + 16, 8].iter().sum::<usize>() as f64;
        let energy = 64.0 * 4.6 + 5.0 * 640.0 + activations * 5.0;
        assert!((cost.total.energy_pj - energy).abs() < 1e-9, "{} instead of {energy}", cost.total.energy_pj);
    }

    #[test]
    fn formulas_and_shapes_are_no_parameters() {
        let mut graph = Graph::new("g");
        let x = input(&mut graph, &[2, 6]);
        let half = zeros(&mut graph, "half", &[]);
        let scaled = graph.add("scaled", Op::Binary(optc_ir::op::Binary::Mul), &[x, half]);
        let shape = Some(graph.add_tensor("shape", Tensor::i64([2], [3, 4])).into());
        let y = graph.add("y", optc_ir::op::Reshape::default(), &[scaled.ok().map(Into::into), shape]).unwrap();
        graph.add_result("y", y.into());
        let cost = Cost::of(&graph);
        assert_eq!(cost.layers, []);
        assert_eq!(cost.total.stored_bytes, 4 + 16);
    }
}
