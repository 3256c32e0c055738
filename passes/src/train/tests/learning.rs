//! Models learn, and an interrupted training goes on as if it had not been.

use optc_ir::{DType, Data, Graph, Interp, Tensor, verify};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::{
    Batch, Course, DropoutRule, Loss, LossTerm, Optimizer, Sampler, Schedule, TrainError, TrainOptions, Trainer,
};
use super::{Samples, constant, mlp, parse};
use crate::pass::{Pass, PassCx};
use crate::pipeline::simplify;
use crate::selector::Selector;

/// Points of a square whose class is whether both coordinates have the same sign.
fn quadrants(count: usize) -> Samples {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let points: Vec<f32> = (0..2 * count).map(|_| rng.random_range(-1.0..1.0)).collect();
    let labels = points.chunks_exact(2).map(|p| u32::from(p[0] * p[1] > 0.0)).collect();
    Samples { inputs: Tensor::f32([count, 2], points), labels }
}

/// Noisy pictures of one line, upright or level.
fn lines(count: usize) -> Samples {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (upright, at) = (rng.random_range(0..2), rng.random_range(0..8));
        let pixel = |i: usize| f32::from(u8::from(if upright == 1 { i % 8 == at } else { i / 8 == at }));
        pixels.extend((0..64).map(|i| pixel(i) + rng.random_range(-0.3..0.3)));
        labels.push(upright);
    }
    Samples { inputs: Tensor::f32([count, 1, 8, 8], pixels), labels }
}

fn conv_net() -> Graph {
    parse(
        "graph @conv_net(%image: f32[N, 1, 8, 8]) -> (prob: f32[N, 2]) {
           %conv.w = const f32[4, 1, 3, 3] = normal(seed=1, std=0.5)
           %bn.scale = const f32[4] = splat(1)
           %bn.b = const f32[4] = splat(0)
           %bn.mean = const f32[4] = splat(0)
           %bn.var = const f32[4] = splat(1)
           %fc.w = const f32[64, 2] = normal(seed=2, std=0.2)
           %fc.b = const f32[2] = splat(0)
           %conv = conv(%image, %conv.w) {pads=[1, 1, 1, 1]} : f32[N, 4, 8, 8]
           %bn = batch_norm(%conv, %bn.scale, %bn.b, %bn.mean, %bn.var) : f32[N, 4, 8, 8]
           %relu = relu(%bn) : f32[N, 4, 8, 8]
           %pool = max_pool(%relu) {kernel=[2, 2], strides=[2, 2]} : f32[N, 4, 4, 4]
           %flat = flatten(%pool) : f32[N, 64]
           %fc = gemm(%flat, %fc.w, %fc.b) : f32[N, 2]
           %prob = softmax(%fc) : f32[N, 2]
           return %prob
         }",
    )
}

/// Trains for some epochs, and returns the loss of the last step.
fn train(trainer: &mut Trainer<'_>, data: &Samples, epochs: u64) -> f64 {
    let sampler = Sampler { samples: data.labels.len(), batch: trainer.batch_size(), seed: 3 };
    let mut last = f64::NAN;
    for epoch in 0..epochs {
        for samples in sampler.epoch(epoch) {
            let batch = trainer.batch(data, &samples).unwrap();
            last = trainer.step(&batch).unwrap().loss;
        }
    }
    last
}

#[test]
fn a_network_of_two_layers_learns_what_one_layer_can_not() {
    let data = quadrants(256);
    let steps = 30 * 8;
    let options = TrainOptions {
        batch: 32,
        schedule: Schedule { rate: 0.2, warm_up: 4, course: Course::Cosine { steps, end: 0.0 } },
        ..TrainOptions::default()
    };
    let mut trainer = Trainer::new(&mlp(), &options, &Interp).unwrap();
    let before = trainer.evaluate(&data).unwrap();
    train(&mut trainer, &data, 30);
    let after = trainer.evaluate(&data).unwrap();
    assert_eq!((after.samples, trainer.steps()), (256, steps));
    assert!(before.accuracy() < 0.75 && after.accuracy() >= 0.96, "{before:?} {after:?}");
}

#[test]
fn a_convolutional_network_learns_with_batch_statistics_and_runs_with_running_ones() {
    let data = lines(96);
    let options = TrainOptions {
        batch: 16,
        optimizer: Optimizer::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        schedule: Schedule::constant(0.01),
        momentum: 0.8,
        clip_norm: Some(5.0),
        ..TrainOptions::default()
    };
    let mut trainer = Trainer::new(&conv_net(), &options, &Interp).unwrap();
    train(&mut trainer, &data, 8);
    let evaluation = trainer.evaluate(&data).unwrap();
    assert!(evaluation.accuracy() >= 0.96, "{evaluation:?}");
    let trained = trainer.graph().unwrap();
    verify::verify(&trained).unwrap();
    assert_eq!(trained.signature(), conv_net().signature());
    assert!(constant(&trained, "bn.mean").iter().any(|&x| x != 0.0));
    // Folding comes afterwards, and changes nothing.
    let mut folded = trained;
    simplify(8).run(&mut folded, &mut PassCx::new(&Interp)).unwrap();
    let options = TrainOptions { batch: 16, ..TrainOptions::default() };
    let again = Trainer::new(&folded, &options, &Interp).unwrap();
    assert_eq!(again.evaluate(&data).unwrap(), evaluation);
}

#[test]
fn an_interrupted_training_goes_on_as_if_it_had_not_been() {
    let data = lines(48);
    let options = TrainOptions {
        batch: 8,
        optimizer: Optimizer::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8 },
        schedule: Schedule { rate: 0.01, warm_up: 2, course: Course::Linear { steps: 20, end: 0.0 } },
        weight_decay: Some(super::super::Regularizer::new(0.01)),
        dropout: vec![DropoutRule { before: Selector::parse("fc").unwrap(), rate: 0.5 }],
        seed: 11,
        ..TrainOptions::default()
    };
    let batches = Sampler { samples: 48, batch: 8, seed: 0 }.epoch(0);
    let step = |trainer: &mut Trainer<'_>, samples: &[usize]| {
        let batch = trainer.batch(&data, samples).unwrap();
        trainer.step(&batch).unwrap()
    };
    let mut whole = Trainer::new(&conv_net(), &options, &Interp).unwrap();
    let losses: Vec<_> = batches.iter().map(|samples| step(&mut whole, samples)).collect();

    let mut first = Trainer::new(&conv_net(), &options, &Interp).unwrap();
    batches[..3].iter().for_each(|samples| drop(step(&mut first, samples)));
    let state = first.state().unwrap();
    let elsewhere = TrainOptions { seed: 0, ..options.clone() };
    let mut second = Trainer::new(&conv_net(), &elsewhere, &Interp).unwrap();
    second.restore(&state).unwrap();
    let rest: Vec<_> = batches[3..].iter().map(|samples| step(&mut second, samples)).collect();
    assert_eq!(rest, losses[3..]);
    assert_eq!(second.state().unwrap(), whole.state().unwrap());
    assert_eq!(second.graph().unwrap(), whole.graph().unwrap());

    let mut torn = state.clone();
    torn.0.retain(|(name, _)| name != "fc.w");
    assert_eq!(second.restore(&torn).unwrap_err().to_string(), "state: there is no fc.w");
    let other = Trainer::new(&mlp(), &TrainOptions::default(), &Interp).unwrap().state().unwrap();
    assert!(matches!(second.restore(&other), Err(TrainError::State(_))));
}

#[test]
fn a_student_learns_from_its_teacher_without_labels() {
    let data = quadrants(256);
    let options = TrainOptions { batch: 32, schedule: Schedule::constant(0.1), ..TrainOptions::default() };
    let mut teacher = Trainer::new(&mlp(), &options, &Interp).unwrap();
    train(&mut teacher, &data, 20);
    let teacher = teacher.graph().unwrap();
    let options = TrainOptions {
        losses: vec![LossTerm::of(Loss::Distill { temperature: 2.0 })],
        teacher: Some(teacher.clone()),
        ..options
    };
    let mut student = Trainer::new(&mlp(), &options, &Interp).unwrap();
    let batch = student.batch(&data, &(0..32).collect::<Vec<_>>()).unwrap();
    assert_eq!(batch.targets, []);
    let first = student.step(&batch).unwrap().loss;
    let last = train(&mut student, &data, 20);
    assert!(last < 0.2 * first, "{first} {last}");
    // Who is the teacher already has nothing to learn.
    let mut same = Trainer::new(&teacher, &options, &Interp).unwrap();
    assert!(same.step(&batch).unwrap().loss.abs() < 1e-6);
}

#[test]
fn a_model_made_for_single_samples_is_trained_in_batches() {
    let data = quadrants(70);
    let single = parse(
        "graph @single(%x: f32[1, 2]) -> (scores: f32[1, 2]) {
           %w1 = const f32[8, 2] = normal(seed=1, std=0.7)
           %b1 = const f32[8] = splat(0)
           %w2 = const f32[2, 8] = normal(seed=2, std=0.35)
           %b2 = const f32[2] = splat(0)
           %shape = const i64[2] = [1, -1]
           %hidden = linear(%x, %w1, %b1) {act=silu} : f32[1, 8]
           %flat = reshape(%hidden, %shape) : f32[1, 8]
           %scores = linear(%flat, %w2, %b2) : f32[1, 2]
           return %scores
         }",
    );
    let options = TrainOptions { batch: 32, ..TrainOptions::default() };
    let mut trainer = Trainer::new(&single, &options, &Interp).unwrap();
    train(&mut trainer, &data, 4);
    let trained = trainer.graph().unwrap();
    assert_eq!(trained.signature(), single.signature());
    // Batches of 32 see some of 70 samples twice, which must not count.
    let evaluation = trainer.evaluate(&data).unwrap();
    let one_by_one = Trainer::new(&trained, &TrainOptions { batch: 1, ..options }, &Interp).unwrap();
    assert_eq!(evaluation, one_by_one.evaluate(&data).unwrap());
    assert_eq!(evaluation.samples, 70);
}

#[test]
fn what_does_not_fit_is_refused() {
    let message = |model: &Graph, options: &TrainOptions| match Trainer::new(model, options, &Interp) {
        Ok(_) => panic!("the options are accepted"),
        Err(error) => error.to_string(),
    };
    let merged = parse(
        "graph @g(%x: f32[1, 2]) -> (y: f32[2, 2]) {
           %w = const f32[2, 1] = splat(1)
           %shape = const i64[2] = [2, 1]
           %turned = reshape(%x, %shape) : f32[2, 1]
           %y = linear(%turned, %w) : f32[2, 2]
           return %y
         }",
    );
    let default = TrainOptions::default();
    let misfit = "node turned (training): does not fit a batch of 64: the elements of [64, 2] do not fit shape [2, 1]";
    assert_eq!(message(&merged, &default), misfit);
    let distill = vec![LossTerm::of(Loss::Distill { temperature: 1.0 })];
    assert_eq!(message(&mlp(), &TrainOptions { losses: distill, ..default.clone() }), "distillation needs a teacher");
    let elsewhere = LossTerm { output: Some("mask".to_owned()), ..LossTerm::of(Loss::SquaredError) };
    let options = TrainOptions { losses: vec![elsewhere], ..default.clone() };
    assert_eq!(message(&mlp(), &options), "the model has no result mask to take a loss of");

    let mut trainer = Trainer::new(&mlp(), &TrainOptions { batch: 2, ..default }, &Interp).unwrap();
    let x = Tensor::zeros(DType::F32, [2, 2]);
    let batch = |targets: Vec<Tensor>| Batch { inputs: vec![x.clone()], targets };
    assert_eq!(trainer.step(&batch(vec![])).unwrap_err().to_string(), "the batch has no tensor for labels");
    let labels = Tensor::i64([2], [0, 1]);
    assert!(matches!(trainer.step(&batch(vec![labels.clone(), labels.clone()])), Err(TrainError::Batch(_))));
    let infinite =
        Batch { inputs: vec![Tensor::new([2, 2], Data::F32(vec![f32::INFINITY; 4]))], targets: vec![labels] };
    assert!(matches!(trainer.step(&infinite), Err(TrainError::Diverged { step: 1, .. })));
}
