use super::*;
use crate::jit::testing::numbers;
use crate::tile::testing::result;
use crate::tile::{LANES, VECTOR_BYTES};

/// Resamples rows, or columns where `transposed`, of images `[n, b, h, w]` in blocks.
fn check([n, b, h, w]: [usize; 4], transposed: bool, taps: &[Vec<Tap>]) {
    let steps = |[b, h, w]: [usize; 3]| [b * h * w, h * w, w, 1].map(|n| signed(n * VECTOR_BYTES));
    let (rows, columns) = if transposed { (h, taps.len()) } else { (taps.len(), w) };
    let (x, y) = (steps([b, h, w]), steps([b, rows, columns]));
    let pair = |axis: usize| [x[axis], y[axis]];
    let (along, across) = if transposed { (3, (h, pair(2))) } else { (2, (w, pair(3))) };
    let resample = Resample { outer: [(n, pair(0)), (b, pair(1))], along: pair(along), across, taps: taps.to_vec() };
    let input = numbers(n * b * h * w * LANES, 3);
    let len = n * b * rows * columns * LANES;
    assert_eq!(resample.vectors() * LANES, len);
    let got = result(&resample, |vectors| resample.schedule(vectors), std::slice::from_ref(&input), len);
    for (i, got) in got.iter().enumerate() {
        let (lane, column, row, plane) =
            (i % LANES, i / LANES % columns, i / LANES / columns % rows, i / LANES / columns / rows);
        let at = |r: usize, c: usize| input[((plane * h + r) * w + c) * LANES + lane];
        let of = |&(element, weight): &Tap| weight * if transposed { at(row, element) } else { at(element, column) };
        let expected: f32 = taps[if transposed { column } else { row }].iter().map(of).sum();
        assert!((got - expected).abs() < 1e-5, "{resample:?} at {i}: {got} instead of {expected}");
    }
}

#[test]
fn elements_are_weighted_sums() {
    let one = vec![vec![(0, 1.0)], vec![(0, 1.0)]];
    let some = vec![
        vec![(0, 1.0)],
        vec![(0, 0.75), (1, 0.25)],
        vec![(1, 0.75), (2, 0.25)],
        vec![(0, 0.5), (2, -0.5), (1, 2.0)],
        vec![(2, 0.5)],
    ];
    for transposed in [false, true] {
        check([1, 1, 1, 1], transposed, &one);
        check([2, 3, 3, 5], transposed, &some);
        check([1, 2, 17, 3], transposed, &some);
    }
}
