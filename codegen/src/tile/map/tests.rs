use optc_ir::op::Act;

use super::*;
use crate::tile::testing::{GUARD, places, result, span};
use crate::tile::walk::merged;

/// Numbers of both signs that are exact sums of few powers of two.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7 + seed * 13 + i / 5) % 41) as f32 / 4.0 - 5.0).collect()
}

/// Strides of a whole tensor, in bytes; 0 along the axes where `kept` is false.
fn strides(shape: &[usize], kept: &[bool]) -> Vec<i64> {
    let mut stride = 4;
    let mut strides = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        if kept[axis] {
            strides[axis] = stride;
            stride *= signed(shape[axis]);
        }
    }
    strides
}

/// The elements of a map's result; what lies between them must stay as it was.
fn results(
    shape: &[usize],
    strides: &[i64],
    inputs: &[(Vec<f32>, Vec<i64>)],
    steps: &[(Function, MapOther)],
) -> Vec<f32> {
    let (buffers, operands): (Vec<Vec<f32>>, Vec<Vec<i64>>) = inputs.iter().cloned().unzip();
    let map = Map::new(shape, strides, &operands, steps.to_vec());
    let mut y = result(&map, |vectors| map.schedule(vectors), &buffers, span(shape, strides));
    let elements = places(shape, strides).iter().map(|&at| std::mem::replace(&mut y[at], GUARD)).collect();
    assert!(y.iter().all(|&y| y == GUARD), "{map:?} writes between elements");
    elements
}

/// `max(x·o₁ + o₂, x₀)` with operands broadcast along any axes.
fn chain(shape: &[usize], kept: [&[bool]; 3], result: &[i64]) {
    let inputs: Vec<(Vec<f32>, Vec<i64>)> = kept
        .iter()
        .enumerate()
        .map(|(seed, kept)| {
            let strides = strides(shape, kept);
            (numbers(span(shape, &strides), seed), strides)
        })
        .collect();
    let steps = [
        (Function::Mul, MapOther::Operand(1)),
        (Function::Add, MapOther::Operand(2)),
        (Function::Max, MapOther::Operand(0)),
    ];
    let y = results(shape, result, &inputs, &steps);
    let at: Vec<Vec<usize>> = inputs.iter().map(|(_, strides)| places(shape, strides)).collect();
    for (i, y) in y.iter().enumerate() {
        let [x, a, b] = [0, 1, 2].map(|o| inputs[o].0[at[o][i]]);
        assert_eq!(*y, (x * a + b).max(x), "{shape:?} {kept:?} at {i}");
    }
}

#[test]
fn broadcast_operands() {
    let lines: Vec<Vec<usize>> = [1, 15, 16, 17, 31, 33, 100, 1000, 4097, 9001].iter().map(|&n| vec![n]).collect();
    for shape in lines {
        for kept in [[true], [false]] {
            chain(&shape, [&[true], &kept, &kept], &strides(&shape, &[true]));
        }
    }
    for shape in [[3, 1], [5, 16], [300, 16], [7, 17], [33, 100], [2, 5000], [130, 31], [1, 9]] {
        let y = strides(&shape, &[true, true]);
        chain(&shape, [&[true, true], &[false, true], &[true, false]], &y);
        chain(&shape, [&[true, false], &[true, true], &[false, false]], &y);
        chain(&shape, [&[false, true], &[true, true], &[true, false]], &y);
    }
}

#[test]
fn blocked_channels_and_padding() {
    // [images, blocks, rows, columns, lanes] with operands of each channel and of each image and channel.
    for shape in [[2, 3, 5, 7, 16], [1, 2, 14, 33, 16], [1, 1, 1, 1, 16]] {
        let [all, channel, image] =
            [[true, true, true, true, true], [false, true, false, false, true], [true, true, false, false, true]];
        chain(&shape, [&all, &channel, &image], &strides(&shape, &all));
        let [_, blocks, rows, columns, _] = shape;
        let row = signed(columns + 2) * 64;
        let plane = row * signed(rows + 3);
        chain(&shape, [&all, &channel, &image], &[plane * signed(blocks), plane, row, 64, 4]);
    }
    // Six axes, none of which can be merged.
    let shape = [2, 3, 2, 3, 2, 5];
    chain(
        &shape,
        [&[true; 6], &[true, false, true, false, true, false], &[false, true, false, true, false, true]],
        &strides(&shape, &[true; 6]),
    );
}

#[test]
fn neighbouring_axes_are_merged() {
    let axes = merged(&[2, 1, 3, 5, 16], [&[960, 7, 320, 64, 4][..], &[0, 7, 0, 0, 4]]);
    let counts: Vec<usize> = axes.iter().map(|axis| axis.count).collect();
    assert_eq!(counts, [30, 16]);
    let map = Map::new(&[4, 1], &[16, 4], &[vec![16, 4]], Vec::new());
    assert_eq!(map.axes.iter().map(|axis| axis.count).collect::<Vec<_>>(), [4, 1]);
    let long = Map::new(&[100_000], &[4], &[vec![4]], Vec::new());
    assert_eq!(long.schedule(Vectors::Clif).range(), 25);
}

/// What a function gives, by `f64`.
fn reference(function: Function, x: f64, o: f64) -> f64 {
    let clamp = |x: f64, lo: f64, hi: f64| if x.is_nan() { x } else { x.max(lo).min(hi) };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match function {
        Function::Abs => x.abs(),
        Function::Neg => -x,
        Function::Sqrt => x.sqrt(),
        Function::Floor => x.floor(),
        Function::Ceil => x.ceil(),
        Function::Round => x.round_ties_even(),
        Function::Reciprocal => 1.0 / x,
        Function::Square => x * x,
        Function::Cube => x * x * x,
        Function::Exp => x.exp(),
        Function::Erf => libm::erf(x),
        Function::Relu => clamp(x, 0.0, f64::INFINITY),
        Function::Clip(lo, hi) => clamp(x, lo.into(), hi.into()),
        Function::LeakyRelu(alpha) => {
            if x < 0.0 {
                x * f64::from(alpha)
            } else {
                x
            }
        }
        Function::Sigmoid => sigmoid(x),
        Function::Tanh => x.tanh(),
        Function::HardSigmoid(alpha, beta) => clamp(f64::from(alpha) * x + f64::from(beta), 0.0, 1.0),
        Function::HardSwish => x * clamp(x / 6.0 + 0.5, 0.0, 1.0),
        Function::Silu => x * sigmoid(x),
        Function::Gelu => x * 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
        Function::GeluTanh => {
            x * 0.5 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        }
        Function::Elu(alpha) if x < 0.0 => f64::from(alpha) * x.exp_m1(),
        Function::Elu(_) => x,
        Function::ThresholdedRelu(alpha) => {
            if x > alpha.into() {
                x
            } else {
                0.0
            }
        }
        Function::Softsign => x / (1.0 + x.abs()),
        Function::Sign if x == 0.0 || x.is_nan() => x,
        Function::Sign => x.signum(),
        Function::Add => x + o,
        Function::Sub => x - o,
        Function::SubFrom => o - x,
        Function::Mul => x * o,
        Function::Div => x / o,
        Function::DivInto => o / x,
        Function::Max => {
            if x.is_nan() || x > o {
                x
            } else {
                o
            }
        }
        Function::Min => {
            if x.is_nan() || x < o {
                x
            } else {
                o
            }
        }
        Function::PRelu => {
            if x < 0.0 {
                x * o
            } else {
                x
            }
        }
        Function::Scale(factor, offset) => x * f64::from(factor) + f64::from(offset),
        Function::AddScaled(factor) => x + o * f64::from(factor),
        Function::OnGrid(scale, zero) => {
            let (scale, zero) = (f64::from(scale), f64::from(zero));
            let x = if x.is_nan() { 0.0 } else { x / scale };
            x.round_ties_even().clamp(-zero, 255.0 - zero) * scale
        }
        Function::ActGrad(act) => x * derivative(act, o),
    }
}

/// The derivative of an activation, from its result where that says it, else from its operand.
fn derivative(act: Act, o: f64) -> f64 {
    let within = |lo: f64, hi: f64| f64::from(u8::from(lo < o && o < hi));
    match act {
        Act::None => 1.0,
        Act::Relu => within(0.0, f64::INFINITY),
        Act::Clip { lo, hi } => within(lo.into(), hi.into()),
        Act::LeakyRelu { alpha } => {
            if o > 0.0 {
                1.0
            } else {
                alpha.into()
            }
        }
        Act::Sigmoid => o * (1.0 - o),
        Act::Tanh => 1.0 - o * o,
        Act::HardSigmoid { alpha, .. } => within(0.0, 1.0) * f64::from(alpha),
        Act::HardSwish if o <= -3.0 => 0.0,
        Act::HardSwish if o >= 3.0 => 1.0,
        Act::HardSwish => o / 3.0 + 0.5,
        Act::Silu => {
            let s = 1.0 / (1.0 + (-o).exp());
            s + o * s * (1.0 - s)
        }
        Act::Gelu => {
            let density = (-0.5 * o * o).exp() / (2.0 * std::f64::consts::PI).sqrt();
            0.5 * libm::erfc(-o * std::f64::consts::FRAC_1_SQRT_2) + o * density
        }
    }
}

const DERIVATIVES: [Function; 11] = [
    Function::ActGrad(Act::None),
    Function::ActGrad(Act::Relu),
    Function::ActGrad(Act::Clip { lo: -1.5, hi: 2.0 }),
    Function::ActGrad(Act::Clip { lo: 0.0, hi: f32::INFINITY }),
    Function::ActGrad(Act::LeakyRelu { alpha: 0.1 }),
    Function::ActGrad(Act::Sigmoid),
    Function::ActGrad(Act::Tanh),
    Function::ActGrad(Act::HardSigmoid { alpha: 0.2, beta: 0.5 }),
    Function::ActGrad(Act::HardSwish),
    Function::ActGrad(Act::Silu),
    Function::ActGrad(Act::Gelu),
];

const UNARY: [Function; 25] = [
    Function::Abs,
    Function::Neg,
    Function::Sqrt,
    Function::Floor,
    Function::Ceil,
    Function::Round,
    Function::Reciprocal,
    Function::Square,
    Function::Cube,
    Function::Exp,
    Function::Erf,
    Function::Relu,
    Function::Clip(-1.5, 2.0),
    Function::LeakyRelu(0.1),
    Function::Sigmoid,
    Function::Tanh,
    Function::HardSigmoid(0.2, 0.5),
    Function::HardSwish,
    Function::Silu,
    Function::Gelu,
    Function::GeluTanh,
    Function::Elu(0.7),
    Function::ThresholdedRelu(0.3),
    Function::Softsign,
    Function::Sign,
];

const BINARY: [Function; 9] = [
    Function::Add,
    Function::Sub,
    Function::SubFrom,
    Function::Mul,
    Function::Div,
    Function::DivInto,
    Function::Max,
    Function::Min,
    Function::PRelu,
];

fn check(function: Function, x: f32, o: f32, y: f32) {
    let expected = reference(function, x.into(), o.into());
    if expected.is_nan() {
        // −∞·0, where the sigmoid is 0: here it stops at the least normal number.
        if function == Function::Silu && x == f32::NEG_INFINITY {
            return;
        }
        assert!(y.is_nan(), "{function:?} of {x} and {o}: {y} instead of NaN");
        return;
    }
    // Where a result is far below the operand, only its distance from zero counts.
    let scale = match function {
        Function::Gelu | Function::GeluTanh | Function::HardSwish => f64::from(x).abs().max(1.0),
        Function::Silu | Function::Erf | Function::Sigmoid | Function::HardSigmoid(..) => 1.0,
        _ => expected.abs(),
    };
    let close = (f64::from(y) - expected).abs() <= 1e-6 * scale + 1e-37;
    assert!(
        close || f64::from(y) == f64::from(expected as f32),
        "{function:?} of {x} and {o}: {y} instead of {expected}"
    );
}

#[test]
fn every_function() {
    let mut x: Vec<f32> = (-400..=400).map(|i| i as f32 / 37.0).collect();
    x.extend([0.0, -0.0, 0.5, 1.5, -2.5, 88.5, 88.72, 88.73, 89.0, 100.0, 1e10, -85.0, -87.5, -90.0, -100.0, -1e10]);
    x.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    let shape = [x.len()];
    for function in UNARY {
        let y = results(&shape, &[4], &[(x.clone(), vec![4])], &[(function, MapOther::None)]);
        x.iter().zip(&y).for_each(|(&x, &y)| check(function, x, 0.0, y));
    }
    for function in BINARY {
        for o in [0.0, 3.0, -0.75, f32::INFINITY, f32::NAN] {
            let y = results(&shape, &[4], &[(x.clone(), vec![4])], &[(function, MapOther::Number(o))]);
            x.iter().zip(&y).for_each(|(&x, &y)| check(function, x, o, y));
            let inputs = [(x.clone(), vec![4]), (vec![o; x.len()], vec![4])];
            let y = results(&shape, &[4], &inputs, &[(function, MapOther::Operand(1))]);
            x.iter().zip(&y).for_each(|(&x, &y)| check(function, x, o, y));
        }
    }
}

#[test]
fn every_derivative() {
    // What the derivative follows from; the gradient it is multiplied by.
    let o: Vec<f32> = (-400..=400).map(|i| i as f32 / 37.0).chain([30.0, -30.0]).collect();
    for function in DERIVATIVES {
        for x in [1.0, -2.5] {
            let inputs = [(vec![x; o.len()], vec![4]), (o.clone(), vec![4])];
            let y = results(&[o.len()], &[4], &inputs, &[(function, MapOther::Operand(1))]);
            for (&o, y) in o.iter().zip(y) {
                let expected = reference(function, x.into(), o.into());
                let close = (f64::from(y) - expected).abs() <= 2e-6 * expected.abs().max(1.0);
                assert!(close, "{function:?} of {x} at {o}: {y} instead of {expected}");
            }
        }
    }
}

#[test]
fn functions_take_the_temporaries_they_say() {
    for function in UNARY.into_iter().chain(BINARY).chain(DERIVATIVES) {
        let mut w = Writer::new(1, 1 + function.temporaries());
        let v = w.take();
        function.apply(&mut w, &[v], |_| Src::Splat(P(0).at(0)));
        w.drop(v);
        assert_eq!(w.registers(), 1 + function.temporaries());
    }
}
