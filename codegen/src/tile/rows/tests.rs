use super::*;
use crate::tile::testing::{GUARD, result};

const LENGTHS: [usize; 16] = [1, 2, 15, 16, 17, 31, 33, 64, 100, 127, 128, 129, 256, 300, 1000, 4097];

fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729 + i * i % 31) % 1999) as f32 / 250.0 - 4.0).collect()
}

/// The result, rows of `width`; what lies between them must stay as it was.
fn results(rows: &Rows, inputs: &[Vec<f32>], len: usize, width: usize) -> Vec<f32> {
    let y = result(rows, |vectors| rows.schedule(vectors), inputs, len);
    if let [axis] = rows.axes[..] {
        let step = usize::try_from(axis.y / 4).unwrap();
        let gaps = (1..axis.count).flat_map(|i| (i - 1) * step + width..i * step);
        assert!(gaps.into_iter().all(|at| y[at] == GUARD), "{rows:?} writes between rows");
    }
    y
}

fn check(what: &Rows, y: &[f32], expected: impl IntoIterator<Item = f64>, scale: f64) {
    for (i, (&y, expected)) in y.iter().zip(expected).enumerate() {
        let near = (f64::from(y) - expected).abs() <= 1e-6 * expected.abs().max(scale);
        assert!(
            near || f64::from(y) == expected || y.is_nan() && expected.is_nan(),
            "{what:?} at {i}: {y} instead of {expected}"
        );
    }
}

fn wide(x: &[f32]) -> impl Iterator<Item = f64> + Clone + '_ {
    x.iter().map(|&x| f64::from(x))
}

fn softmax(t: &[f64]) -> Vec<f64> {
    let top = t.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = t.iter().map(|t| (t - top).exp()).sum();
    t.iter().map(|t| (t - top).exp() / sum).collect()
}

/// Rows next to each other, and with gaps between results.
fn lines(function: RowFunction, length: usize, count: usize, width: usize, gap: usize) -> Rows {
    let axis = RowAxis { count, x: signed(length * 4), y: signed((width + gap) * 4), mask: 0 };
    Rows { function, length, axes: vec![axis] }
}

#[test]
fn reductions() {
    for length in LENGTHS {
        for (count, gap) in [(1, 0), (5, 0), (37, 3)] {
            let x = numbers(length * count, length);
            let rows = x.chunks(length);
            let of = |function| {
                let what = lines(function, length, count, 1, gap);
                let len = (count - 1) * (1 + gap) + 1;
                let y = results(&what, std::slice::from_ref(&x), len, 1);
                (what, y.into_iter().step_by(1 + gap).take(count).collect::<Vec<f32>>())
            };
            let (what, y) = of(RowFunction::Sum);
            check(&what, &y, rows.clone().map(|row| wide(row).sum()), length as f64);
            let (what, y) = of(RowFunction::Mean);
            check(&what, &y, rows.clone().map(|row| wide(row).sum::<f64>() / length as f64), 1.0);
            let (what, y) = of(RowFunction::Max);
            check(&what, &y, rows.clone().map(|row| wide(row).fold(f64::NEG_INFINITY, f64::max)), 0.0);
            let (what, y) = of(RowFunction::Min);
            check(&what, &y, rows.clone().map(|row| wide(row).fold(f64::INFINITY, f64::min)), 0.0);
            let (what, y) = of(RowFunction::L1);
            check(&what, &y, rows.clone().map(|row| wide(row).map(f64::abs).sum()), length as f64);
            let squares = rows.map(|row| wide(row).map(|x| x * x).sum::<f64>());
            let (what, y) = of(RowFunction::SumSquare);
            check(&what, &y, squares.clone(), length as f64);
            let (what, y) = of(RowFunction::L2);
            check(&what, &y, squares.map(f64::sqrt), length as f64);
        }
    }
}

#[test]
fn the_maximum_of_negative_numbers_and_nan() {
    for length in LENGTHS {
        let x: Vec<f32> = numbers(length, 1).iter().map(|x| x - 100.0).collect();
        let what = lines(RowFunction::Max, length, 1, 1, 0);
        check(
            &what,
            &results(&what, std::slice::from_ref(&x), 1, 1)[..1],
            [wide(&x).fold(f64::NEG_INFINITY, f64::max)],
            0.0,
        );
        for at in [0, length / 2, length - 1] {
            let mut x = x.clone();
            x[at] = f32::NAN;
            assert!(results(&what, &[x], 1, 1)[0].is_nan(), "{length}, NaN at {at}");
        }
    }
}

#[test]
fn softmax_of_rows() {
    for length in LENGTHS {
        for (count, gap) in [(1, 0), (3, 0), (35, 5)] {
            let mut x: Vec<f32> = numbers(length * count, length).iter().map(|x| x * 10.0).collect();
            x[0] = 500.0;
            x[length - 1] = -500.0;
            let what = lines(RowFunction::Softmax { scale: 0.5, mask: false }, length, count, length, gap);
            let y = results(&what, std::slice::from_ref(&x), count * (length + gap) - gap, length);
            for (row, y) in x.chunks(length).zip(y.chunks(length + gap)) {
                check(&what, &y[..length], softmax(&wide(row).map(|x| x * 0.5).collect::<Vec<_>>()), 1e-3);
            }
        }
    }
}

#[test]
fn softmax_with_masks() {
    // [images, heads, rows] of attention scores; masks of images and rows.
    let (images, heads, queries) = (2, 3, 5);
    for length in [1, 17, 64, 128, 300] {
        let count = images * heads * queries;
        let x = numbers(count * length, 3);
        let mut mask = numbers(images * queries * length, 4);
        for (i, m) in mask.iter_mut().enumerate() {
            if i % length != 0 && i % 3 == 0 {
                *m = if i % 2 == 0 { f32::NEG_INFINITY } else { f32::MIN };
            }
        }
        let row = signed(length * 4);
        let axes = vec![
            RowAxis { count: images, x: row * 15, y: row * 15, mask: row * 5 },
            RowAxis { count: heads, x: row * 5, y: row * 5, mask: 0 },
            RowAxis { count: queries, x: row, y: row, mask: row },
        ];
        let what = Rows { function: RowFunction::Softmax { scale: 0.125, mask: true }, length, axes };
        let y = results(&what, &[x.clone(), mask.clone()], count * length, length);
        for (i, (row, y)) in x.chunks(length).zip(y.chunks(length)).enumerate() {
            let from = (i / (heads * queries) * queries + i % queries) * length;
            let t: Vec<f64> = wide(row).zip(wide(&mask[from..])).map(|(x, m)| x * 0.125 + m).collect();
            check(&what, y, softmax(&t), 1e-3);
            let hidden = t.iter().zip(y).filter(|(t, _)| **t < -1e30);
            hidden.for_each(|(_, &y)| assert_eq!(y, 0.0));
        }
    }
}

#[test]
fn softmax_of_nothing_finite_is_nan() {
    for length in [1, 16, 33, 300] {
        let what = lines(RowFunction::Softmax { scale: 1.0, mask: false }, length, 1, length, 0);
        let mut x = numbers(length, 1);
        x[length / 2] = f32::NAN;
        for x in [x, vec![f32::NEG_INFINITY; length], vec![f32::INFINITY; length]] {
            assert!(results(&what, &[x], length, length)[..length].iter().all(|y| y.is_nan()));
        }
    }
}

#[test]
fn normalisations() {
    const EPS: f32 = 1e-5;
    for length in LENGTHS {
        for (count, gap) in [(1, 0), (6, 2)] {
            let x = numbers(length * count, length);
            let (scale, bias) = (numbers(length, 5), numbers(length, 6));
            let len = count * (length + gap) - gap;
            for (function, inputs) in [
                (RowFunction::LayerNorm { eps: EPS, bias: true }, vec![x.clone(), scale.clone(), bias.clone()]),
                (RowFunction::LayerNorm { eps: EPS, bias: false }, vec![x.clone(), scale.clone()]),
                (RowFunction::RmsNorm { eps: EPS }, vec![x.clone(), scale.clone()]),
            ] {
                let what = lines(function, length, count, length, gap);
                let y = results(&what, &inputs, len, length);
                for (row, y) in x.chunks(length).zip(y.chunks(length + gap)) {
                    let n = length as f64;
                    let mean =
                        if function == (RowFunction::RmsNorm { eps: EPS }) { 0.0 } else { wide(row).sum::<f64>() / n };
                    let variance = wide(row).map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                    let inverse = 1.0 / (variance + f64::from(EPS)).sqrt();
                    let expected = wide(row).enumerate().map(|(i, x)| {
                        let added = inputs.get(2).map_or(0.0, |bias| f64::from(bias[i]));
                        (x - mean) * inverse * f64::from(scale[i]) + added
                    });
                    check(&what, &y[..length], expected, 4.0);
                }
            }
        }
    }
}
