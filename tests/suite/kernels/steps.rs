//! Steps whose residents stay in the arena, against the interpreter.

use optc_codegen::Jit;
use optc_ir::{Backend, Graph, Interp, Resident, StepExecutable, Tensor, text};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{TOLERANCE, random};

/// A layer trained by gradient descent with momentum, its gradient masked; the mask stays as it is.
fn step() -> Graph {
    text::parse(
        "graph @step(%x: f32[N, 20], %w: f32[33, 20], %v: f32[33, 20], %mask: f32[33, 20], %rate: f32[])
             -> (loss: f32[], w_next: f32[33, 20], v_next: f32[33, 20]) {
           %keep = const f32[] = [0.9]
           %y = linear(%x, %w)
           %square = mul(%y, %y)
           %loss = reduce_mean(%square) {keepdims=false}
           %dw = gemm(%y, %x) {trans_a=true}
           %masked = mul(%dw, %mask)
           %kept = mul(%v, %keep)
           %v_next = add(%kept, %masked)
           %change = mul(%v_next, %rate)
           %w_next = sub(%w, %change)
           return %loss, %w_next, %v_next
         }",
    )
    .expect("the text is right")
}

const RESIDENTS: [Resident; 3] = [
    Resident { input: 1, output: Some(1) },
    Resident { input: 2, output: Some(2) },
    Resident { input: 3, output: None },
];

fn start(backend: &dyn Backend) -> Box<dyn StepExecutable> {
    let mut step = backend.compile_step(step(), &RESIDENTS).expect("the step can be compiled");
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    step.set(1, &random(&mut rng, &[33, 20])).unwrap();
    step.set(2, &Tensor::f32([33, 20], vec![0.0; 660])).unwrap();
    let mask = (0..660).map(|i| if i % 3 == 0 { 0.0 } else { 1.0 }).collect::<Vec<f32>>();
    step.set(3, &Tensor::f32([33, 20], mask)).unwrap();
    step
}

/// Steps on batches of several sizes, parameters replaced between two of them; the losses and all residents.
fn train(step: &mut dyn StepExecutable) -> Vec<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    let rate = Tensor::f32([], [0.01]);
    let mut seen = Vec::new();
    for batch in [5, 5, 3, 5, 1] {
        seen.extend(step.run(&[random(&mut rng, &[batch, 20]), rate.clone()]).unwrap());
        if batch == 3 {
            let half: Vec<f32> = step.get(1).unwrap().as_f32().unwrap().iter().map(|w| w / 2.0).collect();
            step.set(1, &Tensor::f32([33, 20], half)).unwrap();
        }
        seen.extend((1..4).map(|input| step.get(input).unwrap()));
    }
    seen
}

#[test]
fn residents_stay() {
    let expected = train(&mut *start(&Interp));
    let mut known: Option<Vec<Tensor>> = None;
    for threads in [1, 2, 3] {
        let got = train(&mut *start(&Jit::new(threads)));
        for (expected, got) in expected.iter().zip(&got) {
            let (a, b) = (expected.as_f32().unwrap(), got.as_f32().unwrap());
            let scale = a.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
            assert!(a.iter().zip(b).all(|(x, y)| (x - y).abs() <= TOLERANCE * scale), "{threads} threads");
        }
        assert!(known.is_none_or(|known| known == got), "{threads} threads give other bits");
        known = Some(got);
    }
}

#[test]
fn residents_are_asked_for() {
    let mut step = Jit::new(1).compile_step(step(), &RESIDENTS).unwrap();
    let inputs = [Tensor::f32([2, 20], vec![0.5; 40]), Tensor::f32([], [0.1])];
    assert!(step.run(&inputs).unwrap_err().to_string().contains("w has no value"));
    assert!(step.get(1).unwrap_err().to_string().contains("w has no value"));
    assert!(step.set(1, &Tensor::f32([2], [0.0; 2])).is_err());
    assert!(step.set(0, &inputs[0]).is_err());
    let mut step = start(&Jit::new(1));
    let before = step.get(1).unwrap();
    assert!(step.run(&[Tensor::f32([2, 3], vec![0.5; 6]), inputs[1].clone()]).is_err());
    assert!(step.run(&inputs[..1]).is_err());
    assert_eq!(step.get(1).unwrap(), before, "a failed run moves nothing");
}
