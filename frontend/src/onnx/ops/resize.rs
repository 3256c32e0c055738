//! `Resize`, and `Upsample`, which came before it.

use optc_ir::op::*;
use optc_ir::{Data, Tensor};

use crate::onnx::attrs::{self, Refusal};
use crate::onnx::error::ExportError;
use crate::onnx::source::{Arg, Mapped, Source};
use crate::onnx::target::Target;

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    if s.opset < 11 {
        return import_before_11(s);
    }
    let default = Resize::default();
    let word = s.attrs.string_or("mode", "nearest")?;
    let mode = ResizeMode::from_word(word).ok_or_else(|| format!("mode={word}"))?;
    let word = s.attrs.string_or("coordinate_transformation_mode", "half_pixel")?;
    let coordinates =
        CoordinateMode::from_word(word).ok_or_else(|| format!("coordinate_transformation_mode={word}"))?;
    let word = s.attrs.string_or("nearest_mode", "round_prefer_floor")?;
    let nearest = NearestMode::from_word(word).ok_or_else(|| format!("nearest_mode={word}"))?;
    let word = s.attrs.string_or("keep_aspect_ratio_policy", "stretch")?;
    let aspect = AspectPolicy::from_word(word).ok_or_else(|| format!("keep_aspect_ratio_policy={word}"))?;
    let op = Resize {
        mode,
        coordinates,
        nearest,
        cubic_coeff: s.attrs.float_or("cubic_coeff_a", default.cubic_coeff)?,
        exclude_outside: s.attrs.bool_or("exclude_outside", false)?,
        extrapolation: s.attrs.float_or("extrapolation_value", 0.0)?,
        antialias: s.attrs.bool_or("antialias", false)?,
        axes: s.attrs.ints("axes")?,
        aspect,
    };
    // Opset 11 required these operands and wrote an empty tensor for "absent".
    let args = (0..4).map(|slot| if slot > 0 && s.is_empty(slot) { Arg::Value(None) } else { s.arg(slot) }).collect();
    s.with(op, args)
}

/// Coordinates were divided by the scale; onnxruntime takes the element below when enlarging and the one
/// above when shrinking, so the scales must be known and all on one side.
fn import_before_11(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    let word = s.attrs.string_or("mode", "nearest")?;
    let mode = ResizeMode::from_word(word).filter(|mode| *mode != ResizeMode::Cubic);
    let mode = mode.ok_or_else(|| format!("mode={word}"))?;
    let (scales, arg) = match s.attrs.floats("scales")? {
        Some(scales) => {
            let tensor = Tensor::f32([scales.len()], scales.clone());
            (Some(scales), Arg::Constant("scales", tensor))
        }
        None => {
            let constant = s.operand(1).and_then(|scales| s.graph.constant(scales));
            let scales = constant.and_then(|constant| constant.decode().as_f32().map(<[f32]>::to_vec));
            (scales, s.arg(1))
        }
    };
    let nearest = match (mode, scales) {
        (ResizeMode::Nearest, Some(scales)) if scales.iter().all(|&scale| scale >= 1.0) => NearestMode::Floor,
        (ResizeMode::Nearest, Some(scales)) if scales.iter().all(|&scale| scale <= 1.0) => NearestMode::Ceil,
        (ResizeMode::Nearest, _) => return Err("nearest elements by scales of both kinds".into()),
        _ => NearestMode::Floor,
    };
    let op = Resize { mode, coordinates: CoordinateMode::Asymmetric, nearest, ..Resize::default() };
    let args = vec![s.arg(0), Arg::Value(None), arg];
    s.with(op, args)
}

pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    let Op::Resize(a) = op else { unreachable!("the table sends only this operator here") };
    if t.opset < 11 {
        return export_before_11(a, t);
    }
    let default = Resize::default();
    let mut list = vec![
        attrs::string("mode", a.mode.word()),
        attrs::string("coordinate_transformation_mode", a.coordinates.word()),
    ];
    if a.mode == ResizeMode::Nearest {
        list.push(attrs::string("nearest_mode", a.nearest.word()));
    }
    if a.cubic_coeff != default.cubic_coeff {
        list.push(attrs::float("cubic_coeff_a", a.cubic_coeff));
    }
    if a.exclude_outside {
        list.push(attrs::int("exclude_outside", 1));
    }
    if a.extrapolation != 0.0 {
        list.push(attrs::float("extrapolation_value", a.extrapolation));
    }
    if a.antialias {
        t.need("antialias", 18)?;
        list.push(attrs::int("antialias", 1));
    }
    if let Some(axes) = &a.axes {
        t.need("axes of Resize", 18)?;
        list.push(attrs::ints("axes", axes.as_slice()));
    }
    if a.aspect != AspectPolicy::Stretch {
        t.need("keep_aspect_ratio_policy", 18)?;
        list.push(attrs::string("keep_aspect_ratio_policy", a.aspect.word()));
    }
    if a.coordinates == CoordinateMode::HalfPixelSymmetric {
        t.need("half_pixel_symmetric", 19)?;
    }
    let mut inputs = t.inputs.clone();
    if t.opset < 13 {
        inputs.resize(inputs.len().max(3), String::new());
        let none = Tensor::new([0], Data::F32(Vec::new()));
        for (slot, name) in [(1, "roi"), (2, "scales")] {
            if inputs[slot].is_empty() {
                inputs[slot] = t.constant(name, &none);
            }
        }
    }
    t.emit_on("Resize", inputs, list);
    Ok(())
}

fn export_before_11(a: &Resize, t: &mut Target<'_>) -> Result<(), ExportError> {
    let expressible =
        Resize { mode: a.mode, coordinates: CoordinateMode::Asymmetric, nearest: a.nearest, ..Resize::default() };
    if *a != expressible || a.mode == ResizeMode::Cubic || !t.has(2) || t.has(3) {
        return Err(t.too_old("this form of Resize", 11));
    }
    let mode = attrs::string("mode", a.mode.word());
    let (x, scales) = (t.input(0), t.input(2));
    if t.opset >= 9 {
        let name = if t.opset >= 10 { "Resize" } else { "Upsample" };
        t.emit_on(name, vec![x, scales], vec![mode]);
        return Ok(());
    }
    let constant = t.graph.constant_operand(t.node, 2).map(|constant| constant.decode());
    let scales = constant.as_ref().and_then(|scales| scales.as_f32());
    let scales = scales.ok_or_else(|| t.too_old("scales as an operand", 9))?;
    t.emit_on("Upsample", vec![x], vec![mode, attrs::floats("scales", scales)]);
    Ok(())
}
