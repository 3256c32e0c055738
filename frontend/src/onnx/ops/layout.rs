//! Operators that move elements.

use optc_ir::op::*;
use optc_ir::{DType, Data, Tensor};

use crate::onnx::attrs::{self, Refusal};
use crate::onnx::error::ExportError;
use crate::onnx::source::{Arg, Mapped, Source};
use crate::onnx::target::Target;

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    match s.op_type {
        "Reshape" => {
            let allowzero = s.attrs.bool_or("allowzero", false)?;
            s.direct(Reshape { allowzero })
        }
        "Flatten" => {
            let axis = s.attrs.int_or("axis", 1)?;
            s.direct(Flatten { axis })
        }
        "Squeeze" => {
            let axes = if s.opset >= 13 { s.known_ints(1, "axes")? } else { s.attrs.ints("axes")? };
            s.first(1, Squeeze { axes })
        }
        "Unsqueeze" => {
            let axes = if s.opset >= 13 { s.known_ints(1, "axes")? } else { s.attrs.ints("axes")? };
            s.first(1, Unsqueeze { axes: axes.ok_or("no axes")? })
        }
        "Transpose" => {
            let perm = s.attrs.counts("perm")?;
            s.direct(Transpose { perm })
        }
        "Concat" => {
            let axis = s.attrs.int("axis")?.ok_or("no axis")?;
            s.direct(Concat { axis })
        }
        "Split" => import_split(s),
        "Slice" if s.opset >= 10 => s.direct(Slice {}),
        "Slice" => {
            let list = |ints: Vec<i64>| Tensor::i64([ints.len()], ints);
            let starts = list(s.attrs.ints("starts")?.ok_or("no starts")?);
            let ends = list(s.attrs.ints("ends")?.ok_or("no ends")?);
            let mut args = vec![s.arg(0), Arg::Constant("starts", starts), Arg::Constant("ends", ends)];
            args.extend(s.attrs.ints("axes")?.map(|axes| Arg::Constant("axes", list(axes))));
            s.with(Slice {}, args)
        }
        "Pad" => import_pad(s),
        "Expand" => s.direct(Expand {}),
        "Tile" => s.direct(Tile {}),
        "DepthToSpace" => {
            let block = s.attrs.count_or("blocksize", 0)?;
            let order = match s.attrs.string_or("mode", "DCR")? {
                "DCR" => DepthOrder::Dcr,
                "CRD" => DepthOrder::Crd,
                other => return Err(Refusal(format!("mode={other}"))),
            };
            s.direct(DepthToSpace { block, order })
        }
        _ => {
            let block = s.attrs.count_or("blocksize", 0)?;
            s.direct(SpaceToDepth { block })
        }
    }
}

/// The IR knows the size of each piece; ONNX may leave them to the number of pieces.
fn import_split(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    let axis = s.attrs.int_or("axis", 0)?;
    let given = if s.opset >= 13 { s.known_ints(1, "split")? } else { s.attrs.ints("split")? };
    let uneven = s.attrs.int("num_outputs")?;
    let pieces = s.output_count();
    let sizes = match given {
        Some(sizes) => sizes.into_iter().map(|n| attrs::count("split", n)).collect::<Result<Vec<_>, _>>()?,
        None => {
            let ty = s.ty(0).ok_or("pieces of an axis of unknown extent")?;
            let axis = infer::resolve_axis(axis, ty.rank()).map_err(|e| e.to_string())?;
            let extent = ty.shape[axis].fixed().ok_or("pieces of an axis of unknown extent")?;
            let size = extent.div_ceil(pieces.max(1));
            let last = size.checked_mul(pieces.saturating_sub(1)).and_then(|rest| extent.checked_sub(rest));
            let last = last.filter(|&last| last == size || uneven.is_some());
            let last = last.ok_or("pieces that do not divide the axis")?;
            let mut sizes = vec![size; pieces.saturating_sub(1)];
            sizes.push(last);
            sizes
        }
    };
    if sizes.len() != pieces || uneven.is_some_and(|n| n != attrs::i64_of(pieces)) {
        return Err("another number of outputs than pieces".into());
    }
    s.first(1, Split { axis, sizes })
}

fn import_pad(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    let word = s.attrs.string_or("mode", "constant")?;
    let mode = PadMode::from_word(word).ok_or_else(|| format!("mode={word}"))?;
    if s.opset >= 11 {
        return s.direct(Pad { mode });
    }
    let pads = s.attrs.ints("pads")?.ok_or("no pads")?;
    let value = s.attrs.float_or("value", 0.0)?;
    let mut args = vec![s.arg(0), Arg::Constant("pads", Tensor::i64([pads.len()], pads))];
    if value != 0.0 {
        let dtype = s.ty(0).map_or(DType::F32, |ty| ty.dtype);
        args.push(Arg::Constant("value", Tensor::new([], Data::from_f64(dtype, [f64::from(value)]))));
    }
    s.with(Pad { mode }, args)
}

pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    match op {
        Op::Reshape(a) => {
            let mut list = Vec::new();
            if a.allowzero {
                t.need("allowzero", 14)?;
                list.push(attrs::int("allowzero", 1));
            }
            t.emit("Reshape", list);
        }
        Op::Flatten(a) => {
            let axis = t.axis(a.axis, t.rank(0));
            t.emit("Flatten", vec![attrs::int("axis", axis)]);
        }
        Op::Squeeze(a) => export_axes("Squeeze", a.axes.as_deref(), t.rank(0), t),
        Op::Unsqueeze(a) => {
            let rank = t.rank(0).and_then(|rank| rank.checked_add(a.axes.len()));
            export_axes("Unsqueeze", Some(&a.axes), rank, t);
        }
        Op::Transpose(a) => {
            let perm = if a.perm.is_empty() { vec![] } else { vec![attrs::counts("perm", &a.perm)] };
            t.emit("Transpose", perm);
        }
        Op::Concat(a) => {
            let axis = t.axis(a.axis, t.rank(0));
            t.emit("Concat", vec![attrs::int("axis", axis)]);
        }
        Op::Split(a) => {
            let axis = attrs::int("axis", t.axis(a.axis, t.rank(0)));
            let sizes: Vec<i64> = a.sizes.iter().map(|&n| attrs::i64_of(n)).collect();
            if t.opset >= 13 {
                let sizes = t.int_list("split", &sizes);
                t.emit_on("Split", vec![t.input(0), sizes], vec![axis]);
            } else {
                t.emit("Split", vec![axis, attrs::ints("split", sizes)]);
            }
        }
        Op::Slice(_) => export_slice(t)?,
        Op::Pad(a) => export_pad(a, t)?,
        Op::Expand(_) => {
            t.need("Expand", 8)?;
            t.emit("Expand", vec![]);
        }
        Op::Tile(_) => t.emit("Tile", vec![]),
        Op::DepthToSpace(a) => {
            let mut list = vec![attrs::int("blocksize", attrs::i64_of(a.block))];
            if a.order == DepthOrder::Crd {
                t.need("mode=CRD", 11)?;
                list.push(attrs::string("mode", "CRD"));
            }
            t.emit("DepthToSpace", list);
        }
        Op::SpaceToDepth(a) => {
            t.emit("SpaceToDepth", vec![attrs::int("blocksize", attrs::i64_of(a.block))]);
        }
        _ => unreachable!("the table sends only this family here"),
    }
    Ok(())
}

/// Since opset 13 the axes are an operand.
fn export_axes(name: &str, axes: Option<&[i64]>, rank: Option<usize>, t: &mut Target<'_>) {
    let Some(axes) = axes else {
        t.emit(name, vec![]);
        return;
    };
    if t.opset >= 13 {
        let axes = t.int_list("axes", axes);
        t.emit_on(name, vec![t.input(0), axes], vec![]);
    } else {
        let axes = t.axes(axes, rank);
        t.emit(name, vec![attrs::ints("axes", axes)]);
    }
}

fn export_slice(t: &mut Target<'_>) -> Result<(), ExportError> {
    if t.opset >= 10 {
        t.emit("Slice", vec![]);
        return Ok(());
    }
    if t.has(4) && t.constant_ints(4, "steps", 10)?.iter().any(|&step| step != 1) {
        return Err(t.too_old("steps", 10));
    }
    let mut list = Vec::new();
    for (slot, name) in [(1, "starts"), (2, "ends"), (3, "axes")] {
        if t.has(slot) {
            let ints = t.constant_ints(slot, name, 10)?;
            let ints = if name == "axes" { t.axes(&ints, t.rank(0)) } else { ints };
            list.push(attrs::ints(name, ints));
        }
    }
    t.emit_on("Slice", vec![t.input(0)], list);
    Ok(())
}

fn export_pad(a: &Pad, t: &mut Target<'_>) -> Result<(), ExportError> {
    if a.mode == PadMode::Wrap {
        t.need("mode=wrap", 19)?;
    }
    if t.has(3) {
        t.need("axes of Pad", 18)?;
    }
    let mode = attrs::string("mode", a.mode.word());
    if t.opset >= 11 {
        t.emit("Pad", vec![mode]);
        return Ok(());
    }
    let mut list = vec![mode, attrs::ints("pads", t.constant_ints(1, "pads as an operand", 11)?)];
    if t.has(2) {
        let value = Data::from_f64(DType::F32, [t.constant_number(2, "the value as an operand", 11)?]);
        list.extend(value.as_f32().unwrap_or_default().iter().map(|&value| attrs::float("value", value)));
    }
    t.emit_on("Pad", vec![t.input(0)], list);
    Ok(())
}
