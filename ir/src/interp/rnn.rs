//! Evaluation of the operators of `op/rnn.rs`.
//!
//! The three layers share the walk over the sequence and differ in the [`Cell`] they step with. States
//! are kept in `f64` from step to step.

use super::Cx;
use super::act::{clip, rectify, sigmoid, softplus};
use super::linear::row_products;
use crate::error::EvalError;
use crate::op::{Activation, Direction, Gru, Lstm, Op, Rnn};
use crate::tensor::{Data, Tensor};

pub(super) fn eval(op: &Op, cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    let layout = |direction, batch_first, hidden| Layout::new(cx, direction, batch_first, hidden);
    match op {
        Op::Rnn(a) => {
            let layout = layout(a.direction, a.batch_first, a.hidden_size);
            walk(cx, &layout, Rnn::GATES, &a.resolved_activations()?, a.clip, Cell::Rnn)
        }
        Op::Gru(a) => {
            let layout = layout(a.direction, a.batch_first, a.hidden_size);
            let cell = Cell::Gru { linear_before_reset: a.linear_before_reset };
            walk(cx, &layout, Gru::GATES, &a.resolved_activations()?, a.clip, cell)
        }
        Op::Lstm(a) => {
            let layout = layout(a.direction, a.batch_first, a.hidden_size);
            let cell = Cell::Lstm { input_forget: a.input_forget };
            walk(cx, &layout, Lstm::GATES, &a.resolved_activations()?, a.clip, cell)
        }
        _ => unreachable!("{} is of another family", op.name()),
    }
}

/// Extents, and where things lie.
struct Layout {
    steps: usize,
    batch: usize,
    features: usize,
    hidden: usize,
    direction: Direction,
    batch_first: bool,
}

impl Layout {
    fn new(cx: &Cx<'_>, direction: Direction, batch_first: bool, hidden: usize) -> Layout {
        let &[first, second, features] = cx.x(0).shape() else { unreachable!("the type rule requires three axes") };
        let (steps, batch) = if batch_first { (second, first) } else { (first, second) };
        Layout { steps, batch, features, hidden, direction, batch_first }
    }

    /// Which row of `x` holds sample `n` at time `t`.
    fn row(&self, t: usize, n: usize) -> usize {
        if self.batch_first { n * self.steps + t } else { t * self.batch + n }
    }

    /// Where the state of direction `d` and sample `n` begins.
    fn state(&self, d: usize, n: usize) -> usize {
        let at = if self.batch_first { n * self.direction.count() + d } else { d * self.batch + n };
        at * self.hidden
    }

    /// Where the state at time `t` begins in the result of all states.
    fn output(&self, t: usize, d: usize, n: usize) -> usize {
        let directions = self.direction.count();
        let at = if self.batch_first {
            (n * self.steps + t) * directions + d
        } else {
            (t * directions + d) * self.batch + n
        };
        at * self.hidden
    }
}

/// What happens in one step of one sample.
#[derive(Clone, Copy)]
enum Cell {
    Rnn,
    Gru { linear_before_reset: bool },
    Lstm { input_forget: bool },
}

/// The parameters of one direction.
struct Weights<'a> {
    /// `[gates · hidden, hidden]`
    r: &'a [f64],
    /// Added to the recurrent products, `[gates · hidden]`.
    rb: Vec<f64>,
    /// Peepholes to i, o and f, `[3 · hidden]`.
    p: Vec<f64>,
    activations: &'a [Activation],
    clip: Option<f64>,
}

impl Weights<'_> {
    /// Activation `i` of a limited input.
    fn activate(&self, i: usize, x: f64) -> f64 {
        apply(self.activations[i], self.clip.map_or(x, |limit| clip(x, -limit, limit)))
    }
}

fn walk(
    cx: &Cx<'_>,
    layout: &Layout,
    gates: usize,
    activations: &[Activation],
    limit: Option<f32>,
    cell: Cell,
) -> Result<Vec<Tensor>, EvalError> {
    let operand = |slot: usize| cx.get(slot).map(|tensor| tensor.data().to_f64());
    let &Layout { steps, batch, features, hidden, direction, .. } = layout;
    let (directions, rows) = (direction.count(), gates * hidden);
    let lengths = lengths(cx, steps, batch)?;
    let (x, w, r) = (cx.x(0).data().to_f64(), cx.x(1).data().to_f64(), cx.x(2).data().to_f64());
    let (b, p) = (operand(3), operand(7));
    let states = directions * batch * hidden;
    let mut h = operand(5).unwrap_or_else(|| vec![0.0; states]);
    let mut c = operand(6).unwrap_or_else(|| vec![0.0; states]);
    let mut y = vec![0.0; steps * states];

    for d in 0..directions {
        let bias = |half: usize| b.as_ref().map_or(vec![0.0; rows], |b| b[(2 * d + half) * rows..][..rows].to_vec());
        let wb = bias(0);
        let per_direction = activations.len() / directions;
        let weights = Weights {
            r: &r[d * rows * hidden..][..rows * hidden],
            rb: bias(1),
            p: p.as_ref().map_or(vec![0.0; 3 * hidden], |p| p[d * 3 * hidden..][..3 * hidden].to_vec()),
            activations: &activations[d * per_direction..][..per_direction],
            clip: limit.map(f64::from),
        };
        let w = &w[d * rows * features..][..rows * features];
        let mut projected = row_products(&x, w, steps * batch, features, rows);
        projected.chunks_exact_mut(rows).for_each(|row| row.iter_mut().zip(&wb).for_each(|(x, b)| *x += b));
        let backward = direction == Direction::Reverse || d == 1;
        for (n, &length) in lengths.iter().enumerate() {
            let at = layout.state(d, n);
            let (h, c) = (&mut h[at..][..hidden], &mut c[at..][..hidden]);
            for step in 0..length {
                let t = if backward { length - 1 - step } else { step };
                let gates = &projected[layout.row(t, n) * rows..][..rows];
                match cell {
                    Cell::Rnn => rnn_step(&weights, gates, h),
                    Cell::Gru { linear_before_reset } => gru_step(&weights, gates, h, linear_before_reset),
                    Cell::Lstm { input_forget } => lstm_step(&weights, gates, h, c, input_forget),
                }
                y[layout.output(t, d, n)..][..hidden].copy_from_slice(h);
            }
        }
    }

    let dtype = cx.x(0).dtype();
    let mut results = vec![Tensor::new(cx.out_shape(0)?, Data::from_f64(dtype, y))];
    results.push(Tensor::new(cx.out_shape(1)?, Data::from_f64(dtype, h)));
    if let Cell::Lstm { .. } = cell {
        results.push(Tensor::new(cx.out_shape(2)?, Data::from_f64(dtype, c)));
    }
    Ok(results)
}

/// How many steps of each sample count.
fn lengths(cx: &Cx<'_>, steps: usize, batch: usize) -> Result<Vec<usize>, EvalError> {
    let Some(given) = cx.get(4).and_then(|lengths| lengths.data().to_i64()) else { return Ok(vec![steps; batch]) };
    let checked = |length: i64| usize::try_from(length).ok().filter(|&n| n <= steps);
    given
        .into_iter()
        .map(|n| checked(n).ok_or_else(|| EvalError::Value(format!("sequence length {n} of {steps} steps"))))
        .collect()
}

/// `h = f(x·Wᵀ + Wb + h·Rᵀ + Rb)`
fn rnn_step(weights: &Weights<'_>, x: &[f64], h: &mut [f64]) {
    let recurrent: Vec<f64> = row_products(h, weights.r, 1, h.len(), h.len());
    for (j, h) in h.iter_mut().enumerate() {
        *h = weights.activate(0, x[j] + recurrent[j] + weights.rb[j]);
    }
}

/// `h = (1 − z)⊙g(…) + z⊙h`, gates z, r, h.
fn gru_step(weights: &Weights<'_>, x: &[f64], h: &mut [f64], linear_before_reset: bool) {
    let size = h.len();
    let recurrent: Vec<f64> = row_products(h, weights.r, 1, size, 3 * size);
    let gate = |i: usize| weights.activate(0, x[i] + recurrent[i] + weights.rb[i]);
    let z: Vec<f64> = (0..size).map(gate).collect();
    let r: Vec<f64> = (size..2 * size).map(gate).collect();
    let candidate: Vec<f64> = if linear_before_reset {
        (0..size).map(|j| r[j] * (recurrent[2 * size + j] + weights.rb[2 * size + j])).collect()
    } else {
        let reset: Vec<f64> = r.iter().zip(&*h).map(|(r, h)| r * h).collect();
        let product: Vec<f64> = row_products(&reset, &weights.r[2 * size * size..], 1, size, size);
        product.iter().zip(&weights.rb[2 * size..]).map(|(x, b)| x + b).collect()
    };
    for (j, h) in h.iter_mut().enumerate() {
        let new = weights.activate(1, x[2 * size + j] + candidate[j]);
        *h = (1.0 - z[j]) * new + z[j] * *h;
    }
}

/// `c = f⊙c + i⊙g(…)`, `h = o⊙h(c)`, gates i, o, f, c; peepholes let i and f see the old cell and o the new.
fn lstm_step(weights: &Weights<'_>, x: &[f64], h: &mut [f64], c: &mut [f64], input_forget: bool) {
    let size = h.len();
    let recurrent: Vec<f64> = row_products(h, weights.r, 1, size, 4 * size);
    for (j, (h, c)) in h.iter_mut().zip(c).enumerate() {
        let gate = |g: usize| x[g * size + j] + recurrent[g * size + j] + weights.rb[g * size + j];
        let peephole = |g: usize, c: f64| weights.p[g * size + j] * c;
        let input = weights.activate(0, gate(0) + peephole(0, *c));
        let forget = if input_forget { 1.0 - input } else { weights.activate(0, gate(2) + peephole(2, *c)) };
        *c = forget * *c + input * weights.activate(1, gate(3));
        let output = weights.activate(0, gate(1) + peephole(1, *c));
        *h = output * apply(weights.activations[2], *c);
    }
}

fn apply(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Relu => rectify(x),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
        Activation::Affine { alpha, beta } => f64::from(alpha) * x + f64::from(beta),
        Activation::LeakyRelu { alpha } => {
            if x < 0.0 {
                f64::from(alpha) * x
            } else {
                x
            }
        }
        Activation::ThresholdedRelu { alpha } => {
            if x < alpha.into() {
                0.0
            } else {
                x
            }
        }
        Activation::ScaledTanh { alpha, beta } => f64::from(alpha) * (f64::from(beta) * x).tanh(),
        Activation::HardSigmoid { alpha, beta } => clip(f64::from(alpha) * x + f64::from(beta), 0.0, 1.0),
        Activation::Elu { alpha } => {
            if x < 0.0 {
                f64::from(alpha) * x.exp_m1()
            } else {
                x
            }
        }
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Softplus => softplus(x),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, numbers, values};
    use super::super::{self as interp};
    use super::*;
    use crate::types::DType;

    fn run(op: impl Into<Op>, operands: &[Option<&Tensor>]) -> Vec<Tensor> {
        interp::eval(&op.into(), operands).expect("the operands fit")
    }

    /// A tensor of small weights.
    fn weights(shape: &[usize]) -> Tensor {
        let small = numbers(DType::F64, shape);
        Tensor::new(shape, Data::F64(values(&small).iter().map(|x| x / 8.0).collect()))
    }

    fn f64s<const N: usize>(shape: &[usize], values: [f64; N]) -> Tensor {
        Tensor::new(shape, Data::F64(values.to_vec()))
    }

    #[test]
    fn one_step_of_each_cell_by_hand() {
        let s = |x: f64| 1.0 / (1.0 + (-x).exp());
        let x = f64s(&[1, 1, 1], [2.0]);
        let h0 = f64s(&[1, 1, 1], [0.5]);
        let rnn = Rnn { hidden_size: 1, ..Rnn::default() };
        let (w, r, b) = (f64s(&[1, 1, 1], [0.3]), f64s(&[1, 1, 1], [-0.4]), f64s(&[1, 2], [0.1, 0.2]));
        let y = run(rnn, &[Some(&x), Some(&w), Some(&r), Some(&b), None, Some(&h0)]);
        assert_near(&y[0], &[1, 1, 1, 1], &[(0.6f64 - 0.2 + 0.3).tanh()], 1e-12);

        let (w, r) = (f64s(&[1, 3, 1], [0.1, 0.2, 0.3]), f64s(&[1, 3, 1], [0.4, 0.5, 0.6]));
        let b = f64s(&[1, 6], [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]);
        let z = s(0.2 + 0.2 + 0.05);
        let reset = s(0.4 + 0.25 + 0.07);
        for (linear_before_reset, inner) in [(false, reset * 0.5 * 0.6 + 0.06), (true, reset * (0.3 + 0.06))] {
            let gru = Gru { hidden_size: 1, linear_before_reset, ..Gru::default() };
            let y = run(gru, &[Some(&x), Some(&w), Some(&r), Some(&b), None, Some(&h0)]);
            let expected = (1.0 - z) * (0.6 + 0.03 + inner).tanh() + z * 0.5;
            assert_near(&y[1], &[1, 1, 1], &[expected], 1e-12);
        }

        let (w, r) = (f64s(&[1, 4, 1], [0.1, 0.2, 0.3, 0.4]), f64s(&[1, 4, 1], [0.5, 0.6, 0.7, 0.8]));
        let (c0, p) = (f64s(&[1, 1, 1], [-0.5]), f64s(&[1, 3], [0.9, 1.0, 1.1]));
        let i = s(0.2 + 0.25 - 0.45);
        for input_forget in [false, true] {
            let f = if input_forget { 1.0 - i } else { s(0.6 + 0.35 - 0.55) };
            let c = f * -0.5 + i * (0.8f64 + 0.4).tanh();
            let o = s(0.4 + 0.3 + c);
            let lstm = Lstm { hidden_size: 1, input_forget, ..Lstm::default() };
            let y = run(lstm, &[Some(&x), Some(&w), Some(&r), None, None, Some(&h0), Some(&c0), Some(&p)]);
            assert_near(&y[1], &[1, 1, 1], &[o * c.tanh()], 1e-12);
            assert_near(&y[2], &[1, 1, 1], &[c], 1e-12);
        }
    }

    #[test]
    fn clip_limits_gates_but_not_the_cell() {
        let (x, w) = (f64s(&[1, 1, 1], [1.0]), f64s(&[1, 4, 1], [10.0; 4]));
        let (r, h0, c0) = (f64s(&[1, 4, 1], [0.0; 4]), f64s(&[1, 1, 1], [0.0]), f64s(&[1, 1, 1], [3.0]));
        let lstm = Lstm { hidden_size: 1, clip: Some(0.5), ..Lstm::default() };
        let y = run(lstm, &[Some(&x), Some(&w), Some(&r), None, None, Some(&h0), Some(&c0)]);
        let s = 1.0 / (1.0 + (-0.5f64).exp());
        let c = s * 3.0 + s * 0.5f64.tanh();
        assert_near(&y[2], &[1, 1, 1], &[c], 1e-12);
        assert_near(&y[1], &[1, 1, 1], &[s * c.tanh()], 1e-12);
    }

    #[test]
    fn directions_lengths_and_layouts_agree() {
        let (steps, batch, hidden) = (4, 2, 3);
        let x = weights(&[steps, batch, 2]);
        let (w, r) = (weights(&[2, 4 * hidden, 2]), weights(&[2, 4 * hidden, hidden]));
        let lengths = Tensor::new([batch], Data::I32(vec![4, 2]));
        let both = Lstm { hidden_size: hidden, direction: Direction::Bidirectional, ..Lstm::default() };
        let y = run(both.clone(), &[Some(&x), Some(&w), Some(&r), None, Some(&lengths)]);
        assert_eq!(y[0].shape(), [steps, 2, batch, hidden]);
        let all = values(&y[0]);
        let at = |t: usize, d: usize, n: usize| all[((t * 2 + d) * batch + n) * hidden..][..hidden].to_vec();
        // The short sequence ends with zeros, its last states are those at its own ends.
        assert_eq!(at(2, 0, 1), [0.0; 3]);
        assert_eq!(at(3, 1, 1), [0.0; 3]);
        let last = values(&y[1]);
        assert_eq!(last[hidden..][..hidden], at(1, 0, 1));
        assert_eq!(last[3 * hidden..][..hidden], at(0, 1, 1));
        assert_eq!(last[..hidden], at(3, 0, 0));

        // The second direction alone is a reverse layer.
        let half = |tensor: &Tensor| {
            let data = tensor.data().select(tensor.len() / 2..tensor.len());
            Tensor::new([&[1][..], &tensor.shape()[1..]].concat(), data)
        };
        let reverse = Lstm { direction: Direction::Reverse, ..both.clone() };
        let z = run(reverse, &[Some(&x), Some(&half(&w)), Some(&half(&r)), None, Some(&lengths)]);
        let alone = values(&z[0]);
        assert_eq!(alone[hidden..][..hidden], at(0, 1, 1));
        assert_eq!(alone[3 * batch * hidden..][..hidden], at(3, 1, 0));

        // The same with the batch first.
        let swap = |n: usize, t: usize| (t * batch + n) * 2;
        let order = (0..batch).flat_map(|n| (0..steps).flat_map(move |t| swap(n, t)..swap(n, t) + 2));
        let swapped = Tensor::new([batch, steps, 2], x.data().select(order));
        let v = run(Lstm { batch_first: true, ..both }, &[Some(&swapped), Some(&w), Some(&r), None, Some(&lengths)]);
        assert_eq!(v[0].shape(), [batch, steps, 2, hidden]);
        assert_eq!(values(&v[0])[(4 * 2 + 1) * hidden..][..hidden], at(0, 1, 1));
        assert_eq!(values(&v[2])[hidden..][..hidden], values(&y[2])[2 * hidden..][..hidden]);
    }

    #[test]
    fn lengths_beyond_the_sequence_are_errors() {
        let (x, w, r) = (weights(&[2, 1, 1]), weights(&[1, 1, 1]), weights(&[1, 1, 1]));
        let op = Op::from(Rnn { hidden_size: 1, ..Rnn::default() });
        for length in [-1, 3] {
            let lengths = Tensor::new([1], Data::I32(vec![length]));
            let result = interp::eval(&op, &[Some(&x), Some(&w), Some(&r), None, Some(&lengths)]);
            assert!(matches!(result, Err(EvalError::Value(_))), "{result:?}");
        }
    }

    #[test]
    fn activations_follow_their_formulas() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-7, "{a} {b}");
        near(apply(Activation::Affine { alpha: 2.0, beta: 1.0 }, 3.0), 7.0);
        near(apply(Activation::LeakyRelu { alpha: 0.5 }, -2.0), -1.0);
        near(apply(Activation::ThresholdedRelu { alpha: 1.0 }, 0.5), 0.0);
        near(apply(Activation::ScaledTanh { alpha: 2.0, beta: 0.5 }, 2.0), 2.0 * 1.0f64.tanh());
        near(apply(Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }, 1.0), 0.7);
        near(apply(Activation::Elu { alpha: 2.0 }, -1.0), 2.0 * ((-1.0f64).exp() - 1.0));
        near(apply(Activation::Softsign, -3.0), -0.75);
        near(apply(Activation::Softplus, 1.0), (1.0 + 1.0f64.exp()).ln());
        near(apply(Activation::Softplus, 1000.0), 1000.0);
        near(apply(Activation::Relu, -1.0), 0.0);
    }
}
