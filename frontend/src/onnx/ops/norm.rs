//! Normalisations and softmax.

use optc_ir::DType;
use optc_ir::op::*;

use crate::onnx::attrs::{self, Refusal};
use crate::onnx::error::ExportError;
use crate::onnx::source::{Mapped, Source};
use crate::onnx::target::Target;

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    match s.op_type {
        "BatchNormalization" => {
            let eps = s.attrs.float_or("epsilon", 1e-5)?;
            s.attrs.skip("momentum");
            if s.attrs.int_or("training_mode", 0)? != 0 {
                return Err("training mode".into());
            }
            if s.opset < 9 && s.attrs.int_or("spatial", 1)? != 1 {
                return Err("spatial=0".into());
            }
            s.at_most_outputs(1)?;
            s.direct(BatchNorm { eps })
        }
        "InstanceNormalization" => {
            let eps = s.attrs.float_or("epsilon", 1e-5)?;
            s.direct(InstanceNorm { eps })
        }
        "LayerNormalization" => {
            let (axis, eps) = (s.attrs.int_or("axis", -1)?, s.attrs.float_or("epsilon", 1e-5)?);
            single_precision(&mut s)?;
            s.at_most_outputs(1)?;
            s.direct(LayerNorm { axis, eps })
        }
        "GroupNormalization" => {
            let (groups, eps) = (s.attrs.count_or("num_groups", 0)?, s.attrs.float_or("epsilon", 1e-5)?);
            single_precision(&mut s)?;
            let per_group = s.opset < 21;
            s.direct(GroupNorm { groups, eps, per_group })
        }
        "RMSNormalization" => {
            let (axis, eps) = (s.attrs.int_or("axis", -1)?, s.attrs.float_or("epsilon", 1e-5)?);
            single_precision(&mut s)?;
            s.direct(RmsNorm { axis, eps })
        }
        "LRN" => {
            let default = Lrn::default();
            let alpha = s.attrs.float_or("alpha", default.alpha)?;
            let beta = s.attrs.float_or("beta", default.beta)?;
            let bias = s.attrs.float_or("bias", default.bias)?;
            let size = s.attrs.count_or("size", 0)?;
            s.direct(Lrn { alpha, beta, bias, size })
        }
        "LpNormalization" => {
            let (axis, p) = (s.attrs.int_or("axis", -1)?, s.attrs.int_or("p", 2)?);
            s.direct(LpNorm { axis, p })
        }
        name => {
            let (axis, flatten) = import_softmax_axis(&mut s)?;
            match name {
                "Softmax" => s.direct(Softmax { axis, flatten }),
                "LogSoftmax" => s.direct(LogSoftmax { axis, flatten }),
                _ => s.direct(Hardmax { axis, flatten }),
            }
        }
    }
}

fn single_precision(s: &mut Source<'_>) -> Result<(), Refusal> {
    match s.attrs.int_or("stash_type", 1)? {
        1 => Ok(()),
        other => Err(Refusal(format!("stash_type={other}"))),
    }
}

/// Before opset 13, softmax ran over all axes from `axis` (default 1) on. Where all of them but the first
/// have extent 1, that is the same as running over the first.
fn import_softmax_axis(s: &mut Source<'_>) -> Result<(i64, bool), Refusal> {
    if s.opset >= 13 {
        return Ok((s.attrs.int_or("axis", -1)?, false));
    }
    let axis = s.attrs.int_or("axis", 1)?;
    let Some(ty) = s.ty(0) else { return Ok((axis, true)) };
    let rank = attrs::i64_of(ty.rank());
    let first = usize::try_from(if axis < 0 { axis.saturating_add(rank) } else { axis }).ok();
    let rest = first.and_then(|first| ty.shape.get(first.checked_add(1)?..));
    Ok((axis, rest.is_none_or(|rest| rest.iter().any(|d| d.fixed() != Some(1)))))
}

pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    match op {
        Op::BatchNorm(a) => t.emit("BatchNormalization", vec![attrs::float("epsilon", a.eps)]),
        Op::InstanceNorm(a) => t.emit("InstanceNormalization", vec![attrs::float("epsilon", a.eps)]),
        Op::LayerNorm(a) if t.opset >= 17 => {
            t.emit("LayerNormalization", vec![attrs::int("axis", a.axis), attrs::float("epsilon", a.eps)]);
        }
        Op::LayerNorm(a) => export_layer_norm(a, t)?,
        Op::GroupNorm(a) => {
            let (need, below) = if a.per_group { (18, 21) } else { (21, i64::MAX) };
            t.need("GroupNormalization", need)?;
            if t.opset >= below {
                return Err(t.inexpressible("GroupNormalization with one scale a group ends with opset 20"));
            }
            let groups = attrs::int("num_groups", attrs::i64_of(a.groups));
            t.emit("GroupNormalization", vec![attrs::float("epsilon", a.eps), groups]);
        }
        Op::RmsNorm(a) if t.opset >= 23 => {
            t.emit("RMSNormalization", vec![attrs::int("axis", a.axis), attrs::float("epsilon", a.eps)]);
        }
        Op::RmsNorm(a) => export_rms_norm(a, t)?,
        Op::Lrn(a) => {
            let size = attrs::int("size", attrs::i64_of(a.size));
            let rest = [("alpha", a.alpha), ("beta", a.beta), ("bias", a.bias)];
            let rest = rest.map(|(name, x)| attrs::float(name, x));
            t.emit("LRN", [size].into_iter().chain(rest).collect());
        }
        Op::LpNorm(a) => {
            let axis = t.axis(a.axis, t.rank(0));
            t.emit("LpNormalization", vec![attrs::int("axis", axis), attrs::int("p", a.p)]);
        }
        Op::Softmax(a) => export_softmax("Softmax", a.axis, a.flatten, t)?,
        Op::LogSoftmax(a) => export_softmax("LogSoftmax", a.axis, a.flatten, t)?,
        Op::Hardmax(a) => export_softmax("Hardmax", a.axis, a.flatten, t)?,
        _ => unreachable!("the table sends only this family here"),
    }
    Ok(())
}

/// The form over one axis exists since opset 13; before, only over all axes from one on. Where one form is
/// wanted and the other is there, a transposition or a flattening in between makes up for it.
fn export_softmax(name: &str, axis: i64, flatten: bool, t: &mut Target<'_>) -> Result<(), ExportError> {
    let rank = t.rank(0);
    let resolved = rank.and_then(|rank| optc_ir::op::infer::resolve_axis(axis, rank).ok());
    let is_last = rank.is_some_and(|rank| resolved.is_some_and(|axis| axis + 1 == rank)) || axis == -1;
    let trailing_ones = || {
        let (ty, axis) = (t.ty(0)?, resolved?);
        Some(ty.shape.get(axis + 1..)?.iter().all(|d| d.fixed() == Some(1)))
    };
    let same = is_last || trailing_ones() == Some(true);
    if same || flatten == (t.opset < 13) {
        t.emit(name, vec![attrs::int("axis", t.axis(axis, rank))]);
        return Ok(());
    }
    if flatten {
        let x = t.input(0);
        let matrix = t.inner("Flatten", &[&x], vec![attrs::int("axis", axis)]);
        let y = t.inner(name, &[&matrix], vec![attrs::int("axis", -1)]);
        let shape = t.inner("Shape", &[&x], vec![]);
        t.last("Reshape", &[&y, &shape], vec![]);
        return Ok(());
    }
    let (Some(rank), Some(axis)) = (rank, resolved) else { return Err(t.too_old("softmax over one axis", 13)) };
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 1);
    let x = t.input(0);
    let swapped = t.inner("Transpose", &[&x], vec![attrs::counts("perm", &perm)]);
    let y = t.inner(name, &[&swapped], vec![attrs::int("axis", attrs::i64_of(rank - 1))]);
    t.last("Transpose", &[&y], vec![attrs::counts("perm", &perm)]);
    Ok(())
}

/// The axes from `axis` on, as numbers: before opset 18 they are an attribute.
fn trailing_axes(axis: i64, t: &Target<'_>) -> Result<Vec<i64>, ExportError> {
    let from = |rank: usize| {
        let axis = optc_ir::op::infer::resolve_axis(axis, rank).ok()?;
        Some((axis..rank).map(attrs::i64_of).collect())
    };
    match t.rank(0) {
        Some(rank) => from(rank).ok_or_else(|| t.inexpressible(format!("axis {axis} does not exist"))),
        None if axis < 0 => Ok((axis..0).collect()),
        None => Err(t.inexpressible("normalisation of a value of unknown rank")),
    }
}

fn reduce_mean(x: &str, axes: &[i64], t: &mut Target<'_>) -> String {
    if t.opset >= 18 {
        let axes = t.int_list("axes", axes);
        t.inner("ReduceMean", &[x, &axes], vec![])
    } else {
        t.inner("ReduceMean", &[x], vec![attrs::ints("axes", axes)])
    }
}

/// The form the operator's definition gives.
fn export_layer_norm(a: &LayerNorm, t: &mut Target<'_>) -> Result<(), ExportError> {
    let axes = trailing_axes(a.axis, t)?;
    let (x, dtype) = (t.input(0), float_type(t));
    let two = t.scalar("two", dtype, 2.0);
    let eps = t.scalar("eps", dtype, a.eps.into());
    let mean = reduce_mean(&x, &axes, t);
    let centred = t.inner("Sub", &[&x, &mean], vec![]);
    let square = t.inner("Pow", &[&centred, &two], vec![]);
    let variance = reduce_mean(&square, &axes, t);
    let sum = t.inner("Add", &[&variance, &eps], vec![]);
    let root = t.inner("Sqrt", &[&sum], vec![]);
    let normal = t.inner("Div", &[&centred, &root], vec![]);
    scale_and_shift(&normal, t);
    Ok(())
}

fn export_rms_norm(a: &RmsNorm, t: &mut Target<'_>) -> Result<(), ExportError> {
    let axes = trailing_axes(a.axis, t)?;
    let (x, dtype) = (t.input(0), float_type(t));
    let eps = t.scalar("eps", dtype, a.eps.into());
    let square = t.inner("Mul", &[&x, &x], vec![]);
    let mean = reduce_mean(&square, &axes, t);
    let sum = t.inner("Add", &[&mean, &eps], vec![]);
    let root = t.inner("Sqrt", &[&sum], vec![]);
    let normal = t.inner("Div", &[&x, &root], vec![]);
    scale_and_shift(&normal, t);
    Ok(())
}

fn float_type(t: &Target<'_>) -> DType {
    t.ty(0).map_or(DType::F32, |ty| ty.dtype)
}

fn scale_and_shift(normal: &str, t: &mut Target<'_>) {
    let (scale, bias) = (t.input(1), t.input(2));
    if bias.is_empty() {
        t.last("Mul", &[normal, &scale], vec![]);
    } else {
        let scaled = t.inner("Mul", &[normal, &scale], vec![]);
        t.last("Add", &[&scaled, &bias], vec![]);
    }
}
