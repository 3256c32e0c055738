//! onnxruntime's own operators that its quantizer writes, in the domain `com.microsoft`. The specification is
//! `docs/ContribOperators.md` of onnxruntime.
//!
//! Those from codes to codes are what they are by definition: dequantized, computed with numbers, quantized.
//! onnxruntime takes exact sums of integers in products, and computes sums, means and functions of codes in an order
//! or by tables of its own; results may be another code where they lie near the middle between two.

use optc_ir::op::*;
use optc_ir::{DType, Op};

use super::codes::{self, SINCE};
use super::{pool, quant};
use crate::onnx::attrs::Refusal;
use crate::onnx::source::{Arg, Mapped, Source};

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    if s.opset < SINCE {
        return Err(Refusal(format!("opset {} has no quantized values", s.opset)));
    }
    match s.op_type {
        "QuantizeLinear" | "DequantizeLinear" => {
            let bits = s.ty(2).or_else(|| s.ty(0)).map_or(0, |ty| ty.dtype.bits());
            // Before opset 21, what is exported has bytes and their sums alone.
            if s.opset < 21 && ![8, 32].contains(&bits) {
                return Err("codes of this element type".into());
            }
            quant::import(s)
        }
        "QLinearAdd" => elementwise(s, Binary::Add),
        "QLinearMul" => elementwise(s, Binary::Mul),
        "QLinearSigmoid" => function(s, Op::Unary(Unary::Sigmoid)),
        "QLinearLeakyRelu" => {
            let alpha = s.attrs.float_or("alpha", 0.01)?;
            function(s, LeakyRelu { alpha })
        }
        "QLinearSoftmax" => softmax(s),
        "QLinearAveragePool" => {
            channels_first(&mut s)?;
            let pool = pool::average(&mut s)?;
            function(s, pool)
        }
        "QLinearGlobalAveragePool" => {
            channels_first(&mut s)?;
            function(s, GlobalAveragePool {})
        }
        "QLinearConcat" => concat(s),
        "QLinearWhere" => {
            let args = vec![s.arg(0), s.dequantized("x", [1, 2, 3], 1), s.dequantized("y", [4, 5, 6], 1)];
            let chosen = s.step("chosen", Where {}, args);
            s.quantized(chosen, [7, 8], 1)
        }
        "QGemm" => gemm(s),
        "MatMulIntegerToFloat" => {
            let product = vec![s.arg(0), s.arg(1), s.arg(4), s.arg(5)];
            let scales = [s.arg(2), s.arg(3)];
            if s.scales(2) != Some(1) {
                return Err("more than one scale of a".into());
            }
            scaled_product(s, product, scales, 6)
        }
        "DynamicQuantizeMatMul" => {
            let x = vec![s.arg(0)];
            s.step("codes", DynamicQuantizeLinear {}, x);
            let result = |i| Arg::Step(0, i);
            let product = vec![result(0), s.arg(1), result(2), s.arg(3)];
            let scales = [result(1), s.arg(2)];
            scaled_product(s, product, scales, 4)
        }
        _ => Err(Refusal(format!("domain {}", s.domain))),
    }
}

/// A function of codes.
fn function(mut s: Source<'_>, op: impl Into<Op>) -> Result<Mapped, Refusal> {
    let x = vec![s.dequantized("x", [0, 1, 2], 1)];
    let y = s.step("y", op, x);
    s.quantized(y, [3, 4], 0)
}

/// A function of two operands of codes.
fn elementwise(mut s: Source<'_>, op: Binary) -> Result<Mapped, Refusal> {
    let args = vec![s.dequantized("a", [0, 1, 2], 1), s.dequantized("b", [3, 4, 5], 1)];
    let y = s.step("y", Op::Binary(op), args);
    s.quantized(y, [6, 7], 0)
}

/// `opset` says which form of the standard operator is meant.
fn softmax(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    let opset = s.attrs.int("opset")?.ok_or("no opset")?;
    let axis = s.attrs.int_or("axis", -1)?;
    let rank = s.ty(0).map(|ty| crate::onnx::attrs::i64_of(ty.rank()));
    let last = axis == -1 || rank.is_some_and(|rank| axis == rank - 1);
    if opset < 13 && !last {
        return Err("softmax over several axes".into());
    }
    function(s, Softmax { axis, flatten: false })
}

fn channels_first(s: &mut Source<'_>) -> Result<(), Refusal> {
    if s.attrs.bool_or("channels_last", false)? { Err("channels_last=1".into()) } else { Ok(()) }
}

/// Operands are the grid of the result, then codes and grids in turn.
fn concat(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    let axis = s.attrs.int("axis")?.ok_or("no axis")?;
    let count = s.operands.len().saturating_sub(2).div_ceil(3);
    let args = (0..count).map(|i| s.dequantized("x", [2 + 3 * i, 3 + 3 * i, 4 + 3 * i], 1)).collect();
    let joined = s.step("joined", Concat { axis }, args);
    s.quantized(joined, [0, 1], 2)
}

/// `c` is integers in units of `alpha·a_scale·b_scale`. Without a grid the result is numbers.
fn gemm(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    let alpha = s.attrs.float_or("alpha", 1.0)?;
    let (trans_a, trans_b) = (s.attrs.bool_or("transA", false)?, s.attrs.bool_or("transB", false)?);
    let columns = if trans_b { 0 } else { 1 };
    let mut args = vec![s.dequantized("a", [0, 1, 2], 1), s.dequantized("b", [3, 4, 5], columns)];
    if s.operand(6).is_some() {
        let scale = s.scale_product([1, 4], alpha).ok_or("scales computed at run time")?;
        args.push(codes::bias(&mut s, 6, scale));
    }
    let gemm = Gemm { alpha, beta: 1.0, trans_a, trans_b };
    if s.operand(7).is_none() {
        return s.with(gemm, args);
    }
    let sums = s.step("sums", gemm, args);
    s.quantized(sums, [7, 8], 0)
}

/// An integer product scaled by two scales, and a bias if there is one in a slot.
fn scaled_product(mut s: Source<'_>, product: Vec<Arg>, scales: [Arg; 2], bias: usize) -> Result<Mapped, Refusal> {
    let sums = s.step("sums", MatMulInteger {}, product);
    let numbers = s.step("numbers", Cast { to: DType::F32 }, vec![sums]);
    let scale = s.step("scale", Op::Binary(Binary::Mul), scales.to_vec());
    if s.operand(bias).is_none() {
        return s.with(Op::Binary(Binary::Mul), vec![numbers, scale]);
    }
    let scaled = s.step("scaled", Op::Binary(Binary::Mul), vec![numbers, scale]);
    let bias = s.arg(bias);
    s.with(Op::Binary(Binary::Add), vec![scaled, bias])
}
