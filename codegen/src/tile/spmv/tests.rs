use super::*;
use crate::jit::testing::numbers;
use crate::tile::spmm::Matrix;
use crate::tile::testing::result;

/// A product, the weights not zero where `kept` says so of output and k.
#[derive(Clone, Copy, Debug)]
struct Case {
    rows: [usize; 2],
    /// Whether results are an image in blocks, with a border to its right.
    blocked: bool,
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
    rows: [1, 1],
    blocked: false,
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
        let Case { rows: [height, width], outputs, depth, .. } = *self;
        let rows = height * width;
        // Rows of x and y are further apart than they are long.
        let x_step = depth + 3;
        let (y_steps, block) = match self.blocked {
            true => ([(width + 1) * LANES, LANES], height * (width + 1) * LANES),
            false => ([width * (outputs + 5), outputs + 5], LANES),
        };
        let y_place =
            |row: usize, o: usize| row / width * y_steps[0] + row % width * y_steps[1] + o / LANES * block + o % LANES;
        let size = 1 + y_place(rows - 1, outputs - 1);
        let x = numbers(rows * x_step + WINDOW, 1);
        let mut weights = numbers(outputs * depth, 3);
        for (i, w) in weights.iter_mut().enumerate() {
            *w = if (self.kept)(i / depth, i % depth) { *w * self.factor } else { 0.0 };
        }
        let matrix = Matrix::new(outputs, |o| (0, &weights[o * depth..][..depth]));
        let (bias, other) = (numbers(outputs, 4), numbers(outputs, 5));
        let spmv = Spmv {
            rows: [(height, width * x_step, y_steps[0]), (width, x_step, y_steps[1])]
                .map(|(count, x, y)| Axis::new(count, [signed(x * 4), 0, signed(y * 4)])),
            outputs,
            block: signed(block * 4),
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
            assert!(inside(reach.writes[2], size), "{self:?}");
        }
        let buffers = [x.clone(), packed.numbers().to_vec()];
        let y = result(&spmv, |vectors| spmv.schedule(vectors), &buffers, size);
        let mut between = vec![true; size];
        for (i, o) in (0..rows).flat_map(|i| (0..outputs).map(move |o| (i, o))) {
            let products = (0..depth).map(|k| weights[o * depth + k] * x[i * x_step + k]);
            let sum = bias[o] + products.sum::<f32>();
            let expected = if self.functions { (sum + other[o]).max(0.0) } else { sum };
            let error = if self.factor == 1.0 { 0.0 } else { 1e-6 * (16 * depth) as f32 };
            let y = y[y_place(i, o)];
            assert!((y - expected).abs() <= error, "{self:?}: row {i}, output {o}: {y}, not {expected}");
            between[y_place(i, o)] = false;
        }
        let untouched = y.iter().zip(between).all(|(&y, between)| !between || y == crate::tile::testing::GUARD);
        assert!(untouched, "{self:?}: written between rows");
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
            Case { rows: [1, rows], coded, functions: true, ..PLAIN }.check();
        }
    }
}

#[test]
fn rows_in_a_grid() {
    for rows in [[1, 1], [2, 2], [3, 3], [4, 4], [5, 1], [2, 7]] {
        for coded in [false, true] {
            Case { rows, coded, blocked: true, functions: true, ..PLAIN }.check();
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
            Case { rows: [1, rows], coded, depth: 530, kept: |o, k| (o + k) % 5 != 1, factor: 0.3, ..PLAIN }.check();
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
