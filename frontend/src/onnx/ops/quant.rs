//! Quantized values and integer products. The convolutions are in `conv`.

use optc_ir::DType;
use optc_ir::op::*;

use super::{codes, quant_old as old};
use crate::onnx::attrs::{self, Refusal};
use crate::onnx::error::ExportError;
use crate::onnx::source::{Mapped, Source};
use crate::onnx::target::Target;
use crate::onnx::types;

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    match s.op_type {
        "QuantizeLinear" => {
            let axis = s.attrs.int_or("axis", 1)?;
            let block = s.attrs.count_or("block_size", 0)?;
            if s.attrs.int_or("saturate", 1)? != 1 {
                return Err("saturate=0".into());
            }
            let code = s.attrs.int_or("output_dtype", 0)?;
            let to = match (code, s.operand(2)) {
                (0, None) => DType::U8,
                (0, Some(zero)) => s.graph.ty(zero).dtype().ok_or("codes of this element type")?,
                (code, _) => i32::try_from(code).ok().and_then(types::dtype).ok_or("codes of this element type")?,
            };
            s.direct(QuantizeLinear { axis, block, to })
        }
        "DequantizeLinear" => {
            let axis = s.attrs.int_or("axis", 1)?;
            let block = s.attrs.count_or("block_size", 0)?;
            s.direct(DequantizeLinear { axis, block })
        }
        "DynamicQuantizeLinear" => s.direct(DynamicQuantizeLinear {}),
        "QLinearMatMul" if codes::product_on_numbers(&s) => codes::product(s),
        "QLinearMatMul" => s.direct(QLinearMatMul {}),
        _ => s.direct(MatMulInteger {}),
    }
}

pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    match op {
        Op::QuantizeLinear(_) if old::convolution(t) => {}
        Op::QuantizeLinear(a) => {
            let mut list = grid(a.axis, a.block, "QuantizeLinear", t)?;
            if !t.has(2) && a.to != DType::U8 {
                t.need("output_dtype", 21)?;
                list.push(attrs::int("output_dtype", types::dtype_code(a.to).into()));
            }
            t.emit("QuantizeLinear", list);
        }
        Op::DequantizeLinear(a) if t.opset < old::AXES && along_axis(a.axis, t) => old::dequantize(a, t)?,
        Op::DequantizeLinear(a) => {
            let list = grid(a.axis, a.block, "DequantizeLinear", t)?;
            t.emit("DequantizeLinear", list);
        }
        Op::DynamicQuantizeLinear(_) => {
            t.need("DynamicQuantizeLinear", 11)?;
            t.emit("DynamicQuantizeLinear", vec![]);
        }
        Op::QLinearMatMul(_) => {
            t.need("QLinearMatMul", 10)?;
            t.emit("QLinearMatMul", vec![]);
        }
        Op::MatMulInteger(_) => {
            t.need("MatMulInteger", 10)?;
            t.emit("MatMulInteger", vec![]);
        }
        _ => unreachable!("the table sends only this family here"),
    }
    Ok(())
}

/// Whether scales lie along another axis than the one that is meant where none is written.
fn along_axis(axis: i64, t: &Target<'_>) -> bool {
    axis != 1 && t.ty(1).is_none_or(|scale| scale.rank() > 0)
}

fn grid(
    axis: i64,
    block: usize,
    name: &str,
    t: &Target<'_>,
) -> Result<Vec<onnx_protobuf::AttributeProto>, ExportError> {
    t.need(name, 10)?;
    let mut list = Vec::new();
    if along_axis(axis, t) {
        t.need("one scale an index of an axis", old::AXES)?;
        list.push(attrs::int("axis", axis));
    }
    if block != 0 {
        t.need("block_size", 21)?;
        list.push(attrs::int("block_size", attrs::i64_of(block)));
    }
    Ok(list)
}
