//! Chooses kernels: from a node, its types and its constants to steps of the plan.
//!
//! Pure: the same graph gives the same choice. A node without a kernel is left to the interpreter, and the
//! plan says so.

use optc_ir::op::{Act, Arity, AutoPad, Conv, Gemm as GemmOp, Linear, ReduceKind};
use optc_ir::{NodeId, Op, ValueId};

use crate::emit::elementwise::{Elementwise, Function};
use crate::emit::gemm::{self, Bias, COLUMNS, Gemm, ROWS, Split};
use crate::emit::im2col::Window;
use crate::emit::rows::{RowFunction, Rows};
use crate::emit::windows::{Kind, Windows};
use crate::plan::{Arg, Home};
use crate::planner::Planner;
use crate::work::Work;

/// How a node was lowered.
pub(crate) enum Lowering {
    /// To kernel steps, which are in the plan now.
    Kernels,
    /// To nothing: it is another value in another shape.
    Alias(ValueId),
    /// Not at all.
    None,
}

/// Lowers one node.
pub(crate) fn lower(planner: &mut Planner<'_>, node: NodeId) -> Lowering {
    match try_lower(planner, node) {
        Some(lowering) => lowering,
        None => Lowering::None,
    }
}

fn try_lower(planner: &mut Planner<'_>, node: NodeId) -> Option<Lowering> {
    let graph = planner.graph;
    let x = graph.operand(node, 0)?;
    match graph.op(node) {
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => {
            planner.f32_shape(node.into())?;
            return Some(Lowering::Alias(x));
        }
        Op::Unary(optc_ir::op::Unary::Identity) => return Some(Lowering::Alias(x)),
        Op::Conv(conv) => convolution(planner, node, conv)?,
        Op::Linear(linear) => fully_connected(planner, node, linear)?,
        Op::Gemm(gemm) => general_product(planner, node, gemm)?,
        Op::MatMul(_) => product(planner, node)?,
        Op::MaxPool(p) if p.auto_pad == AutoPad::Explicit => {
            // The indices have no kernel.
            if !graph.uses(node.result(1)).is_empty() {
                return None;
            }
            pool(planner, node, Kind::Max, &p.kernel, [&p.strides, &p.pads, &p.dilations])?;
        }
        Op::AveragePool(p) if p.auto_pad == AutoPad::Explicit && !(p.ceil && p.count_include_pad) => {
            let kind = Kind::Average { include_pad: p.count_include_pad };
            pool(planner, node, kind, &p.kernel, [&p.strides, &p.pads, &p.dilations])?;
        }
        Op::GlobalAveragePool(_) => trailing_rows(planner, node, RowFunction::Mean, 2)?,
        Op::GlobalMaxPool(_) => trailing_rows(planner, node, RowFunction::Max, 2)?,
        Op::Reduce(r) => {
            let function = match r.kind {
                ReduceKind::Sum => RowFunction::Sum,
                ReduceKind::Mean => RowFunction::Mean,
                ReduceKind::Max => RowFunction::Max,
                _ => return None,
            };
            let rank = planner.f32_shape(x)?.len();
            let mut axes: Vec<usize> = match &r.attrs.axes {
                None => (0..rank).collect(),
                Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect::<Option<_>>()?,
            };
            axes.sort_unstable();
            let first = *axes.first()?;
            if axes != (first..rank).collect::<Vec<_>>() {
                return None;
            }
            trailing_rows(planner, node, function, first)?;
        }
        Op::Softmax(s) => {
            let rank = planner.f32_shape(x)?.len();
            let at = axis(s.axis, rank)?;
            if at != rank - 1 && !s.flatten {
                return None;
            }
            trailing_rows(planner, node, RowFunction::Softmax, at)?;
        }
        Op::LayerNorm(n) => {
            let rank = planner.f32_shape(x)?.len();
            let bias = graph.operand(node, 2).is_some();
            trailing_rows(planner, node, RowFunction::LayerNorm { eps: n.eps, bias }, axis(n.axis, rank)?)?;
        }
        op => {
            let function = function(planner, node, op)?;
            elementwise(planner, node, function)?;
        }
    }
    Some(Lowering::Kernels)
}

fn axis(axis: i64, rank: usize) -> Option<usize> {
    optc_ir::op::infer::resolve_axis(axis, rank).ok()
}

/// Whether an operand can be given to a kernel: an `f32` buffer or an `f32` constant.
fn readable(planner: &Planner<'_>, value: ValueId) -> Option<Vec<usize>> {
    planner.f32_shape(value)
}

/// The buffer the first result of a node goes to.
fn result(planner: &mut Planner<'_>, node: NodeId) -> Option<usize> {
    planner.f32_shape(node.into())?;
    match planner.place(node.into()) {
        Home::Buffer(buffer) => Some(buffer),
        Home::Slot(_) | Home::Constant(_) => None,
    }
}

fn at<const N: usize>(values: &[usize], default: usize) -> Option<[usize; N]> {
    if values.is_empty() { Some([default; N]) } else { values.try_into().ok() }
}

/// The window of a convolution or pool over two spatial axes, or over one seen as a plane of height 1.
fn window(
    input: &[usize],
    output: &[usize],
    kernel: &[usize],
    [strides, pads, dilations]: [&[usize]; 3],
) -> Option<Window> {
    let window = match input.len() {
        4 => {
            let pads: [usize; 4] = at(pads, 0)?;
            Window {
                input: [input[2], input[3]],
                output: [output[2], output[3]],
                kernel: kernel.try_into().ok()?,
                stride: at(strides, 1)?,
                dilation: at(dilations, 1)?,
                pad: [pads[0], pads[1]],
            }
        }
        3 => {
            let pads: [usize; 2] = at(pads, 0)?;
            let ([kernel], [stride], [dilation]) = (at::<1>(kernel, 1)?, at::<1>(strides, 1)?, at::<1>(dilations, 1)?);
            Window {
                input: [1, input[2]],
                output: [1, output[2]],
                kernel: [1, kernel],
                stride: [1, stride],
                dilation: [1, dilation],
                pad: [0, pads[0]],
            }
        }
        _ => return None,
    };
    Some(window)
}

/// Largest number of kernel elements whose windows are unrolled in code.
const MAX_TAPS: usize = 256;

fn convolution(planner: &mut Planner<'_>, node: NodeId, conv: &Conv) -> Option<()> {
    let graph = planner.graph;
    let (x, w, bias) = (graph.operand(node, 0)?, graph.operand(node, 1)?, graph.operand(node, 2));
    let (input, weights) = (readable(planner, x)?, readable(planner, w)?);
    let output = planner.f32_shape(node.into())?;
    if let Some(bias) = bias {
        readable(planner, bias)?;
    }
    if !matches!(conv.auto_pad, AutoPad::Explicit | AutoPad::Valid) {
        return None;
    }
    let pads: &[usize] = if conv.auto_pad == AutoPad::Valid { &[] } else { &conv.pads };
    let window = window(&input, &output, &weights[2..], [&conv.strides, pads, &conv.dilations])?;
    let taps = window.kernel[0] * window.kernel[1];
    if taps > MAX_TAPS {
        return None;
    }
    let (channels, filters, group) = (input[1], output[1], conv.group);
    let (plane, pixels) = (window.input[0] * window.input[1], window.output[0] * window.output[1]);
    let y = result(planner, node)?;
    let source = planner.arg(x);
    let w = planner.arg(w);
    let bias_arg = bias.map(|bias| planner.arg(bias));
    let shifted = |arg: Arg, by: usize| match arg {
        Arg::Buffer(buffer, from) => Arg::Buffer(buffer, from + by),
        Arg::Pool(from) => Arg::Pool(from + by),
    };
    if group == channels && weights[1] == 1 {
        let kind = Kind::Depthwise { multiplier: filters / channels, bias: bias.is_some(), act: conv.act };
        let work = Work::Windows(Windows { window, kind }, filters);
        for n in 0..input[0] {
            let x = shifted(source, n * channels * plane);
            let mut args = vec![x, w, Arg::Buffer(y, n * filters * pixels)];
            args.extend(bias_arg);
            planner.kernel(node, work.clone(), args);
        }
        return Some(());
    }
    let k = channels / group * taps;
    let m = filters / group;
    let split = if group > 1 { Split::Batch } else { by_rows(m, pixels) };
    let gemm = Gemm {
        batch: group,
        m,
        n: pixels,
        k,
        a_batch: m * k,
        b_batch: k * pixels,
        c_batch: m * pixels,
        bias_batch: m,
        packed: false,
        bias: if bias.is_some() { Bias::Row } else { Bias::None },
        act: conv.act,
        split,
    };
    let matrix = (!window.is_pointwise()).then(|| planner.scratch(channels * taps * pixels));
    for n in 0..input[0] {
        let mut columns = shifted(source, n * channels * plane);
        if let Some(matrix) = matrix {
            let args = vec![columns, Arg::Buffer(matrix, 0)];
            planner.kernel(node, Work::Im2col(window.clone(), channels), args);
            columns = Arg::Buffer(matrix, 0);
        }
        let mut args = vec![w, columns, Arg::Buffer(y, n * filters * pixels)];
        args.extend(bias_arg);
        planner.kernel(node, Work::Gemm(gemm.clone()), args);
    }
    Some(())
}

/// Splits where there are more pieces.
fn by_rows(m: usize, n: usize) -> Split {
    if m.div_ceil(ROWS) >= n.div_ceil(COLUMNS) { Split::Rows } else { Split::Panels }
}

fn fully_connected(planner: &mut Planner<'_>, node: NodeId, linear: &Linear) -> Option<()> {
    let graph = planner.graph;
    let (x, w, bias) = (graph.operand(node, 0)?, graph.operand(node, 1)?, graph.operand(node, 2));
    let (input, weights) = (readable(planner, x)?, readable(planner, w)?);
    graph.constant(w)?;
    if let Some(bias) = bias {
        readable(planner, bias)?;
    }
    let (n, k) = (weights[0], weights[1]);
    let m = input.iter().product::<usize>() / k;
    let packed = planner.pooled(w, 1, |w| gemm::pack(&transposed(&w, n, k), k, n));
    let bias_arg = bias.map(|bias| planner.arg(bias));
    matrix(planner, node, [m, n, k], x, packed, bias_arg, linear.act)
}

fn general_product(planner: &mut Planner<'_>, node: NodeId, op: &GemmOp) -> Option<()> {
    let graph = planner.graph;
    let (a, b, c) = (graph.operand(node, 0)?, graph.operand(node, 1)?, graph.operand(node, 2));
    let (input, weights) = (readable(planner, a)?, readable(planner, b)?);
    graph.constant(b)?;
    if op.trans_a {
        return None;
    }
    let (k, n) = if op.trans_b { (weights[1], weights[0]) } else { (weights[0], weights[1]) };
    let bias = match c {
        None => None,
        Some(c) => {
            let shape = readable(planner, c)?;
            let elements = planner.f32_constant(c)?;
            if elements.len() != n || shape.last() != Some(&n) {
                return None;
            }
            Some(elements.into_iter().map(|x| x * op.beta).collect::<Vec<f32>>())
        }
    };
    let layout = if op.trans_b { 1 } else { 2 };
    let alpha = op.alpha;
    if alpha != 1.0 && graph.sole_user(b) != Some(node) {
        return None;
    }
    let packed = planner.pooled(b, layout, |b| {
        let b = if op.trans_b { transposed(&b, n, k) } else { b };
        let scaled: Vec<f32> = b.into_iter().map(|x| x * alpha).collect();
        gemm::pack(&scaled, k, n)
    });
    let bias = bias.map(|bias| Arg::Pool(planner.pool(bias)));
    matrix(planner, node, [input[0], n, k], a, packed, bias, Act::None)
}

/// `x · packed + bias` with `x` seen as a matrix.
fn matrix(
    planner: &mut Planner<'_>,
    node: NodeId,
    [m, n, k]: [usize; 3],
    x: ValueId,
    packed: Arg,
    bias: Option<Arg>,
    act: Act,
) -> Option<()> {
    let gemm = Gemm {
        batch: 1,
        m,
        n,
        k,
        a_batch: 0,
        b_batch: 0,
        c_batch: 0,
        bias_batch: 0,
        packed: true,
        bias: if bias.is_some() { Bias::Column } else { Bias::None },
        act,
        split: by_rows(m, n),
    };
    let y = result(planner, node)?;
    let mut args = vec![planner.arg(x), packed, Arg::Buffer(y, 0)];
    args.extend(bias);
    planner.kernel(node, Work::Gemm(gemm), args);
    Some(())
}

fn transposed(w: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut result = vec![0.0; w.len()];
    for r in 0..rows {
        for c in 0..columns {
            result[c * rows + r] = w[r * columns + c];
        }
    }
    result
}

fn product(planner: &mut Planner<'_>, node: NodeId) -> Option<()> {
    let graph = planner.graph;
    let (a, b) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
    let (left, right) = (readable(planner, a)?, readable(planner, b)?);
    if left.len() < 2 || right.len() < 2 {
        return None;
    }
    let k = left[left.len() - 1];
    let n = right[right.len() - 1];
    if graph.constant(b).is_some() && right.len() == 2 {
        let m = left.iter().product::<usize>() / k;
        let packed = planner.pooled(b, 2, |b| gemm::pack(&b, k, n));
        return matrix(planner, node, [m, n, k], a, packed, None, Act::None);
    }
    let outer = &left[..left.len() - 2];
    let shared = right.len() == 2;
    if !shared && outer != &right[..right.len() - 2] {
        return None;
    }
    let batch: usize = outer.iter().product();
    let m = left[left.len() - 2];
    let (batch, m) = if shared { (1, batch * m) } else { (batch, m) };
    let split = if batch > 1 { Split::Batch } else { by_rows(m, n) };
    let gemm = Gemm {
        batch,
        m,
        n,
        k,
        a_batch: m * k,
        b_batch: k * n,
        c_batch: m * n,
        bias_batch: 0,
        packed: false,
        bias: Bias::None,
        act: Act::None,
        split,
    };
    let y = result(planner, node)?;
    let args = vec![planner.arg(a), planner.arg(b), Arg::Buffer(y, 0)];
    planner.kernel(node, Work::Gemm(gemm), args);
    Some(())
}

fn pool(
    planner: &mut Planner<'_>,
    node: NodeId,
    kind: Kind,
    kernel: &[usize],
    attributes: [&[usize]; 3],
) -> Option<()> {
    let x = planner.graph.operand(node, 0)?;
    let input = readable(planner, x)?;
    let output = planner.f32_shape(node.into())?;
    let window = window(&input, &output, kernel, attributes)?;
    if window.kernel[0] * window.kernel[1] > MAX_TAPS {
        return None;
    }
    let planes = output[0] * output[1];
    let y = result(planner, node)?;
    let args = vec![planner.arg(x), Arg::Buffer(y, 0)];
    planner.kernel(node, Work::Windows(Windows { window, kind }, planes), args);
    Some(())
}

/// A function of the axes from `first` on together.
fn trailing_rows(planner: &mut Planner<'_>, node: NodeId, function: RowFunction, first: usize) -> Option<()> {
    let graph = planner.graph;
    let x = graph.operand(node, 0)?;
    let shape = readable(planner, x)?;
    if first > shape.len() {
        return None;
    }
    let (count, length) = (shape[..first].iter().product(), shape[first..].iter().product());
    let mut extra = Vec::new();
    if let RowFunction::LayerNorm { .. } = function {
        for slot in 1..3 {
            if let Some(value) = graph.operand(node, slot) {
                if readable(planner, value)? != shape[first..] {
                    return None;
                }
                extra.push(value);
            }
        }
    }
    let y = result(planner, node)?;
    let mut args = vec![planner.arg(x)];
    let mut extra = extra.into_iter();
    args.extend(extra.next().map(|scale| planner.arg(scale)));
    args.push(Arg::Buffer(y, 0));
    args.extend(extra.next().map(|bias| planner.arg(bias)));
    planner.kernel(node, Work::Rows(Rows { function, count, length }), args);
    Some(())
}

/// The elementwise function of a node, if there is code for it.
fn function(planner: &Planner<'_>, node: NodeId, op: &Op) -> Option<Function> {
    let graph = planner.graph;
    let limit = |slot: usize, default: f32| match graph.operand(node, slot) {
        None => Some(default),
        Some(value) => planner.f32_constant(value)?.first().copied(),
    };
    let function = match op {
        Op::Unary(u) => Function::Unary(*u),
        Op::Binary(b) => Function::Binary(*b),
        Op::Variadic(v) if graph.operands(node).len() == 2 => Function::Variadic(*v),
        Op::LeakyRelu(l) => Function::LeakyRelu(l.alpha),
        Op::Clip(_) => Function::Clip(limit(1, f32::NEG_INFINITY)?, limit(2, f32::INFINITY)?),
        Op::HardSigmoid(h) => Function::HardSigmoid(h.alpha, h.beta),
        Op::Gelu(g) if !g.tanh => Function::Gelu,
        _ => return None,
    };
    function.is_supported().then_some(function)
}

fn elementwise(planner: &mut Planner<'_>, node: NodeId, function: Function) -> Option<()> {
    let graph = planner.graph;
    let Arity { required, .. } = graph.op(node).arity();
    let count = if matches!(function, Function::Variadic(_)) { 2 } else { required };
    let operands: Vec<ValueId> = graph.operands(node).into_iter().take(count).collect::<Option<_>>()?;
    let shapes: Vec<Vec<usize>> = operands.iter().map(|&v| readable(planner, v)).collect::<Option<_>>()?;
    let shape = planner.f32_shape(node.into())?;
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    let work = Elementwise::new(function, &shapes, &shape);
    let y = result(planner, node)?;
    let mut args: Vec<Arg> = operands.into_iter().map(|v| planner.arg(v)).collect();
    args.push(Arg::Buffer(y, 0));
    planner.kernel(node, Work::Elementwise(work), args);
    Some(())
}
