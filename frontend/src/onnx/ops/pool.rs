//! Pooling.

use optc_ir::op::*;

use super::conv::{import_auto_pad, window};
use crate::onnx::attrs::{self, Refusal};
use crate::onnx::error::ExportError;
use crate::onnx::source::{Mapped, Source};
use crate::onnx::target::Target;

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    match s.op_type {
        "GlobalAveragePool" => return s.direct(GlobalAveragePool {}),
        "GlobalMaxPool" => return s.direct(GlobalMaxPool {}),
        _ => {}
    }
    if s.op_type == "AveragePool" {
        let pool = average(&mut s)?;
        return s.direct(pool);
    }
    let kernel = s.attrs.counts("kernel_shape")?;
    let strides = s.attrs.counts("strides")?;
    let pads = s.attrs.counts("pads")?;
    let dilations = s.attrs.counts("dilations")?;
    let auto_pad = import_auto_pad(&mut s.attrs)?;
    let ceil = s.attrs.bool_or("ceil_mode", false)?;
    match s.op_type {
        "MaxPool" => {
            let column_major = s.attrs.bool_or("storage_order", false)?;
            s.direct(MaxPool { kernel, strides, pads, dilations, auto_pad, ceil, column_major })
        }
        _ => {
            let p = s.attrs.count_or("p", 2)?;
            s.direct(LpPool { kernel, strides, pads, dilations, auto_pad, ceil, p })
        }
    }
}

/// The attributes of an average pool.
pub(super) fn average(s: &mut Source<'_>) -> Result<AveragePool, Refusal> {
    Ok(AveragePool {
        kernel: s.attrs.counts("kernel_shape")?,
        strides: s.attrs.counts("strides")?,
        pads: s.attrs.counts("pads")?,
        dilations: s.attrs.counts("dilations")?,
        auto_pad: import_auto_pad(&mut s.attrs)?,
        ceil: s.attrs.bool_or("ceil_mode", false)?,
        count_include_pad: s.attrs.bool_or("count_include_pad", false)?,
    })
}

pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    let (name, kernel, mut list, ceil, ceil_since, dilated, dilations_since) = match op {
        Op::GlobalAveragePool(_) => {
            t.emit("GlobalAveragePool", vec![]);
            return Ok(());
        }
        Op::GlobalMaxPool(_) => {
            t.emit("GlobalMaxPool", vec![]);
            return Ok(());
        }
        Op::MaxPool(a) => {
            let mut list = window(&a.strides, &a.pads, &a.dilations, a.auto_pad);
            if a.column_major {
                t.need("storage_order", 8)?;
                list.push(attrs::int("storage_order", 1));
            }
            ("MaxPool", &a.kernel, list, a.ceil, 10, &a.dilations, 10)
        }
        Op::AveragePool(a) => {
            let mut list = window(&a.strides, &a.pads, &a.dilations, a.auto_pad);
            if a.count_include_pad {
                list.push(attrs::int("count_include_pad", 1));
            }
            ("AveragePool", &a.kernel, list, a.ceil, 10, &a.dilations, 19)
        }
        Op::LpPool(a) => {
            let mut list = window(&a.strides, &a.pads, &a.dilations, a.auto_pad);
            list.push(attrs::int("p", attrs::i64_of(a.p)));
            ("LpPool", &a.kernel, list, a.ceil, 18, &a.dilations, 18)
        }
        _ => unreachable!("the table sends only this family here"),
    };
    list.push(attrs::counts("kernel_shape", kernel));
    if ceil {
        t.need("ceil_mode", ceil_since)?;
        list.push(attrs::int("ceil_mode", 1));
    }
    if t.opset < dilations_since {
        if dilated.iter().any(|&d| d != 1) {
            return Err(t.too_old("dilations", dilations_since));
        }
        list.retain(|attr| attr.name != "dilations");
    }
    t.emit(name, list);
    Ok(())
}
