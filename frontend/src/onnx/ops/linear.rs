//! Matrix products.

use optc_ir::op::*;
use optc_ir::{Data, Tensor};

use super::elementwise::activation;
use crate::onnx::attrs::{self, Refusal};
use crate::onnx::error::ExportError;
use crate::onnx::source::{Mapped, Source};
use crate::onnx::target::Target;

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    match s.op_type {
        "MatMul" => s.direct(MatMul {}),
        "Gemm" => {
            let (alpha, beta) = (s.attrs.float_or("alpha", 1.0)?, s.attrs.float_or("beta", 1.0)?);
            let (trans_a, trans_b) = (s.attrs.bool_or("transA", false)?, s.attrs.bool_or("transB", false)?);
            s.direct(Gemm { alpha, beta, trans_a, trans_b })
        }
        _ => {
            let equation = s.attrs.string("equation")?.ok_or("no equation")?.to_owned();
            s.direct(Einsum { equation })
        }
    }
}

pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    match op {
        Op::MatMul(_) => t.emit("MatMul", vec![]),
        Op::Gemm(a) => export_gemm(a, t),
        Op::Linear(a) => export_linear(a, t)?,
        Op::Einsum(a) => {
            t.need("Einsum", 12)?;
            t.emit("Einsum", vec![attrs::string("equation", &a.equation)]);
        }
        _ => unreachable!("the table sends only this family here"),
    }
    Ok(())
}

fn export_gemm(a: &Gemm, t: &mut Target<'_>) {
    let mut list = Vec::new();
    for (name, value) in [("alpha", a.alpha), ("beta", a.beta)] {
        if value != 1.0 {
            list.push(attrs::float(name, value));
        }
    }
    for (name, value) in [("transA", a.trans_a), ("transB", a.trans_b)] {
        if value {
            list.push(attrs::int(name, 1));
        }
    }
    let mut inputs = t.inputs.clone();
    if t.opset < 11 && !t.has(2) {
        inputs.truncate(2);
        let zero = Tensor::new([1], Data::zeros(t.dtype(), 1));
        inputs.push(t.constant("zero", &zero));
    }
    t.emit_on("Gemm", inputs, list);
}

/// `Gemm` on matrices; on other ranks `MatMul` by the transposed weight, and `Add`.
fn export_linear(a: &Linear, t: &mut Target<'_>) -> Result<(), ExportError> {
    let (x, w) = (t.input(0), t.input(1));
    let act = a.act;
    if t.rank(0) == Some(2) {
        let mut inputs = t.inputs.clone();
        if t.opset < 11 && !t.has(2) {
            let zero = Tensor::new([1], Data::zeros(t.dtype(), 1));
            inputs.truncate(2);
            inputs.push(t.constant("zero", &zero));
        }
        let list = vec![attrs::int("transB", 1)];
        if act == Act::None {
            t.emit_on("Gemm", inputs, list);
            return Ok(());
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let sum = t.inner("Gemm", &inputs, list);
        return activation(t, act, &sum);
    }
    let constant = t.graph.constant_operand(t.node, 1).map(|constant| constant.decode());
    let transposed = match constant.as_ref().map(|w| (w, w.shape())) {
        Some((w, &[rows, columns])) => {
            let order = (0..columns).flat_map(|j| (0..rows).map(move |i| i * columns + j));
            let transposed = Tensor::new([columns, rows], w.data().select(order));
            t.constant("w", &transposed)
        }
        _ => t.inner("Transpose", &[&w], vec![attrs::ints("perm", [1, 0])]),
    };
    let bias = t.input(2);
    match (bias.is_empty(), act) {
        (true, Act::None) => t.last("MatMul", &[&x, &transposed], vec![]),
        (true, act) => {
            let product = t.inner("MatMul", &[&x, &transposed], vec![]);
            activation(t, act, &product)?;
        }
        (false, act) => {
            let product = t.inner("MatMul", &[&x, &transposed], vec![]);
            if act == Act::None {
                t.last("Add", &[&product, &bias], vec![]);
            } else {
                let sum = t.inner("Add", &[&product, &bias], vec![]);
                activation(t, act, &sum)?;
            }
        }
    }
    Ok(())
}
