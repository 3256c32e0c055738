use super::*;
use crate::jit::testing::all_vectors;
use crate::tile::testing::{check_bytes, result};

/// The grid of numbers, by definition.
fn grid(x: &[f32]) -> (f32, f32) {
    let low = x.iter().copied().fold(0f32, f32::min);
    let high = x.iter().copied().fold(0f32, f32::max);
    let scale = if low == high { 1.0 } else { (high - low) / 255.0 };
    let zero = -low / scale;
    let zero = if zero.is_nan() { 0.0 } else { zero.round_ties_even().clamp(0.0, 255.0) };
    (scale, zero)
}

fn numbers(len: usize, step: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * step) % 1009) as f32 * 0.37 - 91.0).collect()
}

#[test]
fn grids_follow_from_the_numbers() {
    let mut cases: Vec<Vec<f32>> = [1, 15, 16, 17, 64, 65, 4095, 4096, 4097, 9000].map(|len| numbers(len, 7)).to_vec();
    cases.push(vec![0.0; 20]);
    cases.push(vec![3.0, 7.0, f32::NAN]);
    cases.push(vec![-3.0, -7.0, f32::INFINITY]);
    cases.push(vec![f32::NEG_INFINITY, f32::INFINITY]);
    for x in cases {
        let extremes = Extremes { elements: x.len() };
        let kept =
            result(&extremes, |vectors| extremes.schedule(vectors), std::slice::from_ref(&x), extremes.bytes() / 4);
        let of = DynamicGrid::of(&extremes);
        let got = result(&of, |vectors| of.schedule(vectors), &[kept], GRID_BYTES / 4);
        let (scale, zero) = grid(&x);
        assert_eq!((got[0], got[1]), (scale, zero), "{} numbers", x.len());
    }
}

#[test]
fn numbers_become_codes_of_a_grid_in_memory() {
    for (images, channels, rows, columns, whole_blocks) in [
        (3usize, 37usize, 1usize, 1usize, false),
        (1, 16, 1, 1, false),
        (5, 3, 1, 1, false),
        (2, 20, 3, 11, true),
        (1, 5, 2, 19, false),
    ] {
        let blocks = channels.div_ceil(LANES);
        let strides = |pixel: usize| {
            let block = signed(rows * columns * pixel);
            let row = signed(columns * pixel);
            Strides { image: block * signed(blocks), group: 0, block, row, column: signed(pixel) }
        };
        let len = images * blocks * LANES * rows * columns;
        let mut x = numbers(len, 13);
        x[0] = f32::NAN;
        let (scale, zero) = grid(&x);
        let codes =
            DynamicCodes { images, channels, rows, columns, x: strides(VECTOR_BYTES), y: strides(LANES), whole_blocks };
        let expected: Vec<u8> = (0..len)
            .map(|i| {
                let channel = i / (rows * columns * LANES) % blocks * LANES + i % LANES;
                let x = if whole_blocks || channel < channels { x[i] / scale } else { 0.0 };
                let x = if x.is_nan() { 0.0 } else { x };
                (x.round_ties_even() + zero).clamp(0.0, 255.0) as u8
            })
            .collect();
        for vectors in all_vectors() {
            check_bytes(&codes, (vectors, &codes.schedule(vectors)), &[x.clone(), vec![scale, zero]], 2, &expected);
        }
    }
}

#[test]
fn begins_are_exact() {
    let sums: Vec<i64> = (0..35).map(|i| (i - 17) * 240_001 + i).collect();
    let parts = Begins::parts(&sums).expect("the sums are small enough");
    let begins = Begins { blocks: 3 };
    for zero in [0.0, 1.0, 128.0, 255.0f32] {
        let got = result(&begins, |vectors| begins.schedule(vectors), &[vec![1.0, zero], parts.clone()], 48);
        for (sum, got) in sums.iter().zip(got) {
            assert_eq!(i64::from(got.to_bits().cast_signed()), -sum * zero as i64);
        }
    }
    assert_eq!(Begins::parts(&[1 << 23]), None);
}
