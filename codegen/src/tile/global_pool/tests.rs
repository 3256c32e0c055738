use super::*;
use crate::jit::testing::{all_vectors, numbers, run};
use crate::tile::{LANES, VECTOR_BYTES};

/// Compares with the definition, on every target; `gap` pixels lie between the rows of x.
fn check(kind: Kind, [images, blocks, rows, columns]: [usize; 4], gap: usize, spoil: impl Fn(&mut [f32])) {
    let column = signed(VECTOR_BYTES);
    let row = column * signed(columns + gap);
    let block = row * signed(rows);
    let x = Strides { image: block * signed(blocks), group: 0, block, row, column };
    let y = Strides { image: column * signed(blocks), block: column, ..Strides::default() };
    let pool = GlobalPool { kind, images, blocks, rows, columns, x, y, codes: None };
    let mut numbers = numbers(images * blocks * rows * (columns + gap) * LANES, 1);
    spoil(&mut numbers);
    for vectors in all_vectors() {
        let mut buffers = vec![numbers.clone(), vec![123.0; images * blocks * LANES]];
        run(vectors, &pool.schedule(vectors), &mut buffers);
        for (i, &y) in buffers[1].iter().enumerate() {
            let (plane, lane) = (i / LANES, i % LANES);
            let pixels = (0..rows).flat_map(|r| (0..columns).map(move |c| (plane * rows + r) * (columns + gap) + c));
            let pixels = pixels.map(|at| numbers[at * LANES + lane]);
            let expected = match kind {
                Kind::Mean => pixels.sum::<f32>() / (rows * columns) as f32,
                Kind::Max => pixels.fold(f32::NEG_INFINITY, |a, x| if x > a || x.is_nan() { x } else { a }),
            };
            let same = y == expected || y.is_nan() && expected.is_nan();
            assert!(same, "{vectors}, {pool:?}, plane {plane}, lane {lane}: {y}, not {expected}");
        }
    }
}

#[test]
fn images_of_every_size() {
    for kind in [Kind::Mean, Kind::Max] {
        for (rows, columns) in [(1, 1), (1, 2), (1, 3), (1, 4), (2, 3), (5, 7), (7, 7), (8, 8), (13, 11)] {
            for gap in [0, 2] {
                check(kind, [1, 1, rows, columns], gap, |_| ());
                check(kind, [2, 3, rows, columns], gap, |_| ());
            }
        }
    }
}

#[test]
fn maxima_keep_nan() {
    check(Kind::Max, [1, 1, 3, 5], 0, |x| {
        for pixel in 0..15 {
            x[pixel * LANES + pixel] = f32::NAN;
            x[pixel * LANES + 15] = f32::NEG_INFINITY;
        }
    });
}

/// Fractions round differently in every order of additions.
#[test]
fn all_targets_give_the_same_bits() {
    let column = signed(VECTOR_BYTES);
    let x = Strides { row: column * 7, column, ..Strides::default() };
    let pool = GlobalPool {
        kind: Kind::Mean,
        images: 1,
        blocks: 1,
        rows: 7,
        columns: 7,
        x,
        y: Strides::default(),
        codes: None,
    };
    let results = all_vectors().into_iter().map(|vectors| {
        let x = numbers(49 * LANES, 3).into_iter().map(|x| x / 7.0).collect();
        let mut buffers = vec![x, vec![f32::NAN; LANES]];
        run(vectors, &pool.schedule(vectors), &mut buffers);
        buffers.swap_remove(1).into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    });
    let results: Vec<Vec<u32>> = results.collect();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}
