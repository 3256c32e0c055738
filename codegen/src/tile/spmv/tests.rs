use super::*;
use crate::jit::testing::numbers;
use crate::tile::spmm::Matrix;
use crate::tile::testing::result;

/// A product, the weights not zero where `kept` says so of output and k.
#[derive(Clone, Copy, Debug)]
struct Case {
    rows: usize,
    outputs: usize,
    depth: usize,
    kept: fn(usize, usize) -> bool,
    coded: bool,
    threads: usize,
    /// Whether an operand is added and a ReLU follows.
    functions: bool,
    /// What weights are multiplied by: all sums are exact if it is a power of two.
    factor: f32,
}

const PLAIN: Case = Case {
    rows: 1,
    outputs: 37,
    depth: 101,
    kept: |o, k| (o * 5 + k * 3 + k / 7) % 6 == 0,
    coded: false,
    threads: 1,
    functions: false,
    factor: 1.0,
};

impl Case {
    /// Compares all targets with the definition.
    fn check(&self) {
        let Case { rows, outputs, depth, .. } = *self;
        // Rows of x and y are further apart than they are long.
        let (x_step, y_step) = (depth + 3, outputs + 5);
        let x = numbers(rows * x_step + WINDOW, 1);
        let mut weights = numbers(outputs * depth, 3);
        for (i, w) in weights.iter_mut().enumerate() {
            *w = if (self.kept)(i / depth, i % depth) { *w * self.factor } else { 0.0 };
        }
        let matrix = Matrix::new(outputs, |o| (0, &weights[o * depth..][..depth]));
        let (bias, other) = (numbers(outputs, 4), numbers(outputs, 5));
        let spmv = Spmv {
            rows,
            steps_of_rows: [x_step, y_step].map(|step| signed(step * 4)),
            outputs,
            depth,
            nonzeros: weights.iter().filter(|w| **w != 0.0).count(),
            coded: self.coded,
            groups: groups(&matrix, depth, self.coded),
            threads: self.threads,
            steps: match self.functions {
                true => vec![(Function::Add, Other::Vector(0)), (Function::Relu, Other::None)],
                false => Vec::new(),
            },
            operands: usize::from(self.functions),
        };
        let packed = spmv.pack(&matrix, |o| bias[o], |_, o| other[o]).unwrap();
        for vectors in Vectors::ALL {
            let reach = spmv.schedule(vectors).reach();
            let inside = |span: Option<(i64, i64)>, len: usize| {
                span.is_none_or(|(first, behind)| first >= 0 && behind <= signed(len * 4))
            };
            assert!(inside(reach.reads[0], x.len()) && inside(reach.reads[1], packed.numbers().len()), "{self:?}");
            assert!(inside(reach.writes[2], (rows - 1) * y_step + outputs), "{self:?}");
        }
        let buffers = [x.clone(), packed.numbers().to_vec()];
        let y = result(&spmv, |vectors| spmv.schedule(vectors), &buffers, rows * y_step);
        for (i, row) in y.chunks(y_step).enumerate() {
            for (o, &y) in row.iter().enumerate() {
                if o >= outputs {
                    assert_eq!(y, crate::tile::testing::GUARD, "{self:?}: written between rows");
                    continue;
                }
                let products = (0..depth).map(|k| weights[o * depth + k] * x[i * x_step + k]);
                let sum = bias[o] + products.sum::<f32>();
                let expected = if self.functions { (sum + other[o]).max(0.0) } else { sum };
                let error = if self.factor == 1.0 { 0.0 } else { 1e-6 * (16 * depth) as f32 };
                assert!((y - expected).abs() <= error, "{self:?}: row {i}, output {o}: {y}, not {expected}");
            }
        }
    }
}

#[test]
fn shapes_of_every_size() {
    for (outputs, depth) in [(1, 1), (1, 300), (16, 32), (15, 31), (17, 33), (101, 1), (300, 97), (48, 64)] {
        for coded in [false, true] {
            Case { outputs, depth, coded, ..PLAIN }.check();
        }
    }
}

#[test]
fn several_rows() {
    for rows in 2..=MAX_ROWS {
        for coded in [false, true] {
            Case { rows, coded, functions: true, ..PLAIN }.check();
        }
    }
}

#[test]
fn patterns() {
    let patterns: [fn(usize, usize) -> bool; 6] = [
        |_, _| false,
        |_, _| true,
        |o, _| o == 20,
        |_, k| k == 100,
        |o, k| o % 3 != 0 && k > 70,
        // Lanes of very different lengths.
        |o, k| k < o * o / 10,
    ];
    for kept in patterns {
        for coded in [false, true] {
            Case { kept, coded, threads: 3, ..PLAIN }.check();
            Case { kept, coded, functions: true, outputs: 32, ..PLAIN }.check();
        }
    }
}

/// Sums that round differ between orders of additions; no target has an order of its own.
#[test]
fn sums_that_round() {
    for rows in [1, 3] {
        for coded in [false, true] {
            Case { rows, coded, depth: 530, kept: |o, k| (o + k) % 5 != 1, factor: 0.3, ..PLAIN }.check();
        }
    }
}

/// As many values as codes can say, zero among them, and one more.
#[test]
fn codebooks_are_small() {
    let coded = |values: usize| {
        let weights = (0..64).map(|i| (i % values) as f32);
        Codebook::of(weights).is_some()
    };
    assert!(coded(1) && coded(32) && !coded(33));
}

#[test]
fn slices_are_dealt_out_evenly() {
    // The work of a slice is its only output.
    let slices: Vec<Vec<usize>> = (1..=13).rev().map(|work| vec![work * work]).collect();
    let work = |slice: &[usize]| slice[0];
    for threads in [1, 2, 3, 20] {
        let dealt = slots::dealt(slices.clone(), work, threads);
        assert_eq!((dealt.len(), dealt.last()), (13, slices.last()));
        let share =
            |thread: usize| dealt[13 * thread / threads..13 * (thread + 1) / threads].iter().map(|s| work(s)).sum();
        let shares: Vec<usize> = (0..threads).map(share).collect();
        assert_eq!(shares.iter().sum::<usize>(), slices.iter().map(|s| work(s)).sum());
        assert!(
            threads > 3 || shares.iter().max() <= shares.iter().min().map(|least| least + 169).as_ref(),
            "{shares:?}"
        );
    }
}
