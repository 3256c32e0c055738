//! Reductions, arg-reductions and scans.

use optc_ir::Tensor;
use optc_ir::op::*;

use crate::onnx::attrs::{self, Refusal};
use crate::onnx::error::ExportError;
use crate::onnx::source::{Arg, Mapped, Source};
use crate::onnx::target::Target;

const REDUCTIONS: &[(&str, ReduceKind)] = &[
    ("ReduceSum", ReduceKind::Sum),
    ("ReduceMean", ReduceKind::Mean),
    ("ReduceMax", ReduceKind::Max),
    ("ReduceMin", ReduceKind::Min),
    ("ReduceProd", ReduceKind::Prod),
    ("ReduceL1", ReduceKind::L1),
    ("ReduceL2", ReduceKind::L2),
    ("ReduceLogSum", ReduceKind::LogSum),
    ("ReduceLogSumExp", ReduceKind::LogSumExp),
    ("ReduceSumSquare", ReduceKind::SumSquare),
];

/// The opset from which the axes of a reduction are an operand.
fn axes_operand_since(kind: ReduceKind) -> i64 {
    if kind == ReduceKind::Sum { 13 } else { 18 }
}

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    if let Some(&(_, kind)) = REDUCTIONS.iter().find(|row| row.0 == s.op_type) {
        let keepdims = s.attrs.bool_or("keepdims", true)?;
        let (axes, none_means_none) = if s.opset >= axes_operand_since(kind) {
            (s.known_ints(1, "axes")?, s.attrs.bool_or("noop_with_empty_axes", false)?)
        } else {
            (s.attrs.ints("axes")?, false)
        };
        let axes = axes.unwrap_or_default();
        let axes = if axes.is_empty() && !none_means_none { None } else { Some(axes) };
        return s.first(1, Op::Reduce(Reduce { kind, attrs: ReduceAttrs { axes, keepdims } }));
    }
    match s.op_type {
        "ArgMax" | "ArgMin" => {
            let axis = s.attrs.int_or("axis", 0)?;
            let keepdims = s.attrs.bool_or("keepdims", true)?;
            let last = s.attrs.bool_or("select_last_index", false)?;
            if s.op_type == "ArgMax" {
                s.direct(ArgMax { axis, keepdims, last })
            } else {
                s.direct(ArgMin { axis, keepdims, last })
            }
        }
        "TopK" => {
            let axis = s.attrs.int_or("axis", -1)?;
            let largest = s.attrs.bool_or("largest", true)?;
            let sorted = s.attrs.bool_or("sorted", true)?;
            let op = TopK { axis, largest, sorted };
            if s.opset >= 10 {
                return s.direct(op);
            }
            let k = s.attrs.int("k")?.ok_or("no k")?;
            let args = vec![s.arg(0), Arg::Constant("k", Tensor::i64([1], [k]))];
            s.with(op, args)
        }
        _ => {
            let (exclusive, reverse) = (s.attrs.bool_or("exclusive", false)?, s.attrs.bool_or("reverse", false)?);
            s.direct(CumSum { exclusive, reverse })
        }
    }
}

pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    match op {
        Op::Reduce(reduce) => export_reduce(reduce, t)?,
        Op::ArgMax(a) => export_arg("ArgMax", a.axis, a.keepdims, a.last, t)?,
        Op::ArgMin(a) => export_arg("ArgMin", a.axis, a.keepdims, a.last, t)?,
        Op::TopK(a) => export_top_k(a, t)?,
        Op::CumSum(a) => {
            t.need("CumSum", 11)?;
            let flags = [("exclusive", a.exclusive), ("reverse", a.reverse)];
            t.emit("CumSum", flags.map(|(name, on)| attrs::int(name, on.into())).to_vec());
        }
        _ => unreachable!("the table sends only this family here"),
    }
    Ok(())
}

fn export_reduce(reduce: &Reduce, t: &mut Target<'_>) -> Result<(), ExportError> {
    let row = REDUCTIONS.iter().find(|row| row.1 == reduce.kind);
    let &(name, kind) = row.ok_or_else(|| t.inexpressible("this reduction has no ONNX operator"))?;
    let x = t.input(0);
    let keepdims = attrs::int("keepdims", reduce.attrs.keepdims.into());
    match reduce.attrs.axes.as_deref() {
        None => t.emit(name, vec![keepdims]),
        Some([]) if t.opset < axes_operand_since(kind) => export_reduce_nothing(kind, t),
        Some([]) => t.emit(name, vec![keepdims, attrs::int("noop_with_empty_axes", 1)]),
        Some(axes) if t.opset < axes_operand_since(kind) => {
            let axes = t.axes(axes, t.rank(0));
            t.emit(name, vec![keepdims, attrs::ints("axes", axes)]);
        }
        Some(axes) => {
            let axes = t.int_list("axes", axes);
            t.emit_on(name, vec![x, axes], vec![keepdims]);
        }
    }
    Ok(())
}

/// A reduction over no axis, which old opsets can't say: what remains is done to each element.
fn export_reduce_nothing(kind: ReduceKind, t: &mut Target<'_>) {
    let x = t.input(0);
    match kind {
        ReduceKind::L1 | ReduceKind::L2 => t.last("Abs", &[&x], vec![]),
        ReduceKind::LogSum => t.last("Log", &[&x], vec![]),
        ReduceKind::SumSquare => t.last("Mul", &[&x, &x], vec![]),
        ReduceKind::Sum
        | ReduceKind::Mean
        | ReduceKind::Max
        | ReduceKind::Min
        | ReduceKind::Prod
        | ReduceKind::LogSumExp => t.last("Identity", &[&x], vec![]),
    }
}

fn export_arg(name: &str, axis: i64, keepdims: bool, last: bool, t: &mut Target<'_>) -> Result<(), ExportError> {
    let mut list = vec![attrs::int("axis", t.axis(axis, t.rank(0))), attrs::int("keepdims", keepdims.into())];
    if last {
        t.need("select_last_index", 12)?;
        list.push(attrs::int("select_last_index", 1));
    }
    t.emit(name, list);
    Ok(())
}

fn export_top_k(a: &TopK, t: &mut Target<'_>) -> Result<(), ExportError> {
    let mut list = vec![attrs::int("axis", t.axis(a.axis, t.rank(0)))];
    if t.opset >= 11 {
        list.push(attrs::int("largest", a.largest.into()));
        list.push(attrs::int("sorted", a.sorted.into()));
    } else if !a.largest {
        return Err(t.too_old("largest=0", 11));
    }
    if t.opset >= 10 {
        let mut inputs = t.inputs.clone();
        // ONNX wants k as a list of one, the IR takes a scalar as well.
        if t.rank(1) == Some(0) {
            let one = t.int_list("one", &[1]);
            inputs[1] = t.inner("Reshape", &[&inputs[1], &one], vec![]);
        }
        t.emit_on("TopK", inputs, list);
        return Ok(());
    }
    match t.constant_ints(1, "k as an operand", 10)?.as_slice() {
        &[k] => list.push(attrs::int("k", k)),
        _ => return Err(t.inexpressible("k must be one number")),
    }
    t.emit_on("TopK", vec![t.input(0)], list);
    Ok(())
}
