//! Elementwise operators.

use optc_ir::op::*;
use optc_ir::{DType, Data, Tensor};

use crate::onnx::attrs::{self, Refusal};
use crate::onnx::error::ExportError;
use crate::onnx::source::{Arg, Mapped, Source};
use crate::onnx::target::Target;
use crate::onnx::types;

/// ONNX name and first opset of the functions of one operand without parameters. `Silu` has none.
const UNARY: &[(&str, Unary, i64)] = &[
    ("Identity", Unary::Identity, 1),
    ("Abs", Unary::Abs, 6),
    ("Neg", Unary::Neg, 6),
    ("Sign", Unary::Sign, 9),
    ("Floor", Unary::Floor, 6),
    ("Ceil", Unary::Ceil, 6),
    ("Round", Unary::Round, 11),
    ("Sqrt", Unary::Sqrt, 6),
    ("Reciprocal", Unary::Reciprocal, 6),
    ("Exp", Unary::Exp, 6),
    ("Log", Unary::Log, 6),
    ("Sin", Unary::Sin, 7),
    ("Cos", Unary::Cos, 7),
    ("Tan", Unary::Tan, 7),
    ("Asin", Unary::Asin, 7),
    ("Acos", Unary::Acos, 7),
    ("Atan", Unary::Atan, 7),
    ("Sinh", Unary::Sinh, 9),
    ("Cosh", Unary::Cosh, 9),
    ("Tanh", Unary::Tanh, 6),
    ("Asinh", Unary::Asinh, 9),
    ("Acosh", Unary::Acosh, 9),
    ("Atanh", Unary::Atanh, 9),
    ("Erf", Unary::Erf, 9),
    ("Relu", Unary::Relu, 6),
    ("Sigmoid", Unary::Sigmoid, 6),
    ("Softplus", Unary::Softplus, 1),
    ("Softsign", Unary::Softsign, 1),
    ("Mish", Unary::Mish, 18),
    ("HardSwish", Unary::HardSwish, 14),
    ("Not", Unary::Not, 1),
    ("BitwiseNot", Unary::BitwiseNot, 18),
    ("IsNaN", Unary::IsNan, 9),
];

/// ONNX name and first opset of the functions of two operands.
const BINARY: &[(&str, Binary, i64)] = &[
    ("Add", Binary::Add, 7),
    ("Sub", Binary::Sub, 7),
    ("Mul", Binary::Mul, 7),
    ("Div", Binary::Div, 7),
    ("Pow", Binary::Pow, 7),
    ("PRelu", Binary::PRelu, 7),
    ("And", Binary::And, 7),
    ("Or", Binary::Or, 7),
    ("Xor", Binary::Xor, 7),
    ("BitwiseAnd", Binary::BitwiseAnd, 18),
    ("BitwiseOr", Binary::BitwiseOr, 18),
    ("BitwiseXor", Binary::BitwiseXor, 18),
    ("Equal", Binary::Equal, 7),
    ("Less", Binary::Less, 7),
    ("LessOrEqual", Binary::LessOrEqual, 12),
    ("Greater", Binary::Greater, 7),
    ("GreaterOrEqual", Binary::GreaterOrEqual, 12),
];

const VARIADIC: &[(&str, Variadic)] =
    &[("Max", Variadic::Max), ("Min", Variadic::Min), ("Sum", Variadic::Sum), ("Mean", Variadic::Mean)];

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    if let Some(&(_, op, _)) = UNARY.iter().find(|row| row.0 == s.op_type) {
        return s.direct(Op::Unary(op));
    }
    if let Some(&(_, op, _)) = BINARY.iter().find(|row| row.0 == s.op_type) {
        return s.direct(Op::Binary(op));
    }
    if let Some(&(_, op)) = VARIADIC.iter().find(|row| row.0 == s.op_type) {
        return s.direct(Op::Variadic(op));
    }
    match s.op_type {
        "LeakyRelu" => {
            let alpha = s.attrs.float_or("alpha", 0.01)?;
            s.direct(LeakyRelu { alpha })
        }
        "Elu" => {
            let alpha = s.attrs.float_or("alpha", 1.0)?;
            s.direct(Elu { alpha })
        }
        "Celu" => {
            let alpha = s.attrs.float_or("alpha", 1.0)?;
            s.direct(Celu { alpha })
        }
        "Selu" => {
            let default = Selu::default();
            let (alpha, gamma) = (s.attrs.float_or("alpha", default.alpha)?, s.attrs.float_or("gamma", default.gamma)?);
            s.direct(Selu { alpha, gamma })
        }
        "HardSigmoid" => {
            let (alpha, beta) = (s.attrs.float_or("alpha", 0.2)?, s.attrs.float_or("beta", 0.5)?);
            s.direct(HardSigmoid { alpha, beta })
        }
        "ThresholdedRelu" => {
            let alpha = s.attrs.float_or("alpha", 1.0)?;
            s.direct(ThresholdedRelu { alpha })
        }
        "Shrink" => {
            let (bias, lambd) = (s.attrs.float_or("bias", 0.0)?, s.attrs.float_or("lambd", 0.5)?);
            s.direct(Shrink { bias, lambd })
        }
        "Gelu" => {
            let tanh = match s.attrs.string_or("approximate", "none")? {
                "none" => false,
                "tanh" => true,
                other => return Err(Refusal(format!("approximate={other}"))),
            };
            s.direct(Gelu { tanh })
        }
        "Swish" => match s.attrs.float_or("alpha", 1.0)? {
            1.0 => s.direct(Op::Unary(Unary::Silu)),
            alpha => Err(Refusal(format!("alpha={alpha}"))),
        },
        "IsInf" => {
            let (negative, positive) =
                (s.attrs.bool_or("detect_negative", true)?, s.attrs.bool_or("detect_positive", true)?);
            s.direct(IsInf { negative, positive })
        }
        "Clip" => import_clip(s),
        "Cast" => {
            let code = s.attrs.int("to")?.ok_or("a cast to nothing")?;
            s.attrs.skip("saturate");
            let to = i32::try_from(code).ok().and_then(types::dtype).ok_or("this element type")?;
            s.direct(Cast { to })
        }
        "CastLike" => {
            s.attrs.skip("saturate");
            let to = s.ty(1).ok_or("an unknown element type")?.dtype;
            s.first(1, Cast { to })
        }
        "Where" => s.direct(Where {}),
        "Mod" => {
            let fmod = s.attrs.bool_or("fmod", false)?;
            s.direct(Mod { fmod })
        }
        "BitShift" => {
            let left = match s.attrs.string_or("direction", "")? {
                "LEFT" => true,
                "RIGHT" => false,
                other => return Err(Refusal(format!("direction={other}"))),
            };
            s.direct(BitShift { left })
        }
        "Dropout" => {
            let training = match s.operand(2) {
                None => false,
                Some(mode) => {
                    let constant = s.graph.constant(mode).ok_or("training_mode computed at run time")?;
                    constant.decode().data().to_i64() != Some(vec![0])
                }
            };
            if training {
                return Err("training mode".into());
            }
            s.at_most_outputs(1)?;
            s.attrs.skip("ratio");
            s.attrs.skip("seed");
            s.first(1, Op::Unary(Unary::Identity))
        }
        other => Err(Refusal(format!("operator {other}"))),
    }
}

/// Before opset 11 the limits are attributes, and always of type float.
fn import_clip(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    if s.opset >= 11 {
        return s.direct(Clip {});
    }
    let dtype = s.ty(0).map_or(DType::F32, |ty| ty.dtype);
    let (min, max) = (s.attrs.float("min")?, s.attrs.float("max")?);
    let limit = |name, limit: Option<f32>| match limit {
        Some(x) => Arg::Constant(name, Tensor::new([], Data::from_f64(dtype, [f64::from(x)]))),
        None => Arg::Value(None),
    };
    let args = vec![s.arg(0), limit("min", min), limit("max", max)];
    s.with(Clip {}, args)
}

pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    match op {
        Op::Unary(Unary::Silu) => activation(t, Act::Silu, &t.input(0))?,
        Op::Unary(Unary::HardSwish) => activation(t, Act::HardSwish, &t.input(0))?,
        Op::Unary(Unary::Mish) if t.opset < 18 => {
            let x = t.input(0);
            let softplus = t.inner("Softplus", &[&x], vec![]);
            let tanh = t.inner("Tanh", &[&softplus], vec![]);
            t.last("Mul", &[&x, &tanh], vec![]);
        }
        Op::Unary(unary) => {
            let row = UNARY.iter().find(|row| row.1 == *unary);
            let &(name, _, since) = row.ok_or_else(|| t.inexpressible("this function has no ONNX operator"))?;
            t.need(name, since)?;
            t.emit(name, vec![]);
        }
        Op::Binary(binary) => {
            let row = BINARY.iter().find(|row| row.1 == *binary);
            let &(name, _, since) = row.ok_or_else(|| t.inexpressible("this function has no ONNX operator"))?;
            if t.opset < since && matches!(binary, Binary::LessOrEqual | Binary::GreaterOrEqual) {
                let inverse = if *binary == Binary::LessOrEqual { "Greater" } else { "Less" };
                let inverse = t.inner(inverse, &[&t.input(0), &t.input(1)], vec![]);
                t.last("Not", &[&inverse], vec![]);
                return Ok(());
            }
            t.need(name, since)?;
            t.emit(name, vec![]);
        }
        Op::Variadic(variadic) => {
            let row = VARIADIC.iter().find(|row| row.1 == *variadic);
            let &(name, _) = row.ok_or_else(|| t.inexpressible("this function has no ONNX operator"))?;
            t.emit(name, vec![]);
        }
        Op::LeakyRelu(a) => t.emit("LeakyRelu", vec![attrs::float("alpha", a.alpha)]),
        Op::Elu(a) => t.emit("Elu", vec![attrs::float("alpha", a.alpha)]),
        Op::Celu(a) => {
            t.need("Celu", 12)?;
            t.emit("Celu", vec![attrs::float("alpha", a.alpha)]);
        }
        Op::Selu(a) => t.emit("Selu", vec![attrs::float("alpha", a.alpha), attrs::float("gamma", a.gamma)]),
        Op::HardSigmoid(a) => {
            t.emit("HardSigmoid", vec![attrs::float("alpha", a.alpha), attrs::float("beta", a.beta)]);
        }
        Op::ThresholdedRelu(a) => {
            t.need("ThresholdedRelu", 10)?;
            t.emit("ThresholdedRelu", vec![attrs::float("alpha", a.alpha)]);
        }
        Op::Shrink(a) => {
            t.need("Shrink", 9)?;
            t.emit("Shrink", vec![attrs::float("bias", a.bias), attrs::float("lambd", a.lambd)]);
        }
        Op::Gelu(a) if a.tanh => export_tanh_gelu(t)?,
        Op::Gelu(_) => activation(t, Act::Gelu, &t.input(0))?,
        Op::IsInf(a) => {
            t.need("IsInf", 10)?;
            let flag = |name, on: bool| attrs::int(name, i64::from(on));
            t.emit("IsInf", vec![flag("detect_negative", a.negative), flag("detect_positive", a.positive)]);
        }
        Op::Clip(_) => export_clip(t)?,
        Op::Cast(a) => t.emit("Cast", vec![attrs::int("to", types::dtype_code(a.to).into())]),
        Op::Where(_) => {
            t.need("Where", 9)?;
            t.emit("Where", vec![]);
        }
        Op::Mod(a) => {
            t.need("Mod", 10)?;
            t.emit("Mod", vec![attrs::int("fmod", a.fmod.into())]);
        }
        Op::BitShift(a) => {
            t.need("BitShift", 11)?;
            t.emit("BitShift", vec![attrs::string("direction", if a.left { "LEFT" } else { "RIGHT" })]);
        }
        _ => unreachable!("the table sends only this family here"),
    }
    Ok(())
}

fn export_clip(t: &mut Target<'_>) -> Result<(), ExportError> {
    if t.opset >= 11 {
        t.emit("Clip", vec![]);
        return Ok(());
    }
    let constant = |slot: usize| !t.has(slot) || t.graph.constant_operand(t.node, slot).is_some();
    if constant(1) && constant(2) {
        let mut limits = Vec::new();
        for (slot, name) in [(1, "min"), (2, "max")] {
            if t.has(slot) {
                let limit = Data::from_f64(DType::F32, [t.constant_number(slot, name, 11)?]);
                limits.extend(limit.as_f32().unwrap_or_default().iter().map(|&limit| attrs::float(name, limit)));
            }
        }
        t.emit_on("Clip", vec![t.input(0)], limits);
        return Ok(());
    }
    let mut x = t.input(0);
    for (slot, op) in [(1, "Max"), (2, "Min")] {
        if t.has(slot) {
            x = t.inner(op, &[&x, &t.input(slot)], vec![]);
        }
    }
    t.last("Identity", &[&x], vec![]);
    Ok(())
}

/// ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), as the operator's definition expands.
fn export_tanh_gelu(t: &mut Target<'_>) -> Result<(), ExportError> {
    if t.opset >= 20 {
        t.emit("Gelu", vec![attrs::string("approximate", "tanh")]);
        return Ok(());
    }
    let (x, dtype) = (t.input(0), t.dtype());
    let three = t.scalar("three", dtype, 3.0);
    let cubic = t.scalar("cubic", dtype, 0.044_715);
    let scale = t.scalar("scale", dtype, std::f64::consts::FRAC_2_PI.sqrt());
    let one = t.scalar("one", dtype, 1.0);
    let half = t.scalar("half", dtype, 0.5);
    let cube = t.inner("Pow", &[&x, &three], vec![]);
    let cube = t.inner("Mul", &[&cube, &cubic], vec![]);
    let sum = t.inner("Add", &[&x, &cube], vec![]);
    let arg = t.inner("Mul", &[&sum, &scale], vec![]);
    let tanh = t.inner("Tanh", &[&arg], vec![]);
    let gate = t.inner("Add", &[&tanh, &one], vec![]);
    let gate = t.inner("Mul", &[&gate, &half], vec![]);
    t.last("Mul", &[&x, &gate], vec![]);
    Ok(())
}

/// Writes an activation of the value called `x`; its result is the node's.
pub(super) fn activation(t: &mut Target<'_>, act: Act, x: &str) -> Result<(), ExportError> {
    let dtype = t.dtype();
    match act {
        Act::None => {}
        Act::Relu => t.last("Relu", &[x], vec![]),
        Act::Sigmoid => t.last("Sigmoid", &[x], vec![]),
        Act::Tanh => t.last("Tanh", &[x], vec![]),
        Act::LeakyRelu { alpha } => t.last("LeakyRelu", &[x], vec![attrs::float("alpha", alpha)]),
        Act::HardSigmoid { alpha, beta } => {
            t.last("HardSigmoid", &[x], vec![attrs::float("alpha", alpha), attrs::float("beta", beta)]);
        }
        Act::Clip { lo, hi } if t.opset < 11 => {
            t.last("Clip", &[x], vec![attrs::float("min", lo), attrs::float("max", hi)]);
        }
        Act::Clip { lo, hi } => {
            let (lo, hi) = (t.scalar("min", dtype, lo.into()), t.scalar("max", dtype, hi.into()));
            t.last("Clip", &[x, &lo, &hi], vec![]);
        }
        Act::HardSwish if t.opset >= 14 => t.last("HardSwish", &[x], vec![]),
        Act::HardSwish => {
            let gate = vec![attrs::float("alpha", 1.0 / 6.0), attrs::float("beta", 0.5)];
            let gate = t.inner("HardSigmoid", &[x], gate);
            t.last("Mul", &[x, &gate], vec![]);
        }
        Act::Silu => {
            let gate = t.inner("Sigmoid", &[x], vec![]);
            t.last("Mul", &[x, &gate], vec![]);
        }
        Act::Gelu if t.opset >= 20 => t.last("Gelu", &[x], vec![]),
        Act::Gelu => {
            t.need("Erf", 9)?;
            let root = t.scalar("root", dtype, std::f64::consts::SQRT_2);
            let one = t.scalar("one", dtype, 1.0);
            let half = t.scalar("half", dtype, 0.5);
            let arg = t.inner("Div", &[x, &root], vec![]);
            let erf = t.inner("Erf", &[&arg], vec![]);
            let gate = t.inner("Add", &[&erf, &one], vec![]);
            let gate = t.inner("Mul", &[&gate, &half], vec![]);
            t.last("Mul", &[x, &gate], vec![]);
        }
    }
    Ok(())
}
