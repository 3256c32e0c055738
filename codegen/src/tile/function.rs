//! Elementwise functions as tile code, in place on registers.
//!
//! Approximations hold to about 2·10⁻⁷ relative (exp, sigmoid, tanh) or absolute (erf).

use optc_ir::op::{Act, Binary, Unary, Variadic};

use super::function_grad;
use super::program::{Bin, Cmp, Src, Un, V, Writer};

/// A function of a running value, and for some of another operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    Abs,
    Neg,
    Sqrt,
    Floor,
    Ceil,
    Round,
    Reciprocal,
    Square,
    Cube,
    Exp,
    Erf,
    Relu,
    /// min(max(x, lo), hi)
    Clip(f32, f32),
    LeakyRelu(f32),
    Sigmoid,
    Tanh,
    /// max(0, min(1, alpha·x + beta))
    HardSigmoid(f32, f32),
    HardSwish,
    Silu,
    /// x where positive, alpha·(eˣ − 1) elsewhere
    Elu(f32),
    /// x where above alpha, 0 elsewhere
    ThresholdedRelu(f32),
    /// x / (1 + |x|)
    Softsign,
    Sign,
    Gelu,
    /// x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
    GeluTanh,
    /// x + other
    Add,
    /// x − other
    Sub,
    /// other − x
    SubFrom,
    Mul,
    /// x / other
    Div,
    /// other / x
    DivInto,
    Max,
    Min,
    /// x where positive, x·other elsewhere
    PRelu,
    /// x·factor + offset, rounded once
    Scale(f32, f32),
    /// x + other·factor, rounded once
    AddScaled(f32),
    /// limit(round(x / scale) + zero), the limits those of a byte, less the zero point and times the scale: what is left
    /// of a number that is quantized and dequantized; 0 for NaN. The scale and the zero point.
    OnGrid(f32, f32),
    /// x·act′, act′ the derivative of an activation that follows from other: its result, or its operand where the
    /// result does not say it
    ActGrad(Act),
}

impl Function {
    /// An activation; `None` for none at all.
    pub(crate) fn of_act(act: Act) -> Option<Function> {
        Some(match act {
            Act::None => return None,
            Act::Relu => Function::Relu,
            Act::Clip { lo, hi } => Function::Clip(lo, hi),
            Act::LeakyRelu { alpha } => Function::LeakyRelu(alpha),
            Act::Sigmoid => Function::Sigmoid,
            Act::Tanh => Function::Tanh,
            Act::HardSigmoid { alpha, beta } => Function::HardSigmoid(alpha, beta),
            Act::HardSwish => Function::HardSwish,
            Act::Silu => Function::Silu,
            Act::Gelu => Function::Gelu,
        })
    }

    /// A unary operator, if there is code for it.
    pub(crate) fn of_unary(unary: Unary) -> Option<Function> {
        Some(match unary {
            Unary::Abs => Function::Abs,
            Unary::Neg => Function::Neg,
            Unary::Sqrt => Function::Sqrt,
            Unary::Floor => Function::Floor,
            Unary::Ceil => Function::Ceil,
            Unary::Round => Function::Round,
            Unary::Reciprocal => Function::Reciprocal,
            Unary::Exp => Function::Exp,
            Unary::Erf => Function::Erf,
            Unary::Relu => Function::Relu,
            Unary::Sigmoid => Function::Sigmoid,
            Unary::Tanh => Function::Tanh,
            Unary::HardSwish => Function::HardSwish,
            Unary::Silu => Function::Silu,
            Unary::Softsign => Function::Softsign,
            Unary::Sign => Function::Sign,
            _ => return None,
        })
    }

    /// A binary operator of the running value and another operand, `reversed` if the running value is the
    /// second.
    pub(crate) fn of_binary(binary: Binary, reversed: bool) -> Option<Function> {
        Some(match (binary, reversed) {
            (Binary::Add, _) => Function::Add,
            (Binary::Mul, _) => Function::Mul,
            (Binary::Sub, false) => Function::Sub,
            (Binary::Sub, true) => Function::SubFrom,
            (Binary::Div, false) => Function::Div,
            (Binary::Div, true) => Function::DivInto,
            (Binary::PRelu, false) => Function::PRelu,
            _ => return None,
        })
    }

    /// A variadic operator of two operands.
    pub(crate) fn of_variadic(variadic: Variadic) -> Option<Function> {
        Some(match variadic {
            Variadic::Sum => Function::Add,
            Variadic::Max => Function::Max,
            Variadic::Min => Function::Min,
            Variadic::Mean => return None,
        })
    }

    /// Registers it takes besides those it works on.
    pub(crate) fn temporaries(self) -> usize {
        match self {
            Function::Abs | Function::Neg | Function::Sqrt | Function::Square => 0,
            Function::Floor | Function::Ceil | Function::Round => 0,
            Function::Add | Function::Sub | Function::Mul | Function::Div => 0,
            Function::SubFrom | Function::DivInto | Function::Reciprocal | Function::Relu => 1,
            Function::Clip(..) | Function::LeakyRelu(_) | Function::PRelu | Function::HardSigmoid(..) => 1,
            Function::Scale(..) | Function::AddScaled(_) | Function::OnGrid(..) => 1,
            Function::Cube | Function::ThresholdedRelu(_) | Function::Softsign | Function::Sign => 1,
            Function::Max | Function::Min | Function::HardSwish | Function::Sigmoid | Function::Tanh => 2,
            Function::Exp | Function::Silu | Function::GeluTanh => 3,
            Function::Erf => 4,
            Function::Gelu => 5,
            Function::Elu(_) => 6,
            Function::ActGrad(act) => function_grad::temporaries(act),
        }
    }

    /// Applies the function to each register; `other` is what stands beside it.
    pub(crate) fn apply(self, w: &mut Writer, vs: &[V], other: impl Fn(usize) -> Src) {
        match self {
            Function::Abs => each(w, vs, |w, v| w.un(Un::Abs, v, v)),
            Function::Neg => each(w, vs, |w, v| w.un(Un::Neg, v, v)),
            Function::Sqrt => each(w, vs, |w, v| w.un(Un::Sqrt, v, v)),
            Function::Floor => each(w, vs, |w, v| w.un(Un::Floor, v, v)),
            Function::Ceil => each(w, vs, |w, v| w.un(Un::Ceil, v, v)),
            Function::Round => each(w, vs, |w, v| w.un(Un::Round, v, v)),
            Function::Square => each(w, vs, |w, v| w.bin(Bin::Mul, v, v, v)),
            Function::Cube => each(w, vs, |w, v| {
                let square = w.take();
                w.bin(Bin::Mul, square, v, v);
                w.bin(Bin::Mul, v, v, square);
                w.drop(square);
            }),
            Function::Reciprocal => with_number(w, 1.0, |w, one| each(w, vs, |w, v| w.bin(Bin::Div, v, one, v))),
            Function::Relu => with_number(w, 0.0, |w, zero| each(w, vs, |w, v| w.bin(Bin::Max, v, zero, v))),
            Function::Clip(lo, hi) => clip(w, vs, lo, hi),
            Function::LeakyRelu(alpha) => each(w, vs, |w, v| {
                let scaled = w.take();
                w.bin(Bin::Mul, scaled, v, alpha);
                w.select(v, (Cmp::Less, v, 0.0), scaled, v);
                w.drop(scaled);
            }),
            Function::HardSigmoid(alpha, beta) => hard_sigmoid(w, vs, alpha, beta),
            Function::HardSwish => each(w, vs, |w, v| {
                let gate = w.take();
                w.set(gate, v);
                hard_sigmoid(w, &[gate], 1.0 / 6.0, 0.5);
                w.bin(Bin::Mul, v, v, gate);
                w.drop(gate);
            }),
            Function::Exp => each(w, vs, exp),
            Function::Sigmoid => each(w, vs, sigmoid),
            Function::Silu => each(w, vs, |w, v| {
                let gate = w.take();
                w.set(gate, v);
                sigmoid(w, gate);
                w.bin(Bin::Mul, v, v, gate);
                w.drop(gate);
            }),
            Function::Elu(alpha) => each(w, vs, |w, v| {
                let below = w.take();
                w.set(below, v);
                exp_m1_falling(w, below);
                w.bin(Bin::Mul, below, below, alpha);
                w.select(v, (Cmp::Less, v, 0.0), below, v);
                w.drop(below);
            }),
            Function::ThresholdedRelu(alpha) => with_number(w, 0.0, |w, zero| {
                each(w, vs, |w, v| w.select(v, (Cmp::Greater, v, alpha), v, zero));
            }),
            Function::Softsign => each(w, vs, |w, v| {
                let divisor = w.take();
                w.un(Un::Abs, divisor, v);
                w.bin(Bin::Add, divisor, divisor, 1.0);
                w.bin(Bin::Div, v, v, divisor);
                w.drop(divisor);
            }),
            Function::Sign => {
                with_number(w, 1.0, |w, one| each(w, vs, |w, v| w.select(v, (Cmp::Greater, v, 0.0), one, v)));
                with_number(w, -1.0, |w, minus| each(w, vs, |w, v| w.select(v, (Cmp::Less, v, 0.0), minus, v)));
            }
            Function::Tanh => each(w, vs, tanh),
            Function::Erf => each(w, vs, erf),
            Function::Gelu => each(w, vs, |w, v| {
                let x = w.take();
                w.bin(Bin::Mul, x, v, std::f32::consts::FRAC_1_SQRT_2);
                erf(w, x);
                w.bin(Bin::Mul, v, v, 0.5);
                w.fma(v, v, x);
                w.drop(x);
            }),
            Function::GeluTanh => each(w, vs, |w, v| {
                let x = w.take();
                w.bin(Bin::Mul, x, v, v);
                let one = w.take();
                w.set(one, 1.0);
                w.bin(Bin::Mul, x, x, 0.044_715);
                w.bin(Bin::Add, x, x, one);
                w.drop(one);
                w.bin(Bin::Mul, x, x, v);
                w.bin(Bin::Mul, x, x, 0.797_884_6);
                tanh(w, x);
                w.bin(Bin::Mul, v, v, 0.5);
                w.fma(v, v, x);
                w.drop(x);
            }),
            Function::Add => zip(w, vs, other, |w, v, s| w.bin(Bin::Add, v, v, s)),
            Function::Sub => zip(w, vs, other, |w, v, s| w.bin(Bin::Sub, v, v, s)),
            Function::Mul => zip(w, vs, other, |w, v, s| w.bin(Bin::Mul, v, v, s)),
            Function::Div => zip(w, vs, other, |w, v, s| w.bin(Bin::Div, v, v, s)),
            Function::SubFrom => from(w, vs, other, Bin::Sub),
            Function::DivInto => from(w, vs, other, Bin::Div),
            Function::Max => extreme(w, vs, other, Bin::Max),
            Function::Min => extreme(w, vs, other, Bin::Min),
            Function::PRelu => zip(w, vs, other, |w, v, s| {
                let scaled = w.take();
                w.bin(Bin::Mul, scaled, v, s);
                w.select(v, (Cmp::Less, v, 0.0), scaled, v);
                w.drop(scaled);
            }),
            Function::Scale(factor, offset) => {
                with_number(w, factor, |w, factor| each(w, vs, |w, v| w.mul_add(v, factor, offset)));
            }
            Function::AddScaled(factor) => {
                with_number(w, factor, |w, factor| zip(w, vs, other, |w, v, s| w.fma(v, factor, s)));
            }
            Function::OnGrid(scale, zero) => {
                each(w, vs, |w, v| w.bin(Bin::Div, v, v, scale));
                zero_for_nan(w, vs);
                each(w, vs, |w, v| w.un(Un::Round, v, v));
                clip(w, vs, -zero, 255.0 - zero);
                each(w, vs, |w, v| w.bin(Bin::Mul, v, v, scale));
            }
            Function::ActGrad(act) => zip(w, vs, other, |w, v, s| function_grad::apply(w, act, v, s)),
        }
    }

    /// The name in kernel names.
    pub(crate) fn word(self) -> String {
        let text = format!("{self:?}");
        let name = text.split('(').next().unwrap_or(&text);
        let mut word = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() && !word.is_empty() {
                word.push('_');
            }
            word.push(c.to_ascii_lowercase());
        }
        word
    }
}

fn each(w: &mut Writer, vs: &[V], mut f: impl FnMut(&mut Writer, V)) {
    vs.iter().for_each(|&v| f(w, v));
}

fn zip(w: &mut Writer, vs: &[V], other: impl Fn(usize) -> Src, mut f: impl FnMut(&mut Writer, V, Src)) {
    vs.iter().enumerate().for_each(|(i, &v)| f(w, v, other(i)));
}

fn with_number(w: &mut Writer, x: f32, f: impl FnOnce(&mut Writer, V)) {
    let v = w.take();
    w.set(v, x);
    f(w, v);
    w.drop(v);
}

/// `other op x`
fn from(w: &mut Writer, vs: &[V], other: impl Fn(usize) -> Src, op: Bin) {
    zip(w, vs, other, |w, v, s| {
        let first = w.take();
        w.set(first, s);
        w.bin(op, v, first, v);
        w.drop(first);
    });
}

/// The larger or smaller; NaN if either is.
fn extreme(w: &mut Writer, vs: &[V], other: impl Fn(usize) -> Src, op: Bin) {
    zip(w, vs, other, |w, v, s| {
        let (first, both) = (w.take(), w.take());
        w.set(first, s);
        // The instruction gives its second operand if either is NaN, so only a NaN in the first is lost.
        w.bin(op, both, first, v);
        w.select(v, (Cmp::Equal, first, first), both, first);
        w.drop(both);
        w.drop(first);
    });
}

/// min(max(x, lo), hi); NaN stays NaN.
fn clip(w: &mut Writer, vs: &[V], lo: f32, hi: f32) {
    if lo > f32::NEG_INFINITY {
        with_number(w, lo, |w, lo| each(w, vs, |w, v| w.bin(Bin::Max, v, lo, v)));
    }
    if hi < f32::INFINITY {
        with_number(w, hi, |w, hi| each(w, vs, |w, v| w.bin(Bin::Min, v, hi, v)));
    }
}

/// Makes NaN zero, as quantization does. One temporary.
pub(super) fn zero_for_nan(w: &mut Writer, vs: &[V]) {
    with_number(w, 0.0, |w, zero| each(w, vs, |w, v| w.select(v, (Cmp::Equal, v, v), v, zero)));
}

fn hard_sigmoid(w: &mut Writer, vs: &[V], alpha: f32, beta: f32) {
    let slope = w.take();
    w.set(slope, alpha);
    each(w, vs, |w, v| w.mul_add(v, slope, beta));
    w.drop(slope);
    clip(w, vs, 0.0, 1.0);
}

/// Horner's rule into `y`, the highest power first.
fn polynomial(w: &mut Writer, y: V, x: V, coefficients: &[f32]) {
    w.set(y, coefficients[0]);
    for &c in &coefficients[1..] {
        w.mul_add(y, x, c);
    }
}

/// Coefficients of eʳ for |r| ≤ ln2/2, the highest power first.
const EXP: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// eˣ by 2ⁿ·eʳ, n = round(x·log₂e), for x limited to where 2ⁿ is a normal number. 2 temporaries.
pub(crate) fn exp_limited(w: &mut Writer, v: V) {
    clip(w, &[v], -87.0, 88.0);
    exp_within(w, v, |_, _| ());
}

/// eˣ for x ≤ 0, 0 where it would be below 10⁻³⁷, so that shares of it are never subnormal. 3 temporaries.
pub(crate) fn exp_falling(w: &mut Writer, v: V) {
    const BOTTOM: f32 = -86.0;
    let x = w.take();
    w.set(x, v);
    with_number(w, BOTTOM, |w, bottom| w.bin(Bin::Max, v, bottom, v));
    exp_within(w, v, |_, _| ());
    with_number(w, 0.0, |w, zero| w.select(v, (Cmp::Less, x, BOTTOM), zero, v));
    w.drop(x);
}

/// eˣ − 1 for x ≤ 0: the series of eˣ without its first term near 0, where a difference would lose accuracy.
/// 5 temporaries.
fn exp_m1_falling(w: &mut Writer, v: V) {
    let (near, x) = (w.take(), w.take());
    polynomial(w, near, v, &EXP[..EXP.len() - 1]);
    w.bin(Bin::Mul, near, near, v);
    w.set(x, v);
    exp_falling(w, v);
    w.bin(Bin::Sub, v, v, 1.0);
    w.select(v, (Cmp::Less, x, -0.3), v, near);
    w.drop(x);
    w.drop(near);
}

/// eˣ for x within limits; `scale` may take from n what is put back later.
fn exp_within(w: &mut Writer, v: V, scale: impl FnOnce(&mut Writer, V)) {
    let (n, p) = (w.take(), w.take());
    w.bin(Bin::Mul, n, v, std::f32::consts::LOG2_E);
    w.un(Un::Round, n, n);
    w.fma(v, n, -0.693_359_4);
    w.fma(v, n, 2.121_944_4e-4);
    polynomial(w, p, v, &EXP);
    scale(w, n);
    w.un(Un::Exp2, n, n);
    w.bin(Bin::Mul, v, p, n);
    w.drop(p);
    w.drop(n);
}

/// eˣ; infinity beyond the range of `f32`, 0 where it would be below 10⁻³⁷.
fn exp(w: &mut Writer, v: V) {
    const TOP: f32 = 88.722_83;
    let x = w.take();
    w.set(x, v);
    clip(w, &[v], -86.0, TOP);
    // 2¹²⁸ has no exponent of its own: it is made of 2¹²⁷ and 2.
    exp_within(w, v, |w, n| w.bin(Bin::Sub, n, n, 1.0));
    w.bin(Bin::Mul, v, v, 2.0);
    with_number(w, f32::INFINITY, |w, infinity| w.select(v, (Cmp::Greater, x, TOP), infinity, v));
    with_number(w, 0.0, |w, zero| w.select(v, (Cmp::Less, x, -86.0), zero, v));
    w.drop(x);
}

/// 1 / (1 + e⁻ˣ)
pub(super) fn sigmoid(w: &mut Writer, v: V) {
    w.un(Un::Neg, v, v);
    exp_limited(w, v);
    w.bin(Bin::Add, v, v, 1.0);
    with_number(w, 1.0, |w, one| w.bin(Bin::Div, v, one, v));
}

/// By x·P(x²)/Q(x²), a rational minimax approximation on [−7.9, 7.9] (the one of Eigen and XLA); beyond it
/// tanh is ±1 in `f32`.
fn tanh(w: &mut Writer, v: V) {
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
    clip(w, &[v], -7.905_311, 7.905_311);
    let (square, p) = (w.take(), w.take());
    w.bin(Bin::Mul, square, v, v);
    polynomial(w, p, square, &P);
    w.bin(Bin::Mul, v, v, p);
    polynomial(w, p, square, &Q);
    w.bin(Bin::Div, v, v, p);
    w.drop(p);
    w.drop(square);
}

/// By Abramowitz and Stegun 7.1.26 for |x| ≥ 1/2 and the Maclaurin series below, where the former would lose
/// relative accuracy.
pub(super) fn erf(w: &mut Writer, v: V) {
    const TAIL: [f32; 6] = [1.061_405_4, -1.453_152, 1.421_413_8, -0.284_496_72, 0.254_829_6, 0.0];
    const SERIES: [f32; 6] =
        [-0.000_854_83, 0.005_223_98, -0.026_866_17, 0.112_837_92, -0.376_126_4, std::f32::consts::FRAC_2_SQRT_PI];
    let decay = w.take();
    w.bin(Bin::Mul, decay, v, v);
    w.un(Un::Neg, decay, decay);
    exp_limited(w, decay);
    let (t, p) = (w.take(), w.take());
    // t = 1 / (1 + a·|x|)
    w.un(Un::Abs, t, v);
    w.bin(Bin::Mul, t, t, 0.327_591_1);
    w.bin(Bin::Add, t, t, 1.0);
    with_number(w, 1.0, |w, one| w.bin(Bin::Div, t, one, t));
    polynomial(w, p, t, &TAIL);
    w.bin(Bin::Mul, p, p, decay);
    with_number(w, 1.0, |w, one| w.bin(Bin::Sub, p, one, p));
    w.un(Un::Neg, decay, p);
    w.select(p, (Cmp::Less, v, 0.0), decay, p);
    w.bin(Bin::Mul, t, v, v);
    polynomial(w, decay, t, &SERIES);
    w.bin(Bin::Mul, decay, decay, v);
    w.un(Un::Abs, t, v);
    w.select(v, (Cmp::Less, t, 0.5), decay, p);
    w.drop(p);
    w.drop(t);
    w.drop(decay);
}
