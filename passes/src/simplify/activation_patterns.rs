//! Recognises activations that exporters write out as arithmetic.
//!
//! A tree of `mul` and `div` is a number times a product of factors. The product, whatever its order and
//! wherever the number stands, decides:
//!
//! | product | is |
//! |---|---|
//! | `x · sigmoid(x)` | `silu` |
//! | `x · tanh(softplus(x))` | `mish` |
//! | `x · hard_sigmoid(x)` with slope 1/6 and offset 1/2, `1/6 · x · clip(x + 3, 0, 6)` | `hard_swish` |
//! | `1/6 · clip(x + 3, 0, 6)` | `hard_sigmoid` |
//! | `1/2 · x · (1 + erf(x/√2))` | `gelu` |
//! | `1/2 · x · (1 + tanh(√(2/π)·(x + 0.044715·x³)))` | `gelu` by the tanh approximation |
//!
//! Every value of the pattern but `x` must have no other use: otherwise it would be computed twice.

use optc_ir::op::{Binary, Gelu, HardSigmoid, Unary};
use optc_ir::{DType, Graph, NodeId, Op, ValueId};

use crate::rewrite::{rank, scalar_operand};

/// The activation a node computes by a pattern, and of what value.
pub(super) fn recognise(graph: &Graph, node: NodeId) -> Option<(Op, ValueId)> {
    if !matches!(graph.op(node), Op::Binary(Binary::Mul | Binary::Div)) {
        return None;
    }
    let product = Product::of_node(graph, node)?;
    match product.factors[..] {
        [f] if near(graph, f, product.scale, 1.0 / 6.0) => {
            let x = relu6_shifted(graph, f)?;
            Some((HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }.into(), x))
        }
        [a, b] => gate(graph, a, b, product.scale).or_else(|| gate(graph, b, a, product.scale)),
        _ => None,
    }
}

/// The activation that `scale · x · g` is.
fn gate(graph: &Graph, x: ValueId, g: ValueId, scale: f64) -> Option<(Op, ValueId)> {
    if !is_used_once(graph, g) {
        return None;
    }
    let of_x = graph.operand(g.node, 0) == Some(x);
    let scaled_by = |number| near(graph, x, scale, number);
    let op: Op = match graph.op(g.node) {
        Op::Unary(Unary::Sigmoid) if of_x && scaled_by(1.0) => Op::Unary(Unary::Silu),
        Op::Unary(Unary::Tanh) if scaled_by(1.0) && is_softplus(graph, g, x) => Op::Unary(Unary::Mish),
        Op::HardSigmoid(h) if of_x && scaled_by(1.0) => {
            let sixth = near(graph, x, h.alpha.into(), 1.0 / 6.0) && near(graph, x, h.beta.into(), 0.5);
            sixth.then_some(Op::Unary(Unary::HardSwish))?
        }
        Op::Clip(_) if scaled_by(1.0 / 6.0) && relu6_shifted(graph, g) == Some(x) => Op::Unary(Unary::HardSwish),
        Op::Binary(Binary::Add) if scaled_by(0.5) => gelu(graph, plus_number(graph, g, 1.0)?, x)?,
        _ => return None,
    };
    Some((op, x))
}

/// The kind of `gelu` of `x` that has this inner function.
fn gelu(graph: &Graph, function: ValueId, x: ValueId) -> Option<Op> {
    let argument =
        graph.operand(function.node, 0).filter(|a| is_used_once(graph, *a) && is_used_once(graph, function))?;
    let product = Product::of(graph, argument)?;
    let scaled_by = |number| near(graph, x, product.scale, number);
    match (graph.op(function.node), &product.factors[..]) {
        (Op::Unary(Unary::Erf), [f]) if *f == x && scaled_by(std::f64::consts::FRAC_1_SQRT_2) => {
            Some(Gelu { tanh: false }.into())
        }
        (Op::Unary(Unary::Tanh), factors) if scaled_by((2.0 / std::f64::consts::PI).sqrt()) => {
            let cubic = match *factors {
                // x + c·x³
                [sum] => other_summand(graph, sum, x).is_some_and(|c| is_power(graph, c, x, 3)),
                // x·(1 + c·x²)
                [a, b] => {
                    let sum = if a == x { b } else { a };
                    (a == x || b == x) && plus_number(graph, sum, 1.0).is_some_and(|c| is_power(graph, c, x, 2))
                }
                _ => false,
            };
            cubic.then_some(Gelu { tanh: true }.into())
        }
        _ => None,
    }
}

/// Whether a value is 0.044715 times a power of `x`.
fn is_power(graph: &Graph, value: ValueId, x: ValueId, exponent: usize) -> bool {
    let Some(product) = Product::of(graph, value).filter(|_| is_used_once(graph, value)) else { return false };
    let mut total = 0.0;
    for factor in product.factors {
        let pow = matches!(graph.op(factor.node), Op::Binary(Binary::Pow)) && graph.operand(factor.node, 0) == Some(x);
        total += match pow.then(|| scalar_operand(graph, factor.node, 1, usize::MAX)).flatten() {
            Some(power) => power,
            None if factor == x => 1.0,
            None => return false,
        };
    }
    total == exponent as f64 && near(graph, x, product.scale, 0.044715)
}

fn is_softplus(graph: &Graph, tanh: ValueId, x: ValueId) -> bool {
    let Some(inner) = graph.operand(tanh.node, 0).filter(|inner| is_used_once(graph, *inner)) else { return false };
    matches!(graph.op(inner.node), Op::Unary(Unary::Softplus)) && graph.operand(inner.node, 0) == Some(x)
}

/// The `x` of which a value is `clip(x + 3, 0, 6)`.
fn relu6_shifted(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let node = value.node;
    let limits = (scalar_operand(graph, node, 1, 1), scalar_operand(graph, node, 2, 1));
    let is_relu6 = matches!(graph.op(node), Op::Clip(_)) && limits == (Some(0.0), Some(6.0));
    let sum = graph.operand(node, 0).filter(|_| is_relu6 && is_used_once(graph, value))?;
    plus_number(graph, sum, 3.0)
}

/// The `x` of which a value, used once, is `x + number`.
fn plus_number(graph: &Graph, value: ValueId, number: f64) -> Option<ValueId> {
    if !matches!(graph.op(value.node), Op::Binary(Binary::Add)) || !is_used_once(graph, value) {
        return None;
    }
    let axes = rank(graph, value)?;
    (0..2).find_map(|slot| {
        let c = scalar_operand(graph, value.node, slot, axes)?;
        graph.operand(value.node, 1 - slot).filter(|x| near(graph, *x, c, number))
    })
}

/// The other summand of a sum with `x`.
fn other_summand(graph: &Graph, sum: ValueId, x: ValueId) -> Option<ValueId> {
    if !matches!(graph.op(sum.node), Op::Binary(Binary::Add)) || !is_used_once(graph, sum) {
        return None;
    }
    let operands = [graph.operand(sum.node, 0)?, graph.operand(sum.node, 1)?];
    match operands {
        [a, b] if a == x => Some(b),
        [a, b] if b == x => Some(a),
        _ => None,
    }
}

fn is_used_once(graph: &Graph, value: ValueId) -> bool {
    graph.sole_user(value).is_some()
}

/// `scale` times the factors.
struct Product {
    scale: f64,
    factors: Vec<ValueId>,
}

/// Products nest this deep at most in the patterns.
const MAX_DEPTH: usize = 4;

impl Product {
    /// A value as a product: of itself, if it is no tree of `mul` and `div`.
    fn of(graph: &Graph, value: ValueId) -> Option<Product> {
        match graph.op(value.node) {
            Op::Binary(Binary::Mul | Binary::Div) => Product::of_node(graph, value.node),
            _ => Some(Product { scale: 1.0, factors: vec![value] }),
        }
    }

    fn of_node(graph: &Graph, node: NodeId) -> Option<Product> {
        let mut product = Product { scale: 1.0, factors: Vec::new() };
        product.multiply(graph, node, MAX_DEPTH)?;
        Some(product)
    }

    fn multiply(&mut self, graph: &Graph, node: NodeId, depth: usize) -> Option<()> {
        let axes = rank(graph, node)?;
        let is_quotient = matches!(graph.op(node), Op::Binary(Binary::Div));
        for slot in 0..2 {
            let value = graph.operand(node, slot)?;
            let inverted = is_quotient && slot == 1;
            let number = scalar_operand(graph, node, slot, axes);
            let is_tree = matches!(graph.op(value.node), Op::Binary(Binary::Mul | Binary::Div));
            match number {
                Some(number) if inverted => self.scale /= number,
                Some(number) => self.scale *= number,
                None if inverted => return None,
                None if is_tree && depth > 0 && is_used_once(graph, value) => {
                    self.multiply(graph, value.node, depth - 1)?;
                }
                None => self.factors.push(value),
            }
        }
        Some(())
    }
}

/// Whether a constant of a pattern is this number, as far as the element type of `value` can tell.
fn near(graph: &Graph, value: ValueId, x: f64, number: f64) -> bool {
    let precision = match graph.ty(value).dtype() {
        Some(DType::BF16) => 1e-2,
        Some(DType::F16) => 1e-3,
        _ => 1e-6,
    };
    (x - number).abs() <= precision * number.abs()
}
