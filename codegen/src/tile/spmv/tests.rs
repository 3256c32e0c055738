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
    /// How weights are kept, and how many values they have.
    form: (Form, usize),
    threads: usize,
    /// Whether an operand is added and a ReLU follows.
    functions: bool,
    /// What weights are multiplied by: all sums are exact if it is a power of two.
    factor: f32,
}

const FORMS: [(Form, usize); 4] =
    [(Form::Numbers, 9), (Form::Codes, 9), (Form::Bytes(100), 99), (Form::Bytes(256), 255)];

const PLAIN: Case = Case {
    rows: [1, 1],
    blocked: false,
    outputs: 37,
    depth: 101,
    kept: |o, k| (o * 5 + k * 3 + k / 7) % 6 == 0,
    form: FORMS[0],
    threads: 1,
    functions: false,
    factor: 1.0,
};

impl Case {
    /// Compares all targets with the definition. Weights that are bytes on some are numbers on the others.
    fn check(&self) {
        let (form, values) = self.form;
        let y = self.run(form);
        if let Form::Bytes(values) = form {
            let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
            let numbers = self.run(Form::Numbers);
            assert!(same(&y, &numbers), "{self:?}: {values} values give other bits as bytes");
        }
        let Case { rows: [height, width], outputs, depth, .. } = *self;
        let (x_step, y_place) = (self.x_step(), self.y_place());
        let (x, weights, [bias, other]) = self.numbers();
        let mut between = vec![true; y.len()];
        for (i, o) in (0..height * width).flat_map(|i| (0..outputs).map(move |o| (i, o))) {
            let products = (0..depth).map(|k| weights[o * depth + k] * x[i * x_step + k]);
            let sum = bias[o] + products.sum::<f32>();
            let expected = if self.functions { (sum + other[o]).max(0.0) } else { sum };
            let error = if self.factor == 1.0 { 0.0 } else { 2e-6 * (values * depth) as f32 };
            let y = y[y_place(i, o)];
            assert!((y - expected).abs() <= error, "{self:?}: row {i}, output {o}: {y}, not {expected}");
            between[y_place(i, o)] = false;
        }
        let untouched = y.iter().zip(between).all(|(&y, between)| !between || y == crate::tile::testing::GUARD);
        assert!(untouched, "{self:?}: written between rows");
    }

    /// Rows of x are further apart than they are long.
    fn x_step(&self) -> usize {
        self.depth + 3
    }

    /// Elements of y from one row of the grid to the next, in both directions, and from one block of outputs.
    fn y_steps(&self) -> [usize; 3] {
        let [height, width] = self.rows;
        match self.blocked {
            true => [(width + 1) * LANES, LANES, height * (width + 1) * LANES],
            false => [width * (self.outputs + 5), self.outputs + 5, LANES],
        }
    }

    /// Where an output of a row is.
    fn y_place(&self) -> impl Fn(usize, usize) -> usize {
        let ([_, width], [row, column, block]) = (self.rows, self.y_steps());
        move |i, o| i / width * row + i % width * column + o / LANES * block + o % LANES
    }

    /// The numbers of x, the weights, and those of each output.
    fn numbers(&self) -> (Vec<f32>, Vec<f32>, [Vec<f32>; 2]) {
        let Case { rows, outputs, depth, form: (_, values), .. } = *self;
        let x = numbers(rows[0] * rows[1] * self.x_step() + WINDOW, 1);
        let weight = |i: usize| match (self.kept)(i / depth, i % depth) {
            true => (((i * 7 + i / 5) % values) as f32 - (values / 2) as f32) * self.factor,
            false => 0.0,
        };
        (x, (0..outputs * depth).map(weight).collect(), [4, 5].map(|seed| numbers(outputs, seed)))
    }

    /// What all targets that have the form give; on hosts that have none of them, what numbers give.
    fn run(&self, form: Form) -> Vec<f32> {
        let Case { rows: [height, width], outputs, depth, .. } = *self;
        let form = match form {
            Form::Bytes(_) if !Vectors::of_host().look_up_bytes() => Form::Numbers,
            Form::Bytes(values) => {
                Form::of(Some(values), Spmv::tile(self.rows, Vectors::of_host()).iter().product(), Vectors::of_host())
            }
            form => form,
        };
        let (x_step, [row, column, block]) = (self.x_step(), self.y_steps());
        let size = 1 + self.y_place()(height * width - 1, outputs - 1);
        let (x, weights, [bias, other]) = self.numbers();
        let matrix = Matrix::new(outputs, |o| (0, &weights[o * depth..][..depth]));
        let spmv = Spmv {
            rows: [(height, width * x_step, row), (width, x_step, column)]
                .map(|(count, x, y)| Axis::new(count, [signed(x * 4), 0, signed(y * 4)])),
            outputs,
            block: signed(block * 4),
            depth,
            nonzeros: weights.iter().filter(|w| **w != 0.0).count(),
            form,
            groups: groups(&matrix, depth, form),
            threads: self.threads,
            steps: match self.functions {
                true => vec![(Function::Add, Other::Vector(0)), (Function::Relu, Other::None)],
                false => Vec::new(),
            },
            operands: usize::from(self.functions),
        };
        let packed = spmv.pack(&matrix, |o| bias[o], |_, o| other[o]).unwrap();
        let bytes = matches!(form, Form::Bytes(_));
        let has_form = |vectors: &Vectors| !bytes || vectors.look_up_bytes();
        for vectors in Vectors::ALL.into_iter().filter(has_form) {
            let reach = spmv.schedule(vectors).reach();
            let inside = |span: Option<(i64, i64)>, len: usize| {
                span.is_none_or(|(first, behind)| first >= 0 && behind <= signed(len * 4))
            };
            assert!(inside(reach.reads[0], x.len()) && inside(reach.reads[1], packed.numbers().len()), "{self:?}");
            assert!(inside(reach.writes[2], size), "{self:?}");
        }
        let mut buffers = vec![x, packed.numbers().to_vec()];
        if !bytes {
            return result(&spmv, |vectors| spmv.schedule(vectors), &buffers, size);
        }
        buffers.push(vec![crate::tile::testing::GUARD; size]);
        crate::jit::testing::run(Vectors::of_host(), &spmv.schedule(Vectors::of_host()), &mut buffers);
        buffers.swap_remove(2)
    }
}

#[test]
fn shapes_of_every_size() {
    for (outputs, depth) in [(1, 1), (1, 300), (16, 32), (15, 31), (17, 33), (101, 1), (300, 97), (48, 64)] {
        for form in FORMS {
            Case { outputs, depth, form, ..PLAIN }.check();
        }
    }
}

#[test]
fn several_rows() {
    for rows in 2..=MAX_ROWS {
        for form in FORMS {
            Case { rows: [1, rows], form, functions: true, ..PLAIN }.check();
        }
    }
}

#[test]
fn rows_in_a_grid() {
    for rows in [[1, 1], [2, 2], [3, 3], [4, 4], [5, 1], [2, 7]] {
        for form in FORMS {
            Case { rows, form, blocked: true, functions: true, ..PLAIN }.check();
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
        for form in FORMS {
            Case { kept, form, threads: 3, ..PLAIN }.check();
            Case { kept, form, functions: true, outputs: 32, ..PLAIN }.check();
        }
    }
}

/// Sums that round differ between orders of additions; no target has an order of its own.
#[test]
fn sums_that_round() {
    for rows in [1, 3] {
        for form in FORMS {
            Case { rows: [1, rows], form, depth: 530, kept: |o, k| (o + k) % 5 != 1, factor: 0.3, ..PLAIN }.check();
        }
    }
}

/// As many values as codes and bytes can say, zero among them, and one more.
#[test]
fn codebooks_are_small() {
    let form = |values: usize, rows, vectors| {
        let codebook = Codebook::of((0..600).map(|i| (i % values) as f32));
        Form::of(codebook.map(|codebook| codebook.len()), rows, vectors)
    };
    for vectors in Vectors::ALL {
        assert_eq!([1, 32].map(|values| form(values, MAX_ROWS, vectors)), [Form::Codes; 2]);
        assert_eq!(form(257, 1, vectors), Form::Numbers);
    }
    assert_eq!([33, 256].map(|values| form(values, 1, Vectors::Avx512)), [33, 256].map(Form::Bytes));
    assert_eq!([33, 256].map(|values| form(values, 1, Vectors::Avx2)), [Form::Numbers; 2]);
    // Rows have registers of their own.
    assert_eq!([2, 3].map(|rows| form(256, rows, Vectors::Avx512)), [Form::Bytes(256), Form::Numbers]);
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
