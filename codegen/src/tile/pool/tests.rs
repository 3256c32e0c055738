use super::*;
use crate::jit::testing::{all_vectors, numbers, run};
use crate::tile::{LANES, VECTOR_BYTES};

const KINDS: [Kind; 3] = [Kind::Max, Kind::Average { include_pad: false }, Kind::Average { include_pad: true }];

/// An axis with as many windows as fit; the last may hang over the border if `ceil`.
fn axis(input: usize, [kernel, stride, dilation]: [usize; 3], [begin, end]: [usize; 2], ceil: bool) -> WindowAxis {
    let room = input + begin + end - (kernel - 1) * dilation - 1;
    let out = room / stride + 1;
    let hangs_over = ceil && !room.is_multiple_of(stride) && out * stride < input + begin;
    WindowAxis { input, kernel, stride, dilation, begin, end, out: out + usize::from(hangs_over) }
}

/// Blocks of whole images.
fn strides(blocks: usize, rows: usize, columns: usize) -> Strides {
    let column = signed(VECTOR_BYTES);
    let row = column * signed(columns);
    let block = row * signed(rows);
    Strides { image: block * signed(blocks), group: 0, block, row, column }
}

/// What a window at `o` sees along one axis, and how many of its elements the image and its border cover.
fn elements(axis: &WindowAxis, o: usize) -> (Vec<usize>, usize) {
    let at: Vec<usize> = (0..axis.kernel).map(|k| o * axis.stride + k * axis.dilation).collect();
    let covered = at.iter().filter(|&&at| at < axis.begin + axis.input + axis.end).count();
    let seen = at.into_iter().filter_map(|at| at.checked_sub(axis.begin)).filter(|&at| at < axis.input);
    (seen.collect(), covered)
}

/// The result by its definition.
fn naive(kind: Kind, [rows, columns]: [&WindowAxis; 2], x: &[f32], plane: usize, lane: usize) -> Vec<f32> {
    let mut y = Vec::new();
    for r in 0..rows.out {
        for c in 0..columns.out {
            let ((in_rows, covered_rows), (in_columns, covered_columns)) = (elements(rows, r), elements(columns, c));
            let (mut largest, mut sum) = (f32::NEG_INFINITY, 0.0);
            for r in &in_rows {
                for c in &in_columns {
                    let x = x[((plane * rows.input + r) * columns.input + c) * LANES + lane];
                    largest = if x > largest || x.is_nan() { x } else { largest };
                    sum += x;
                }
            }
            y.push(match kind {
                Kind::Max => largest,
                Kind::Average { include_pad: false } => sum * (1.0 / (in_rows.len() * in_columns.len()) as f32),
                Kind::Average { include_pad: true } => sum * (1.0 / (covered_rows * covered_columns) as f32),
            });
        }
    }
    y
}

/// Compares with the definition, on every target.
fn check(kind: Kind, images: usize, blocks: usize, window: [WindowAxis; 2], x: &[f32]) {
    let [rows, columns] = &window;
    let pool = Pool {
        codes: None,
        kind,
        images,
        blocks,
        window,
        x: strides(blocks, rows.input, columns.input),
        y: strides(blocks, rows.out, columns.out),
    };
    let pixels = rows.out * columns.out;
    for vectors in all_vectors() {
        let mut buffers = vec![x.to_vec(), vec![123.0; images * blocks * pixels * LANES]];
        run(vectors, &pool.schedule(vectors), &mut buffers);
        for plane in 0..images * blocks {
            for lane in 0..LANES {
                for (i, expected) in naive(kind, [rows, columns], x, plane, lane).into_iter().enumerate() {
                    let y = buffers[1][(plane * pixels + i) * LANES + lane];
                    let same = y == expected || y.is_nan() && expected.is_nan();
                    assert!(same, "{vectors}, {pool:?}, plane {plane}, lane {lane}, pixel {i}: {y}, not {expected}");
                }
            }
        }
    }
}

#[test]
fn windows_of_every_shape() {
    for (kernel, pads) in [(1, [0, 0]), (2, [0, 0]), (2, [0, 1]), (3, [1, 1]), (3, [2, 0]), (5, [2, 2]), (9, [4, 5])] {
        for (stride, dilation) in [(1, 1), (2, 1), (3, 1), (1, 2)] {
            for input in [1, 2, 7, 16, 31] {
                if input + pads[0] + pads[1] <= (kernel - 1) * dilation {
                    continue;
                }
                for ceil in [false, true] {
                    let columns = axis(input, [kernel, stride, dilation], pads, ceil);
                    let rows = axis(3, [2, 2, 1], [1, 0], ceil);
                    let x = numbers(3 * input * LANES, input);
                    KINDS.into_iter().for_each(|kind| check(kind, 1, 1, [rows, columns], &x));
                    let x = numbers(3 * input * LANES, input + 1);
                    KINDS.into_iter().for_each(|kind| check(kind, 1, 1, [columns, rows], &x));
                }
            }
        }
    }
}

#[test]
fn several_images_and_blocks() {
    let window = [axis(13, [3, 2, 1], [0, 1], false), axis(12, [3, 2, 1], [1, 1], true)];
    let x = numbers(2 * 3 * 13 * 12 * LANES, 5);
    KINDS.into_iter().for_each(|kind| check(kind, 2, 3, window, &x));
}

#[test]
fn windows_without_elements() {
    let window = [axis(1, [2, 1, 2], [1, 1], false), axis(5, [3, 1, 1], [1, 1], false)];
    assert_eq!(elements(&window[0], 0), (vec![], 2));
    KINDS.into_iter().for_each(|kind| check(kind, 1, 1, window, &numbers(5 * LANES, 1)));
}

#[test]
fn maxima_keep_nan_and_only_nan() {
    let window = [axis(1, [1, 1, 1], [0, 0], false), axis(9, [3, 1, 1], [1, 1], false)];
    let mut x = numbers(9 * LANES, 2);
    for pixel in 0..9 {
        // A different lane for every pixel, so that NaN stands at every place of a window.
        x[pixel * LANES + pixel] = f32::NAN;
        x[pixel * LANES + 9] = f32::NEG_INFINITY;
        x[pixel * LANES + 10] = -f32::MAX;
        x[pixel * LANES + 11] = if pixel % 2 == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        x[pixel * LANES + 12] = -f32::NAN;
    }
    check(Kind::Max, 1, 1, window, &x);
}

#[test]
fn inner_windows_share_code() {
    let axis = axis(112, [3, 2, 1], [1, 1], false);
    let runs = Kind::Max.runs(&axis);
    assert_eq!(runs.iter().map(|run| (run.first, run.count, run.seen)).collect::<Vec<_>>(), [(0, 1, 2), (1, 55, 3)]);
    let pool = Pool {
        codes: None,
        kind: Kind::Max,
        images: 1,
        blocks: 1,
        window: [axis, axis],
        x: strides(1, 112, 112),
        y: strides(1, 56, 56),
    };
    assert_eq!(pool.schedule(Vectors::Avx512).programs.len(), 2);
}
