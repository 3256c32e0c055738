//! Zeros stay zeros, equal values stay equal, and groups that are not worth their weight go.

use optc_ir::{Interp, Tensor};

use super::super::{Batch, Loss, LossTerm};
use super::super::{
    Form, GroupAxes, GroupLasso, Keep, Optimizer, Regularizer, Schedule, TrainError, TrainOptions, Trainer,
};
use super::{constant, parse};
use crate::selector::{Selection, Selector};

fn layer(w: &str) -> optc_ir::Graph {
    parse(&format!(
        "graph @layer(%x: f32[N, 4]) -> (y: f32[N, 2]) {{
           %w = const f32[2, 4] = {w}
           %b = const f32[2] = [0, 0]
           %y = linear(%x, %w, %b) : f32[N, 2]
           return %y
         }}"
    ))
}

fn batch() -> Batch {
    let x = (0..12).map(|i| ((i * 5 + 3) % 7) as f32 / 3.0 - 1.0).collect::<Vec<_>>();
    let y = (0..6).map(|i| ((i * 3 + 1) % 5) as f32 - 2.0).collect::<Vec<_>>();
    Batch { inputs: vec![Tensor::f32([3, 4], x)], targets: vec![Tensor::f32([3, 2], y)] }
}

fn options() -> TrainOptions {
    TrainOptions {
        batch: 3,
        losses: vec![LossTerm::of(Loss::SquaredError)],
        schedule: Schedule::constant(0.05),
        ..TrainOptions::default()
    }
}

fn trained(w: &str, options: &TrainOptions, steps: usize) -> Vec<f64> {
    let mut trainer = Trainer::new(&layer(w), options, &Interp).unwrap();
    for _ in 0..steps {
        trainer.step(&batch()).unwrap();
    }
    constant(&trainer.graph().unwrap(), "w")
}

const SPARSE: &str = "[0.5, 0, 0, -1, 0, 0.25, 0, 0.75]";

#[test]
fn zeros_stay_zeros_whatever_the_optimizer() {
    let adam = Optimizer::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    let adamw = Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    for optimizer in [Optimizer::Sgd { momentum: 0.9, nesterov: true }, adam, adamw] {
        let keep = Keep { zeros: true, clusters: false };
        let decay = Some(Regularizer::new(0.01));
        let l1 = Some(Regularizer::new(0.001));
        let options = TrainOptions { optimizer, keep, weight_decay: decay, l1, ..options() };
        let w = trained(SPARSE, &options, 5);
        let is_zero: Vec<bool> = w.iter().map(|&x| x == 0.0).collect();
        assert_eq!(is_zero, [false, true, true, false, true, false, true, false], "{optimizer:?} {w:?}");
        assert!(w[0] != 0.5 && w[5] != 0.25);
        let free = trained(SPARSE, &TrainOptions { optimizer, ..self::options() }, 5);
        assert!(free.iter().all(|&x| x != 0.0), "{free:?}");
    }
}

#[test]
fn clusters_move_by_the_sum_of_their_gradients_and_zeros_stay() {
    const SHARED: &str = "[0.5, 0, -1, 0.5, 0, 0.5, -1, 0.5]";
    let sgd = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let free = TrainOptions { optimizer: sgd, ..options() };
    let start = [0.5, 0.0, -1.0, 0.5, 0.0, 0.5, -1.0, 0.5];
    let moved: Vec<f64> = trained(SHARED, &free, 1).iter().zip(start).map(|(w, start)| w - start).collect();
    let keep = Keep { zeros: true, clusters: true };
    let w = trained(SHARED, &TrainOptions { keep, ..free.clone() }, 1);
    let (half, one) = (moved[0] + moved[3] + moved[5] + moved[7], moved[2] + moved[6]);
    let expected = [0.5 + half, 0.0, -1.0 + one, 0.5 + half, 0.0, 0.5 + half, -1.0 + one, 0.5 + half];
    assert!(w.iter().zip(expected).all(|(w, expected)| (w - expected).abs() < 1e-6), "{w:?} {expected:?}");
    let keep = Keep { zeros: false, clusters: true };
    let w = trained(SHARED, &TrainOptions { keep, ..free }, 1);
    assert!(w[1] != 0.0 && w[1] == w[4], "{w:?}");

    let trainer = Trainer::new(&layer(SHARED), &TrainOptions { keep, ..options() }, &Interp).unwrap();
    let forms: Vec<Form> = trainer.parameters().iter().map(|p| p.form).collect();
    assert_eq!(forms, [Form::Clusters { values: 3 }, Form::Free]);
    // Values that are all different are no clusters.
    let distinct = layer("[1, 2, 3, 4, 5, 6, 7, 8]");
    let trainer = Trainer::new(&distinct, &TrainOptions { keep, ..options() }, &Interp).unwrap();
    assert_eq!(trainer.parameters()[0].form, Form::Free);
}

#[test]
fn weights_can_be_pruned_while_they_are_trained() {
    let keep = Keep { zeros: true, clusters: false };
    let start = layer("[1, 2, 3, 4, 5, 6, 7, 8]");
    let mut trainer = Trainer::new(&start, &TrainOptions { keep, ..options() }, &Interp).unwrap();
    trainer.step(&batch()).unwrap();
    let pruned = Tensor::f32([2, 4], [1.0, 0.0, 3.0, 0.0, 5.0, 6.0, 7.0, 8.0]);
    trainer.set_parameter("w", &pruned).unwrap();
    trainer.step(&batch()).unwrap();
    let w = constant(&trainer.graph().unwrap(), "w");
    assert!(w[1] == 0.0 && w[3] == 0.0 && w[0] != 1.0, "{w:?}");
    assert!(trainer.set_parameter("b", &Tensor::f32([2], [0.0, 0.0])).is_err());
}

#[test]
fn group_lasso_shrinks_groups_and_its_proximal_step_makes_them_zero() {
    let lasso = |groups, strength, proximal| GroupLasso {
        groups,
        regularizer: Regularizer { proximal, ..Regularizer::new(strength) },
    };
    const ROWS: &str = "[3, 4, 0, 0, 0.006, 0, 0.008, 0]";
    let sgd = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    // Nothing to learn: x is zero, so that only the regularizer moves weights.
    let still = Batch { inputs: vec![Tensor::f32([3, 4], [0.0; 12])], targets: vec![Tensor::f32([3, 2], [0.0; 6])] };
    let after = |lasso: GroupLasso| {
        let options = TrainOptions { optimizer: sgd, group_lasso: vec![lasso], ..options() };
        let mut trainer = Trainer::new(&layer(ROWS), &options, &Interp).unwrap();
        trainer.step(&still).unwrap();
        constant(&trainer.graph().unwrap(), "w")
    };
    let near = |w: &[f64], expected: [f64; 8]| {
        assert!(w.iter().zip(expected).all(|(w, expected)| (w - expected).abs() < 1e-6), "{w:?} {expected:?}");
    };
    // Rows of norms 5 and 0.01 lose η·λ = 0.05 of them.
    near(&after(lasso(GroupAxes::Filters, 1.0, true)), [2.97, 3.96, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    near(&after(lasso(GroupAxes::Filters, 1.0, false)), [2.97, 3.96, 0.0, 0.0, -0.024, 0.0, -0.032, 0.0]);
    let w = after(lasso(GroupAxes::Channels, 1.0, true));
    assert!(w[1] > 3.9 && w[6] == 0.0 && w[0] < 3.0, "{w:?}");
    let whole = after(lasso(GroupAxes::Layer, 200.0, true));
    assert_eq!(whole, [0.0; 8]);

    let shared = layer("[1, 1, 1, 1, 2, 2, 2, 2]");
    let keep = Keep { zeros: false, clusters: true };
    let group_lasso = vec![lasso(GroupAxes::Filters, 1.0, true)];
    let refused = Trainer::new(&shared, &TrainOptions { keep, group_lasso, ..options() }, &Interp);
    assert!(matches!(refused, Err(TrainError::Node { .. })));
}

#[test]
fn soft_thresholds_and_selections() {
    let sgd = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let still = Batch { inputs: vec![Tensor::f32([3, 4], [0.0; 12])], targets: vec![Tensor::f32([3, 2], [1.0; 6])] };
    let l1 = Some(Regularizer { proximal: true, ..Regularizer::new(4.0) });
    let rates = vec![(Selector::parse("b").unwrap(), 0.5)];
    let options = TrainOptions { optimizer: sgd, l1, rates, ..options() };
    let mut trainer = Trainer::new(&layer(SPARSE), &options, &Interp).unwrap();
    trainer.step(&still).unwrap();
    let graph = trainer.graph().unwrap();
    // η·λ = 0.2 is taken off every weight; the bias moves by half of η times its gradient of −1.
    let w = constant(&graph, "w");
    let expected = [0.3, 0.0, 0.0, -0.8, 0.0, 0.05, 0.0, 0.55];
    assert!(w.iter().zip(expected).all(|(w, expected)| (w - expected).abs() < 1e-6), "{w:?}");
    assert!(constant(&graph, "b").iter().all(|b| (b - 0.025).abs() < 1e-7));

    let parameters = Selection { only: Some(Selector::parse("b").unwrap()), protect: None };
    let w = trained(SPARSE, &TrainOptions { parameters, ..options }, 2);
    assert_eq!(w, [0.5, 0.0, 0.0, -1.0, 0.0, 0.25, 0.0, 0.75]);
}
