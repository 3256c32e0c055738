use super::*;
use crate::jit::testing::{all_vectors, numbers, run};
use crate::tile::Inst;
use crate::tile::epilogue::Other;
use crate::tile::function::Function;

/// A case: result, kernel, stride and dilation of a convolution.
#[derive(Clone, Copy, Debug)]
struct Case {
    images: usize,
    channels: usize,
    output: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
}

const PLAIN: Case = Case { images: 1, channels: 16, output: [7, 7], kernel: [3, 3], stride: [1, 1], dilation: [1, 1] };

impl Case {
    /// Rows or columns of the image with its border.
    fn input(&self, axis: usize) -> usize {
        (self.output[axis] - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }

    fn blocks(&self) -> usize {
        self.channels.div_ceil(LANES)
    }

    fn depthwise(&self, epilogue: Epilogue) -> Depthwise {
        let x = strides(self.blocks(), [self.input(0), self.input(1)]);
        let [row_stride, column_stride] = self.stride.map(signed);
        Depthwise {
            images: self.images,
            blocks: self.blocks(),
            rows: self.output[0],
            columns: self.output[1],
            kernel: self.kernel,
            tap: [x.row * signed(self.dilation[0]), x.column * signed(self.dilation[1])],
            x: Strides { row: x.row * row_stride, column: x.column * column_stride, ..x },
            y: strides(self.blocks(), self.output),
            epilogue,
        }
    }
}

/// Blocks of whole images.
fn strides(blocks: usize, [rows, columns]: [usize; 2]) -> Strides {
    let column = signed(VECTOR_BYTES);
    let row = column * signed(columns);
    let block = row * signed(rows);
    Strides { image: block * signed(blocks), group: 0, block, row, column }
}

/// Compares a case with its definition, on every target; the epilogue may have a bias, then an operand that is
/// added and a ReLU.
fn check(case: Case, epilogue: &Epilogue) {
    let depthwise = case.depthwise(epilogue.clone());
    let (blocks, [rows, columns]) = (case.blocks(), case.output);
    let [in_rows, in_columns] = [case.input(0), case.input(1)];
    let outputs = case.images * blocks * rows * columns * LANES;
    let x = numbers(case.images * blocks * in_rows * in_columns * LANES, 1);
    let taps = case.kernel[0] * case.kernel[1];
    let weights = numbers(case.channels * taps, 2);
    let bias = numbers(blocks * LANES, 3);
    let other = numbers(outputs, 4);
    for vectors in all_vectors() {
        let packed = depthwise.pack(|c, tap| weights[c * taps + tap], case.channels).unwrap().numbers().to_vec();
        let mut buffers = vec![x.clone(), packed, vec![f32::NAN; outputs]];
        if epilogue.bias {
            buffers.push(bias.clone());
        }
        if !epilogue.operands.is_empty() {
            buffers.push(other.clone());
        }
        run(vectors, &depthwise.schedule(vectors), &mut buffers);
        for (i, &y) in buffers[2].iter().enumerate() {
            let (lane, c, r) = (i % LANES, i / LANES % columns, i / LANES / columns % rows);
            let plane = i / LANES / columns / rows;
            let channel = plane % blocks * LANES + lane;
            if channel >= case.channels {
                continue;
            }
            let mut sum = if epilogue.bias { bias[channel] } else { 0.0 };
            for tap in 0..taps {
                let in_row = r * case.stride[0] + tap / case.kernel[1] * case.dilation[0];
                let in_column = c * case.stride[1] + tap % case.kernel[1] * case.dilation[1];
                let at = ((plane * in_rows + in_row) * in_columns + in_column) * LANES + lane;
                sum += x[at] * weights[channel * taps + tap];
            }
            if !epilogue.operands.is_empty() {
                sum = (sum + other[i]).max(0.0);
            }
            assert_eq!(y, sum, "{vectors}, {case:?}, channel {channel}, row {r}, column {c}");
        }
    }
}

#[test]
fn images_of_every_size() {
    for output in [[1, 1], [1, 13], [2, 7], [3, 14], [5, 11], [9, 12], [13, 23], [4, 56]] {
        check(Case { output, ..PLAIN }, &Epilogue::default());
        check(Case { output, stride: [2, 2], ..PLAIN }, &Epilogue::default());
    }
}

#[test]
fn kernels_strides_and_dilations() {
    for kernel in [[1, 1], [1, 3], [3, 1], [2, 2], [5, 5], [7, 7], [9, 3]] {
        for (stride, dilation) in [([1, 1], [1, 1]), ([2, 2], [1, 1]), ([1, 1], [2, 2]), ([2, 1], [1, 3])] {
            check(Case { output: [5, 9], kernel, stride, dilation, ..PLAIN }, &Epilogue::default());
        }
    }
}

#[test]
fn several_images_and_blocks() {
    check(Case { images: 3, channels: 37, output: [5, 6], ..PLAIN }, &Epilogue::default());
    check(Case { images: 2, channels: 5, stride: [2, 2], ..PLAIN }, &Epilogue { bias: true, ..Epilogue::default() });
}

#[test]
fn epilogues_with_operands() {
    for output in [[1, 1], [6, 15]] {
        let case = Case { images: 2, channels: 40, output, ..PLAIN };
        let epilogue = Epilogue {
            bias: true,
            steps: vec![(Function::Add, Other::Vector(0)), (Function::Relu, Other::None)],
            operands: vec![strides(case.blocks(), output)],
            ..Epilogue::default()
        };
        check(case, &epilogue);
        check(case, &Epilogue { bias: false, ..epilogue });
    }
}

/// Fractions round differently in every order of additions.
#[test]
fn all_targets_give_the_same_bits() {
    for (kernel, stride) in [([3, 3], 1), ([3, 3], 2), ([5, 5], 1)] {
        let case = Case { channels: 32, output: [9, 17], kernel, stride: [stride, stride], ..PLAIN };
        let depthwise =
            case.depthwise(Epilogue { bias: true, steps: vec![(Function::Silu, Other::None)], ..Epilogue::default() });
        let fractions = |len, seed| numbers(len, seed).iter().map(|x| x / 7.0).collect::<Vec<f32>>();
        let taps = kernel[0] * kernel[1];
        let weights = fractions(32 * taps, 2);
        let results = all_vectors().into_iter().map(|vectors| {
            let packed = depthwise.pack(|c, tap| weights[c * taps + tap], 32).unwrap().numbers().to_vec();
            let x = fractions(2 * case.input(0) * case.input(1) * LANES, 1);
            let mut buffers = vec![x, packed, vec![f32::NAN; 2 * 9 * 17 * LANES], fractions(32, 3)];
            run(vectors, &depthwise.schedule(vectors), &mut buffers);
            buffers.swap_remove(2).into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        });
        let results: Vec<Vec<u32>> = results.collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{kernel:?}, stride {stride}");
    }
}

/// Loads and products of a program.
fn traffic(insts: &[Inst]) -> [usize; 2] {
    let of = |inst: &Inst| match inst {
        Inst::Loop(count, body) => traffic(body).map(|n| n * count),
        Inst::Set(_, Src::Mem(_)) => [1, 0],
        Inst::Fma(_, _, Src::Mem(_)) => [1, 1],
        Inst::Fma(..) => [0, 1],
        _ => [0, 0],
    };
    insts.iter().map(of).fold([0, 0], |[a, b], [c, d]| [a + c, b + d])
}

#[test]
fn wide_vectors_are_loaded_once_for_many_products() {
    for width in [7, 14, 28, 56, 112] {
        let depthwise = Case { output: [width, width], ..PLAIN }.depthwise(Epilogue::default());
        let schedule = depthwise.schedule(Vectors::Avx512);
        for program in &schedule.programs {
            let [loads, products] = traffic(&program.insts);
            assert!(loads * 2 < products, "{loads} loads, {products} products\n{schedule}");
        }
    }
}
