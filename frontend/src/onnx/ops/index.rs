//! Operators that index, or compute with shapes.

use optc_ir::op::*;
use optc_ir::{Data, Tensor};

use crate::onnx::attrs::{self, Refusal};
use crate::onnx::error::ExportError;
use crate::onnx::source::{Mapped, Source};
use crate::onnx::target::Target;
use crate::onnx::tensor::{self, Decoded};

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    match s.op_type {
        "Gather" => {
            let axis = s.attrs.int_or("axis", 0)?;
            s.direct(Gather { axis })
        }
        "GatherElements" => {
            let axis = s.attrs.int_or("axis", 0)?;
            s.direct(GatherElements { axis })
        }
        "GatherND" => {
            let batch_dims = s.attrs.count_or("batch_dims", 0)?;
            s.direct(GatherNd { batch_dims })
        }
        "Scatter" | "ScatterElements" => {
            let axis = s.attrs.int_or("axis", 0)?;
            let reduction = import_reduction(&mut s)?;
            s.direct(ScatterElements { axis, reduction })
        }
        "ScatterND" => {
            let reduction = import_reduction(&mut s)?;
            s.direct(ScatterNd { reduction })
        }
        "Shape" => {
            let (start, end) = (s.attrs.int_or("start", 0)?, s.attrs.int("end")?);
            s.direct(ShapeOf { start, end })
        }
        "Size" => s.direct(Size {}),
        "ConstantOfShape" => {
            let (dtype, value) = match s.attrs.tensor("value")? {
                None => (optc_ir::DType::F32, 0.0),
                Some(proto) => match tensor::decode(&mut proto.clone())? {
                    Decoded::Tensor(tensor) if tensor.len() == 1 => {
                        let value = tensor.data().to_f64()[0];
                        if Data::from_f64(tensor.dtype(), [value]) != *tensor.data() {
                            return Err("a value beyond double precision".into());
                        }
                        (tensor.dtype(), value)
                    }
                    Decoded::Tensor(_) => return Err("a value that is not one element".into()),
                    Decoded::Foreign => return Err("a value of this element type".into()),
                },
            };
            s.direct(ConstantOfShape { dtype, value })
        }
        "Range" => s.direct(Range {}),
        "OneHot" => {
            let axis = s.attrs.int_or("axis", -1)?;
            s.direct(OneHot { axis })
        }
        "NonZero" => s.direct(NonZero {}),
        _ => {
            let upper = s.attrs.bool_or("upper", true)?;
            s.direct(Trilu { upper })
        }
    }
}

fn import_reduction(s: &mut Source<'_>) -> Result<ScatterReduction, Refusal> {
    let word = s.attrs.string_or("reduction", "none")?;
    ScatterReduction::from_word(word).ok_or_else(|| Refusal(format!("reduction={word}")))
}

pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    match op {
        Op::Gather(a) => {
            let axis = t.axis(a.axis, t.rank(0));
            t.emit("Gather", vec![attrs::int("axis", axis)]);
        }
        Op::GatherElements(a) => {
            t.need("GatherElements", 11)?;
            t.emit("GatherElements", vec![attrs::int("axis", a.axis)]);
        }
        Op::GatherNd(a) => {
            t.need("GatherND", 11)?;
            let mut list = Vec::new();
            if a.batch_dims != 0 {
                t.need("batch_dims", 12)?;
                list.push(attrs::int("batch_dims", attrs::i64_of(a.batch_dims)));
            }
            t.emit("GatherND", list);
        }
        Op::ScatterElements(a) => {
            t.need("Scatter", 9)?;
            let mut list = vec![attrs::int("axis", t.axis(a.axis, t.rank(0)))];
            list.extend(export_reduction(a.reduction, t)?);
            t.emit(if t.opset < 11 { "Scatter" } else { "ScatterElements" }, list);
        }
        Op::ScatterNd(a) => {
            t.need("ScatterND", 11)?;
            let list = export_reduction(a.reduction, t)?.into_iter().collect();
            t.emit("ScatterND", list);
        }
        Op::ShapeOf(a) => export_shape(a, t),
        Op::Size(_) => t.emit("Size", vec![]),
        Op::ConstantOfShape(a) => {
            t.need("ConstantOfShape", 9)?;
            let value = tensor::encode("value", &[1], &Data::from_f64(a.dtype, [a.value]));
            t.emit("ConstantOfShape", vec![attrs::tensor("value", value)]);
        }
        Op::Range(_) => {
            t.need("Range", 11)?;
            let mut inputs = t.inputs.clone();
            for (slot, name) in inputs.iter_mut().enumerate() {
                // Run time takes a list of one for a scalar, shape inference does not.
                if t.rank(slot) == Some(1) {
                    let scalar = t.int_list("scalar", &[]);
                    *name = t.inner("Reshape", &[name, &scalar], vec![]);
                }
            }
            t.emit_on("Range", inputs, vec![]);
        }
        Op::OneHot(a) => {
            t.need("OneHot", 9)?;
            t.emit("OneHot", vec![attrs::int("axis", a.axis)]);
        }
        Op::NonZero(_) => {
            t.need("NonZero", 9)?;
            t.emit("NonZero", vec![]);
        }
        Op::Trilu(a) => {
            t.need("Trilu", 14)?;
            t.emit("Trilu", vec![attrs::int("upper", a.upper.into())]);
        }
        _ => unreachable!("the table sends only this family here"),
    }
    Ok(())
}

fn export_reduction(
    reduction: ScatterReduction,
    t: &Target<'_>,
) -> Result<Option<onnx_protobuf::AttributeProto>, ExportError> {
    let since = match reduction {
        ScatterReduction::None => return Ok(None),
        ScatterReduction::Add | ScatterReduction::Mul => 16,
        ScatterReduction::Max | ScatterReduction::Min => 18,
    };
    t.need("reduction", since)?;
    Ok(Some(attrs::string("reduction", reduction.word())))
}

/// `start` and `end` are attributes since opset 15; before, the whole shape is cut.
fn export_shape(a: &ShapeOf, t: &mut Target<'_>) {
    if a.start == 0 && a.end.is_none() {
        t.emit("Shape", vec![]);
        return;
    }
    let mut list = vec![attrs::int("start", a.start)];
    list.extend(a.end.map(|end| attrs::int("end", end)));
    if t.opset >= 15 {
        t.emit("Shape", list);
        return;
    }
    let shape = t.inner("Shape", &[&t.input(0)], vec![]);
    let (start, end) = (a.start, a.end.unwrap_or(i64::MAX));
    if t.opset >= 10 {
        let starts = t.constant("starts", &Tensor::i64([1], [start]));
        let ends = t.constant("ends", &Tensor::i64([1], [end]));
        t.last("Slice", &[&shape, &starts, &ends], vec![]);
    } else {
        t.last("Slice", &[&shape], vec![attrs::ints("starts", [start]), attrs::ints("ends", [end])]);
    }
}
