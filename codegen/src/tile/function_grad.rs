//! Derivatives of activations as tile code: `d = d·act′`.
//!
//! At the corners of an activation the derivative is that of the flat side.

use optc_ir::op::Act;

use super::function::{erf, exp_limited, sigmoid};
use super::program::{Bin, Cmp, Src, V, Writer};

/// 1/√(2π)
const DENSITY: f32 = 0.398_942_3;

/// Registers it takes besides d.
pub(super) fn temporaries(act: Act) -> usize {
    match act {
        Act::None => 0,
        Act::Relu => 1,
        Act::Clip { .. } | Act::LeakyRelu { .. } | Act::HardSigmoid { .. } | Act::Tanh | Act::Sigmoid => 2,
        Act::HardSwish | Act::Silu => 3,
        Act::Gelu => 6,
    }
}

/// Multiplies d by the derivative that follows from `from`: the activation's result, or its operand where the
/// result does not say it.
pub(super) fn apply(w: &mut Writer, act: Act, d: V, from: Src) {
    match act {
        Act::None => {}
        Act::Relu => within(w, d, from, Some(0.0), None),
        Act::Clip { lo, hi } => within(w, d, from, Some(lo), Some(hi)),
        Act::LeakyRelu { alpha } => {
            let (scaled, zero) = (w.take(), w.take());
            w.bin(Bin::Mul, scaled, d, alpha);
            w.set(zero, 0.0);
            w.select(d, (Cmp::Less, zero, from), d, scaled);
            w.drop_all(&[scaled, zero]);
        }
        Act::HardSigmoid { alpha, .. } => {
            w.bin(Bin::Mul, d, d, alpha);
            within(w, d, from, Some(0.0), Some(1.0));
        }
        Act::Sigmoid => {
            let y = w.take();
            w.set(y, from);
            slope_of_sigmoid(w, d, y);
            w.drop(y);
        }
        Act::Tanh => {
            let (y, product) = (w.take(), w.take());
            w.set(y, from);
            w.bin(Bin::Mul, product, d, y);
            w.bin(Bin::Mul, product, product, y);
            w.bin(Bin::Sub, d, d, product);
            w.drop_all(&[y, product]);
        }
        // x/3 + 1/2 between −3 and 3, 0 below and 1 above.
        Act::HardSwish => {
            let (x, slope, number) = (w.take(), w.take(), w.take());
            w.set(x, from);
            w.bin(Bin::Mul, slope, x, 1.0 / 3.0);
            w.bin(Bin::Add, slope, slope, 0.5);
            w.set(number, 1.0);
            w.select(slope, (Cmp::Less, x, 3.0), slope, number);
            w.set(number, 0.0);
            w.select(slope, (Cmp::Greater, x, -3.0), slope, number);
            w.bin(Bin::Mul, d, d, slope);
            w.drop_all(&[x, slope, number]);
        }
        // With s = sigmoid(x): s + x·s·(1 − s).
        Act::Silu => {
            let (s, x) = (w.take(), w.take());
            w.set(s, from);
            sigmoid(w, s);
            w.set(x, from);
            w.bin(Bin::Mul, x, x, s);
            let rest = w.take();
            w.set(rest, 1.0);
            w.bin(Bin::Sub, rest, rest, s);
            w.fma(s, x, rest);
            w.bin(Bin::Mul, d, d, s);
            w.drop_all(&[s, x, rest]);
        }
        // Φ(x) + x·φ(x)
        Act::Gelu => {
            let slope = w.take();
            w.set(slope, from);
            w.bin(Bin::Mul, slope, slope, std::f32::consts::FRAC_1_SQRT_2);
            erf(w, slope);
            w.bin(Bin::Mul, slope, slope, 0.5);
            w.bin(Bin::Add, slope, slope, 0.5);
            let (x, density) = (w.take(), w.take());
            w.set(x, from);
            w.bin(Bin::Mul, density, x, x);
            w.bin(Bin::Mul, density, density, -0.5);
            exp_limited(w, density);
            w.bin(Bin::Mul, density, density, DENSITY);
            w.fma(slope, x, density);
            w.bin(Bin::Mul, d, d, slope);
            w.drop_all(&[slope, x, density]);
        }
    }
}

/// Makes d zero where `from` is not between two numbers.
fn within(w: &mut Writer, d: V, from: Src, lo: Option<f32>, hi: Option<f32>) {
    for (limit, cmp) in [(lo, Cmp::Less), (hi, Cmp::Greater)] {
        let Some(limit) = limit.filter(|limit| limit.is_finite()) else { continue };
        let number = w.take();
        w.set(number, limit);
        if limit == 0.0 {
            w.select(d, (cmp, number, from), d, number);
        } else {
            let zero = w.take();
            w.set(zero, 0.0);
            w.select(d, (cmp, number, from), d, zero);
            w.drop(zero);
        }
        w.drop(number);
    }
}

/// `d·y·(1 − y)`
fn slope_of_sigmoid(w: &mut Writer, d: V, y: V) {
    let rest = w.take();
    w.set(rest, 1.0);
    w.bin(Bin::Sub, rest, rest, y);
    w.bin(Bin::Mul, d, d, y);
    w.bin(Bin::Mul, d, d, rest);
    w.drop(rest);
}
