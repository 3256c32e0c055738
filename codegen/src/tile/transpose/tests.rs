use super::*;
use crate::tile::testing::{GUARD, result};

/// To blocks with a border and back.
fn round_trip(shape: [usize; 4], [rows, columns]: [usize; 2]) {
    let [images, channels, height, width] = shape;
    let blocks = channels.div_ceil(LANES);
    let row = (width + 2 * columns) * LANES;
    let plane = row * (height + 2 * rows);
    let blocked = Blocked {
        start: signed((row * rows + columns * LANES) * 4),
        image: signed(plane * blocks * 4),
        block: signed(plane * 4),
        row: signed(row * 4),
    };
    let x: Vec<f32> = (1..=images * channels * height * width).map(|i| i as f32 / 4.0).collect();
    let to = Transpose::to_blocked(shape, blocked);
    let y = result(&to, |vectors| to.schedule(vectors), std::slice::from_ref(&x), images * blocks * plane);
    for (i, &y) in y.iter().enumerate() {
        let (image, channel) = (i / (plane * blocks), i / plane % blocks * LANES + i % LANES);
        let (r, c) = (i % plane / row, i % row / LANES);
        let inside = (rows..rows + height).contains(&r) && (columns..columns + width).contains(&c);
        let expected = match inside {
            false => GUARD,
            true if channel >= channels => 0.0,
            true => x[((image * channels + channel) * height + r - rows) * width + c - columns],
        };
        assert_eq!(y, expected, "{shape:?}: image {image}, channel {channel}, row {r}, column {c}");
    }
    let back = Transpose::from_blocked(shape, blocked);
    assert_eq!(result(&back, |vectors| back.schedule(vectors), &[y], x.len()), x, "{shape:?}");
}

#[test]
fn blocks_of_channels_and_back() {
    for images in [1, 3] {
        for channels in [1, 3, 16, 17, 40, 64] {
            for [height, width] in [[1, 1], [7, 7], [4, 4], [2, 33], [16, 16], [1, 20]] {
                round_trip([images, channels, height, width], [0, 0]);
                round_trip([images, channels, height, width], [1, 2]);
            }
        }
    }
}

#[test]
fn programs_interleave_registers_where_there_are_enough() {
    let matrix = Transpose::of_axes(Vec::new(), Axis::new(64, [256, 4]), Axis::new(64, [4, 256]));
    for vectors in [Vectors::Avx512, Vectors::Avx2] {
        let schedule = matrix.schedule(vectors);
        assert_eq!(schedule.range(), 1);
        let tiles = 16;
        // 16 loads, 16 vectors or 64 fours stored, four or two rounds of interleaving.
        let (stores, rounds) = if vectors == Vectors::Avx512 { (16, 4) } else { (64, 2) };
        let moves = schedule.programs[0].executed() - tiles * (16 + stores + rounds * 16);
        assert!(moves < tiles * 4, "{vectors}: {moves} other instructions");
    }
}
