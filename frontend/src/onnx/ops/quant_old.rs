//! Scales along an axis in opsets whose `DequantizeLinear` has one scale: a convolution of codes is the operator that
//! those opsets have for it; anything else is written out.

use optc_ir::op::*;
use optc_ir::{Graph, NodeId, Op, Tensor};

use super::conv;
use crate::onnx::error::ExportError;
use crate::onnx::target::Target;
use crate::onnx::{attrs, types};

/// The first opset in which scales may lie along an axis.
pub(super) const AXES: i64 = 13;

/// `(x − zero)·scale`, the scale and the zero point reshaped to lie along their axis.
pub(super) fn dequantize(op: &DequantizeLinear, t: &mut Target<'_>) -> Result<(), ExportError> {
    let rank = t.rank(0).ok_or_else(|| t.too_old("one scale an index of an axis", AXES))?;
    let axis = infer::resolve_axis(op.axis, rank).map_err(|error| t.inexpressible(error.to_string()))?;
    if op.block != 0 {
        return Err(t.too_old("block_size", 21));
    }
    let code = types::dtype_code(t.dtype()).into();
    let mut along = vec![1; rank];
    along[axis] = -1;
    let shape = t.int_list("along", &along);
    let (x, scale, zero) = (t.input(0), t.input(1), t.input(2));
    let mut numbers = t.inner("Cast", &[&x], vec![attrs::int("to", code)]);
    if !zero.is_empty() {
        let zero = t.inner("Cast", &[&zero], vec![attrs::int("to", code)]);
        let zero = t.inner("Reshape", &[&zero, &shape], vec![]);
        numbers = t.inner("Sub", &[&numbers, &zero], vec![]);
    }
    let scale = t.inner("Reshape", &[&scale, &shape], vec![]);
    t.last("Mul", &[&numbers, &scale], vec![]);
    Ok(())
}

/// Codes of a convolution whose operands are codes, one of them with scales along an axis, as a `QLinearConv`. Whether
/// it was written.
pub(super) fn convolution(t: &mut Target<'_>) -> bool {
    let graph = t.graph;
    let written = (|| {
        let sums = graph.operand(t.node, 0)?;
        let Op::Conv(conv) = graph.op(sums.node) else { return None };
        let new = t.opset >= AXES || conv.act != Act::None || graph.sole_user(sums) != Some(t.node);
        let (x, w) = (codes(graph, sums.node, 0)?, codes(graph, sums.node, 1)?);
        let Op::DequantizeLinear(of_weights) = graph.op(w) else { return None };
        let axis = of_weights.axis == 0 && !graph.constant_operand(w, 1)?.shape().is_empty();
        if new || !axis || graph.operand(x, 2).is_none() || graph.operand(w, 2).is_none() || !t.has(2) {
            return None;
        }
        let bias = match graph.operand(sums.node, 2) {
            None => None,
            Some(_) => Some(codes(graph, sums.node, 2).filter(|&b| in_products(graph, b, x, w))?),
        };
        let mut inputs: Vec<String> = Vec::new();
        for node in [x, w] {
            inputs.extend((0..3).map(|slot| t.name_of(graph.operand(node, slot))));
        }
        inputs.extend([t.input(1), t.input(2)]);
        inputs.extend(bias.map(|bias| t.name_of(graph.operand(bias, 0))));
        let mut list = conv::window(&conv.strides, &conv.pads, &conv.dilations, conv.auto_pad);
        if conv.group != 1 {
            list.push(attrs::int("group", attrs::i64_of(conv.group)));
        }
        Some((inputs, list))
    })();
    let found = written.is_some();
    if let Some((inputs, list)) = written {
        t.emit_on("QLinearConv", inputs, list);
    }
    found
}

/// What dequantizes an operand.
fn codes(graph: &Graph, node: NodeId, slot: usize) -> Option<NodeId> {
    let node = graph.operand(node, slot)?.node;
    let Op::DequantizeLinear(op) = graph.op(node) else { return None };
    (op.block == 0).then_some(node)
}

/// Whether a bias is integers in units of the products of codes.
fn in_products(graph: &Graph, bias: NodeId, x: NodeId, w: NodeId) -> bool {
    let scale = |node: NodeId| Some(graph.constant_operand(node, 1)?.decode());
    let products = || {
        let (x, w, b): (Tensor, Tensor, Tensor) = (scale(x)?, scale(w)?, scale(bias)?);
        let (&[x], w, b) = (x.as_f32()?, w.as_f32()?, b.as_f32()?) else { return None };
        Some(b.iter().copied().eq(w.iter().map(|w| x * w)))
    };
    graph.operand(bias, 2).is_none() && products() == Some(true)
}
