//! Products of codes: what is known of a layer before its kernel is chosen.
//!
//! With codes x, w of zero points 0 for the weights and `z` for the activation, `Σ (x − z)·w = Σ x·w − z·Σ w`: the
//! second sum is a constant of each output, which the integer that sums begin with takes in, as it takes the bias in.

use std::sync::Arc;

use optc_ir::op::Act;
use optc_ir::{Constant, Data, Graph, NodeId, Op, ValueId};

use super::find::{Grid, images};
use crate::tile::contract;
use crate::tile::epilogue::Other;
use crate::tile::function::Function;
use crate::tile::pixels;

/// A product of codes with constant weights.
#[derive(Clone, Debug)]
pub(super) struct Product {
    pub(super) node: NodeId,
    pub(super) x: ValueId,
    pub(super) weights: Weights,
    /// What sums begin with, output by output.
    pub(super) begin: Vec<i32>,
    /// Numbers of the bias, where it is none of integers on the grid of products.
    pub(super) bias: Option<Vec<f32>>,
    /// The step between two sums, output by output.
    steps: Vec<f64>,
    functions: Vec<Function>,
    pub(super) sum: Option<Sum>,
}

/// A sum that a product takes in.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    /// The grid that the product is rounded to first.
    inner: Grid,
    /// What is added.
    pub(super) other: ValueId,
    other_grid: Grid,
    functions: Vec<Function>,
}

/// What becomes of sums until they are on a grid with a step of 1 and a zero of 0.
pub(super) struct Requantization {
    /// What sums are multiplied by, output by output: operand 0 of the steps.
    pub(super) factors: Vec<f32>,
    /// Functions in order; operand 1 is the bias, or the codes of what is added.
    pub(super) steps: Vec<(Function, Other)>,
    /// Numbers of the bias, in the units of the products with the factors.
    pub(super) bias: Option<Vec<f32>>,
}

/// Codes of weights, `[outputs, …]` or, if they are transposed, `[…, outputs]`.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub(super) value: ValueId,
    pub(super) constant: Arc<Constant>,
    pub(super) outputs: usize,
    /// Values of k of an output.
    pub(super) depth: usize,
    pub(super) transposed: bool,
    /// Codes that stand for other numbers than 0.
    pub(super) nonzeros: usize,
    zeros: Vec<i32>,
}

impl Weights {
    /// The weights that a value is dequantized from, with their scales.
    fn of(graph: &Graph, value: ValueId, transposed: bool) -> Option<(Weights, Vec<f32>)> {
        let node = value.node;
        let Op::DequantizeLinear(op) = graph.op(node) else { return None };
        let codes = graph.operand(node, 0)?;
        let constant = graph.constant(codes)?.clone();
        let shape = constant.shape();
        let axis = if transposed { shape.len().checked_sub(1)? } else { 0 };
        let outputs = *shape.get(axis)?;
        (op.block == 0).then_some(())?;
        let scales = graph.constant_operand(node, 1)?.decode().as_f32()?.to_vec();
        let along = optc_ir::op::infer::resolve_axis(op.axis, shape.len()).ok()?;
        (scales.len() == 1 || scales.len() == outputs && along == axis).then_some(())?;
        let zeros = match graph.operand(node, 2) {
            None => vec![0; scales.len()],
            Some(_) => graph.constant_operand(node, 2)?.decode().data().to_i64()?,
        };
        Some((Weights::new(codes, constant, transposed, zeros)?, scales))
    }

    /// The weights that a constant value is the codes of, with one zero point or one an output.
    pub(super) fn new(value: ValueId, constant: Arc<Constant>, transposed: bool, zeros: Vec<i64>) -> Option<Weights> {
        let shape = constant.shape();
        let outputs = if transposed { *shape.last()? } else { *shape.first()? };
        (!constant.is_empty() && (zeros.len() == 1 || zeros.len() == outputs)).then_some(())?;
        let zeros: Vec<i32> = zeros.into_iter().map(i32::try_from).collect::<Result<_, _>>().ok()?;
        let depth = constant.len() / outputs;
        Some(Weights { value, constant, outputs, depth, transposed, nonzeros: 0, zeros })
    }

    /// The sum of the weights of each output, as [`Weights::numbers`] gives them.
    pub(super) fn sums<T: Copy + Into<i64>>(&self, numbers: &[T]) -> Vec<i64> {
        numbers.chunks(self.depth).map(|row| row.iter().map(|&w| w.into()).sum()).collect()
    }

    /// How weights lie.
    pub(super) fn quads(&self) -> contract::Weights {
        contract::Weights::Quads { summed: self.depth }
    }

    /// The weights less their zero points, output by output; `None` if one is no byte.
    pub(super) fn codes(&self) -> Option<Vec<i8>> {
        self.numbers()
    }

    /// The weights less their zero points, output by output; `None` if one does not fit.
    pub(super) fn numbers<T: TryFrom<i32>>(&self) -> Option<Vec<T>> {
        match self.constant.as_dense() {
            Some(data) => self.rows(data),
            None => self.rows(self.constant.decode().data()),
        }
    }

    fn rows<T: TryFrom<i32>>(&self, data: &Data) -> Option<Vec<T>> {
        let place = |o: usize, k: usize| if self.transposed { k * self.outputs + o } else { o * self.depth + k };
        let zero = |o: usize| self.zeros[o % self.zeros.len()];
        let mut codes = Vec::with_capacity(data.len());
        for o in 0..self.outputs {
            for k in 0..self.depth {
                let code = match data {
                    Data::I8(v) => i32::from(v[place(o, k)]),
                    Data::U8(v) => i32::from(v[place(o, k)]),
                    _ => return None,
                };
                codes.push(T::try_from(code - zero(o)).ok()?);
            }
        }
        Some(codes)
    }
}

/// A convolution or matrix product of codes and the functions that follow it; `None` if there is no kernel for it.
pub(super) fn product(
    graph: &Graph,
    node: NodeId,
    (x, x_grid): (ValueId, Grid),
    mut functions: Vec<Function>,
) -> Option<Product> {
    let rank = graph.ty(node).as_tensor()?.shape.len();
    let (act, transposed) = match graph.op(node) {
        Op::Conv(conv) if rank == 4 => {
            let window = graph.ty(graph.operand(node, 1)?).as_tensor()?.fixed_shape()?;
            let depthwise = conv.group > 1 && window[1] == 1 && window[0] == conv.group;
            // Four columns of a window that lie next to each other are a quad.
            (!depthwise || conv.dilations.last().is_none_or(|&step| step == 1)).then_some(())?;
            (conv.act, false)
        }
        Op::Linear(linear) if rank <= 3 => (linear.act, false),
        Op::Gemm(gemm) if gemm.alpha == 1.0 && gemm.beta == 1.0 && !gemm.trans_a => (Act::None, !gemm.trans_b),
        Op::MatMul(_) if (2..=3).contains(&rank) => (Act::None, true),
        _ => return None,
    };
    if let Some(function) = Function::of_act(act) {
        functions.insert(0, function);
    }
    images(graph, x)?;
    let (mut weights, scales) = Weights::of(graph, graph.operand(node, 1)?, transposed)?;
    let matrix = weights.constant.shape().len() == 2;
    (matches!(graph.op(node), Op::Conv(_)) || matrix).then_some(())?;
    let steps: Vec<f64> =
        (0..weights.outputs).map(|o| f64::from(x_grid.scale) * f64::from(scales[o % scales.len()])).collect();
    let codes = weights.codes()?;
    weights.nonzeros = codes.iter().filter(|code| **code != 0).count();
    let sums = weights.sums(&codes);
    let (mut integers, mut bias) = (vec![0i64; weights.outputs], None);
    if let Some(value) = graph.operand(node, 2) {
        match integer_bias(graph, value, &steps) {
            Some(codes) => integers = codes,
            None => {
                let numbers = known(graph, value)?;
                (numbers.len() == weights.outputs).then_some(())?;
                bias = Some(numbers);
            }
        }
    }
    let zero = i64::from(x_grid.zero);
    let begin = integers.iter().zip(&sums).map(|(b, sum)| i32::try_from(b - zero * sum));
    let begin: Vec<i32> = begin.collect::<Result<_, _>>().ok()?;
    // No sum leaves 32 bits.
    let most =
        begin.iter().map(|b| i64::from(b.unsigned_abs())).max()? + 255 * 128 * i64::try_from(weights.depth).ok()?;
    (most < i64::from(i32::MAX)).then_some(())?;
    Some(Product { node, x, weights, begin, bias, steps, functions, sum: None })
}

/// The integers of a bias on the grid of products, as quantizers write it.
fn integer_bias(graph: &Graph, value: ValueId, steps: &[f64]) -> Option<Vec<i64>> {
    let node = value.node;
    let Op::DequantizeLinear(op) = graph.op(node) else { return None };
    let codes = graph.constant_operand(node, 0)?.decode();
    let scales = graph.constant_operand(node, 1)?.decode().as_f32()?.to_vec();
    let zeros = match graph.operand(node, 2) {
        None => vec![0],
        Some(_) => graph.constant_operand(node, 2)?.decode().data().to_i64()?,
    };
    let codes = codes.data().to_i64()?;
    (op.block == 0 && codes.len() == steps.len() && zeros.iter().all(|&zero| zero == 0)).then_some(())?;
    let near = |o: usize| (f64::from(scales[o % scales.len()]) / steps[o] - 1.0).abs() < 1e-6;
    (0..steps.len()).all(near).then_some(codes)
}

/// The numbers of a value that is constant, or dequantized from one.
fn known(graph: &Graph, value: ValueId) -> Option<Vec<f32>> {
    if let Some(constant) = graph.constant(value) {
        return Some(constant.decode().as_f32()?.to_vec());
    }
    let operands = graph.operands(value.node);
    let constants: Vec<_> =
        operands.into_iter().map(|v| v.and_then(|v| graph.constant(v)).map(|c| c.decode())).collect();
    let Op::DequantizeLinear(_) = graph.op(value.node) else { return None };
    let tensors: Vec<_> = constants.iter().map(Option::as_ref).collect();
    Some(optc_ir::interp::eval(graph.op(value.node), &tensors).ok()?.pop()?.as_f32()?.to_vec())
}

/// Functions of numbers as functions of numbers in units of a scale, if each commutes with it.
fn scaled(functions: &[Function], scale: f32) -> Option<Vec<Function>> {
    let scaled = |function: &Function| match *function {
        Function::Relu | Function::LeakyRelu(_) => Some(*function),
        Function::Clip(lo, hi) => Some(Function::Clip(lo / scale, hi / scale)),
        _ => None,
    };
    functions.iter().map(scaled).collect()
}

impl Product {
    /// The values it reads as codes.
    pub(super) fn reads(&self) -> Vec<ValueId> {
        [self.x].into_iter().chain(self.sum.as_ref().map(|sum| sum.other)).collect()
    }

    /// Whether it can read pixels of four bytes.
    pub(super) fn takes_narrow_pixels(&self, graph: &Graph) -> bool {
        let few = images(graph, self.x).is_some_and(|shape| shape[1] <= pixels::MAX_CHANNELS);
        few && matches!(graph.op(self.node), Op::Conv(conv) if conv.group == 1)
    }

    /// This, rounded to a grid and added to another value; functions follow. `None` if there are no pointers left.
    pub(super) fn with_sum(
        &self,
        inner: Grid,
        (other, other_grid): (ValueId, Grid),
        functions: Vec<Function>,
    ) -> Option<Product> {
        let free = self.sum.is_none() && self.bias.is_none();
        free.then(|| Product { sum: Some(Sum { inner, other, other_grid, functions }), ..self.clone() })
    }

    /// What makes codes on a grid of sums.
    pub(super) fn requantization(&self, grid: Grid) -> Requantization {
        let first = self.sum.as_ref().map_or(grid, |sum| sum.inner);
        let alike = scaled(&self.functions, first.scale);
        let unit = if alike.is_some() { f64::from(first.scale) } else { 1.0 };
        let factors = self.steps.iter().map(|step| (step / unit) as f32).collect();
        let mut steps = vec![(Function::Mul, Other::Vector(0))];
        let bias = self.bias.as_ref().map(|bias| bias.iter().map(|&b| (f64::from(b) / unit) as f32).collect());
        if self.bias.is_some() {
            steps.push((Function::Add, Other::Vector(1)));
        }
        let apply = |steps: &mut Vec<_>, functions: &[Function], alike: &Option<Vec<Function>>, scale: f32| match alike
        {
            Some(functions) => steps.extend(functions.iter().map(|&function| (function, Other::None))),
            None => {
                steps.extend(functions.iter().map(|&function| (function, Other::None)));
                steps.push((Function::Div, Other::Number(scale)));
            }
        };
        apply(&mut steps, &self.functions, &alike, first.scale);
        if let Some(sum) = &self.sum {
            let zero = f32::from(sum.inner.zero);
            steps.push((Function::Round, Other::None));
            steps.push((Function::Clip(-zero, 255.0 - zero), Other::None));
            let alike = scaled(&sum.functions, grid.scale);
            let unit = if alike.is_some() { grid.scale } else { 1.0 };
            steps.extend(added((sum.inner, 0.0), sum.other_grid, unit, 1));
            apply(&mut steps, &sum.functions, &alike, grid.scale);
        }
        Requantization { factors, steps, bias }
    }
}

/// Steps that add the codes of an operand to a running number: `zero` is where the running value has the number 0, and
/// results are in units of `unit`.
pub(super) fn added((own, zero): (Grid, f32), other: Grid, unit: f32, operand: usize) -> [(Function, Other); 2] {
    let (a, b) = (own.scale / unit, other.scale / unit);
    let offset = -zero * a - f32::from(other.zero) * b;
    [(Function::Scale(a, offset), Other::None), (Function::AddScaled(b), Other::Codes(operand))]
}

/// Steps of a sum of codes: the running value is the first operand's, and operand 0 is the second.
pub(super) fn sum_steps([a, b]: [Grid; 2], to: Grid, functions: &[Function]) -> Vec<(Function, Other)> {
    let alike = scaled(functions, to.scale);
    let unit = if alike.is_some() { to.scale } else { 1.0 };
    let mut steps = added((a, f32::from(a.zero)), b, unit, 0).to_vec();
    let last = alike.is_none().then_some((Function::Div, Other::Number(to.scale)));
    steps.extend(alike.as_deref().unwrap_or(functions).iter().map(|&function| (function, Other::None)));
    steps.extend(last);
    steps
}
