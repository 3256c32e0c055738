use super::*;
use crate::jit::testing::all_vectors;
use crate::tile::testing::{check_bytes, code};

#[test]
fn pixels_of_few_channels() {
    for channels in 1..=MAX_CHANNELS {
        let (images, rows, columns) = (2, 3, 37);
        let mut x: Vec<f32> = (0..images * channels * rows * columns).map(|i| (i % 601) as f32 - 300.0).collect();
        x[0] = f32::NAN;
        let (row, plane) = (columns * 4, rows * columns * 4);
        let pixels = Pixels {
            images,
            channels,
            rows,
            columns,
            x: [plane * channels, plane, row].map(signed),
            y: [plane, row].map(signed),
            scale: 2.0,
            zero: 129,
        };
        let mut expected = Vec::new();
        for pixel in 0..images * rows * columns {
            let (image, at) = (pixel / (rows * columns), pixel % (rows * columns));
            for channel in 0..PIXEL {
                let x = x.get((image * channels + channel) * rows * columns + at).filter(|_| channel < channels);
                expected.push(x.map_or(0, |x| if x.is_nan() { 129 } else { code(x / 2.0, 129) }));
            }
        }
        for vectors in all_vectors() {
            check_bytes(&pixels, (vectors, &pixels.schedule(vectors)), &[x.clone()], 1, &expected);
        }
    }
}
