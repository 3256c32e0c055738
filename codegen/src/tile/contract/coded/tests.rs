use super::super::{Run, Tiling, Weights};
use super::*;
use crate::jit::testing::numbers;
use crate::target::Target;
use crate::tile::epilogue::{Other, Strides};
use crate::tile::function::Function;

/// A product `y = relu(x·wᵀ·factor + bias)` of weights of few values, against plain loops.
fn product(code: Code, [rows, depth, outputs]: [usize; 3], bias: bool) {
    let x = numbers(rows * depth, 1);
    let digit = |o: usize, k: usize| (o * 5 + k * 3 + o * k / 7) % code.values;
    // Codes that are integers are bytes with sign.
    let value = |i: usize| if code.integers { f32::from(i.to_le_bytes()[0].cast_signed()) } else { i as f32 - 1.0 };
    let values: Vec<f32> = (0..code.values).map(value).collect();
    let factor = |o: usize| if code.scaled { [0.5, 2.0, 1.0][o % 3] } else { 1.0 };
    let biases = numbers(outputs.next_multiple_of(LANES), 3);
    let span = code.span().max(6);
    let (whole, rest) = (depth / span, depth % span);
    let taps = |n: usize| (0..n).map(|k| signed(k * 4)).collect::<Vec<i64>>();
    let mut runs = vec![Run { start: 0, loops: vec![(whole, signed(span * 4))], taps: taps(span) }];
    runs.retain(|_| whole > 0);
    if rest > 0 {
        runs.push(Run { start: signed(whole * span * 4), loops: Vec::new(), taps: taps(rest) });
    }
    let contract = |vectors| {
        let weights = Weights::Coded(code);
        let shape = [outputs.div_ceil(LANES), 1, rows];
        let steps = vec![(Function::Relu, Other::None)];
        let epilogue = Epilogue { bias, steps, ..Epilogue::default() };
        let target = Target { vectors, threads: 1 };
        let tiling = Tiling::choose_with(&weights, &target, shape, epilogue.temporaries());
        Contract {
            images: 1,
            groups: 1,
            outputs,
            rows: 1,
            columns: rows,
            runs: runs.clone(),
            x: Strides { column: signed(depth * 4), ..Strides::default() },
            y: Strides { column: signed(outputs * 4), block: 64, ..Strides::default() },
            whole_blocks: false,
            weights,
            epilogue,
            tiling,
        }
    };
    let mut known: Option<Vec<f32>> = None;
    for vectors in crate::jit::testing::all_vectors().into_iter().filter(|&vectors| code.is_for(vectors)) {
        let contract = contract(vectors);
        let digit = |_: usize, o, k| digit(o, k).to_le_bytes()[0];
        let packed = contract.pack_codes(code, &values, digit, |_, o| factor(o)).unwrap();
        let mut buffers = vec![x.clone(), packed.numbers().to_vec(), vec![f32::NAN; rows * outputs]];
        if bias {
            buffers.push(biases.clone());
        }
        crate::jit::testing::run(vectors, &contract.schedule(vectors), &mut buffers);
        let y = buffers.swap_remove(2);
        for r in 0..rows {
            for o in 0..outputs {
                let sum: f32 = (0..depth).map(|k| x[r * depth + k] * values[digit(0, o, k) as usize]).sum();
                let expected = (sum * factor(o) + if bias { biases[o] } else { 0.0 }).max(0.0);
                assert_eq!(y[r * outputs + o], expected, "{vectors}: {contract:?}, row {r}, output {o}");
            }
        }
        let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<u32>>();
        assert!(known.is_none_or(|known| bits(&known) == bits(&y)), "{vectors}: {code:?} gives other bits");
        known = Some(y);
    }
}

#[test]
fn products_of_every_code() {
    for values in [2, 3, 4, 5, 6, 16, 17, 32] {
        for scaled in [false, true] {
            let code = Code { values, integers: false, scaled };
            let span = code.span();
            for rows in [1, 2, 7] {
                for depth in [1, span - 1, 2 * span + 1] {
                    product(code, [rows, depth, 37], scaled);
                }
            }
            for outputs in [1, 16, 130] {
                product(code, [1, span + 2, outputs], !scaled);
            }
        }
    }
}

#[test]
fn products_of_bytes() {
    let codebooks = [33, 64, 65, 128, 129, 256].map(|values| Code { values, integers: false, scaled: values == 65 });
    for code in codebooks.into_iter().chain([Code { values: 256, integers: true, scaled: true }]) {
        for (rows, depth, outputs) in [(1, 1, 1), (1, 5, 37), (1, 131, 16), (2, 67, 130), (7, 32, 21)] {
            product(code, [rows, depth, outputs], code.scaled);
        }
    }
}
