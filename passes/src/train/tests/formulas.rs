//! Losses and optimizers against their formulas, computed by hand.

use optc_ir::{Interp, Tensor};

use super::super::{Batch, Loss, LossTerm, Optimizer, Regularizer, Schedule, TrainOptions, Trainer};
use super::{constant, parse};

/// y = w·x, one sample, one weight.
fn line(w: f64) -> optc_ir::Graph {
    parse(&format!(
        "graph @line(%x: f64[N, 1]) -> (y: f64[N, 1]) {{
           %w = const f64[1, 1] = [{w}]
           %y = linear(%x, %w) : f64[N, 1]
           return %y
         }}"
    ))
}

/// The weight after each of three steps on x = 1, y = 0, where its gradient is 2·w.
fn course(optimizer: Optimizer, decay: Option<f32>) -> Vec<f64> {
    let options = TrainOptions {
        batch: 1,
        losses: vec![LossTerm::of(Loss::SquaredError)],
        optimizer,
        schedule: Schedule::constant(0.125),
        weight_decay: decay.map(Regularizer::new),
        ..TrainOptions::default()
    };
    let mut trainer = Trainer::new(&line(1.0), &options, &Interp).unwrap();
    let number = |x: f64| Tensor::new([1, 1], optc_ir::Data::F64(vec![x]));
    let batch = Batch { inputs: vec![number(1.0)], targets: vec![number(0.0)] };
    let step = |_| {
        trainer.step(&batch).unwrap();
        constant(&trainer.graph().unwrap(), "w")[0]
    };
    (0..3).map(step).collect()
}

/// Three steps by a rule from weight, gradient, number of the step and two numbers of state.
fn by_hand(mut rule: impl FnMut(f64, f64, i32, &mut [f64; 2]) -> f64) -> Vec<f64> {
    let (mut w, mut state) = (1.0, [0.0; 2]);
    let step = |t| {
        w -= 0.125 * rule(w, 2.0 * w, t, &mut state);
        w
    };
    (1..=3).map(step).collect()
}

fn near(a: &[f64], b: &[f64]) {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?} {b:?}");
}

#[test]
fn optimizers_follow_their_formulas() {
    let plain = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    near(&course(plain, None), &[0.75, 0.5625, 0.421875]);
    near(&course(plain, Some(0.5)), &by_hand(|w, g, _, _| g + 0.5 * w));
    let momentum = |nesterov| Optimizer::Sgd { momentum: 0.75, nesterov };
    near(
        &course(momentum(false), None),
        &by_hand(|_, g, _, s| {
            s[0] = 0.75 * s[0] + g;
            s[0]
        }),
    );
    near(
        &course(momentum(true), None),
        &by_hand(|_, g, _, s| {
            s[0] = 0.75 * s[0] + g;
            g + 0.75 * s[0]
        }),
    );
    let adam = |g: f64, t: i32, s: &mut [f64; 2]| {
        s[0] = 0.75 * s[0] + 0.25 * g;
        s[1] = 0.875 * s[1] + 0.125 * g * g;
        (s[0] / (1.0 - 0.75f64.powi(t))) / ((s[1] / (1.0 - 0.875f64.powi(t))).sqrt() + 0.5)
    };
    let (beta1, beta2, eps) = (0.75, 0.875, 0.5);
    near(&course(Optimizer::Adam { beta1, beta2, eps }, None), &by_hand(|_, g, t, s| adam(g, t, s)));
    near(&course(Optimizer::Adam { beta1, beta2, eps }, Some(0.5)), &by_hand(|w, g, t, s| adam(g + 0.5 * w, t, s)));
    near(&course(Optimizer::AdamW { beta1, beta2, eps }, Some(0.5)), &by_hand(|w, g, t, s| adam(g, t, s) + 0.5 * w));
}

/// The loss of scores that a layer with the identity as weights gives.
fn loss(terms: &[LossTerm], scores: &[f32], target: Tensor) -> (f64, Vec<f64>) {
    let graph = parse(
        "graph @scores(%x: f32[N, 3]) -> (y: f32[N, 3], prob: f32[N, 3]) {
           %w = const f32[3, 3] = [1, 0, 0, 0, 1, 0, 0, 0, 1]
           %y = linear(%x, %w) : f32[N, 3]
           %prob = softmax(%y) : f32[N, 3]
           return %y, %prob
         }",
    );
    let batch = scores.len() / 3;
    let options = TrainOptions { batch, losses: terms.to_vec(), ..TrainOptions::default() };
    let mut trainer = Trainer::new(&graph, &options, &Interp).unwrap();
    let targets = vec![target; terms.len()];
    let step = trainer.step(&Batch { inputs: vec![Tensor::f32([batch, 3], scores)], targets }).unwrap();
    (step.loss, step.terms)
}

#[test]
fn losses_follow_their_formulas() {
    let scores = [1.0, 2.0, -0.5, 0.25, 0.0, -1.0];
    let labels = Tensor::i64([2], [1, 0]);
    let z: Vec<f64> = scores.iter().map(|&x| f64::from(x)).collect();
    let log_sum = |row: &[f64]| row.iter().map(|x| x.exp()).sum::<f64>().ln();
    let (a, b) = z.split_at(3);
    let (first, second) = (a[1] - log_sum(a), b[0] - log_sum(b));
    let plain = LossTerm::of(Loss::CrossEntropy { smoothing: 0.0 });
    let (value, terms) = loss(&[plain.clone()], &scores, labels.clone());
    let entropy = -(first + second) / 2.0;
    assert!((value - entropy).abs() < 1e-6 && terms == [value], "{value} {entropy}");
    // Of a softmax, the scores before it.
    let of_prob = LossTerm { output: Some("prob".to_owned()), ..plain.clone() };
    assert!((loss(&[of_prob], &scores, labels.clone()).0 - entropy).abs() < 1e-6);

    let all: f64 = a.iter().map(|x| x - log_sum(a)).chain(b.iter().map(|x| x - log_sum(b))).sum();
    let smooth = 0.75 * entropy - 0.25 / 3.0 * all / 2.0;
    let smoothed = LossTerm::of(Loss::CrossEntropy { smoothing: 0.25 });
    assert!((loss(&[smoothed], &scores, labels.clone()).0 - smooth).abs() < 1e-6);

    let margins = [-1.0, 2.0, 0.5, 0.25, 0.0, 1.0];
    let hinge = margins.iter().map(|m: &f64| (1.0 - m).max(0.0).powi(2)).sum::<f64>() / 6.0;
    let square = LossTerm { weight: 0.5, ..LossTerm::of(Loss::SquareHinge) };
    let (value, terms) = loss(&[plain, square], &scores, labels);
    assert!((terms[1] - hinge).abs() < 1e-6, "{terms:?} {hinge}");
    assert!((value - (entropy + 0.5 * hinge)).abs() < 1e-6);
}

#[test]
fn gradients_are_clipped_to_their_common_norm() {
    let step = |clip_norm| {
        let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false };
        let losses = vec![LossTerm::of(Loss::SquaredError)];
        let schedule = Schedule::constant(0.5);
        let options = TrainOptions { batch: 1, losses, optimizer, schedule, clip_norm, ..TrainOptions::default() };
        let mut trainer = Trainer::new(&line(3.0), &options, &Interp).unwrap();
        let number = |x: f64| Tensor::new([1, 1], optc_ir::Data::F64(vec![x]));
        let report = trainer.step(&Batch { inputs: vec![number(1.0)], targets: vec![number(0.0)] }).unwrap();
        (report.gradient_norm, constant(&trainer.graph().unwrap(), "w")[0])
    };
    assert_eq!(step(None), (None, 0.0));
    let (norm, w) = step(Some(2.0));
    assert_eq!(norm, Some(6.0));
    assert!((w - 2.0).abs() < 1e-12);
    assert_eq!(step(Some(8.0)), (Some(6.0), 0.0));
}
