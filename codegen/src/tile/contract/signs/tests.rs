use super::super::{Run, Tiling, Weights};
use super::*;
use crate::jit::testing::{numbers, run, vectors_of_codes};
use crate::target::Target;
use crate::tile::epilogue::{Other, Strides};
use crate::tile::function::Function;
use crate::tile::sign_bits::{PAIR_BYTES, SignBits, WORD, count_at, pixel_bytes};

/// Which elements of x are zero.
#[derive(Clone, Copy, Debug)]
enum Zeros {
    None,
    /// In the last pixel, and one in every so many elsewhere.
    Every(usize),
}

/// A product of signs over a window of one row, against plain loops.
fn product([rows, channels, outputs]: [usize; 3], taps: usize, bias: bool, zeros: Zeros) {
    let pixels = rows + taps - 1;
    let sign = |pixel: usize, c: usize| match zeros {
        Zeros::Every(n) if pixel + 1 == pixels || (pixel * 5 + c).is_multiple_of(n) => 0.0,
        _ => ((pixel * 5 + c * c + c / 7) % 2) as f32 * 2.0 - 1.0,
    };
    let positive = |o: usize, tap: usize, c: usize| (o * 3 + tap + c + c / 5).is_multiple_of(2);
    let factor = |o: usize| [0.5, 2.0, 1.0][o % 3];
    let biases = numbers(outputs.next_multiple_of(LANES), 3);
    let x: Vec<f32> = (0..pixels).flat_map(|pixel| (0..channels).map(move |c| sign(pixel, c))).collect();
    let pixel = signed(pixel_bytes(channels));
    let bits = SignBits {
        images: 1,
        rows: 1,
        columns: pixels,
        channels,
        x: Strides { block: 64, column: signed(channels * 4), ..Strides::default() },
        y: Strides { column: pixel, ..Strides::default() },
    };
    let words = channels.div_ceil(WORD);
    let run_of_words =
        Run { start: 0, loops: vec![(taps, pixel)], taps: (0..words).map(|i| signed(i * PAIR_BYTES)).collect() };
    let signs = Signs { weights: channels * taps, count: signed(count_at(channels)), window: [(1, 0), (taps, pixel)] };
    let mut known: Option<Vec<f32>> = None;
    for vectors in vectors_of_codes() {
        let mut packed = vec![x.clone(), vec![f32::NAN; pixels * pixel_bytes(channels) / 4]];
        run(vectors, &bits.schedule(vectors), &mut packed);
        let weights = Weights::Signs(signs);
        let epilogue = Epilogue { bias, steps: vec![(Function::Relu, Other::None)], ..Epilogue::default() };
        let shape = [outputs.div_ceil(LANES), 1, rows];
        let target = Target { vectors, threads: 1 };
        let tiling = Tiling::choose_with(&weights, &target, shape, epilogue.temporaries());
        let contract = Contract {
            images: 1,
            groups: 1,
            outputs,
            rows: 1,
            columns: rows,
            runs: vec![run_of_words.clone()],
            x: Strides { column: pixel, ..Strides::default() },
            y: Strides { column: signed(outputs * 4), block: 64, ..Strides::default() },
            whole_blocks: false,
            weights,
            epilogue,
            tiling,
        };
        let word = |_: usize, o: usize, k: usize| {
            let own = (k % words * WORD..channels).take(WORD);
            own.enumerate().fold(0, |word, (i, c)| word | u32::from(positive(o, k / words, c)) << i)
        };
        let weights = contract.pack_signs(word, |_, o| factor(o)).unwrap();
        let mut buffers = vec![packed.swap_remove(1), weights.numbers().to_vec(), vec![f32::NAN; rows * outputs]];
        if bias {
            buffers.push(biases.clone());
        }
        run(vectors, &contract.schedule(vectors), &mut buffers);
        let y = buffers.swap_remove(2);
        for r in 0..rows {
            for o in 0..outputs {
                let weight = |tap: usize, c: usize| if positive(o, tap, c) { 1.0 } else { -1.0 };
                let sums = (0..taps).flat_map(|tap| (0..channels).map(move |c| sign(r + tap, c) * weight(tap, c)));
                let expected = (sums.sum::<f32>() * factor(o) + if bias { biases[o] } else { 0.0 }).max(0.0);
                assert_eq!(y[r * outputs + o], expected, "{vectors}: {contract:?}, row {r}, output {o}");
            }
        }
        assert!(known.is_none_or(|known| known == y), "{vectors}: {contract:?} gives other bits");
        known = Some(y);
    }
}

#[test]
fn products_of_every_tail() {
    for zeros in [Zeros::None, Zeros::Every(1), Zeros::Every(3), Zeros::Every(130)] {
        for rows in [1, 2, 7, 13] {
            for channels in [1, 31, 32, 65] {
                product([rows, channels, 37], 1, false, zeros);
                product([rows, channels, 21], 3, true, zeros);
            }
        }
        product([3, 40, 1], 2, true, zeros);
        product([5, 40, 200], 1, true, zeros);
    }
}
