//! Activations on `f64`, those that operators carry among them.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use crate::op::Act;

/// The activation of one number. NaN stays NaN, as in the elementwise operators of the same names.
pub(super) fn activate(act: Act, x: f64) -> f64 {
    match act {
        Act::None => x,
        Act::Relu => rectify(x),
        Act::Clip { lo, hi } => clip(x, lo.into(), hi.into()),
        Act::LeakyRelu { alpha } if x < 0.0 => f64::from(alpha) * x,
        Act::LeakyRelu { .. } => x,
        Act::Sigmoid => sigmoid(x),
        Act::Tanh => x.tanh(),
        Act::HardSigmoid { alpha, beta } => clip(f64::from(alpha) * x + f64::from(beta), 0.0, 1.0),
        Act::HardSwish => x * clip(x / 6.0 + 0.5, 0.0, 1.0),
        Act::Silu => x * sigmoid(x),
        Act::Gelu => gelu(x),
    }
}

/// The derivative of an activation from its operand; at corners that of the flat side.
pub(super) fn act_derivative(act: Act, x: f64) -> f64 {
    match act {
        Act::LeakyRelu { alpha } => {
            if x > 0.0 {
                1.0
            } else {
                f64::from(alpha)
            }
        }
        // x/6 + 1/2 plus x times its slope of 1/6, where that is between 0 and 1.
        Act::HardSwish if x <= -3.0 => 0.0,
        Act::HardSwish if x >= 3.0 => 1.0,
        Act::HardSwish => x / 3.0 + 0.5,
        Act::Silu => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
        // Φ(x) + x·φ(x)
        Act::Gelu => {
            let density = (-0.5 * x * x).exp() * 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
            0.5 * libm::erfc(-x * FRAC_1_SQRT_2) + x * density
        }
        act => act_derivative_by_result(act, activate(act, x)),
    }
}

/// The derivative of an activation from its result, where [`Act::grad_by_result`]; at corners that of the flat
/// side.
pub(super) fn act_derivative_by_result(act: Act, y: f64) -> f64 {
    let within = |lo: f64, hi: f64, slope: f64| if y > lo && y < hi { slope } else { 0.0 };
    match act {
        Act::None => 1.0,
        Act::Relu => f64::from(u8::from(y > 0.0)),
        Act::Clip { lo, hi } => within(lo.into(), hi.into(), 1.0),
        Act::LeakyRelu { alpha } => {
            if y > 0.0 {
                1.0
            } else {
                f64::from(alpha)
            }
        }
        Act::Sigmoid => y * (1.0 - y),
        Act::Tanh => 1.0 - y * y,
        Act::HardSigmoid { alpha, .. } => within(0.0, 1.0, alpha.into()),
        Act::HardSwish | Act::Silu | Act::Gelu => unreachable!("the result does not say the derivative"),
    }
}

/// 1 / (1 + e⁻ˣ)
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// max(0, x), but NaN for NaN.
pub(super) fn rectify(x: f64) -> f64 {
    if x <= 0.0 { 0.0 } else { x }
}

/// log(1 + eˣ) without overflow: max(x, 0) + log(1 + e^−|x|).
pub(super) fn softplus(x: f64) -> f64 {
    rectify(x) + (-x.abs()).exp().ln_1p()
}

/// x·Φ(x), Φ(x) = (1 + erf(x/√2))/2; by the complement, which keeps its digits far below zero.
pub(super) fn gelu(x: f64) -> f64 {
    x * 0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// min(max(x, lo), hi), but NaN for NaN; `f64::clamp` panics where lo > hi.
pub(super) fn clip(x: f64, lo: f64, hi: f64) -> f64 {
    let raised = if x < lo { lo } else { x };
    if raised > hi { hi } else { raised }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_follow_their_formulas() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(activate(Act::None, -2.5), -2.5);
        near(activate(Act::Relu, -2.0), 0.0);
        near(activate(Act::Clip { lo: 0.0, hi: 6.0 }, 7.0), 6.0);
        near(activate(Act::Clip { lo: 2.0, hi: 1.0 }, 0.0), 1.0);
        near(activate(Act::LeakyRelu { alpha: 0.5 }, -3.0), -1.5);
        near(activate(Act::Sigmoid, 0.0), 0.5);
        near(activate(Act::Tanh, 1.0), 0.761_594_155_955_764_9);
        near(activate(Act::HardSigmoid { alpha: 0.25, beta: 0.5 }, 1.0), 0.75);
        near(activate(Act::HardSwish, 1.5), 1.125);
        near(activate(Act::Silu, 1.0), 0.731_058_578_630_004_9);
        near(activate(Act::Gelu, 1.0), 0.841_344_746_068_542_9);
        assert!(activate(Act::Relu, f64::NAN).is_nan());
        assert!(activate(Act::Clip { lo: 0.0, hi: 6.0 }, f64::NAN).is_nan());
    }
}
