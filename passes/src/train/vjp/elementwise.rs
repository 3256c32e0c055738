//! Elementwise functions: x̄ = ȳ·f′, summed over whatever was broadcast. Derivatives are those of any table of
//! them; where one is a simple function of the result, it is written with the result.

use std::f64::consts::{FRAC_2_SQRT_PI, PI};

use optc_ir::op::{Act, Binary, Unary, Variadic, Where};
use optc_ir::{DType, Op, ValueId};

use super::super::emit::Emit;
use super::super::error::TrainError;
use super::{Cx, Gradients};

pub(super) fn rule(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    match op {
        Op::Unary(unary) => Ok(vec![self::unary(e, *unary, cx, dy)?]),
        Op::Binary(binary) => self::binary(e, *binary, cx, dy),
        Op::Variadic(variadic) => self::variadic(e, *variadic, cx, dy),
        Op::Clip(_) => clip(e, cx, dy),
        Op::Where(_) => select(e, cx, dy),
        Op::Cast(_) => {
            let to = e.dtype(cx.x(e, 0))?;
            Ok(vec![Some(e.cast(dy, to)?)])
        }
        Op::Mod(_) => {
            if cx.needs(1) {
                return Err(e.unsupported("has no gradient with respect to its divisor"));
            }
            let shape = e.shape(cx.x(e, 0))?;
            Ok(vec![Some(e.unbroadcast(dy, &shape)?)])
        }
        _ => Ok(vec![Some(activation(e, op, cx, dy)?)]),
    }
}

fn unary(e: &mut Emit<'_>, op: Unary, cx: &Cx<'_>, dy: ValueId) -> Result<Option<ValueId>, TrainError> {
    let (x, y) = (cx.x(e, 0), cx.y());
    // 1 + s·x², the square of what inverse functions divide by.
    let one_plus = |e: &mut Emit<'_>, s: f64| {
        let square = e.square(x)?;
        let scaled = e.scale(square, s)?;
        e.shift(scaled, 1.0)
    };
    let over_root = |e: &mut Emit<'_>, square: ValueId| {
        let root = e.unary(Unary::Sqrt, square)?;
        e.div(dy, root)
    };
    Ok(Some(match op {
        Unary::Identity => dy,
        Unary::Abs => {
            let sign = e.unary(Unary::Sign, x)?;
            e.mul(dy, sign)?
        }
        Unary::Neg => e.unary(Unary::Neg, dy)?,
        Unary::Sqrt => {
            let half = e.scale(dy, 0.5)?;
            e.div(half, y)?
        }
        Unary::Reciprocal => {
            let square = e.square(y)?;
            let product = e.mul(dy, square)?;
            e.unary(Unary::Neg, product)?
        }
        Unary::Exp => e.mul(dy, y)?,
        Unary::Log => e.div(dy, x)?,
        Unary::Sin => {
            let cos = e.unary(Unary::Cos, x)?;
            e.mul(dy, cos)?
        }
        Unary::Cos => {
            let sin = e.unary(Unary::Sin, x)?;
            let product = e.mul(dy, sin)?;
            e.unary(Unary::Neg, product)?
        }
        Unary::Tan => {
            let square = e.square(y)?;
            let slope = e.shift(square, 1.0)?;
            e.mul(dy, slope)?
        }
        Unary::Asin => {
            let square = one_plus(e, -1.0)?;
            over_root(e, square)?
        }
        Unary::Acos => {
            let square = one_plus(e, -1.0)?;
            let slope = over_root(e, square)?;
            e.unary(Unary::Neg, slope)?
        }
        Unary::Atan => {
            let square = one_plus(e, 1.0)?;
            e.div(dy, square)?
        }
        Unary::Sinh => {
            let cosh = e.unary(Unary::Cosh, x)?;
            e.mul(dy, cosh)?
        }
        Unary::Cosh => {
            let sinh = e.unary(Unary::Sinh, x)?;
            e.mul(dy, sinh)?
        }
        Unary::Asinh => {
            let square = one_plus(e, 1.0)?;
            over_root(e, square)?
        }
        Unary::Acosh => {
            let square = e.square(x)?;
            let square = e.shift(square, -1.0)?;
            over_root(e, square)?
        }
        Unary::Atanh => {
            let square = one_plus(e, -1.0)?;
            e.div(dy, square)?
        }
        Unary::Erf => {
            let square = e.square(x)?;
            let negative = e.unary(Unary::Neg, square)?;
            let density = e.unary(Unary::Exp, negative)?;
            let slope = e.scale(density, FRAC_2_SQRT_PI)?;
            e.mul(dy, slope)?
        }
        Unary::Relu => e.act_grad(Act::Relu, y, dy)?,
        Unary::Sigmoid => e.act_grad(Act::Sigmoid, y, dy)?,
        Unary::Tanh => e.act_grad(Act::Tanh, y, dy)?,
        Unary::Silu => e.act_grad(Act::Silu, x, dy)?,
        Unary::HardSwish => e.act_grad(Act::HardSwish, x, dy)?,
        Unary::Softplus => {
            let slope = e.unary(Unary::Sigmoid, x)?;
            e.mul(dy, slope)?
        }
        // 1/(1 + |x|)² = (1 − |y|)²
        Unary::Softsign => {
            let size = e.unary(Unary::Abs, y)?;
            let rest = e.scale(size, -1.0)?;
            let rest = e.shift(rest, 1.0)?;
            let slope = e.square(rest)?;
            e.mul(dy, slope)?
        }
        // With t = tanh(softplus(x)): t + x·(1 − t²)·sigmoid(x).
        Unary::Mish => {
            let softplus = e.unary(Unary::Softplus, x)?;
            let t = e.unary(Unary::Tanh, softplus)?;
            let sigmoid = e.unary(Unary::Sigmoid, x)?;
            let inner = e.act_grad(Act::Tanh, t, sigmoid)?;
            let inner = e.mul(x, inner)?;
            let slope = e.add(t, inner)?;
            e.mul(dy, slope)?
        }
        // Constant between jumps, or not numbers.
        Unary::Sign | Unary::Floor | Unary::Ceil | Unary::Round | Unary::Not | Unary::BitwiseNot | Unary::IsNan => {
            return Ok(None);
        }
    }))
}

/// What `dy` is on the negative side of `x`, times `slope`, and on the positive side as it is times `above`.
fn by_sign(e: &mut Emit<'_>, x: ValueId, dy: ValueId, above: f64, slope: ValueId) -> Result<ValueId, TrainError> {
    let positive = e.where_positive(x, dy)?;
    let negative = e.sub(dy, positive)?;
    let negative = e.mul(negative, slope)?;
    let positive = e.scale(positive, above)?;
    e.add(positive, negative)
}

fn activation(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>, dy: ValueId) -> Result<ValueId, TrainError> {
    let (x, y) = (cx.x(e, 0), cx.y());
    match op {
        Op::LeakyRelu(a) => {
            let act = Act::LeakyRelu { alpha: a.alpha };
            e.act_grad(act, if act.grad_by_result() { y } else { x }, dy)
        }
        Op::HardSigmoid(a) => e.act_grad(Act::HardSigmoid { alpha: a.alpha, beta: a.beta }, y, dy),
        Op::Gelu(a) if !a.tanh => e.act_grad(Act::Gelu, x, dy),
        Op::Gelu(_) => gelu_tanh(e, x, dy),
        // Below zero, y = α·(eˣ − 1), so the slope α·eˣ is y + α.
        Op::Elu(a) => {
            let slope = e.shift(y, a.alpha.into())?;
            by_sign(e, x, dy, 1.0, slope)
        }
        // y = α·(e^(x/α) − 1), so the slope e^(x/α) is y/α + 1.
        Op::Celu(a) => {
            let slope = e.scale(y, 1.0 / f64::from(a.alpha))?;
            let slope = e.shift(slope, 1.0)?;
            by_sign(e, x, dy, 1.0, slope)
        }
        Op::Selu(a) => {
            let slope = e.shift(y, f64::from(a.alpha) * f64::from(a.gamma))?;
            by_sign(e, x, dy, a.gamma.into(), slope)
        }
        Op::ThresholdedRelu(a) => {
            let above = e.shift(x, -f64::from(a.alpha))?;
            e.where_positive(above, dy)
        }
        Op::Shrink(a) => {
            let size = e.unary(Unary::Abs, x)?;
            let above = e.shift(size, -f64::from(a.lambd))?;
            e.where_positive(above, dy)
        }
        _ => unreachable!("{} is of another family", op.name()),
    }
}

/// y = x/2·(1 + t), t = tanh(u), u = √(2/π)·(x + 0.044715·x³): y′ = (1 + t)/2 + x/2·(1 − t²)·u′.
fn gelu_tanh(e: &mut Emit<'_>, x: ValueId, dy: ValueId) -> Result<ValueId, TrainError> {
    const CUBE: f64 = 0.044715;
    let root = (2.0 / PI).sqrt();
    let square = e.square(x)?;
    let bent = e.scale(square, root * CUBE)?;
    let bent = e.shift(bent, root)?;
    let u = e.mul(x, bent)?;
    let t = e.unary(Unary::Tanh, u)?;
    let du = e.scale(square, 3.0 * root * CUBE)?;
    let du = e.shift(du, root)?;
    let dt = e.act_grad(Act::Tanh, t, du)?;
    let inner = e.mul(x, dt)?;
    let outer = e.shift(t, 1.0)?;
    let slope = e.add(outer, inner)?;
    let slope = e.scale(slope, 0.5)?;
    e.mul(dy, slope)
}

/// Between the limits dy, outside nothing.
fn clip(e: &mut Emit<'_>, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    if cx.needs(1) || cx.needs(2) {
        return Err(e.unsupported("has no gradient with respect to its limits"));
    }
    let (node, x, y) = (cx.node, cx.x(e, 0), cx.y());
    let limit = |e: &Emit<'_>, slot: usize, missing: f32| match e.graph.operand(node, slot) {
        None => Some(missing),
        Some(value) => {
            let limit = *e.graph.constant(value)?.decode().data().to_f64().first()?;
            let near = limit as f32;
            (f64::from(near) == limit).then_some(near)
        }
    };
    if let (Some(lo), Some(hi)) = (limit(e, 1, f32::NEG_INFINITY), limit(e, 2, f32::INFINITY)) {
        return Ok(vec![Some(e.act_grad(Act::Clip { lo, hi }, y, dy)?)]);
    }
    let mut dx = dy;
    for (slot, sign) in [(1, 1.0), (2, -1.0)] {
        let Some(limit) = e.graph.operand(node, slot) else { continue };
        let limit = e.reshape(limit, &[])?;
        let beyond = e.sub(x, limit)?;
        let beyond = e.scale(beyond, sign)?;
        dx = e.where_positive(beyond, dx)?;
    }
    Ok(vec![Some(dx)])
}

/// The gradient of either branch is dy where the branch was taken.
fn select(e: &mut Emit<'_>, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let condition = cx.x(e, 0);
    let zero = e.scalar(dy, 0.0)?;
    let mut branch = |slot: usize, operands: [ValueId; 3]| -> Result<Option<ValueId>, TrainError> {
        if !cx.needs(slot) {
            return Ok(None);
        }
        let dx = e.op(Where {}, &operands)?;
        let shape = e.shape(cx.x(e, slot))?;
        Ok(Some(e.unbroadcast(dx, &shape)?))
    };
    Ok(vec![None, branch(1, [condition, dy, zero])?, branch(2, [condition, zero, dy])?])
}

fn binary(e: &mut Emit<'_>, op: Binary, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let (a, b, y) = (cx.x(e, 0), cx.x(e, 1), cx.y());
    let (da, db) = match op {
        Binary::Add => (Some(dy), Some(dy)),
        Binary::Sub => (Some(dy), if cx.needs(1) { Some(e.unary(Unary::Neg, dy)?) } else { None }),
        Binary::Mul => {
            let da = if cx.needs(0) { Some(e.mul(dy, b)?) } else { None };
            let db = if cx.needs(1) { Some(e.mul(dy, a)?) } else { None };
            (da, db)
        }
        // (a/b)′ = 1/b by a, and −(a/b)/b by b.
        Binary::Div => {
            let da = e.div(dy, b)?;
            let db = if cx.needs(1) {
                let product = e.mul(da, y)?;
                Some(e.unary(Unary::Neg, product)?)
            } else {
                None
            };
            (Some(da), db)
        }
        // (aᵇ)′ = b·aᵇ⁻¹ by a, and aᵇ·ln a by b.
        Binary::Pow => {
            let dtype = e.dtype(a)?;
            let da = if cx.needs(0) {
                let exponent = e.cast(b, dtype)?;
                let less = e.shift(exponent, -1.0)?;
                let power = e.op(Op::Binary(Binary::Pow), &[a, less])?;
                let slope = e.mul(exponent, power)?;
                Some(e.mul(dy, slope)?)
            } else {
                None
            };
            let db = if cx.needs(1) {
                let log = e.unary(Unary::Log, a)?;
                let slope = e.mul(y, log)?;
                let db = e.mul(dy, slope)?;
                let to = e.dtype(b)?;
                Some(e.cast(db, to)?)
            } else {
                None
            };
            (da, db)
        }
        Binary::PRelu => {
            let da = if cx.needs(0) { Some(by_sign(e, a, dy, 1.0, b)?) } else { None };
            let db = if cx.needs(1) {
                let positive = e.unary(Unary::Relu, a)?;
                let negative = e.sub(a, positive)?;
                Some(e.mul(dy, negative)?)
            } else {
                None
            };
            (da, db)
        }
        Binary::And
        | Binary::Or
        | Binary::Xor
        | Binary::BitwiseAnd
        | Binary::BitwiseOr
        | Binary::BitwiseXor
        | Binary::Equal
        | Binary::Less
        | Binary::LessOrEqual
        | Binary::Greater
        | Binary::GreaterOrEqual => (None, None),
    };
    let (a_shape, b_shape) = (e.shape(a)?, e.shape(b)?);
    let da = da.filter(|_| cx.needs(0)).map(|da| e.unbroadcast(da, &a_shape)).transpose()?;
    let db = db.filter(|_| cx.needs(1)).map(|db| e.unbroadcast(db, &b_shape)).transpose()?;
    Ok(vec![da, db])
}

fn variadic(e: &mut Emit<'_>, op: Variadic, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let count = cx.needed.len();
    let mut gradients = Vec::with_capacity(count);
    // Of equal extremes the first takes the gradient: what it takes is no longer left for the others.
    let mut left = dy;
    for slot in 0..count {
        let x = cx.x(e, slot);
        let taken = match op {
            Variadic::Sum => dy,
            Variadic::Mean => e.scale(dy, 1.0 / count as f64)?,
            Variadic::Max | Variadic::Min if count == 1 => dy,
            Variadic::Max | Variadic::Min => {
                let best = e.op(Op::Binary(Binary::Equal), &[x, cx.y()])?;
                let zero = e.scalar(dy, 0.0)?;
                let taken = e.op(Where {}, &[best, left, zero])?;
                left = e.sub(left, taken)?;
                taken
            }
        };
        let shape = e.shape(x)?;
        gradients.push(if cx.needs(slot) { Some(e.unbroadcast(taken, &shape)?) } else { None });
    }
    Ok(gradients)
}

/// 1 where two values are equal, 0 elsewhere, in the element type `dtype`.
pub(super) fn equal(e: &mut Emit<'_>, a: ValueId, b: ValueId, dtype: DType) -> Result<ValueId, TrainError> {
    let equal = e.op(Op::Binary(Binary::Equal), &[a, b])?;
    e.cast(equal, dtype)
}
