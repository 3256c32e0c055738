//! Elementwise functions on scalars and vectors of `f32`.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use optc_ir::op::{Act, Unary};

use super::Emitter;

/// Applies an activation.
pub(crate) fn activate(e: &mut Emitter<'_>, ty: Type, act: Act, x: Value) -> Value {
    match act {
        Act::None => x,
        Act::Relu => relu(e, ty, x),
        Act::Clip { lo, hi } => clip(e, ty, x, lo, hi),
        Act::LeakyRelu { alpha } => leaky_relu(e, ty, x, alpha),
        Act::Sigmoid => sigmoid(e, ty, x),
        Act::Tanh => tanh(e, ty, x),
        Act::HardSigmoid { alpha, beta } => hard_sigmoid(e, ty, x, alpha, beta),
        Act::HardSwish => hard_swish(e, ty, x),
        Act::Silu => {
            let s = sigmoid(e, ty, x);
            e.b.ins().fmul(x, s)
        }
        Act::Gelu => gelu(e, ty, x),
    }
}

/// Applies an elementwise function, or returns `None` if there is no code for it.
pub(crate) fn unary(e: &mut Emitter<'_>, ty: Type, op: Unary, x: Value) -> Option<Value> {
    Some(match op {
        Unary::Abs => e.b.ins().fabs(x),
        Unary::Neg => e.b.ins().fneg(x),
        Unary::Sqrt => e.b.ins().sqrt(x),
        Unary::Floor => e.b.ins().floor(x),
        Unary::Ceil => e.b.ins().ceil(x),
        Unary::Round => e.b.ins().nearest(x),
        Unary::Reciprocal => {
            let one = e.float(ty, 1.0);
            e.b.ins().fdiv(one, x)
        }
        Unary::Exp => exp(e, ty, x),
        Unary::Erf => erf(e, ty, x),
        Unary::Relu => activate(e, ty, Act::Relu, x),
        Unary::Sigmoid => activate(e, ty, Act::Sigmoid, x),
        Unary::Tanh => activate(e, ty, Act::Tanh, x),
        Unary::HardSwish => activate(e, ty, Act::HardSwish, x),
        Unary::Silu => activate(e, ty, Act::Silu, x),
        _ => return None,
    })
}

/// Whether [`unary`] has code for a function.
pub(crate) fn has_unary(op: Unary) -> bool {
    matches!(
        op,
        Unary::Abs
            | Unary::Neg
            | Unary::Sqrt
            | Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Reciprocal
            | Unary::Exp
            | Unary::Erf
            | Unary::Relu
            | Unary::Sigmoid
            | Unary::Tanh
            | Unary::HardSwish
            | Unary::Silu
    )
}

/// max(x, 0); NaN stays NaN.
fn relu(e: &mut Emitter<'_>, ty: Type, x: Value) -> Value {
    let zero = e.float(ty, 0.0);
    e.b.ins().fmax(x, zero)
}

/// min(max(x, lo), hi); NaN stays NaN.
pub(crate) fn clip(e: &mut Emitter<'_>, ty: Type, x: Value, lo: f32, hi: f32) -> Value {
    let mut y = x;
    if lo > f32::NEG_INFINITY {
        let lo = e.float(ty, lo);
        y = e.b.ins().fmax(y, lo);
    }
    if hi < f32::INFINITY {
        let hi = e.float(ty, hi);
        y = e.b.ins().fmin(y, hi);
    }
    y
}

/// x where x ≥ 0, alpha·x elsewhere.
pub(crate) fn leaky_relu(e: &mut Emitter<'_>, ty: Type, x: Value, alpha: f32) -> Value {
    let alpha = e.float(ty, alpha);
    let scaled = e.b.ins().fmul(x, alpha);
    let zero = e.float(ty, 0.0);
    let negative = e.b.ins().fcmp(FloatCC::LessThan, x, zero);
    select(e, ty, negative, scaled, x)
}

/// max(0, min(1, alpha·x + beta)).
pub(crate) fn hard_sigmoid(e: &mut Emitter<'_>, ty: Type, x: Value, alpha: f32, beta: f32) -> Value {
    let (alpha, beta) = (e.float(ty, alpha), e.float(ty, beta));
    let line = e.fma(x, alpha, beta);
    clip(e, ty, line, 0.0, 1.0)
}

fn hard_swish(e: &mut Emitter<'_>, ty: Type, x: Value) -> Value {
    let gate = hard_sigmoid(e, ty, x, 1.0 / 6.0, 0.5);
    e.b.ins().fmul(x, gate)
}

fn sigmoid(e: &mut Emitter<'_>, ty: Type, x: Value) -> Value {
    let negated = e.b.ins().fneg(x);
    let exp = exp(e, ty, negated);
    let one = e.float(ty, 1.0);
    let sum = e.b.ins().fadd(one, exp);
    e.b.ins().fdiv(one, sum)
}

/// By x·P(x²)/Q(x²), a rational minimax approximation on [−7.9, 7.9] (the one of Eigen and XLA); beyond it
/// tanh is ±1 in `f32`.
fn tanh(e: &mut Emitter<'_>, ty: Type, x: Value) -> Value {
    const P: [f32; 7] = [
        -2.760_768_4e-16,
        2.000_188e-13,
        -8.604_672e-11,
        5.122_297_1e-8,
        1.485_722_4e-5,
        6.372_619_3e-4,
        4.893_524_6e-3,
    ];
    const Q: [f32; 4] = [1.198_258_4e-6, 1.185_347e-4, 2.268_434_6e-3, 4.893_525e-3];
    let x = clip(e, ty, x, -7.905_311, 7.905_311);
    let square = e.b.ins().fmul(x, x);
    let p = polynomial(e, ty, square, &P);
    let q = polynomial(e, ty, square, &Q);
    let p = e.b.ins().fmul(x, p);
    e.b.ins().fdiv(p, q)
}

/// By exp(x) = 2ⁿ·exp(r), n = round(x·log₂e), |r| ≤ ln2/2, the latter by a polynomial of degree 6.
pub(crate) fn exp(e: &mut Emitter<'_>, ty: Type, x: Value) -> Value {
    const P: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    // Beyond these limits exp is 0 (within the smallest normal number) or infinite in `f32`.
    let limited = clip(e, ty, x, -87.336_54, 88.722_83);
    let log2e = e.float(ty, std::f32::consts::LOG2_E);
    let n = e.b.ins().fmul(limited, log2e);
    let n = e.b.ins().nearest(n);
    let (minus_hi, minus_lo) = (e.float(ty, -0.693_359_4), e.float(ty, 2.121_944_4e-4));
    let r = e.fma(n, minus_hi, limited);
    let r = e.fma(n, minus_lo, r);
    let p = polynomial(e, ty, r, &P);
    // 2ⁿ in two factors, since n = 128 has no exponent of its own.
    let int = int_type(ty);
    let n = e.b.ins().fcvt_to_sint_sat(int, n);
    let half = e.b.ins().sshr_imm_u(n, 1);
    let rest = e.b.ins().isub(n, half);
    let mut y = p;
    for part in [half, rest] {
        let bias = e.b.ins().iconst(types::I32, 127);
        let bias = e.broadcast(int, bias);
        let biased = e.b.ins().iadd(part, bias);
        let bits = e.b.ins().ishl_imm_u(biased, 23);
        let power = bitcast(e, ty, bits);
        y = e.b.ins().fmul(y, power);
    }
    let overflow = {
        let top = e.float(ty, 88.722_83);
        e.b.ins().fcmp(FloatCC::GreaterThan, x, top)
    };
    let infinity = e.float(ty, f32::INFINITY);
    let y = select(e, ty, overflow, infinity, y);
    let bottom = e.float(ty, -103.972_08);
    let underflow = e.b.ins().fcmp(FloatCC::LessThan, x, bottom);
    let zero = e.float(ty, 0.0);
    select(e, ty, underflow, zero, y)
}

/// By Abramowitz and Stegun 7.1.26 for |x| ≥ 1/2 and the Maclaurin series below, where the former would lose
/// relative accuracy.
pub(crate) fn erf(e: &mut Emitter<'_>, ty: Type, x: Value) -> Value {
    const TAIL: [f32; 6] = [1.061_405_4, -1.453_152, 1.421_413_8, -0.284_496_72, 0.254_829_6, 0.0];
    const SERIES: [f32; 6] =
        [-0.000_854_83, 0.005_223_98, -0.026_866_17, 0.112_837_92, -0.376_126_4, std::f32::consts::FRAC_2_SQRT_PI];
    let magnitude = e.b.ins().fabs(x);
    let one = e.float(ty, 1.0);
    let slope = e.float(ty, 0.327_591_1);
    let denominator = e.fma(magnitude, slope, one);
    let t = e.b.ins().fdiv(one, denominator);
    let p = polynomial(e, ty, t, &TAIL);
    let square = e.b.ins().fmul(x, x);
    let negated = e.b.ins().fneg(square);
    let decay = exp(e, ty, negated);
    let product = e.b.ins().fmul(p, decay);
    let tail = e.b.ins().fsub(one, product);
    let tail = copysign(e, ty, tail, x);
    let series = polynomial(e, ty, square, &SERIES);
    let series = e.b.ins().fmul(x, series);
    let half = e.float(ty, 0.5);
    let small = e.b.ins().fcmp(FloatCC::LessThan, magnitude, half);
    select(e, ty, small, series, tail)
}

/// x/2·(1 + erf(x/√2)).
pub(crate) fn gelu(e: &mut Emitter<'_>, ty: Type, x: Value) -> Value {
    let scale = e.float(ty, std::f32::consts::FRAC_1_SQRT_2);
    let scaled = e.b.ins().fmul(x, scale);
    let erf = erf(e, ty, scaled);
    let half = e.float(ty, 0.5);
    let half_x = e.b.ins().fmul(x, half);
    e.fma(half_x, erf, half_x)
}

/// Horner's rule, the highest power first.
fn polynomial(e: &mut Emitter<'_>, ty: Type, x: Value, coefficients: &[f32]) -> Value {
    let mut y = e.float(ty, coefficients[0]);
    for &c in &coefficients[1..] {
        let c = e.float(ty, c);
        y = e.fma(y, x, c);
    }
    y
}

/// `yes` where the condition (a boolean, or a mask of lanes) holds, `no` elsewhere.
pub(crate) fn select(e: &mut Emitter<'_>, ty: Type, condition: Value, yes: Value, no: Value) -> Value {
    if ty.is_vector() {
        let mask = bitcast(e, ty, condition);
        e.b.ins().bitselect(mask, yes, no)
    } else {
        e.b.ins().select(condition, yes, no)
    }
}

/// A non-negative number with the sign of `x`.
fn copysign(e: &mut Emitter<'_>, ty: Type, magnitude: Value, x: Value) -> Value {
    let zero = e.float(ty, 0.0);
    let negative = e.b.ins().fcmp(FloatCC::LessThan, x, zero);
    let negated = e.b.ins().fneg(magnitude);
    select(e, ty, negative, negated, magnitude)
}

fn int_type(ty: Type) -> Type {
    if ty.is_vector() { types::I32X4 } else { types::I32 }
}

fn bitcast(e: &mut Emitter<'_>, ty: Type, bits: Value) -> Value {
    let flags = if ty.is_vector() {
        MemFlagsData::new().with_endianness(cranelift_codegen::ir::Endianness::Little)
    } else {
        MemFlagsData::new()
    };
    e.b.ins().bitcast(ty, flags, bits)
}
