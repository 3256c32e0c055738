//! Convolutions.

use onnx_protobuf::AttributeProto;
use optc_ir::op::*;

use super::codes;
use super::elementwise::activation;
use crate::onnx::attrs::{self, Attrs, Refusal};
use crate::onnx::error::ExportError;
use crate::onnx::source::{Mapped, Source};
use crate::onnx::target::Target;

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    let kernel = s.attrs.counts("kernel_shape")?;
    check_kernel(&s, &kernel)?;
    let strides = s.attrs.counts("strides")?;
    let pads = s.attrs.counts("pads")?;
    let dilations = s.attrs.counts("dilations")?;
    let group = s.attrs.count_or("group", 1)?;
    let auto_pad = import_auto_pad(&mut s.attrs)?;
    let act = Act::None;
    match s.op_type {
        "Conv" => s.direct(Conv { strides, pads, dilations, group, auto_pad, act }),
        "ConvInteger" => s.direct(ConvInteger { strides, pads, dilations, group, auto_pad }),
        "QLinearConv" if codes::convolution_on_numbers(&s) => {
            codes::convolution(s, Conv { strides, pads, dilations, group, auto_pad, act })
        }
        "QLinearConv" => s.direct(QLinearConv { strides, pads, dilations, group, auto_pad }),
        _ => {
            let output_padding = s.attrs.counts("output_padding")?;
            let output_shape = s.attrs.counts("output_shape")?;
            s.direct(ConvTranspose { strides, pads, dilations, group, auto_pad, output_padding, output_shape, act })
        }
    }
}

/// The kernel's extents are those of the weight; the attribute may only repeat them.
fn check_kernel(s: &Source<'_>, kernel: &[usize]) -> Result<(), Refusal> {
    let weight = if s.op_type == "QLinearConv" { 3 } else { 1 };
    let Some(ty) = s.ty(weight) else { return Ok(()) };
    let spatial = ty.shape.get(2..).unwrap_or_default();
    let agree = kernel.is_empty()
        || kernel.len() == spatial.len() && kernel.iter().zip(spatial).all(|(k, d)| d.fixed().is_none_or(|d| d == *k));
    if agree { Ok(()) } else { Err("a kernel_shape that is not the weight's".into()) }
}

pub(super) fn import_auto_pad(attrs: &mut Attrs<'_>) -> Result<AutoPad, Refusal> {
    Ok(match attrs.string_or("auto_pad", "NOTSET")? {
        "NOTSET" | "" => AutoPad::Explicit,
        "SAME_UPPER" => AutoPad::SameUpper,
        "SAME_LOWER" => AutoPad::SameLower,
        "VALID" => AutoPad::Valid,
        other => return Err(Refusal(format!("auto_pad={other}"))),
    })
}

/// The attributes of a window that slides over spatial axes, where they differ from ONNX's defaults.
/// `pads` and `auto_pad` exclude each other.
pub(super) fn window(strides: &[usize], pads: &[usize], dilations: &[usize], auto_pad: AutoPad) -> Vec<AttributeProto> {
    let mut list = Vec::new();
    for (name, values) in [("strides", strides), ("dilations", dilations)] {
        if !values.is_empty() {
            list.push(attrs::counts(name, values));
        }
    }
    let auto = match auto_pad {
        AutoPad::Explicit if pads.is_empty() => return list,
        AutoPad::Explicit => {
            list.push(attrs::counts("pads", pads));
            return list;
        }
        AutoPad::SameUpper => "SAME_UPPER",
        AutoPad::SameLower => "SAME_LOWER",
        AutoPad::Valid => "VALID",
    };
    list.push(attrs::string("auto_pad", auto));
    list
}

pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    let (name, weight, mut list, group, act) = match op {
        Op::Conv(a) => {
            let list = window(&a.strides, &a.pads, &a.dilations, a.auto_pad);
            ("Conv", 1, list, a.group, a.act)
        }
        Op::ConvTranspose(a) => {
            let mut list = window(&a.strides, &a.pads, &a.dilations, a.auto_pad);
            for (name, values) in [("output_padding", &a.output_padding), ("output_shape", &a.output_shape)] {
                if !values.is_empty() {
                    list.push(attrs::counts(name, values));
                }
            }
            ("ConvTranspose", 1, list, a.group, a.act)
        }
        Op::ConvInteger(a) => {
            t.need("ConvInteger", 10)?;
            ("ConvInteger", 1, window(&a.strides, &a.pads, &a.dilations, a.auto_pad), a.group, Act::None)
        }
        Op::QLinearConv(a) => {
            t.need("QLinearConv", 10)?;
            ("QLinearConv", 3, window(&a.strides, &a.pads, &a.dilations, a.auto_pad), a.group, Act::None)
        }
        _ => unreachable!("the table sends only this family here"),
    };
    let spatial = t.ty(weight).and_then(|ty| ty.shape.get(2..));
    if let Some(kernel) = spatial.and_then(|dims| dims.iter().map(|d| d.fixed()).collect::<Option<Vec<_>>>()) {
        list.push(attrs::counts("kernel_shape", &kernel));
    }
    if group != 1 {
        list.push(attrs::int("group", attrs::i64_of(group)));
    }
    if act == Act::None {
        t.emit(name, list);
        return Ok(());
    }
    let inputs = t.inputs.clone();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let sum = t.inner(name, &inputs, list);
    activation(t, act, &sum)
}
